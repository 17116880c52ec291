"""The `rep:` block of a YAML."""

from dataclasses import dataclass, field

from .errors import EditError
from .evaluation.measures import Measures
from .pathway.closed import ClosedForm
from .pathway.config import KINDS, check_leave
from .pathway.training import PathwayTraining


@dataclass
class PathwayShape:
    """Which pathway, and its shape (REP, appendix B.3); see `RepConfig`.

    Attributes:
        kind: `paper`, which has the sizes that follow, or `closed`, which has only `detectors` (1 or 2) and `leave` (`pathway/closed.py`).
    """

    kind: str = "paper"
    rank: int = 32
    gate_ratio: float = 0.1
    threshold: float = 0.9
    dropout: float = 0.1
    chain: bool = False
    detectors: int = 1
    leave: float | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            raise EditError(f"kind: {self.kind!r} is not one of {', '.join(KINDS)}")
        if self.detectors not in (1, 2):
            raise EditError(f"detectors: {self.detectors} is neither 1 nor 2")
        check_leave(self.leave)
        if self.rank < 1:
            raise EditError(f"rank: {self.rank} is not positive")
        if self.gate_ratio <= 0:
            raise EditError(f"gate_ratio: {self.gate_ratio} is not positive")
        if not 0 <= self.threshold <= 1:
            raise EditError(f"threshold: {self.threshold} is not between 0 and 1")
        if not 0 <= self.dropout < 1:
            raise EditError(f"dropout: {self.dropout} is not at least 0 and below 1")


@dataclass
class QueryOptions:
    """Robustness queries made for requests that bring none.

    Attributes:
        rephrase_file: JSON {subject: [other names]}.
        rephrase_rules: make other names by rule for requests that have none, neither of their own nor in the file (`queries/rules.py`).
        shuffle_count, long_context_count: how many; half of each is trained on.
        split: which half: `first` as in the paper's release, or one `drawn` by seed and subject.
        long_context_tokens: length of a long context (paper: 512).
        negative_count: of each kind of prompt whose answer must stay (`queries/contrasts.py`), asked before and after; 0: none.
    """

    rephrase_file: str | None = None
    rephrase_rules: bool = False
    shuffle_count: int = 10
    long_context_count: int = 10
    long_context_tokens: int = 512
    negative_count: int = 0
    split: str = "first"

    def __post_init__(self):
        if self.split not in ("first", "drawn"):
            raise EditError(f"split: {self.split!r} is neither first nor drawn")
        for name in ("shuffle_count", "long_context_count", "negative_count"):
            if getattr(self, name) < 0:
                raise EditError(f"{name}: {getattr(self, name)} is negative")
        if self.long_context_tokens < 1:
            raise EditError(f"long_context_tokens: {self.long_context_tokens} is not positive")


@dataclass
class RepOptions:
    """The `rep:` block.

    Attributes:
        base: the locate-and-edit method the pathway is put around.
        engine: who makes the base edit: `native` (ours, fast) or `easyedit`.
        corpus: text for statistics, long contexts and gate negatives: a file (one paragraph a line) or wikitext | wikitext2 |
            wikipedia. Default: `mom2_dataset`.
        statistics_tokens: tokens C is made from; default 10 × D.
        text_tokens: tokens of ordinary text among the gate's negatives; a closed-form pathway wants thousands.
        seed: of contexts, queries and training.
        value_cache: folder where optimised values are kept for later runs (native engine).
        v_dtype: `bfloat16`: v* is optimised with the frozen weights rounded to it; v*, Adam, the residual stream and the losses keep their
            precision. A CPU without bfloat16 instructions takes many times as long. Default: the model's own dtype.
        cuda_graphs: on a GPU, record one step of v*'s optimisation and replay it: what launching its kernels costs is paid once.
        statistics_device: where C is kept and solved with: `cpu`, or `model`, the edited layer's device, which takes 16 D² bytes a layer
            there (1.9 GB for Llama-2-7B).
        max_memory: GiB that editing may take on the model's device; refused before the first edit where more is needed (`memory/need.py`).
        pathways: false leaves the base method's edits as they are.
        training: of a pathway; what it is made from is also a closed-form one's.
        closed: how a closed-form one is made.
        measures: what is measured beyond the paper's table, because it takes longer.
    """

    base: str = "ROME"
    engine: str = "native"
    corpus: str | None = None
    statistics_tokens: int | None = None
    text_tokens: int = 2048
    seed: int = 0
    value_cache: str | None = None
    v_dtype: str | None = None
    cuda_graphs: bool = False
    statistics_device: str = "cpu"
    max_memory: float | None = None
    pathways: bool = True
    pathway: PathwayShape = field(default_factory=PathwayShape)
    training: PathwayTraining = field(default_factory=PathwayTraining)
    closed: ClosedForm = field(default_factory=ClosedForm)
    queries: QueryOptions = field(default_factory=QueryOptions)
    measures: Measures = field(default_factory=Measures)

    def __post_init__(self):
        if self.fits_values and self.pathway.leave is not None:
            raise EditError(
                f"rep.pathway.leave: {self.pathway.leave} leaves the very keys as they are that rep.closed.value_steps fits a value for: "
                "leave out either"
            )
        if self.engine not in ("native", "easyedit"):
            raise EditError(f"engine: {self.engine!r} is neither native nor easyedit")
        if self.statistics_device not in ("cpu", "model"):
            raise EditError(f"statistics_device: {self.statistics_device!r} is neither cpu nor model")
        if self.statistics_tokens is not None and self.statistics_tokens < 1:
            raise EditError(f"statistics_tokens: {self.statistics_tokens} is not positive")
        if self.text_tokens < 0:
            raise EditError(f"text_tokens: {self.text_tokens} is negative")
        if self.engine == "easyedit":
            for name in ("v_dtype", "cuda_graphs", "value_cache"):
                if getattr(self, name):
                    raise EditError(
                        f"{name}: {getattr(self, name)!r} is of the native engine, EasyEdit's takes its own steps: leave it out"
                    )
        if self.max_memory is not None and self.max_memory <= 0:
            raise EditError(f"max_memory: {self.max_memory} is not positive")
        if self.v_dtype not in (None, "bfloat16", "float16", "float32"):
            raise EditError(f"v_dtype: {self.v_dtype!r} is not bfloat16, float16, float32 or null")

    @property
    def fits_values(self) -> bool:
        """Whether a pathway's value is fitted (`pathway/value_fit.py`)."""
        return self.fitted is not None

    @property
    def fitted(self) -> ClosedForm | None:
        """How values are fitted; None: they are not."""
        return self.closed if self.pathway.kind == "closed" and self.closed.value_steps > 0 else None
