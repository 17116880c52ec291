"""Many gates at once, in one matrix that they all are views of: of trained pathways the first layers, by far their largest part, and
of closed-form ones the detectors."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN = 2**24
"""Numbers the hidden layers of all gates, or keys that are looked at, may hold at once (64 MB)."""


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


class DetectorBank:
    """The detectors and keys of n closed-form pathways, asked in one product, and the key of the one that opens furthest looked up, and its
    value if any has one.

    Parameters become views of the matrices here, so writing to a parameter writes to these; one that is replaced or moved wants
    a new bank.
    """

    def __init__(self, pathways: Sequence[tuple[nn.Linear, nn.Linear, nn.Linear | None]], leave: Sequence[float]):
        """
        Args:
            pathways: (detectors D -> p, key 1 -> D, value 1 -> d or None) of each, float32 or as the model was converted to.
            leave: of each, the cosine with its key from which a key is left as it is.
        """
        gates = [gate for gate, *_ in pathways]
        self.weight = _together([gate.weight for gate in gates])
        self.bias = _together([gate.bias for gate in gates])
        self.keys = _together([key.weight for _, key, _ in pathways]).view(len(pathways), -1)
        values = [value.weight for *_, value in pathways if value is not None]
        self.values = _together(values).view(len(values), -1) if values else None
        has = torch.tensor([value is not None for *_, value in pathways], device=self.weight.device)
        self.has, self.row = has, (has.cumsum(0) - 1).clamp(min=0)
        sizes = torch.tensor([gate.out_features for gate in gates], device=self.weight.device)
        self.owner = torch.arange(len(gates), device=sizes.device).repeat_interleave(sizes)
        self.leave = torch.tensor(leave, device=sizes.device) if min(leave) <= 1 else None

    def __call__(self, keys: Tensor, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        """`keys` (..., D) of any dtype with another key where a pathway opens at `raw`, the same before any pathway, in float32; and what
        is added to the value of each, (..., d) float32, None for nothing. Where the one that opens furthest leaves the key as it is, no
        other moves it.

        A CPU asks first whether any is open; a GPU would have to wait for the answer, and a compiled graph would break.
        """
        if keys.numel() <= HIDDEN:
            return self._moved(keys, raw)
        # In float32, and several times, the tokens of a long prompt would take more of a GPU's memory than all else.
        rows = max(1, HIDDEN // keys.shape[-1])
        parts = zip(keys.flatten(0, -2).split(rows), raw.flatten(0, -2).split(rows), strict=True)
        moved, values = zip(*(self._moved(*part) for part in parts), strict=True)
        if all(value is None for value in values):
            return torch.cat(moved).view_as(keys), None
        size = self.values.shape[-1]
        whole = torch.cat([raw.new_zeros(len(k), size) if v is None else v for k, v in zip(moved, values, strict=True)])
        return torch.cat(moved).view_as(keys), whole.view(*keys.shape[:-1], size)

    def _moved(self, keys: Tensor, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        margin, first = F.linear(raw, self.weight.float(), self.bias.float()).max(-1)
        opened = margin > 0
        if keys.device.type == "cpu" and not torch.compiler.is_compiling() and not opened.any():
            return keys, None
        winner = self.owner[first]
        moved = F.embedding(winner, self.keys)
        if self.leave is not None:
            near = F.cosine_similarity(raw, moved.float(), dim=-1) >= self.leave[winner]
            moved = torch.where(near[..., None], raw, moved.float())
        out = torch.where(opened[..., None], moved.to(keys.dtype), keys)
        if self.values is None:
            return out, None
        values = F.embedding(self.row[winner], self.values).float()
        return out, torch.where((opened & self.has[winner])[..., None], values, 0.0)


def _one(keys: Tensor, first: nn.Linear, second: nn.Linear) -> Tensor:
    hidden = F.gelu(F.linear(keys, first.weight.float(), first.bias.float()))
    return F.linear(hidden, second.weight.float(), second.bias.float())


@torch.compiler.disable
def _together(parameters: Sequence[nn.Parameter]) -> Tensor:
    """All `parameters`, end to end along their first axis, and they themselves made views of it."""
    # Also when the model runs in inference mode the parameters stay such as autograd can use.
    with torch.inference_mode(False), torch.no_grad():
        whole = torch.cat([p.detach() for p in parameters])
        for p, view in zip(parameters, whole.split([len(p) for p in parameters]), strict=True):
            p.data = view
    return whole


def _stacked(layers: Sequence[nn.Linear]) -> Tensor:
    """The weights (n · inner, D) of `layers` as one matrix. They are made views of it unless they already lie next to each other, so
    that nothing is held twice; writing to one writes to the matrix."""
    weights = [layer.weight for layer in layers]
    start, size = weights[0], weights[0].numel() * weights[0].element_size()
    together = all(w.data_ptr() == start.data_ptr() + i * size and w.is_contiguous() for i, w in enumerate(weights))
    storage = start.untyped_storage()
    if not (together and storage.nbytes() - start.storage_offset() * start.element_size() >= len(weights) * size):
        return _together(weights)
    return start.detach().as_strided((len(weights) * start.shape[0], start.shape[1]), start.stride())
