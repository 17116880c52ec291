"""`easyedit-rep analyze targets` and `norms`: what sequences of edits do to a model (D4S)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import EditError

if TYPE_CHECKING:
    import pandas


def targets(
    hparams: Annotated[Path, typer.Option(help="A YAML under hparams/REP/ or hparams/D4S/; its base method edits, without pathways.")],
    mqd: Annotated[Path, typer.Option(help="Where `mqd build` wrote.")],
    held_out: Annotated[Path, typer.Option(help="Ordinary text, a paragraph a line, whose perplexity says what edits cost.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Edits of each type, of the same facts.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the facts, their order, and contexts.")] = 0,
    every: Annotated[int, typer.Option(min=1, help="Edits between two measurements of the text.")] = 10,
    paragraphs: Annotated[int, typer.Option(min=1, help="Of the text, those of 20 words or more.")] = 100,
    out: Annotated[Path, typer.Option(help="Folder of targets.jsonl and targets.png.")] = Path("results/analysis"),
) -> None:
    """Edit MQD's three types, each into the unedited model, and see which targets damage it (D4S, Figure 3). Killed, it goes on."""
    from dataclasses import replace

    from ..analysis.targets import draw, record_targets, table
    from ..bench.journal import read_journal
    from ..bench.runs import Editors, Run, choose, provenance
    from ..datasets.corpus import load_corpus
    from ..datasets.mqd import TYPES, path_of

    corpus = load_corpus(held_out)
    texts = corpus.paragraphs(paragraphs)
    runs = {kind: Run(hparams, path_of(mqd, kind), seed, n, known=False) for kind in TYPES}
    for run in runs.values():
        run.reading.load(run.data)  # a wrong folder is not found after a model has been loaded
    editor = Editors()(runs["DG"])
    editor.hparams.rep = replace(editor.hparams.rep, pathways=False)
    sets = {kind: choose(run, editor) for kind, run in runs.items()}
    digests = {kind: provenance(run, editor)["data"] for kind, run in runs.items()}
    about = {**provenance(runs["DG"], editor), "data": digests, "held_out": {**corpus.about, "paragraphs": len(texts)}}
    path = record_targets(editor, sets, out / "targets.jsonl", texts, every, {**about, "every": every})
    records = read_journal(path)[1]
    _show(table(records), path)
    draw(records, path.with_suffix(".png"))


def norms(
    folders: Annotated[list[Path], typer.Argument(help="Folders of `sequence run`.")],
    out: Annotated[Path, typer.Option(help="Folder of norms.csv and norms.png.")] = Path("results/analysis"),
) -> None:
    """How the edited target's probability and the edited layers' L1 norm go over sequences (D4S, Figures 5 and 6)."""
    from ..analysis.norms import draw, points, table
    from ..bench.journal import read_journal

    runs = []
    for folder in folders:
        path = folder / "sequence.jsonl"
        if not path.exists():
            raise EditError(f"{folder} holds no run: make one with `easyedit-rep sequence run --out {folder}`")
        runs.append(read_journal(path))
    found = points(runs)
    out.mkdir(parents=True, exist_ok=True)
    found.to_csv(out / "norms.csv", index=False)
    draw(found, out / "norms.png")
    _show(table(found), out / "norms.csv")


def _show(rows: "pandas.DataFrame", path: Path) -> None:
    from rich import box
    from rich.table import Table

    from ..bench.show import print_whole

    shown = Table(*rows.columns, box=box.SIMPLE_HEAD)
    for row in rows.itertuples(index=False):
        shown.add_row(*row)
    print_whole(Console(), shown)
    Console(stderr=True).print(f"records: {path}   picture: {path.with_suffix('.png')}")
