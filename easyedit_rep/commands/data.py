"""`easyedit-rep data show` tells how a data file is read: its format, what of it can be used, and one record in words."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ..datasets.records import Loaded
    from ..request import EditRequest, Question

app = typer.Typer(no_args_is_help=True, help=__doc__)

DataFormat = Annotated[
    str | None,
    typer.Option("--format", help="counterfact-rome, counterfact, zsre, mqd, 20q, rep or knowedit; found by the keys if left out."),
]
Columns = Annotated[Path | None, typer.Option(help="A YAML that says which column holds what, for any other table.")]
Strict = Annotated[
    bool, typer.Option("--strict/--no-strict", help="Refuse the whole file at its first malformed record, or go without it.")
]

FIRST = 20  # refusals shown


@app.callback()
def _group() -> None:
    """Keeps `show` a command of its own while it is the only one."""


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="JSON, JSONL, CSV, TSV, Parquet, a folder of save_to_disk, or hf:owner/name.")],
    style: DataFormat = None,
    columns: Columns = None,
    strict: Strict = False,
) -> None:
    """Say how a data file is read; exit status 1 if none of it can be used."""
    from ..datasets.records import load_dataset_file

    loaded = load_dataset_file(file, style, columns, strict=strict)
    console = Console(highlight=False)
    summarise(loaded, console)
    if loaded.requests:
        console.print(Text("\n  ".join((f"record {loaded.indices[0]}:", *tell(loaded.requests[0])))), soft_wrap=True)
    raise typer.Exit(0 if loaded.requests else 1)


def summarise(loaded: "Loaded", console: Console) -> None:
    """Print counts in one line; below it what is left out, and the first refusals with their reasons."""
    how = "found by its keys" if loaded.found else "as told"
    counts = f"{loaded.total:,} records: {len(loaded.requests):,} used, {len(loaded.refused):,} refused"
    console.print(Text(f"{loaded.source}: format {loaded.format} ({how}), {counts}"), soft_wrap=True)
    if loaded.blank:
        left_out = ", ".join(f"{name} {count:,}" for name, count in _by_field(loaded.blank).items())
        console.print(Text(f"left out of records that are used, blank or without an answer: {left_out}"), soft_wrap=True)
    if loaded.refused:
        console.print(_refusals(loaded))


def _by_field(blank: Mapping[str, int]) -> dict[str, int]:
    """Counts with `locality.Forgetfulness[3].prompt` under `locality.Forgetfulness.prompt`."""

    out: dict[str, int] = {}
    for name, count in blank.items():
        plain = re.sub(r"\[\d+\]", "", name)
        out[plain] = out.get(plain, 0) + count
    return out


def _refusals(loaded: "Loaded") -> Table:
    more = len(loaded.refused) - FIRST
    table = Table(box=None, pad_edge=False, caption=f"and {more:,} more" if more > 0 else None, caption_justify="left")
    table.add_column("record", justify="right")
    table.add_column("field")
    table.add_column("refused because", overflow="fold")
    for index, field, reason in loaded.refused[:FIRST]:
        table.add_row(str(index), Text(field), Text(reason, "red"))
    return table


def tell(request: "EditRequest") -> Iterator[str]:
    """A request in words, a line for each thing it holds."""
    before = f" instead of {request.ground_truth.strip()!r}" if request.ground_truth else ""
    yield f"after {request.text!r} say {request.target_new.strip()!r}{before}"
    yield f"the subject is {request.subject!r}"
    names = (("rephrased prompts", request.rephrase_prompts), ("other names", request.subject_rephrase), ("contexts", request.long_context))
    for name, texts in names:
        if texts:
            yield f"{name}: {len(texts)}, the first {texts[0]!r}"
    yield from _tell_groups("must stay", request.locality)
    yield from _tell_groups("must follow", request.portability)


def _tell_groups(what: str, groups: "Mapping[str, Sequence[Question]]") -> Iterator[str]:
    for name, questions in groups.items():
        yield f"{what}, {name}: {len(questions)}, the first {questions[0].prompt!r}, {questions[0].answer.strip()!r}"
