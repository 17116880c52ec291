"""What other values of τ and α do (REP, Figures 5 and 6): which settings a sweep measures, and its picture."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import EditError
from ..evaluation.metrics import TABLE
from ..rep_options import RepOptions
from .compare import Setting
from .journal import read_journal

PANELS = (
    (
        "robustness",
        {
            "rephrase_id": ("Rephrase, ID", "#1f5a94", "-", "o"),
            "rephrase_ood": ("Rephrase, OOD", "#1f5a94", "--", "o"),
            "shuffle_id": ("Shuffle, ID", "#d07a2d", "-", "s"),
            "shuffle_ood": ("Shuffle, OOD", "#d07a2d", "--", "s"),
            "long_id": ("Long, ID", "#6b6b6b", "-", "^"),
            "long_ood": ("Long, OOD", "#6b6b6b", "--", "^"),
        },
    ),
    (
        "what it must not cost",
        {
            "success": ("Success", "#111111", "-", "D"),
            "locality": ("Locality", "#2f7d4f", "-", "v"),
            "paraphrase": ("Paraphrase", "#8a5aa8", "--", "x"),
        },
    ),
)
"""Lines of each panel: metric -> label, colour, dashes, mark. Marks and dashes tell them apart in grey."""

AXES = {"threshold": "threshold τ of the gate at test", "alpha": "weight α of the consistency loss"}


def settings(rep: RepOptions, thresholds: Sequence[float], alphas: Sequence[float]) -> tuple[Setting, ...]:
    """Each τ at the hyper-parameters' α, then each α at their τ; what falls together counts once.

    Raises:
        EditError: nothing to vary, or a value that cannot be.
    """
    if rep.pathway.kind != "paper":
        raise EditError(f"rep.pathway.kind: a {rep.pathway.kind} pathway has neither τ nor α: set paper, or vary rep.closed by hand")
    if not thresholds and not alphas:
        raise EditError("nothing to vary: give --thresholds 0.5,0.7,0.9 or --alphas 1e3,1e4,1e5, or both")
    for name, values, top in (("--thresholds", thresholds, 1.0), ("--alphas", alphas, float("inf"))):
        wrong = [value for value in values if not 0 <= value <= top]
        if wrong:
            raise EditError(f"{name}: {wrong[0]:g} is not between 0 and 1" if top == 1.0 else f"{name}: {wrong[0]:g} is not positive")
    alpha, threshold = float(rep.training.consistency_weight), rep.pathway.threshold
    return tuple(dict.fromkeys([*(Setting(alpha, t) for t in thresholds), *(Setting(a, threshold) for a in alphas)]))


def points(records: Sequence[dict], rep: dict, axis: str) -> list[tuple[float, dict[str, float | None]]]:
    """(value, {metric: percent}) along `axis`, "threshold" or "alpha", the other being the hyper-parameters' own; in rising order.

    Args:
        rep: the `rep` block of the journal's provenance.
    """
    other, fixed = ("alpha", rep["training"]["consistency_weight"]) if axis == "threshold" else ("threshold", rep["pathway"]["threshold"])
    mine = [r for r in records if axis in r and r[other] == fixed]
    return [(value, _means([r for r in mine if r[axis] == value])) for value in sorted({r[axis] for r in mine})]


def _means(records: Sequence[dict]) -> dict[str, float | None]:
    posts = [record["post"] for record in records]
    return {metric.name: metric.micro(posts) for metric in TABLE}


def draw(paths: Sequence[Path], path: Path) -> None:
    """A row of panels for each of τ and α that was varied, over all facts of the journals; the plain method's level at the right edge.

    Raises:
        EditError: every fact was refused.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    journals = [read_journal(p) for p in paths]
    rep = journals[0][0]["hparams"]["rep"]
    records = [r for _, rows in journals for r in rows if "error" not in r]
    if not records:
        raise EditError(f"every fact was refused, so there is nothing to draw: the records of {paths[0]} say why")
    base = _means([r for r in records if r["method"] == rep["base"]])
    found = {axis: points(records, rep, axis) for axis in AXES}
    rows = {axis: line for axis, line in found.items() if len(line) > 1} or {axis: line for axis, line in found.items() if line}
    figure, grid = plt.subplots(len(rows), 2, figsize=(10, 3.7 * len(rows)), layout="constrained", squeeze=False, sharey="col")
    for axes, (axis, line) in zip(grid, rows.items(), strict=True):
        for panel, (title, metrics) in zip(axes, PANELS, strict=True):
            _lines(panel, line, metrics, base)
            if axis == "alpha" and line[-1][0] > 0:  # α goes over orders of magnitude; 0 stands left of the smallest
                panel.set_xscale("symlog", linthresh=min(x for x, _ in line if x > 0))
            panel.set_xlabel(AXES[axis])
            panel.set_title(title)
            panel.set_ylabel("queries answered as wanted (%)")
            panel.spines[["top", "right"]].set_visible(False)
    for panel in grid[-1]:
        panel.legend(frameon=False, ncols=3, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    about = journals[0][0]
    facts = len({(i, r["index"]) for i, (_, rows) in enumerate(journals) for r in rows if "error" not in r})
    model = Path(str(about["hparams"]["model_name"])).name
    figure.suptitle(f"{rep['base']}+REP, {model}, {about['data']['file']}, {facts} edits; at the right edge {rep['base']} alone")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _lines(panel, line, metrics: dict[str, tuple], base: dict[str, float | None]) -> None:
    for name, (label, colour, dashes, mark) in metrics.items():
        if line[0][1][name] is None:
            continue
        style = {"color": colour, "marker": mark, "markersize": 5, "fillstyle": "none" if dashes == "--" and mark != "x" else "full"}
        panel.plot([x for x, _ in line], [means[name] for _, means in line], linestyle=dashes, label=label, **style)
        panel.plot(1.03, base[name], transform=panel.get_yaxis_transform(), clip_on=False, **style)
