"""The shape of a pathway: what is saved in `adapter_config.json`."""

from dataclasses import dataclass, field, fields
from typing import Any

from peft import PeftConfig
from peft.utils import PeftType

from ..errors import EditError

KINDS = ("paper", "closed")

CLOSEST = 0.99
"""Of `leave`: rounding, of 16-bit keys above all, must not part a pathway's key from itself."""


def check_leave(leave: float | None) -> None:
    """Raise `EditError` unless `leave` is None or a cosine that rounding cannot cross."""
    if leave is not None and not 0 < leave <= CLOSEST:
        raise EditError(f"leave: {leave} is not above 0 and at most {CLOSEST}; null leaves no key as it is")


@dataclass
class RepConfig(PeftConfig):
    """Configuration of a robust edit pathway.

    `kind` says which one: `paper` (REP, section 4 and appendix B.3) is a gate and a projection that are trained and has all the sizes
    below; `closed` is a linear gate in front of one stored key, both in closed form (`closed.py`), and has only what is marked so.
    """

    target_modules: list[str] | str | None = field(default=None, metadata={"help": "Full names of the down-projections."})
    rank: int = field(default=32, metadata={"help": "Inner size of the projection."})
    gate_ratio: float = field(default=0.1, metadata={"help": "Inner size of the gate as a share of the key's length."})
    threshold: float = field(default=0.9, metadata={"help": "τ: at test the gate is open where its value is above this."})
    dropout: float = field(default=0.1, metadata={"help": "Dropout on the projection's input, in training only."})
    chain: bool = field(default=False, metadata={"help": "Take the key as the pathways before this one left it, not the raw one."})
    bundle: dict[str, dict[str, Any]] | None = field(
        default=None,
        metadata={
            "help": "Of saved edits, {module: {`pathways`: shape of each, `rank`: of the factors added to its weight, `changes`: how many "
            "whole changes are}}; the other fields then say nothing."
        },
    )
    kind: str = field(default="paper", metadata={"help": "paper | closed."})
    detectors: int = field(default=1, metadata={"help": "closed: linear gates of one pathway, any of which opens it."})
    leave: float | None = field(
        default=None,
        metadata={"help": "closed: keys whose cosine with the pathway's own is at least this stay as they are; None: none does."},
    )
    value: bool = field(default=False, metadata={"help": "closed: a value of the pathway's own is added where it opens."})

    def __post_init__(self):
        super().__post_init__()
        self.peft_type = PeftType.REP
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if self.kind not in KINDS:
            raise EditError(f"pathway.kind: {self.kind!r} is not one of {', '.join(KINDS)}")
        check_leave(self.leave)
        if self.value and self.leave is not None:
            raise EditError(f"leave: {self.leave} leaves the very keys as they are behind which a value is to be added: leave out either")

    @property
    def shape(self) -> dict[str, Any]:
        """What a pathway is rebuilt from: REP's own fields, without where it sits. `leave` and `value` are left out where they say nothing:
        shapes then equal those saved before they existed."""
        out = {f.name for f in fields(PeftConfig)} | {"target_modules", "bundle"}
        out |= {name for name, absent in (("leave", self.leave is None), ("value", not self.value)) if absent}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in out}

    def at(self, module: str | None) -> "Parts":
        """What an adapter of this configuration has at `module`: one pathway, unless it is a bundle of saved edits."""
        if self.bundle is None:
            return Parts((self,))
        found = self.bundle[module]
        return Parts(tuple(RepConfig(**shape) for shape in found["pathways"]), found["rank"], found["changes"])


@dataclass(frozen=True)
class Parts:
    """What one adapter has at one module.

    Attributes:
        pathways: the configuration of each.
        rank: n of left (d, n) and right (n, D), which are added to the weight; 0 for none.
        changes: how many whole (d, D) changes are added besides.
    """

    pathways: tuple[RepConfig, ...]
    rank: int = 0
    changes: int = 0
