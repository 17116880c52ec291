"""Taking edits out of a finished D4S run: what is left against a sequence that never had them, and whether the facts are back.

    python benchmarks/remove_edits.py --run results/sequence --hparams hparams/D4S/bench-llama.yaml --n 100

The run is read, not changed. Weights are compared with one float64 solve over the pairs of the edits that stay.
"""

import json
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from easyedit_rep.bench.compare import known_only
from easyedit_rep.bench.journal import read_journal
from easyedit_rep.editor import RobustEditor
from easyedit_rep.hparams import load_hparams
from easyedit_rep.sequence.store import load_sequence


def main(
    hparams: Annotated[Path, typer.Option(help="The YAML of the run.")],
    run: Annotated[Path, typer.Option(help="Folder of a D4S run.")],
    n: Annotated[int, typer.Option(min=1, help="Edits to take out.")] = 100,
    seed: Annotated[int, typer.Option(help="Which.")] = 0,
    plain: Annotated[bool, typer.Option(help="The run was made with --plain.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the numbers to this JSON file.")] = None,
) -> None:
    h = load_hparams(str(hparams))
    h.rep = replace(h.rep, seed=read_journal(run / "sequence.jsonl")[0]["seed"])
    if plain:
        h.rep = replace(h.rep, pathways=False)
    editor = RobustEditor.from_hparams(h)
    load_sequence(editor.sequence, run)
    edits = list(editor.sequence.edits)
    gone = random.Random(seed).sample(edits, n)
    facts = [request for edit in gone for request in edit.requests]
    before = len(known_only(editor, facts))
    start = time.perf_counter()
    for edit in gone:
        edit.undo()
    seconds = (time.perf_counter() - start) / n
    rest = [edit for edit in edits if edit.active]
    rows = {
        "edits": len(edits),
        "taken out": n,
        "seconds each": round(seconds, 4),
        "old answers before": f"{before} of {len(facts)}",
        "old answers after": f"{len(known_only(editor, facts))} of {len(facts)}",
    }
    for layer, state in editor.sequence.states.items():
        keys, residuals = (torch.cat([edit.pairs[layer][k] for edit in rest]).double() for k in (0, 1))
        covariance = editor.memory.covariances[layer]
        ridge = covariance.ridge * torch.eye(len(covariance.moment), dtype=torch.float64)
        system = keys.T @ keys + h.method.mom2_update_weight * (covariance.moment + ridge)
        wanted = torch.linalg.solve(system, keys.T @ residuals).T
        rows[f"layer {layer}: Δ apart, float64"] = f"{_apart(state.change, wanted):.1e}"
        weight = editor.anatomy.weight(layer).detach().double()
        weight = weight.T if editor.anatomy.is_transposed(layer) else weight
        original = editor.ledger.original(layer).double()
        original = original.T if editor.anatomy.is_transposed(layer) else original
        rows[f"layer {layer}: W apart, {editor.anatomy.weight(layer).dtype}"] = f"{_apart(weight, original + wanted):.1e}"
    table = Table(title=str(run), show_header=False)
    for name, value in rows.items():
        table.add_row(name, str(value))
    Console().print(table)
    if out:
        out.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative difference, Frobenius."""
    return ((a - b).norm() / b.norm()).item()


if __name__ == "__main__":
    typer.run(main)
