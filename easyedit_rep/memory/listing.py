"""The statistics files in a folder: what they are of, what they were made from, and whether they are any good."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..anatomy import Anatomy
from ..errors import EditError
from ..files import NOT_AN_ARCHIVE
from .checkpoint import Checkpoint
from .covariance import Covariance
from .statistics import load_statistics, read_record, samples_named


@dataclass(frozen=True)
class Listed:
    """One file.

    Attributes:
        model, dataset, module, dtype: as the path has them.
        tokens: number of keys in the sum; None where the file cannot be read.
        size: D.
        record: what it was made from; None beside EasyEdit's own files.
        problem: why it cannot be used; "" where nothing speaks against it.
    """

    path: Path
    model: str
    dataset: str
    module: str
    dtype: str
    samples: int
    tokens: int | None
    size: int | None
    record: dict | None
    problem: str


def list_statistics(root: Path) -> list[Listed]:
    """Every statistics file below `root`; the matrices themselves are not read.

    Raises:
        EditError: no such folder.
    """
    if not root.is_dir():
        raise EditError(f"{root} is not a folder: name the stats_dir of a YAML, or make statistics with `easyedit-rep stats collect`")
    paths = [path for path in root.rglob("*_mom2_*.npz") if samples_named(path) is not None and path.parent.name.endswith("_stats")]
    return [_listed(path) for path in sorted(paths, key=_in_order)]


def list_checkpoints(root: Path) -> Iterator[tuple[Path, list[int], int, int]]:
    """(file, layers, tokens done, tokens in all) of every unfinished run below `root`."""
    for path in sorted(root.rglob("unfinished_*.checkpoint")):
        checkpoint = Checkpoint(path)
        yield path, checkpoint.layers(), *checkpoint.done()


def _in_order(path: Path) -> tuple:
    # Layer 10 after layer 9.
    parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in path.name.split(".")]
    return str(path.parent), parts


def _listed(path: Path) -> Listed:
    module, _, dtype = path.stem.rpartition("_mom2_")[0].rpartition("_")
    names = path.parent.parent.name, path.parent.name.removesuffix("_stats"), module, dtype, samples_named(path)
    tokens = size = record = None
    problem = ""
    try:
        record = read_record(path)
        tokens, size = _head(path)
    except EditError as error:
        problem = str(error)
    return Listed(path, *names, tokens, size, record, problem)


def _head(path: Path) -> tuple[int, int]:
    """(count, D) without the matrix."""
    try:
        with np.load(path, allow_pickle=False) as data, data.zip.open("mom2.mom2.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return int(data["mom2.count"]), read(file)[0][0]
    except NOT_AN_ARCHIVE as error:
        raise EditError(f"cannot be read ({error})") from error


def read(listed: Listed) -> Covariance:
    """C of a file, whichever model it is of.

    Raises:
        EditError: unreadable.
    """
    try:
        with np.load(listed.path, allow_pickle=False) as data:
            return Covariance(torch.from_numpy(data["mom2.mom2"]).double() / int(data["mom2.count"]), int(data["mom2.count"]))
    except NOT_AN_ARCHIVE as error:
        raise EditError(f"cannot be read ({error})") from error


def check(listed: Listed, anatomy: Anatomy, tok) -> Covariance:
    """C of a file, if the loaded model may use it.

    Raises:
        EditError: it may not.
    """
    layers = {anatomy.rewrite_name(layer): layer for layer in range(anatomy.n_layers)}
    if listed.module not in layers:
        raise EditError(f"{listed.module} is no down-projection of the loaded model (it has {anatomy.names.rewrite_module_tmp})")
    return load_statistics(listed.path, anatomy, layers[listed.module], tok)


def as_json(listed: Listed, **more) -> dict:
    """A row for `--json`."""
    return json.loads(json.dumps({**vars(listed), **more}, default=str))
