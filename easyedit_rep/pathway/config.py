"""The shape of a pathway: what is saved in `adapter_config.json`."""

from dataclasses import dataclass, field, fields

from peft import PeftConfig
from peft.utils import PeftType

from ..errors import EditError

KINDS = ("paper", "closed")


@dataclass
class RepConfig(PeftConfig):
    """Configuration of a robust edit pathway.

    `kind` says which one: `paper` (REP, section 4 and appendix B.3) is a gate and a projection that are trained and has all the sizes
    below; `closed` is a linear gate in front of one stored key, both in closed form (`closed.py`), and has only `detectors`.
    """

    target_modules: list[str] | str | None = field(default=None, metadata={"help": "Full names of the down-projections."})
    rank: int = field(default=32, metadata={"help": "Inner size of the projection."})
    gate_ratio: float = field(default=0.1, metadata={"help": "Inner size of the gate as a share of the key's length."})
    threshold: float = field(default=0.9, metadata={"help": "τ: at test the gate is open where its value is above this."})
    dropout: float = field(default=0.1, metadata={"help": "Dropout on the projection's input, in training only."})
    chain: bool = field(default=False, metadata={"help": "Take the key as the pathways before this one left it, not the raw one."})
    kind: str = field(default="paper", metadata={"help": "paper | closed."})
    detectors: int = field(default=1, metadata={"help": "closed: linear gates of one pathway, any of which opens it."})

    def __post_init__(self):
        super().__post_init__()
        self.peft_type = PeftType.REP
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if self.kind not in KINDS:
            raise EditError(f"pathway.kind: {self.kind!r} is not one of {', '.join(KINDS)}")

    def shape(self) -> dict:
        """All that a pathway's tensors are shaped by, and how they act: what must be kept to make it again on any modules."""
        general = {f.name for f in fields(PeftConfig)} | {"target_modules"}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in general}
