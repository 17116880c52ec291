"""Prompts near an edit whose answers it must leave alone: what robustness is worth nothing without.

An edit that fires at everything answers every rephrase. These tell it from one that knows its subject. None of them is trained on, but for
"… is not", behind which a closed-form pathway with a fitted value keeps the model's answer (`pathway/value_fit.py`).
"""

import difflib
import random
import re
from collections.abc import Sequence

from ..datasets.corpus import Corpus
from ..memory.tokens import continuation_text
from ..request import EditRequest, Question
from .negatives import OrdinaryText

KINDS = ("other_subject", "distracted", "negated")

TRAINED_NAMES = 400
"""So many of a corpus's first names may have made training negatives (`Unedited.text`)."""

_COPULA = re.compile(r"\b(?:is|are|was|were)$", re.IGNORECASE)


def held_out_names(corpus: Corpus, seed: int) -> tuple[str, ...]:
    """Names in the corpus that share no last word with those that training negatives are made from; fixed by `seed`."""
    names = OrdinaryText.from_corpus(corpus, 2 * TRAINED_NAMES, seed).names
    trained = {name.split()[-1].casefold() for name in names[:TRAINED_NAMES]}
    return tuple(name for name in names[TRAINED_NAMES:] if name.split()[-1].casefold() not in trained)


def close_subjects(subject: str, rephrases: Sequence[str], names: Sequence[str], n: int, rng: random.Random) -> tuple[str, ...]:
    """Up to `n` other subjects: half have all words of this one but the last, half are the names spelled most alike.

    "Toyota Cresta" gives "Toyota Crestwood" and "Toyota Corolla". Names that end as the subject does are left out: they may mean it.
    """
    head, _, last = subject.strip().rpartition(" ")
    own = {last.casefold(), *(name.split()[-1].casefold() for name in rephrases if name.strip())}
    names = [name for name in names if name.split()[-1].casefold() not in own]
    alike = difflib.get_close_matches(subject, names, n, cutoff=0.0) if n and names else []
    made = [f"{head} {name.split()[-1]}" for name in rng.sample(names, min(n, len(names)))] if head else []
    taken = {name.casefold() for name in (subject, *rephrases)}
    mixed = [name for pair in zip(made, alike, strict=False) for name in pair] if made else alike
    return tuple(name for name in dict.fromkeys(mixed) if name.casefold() not in taken)[:n]


def negation(text: str) -> str | None:
    """ "… is not"; None where the prompt ends otherwise."""
    bare = text.rstrip()
    return f"{bare} not" if _COPULA.search(bare) else None


def contrasts(request: EditRequest, names: Sequence[str], n: int, seed: int) -> dict[str, tuple[Question, ...]]:
    """{kind: questions}, at most `n` each; a kind that cannot be made (no names, no neighbours) is left out. Fixed by `seed` and subject.

    - `other_subject`: the same prompt about a subject spelled alike.
    - `distracted`: the edited fact, then a neighbour's prompt (CounterFact+; Hoelscher-Obermaier et al., 2023).
    - `negated`: "… is not", or "It is not true that …" where the prompt ends otherwise.

    The answer of a question only says how many positions are compared; what counts is that the unedited model's answer stays.
    """
    if not n:
        return {}
    rng = random.Random(f"contrasts/{seed}/{request.subject}")
    text, answer = request.text, request.ground_truth or request.target_new
    others = close_subjects(request.subject, request.subject_rephrase, names, n, rng)
    fact = text + continuation_text(text, request.target_new.rstrip())
    neighbours = [question for questions in request.locality.values() for question in questions]
    negated = negation(text) or f"It is not true that {text}"
    made = {
        "other_subject": tuple(Question(request.located.with_subject(name).text, answer) for name in others),
        "distracted": tuple(Question(f"{fact}. {q.prompt}", q.answer) for q in neighbours[:n]),
        "negated": (Question(negated, answer),),
    }
    return {kind: questions for kind, questions in made.items() if questions}
