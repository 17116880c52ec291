"""Keys that no edit's gate should open at: those of ordinary text, and of words that a text begins with."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..anatomy import Anatomy
from ..memory.keys import read_token_keys
from ..memory.tokens import Prompt, locate

TOKENS = 4096
"""Tokens that are read at once: what is read of them is float32 at first, in all layers."""


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


def read_text(anatomy: Anatomy, rows: Sequence[Sequence[int]], layers: Sequence[int]) -> Mapping[int, Tensor]:
    """{layer: (m, D) keys of every token of `rows`, in the model's dtype}; the model as it stands."""
    return _read(anatomy, rows, layers, 0)


def read_first(anatomy: Anatomy, tok, tokens: Sequence[int], layers: Sequence[int]) -> Mapping[int, Tensor]:
    """{layer: (n, D) keys of `tokens`, in the model's dtype}, each standing first in a text; the model as it stands."""
    some = locate(tok, Prompt("", "a", ""))
    start = some.ids[: some.first]  # a beginning-of-sequence token, if the tokenizer puts one
    return _read(anatomy, [[*start, token] for token in tokens], layers, -1)


def first_tokens(anatomy: Anatomy, tok, n: int, seed: int) -> tuple[int, ...]:
    """Up to `n` tokens of the vocabulary, drawn by `seed`: names before all, as they may begin a text, then other words that may, then the
    rest. None is special, added, or less than a character."""
    if not n:
        return ()
    size = min(len(tok), anatomy.model.get_input_embeddings().weight.shape[0])
    left_out = {*tok.all_special_ids, *tok.added_tokens_decoder}
    drawn = [token for token in random.Random(f"first/{seed}").sample(range(size), size) if token not in left_out]
    words = {token: tok.decode([token]).strip() for token in drawn}
    words = {token: word for token, word in words.items() if word and "\N{REPLACEMENT CHARACTER}" not in word}
    alone = dict(zip(words, tok(list(words.values()), add_special_tokens=False)["input_ids"], strict=True))

    def rank(token: int) -> int:
        return 2 if alone[token] != [token] else 1 - words[token][0].isupper()

    return tuple(sorted(words, key=rank)[:n])  # of equal ranks in the order of the draw


def _read(anatomy: Anatomy, rows: Sequence[Sequence[int]], layers: Sequence[int], since: int) -> Mapping[int, Tensor]:
    """{layer: keys of the tokens of each of `rows` from index `since` on, one row after another}."""
    out: dict[int, list[Tensor]] = {layer: [anatomy.weight(layer).new_empty(0, anatomy.key_size(layer))] for layer in layers}
    at_once = max(1, TOKENS // max(map(len, rows), default=1))
    for i in range(0, len(rows), at_once):
        for layer, keys in read_token_keys(anatomy, rows[i : i + at_once], layers).items():
            out[layer].append(torch.cat([row[since:] for row in keys]).to(out[layer][0]))
    return {layer: torch.cat(parts) for layer, parts in out.items()}
