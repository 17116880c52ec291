"""D4S: MEMIT's spread over a memory of all edits so far, so that none undoes another (Dump for Sequence, NeurIPS 2024, section 4)."""

from collections.abc import Sequence as Requests
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from torch import Tensor

from ..errors import EditError
from ..memory.delta import Delta
from ..request import EditRequest
from .base import BaseEdit, Memory, Method
from .memit import MEMITOptions, spread

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

    `spread`, with lower layers carrying their new Δ. Measured on the edited model R is what is still missing there, and Δ's own share
    is added.
    """
    options, pairs = hparams.method.d4s, {}
    original = options.measure_on == "original"

    def write(layer: int, keys: Tensor, residual: Tensor) -> Delta:
        pairs[layer] = sequence.pairs(layer, keys, residual, relative=not original)
        return sequence.step(layer, *pairs[layer])

    with sequence.ledger.unedited() if original else nullcontext():
        edit = spread(
            memory, hparams, requests, write, refresh=options.residual == "refresh", standing=sequence.delta if original else None
        )
    return replace(edit, pairs=pairs)


D4S = Method(d4s, D4SOptions, batch=True, context_template_length_params=((10, 5),), sequential=True)
