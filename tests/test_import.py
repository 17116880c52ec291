"""Importing does no work: no seeds, no logging set-up, no files, no network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import easyedit_rep

ROOT = Path(easyedit_rep.__file__).parents[1]
PROGRAM = """
import logging, random, socket
import numpy, torch

# Importing the dependencies is their business; what follows is ours.
import transformers, peft, datasets, yaml

def state():
    root = logging.getLogger()
    return (
        random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist(), torch.get_num_threads(), torch.is_grad_enabled(),
        root.level, list(root.handlers), logging.getLogger("transformers").level,
    )

def refuse(*args, **kwargs):
    raise AssertionError("network")

socket.socket.connect = refuse
before = state()
import easyedit_rep
assert state() == before
assert "easyeditor" not in __import__("sys").modules
assert not set(easyedit_rep.__all__) - set(dir(easyedit_rep))
for name in easyedit_rep.__all__:
    assert getattr(easyedit_rep, name) is not None
from easyedit_rep import *
assert RobustEditor is easyedit_rep.RobustEditor
assert state() == before
"""
LIGHT = """
import sys
import easyedit_rep
assert easyedit_rep.__version__
import json
print(json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""
PEFT_KNOWS_REP = """
import sys
from peft import PeftConfig, PeftModel, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
assert type(PeftConfig.from_pretrained(".")).__name__ == "RepConfig"
import easyedit_rep
assert PEFT_TYPE_TO_CONFIG_MAPPING[PeftType.REP] is easyedit_rep.RepConfig
assert PEFT_TYPE_TO_TUNER_MAPPING[PeftType.REP] is easyedit_rep.RepModel
assert not any("easyedit_rep" in type(finder).__module__ for finder in sys.meta_path), "nobody watches any more"
"""


def run(program, cwd):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=cwd, env=env, capture_output=True, text=True, check=False)


def test_import_is_silent_and_changes_nothing(tmp_path):
    done = run(PROGRAM, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_import_brings_no_heavy_package(tmp_path):
    done = run(LIGHT, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not {"torch", "transformers", "peft", "datasets", "numpy", "pandas"} & set(json.loads(done.stdout))


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'easyedit_rep' has no attribute 'RobustEdit'"):
        easyedit_rep.RobustEdit  # noqa: B018


@pytest.mark.parametrize(
    "imports",
    ["import easyedit_rep, peft.tuners.lora", "import peft, easyedit_rep"],
)
def test_peft_knows_rep_in_any_order(imports, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "REP", "target_modules": ["x"]}))
    done = run(imports + PEFT_KNOWS_REP, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
