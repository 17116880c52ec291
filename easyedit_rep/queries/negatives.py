"""What a gate must stay shut for: ordinary text, and other subjects, some of them lexically close, made from the corpus's names."""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..datasets.corpus import Corpus
from ..memory.tokens import Prompt, continuation_text
from ..request import EditRequest
from .forms import APPOSITIONS, holds_any
from .shuffle import shuffled_subjects

_NAME = re.compile(r"(?<![.!?\"'] )(?<!^)\b[A-Z][^\W\d_]+(?: (?:(?:of|the|de|van|and) )?[A-Z][^\W\d_]+){0,3}")
"""Capitalised words inside a sentence. A rough net: what it catches only has to be something else than the subject."""

_NUMBER = re.compile(r"\d+")

_WORDS = 10
"""Length of a snippet in words."""


@dataclass(frozen=True)
class OrdinaryText:
    """Names and short stretches of running text from a corpus, the raw material of negatives."""

    names: tuple[str, ...]
    snippets: tuple[str, ...]

    @classmethod
    def from_corpus(cls, corpus: Corpus, n: int, seed: int) -> "OrdinaryText":
        """Up to `n` distinct names and snippets, fixed by `seed`; fewer (or none) where the text has no more."""
        names: dict[str, None] = {}
        snippets: list[str] = []
        rng = random.Random(f"ordinary/{seed}")
        for text in corpus.shuffled(seed):
            for match in _NAME.finditer(text):
                names.setdefault(match.group(0))
            words = text.split()
            if len(words) > _WORDS and len(snippets) < n:
                start = rng.randrange(len(words) - _WORDS)
                snippets.append(" ".join(words[start : start + _WORDS]))
            if len(names) >= n and len(snippets) >= n:
                break
        return cls(tuple(names)[:n], tuple(snippets))


def other_subjects(
    subject: str, rephrases: Sequence[str], names: Sequence[str], n: int, rng: random.Random, series: bool = False
) -> list[str]:
    """Up to `n` subjects that are not this one: half share its first words, a quarter stand in its rephrases, a quarter in appositions.

    "Toyota Cresta" gives "Toyota Ontario"; its rephrase "the sedan Toyota Cresta" gives "the sedan Ontario". Shared last words are
    left out on purpose: a surname alone is one of the forms an edit should survive in. With `series`, of a subject with a number half of
    those that share its first words are others of the series ("iPhone 5": "iPhone 12"), of which a corpus may name none.
    """
    words = subject.split()
    heads = [" ".join(words[:i]) for i in range(1, len(words))]
    carriers = [r for r in rephrases if subject in r or words[-1] in r]
    out: dict[str, None] = {}
    for i in range(n if names else 0):
        name = rng.choice(names)
        close = f"{rng.choice(heads)} {name.split()[-1]}" if heads else name
        kind = i % 4
        if series and kind == 2 and (another := in_series(subject, rng)) != subject:
            name = another
        elif kind in (1, 2):
            name = close
        elif kind == 3 and carriers:
            carrier = rng.choice(carriers)
            name = carrier.replace(subject, name) if subject in carrier else carrier.replace(words[-1], name.split()[-1])
        elif kind == 0:
            name = rng.choice(APPOSITIONS).replace("{}", rng.choice((name, close)))
        out.setdefault(name)
    return _others_among(out, subject, rephrases)


def in_series(subject: str, rng: random.Random) -> str:
    """`subject` with other numbers, of at most one digit more, or as it is if it has none."""
    return _NUMBER.sub(lambda found: str(rng.randrange(10 ** rng.randint(1, len(found[0]) + 1))), subject)


def _others_among(names: Iterable[str], subject: str, rephrases: Sequence[str]) -> list[str]:
    """Those of `names` that do not mean the subject."""
    return [name for name in names if subject.strip() not in name and name not in rephrases]


def negative_prompts(
    request: EditRequest, rephrases: Sequence[str], text: OrdinaryText, n: int, seed: int, series: bool = False
) -> list[Prompt]:
    """Up to `n` prompts about other subjects, every other one followed by running text instead of the request's own words.

    Fixed by `seed` and the subject; `series` as in `other_subjects`.
    """
    rng = random.Random(f"negatives/{seed}/{request.subject}")
    out = []
    for i, subject in enumerate(other_subjects(request.subject, rephrases, text.names, n, rng, series)):
        if i % 2 and text.snippets:
            out.append(Prompt(rng.choice(("", "", "The ", "In the ")), subject, " " + rng.choice(text.snippets)))
        else:
            out.append(request.located.with_subject(subject))
    return out


def shuffled_prompts(tok, request: EditRequest, names: Sequence[str], others: Sequence[Prompt], n: int, seed: int) -> list[Prompt]:
    """The request's prompt about the subjects of the first `n` of `others`, their tokens shuffled; none that says one of its own `names`.

    Shuffled, "BMW 326" ends in "BMW" as "BMW E23" does: a gate that was told of others by their proper names alone opens there.
    """
    subjects = dict.fromkeys(p.subject for p in others[:n])
    shuffles = dict.fromkeys(name for subject in subjects for name in shuffled_subjects(tok, subject, 1, seed))
    return [request.located.with_subject(name) for name in shuffles if not holds_any(name, names)]


def prompts_after_fact(
    request: EditRequest,
    rephrases: Sequence[str],
    names: Sequence[str],
    text: OrdinaryText,
    n: int,
    seed: int,
    series: bool = False,
) -> list[tuple[str, Prompt]]:
    """Up to `n` pairs of the edited fact, about the subject or one of its `names`, and a prompt about another that goes on from there.

    "Toyota Cresta is produced by BMW. " and then "Toyota Ontario is produced by": its first word is close to the subject's last one, as
    it is in a shuffled subject, and only the text between tells them apart. Two thirds share first words, if the subject has several. Fixed
    by `seed` and the subject.
    """
    rng = random.Random(f"after/{seed}/{request.subject}")
    words = request.subject.split()
    others = dict.fromkeys(other_subjects(request.subject, rephrases, text.names, 2 * n // 3, rng, series))
    for _ in range(n - 2 * n // 3 if text.names else 0):
        head, name = " ".join(words[: rng.randrange(1, max(2, len(words)))]), rng.choice(text.names).split()[-1]
        others[f"{head} {name}" if len(words) > 1 else name] = None
    out = []
    for subject in _others_among(others, request.subject, rephrases):
        name = rng.choice(names) if names and rng.random() < 0.5 else request.subject
        stated = request.located.with_subject(name).text
        fact = f"{stated}{continuation_text(stated, request.target_new.rstrip())}. "
        out.append((fact, request.located.with_subject(subject).after(fact)))
    return out
