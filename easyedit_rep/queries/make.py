"""All robustness queries of a request: what it brings, and what it lacks made for it."""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..datasets.corpus import Corpus
from ..memory.tokens import Prompt
from ..request import EditRequest, Question
from .contrasts import contrasts, held_out_names
from .long_context import cut, long_contexts
from .rephrase import load_rephrases
from .rules import RULE_NAMES, rule_rephrases
from .shuffle import shuffled_subjects

if TYPE_CHECKING:
    from ..rep_options import QueryOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Variants in two halves: those the pathway is trained on (in-domain) and those it never saw (out-of-domain)."""

    in_domain: tuple[str, ...] = ()
    out_of_domain: tuple[str, ...] = ()

    @classmethod
    def halves(cls, variants: tuple[str, ...]) -> "Split":
        """The first ⌈n/2⌉ are in-domain, as in the paper's release. A repeated variant counts once, in the half it is first seen."""
        distinct = tuple(dict.fromkeys(variants))
        middle = (len(distinct) + 1) // 2
        return cls(distinct[:middle], distinct[middle:])

    @classmethod
    def drawn(cls, variants: tuple[str, ...], subject: str, seed: int) -> "Split":
        """⌈n/2⌉ drawn by `seed` and `subject` are in-domain, whatever the order they come in; each half keeps that order."""
        distinct = tuple(dict.fromkeys(variants))
        rank = {v: hashlib.sha256(f"split/{seed}/{subject}/{v}".encode()).digest() for v in distinct}
        trained = set(sorted(distinct, key=rank.__getitem__)[: (len(distinct) + 1) // 2])
        return cls(tuple(v for v in distinct if v in trained), tuple(v for v in distinct if v not in trained))

    def without(self, names: Iterable[str]) -> "Split":
        """Neither half holds any of `names`, whatever their spacing. Another case makes another name: it is other tokens."""
        out = {" ".join(name.split()) for name in names}
        return Split(*(tuple(v for v in half if " ".join(v.split()) not in out) for half in (self.in_domain, self.out_of_domain)))

    def unseen(self, trained: Iterable[str]) -> "Split":
        """What is out-of-domain is none of `trained`: a shuffle may be a rephrase."""
        return Split(self.in_domain, self.without(trained).out_of_domain)


@dataclass(frozen=True)
class Queries:
    """Rephrased and shuffled subjects, and long contexts, of one request.

    Attributes:
        negatives: by kind, questions whose answer the edit must leave alone (`contrasts`).
        not_applicable: kinds that were asked for and cannot be: a subject of one token has no shuffle.
    """

    rephrase: Split
    shuffle: Split
    long: Split
    negatives: Mapping[str, tuple[Question, ...]] = field(default_factory=dict)
    not_applicable: frozenset[str] = frozenset()

    @property
    def trained(self) -> tuple[str, ...]:
        """The names beside the subject that its pathway is made from."""
        return (*self.rephrase.in_domain, *self.shuffle.in_domain)

    @property
    def held_out(self) -> tuple[str, ...]:
        """Those that it never sees."""
        return (*self.rephrase.out_of_domain, *self.shuffle.out_of_domain)

    def prompts(self, prompt: Prompt) -> dict[str, dict[str, list[Prompt]]]:
        """{kind: {domain: prompts}} with each variant put in its place."""
        place = {
            "rephrase": prompt.with_subject,
            "shuffle": prompt.with_subject,
            "long": lambda text: prompt.after(text + " "),
        }
        return {
            kind: {domain: [put(v) for v in getattr(getattr(self, kind), domain)] for domain in ("in_domain", "out_of_domain")}
            for kind, put in place.items()
        }

    def only_negatives(self) -> "Queries":
        """What must be asked before an edit, to be compared with."""
        return Queries(Split(), Split(), Split(), self.negatives)


@dataclass(frozen=True)
class QueryMaker:
    """Makes the queries of requests; the same request gives the same queries whenever and wherever it is asked.

    Attributes:
        rephrases: other names by subject, for requests that bring none.
        corpus: text for long contexts; None: requests that bring none have none.
        shuffle_count, long_context_count: how many of each (both halves together).
        long_context_tokens: length of a made context (paper: 512).
        max_tokens: the model's positions; contexts are cut so that prompt and target still fit.
        negative_count: how many negatives of each kind.
        names: other subjects for negatives are made from.
        rule_count: names made by rule for requests that have none else (`rules.py`).
        draw_split: draw the halves by `seed` and subject; else the first half is in-domain.
    """

    tok: object
    rephrases: Mapping[str, tuple[str, ...]]
    corpus: Corpus | None
    shuffle_count: int
    long_context_count: int
    long_context_tokens: int
    max_tokens: int
    seed: int
    negative_count: int = 0
    names: tuple[str, ...] = ()
    rule_count: int = 0
    draw_split: bool = False

    @classmethod
    def of(cls, options: "QueryOptions", tok, corpus: Corpus | None, max_tokens: int, seed: int) -> "QueryMaker":
        """As a `queries` block says; the corpus gives long contexts and other names where it asks for them."""
        return cls(
            tok=tok,
            rephrases=load_rephrases(options.rephrase_file) if options.rephrase_file else {},
            corpus=corpus if options.long_context_count else None,
            shuffle_count=options.shuffle_count,
            long_context_count=options.long_context_count,
            long_context_tokens=options.long_context_tokens,
            max_tokens=max_tokens,
            seed=seed,
            negative_count=options.negative_count,
            names=held_out_names(corpus, seed) if options.negative_count and corpus is not None else (),
            rule_count=RULE_NAMES if options.rephrase_rules else 0,
            draw_split=options.split == "drawn",
        )

    def _split(self, variants: tuple[str, ...], subject: str) -> Split:
        return Split.drawn(variants, subject, self.seed) if self.draw_split else Split.halves(variants)

    def rephrased(self, request: EditRequest) -> Split:
        """Rephrased subjects alone, before those that are shuffles too are taken out of what is held out."""
        subject = request.subject
        rephrases = request.subject_rephrase or self.rephrases.get(subject, ()) or rule_rephrases(subject, self.rule_count, self.seed)
        return self._split(rephrases, subject).without((subject,))

    def __call__(self, request: EditRequest) -> Queries:
        subject = request.subject
        room = self.max_tokens - len(self.tok(f"{request.text} {request.target_new}")["input_ids"]) - 8
        contexts = tuple(cut(self.tok, text, room) for text in request.long_context) if room > 8 else ()
        if not contexts and self.corpus is not None and self.long_context_count and room > 8:
            length = min(self.long_context_tokens, room)
            contexts = long_contexts(self.tok, self.corpus, subject, self.long_context_count, length, self.seed)
        rephrased, shuffles = self.rephrased(request), shuffled_subjects(self.tok, subject, self.shuffle_count, self.seed)
        shuffled = self._split(shuffles, subject).without((subject,))
        trained = (*rephrased.in_domain, *shuffled.in_domain)
        return Queries(
            rephrased.unseen(trained),
            shuffled.unseen(trained),
            self._split(contexts, subject),
            contrasts(request, self.names, self.negative_count, self.seed),
            frozenset() if shuffles or not self.shuffle_count else frozenset({"shuffle"}),
        )
