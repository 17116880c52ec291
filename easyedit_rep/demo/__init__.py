"""A small trained model of an invented world, shipped with the package for `easyedit-rep demo`.

Nothing is loaded at import: the names below are only paths. `train.py` rebuilds all of it from a seed.
"""

from pathlib import Path

_HERE = Path(__file__).resolve().parent

MODEL_DIR = _HERE / "demo-llama"
FACTS = _HERE / "facts.json"
CORPUS = _HERE / "corpus.txt"
HPARAMS = _HERE / "rome.yaml"

__all__ = ["CORPUS", "FACTS", "HPARAMS", "MODEL_DIR"]
