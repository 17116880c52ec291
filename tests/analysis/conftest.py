"""A study of three facts on a tiny random model, quick enough to make again in every test."""

import json

import pytest

from easyedit_rep.analysis.study import Study
from easyedit_rep.bench.runs import Run
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
            "prompt": prompt,
            "subject": subject,
            "target_new": "music",
            "target_true": "French",
            "subject_rephrase": ["A. Lee", "Annie"],
            "locality_prompt": ["The Space Needle is in", "I like to read about"],
            "locality_ground_truth": "Seattle",
        }
        for prompt, subject in FACTS
    ]
    data.write_text(json.dumps(records))
    return Run(tmp_path / "ROME" / "tiny.yaml", data, seed=3, known=False)


@pytest.fixture
def make_study(run, make_hparams, make_model, tok, tmp_path, texts):
    corpus = tmp_path / "text.txt"
    corpus.write_text("\n".join(texts))
    rep = RepOptions(
        corpus=str(corpus),
        statistics_tokens=600,
        seed=3,
        training=PathwayTraining(steps=2),
        queries=QueryOptions(shuffle_count=2, long_context_count=2, long_context_tokens=20),
    )

    def make(layer=None, **options) -> Study:
        editor = RobustEditor(make_hparams(**{"rep": rep, "v_num_grad_steps": 2, **options}), make_model("llama"), tok)
        return Study.of(run, layer, editor)

    return make


@pytest.fixture
def study(make_study):
    return make_study()
