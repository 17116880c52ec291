"""What the targets of a set of edits are like to a model: how long the questions are, and how unlikely their answers (D4S, Table 3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..anatomy import Anatomy
from ..memory.tokens import continuation
from ..request import EditRequest
from .perplexity import target_perplexities


@dataclass(frozen=True)
class TargetStats:
    """Means over the requests of one type.

    Attributes:
        input_tokens, target_tokens: without the special tokens that a tokenizer puts around a text.
        perplexity: mean of each target's own perplexity (D4S, Eq. 1). A few targets far out of the model's world can outweigh all others.
        typical: the geometric mean of the same: exp of the mean, over targets, of the mean NLL a token.
    """

    n: int
    input_tokens: float
    target_tokens: float
    perplexity: float
    typical: float


def target_stats(anatomy: Anatomy, tok, requests: Sequence[EditRequest]) -> TargetStats:
    """The numbers of `requests` on a model as it is."""
    special = tok.num_special_tokens_to_add()
    split = [continuation(tok, request.text, request.target_new) for request in requests]
    values = target_perplexities(anatomy, tok, [r.text for r in requests], [r.target_new for r in requests])
    return TargetStats(
        n=len(requests),
        input_tokens=_mean([len(before) - special for before, _ in split]),
        target_tokens=_mean([len(target) for _, target in split]),
        perplexity=_mean(values),
        typical=math.exp(_mean([math.log(value) for value in values])),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
