"""Editors with fitted closed-form pathways on tiny models."""

import pytest

from easyedit_rep import RobustEditor
from easyedit_rep.evaluation.predict import Prediction
from easyedit_rep.pathway import build
from easyedit_rep.pathway.closed import ClosedForm
from easyedit_rep.pathway.training import PathwayTraining
from easyedit_rep.rep_options import PathwayShape, QueryOptions, RepOptions


@pytest.fixture
def make_fitted(make_hparams, make_model, tok, texts, tmp_path):
    """An editor whose pathways have fitted values, `closed` of its options; on `model` if given."""
    path = tmp_path / "text.txt"
    path.write_text("\n".join(texts), encoding="utf-8")

    def make(family="llama", base="MEMIT", layers=(1, 2), model=None, stats_dir=None, **closed):
        rep = RepOptions(
            base=base,
            corpus=str(path),
            statistics_tokens=600,
            text_tokens=600,
            pathway=PathwayShape(kind="closed", detectors=2),
            training=PathwayTraining(other_subjects=8, subject_forms=True),
            closed=ClosedForm(**{"false_fire": 0.2, "value_steps": 4, **closed}),
            queries=QueryOptions(shuffle_count=2, long_context_count=0),
        )
        method = {} if base == "ROME" else {"mom2_update_weight": 20.0}
        hparams = make_hparams(layers=list(layers), rep=rep, method=method, stats_dir=stats_dir)
        return RobustEditor.from_hparams(hparams, make_model(family) if model is None else model, tok)

    return make


@pytest.fixture
def answered(monkeypatch):
    """The prompt keeps its answer, whatever a random model says."""
    monkeypatch.setattr(build, "predict", lambda _a, _t, asked, _targets: [Prediction((1,), (1,))] * len(asked))
