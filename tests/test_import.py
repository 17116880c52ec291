"""Importing does no work: no seeds, no logging set-up, no files, no network."""

import os
import subprocess
import sys
from pathlib import Path

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
"""


def run(program, cwd):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=cwd, env=env, capture_output=True, text=True, check=False)


def test_import_is_silent_and_changes_nothing(tmp_path):
    done = run(PROGRAM, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())
