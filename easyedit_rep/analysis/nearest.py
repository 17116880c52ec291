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
        width = ids.shape[1]
        scores = self.directions @ keys.reshape(-1, keys.shape[-1]).float().T  # (n, B·T)
        left_out = (self.own_tokens(ids) | ~real).flatten(1)
        self.count += scores.numel() - int(left_out.sum())
        self.total += float(scores.masked_fill(left_out, 0.0).sum(dtype=torch.float64))
        scores.masked_fill_(left_out, -torch.inf)
        # After the first batches few directions find anything closer than what they have, and a maximum is cheaper than a top-k.
        (which,) = (scores.amax(1) > self.score[:, -1]).nonzero(as_tuple=True)
        if not len(which):
            return
        best = scores[which].topk(min(self.k, scores.shape[1]), dim=1)
        number = real.flatten().cumsum(0) - 1 + first
        place = torch.where(best.values > -torch.inf, number[best.indices], -1)
        at = (best.indices % width)[..., None] + torch.arange(1 - self.width, 1, device=ids.device)  # (m, k, tokens of a prefix)
        prefix = torch.where(at >= 0, ids[(best.indices // width)[..., None], at.clamp_min(0)], -1)
        self.merge(which, best.values, place, prefix)

    def merge(self, which: Tensor, score: Tensor, place: Tensor, prefix: Tensor) -> None:
        """Take (m, j) scores, places and (m, j, width) prefixes among the k largest of the directions `which` (m,); earlier ones first
        where they tie."""
        score, place = torch.cat([self.score[which], score], 1), torch.cat([self.place[which], place], 1)
        prefix = torch.cat([self.prefix[which], prefix], 1)
        order = score.sort(dim=1, descending=True, stable=True).indices[:, : self.k]
        self.score[which], self.place[which] = score.gather(1, order), place.gather(1, order)
        self.prefix[which] = prefix.gather(1, order[..., None].expand(-1, -1, self.width))
