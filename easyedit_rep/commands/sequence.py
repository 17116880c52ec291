"""`easyedit-rep sequence run` edits a long sequence; `sequence show` compares such runs, in numbers and pictures."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..errors import EditError
from .bench import Every
from .data import Columns, DataFormat, Strict

HELD_OUT = 200
"""Paragraphs whose perplexity is taken at a checkpoint."""

app = typer.Typer(no_args_is_help=True, help=__doc__)


@app.command()
def run(
    hparams: Annotated[Path, typer.Option(help="A YAML under hparams/D4S/ or hparams/REP/.")],
    data: Annotated[Path, typer.Option(help="A data file; its facts are edited in the order the seed draws.")],
    n: Annotated[int | None, typer.Option(min=1, help="Edits; all facts if left out.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order of facts, contexts, queries and training.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Facts written at once.")] = 1,
    checkpoints: Annotated[str, typer.Option(help="Evaluate all edits so far after these many.")] = "20,50,100,200,300,500,1000",
    plain: Annotated[bool, typer.Option(help="Without pathways, whatever the YAML says.")] = False,
    robustness: Annotated[bool, typer.Option(help="Also ask rephrased, shuffled and long-context queries.")] = False,
    held_out: Annotated[
        Path | None,
        typer.Option(help="Text, a paragraph a line, whose perplexity is taken at checkpoints: 200 of 20 words or more."),
    ] = None,
    tasks: Annotated[str | None, typer.Option(help="Tasks of lm-evaluation-harness to run at checkpoints, comma-separated.")] = None,
    tasks_folder: Annotated[Path | None, typer.Option(help="Folder with YAMLs of own tasks.")] = None,
    tasks_limit: Annotated[int | None, typer.Option(min=1, help="Documents of each task.")] = None,
    save_every: Annotated[int, typer.Option(min=1, help="Edits between two saves (D4S).")] = 10,
    every: Every = False,
    out: Annotated[Path, typer.Option(help="Folder of this run.")] = Path("results/sequence"),
    style: DataFormat = None,
    columns: Columns = None,
    strict: Strict = True,
) -> None:
    """Edit facts one after another, all staying. A D4S run that is killed goes on where it last saved, with the same command."""
    from dataclasses import replace

    from ..bench.runs import Editors, Run, choose, provenance
    from ..datasets.corpus import load_corpus
    from ..datasets.records import Reading
    from ..evaluation.ability import AbilityTasks
    from ..sequence.run import Watch, edit_sequence
    from .bench import parse_numbers

    for option, value in (("--tasks-folder", tasks_folder), ("--tasks-limit", tasks_limit)):
        if value is not None and not tasks:
            raise EditError(f"{option} {value} is for --tasks, which are not given: name some")
    wanted = Run(hparams, data, seed, n, not every, Reading(style, columns, strict))
    wanted.reading.load(data)  # a wrong name is not found after a model has been loaded
    editor = Editors()(wanted)
    if plain:
        editor.hparams.rep = replace(editor.hparams.rep, pathways=False)
    requests = [request for _, request in choose(wanted, editor, Console(stderr=True, soft_wrap=True).print)]
    corpus = load_corpus(str(held_out)) if held_out else None
    texts = corpus.paragraphs(HELD_OUT) if corpus else []
    ability = AbilityTasks(tasks.split(","), tasks_folder, tasks_limit) if tasks else None
    watch = Watch(parse_numbers("--checkpoints", checkpoints), robustness, texts, save_every, ability)
    watched = {"robustness": robustness, "checkpoints": watch.checkpoints, "tasks": ability}
    about = {**provenance(wanted, editor), "held_out": corpus and {**corpus.about, "paragraphs": len(texts)}, "watch": watched}
    edit_sequence(editor, requests, out, watch, about, batch)
    show([out], out)


@app.command()
def show(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs to compare.")],
    out: Annotated[Path, typer.Option(help="Where sequence.png goes.")] = Path("results/sequence"),
    style: Annotated[str, typer.Option("--format", help="terminal, markdown, latex or csv.")] = "terminal",
    block: Annotated[int, typer.Option(min=1, help="Edits in a block, for how much of the earliest is forgotten.")] = 100,
) -> None:
    """What is left of each sequence at its checkpoints and, at its end, of each block of edits; and how the weights grew."""
    from ..bench.journal import read_journal
    from ..bench.sequences import begun, block_cells, cells, draw
    from .bench import print_cells

    runs = []
    for folder in folders:
        path = folder / "sequence.jsonl"
        if not path.exists():
            raise EditError(f"{folder} holds no run: make one with `easyedit-rep sequence run --out {folder}`")
        runs.append(read_journal(path))
        if not begun(runs[-1:]):
            Console(stderr=True).print(f"{folder} has reached no checkpoint yet and is left out", soft_wrap=True)
    for table in (cells(runs), block_cells(runs, block)):
        print_cells(table, style)
    out.mkdir(parents=True, exist_ok=True)
    draw(runs, out / "sequence.png", block)
    Console(stderr=True).print(f"picture: {out / 'sequence.png'}")
