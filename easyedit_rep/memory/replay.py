"""Run only what an optimisation over the edited layer's output can change.

Hidden states below the edited layer, and the keys and values (of attention) of every token before the subject's last one, are the
same at every step. They are computed once; a step then replays the remaining layers over the remaining tokens. Each layer is called
with exactly the arguments the model itself gave it (masks, rotary embeddings, positions …), recorded in one forward, so nothing here
knows an architecture.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from inspect import signature

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from ..anatomy import Anatomy
from .keys import Enough, stop_before


class _PrefixCache(Cache):
    """The prefix's attention keys and values of each layer, read-only: `update` returns them joined to the new ones."""

    def __init__(self, pairs: dict[int, tuple[Tensor, Tensor]]):  # Cache.__init__ is skipped on purpose: it wants storage
        self.pairs = pairs

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        keys, values = self.pairs[layer_idx]
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)

    def get_seq_length(self, layer_idx=0) -> int:
        return next(iter(self.pairs.values()))[0].shape[-2]

    def rows(self, keep: Tensor) -> "_PrefixCache":
        return _PrefixCache({i: (k[keep.to(k.device)], v[keep.to(v.device)]) for i, (k, v) in self.pairs.items()})


def _select(value, keep: Tensor, n_rows: int):
    """Rows `keep` of every batched tensor inside `value`; what has no batch dimension is shared by all rows."""
    if isinstance(value, Tensor):
        return value[keep.to(value.device)] if value.dim() and value.shape[0] == n_rows else value
    if isinstance(value, _PrefixCache):
        return value.rows(keep)
    if isinstance(value, (tuple, list)):
        return type(value)(_select(item, keep, n_rows) for item in value)
    if isinstance(value, dict):
        return {name: _select(item, keep, n_rows) for name, item in value.items()}
    return value


def _at(tensor: Tensor, wanted: tuple[Tensor, Tensor]) -> Tensor:
    """`tensor` (n, T, …) at the `wanted` (rows, columns), which may live on another device."""
    return tensor[tuple(index.to(tensor.device) for index in wanted)]


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter asks for gradients inside; every flag is put back as it was."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    for p in wanted:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in wanted:
            p.requires_grad_(True)


def replayed_names(anatomy: Anatomy, layer: int) -> tuple[str, ...]:
    """How the names of all modules begin that a change of `layer`'s output, or of its MLP's, is replayed through."""
    return (*(anatomy.layer_name(i) + "." for i in range(layer, anatomy.n_layers)), anatomy.names.lm_head_module)


@contextmanager
def _only_at(block: nn.Module, wanted: tuple[Tensor, Tensor]) -> Iterator[None]:
    """`block`, of the last layer, runs at the `wanted` (rows, columns) alone; elsewhere it adds nothing, and nobody looks."""
    shape: list[torch.Size] = []

    def gather(_module, args):
        shape.append(args[0].shape)
        return (_at(args[0], wanted), *args[1:])

    def scatter(_module, _args, out):
        where = tuple(index.to(out.device) for index in wanted)
        return out.new_zeros(*shape.pop()[:2], out.shape[-1]).index_put(where, out)

    handles = block.register_forward_pre_hook(gather), block.register_forward_hook(scatter)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class Suffix:
    """Tokens from the subject's last one on, ready to be replayed through the layers from `first` up.

    Attributes:
        residual: the change enters `hidden` directly; else at the MLP of layer `first`, by a hook.
        hidden: (n, T, d) input of layer `first`; column 0 is the subject's last token.
        value: (n, d) what the edited block gives out at column 0.
        calls: per layer from `first` up, the arguments after the hidden states.
    """

    first: int
    residual: bool
    hidden: Tensor
    value: Tensor
    calls: list[tuple[tuple, dict]]

    def rows(self, keep: Tensor) -> "Suffix":
        """The same for the rows in `keep` (int64 indices)."""
        n = self.hidden.shape[0]
        return Suffix(self.first, self.residual, self.hidden[keep], self.value[keep], _select(self.calls, keep, n))

    def run(self, anatomy: Anatomy, change: Tensor, wanted: tuple[Tensor, Tensor]) -> Tensor:
        """Output (m, d) of the last layer at the `wanted` (rows, columns), with `change` (n, d) added to what the edited block gives out
        at column 0."""
        if self.residual:
            hidden = self.hidden.clone()
            hidden[:, 0] += change.to(hidden)
            if not self.calls:
                return _at(hidden, wanted)
            # An MLP of an unknown family may take more than the hidden states, or want all of them.
            with _only_at(anatomy.mlp(anatomy.n_layers - 1), wanted) if anatomy.residual else nullcontext():
                return _at(self._replay(anatomy, hidden), wanted)

        def insert(_module, _args, out):
            value = (out[0] if isinstance(out, tuple) else out).clone()
            value[:, 0] += change.to(value)
            return (value, *out[1:]) if isinstance(out, tuple) else value

        handle = anatomy.mlp(self.first).register_forward_hook(insert)
        try:
            return _at(self._replay(anatomy, self.hidden), wanted)
        finally:
            handle.remove()

    def _replay(self, anatomy: Anatomy, hidden: Tensor) -> Tensor:
        for index, (args, kwargs) in enumerate(self.calls, start=self.first):
            out = anatomy.layer(index)(hidden, *args, **kwargs)
            hidden = out[0] if isinstance(out, tuple) else out
        return hidden


def record_suffix(anatomy: Anatomy, rows: Sequence[Sequence[int]], split: Sequence[int], layer: int, block: str) -> Suffix:
    """Run `rows` once and keep what is needed to replay what a change of a block changes.

    Args:
        rows: token ids.
        split: index in each row where its suffix begins (the subject's last token).
        block: `mlp`, the MLP of `layer`, or `layer`, the whole decoder layer.
    """
    last = anatomy.n_layers - 1
    # Where nothing but the MLP's output is added after it, a change of the MLP is one of the whole layer.
    residual = block == "layer" or (anatomy.residual and layer < last)
    first = layer + 1 if residual else layer
    edited = anatomy.layer(layer) if block == "layer" else anatomy.mlp(layer)
    device = anatomy.embedding_device
    past, width = max(split), max(len(row) - at for row, at in zip(rows, split, strict=True))
    ids = torch.zeros(len(rows), past + width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    # Aligned at the subject's last token: prefixes are padded on the left, suffixes on the right.
    for i, (row, at) in enumerate(zip(rows, split, strict=True)):
        ids[i, past - at : past - at + len(row)] = torch.tensor(row)
        mask[i, past - at : past - at + len(row)] = 1
    ids, mask = ids.to(device), mask.to(device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    calls: list[tuple[tuple, dict]] = []
    hidden: list[Tensor] = []
    value: list[Tensor] = []

    def listen(_module, args, kwargs):
        if "hidden_states" in kwargs:
            kwargs = dict(kwargs)
            args = (kwargs.pop("hidden_states"), *args)
        if not calls:
            hidden.append(args[0].detach())
        calls.append((tuple(args[1:]), kwargs))
        if len(calls) == anatomy.n_layers - first and value:
            raise Enough

    def watch(_module, _args, out):
        out = (out[0] if isinstance(out, tuple) else out).detach()
        value.append(out[:, 0])
        if first > last:
            hidden.append(out)
            raise Enough

    with torch.no_grad(), ExitStack() as stack:
        cache = None
        # transformers calls it `cache` since 5.24.
        cache_name = "cache" if "cache" in signature(anatomy.decoder.forward).parameters else "past_key_values"
        if past:
            # The last block's attention has stored its keys and values by the time its MLP is called; the rest is not needed.
            with stop_before(anatomy.mlp(last)):
                cache = DynamicCache()
                anatomy.decoder(
                    input_ids=ids[:, :past],
                    attention_mask=mask[:, :past],
                    position_ids=positions[:, :past],
                    use_cache=True,
                    **{cache_name: cache},
                )
        for index in range(first, anatomy.n_layers):
            stack.callback(anatomy.layer(index).register_forward_pre_hook(listen, with_kwargs=True).remove)
        stack.callback(edited.register_forward_hook(watch).remove)
        with suppress(Enough):
            anatomy.decoder(
                input_ids=ids[:, past:],
                attention_mask=mask,
                position_ids=positions[:, past:],
                use_cache=cache is not None,
                **{cache_name: cache},
            )
    if cache is not None and calls:
        prefix = _PrefixCache({i: tuple(t[..., :past, :] for t in _attention_pair(cache, i)) for i in range(first, anatomy.n_layers)})
        calls = [_replace_cache(call, prefix) for call in calls]
    # What comes into a layer may still lie where the one before it is; the layer itself is called from either place.
    return Suffix(first, residual, hidden[0].to(value[0].device), value[0], calls)


def _attention_pair(cache: DynamicCache, layer: int) -> tuple[Tensor, Tensor]:
    if hasattr(cache, "layers"):
        return cache.layers[layer].keys, cache.layers[layer].values
    return cache.key_cache[layer], cache.value_cache[layer]  # transformers < 4.54


def _replace_cache(value, prefix: _PrefixCache):
    if isinstance(value, Cache):
        return prefix
    if isinstance(value, tuple):
        return tuple(_replace_cache(item, prefix) for item in value)
    if isinstance(value, dict):
        return {name: _replace_cache(item, prefix) for name, item in value.items()}
    return value
