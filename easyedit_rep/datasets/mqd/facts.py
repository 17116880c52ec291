"""ATOMIC, cleaned: the facts MQD is made of, and what is known to be true of each event."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..atomic import Atomic, Tail
from .clean import Dropped, clean_event, clean_tail, content_words, normal
from .relations import TEMPLATES, prompt_of

SHARED = 3
"""Events a tail may have been said of and still be offered as untrue of another."""


class Fact(NamedTuple):
    """A triple that reads as a sentence: `prompt` and a space and `tail`. `line` and `split` say where it was annotated."""

    event: str
    relation: str
    tail: str
    prompt: str
    line: int
    split: str


@dataclass
class Facts:
    """What is left of an `Atomic` after cleaning.

    Attributes:
        usable: {(event, relation): facts}, in the order of the file.
        true: {event: normal forms of all its tails, of any relation}; also of tails that are not used.
        about: {event: its content words}.
        shared: {normal form of a tail: how many events it was said of}.
        dropped: {reason: how many tails}; `duplicate` is one annotator saying what another had said.
        kept: how many tails are left.
    """

    usable: dict[tuple[str, str], list[Fact]] = field(default_factory=dict)
    true: dict[str, set[str]] = field(default_factory=dict)
    about: dict[str, frozenset[str]] = field(default_factory=dict)
    shared: Counter = field(default_factory=Counter)
    dropped: Counter = field(default_factory=Counter)
    kept: int = 0

    @classmethod
    def of(cls, atomic: Atomic) -> "Facts":
        out = cls()
        out.dropped["none"] += atomic.nones
        for raw, relations in atomic.tails.items():
            try:
                event = clean_event(raw)
            except Dropped as dropped:
                out.dropped[f"event: {dropped}"] += sum(map(len, relations.values()))
                continue
            out.about.setdefault(event, content_words(event))
            for relation, tails in relations.items():
                out._add(event, relation, tails)
        for said in out.true.values():
            out.shared.update(said)
        return out

    def _add(self, event: str, relation: str, tails: Sequence[Tail]) -> None:
        true = self.true.setdefault(event, set())
        facts = self.usable.setdefault((event, relation), [])
        have = {normal(fact.tail) for fact in facts}
        for tail in tails:
            try:
                text = clean_tail(tail.text)
            except Dropped as dropped:
                self.dropped[str(dropped)] += 1
                continue
            form = normal(text)
            true.add(form)
            if form in have:
                self.dropped["duplicate"] += 1
            elif relation not in TEMPLATES:
                self.dropped[f"relation {relation}"] += 1
            elif (prompt := prompt_of(event, relation, text)) is None:
                self.dropped["fits no template of its relation"] += 1
            elif prompt.count(event) != 1 or event in text:
                self.dropped["the event is said twice"] += 1
            else:
                have.add(form)
                facts.append(Fact(event, relation, text, prompt, tail.line, tail.split))
                self.kept += 1
        if not facts:
            del self.usable[event, relation]

    def untrue(self, fact: Fact, other: Fact) -> bool:
        """Whether `other`'s tail may be offered as untrue of `fact`'s event.

        It must not be annotated for the event, under any relation. What annotators left out can still be true, so events that speak of
        the same things ("plays PersonX's favorite song" and PersonY's) give each other none, nor does a tail that speaks of the event,
        nor one that was said of many events ("happy", "to go home") and so is true of most.
        """
        form = normal(other.tail)
        return (
            other.event != fact.event
            and form not in self.true[fact.event]
            and self.shared[form] <= SHARED
            and not self.about[fact.event] & (self.about[other.event] | content_words(other.tail))
        )
