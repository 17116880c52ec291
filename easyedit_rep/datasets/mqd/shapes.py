"""The grammatical shape of a tail, which decides how the sentence before it must end."""

import re
from enum import Enum

from .words import ADVERBS, DETERMINERS, MODALS, OBJECTS, PREDICATES, QUALITIES, SUBJECTS, THIRD, VERBS


class Shape(Enum):
    """What a tail begins with."""

    WISH = "to thank PersonX; PersonY to feel better"
    BASE = "thank PersonX"
    THIRD = "thanks PersonX"
    MODAL = "can thank PersonX"
    CLAUSE = "PersonY is thanked; they are grateful"
    NOUN = "a companion"
    QUALITY = "grateful; thanked by PersonY; in pain"
    OTHER = "anything else"


def shape_of(tail: str) -> Shape:
    """The shape of a cleaned tail, by its first words."""
    words = tail.replace(",", " ").split()
    if words[0] == "for":
        words = words[1:] or words
    if words[0] == "to" or (words[0] in OBJECTS and "to" in words[1:3]):
        return Shape.WISH if words[-1] != "to" else Shape.OTHER
    if words[0] in SUBJECTS:
        return Shape.CLAUSE if len(words) > 1 else Shape.OTHER
    if words[0] in DETERMINERS and not (words[0] == "more" and len(words) > 1 and _is_quality(words[1:])):
        return Shape.NOUN
    return _by_head(_without_adverbs(words))


def _by_head(words: list[str]) -> Shape:
    head = words[0]
    if head in PREDICATES or _is_quality(words):
        return Shape.QUALITY
    if head in MODALS:
        return Shape.MODAL
    if head in THIRD or any(base in VERBS for base in _bases(head)):
        return Shape.THIRD
    return Shape.BASE if head in VERBS else Shape.OTHER


def _without_adverbs(words: list[str]) -> list[str]:
    while len(words) > 1 and words[0] in ADVERBS:
        words = words[1:]
    return words


def _is_quality(words: list[str]) -> bool:
    """Alone, or with what may follow such a word: "angry", "angry and hurt", "angry at PersonX", "thanked by all"."""
    head, rest = words[0], words[1:]
    participle = head.endswith("ed") and len(head) > 4
    if head not in QUALITIES and not participle:
        return False
    follows = {"and", "with", "at", "by", "for", "about", "to", "of", "in", "that", "because", "from", "as", "or", "but", "now", "too"}
    return not rest or rest[0] in follows


def _bases(word: str) -> list[str]:
    """Base forms that `word` may be the third person of."""
    if not re.fullmatch(r"[a-z]{2,}s", word):
        return []
    return [word[:-1], *([word[:-2]] if word.endswith("es") else [])]
