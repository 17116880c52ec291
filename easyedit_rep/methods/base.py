"""What a method is given and what it returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ..anatomy import Anatomy
from ..memory.covariance import Covariance
from ..memory.delta import Delta
from ..memory.keys import read_keys
from ..memory.tokens import Prompt, locate


@dataclass(frozen=True)
class Memory:
    """The model read as an associative memory.

    Attributes:
        contexts: what is put before prompts; the first is "".
        covariances: C per layer.
    """

    anatomy: Anatomy
    tok: object
    contexts: Sequence[str]
    covariances: Mapping[int, Covariance]

    def context_keys(self, prompt: Prompt, layers: Sequence[int]) -> dict[int, Tensor]:
        """{layer: (contexts, D) float32} keys at the subject's last token; row 0 is the bare prompt."""
        return read_keys(self.anatomy, [locate(self.tok, prompt.after(c)) for c in self.contexts], layers)


@dataclass(frozen=True, eq=False)
class BaseEdit:
    """A base method's result; the model's weights are as they were.

    Attributes:
        deltas: {layer: ΔW}.
        keys: {layer: k* (D,) float32}, the averaged key the edit was written under.
        info: numbers worth keeping (loss, steps, probability of the target under v*).
    """

    deltas: Mapping[int, Delta]
    keys: Mapping[int, Tensor]
    info: dict = field(default_factory=dict)
