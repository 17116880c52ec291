"""The edited target's probability, and the L1 norm of the edited layers, over a sequence (D4S, Figures 5 and 6).

Read from the journals of `sequence run`; no model is touched.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas

from ..bench.sequences import Run, label, labels
from ..errors import EditError
from .style import LINES, figure, shared_legend
from .targets import growth


def points(runs: Sequence[Run]) -> pandas.DataFrame:
    """One row an edit and run: run (its method), edit, growth of mean |w| (%), `wanted` (the target's probability a token under v*, which
    the optimiser reached) and `said` (what the edited model gives it right after the edit).

    Raises:
        EditError: a journal without edits, or from before `said` was noted.
    """
    rows = []
    for name, (provenance, records) in zip(labels(runs), runs, strict=True):
        edits = [record for record in records if "edit" in record]
        if not edits or "probability" not in edits[0]:
            why = "holds no edit yet: let it go on" if not edits else "is of an older version, which noted no probabilities: run it again"
            raise EditError(f"the run of {provenance['data']['file']} with {label(provenance)} {why}")
        for record in edits:
            wanted = [number["probability"] for numbers in record["info"].values() for number in numbers if "probability" in number]
            rows.append(
                {
                    "run": name,
                    "edit": record["edit"],
                    "growth": growth(record),
                    "wanted": _mean(wanted),
                    "said": _mean(record["probability"]),
                }
            )
    return pandas.DataFrame(rows)


def table(found: pandas.DataFrame, blocks: int = 4) -> pandas.DataFrame:
    """Means over each of `blocks` equal parts of a run, in editing order."""
    rows = []
    for run, mine in found.groupby("run", sort=False):
        size = max(1, -(-len(mine) // blocks))
        for at in range(0, len(mine), size):
            part = mine.iloc[at : at + size]
            rows.append(
                {
                    "run": run,
                    "edits": f"{part['edit'].iloc[0]} to {part['edit'].iloc[-1]}",
                    "p(target), v*": f"{part['wanted'].mean():.3f}",
                    "p(target), edited model": f"{part['said'].mean():.3f}",
                    "mean |w|, growth % at the end": f"{part['growth'].iloc[-1]:.2f}",
                }
            )
    return pandas.DataFrame(rows)


def draw(found: pandas.DataFrame, path: Path) -> None:
    """Three panels over the edits: probability under v*, in the edited model (both running means), growth of the edited layers."""
    width = max(1, int(found.groupby("run")["edit"].max().max()) // 20)
    with figure(path, columns=3, width=9.6, height=3.4) as (drawn, (wanted, said, norms)):
        for (run, mine), line in zip(found.groupby("run", sort=False), LINES * len(found), strict=False):
            mark = {**line, "markevery": max(1, len(mine) // 6), "markersize": 4, "linewidth": 1.4}
            for axes, name in ((wanted, "wanted"), (said, "said")):
                axes.plot(mine["edit"], mine[name].rolling(width, min_periods=1).mean(), label=run, **mark)
            norms.plot(mine["edit"], mine["growth"], **mark)
        for axes, name in ((wanted, "target under v*"), (said, "target in the model after its edit")):
            axes.set_ylim(-0.02, 1.02)
            axes.set_title(name)
            axes.set_ylabel("probability a token" + (f", mean of {width} edits" if width > 1 else ""))
        norms.set_title("L1 norm of the edited layers")
        norms.set_ylabel("growth of mean |w| (%)")
        for axes in (wanted, said, norms):
            axes.set_xlabel("edits made")
        shared_legend(drawn, wanted)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
