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
from .artefact import CONFIG, RECORD, TENSORS, Artefact
from .layout import PREFIX

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for --max-lora-rank (0.14 and later; older versions lack 1, the oldest stop at 256)."""


@dataclass(frozen=True)
class Exported:
    """What has been written.

    Attributes:
        rank: of the adapter; what vLLM's --max-lora-rank must be at least.
        exact: {module: rank of its ΔW} where nothing was lost.
        errors: {module: ‖ΔW − BA‖ / ‖ΔW‖, Frobenius} where the best approximation of that rank stands for it.
        left_out: pathways, which LoRA cannot express.
    """

    folder: Path
    rank: int
    exact: Mapping[str, int]
    errors: Mapping[str, float]
    left_out: int

    def lines(self) -> list[str]:
        """What a user should know."""
        out = [f"LoRA of rank {self.rank} in {self.folder}: vLLM wants --max-lora-rank {self.rank}"]
        out += [f"{name}: exact, rank {rank}" for name, rank in self.exact.items()]
        out += [f"{name}: the best of rank {self.rank}, {error:.2e} of ‖ΔW‖ is lost" for name, error in self.errors.items()]
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
    for module, (left, right) in factored.items():
        if len(right) <= rank:
            exact[module] = len(right)
        else:
            left, right, errors[module] = _best(left, right, rank)
        # All of one rank: vLLM takes the rank from the configuration alone. Zeros add nothing.
        room = rank - len(right)
        tensors[f"{PREFIX}{module}.lora_A.weight"] = torch.nn.functional.pad(right, (0, 0, 0, room)).to(dtype)
        tensors[f"{PREFIX}{module}.lora_B.weight"] = torch.nn.functional.pad(left, (0, room)).to(dtype)
    folder = Path(folder)
    if (folder / RECORD).exists():
        raise EditError(f"{folder} holds saved edits: export to another folder")
    writers = {
        folder / TENSORS: partial(write_tensors, tensors=tensors, metadata={"format": "pt"}),
        folder / CONFIG: partial(write_json, data=_config(artefact, sorted(factored), rank)),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_together(writers)
    except OSError as error:
        raise EditError(f"cannot write to {folder} ({error.strerror or error}): what was there is kept") from error
    return Exported(folder, rank, exact, errors, sum(len(edit.pathways) for edit in artefact.edits))


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


def _best(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """The nearest factors of `rank`, and the share of the norm that is lost (Eckart and Young), by way of two small QR."""
    (outer, upper), (inner, lower) = torch.linalg.qr(left), torch.linalg.qr(right.T)
    u, values, v = torch.linalg.svd(upper @ lower.T, full_matrices=False)
    lost = (values[rank:].norm() / values.norm()).item() if values.norm() else 0.0
    return (outer @ u[:, :rank]) * values[:rank], v[:rank] @ inner.T, lost
