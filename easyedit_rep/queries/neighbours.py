"""Names of other edits, which a gate leaves to theirs.

A gate that opens at a word of another edit's subject puts its own value there, and that edit is lost to whoever asks it by this name. Names
made by the same rules share words that are nobody's ("the acclaimed performer …"), and makers' names many more. What is edited already is
known when a gate is made, so it is told.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..memory.tokens import Prompt
from ..request import EditRequest
from .forms import folded, holds_any
from .make import Queries, QueryMaker


@dataclass
class Neighbours:
    """Edits that will act beside new ones.

    Attributes:
        active: what the model carries.
        made: with their queries, what is edited together, each of which has the others as neighbours too.
        queries: makes the names of `active`.
        n: how many neighbours an edit is told of.
        seed: of which, where there are more.
    """

    active: Sequence[EditRequest]
    made: Sequence[tuple[EditRequest, Queries]]
    queries: QueryMaker
    n: int
    seed: int
    _rephrases: dict[int, Sequence[str]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        self._all = [*self.active, *(request for request, _ in self.made)]
        self._rephrases |= {i: queries.rephrase.in_domain for i, (_, queries) in enumerate(self.made, len(self.active))}

    def prompts(self, request: EditRequest, queries: Queries) -> list[Prompt]:
        """Subjects and in-domain rephrases of up to `n` of them, each in its own prompt, where it will be asked about, and in this one.

        Those whose subject shares a word with this one come first, the rest as `seed` and the subject say. An edit of this very subject is
        none of them, and a name that holds one of its own says it too. Shuffles are left out: those of a neighbour with the same words are
        too like the subject's own that a gate should open at and was not made from.
        """
        own = (request.subject, *queries.trained)
        return [
            prompt.with_subject(name)
            for i in self._closest(request.subject)
            for name in dict.fromkeys((self._all[i].subject, *self._rephrases_of(i)))
            if not holds_any(name, own)
            for prompt in (self._all[i].located, request.located)
        ]

    @cached_property
    def _subjects(self) -> list[str]:
        return [folded(request.subject) for request in self._all]

    def _closest(self, subject: str) -> list[int]:
        if not self.n:
            return []
        mine = folded(subject)
        words = set(mine.split())
        others = [i for i, other in enumerate(self._subjects) if other != mine]
        random.Random(f"neighbours/{self.seed}/{subject}").shuffle(others)
        return sorted(others, key=lambda i: words.isdisjoint(self._subjects[i].split()))[: self.n]

    def _rephrases_of(self, i: int) -> Sequence[str]:
        if i not in self._rephrases:
            self._rephrases[i] = self.queries.rephrased(self._all[i]).in_domain
        return self._rephrases[i]
