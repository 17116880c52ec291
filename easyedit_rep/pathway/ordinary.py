"""Keys that no edit's gate should open at: those of ordinary text, and of words that a text begins with."""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..anatomy import Anatomy
from ..memory.keys import read_token_keys

ROWS = 128
"""Texts that are read at once."""


@dataclass(frozen=True, eq=False)
class OrdinaryKeys:
    """Of one layer, in the model's dtype, as they were read: in float32 those of a 16-bit model would take twice the memory.

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
    text: dict[int, list[Tensor]] = {layer: [anatomy.weight(layer).new_empty(0, anatomy.key_size(layer))] for layer in layers}
    begun = {layer: list(empty) for layer, empty in text.items()}
    words = [[*start, token] for token in tokens]
    for some, into, at in [*((part, text, 0) for part in _parts(rows)), *((part, begun, -1) for part in _parts(words))]:
        for layer, read in read_token_keys(anatomy, some, layers).items():
            into[layer].append(torch.cat([row[at:] for row in read]).to(into[layer][0]))
    return {layer: OrdinaryKeys(torch.cat(text[layer]), torch.cat(begun[layer]), tokens) for layer in layers}


def _parts(rows: Sequence[Sequence[int]]) -> Iterator[Sequence[Sequence[int]]]:
    """`rows`, some at a time: what is read of them is float32 at first."""
    yield from (rows[i : i + ROWS] for i in range(0, len(rows), ROWS))


def _words(anatomy: Anatomy, tok, n: int, seed: int) -> tuple[int, ...]:
    """Up to `n` tokens that the model has an embedding of and that are more than space, in random order."""
    special = set(tok.all_special_ids)
    known = min(len(tok), anatomy.model.get_input_embeddings().weight.shape[0])
    drawn = random.Random(f"first/{seed}").sample(range(known), known) if n else []
    found = (token for token in drawn if token not in special and tok.decode([token]).strip())
    return tuple(token for _, token in zip(range(n), found, strict=False))
