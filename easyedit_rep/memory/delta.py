"""A change of one weight, kept in factors until it is written."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Delta:
    """ΔW = left @ right, with W the d × D map from keys to values.

    Attributes:
        left: (d, n) float32; what is added to the value.
        right: (n, D) float32; which keys it is added for. None: `left` is the whole d × D change.
        transposed: the parameter is stored D × d (GPT-2's Conv1D).
    """

    left: Tensor
    right: Tensor | None
    transposed: bool = False

    def add_to(self, weight: Tensor) -> None:
        """weight += ΔW in place, in the weight's dtype and orientation."""
        target = weight.T if self.transposed else weight
        left = self.left.to(weight)
        with torch.no_grad():
            if self.right is None:
                target.add_(left)
            else:
                target.addmm_(left, self.right.to(weight))

    def dense(self) -> Tensor:
        """The change as a (d, D) float32 matrix."""
        return self.left.float() if self.right is None else self.left.float() @ self.right.float()

    def norm(self) -> float:
        """Frobenius norm, from the factors."""
        if self.right is None:
            return self.left.norm().item()
        return ((self.left.T @ self.left) * (self.right @ self.right.T)).sum().clamp(min=0).sqrt().item()
