"""Edits from data of any format: the one entry, which counts what it could not use."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import EditError
from ..request import EditRequest
from .columns import ColumnMap, read_columns
from .fields import FieldError, Fields
from .formats import by_name, detect
from .sources import Broken, read_table

log = logging.getLogger(__name__)


class Refused(NamedTuple):
    """A record that cannot be edited: where, which field, and why (the reason names the field too)."""

    index: int
    field: str
    reason: str


@dataclass(frozen=True)
class Loaded:
    """What became of each record: `len(requests) + len(refused) == total`.

    Attributes:
        format: the format's name, "columns" for a column map.
        found: it was found by the records' keys.
        indices: of each request, its place among the records (from 0).
        blank: by field, how many prompts or answers were empty and left out of requests that are used.
        digest: of the data; None for records given as objects.
    """

    source: str
    format: str
    found: bool
    total: int
    requests: list[EditRequest]
    indices: list[int]
    refused: list[Refused]
    blank: Counter
    digest: str | None


@dataclass(frozen=True)
class Reading:
    """How a data file is read, as the command line is told it."""

    format: str | None = None
    columns: Path | None = None
    strict: bool = True

    def load(self, source: str | Path) -> Loaded:
        """`load_dataset_file`, of which at least one record must be left."""
        loaded = load_dataset_file(source, self.format, self.columns, strict=self.strict)
        if not loaded.requests:
            raise EditError(f"{source}: none of {loaded.total} records can be used, the first because {loaded.refused[0].reason}")
        return loaded

    def about(self) -> dict:
        """What else than the file decides what its records mean; nothing where the format is found by itself."""
        columns = {"columns": asdict(read_columns(self.columns))} if self.columns else {}
        return ({"format": self.format} if self.format else {}) | columns


def load_records(source: str | Path, format: str | None = None, columns: ColumnMap | str | Path | None = None) -> list[EditRequest]:
    """Requests of a data file, all of them.

    Raises:
        EditError: as `load_dataset_file`, and for the first malformed record.
    """
    return load_dataset_file(source, format, columns, strict=True).requests


def load_dataset_file(
    source: str | Path | Iterable[Mapping],
    format: str | None = None,
    columns: ColumnMap | str | Path | None = None,
    *,
    strict: bool = False,
) -> Loaded:
    """Requests of a data file, and the records that were refused.

    Args:
        source: what `sources.read_table` reads, or the records themselves (a Hugging Face `Dataset`, say).
        format: a name of `formats.FORMATS`; None to find it by the first record's keys.
        columns: a column map, or the YAML of one, instead of a format.
        strict: refuse all at the first malformed record.

    Raises:
        EditError: the source cannot be read or holds nothing, or its format is not known.
    """
    if columns is not None and format is not None:
        raise EditError(f"both format {format!r} and a column map: give one")
    if isinstance(source, (str, Path)):
        name, (rows, digest) = str(source), read_table(source)
    else:
        name, rows, digest = "records", list(source), None
        if not rows:
            raise EditError("there are no records")
    if isinstance(columns, (str, Path)):
        columns = read_columns(columns)
    read, kind = _reader(rows, name, format, columns)
    requests, indices, refused, blank = [], [], [], Counter()
    for index, row in enumerate(rows):
        outcome = _request(index, row, read, blank)
        if isinstance(outcome, EditRequest):
            requests.append(outcome)
            indices.append(index)
        elif strict:
            raise EditError(f"{name}: record {index}: {outcome.reason}")
        else:
            refused.append(outcome)
    found = format is None and columns is None
    log.info("%s: %d records, format %s%s, %d refused", name, len(rows), kind, " by its keys" if found else "", len(refused))
    return Loaded(name, kind, found, len(rows), requests, indices, refused, blank, digest)


def _reader(rows: list, name: str, format: str | None, columns: ColumnMap | None):
    if columns is not None:
        columns.check(rows, name)
        return columns, "columns"
    known = by_name(format) if format else detect(next((row for row in rows if isinstance(row, Mapping)), rows[0]), name)
    return known.read, known.name


def _request(index: int, row: object, read, blank: Counter) -> EditRequest | Refused:
    if isinstance(row, Broken):
        return Refused(index, "record", row.reason)
    try:
        record = Fields(row)
        request = read(record)
    except FieldError as error:
        return Refused(index, error.field, str(error))
    except EditError as error:
        # EditRequest's own checks begin with the name of the field they are of.
        return Refused(index, str(error).split(maxsplit=1)[0], str(error))
    blank.update(record.blank)
    return request
