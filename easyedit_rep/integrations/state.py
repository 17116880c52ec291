"""What EasyEdit's methods keep for the whole process, made from one model's memory: contexts, C, and what follows from C.

With these in place nothing is generated, downloaded, or shared with another model.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import EditError
from ..hparams import REPHyperParams
from ..ledger import Ledger
from ..memory.covariance import Covariance
from ..methods.base import Memory
from .session import Bridge

log = logging.getLogger(__name__)

MODEL_NAME = "llama"
"""What every model is called while EasyEdit runs: its branches on names then take the way that fits any model."""


def flat_contexts(memory: Memory, _hparams: REPHyperParams) -> list[str]:
    """ROME's form: one list, the bare prompt first."""
    return [context + "{}" for context in memory.contexts]


def nested_contexts(memory: Memory, hparams: REPHyperParams) -> list[list[str]]:
    """MEMIT's form: the bare prompt, and apart from it all others."""
    bare, *others = flat_contexts(memory, hparams)
    return [[bare], others] if others else [[bare]]


def _of_layers(memory: Memory, hparams: REPHyperParams, what: tuple, make: Callable[[Covariance], Tensor]) -> dict[tuple[str, str], Tensor]:
    """{EasyEdit's key of a layer: make(its C)}, made once per model."""
    derived, out = Bridge.of(memory.anatomy.model).derived, {}
    for layer, covariance in memory.covariances.items():
        if layer not in hparams.layers:  # C of a pathway's layer
            continue
        kept = derived.setdefault(covariance, {})
        if what not in kept:
            kept[what] = make(covariance)
        out[MODEL_NAME, memory.anatomy.rewrite_name(layer)] = kept[what]
    return out


def inverses(memory: Memory, hparams: REPHyperParams) -> dict[tuple[str, str], Tensor]:
    """C⁻¹ of every layer."""
    return _of_layers(memory, hparams, ("inverse",), lambda c: c.inverse().float())


def covariances(memory: Memory, hparams: REPHyperParams) -> dict[tuple[str, str], Tensor]:
    """C of every layer, float32 as EasyEdit keeps it."""
    return _of_layers(memory, hparams, ("moment",), lambda c: c.moment.float())


def projectors(memory: Memory, hparams: REPHyperParams) -> Tensor:
    """(layers, D, D) float32: P, onto the span of C's eigenvectors with eigenvalues under `nullspace_threshold`.

    That is AlphaEdit's own rule, with the symmetric eigen-decomposition of C in place of its singular value decomposition.
    """
    threshold = float(hparams.method["nullspace_threshold"])

    def project(covariance: Covariance) -> Tensor:
        values, vectors = torch.linalg.eigh(covariance.moment)
        free = vectors[:, values < threshold]
        if not free.shape[1]:
            raise EditError(
                f"nullspace_threshold: {threshold:g} leaves no direction to write in, C has eigenvalues {values[0]:.3g}…{values[-1]:.3g}: "
                "raise it"
            )
        return (free @ free.T).float().cpu()

    found = _of_layers(memory, hparams, ("projector", threshold), project)
    return torch.stack([found[MODEL_NAME, memory.anatomy.rewrite_name(layer)] for layer in sorted(hparams.layers)])


def protected_keys(memory: Memory, hparams: REPHyperParams) -> Tensor:
    """(layers, D, D) float32: Σ k kᵀ over the keys of all edits the model carries now, whichever method made them.

    It is what AlphaEdit sums up in a sequence of edits so that a new one leaves them alone. EasyEdit's own sum also counts the edits that
    have been taken out again, and those of other models.
    """
    anatomy = memory.anatomy
    edits, sums = Ledger.of(anatomy.model, anatomy).edits, []
    for layer in sorted(hparams.layers):
        total = torch.zeros(anatomy.key_size(layer), anatomy.key_size(layer))
        for edit in edits:
            keys = edit.info.get("keys", {}).get(layer)
            if keys is not None:
                total.addmm_(keys.cpu().float().T, keys.cpu().float())
            elif layer in edit.deltas:
                log.warning("%s: the keys of %s are unknown, so a new edit may change what it wrote", anatomy.weight_name(layer), edit.name)
        sums.append(total)
    return torch.stack(sums)
