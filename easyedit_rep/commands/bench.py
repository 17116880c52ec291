"""`easyedit-rep bench` makes records, `easyedit-rep table` makes tables of them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..errors import EditError
from .data import Columns, DataFormat, Strict, summarise


def bench(
    hparams: Annotated[list[Path], typer.Option(help="A YAML under hparams/REP/; repeat for several methods or models.")],
    data: Annotated[list[Path], typer.Option(help="A data file; repeat for several.")],
    seeds: Annotated[str, typer.Option(help="Comma-separated seeds of facts, contexts, queries and training.")] = "0,1,2",
    n: Annotated[int | None, typer.Option(min=1, help="Facts a seed draws; all if left out.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also edit facts the model does not know.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the records, one journal for each YAML, data file and seed.")] = Path(
        "results/bench"
    ),
    style: DataFormat = None,
    columns: Columns = None,
    strict: Strict = True,
    workers: Annotated[int, typer.Option(min=1, help="Model replicas that edit at once, each in a Ray worker.")] = 1,
    address: Annotated[str | None, typer.Option(help="Ray cluster of the workers, `auto` for the one here; else they run here.")] = None,
    gpus: Annotated[
        float | None, typer.Option(min=0, help="GPUs of each worker, or a part of one; 1 if left out, 0 for `device: cpu`.")
    ] = None,
) -> None:
    """Edit facts with each method, plain and with REP, and write a record of what each edit survived.

    Kill it at any moment: the same command goes on where it was, with as many workers as you like.
    """
    from ..bench.runs import execute_all, grid
    from ..datasets.records import Reading
    from ..hparams import load_hparams

    reading = Reading(style, columns, strict)
    for path in data:
        summarise(reading.load(path), Console(stderr=True))
    runs = grid(hparams, data, parse_numbers("--seeds", seeds), n, not every, reading)
    if workers == 1 and address is None:
        paths = list(execute_all(runs, out))
    else:
        from ..bench.workers import RayWorkers

        if gpus is None:
            gpus = float(any(str(load_hparams(str(path)).device) != "cpu" for path in hparams))
        with RayWorkers(workers, address, gpus) as crew:
            paths = list(execute_all(runs, out, crew))
    _show(paths, "terminal")


def table(
    folder: Annotated[Path, typer.Argument(help="Where `bench` wrote its journals.")] = Path("results/bench"),
    style: Annotated[str, typer.Option("--format", help="terminal, markdown, latex or csv.")] = "terminal",
    per_seed: Annotated[bool, typer.Option(help="One row for each seed, unrounded, as CSV.")] = False,
) -> None:
    """The papers' tables from records: mean and standard deviation over seeds, and what REP adds."""
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise EditError(f"no records in {folder}: run `easyedit-rep bench --out {folder}` first")
    if per_seed:
        from ..bench.tables import per_seed as rows

        print(rows(paths).to_csv(index=False), end="")
        return
    _show(paths, style)


def parse_numbers(option: str, text: str) -> list[int]:
    """[0, 1, 2] from "0,1,2"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise EditError(f"{option} {text!r} is not a comma-separated list of whole numbers") from None


def _show(paths: list[Path], style: str) -> None:
    from ..bench.tables import cells, over_seeds, per_seed, render

    shown = render(cells(over_seeds(per_seed(paths))), style)
    if isinstance(shown, str):
        print(shown)  # not through rich, which would wrap it
    else:
        Console().print(shown)
