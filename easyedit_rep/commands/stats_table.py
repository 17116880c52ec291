"""Statistics files as a table."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ..anatomy import Anatomy
from ..errors import EditError
from ..memory import covariance as covariance_module
from ..memory import statistics as statistics_module
from ..memory.listing import Listed, check, read

QUICK = 2048  # longest key whose eigenvalues take seconds
TRUST = "EasyEdit cache, taken on trust"


class Row(NamedTuple):
    """A file and what was measured of it.

    Attributes:
        condition: None where it was not asked for.
        ridge: what inversion adds to the diagonal, over the mean of the diagonal.
        verdict: "OK", "refused: …", or "" where nothing was checked.
    """

    file: Listed
    condition: float | None
    ridge: float | None
    verdict: str

    def numbers(self) -> dict:
        condition = None if self.condition is None or math.isinf(self.condition) else self.condition
        return {"condition": condition, "singular": self.condition == math.inf, "ridge": self.ridge, "verdict": self.verdict}


def measure(file: Listed, model: tuple[Anatomy, object] | None, large: bool) -> Row:
    """Read a file as far as is asked for.

    Args:
        model: (anatomy, tokenizer) of the model it must fit; None to believe its path.
        large: measure the condition whatever its size.
    """
    if file.problem:
        return Row(file, None, None, f"refused: {file.problem}")
    worth = large or file.size <= QUICK
    if not worth and model is None:
        return Row(file, None, None, "")
    try:
        with _quiet():
            found = check(file, *model) if model else read(file)
            if not worth:
                return Row(file, None, None, "OK")
            smallest, largest = found.extremes
            if smallest < -1e-4 * largest:
                raise EditError(f"not positive semi-definite: an eigenvalue is {smallest:.1e}, the largest {largest:.1e}")
            return Row(file, found.condition, found.ridge / found.moment.diagonal().mean().item(), "OK" if model else "")
    except EditError as error:
        return Row(file, None, None, f"refused: {error}")


@contextmanager
def _quiet():
    """Without the warnings that a single edit would give: the table says the same."""
    logs = [logging.getLogger(module.__name__) for module in (covariance_module, statistics_module)]
    before = [log.disabled for log in logs]
    try:
        for log in logs:
            log.disabled = True
        yield
    finally:
        for log, was in zip(logs, before, strict=True):
            log.disabled = was


def tables(rows: Sequence[Row]) -> Iterator[RenderableType]:
    """A table for each folder, dtype and number of samples, and after it why files are refused."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        file = row.file
        groups.setdefault((file.model, file.dataset, _numberless(file.module), file.dtype, file.samples), []).append(row)
    for (model, dataset, module, dtype, samples), group in groups.items():
        yield _table(group, f"{model}, {dataset}: {module}, {dtype}, {samples} samples")
        for row in group:
            if row.verdict.startswith("refused"):
                yield Text(f"{row.file.path} {row.verdict}", "red")


def _table(rows: Sequence[Row], title: str) -> Table:
    records = [row.file.record for row in rows]
    versions = dict.fromkeys(", ".join(f"{k} {v}" for k, v in r["versions"].items()) for r in records if r and "versions" in r)
    out = Table(title=title, caption="\n".join(versions), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("layer", "D", "tokens", "cap", "condition", "ridge"):
        out.add_column(name, justify="right")
    for name in ("made from", "seed", "weights"):
        out.add_column(name)
    if any(row.verdict for row in rows):
        out.add_column("verdict")
    for row in rows:
        file, record = row.file, row.file.record or {}
        cells = [
            _number(file.module),
            _or_dash(file.size),
            "–" if file.tokens is None else f"{file.tokens:,}",
            _or_dash(record.get("max_length")),
            "–" if row.condition is None else "singular" if math.isinf(row.condition) else f"{row.condition:.1e}",
            "–" if row.ridge is None else "none" if row.ridge == 0 else f"{row.ridge:.0e}",
            f"{record.get('corpus')} {str(record.get('corpus_digest'))[:6]}" if record else TRUST,
            _or_dash(record.get("seed")),
            str(record.get("fingerprint", "–"))[:6],
        ]
        out.add_row(*cells, *([row.verdict.partition(":")[0]] if len(out.columns) > len(cells) else []))
    return out


def _number(module: str) -> str:
    return next((part for part in module.split(".") if part.isdigit()), module)


def _numberless(module: str) -> str:
    return module.replace(f".{_number(module)}.", ".{}.", 1)


def _or_dash(value) -> str:
    return "–" if value is None else str(value)
