"""Robustness with 1, 10, 100 D4S edits active: the same facts each time, in sequences of so many, each begun on the unedited model.

    python benchmarks/active_edits.py --hparams hparams/D4S/bench-llama.yaml --hparams hparams/REP/D4S/bench-llama.yaml \\
        --data ../shared/data/rep/test.counterfact_llama2-7b.json

All facts are asked at every length, since the first ten of a sequence may be easier than the first hundred; and without pathways too, since
the edits themselves are forgotten as more follow. Records are written as sequences end; killed, the same command goes on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas
import typer
from rich.console import Console
from tqdm.auto import tqdm

from easyedit_rep import EditError, EditRequest, RobustEditor
from easyedit_rep.bench.journal import Journal
from easyedit_rep.bench.runs import Editors, Run, choose, provenance
from easyedit_rep.bench.sequences import NAMES
from easyedit_rep.commands.bench import parse_numbers, print_cells
from easyedit_rep.evaluation.sequence import baseline, measure, summary


def left_of(editor: RobustEditor, requests: Sequence[EditRequest]) -> list[dict]:
    """What all of `requests`, edited one after another, leave of each; the model is as it was before and afterwards."""
    before = baseline(editor.anatomy, editor.tok, requests)
    queries = [editor.queries(request) for request in requests]
    try:
        for request, query in zip(requests, queries, strict=True):
            editor.apply(request, queries=[query])
        return measure(editor.anatomy, editor.tok, requests, before, queries)
    finally:
        editor.ledger.undo_all()


def table(records: Sequence[dict]) -> pandas.DataFrame:
    """Means in percent for every method and length."""
    rows = []
    for method, length in dict.fromkeys((r["method"], r["active"]) for r in records):
        found = [row for r in records if (r["method"], r["active"]) == (method, length) for row in r["rows"]]
        means = {NAMES[name]: "–" if value is None else f"{value:.1f}" for name, value in summary(found).items()}
        rows.append({"method": method, "active": str(length), "facts": str(len(found)), **means})
    return pandas.DataFrame(rows)


def main(
    hparams: Annotated[list[Path], typer.Option(help="A YAML under hparams/D4S or hparams/REP/D4S; repeat for several methods.")],
    data: Annotated[Path, typer.Option(help="Facts to edit, of which known ones are drawn.")],
    active: Annotated[str, typer.Option(help="Edits in a sequence, separated by commas.")] = "1,10,100",
    n: Annotated[int, typer.Option(min=1, help="Facts.")] = 100,
    seed: Annotated[int, typer.Option(help="Which facts, and their order; also the edits' seed.")] = 0,
    out: Annotated[Path, typer.Option(help="The journal.")] = Path("results/active_edits.jsonl"),
) -> None:
    """Edit the same facts in sequences of several lengths and show what is left of them."""
    lengths, editors = parse_numbers("--active", active), Editors()
    runs, made_with = {}, {}
    for path in hparams:
        run = Run(path, data, seed, n)
        editor = editors(run)
        method = editor.hparams.rep.base + "+REP" * editor.hparams.rep.pathways
        if method in runs:
            raise EditError(f"--hparams {path}: {runs[method].hparams} is {method} too: give one of them")
        runs[method], made_with[method] = run, provenance(run, editor)
    with Journal(out, made_with) as journal:
        done = {(r["method"], r["active"], r["start"]) for r in journal.records}
        for method, run in runs.items():
            editor = editors(run)
            facts = [request for _, request in choose(run, editor, Console(stderr=True).print)]
            tasks = [(method, length, start) for length in lengths for start in range(0, len(facts), length)]
            for _, length, start in tqdm([task for task in tasks if task not in done], desc=method):
                rows = left_of(editor, facts[start : start + length])
                journal.add([{"method": method, "active": length, "start": start, "rows": rows}])
        print_cells(table(journal.records), "terminal")


if __name__ == "__main__":
    typer.run(main)
