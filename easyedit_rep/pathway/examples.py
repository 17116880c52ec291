"""Training data of a pathway: the keys of a request's training prompts, and of the tokens it must leave alone."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from ..memory.climb import Climb
from ..memory.keys import read_token_keys
from ..memory.tokens import Located, Prompt, locate
from ..methods.base import Memory
from ..queries import Queries
from ..queries.forms import folded, subject_forms
from ..queries.negatives import OrdinaryText, negative_prompts, prompts_after_fact, shuffled_prompts
from ..queries.occurrences import Occurrences, bare_words, stray_words
from ..request import EditRequest
from .ordinary import OrdinaryKeys
from .training import PathwayTraining, TrainingKeys


def training_prompts(request: EditRequest, queries: Queries, contexts: Sequence[str], config: PathwayTraining) -> list[Prompt]:
    """The bare prompt first, then contexts × {subject, in-domain rephrases, in-domain shuffles}, then in-domain long contexts.

    With `subject_forms`, each rule-made form follows under every seventh context: they are many. A form that is a held-out name of this
    subject, whatever its case and spacing, is left out: it would be out-of-domain no more.
    """
    prompt = request.located
    templates = [prompt]
    if config.prompt_rephrases:
        texts = (text for text in request.rephrase_prompts if request.subject in text)
        templates += [EditRequest(text, request.subject, request.target_new).located for text in texts]
    contexts = list(dict.fromkeys(contexts))
    subjects = dict.fromkeys((request.subject, *queries.trained))
    prompts = [t.with_subject(s).after(c) for s in subjects for t in templates for c in contexts]
    if config.subject_forms:
        held_out = {folded(name) for name in queries.held_out}
        forms = (form for form in subject_forms(request.subject) if form not in subjects and folded(form) not in held_out)
        prompts += [prompt.with_subject(form).after(c) for form in forms for c in contexts[::7]]
    if config.long_in_training:
        prompts += [prompt.after(text + " ") for text in queries.long.in_domain]
    return prompts


def _kind(prompt: Prompt, request: EditRequest, queries: Queries) -> str:
    """Of a training prompt: which queries it is like."""
    if prompt.subject == request.subject:
        long = queries.long.in_domain
        return "long" if any(prompt.prefix.startswith(text) for text in long) else "subject"
    if prompt.subject in queries.rephrase.in_domain:
        return "rephrase"
    return "shuffle" if prompt.subject in queries.shuffle.in_domain else "forms"


@dataclass(frozen=True)
class Examples:
    """One request's training prompts and the texts that only give negatives, tokenised once for all layers.

    Attributes:
        request: the request.
        located: the training prompts, the bare one first.
        own: which of them hold the request's own subject -> index of the subject's first token.
        others: prompts about other subjects.
        kinds: of each training prompt, what it is like: `subject`, `rephrase`, `shuffle`, `long` or `forms`.
        own_word: of each, whether its subject's last token is one of the request's own subject's.
        after: prompts about other subjects behind the edited fact, and of each the index of the first token that is not the fact's.
        same: texts that end in a training prompt's last token, an own word or another, without naming the subject.
        stray: texts of the corpus up to a token in whose place one of the names' stands.
        neighbours: prompts of other edits up to their subjects' last tokens.
    """

    request: EditRequest
    located: Sequence[Located]
    own: Mapping[int, int]
    others: Sequence[Located]
    kinds: tuple[str, ...]
    own_word: tuple[bool, ...]
    after: Sequence[tuple[Located, int]] = ()
    same: tuple[Sequence[list[int]], ...] = ((), ())
    stray: Sequence[list[int]] = ()
    neighbours: Sequence[Located] = ()

    @classmethod
    def of(
        cls,
        memory: Memory,
        request: EditRequest,
        queries: Queries,
        config: PathwayTraining,
        text: OrdinaryText | None,
        seed: int,
        occurrences: Occurrences | None = None,
        neighbours: Sequence[Prompt] = (),
    ) -> "Examples":
        """For `request`; `text` gives names and snippets to make other subjects from, and `occurrences` bare and stray words, when `config`
        asks for them. `neighbours` are prompts about subjects of other edits."""
        tok = memory.tok
        prompts = training_prompts(request, queries, memory.contexts, config)
        located = [locate(tok, p) for p in prompts]
        own = {i: located[i].first for i, p in enumerate(prompts) if p.subject == request.subject}
        made = []
        if config.other_subjects and text is not None:
            made = negative_prompts(request, queries.rephrase.in_domain, text, config.other_subjects, seed, config.series)
            made += shuffled_prompts(tok, request, (request.subject, *queries.trained), made, config.shuffled_subjects, seed)
        spelt = [tok(space + request.subject, add_special_tokens=False)["input_ids"] for space in ("", " ")]
        words = {token for ids in spelt for token in ids}
        own_word = tuple(p.ids[p.last] in words for p in located)
        after = []
        if config.after_fact and text is not None:
            facts = prompts_after_fact(request, queries.rephrase.in_domain, queries.trained, text, config.after_fact, seed, config.series)
            for fact, p in facts:
                row = locate(tok, p)
                if len(row.ids) <= memory.anatomy.max_positions:  # the fact and a prompt may be twice as long as what was checked
                    stated = fact.rstrip()
                    after.append((row, locate(tok, Prompt(stated, p.text.removeprefix(stated), "")).first))
        same: tuple[list[list[int]], ...] = ([], [])
        # A shuffled subject may be no more than another's word.
        names = list(dict.fromkeys(p.subject for p in prompts if p.subject not in queries.shuffle.in_domain))
        if config.same_words and occurrences is not None:
            rng = random.Random(f"words/{seed}/{request.subject}")
            for mine, group in zip((True, False), same, strict=True):
                last = dict.fromkeys(p.ids[p.last] for p, yes in zip(located, own_word, strict=True) if yes == mine)
                group += bare_words(list(last), names, occurrences, config.same_words, rng)
        stray: list[list[int]] = []
        if config.stray_words and occurrences is not None:
            rng = random.Random(f"stray/{seed}/{request.subject}")
            whole = (words & occurrences.words) | {spelt[0][0]}  # the subject may be meant wherever one of its words begins
            stray = stray_words(sorted(_names(located) - whole), names, occurrences, config.stray_words, rng)
        kinds = tuple(_kind(p, request, queries) for p in prompts)
        beside = [p._replace(ids=p.ids[: p.last + 1]) for p in (locate(tok, p) for p in neighbours)]
        beside = [p for p in beside if len(p.ids) <= memory.anatomy.max_positions]
        return cls(request, located, own, [locate(tok, p) for p in made], kinds, own_word, after, same, stray, beside)

    def texts(self) -> list[list[int]]:
        """Token ids to read. What follows a subject is the same words again and again; it is read, for negatives, after the
        request's own subject only."""
        own = [p.ids if i in self.own else p.ids[: p.last + 1] for i, p in enumerate(self.located)]
        others = (p.ids for p in (*self.others, *(p for p, _ in self.after)))
        return [*own, *others, *self.same[0], *self.same[1], *self.stray, *(p.ids for p in self.neighbours)]

    def keys(self, rows: Sequence[Tensor], star: Tensor, target: Tensor, ordinary: OrdinaryKeys | None) -> TrainingKeys:
        """Training data from the keys of every token of `texts()`, k*, its target direction and ordinary keys."""
        rest = iter(rows)
        parts = (self.located, self.others, self.after, *self.same, self.stray, self.neighbours)
        rows, other_rows, after_rows, *ends, neighbours = ([row for _, row in zip(part, rest, strict=False)] for part in parts)
        keys = torch.stack([row[p.last] for row, p in zip(rows, self.located, strict=True)])
        groups = {
            "prompt": torch.cat([torch.cat([row[: p.last], row[p.last + 1 :]]) for row, p in zip(rows, self.located, strict=True)]),
            # The subject's first words: shared with many others, and few among the tokens of the prompts.
            "subject": torch.cat([rows[i][start : self.located[i].last] for i, start in self.own.items()]),
            "others": torch.cat(list(other_rows)) if other_rows else keys[:0],
            "text": keys[:0] if ordinary is None else ordinary.text.to(keys.device),
        }
        others_last = torch.stack([row[p.last] for row, p in zip(other_rows, self.others, strict=True)]) if other_rows else keys[:0]
        own_word = torch.tensor(self.own_word[1:], device=keys.device)
        unit = target.to(keys) / target.norm().to(keys)
        before = [rows[i][: self.located[i].last] for i in self.own]  # of the bare prompt first
        behind = [rows[i][self.located[i].last + 1 :] for i in self.own]
        own = torch.cat([torch.cat(pair) for pair in zip(before, behind, strict=True)])
        shut = torch.cat([before[0], *behind])
        after = ()
        if after_rows:
            spans = [(row[start:], row[p.first : p.last + 1]) for row, (p, start) in zip(after_rows, self.after, strict=True)]
            after = tuple(torch.cat(part) for part in zip(*spans, strict=True))
        *words, stray = (torch.stack([row[-1] for row in part]) if part else keys[:0] for part in ends)
        return TrainingKeys(
            positives=keys[1:],
            prompt=keys[0],
            mean=star.to(keys),
            target=unit,
            negatives=groups,
            own=own,
            shut=shut,
            others_last=others_last,
            kinds=self.kinds[1:],
            own_word=own_word,
            after=after,
            same=tuple(words),
            ordinary=ordinary,
            names=_names(self.located),
            stray=stray,
            neighbours=torch.cat([row[p.first :] for row, p in zip(neighbours, self.neighbours, strict=True)]) if neighbours else keys[:0],
        )


def _names(located: Sequence[Located]) -> frozenset[int]:
    """Tokens of the prompts' subjects."""
    return frozenset(token for p in located for token in p.ids[p.first : p.last + 1])


def read_training_keys(
    memory: Memory,
    layer: int,
    examples: Sequence[Examples],
    stars: Tensor,
    config: PathwayTraining,
    ordinary: OrdinaryKeys | None = None,
    climb: Climb | None = None,
) -> list[TrainingKeys]:
    """Everything the pathways of one layer need, for all requests, read in one early-stopping pass over the model as it stands.

    Args:
        stars: (n, D) k* of each request.
        ordinary: keys of ordinary text and of words that begin one, negatives for the gate.
        climb: over `rows_of(examples)`, where keys of a lower layer were read before.
    """
    tokens = iter(climb.token_keys(layer) if climb else read_token_keys(memory.anatomy, rows_of(examples), [layer])[layer])
    whitened = config.target == "whitened" and layer in memory.covariances
    targets = memory.covariances[layer].solve(stars) if whitened else stars
    return [
        example.keys(list(islice(tokens, len(example.texts()))), star, target, ordinary)
        for example, star, target in zip(examples, stars, targets, strict=True)
    ]


def rows_of(examples: Sequence[Examples]) -> list[list[int]]:
    """The token ids that are read for all of them."""
    return [row for example in examples for row in example.texts()]
