"""One D4S update, keys and residuals given: our recursive and pairs forms, and the released code's accumulate-and-solve.

    python benchmarks/d4s_update.py --size 4096 --out-size 1024 --edits 100

Time per edit after `--edits` edits, median; float64; one process, the three in turn. Ours is bound by memory: the bytes a step must move,
and the bandwidth reached, are printed beside a plain copy's.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from easyedit_rep.memory.covariance import Covariance
from easyedit_rep.sequence.state import LayerState

WEIGHT = 15000.0


class Released:
    """ΣRKᵀ and ΣKKᵀ in float64, and a solve of the whole D × D system for every edit."""

    def __init__(self, moment: torch.Tensor, out_size: int):
        self.moment = moment
        self.cross = moment.new_zeros(out_size, len(moment))
        self.gram = torch.zeros_like(moment)

    def append(self, key: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        self.cross += residual.T @ key
        self.gram += key.T @ key
        return torch.linalg.solve(self.gram + WEIGHT * self.moment, self.cross, left=False)


def clock(step: Callable[[int], object], first: int, n: int, device: torch.device) -> list[float]:
    """Seconds of each of `n` steps."""
    out = []
    for i in range(first, first + n):
        wait(device)
        start = time.perf_counter()
        step(i)
        wait(device)
        out.append(time.perf_counter() - start)
    return out


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bandwidth(device: torch.device) -> float:
    """GB/s of a plain copy of 512 MB, read and write counted."""
    source = torch.ones(64 * 2**20, dtype=torch.float64, device=device)
    target = torch.empty_like(source)
    seconds = clock(lambda _i: target.copy_(source), 0, 5, device)
    return 2 * source.numel() * 8 / min(seconds) / 1e9


def main(
    size: Annotated[int, typer.Option(help="D, the length of a key.")] = 4096,
    out_size: Annotated[int, typer.Option(help="d, the length of a value.")] = 1024,
    edits: Annotated[int, typer.Option(help="Edits already made when the clock starts.")] = 100,
    late: Annotated[int, typer.Option(help="The recursive form is timed again after this many.")] = 1000,
    released: Annotated[bool, typer.Option(help="Also time the released code's way.")] = True,
    device: Annotated[str, typer.Option()] = "cuda" if torch.cuda.is_available() else "cpu",
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    place = torch.device(device)
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(2 * size, size, generator=generator, dtype=torch.float64).to(place)
    covariance = Covariance(root.T @ root / len(root), len(root))
    count = max(late, edits) + 64
    keys = torch.randn(count, size, generator=generator, dtype=torch.float64).to(place)
    residuals = torch.randn(count, out_size, generator=generator, dtype=torch.float64).to(place)
    rows: dict[str, list[float]] = {}
    changes = {}
    for form in ("recursive", "pairs"):
        state = LayerState.of(covariance, WEIGHT, out_size, form, device=place)

        def step(i, state=state):
            state.append(keys[i : i + 1], residuals[i : i + 1])

        for i in range(edits):
            step(i)
        rows[form] = clock(step, edits, 32, place)
        changes[form] = state.change.clone()
        if form == "recursive":
            for i in range(edits + 32, late):
                step(i)
            rows[f"recursive, edit {late}"] = clock(step, late, 32, place)
    if released:
        other = Released(covariance.moment, out_size)
        other.cross += residuals[: edits + 29].T @ keys[: edits + 29]
        other.gram += keys[: edits + 29].T @ keys[: edits + 29]
        rows["accumulate and solve"] = clock(
            lambda i: changes.__setitem__("released", other.append(keys[i : i + 1], residuals[i : i + 1])), edits + 29, 3, place
        )
    show(rows, changes, size, out_size, edits, place, json_file)


def show(rows: dict, changes: dict, size: int, out_size: int, edits: int, place: torch.device, json_file: Path | None) -> None:
    # The inverse is read once for inverse·k; Δ is read and written once for the rank-one step and read once for Δk.
    moved = 8 * (size * size + 3 * size * out_size)
    name = (
        torch.cuda.get_device_name(place) if place.type == "cuda" else f"{platform.processor() or 'CPU'}, {torch.get_num_threads()} threads"
    )
    table = Table(title=f"one D4S update of a {out_size} × {size} layer after {edits} edits, float64, {name}")
    for head in ("", "median ms", "mean ms", "× faster", "GB/s"):
        table.add_column(head, justify="right" if head else "left")
    base = statistics.median(rows["accumulate and solve"]) if "accumulate and solve" in rows else None
    for form, taken in rows.items():
        median, mean = statistics.median(taken), statistics.fmean(taken)
        ours = form != "accumulate and solve"
        speed = f"{base / mean:.0f}" if base and ours else ""
        table.add_row(form, f"{1e3 * median:.1f}", f"{1e3 * mean:.1f}", speed, f"{moved / median / 1e9:.1f}" if ours else "")
    copy = bandwidth(place)
    table.caption = f"a step moves at least {moved / 1e6:.0f} MB; a plain copy reaches {copy:.1f} GB/s; × by the mean, folding included"
    Console().print(table)
    if "released" in changes:
        gap = ((changes["pairs"] - changes["released"]).norm() / changes["released"].norm()).item()
        Console().print(f"relative difference from the released way: {gap:.1e}")
    if json_file:
        json_file.write_text(
            json.dumps({"device": name, "size": size, "out_size": out_size, "edits": edits, "seconds": rows, "copy_gb_s": copy}) + "\n"
        )


if __name__ == "__main__":
    typer.run(main)
