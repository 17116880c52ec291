"""Run benchmarks and write their table.

    EASYEDIT_HOME=~/EasyEdit python -m benchmarks.run --cases rome_edit,memit_batch --threads 2
    python -m benchmarks.run --model llama2-7b --device cuda --dtype bfloat16 --cases rome_edit

Written to benchmarks/results/<machine>.json and .md; rows of cases that are not run again stay as they are.
"""

import importlib
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated

import torch
import typer

from easyedit_rep import EditError
from easyedit_rep.loading import torch_device

from .common import ROOT, Case, Setting, alternate, easyedit_home, machine, markdown, peak_memory, rows_of, slug, write
from .models import NAMES

CASES = ("rome_edit", "rep_training", "memit_batch", "emmet", "covariance", "d4s_update", "d4s_sequence", "evaluation", "generation")
"""Modules of this folder that have `cases(setting) -> Iterator[Case]`."""
DTYPES = ("float32", "bfloat16", "float16")


def peaks(case: Case, name: str, number: int) -> dict[str, float]:
    """{way: MiB}, each in a process of its own that is started as this one was. Titles are not the same there: they hold numbers of
    steps, which a GPU's rounding may change."""
    out = {}
    for way in case.ways:
        command = [sys.executable, "-m", "benchmarks.run", *sys.argv[1:], "--cases", name, "--memory-of", f"{number}:{way}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise EditError(f"peak memory of {way!r}: {done.stderr.strip().splitlines()[-1]}")
        out[way] = json.loads(done.stdout.splitlines()[-1])
    return out


def main(
    cases: Annotated[str, typer.Option(help=f"Separated by commas: {', '.join(CASES)}.")] = ",".join(CASES),
    model: Annotated[str, typer.Option(help=f"One of {', '.join(NAMES)}; all but the first two are random.")] = "bench",
    device: Annotated[str, typer.Option(help="cpu, cuda, or a CUDA index.")] = "cpu",
    dtype: Annotated[str, typer.Option(help=f"Of our model: {', '.join(DTYPES)}; EasyEdit's is always float32.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="Of PyTorch on the CPU.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Turns.")] = 5,
    n: Annotated[int | None, typer.Option(help="Facts in a batch, edits in a sequence …; default: the case's own.")] = None,
    memory: Annotated[bool, typer.Option(help="Also take peak memory, which runs each way twice more in a process of its own.")] = True,
    out: Annotated[Path | None, typer.Option(help="File without suffix; default: benchmarks/results/<machine>.")] = None,
    memory_of: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    names = cases.split(",")
    if unknown := [name for name in names if name not in CASES]:
        raise EditError(f"--cases {unknown[0]}: there are {', '.join(CASES)}")
    if model not in NAMES:
        raise EditError(f"--model {model}: there are {', '.join(NAMES)}")
    if dtype not in DTYPES:
        raise EditError(f"--dtype {dtype}: there are {', '.join(DTYPES)}")
    setting = Setting(model, torch_device(device), getattr(torch, dtype), repeats, n, easyedit_home() is not None)
    if memory_of:
        number, _, way = memory_of.partition(":")
        case = next(islice(importlib.import_module(f".{names[0]}", __package__).cases(setting), int(number), None))
        print(json.dumps(peak_memory(case.ways[way], setting.device)))
        return
    made_on = machine(setting.device)
    out = out or ROOT / "benchmarks/results" / slug(made_on["machine"])
    for name in names:
        for number, case in enumerate(importlib.import_module(f".{name}", __package__).cases(setting)):
            seconds, results = alternate(case, repeats, setting.device)
            agreement = case.agreement(results) if case.agreement else {}
            rows = rows_of(case, seconds, agreement, {})
            write(out, rows, made_on)  # at once: beside this process a second may find too little memory
            if memory and case.memory:
                rows = rows_of(case, seconds, agreement, peaks(case, name, number))
                write(out, rows, made_on)
            print(markdown(rows, made_on))


if __name__ == "__main__":
    try:
        typer.run(main)
    except EditError as error:
        sys.exit(f"error: {error}")
