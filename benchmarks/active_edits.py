"""Robustness with 1, 10, 100 D4S edits active: the same facts each time, in sequences of so many, each begun on the unedited model.

    python benchmarks/active_edits.py --hparams hparams/D4S/bench-llama.yaml --hparams hparams/REP/D4S/bench-llama.yaml \\
        --data ../shared/data/rep/test.counterfact_llama2-7b.json

All facts are asked at every length, since the first ten of a sequence may be easier than the first hundred; and without pathways too, since
the edits themselves are forgotten as more follow. With `--text`, which must be another than gates are calibrated on (`rep.corpus`), it is
also counted where in it the pathways of whole sequences of the greatest length open outside their subject's full name, in 10,000 tokens.
Records are written as sequences end; killed, the same command goes on.
"""

import sys
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
from easyedit_rep.datasets.corpus import load_corpus
from easyedit_rep.evaluation.false_fires import false_fires, refuse_own_text
from easyedit_rep.evaluation.sequence import baseline, measure, summary


def left_of(editor: RobustEditor, requests: Sequence[EditRequest], texts: Sequence[str] = ()) -> dict:
    """What `requests`, edited one after another, leave of each, and where they open in `texts`; the model is unedited again afterwards."""
    before = baseline(editor.anatomy, editor.tok, requests)
    queries = [editor.queries(request) for request in requests]
    try:
        subjects = {}
        for request, query in zip(requests, queries, strict=True):
            edit = editor.apply(request, queries=[query])
            subjects |= dict.fromkeys(edit.pathway_names, request.subject)
        found = {"rows": measure(editor.anatomy, editor.tok, requests, before, queries)}
        if texts and subjects:
            opened = false_fires(editor.model, editor.tok, texts, sys.maxsize, subjects=subjects)
            most = {subjects[name]: count for name, count in opened.most(5)}
            found["fires"] = {"tokens": opened.tokens, "fires": opened.fires, "most": most}
        return found
    finally:
        editor.ledger.undo_all()


def table(records: Sequence[dict]) -> pandas.DataFrame:
    """Means in percent for every method and length."""
    rows = []
    for method, length in dict.fromkeys((r["method"], r["active"]) for r in records):
        sequences = [r for r in records if (r["method"], r["active"]) == (method, length)]
        found = [row for r in sequences for row in r["rows"]]
        means = {NAMES[name]: "–" if value is None else f"{value:.1f}" for name, value in summary(found).items()}
        rates = [1e4 * r["fires"]["fires"] / r["fires"]["tokens"] for r in sequences if "fires" in r]
        fires = {"fires": f"{sum(rates) / len(rates):.2f}"} if rates else {}
        rows.append({"method": method, "active": str(length), "facts": str(len(found)), **means, **fires})
    return pandas.DataFrame(rows).fillna("–")


def main(
    hparams: Annotated[list[Path], typer.Option(help="A YAML under hparams/D4S or hparams/REP/D4S; repeat for several methods.")],
    data: Annotated[Path, typer.Option(help="Facts to edit, of which known ones are drawn.")],
    active: Annotated[str, typer.Option(help="Edits in a sequence, separated by commas.")] = "1,10,100",
    n: Annotated[int, typer.Option(min=1, help="Facts.")] = 100,
    seed: Annotated[int, typer.Option(help="Which facts, and their order; also the edits' seed.")] = 0,
    text: Annotated[Path | None, typer.Option(help="Ordinary text, one paragraph a line, to count false fires in.")] = None,
    out: Annotated[Path, typer.Option(help="The journal.")] = Path("results/active_edits.jsonl"),
) -> None:
    """Edit the same facts in sequences of several lengths and show what is left of them."""
    lengths, editors = parse_numbers("--active", active), Editors()
    corpus = load_corpus(text) if text else None
    texts = list(corpus.shuffled(seed)) if corpus else []
    runs, made_with = {}, {}
    for path in hparams:
        run = Run(path, data, seed, n)
        editor = editors(run)
        method = editor.hparams.rep.base + "+REP" * editor.hparams.rep.pathways
        if method in runs:
            raise EditError(f"--hparams {path}: {runs[method].hparams} is {method} too: give one of them")
        if text:
            refuse_own_text(text, editor.hparams.rep.corpus)
        runs[method], made_with[method] = run, provenance(run, editor)
        if corpus:
            made_with[method]["text"] = corpus.digest
    with Journal(out, made_with) as journal:
        done = {(r["method"], r["active"], r["start"]) for r in journal.records}
        for method, run in runs.items():
            editor = editors(run)
            facts = [request for _, request in choose(run, editor, Console(stderr=True).print)]
            tasks = [(method, length, start) for length in lengths for start in range(0, len(facts), length)]
            for _, length, start in tqdm([task for task in tasks if task not in done], desc=method):
                found = left_of(editor, facts[start : start + length], texts if length == max(lengths) else ())
                journal.add([{"method": method, "active": length, "start": start, **found}])
        print_cells(table(journal.records), "terminal")


if __name__ == "__main__":
    typer.run(main)
