"""Teacher-forced predictions for many prompts at once: the one place that runs a model for evaluation."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ..anatomy import Anatomy
from ..memory.linear import fast_linears
from ..memory.tokens import batches, continuation, pad, token_budget


class Prediction(NamedTuple):
    """Argmax ids at the positions that predict the target, and the target's ids (same length)."""

    predicted: tuple[int, ...]
    target: tuple[int, ...]

    @property
    def exact(self) -> float:
        """1.0 where every target token is predicted (REP's protocol)."""
        return float(self.predicted == self.target)

    @property
    def token(self) -> float:
        """Share of target tokens predicted (EasyEdit's protocol)."""
        return sum(p == t for p, t in zip(self.predicted, self.target, strict=True)) / len(self.target)


def predict(anatomy: Anatomy, tok, texts: Sequence[str], targets: Sequence[str], budget: int | None = None) -> list[Prediction]:
    """Predictions of `targets` after `texts`, in their order, in few forwards sorted by length."""
    split = [continuation(tok, text, target) for text, target in zip(texts, targets, strict=True)]
    rows = [before + target[:-1] for before, target in split]
    out: list[Prediction | None] = [None] * len(rows)
    with torch.no_grad(), fast_linears(anatomy.model):
        for group in batches([len(row) for row in rows], budget or token_budget(anatomy.embedding_device)):
            ids, mask = pad([rows[i] for i in group], anatomy.embedding_device)
            spans = [(len(split[i][0]) - 1, len(rows[i])) for i in group]
            hidden = anatomy.decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            # Only the positions that predict a target token go through the vocabulary projection.
            wanted = torch.cat([hidden[j, a:b] for j, (a, b) in enumerate(spans)])
            best = anatomy.logits(wanted).argmax(-1).tolist()
            at = 0
            for i, (a, b) in zip(group, spans, strict=True):
                out[i] = Prediction(tuple(best[at : at + b - a]), tuple(split[i][1]))
                at += b - a
    return out
