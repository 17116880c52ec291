"""What makes the edits of runs."""

import pytest

from easyedit_rep.bench.runs import OneProcess


@pytest.fixture
def crew(editor):
    """As a process just begun: with a model of its own."""

    def make(**options):
        mine = editor(**options)
        return OneProcess(lambda run: mine)

    return make
