"""`easyedit-rep rephrase` asks a chat model for other names of subjects and writes the file that `rep.queries.rephrase_file` reads."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .data import Columns, DataFormat, Strict


def rephrase(
    data: Annotated[Path, typer.Option(help="A data file, whose subjects are asked for.")],
    out: Annotated[Path, typer.Option(help="The side file {subject: [other names]}; what it holds of other subjects stays.")] = Path(
        "rephrases.json"
    ),
    model: Annotated[str, typer.Option(help="The chat model.")] = "gpt-4o-mini",
    base_url: Annotated[str | None, typer.Option(help="An OpenAI-compatible service, e.g. http://localhost:8000/v1.")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Names a subject.")] = 10,
    cache: Annotated[Path | None, typer.Option(help="Folder of answers; left out, `rephrase-answers` beside --out.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also ask for subjects that bring other names in the data file.")] = False,
    style: DataFormat = None,
    columns: Columns = None,
    strict: Strict = True,
) -> None:
    """Ask for other names of every subject that has none in the data file, with the REP paper's prompt. The key is OPENAI_API_KEY.

    Kill it at any moment: the same command goes on, and asks nothing twice.
    """
    from ..datasets.records import Reading
    from ..queries.endpoint import Rephraser, write_json
    from ..queries.rephrase import load_rephrases

    requests = Reading(style, columns, strict).load(data).requests
    targets: dict[str, set[str]] = {}
    for request in requests:
        if every or not request.subject_rephrase:
            targets.setdefault(request.subject, set()).add(request.target_new)
    console = Console(stderr=True, soft_wrap=True)
    if not targets:
        console.print(f"every subject of {data} brings other names, and those are used: pass --all to ask anyway")
        return
    if out.exists():
        load_rephrases(out)  # what is no such file is said before anything is asked
    rephraser = Rephraser(cache or out.parent / "rephrase-answers", model, base_url, n)
    found = collect(rephraser, targets)
    known = load_rephrases(out) if out.exists() else {}  # as it is by now
    new = {subject: names for subject, names in found.items() if names or subject not in known}
    write_json(out, {subject: list(names) for subject, names in {**known, **new}.items()})
    none = [subject for subject, names in found.items() if not names]
    missing = f"; none for {len(none)}, such as {none[0]!r}: run again to ask for them" if none else ""
    console.print(f"{sum(map(len, found.values()))} names of {len(found) - len(none)} subjects: {out}{missing}", highlight=False)


def collect(rephraser, targets: dict[str, set[str]]) -> dict[str, tuple[str, ...]]:
    """{subject: other names} for {subject: its new targets}; a name that says one of them is left out."""
    from tqdm.auto import tqdm

    from ..queries.answers import without_targets

    return {s: without_targets(rephraser.names(s), targets[s]) for s in tqdm(targets, desc="rephrasing", unit="subject")}
