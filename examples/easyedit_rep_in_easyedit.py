"""REP inside EasyEdit: its own `BaseEditor`, a REP YAML, nothing else.

    EASYEDIT_HOME=~/EasyEdit python examples/easyedit_rep_in_easyedit.py hparams/REP/ROME/bench-llama.yaml --n 10
    EASYEDIT_HOME=~/EasyEdit python examples/easyedit_rep_in_easyedit.py hparams/REP/ROME/bench-llama.yaml --n 10 --sequential

Single edits are undone one by one, and at the end every parameter is checked to be what it was, bit for bit. Sequential ones stay.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from statistics import mean
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from easyedit_rep import EditError, REPHyperParams

ROOT = Path(__file__).resolve().parents[1]


def load_columns(path: Path, n: int) -> dict:
    """The first `n` facts as the arguments of `BaseEditor.edit`."""
    some = json.loads(path.read_text(encoding="utf-8"))[:n]
    return {
        "prompts": [r["prompt"] for r in some],
        "subject": [r["subject"] for r in some],
        "target_new": [r["target_new"] for r in some],
        "ground_truth": [r["target_true"] for r in some],
        "rephrase_prompts": [r["rephrase_prompt"][0] for r in some],
        "locality_inputs": {
            "neighborhood": {
                "prompt": [r["locality_prompt"] for r in some],
                "ground_truth": [[r["locality_ground_truth"]] * len(r["locality_prompt"]) for r in some],
            }
        },
    }


def averages(metrics: list[dict], when: str) -> dict[str, float]:
    """Percent: EasyEdit's token-level means, then our exact matches by kind and domain."""
    rows = [row[when] for row in metrics]
    values = {name: [x for row in rows for x in row[name]] for name in ("rewrite_acc", "rephrase_acc")}
    values["locality"] = [x for row in rows for x in row["locality"].get("neighborhood_acc", [])]
    for kind in ("rephrase", "shuffle", "long"):
        for domain in ("in_domain", "out_of_domain"):
            values[f"{kind}, {domain.replace('_', '-')}"] = [x for row in rows for x in row["robustness"][kind][domain]["exact"] or ()]
    return {name: 100 * mean(xs) for name, xs in values.items() if xs}


def main(
    yaml: Annotated[Path, typer.Argument(help="A REP YAML.")] = ROOT / "hparams/REP/ROME/bench-llama.yaml",
    n: Annotated[int, typer.Option(min=1, help="How many facts to edit.")] = 10,
    sequential: Annotated[bool, typer.Option("--sequential", help="Keep every edit.")] = False,
    data: Annotated[Path, typer.Option(help="Facts, as JSON records.")] = ROOT / "../shared/data/rep/valid.counterfact.json",
) -> None:
    home = Path(os.environ.get("EASYEDIT_HOME", "EASYEDIT_HOME is unset")).expanduser()
    if not (home / "easyeditor").is_dir():
        raise EditError(f"no EasyEdit ({home}): point EASYEDIT_HOME at a checkout of zjunlp/EasyEdit")
    sys.path.insert(0, str(home))
    from easyeditor import BaseEditor

    columns = load_columns(data, n)
    hparams = REPHyperParams.from_hparams(str(yaml))
    editor = BaseEditor.from_hparams(hparams)
    before = {name: parameter.detach().clone() for name, parameter in editor.model.named_parameters()}

    with contextlib.redirect_stdout(io.StringIO()):  # EasyEdit prints its own summary
        metrics, model, restore = editor.edit(**columns, sequential_edit=sequential, verbose=False)

    table = Table("percent", title=f"{n} facts, {'sequential' if sequential else 'single'} edits")
    rows = {when: averages(metrics, when) for when in ("pre", "post")}
    for when in rows:
        table.add_column(when, justify="right")
    for name in rows["post"]:
        table.add_row(name, *(f"{rows[when][name]:.1f}" if name in rows[when] else "–" for when in rows))
    console = Console()
    console.print(table)

    after = dict(model.named_parameters())
    same = before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    if sequential:
        assert not same
        console.print(f"the model carries {n} edits; restore() takes the last one out")
        restore()
    else:
        assert same, "a single run must leave the model as it was"
        console.print(f"every one of {len(before)} parameters is bit-identical to before")


if __name__ == "__main__":
    try:
        typer.run(main)
    except EditError as error:
        sys.exit(f"error: {error}")
