"""`easyedit-rep analyze`: the papers' analyses for any model and facts. Records first, then a table and a figure from the records."""

import typer

from .analyze_sequences import norms, targets

app = typer.Typer(no_args_is_help=True, help=__doc__)
app.command()(targets)
app.command()(norms)
