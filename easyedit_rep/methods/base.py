"""What a method is given and what it returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ..anatomy import Anatomy
from ..memory.covariance import Covariance
from ..memory.delta import Delta
from ..memory.keys import read_keys
from ..memory.tokens import Prompt, locate
from ..memory.value_cache import cached_values
from ..memory.values import Value, ValueConfig, ValueTask
from ..request import EditRequest


@dataclass(frozen=True)
class Memory:
    """The model read as an associative memory.

    Attributes:
        contexts: what is put before prompts; the first is "".
        covariances: C per layer.
        value_cache: folder of values already optimised; None for none.
    """

    anatomy: Anatomy
    tok: object
    contexts: Sequence[str]
    covariances: Mapping[int, Covariance]
    value_cache: Path | None = None

    def values(self, requests: Sequence[EditRequest], layer: int, hparams, block: str = "mlp") -> list[Value]:
        """v* (`block` "mlp") or z* ("layer") of each request at `layer`, on the model as it stands."""
        tasks = [ValueTask(request.located, request.target_new, self.contexts) for request in requests]
        return cached_values(self.value_cache, self.anatomy, self.tok, layer, tasks, ValueConfig.from_hparams(hparams), block)

    def context_keys(self, prompts: Sequence[Prompt], layers: Sequence[int]) -> dict[int, Tensor]:
        """{layer: (prompts, contexts, D) float32} keys at the subject's last token; context 0 is the bare prompt."""
        located = [locate(self.tok, prompt.after(c)) for prompt in prompts for c in self.contexts]
        return {layer: keys.view(len(prompts), len(self.contexts), -1) for layer, keys in read_keys(self.anatomy, located, layers).items()}


@dataclass(frozen=True, eq=False)
class BaseEdit:
    """A base method's result; the model's weights are as they were.

    Attributes:
        deltas: {layer: ΔW}.
        keys: {layer: (n, D) float32}, the averaged key k* each of the n requests was written under.
        info: {layer: one dict a request} of numbers worth keeping (loss, steps, probability of the target under v*).
        pairs: {layer: (keys (n, D), residuals (n, d))} that a sequence keeps; the deltas are then what they add to it.
    """

    deltas: Mapping[int, Delta]
    keys: Mapping[int, Tensor]
    info: Mapping[int, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    pairs: Mapping[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A native locate-and-edit method.

    Attributes:
        solve: (memory, hparams, requests) -> BaseEdit. What is the method's own stands in `hparams.method`. A sequential method is
            also given the editor's `Sequence`.
        options: dataclass of the method's own hyper-parameters, named as in EasyEdit.
        batch: several requests can be written at once.
        sequential: it builds on the edits before it.
        context_template_length_params: of the contexts, where the YAML names none.
    """

    solve: Callable[..., BaseEdit]
    options: type
    batch: bool
    context_template_length_params: Sequence[Sequence[int]]
    sequential: bool = False
