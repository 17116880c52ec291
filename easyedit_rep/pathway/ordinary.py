"""Keys that no edit's gate should open at: those of ordinary text, and of words that a text begins with."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..anatomy import Anatomy
from ..memory.keys import read_token_keys


@dataclass(frozen=True, eq=False)
class OrdinaryKeys:
    """Of one layer, float32.

    Attributes:
        text: (m, D) of every token of ordinary text.
        first: (n, D) of tokens of the vocabulary, each standing first in a text. Prompts begin with a name where paragraphs hardly do, and
            with nothing before it one name's key is much like another's ("Nokia", "Honda").
        tokens: which ones, n ids.
    """

    text: Tensor
    first: Tensor
    tokens: Sequence[int] = ()

    def first_but(self, own: Collection[int]) -> Tensor:
        """`first` without the tokens `own`."""
        return self.first[[i for i, token in enumerate(self.tokens) if token not in own]]


def read_ordinary(
    anatomy: Anatomy, tok, rows: Sequence[Sequence[int]], layers: Sequence[int], first: int, seed: int
) -> Mapping[int, OrdinaryKeys]:
    """{layer: keys} of every token of `rows`, and of up to `first` tokens that stand first, drawn by `seed`; the model as it stands."""
    tokens = _words(anatomy, tok, first, seed)
    start = tok("")["input_ids"]  # a beginning-of-sequence token, if the tokenizer puts one
    keys = read_token_keys(anatomy, [*rows, *([*start, token] for token in tokens)], layers)
    out = {}
    for layer, read in keys.items():
        empty = torch.empty(0, anatomy.key_size(layer), device=anatomy.weight(layer).device)
        text, begun = read[: len(rows)], [row[-1:] for row in read[len(rows) :]]
        out[layer] = OrdinaryKeys(torch.cat([empty, *text]), torch.cat([empty, *begun]), tokens)
    return out


def _words(anatomy: Anatomy, tok, n: int, seed: int) -> tuple[int, ...]:
    """Up to `n` tokens that the model has an embedding of and that are more than space, in random order."""
    special = set(tok.all_special_ids)
    known = min(len(tok), anatomy.model.get_input_embeddings().weight.shape[0])
    drawn = random.Random(f"first/{seed}").sample(range(known), known) if n else []
    found = (token for token in drawn if token not in special and tok.decode([token]).strip())
    return tuple(token for _, token in zip(range(n), found, strict=False))
