"""A change of one weight, kept in factors until it is written."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..anatomy import Anatomy


@dataclass(frozen=True, eq=False)
class Delta:
    """ΔW = left @ right, with W the d × D map from keys to values.

    Attributes:
        left: (d, n) float32; what is added to the value.
        right: (n, D) float32; which keys it is added for. None: `left` is the whole d × D change, float32 or float64.
        transposed: the parameter is stored D × d (GPT-2's Conv1D).
    """

    left: Tensor
    right: Tensor | None
    transposed: bool = False

    def add_to(self, weight: Tensor) -> None:
        """weight += ΔW in place, in the weight's dtype and orientation."""
        target = weight.T if self.transposed else weight
        with torch.no_grad():
            if self.right is None:
                target.add_(self.left.to(weight.device))  # in the wider of the two dtypes, then rounded once
            else:
                target.addmm_(self.left.to(weight), self.right.to(weight))

    def dense(self) -> Tensor:
        """The change as a (d, D) float32 matrix."""
        return self.left.float() if self.right is None else self.left.float() @ self.right.to(self.left.device).float()

    def norm(self) -> float:
        """Frobenius norm, from the factors."""
        if self.right is None:
            return self.left.norm().item()
        return ((self.left.T @ self.left) * (self.right @ self.right.T).to(self.left.device)).sum().clamp(min=0).sqrt().item()


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes."""
    flat = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
    return hashlib.sha256(flat.numpy().data).hexdigest()


def bit_sum(tensor: Tensor) -> tuple[int, int]:
    """Sums of a tensor's bytes, eight at a time, modulo 2⁶⁴: over rows, and over columns, each of which counts by an odd factor of its own.
    Any other number changes them, and so do numbers in other places (several changes could cancel out, by chance of one in 2⁶⁴); reading
    them takes about as long as copying the tensor."""
    rows = tensor.detach().contiguous()
    rows = rows.view(len(rows), -1) if rows.dim() else rows.view(1, 1)
    whole = rows.shape[1] * rows.itemsize % 8 == 0 and rows.data_ptr() % 8 == 0
    words = rows.view(torch.int64 if whole else torch.uint8)
    by_row, by_column = ((part * torch.arange(1, 2 * len(part), 2, device=part.device)).sum() for part in (words.sum(1), words.sum(0)))
    return tuple(torch.stack([by_row, by_column]).tolist())


@contextmanager
def scratch_weights(anatomy: Anatomy, layers: Sequence[int]) -> Iterator[dict[int, nn.Parameter]]:
    """{layer: copy} that stand in for the rewrite weights inside, to be written at will.

    The weights themselves are never written: they need no restoring, and a ledger that watches them sees nothing.
    """
    before = {layer: anatomy.weight(layer) for layer in layers}
    copies = {layer: nn.Parameter(weight.detach().clone(), requires_grad=False) for layer, weight in before.items()}
    # A pathway layer lists the parameters of the projection it stands in for as its own.
    owners = {layer: {anatomy.rewrite(layer), anatomy.projection(layer)} for layer in layers}

    def place(weights: dict[int, nn.Parameter]) -> None:
        for layer, modules in owners.items():
            for module in modules:
                module._parameters["weight"] = weights[layer]

    try:
        place(copies)
        yield copies
    finally:
        place(before)
