"""Studies of three facts on a tiny random model."""

import pytest

from easyedit_rep.analysis.study import Study


@pytest.fixture
def make_study(run, editor):
    def make(layer=None, **hparams) -> Study:
        return Study.of(run, layer, editor(hparams=hparams))

    return make


@pytest.fixture
def study(make_study):
    return make_study()
