"""A stand-in for EasyEdit: a package of its name with the points we rely on and nothing behind them."""

import importlib
import sys
from pathlib import Path

import pytest

from easyedit_rep.integrations.bases import BASES
from easyedit_rep.integrations.contract import HPARAMS_CLASSES

SOURCES = {
    "__init__.py": "import random\nrandom.seed(42)\nfrom .editors import *\nfrom .util import *\n",
    "util/__init__.py": "from .alg_dict import *\n",
    "util/alg_dict.py": (
        "from ..hparams import *\ndef apply(model, tok, requests, hparams, copy, return_orig_weights): ...\nALG_DICT = dict.fromkeys("
        + repr(tuple(HPARAMS_CLASSES))
        + ", apply)\n"
    ),
    "editors/__init__.py": "from .editor import *\n",
    "editors/utils.py": "CALLABLE_RESTORE_ALGS = {'KN'}\ndef restore_after_edit(editor, edited_model, weights_copy): ...\n",
    "editors/batch_editor.py": (
        "from enum import Enum\nclass BatchEditor(Enum):\n    MEMIT = 'MEMIT'\n    @staticmethod\n"
        "    def is_batchable_method(alg_name: str):\n        return alg_name == BatchEditor.MEMIT.value\n"
    ),
    "editors/editor.py": (
        "from ..util.alg_dict import *\nfrom .batch_editor import BatchEditor\nfrom .utils import restore_after_edit\n"
        "def compute_edit_quality(model, model_name, hparams, tok, record, device): return {}\n"
        "def summary_metrics(all_metrics): print('Metrics Summary: ', len(all_metrics))\n"
        "def _prepare_requests(prompts, target_new, ground_truth, **kwargs):\n"
        "    return [{'prompt': prompt} for prompt in prompts]\n"
        "class BaseEditor: ...\n"
    ),
    "models/__init__.py": "",
    "hparams.py": "import yaml\n"
    + "".join(
        f"class {name}:\n    def __init__(self, **values): vars(self).update(values)\n    @classmethod\n"
        f"    def from_hparams(cls, hparams_name_or_path):\n"
        f"        if '.yaml' not in hparams_name_or_path: hparams_name_or_path += '.yaml'\n"
        f"        values = yaml.safe_load(open(hparams_name_or_path))\n"
        f"        assert values['alg_name'] == {method!r}\n        return cls(**values)\n"
        for method, name in HPARAMS_CLASSES.items()
    ),
}

for base in BASES.values():  # every cache of every method, as far as it is there before a first run
    for path in set(base.state) - set(base.late):
        *folders, module, attribute = path.split(".")
        SOURCES["/".join(["models", *folders, "__init__.py"])] = ""
        file = "/".join(["models", *folders, f"{module}.py"])
        SOURCES[file] = SOURCES.get(file, "") + f"{attribute} = None\n"


def _forget() -> dict:
    """Takes EasyEdit's modules out, and returns them."""
    importlib.invalidate_caches()
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "easyeditor"}


@pytest.fixture
def no_easyeditor(monkeypatch):
    """No EasyEdit to be found, and none imported."""
    monkeypatch.delenv("EASYEDIT_HOME", raising=False)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not (Path(p) / "easyeditor").exists()])
    real = _forget()
    yield
    _forget()
    sys.modules.update(real)


@pytest.fixture
def easyedit_home(no_easyeditor, tmp_path):
    """A checkout of the stand-in, which nothing points at yet."""
    home = tmp_path / "EasyEdit"
    for name, source in SOURCES.items():
        file = home / "easyeditor" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return home


@pytest.fixture
def process(monkeypatch, no_easyeditor):
    """What a runner may change in this process is put back after."""
    for name in ("argv", "path", "meta_path"):
        monkeypatch.setattr(sys, name, list(getattr(sys, name)))
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
