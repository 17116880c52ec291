"""Pathways compared and taken apart: each fact's base edit is made once, and every variant of the pathway is put around it.

    python benchmarks/pathways.py --hparams hparams/REP/ROME/bench-llama.yaml --data valid.counterfact.json --out results/ablation
    python benchmarks/pathways.py … --variant recommended --variant trained --seed 1 --shard 0/4    # one process a core

Records are written as they come, one journal a process; killed, the same command goes on. What is printed is over all records in
the folder.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from tqdm.auto import tqdm

from easyedit_rep import EditError, EditRequest, RobustEditor
from easyedit_rep.bench.compare import known_only, summarise
from easyedit_rep.bench.journal import Journal, read_journal
from easyedit_rep.bench.runs import draw
from easyedit_rep.bench.show import print_whole, table
from easyedit_rep.datasets.records import load_records
from easyedit_rep.evaluation.robustness import evaluate, finish_locality
from easyedit_rep.hparams import load_hparams

TRAINED = {
    "steps": 100,
    "lr": 2e-3,
    "align": "both",
    "gate_negatives": 1.0,
    "negatives_per_step": 512,
    "subject_forms": True,
}
"""The paper's pathway as it was tuned for bench-llama, with negatives."""

VARIANTS: dict[str, Mapping[str, Mapping]] = {
    "base": {},
    "recommended": {},
    "trained": {"pathway": {"kind": "paper", "threshold": 0.8}, "training": TRAINED},
    "trained, compact": {"pathway": {"kind": "paper", "threshold": 0.8, "rank": 2, "gate_ratio": 0.004}, "training": TRAINED},
    "one detector": {"pathway": {"detectors": 1}},
    "value not fitted": {"closed": {"value_steps": 0}},
    "value not fitted, near keys left": {"pathway": {"leave": 0.8}, "closed": {"value_steps": 0}},
    "5 steps": {"closed": {"value_steps": 5}},
    "20 steps": {"closed": {"value_steps": 20}},
    "no other subjects": {"training": {"other_subjects": 0, "after_fact": 0}},
    "none behind the fact": {"training": {"after_fact": 0}},
    "no bare words": {"training": {"same_words": 0}},
    "no first tokens": {"training": {"first_tokens": 0}},
    "no stray words": {"training": {"stray_words": 0}},
    "nothing mined": {"closed": {"hard_share": 0.0}},
    "no C": {"closed": {"text_weight": 0.0}},
    "no spread of positives": {"closed": {"spread": 0.0}},
    "shared trunk": {
        "training": {"other_subjects": 0, "after_fact": 0, "same_words": 0, "first_tokens": 0, "stray_words": 0},
        "closed": {"spread": 0.0, "hard_share": 0.0, "text_weight": 1000.0},
    },
    "forms by rule too": {"training": {"subject_forms": True}},
    "C three times (noise on keys)": {"closed": {"text_weight": 3.0}},
    "strength 1": {"closed": {"strength": 1.0}},
    "strength 2": {"closed": {"strength": 2.0}},
    "lower margins": {"closed": {"margin": 0.5, "margin_around": 0.65}},
    "false fires 1e-5": {"closed": {"false_fire": 1e-5}},
    "false fires 1e-7": {"closed": {"false_fire": 1e-7}},
}
"""By name, what of `rep` differs from the YAML's."""


def varied(editor: RobustEditor, name: str) -> RobustEditor:
    """An editor for a variant, that shares what was read from the unedited model."""
    rep = editor.hparams.rep
    blocks = {block: replace(getattr(rep, block), **changes) for block, changes in VARIANTS[name].items()}
    twin = RobustEditor(type(editor.hparams)(**{**vars(editor.hparams), "rep": replace(rep, **blocks)}), editor.model, editor.tok)
    twin.unedited = editor.unedited
    return twin


def records(editors: Mapping[str, RobustEditor], index: int, request: EditRequest) -> list[dict]:
    """One record a variant, of one fact, on a model that is clean before and after each."""
    first = next(iter(editors.values()))
    queries = first.queries(request)
    pre = evaluate(first.anatomy, first.tok, request, queries.only_negatives())
    base = first.base_edit(request)
    out = []
    for name, editor in editors.items():
        edit = editor.install(base if name == "base" else editor.robustify(base, queries))
        size = sum(t.numel() * t.element_size() for p in edit.pathways for layer in p.tensors.values() for t in layer.values())
        try:
            post = evaluate(editor.anatomy, editor.tok, request, queries)
        finally:
            edit.undo()
        finish_locality(pre, post)
        about = {"index": index, "method": name, "seconds": edit.seconds, "bytes": size, "pathway": edit.info.get("pathway")}
        out.append({**about, "prompt": request.text, "post": post})
    return out


def main(
    hparams: Annotated[Path, typer.Option(help="A YAML under hparams/REP with the recommended pathway.")],
    data: Annotated[Path, typer.Option(help="Facts to edit, of which known ones are taken.")],
    out: Annotated[Path, typer.Option(help="Folder of the records.")],
    variant: Annotated[list[str] | None, typer.Option(help=f"Again for several; all if left out: {', '.join(VARIANTS)}.")] = None,
    n: Annotated[int | None, typer.Option(min=1, help="Facts drawn by the seed; all if left out.")] = None,
    seed: Annotated[int, typer.Option(help="Which facts are drawn; also the edits' seed.")] = 0,
    negatives: Annotated[int, typer.Option(min=0, help="Negatives of each kind that are asked.")] = 2,
    shard: Annotated[str, typer.Option(help="i/k: every k-th fact, from the i-th.")] = "0/1",
) -> None:
    """Edit facts with every variant of the pathway and show what each survives."""
    names = variant or list(VARIANTS)
    if unknown := [name for name in names if name not in VARIANTS]:
        raise EditError(f"variant {unknown[0]!r} is not one of {', '.join(VARIANTS)}")
    part, of = (int(x) for x in shard.split("/"))
    h = load_hparams(str(hparams))
    h.rep = replace(h.rep, seed=seed, queries=replace(h.rep.queries, negative_count=negatives))
    editor, console = RobustEditor.from_hparams(h), Console()
    known = list(enumerate(known_only(editor, load_records(data), console.print)))
    chosen = draw(known, seed, n)[part::of]
    path = out / f"{hparams.parent.name}-seed{seed}-{part}of{of}.jsonl"
    editors = {name: varied(editor, name) for name in names}
    with Journal(path, {"hparams": h.record(), "data": data.name}) as journal:
        done = {(r["index"], r["method"]) for r in journal.records}
        for index, request in tqdm(chosen, desc="editing", unit="fact"):
            left = {name: e for name, e in editors.items() if (index, name) not in done}
            journal.add(records(left, index, request) if left else ())
    show([record for file in sorted(out.glob(f"{hparams.parent.name}-*.jsonl")) for record in read_journal(file)[1]], console)


def show(found: list[dict], console: Console) -> None:
    """The table of records, and what each variant takes."""
    print_whole(console, table(summarise(found), f"{len({(r['index'], r['prompt']) for r in found})} facts, each edited alone"))
    for method in dict.fromkeys(r["method"] for r in found):
        mine = [r for r in found if r["method"] == method]
        seconds = sum(r["seconds"].get("pathway", 0.0) for r in mine) / len(mine)
        console.print(f"{method}: {mine[0]['bytes'] / 1000:.1f} kB, {seconds:.2f} s a pathway")


if __name__ == "__main__":
    typer.run(main)
