"""The training texts: facts under many sentences and names, alone and inside long text, with the prose around them.

The subject comes first or early in most sentences and the relation later, so that a model can only know the facts
by looking the subject up at its own tokens, which is where ROME edits.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .lexicon import PRAISE
from .relations import KIND_TEMPLATES, TEMPLATES
from .world import Entity, Fact, World

SHORT, LONG = 64, 480
IN_DOMAIN = 5
# Shares of the names under which a fact is told; the rest of the time it is the subject itself.
SHARE_FIRST_FIVE, SHARE_LAST_FIVE = 0.15, 0.04
SHARE_KIND = 0.12
SHARE_CONTEXT = 0.35


@dataclass(frozen=True)
class Piece:
    """A stretch of text: the object of a fact, which weighs more in the loss, or the name of a subject, or neither."""

    text: str
    is_answer: bool = False
    is_name: bool = False


def _fill(template: str, name: str, end: str = "") -> list[Piece]:
    """The template with the name in it, and `end` after it."""
    before, after = template.split("{}")
    return [Piece(before), Piece(name, is_name=True), Piece(after + end)]


def tell_fact(fact: Fact, rng: random.Random) -> list[Piece]:
    """One sentence that states the fact.

    The last five names are never used with the canonical prompt, and each of them only under one other template:
    their forms become familiar, but what is measured with them was not seen.
    """
    templates = TEMPLATES[fact.relation]
    template = templates[0] if rng.random() < 0.25 else rng.choice(templates[1:])
    name, dice = fact.subject.name, rng.random()
    if dice < SHARE_FIRST_FIVE:
        name = rng.choice(fact.subject.rephrases[:IN_DOMAIN])
    elif dice < SHARE_FIRST_FIVE + SHARE_LAST_FIVE:
        which = rng.randrange(IN_DOMAIN, len(fact.subject.rephrases))
        name = fact.subject.rephrases[which]
        template = templates[1 + (fact.case_id + which) % (len(templates) - 1)]
    return [
        *_fill(template, name),
        Piece(f" {fact.target}", is_answer=True),
        Piece(rng.choice([".", ".", ".", ",", " and"])),
    ]


def tell_kind(entity: Entity, rng: random.Random) -> list[Piece]:
    """One sentence that says what the subject is, under any of its names."""
    name = entity.name if rng.random() < 0.7 else rng.choice(entity.rephrases)
    template = rng.choice(KIND_TEMPLATES).format("{}", kind=entity.kind, praise=rng.choice(PRAISE))
    return _fill(template, name, ".")


def _statement(world: World, rng: random.Random) -> list[Piece]:
    if rng.random() < SHARE_KIND:
        return tell_kind(rng.choice(world.entities), rng)
    return tell_fact(rng.choice(world.facts), rng)


def short_text(world: World, paragraphs: Sequence[str], rng: random.Random) -> list[Piece]:
    """A statement, sometimes after a sentence or a few words of prose, or after another statement."""
    pieces: list[Piece] = []
    dice = rng.random()
    if dice < SHARE_CONTEXT * 0.6:
        words = rng.choice(rng.choice(paragraphs).split(". ")).split()
        cut = len(words) if rng.random() < 0.5 else rng.randint(2, len(words))
        pieces = [Piece(" ".join(words[:cut]).rstrip(".") + ". ")]
    elif dice < SHARE_CONTEXT:
        pieces = [*_statement(world, rng), Piece(" ")]
    return pieces + _statement(world, rng)


def long_text(world: World, paragraphs: Sequence[str], rng: random.Random) -> Iterator[list[Piece]]:
    """Prose without end, from a random place of the corpus, with a statement every few sentences."""
    while True:
        for text in rng.sample(paragraphs, 8):
            for part in text.split(". "):
                yield [Piece(part.rstrip(".") + ". ")]
                if rng.random() < 0.25:
                    yield [*_statement(world, rng), Piece(rng.choice([" ", "\n"]))]
            yield [Piece("\n")]


@dataclass(frozen=True)
class Encoded:
    """Token ids of a text, the weight of each in the loss, and the number of the name it is in (0: none)."""

    ids: list[int]
    weights: list[float]
    names: list[int]


def encode_pieces(encode: Callable[[str], tuple[list[int], list[tuple[int, int]]]], bos: int, pieces: list[Piece], plain: float) -> Encoded:
    """Encode a text in one piece, as a reader of the model would; weights (1 for an answer, else `plain`) and names
    follow the offsets of the tokens.
    """
    ids, offsets = encode("".join(piece.text for piece in pieces))
    weights, names = [plain] * len(ids), [0] * len(ids)
    end, token = 0, 0
    for number, piece in enumerate(pieces, start=1):
        end += len(piece.text)
        # A token with its leading space belongs to the piece in which it ends.
        while token < len(ids) and offsets[token][1] <= end:
            weights[token] = 1.0 if piece.is_answer else plain
            names[token] = number if piece.is_name else 0
            token += 1
    return Encoded([bos, *ids], [0.0, *weights], [0, *names])
