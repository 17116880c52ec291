"""What a model says by itself: greedy answers compared with targets, and sampled text. Batches are padded on the left."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ..memory.contexts import seeded
from ..memory.tokens import batches, continuation, token_budget


class HasModel(Protocol):
    """Enough of an `Anatomy` to generate."""

    model: nn.Module
    embedding_device: torch.device


def pad_left(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Left-padded ids and attention mask, both int64 (n, longest row)."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def _generate(anatomy: HasModel, tok, rows: Sequence[Sequence[int]], **options) -> list[list[int]]:
    """The new token ids after each of `rows`, one batch. The model's own generation settings (sampling, penalties) are set aside."""
    ids, mask = pad_left(rows, anatomy.embedding_device)
    plain = {"temperature": 1.0, "top_p": 1.0, "num_beams": 1, "repetition_penalty": 1.0, "top_k": 50}
    # What fills up an answer that ended early must be a special token, or it would be read as part of it.
    pad = next((i for i in (tok.pad_token_id, tok.eos_token_id) if i is not None), 0)
    with torch.no_grad():
        out = anatomy.model.generate(input_ids=ids, attention_mask=mask, pad_token_id=pad, **{**plain, **options})
    return out[:, ids.shape[1] :].tolist()


def greedy(anatomy: HasModel, tok, texts: Sequence[str], n_new: Sequence[int], budget: int | None = None) -> list[list[int]]:
    """The first `n_new[i]` token ids the model says after `texts[i]`, fewer only where it ends its answer before."""
    rows = [tok(text)["input_ids"] for text in texts]
    out: list[list[int]] = [[] for _ in rows]
    lengths = [len(row) + n for row, n in zip(rows, n_new, strict=True)]
    for group in batches(lengths, budget or token_budget(anatomy.embedding_device)):
        longest = max(n_new[i] for i in group)
        said = _generate(anatomy, tok, [rows[i] for i in group], do_sample=False, max_new_tokens=longest)
        for i, new in zip(group, said, strict=True):
            out[i] = new[: n_new[i]]
    return out


def says(anatomy: HasModel, tok, texts: Sequence[str], targets: Sequence[str], budget: int | None = None) -> list[float]:
    """1.0 where what the model generates greedily after the text, as many tokens as the target has, reads as the target.

    The text is encoded alone, as a user's would be, and nothing of the target is shown to the model.
    """
    n_new = [len(continuation(tok, text, target)[1]) for text, target in zip(texts, targets, strict=True)]
    said = tok.batch_decode(greedy(anatomy, tok, texts, n_new, budget), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [float(answer.strip() == target.strip()) for answer, target in zip(said, targets, strict=True)]


def sample(anatomy: HasModel, tok, texts: Sequence[str], length: int, seed: int) -> list[str]:
    """`texts` continued to `length` tokens each (prompt included), from the top 5 tokens as in EasyEdit.

    Fixed by `seed`; the global random state is left as it was.
    """
    out = []
    with seeded(anatomy.model, seed):
        for text in texts:
            ids = tok(text)["input_ids"]
            new = _generate(anatomy, tok, [ids], do_sample=True, top_k=5, max_new_tokens=max(1, length - len(ids)))
            out.append(tok.decode(ids + new[0], skip_special_tokens=True))
    return out
