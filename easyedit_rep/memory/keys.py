"""Reading keys: the inputs of the down-projections, in one forward that stops at the last layer asked for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress

import torch
from torch import Tensor, nn

from ..anatomy import Anatomy
from ..errors import EditError
from .linear import fast_linears
from .tokens import Located, batches, pad, token_budget


class Enough(Exception):
    """Raised inside a forward, once all that is wanted of it has been read."""


@contextmanager
def stop_before(module: nn.Module) -> Iterator[None]:
    """A forward inside ends, quietly, where it would call `module`."""

    def stop(_module, _args):
        raise Enough

    handle = module.register_forward_pre_hook(stop)
    try:
        yield
    except Enough:
        pass
    finally:
        handle.remove()


def check_finite(keys: Tensor, layer: int) -> None:
    """Raise `EditError` for NaN or infinite keys, which come from broken weights."""
    if not torch.isfinite(keys).all():
        raise EditError(f"layer {layer} gives NaN or infinite keys: the model's weights are broken, reload them")


def visit_keys(anatomy: Anatomy, layers: Sequence[int], ids: Tensor, mask: Tensor, visit: Callable[[int, Tensor], None]) -> None:
    """Call `visit` with each layer and its raw keys (n, T, D) of every token, model dtype, while the forward runs: only one layer's need be
    held at a time. Nothing above the last layer runs."""
    last = max(layers)

    def hook_for(layer):
        def hook(_module, args):
            visit(layer, args[0].detach())
            if layer == last:
                raise Enough

        return hook

    with ExitStack() as stack, torch.no_grad(), fast_linears(anatomy.model), suppress(Enough):
        for layer in layers:
            stack.callback(anatomy.rewrite(layer).register_forward_pre_hook(hook_for(layer)).remove)
        anatomy.decoder(input_ids=ids, attention_mask=mask, use_cache=False)


def forward_keys(anatomy: Anatomy, layers: Sequence[int], ids: Tensor, mask: Tensor) -> dict[int, Tensor]:
    """{layer: raw keys (n, T, D) of every token}, model dtype. Nothing above the last layer runs."""
    seen: dict[int, Tensor] = {}
    visit_keys(anatomy, layers, ids, mask, seen.__setitem__)
    return seen


def forward_output(anatomy: Anatomy, layer: int, ids: Tensor, mask: Tensor) -> Tensor:
    """Raw output (n, T, d) of decoder layer `layer`, model dtype. Nothing above it runs."""
    seen: list[Tensor] = []

    def hook(_module, _args, out):
        seen.append((out[0] if isinstance(out, tuple) else out).detach())
        raise Enough

    handle = anatomy.layer(layer).register_forward_hook(hook)
    try:
        with torch.no_grad(), fast_linears(anatomy.model), suppress(Enough):
            anatomy.decoder(input_ids=ids, attention_mask=mask, use_cache=False)
    finally:
        handle.remove()
    return seen[0]


def read_keys(anatomy: Anatomy, prompts: Sequence[Located], layers: Sequence[int]) -> dict[int, Tensor]:
    """Keys at each prompt's subject-last token: {layer: (n, D) float32}, in the order of `prompts`.

    Raises:
        EditError: a key is NaN or infinite.
    """
    out: dict[int, Tensor] = {}
    for group in batches([len(p.ids) for p in prompts], token_budget(anatomy.embedding_device)):
        # Causal attention: a key never depends on later tokens, so rows are cut right after the token we read.
        ids, mask = pad([prompts[i].ids[: prompts[i].last + 1] for i in group], anatomy.embedding_device)
        for layer, keys in forward_keys(anatomy, layers, ids, mask).items():
            at = torch.tensor([prompts[i].last for i in group], device=keys.device)
            picked = keys[torch.arange(len(group), device=keys.device), at].float()
            out.setdefault(layer, picked.new_empty(len(prompts), picked.shape[1]))[group] = picked
    for layer, keys in out.items():
        check_finite(keys, layer)
    return out


def read_outputs(anatomy: Anatomy, prompts: Sequence[Located], layer: int) -> Tensor:
    """(n, d) float32: what decoder layer `layer` gives out at each prompt's subject-last token, in the order of `prompts`."""
    out: list[Tensor] = [None] * len(prompts)
    for group in batches([len(p.ids) for p in prompts], token_budget(anatomy.embedding_device)):
        ids, mask = pad([prompts[i].ids[: prompts[i].last + 1] for i in group], anatomy.embedding_device)
        for j, hidden in enumerate(forward_output(anatomy, layer, ids, mask)):
            out[group[j]] = hidden[prompts[group[j]].last].float()
    return torch.stack(out)


def read_token_keys(
    anatomy: Anatomy,
    rows: Sequence[Sequence[int]],
    layers: Sequence[int],
    around: Callable[[int], AbstractContextManager] | None = None,
) -> dict[int, list[Tensor]]:
    """Keys of every token of every row: {layer: [(len(row), D) float32, …]}, in the order of `rows`.

    Args:
        around: what the forward of each batch, numbered, runs inside of.
    """
    out: dict[int, list[Tensor]] = {layer: [None] * len(rows) for layer in layers}
    for number, group in enumerate(batches([len(row) for row in rows], token_budget(anatomy.embedding_device))):
        ids, mask = pad([rows[i] for i in group], anatomy.embedding_device)
        with around(number) if around else nullcontext():
            found = forward_keys(anatomy, layers, ids, mask)
        for layer, keys in found.items():
            check_finite(keys[mask.to(keys.device).bool()], layer)
            for j, i in enumerate(group):
                out[layer][i] = keys[j, : len(rows[i])].float()
    return out
