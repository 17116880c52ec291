"""ATOMIC: what follows from an event, as annotators said it (Sap et al., 2019; ATOMIC-2020: Hwang et al., 2021).

Three forms are told apart line by line, and read to the same thing:

    event,oEffect,…,xWant,prefix,split                           ATOMIC v4: CSV, a row an annotator, JSON lists in the cells
    PersonX accepts the offer<TAB>xWant<TAB>to start the job     ATOMIC-2020: a row a tail
    PersonX accepts the offer @@ xWant<TAB>to start the job| …   ATOMIC-2020, grouped
"""

import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..errors import EditError

NONE = "none"
"""What an annotator writes where nothing follows. An empty list is not that: nobody was asked."""


class Tail(NamedTuple):
    """What was said to follow, as it was said, and where: the file's line (from 1) and its split ("" where the file names none)."""

    text: str
    line: int
    split: str = ""


class Malformed(NamedTuple):
    """A line, or one cell of it, that could not be read."""

    line: int
    field: str
    reason: str


@dataclass
class Atomic:
    """All annotators' answers, by event and relation, in the order of the file.

    Attributes:
        tails: {event: {relation: tails}}. A relation that is there with no tails was answered with "none"; one that is not there was
            not asked for.
        nones: how many answers were "none".
        malformed: what could not be read; the rest of the file is used.
        digest: sha256 of the file.
    """

    source: str
    digest: str
    lines: int = 0
    nones: int = 0
    tails: dict[str, dict[str, list[Tail]]] = field(default_factory=dict)
    malformed: list[Malformed] = field(default_factory=list)

    def add(self, event: str, relation: str, texts: Sequence[str], line: int, split: str = "") -> None:
        """Note what one annotator answered."""
        if not texts:
            return
        said = self.tails.setdefault(event, {}).setdefault(relation, [])
        for text in texts:
            if text.strip().lower() == NONE:
                self.nones += 1
            else:
                said.append(Tail(text, line, split))


def read_atomic(path: str | Path) -> Atomic:
    """The annotations in a file of any of the three forms.

    Raises:
        EditError: it cannot be read, or none of its lines is of ATOMIC.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise EditError(f"cannot read {path}: {error.strerror}") from None
    out = Atomic(str(path), hashlib.sha256(raw).hexdigest())
    # Bytes that are no text become U+FFFD, which cleaning drops with the tail it stands in.
    lines = raw.decode("utf-8-sig", errors="replace").split("\n")
    header = _header(lines[0])
    for number, line in enumerate(lines, 1):
        if not line.strip() or (header and number == 1):
            continue
        out.lines += 1
        try:
            if header:
                _csv_row(out, header, line, number)
            else:
                _tsv_row(out, line, number)
        except _Refused as refused:
            out.malformed.append(Malformed(number, *refused.args))
    if not out.tails:
        first = f"; line {out.malformed[0].line}: {out.malformed[0].reason}" if out.malformed else ""
        raise EditError(f"{path} holds nothing of ATOMIC: give its v4 CSV, or a TSV of ATOMIC-2020{first}")
    return out


class _Refused(Exception):
    """(field, reason) of a line that cannot be read."""


def _header(line: str) -> list[str] | None:
    names = line.strip().split(",")
    return names if names[0] == "event" and len(names) > 1 else None


def _cells(line: str, delimiter: str) -> list[str]:
    """One line's fields. No field of ATOMIC holds a line break, so a stray quote damages no other line than its own."""
    try:
        return next(csv.reader([line.rstrip("\r")], delimiter=delimiter, strict=True))
    except csv.Error as error:
        if delimiter == "\t":  # not every release of the TSV quotes
            return line.rstrip("\r").split("\t")
        raise _Refused("row", f"is no CSV: {error}") from None


def _csv_row(out: Atomic, header: list[str], line: str, number: int) -> None:
    cells = _cells(line, ",")
    if len(cells) != len(header):
        raise _Refused("row", f"has {len(cells)} fields, the header {len(header)}")
    row = dict(zip(header, cells, strict=True))
    event = _event(row.pop("event"))
    row.pop("prefix", None)
    split = row.pop("split", "")
    for relation, cell in row.items():
        try:
            out.add(event, relation, _list(relation, cell), number, split)
        except _Refused as refused:  # the other cells are as good as they were
            out.malformed.append(Malformed(number, *refused.args))


def _list(relation: str, cell: str) -> list[str]:
    try:
        texts = json.loads(cell)
    except (ValueError, RecursionError):
        raise _Refused(relation, f"is no JSON: {cell[:60]!r}") from None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _Refused(relation, f"is no list of texts: {cell[:60]!r}")
    return texts


def _tsv_row(out: Atomic, line: str, number: int) -> None:
    cells = _cells(line, "\t")
    if len(cells) == 2 and " @@ " in cells[0]:
        head, _, relation = cells[0].rpartition(" @@ ")
        out.add(_event(head), _relation(relation), list(_grouped(cells[1])), number)
    elif len(cells) == 3:
        out.add(_event(cells[0]), _relation(cells[1]), [cells[2]] if cells[2].strip() else [], number)
    else:
        raise _Refused("row", f"has {len(cells)} tab-separated fields: head, relation, tail, or `head @@ relation` and tails are wanted")


def _grouped(cell: str) -> Iterator[str]:
    return (text.strip() for text in cell.split("|"))


def _event(text: str) -> str:
    if not text.strip():
        raise _Refused("event", "is empty")
    return text.strip()


def _relation(text: str) -> str:
    if not text.strip().isalpha():
        raise _Refused("relation", f"is no name: {text[:60]!r}")
    return text.strip()
