"""The invented world: its entities, its facts, and the records of `facts.json`, all decided by a seed."""

import random
from dataclasses import dataclass

from . import lexicon as lex
from .names import make_names
from .relations import SUBJECT_TYPE, TEMPLATES
from .rephrases import rephrases

FACTS_PER_RELATION = 58
# The first ones of a relation become records; the others are only known, and serve as neighbours.
RECORDS_PER_RELATION = 34
PARAPHRASES_PER_RECORD = 5
NEIGHBOURS = 10
# How many distinct subjects a type has for all its relations: some subjects have two or three facts.
SUBJECTS = {"person": 200, "town": 58, "company": 72, "ship": 58, "river": 58}
# What a thing of a type is called besides the type itself.
_KINDS = {"person": lex.PERSON_KINDS, "ship": lex.SHIP_KINDS}


@dataclass(frozen=True)
class Entity:
    """One subject: its name, what kind of thing it is, and its ten other names."""

    name: str
    type: str
    kind: str
    rephrases: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """One statement about a subject; `case_id` numbers the facts of the world."""

    case_id: int
    subject: Entity
    relation: str
    target: str
    target_new: str


@dataclass(frozen=True)
class World:
    """Everything that the model is to know."""

    entities: tuple[Entity, ...]
    facts: tuple[Fact, ...]


def _entities(subject_type: str, rng: random.Random) -> list[Entity]:
    made = []
    for name in make_names(subject_type, SUBJECTS[subject_type], rng):
        kind = rng.choice(_KINDS.get(subject_type, [subject_type]))
        title = "Ms." if name.split()[0] in lex.FEMALE else "Mr."
        other = rephrases(name, subject_type, kind, title, rng)
        made.append(Entity(name, subject_type, kind, tuple(other)))
    return made


def build_world(seed: int = 0) -> World:
    """The world of this seed: the same entities and facts each time."""
    rng = random.Random(f"world-{seed}")
    by_type = {subject_type: _entities(subject_type, rng) for subject_type in SUBJECTS}
    queues: dict[str, list[Entity]] = {subject_type: [] for subject_type in SUBJECTS}
    facts: list[Fact] = []
    for relation in TEMPLATES:
        subject_type = SUBJECT_TYPE[relation]
        pool = lex.OBJECTS[relation]
        told: set[Entity] = set()
        for i in range(FACTS_PER_RELATION):
            if not queues[subject_type]:
                # Those without this relation go first (a queue is read from its end): nobody has two mother tongues.
                queue = rng.sample(by_type[subject_type], len(by_type[subject_type]))
                queues[subject_type] = sorted(queue, key=lambda entity, told=told: entity not in told)
            # An even share for each object, so that most facts have neighbours with the same object.
            target = pool[i % len(pool)]
            target_new = rng.choice([other for other in pool if other != target])
            subject = queues[subject_type].pop()
            told.add(subject)
            facts.append(Fact(len(facts), subject, relation, target, target_new))
    entities = tuple(entity for group in by_type.values() for entity in group)
    return World(entities, tuple(facts))
