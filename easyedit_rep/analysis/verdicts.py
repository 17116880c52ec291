"""Which queries theory says will fail, against which do: the confusion table, and the figure, of the records of `bounds.py`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas

from .style import BASELINE, figure, histogram, shared_legend

ARMS = {"base": "base edit", "rep": "with REP"}


def verdicts(records: Sequence[dict]) -> pandas.DataFrame:
    """One row a question and arm: kind, domain, arm, dose, low, high (those theory goes by: the edit's for its subject's questions, the
    question's own for unrelated ones), own_low, own_high, held, and what theory says: `within`, and `own_within` by its own bounds."""
    rows = []
    for record in (r for r in records if "points" in r):
        for point in record["points"]:
            for arm in ARMS:
                seen = point[arm]
                low, high = (seen["low"], seen["high"]) if point["kind"] == "unrelated" else record["bounds"]
                rows.append(
                    {
                        "subject": record["subject"],
                        "kind": point["kind"],
                        "domain": point["domain"],
                        "arm": arm,
                        "dose": seen["dose"],
                        "low": low,
                        "high": high,
                        "own_low": seen["low"],
                        "own_high": seen["high"],
                        "held": seen["held"],
                        "within": low < seen["dose"] < high,
                        "own_within": seen["low"] < seen["dose"] < seen["high"],
                    }
                )
    return pandas.DataFrame(rows)


def table(records: Sequence[dict]) -> pandas.DataFrame:
    """The confusion table: by kind and arm, how many theory lets hold (`within` their bounds), how many did, and the four counts."""
    rows = []
    for (kind, arm), group in verdicts(records).groupby(["kind", "arm"], sort=False):
        within, held = group["within"], group["held"]
        rows.append(
            {
                "keys of": f"{kind}, {ARMS[arm]}",
                "n": str(len(group)),
                "within bounds (%)": f"{100 * within.mean():.1f}",
                "held (%)": f"{100 * held.mean():.1f}",
                "said to hold: held / failed": f"{(within & held).sum()} / {(within & ~held).sum()}",
                "said to fail: failed / held": f"{(~within & ~held).sum()} / {(~within & held).sum()}",
                "theory right (%)": f"{100 * (within == held).mean():.1f}",
                "right by own ε (%)": f"{100 * (group['own_within'] == held).mean():.1f}",
            }
        )
    return pandas.DataFrame(rows)


def ratios(found: pandas.DataFrame) -> pandas.Series:
    """Dose over bound: over β_min for a subject's question, over the bound on the dose's side for an unrelated one; infinite
    where that is no bound."""
    up = found["dose"] >= 0
    side = np.where(up, found["high"], found["low"])
    unrelated = found["kind"] == "unrelated"
    # A bound on the wrong side of nought leaves no room at all, or, for the subject, asks for nothing.
    bound = np.where(unrelated, side, found["low"])
    room = np.where(unrelated, np.where(up, bound > 0, bound < 0), bound > 0)
    return pandas.Series(np.where(room, found["dose"] / np.where(room, bound, 1.0), np.inf), found.index)


def draw(records: Sequence[dict], path: Path) -> None:
    """Histograms of dose over bound, held against failed: the subject's queries (left) and unrelated ones (right), without and with REP."""
    found = verdicts(records)
    found["ratio"] = ratios(found)
    sides = (
        (found[found["kind"].isin(["rephrase", "shuffle", "long"])], np.arange(-1, 6.01, 0.25), "dose β / bound β_min of the edit"),
        (found[found["kind"] == "unrelated"], np.arange(0, 2.01, 0.1), "dose β / own bound (β_max, or β_min where β < 0)"),
    )
    with figure(path, 2, 2, height=4.6, sharex="col") as (drawn, axes):
        for row, (arm, name) in enumerate(ARMS.items()):
            for column, (side, edges, label) in enumerate(sides):
                one, mine = axes[2 * row + column], side[side["arm"] == arm]
                groups = [mine[mine["held"]]["ratio"], mine[~mine["held"]]["ratio"]]
                histogram(one, groups, edges, ["held", "failed"], of=len(mine))
                one.axvline(1, label="bound", **BASELINE)
                one.set_title(f"{('subject', 'unrelated')[column]}, {name}: {100 * mine['held'].mean():.0f} % held")
                if row:
                    one.set_xlabel(label)
            axes[2 * row].set_ylabel("share of queries (%)")
        shared_legend(drawn, axes[0])
