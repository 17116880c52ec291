"""MEMIT: many facts at once, spread over several layers (Meng et al. 2023, section 4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import EditError
from ..memory.covariance import Covariance
from ..memory.delta import Delta, scratch_weights
from ..memory.keys import read_outputs
from ..memory.tokens import locate
from ..request import EditRequest
from .base import BaseEdit, Memory, Method


@dataclass(frozen=True)
class MEMITOptions:
    """MEMIT's own hyper-parameters.

    Attributes:
        mom2_update_weight: λ, how much the keys of ordinary text weigh against those of the requests.
        layer_selection: only `all` is supported.
    """

    mom2_update_weight: float
    layer_selection: str = "all"

    def __post_init__(self):
        if self.mom2_update_weight <= 0:
            raise EditError(f"mom2_update_weight: {self.mom2_update_weight} is not positive")
        if self.layer_selection != "all":
            raise EditError(f"layer_selection: {self.layer_selection!r} is not supported, name the layers in layers: […]")


def average(keys: Tensor) -> Tensor:
    """(n, D): keys (n, contexts, D) averaged as EasyEdit does, the bare prompt weighing as much as all other contexts together."""
    return keys[:, 0] if keys.shape[1] == 1 else (keys[:, 0] + keys[:, 1:].mean(1)) / 2


def spread(
    memory: Memory,
    hparams,
    requests: Sequence[EditRequest],
    write: Callable[[int, Tensor, Tensor], Delta],
    *,
    refresh: bool = True,
    standing: Callable[[int], Delta] | None = None,
) -> BaseEdit:
    """z*, the output wanted of the last edited layer, approached by every edited layer in turn with the running weights.

    At the j-th of m layers: K, the (n, D) averaged keys; R = (Z − h) / (m − j), the (n, d) share of the residual; W += write(layer, K, R).

    Args:
        write: what tells MEMIT from EMMET and D4S.
        refresh: measure h again after every layer; else the first layer's residual is shared out.
        standing: {layer: ΔW} that the layers below carry besides what is written now.
    """
    anatomy, layers = memory.anatomy, sorted(hparams.layers)
    top, prompts = layers[-1], [request.located for request in requests]
    values = memory.values(requests, top, hparams, block="layer")
    residual = torch.stack([value.change for value in values])
    wanted = torch.stack([value.initial for value in values]) + residual
    bare = [locate(memory.tok, prompt) for prompt in prompts]
    deltas, keys = {}, {}
    with scratch_weights(anatomy, layers[:-1]) as running:
        for j, layer in enumerate(layers):
            keys[layer] = average(memory.context_keys(prompts, [layer])[layer])
            if j and refresh:
                residual = wanted - read_outputs(anatomy, bare, top).to(wanted)
            deltas[layer] = write(layer, keys[layer], residual / (len(layers) - j))
            if not torch.isfinite(deltas[layer].right).all():
                raise EditError(f"the update of layer {layer} is NaN or infinite: check mom2 statistics and mom2_update_weight")
            if layer in running:
                if standing is not None:
                    standing(layer).add_to(running[layer])
                deltas[layer].add_to(running[layer])
    return BaseEdit(deltas, keys, {top: [value.numbers() for value in values]})


def spread_adjoint(memory: Memory, hparams, requests: Sequence[EditRequest], adjoint: Callable[[Covariance, Tensor], Tensor]) -> BaseEdit:
    """`spread` with W += Rᵀ Aᵀ at each layer.

    Args:
        adjoint: (C, K (D, n) float64) -> A (D, n) float64.
    """

    def write(layer: int, keys: Tensor, residual: Tensor) -> Delta:
        adjusted = adjoint(memory.covariances[layer], keys.double().T)
        return Delta(residual.T, adjusted.T.float(), memory.anatomy.is_transposed(layer))

    return spread(memory, hparams, requests, write)


def memit(memory: Memory, hparams, requests: Sequence[EditRequest]) -> BaseEdit:
    """A = (λC + KKᵀ)⁻¹K, by the n × n identity A = B (I + KᵀB)⁻¹ with B = (λC)⁻¹K, so that C is factored once for all edits."""
    weight = hparams.method.mom2_update_weight

    def adjoint(covariance: Covariance, keys: Tensor) -> Tensor:
        whitened = covariance.solve(keys.T).T / weight
        return solve_right(whitened, keys.T @ whitened, 1.0)

    return spread_adjoint(memory, hparams, requests, adjoint)


def solve_right(columns: Tensor, gram: Tensor, shift: float) -> Tensor:
    """(D, n): columns · (gram + shift·I)⁻¹ for a symmetric positive semi-definite (n, n) `gram`, by Cholesky.

    Raises:
        EditError: singular, as when two requests share a key and nothing is added.
    """
    gram = (gram + gram.T) / 2
    lower, info = torch.linalg.cholesky_ex(gram + shift * torch.eye(len(gram), dtype=gram.dtype, device=gram.device))
    if info or lower.diagonal().min() < 1e-7 * lower.diagonal().max():
        raise EditError("the keys of the requests are linearly dependent: drop requests about the same subject, or raise emmet_lambda")
    return torch.cholesky_solve(columns.T, lower).T


MEMIT = Method(memit, MEMITOptions, batch=True, context_template_length_params=((10, 5),))
