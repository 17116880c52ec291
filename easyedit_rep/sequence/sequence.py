"""The D4S edits on one model: one memory a layer, one change of W that they all amount to, and a handle for each edit."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from ..edit import Edit
from ..errors import EditError
from ..interrupts import undone_if_interrupted, uninterrupted
from ..ledger import SEQUENCE, Ledger
from ..memory.covariance import Covariance
from ..memory.delta import Delta
from ..methods.d4s import D4SOptions
from .drift import is_due, keep_exact
from .growth import check_growth
from .state import LayerState

log = logging.getLogger(__name__)

TRUSTED = {torch.float64: 1e-5, torch.float32: 1e-2}
"""Margin of a removal below which it would lose more digits than its dtype can spare; the memory is then filled anew."""


class _Entry(Edit):
    """What the ledger sees of a sequence: one edit, which stands for all of them."""

    def undo(self) -> None:
        if self.ledger is not None:
            self.ledger.sequence.undo_all()


class Sequence:
    """Edits that know each other: each is written with regard to all before it, and any can leave as if it had never been made.

    The ledger sees one edit, whose deltas are Δ as it is now; the weights are always W₀ + Δ (+ what other edits add).

    Attributes:
        edits: in the order they were made. Each keeps its (key, residual) pairs, on the CPU, which is what lets it leave.
        states: {layer: LayerState}.
    """

    def __init__(self, ledger: Ledger, covariances: dict[int, Covariance], layers: list[int], options: D4SOptions):
        self.ledger, self.layers, self.options = ledger, sorted(layers), options
        self.covariances = {i: c for i, c in covariances.items() if i in layers}  # pathways may have one more
        self.edits: list[Edit] = []
        self._torn: set[int] = set()
        self.states = {layer: self._empty(layer) for layer in self.layers}
        self._entry = _Entry((), "D4S", {})

    @classmethod
    def of(cls, ledger: Ledger, covariances: dict[int, Covariance], layers: list[int], options: D4SOptions) -> "Sequence":
        """The sequence of the ledger's model; a new one where it carries none. All editors of a model share it.

        Raises:
            EditError: the model carries a sequence with other layers, options or statistics.
        """
        found = ledger.sequence
        if found is not None and found.layers == sorted(layers) and found.options == options and found.made_with(covariances):
            found.mend()
            return found.taken_up(covariances)
        if found is not None and found.edits:
            raise EditError(
                f"the model carries a sequence of {len(found.edits)} edits with other layers, options or statistics: undo it first, "
                "or go on with the same YAML"
            )
        ledger.sequence = cls(ledger, covariances, layers, options)
        return ledger.sequence

    def made_with(self, covariances: dict[int, Covariance]) -> bool:
        """Whether these are the statistics of this sequence."""
        mine = self.covariances
        return all(mine[i] is covariances[i] or mine[i].digest == covariances[i].digest for i in mine)

    def taken_up(self, covariances: dict[int, Covariance]) -> "Sequence":
        """The sequence to go on with, which is this one."""
        return self

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

    def whitened(self, layer: int, edit: Edit) -> Tensor:
        """(n, D) float64 on the CPU: the keys of `edit` times (λC)⁻¹, which is all that Δ needs of C (`sequence/kept.py`)."""
        keys, state = edit.pairs[layer][0].double(), self.states[layer]
        if not state.folded:
            return (keys.to(state.inverse) @ state.inverse).double().cpu()
        return (self.covariances[layer].solve(keys) / self.options.mom2_update_weight).cpu()

    def digests(self) -> dict[int, str]:
        """{layer: digest of C}."""
        return {layer: self.covariances[layer].digest for layer in self.layers}

    # -- edits come and go -----------------------------------------------------------------------------------------------------------

    def append(self, edit: Edit) -> Edit:
        """Write `edit`, made by `methods.d4s`, into the model; `edit` is the handle to take it out. If this raises, it is not applied.

        Raises:
            EditError: already applied, not of this sequence, or past `max_norm_growth`; nothing is changed then.
        """
        if edit.active:
            raise EditError(f"edit {edit.name} is already applied")
        if sorted(edit.pairs) != self.layers:
            raise EditError(f"an edit of layers {sorted(edit.pairs)} cannot join a sequence of layers {self.layers}")
        with undone_if_interrupted(edit.undo):
            return self._append(edit)

    def _append(self, edit: Edit) -> Edit:
        self.ledger.check_untouched(self.layers)
        for layer, delta in edit.deltas.items():
            check_growth(self.ledger, layer, [self.delta(layer), delta], len(self.edits) + 1, self.options.d4s.max_norm_growth)
        self.ledger.attach(edit)
        try:
            for layer, (keys, residuals) in edit.pairs.items():
                self.states[layer].append(keys, residuals)
            self.edits.append(edit)
            edit.ledger = self
            self._keep_exact(len(edit.requests))
            self._write()
        except BaseException:  # out of memory: the sequence is given back as it was
            self.ledger.detach(edit)
            edit.ledger = None
            self._give_back([other for other in self.edits if other is not edit])
            raise
        edit.info["norms"] = {layer: self.ledger.norms(layer) for layer in self.layers}
        return edit

    def _keep_exact(self, added: int) -> None:
        """`keep_exact`, for every layer of which it is time."""
        for layer, state in self.states.items():
            if is_due(state, added):
                keys, residuals = (torch.cat([edit.pairs[layer][k] for edit in self.edits]) for k in (0, 1))
                if lost := keep_exact(state, self.covariances[layer], self.options.mom2_update_weight, keys, residuals):
                    log.info("layer %d: float32 had drifted by %.0e after %d pairs, its memory is filled again", layer, lost, state.count)

    @uninterrupted()
    def remove(self, edit: Edit) -> None:
        """Take `edit` out, whatever came after it: what is left is the sequence that never had it."""
        self.ledger.check_untouched(self.layers)
        before, rest = self.edits, [other for other in self.edits if other is not edit]
        try:
            for layer in self.layers:
                self._take_out(layer, edit, rest)
            self.edits = rest
            self._write()
        except BaseException:  # out of memory: the edit is still there, in every layer
            self._give_back(before)
            raise
        self.ledger.detach(edit)
        edit.ledger = None

    @uninterrupted()
    def undo_all(self) -> None:
        """Take all edits out at once: nothing has to be solved for those that are left."""
        if not self.edits:
            return
        self.ledger.check_untouched(self.layers)
        before, self.edits = self.edits, []
        try:
            self._write()
        except BaseException:  # as in `remove`
            self.edits = before
            self._write()
            raise
        for layer in self.layers:
            self._take_out(layer, before[0], [])
        self.ledger.detach(*before)
        for edit in before:
            edit.ledger = None

    def _give_back(self, edits: list[Edit]) -> None:
        """Be the sequence of `edits` again after something failed half-way; if that fails too, before anything else is done."""
        self.edits, self._torn = edits, set(self.layers)
        try:
            self.mend()
        except (RuntimeError, MemoryError) as error:
            log.warning("the sequence's memory cannot be filled again yet (%s): free memory; what comes next tries it first", error)

    def mend(self) -> None:
        """Fill the memories again, and write Δ, where that could not be done when something failed."""
        if self._torn:
            for layer in sorted(self._torn):
                self.states[layer] = self._filled(layer, self.edits)
            self._torn = set()
            self._write()

    def _take_out(self, layer: int, edit: Edit, rest: list[Edit]) -> None:
        state = self.states[layer]
        if not rest:
            if not state.reset():
                self.states[layer] = self._empty(layer)
            return
        try:
            margin = state.remove(*edit.pairs[layer])
        except EditError:  # rounding makes it look as if the pair had never been there
            margin = 0.0
        if margin < TRUSTED[state.change.dtype]:
            log.info("layer %d: too many digits lost, filling its memory again from %d edits", layer, len(rest))
            self.states[layer] = self._filled(layer, rest)

    @uninterrupted()
    def replace(self, old: Edit, new: Edit) -> Edit:
        """`new` takes the place of `old`: the later edit of a fact wins, the earlier one leaves. If `new` is refused, `old` stays."""
        self.remove(old)
        try:
            return self.append(new)
        except BaseException:
            self.append(old)
            raise

    def restore(self, edits: list[Edit], states: Mapping[int, Mapping[str, Tensor]], applied: int) -> None:
        """Become the sequence that had `edits` and these `states` (`LayerState.state_dict`); this one must be empty.

        An edit whose name another edit of the model bears gets a new one.
        """
        fresh = {layer: self._empty(layer) for layer in self.layers}
        for layer, state in fresh.items():
            state.load_state_dict(states[layer])
        names = {handle.name for handle in self.ledger.handles}
        self.ledger.applied = max(self.ledger.applied, applied)  # first, so that new names are free
        for edit in edits:
            if edit.name in names:
                edit.name = ""
        before, self.states = self.states, fresh
        try:
            self.hold(edits)
        except BaseException:
            self.states = before
            raise

    def hold(self, edits: list[Edit]) -> None:
        """Put `edits`, whose pairs the memory has, into the model under their own names, all or none."""
        before, done = self.edits, []
        try:
            for edit in edits:  # they may be a thousand, so that each alone is done or not
                with uninterrupted():
                    self.ledger.attach(edit, edit.name or None)
                    done.append(edit)
            self.edits = [*before, *edits]
            for edit in edits:
                edit.ledger = self
            self._write()
        except BaseException:
            self.ledger.detach(*done)
            for edit in edits:
                edit.ledger = None
            self.edits = before
            self._write()
            raise

    def _filled(self, layer: int, edits: list[Edit]) -> LayerState:
        state = self._empty(layer)
        for edit in edits:
            state.append(*edit.pairs[layer])
        return state

    def _write(self) -> None:
        self._entry.deltas = {layer: self.delta(layer) for layer in self.layers}
        if self._entry.ledger is None:
            if self.edits:
                self.ledger.apply(self._entry, SEQUENCE)
        elif self.edits:
            self.ledger.rewrite(self._entry)
        else:
            self.ledger.remove(self._entry)
