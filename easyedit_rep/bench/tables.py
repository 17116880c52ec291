"""Journals to the papers' tables: mean and standard deviation over seeds, and what REP adds. Never touches a model."""

from collections.abc import Sequence
from pathlib import Path

import pandas
from rich import box
from rich.table import Table

from ..errors import EditError
from ..evaluation.metrics import HEADINGS, printed
from .compare import summarise
from .journal import read_journal

FORMATS = ("terminal", "markdown", "latex", "csv")


def per_seed(paths: Sequence[Path]) -> pandas.DataFrame:
    """One row for each journal and method: run (YAML and data), model, data, base, method, seed, n, refused, and the metrics in percent,
    micro-averaged over queries.

    Raises:
        EditError: there are none, one is no benchmark's, or two of one run differ in more than their seed.
    """
    rows, made = [], {}
    for path in paths:
        provenance, records = read_journal(path)
        if "analysis" in provenance or "watch" in provenance:
            raise EditError(f"{path} is no benchmark's: `sequence show` and `report` read sequences and analyses")
        hparams = provenance["hparams"]
        about = {
            "run": path.stem.rsplit("-seed", 1)[0],
            "model": Path(str(hparams["model_name"])).name,
            "data": provenance["data"]["file"],
            "base": hparams["rep"]["base"],
            "seed": provenance["seed"],
        }
        mine = _but_seed(provenance)
        _check_alike(path, mine, *made.setdefault(about["run"], (path, mine)))
        rows += [{"refused": 0, **about, **row} for row in summarise(records, reversion=True)]
    if not rows:
        raise EditError("no records yet: run `easyedit-rep bench` first")
    return pandas.DataFrame(rows)


PLACES = ("model_name", "device", "stats_dir")
"""Hyper-parameters that say where things are, and not what: seeds may be of several machines."""

REP_PLACES = ("seed", "corpus", "value_cache", "statistics_device", "max_memory")
"""The same, and the seed, in the `rep` block; the texts' digests are recorded beside."""


def _but_seed(provenance: dict) -> dict[str, object]:
    """{dotted key: value} of what the seeds of one run have in common."""
    hparams = {k: v for k, v in provenance["hparams"].items() if k not in (*PLACES, "rep")}
    rep = {k: v for k, v in provenance["hparams"]["rep"].items() if k not in REP_PLACES}
    queries = {k: v for k, v in rep.pop("queries", {}).items() if k != "rephrase_file"}
    model, data = (provenance.get(name, {}) for name in ("model", "data"))
    groups = {"hparams": hparams, "rep": rep, "rep.queries": queries, "texts": provenance.get("texts", {})}
    found = {f"{group}.{key}": value for group, values in groups.items() for key, value in values.items()}
    found |= {"model": model.get("fingerprint"), "data": data.get("sha256", data.get("fingerprint", data.get("file")))}
    return {**found, **{key: provenance[key] for key in ("n", "known") if key in provenance}}


def _check_alike(path: Path, mine: dict, first: Path, theirs: dict) -> None:
    """Raise `EditError` for the first key on which they differ; of one that either lacks, as older files do, nothing is known."""
    for key in sorted(mine.keys() & theirs.keys()):
        if mine[key] != theirs[key]:
            raise EditError(
                f"{path} was made with {key} {mine[key]}, {first} with {theirs[key]}, so they are no seeds of one run: move one away"
            )


def over_seeds(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Mean and sample standard deviation over seeds of `per_seed`'s rows, indexed by (run, model, data, base, method).

    Columns are pairs (name, "mean" | "std"); (n, "min" | "max") is the number of facts, (refused, "sum") that of those that could not be
    edited, (seed, "count") the number of seeds.
    """
    wanted = {
        "n": ["min", "max"],
        "refused": ["sum"],
        "seed": ["count"],
        **{name: ["mean", "std"] for name in (*_metrics(rows), "seconds_per_edit")},
    }
    return rows.groupby(["run", "model", "data", "base", "method"], sort=False).agg(wanted)


def _metrics(rows: pandas.DataFrame) -> list[str]:
    return printed(rows.astype(object).where(rows.notna(), None).to_dict("records"))


def cells(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The printed table of `over_seeds`: "mean ± std" (or the mean alone for one seed), and after each pair what REP adds."""
    several = (rows[("seed", "count")] > 1).any()
    names = [name for name, kind in rows.columns if kind == "mean"]
    out = []
    plain = rows.index.droplevel("run")
    for (run, model, data, base), pair in rows.groupby(level=["run", "model", "data", "base"], sort=False):
        about = {"model": model, "data": data}
        for (*_, method), row in pair.iterrows():
            line = {
                **about,
                # Two YAMLs of one method are told apart by their runs' names.
                "method": method if list(plain).count((model, data, base, method)) == 1 else f"{method} ({run})",
                "facts": _facts(row, several),
            }
            out.append({**line, **{name: _cell(row[name, "mean"], row[name, "std"] if several else None) for name in names}})
        if len(pair) == 2:
            first, last = (row for _, row in pair.iterrows())
            gains = {name: _cell(last[name, "mean"] - first[name, "mean"], None, "+") for name in names}
            out.append({**about, "method": f"gain over {base}", "facts": "", **gains})
    heads = {name: HEADINGS[name].replace("\n", " ") for name in names if name in HEADINGS}
    return pandas.DataFrame(out).rename(columns={**heads, "seconds_per_edit": "s/edit"})


def _facts(row: pandas.Series, several: bool) -> str:
    """ "50 × 3", "48–50 × 3, 2 refused"."""
    least, most, refused = (int(row[key]) for key in (("n", "min"), ("n", "max"), ("refused", "sum")))
    facts = f"{most}" if least == most else f"{least}–{most}"
    return facts + (f" × {row['seed', 'count']:.0f}" if several else "") + (f", {refused} refused" if refused else "")


def _cell(mean: float, spread: float | None, sign: str = "") -> str:
    if pandas.isna(mean):
        return "–"
    return f"{mean:{sign}.1f}" if spread is None or pandas.isna(spread) else f"{mean:.1f} ± {spread:.1f}"


def render(table: pandas.DataFrame, style: str) -> str | Table:
    """`cells` as Markdown, LaTeX or CSV text, or as a table for the terminal."""
    if style == "markdown":
        # As they are: tabulate would read numbers in them, and print 70.0 as 70.
        return table.to_markdown(index=False, colalign=("left", "left", "left", *["right"] * (table.shape[1] - 3)), disable_numparse=True)
    if style == "latex":
        return table.to_latex(index=False, escape=True).replace("±", r"$\pm$")
    if style == "csv":
        return table.to_csv(index=False)
    if style != "terminal":
        raise EditError(f"format {style!r} is not one of {', '.join(FORMATS)}")
    return _terminal(table)


def _terminal(table: pandas.DataFrame) -> Table:
    """In 80 columns or little more: what is the same in all rows stands in the title, deviations under their means."""
    about = {name: table[name].replace("", None).dropna() for name in ("model", "data", "facts") if name in table}
    constant = [name for name, values in about.items() if values.nunique() == 1]
    title = [about[name].iloc[0] + (" facts" if name == "facts" else "") for name in constant]
    shown = table.drop(columns=[*constant, *({"Rev."} & set(table.columns))])  # the other formats have it
    out = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, title=", ".join(title) or None)
    for name in shown.columns:
        left = name in ("model", "data", "method")
        out.add_column(name if left else name.replace(" ", "\n"), justify="left" if left else "right", no_wrap=not left)
    for row in shown.itertuples(index=False):
        last = row.method.startswith("gain")
        row = row._replace(method="gain") if last else row
        out.add_row(*(cell.replace(" ± ", "\n±") for cell in row), end_section=last)
    return out
