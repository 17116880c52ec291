"""Statistics files as a table."""

import logging
import math
from collections.abc import Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rich import box
from rich.table import Table

from ..anatomy import Anatomy
from ..errors import EditError
from ..memory import covariance as covariance_module
from ..memory import statistics as statistics_module
from ..memory.listing import Listed, check, read

QUICK = 2048  # longest key whose eigenvalues take seconds


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


def table(rows: Sequence[Row], title: str, checked: bool) -> Table:
    """One line a file of one model."""
    out = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("corpus", "module"):
        out.add_column(name, overflow="fold")
    out.add_column("file")
    for name in ("D", "tokens", "cap", "condition", "ridge"):
        out.add_column(name, justify="right")
    out.add_column("made from", overflow="fold", ratio=1)
    if checked or any(row.verdict for row in rows):
        out.add_column("verdict", overflow="fold", ratio=1)
    for row in rows:
        file, record = row.file, row.file.record
        cells = [
            file.dataset,
            file.module,
            f"{file.dtype} {file.samples}",
            _or_dash(file.size),
            "–" if file.tokens is None else f"{file.tokens:,}",
            _or_dash((record or {}).get("max_length")),
            "–" if row.condition is None else "singular" if math.isinf(row.condition) else f"{row.condition:.1e}",
            "–" if row.ridge is None else "none" if row.ridge == 0 else f"{row.ridge:.0e} × mean",
            _origin(record),
        ]
        out.add_row(*cells, *([row.verdict] if len(out.columns) > len(cells) else []))
    return out


def _origin(record: dict | None) -> str:
    if record is None:
        return "EasyEdit cache, taken on trust"
    versions = record.get("versions", {})
    parts = [
        f"{record.get('corpus')} {str(record.get('corpus_digest'))[:8]}",
        f"seed {record.get('seed')}",
        f"weights {str(record.get('fingerprint'))[:8]}",
        f"easyedit_rep {versions.get('easyedit_rep')}, torch {versions.get('torch')}, transformers {versions.get('transformers')}",
    ]
    return ", ".join(parts)


def _or_dash(value) -> str:
    return "–" if value is None else str(value)
