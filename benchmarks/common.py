"""What every benchmark shares: ways that take turns, peak memory, the machine's name, and the table."""

import json
import os
import platform
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers

from easyedit_rep import EditError
from easyedit_rep.files import replace_json

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
MIB = 2**20


@dataclass(frozen=True)
class Setting:
    """What is asked for on the command line.

    Attributes:
        model: a name in `benchmarks.models`.
        dtype: of our model; EasyEdit's is float32, the only one its methods work in on a CPU.
        n: of what the case counts (facts in a batch, edits in a sequence …); None for the case's own.
        easyedit: EASYEDIT_HOME is set.
    """

    model: str = "bench"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    repeats: int = 5
    n: int | None = None
    easyedit: bool = False


@dataclass
class Case:
    """One thing, done in several ways.

    Attributes:
        ways: name -> what is timed; it is given the number of the turn, and all ways of a turn do the same work.
        baseline: the way the others are compared with.
        agreement: results of the last turn by way -> numbers that say how equal they are.
        targets: way -> how many times faster than the baseline it is meant to be.
        floor: bytes moved and FLOPs done at least, and other numbers worth a column of their own in words.
        memory: also take each way's peak memory, in a process of its own.
        once: one turn, and none to warm up.
        work: units of `unit` that one call does, for a rate.
    """

    title: str
    ways: Mapping[str, Callable[[int], object]]
    baseline: str
    agreement: Callable[[dict[str, object]], dict[str, float]] | None = None
    targets: Mapping[str, float] = field(default_factory=dict)
    floor: str = ""
    memory: bool = False
    once: bool = False
    work: float = 0.0
    unit: str = ""


def wait(device: torch.device) -> None:
    """Until the device's queue is empty."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def name_of(dtype: torch.dtype) -> str:
    """ "float32"."""
    return str(dtype).removeprefix("torch.")


def clock(call: Callable[[int], object], turn: int, device: torch.device) -> tuple[object, float]:
    """(result, wall-clock seconds)."""
    wait(device)
    start = time.perf_counter()
    result = call(turn)
    wait(device)
    return result, time.perf_counter() - start


def alternate(case: Case, repeats: int, device: torch.device) -> tuple[dict[str, list[float]], dict[str, object]]:
    """{way: seconds of each turn} and the results of the last turn. The ways take turns, the first of them being another each time, so
    that what slows the machine down slows all of them; one turn before the first warms up."""
    names = list(case.ways)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    results: dict[str, object] = {}
    for turn in range(1) if case.once else range(-1, repeats):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            results[name], taken = clock(case.ways[name], max(turn, 0), device)
            if turn >= 0:
                seconds[name].append(taken)
    return seconds, results


def rows_of(case: Case, seconds: Mapping[str, Sequence[float]], agreement: Mapping, peak: Mapping[str, float]) -> list[dict]:
    """A record for each way. The ratio is the median of each turn's own: its ways ran side by side."""
    out = []
    for name, taken in seconds.items():
        ratios = [base / own for base, own in zip(seconds[case.baseline], taken, strict=True)]
        row = {
            "case": case.title,
            "way": name,
            "median_s": statistics.median(taken),
            "fastest_s": min(taken),
            "slowest_s": max(taken),
            "ratio": statistics.median(ratios),
            "ratio_range": [min(ratios), max(ratios)],
            "baseline": case.baseline,
            "target": case.targets.get(name),
            "seconds": list(taken),
        }
        if name in peak:
            row["peak_mib"] = peak[name]
        if case.work:
            row["rate"] = f"{case.work / row['median_s']:.1f} {case.unit}/s"
        out.append(row)
    out[0].update(agreement=dict(agreement), floor=case.floor)
    return out


def peak_memory(call: Callable[[int], object], device: torch.device) -> float:
    """MiB above what was held before; on a GPU, of what PyTorch allocated there. Call once first: what that keeps is not counted."""
    call(0)
    wait(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call(0)
        wait(device)
        return (torch.cuda.max_memory_allocated(device) - before) / MIB
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    before = pages * resource.getpagesize() / MIB
    call(0)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024 - before


def machine(device: torch.device) -> dict[str, str]:
    """What it ran on."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        name = next((line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")), name)
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{name}, {torch.get_num_threads()} threads"
    return {
        "machine": place,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def easyedit_home() -> Path | None:
    """The checkout EASYEDIT_HOME names, importable from now on; None where it is unset.

    Raises:
        EditError: it names none.
    """
    if "EASYEDIT_HOME" not in os.environ:
        return None
    home = Path(os.environ["EASYEDIT_HOME"]).expanduser()
    if not (home / "easyeditor").is_dir():
        raise EditError(f"EASYEDIT_HOME: {home} is no checkout of zjunlp/EasyEdit")
    if str(home) not in sys.path:
        sys.path.insert(0, str(home))
    return home


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def markdown(rows: Sequence[dict], made_on: Mapping[str, str]) -> str:
    """The rows as a table for people."""
    head = ("case", "way", "median s", "range", "× baseline", "range", "target", "peak MiB", "rate")
    lines = [f"# {made_on['machine']}", "", ", ".join(f"{k} {v}" for k, v in made_on.items() if k != "machine"), "", _row(head)]
    lines.append(_row(["---", "---", *["---:"] * (len(head) - 2)]))
    notes, last = [], None
    for row in rows:
        new, last = row["case"] != last, row["case"]
        is_baseline = row["way"] == row["baseline"]
        lines.append(
            _row(
                [
                    row["case"] if new else "",
                    row["way"],
                    f"{row['median_s']:.4g}",
                    f"{row['fastest_s']:.4g}–{row['slowest_s']:.4g}",
                    "1" if is_baseline else f"{row['ratio']:.2f}",
                    "" if is_baseline else "–".join(f"{r:.2f}" for r in row["ratio_range"]),
                    row["target"] or "",
                    f"{row['peak_mib']:.0f}" if "peak_mib" in row else "",
                    row.get("rate", ""),
                ]
            )
        )
        if new and (row["agreement"] or row["floor"]):
            said = ", ".join(f"{k} {v:.7g}" for k, v in row["agreement"].items())
            notes.append(f"- {row['case']}: {'; '.join(part for part in (said, row['floor']) if part)}")
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def slug(text: str) -> str:
    """A file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def write(path: Path, rows: Sequence[dict], made_on: Mapping[str, str]) -> None:
    """`path`.json and `path`.md. Rows of cases that were not run again stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    target = path.with_suffix(".json")
    old = json.loads(target.read_text(encoding="utf-8"))["rows"] if target.exists() else []
    done = {row["case"] for row in rows}
    rows = [row for row in old if row["case"] not in done] + list(rows)
    replace_json(target, {**made_on, "rows": rows})
    path.with_suffix(".md").write_text(markdown(rows, made_on), encoding="utf-8")
