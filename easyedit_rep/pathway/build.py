"""Pathways around a base edit: for every request one adapter in each edited layer."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from ..memory.delta import scratch_weights
from ..methods.base import BaseEdit, Memory
from .closed import ClosedForm, solve_layer
from .config import RepConfig
from .examples import Examples, read_training_keys
from .layer import RepLayer
from .model import detached_state
from .training import PathwayTraining, train_layer


@contextmanager
def _acting(projection: nn.Module, pathways: RepLayer) -> Iterator[None]:
    """`pathways` adapt what goes into `projection` inside, without being attached to the model."""
    handle = projection.register_forward_pre_hook(lambda _module, args: (pathways.adapt(args[0]), *args[1:]))
    try:
        yield
    finally:
        handle.remove()


def build_pathways(
    memory: Memory,
    base: BaseEdit,
    examples: Sequence[Examples],
    shape: RepConfig,
    config: PathwayTraining,
    seed: int,
    text_keys: Mapping[int, Tensor] | None = None,
    closed: ClosedForm = ClosedForm(),  # noqa: B008 (frozen)
) -> tuple[list[dict[int, dict[str, Tensor]]], dict[int, list[dict[str, float]]]]:
    """Make the pathways of every request of `base`, from the lowest layer up.

    No gradient crosses a layer (REP, appendix B.3). The keys of a layer are read with everything below it as it will be at test: the
    edited weights of the lower layers, and the lower pathways of all requests, trained.

    Args:
        examples: one for each request, in the order of `base.keys`.
        text_keys: {layer: (m, D)} keys of ordinary text.
        closed: how pathways of that kind are made; `config` then only says what they are made from.

    Returns:
        per request {layer: pathway tensors}; and {layer: last losses per request, or what `solve_layer` tells}.
    """
    anatomy, layers = memory.anatomy, sorted(base.deltas)
    tensors: list[dict[int, dict[str, Tensor]]] = [{} for _ in examples]
    losses: dict[int, list[dict[str, float]]] = {}
    names = [str(i) for i in range(len(examples))]
    with ExitStack() as below:
        running = below.enter_context(scratch_weights(anatomy, layers[:-1]))
        for layer in layers:
            text = None if text_keys is None else text_keys[layer]
            keys = read_training_keys(memory, layer, examples, base.keys[layer], config, text)
            module = RepLayer(anatomy.projection(layer), names[0], shape)
            for name in names[1:]:
                module.update_layer(name, shape)
            if shape.kind == "closed":
                c = memory.covariances.get(layer)
                moment = None if c is None else c.moment.to(keys[0].prompt)  # once for all requests: it may have to go to a GPU
                losses[layer] = [solve_layer(module, k, name, closed, moment) for k, name in zip(keys, names, strict=True)]
            else:
                losses[layer] = [train_layer(module, k, name, config, seed) for k, name in zip(keys, names, strict=True)]
            for i, name in enumerate(names):
                tensors[i][layer] = detached_state(module, name)
            if layer in running:
                module.eval().set_adapter(names, inference_mode=True)
                base.deltas[layer].add_to(running[layer])
                below.enter_context(_acting(anatomy.projection(layer), module))
    return tensors, losses
