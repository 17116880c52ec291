"""`easyedit-rep report` gathers records, tables and figures of a folder into one HTML page."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def report(
    folder: Annotated[Path, typer.Argument(help="Where `bench`, `sequence run` or `analyze` wrote, at any depth.")],
    out: Annotated[Path | None, typer.Option(help="The page; report.html in the folder if left out.")] = None,
    title: Annotated[str | None, typer.Option(help="Its heading.")] = None,
) -> None:
    """One self-contained page (no network, images inside) of all records, tables and figures in a folder."""
    from ..analysis.report import counted, write_report

    path = out or folder / "report.html"
    sections = write_report(folder, path, title)
    Console().print(f"{path}: {counted(len(sections), 'section')}, {path.stat().st_size / 1e6:.1f} MB", soft_wrap=True)
