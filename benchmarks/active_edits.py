"""Robustness with 1, 10, 100 D4S edits active: the same facts each time, in sequences of so many, each begun on the unedited model.

    python benchmarks/active_edits.py --hparams hparams/D4S/bench-llama.yaml --hparams hparams/REP/D4S/bench-llama.yaml \\
        --data ../shared/data/rep/test.counterfact_llama2-7b.json

All facts are asked at every length, since the first ten of a sequence may be easier than the first hundred; and without pathways too, since
the edits themselves are forgotten as more follow. Records are written as sequences end; killed, the same command goes on.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pandas
import typer
from rich.console import Console
from tqdm.auto import tqdm

from easyedit_rep import EditRequest, RobustEditor
from easyedit_rep.bench.compare import known_only
from easyedit_rep.bench.journal import Journal
from easyedit_rep.bench.sequences import NAMES
from easyedit_rep.commands.bench import parse_numbers, print_cells
from easyedit_rep.datasets.records import load_records
from easyedit_rep.evaluation.sequence import baseline, measure, summary
from easyedit_rep.hparams import REPHyperParams, load_hparams


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
    hparams: Annotated[list[Path], typer.Option(help="A YAML under hparams/D4S or hparams/REP/D4S; repeat for several, of one model.")],
    data: Annotated[Path, typer.Option(help="Facts to edit, of which known ones are drawn.")],
    active: Annotated[str, typer.Option(help="Edits in a sequence, separated by commas.")] = "1,10,100",
    n: Annotated[int, typer.Option(min=1, help="Facts.")] = 100,
    seed: Annotated[int, typer.Option(help="Which facts, and their order; also the edits' seed.")] = 0,
    out: Annotated[Path, typer.Option(help="The journal.")] = Path("results/active_edits.jsonl"),
) -> None:
    """Edit the same facts in sequences of several lengths and show what is left of them."""
    methods: dict[str, REPHyperParams] = {}
    for path in hparams:
        h = load_hparams(str(path))
        h.rep = replace(h.rep, seed=seed)
        methods[h.rep.base + "+REP" * h.rep.pathways] = h
    editors = {method: RobustEditor.from_hparams(h) for method, h in methods.items()}
    known = known_only(next(iter(editors.values())), load_records(data), Console(stderr=True).print)
    facts = random.Random(seed).sample(known, min(n, len(known)))
    lengths = parse_numbers("--active", active)
    tasks = [(method, length, start) for length in lengths for method in methods for start in range(0, len(facts), length)]
    made_with = {method: h.record() for method, h in methods.items()}
    with Journal(out, {"hparams": made_with, "data": data.name, "facts": len(facts), "seed": seed}) as journal:
        done = {(r["method"], r["active"], r["start"]) for r in journal.records}
        for method, length, start in tqdm([task for task in tasks if task not in done], desc="sequences"):
            rows = left_of(editors[method], facts[start : start + length])
            journal.add([{"method": method, "active": length, "start": start, "rows": rows}])
        print_cells(table(journal.records), "terminal")


if __name__ == "__main__":
    typer.run(main)
