"""The Multi-Question Dataset (D4S, section 3.2): each fact of ATOMIC asked in three ways, so that only the target's type differs.

    DG   PersonX accepts PersonY appointment, resulting in PersonY → shakes PersonX hand
    MQ   … resulting in PersonY ? Below are four options: (a) …; (b) …; (c) …; (d) …. The correct option is → c
    T/F  … resulting in PersonY shakes PersonX hand. Is this sentence logical? Please answer yes or no. A: → yes

Sample i of each set is made from the same fact, and its subject is the same event at the same place.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import EditError
from ...version import __version__
from ..atomic import Atomic
from .clean import normal
from .facts import Fact, Facts
from .relations import prompt_of

TYPES = ("DG", "MQ", "TF")
LETTERS = "abcd"
MQ = "{prompt} ? Below are four options: {options}. The correct option is"
TF = "{prompt} {tail}. Is this sentence logical? Please answer yes or no. A:"
TRIES = 2000
"""Tails that are looked at before a sample is given up for want of untrue ones."""


@dataclass(frozen=True)
class Mqd:
    """Three aligned lists of records, and what they were made from.

    Attributes:
        sets: {"DG" | "MQ" | "TF": records}, each of one length, with the keys
            case_id, question (the type), prompt, subject, target_new, event, relation, tail, source {file, line, split};
            MQ also options (four texts), offered (the triples of the three that are untrue);
            TF also stated (the tail in the statement), swapped (the triple it is from, None where it is the event's own).
        about: source, digest, seed, counts of what was dropped.
    """

    sets: dict[str, list[dict]]
    about: dict


def build(atomic: Atomic, n: int = 4000, seed: int = 0) -> Mqd:
    """Up to `n` samples of each type. The first samples are the same whatever `n` is.

    Every pair of an event and a relation gives one sample at most: with two, the same prompt would be edited to two answers.
    Answers are balanced in every four samples (MQ) and every two (T/F).

    Raises:
        EditError: `n` is not positive, or no fact is left.
    """
    if n < 1:
        raise EditError(f"n: {n} samples cannot be made, ask for at least one")
    facts = Facts.of(atomic)
    rng = random.Random(seed)
    pairs = list(facts.usable)
    rng.shuffle(pairs)
    pool = _Pool(facts, rng)
    letters, truths = _blocks(LETTERS, rng), _blocks((True, False), rng)
    sets: dict[str, list[dict]] = {kind: [] for kind in TYPES}
    without = 0
    for pair in pairs:
        fact = rng.choice(facts.usable[pair])
        offered, swapped = pool.other_relations(fact, 3), pool.same_relation(fact)
        if len(offered) < 3 or swapped is None:
            without += 1
            continue
        samples = (dg(fact), mq(fact, offered, next(letters)), tf(fact, None if next(truths) else swapped))
        for kind, sample in zip(TYPES, samples, strict=True):
            source = {"file": Path(atomic.source).name, "line": fact.line, "split": fact.split}
            sets[kind].append({"case_id": len(sets[kind]), "question": kind, **sample, "source": source})
        if len(sets["DG"]) == n:
            break
    if not sets["DG"]:
        raise EditError(f"{atomic.source}: none of {len(pairs)} questions is left after cleaning, or none has untrue answers to offer")
    about = {
        "version": __version__,
        "source": Path(atomic.source).name,
        "sha256": atomic.digest,
        "seed": seed,
        "asked": n,
        "samples": len(sets["DG"]),
        "lines": atomic.lines,
        "malformed": len(atomic.malformed),
        "tails": {"kept": facts.kept, "dropped": dict(facts.dropped.most_common())},
        "questions": {"possible": len(pairs), "without untrue answers": without},
    }
    return Mqd(sets, about)


def _base(fact: Fact) -> dict:
    return {"subject": fact.event, "event": fact.event, "relation": fact.relation, "tail": fact.tail}


def dg(fact: Fact) -> dict:
    """Direct generation."""
    return {"prompt": fact.prompt, "target_new": fact.tail, **_base(fact)}


def mq(fact: Fact, offered: Sequence[Fact], letter: str) -> dict:
    """Multiple choice, with the fact's own tail as option `letter`."""
    options = [other.tail for other in offered]
    options.insert(LETTERS.index(letter), fact.tail)
    listed = "; ".join(f"({name}) {option}" for name, option in zip(LETTERS, options, strict=True))
    return {
        "prompt": MQ.format(prompt=fact.prompt, options=listed),
        "target_new": letter,
        **_base(fact),
        "options": options,
        "offered": [_triple(other) for other in offered],
    }


def tf(fact: Fact, swapped: tuple[Fact, str] | None) -> dict:
    """True or false; `swapped` is (the fact whose tail is stated instead, the prompt that goes with it)."""
    other, prompt = swapped or (fact, fact.prompt)
    return {
        "prompt": TF.format(prompt=prompt, tail=other.tail),
        "target_new": "no" if swapped else "yes",
        **_base(fact),
        "stated": other.tail,
        "swapped": _triple(other) if swapped else None,
    }


def _triple(fact: Fact) -> dict:
    return {"event": fact.event, "relation": fact.relation, "tail": fact.tail}


def _blocks(values: Sequence, rng: random.Random) -> Iterator:
    """All of `values` in a random order, again and again."""
    while True:
        yield from rng.sample(values, len(values))


class _Pool:
    """Tails of other events, drawn at random."""

    def __init__(self, facts: Facts, rng: random.Random):
        self.facts, self.rng = facts, rng
        self.all = [fact for group in facts.usable.values() for fact in group]
        self.of: dict[str, list[Fact]] = {}
        for fact in self.all:
            self.of.setdefault(fact.relation, []).append(fact)

    def other_relations(self, fact: Fact, count: int) -> list[Fact]:
        """Up to `count` untrue tails of other relations, no two of them the same."""
        found: dict[str, Fact] = {}
        for _ in range(TRIES):
            other = self.rng.choice(self.all)
            if other.relation != fact.relation and fact.event not in other.tail and self.facts.untrue(fact, other):
                found.setdefault(normal(other.tail), other)
            if len(found) == count:
                break
        return list(found.values())

    def same_relation(self, fact: Fact) -> tuple[Fact, str] | None:
        """An untrue tail of the same relation, and the prompt that it finishes to a sentence."""
        for _ in range(TRIES):
            other = self.rng.choice(self.of[fact.relation])
            if self.facts.untrue(fact, other) and fact.event not in other.tail:
                prompt = prompt_of(fact.event, fact.relation, other.tail)
                if prompt is not None:
                    return other, prompt
        return None
