"""Editors of sequences on tiny models."""

import pytest

from easyedit_rep.editor import RobustEditor
from easyedit_rep.pathway.training import PathwayTraining
from easyedit_rep.rep_options import QueryOptions, RepOptions
from easyedit_rep.request import EditRequest


@pytest.fixture
def requests():
    return [
        EditRequest("The mother tongue of {} is", "Danielle Darrieux", "Spanish"),
        EditRequest("{} plays the", "Ann Lee", "piano and drums"),
        EditRequest("The capital of Japan is near {} in the", "Paris", "winter"),
        EditRequest("The company of {} makes", "Steve Jobs", "music"),
        EditRequest("{} plays the", "Ann Smith", "road"),
    ]


@pytest.fixture
def make_editor(make_hparams, make_model, tok, tmp_path, texts):
    corpus = tmp_path / "text.txt"
    corpus.write_text("\n".join(texts))

    def make(family="llama", model=None, pathways=False, **options):
        rep = RepOptions(
            base="D4S",
            corpus=str(corpus),
            statistics_tokens=600,
            pathways=pathways,
            training=PathwayTraining(steps=3),
            queries=QueryOptions(shuffle_count=2, long_context_count=2, long_context_tokens=20),
        )
        hparams = make_hparams(
            layers=[0, 1, 2], rep=rep, method={"mom2_update_weight": 5.0, "d4s": options}, context_template_length_params=[[5, 5]]
        )
        return RobustEditor(hparams, make_model(family) if model is None else model, tok)

    return make


@pytest.fixture
def weights():
    """{layer: copy} of an editor's weights."""
    return lambda editor: {i: editor.anatomy.weight(i).detach().clone() for i in (0, 1, 2)}
