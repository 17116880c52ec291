"""The detectors of closed-form gates: linear discriminants between the keys of a subject and all others.

A detector is a direction w and a threshold. w separates the keys a pathway must catch (positives) from those it must leave alone:

    w ∝ (S + ρ·tr(S)/D · I)⁻¹ (m₊ − m₋)
    S = mean over groups of negatives of E[k kᵀ]  +  C  +  σ · mean over groups of positives of E[(k − m₊)(k − m₊)ᵀ]

with every group (the prompt's other tokens, the subject's first words, other subjects, also right behind the edited fact, text; the
subject, its rephrases, shuffles, forms) counting the same whatever its size, and in m₋ too. C, the second moment of keys of ordinary text
that the base method has anyway, stands for far more text than is read here. The spread of the positives makes w blind to how the name is
put. What the positives end in is also a word of its own ("star", "System"): its occurrences in the corpus are added to S, with weight 1
beside that mean, and to m₋ as one more group, so that w asks for the subject and not for the word. Then the text tokens that come nearest
(whitened collisions) are added in the same way, with `hard_weight`, and w is solved again, `hard_rounds` times, each from those that
came nearest to the w before: what one direction leaves alone another may meet. Among them are tokens of the whole vocabulary as
the first of a text: a prompt begins with a name where a paragraph hardly does, and there gates of "Nokia N85" had opened at "Honda";
pieces of the names put where others stand in the corpus, which holds few of them: "Cerv·o" had opened at "Command·o"; and names of other
edits: "BMW E23" had opened at "326 BMW".

Scores are scaled so that negatives average 0 and positives 1. The threshold is the largest of `margin` (or `margin_around`), of the scores
of the words behind the subject in its prompts (there the answer is read) and of the bare prompt's other tokens, of the score that at most a
tenth of the bare words reach, and of that which at most the detector's part of `false_fire` of text tokens reaches. Text and words that w
was not made from tell these; the tail of the text by its largest scores and an exponential beyond them (Pickands, 1975, with shape 0),
since rates such as 1e-6 cannot be counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..memory.linear import square
from .closed import ClosedForm
from .scores import highest, score, tail_threshold

GAP = 0.02
"""Between the score of a key that must stay shut and the threshold, so that no rounding opens it."""

HELD_OUT = 1 / 3
"""Share of the text's keys and of the bare words', their end, that thresholds are set by and directions are not made from."""

WORDS_OPEN = 0.1
"""Share of the bare words held out that may reach a threshold: with all of them below, a few odd ones would shut it for the subject too."""


@dataclass(frozen=True, eq=False)
class Detector:
    """A half-space of keys: open where `weight`·k + `bias` > 0.

    Attributes:
        weight: (D,), scaled so that the mean scores of negatives and positives differ by 1.
        threshold: of scores whose negatives average 0.
    """

    weight: Tensor
    bias: float
    threshold: float


@dataclass(frozen=True, eq=False)
class Background:
    """What the detectors of a layer have in common: keys that are none of theirs.

    Attributes:
        moment: (D, D) mean of the groups' second moments, and C with its weight.
        mean: (D,) of the groups' means.
        groups: how many there are, text among them.
        seen: of ordinary text, that directions are made from, and what else is mined for collisions, each (m, D) of any dtype.
        unseen: (n, D) of ordinary text, that thresholds are set by, of any dtype.
    """

    moment: Tensor
    mean: Tensor
    groups: int
    seen: tuple[Tensor, ...]
    unseen: Tensor

    @classmethod
    def of(
        cls, negatives: Sequence[Tensor], text: Tensor, moment: Tensor | None, options: ClosedForm, mined: Sequence[Tensor] = ()
    ) -> "Background":
        """Of groups of keys, each (n, D), of (m, D) keys of ordinary text, of C (D, D), None: that of `text`, and of groups (k, D) that are
        mined for collisions beside it."""
        seen, unseen = _divided(text)
        dtype = torch.promote_types(text.dtype, torch.float32)
        c = square(seen.to(dtype)) / len(seen) if moment is None else moment.to(seen.device, dtype)
        means = [*(g.mean(0) for g in negatives), seen.mean(0, dtype=dtype)]
        count = len(means)
        whole = c * (1 / count + options.text_weight)
        for g in negatives:  # one after another, and in place: each is as large as C
            whole.add_(square(g), alpha=1 / (len(g) * count))
        return cls(whole, sum(means) / count, count, (seen, *mined), unseen)


def fit_detector(
    positives: Sequence[Tensor],
    background: Background,
    options: ClosedForm,
    margin: float,
    rate: float,
    shut: Tensor | None = None,
    words: Tensor | None = None,
) -> Detector:
    """The discriminant between groups of keys, each (n, D), and the background; see the module's docstring.

    Args:
        margin: lowest threshold.
        rate: wished false-fire rate.
        shut: (n, D) keys at which it must be shut in any case.
        words: (n, D) keys of the positives' last words where they are words like any, in random order.
    """
    mean, count = background.mean, float(background.groups)
    middle = torch.stack([g.mean(0) for g in positives]).mean(0)
    scatter, negatives = background.moment.clone(), count * mean
    for centred in (g - middle for g in positives):
        scatter.add_(square(centred), alpha=options.spread / len(positives) / len(centred))
    met, held = _divided(positives[0][:0] if words is None else words)
    if len(met):
        scatter.add_(square(met), alpha=1 / len(met))
        negatives, count = negatives + met.mean(0), count + 1
    scatter.diagonal().add_(options.ridge * scatter.diagonal().mean())
    weight = _solve(scatter, middle - negatives / count)
    nearest = round(options.hard_share * sum(map(len, background.seen)))
    for left in reversed(range(options.hard_rounds if nearest and options.hard_weight else 0)):
        hard = highest(background.seen, weight, nearest)
        whole = scatter.clone() if left else scatter  # as large as C: the last are added in place
        whole.add_(square(hard), alpha=options.hard_weight / len(hard))
        weight = _solve(whole, middle - (negatives + options.hard_weight * hard.mean(0)) / (count + options.hard_weight))
    weight = weight / ((middle - mean) @ weight)
    low = (mean @ weight).item()
    threshold = max(margin, tail_threshold(score(background.unseen, weight) - low, rate))
    if shut is not None and len(shut):
        threshold = max(threshold, (shut @ weight).max().item() - low + GAP)
    if len(held):
        threshold = max(threshold, (held @ weight).quantile(1 - WORDS_OPEN).item() - low + GAP)
    return Detector(weight, -low - threshold, threshold)


def _divided(text: Tensor) -> tuple[Tensor, Tensor]:
    """(what directions are made from, what thresholds are set by)."""
    return text.tensor_split([len(text) - round(HELD_OUT * len(text))])


def _solve(scatter: Tensor, difference: Tensor) -> Tensor:
    return torch.cholesky_solve(difference[:, None], torch.linalg.cholesky(scatter))[:, 0]
