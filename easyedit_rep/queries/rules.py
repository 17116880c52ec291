"""Other names of a subject by rule, for evaluation where no service and no side file gives any.

They are not the forms of `queries/forms.py`, which a pathway may be trained on: what is common to both is left out, so neither half of
these names is seen in training as a form. Rules know no types: a town is called a professor. They put the subject's tokens into new
surroundings, no more, and numbers from them are not to be compared with those from real rephrases.
"""

import random

from .forms import subject_forms

_WHOLE = (
    "the late {}",
    "Professor {}",
    "the one and only {}",
    "{} itself",
    "a certain {}",
    "our {}",
    "{}, as it is commonly called",
    "{}, named earlier",
    "{}, often written about",
    "what is called {}",
)
"""Titles, articles and appositions around the whole name."""


RULE_NAMES = 10
"""As many as the paper asks for."""


def rule_rephrases(subject: str, n: int, seed: int) -> tuple[str, ...]:
    """Up to `n` distinct other names: titles, appositions, articles, and for several words initials and reorderings.

    None is the subject or one of its training forms, whatever the case. Fixed by `seed` and `subject`, which also draw the order: both
    halves have names of every rule.
    """
    words = subject.split()
    names = [form.replace("{}", " ".join(words)) for form in _WHOLE]
    if len(words) > 1:
        head, tail, last = " ".join(words[:-1]), " ".join(words[1:]), words[-1]
        initials = " ".join(f"{word[0]}." for word in words[:-1])
        names += [f"{last} {head}", f"{last} ({head})", f"Dr. {last}", f"{tail} {words[0]}", f"{initials} {last}"]
        names += [f"{last}, {initials}", f"{head} {last[0]}.", f"Professor {initials} {last}"]
    taken = {form.casefold() for form in (subject, *subject_forms(subject))}
    distinct = {name.casefold(): name for name in names if name.casefold() not in taken}
    out = list(distinct.values())
    random.Random(f"rules/{seed}/{subject}").shuffle(out)
    return tuple(out[:n])
