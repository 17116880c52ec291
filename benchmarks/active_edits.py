"""Robustness with 1, 10, 100 D4S edits active: the same facts each time, in sequences of so many, each begun on the unedited model.

    python benchmarks/active_edits.py --hparams hparams/D4S/bench-llama.yaml --data ../shared/data/rep/test.counterfact_llama2-7b.json

All facts are asked at every length, since the first ten of a sequence may be easier than the first hundred; and with pathways and without,
since the edits themselves are forgotten as more follow. Records are written as sequences end; killed, the same command goes on.
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
from easyedit_rep.hparams import load_hparams


def left_of(editor: RobustEditor, requests: Sequence[EditRequest], pathways: bool) -> list[dict]:
    """What all of `requests`, edited one after another, leave of each; the model is as it was before and afterwards."""
    before = baseline(editor.anatomy, editor.tok, requests)
    queries = [editor.queries(request) for request in requests]
    editor.hparams.rep = replace(editor.hparams.rep, pathways=pathways)
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
    hparams: Annotated[Path, typer.Option(help="A YAML under hparams/D4S.")],
    data: Annotated[Path, typer.Option(help="Facts to edit, of which known ones are drawn.")],
    active: Annotated[str, typer.Option(help="Edits in a sequence, separated by commas.")] = "1,10,100",
    n: Annotated[int, typer.Option(min=1, help="Facts.")] = 100,
    seed: Annotated[int, typer.Option(help="Which facts, and their order; also the edits' seed.")] = 0,
    out: Annotated[Path, typer.Option(help="The journal.")] = Path("results/active_edits.jsonl"),
) -> None:
    """Edit the same facts in sequences of several lengths and show what is left of them."""
    h = load_hparams(str(hparams))
    h.rep = replace(h.rep, seed=seed)
    editor = RobustEditor.from_hparams(h)
    known = known_only(editor, load_records(data), Console(stderr=True).print)
    facts = random.Random(seed).sample(known, min(n, len(known)))
    tasks = [
        (h.rep.base + "+REP" * pathways, length, start, pathways)
        for length in parse_numbers("--active", active)
        for pathways in (False, True)
        for start in range(0, len(facts), length)
    ]
    with Journal(out, {"hparams": h.record(), "data": data.name, "facts": len(facts), "seed": seed}) as journal:
        done = {(r["method"], r["active"], r["start"]) for r in journal.records}
        for *name, pathways in tqdm(tasks, desc="sequences"):
            if tuple(name) in done:
                continue
            method, length, start = name
            rows = left_of(editor, facts[start : start + length], pathways)
            journal.add([{"method": method, "active": length, "start": start, "rows": rows}])
        print_cells(table(journal.records), "terminal")


if __name__ == "__main__":
    typer.run(main)
