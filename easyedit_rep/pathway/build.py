"""Pathways around a base edit: for every request one adapter in each edited layer, or where its value is fitted in one layer alone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..evaluation.predict import predict
from ..memory.climb import Climb
from ..memory.delta import scratch_weights
from ..memory.keys import read_outputs
from ..memory.tokens import locate
from ..memory.values import ValueConfig
from ..methods.base import BaseEdit, Memory
from .closed import ClosedForm, pathway_layers
from .config import RepConfig
from .examples import Examples, read_training_keys, rows_of
from .layer import RepLayer, plus
from .model import detached_state
from .ordinary import OrdinaryKeys
from .solve import solve_layer
from .training import PathwayTraining, train_layer
from .value_fit import ValueTexts, fit_value

HELD = 2**28
"""Numbers that the keys read at once may hold (1 GB): those of a request of a 7B model take some 130 million. As many at most are kept of
what comes into a layer."""


@contextmanager
def _acting(projection: nn.Module, pathways: RepLayer) -> Iterator[None]:
    """`pathways` adapt what goes into `projection`, and add to what comes out, inside, without being attached to the model."""
    more: list[Tensor | None] = []

    def before(_module, args):
        keys, value = pathways.moved(args[0])
        more.append(value)
        return (keys, *args[1:])

    handles = [
        projection.register_forward_pre_hook(before),
        projection.register_forward_hook(lambda _module, _args, values: plus(values, more.pop())),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def build_pathways(
    memory: Memory,
    base: BaseEdit,
    examples: Sequence[Examples],
    shape: RepConfig,
    config: PathwayTraining,
    seed: int,
    ordinary: Mapping[int, OrdinaryKeys] | None = None,
    closed: ClosedForm = ClosedForm(),  # noqa: B008 (frozen)
    values: tuple[Sequence[ValueTexts], ValueConfig] | None = None,
) -> tuple[list[dict[int, dict[str, Tensor]]], dict[int, list[dict[str, float]]]]:
    """Make the pathways of every request of `base`, from the lowest layer up.

    No gradient crosses a layer (REP, appendix B.3). The keys of a layer are read with everything below it as it will be at test: the
    edited weights of the lower layers, and the lower pathways of all requests, trained.

    A fitted value is all that an edit is to change, so it takes one pathway. In the lowest edited layer no edit that begins there moves
    its keys, neither this one nor those before and after it; in a layer above all edited ones (`closed.layer`) they are read with this
    edit in the weights, and tell the subject from other words better, since more of what stands before is in them. The value is added to
    what the layer's memory returns, and no key is sought that the memory maps onto it: such a key is many times as long as one of text,
    and sixty D4S edits later its value was another by a fifth.

    Where a closed-form pathway of a strength other than 1, or with a fitted value, leaves its own prompt without the edited answer, it is
    made of strength 1 and with nothing added, so that the prompt's value is the base method's: Success is never paid for robustness.
    With `leave` in its shape it leaves that prompt's key as it is.

    Args:
        examples: one for each request, in the order of `base.keys`.
        ordinary: {layer: keys of ordinary text and of words that begin one}.
        closed: how pathways of that kind are made; `config` then only says what they are made from.
        values: texts for each request, and how values are optimised, where those of closed-form pathways are to be fitted, once all are
            made.

    Returns:
        per request {layer: pathway tensors}; and {layer: last losses per request, or what `solve_layer` tells}.
    """
    anatomy, layers = memory.anatomy, pathway_layers(base.deltas, closed if values is not None else None)
    losses: dict[int, list[dict[str, float]]] = {}
    names = [str(i) for i in range(len(examples))]
    stronger = shape.kind == "closed" and (values is not None or closed.strength != 1) and shape.leave is None
    solved = replace(closed, false_fire=closed.false_fire / len(layers))  # the rate is an edit's
    if values is not None:
        solved = replace(solved, strength=1.0)  # of keys: it is that of the value
    groups = list(_groups(examples, max(anatomy.key_size(layer) for layer in layers)))
    climbs: list[Climb | None] = [Climb(anatomy, rows_of([examples[i] for i in some])) for some in groups]
    hidden = anatomy.model.config.get_text_config().hidden_size
    if len(layers) == 1 or hidden * sum(len(row) for climb in climbs for row in climb.rows) > HELD:
        climbs = [None] * len(groups)  # there is no next layer to keep anything for, or no room
    modules: dict[int, RepLayer] = {}
    with ExitStack() as below:
        running = below.enter_context(scratch_weights(anatomy, [i for i in base.deltas if i < layers[-1]]))
        for i in running:
            if i < layers[0]:  # without a pathway of its own, the only one being above
                base.deltas[i].add_to(running[i])
        for layer in layers:
            others = None if ordinary is None else ordinary[layer]
            module = RepLayer(anatomy.projection(layer), names[0], shape)
            for name in names[1:]:
                module.update_layer(name, shape)
            # Once for all requests, since it may have to go to a GPU.
            moment = _moment(memory, layer) if shape.kind == "closed" else None
            losses[layer] = []
            # k*, which only pathways of the paper's kind are trained towards, and those are in edited layers.
            stars = base.keys.get(layer, next(iter(base.keys.values())))
            for some, climb in zip(groups, climbs, strict=True):
                keys = read_training_keys(memory, layer, [examples[i] for i in some], stars[some], config, others, climb)
                for i, k in zip(some, keys, strict=True):
                    if shape.kind == "closed":
                        losses[layer].append(solve_layer(module, k, names[i], solved, moment))
                    else:
                        losses[layer].append(train_layer(module, k, names[i], config, seed))
                del keys, k  # before the next are read
            module.eval().set_adapter(names, inference_mode=True)
            modules[layer] = module
            if layer in running:
                base.deltas[layer].add_to(running[layer])
                below.enter_context(_acting(anatomy.projection(layer), module))
    if values is not None:
        (layer,) = layers
        for told, more in zip(losses[layer], _fit_values(memory, base, layer, modules[layer], names, values, closed), strict=True):
            told |= more
    tensors = [{layer: detached_state(module, name) for layer, module in modules.items()} for name in names]
    if stronger:
        requests = [example.request for example in examples]
        with _edited(memory, base, modules):
            answers = predict(anatomy, memory.tok, [r.text for r in requests], [r.target_new for r in requests])
        for i in [i for i, answer in enumerate(answers) if not answer.exact]:
            losses[layers[0]][i].pop("value_loss", None)
            for state in tensors[i].values():
                if values is None:
                    state["rep_key.weight"] /= closed.strength
                else:
                    state["rep_value.weight"].zero_()
    return tensors, losses


@contextmanager
def _edited(memory: Memory, base: BaseEdit, modules: Mapping[int, RepLayer]) -> Iterator[None]:
    """The model is edited by `base` inside, and `modules` ({layer: its pathways}) act."""
    with scratch_weights(memory.anatomy, list(base.deltas)) as running, ExitStack() as acting:
        for layer, delta in base.deltas.items():
            delta.add_to(running[layer])
        for layer, module in modules.items():
            acting.enter_context(_acting(memory.anatomy.projection(layer), module))
        yield


def _fit_values(
    memory: Memory,
    base: BaseEdit,
    layer: int,
    module: RepLayer,
    names: Sequence[str],
    values: tuple[Sequence[ValueTexts], ValueConfig],
    closed: ClosedForm,
) -> list[dict[str, float]]:
    """Fit the value of each request's pathway in `module`, of `layer`, and write what the edit itself lacks of it there."""
    anatomy, (texts, config) = memory.anatomy, values
    highest = max(layer, *base.deltas)
    prompts = [locate(memory.tok, text.request.located) for text in texts]

    def outputs() -> dict[int, Tensor]:
        return {i: read_outputs(anatomy, prompts, i).to(anatomy.weight(layer).device) for i in {layer, highest}}

    before = outputs()
    with _edited(memory, base, {}):
        after = outputs()
    own, whole = (after[i] - before[i] for i in (layer, highest))
    found = [
        fit_value(anatomy, memory.tok, layer, text, closed.strength * change, config, closed)
        for text, change in zip(texts, whole, strict=True)
    ]
    with torch.no_grad():
        for name, (value, _), already in zip(names, found, own, strict=True):
            module.part("rep_value", name).weight[:, 0] = value - already
    return [told for _, told in found]


def _moment(memory: Memory, layer: int) -> Tensor | None:
    """C of `layer` as its keys are: float32, on the layer's device."""
    covariance = memory.covariances.get(layer)
    return None if covariance is None else covariance.moment.to(memory.anatomy.weight(layer).device, torch.float32)


def _groups(examples: Sequence[Examples], size: int) -> Iterator[list[int]]:
    """Places in `examples`, in order, whose keys of length `size` are read together: as many as `HELD` allows, and at least one."""
    group, held = [], 0
    for i, example in enumerate(examples):
        more = size * sum(map(len, example.texts()))
        if group and held + more > HELD:
            yield group
            group, held = [], 0
        group.append(i)
        held += more
    if group:
        yield group
