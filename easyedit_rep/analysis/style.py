"""One look for every figure: sizes, and lines, marks and fills that are told apart in grey."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 130
LINES = (
    {"color": "#1f5a94", "linestyle": "-", "marker": "o"},
    {"color": "#c1572b", "linestyle": "--", "marker": "s"},
    {"color": "#333333", "linestyle": ":", "marker": "^"},
    {"color": "#2f7d4f", "linestyle": "-.", "marker": "D"},
    {"color": "#8a5aa8", "linestyle": (0, (5, 1)), "marker": "v"},
    {"color": "#8c6d1f", "linestyle": (0, (1, 1)), "marker": "P"},
)
"""One a series, in this order; no two share a line style or a mark."""

FILLS = (
    {"facecolor": "#d0d0d0", "edgecolor": "#777777", "hatch": "////"},
    {"facecolor": "#1f5a94", "edgecolor": "#0d2f50"},
    {"facecolor": "#ffffff", "edgecolor": "#222222", "hatch": "...."},
)
"""One a state: unedited or base first, then with REP; light and hatched against dark and plain."""

BASELINE = {"color": "#222222", "linestyle": "--", "linewidth": 1.2}
"""Of vertical lines that say where chance, or a bound, is."""


@contextmanager
def figure(
    path: Path, rows: int = 1, columns: int = 1, *, width: float = 7.2, height: float = 3.4, **options
) -> "Iterator[tuple[Figure, list[Axes]]]":
    """A figure and its axes, row after row; drawn inside, written whole to `path` (PNG) at the end.

    Args:
        width, height: inches of all of it; a report shows 7.2 at its full width.
        options: of `matplotlib.figure.Figure.subplots`.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "hatch.linewidth": 0.6, "legend.frameon": False, "axes.titlesize": 9.5}):
        drawn = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawn)  # not pyplot: nothing global is left behind
        axes = drawn.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
        for one in axes:
            one.spines[["top", "right"]].set_visible(False)
        yield drawn, axes
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as scratch:
            drawn.savefig(scratch, dpi=DPI, format="png")


def histogram(
    axes: "Axes", groups: Sequence[Sequence[float]], edges: Sequence[float], labels: Sequence[str], of: int | None = None
) -> None:
    """Bars side by side, each group in percent of itself, or of `of`; values beyond the edges are counted in the outermost bins."""
    import numpy as np

    edges = np.asarray(edges)
    width = np.diff(edges) / len(groups)
    for i, (values, label) in enumerate(zip(groups, labels, strict=True)):
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        share = 100 * counts / max(1, of or len(values))
        axes.bar(edges[:-1] + i * width, share, width, align="edge", label=label, linewidth=0.6, **FILLS[i])


def shared_legend(drawn: "Figure", axes: "Axes") -> None:
    """The legend of `axes` for the whole figure, below it."""
    handles, labels = axes.get_legend_handles_labels()
    drawn.legend(handles, labels, ncols=min(4, len(labels)), loc="outside lower center")
