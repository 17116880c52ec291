"""What an edit is measured on, before and after: EasyEdit's metric dictionaries, and REP's robustness beside them.

EasyEdit's names are kept (`rewrite_acc`, `rephrase_acc`, `locality`, `portability`: token-level means). `robustness` is ours:

    {"success": [1.0], "paraphrase": [...], "reversion": [...],
     "rephrase" | "shuffle" | "long": {"in_domain" | "out_of_domain": {"exact": [...], "token": [...]}}}

with one number per query; exact match of all target tokens is the paper's protocol (reference: REP, section 5.1).
"""

from collections.abc import Iterable

from ..anatomy import Anatomy
from ..queries import Queries
from ..request import EditRequest, Question
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


def evaluate(anatomy: Anatomy, tok, request: EditRequest, queries: Queries) -> dict:
    """Metrics of one request on the model as it is now; the same call serves `pre` and `post`.

    Locality is compared with `pre` later, by `finish_locality`.
    """
    batch, target = _Batch(), request.target_new
    rewrite = batch.add([Question(request.text, target)])
    reversion = batch.add([Question(request.text, request.ground_truth)] if request.ground_truth else [])
    paraphrase = batch.add([Question(text, target) for text in request.rephrase_prompts])
    groups = {
        section: {key: batch.add(questions) for key, questions in getattr(request, section).items()}
        for section in ("locality", "portability")
    }
    variants = {
        kind: {domain: batch.add([Question(p.text, target) for p in prompts]) for domain, prompts in domains.items()}
        for kind, domains in queries.prompts(request.located).items()
    }
    answers = predict(anatomy, tok, batch.texts, batch.targets)

    def token(part: slice) -> list[float]:
        return [p.token for p in answers[part]]

    def exact(part: slice) -> list[float]:
        return [p.exact for p in answers[part]]

    out: dict = {"rewrite_acc": token(rewrite)}
    if request.rephrase_prompts:
        out["rephrase_acc"] = token(paraphrase)
    out["locality"] = {f"{key}_output": [list(p.predicted) for p in answers[part]] for key, part in groups["locality"].items()}
    out["portability"] = {f"{key}_acc": token(part) for key, part in groups["portability"].items()}
    out["robustness"] = robustness = {"success": exact(rewrite), "paraphrase": exact(paraphrase), "reversion": exact(reversion)}
    for kind, domains in variants.items():
        robustness[kind] = {domain: {"exact": exact(part), "token": token(part)} for domain, part in domains.items()}
    return out


def finish_locality(pre: dict, post: dict) -> None:
    """Add `{key}_acc` to `post["locality"]`: per prompt, the share of positions whose argmax is as before the edit."""
    for name, after in list(post["locality"].items()):
        if name.endswith("_output"):
            before = pre["locality"][name]
            post["locality"][name.removesuffix("_output") + "_acc"] = [
                sum(a == b for a, b in zip(x, y, strict=True)) / len(x) for x, y in zip(before, after, strict=True)
            ]
