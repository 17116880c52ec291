"""Rows of a file, a folder saved by `datasets`, or a dataset of the Hugging Face hub, and a digest of what was read."""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import EditError

HUB = "hf:"
"""`hf:owner/name`, `hf:owner/name/configuration`, and of either `@split` (train if left out)."""


class Broken(NamedTuple):
    """A line that is no record."""

    reason: str


class Table(NamedTuple):
    """Rows as they are, some of which may be no mapping at all."""

    rows: list[object]
    digest: str


def read_table(source: str | Path) -> Table:
    """The rows of `source`: JSON (a list), JSONL, CSV, TSV, Parquet, a folder of `Dataset.save_to_disk`, or `hf:…`.

    Cells of CSV stay text ("007" and "NA" too); those that a short line lacks are empty.

    Raises:
        EditError: it cannot be read, or holds nothing.
    """
    path = Path(source)
    try:
        if str(source).startswith(HUB):
            table = _hub(str(source).removeprefix(HUB))
        elif path.is_dir():
            table = _folder(path)
        else:
            raw = path.read_bytes()
            table = Table(READERS.get(path.suffix.lower(), _json)(path, raw), hashlib.sha256(raw).hexdigest())
    except EditError:
        raise
    except Exception as error:  # of pandas, pyarrow, datasets or the network: each has its own
        raise EditError(f"cannot read {source}: {' '.join(str(error).split())[:300]}") from error
    if not table.rows:
        raise EditError(f"{source} holds no list of records")
    return table


def _json(path: Path, raw: bytes) -> list[object]:
    data = json.loads(raw.decode("utf-8-sig"))
    if not isinstance(data, list):
        raise EditError(f"{path} holds no list of records")
    return data


def _jsonl(path: Path, raw: bytes) -> list[object]:
    return [_line(line) for line in raw.decode("utf-8-sig").split("\n") if line.strip()]


def _line(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        return Broken(f"is no JSON: {error}")


def _csv(path: Path, raw: bytes) -> list[object]:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        head, *rows = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), delimiter=separator)) or [[]]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    while head and not head[-1].strip():
        head.pop()  # as some programs end every line in a delimiter
    return [_cells(head, row) for row in rows if row]


def _cells(head: Sequence[str], row: Sequence[str]) -> object:
    if any(cell.strip() for cell in row[len(head) :]):
        return Broken(f"has {len(row)} cells, the header {len(head)}")
    return dict(zip(head, [*row, *[""] * len(head)], strict=False))


def _parquet(path: Path, raw: bytes) -> list[object]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(io.BytesIO(raw)).to_pylist()


READERS = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}


def _folder(path: Path) -> Table:
    from datasets import DatasetDict, load_from_disk

    data = load_from_disk(str(path))
    if isinstance(data, DatasetDict):
        raise EditError(f"{path} holds the splits {', '.join(data)}: name the folder of one")
    return Table(data.to_list(), data._fingerprint)


def _hub(name: str) -> Table:
    from datasets import load_dataset

    name, _, split = name.partition("@")
    owner, _, rest = name.partition("/")
    repository, _, configuration = rest.partition("/")
    data = load_dataset(f"{owner}/{repository}", configuration or None, split=split or "train")
    return Table(data.to_list(), data._fingerprint)
