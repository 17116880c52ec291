"""The closed-form pathway: gates that are linear discriminants, in front of one stored key. No gate is trained.

Where one of its detectors opens, the key becomes another, the same wherever that is: s·k₀, with k₀ the key of the edited prompt, at which
the edit is exact, Ŵk̂ = s·v*. With `value_steps` it is k₀, in one layer alone, the lowest edited or one above (`layer`), and a value is
added to what the weight makes of k₀ there that was fitted so that the model answers behind other wordings too (`value_fit.py`). With two
detectors that is three vectors of length D for each layer, 132 kB in float32 at D = 11,008; or these once and one of length d, 148 kB at d
= 4,096. With `leave`, a cosine, and nothing fitted, a key that is near s·k₀ already stays what it is, that of the edited prompt above all:
what follows there ("… is not") is reached no further than by the base method.

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

With two detectors one is made from the positives whose last token is a word of the subject itself, the other from the rest ("… , a
prominent figure in French cinema"): one direction for both is a compromise.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import EditError
from ..memory.linear import square
from .layer import RepLayer
from .scores import ROWS, highest, score, tail_threshold
from .training import TrainingKeys

LARGEST = 2048
"""Keys of a group of negatives that are enough to know it by; of more, evenly spaced ones are taken."""

GAP = 0.02
"""Between the score of a key that must stay shut and the threshold, so that no rounding opens it."""

HELD_OUT = 1 / 3
"""Share of the text's keys and of the bare words', their end, that thresholds are set by and directions are not made from."""

WORDS_OPEN = 0.1
"""Share of the bare words held out that may reach a threshold: with all of them below, a few odd ones would shut it for the subject too."""


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


def solve_layer(layer: RepLayer, keys: TrainingKeys, name: str, options: ClosedForm, moment: Tensor | None) -> dict[str, float]:
    """Set the closed-form pathway `name` of one layer.

    Returns:
        `open`, the share of training keys at which its gate is open; `false_fire`, the share of unseen text at which it acts; and
        `threshold`, the higher one of its detectors.

    Raises:
        EditError: there is no text to tell the subject from.
    """
    text = keys.negatives["text"]
    if len(text) < 100:
        raise EditError(f"rep.text_tokens: {len(text)} tokens are too few to set a gate by: a closed-form pathway wants thousands")
    mined = [] if keys.ordinary is None else [keys.ordinary.first_but(keys.names).to(text.device)]
    mined += [more for more in (keys.stray, keys.neighbours) if more is not None]
    groups = [keys.own, keys.negatives["subject"], keys.negatives["others"], keys.others_last, *keys.after]
    background = Background.of([g[:: -(-len(g) // LARGEST)] for g in groups if len(g)], text, moment, options, mined)
    gate = layer.part("rep_gate", name)
    sets = _positive_sets(keys, gate.out_features)
    rate = options.false_fire / len(sets)
    detectors = []
    for own, positives, words in sets:
        margin = options.margin if own else options.margin_around
        detectors.append(fit_detector(positives, background, options, margin, rate, keys.shut, words))
    detectors += [detectors[0]] * (gate.out_features - len(detectors))
    with torch.no_grad():
        gate.weight.copy_(torch.stack([d.weight for d in detectors]))
        gate.bias.copy_(gate.bias.new_tensor([d.bias for d in detectors]))
        layer.part("rep_key", name).weight.copy_(options.strength * keys.prompt[:, None])
    return {
        "open": (layer.gate_logit(keys.positives, name) > 0).float().mean().item(),
        "false_fire": torch.cat([layer.is_open(rows, name) for rows in background.unseen.split(ROWS)]).float().mean().item(),
        "threshold": max(d.threshold for d in detectors),
    }


def _positive_sets(keys: TrainingKeys, n: int) -> list[tuple[bool, list[Tensor], Tensor | None]]:
    """For each of at most `n` detectors: whether it is that for the subject's own last words, as for two they are told apart, its groups of
    positives by kind, and their last words where they are words like any."""
    by_kind: Mapping[tuple[bool, str], list[Tensor]] = {(True, "subject"): [keys.prompt]}
    for key, kind, own in zip(keys.positives, keys.kinds, keys.own_word.tolist(), strict=True):
        by_kind.setdefault((own or n == 1, kind), []).append(key)
    words: tuple[Tensor | None, ...] = keys.same or (None, None)
    if keys.same and n == 1:  # every third of each stays held out
        words = (torch.cat([w[i::3] for i in range(3) for w in keys.same]), None)
    sets = []
    for own, bare in zip((True, False), words, strict=True):
        groups = [torch.stack(group) for (mine, _), group in by_kind.items() if mine == own]
        sets += [(own, groups, bare)] if groups else []
    return sets


def _divided(text: Tensor) -> tuple[Tensor, Tensor]:
    """(what directions are made from, what thresholds are set by)."""
    return text.tensor_split([len(text) - round(HELD_OUT * len(text))])


def _solve(scatter: Tensor, difference: Tensor) -> Tensor:
    return torch.cholesky_solve(difference[:, None], torch.linalg.cholesky(scatter))[:, 0]
