"""Tests beside a real EasyEdit. Run with `EASYEDIT_HOME=… pytest -m easyedit`; each is skipped, with the reason, where that is absent."""

import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from easyedit_rep import EditRequest, REPHyperParams
from easyedit_rep.editor import RobustEditor
from easyedit_rep.loading import load_model

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
HOME = os.environ.get("EASYEDIT_HOME")
if HOME:
    sys.path.insert(0, str(Path(HOME).expanduser()))


@pytest.fixture(autouse=True, scope="session")
def easyeditor():
    """EasyEdit itself. Importing it seeds every generator and sets up logging; nothing here depends on either."""
    if not HOME:
        pytest.skip("EASYEDIT_HOME is unset: point it at a checkout of zjunlp/EasyEdit")
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: it holds the model and the records of these tests")
    import easyeditor

    return easyeditor


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    """BaseEditor writes ./logs."""
    monkeypatch.chdir(tmp_path)


def build_bench_hparams(stats_dir: Path, **options) -> REPHyperParams:
    """bench-llama's YAML for the layer that the other methods of these tests edit too, with paths that hold from anywhere, and a short
    pathway training: what is tested is the plumbing."""
    hparams = REPHyperParams.from_hparams(str(ROOT / "hparams/REP/ROME/bench-llama-layer1.yaml"))
    hparams.model_name = str(SHARED / "bench-llama")
    hparams.stats_dir = str(stats_dir)
    hparams.context_template_length_params = [[5, 5]]
    hparams.rep = replace(
        hparams.rep,
        corpus=str(SHARED / "data/wikitext2/valid.txt"),
        text_tokens=256,
        training=replace(hparams.rep.training, steps=5),
        queries=replace(hparams.rep.queries, shuffle_count=2, long_context_count=2, long_context_tokens=32),
    )
    for name, value in options.items():
        setattr(hparams, name, value)
    return hparams


@pytest.fixture(scope="session")
def stats_dir(tmp_path_factory):
    """Statistics are made once for all tests."""
    return tmp_path_factory.mktemp("stats")


@pytest.fixture
def bench_hparams(stats_dir):
    return partial(build_bench_hparams, stats_dir)


@pytest.fixture(scope="session")
def bench_editor(easyeditor, stats_dir):
    """A native editor of bench-llama with full contexts, for comparisons that leave the model as it was."""
    hparams = build_bench_hparams(stats_dir, context_template_length_params=[[5, 10], [10, 10]])
    return RobustEditor(hparams, *load_model(hparams.model_name))


@pytest.fixture(scope="session")
def records():
    return json.loads((SHARED / "data/rep/valid.counterfact.json").read_text())


@pytest.fixture
def columns(records):
    """The arguments of `edit` for the first `n` records."""

    def make(n: int) -> dict:
        some = records[:n]
        return {
            "prompts": [r["prompt"] for r in some],
            "target_new": [r["target_new"] for r in some],
            "ground_truth": [r["target_true"] for r in some],
            "subject": [r["subject"] for r in some],
            "rephrase_prompts": [r["rephrase_prompt"][0] for r in some],
            "locality_inputs": {
                "neighborhood": {"prompt": [r["locality_prompt"][0] for r in some], "ground_truth": [r["target_true"] for r in some]}
            },
        }

    return make


@pytest.fixture
def facts(records):
    return [EditRequest(r["prompt"], r["subject"], r["target_new"]) for r in records[:5]]


@pytest.fixture
def snapshot():
    """A copy of every parameter, to be compared later bit by bit."""
    return lambda model: {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
