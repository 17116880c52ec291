"""Records as a table, a picture and a story. Reads records; only the story asks a model."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ..editor import RobustEditor
from ..evaluation.generation import greedy
from ..evaluation.metrics import HEADINGS, printed
from ..memory.tokens import continuation
from ..request import EditRequest


def table(rows: Sequence[dict], title: str) -> Table:
    """The paper's Table 1 for these rows, with the difference between the last and the first."""
    note = "percent of queries, exact match of all target tokens;\nID: in-domain, trained on; OOD: out-of-domain, never seen"
    out = Table(title=title, caption=note, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    out.add_column("", no_wrap=True)
    names = printed(rows)
    for name in names:
        out.add_column(HEADINGS[name], justify="right", no_wrap=True)
    out.add_column("s/edit", justify="right", no_wrap=True)
    for row in rows:
        out.add_row(row["method"], *(_cell(row[name]) for name in names), f"{row['seconds_per_edit']:.2f}")
    if len(rows) == 2:
        first, last = rows
        gains = [None if first[n] is None or last[n] is None else last[n] - first[n] for n in names]
        out.add_row(
            "gain",
            *("–" if g is None else f"{g:+.1f}" for g in gains),
            f"{last['seconds_per_edit'] - first['seconds_per_edit']:+.2f}",
        )
    return out


def print_whole(console: Console, table: Table) -> None:
    """Print `table` as wide as it is: in a narrower console its lines break, where rich would cut the numbers to "10…"."""
    before = console.width
    console.width = max(before, Measurement.get(console, console.options.update(max_width=1000), table).maximum)
    try:
        console.print(table)
    finally:
        console.width = before


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def draw(rows: Sequence[dict], path: Path, title: str) -> None:
    """Bars of every column, one group a column, one bar a method; readable in grey."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = [n for n in printed(rows) if n != "fluency" and any(r[n] is not None for r in rows)]
    figure, axes = plt.subplots(figsize=(10, 4.2), layout="constrained")
    width = 0.8 / len(rows)
    styles = [("#b8b8b8", "//"), ("#1f5a94", None), ("#222222", None)]
    for i, row in enumerate(rows):
        colour, hatch = styles[i % len(styles)]
        at = [x + (i - (len(rows) - 1) / 2) * width for x in range(len(names))]
        bars = axes.bar(at, [row[n] or 0 for n in names], width * 0.94, label=row["method"], color=colour, hatch=hatch, edgecolor="white")
        axes.bar_label(bars, fmt="%.0f", fontsize=8, padding=1)
    words = {"id": "ID", "ood": "OOD"}
    axes.set_xticks(range(len(names)), ["\n".join(words.get(w, w.capitalize()) for w in n.split("_")) for n in names])
    axes.set_ylabel("queries answered as wanted (%)")
    axes.set_ylim(0, 108)
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(rows), loc="upper center", bbox_to_anchor=(0.5, -0.16))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def tell(editor: RobustEditor, request: EditRequest) -> Table:
    """One edit as a reader sees it: what the model says to each query before, after the base edit, and with the pathway."""
    queries = editor.queries(request)
    prompt = request.located
    asked = [("the prompt", prompt)]
    for kind, domains in queries.prompts(prompt).items():
        for domain, short in (("in_domain", "ID"), ("out_of_domain", "OOD")):
            asked += [(f"{kind} {short}", p) for p in domains[domain][:2]]
    texts = [p.text for _, p in asked]
    base = editor.base_edit(request)
    answers = [_answers(editor, texts, request.target_new)]
    for edit in (base, editor.robustify(base, queries)):
        with editor.installed(edit):
            answers.append(_answers(editor, texts, request.target_new))
    truth = f"{request.ground_truth} → " if request.ground_truth else ""
    # What facts and models say is text, whatever rich would read in its brackets.
    out = Table(title=Text(f"one edit, told: {request.text} … {truth}{request.target_new}"), box=box.SIMPLE)
    for heading in ("query", "text", "before", editor.hparams.rep.base, f"{editor.hparams.rep.base}+REP"):
        out.add_column(heading)
    for (label, _), text, *said in zip(asked, texts, *answers, strict=True):
        shown = text if len(text) <= 90 else f"[…{len(text.split()) - 12} words…] " + " ".join(text.split()[-12:])
        styles = ["", *("bold" if s == request.target_new.strip() else "" for s in said[1:])]
        out.add_row(label, Text(shown), *map(Text, said, styles))
    return out


def _answers(editor: RobustEditor, texts: Sequence[str], target: str) -> list[str]:
    """Greedy continuations, as many tokens as the target has; nothing is teacher-forced."""
    lengths = [len(continuation(editor.tok, text, target)[1]) for text in texts]
    said = greedy(editor.anatomy, editor.tok, texts, lengths)
    return [answer.strip() for answer in editor.tok.batch_decode(said, skip_special_tokens=True)]
