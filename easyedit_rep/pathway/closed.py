"""The closed-form pathway: gates that are linear discriminants, in front of one stored key. No gate is trained.

Where one of its detectors opens, the key becomes another, the same wherever that is: s·k₀, with k₀ the key of the edited prompt, at which
the edit is exact, Ŵk̂ = s·v*. With `value_steps` it is k₀, in one layer alone, the lowest edited or one above (`layer`), and a value is
added to what the weight makes of k₀ there that was fitted so that the model answers behind other wordings too (`value_fit.py`). With two
detectors that is three vectors of length D for each layer, 132 kB in float32 at D = 11,008; or these once and one of length d, 148 kB at d
= 4,096. With `leave`, a cosine, and nothing fitted, a key that is near s·k₀ already stays what it is, that of the edited prompt above all:
what follows there ("… is not") is reached no further than by the base method.

With two detectors one is made from the positives whose last token is a word of the subject itself, the other from the rest ("… , a
prominent figure in French cinema"): one direction for both is a compromise. How a detector is made: `detectors.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import EditError


@dataclass(frozen=True)
class ClosedForm:
    """How a closed-form pathway is made.

    Attributes:
        false_fire: wished share of ordinary tokens at which an edit's pathways open, in any of its layers.
        margin: lowest threshold, between 0 (the mean of the negatives) and 1 (that of the positives), of a single detector and of that
            for the subject's own words.
        margin_around: of the detector for other words.
        strength: s; above 1 the edit is put more strongly where a pathway opens than the base method wrote it. It is 1 for an edit whose
            prompt would lose its answer by it, and its value, if one is fitted, is not added; with `leave` that prompt's key is left as it
            is.
        value_steps: steps of Adam in which a value is fitted, which is added in one layer alone; 0: it is s·v*, in each.
        value_lr: length of such a step, times what the edit changes in the residual stream (a learning rate of value_lr · ‖r₀‖ / √d).
        value_norm: how large that change may become by it, times what it was.
        layer: above all edited ones, where the pathway of a fitted value is then; None: in the lowest edited one.
        ridge: ρ.
        spread: σ.
        text_weight: of C.
        hard_share: share of the text's tokens, of those that begin one, of stray words and of other edits' names that come nearest and are
            made negatives of their own.
        hard_weight: their weight; the mean of the other groups has 1.
        hard_rounds: how often they are sought; the last ones found count.
    """

    false_fire: float = 1e-6
    margin: float = 0.6
    margin_around: float = 0.7
    strength: float = 1.0
    value_steps: int = 0
    layer: int | None = None
    value_lr: float = 0.25
    value_norm: float = 1.5
    ridge: float = 0.1
    spread: float = 5.0
    text_weight: float = 1.0
    hard_share: float = 0.02
    hard_weight: float = 3.0
    hard_rounds: int = 1

    def __post_init__(self):
        if not 0 < self.false_fire < 1:
            raise EditError(f"rep.closed.false_fire: {self.false_fire} is not between 0 and 1")
        if self.layer is not None and not self.value_steps:
            raise EditError(f"rep.closed.layer: {self.layer} is for a fitted value, others stand behind edited weights: set value_steps")
        if not 0 <= self.hard_share < 1:
            raise EditError(f"rep.closed.hard_share: {self.hard_share} is not at least 0 and below 1")
        for name in ("ridge", "strength", "value_lr", "value_norm", "hard_rounds"):
            if not getattr(self, name) > 0:
                raise EditError(f"rep.closed.{name}: {getattr(self, name)} is not positive")
        for name in ("spread", "text_weight", "hard_weight", "value_steps"):
            if not getattr(self, name) >= 0:
                raise EditError(f"rep.closed.{name}: {getattr(self, name)} is negative or no number")
        for name in ("margin", "margin_around"):
            if not 0 <= getattr(self, name) <= 1:
                raise EditError(f"rep.closed.{name}: {getattr(self, name)} is not between 0 and 1")


def pathway_layers(edited: Iterable[int], fitted: ClosedForm | None) -> list[int]:
    """The layers in which an edit has a pathway, in ascending order: all that it edits, or where values are fitted one alone,
    `fitted.layer` or the lowest edited one."""
    if fitted is not None and fitted.layer is not None:
        return [fitted.layer]
    return sorted(edited)[: None if fitted is None else 1]
