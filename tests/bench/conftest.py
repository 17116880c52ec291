"""A benchmark of three facts on a tiny model."""

import json

import pytest

from easyedit_rep.bench.runs import OneProcess, Run
from easyedit_rep.editor import RobustEditor
from easyedit_rep.pathway.training import PathwayTraining
from easyedit_rep.rep_options import QueryOptions, RepOptions

FACTS = [
    ("The mother tongue of Danielle Darrieux is", "Danielle Darrieux"),
    ("Ann Lee plays the", "Ann Lee"),
    ("The river of Paris is", "Paris"),
]


@pytest.fixture
def run(tmp_path):
    data = tmp_path / "facts.json"
    records = [
        {
            "prompt": p,
            "subject": s,
            "target_new": "music",
            "target_true": "French",
            "subject_rephrase": ["A. Lee", "Annie"],
            "rephrase_prompt": ["Say"],
        }
        for p, s in FACTS
    ]
    data.write_text(json.dumps(records))
    return Run(tmp_path / "ROME" / "tiny.yaml", data, seed=3, known=False)


@pytest.fixture
def editor(make_hparams, make_model, tok, tmp_path, texts):
    corpus = tmp_path / "text.txt"
    corpus.write_text("\n".join(texts))

    def make(steps=2, **rep):
        rep = RepOptions(
            corpus=str(corpus),
            statistics_tokens=600,
            seed=3,
            training=PathwayTraining(steps=steps),
            queries=QueryOptions(shuffle_count=2, long_context_count=2, long_context_tokens=20),
            **rep,
        )
        return RobustEditor(make_hparams(rep=rep, v_num_grad_steps=2), make_model("llama"), tok)

    return make


@pytest.fixture
def crew(editor):
    """As a process just begun: with a model of its own."""

    def make(**options):
        mine = editor(**options)
        return OneProcess(lambda run: mine)

    return make
