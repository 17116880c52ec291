"""`easyedit-rep bench` and `sweep` make records, `easyedit-rep table` makes tables of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import EditError
from .data import Columns, DataFormat, Strict, summarise

if TYPE_CHECKING:
    import pandas

    from ..bench.runs import Run

Seeds = Annotated[str, typer.Option(help="Comma-separated seeds of facts, contexts, queries and training.")]
Workers = Annotated[int, typer.Option(min=1, help="Model replicas that edit at once, each in a Ray worker.")]
Address = Annotated[str | None, typer.Option(help="Ray cluster of the workers, `auto` for the one here; else they run here.")]
Gpus = Annotated[float | None, typer.Option(min=0, help="GPUs of each worker, or a part of one; 1 if left out, 0 for `device: cpu`.")]
Every = Annotated[bool, typer.Option("--all", help="Also edit facts the model does not know.")]
Draw = Annotated[int | None, typer.Option(min=1, help="Facts a seed draws; all if left out.")]


def bench(
    hparams: Annotated[list[Path], typer.Option(help="A YAML under hparams/REP/; repeat for several methods or models.")],
    data: Annotated[list[Path], typer.Option(help="A data file; repeat for several.")],
    seeds: Seeds = "0,1,2",
    n: Draw = None,
    every: Every = False,
    out: Annotated[Path, typer.Option(help="Folder of the records, one journal for each YAML, data file and seed.")] = Path(
        "results/bench"
    ),
    style: DataFormat = None,
    columns: Columns = None,
    strict: Strict = True,
    workers: Workers = 1,
    address: Address = None,
    gpus: Gpus = None,
) -> None:
    """Edit facts with each method, plain and with REP, and write a record of what each edit survived.

    Kill it at any moment: the same command goes on where it was, with as many workers as you like.
    """
    from ..bench.runs import grid
    from ..datasets.records import Reading

    reading = Reading(style, columns, strict)
    for path in data:
        summarise(reading.load(path), Console(stderr=True))
    runs = grid(hparams, data, parse_numbers("--seeds", seeds), n, not every, reading)
    _show(_run(runs, out, workers, address, gpus), "terminal")


def sweep(
    hparams: Annotated[Path, typer.Option(help="A YAML under hparams/REP/.")],
    data: Annotated[Path, typer.Option(help="A data file, to choose by: not the one that is reported.")],
    thresholds: Annotated[str, typer.Option(help="Comma-separated values of τ, where the gate opens at test.")] = "",
    alphas: Annotated[str, typer.Option(help="Comma-separated values of α, the weight of the consistency loss.")] = "",
    seeds: Seeds = "0",
    n: Draw = None,
    every: Every = False,
    out: Annotated[Path, typer.Option(help="Folder of the records and of sweep.png.")] = Path("results/sweep"),
    style: DataFormat = None,
    columns: Columns = None,
    strict: Strict = True,
    workers: Workers = 1,
    address: Address = None,
    gpus: Gpus = None,
) -> None:
    """The paper's Figures 5 and 6: what each edit survives at other thresholds τ, and at other weights α.

    τ is varied at the YAML's α, α at the YAML's τ. Kill it at any moment, or give more values later: what is there is not made again.
    """
    from ..bench.runs import grid
    from ..bench.sweep import draw, settings
    from ..datasets.records import Reading
    from ..hparams import load_hparams

    wanted = settings(
        load_hparams(str(hparams)).rep, parse_numbers("--thresholds", thresholds, float), parse_numbers("--alphas", alphas, float)
    )
    reading = Reading(style, columns, strict)
    summarise(reading.load(data), Console(stderr=True))
    runs = grid([hparams], [data], parse_numbers("--seeds", seeds), n, not every, reading, settings=wanted)
    paths = _run(runs, out, workers, address, gpus)
    _show(paths, "terminal")
    draw(paths, out / "sweep.png")
    Console().print(f"picture: {out / 'sweep.png'}")


def _run(runs: "list[Run]", out: Path, workers: int, address: str | None, gpus: float | None) -> list[Path]:
    """The journals of `runs`, made here or by workers."""
    from ..bench.runs import execute_all
    from ..hparams import load_hparams

    if workers == 1 and address is None:
        if gpus is not None:
            raise EditError(f"--gpus {gpus:g} is each Ray worker's: give --workers or --address too; a YAML's `device` says where else")
        return list(execute_all(runs, out))
    from ..bench.workers import RayWorkers

    if gpus is None:
        gpus = float(any(str(load_hparams(str(run.hparams)).device) != "cpu" for run in runs))
    with RayWorkers(workers, address, gpus) as crew:
        return list(execute_all(runs, out, crew))


def table(
    folder: Annotated[Path, typer.Argument(help="Where `bench` wrote its journals.")] = Path("results/bench"),
    style: Annotated[str, typer.Option("--format", help="terminal, markdown, latex or csv.")] = "terminal",
    per_seed: Annotated[bool, typer.Option(help="One row for each seed, to two decimals, as CSV.")] = False,
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


def parse_numbers(option: str, text: str, kind: type = int) -> list:
    """[0, 1, 2] from "0,1,2"; none from nothing."""
    try:
        return [kind(part) for part in text.split(",")] if text or kind is int else []
    except ValueError:
        raise EditError(f"{option} {text!r} is not a comma-separated list of {'whole ' if kind is int else ''}numbers") from None


def _show(paths: list[Path], style: str) -> None:
    from ..bench.tables import cells, over_seeds, per_seed

    print_cells(cells(over_seeds(per_seed(paths))), style)


def print_cells(cells: "pandas.DataFrame", style: str) -> None:
    """A table of text in one of `tables.FORMATS`."""
    from ..bench.show import print_whole
    from ..bench.tables import render

    shown = render(cells, style)
    if isinstance(shown, str):
        print(shown)  # not through rich, which would wrap it
    else:
        print_whole(Console(), shown)
