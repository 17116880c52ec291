"""The shape of a pathway: what is saved in `adapter_config.json`."""

from dataclasses import dataclass, field

from peft import PeftConfig
from peft.utils import PeftType


@dataclass
class RepConfig(PeftConfig):
    """Configuration of a robust edit pathway (REP, section 4 and appendix B.3)."""

    target_modules: list[str] | str | None = field(default=None, metadata={"help": "Full names of the down-projections."})
    rank: int = field(default=32, metadata={"help": "Inner size of the projection."})
    gate_ratio: float = field(default=0.1, metadata={"help": "Inner size of the gate as a share of the key's length."})
    threshold: float = field(default=0.9, metadata={"help": "τ: at test the gate is open where its value is above this."})
    dropout: float = field(default=0.1, metadata={"help": "Dropout on the projection's input, in training only."})
    chain: bool = field(default=False, metadata={"help": "Take the key as the pathways before this one left it, not the raw one."})

    def __post_init__(self):
        super().__post_init__()
        self.peft_type = PeftType.REP
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
