"""The edits on one model, in order, and the original weights they stand on.

A touched weight is always W₀ + Σ deltas of the edits still there, summed in their order from W₀ in float32. Taking any edit out
therefore leaves exactly the model that never had it, and taking the last one out gives back W₀ bit for bit.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .anatomy import Anatomy
from .edit import Edit
from .errors import EditError
from .interrupts import undone_if_interrupted, uninterrupted
from .memory.delta import Delta, bit_sum, scratch_weights
from .pathway.model import attach, detach

if TYPE_CHECKING:
    from pathlib import Path

    from .edits.artefact import Artefact
    from .sequence.sequence import Sequence as EditSequence

log = logging.getLogger(__name__)

SEQUENCE = "sequence"
"""What the one entry that stands for all edits of a sequence is called."""


class Ledger:
    """Owns W₀ of every touched layer of one model, and the edits applied to it."""

    def __init__(self, anatomy: Anatomy):
        """`applied` counts the edits ever applied; their names come from it."""
        self.anatomy = anatomy
        self.edits: list[Edit] = []
        self.sequence: EditSequence | None = None
        self._original: dict[int, Tensor] = {}
        self._written: dict[int, tuple[int, torch.dtype, tuple[int, int]]] = {}
        self._torn: set[int] = set()
        self.applied = 0

    @classmethod
    def of(cls, model, anatomy: Anatomy) -> "Ledger":
        """The ledger of `model`, made on first use and kept on the model itself: two editors on one model share one history.

        Raises:
            EditError: it holds edits of other modules than those of `anatomy`.
        """
        ledger = model.__dict__.get("_easyedit_rep_ledger")
        if ledger is not None and ledger.anatomy.model is model:
            theirs, ours = ledger.anatomy.names.rewrite_module_tmp, anatomy.names.rewrite_module_tmp
            if theirs == ours:
                return ledger
            if ledger.edits:
                raise EditError(
                    f"rewrite_module_tmp: {ours!r} is not {theirs!r}, in which the model carries {len(ledger.edits)} edit(s): "
                    "undo them first"
                )
        ledger = model.__dict__["_easyedit_rep_ledger"] = cls(anatomy)
        return ledger

    def __getstate__(self) -> dict:
        """For copies of the model: a copied tensor counts its writes from zero, so what we know of the count does not hold for it."""
        return {**self.__dict__, "_written": {}}

    def check_untouched(self, layers) -> None:
        """Refuse to go on where someone else wrote to a weight we hold edits on: undoing would silently lose their change.

        What we ourselves could not write whole, for want of memory, is written first.
        """
        layers = list(layers)
        if self.sequence is not None:
            self.sequence.mend()
        if torn := sorted(self._torn.intersection(layers)):
            self._write(torn)
            self._forget(torn)
        for layer in layers:
            if layer in self._written and not self._as_written(layer):
                raise EditError(
                    f"{self.anatomy.weight_name(layer)} was changed outside the ledger while it holds {len(self.edits)} edit(s): "
                    "put it back as it was, undo them, and change it then"
                )

    def _as_written(self, layer: int) -> bool:
        """Whether the weight is as we left it, on whatever device."""
        weight, (version, dtype, bits) = self.anatomy.weight(layer), self._written[layer]
        if weight.dtype == dtype:
            return bit_sum(weight) == bits
        # A weight of another dtype has other bits. PyTorch counts in-place writes to a tensor, but not those through `.data`.
        return weight._version == version

    def apply(self, edit: Edit, name: str | None = None) -> Edit:
        """Write the deltas, attach the pathway, record the edit; `edit` is the handle to undo it. If this raises, it is not applied."""
        if edit.active:
            raise EditError(f"edit {edit.name} is already applied")
        with undone_if_interrupted(edit.undo):
            return self._apply(edit, name)

    def _apply(self, edit: Edit, name: str | None) -> Edit:
        self.check_untouched(edit.deltas)
        self.attach(edit, name)  # first, because it is the step that can be refused
        before = list(self.edits)
        try:
            for layer in edit.deltas:
                if layer not in self._original:
                    self._original[layer] = self.anatomy.weight(layer).detach().clone()
            self.edits.append(edit)
            edit.ledger = self
            self._write(edit.deltas, appended=edit)
        except BaseException:  # out of memory: the model is given back as it was
            self.detach(edit)
            edit.ledger = None
            self._give_back(before, [layer for layer in edit.deltas if layer in self._original])
            raise
        return edit

    @property
    def handles(self) -> list[Edit]:
        """The edits in order, each of which can be undone; those of a sequence stand where the sequence does."""
        sequence = self.sequence.edits if self.sequence is not None else []
        return [handle for edit in self.edits for handle in (sequence if edit.name == SEQUENCE else [edit])]

    def remove(self, edit: Edit | int) -> None:
        """Take `edit`, or the one at that place among the `handles`, out, whatever came after it."""
        if isinstance(edit, int):
            if not -len(self.handles) <= edit < len(self.handles):
                raise EditError(f"there is no edit {edit}: the model carries {len(self.handles)}, counted from 0")
            self.handles[edit].undo()
            return
        if edit.ledger is not self:
            if edit.ledger is None or edit.ledger is not self.sequence:
                raise EditError(f"edit {edit.name or edit.method} is not in this model: take one of its `handles`")
            edit.undo()
            return
        self.check_untouched(edit.deltas)
        self._keep([other for other in self.edits if other is not edit], [edit], edit.deltas)

    def merge(self) -> None:
        """Make the weights as they are the original ones, for good. Pathways stay, and are what `undo()` still takes out."""
        self.check_untouched(self._original)
        handles = self.handles
        for edit in handles:
            edit.deltas, edit.pairs = {}, {}
            edit.ledger = self if edit.pathways else None
        self.edits, self.sequence = [edit for edit in handles if edit.pathways], None
        self._original.clear()
        self._written.clear()

    def artefact(self) -> "Artefact":
        """All edits, as they are saved."""
        from .edits.gather import gather

        if not self.edits:
            raise EditError("the model carries no edit: there is nothing to save")
        return gather(*self.handles)

    def save(self, folder: "Path | str") -> "Path":
        """Save all edits to `folder`; see `Edit.save`."""
        return self.artefact().write(folder)

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Save all edits to a repository on the Hugging Face hub; see `Edit.push_to_hub`."""
        from .edits.hub import push

        return push(self.artefact(), repo_id, **options)

    def _forget(self, layers) -> None:
        """Let go of W₀ where no edit is left, and the weight is W₀ itself."""
        for layer in set(layers) - self._torn:
            if not any(layer in other.deltas for other in self.edits):
                self._original.pop(layer, None)
                self._written.pop(layer, None)

    def rewrite(self, edit: Edit) -> None:
        """Write the weights again after the deltas of `edit`, already applied, have become others (of the same layers)."""
        self.check_untouched(edit.deltas)
        self._write(edit.deltas)

    def original(self, layer: int) -> Tensor:
        """W₀ of `layer`."""
        return self._original.get(layer, self.anatomy.weight(layer).detach())

    def total(self, layer: int, deltas: Sequence[Delta]) -> Tensor:
        """W₀ + Σ `deltas`, float32; W₀ itself where there are none. Rounded to the weight's dtype it is what is written."""
        device = self.anatomy.weight(layer).device
        if not deltas:
            return self.original(layer).to(device)
        total = self.original(layer).to(device, torch.float32, copy=True)
        for delta in deltas:
            delta.add_to(total)
        return total

    def norms(self, layer: int) -> dict[str, float]:
        """Mean absolute value of an element of W, of W₀, and of their difference."""
        weight, original = self.anatomy.weight(layer).detach(), self.original(layer)
        change = weight.float() - original.to(weight.device).float()
        return {"weight": mean_abs(weight), "original": mean_abs(original), "change": mean_abs(change)}

    def attach(self, edit: Edit, name: str | None = None) -> None:
        """Call `edit` by `name`, or by the next free one, and put its pathways into the model, all or none.

        Raises:
            EditError: another edit is called so.
        """
        if name is None:
            name, self.applied = f"edit{self.applied}", self.applied + 1
        if any(handle.name == name for handle in self.handles):
            raise EditError(f"the model already carries an edit called {name}: undo it first")
        edit.name = name
        try:
            for name, pathway in zip(edit.pathway_names, edit.pathways, strict=True):
                attach(self.anatomy.model, name, pathway.config, {self.anatomy.rewrite_name(i): t for i, t in pathway.tensors.items()})
        except BaseException:
            self.detach(edit)
            raise

    def detach(self, *edits: Edit) -> None:
        """Take the pathways of `edits` out of the model, those that are there."""
        detach(self.anatomy.model, *(name for edit in edits for name in edit.pathway_names))

    @contextmanager
    def unedited(self) -> Iterator[None]:
        """The original weights are in place inside; for what belongs to the model before its first edit."""
        with scratch_weights(self.anatomy, list(self._original)) as weights:
            for layer, weight in weights.items():
                weight.data.copy_(self._original[layer])
            yield

    def undo_all(self) -> None:
        """Give back the original model. Each weight is written once: edit by edit it would be summed up again from all that are left."""
        if self.sequence is not None:
            self.sequence.undo_all()
        layers = list(self._original)
        self.check_untouched(layers)
        self._keep([], self.edits, layers)

    @uninterrupted()
    def _keep(self, left: list[Edit], gone: list[Edit], layers) -> None:
        """Write `layers` with the edits `left` alone, and let go of those `gone`."""
        before, self.edits = self.edits, left
        try:
            self._write(layers)
        except BaseException:  # out of memory: the edits are still there, and can be taken out again
            self._give_back(before, layers)
            raise
        self.detach(*gone)
        for edit in gone:
            edit.ledger = None
        self._forget(layers)

    def _give_back(self, edits: list[Edit], layers) -> None:
        """Hold `edits` again after something failed; of `layers` the weights that cannot be written now are when they are next needed."""
        self.edits = edits
        try:
            self._write(layers)
            self._forget(layers)
        except (RuntimeError, MemoryError) as error:
            names = ", ".join(self.anatomy.weight_name(layer) for layer in sorted(self._torn))
            log.warning("%s cannot be given back yet (%s): free memory; undo, save and the next edit try it first", names, error)

    def _write(self, layers, appended: Edit | None = None) -> None:
        self._torn.update(layers)
        for layer in layers:
            weight = self.anatomy.weight(layer)
            with torch.no_grad():
                if appended is not None and weight.dtype == torch.float32:
                    # The weight is the float32 sum itself, so one more term is the same as summing again.
                    appended.deltas[layer].add_to(weight)
                else:
                    weight.copy_(self.total(layer, [edit.deltas[layer] for edit in self.edits if layer in edit.deltas]))
            self._written[layer] = weight._version, weight.dtype, bit_sum(weight)
            self._torn.discard(layer)


def mean_abs(tensor: Tensor) -> float:
    """L1 norm over the number of elements."""
    return tensor.detach().abs().mean(dtype=torch.float64).item()
