"""`easyedit-rep mqd build` makes the Multi-Question Dataset from ATOMIC; `mqd stats` says what its targets are like to a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import EditError

if TYPE_CHECKING:
    from ..datasets.atomic import Atomic
    from ..datasets.mqd import Mqd
    from ..evaluation.target_types import TargetStats

app = typer.Typer(no_args_is_help=True, help=__doc__)

FIRST = 20  # malformed lines shown
PAPER = {"TF": (23.44, 1, 12.3), "MQ": (35.03, 1, 43.3), "DG": (13.38, 3.88, 297.4)}
"""Input tokens, target tokens, target perplexity of the paper's MQD to GPT-J (D4S, section 3.2)."""
NAMES = {"TF": "T/F"}


@app.command()
def build(
    atomic: Annotated[Path, typer.Argument(help="ATOMIC: the v4 CSV, or ATOMIC-2020's TSV, plain or grouped.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Samples of each type, at most.")] = 4000,
    seed: Annotated[int, typer.Option(help="Of the facts, their order, the options and the answers.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of mqd_dg.json, mqd_mq.json, mqd_tf.json and dataset/.")] = Path("data/mqd"),
) -> None:
    """Build direct generation, multiple choice and true/false samples from the same facts, in the same order."""
    from ..datasets.atomic import read_atomic
    from ..datasets.mqd import build as make
    from ..datasets.mqd import write_mqd

    console = Console(highlight=False, soft_wrap=True)
    read = read_atomic(atomic)
    _tell_malformed(read, console)
    made = make(read, n, seed)
    write_mqd(made, out)
    _tell(made, console)
    console.print(Text(f"written: {out}"))


def _tell_malformed(read: "Atomic", console: Console) -> None:
    for bad in read.malformed[:FIRST]:
        console.print(Text(f"line {bad.line}: {bad.field} {bad.reason}", "red"))
    if len(read.malformed) > FIRST:
        console.print(Text(f"and {len(read.malformed) - FIRST:,} more", "red"))


def _tell(made: "Mqd", console: Console) -> None:
    about = made.about
    tails, questions = about["tails"], about["questions"]
    console.print(Text(f"{about['source']}: {about['lines']:,} lines, {about['malformed']:,} malformed; {tails['kept']:,} tails kept"))
    console.print(Text("tails dropped: " + ", ".join(f"{reason} {count:,}" for reason, count in tails["dropped"].items() if count)))
    fewer = f"; asked for {about['asked']:,}, there are no more" if about["samples"] < about["asked"] else ""
    without = f", {questions['without untrue answers']:,} without untrue answers to offer"
    console.print(Text(f"{about['samples']:,} samples of each type out of {questions['possible']:,} questions{without}{fewer}"))


@app.command()
def stats(
    folder: Annotated[Path, typer.Argument(help="Where `mqd build` wrote.")],
    model: Annotated[str, typer.Option(help="A local folder or a Hugging Face name.")],
    device: Annotated[str, typer.Option(help="A CUDA index, or cpu.")] = "cpu",
    n: Annotated[int | None, typer.Option("--n", min=1, help="The first of each type; all if left out.")] = None,
    style: Annotated[str, typer.Option("--format", help="terminal or markdown.")] = "terminal",
) -> None:
    """Print how long questions and targets of each type are, and how unlikely the targets to a model, beside the paper's GPT-J."""
    if style not in ("terminal", "markdown"):
        raise EditError(f"format {style!r} is not one of terminal, markdown")
    from ..anatomy import Anatomy
    from ..bench.show import print_whole
    from ..datasets.mqd import path_of
    from ..datasets.records import load_records
    from ..evaluation.target_types import target_stats
    from ..loading import load_model

    requests = {kind: load_records(path_of(folder, kind), "mqd")[:n] for kind in PAPER}
    loaded, tok = load_model(model, device)
    rows = {kind: target_stats(Anatomy(loaded), tok, found) for kind, found in requests.items()}
    lines = [_row(kind, found) for kind, found in rows.items()]
    if style == "markdown":
        print(_markdown(lines))
        return
    table = Table(*HEADS, box=box.SIMPLE_HEAD, title=f"{Path(model).name} (GPT-J: the paper's)")
    for line in lines:
        table.add_row(*line)
    print_whole(Console(), table)


HEADS = ("type", "n", "input tokens", "GPT-J", "target tokens", "GPT-J", "target perplexity", "typical", "GPT-J")


def _row(kind: str, found: "TargetStats") -> list[str]:
    inputs, targets, perplexity = PAPER[kind]
    mine = (f"{found.input_tokens:.2f}", f"{inputs}", f"{found.target_tokens:.2f}", f"{targets}", f"{found.perplexity:,.1f}")
    return [NAMES.get(kind, kind), f"{found.n:,}", *mine, f"{found.typical:,.1f}", f"{perplexity}"]


def _markdown(lines: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(HEADS) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (HEADS, rule, *lines))
