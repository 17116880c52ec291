"""Cleaning of ATOMIC's events and tails, and the form in which two tails are compared."""

import re

BLANK = "blank"
CHARACTERS = "invalid characters"
EMPTY = "empty"
NONE = "none"
SENTENCES = "several sentences"
SHORT = "not a participant and a verb"

_NOTHING = {"none", "n/a", "na", "nan", "nothing", "no effect", "no reaction"}
_TYPOGRAPHY = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "\u00a0": " "})
# What may stand in a tail: letters, digits and punctuation that MQD's own formats, "(a) …; (b) …", do not use.
_ALLOWED = re.compile(r"""(?:[^\W_]|[ .,'"!?:&/%$-])+""")
_PARTICIPANT = re.compile(r"\b(?:persons? ?([xyz])|([xyz]))\b(?!-)", re.IGNORECASE)
_BLANK = re.compile(r"_|-{3,}")
_ARTICLES = {"a", "an", "the"}
# What one relation puts before the words of another: "to thank", "gets thanked", "feels thanked".
_LEADING = {"to", "be", "is", "are", "am", "feel", "feels", "get", "gets", "become", "becomes", "also", "very", "so", "really"}
_FUNCTION = set(
    "a about after again all also an and another any anyone are around as at away back be because been but by can could did do does down "
    "each ever every everyone for from gets get had has have he her him his how if in into is it its just like makes make may more most my "
    "never no not of off on one ones only or other others out over own really right she so some someone something soon such than that the "
    "their them then there they this through to together too toward up us very was way well were what when where which while who will with "
    "would your personx persony personz s n't".split()
)


class Dropped(ValueError):
    """A text that cleaning drops; its message is the reason, one of this file's names."""


def clean_event(text: str) -> str:
    """An event as it stands in a prompt: one line, without the spaces that ATOMIC's tokenisation left ("does n't", "father 's")."""
    text = _line(text)
    if _BLANK.search(text):
        raise Dropped(BLANK)
    text = re.sub(r"\bcan n't\b", "can't", text)
    text = re.sub(r" (n't|'s|,)", r"\1", text)
    text = _participants(text).rstrip(" .,!?")
    if not text:
        raise Dropped(EMPTY)
    if not _ALLOWED.fullmatch(text):
        raise Dropped(CHARACTERS)
    if text.startswith("Person") and " " not in text:
        raise Dropped(SHORT)
    return text


def clean_tail(text: str) -> str:
    """A tail as it ends a sentence: no full stop of its own, participants spelled as in events, a small first letter."""
    text = _line(text)
    if not text:
        raise Dropped(EMPTY)
    if text.lower().rstrip(" .!") in _NOTHING:
        raise Dropped(NONE)
    if _BLANK.search(text):
        raise Dropped(BLANK)
    text = text.rstrip(" .,!?:;-").lstrip(" .,!?:;-")
    if not text:
        raise Dropped(EMPTY)
    if not _ALLOWED.fullmatch(text) or text.count('"') % 2:
        raise Dropped(CHARACTERS)
    if re.search(r"[.!?]\s", text):
        raise Dropped(SENTENCES)
    return _participants(_small(text))


def _line(text: str) -> str:
    return " ".join(text.translate(_TYPOGRAPHY).split())


def _participants(text: str) -> str:
    """ "person x", "Personx" and a lone "X" are PersonX."""
    return _PARTICIPANT.sub(lambda match: f"Person{(match[1] or match[2]).upper()}", text)


def _small(text: str) -> str:
    if text.isupper() and len(text) > 1:
        return text.lower()
    first = text.split()[0]
    keeps = first == "I" or first.startswith(("I'", "Person")) or (first.isupper() and len(first) > 1)
    return text if keeps else text[0].lower() + text[1:]


def normal(text: str) -> str:
    """The form in which two tails are the same: small letters, no punctuation, no articles, nothing a relation puts in front."""
    words = [word for word in re.findall(r"[^\W_]+", text.lower().replace("'", "")) if word not in _ARTICLES]
    while len(words) > 1 and words[0] in _LEADING:
        words.pop(0)
    if words:
        words[0] = stem(words[0])
    return " ".join(words)


def stem(word: str) -> str:
    """A crude common form of "thanks", "thanked" and "thank"; only ever compared with itself."""
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return word[: -len(ending)]
    return word


def content_words(text: str) -> frozenset[str]:
    """Stems of the words that say what a text is about."""
    words = re.findall(r"[^\W\d_]+(?:n't)?", text.lower())
    return frozenset(stem(word) for word in words if word not in _FUNCTION and len(word) > 1)
