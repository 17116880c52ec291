"""How long one ROME edit takes here and in EasyEdit, and what a robust pathway adds.

    EASYEDIT_HOME=~/EasyEdit python examples/benchmark_rome.py --n 5 --json benchmark.json

Equal work: one process, one model, the same contexts, C, hyper-parameters and dtype, the two in alternation. Both stop at the same loss,
so they take the same number of optimiser steps (shown), and their updates are compared (cosine). The facts are those of `--data` that
take the most steps. Contexts, C and the texts for negatives are made before the clock starts, for both.
"""

import contextlib
import importlib
import io
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from easyedit_rep import EditError, EditRequest, REPHyperParams, RobustEditor
from easyedit_rep.datasets.records import load_records
from easyedit_rep.integrations.engine import prepared, their_request

ROOT = Path(__file__).resolve().parents[1]


def clock(call):
    """(result, wall-clock seconds) of `call()`, with the device's queue empty before and after."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def native(editor: RobustEditor, request: EditRequest):
    """(edit, seconds, steps) of our own ROME."""
    edit, seconds = clock(lambda: editor.base_edit(request))
    return edit, seconds, sum(value["steps"] for layer in edit.info["base"].values() for value in layer)


def easyedit(editor: RobustEditor, request: EditRequest):
    """(factors, seconds, steps) of EasyEdit's `execute_rome`."""
    execute = importlib.import_module("easyeditor.models.rome.rome_main").execute_rome
    printed = io.StringIO()
    with prepared(editor.memory, editor.hparams) as hparams, contextlib.redirect_stdout(printed):
        edit = their_request(request, "ROME")
        factors, seconds = clock(lambda: execute(editor.model, editor.tok, edit, hparams))
    return factors, seconds, sum(line.startswith("loss ") for line in printed.getvalue().splitlines())


def measure(editor: RobustEditor, request: EditRequest, *, ours_first: bool) -> dict:
    """One fact, all three clocks."""
    if ours_first:
        (edit, ours, steps), (factors, theirs, their_steps) = native(editor, request), easyedit(editor, request)
    else:
        (factors, theirs, their_steps), (edit, ours, steps) = easyedit(editor, request), native(editor, request)
    _, rep = clock(lambda: editor.robustify(edit))
    cosines = []
    for layer, delta in edit.deltas.items():
        u, v = (vector.double() for vector in factors[editor.anatomy.weight_name(layer)])
        cosines.append(torch.cosine_similarity(delta.dense().double().flatten(), torch.outer(v, u).flatten(), dim=0).item())
    return {
        "prompt": request.text,
        "target_new": request.target_new,
        "steps": steps,
        "easyedit_steps": their_steps,
        "cosine": min(cosines),
        "native_seconds": ours,
        "easyedit_seconds": theirs,
        "rep_seconds": rep,
    }


def summarise(rows: list[dict]) -> dict:
    """Medians over all rows, and the speed-up as the median of each row's own ratio (its two clocks ran side by side)."""
    out = {name: statistics.median(row[name] for row in rows) for name in ("native_seconds", "easyedit_seconds", "rep_seconds", "steps")}
    out["ratio"] = statistics.median(row["easyedit_seconds"] / row["native_seconds"] for row in rows)
    out["rep_ratio"] = statistics.median(row["easyedit_seconds"] / (row["native_seconds"] + row["rep_seconds"]) for row in rows)
    out["cosine"] = min(row["cosine"] for row in rows)
    return out


def render(rows: list[dict], total: dict, title: str) -> Table:
    table = Table(title=title, caption="seconds; steps: native / EasyEdit; ratio: EasyEdit over native; + REP: what a pathway adds")
    table.add_column("fact", max_width=18, no_wrap=True)
    for name in ("steps", "cosine", "EasyEdit", "native", "ratio", "+ REP"):
        table.add_column(name, justify="right", no_wrap=True)

    def add(label, steps, row, ratio):
        seconds = (f"{row['easyedit_seconds']:.2f}", f"{row['native_seconds']:.2f}")
        table.add_row(label, steps, f"{row['cosine']:.5f}", *seconds, f"{ratio:.1f}×", f"{row['rep_seconds']:.2f}")

    for row in rows:
        label, steps = row["prompt"], f"{row['steps']} / {row['easyedit_steps']}"
        add(label, steps, row, row["easyedit_seconds"] / row["native_seconds"])
    table.add_section()
    add("median", f"{total['steps']:.0f}", total, total["ratio"])
    return table


def main(
    yaml: Annotated[Path, typer.Argument(help="A REP YAML with base ROME.")] = ROOT / "hparams/REP/ROME/bench-llama.yaml",
    data: Annotated[Path, typer.Option(help="Facts, as JSON records.")] = ROOT / "../shared/data/rep/valid.counterfact.json",
    n: Annotated[int, typer.Option(min=1, help="How many facts are timed.")] = 5,
    pool: Annotated[int, typer.Option(min=1, help="How many facts they are chosen from.")] = 20,
    repeats: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the numbers to this file.")] = None,
) -> None:
    home = Path(os.environ.get("EASYEDIT_HOME", "EASYEDIT_HOME is unset")).expanduser()
    if not (home / "easyeditor").is_dir():
        raise EditError(f"no EasyEdit ({home}): point EASYEDIT_HOME at a checkout of zjunlp/EasyEdit")
    sys.path.insert(0, str(home))
    if json_file:
        json_file = json_file.resolve()
    os.chdir(ROOT)  # paths in the YAML are relative to the repository
    console = Console()
    editor = RobustEditor.from_hparams(REPHyperParams.from_hparams(str(yaml)))
    requests = load_records(data)[:pool]
    with console.status(f"choosing {n} of {len(requests)} facts by their steps, which also warms up…"):
        by_steps = sorted(requests, key=lambda request: -native(editor, request)[2])[:n]
        measure(editor, by_steps[0], ours_first=True)
    rows = []
    with console.status("timing…"):
        for turn in range(repeats):
            rows += [measure(editor, request, ours_first=(turn + i) % 2 == 0) for i, request in enumerate(by_steps)]
    total = summarise(rows)
    weight = editor.anatomy.weight(editor.hparams.layers[0])
    where = torch.cuda.get_device_name(weight.device) if weight.is_cuda else f"CPU, {torch.get_num_threads()} thread(s)"
    console.print(render(rows, total, f"one ROME edit: {editor.model.config._name_or_path}, {weight.dtype}, {where}"))
    if json_file:
        made_on = {"device": where, "dtype": str(weight.dtype), "python": platform.python_version(), "torch": torch.__version__}
        json_file.write_text(json.dumps({**made_on, "median": total, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    try:
        typer.run(main)
    except EditError as error:
        sys.exit(f"error: {error}")
