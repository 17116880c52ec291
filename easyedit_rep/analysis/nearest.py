"""The keys of a long text nearest to some directions: a running top-k in memory that does not grow with the text."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(eq=False)
class Nearest:
    """The k largest products of each direction with the keys seen so far.

    Attributes:
        directions: (n, D) float32.
        k: how many of each are kept.
        own: (n, m) int64, for each direction the token ids at which it is not asked, nor at the `after` tokens that follow in the same
            row; -1 fills up.
        after: tokens after an own token that are left out too.
        width: tokens of text kept up to each token found.

        score: (n, k) float32, descending; -inf where fewer have been seen.
        place: (n, k) int64, number of the token, counted over all rows seen; -1 for none.
        prefix: (n, k, width) int64, the tokens up to and with it; -1 before its row's begin.
        total, count: sum, and number, of all products that were not left out (float64, int).
    """

    directions: Tensor
    k: int
    own: Tensor
    after: int = 10
    width: int = 20
    score: Tensor = field(init=False)
    place: Tensor = field(init=False)
    prefix: Tensor = field(init=False)
    total: float = 0.0
    count: int = 0

    def __post_init__(self):
        n, device = len(self.directions), self.directions.device
        self.score = torch.full((n, self.k), -torch.inf, device=device)
        self.place = torch.full((n, self.k), -1, device=device)
        self.prefix = torch.full((n, self.k, self.width), -1, device=device)

    def own_tokens(self, ids: Tensor) -> Tensor:
        """(n, B, T) bool: tokens of the rows `ids` (B, T) that are a subject's own, or follow one in the same row."""
        hit = (ids == self.own[:, :, None, None]).any(1)
        near = hit.clone()
        for step in range(1, min(self.after, ids.shape[1] - 1) + 1):
            near[..., step:] |= hit[..., :-step]
        return near

    def add(self, keys: Tensor, ids: Tensor, real: Tensor, first: int) -> None:
        """Look at one batch.

        Args:
            keys: (B, T, D).
            ids, real: (B, T) its tokens, and which of them are not padding.
            first: number of its first real token.
        """
        rows, columns = real.nonzero(as_tuple=True)
        scores = self.directions @ keys[rows, columns].float().T  # (n, real tokens)
        left_out = self.own_tokens(ids)[:, rows, columns]
        self.count += scores.numel() - int(left_out.sum())
        self.total += float(scores.masked_fill(left_out, 0.0).sum(dtype=torch.float64))
        best = scores.masked_fill_(left_out, -torch.inf).topk(min(self.k, scores.shape[1]), dim=1)
        if (best.values[:, 0] > self.score[:, -1]).any():
            steps = torch.arange(1 - self.width, 1, device=ids.device)
            at = columns[best.indices][..., None] + steps  # (n, k, width)
            prefix = torch.where(at >= 0, ids[rows[best.indices][..., None], at.clamp_min(0)], -1)
            place = torch.where(best.values > -torch.inf, best.indices + first, -1)
            self.merge(best.values, place, prefix)

    def merge(self, score: Tensor, place: Tensor, prefix: Tensor) -> None:
        """Take (n, j) scores, places and (n, j, width) prefixes among the k largest; earlier ones first where they tie."""
        score, place = torch.cat([self.score, score], 1), torch.cat([self.place, place], 1)
        prefix = torch.cat([self.prefix, prefix], 1)
        order = score.sort(dim=1, descending=True, stable=True).indices[:, : self.k]
        self.score, self.place = score.gather(1, order), place.gather(1, order)
        self.prefix = prefix.gather(1, order[..., None].expand(-1, -1, self.width))
