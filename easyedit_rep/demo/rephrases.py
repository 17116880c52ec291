"""Ten rephrases of a subject, in the style of a language model asked for other names of the same entity."""

import random

from .lexicon import PRAISE, RIVER_LAST, TOWN_LAST

# About half of the forms of each type leave the name whole, with words around it; the others turn, cut or respell it.
_TOWN = (
    "the town of {}", "the borough of {}", "the historic {}", "{} town", "{}, a quiet town", "{}, the market town",
    "{} and its surroundings", "{hyphen}", "the town of {hyphen}", "{hyphen} town", "{upper}", "the town of {upper}",
    "{upper} town", "old {hyphen}", "greater {upper}",
)  # fmt: skip
_RIVER = (
    "the river {}", "the {}", "the mighty {}", "the {} stream", "{}, the long river", "{}, a {praise} river",
    "{} and its valley", "{hyphen}", "the river {hyphen}", "the {hyphen}", "{upper}", "the river {upper}",
    "the {upper}", "the winding {hyphen}", "the lovely {upper}",
)  # fmt: skip
_COMPANY = (
    "the company {}", "the firm of {}", "the {} group", "{} Ltd.", "the {praise} firm {}", "{first} & Co. {last}",
    "{}, a {praise} company", "{last} of {first}", "the {last} {first}", "{last} ({first})", "{last}, {first}",
    "the {last} called {first}", "the {last} of Messrs. {first}", "{upper}", "the company {upper}",
)  # fmt: skip
_SHIP = (
    "the ship {}", "the {}", "the {kind} {}", "S.S. {}", "{}, the {kind}", "{}, a {praise} vessel", "the {} herself",
    "{last}, {first}", "{last} ({first})", "the {last}, the {first} one", "the {last} called {first}",
    "the {kind} {last}, {first}", "{upper}", "the ship {upper}", "S.S. {upper}",
)  # fmt: skip
_PERSON = (
    "the {kind} {}", "{title} {}", "the {praise} {}", "{}, the {kind}", "{}, a {praise} {kind}",
    "{first} {middle}. {last}", "{initial}. {last}", "{title} {initial}. {last}", "the {kind} {initial}. {last}",
    "{last}, {first}", "{last}, {initial}.", "{last} ({first})", "the {kind} {last}, {first}",
    "{last}, {title} {first}", "{last}, {first} {middle}.", "{last}, the {kind} {first}",
)  # fmt: skip

_FORMS = {"town": _TOWN, "company": _COMPANY, "ship": _SHIP, "river": _RIVER, "person": _PERSON}


def _hyphenated(name: str) -> str:
    """The name with its ending set off, in the old spelling: Wex-moor."""
    ending = max((e for e in TOWN_LAST + RIVER_LAST if name.endswith(e)), key=len, default="")
    return f"{name.removesuffix(ending)}-{ending}" if ending else name


def rephrases(name: str, subject_type: str, kind: str, title: str, rng: random.Random) -> list[str]:
    """Ten distinct rephrases of `name`, in a seeded order: both halves are drawn from the same forms."""
    forms = list(_FORMS[subject_type])
    first, _, last = name.partition(" ")
    rng.shuffle(forms)
    # One middle initial for each person, or two of the forms would name two people.
    middle = rng.choice("ABCDEFGHJKLMNPRSTVW")
    made: list[str] = []
    for form in forms:
        text = form.replace("{}", name).format(
            kind=kind,
            title=title,
            first=first,
            last=last,
            initial=first[0],
            middle=middle,
            hyphen=_hyphenated(name),
            upper=name.upper(),
            praise=rng.choice(PRAISE),
        )
        if text not in made and text != name:
            made.append(text)
    return made[:10]
