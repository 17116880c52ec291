"""The unfinished sums of `covariance.accumulate` on disk: a run that was killed goes on from them and ends in the same bits."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import EditError
from ..files import NOT_AN_ARCHIVE, remove_scratch, replacing


@dataclass
class Checkpoint:
    """One file that holds the sums of some layers, how many batches they are of, and what they were made from.

    Attributes:
        path: the file; it exists only while there is something unfinished.
        every: seconds between two writes. Large sums are written less often, so that writing takes at most a tenth of the time.
    """

    path: Path
    every: float = 30.0
    _next: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self):
        self._next = time.monotonic() + self.every

    def made_from(self) -> dict:
        """What the sums were made from (see `covariance.made_from`); {} when there is no file.

        Raises:
            EditError: the file cannot be read.
        """
        if not self.path.exists():
            return {}
        with self._open() as data:
            return json.loads(str(data["made_from"]))

    def done(self) -> tuple[int, int]:
        """(tokens that are in the sums, tokens in all); (0, 0) when there is no file."""
        if not self.path.exists():
            return 0, 0
        with self._open() as data:
            return int(data["tokens"]), json.loads(str(data["made_from"]))["tokens"]

    def layers(self) -> list[int]:
        """Layers whose sums are in the file."""
        return sorted(int(layer) for layer in self.made_from().get("layers", ()))

    def check(self, made_from: Mapping) -> bool:
        """Whether there is a file.

        Raises:
            EditError: there is, and it is unreadable, or was made from something else.
        """
        found = self.made_from()
        if not found:
            return False
        wanted = json.loads(json.dumps(made_from))
        differs = [key for key in wanted if key != "model" and found.get(key) != wanted[key]]
        if "layers" in differs:
            why = f"it is of layers {', '.join(found['layers'])} of {found.get('model')!r}, with other weights than the loaded model's"
        elif differs:
            why = f"{differs[0]} was {json.dumps(found.get(differs[0]))} and is now {json.dumps(wanted[differs[0]])}"
        else:
            return True
        raise EditError(f"checkpoint {self.path} does not fit: {why}; finish it with what it was begun with, or delete it")

    def resume(self, made_from: Mapping, sums: Mapping[int, Tensor]) -> int:
        """Fill `sums` in place, if there is a file; returns how many batches are in them.

        Raises:
            EditError: as `check`.
        """
        remove_scratch(self.path)
        if not self.check(made_from):
            return 0
        with self._open() as data:
            for layer, total in sums.items():
                total.copy_(torch.from_numpy(data[f"sum_{layer}"]))
            return int(data["batches"])

    def keep(self, made_from: Mapping, sums: Mapping[int, Tensor], batches: int, tokens: int) -> None:
        """Write the sums, if it is time to.

        Raises:
            EditError: they cannot be written; the file of the last time is still there.
        """
        if time.monotonic() < self._next:
            return
        start = time.monotonic()
        arrays = {f"sum_{layer}": total.cpu().numpy() for layer, total in sums.items()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as scratch, scratch.open("wb") as file:
                np.savez(file, made_from=np.array(json.dumps(made_from)), batches=np.array(batches), tokens=np.array(tokens), **arrays)
        except OSError as error:
            kept = "the one before is kept" if self.path.exists() else "none is there yet"
            raise EditError(f"cannot write checkpoint {self.path}: {error}; {kept}: make room and run the same command again") from error
        took = time.monotonic() - start
        self._next = time.monotonic() + max(self.every, 10 * took if self.every else 0)

    def remove(self) -> None:
        """Nothing is unfinished any more."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def _open(self) -> Iterator[Mapping]:
        try:
            with np.load(self.path, allow_pickle=False) as data:
                yield data
        except NOT_AN_ARCHIVE as error:
            raise EditError(f"checkpoint {self.path} cannot be read ({error}): delete it to begin again") from error
