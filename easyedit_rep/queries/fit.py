"""Whether a model has positions enough for a text: one with learned positions fails beyond them, and on a GPU that ends the process."""

from collections.abc import Iterable, Iterator

from ..errors import EditError
from ..request import EditRequest
from . import Queries

SLACK = 4
"""Tokens that a sampled context may take more, in front of a prompt, than it was sampled with: its ". ", and words cut otherwise."""

Text = tuple[str, str]
"""What it is, and the text."""


def check_edited(tok, request: EditRequest, names: Iterable[str], context: int, positions: int) -> None:
    """Raise `EditError` where the edited prompt, or that prompt about one of `names`, does not fit behind a context of `context` tokens."""
    prompts = [("prompt", request.text), *((f"prompt about {name[:40]!r}", request.located.with_subject(name).text) for name in names)]
    _check(tok, [(what, f"{text} {request.target_new}") for what, text in prompts], context + SLACK if context else 0, positions)


def check_measured(tok, request: EditRequest, queries: Queries | None, positions: int) -> None:
    """Raise `EditError` for the first question that evaluation would ask and that does not fit: of the request, and of `queries`, whose
    long contexts are cut to fit."""
    _check(tok, list(_measured(request, queries)), 0, positions)


def _measured(request: EditRequest, queries: Queries | None) -> Iterator[Text]:
    variants = {} if queries is None else {"rephrase": queries.rephrase, "shuffle": queries.shuffle}
    for kind, split in variants.items():
        for name in (*split.in_domain, *split.out_of_domain):
            yield f"{kind} prompt", f"{request.located.with_subject(name).text} {request.target_new}"
    for text in request.rephrase_prompts:
        yield "rephrase_prompts", f"{text} {request.target_new}"
    negatives = {} if queries is None else queries.negatives
    for name, questions in (*request.locality.items(), *request.portability.items(), *negatives.items()):
        for question in questions:
            yield name, f"{question.prompt} {question.answer}"


def _check(tok, texts: list[Text], before: int, positions: int) -> None:
    lengths = (len(ids) for ids in tok([text for _, text in texts])["input_ids"]) if texts else ()
    for (what, text), length in zip(texts, lengths, strict=True):
        if length + before > positions:
            behind = f" behind a context of up to {before}" if before else ""
            raise EditError(f"{what} {text[:60]!r}… has {length} tokens{behind}, the model has {positions} positions: shorten it")
