"""The linear part of edits as a standard LoRA adapter, for PEFT without this package and for vLLM.

LoRA computes W k + (alpha / r) B A k; with alpha = r, B = left and A = right it is an edit's ΔW to the last factor. A pathway is not linear
(its gate opens or not), so no LoRA can hold it: it is left out, and said to be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, TaskType
from torch import Tensor

from ..errors import EditError
from ..files import replace_together, write_json, write_tensors
from ..memory.delta import Delta
from .artefact import CONFIG, TENSORS, Artefact, check_free
from .layout import PREFIX

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for --max-lora-rank (0.14 and later; older versions lack 1, the oldest stop at 256)."""

EXACT = 1e-6
"""Share of ‖ΔW‖ that float32's rounding takes from factors; more than that is lost, and said to be."""


@dataclass(frozen=True)
class Exported:
    """What has been written.

    Attributes:
        rank: of the adapter; what vLLM's --max-lora-rank must be at least.
        exact: {module: rank of its ΔW} where no more than float32's rounding was lost.
        errors: {module: ‖ΔW − BA‖ / ‖ΔW‖, Frobenius} of the others: the rank, or the file's dtype, was too small.
        ranks: {module: rank of its ΔW}.
        left_out: pathways, which LoRA cannot express.
    """

    folder: Path
    rank: int
    exact: Mapping[str, int]
    errors: Mapping[str, float]
    ranks: Mapping[str, int]
    left_out: int

    def lines(self) -> list[str]:
        """What a user should know."""
        out = [f"LoRA of rank {self.rank} in {self.folder}: vLLM wants --max-lora-rank {self.rank}"]
        out += [f"{name}: exact, rank {rank}" for name, rank in self.exact.items()]
        lost = [(name, f"{error:.2e} of ‖ΔW‖ is lost", self.ranks[name]) for name, error in self.errors.items()]
        out += [
            f"{name}: {what}, to rounding" if rank <= self.rank else f"{name}: the best of rank {self.rank} for one of {rank}, {what}"
            for name, what, rank in lost
        ]
        if self.left_out:
            out.append(f"left out: {self.left_out} pathways. LoRA cannot express a gate: rephrased subjects are answered as without REP")
        return out


def export_lora(artefact: Artefact, folder: Path | str, rank: int | None = None, dtype: torch.dtype = torch.float32) -> Exported:
    """Write the deltas of `artefact` to `folder` as `adapter_config.json` and `adapter_model.safetensors` of PEFT's LoRA.

    Args:
        rank: one of `RANKS`; None takes the smallest that is exact, or else the largest.
        dtype: of the file.

    Raises:
        EditError: another rank, no deltas at all, or it cannot be written.
    """
    folder = Path(folder)
    check_free(folder)
    if rank is not None and rank not in RANKS:
        raise EditError(f"rank: {rank} is not one vLLM accepts: take one of {', '.join(map(str, RANKS))}")
    deltas = {w.module: [edit.deltas[i] for edit in artefact.edits if i in edit.deltas] for i, w in artefact.weights.items()}
    factored = {module: factors(mine) for module, mine in deltas.items()}
    factored = {module: pair for module, pair in factored.items() if pair is not None}
    if not factored:
        raise EditError("these edits change no weight (pathways alone, or merged): there is nothing LoRA can hold")
    needed = max(len(right) for _, right in factored.values())
    rank = rank or next((r for r in RANKS if r >= needed), RANKS[-1])
    tensors, exact, errors = {}, {}, {}
    for module, whole in factored.items():
        fits = len(whole[1]) <= rank
        left, right = (part.to(dtype) for part in _even(*(whole if fits else _best(*whole, rank))))
        if not (left.isfinite().all() and right.isfinite().all()):
            raise EditError(f"{module}: ΔW is too large for {dtype}: export in bfloat16 or float32")
        lost = _lost(whole, (left.double(), right.double()))
        if fits and lost < EXACT:
            exact[module] = len(right)
        else:
            errors[module] = lost
        # All of one rank: vLLM takes the rank from the configuration alone. Zeros add nothing.
        room = rank - len(right)
        tensors[f"{PREFIX}{module}.lora_A.weight"] = torch.nn.functional.pad(right, (0, 0, 0, room))
        tensors[f"{PREFIX}{module}.lora_B.weight"] = torch.nn.functional.pad(left, (0, room))
    writers = {
        folder / TENSORS: partial(write_tensors, tensors=tensors, metadata={"format": "pt"}),
        folder / CONFIG: partial(write_json, data=_config(artefact, sorted(factored), rank)),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_together(writers)
    except OSError as error:
        raise EditError(f"cannot write to {folder} ({error.strerror or error}): what was there is kept") from error
    ranks = {module: len(right) for module, (_, right) in factored.items()}
    return Exported(folder, rank, exact, errors, ranks, sum(len(edit.pathways) for edit in artefact.edits))


def _config(artefact: Artefact, modules: list[str], rank: int) -> dict:
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.0,
        target_modules=modules,
        bias="none",
        fan_in_fan_out=artefact.transposed,
        base_model_name_or_path=artefact.model["name"] or None,
        task_type=TaskType.CAUSAL_LM,
        inference_mode=True,
    ).to_dict()
    return {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}


def factors(deltas: Sequence[Delta]) -> tuple[Tensor, Tensor] | None:
    """(d, n), (n, D) float64 with left @ right = Σ `deltas`; None for none. A whole change is factored to its numerical rank."""
    lefts, rights = [], []
    for delta in deltas:
        left, right = (delta.left.cpu().double(), delta.right.cpu().double()) if delta.right is not None else _factor(delta.left.cpu())
        lefts.append(left)
        rights.append(right)
    return (torch.cat(lefts, dim=1), torch.cat(rights)) if lefts else None


def _factor(change: Tensor) -> tuple[Tensor, Tensor]:
    """A whole (d, D) change by its singular values; those that are rounding errors of the weight it was read from are none."""
    left, values, right = torch.linalg.svd(change.double(), full_matrices=False)
    rank = max(1, int((values > values[0] * max(change.shape) * torch.finfo(torch.float32).eps).sum()))
    return left[:, :rank] * values[:rank], right[:rank]


def _best(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The nearest factors of `rank` (Eckart and Young), by way of two small QR."""
    (outer, upper), (inner, lower) = torch.linalg.qr(left), torch.linalg.qr(right.T)
    u, values, v = torch.linalg.svd(upper @ lower.T, full_matrices=False)
    return (outer @ u[:, :rank]) * values[:rank], v[:rank] @ inner.T


def _even(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The same product, each column of `left` as long as its row of `right`: float16 holds neither the very small nor the very large."""
    scale = (left.norm(dim=0) / right.norm(dim=1)).sqrt()
    scale = torch.where(scale.isfinite() & (scale > 0), scale, torch.ones_like(scale))
    return left / scale, right * scale[:, None]


def _lost(whole: tuple[Tensor, Tensor], written: tuple[Tensor, Tensor]) -> float:
    """‖ΔW − BA‖ / ‖ΔW‖ of float64 factors, by way of two small QR of both products' factors side by side."""
    (left, right), (mine_left, mine_right) = whole, written
    upper, lower = (torch.linalg.qr(m, mode="r").R for m in (torch.cat([left, -mine_left], dim=1), torch.cat([right, mine_right]).T))
    size = (torch.linalg.qr(left, mode="r").R @ torch.linalg.qr(right.T, mode="r").R.T).norm()
    return ((upper @ lower.T).norm() / size).item() if size else 0.0
