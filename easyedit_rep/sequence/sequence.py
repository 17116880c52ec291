"""The D4S edits on one model: one memory a layer, one change of W that they all amount to, and a handle for each edit."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import EditError
from ..ledger import Edit, Ledger
from ..memory.covariance import Covariance
from ..memory.delta import Delta
from ..methods.d4s import D4SOptions
from .state import LayerState

log = logging.getLogger(__name__)

TRUSTED = 1e-5
"""Margin of a removal below which more digits are lost than float64 can spare, and the memory is filled anew."""


class Sequence:
    """Edits that know each other: each is written with regard to all before it, and any can leave as if it had never been made.

    The ledger sees one edit, whose deltas are Δ as it is now; the weights are always W₀ + Δ (+ what other edits add).

    Attributes:
        edits: in the order they were made. Each keeps its (key, residual) pairs, on the CPU, which is what lets it leave.
        states: {layer: LayerState}.
    """

    def __init__(self, ledger: Ledger, covariances: dict[int, Covariance], layers: list[int], options: D4SOptions):
        self.ledger, self.covariances, self.layers, self.options = ledger, covariances, sorted(layers), options
        self.edits: list[Edit] = []
        self.states = {layer: self._empty(layer) for layer in self.layers}
        self._entry = Edit((), "D4S", {})

    def _empty(self, layer: int) -> LayerState:
        options, anatomy = self.options.d4s, self.ledger.anatomy
        weight = anatomy.weight(layer)
        size = weight.shape[1] if anatomy.is_transposed(layer) else weight.shape[0]
        device = torch.device("cpu") if options.on_cpu else weight.device
        return LayerState.of(
            self.covariances[layer], self.options.mom2_update_weight, size, options.form, getattr(torch, options.dtype), device
        )

    # -- what a new edit is measured with --------------------------------------------------------------------------------------------

    def delta(self, layer: int) -> Delta:
        """Δ of `layer` as it is now."""
        return Delta(self.states[layer].change, None, self.ledger.anatomy.is_transposed(layer))

    def pairs(self, layer: int, keys: Tensor, residuals: Tensor, relative: bool) -> tuple[Tensor, Tensor]:
        """Keys (n, D) and residuals (n, d) as they are kept: float32 on the CPU. `relative` residuals are wanted on top of Δ."""
        if relative:
            change = self.states[layer].change
            residuals = residuals.to(change) + keys.to(change) @ change.T
        return keys.float().cpu(), residuals.float().cpu()

    def step(self, layer: int, keys: Tensor, residuals: Tensor) -> Delta:
        """What these pairs will add to Δ."""
        left, right = self.states[layer].step(keys, residuals)
        return Delta(left.float(), right.float(), self.ledger.anatomy.is_transposed(layer))

    # -- edits come and go -----------------------------------------------------------------------------------------------------------

    def append(self, edit: Edit) -> Edit:
        """Write `edit`, made by `methods.d4s`, into the model; `edit` is the handle to take it out.

        Raises:
            EditError: already applied, not of this sequence, or past `max_norm_growth`; nothing is changed then.
        """
        if edit.active:
            raise EditError(f"edit {edit.name} is already applied")
        if sorted(edit.pairs) != self.layers:
            raise EditError(f"an edit of layers {sorted(edit.pairs)} cannot join a sequence of layers {self.layers}")
        self._guard(edit)
        self.ledger.attach(edit)
        for layer, (keys, residuals) in edit.pairs.items():
            self.states[layer].append(keys, residuals)
        self.edits.append(edit)
        edit.ledger = self
        self._write()
        edit.info["norms"] = self.norms()
        return edit

    def remove(self, edit: Edit) -> None:
        """Take `edit` out, whatever came after it: what is left is the sequence that never had it."""
        self.ledger.detach(edit)
        self.edits.remove(edit)
        edit.ledger = None
        for layer in self.layers:
            if not self.edits:
                self.states[layer] = self._empty(layer)
            elif self.states[layer].remove(*edit.pairs[layer]) < TRUSTED:
                log.info("layer %d: too many digits lost, filling its memory again from %d edits", layer, len(self.edits))
                self.states[layer] = self._refilled(layer)
        self._write()

    def replace(self, old: Edit, new: Edit) -> Edit:
        """`new` takes the place of `old`: the later edit of a fact wins, the earlier one leaves."""
        self.remove(old)
        return self.append(new)

    def restore(self, edits: list[Edit], states: Mapping[int, Mapping[str, Tensor]], applied: int) -> None:
        """Become the sequence that had `edits` and these `states` (`LayerState.state_dict`); this one must be empty."""
        fresh = {layer: self._empty(layer) for layer in self.layers}
        for layer, state in fresh.items():
            state.load_state_dict(states[layer])
        done: list[Edit] = []
        try:
            for edit in edits:
                self.ledger.attach(edit, edit.name)
                done.append(edit)
        except BaseException:
            for edit in done:
                self.ledger.detach(edit)
            raise
        self.ledger.applied = max(self.ledger.applied, applied)
        self.states, self.edits = fresh, list(edits)
        for edit in edits:
            edit.ledger = self
        self._write()

    def _refilled(self, layer: int) -> LayerState:
        state = self._empty(layer)
        for edit in self.edits:
            state.append(*edit.pairs[layer])
        return state

    def _write(self) -> None:
        self._entry.deltas = {layer: self.delta(layer) for layer in self.layers}
        if not self.edits:
            self._entry.undo()
        elif self._entry.active:
            self.ledger.rewrite(self._entry)
        else:
            self.ledger.apply(self._entry, "sequence")

    # -- its effect on the weights ---------------------------------------------------------------------------------------------------

    def norms(self) -> dict[int, dict[str, float]]:
        """{layer: mean absolute value of an element of W and of Δ} (the paper's Figures 5 and 6)."""
        weight = self.ledger.anatomy.weight
        return {i: {"weight": _mean_abs(weight(i)), "change": _mean_abs(self.states[i].change)} for i in self.layers}

    def _guard(self, edit: Edit) -> None:
        limit = self.options.d4s.max_norm_growth
        if limit is None:
            return
        for layer, delta in edit.deltas.items():
            original = self.ledger.original(layer)
            after = original.float().clone()
            self.delta(layer).add_to(after)
            delta.add_to(after)
            growth = _mean_abs(after) / _mean_abs(original)
            if growth > limit:
                raise EditError(
                    f"edit {len(self.edits) + 1} would make the mean |w| of layer {layer} {growth:.3f} times the original's, above "
                    f"max_norm_growth {limit}: it was not made; raise mom2_update_weight, remove edits, or raise the limit"
                )


def _mean_abs(tensor: Tensor) -> float:
    return tensor.detach().abs().mean(dtype=torch.float64).item()
