"""How often the pathways of many active edits open in ordinary text.

    python benchmarks/false_fires.py --hparams hparams/REP/ROME/bench-llama.yaml \\
        --data ../shared/data/rep/test.counterfact_llama2-7b.json --text ../shared/data/wikitext2/test.txt --n 100 --json fires.json

The edits are all installed in one model, one after another as they are (each was made on the unedited one). The text must be another than
that which gates are calibrated on (`rep.corpus`). At the tokens of its subject's name, in full, a pathway is right to open. Fires in
paragraphs that name no edited subject anywhere are counted apart.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from tqdm.auto import tqdm

from easyedit_rep import RobustEditor
from easyedit_rep.bench.compare import known_only
from easyedit_rep.bench.runs import draw
from easyedit_rep.datasets.corpus import load_corpus
from easyedit_rep.datasets.records import load_records
from easyedit_rep.evaluation.false_fires import false_fires, refuse_own_text
from easyedit_rep.hparams import load_hparams


def main(
    hparams: Annotated[Path, typer.Option(help="A YAML under hparams/REP.")],
    data: Annotated[Path, typer.Option(help="Facts to edit, of which known ones are drawn.")],
    text: Annotated[Path, typer.Option(help="Ordinary text, one paragraph a line.")],
    n: Annotated[int, typer.Option(min=1, help="Active edits.")] = 100,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of the text to read.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Which facts are drawn; also the edits' seed.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the numbers here.")] = None,
) -> None:
    """Count the tokens of TEXT at which any of N active pathways opens."""
    h = load_hparams(str(hparams))
    refuse_own_text(text, h.rep.corpus)
    h.rep = replace(h.rep, seed=seed)
    editor, console = RobustEditor.from_hparams(h), Console()
    known = known_only(editor, load_records(data), console.print)
    chosen = draw(known, seed, n)
    # Subjects edited twice would only be counted twice.
    chosen = list({request.subject: request for request in chosen}.values())
    edits = [editor.robustify(editor.base_edit(request)) for request in tqdm(chosen, desc="editing", unit="fact")]
    for edit in edits:
        editor.install(edit)
    texts = list(load_corpus(text).shuffled(seed))
    subjects = {edit.pathway_names[0]: edit.requests[0].subject for edit in edits}
    found = false_fires(editor.model, editor.tok, texts, tokens, subjects=subjects)
    named = [request.subject.casefold() for request in chosen]
    elsewhere = [paragraph for paragraph in texts if not any(name in paragraph.casefold() for name in named)]
    apart = false_fires(editor.model, editor.tok, elsewhere, tokens) if elsewhere else None
    row = {
        "edits": len(edits),
        "tokens": found.tokens,
        "at_subjects_own_names": found.named,
        "fires": found.fires,
        "fires_per_10000_tokens": round(found.per_10_000, 3),
        "where_no_subject_is_named": None if apart is None else round(apart.per_10_000, 3),
        "most": {subjects[name]: count for name, count in found.most(5) if count},
        "seconds_per_pathway": round(sum(edit.seconds["pathway"] for edit in edits) / len(edits), 3),
    }
    console.print_json(json.dumps(row, ensure_ascii=False))
    if json_file:
        json_file.write_text(json.dumps(row, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
