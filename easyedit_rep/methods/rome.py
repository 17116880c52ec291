"""ROME: a rank-one update of one layer (Meng et al. 2022, section 3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import EditError
from ..memory.delta import Delta, scratch_weights
from ..request import EditRequest
from .base import BaseEdit, Memory, Method


@dataclass(frozen=True)
class ROMEOptions:
    """ROME has no hyper-parameters of its own."""


def rome(memory: Memory, hparams, requests: Sequence[EditRequest]) -> BaseEdit:
    """W += Λ uᵀ with u = C⁻¹k̄ / ‖C⁻¹k̄‖ and Λ = δ / (k₀·u), so that the edited W maps k₀ exactly onto v* = Wk₀ + δ.

    k̄ is the key averaged over the contexts, k₀ the key of the bare prompt, δ the change the optimiser found. Without
    `mom2_adjustment` u = k̄ / ‖k̄‖. For several layers this is repeated with the running weights.
    """
    return rank_one(memory, hparams, requests, lambda rows, _weight: (rows.mean(0), rows[0], 0.0))


def rank_one(
    memory: Memory, hparams, requests: Sequence[EditRequest], choose: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor | float]]
) -> BaseEdit:
    """W += (δ + offset) uᵀ / (at·u), u ∝ C⁻¹(under), layer after layer with the running weights.

    Args:
        choose: ((contexts, D) keys, the layer's (d, D) weight) -> the key the update is written `under`, the key `at` which it is
            exact, and what is added to δ (d,). It is what tells ROME from R-ROME.
    """
    (request,) = requests
    anatomy, prompt = memory.anatomy, request.located
    deltas, keys, info = {}, {}, {}
    layers = sorted(hparams.layers)
    with scratch_weights(anatomy, layers[:-1]) as running:
        for layer in layers:
            rows = memory.context_keys([prompt], [layer])[layer][0]
            transposed, weight = anatomy.is_transposed(layer), anatomy.weight(layer).detach()
            under, at, offset = choose(rows, weight.T if transposed else weight)
            u = memory.covariances[layer].solve(under) if hparams.mom2_adjustment else under
            u = u / u.norm()
            (value,) = memory.values(requests, layer, hparams)
            scale = torch.dot(at, u)
            if scale.abs() < 1e-6 * at.norm():
                raise EditError(f"the key of {prompt.text!r} is orthogonal to its own update at layer {layer}: check mom2 statistics")
            offset = offset.to(value.change) if isinstance(offset, Tensor) else offset
            deltas[layer] = Delta(((value.change + offset) / scale.to(value.change))[:, None], u[None], transposed)
            keys[layer], info[layer] = under[None], [value.numbers()]
            if layer in running:
                deltas[layer].add_to(running[layer])
    return BaseEdit(deltas, keys, info)


ROME = Method(rome, ROMEOptions, batch=False, context_template_length_params=((5, 10), (10, 10)))
