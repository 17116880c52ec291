"""What the pathway of one more edit takes when many are active.

    python benchmarks/pathway_time.py --run results/D4S+REP --hparams hparams/REP/D4S/bench-llama.yaml --data counterfact-edit.json

The run is read, not changed; its pathways are attached as often as it takes. Processor time of new facts' pathways, around base edits made
beforehand on the unedited model, after one that is not counted.
"""

import json
import time
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console

from easyedit_rep import EditError
from easyedit_rep.bench.journal import read_journal
from easyedit_rep.bench.runs import Editors, Run, choose
from easyedit_rep.commands.bench import parse_numbers
from easyedit_rep.sequence.store import load_sequence


def main(
    hparams: Annotated[Path, typer.Option(help="The YAML of the run.")],
    run: Annotated[Path, typer.Option(help="Folder of a D4S run with pathways.")],
    data: Annotated[Path, typer.Option(help="Facts to make pathways for, of which known ones are drawn that the run has not edited.")],
    active: Annotated[str, typer.Option(help="Active edits, separated by commas.")] = "0,500,1000",
    n: Annotated[int, typer.Option(min=1, help="Pathways to time.")] = 11,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the numbers here.")] = None,
) -> None:
    """Time the pathways of N new facts under growing numbers of active ones."""
    console = Console()
    wanted = Run(hparams, data, read_journal(run / "sequence.jsonl")[0]["seed"])
    editor = Editors()(wanted)
    load_sequence(editor.sequence, run)
    edits = list(editor.sequence.edits)
    if not any(edit.pathways for edit in edits):
        raise EditError(f"{run} holds no pathways: name a run that was made without --plain")
    edited = {request.subject for edit in edits for request in edit.requests}
    editor.sequence.undo_all()
    facts = [fact for _, fact in choose(wanted, editor, console.print) if fact.subject not in edited][: n + 1]
    if len(facts) <= n:
        raise EditError(f"{data} has {len(facts)} known facts that {run} has not edited, {n + 1} are wanted: ask for fewer with --n")
    prepared = [(editor.base_edit(fact), editor.queries(fact)) for fact in facts]
    rows, more, attached = [], cycle(edits), 0
    for count in sorted(parse_numbers("--active", active)):
        for _ in range(count - attached):
            editor.ledger.apply(replace(next(more), name="", ledger=None, deltas={}, pairs={}))
        attached = count
        taken = []
        for edit, queries in prepared:
            start = time.process_time()
            editor.robustify(edit, queries)
            taken.append(time.process_time() - start)
        found = {"seconds": median(taken[1:]), "least": min(taken[1:]), "most": max(taken[1:])}
        rows.append({"active": count, **{name: round(value, 3) for name, value in found.items()}, "of": n})
        console.print_json(json.dumps(rows[-1]))
    if json_file:
        json_file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
