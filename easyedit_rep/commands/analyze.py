"""`easyedit-rep analyze`: the papers' analyses for any model and facts. Records first, then a table and a figure from the records."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import EditError
from .analyze_sequences import norms, targets
from .data import Columns, DataFormat, Strict

if TYPE_CHECKING:
    from ..analysis.study import Study

app = typer.Typer(no_args_is_help=True, help=__doc__)
app.command()(targets)
app.command()(norms)

FOLDER = Path("results/analysis")
Text = Annotated[str | None, typer.Option("--corpus", help="A text file or corpus name; the YAML's if left out.")]


@dataclass(frozen=True)
class Facts:
    """The options that every analysis of facts has; its command is given them as one (`of_facts`)."""

    hparams: Annotated[Path, typer.Option(help="A YAML under hparams/REP/.")]
    data: Annotated[Path, typer.Option(help="A data file; its facts are drawn by the seed.")]
    n: Annotated[int, typer.Option("--n", min=1, help="Facts.")] = 50
    seed: Annotated[int, typer.Option(help="Of the facts, contexts, queries and training.")] = 0
    layer: Annotated[int | None, typer.Option(help="Whose keys are read; the lowest edited one if left out.")] = None
    every: Annotated[bool, typer.Option("--all", help="Also facts the model does not know.")] = False
    out: Annotated[Path, typer.Option(help="Folder of the records and the figure, both named like the analysis.")] = FOLDER
    style: DataFormat = None
    columns: Columns = None
    strict: Strict = True

    def study(self, more: int = 0) -> "Study":
        """Of `n` facts and `more`."""
        # Imported here so that --help answers at once.
        from ..analysis.study import Study
        from ..bench.runs import Run
        from ..datasets.records import Reading

        reading = Reading(self.style, self.columns, self.strict)
        reading.load(self.data)  # a wrong name is not found after a model has been loaded
        run = Run(self.hparams, self.data, self.seed, self.n + more, not self.every, reading)
        return Study.of(run, self.layer, tell=Console(stderr=True).print)


def of_facts(n: int) -> Callable[[Callable], Callable]:
    """Gives a command the options of `Facts`, with this many facts, in front of its own; it takes them as its first argument."""

    def decorate(command: Callable) -> Callable:
        @wraps(command)
        def with_options(**given) -> None:
            facts = Facts(**{name: given.pop(name) for name in shared})
            command(facts, **given)

        shared = {p.name: p.replace(kind=p.KEYWORD_ONLY) for p in signature(Facts, eval_str=True).parameters.values()}
        shared["n"] = shared["n"].replace(default=n)
        own = [p.replace(kind=p.KEYWORD_ONLY) for p in signature(command, eval_str=True).parameters.values()][1:]
        with_options.__signature__ = Signature([*shared.values(), *own])
        with_options.__annotations__ = {p.name: p.annotation for p in (*shared.values(), *own)}
        return with_options

    return decorate


@app.command()
@of_facts(50)
def keys(facts: Facts) -> None:
    """How far rephrases, shuffles and long contexts move a subject's key, before and after REP (REP, Figure 3)."""
    from ..analysis.keys import measure

    _show(facts.study().record("keys", facts.out, measure))


@app.command()
@of_facts(100)
def collisions(
    facts: Facts,
    corpus: Text = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of text to look through.")] = 400_000,
    top: Annotated[int, typer.Option(min=1, help="Tokens kept for each subject.")] = 10,
) -> None:
    """Which unrelated tokens of a text have the keys closest to each subject's (REP, Figure 4). Killed, it goes on."""
    from ..analysis.collisions import search

    study = facts.study()
    _show(search(study, study.text(corpus), facts.out, tokens, top))


@app.command()
@of_facts(3)
def pca(
    facts: Facts,
    others: Annotated[int, typer.Option(min=1, help="Facts about other subjects, whose keys are the background.")] = 30,
) -> None:
    """One subject's keys under every perturbation in a plane, before and after REP (REP, Figure 7); the figure shows three subjects."""
    from ..analysis.pca import measure

    _show(facts.study(more=others).record("pca", facts.out, measure, count=facts.n))


@app.command()
@of_facts(50)
def values(facts: Facts) -> None:
    """L2 norms of the values the edited layer returns, before and after the edit (REP, Figure 8)."""
    from ..analysis.values import measure

    _show(facts.study().record("values", facts.out, measure))


@app.command()
@of_facts(50)
def bounds(facts: Facts) -> None:
    """Which queries the bounds of REP's section 4 say will fail, and which do, with and without REP."""
    from ..analysis.bounds import measure

    _show(facts.study().record("bounds", facts.out, measure))


@app.command()
@of_facts(50)
def gate(
    facts: Facts,
    corpus: Text = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of ordinary text; best not of the text that gates were trained on.")] = 20_000,
) -> None:
    """How often gates open on ordinary text, and on queries, over the threshold."""
    from ..analysis.gate import Gates

    study = facts.study()
    gates = Gates(study, study.text(corpus), tokens)
    _show(study.record("gate", facts.out, gates, corpus=gates.corpus.name, corpus_digest=gates.corpus.digest, tokens=tokens))


def _show(path: Path) -> None:
    """Print the table of a journal of records, and draw its figure beside it.

    Raises:
        EditError: every fact was refused.
    """
    from ..analysis.registry import analysis
    from ..bench.journal import read_journal

    provenance, records = read_journal(path)
    of = analysis(provenance["analysis"])
    usable = [record for record in records if "error" not in record]
    if not usable:
        raise EditError(f"all {len(records)} facts were refused, the first because {records[0]['error']}")
    print_table(of.table(usable), of.title)
    picture = path.with_suffix(".png")
    of.draw(usable, picture)
    refused = len(records) - len(usable)
    Console(stderr=True).print(
        f"records: {path}   picture: {picture}" + (f"   refused: {refused} facts, see the records" if refused else "")
    )


def print_table(rows, title: str) -> None:
    """A data frame of text as a table for the terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text as Plain

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, title=title)
    for i, name in enumerate(rows.columns):
        left = i == 0 or rows[name].str.len().max() > 40
        table.add_column(name, justify="left" if left else "right", overflow="fold", no_wrap=i == 0)
    for row in rows.itertuples(index=False):
        table.add_row(*(Plain(" ".join(cell.split())) for cell in row))
    Console().print(table)
