"""What looking for the nearest keys costs on top of the forward passes that make them, and whether memory stays flat.

    python benchmarks/collisions.py --corpus ../shared/data/wikitext2/valid.txt --corpus ../shared/data/wikitext2/test.txt

One process, the same rows of token ids; each chunk of the text is read twice, by plain forward passes that stop at the layer and by the
search, in alternation, whichever went first last time second. The ratio is of the sums of seconds. Tokenising is outside both.
"""

import json
import platform
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from easyedit_rep.analysis.collisions import chunks, scan, start
from easyedit_rep.analysis.study import Study
from easyedit_rep.anatomy import Anatomy
from easyedit_rep.bench.runs import Run
from easyedit_rep.datasets.corpus import load_corpus
from easyedit_rep.memory.keys import visit_keys
from easyedit_rep.memory.tokens import batches, pad, token_budget

ROOT = Path(__file__).resolve().parents[1]


def forward(anatomy: Anatomy, layer: int, rows: Sequence[Sequence[int]]) -> None:
    """Plain passes over `rows`, up to the keys of `layer`, which are dropped."""
    for group in batches([len(row) for row in rows], token_budget(anatomy.embedding_device)):
        ids, mask = pad([rows[i] for i in group], anatomy.embedding_device)
        visit_keys(anatomy, [layer], ids, mask, lambda _layer, _keys: None)


def clock(step: Callable[[], object]) -> tuple[float, float]:
    """(seconds, seconds of processor time) of `step`, with the device's queue empty before and after."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    begin, worked = time.perf_counter(), time.process_time()
    step()
    wait()
    return time.perf_counter() - begin, time.process_time() - worked


def peak() -> float:
    """MB this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(
    corpus: Annotated[list[Path], typer.Option(help="Text files, read as one.")],
    hparams: Annotated[Path, typer.Option()] = ROOT / "hparams/REP/ROME/bench-llama-layer1.yaml",
    data: Annotated[Path, typer.Option()] = ROOT.parent / "shared/data/rep/test.counterfact_llama2-7b.json",
    subjects: Annotated[int, typer.Option()] = 100,
    tokens: Annotated[int, typer.Option()] = 400_000,
    top: Annotated[int, typer.Option()] = 10,
    threads: Annotated[int, typer.Option()] = 1,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    torch.set_num_threads(threads)
    study = Study.of(Run(hparams, data, 0, subjects, known=False))
    anatomy, layer = study.editor.anatomy, study.layer
    text = load_corpus([line for path in corpus for line in path.read_text(encoding="utf-8").splitlines()])
    nearest, first = start(study, top), 0
    seconds: dict[str, list[float]] = {"forward": [], "search": []}
    worked: dict[str, list[float]] = {"forward": [], "search": []}
    memory, read = [], 0
    for number, rows in enumerate(chunks(study.editor.tok, text, 0, tokens, min(512, anatomy.max_positions))):
        steps = {"forward": lambda rows=rows: forward(anatomy, layer, rows)}
        steps["search"] = lambda rows=rows, first=first: scan(anatomy, layer, rows, nearest, first)
        if number == 0:
            forward(anatomy, layer, rows[: len(rows) // 4])  # warm caches and allocators
        for name in sorted(steps, reverse=number % 2 == 1):
            for taken, into in zip(clock(steps[name]), (seconds, worked), strict=True):
                into[name].append(taken)
        first += sum(map(len, rows))
        read = first
        memory.append(peak())
    ratio, busy = (sum(taken["search"]) / sum(taken["forward"]) for taken in (seconds, worked))
    ratios = [s / f for s, f in zip(seconds["search"], seconds["forward"], strict=True)]
    place = torch.cuda.get_device_name() if anatomy.embedding_device.type == "cuda" else f"{platform.machine()} CPU, {threads} thread(s)"
    table = Table(title=f"{read:,} tokens, {len(study.facts)} subjects, top {top}, {hparams.stem} layer {layer}, {place}")
    for head in ("", "seconds", "processor seconds", "tokens / s"):
        table.add_column(head, justify="right" if head else "left")
    for name, label in (("forward", "plain forward passes"), ("search", "the same, with the search")):
        table.add_row(label, f"{sum(seconds[name]):.1f}", f"{sum(worked[name]):.1f}", f"{read / sum(seconds[name]):,.0f}")
    table.caption = (
        f"ratio {ratio:.3f} (chunks {min(ratios):.2f} to {max(ratios):.2f}), of processor time {busy:.3f}; "
        f"peak memory after the first chunk {memory[0]:.0f} MB, after the last {memory[-1]:.0f} MB"
    )
    Console().print(table)
    if json_file:
        json_file.write_text(
            json.dumps({"tokens": read, "seconds": seconds, "processor_seconds": worked, "ratio": ratio, "peak_mb": memory}) + "\n"
        )


if __name__ == "__main__":
    typer.run(main)
