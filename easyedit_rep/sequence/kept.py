"""The edits of a sequence without its statistics: Δ from the pairs alone, and what is left of it when some of them leave.

With K (n, D), R (n, d) the pairs and G = K (λC)⁻¹ (n, D) their keys whitened, Δ = Rᵀ (I + K Gᵀ)⁻¹ G is what `LayerState` has found
recursively. G is all that Δ needs of C, so edits that bring it can be loaded, and taken out in any order, where C is not.
"""

from collections.abc import Mapping
from collections.abc import Sequence as Several
from dataclasses import replace

import torch
from torch import Tensor

from ..edit import Edit
from ..errors import EditError
from ..ledger import Ledger
from ..memory.covariance import Covariance
from ..memory.delta import Delta
from ..methods.d4s import D4SOptions
from .sequence import Sequence


def shares(edits: Several[Edit], layer: int) -> list[Tensor]:
    """Of each edit, the (d, n) float64 `left` with which Σ left @ G is Δ of `layer`.

    Args:
        edits: with `pairs`, and deltas whose `right` is G.
    """
    keys, residuals = (torch.cat([edit.pairs[layer][i] for edit in edits]).double() for i in (0, 1))
    whitened = torch.cat([edit.deltas[layer].right for edit in edits]).double()
    small = torch.eye(len(keys), dtype=torch.float64) + keys @ whitened.T
    left = torch.linalg.solve((small + small.T) / 2, residuals).T
    return list(left.split([len(edit.pairs[layer][0]) for edit in edits], dim=1))


def total(edits: Several[Edit], layer: int) -> Delta:
    """Δ of `layer`, whole."""
    whitened = torch.cat([edit.deltas[layer].right for edit in edits]).double()
    return Delta(torch.cat(shares(edits, layer), dim=1) @ whitened, None, edits[0].deltas[layer].transposed)


def with_shares(edits: Several[Edit]) -> list[Edit]:
    """`edits`, those of the sequence among them with their shares of the Δ that these amount to together."""
    mine = [edit for edit in edits if edit.pairs]
    lefts = {layer: shares(mine, layer) for layer in mine[0].pairs}
    new = {
        id(edit): replace(edit, deltas={i: replace(delta, left=lefts[i][n]) for i, delta in edit.deltas.items()})
        for n, edit in enumerate(mine)
    }
    return [new.get(id(edit), edit) for edit in edits]


def terms(edits: Several[Edit], layer: int) -> list[Delta]:
    """What is added to the weight of `layer`, in order: a delta of each edit, and one of all those of a sequence."""
    out, mine = [], [edit for edit in edits if edit.pairs and layer in edit.pairs]
    for edit in edits:
        if layer in edit.deltas and not edit.pairs:
            out.append(edit.deltas[layer])
        elif mine and edit is mine[0]:
            out.append(total(mine, layer))
    return out


class Kept(Sequence):
    """A sequence that was loaded from a file. Its edits can leave; an editor with its statistics takes it up and goes on."""

    def __init__(self, ledger: Ledger, layers: list[int], options: D4SOptions, digests: Mapping[int, str]):
        """`digests`: of each layer's C."""
        super().__init__(ledger, {}, layers, options)
        self._digests = dict(digests)

    def _empty(self, layer: int) -> None:
        """No memory: what leaves is taken out of the sum."""

    def _filled(self, layer: int, edits: list[Edit]) -> None:
        """None here either."""

    def _take_out(self, layer: int, edit: Edit, rest: list[Edit]) -> None:
        """Nothing: Δ is made of the edits that are there."""

    def delta(self, layer: int) -> Delta:
        return total(self.edits, layer) if self.edits else Delta(torch.zeros(1, 1), None)  # on its way out

    def whitened(self, layer: int, edit: Edit) -> Tensor:
        return edit.deltas[layer].right.double()

    def digests(self) -> dict[int, str]:
        return self._digests

    def append(self, edit: Edit) -> Edit:
        if all(delta.right is not None and delta.right.dtype == torch.float64 for delta in edit.deltas.values()):
            self.hold([edit])  # one that was here before
            return edit
        raise EditError("this sequence was loaded without its statistics: go on with an editor of the YAML it was made with")

    def made_with(self, covariances: dict[int, Covariance]) -> bool:
        return {layer: covariance.digest for layer, covariance in covariances.items() if layer in self.layers} == self._digests

    def taken_up(self, covariances: dict[int, Covariance]) -> Sequence:
        """A sequence with these edits and a memory, in the place of this one."""
        full = Sequence(self.ledger, covariances, self.layers, self.options)
        full.states = {layer: full._filled(layer, self.edits) for layer in self.layers}
        full.edits, full._entry, self.ledger.sequence = self.edits, self._entry, full
        for edit in self.edits:
            edit.ledger = full
        full._write()
        return full
