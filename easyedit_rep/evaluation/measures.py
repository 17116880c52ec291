"""What is measured beyond teacher-forced answers, on demand: it generates text, so it takes longer."""

from dataclasses import dataclass

from ..errors import EditError


@dataclass(frozen=True)
class Measures:
    """The `rep.measures` block.

    Attributes:
        generation: also let the model answer by itself, greedily, next to exact and token-level matches.
        fluency: n-gram entropy of text sampled after the edited prompt.
        fluency_tokens: length of such a text, prompt included (EasyEdit: 100).
    """

    generation: bool = False
    fluency: bool = False
    fluency_tokens: int = 100

    def __post_init__(self):
        if self.fluency_tokens < 1:
            raise EditError(f"fluency_tokens: {self.fluency_tokens} is not positive")
