"""Where tokens occur in a corpus, with what stands before them."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from transformers import PreTrainedTokenizerBase

BEFORE = 24
"""Tokens of context: in the low layers that are edited a key hardly depends on what is further away."""

BEFORE_STRAY = 8
"""The same for tokens that are put where others stand: there are hundreds of them for an edit."""


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Tokens of texts, sorted by id.

    Attributes:
        ids: (n,) of all texts, specials included, one text after another.
        starts: (n,) where each token's text begins.
        order: (n,) positions in `ids` by token id.
        special: ids of the tokenizer's special tokens.
        tok: the tokenizer.
    """

    ids: np.ndarray
    starts: np.ndarray
    order: np.ndarray
    special: frozenset[int]
    tok: PreTrainedTokenizerBase

    @classmethod
    def of(cls, tok, rows: Sequence[Sequence[int]]) -> "Occurrences":
        """Of texts as token ids, specials included."""
        lengths = [len(row) for row in rows]
        ids = np.concatenate([np.array(row, dtype=np.int64) for row in rows])
        starts = np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
        return cls(ids, starts, np.argsort(ids, kind="stable"), frozenset(tok.all_special_ids), tok)

    @cached_property
    def words(self) -> frozenset[int]:
        """Ids of the vocabulary that stand for white space and what follows it: words begin with them."""
        before = self.tok("a", add_special_tokens=False)["input_ids"][-1:]
        texts = self.tok.batch_decode([[*before, token] for token in range(len(self.tok))], clean_up_tokenization_spaces=False)
        length = len(self.tok.decode(before, clean_up_tokenization_spaces=False))
        return frozenset(token for token, text in enumerate(texts) if text[length:][:1].isspace())

    @cached_property
    def _inner(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of tokens that stand inside a word, and of those that a word begins with. Neither holds a text's first word, which may
        begin without a space."""
        begins = np.isin(self.ids, list(self.words))
        inner = np.arange(len(self.ids)) > self.starts + 1
        return np.flatnonzero(inner & ~begins), np.flatnonzero(inner & begins)

    def windows(self, token: int, rng: random.Random) -> Iterator[list[int]]:
        """Token ids that end in `token`, of each place where it stands, in random order; a text's leading special token comes first."""
        low, high = np.searchsorted(self.ids, [token, token + 1], sorter=self.order)
        places = self.order[low:high].tolist()
        for at in rng.sample(places, len(places)):
            yield [*self._before(at, BEFORE), token]

    def in_place_of_others(self, token: int, n: int, rng: random.Random) -> list[list[int]]:
        """Token ids that end in `token`, where another stands that begins a word as it does, or does not: up to `n` places drawn."""
        places = self._inner[token in self.words]
        places = places[self.ids[places] != token]
        return [[*self._before(int(places[i]), BEFORE_STRAY), token] for i in rng.sample(range(len(places)), min(n, len(places)))]

    def _before(self, at: int, n: int) -> list[int]:
        """The `n` tokens before position `at` in its text, behind the special one that the text begins with."""
        start = int(self.starts[at])
        cut = max(start, at - n)
        head = [int(self.ids[start])] if cut > start and int(self.ids[start]) in self.special else []
        return head + self.ids[cut:at].tolist()


def bare_words(tokens: Sequence[int], names: Sequence[str], occurrences: Occurrences, n: int, rng: random.Random) -> list[list[int]]:
    """Up to `n` windows for each of `tokens`, none of which ends in one of `names`, whatever its case: there it is named indeed."""
    out = []
    for token in tokens:
        if token not in occurrences.special:
            out += islice(_unnamed(occurrences.tok, occurrences.windows(token, rng), names), n)
    rng.shuffle(out)
    return out


def stray_words(tokens: Sequence[int], names: Sequence[str], occurrences: Occurrences, n: int, rng: random.Random) -> list[list[int]]:
    """Up to `n` places of other tokens for each of `tokens` with a letter or digit in it; none of the windows ends in one of `names`."""
    out = []
    for token in tokens:
        if token not in occurrences.special and any(c.isalnum() for c in occurrences.tok.decode([token])):
            out += _unnamed(occurrences.tok, occurrences.in_place_of_others(token, n, rng), names)
    return out


def _unnamed(tok, windows: Iterable[list[int]], names: Sequence[str]) -> Iterator[list[int]]:
    """Those of `windows` that do not end in one of `names`, whatever its case."""
    folded = tuple(name.strip().casefold() for name in names)
    return (window for window in windows if not tok.decode(window).casefold().endswith(folded))
