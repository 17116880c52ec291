"""Perplexity: of ordinary text, which says what edits cost the model, and of targets, which says how hard they are to write."""

import math
from collections.abc import Sequence

import torch

from ..anatomy import Anatomy
from ..errors import EditError
from ..memory.tokens import batches, continuation, pad, token_budget


def _nll(anatomy: Anatomy, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[float]:
    """Summed negative log-likelihood, in nats, of each row's tokens from index `start` (at least 1) on."""
    out = [0.0] * len(rows)
    for group in batches([len(row) for row in rows], token_budget(anatomy.embedding_device)):
        ids, mask = pad([rows[i] for i in group], anatomy.embedding_device)
        with torch.no_grad():
            hidden = anatomy.decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            for j, i in enumerate(group):
                # One row's logits at a time: a whole batch of them would not fit for a large vocabulary.
                wanted = ids[j, starts[i] : len(rows[i])]
                log_probs = anatomy.logits(hidden[j, starts[i] - 1 : len(rows[i]) - 1]).log_softmax(-1)
                out[i] = -log_probs.gather(1, wanted[:, None].to(log_probs.device)).sum(dtype=torch.float64).item()
    return out


def _exp(nll: float) -> float:
    """e^nll; infinite where no float holds it, as after edits that have broken a model."""
    try:
        return math.exp(nll)
    except OverflowError:
        return math.inf


def text_perplexity(anatomy: Anatomy, tok, texts: Sequence[str], max_length: int = 512) -> float:
    """exp of the mean NLL a token, over texts cut to `max_length` tokens. A text of one token predicts nothing and is left out.

    Raises:
        EditError: no text has two tokens.
    """
    max_length = min(max_length, anatomy.max_positions)
    rows = [tok(text, truncation=True, max_length=max_length)["input_ids"] for text in texts]
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        raise EditError("no text has the two tokens that a perplexity is of: give ordinary text, a paragraph a line")
    total = sum(len(row) - 1 for row in rows)
    return _exp(sum(_nll(anatomy, rows, [1] * len(rows))) / total)


def target_perplexities(anatomy: Anatomy, tok, prompts: Sequence[str], targets: Sequence[str]) -> list[float]:
    """exp of the mean NLL a target token after its prompt, one for each (D4S, Eq. 1)."""
    split = [continuation(tok, prompt, target) for prompt, target in zip(prompts, targets, strict=True)]
    rows, starts = [before + target for before, target in split], [len(before) for before, _ in split]
    return [_exp(nll / len(target)) for nll, (_, target) in zip(_nll(anatomy, rows, starts), split, strict=True)]
