"""Records, tables and figures of a folder as one HTML page that needs nothing else: no network, no files beside it."""

import base64
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from ..bench import sequences, tables
from ..bench.journal import read_lines
from ..errors import EditError
from ..files import replacing
from ..version import __version__
from . import norms
from .registry import ANALYSES

ROWS = 200
"""Of a CSV file, at most."""


@dataclass(frozen=True)
class Section:
    """One heading of the page.

    Attributes:
        text: what there is to see.
        source: what it was made from, in a line; `provenance` is all of it.
        table: cells as they are shown.
        image: a PNG file's bytes.
    """

    title: str
    text: str = ""
    source: str = ""
    table: pandas.DataFrame | None = None
    picture: bytes = b""
    provenance: str = ""

    @property
    def image(self) -> str:
        return base64.b64encode(self.picture).decode()

    @property
    def heads(self) -> list[str]:
        return [] if self.table is None else [str(name) for name in self.table.columns]

    @property
    def rows(self) -> list[list[str]]:
        return [] if self.table is None else [[str(cell) for cell in row] for row in self.table.itertuples(index=False)]

    @property
    def numbers(self) -> set[int]:
        """Columns that hold numbers, which are aligned on the right."""
        columns = list(zip(*self.rows, strict=True))
        return {i for i, cells in enumerate(columns) if i and all(_is_number(cell) for cell in cells)}


def _is_number(cell: str) -> bool:
    """Also "0.5 ± 0.1", "3 / 4", "1 → 2" and "–"."""
    return not cell.strip("0123456789.,+-−–±→/%×e ")


def write_report(folder: Path, out: Path, title: str | None = None) -> list[Section]:
    """Write the page of all that lies in `folder`, at any depth, to `out`; returns its sections.

    Raises:
        EditError: there is nothing to report, or a file of records is damaged.
    """
    from jinja2 import Environment, PackageLoader

    if not folder.is_dir():
        raise EditError(f"{folder} is not a folder: give the --out of `bench`, `sequence run` or `analyze`")
    sections = list(gather(folder))
    if not sections:
        raise EditError(f"{folder} holds no records (.jsonl), tables (.csv) or figures (.png)")
    page = Environment(loader=PackageLoader("easyedit_rep.analysis", "."), autoescape=True, trim_blocks=True).get_template("report.html")
    text = page.render(title=title or f"Report: {folder.resolve().name}", folder=folder.name, sections=sections, version=__version__)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as scratch:
        scratch.write_text(text, encoding="utf-8")
    return sections


def gather(folder: Path) -> Iterator[Section]:
    """Benchmarks first, then sequences, analyses in the order of `ANALYSES`, and last what else there is of tables and figures."""
    journals = {path: _read(path) for path in sorted(folder.rglob("*.jsonl"))}
    pictures = {path: path.read_bytes() for path in sorted(folder.rglob("*.png"))}
    kinds = {path: _kind(*journal) for path, journal in journals.items()}
    yield from _bench([path for path, kind in kinds.items() if kind == "bench"])
    for path in (path for path, kind in kinds.items() if kind == "older"):
        where = str(path.relative_to(folder))
        yield Section(
            _words(path.parent.name), "Records of an older version, which does not say what they were made from: make them again.", where
        )
    yield from _sequences({path: journals[path] for path, kind in kinds.items() if kind == "sequence"}, pictures)
    for name in ANALYSES:
        for path in (path for path, kind in kinds.items() if kind == name):
            yield _analysis(name, path, *journals[path], pictures.pop(path.with_suffix(".png"), b""))
    for path in sorted(folder.rglob("*.csv")):
        try:
            rows = pandas.read_csv(path, dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise EditError(f"cannot read {path} ({error}): mend it, or move it away") from None
        note = f"The first {ROWS} of {len(rows)} rows." if len(rows) > ROWS else ""
        yield Section(_words(path.stem), note, str(path.relative_to(folder)), rows.head(ROWS))
    for path, picture in pictures.items():
        yield Section(_words(path.stem), source=str(path.relative_to(folder)), picture=picture)


def _words(stem: str) -> str:
    return stem.replace("_", " ").replace("-", " ")


def _read(path: Path) -> tuple[dict, list[dict]]:
    """(provenance, records); records alone have no provenance."""
    try:
        lines = read_lines(path)
        if not lines or not all(isinstance(line, dict) for line in lines):
            raise ValueError("it has no whole line" if not lines else "a line of it is no record")
    except ValueError as error:
        raise EditError(f"{path} is not a file of records ({error}): move it away") from None
    return (lines[0]["provenance"], lines[1:]) if "provenance" in lines[0] else ({}, lines)


def _kind(provenance: dict, records: Sequence[dict]) -> str:
    """An analysis' name, or sequence, bench (records of `edit` and `demo` too), older (those without provenance), or other."""
    if "analysis" in provenance:
        return provenance["analysis"] if provenance["analysis"] in ANALYSES else "other"
    if any("after" in record for record in records):
        return "sequence"
    if records and all("method" in record for record in records):
        return "bench" if "hparams" in provenance else "older"
    return "other"


def _source(provenance: dict, records: Sequence[dict]) -> str:
    """ "bench-llama, ROME, test.json, 50 facts, layer 1, seed 0"."""
    hparams = provenance.get("hparams", {})
    parts = [Path(str(hparams.get("model_name", ""))).name, hparams.get("rep", {}).get("base"), provenance.get("data", {}).get("file")]
    facts = len(provenance.get("subjects", ())) or sum("index" in record for record in records)
    refused = sum("error" in record for record in records)
    parts += [counted(facts - refused, "fact") + (f" and {refused} refused" if refused else "")] if facts else []
    parts += [f"{name} {provenance[name]}" for name in ("layer", "corpus", "seed") if name in provenance]
    return ", ".join(str(part) for part in parts if part)


def counted(n: int, word: str) -> str:
    """ "1 fact", "2 facts"."""
    return f"{n} {word}" + ("" if n == 1 else "s")


def _json(provenance: dict) -> str:
    return json.dumps(provenance, indent=1, ensure_ascii=False) if provenance else ""


def _analysis(name: str, path: Path, provenance: dict, records: list[dict], picture: bytes) -> Section:
    of, source = ANALYSES[name], _source(provenance, records)
    usable = [record for record in records if "error" not in record]
    if not usable:
        return Section(of.title, "No fact has been measured yet.", source, provenance=_json(provenance))
    return Section(of.title, of.caption, source, of.table(usable), picture or _drawn(of.draw, usable), _json(provenance))


def _drawn(draw: Callable[[Any, Path], None], what: Any) -> bytes:
    """The PNG that `draw` makes of `what`."""
    with tempfile.TemporaryDirectory() as scratch:
        draw(what, Path(scratch) / "figure.png")
        return (Path(scratch) / "figure.png").read_bytes()


def _bench(paths: list[Path]) -> Iterator[Section]:
    text = "Percent of queries, exact match of all target tokens; mean ± standard deviation over seeds. ID: trained on, OOD: never seen."
    for folder in dict.fromkeys(path.parent for path in paths):  # runs in another folder are another experiment, not more seeds
        mine, title = [path for path in paths if path.parent == folder], f"Methods compared: {_words(folder.name)}"
        try:
            yield Section(title, text, table=tables.cells(tables.over_seeds(tables.per_seed(mine))))
        except EditError as error:
            yield Section(title, str(error))


def _sequences(journals: dict[Path, tuple[dict, list[dict]]], pictures: dict[Path, bytes]) -> Iterator[Section]:
    if journals:
        beside = [path.with_name("sequence.png") for path in journals]
        picture = next((pictures.pop(path) for path in beside if path in pictures), b"")
        text = (
            "All edits so far, measured at checkpoints; percent, token-level. |W| growth: mean |w| of the edited layers over the original."
        )
        runs = list(journals.values())
        yield Section("Sequences of edits", text, table=sequences.cells(runs), picture=picture)
        text = "Each hundred edits in editing order, measured when the run had ended: what is forgotten first stands first."
        yield Section("What is left of the earliest edits", text, table=sequences.block_cells(runs))
        try:
            found = norms.points(runs)
        except EditError:  # a run without an edit yet, or of an older version
            return
        text = (
            "Means over quarters of each run: the target's probability a token under the value it was optimised to and in the edited model "
            "right after its edit, and how much the L1 norm of the edited layers has grown (D4S, Figures 5 and 6)."
        )
        title = "Edited targets, and the norm of the edited layers"
        yield Section(title, text, table=norms.table(found), picture=_drawn(norms.draw, found))
