"""Journals of sequences to tables and pictures. Never touches a model."""

from collections.abc import Sequence
from pathlib import Path

import pandas

from ..errors import EditError
from ..evaluation.sequence import blocks, summary

Run = tuple[dict, list[dict]]
"""(provenance, records) of one run."""

NAMES = {
    "efficacy": "Eff.",
    "paraphrase": "Par.",
    "specificity": "Spe.",
    "average": "Avg.",
    "rephrase_id": "Reph. ID",
    "rephrase_ood": "Reph. OOD",
    "shuffle_id": "Shuf. ID",
    "shuffle_ood": "Shuf. OOD",
    "long_id": "Long ID",
    "long_ood": "Long OOD",
}


def label(provenance: dict) -> str:
    """ "D4S", "MEMIT+REP" …"""
    rep = provenance["hparams"]["rep"]
    return rep["base"] + ("+REP" if rep["pathways"] else "")


def labels(runs: Sequence[Run]) -> list[str]:
    """The methods; where two runs share one, their data files too."""
    names = [label(provenance) for provenance, _ in runs]
    files = [provenance.get("data", {}).get("file", "") for provenance, _ in runs]
    out = [f"{name}, {file}" if names.count(name) > 1 else name for name, file in zip(names, files, strict=True)]
    return [f"{name} ({i + 1})" if out.count(name) > 1 else name for i, name in enumerate(out)]


def begun(runs: Sequence[Run]) -> list[Run]:
    """Those that have reached a checkpoint."""
    return [run for run in runs if any("after" in record for record in run[1])]


def checkpoints(runs: Sequence[Run]) -> pandas.DataFrame:
    """One row for each run and checkpoint: method, edits, the means in percent, perplexity, growth of mean |w| (mean over layers), and
    the score of each `task/metric` that was run. A run that has reached no checkpoint yet has none.

    Raises:
        EditError: no run has reached one.
    """
    rows, runs = [], begun(runs)
    for name, (_, records) in zip(labels(runs), runs, strict=True):
        for record in records:
            if "after" in record:
                growth = [norm["weight"] / norm["original"] for norm in record["norms"].values()]
                rows.append(
                    {
                        "method": name,
                        "edits": record["after"],
                        **summary(record["rows"]),
                        "perplexity": record["perplexity"],
                        "growth": sum(growth) / len(growth),
                        **record.get("ability", {}),
                    }
                )
    if not rows:
        raise EditError("no checkpoint has been reached yet: let the run go on")
    return pandas.DataFrame(rows).sort_values("edits", kind="stable", ignore_index=True)


def blocks_of(runs: Sequence[Run], size: int = 100) -> pandas.DataFrame:
    """One row for each run and block of `size` edits, in editing order, measured at the run's last checkpoint."""
    rows = []
    runs = begun(runs)
    for name, (_, records) in zip(labels(runs), runs, strict=True):
        last = [record for record in records if "after" in record][-1]
        rows += [{"method": name, **block} for block in blocks(last["rows"], size)]
    return pandas.DataFrame(rows)


def cells(runs: Sequence[Run]) -> pandas.DataFrame:
    """`checkpoints`, printed."""
    rows = checkpoints(runs)
    out = _percentages(rows, {"edits": rows["edits"].astype(str)})
    out["perplexity"] = [_number(value, 1) for value in rows["perplexity"]]
    out["|W| growth"] = [_number(value, 3) for value in rows["growth"]]
    for name in rows.columns:
        if "/" in name:  # task/metric of lm-evaluation-harness
            out[name] = [_number(value, 3) for value in rows[name]]
    return out


def block_cells(runs: Sequence[Run], size: int = 100) -> pandas.DataFrame:
    """`blocks_of`, printed: reading down the blocks of a method, the earliest edits come first."""
    rows = blocks_of(runs, size)
    return _percentages(rows, {"block": [f"{a + 1} to {b}" for a, b in zip(rows["from"], rows["to"], strict=True)]})


def _percentages(rows: pandas.DataFrame, second: dict) -> pandas.DataFrame:
    """Method, the `second` column, and every mean of `NAMES` that was measured."""
    out = pandas.DataFrame({"method": rows["method"], **second})
    for name, head in NAMES.items():
        if name in rows and rows[name].notna().any():
            out[head] = [_number(value, 1) for value in rows[name]]
    return out


def _number(value, digits: int) -> str:
    return "–" if pandas.isna(value) else f"{value:.{digits}f}"


def draw(runs: Sequence[Run], path: Path, size: int = 100) -> None:
    """Four panels: over the number of edits the mean |w| of each layer, the efficacy of all edits so far and the perplexity of held-out
    text (D4S, Figures 4 to 6); and what is left at the end of each block of `size` edits (Figure 8)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, ((growth, perplexity), (efficacy, forgetting)) = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    runs = begun(runs)
    styles = [("#1f5a94", "-", "o"), ("#c1572b", "--", "s"), ("#555555", ":", "^"), ("#2f7d4f", "-.", "D"), ("#8a5aa8", (0, (5, 1)), "v")]
    for name, (provenance, records), (colour, line, mark) in zip(labels(runs), runs, styles * len(runs), strict=False):
        edits = [r for r in records if "edit" in r]
        for layer in edits[0]["norms"] if edits else ():
            values = [r["norms"][layer]["weight"] / r["norms"][layer]["original"] for r in edits]
            growth.plot(range(1, len(values) + 1), values, color=colour, linestyle=line, linewidth=1, alpha=0.8)
        mine = checkpoints([(provenance, records)])
        efficacy.plot(mine["edits"], mine["efficacy"], color=colour, linestyle=line, marker=mark, markersize=4, label=name)
        if mine["perplexity"].notna().any():
            perplexity.plot(mine["edits"], mine["perplexity"], color=colour, linestyle=line, marker=mark, markersize=4)
        ends = blocks_of([(provenance, records)], size)
        middles = (ends["from"] + ends["to"]) / 2
        forgetting.plot(middles, ends["efficacy"], color=colour, linestyle=line, marker=mark, markersize=4)
    growth.set_title("mean |w| of each edited layer / original")
    efficacy.set_title("efficacy of all edits so far (%)")
    efficacy.set_ylim(-2, 102)
    perplexity.set_title("perplexity of held-out text")
    perplexity.set_yscale("log")
    growth.set_yscale("log")
    forgetting.set_title(f"efficacy of each {size} edits, at the end (%)")
    forgetting.set_ylim(-2, 102)
    for axes in (growth, efficacy, perplexity, forgetting):
        axes.set_xlabel("edit, in editing order" if axes is forgetting else "edits made")
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*efficacy.get_legend_handles_labels(), frameon=False, ncols=len(runs), loc="outside lower center")
    figure.savefig(path, dpi=130)
    plt.close(figure)
