"""Optimised values on disk, so that a run that is started again, or repeated with another pathway, need not optimise them twice.

A file's name is a hash of everything the value depends on, so a file is either right or not found; it is written whole or not at all.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..anatomy import Anatomy
from ..errors import EditError
from ..files import replace_tensors
from ..version import __version__
from .values import Value, ValueConfig, ValueTask, optimise_values

log = logging.getLogger(__name__)


def cached_values(
    folder: Path | None, anatomy: Anatomy, tok, layer: int, tasks: Sequence[ValueTask], config: ValueConfig, block: str = "mlp"
) -> list[Value]:
    """`optimise_values`, reading from `folder` what is there and adding to it what is not. None: no cache.

    Raises:
        EditError: as `optimise_values`; or the folder cannot be written.
    """
    if folder is None:
        return optimise_values(anatomy, tok, layer, tasks, config, block)
    about = {
        "version": __version__,
        "model": anatomy.fingerprint(),
        "dtype": str(next(anatomy.model.parameters()).dtype),
        "tokenizer": _tokenizer(tok),
        "layer": layer,
        "block": block,
        "config": asdict(config),
    }
    paths = [folder / f"{_key(about, task)}.safetensors" for task in tasks]
    found: list[Value | None] = [_read(path) for path in paths]
    missing = [i for i, value in enumerate(found) if value is None]
    made = optimise_values(anatomy, tok, layer, [tasks[i] for i in missing], config, block) if missing else []
    for i, value in zip(missing, made, strict=True):
        found[i] = value
        _write(paths[i], value)
    device = anatomy.weight(layer).device
    return [Value(v.initial.to(device), v.change.to(device), v.loss, v.steps, v.probability) for v in found]


def _tokenizer(tok) -> str:
    """What tells two tokenizers apart: the ids they give to texts of all kinds."""
    return hashlib.sha256(json.dumps(tok(["Łódź's 3 cafés — 東京", " The\n{x} a_b"])["input_ids"]).encode()).hexdigest()


def _key(about: dict, task: ValueTask) -> str:
    own = {"prompt": list(task.prompt), "target": task.target, "contexts": list(task.contexts)}
    return hashlib.sha256(json.dumps({**about, **own}, sort_keys=True).encode()).hexdigest()[:32]


def _read(path: Path) -> Value | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            numbers = json.loads(file.metadata()["value"])
            return Value(file.get_tensor("initial"), file.get_tensor("change"), **numbers)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        log.warning("cached value %s cannot be read (%s) and is made again", path, error)
        return None


def _write(path: Path, value: Value) -> None:
    tensors = {"initial": value.initial, "change": value.change}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_tensors(path, tensors, {"value": json.dumps(value.numbers())})
    except OSError as error:
        raise EditError(f"cannot write the cached value {path} ({error}): free space, or leave out rep.value_cache") from error
