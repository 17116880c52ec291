"""Records of one run in a file that survives a kill: a line of provenance, then one line a record, appended whole."""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import EditError

log = logging.getLogger(__name__)


class Journal:
    """An append-only JSONL file with a header that says what its records were made from.

        with Journal(path, provenance) as journal:
            journal.add([record])

    Opening one that exists takes up where it was left: a line cut short by a kill is dropped, and `records` holds the rest. Two
    processes cannot write one journal: each would do the other's work again.

    Raises:
        EditError: the file was made from something else, another process writes it, or it cannot be written.
    """

    def __init__(self, path: Path, provenance: dict):
        self.path = path
        self.records: list[dict] = []
        self._provenance = json.loads(json.dumps(provenance, default=str))  # as it will be read back
        self._lock = FileLock(path.with_name(f"{path.name}.lock"))  # the system lets go of it when its holder is killed

    def __enter__(self) -> "Journal":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise EditError(f"{self.path} is being written by another process: wait for it, or choose another --out") from None
        except OSError as error:
            raise EditError(f"cannot write {self.path}: {error.strerror}; choose another --out") from error
        try:
            self._take_up()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_exception) -> None:
        self._lock.release()

    def _take_up(self) -> None:
        lines = self._whole_lines()
        if lines:
            self._check(lines[0].get("provenance"), self._provenance)
            self.records = lines[1:]
        else:
            self._append({"provenance": self._provenance})

    def add(self, records: Sequence[dict]) -> None:
        """Append `records` in one write, on the disk when this returns."""
        self._append(*records)
        self.records += records

    def _whole_lines(self) -> list[dict]:
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        whole = _whole(data)
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise EditError(f"{self.path} is not a file of records ({error}): move it away") from None
        if len(whole) < len(data):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        return lines

    def _append(self, *items: dict) -> None:
        text = "".join(json.dumps(item, ensure_ascii=False, default=str) + "\n" for item in items)
        try:
            with self.path.open("ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise EditError(f"cannot write {self.path}: {error.strerror}; what is finished is kept, run again to go on") from error

    def _check(self, found: dict | None, wanted: dict) -> None:
        if found is None:
            raise EditError(f"{self.path} has no provenance line: it is not a file of this benchmark, move it away")
        if unknown := sorted(wanted.keys() - found.keys()):
            log.warning(
                "%s, of an older version, does not say with which %s it was made: it is gone on with", self.path, ", ".join(unknown)
            )
        different = _differences({key: found.get(key) for key in {*found, *wanted} - {*unknown}}, wanted)
        if different:
            key, was, would_be = different[0]
            more = f" (and {', '.join(name for name, *_ in different[1:])})" if different[1:] else ""
            raise EditError(
                f"{self.path} was made with {key} {_short(was)}, not {_short(would_be)}{more}: choose another --out, or move the file away"
            )


def _differences(found: dict, wanted: dict, above: str = "") -> list[tuple[str, object, object]]:
    """(dotted key, one value, the other) of what differs, for every key of `found`; mappings are looked into."""
    out = []
    for key, value in sorted(found.items()):
        other = wanted.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            out += _differences({**dict.fromkeys(other), **value}, other, f"{above}{key}.")
        elif value != other:
            out.append((f"{above}{key}", value, other))
    return out


def _whole(data: bytes) -> bytes:
    """`data` without a last line cut short, which may end within a letter."""
    return data[: data.rfind(b"\n") + 1]


def _short(value) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def read_lines(path: Path) -> list[dict]:
    """The records of a JSONL file; a line cut short is left out. ValueError for another kind of file.

    Lines are split as bytes: a text's own line breaks (U+2028 …) stand in records as they are.
    """
    return [json.loads(line) for line in _whole(path.read_bytes()).splitlines()]


def read_journal(path: Path) -> tuple[dict, list[dict]]:
    """(provenance, records) of a finished or unfinished run; a line cut short is left out."""
    try:
        lines = read_lines(path)
        return lines[0]["provenance"], lines[1:]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise EditError(f"{path} is not a file of this benchmark: {error}") from None
