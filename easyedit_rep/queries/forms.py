"""Other forms of a subject, by rule: more of what a gate should open for, and an edit hold behind, when a pathway is made."""

import re
from collections.abc import Iterable

APPOSITIONS = (
    "{}, known for a long career",
    "{}, a prominent figure",
    "{}, a well known name in the field",
    "{} of the later period",
    "{}, the company",
    "{} model",
    "{} system",
    "{}, the person in question",
    "{} and its history",
    "{}, born long ago",
    "{} area",
    "{}, the professional",
)
"""What may follow a name without changing whom it names. Negatives carry them too, so a gate cannot open for the words alone."""


def subject_forms(subject: str) -> tuple[str, ...]:
    """Articles, appositions, initials, reordered and partial names; distinct, none equal to `subject`.

    They need not all be natural: they put the subject's tokens into other surroundings, which is what a rephrase does. First words
    alone are left out, since many subjects share them (a maker's name).
    """
    forms = [f"The {subject}", f"the famous {subject}", *(a.replace("{}", subject) for a in APPOSITIONS)]
    words = subject.split()
    if len(words) > 1:
        first, last, head, tail = words[0], words[-1], " ".join(words[:-1]), " ".join(words[1:])
        forms += [last, f"the {last}", f"Mr. {last}", tail, f"{last}, {head}", f"{first[0]}. {tail}"]
    return tuple(form for form in dict.fromkeys(forms) if form != subject)


def names_with_tails(subject: str, rephrases: Iterable[str], held_out: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """(what stands before `subject`, what stands behind it) in forms that go on behind its last occurrence as words of their own: those of
    `rephrases`, and appositions by rule.

    A form that is a held-out name, whatever its case and spacing, is left out: it would be out-of-domain no more.
    """
    forms = [*rephrases, *(a.replace("{}", subject) for a in APPOSITIONS)]
    held_out = {folded(name) for name in held_out}
    whole = re.compile(rf"(.*)(?<!\w){re.escape(subject)}(?!\w)(.*)", re.DOTALL)
    found = [match.groups() for form in forms if folded(form) not in held_out and (match := whole.fullmatch(form))]
    return tuple(dict.fromkeys((before, behind) for before, behind in found if behind.strip()))


def holds_any(name: str, names: Iterable[str]) -> bool:
    """Whether one of `names` stands in `name` in full, as words of its own, whatever the case and spacing."""
    whole = f" {folded(name)} "
    return any(f" {folded(other)} " in whole for other in names)


def folded(name: str) -> str:
    """`name` without regard to case and spacing."""
    return " ".join(name.casefold().split())
