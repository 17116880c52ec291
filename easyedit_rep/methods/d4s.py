"""D4S: MEMIT's spread over a memory of all edits so far, so that none undoes another (Dump for Sequence, NeurIPS 2024, section 4)."""

from collections.abc import Sequence as Requests
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ..errors import EditError
from ..memory.delta import scratch_weights
from ..memory.keys import read_outputs
from ..memory.tokens import locate
from ..request import EditRequest
from .base import BaseEdit, Memory, Method
from .memit import MEMITOptions, average

if TYPE_CHECKING:
    from ..sequence.sequence import Sequence


@dataclass(frozen=True)
class SequenceOptions:
    """The `d4s:` block.

    Attributes:
        residual: `fixed`, the residual of the first layer is shared out over all (the released code); `refresh`, it is measured again
            after every layer, as in MEMIT.
        measure_on: z*, residuals and keys are measured on the `original` model (what the released code does), or on the `edited` one.
        form: how the pairs are kept: `pairs`, `recursive` (memory does not grow), or `auto`.
        dtype: of that memory, float64 or float32.
        on_cpu: keep it there, not on each layer's device.
        max_norm_growth: refuse an edit after which the mean |w| of a layer would be more than this times the original's.
    """

    residual: str = "fixed"
    measure_on: str = "original"
    form: str = "auto"
    dtype: str = "float64"
    on_cpu: bool = False
    max_norm_growth: float | None = None

    def __post_init__(self):
        allowed = {
            "residual": ("fixed", "refresh"),
            "measure_on": ("original", "edited"),
            "form": ("auto", "pairs", "recursive"),
            "dtype": ("float64", "float32"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise EditError(f"d4s.{name}: {getattr(self, name)!r} is not one of {', '.join(values)}")
        if self.max_norm_growth is not None and self.max_norm_growth <= 1:
            raise EditError(f"d4s.max_norm_growth: {self.max_norm_growth} is not above 1")


@dataclass(frozen=True)
class D4SOptions(MEMITOptions):
    """D4S's own hyper-parameters: MEMIT's, and how the sequence is kept."""

    d4s: SequenceOptions = field(default_factory=SequenceOptions)


def d4s(memory: Memory, hparams, requests: Requests[EditRequest], sequence: "Sequence") -> BaseEdit:
    """The pairs (K, R) of `requests` in every layer, and what they will add to the sequence's Δ; nothing is changed.

    At the j-th of m layers, lower layers carrying their new Δ: K, the averaged keys; R = (z* − h) / (m − j), with h what the last edited
    layer gives out for the bare prompt. Measured on the edited model R is what is still missing there, and Δ's own share is added.
    """
    anatomy, layers, options = memory.anatomy, sorted(hparams.layers), hparams.method.d4s
    original, top = options.measure_on == "original", max(hparams.layers)
    prompts = [request.located for request in requests]
    bare = [locate(memory.tok, prompt) for prompt in prompts]
    deltas, keys, pairs = {}, {}, {}
    with ExitStack() as stack:
        if original:
            stack.enter_context(sequence.ledger.unedited())
        values = memory.values(requests, top, hparams, block="layer")
        residual = torch.stack([value.change for value in values])
        wanted = torch.stack([value.initial for value in values]) + residual
        running = stack.enter_context(scratch_weights(anatomy, layers[:-1]))
        for j, layer in enumerate(layers):
            keys[layer] = average(memory.context_keys(prompts, [layer])[layer])
            if j and options.residual == "refresh":
                residual = wanted - read_outputs(anatomy, bare, top).to(wanted)
            pairs[layer] = sequence.pairs(layer, keys[layer], residual / (len(layers) - j), relative=not original)
            deltas[layer] = sequence.step(layer, *pairs[layer])
            if layer in running:
                if original:
                    sequence.delta(layer).add_to(running[layer])
                deltas[layer].add_to(running[layer])
    return BaseEdit(deltas, keys, {top: [value.numbers() for value in values]}, pairs)


D4S = Method(d4s, D4SOptions, batch=True, context_template_length_params=((10, 5),), sequential=True)
