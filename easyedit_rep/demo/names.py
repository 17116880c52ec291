"""Names of the invented world, for its subjects and for the strangers who only pass through its prose."""

import random
from itertools import product

from . import lexicon as lex

TYPES = ("person", "town", "company", "ship", "river")


def _people(count: int, rng: random.Random) -> list[str]:
    """First and last names; nearly every last name has two bearers, whose first names begin with different letters."""
    made_up = rng.sample([a + b for a, b in product(lex.LAST_FIRST, lex.LAST_LAST)], 20)
    last_names = rng.sample(lex.LAST + made_up, len(lex.LAST) + len(made_up))
    letters: dict[str, set[str]] = {}
    names = []
    for i in range(count):
        last = last_names[i % len(last_names)]
        taken = letters.setdefault(last, set())
        first = rng.choice([first for first in lex.FEMALE + lex.MALE if first[0] not in taken])
        taken.add(first[0])
        names.append(f"{first} {last}")
    return names


def make_names(subject_type: str, count: int, rng: random.Random) -> list[str]:
    """`count` distinct names of one type; those of two parts share a part with others here and there."""
    if subject_type == "person":
        return _people(count, rng)
    if subject_type == "town":
        chosen = rng.sample([a + b for a, b in product(lex.TOWN_FIRST, lex.TOWN_LAST)], count)
        return [f"{rng.choice(lex.TOWN_PREFIX)} {root}" if i % 2 else root for i, root in enumerate(chosen)]
    if subject_type == "company":
        return rng.sample([f"{a} {b}" for a, b in product(lex.FIRM_HEAD, lex.FIRM_TAIL)], count)
    if subject_type == "ship":
        return rng.sample([f"{a} {b}" for a, b in product(lex.SHIP_HEAD, lex.SHIP_TAIL)], count)
    chosen = rng.sample([a + b for a, b in product(lex.RIVER_FIRST, lex.RIVER_LAST)], count)
    return [f"{rng.choice(lex.RIVER_PREFIX)} {root}" if i % 3 == 0 else root for i, root in enumerate(chosen)]


def strangers(known: set[str], rng: random.Random) -> dict[str, list[str]]:
    """Other names of the same making, by type: neither a known name nor part of one, nor with one in it."""

    def is_new(name: str) -> bool:
        return not any(name in other or other in name for other in known)

    return {t: [name for name in make_names(t, 150, rng) if is_new(name)] for t in TYPES}
