"""What an edit is measured on, before and after: EasyEdit's metric dictionaries, and REP's robustness beside them.

EasyEdit's names are kept (`rewrite_acc`, `rephrase_acc`, `locality`, `portability`: token-level means). `robustness` is ours:

    {"success": [1.0], "paraphrase": [...], "reversion": [...],
     "rephrase" | "shuffle" | "long": {"in_domain" | "out_of_domain": {"exact": [...], "token": [...]}}}

with one number per query; exact match of all target tokens is the paper's protocol (reference: REP, section 5.1). Lists are None where
a kind was asked for and cannot be (shuffles of a subject of one token). What is asked for by options comes on top:

    negatives:           "negatives": {kind: {"output": [ids, ...], "acc": [...]}}, measured as locality is
    measures.generation: a third list "generation" beside each "exact" and "token", and
                         "protocols": {"success" | "paraphrase" | "reversion" | "portability": {"exact", "token", "generation"}}
    measures.fluency:    "fluency": {"ngram_entropy": 5.9} beside `robustness`, EasyEdit's name again
"""

from collections.abc import Iterable, Sequence
from zlib import crc32

from ..anatomy import Anatomy
from ..queries import Queries
from ..request import EditRequest, Question
from .fluency import ngram_entropy
from .generation import sample, says
from .measures import Measures
from .predict import predict


class _Batch:
    """Questions collected from everywhere, asked in one go."""

    def __init__(self):
        self.texts: list[str] = []
        self.targets: list[str] = []

    def add(self, questions: Iterable[Question]) -> slice:
        start = len(self.texts)
        for question in questions:
            self.texts.append(question.prompt)
            self.targets.append(question.answer)
        return slice(start, len(self.texts))


class _Answers:
    """The numbers of a batch's questions, by slice."""

    def __init__(self, anatomy: Anatomy, tok, batch: _Batch, generated: Sequence[slice]):
        self.predictions = predict(anatomy, tok, batch.texts, batch.targets)
        wanted = [i for part in generated for i in range(part.start, part.stop)]
        said = says(anatomy, tok, [batch.texts[i] for i in wanted], [batch.targets[i] for i in wanted]) if wanted else []
        self.said = dict(zip(wanted, said, strict=True))

    def token(self, part: slice) -> list[float]:
        return [p.token for p in self.predictions[part]]

    def exact(self, part: slice) -> list[float]:
        return [p.exact for p in self.predictions[part]]

    def output(self, part: slice) -> list[list[int]]:
        return [list(p.predicted) for p in self.predictions[part]]

    def protocols(self, part: slice) -> dict[str, list[float]]:
        """Exact and token-level, and by generation where that was asked for."""
        out = {"exact": self.exact(part), "token": self.token(part)}
        indices = range(part.start, part.stop)
        if self.said and all(i in self.said for i in indices):
            out["generation"] = [self.said[i] for i in indices]
        return out


def evaluate(anatomy: Anatomy, tok, request: EditRequest, queries: Queries, measures: Measures = Measures()) -> dict:  # noqa: B008 (frozen)
    """Metrics of one request on the model as it is now; the same call serves `pre` and `post`.

    Locality and negatives are compared with `pre` later, by `finish_locality`.
    """
    batch, target = _Batch(), request.target_new
    rewrite = batch.add([Question(request.text, target)])
    reversion = batch.add([Question(request.text, request.ground_truth)] if request.ground_truth else [])
    paraphrase = batch.add([Question(text, target) for text in request.rephrase_prompts])
    portability = {key: batch.add(questions) for key, questions in request.portability.items()}
    variants = {
        kind: {domain: batch.add([Question(p.text, target) for p in prompts]) for domain, prompts in domains.items()}
        for kind, domains in queries.prompts(request.located).items()
    }
    generated = [slice(0, len(batch.texts))] if measures.generation else []
    locality = {key: batch.add(questions) for key, questions in request.locality.items()}
    negatives = {kind: batch.add(questions) for kind, questions in queries.negatives.items()}
    answers = _Answers(anatomy, tok, batch, generated)

    out: dict = {"rewrite_acc": answers.token(rewrite)}
    if request.rephrase_prompts:
        out["rephrase_acc"] = answers.token(paraphrase)
    out["locality"] = {f"{key}_output": answers.output(part) for key, part in locality.items()}
    out["portability"] = {f"{key}_acc": answers.token(part) for key, part in portability.items()}
    exact = {"success": rewrite, "paraphrase": paraphrase, "reversion": reversion}
    out["robustness"] = robustness = {name: answers.exact(part) for name, part in exact.items()}
    for kind, domains in variants.items():
        robustness[kind] = {domain: answers.protocols(part) for domain, part in domains.items()}
        if kind in queries.not_applicable:
            robustness[kind] = {domain: dict.fromkeys(lists) for domain, lists in robustness[kind].items()}
    if negatives:
        robustness["negatives"] = {kind: {"output": answers.output(part)} for kind, part in negatives.items()}
    if measures.generation:
        robustness["protocols"] = {name: answers.protocols(part) for name, part in exact.items()}
        if portability:
            asked = slice(min(p.start for p in portability.values()), max(p.stop for p in portability.values()))
            robustness["protocols"]["portability"] = answers.protocols(asked)
    if measures.fluency:
        (text,) = sample(anatomy, tok, [request.text], measures.fluency_tokens, crc32(request.text.encode()))
        out["fluency"] = {"ngram_entropy": ngram_entropy(text)}
    return out


def unchanged(before: Sequence[Sequence[int]], after: Sequence[Sequence[int]]) -> list[float]:
    """Per prompt, the share of positions whose argmax is as before the edit."""
    return [sum(a == b for a, b in zip(x, y, strict=True)) / len(x) for x, y in zip(before, after, strict=True)]


def finish_locality(pre: dict, post: dict) -> None:
    """Add what is compared with `pre`: `{key}_acc` to `post["locality"]`, and `acc` to each of its robustness' negatives."""
    for name, after in list(post["locality"].items()):
        if name.endswith("_output"):
            post["locality"][name.removesuffix("_output") + "_acc"] = unchanged(pre["locality"][name], after)
    finish_negatives(pre.get("robustness", {}).get("negatives", {}), post.get("robustness", {}))


def finish_negatives(before: dict, robustness: dict) -> None:
    """Add `acc` to the negatives of `robustness` that were asked `before` too (`{kind: {"output": …}}`)."""
    for kind, found in robustness.get("negatives", {}).items():
        if kind in before:
            found["acc"] = unchanged(before[kind]["output"], found["output"])
