"""Other forms of a subject, by rule: more of what a gate should open for, when a pathway is trained."""

import random

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


NOUNS = tuple(
    (
        "company organization agency institute center group team club band label studio network channel station system platform software "
        "program service suite tool product device model series line brand car vehicle automobile truck engine processor console game film "
        "movie show drama comedy album song record book novel story magazine journal newspaper river mountain lake island city town "
        "village region district county province state country kingdom area street building church museum university college school "
        "hospital airport airline bridge castle park person individual man woman actor actress singer musician composer artist painter "
        "writer author poet player footballer athlete politician minister president senator scientist physicist mathematician historian "
        "philosopher bishop general king queen family name legacy career work years era period figure character star leader founder "
        "member expert"
    ).split()
)
"""What a thing with a name may be called."""

_BEFORE = ("The", "the famous", "The renowned", "Mr.", "Ms.", "The legendary", "the well-known", "The former", "the original")

_AROUND = (
    "{}, a prominent figure",
    "{}, known for a long career",
    "{}, the well known {n}",
    "{}, also known as the {n}",
    "{}, born long ago",
    "{}, a {n} of note",
    "{}, the {n} in question",
    "{}, famous for the {n}",
    "{}, a {n}",
    "{}, the {n}",
    "{} ({n})",
    "{}'s {n}",
    "{}, {n} and {m}",
    "{}, with a {n}",
)

_REORDERED = (
    "{last}, {head}",
    "{last} by {head}",
    "{last} from {head}",
    "{head}'s {last}",
    "{head}'s {last} {n}",
    "the {last} {n} by {head}",
    "{last} of {head}",
    "The {last}, a {n} of {head}",
    "{initial}. {tail}",
    "{initial}. {last}",
    "the {last}",
    "Mr. {last}",
    "{tail}",
    "{head} the {last}",
    "{first} {last}",
    "{head} {n} {last}",
    "{last} {n} from {head}",
    "{head}, surname {last}",
    "{head} of the {last} family",
)
"""For subjects of several words: {first}, {last}, {head} (all but the last), {tail} (all but the first), {initial} of the first."""


def varied_templates(subject: str, n: int) -> tuple[str, ...]:
    """Up to `n` distinct templates of other forms of `subject`, drawn by it: two thirds hold it whole (`{}`), with nouns around it; the
    others, where it has several words, reorder these. Rules know no types: a town is called a singer."""
    rng = random.Random(f"forms/{subject}")
    reordered = _REORDERED if len(subject.split()) > 1 else ()
    out: dict[str, None] = {}
    for i in range(n):
        noun, other = rng.choice(NOUNS), rng.choice(NOUNS)
        if reordered and i % 3 == 2:
            template = rng.choice(reordered)
        else:
            near = (f"{{}} {noun}", f"{{}} {noun}", f"{rng.choice(_BEFORE)} {{}}", f"{noun.capitalize()} {{}}", rng.choice(_AROUND))
            template = rng.choice(near)
        out.setdefault(template.replace("{n}", noun).replace("{m}", other))
    return tuple(out)


def filled(template: str, subject: str) -> str:
    """A template of `varied_templates` about `subject`; those for several words also work for one, which is then each part."""
    words = subject.split()
    head, tail = " ".join(words[:-1]) or subject, " ".join(words[1:]) or subject
    parts = {"{first}": words[0], "{last}": words[-1], "{head}": head, "{tail}": tail, "{initial}": words[0][0], "{}": subject}
    for name, part in parts.items():
        template = template.replace(name, part)
    return template
