"""What a direction makes of a great many keys: the highest scores, and how rare the highest ones are."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

ROWS = 4096
"""Keys that are made float32 at once: those of a 16-bit model are kept as it gave them."""

TAIL = 0.005
"""Share of the largest scores that tells the tail."""


def score(rows: Tensor, weight: Tensor) -> Tensor:
    """(n,) products of `rows` (n, D), of any dtype, with `weight` (D,), in its own."""
    return torch.cat([some.to(weight) @ weight for some in rows.split(ROWS)])


def highest(parts: Sequence[Tensor], weight: Tensor, n: int) -> Tensor:
    """The (n, D) rows of `parts` whose scores are highest, in the dtype of `weight`."""
    top = torch.cat([score(rows, weight) for rows in parts]).topk(n).indices
    ends = [0, *accumulate(map(len, parts))]
    found = [rows[top[(start <= top) & (top < end)] - start] for rows, (start, end) in zip(parts, pairwise(ends), strict=True)]
    return torch.cat(found).to(weight)


def tail_threshold(scores: Tensor, rate: float, share: float = TAIL) -> float:
    """The score that the share `rate` of tokens is above, told by `scores` (n,) of a sample of them.

    Counted where `rate` is at least `share`; beyond, the mean excess over that quantile is the scale of an exponential tail.
    """
    n = min(len(scores), max(2, round(len(scores) * share)))
    if rate >= n / len(scores):
        return scores.topk(int(len(scores) * rate)).values[-1].item()
    top = scores.topk(n).values.double()
    return (top[-1] + (top - top[-1]).mean() * math.log(n / len(scores) / rate)).item()
