"""Where tokens occur in a corpus, with what stands before them; and where they might have."""

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

BEFORE = 24
"""Tokens of context: in the low layers that are edited a key hardly depends on what is further away."""


class Spelling(NamedTuple):
    """How a token is written.

    Attributes:
        begins: with a space before it, so that it is the first of a word.
        letters: its first character is a letter or digit.
        capital: and a capital letter.
        blank: it is nothing but space.
    """

    begins: bool
    letters: bool
    capital: bool
    blank: bool


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Tokens of texts, sorted by id.

    Attributes:
        ids: (n,) of all texts, specials included, one text after another.
        starts: (n,) where each token's text begins.
        order: (n,) positions in `ids` by token id.
        special: ids of the tokenizer's special tokens.
        name_ends: (m,) positions of the last tokens of capitalised words.
        heads: (k,) positions of the first tokens of words that have several.
    """

    ids: np.ndarray
    starts: np.ndarray
    order: np.ndarray
    special: frozenset[int]
    name_ends: np.ndarray
    heads: np.ndarray

    @classmethod
    def of(cls, tok, rows: Sequence[Sequence[int]]) -> "Occurrences":
        """Of texts as token ids, specials included."""
        lengths = [len(row) for row in rows]
        ids = np.concatenate([np.array(row, dtype=np.int64) for row in rows])
        starts = np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
        special = frozenset(tok.all_special_ids)
        distinct, which = np.unique(ids, return_inverse=True)
        begins, letters, capital, blank = np.array(spellings(tok, distinct.tolist())).T[:, which]
        apart = np.r_[True, (starts[1:] != starts[:-1]) | (blank | np.isin(ids, list(special)))[:-1]] | begins
        head = apart & letters & ~np.isin(ids, list(special))
        word = np.maximum.accumulate(np.where(head, np.arange(len(ids)), 0))  # the position of the first token of each token's word
        goes_on = np.r_[(letters & ~apart)[1:], False]  # in the next token
        ends, heads = np.flatnonzero(letters & ~goes_on & capital[word]), np.flatnonzero(head & goes_on)
        return cls(ids, starts, np.argsort(ids, kind="stable"), special, ends, heads)

    def windows(self, token: int, rng: random.Random) -> Iterator[list[int]]:
        """Token ids that end in `token`, of each place where it stands, in random order; a text's leading special token comes first."""
        low, high = np.searchsorted(self.ids, [token, token + 1], sorter=self.order)
        places = self.order[low:high].tolist()
        for at in rng.sample(places, len(places)):
            yield self._upto(at)

    def made(self, token: int, spelling: Spelling, rng: random.Random) -> Iterator[list[int]]:
        """Without end, token ids that end in `token` at places where it might stand: a word or a mark behind a name ("Bamboo Studio"), a
        piece of a word behind the beginning of another ("Bint" + "ulu")."""
        places = self.heads if spelling.letters and not spelling.begins else self.name_ends
        while len(places):
            yield [*self._upto(int(places[rng.randrange(len(places))])), token]

    def _upto(self, at: int) -> list[int]:
        start = int(self.starts[at])
        cut = max(start, at - BEFORE)
        head = [int(self.ids[start])] if cut > start and int(self.ids[start]) in self.special else []
        return head + self.ids[cut : at + 1].tolist()


def spellings(tok, tokens: Sequence[int]) -> list[Spelling]:
    """How each of `tokens` is written behind another: alone, a tokenizer may leave out its space."""
    (a,) = tok("a", add_special_tokens=False)["input_ids"][-1:]
    alone = len(tok.decode([a]))
    written = [tok.decode([a, token], clean_up_tokenization_spaces=False)[alone:] for token in tokens]
    bare = [text.strip() for text in written]
    return [Spelling(w[:1].isspace(), b[:1].isalnum(), b[:1].isupper(), not b) for w, b in zip(written, bare, strict=True)]


def bare_words(
    tok, tokens: Sequence[int], names: Sequence[str], occurrences: Occurrences, n: int, rng: random.Random, filled: Collection[int] = ()
) -> list[list[int]]:
    """Up to `n` windows for each of `tokens`; for those of `filled` what is missing is made. None ends in one of `names`, whatever its
    case: there it is named indeed."""
    folded, out = tuple(name.strip().casefold() for name in names), []

    def bare(window: list[int]) -> bool:
        return not tok.decode(window).casefold().endswith(folded)

    tokens = [token for token in tokens if token not in occurrences.special]
    for token, spelling in zip(tokens, spellings(tok, tokens), strict=True):
        found = list(islice(filter(bare, occurrences.windows(token, rng)), n))
        wanted = n - len(found) if token in filled else 0
        # Of a word that is one of the names by itself none can be made.
        tried = islice(occurrences.made(token, spelling, rng), 4 * wanted)
        out += [*found, *islice(filter(bare, tried), wanted)]
    rng.shuffle(out)
    return out
