"""Where tokens occur in a corpus, with what stands before them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

BEFORE = 24
"""Tokens of context: in the low layers that are edited a key hardly depends on what is further away."""


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Tokens of texts, sorted by id.

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
    def of(cls, tok, rows: Sequence[Sequence[int]]) -> "Occurrences":
        """Of texts as token ids, specials included."""
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
