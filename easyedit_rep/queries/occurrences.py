"""Where tokens occur in a corpus, with what stands before them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..datasets.corpus import Corpus

TOKENS = 200_000
"""So many of a corpus are looked through: a token that is not among them is rarer than any rate of false fires that could be told."""

BEFORE = 24
"""Tokens of context: in the low layers that are edited a key hardly depends on what is further away."""


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Tokens of the first texts of a corpus, sorted by id.

    Attributes:
        ids: (n,) of all texts, specials included, one text after another.
        starts: (n,) where each token's text begins.
        order: (n,) positions in `ids` by token id.
        special: ids of the tokenizer's special tokens.
    """

    ids: np.ndarray
    starts: np.ndarray
    order: np.ndarray
    special: frozenset[int]

    @classmethod
    def of(cls, tok, corpus: Corpus, seed: int, max_length: int = 256) -> "Occurrences":
        """Of texts in an order fixed by `seed`, each cut to `max_length` tokens."""
        rows, total = [], 0
        for text in corpus.shuffled(seed):
            rows.append(tok(text, truncation=True, max_length=max_length)["input_ids"])
            total += len(rows[-1])
            if total >= TOKENS:
                break
        lengths = [len(row) for row in rows]
        ids = np.concatenate([np.array(row, dtype=np.int64) for row in rows])
        starts = np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
        return cls(ids, starts, np.argsort(ids, kind="stable"), frozenset(tok.all_special_ids))

    def windows(self, token: int, rng: random.Random) -> Iterator[list[int]]:
        """Token ids that end in `token`, of each place where it stands, in random order; a text's leading special token comes first."""
        low, high = np.searchsorted(self.ids, [token, token + 1], sorter=self.order)
        places = self.order[low:high].tolist()
        for at in rng.sample(places, len(places)):
            start = int(self.starts[at])
            cut = max(start, at - BEFORE)
            head = [int(self.ids[start])] if cut > start and int(self.ids[start]) in self.special else []
            yield head + self.ids[cut : at + 1].tolist()


def bare_words(tok, tokens: Sequence[int], names: Sequence[str], occurrences: Occurrences, n: int, rng: random.Random) -> list[list[int]]:
    """Up to `n` windows for each of `tokens`, none of which ends in one of `names`, whatever its case: there it is named indeed."""
    folded, out = tuple(name.strip().casefold() for name in names), []
    for token in tokens:
        if token in occurrences.special:
            continue
        found = (w for w in occurrences.windows(token, rng) if not tok.decode(w).casefold().endswith(folded))
        out += [w for w, _ in zip(found, range(n), strict=False)]
    rng.shuffle(out)
    return out
