"""Many gates at once: their first layers, by far the largest part of a pathway, in one matrix that they all are views of."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN = 2**24
"""Numbers the hidden layers of all gates may hold at once (64 MB)."""


def gate_logits(keys: Tensor, first: Sequence[nn.Linear], second: Sequence[nn.Linear]) -> Tensor:
    """(..., n): each gate before its sigmoid, for float32 keys (..., D).

    Args:
        first: n layers D -> inner; their weights become views of one matrix, the first time they are asked together.
        second: n layers inner -> 1.
    """
    inner = first[0].out_features
    if len(first) == 1 or any(layer.out_features != inner for layer in first) or keys.requires_grad:
        return torch.cat([_one(keys, a, b) for a, b in zip(first, second, strict=True)], dim=-1)
    matrix, bias = _stacked(first).float(), torch.cat([layer.bias for layer in first]).float()
    weights, last = torch.stack([layer.weight[0] for layer in second]).float(), torch.cat([layer.bias for layer in second]).float()
    flat = keys.reshape(-1, keys.shape[-1])
    # The hidden layers of many gates are large: as many tokens at a time as keep them small.
    rows = max(1, HIDDEN // len(matrix))
    parts = [(F.gelu(F.linear(part, matrix, bias)).unflatten(-1, weights.shape) * weights).sum(-1) + last for part in flat.split(rows)]
    return torch.cat(parts).view(*keys.shape[:-1], len(first)) if parts else keys.new_empty(*keys.shape[:-1], len(first))


def _one(keys: Tensor, first: nn.Linear, second: nn.Linear) -> Tensor:
    hidden = F.gelu(F.linear(keys, first.weight.float(), first.bias.float()))
    return F.linear(hidden, second.weight.float(), second.bias.float())


def _stacked(layers: Sequence[nn.Linear]) -> Tensor:
    """The weights (n · inner, D) of `layers` as one matrix. They are made views of it unless they already lie next to each other, so
    that nothing is held twice; writing to one writes to the matrix."""
    weights = [layer.weight for layer in layers]
    start, size = weights[0], weights[0].numel() * weights[0].element_size()
    together = all(w.data_ptr() == start.data_ptr() + i * size and w.is_contiguous() for i, w in enumerate(weights))
    storage = start.untyped_storage()
    if not (together and storage.nbytes() - start.storage_offset() * start.element_size() >= len(weights) * size):
        # Also when the model runs in inference mode the parameters stay such as autograd can use.
        with torch.inference_mode(False), torch.no_grad():
            matrix = torch.cat([w.detach() for w in weights])
            for w, view in zip(weights, matrix.split(weights[0].shape[0]), strict=True):
                w.data = view
        return matrix
    return start.detach().as_strided((len(weights) * start.shape[0], start.shape[1]), start.stride())
