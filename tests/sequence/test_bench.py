"""Long sequences on real models: minutes, so `-m slow`."""

import copy
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.bench.compare import known_only
from easyedit_rep.datasets.records import load_records
from easyedit_rep.demo import FACTS
from easyedit_rep.editor import RobustEditor
from easyedit_rep.hparams import load_hparams
from easyedit_rep.memory.delta import Delta
from easyedit_rep.methods.d4s import SequenceOptions
from easyedit_rep.methods.memit import average

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"


@pytest.fixture
def bench(monkeypatch):
    """(editor of bench-llama without pathways, 60 facts it knows)."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: it holds the model and the records of this test")
    monkeypatch.chdir(ROOT)
    hparams = load_hparams("hparams/D4S/bench-llama.yaml")
    hparams.stats_dir = None
    editor = RobustEditor.from_hparams(hparams)
    return editor, known_only(editor, load_records(SHARED / "data/rep/valid.counterfact.json"))[:60]


def test_fifty_real_edits_equal_the_released_algorithm(bench):
    """ΣRKᵀ and ΣKKᵀ accumulated in float64 and solved at every edit, keys of upper layers measured on that solution."""
    editor, facts = bench  # whose YAML measures on the edited model
    editor.hparams.method = options = replace(editor.hparams.method, d4s=SequenceOptions())
    memory, layers = editor.memory, editor.hparams.layers
    clean, changes = copy.deepcopy(editor.model), {}
    sums = {i: [torch.zeros(384, 1024).double(), torch.zeros(1024, 1024).double()] for i in layers}
    for fact in facts[:50]:
        edit = editor.apply(fact)
        twin = replace(memory, anatomy=Anatomy(copy.deepcopy(clean)))
        residual = (edit.pairs[layers[0]][1] * len(layers)).double().T  # z* is an optimiser's: the same for both
        for j, layer in enumerate(layers):
            key = average(twin.context_keys([fact.located], [layer])[layer]).double().T
            sums[layer][0] += residual @ key.T
            sums[layer][1] += key @ key.T
            system = sums[layer][1] + options.mom2_update_weight * memory.covariances[layer].moment
            change = torch.linalg.solve(system, sums[layer][0].T).T / (len(layers) - j)
            changes[layer] = change
            Delta(change, None).add_to(twin.anatomy.weight(layer).data)
    for layer, want in changes.items():
        assert ((editor.sequence.states[layer].change - want).norm() / want.norm()).item() < 1e-6


def test_removed_facts_are_back(bench):
    editor, facts = bench
    edits = [editor.apply(fact) for fact in facts[:40]]
    gone = random.Random(0).sample(range(40), 10)
    for i in gone:
        edits[i].undo()
    for layer, state in editor.sequence.states.items():
        rest = [e for i, e in enumerate(edits) if i not in gone]
        keys, residuals = (torch.cat([e.pairs[layer][k] for e in rest]).double() for k in (0, 1))
        system = keys.T @ keys + editor.hparams.method.mom2_update_weight * editor.memory.covariances[layer].moment
        want = torch.linalg.solve(system, keys.T @ residuals).T
        assert ((state.change - want).norm() / want.norm()).item() < 1e-10
    back = [fact for i, fact in enumerate(facts[:40]) if i in gone]
    assert len(known_only(editor, back)) >= 7  # the others are overwritten by edits that stay


def test_killed_ten_times_and_taken_up(tmp_path):
    """SIGKILL at ten random moments of a 100-edit run: the same weights, bit for bit, as of a run that was left alone."""
    command = [
        sys.executable,
        "-m",
        "easyedit_rep",
        "sequence",
        "run",
        "--hparams",
        str(ROOT / "hparams/D4S/demo.yaml"),
        "--data",
        str(FACTS),
    ]
    command += ["--n", "100", "--checkpoints", "50", "--save-every", "5", "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def start(out):
        return subprocess.Popen([*command, str(out)], env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    began = time.monotonic()
    whole = start(tmp_path / "whole")
    _, errors = whole.communicate(timeout=900)
    assert whole.returncode == 0, errors[-2000:]
    lasted = time.monotonic() - began
    moments = random.Random(5)
    for _ in range(10):
        process = start(tmp_path / "cut")
        time.sleep(moments.uniform(0.3, 0.6) * lasted)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = start(tmp_path / "cut")
    _, errors = last.communicate(timeout=900)
    assert last.returncode == 0, errors[-2000:]
    states = [next((tmp_path / name).glob("state-*.safetensors")).read_bytes() for name in ("whole", "cut")]
    assert states[0] == states[1]
    records = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in (tmp_path / name / "sequence.jsonl").open()]
        for name in ("whole", "cut")
    ]
    assert records[0] == records[1]
