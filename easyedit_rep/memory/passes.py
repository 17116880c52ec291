"""Statistics files of many layers: which are missing, in how many passes they fit into memory, and the passes themselves."""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from ..anatomy import Anatomy
from ..errors import EditError
from ..files import remove_scratch
from .checkpoint import Checkpoint
from .covariance import Sample, accumulate, made_from
from .statistics import read_record, save_statistics, statistics_path
from .tokens import token_budget

GB = 10**9


def available_memory(device: torch.device) -> int:
    """Bytes that are free for sums on `device`, and for the copy of them that a checkpoint makes on the host."""
    meminfo, limit = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if meminfo.is_file():
        (line,) = (line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:"))
        free = int(line.split()[1]) * 1024
    else:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    if limit.is_file() and limit.read_text().strip().isdigit():
        free = min(free, int(limit.read_text()) - int(limit.with_name("memory.current").read_text()))
    return min(free, torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else free


def text_of(layers: Sequence[int]) -> str:
    """ "0-3,7" for [0, 1, 2, 3, 7]."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


@dataclass(frozen=True, eq=False)
class Passes:
    """What is to be done for one corpus. Making it reads, checks and refuses; only `run` writes.

    Attributes:
        dataset: EasyEdit's `mom2_dataset`, which names the folder.
        n_samples: EasyEdit's `mom2_n_samples`, which is part of the file names.
        max_bytes: memory the sums may take.
        force: also make again what is there.
        every: seconds between two checkpoints.
    """

    anatomy: Anatomy
    sample: Sample
    layers: Sequence[int]
    stats_dir: Path
    dataset: str
    dtype: str
    n_samples: int
    max_bytes: int
    force: bool = False
    every: float = 30.0

    def path(self, layer: int) -> Path:
        return statistics_path(self.stats_dir, self.anatomy, layer, self.dataset, self.dtype, self.n_samples)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.path(0).parent / f"unfinished_{self.dtype}_{self.n_samples}.checkpoint", self.every)

    @cached_property
    def begun(self) -> list[int]:
        """Layers of the checkpoint of a run that was killed; they come first, together, whatever files there are of them."""
        begun = self.checkpoint.layers()
        if not set(begun) <= set(self.layers):
            raise EditError(
                f"checkpoint {self.checkpoint.path} holds layers {text_of(begun)}, {text_of(self.layers)} are asked for: "
                f"ask for --layers {text_of({*begun, *self.layers})}, or delete it"
            )
        if begun:
            self.checkpoint.check(made_from(self.anatomy, self.sample, begun))
        return begun

    @cached_property
    def finished(self) -> list[int]:
        """Layers whose files are there and need not be made."""
        there = [i for i in self.layers if i not in self.begun and not self.force and self.path(i).exists()]
        for layer in there:
            self._check_same(layer)
        return there

    def _check_same(self, layer: int) -> None:
        record = read_record(self.path(layer))
        if record is None:  # EasyEdit's own: `load_statistics` compares it with the model
            return
        wanted = {**self.sample.record, "fingerprint": self.anatomy.fingerprint(layer)}
        for key, value in wanted.items():
            if record.get(key, value) != value:
                raise EditError(
                    f"{self.path(layer)} was made with {key} {record[key]}, asked for is {value}: "
                    "pass --force to make it again, or another --stats-dir or --corpus NAME=FILE to keep both"
                )

    @cached_property
    def groups(self) -> list[list[int]]:
        """The layers of each pass."""
        left = [i for i in self.layers if i not in self.begun and i not in self.finished]
        most = len(left)
        while most > 1 and self.need(most) > self.max_bytes:
            most -= 1
        groups = [self.begun] * bool(self.begun) + [left[i : i + most] for i in range(0, len(left), most or 1)]
        for group in groups:
            if self.need(len(group)) > self.max_bytes:
                need, allowed = self.need(len(group)) / GB, self.max_bytes / GB
                instead = f", or delete {self.checkpoint.path} to begin with smaller passes" if self.begun else ""
                raise EditError(
                    f"layers {text_of(group)} take {need:.1f} GB of memory, {allowed:.1f} GB are allowed: raise --max-memory{instead}"
                )
        return groups

    def need(self, n_layers: int) -> int:
        """Bytes a pass over `n_layers` takes: their sums, the two copies that writing one makes, and a batch of keys."""
        size = self.anatomy.key_size(self.layers[0])
        return 8 * size * size * (n_layers + 2) + 12 * size * token_budget(self.anatomy.embedding_device)

    def check_disk(self) -> None:
        """Raise `EditError` if the files, and a checkpoint while its successor is written, will not fit."""
        if not self.groups:
            return
        size = self.anatomy.key_size(self.layers[0])
        files = sum(map(len, self.groups)) * getattr(torch, self.dtype).itemsize
        need = size * size * (files + 2 * 8 * max(map(len, self.groups)))
        place = next(folder for folder in [self.stats_dir, *self.stats_dir.absolute().parents] if folder.exists())
        free = shutil.disk_usage(place).free
        if need > free:
            raise EditError(
                f"{self.stats_dir} has {free / GB:.1f} GB free, files and checkpoint of {self.dataset} take up to {need / GB:.1f} GB: "
                "make room, or lower --max-memory for smaller checkpoints"
            )

    def run(self, say: Callable[[str], None], progress: bool = True) -> None:
        """Make what is missing; a run after a kill goes on where the last checkpoint was.

        Args:
            say: is told what is about to happen, a line at a time.
        """
        if self.finished:
            say(f"{self.dataset}: layers {text_of(self.finished)} are there already (--force makes them again)")
        if not self.groups:
            return
        lock = FileLock(f"{self.checkpoint.path}.lock")
        try:
            self.checkpoint.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            place = self.checkpoint.path.parent
            raise EditError(f"another process collects in {place}: wait for it, or give another --stats-dir") from None
        except OSError as error:
            raise EditError(f"cannot write to {self.stats_dir} ({error.strerror}): give another --stats-dir") from error
        try:
            self._run(say, progress)
            with suppress(OSError):  # nothing is left to be guarded
                Path(lock.lock_file).unlink()
        finally:
            lock.release()

    def _run(self, say: Callable[[str], None], progress: bool) -> None:
        for group in self.groups:
            seen, total = self.checkpoint.done()
            going = f", going on after {seen / total:.0%}" if total else ""
            tokens = self.sample.record["tokens"]
            say(f"{self.dataset}: layers {text_of(group)}, {tokens:,} tokens, {self.need(len(group)) / GB:.2f} GB of memory{going}")
            for layer, covariance in accumulate(self.anatomy, self.sample, group, checkpoint=self.checkpoint, progress=progress).items():
                remove_scratch(self.path(layer))
                remove_scratch(self.path(layer).with_suffix(".json"))
                save_statistics(self.path(layer), covariance, self.dtype, self.n_samples)
            self.checkpoint.remove()
