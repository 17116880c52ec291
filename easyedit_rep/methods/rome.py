"""ROME: a rank-one update of one layer (Meng et al. 2022, section 3; reference formulas in EasyEdit's `rome`)."""

from collections.abc import Sequence

import torch

from ..errors import EditError
from ..memory.delta import Delta, scratch_weights
from ..memory.values import ValueConfig, ValueTask, optimise_values
from ..request import EditRequest
from .base import BaseEdit, Memory


def rome(memory: Memory, hparams, requests: Sequence[EditRequest]) -> BaseEdit:
    """W += Λ uᵀ with u = C⁻¹k̄ / ‖C⁻¹k̄‖ and Λ = δ / (k₀·u), so that the edited W maps k₀ exactly onto v* = Wk₀ + δ.

    k̄ is the key averaged over the contexts, k₀ the key of the bare prompt, δ the change the optimiser found. Without
    `mom2_adjustment` u = k̄ / ‖k̄‖. For several layers this is repeated with the running weights.
    """
    (request,) = requests
    anatomy, prompt = memory.anatomy, request.located
    deltas, keys, info = {}, {}, {}
    layers = sorted(hparams.layers)
    with scratch_weights(anatomy, layers[:-1]) as running:
        for layer in layers:
            rows = memory.context_keys(prompt, [layer])[layer]
            keys[layer] = rows.mean(0)
            u = memory.covariances[layer].solve(keys[layer]) if hparams.mom2_adjustment else keys[layer]
            u = u / u.norm()
            task = ValueTask(prompt, request.target_new, memory.contexts)
            (value,) = optimise_values(anatomy, memory.tok, layer, [task], ValueConfig.from_hparams(hparams))
            scale = torch.dot(rows[0], u)
            if scale.abs() < 1e-6 * rows[0].norm():
                raise EditError(f"the key of {prompt.text!r} is orthogonal to its own update at layer {layer}: check mom2 statistics")
            deltas[layer] = Delta((value.change / scale)[:, None], u[None], anatomy.is_transposed(layer))
            info[layer] = {"loss": value.loss, "steps": value.steps, "probability": value.probability}
            if layer in running:
                deltas[layer].add_to(running[layer])
    return BaseEdit(deltas, keys, info)
