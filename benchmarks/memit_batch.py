"""A batch of MEMIT edits here and in EasyEdit: seconds, and memory beyond what was in use before.

    EASYEDIT_HOME=~/EasyEdit python benchmarks/memit_batch.py --n 64 --repeats 3 --json memit.json

Equal work: the same model, requests, contexts, C, layers, hyper-parameters and dtype. Times: one process, the two in alternation, median.
Memory: a fresh process for each, its peak above what it held just before the edit. Contexts and C are made before either, for both.
"""

import contextlib
import importlib
import io
import json
import os
import platform
import resource
import statistics
import subprocess
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


def native(editor: RobustEditor, requests: list[EditRequest]) -> dict[int, torch.Tensor]:
    """{layer: ΔW}, ours."""
    return {layer: delta.dense() for layer, delta in editor.base_edit(*requests).deltas.items()}


def easyedit(editor: RobustEditor, requests: list[EditRequest]) -> dict[int, torch.Tensor]:
    """{layer: ΔW}, from EasyEdit's `execute_memit`."""
    execute = importlib.import_module("easyeditor.models.memit.memit_main").execute_memit
    edits = [their_request(request, "MEMIT") for request in requests]
    with prepared(editor.memory, editor.hparams) as hparams, contextlib.redirect_stdout(io.StringIO()):
        factors = execute(editor.model, editor.tok, edits, hparams)
    names = {editor.anatomy.weight_name(layer): layer for layer in editor.hparams.layers}
    return {names[name]: (value @ key.T).float() for name, (key, value) in factors.items()}


SIDES = {"native": native, "EasyEdit": easyedit}


def clock(side: str, editor: RobustEditor, requests: list[EditRequest]):
    """(deltas, seconds), with the device's queue empty before and after."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    start = time.perf_counter()
    deltas = SIDES[side](editor, requests)
    wait()
    return deltas, time.perf_counter() - start


def resident() -> float:
    """MiB this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak_of(side: str, editor: RobustEditor, requests: list[EditRequest]) -> float:
    """MiB above what was held before; on a GPU, what PyTorch allocated there."""
    SIDES[side](editor, requests[:1])  # what the first call keeps for good
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        SIDES[side](editor, requests)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    before = resident()
    SIDES[side](editor, requests)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024 - before


def cosine(a: dict[int, torch.Tensor], b: dict[int, torch.Tensor]) -> float:
    """The smallest over layers."""
    pairs = ((a[layer].double().flatten(), b[layer].double().flatten()) for layer in a)
    return min(torch.cosine_similarity(x, y, dim=0).item() for x, y in pairs)


def main(
    yaml: Annotated[Path, typer.Argument(help="A REP YAML with base MEMIT.")] = ROOT / "hparams/REP/MEMIT/bench-llama.yaml",
    data: Annotated[Path, typer.Option(help="Facts, as JSON records.")] = ROOT / "../shared/data/rep/valid.counterfact.json",
    n: Annotated[int, typer.Option(min=1, help="Requests in the batch.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="How often each side is timed.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the numbers to this file.")] = None,
    memory: Annotated[bool, typer.Option(help="Also measure peak memory, which runs each side once more.")] = True,
    memory_of: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    home = Path(os.environ.get("EASYEDIT_HOME", "EASYEDIT_HOME is unset")).expanduser()
    if not (home / "easyeditor").is_dir():
        raise EditError(f"no EasyEdit ({home}): point EASYEDIT_HOME at a checkout of zjunlp/EasyEdit")
    sys.path.insert(0, str(home))
    json_file = json_file and json_file.resolve()
    os.chdir(ROOT)  # paths in the YAML are relative to the repository
    editor = RobustEditor.from_hparams(REPHyperParams.from_hparams(str(yaml)))
    requests = load_records(data)[:n]
    editor.memory  # noqa: B018 (contexts and C)
    if memory_of:
        print(json.dumps(peak_of(memory_of, editor, requests)))
        return
    for side in SIDES:
        clock(side, editor, requests[:2])  # warms up
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(repeats):
        deltas = {}
        for side in list(SIDES)[:: 1 if turn % 2 else -1]:
            deltas[side], taken = clock(side, editor, requests)
            seconds[side].append(taken)
    command = [sys.executable, __file__, str(yaml), "--data", str(data), "--n", str(n), "--memory-of"]
    peak = {
        side: json.loads(subprocess.run([*command, side], check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        for side in (SIDES if memory else ())
    }
    show(editor, len(requests), seconds, peak, cosine(deltas["native"], deltas["EasyEdit"]), json_file)


def show(editor: RobustEditor, n: int, seconds: dict, peak: dict, agreement: float, json_file: Path | None) -> None:
    weight = editor.anatomy.weight(editor.hparams.layers[0])
    where = torch.cuda.get_device_name(weight.device) if weight.is_cuda else f"CPU, {torch.get_num_threads()} thread(s)"
    model = Path(str(editor.model.config._name_or_path)).name
    table = Table(title=f"{n} MEMIT edits at once, layers {editor.hparams.layers}: {model}, {weight.dtype}, {where}")
    for name in ("", "median s", "all", "peak MiB"):
        table.add_column(name, justify="right" if name else "left")
    for side, taken in seconds.items():
        table.add_row(side, f"{statistics.median(taken):.2f}", " ".join(f"{t:.2f}" for t in taken), f"{peak[side]:.0f}" if peak else "–")
    ratio = statistics.median(seconds["EasyEdit"]) / statistics.median(seconds["native"])
    table.caption = f"EasyEdit / native: {ratio:.1f} × the time; smallest cosine between the weight changes {agreement:.6f}"
    Console().print(table)
    if json_file:
        made_on = {"device": where, "dtype": str(weight.dtype), "python": platform.python_version(), "torch": torch.__version__}
        json_file.write_text(
            json.dumps({**made_on, "n": n, "seconds": seconds, "peak_mib": peak, "ratio": ratio, "cosine": agreement}) + "\n"
        )


if __name__ == "__main__":
    try:
        typer.run(main)
    except EditError as error:
        sys.exit(f"error: {error}")
