"""One edit: what was asked, what it changes, and the way back."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from .memory.delta import Delta, tensor_digest
from .pathway.config import RepConfig
from .request import EditRequest

if TYPE_CHECKING:
    from pathlib import Path

    from .ledger import Ledger
    from .sequence.sequence import Sequence as EditSequence


@dataclass(frozen=True, eq=False)
class Pathway:
    """A pathway of either kind: its shape and its tensors in each layer that has any of it ({layer: {"rep_gate.weight": …}})."""

    config: RepConfig
    tensors: Mapping[int, Mapping[str, Tensor]]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the tensors and their names; read once, since those of the paper's kind are large."""
        named = sorted((f"{layer}.{name}", tensor) for layer, state in self.tensors.items() for name, tensor in state.items())
        return hashlib.sha256(" ".join(f"{name} {tensor_digest(tensor)}" for name, tensor in named).encode()).hexdigest()


@dataclass(eq=False)
class Edit:
    """One applied edit: what was asked, what it changes, and the way back.

    Attributes:
        pathways: one for each request, or none.
        pairs: {layer: (keys, residuals)} of an edit in a sequence, whose deltas are then what it added when it was made.
        seconds: {"base": …, "pathway": …} wall-clock time of its parts.
        info: numbers of the base method and of the pathway's training.
        hparams: what it was made with.
        metrics: what was measured before and after it (`pre`, `post`), where something was.
        made: when, UTC.
    """

    requests: tuple[EditRequest, ...]
    method: str
    deltas: Mapping[int, Delta]
    pathways: tuple[Pathway, ...] = ()
    pairs: Mapping[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    info: dict = field(default_factory=dict)
    ledger: "Ledger | EditSequence | None" = None
    name: str = ""
    hparams: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    made: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))

    @property
    def active(self) -> bool:
        """True while the model carries this edit."""
        return self.ledger is not None

    @property
    def pathway_names(self) -> list[str]:
        """What the pathways are called in the model."""
        return [f"{self.name}_{i}" for i in range(len(self.pathways))]

    def at_threshold(self, threshold: float) -> "Edit":
        """The same edit with gates that open above `threshold` (τ), not applied. Nothing is trained: the threshold acts at test alone.

        Of a method with several layers, those above the lowest were trained on what lower pathways let through at their old threshold.
        """
        pathways = tuple(Pathway(replace(p.config, threshold=threshold), p.tensors) for p in self.pathways)
        return replace(self, pathways=pathways, ledger=None, name="")

    def undo(self) -> None:
        """Take this edit out of the model; the others stay. Undoing twice does nothing."""
        if self.ledger is not None:
            self.ledger.remove(self)

    def save(self, folder: "Path | str") -> "Path":
        """Save this edit alone to `folder`, from where `load_edits` puts it into a model with the same original weights.

        Raises:
            EditError: it is not in a model, or cannot be written; what was in `folder` is kept.
        """
        from .edits.gather import gather

        return gather(self).write(folder)

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Save this edit alone to a repository on the Hugging Face hub; options as of `edits.hub.push`. Returns the commit's address."""
        from .edits.gather import gather
        from .edits.hub import push

        return push(gather(self), repo_id, **options)
