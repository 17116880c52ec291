"""Whether a model has positions enough for what a request asks of it."""

from collections.abc import Iterator

from ..errors import EditError
from ..request import EditRequest
from . import Queries

SLACK = 4
"""Tokens that a sampled context may take more, in front of a prompt, than it was sampled with: its ". ", and words cut otherwise."""


def check_fits(tok, request: EditRequest, queries: Queries | None, context: int, positions: int) -> None:
    """Raise `EditError` for the first text that is longer than the model has `positions`: a GPU would end the process there.

    Args:
        queries: of the request, if they are made; long contexts are cut to fit.
        context: tokens of the longest context that is put before the edited prompt.
    """
    before = context + SLACK if context else 0
    asked = [*_edited(request, queries, before), *_measured(request, queries)]
    lengths = (len(ids) for ids in tok([text for _, text, _ in asked])["input_ids"])
    for (what, text, before), length in zip(asked, lengths, strict=True):
        if length + before > positions:
            behind = f" behind a context of up to {before}" if before else ""
            raise EditError(f"{what} {text[:60]!r}… has {length} tokens{behind}, the model has {positions} positions: shorten it")


def _edited(request: EditRequest, queries: Queries | None, before: int) -> Iterator[tuple[str, str, int]]:
    """(what, text, tokens before it) of all that is edited, or that a pathway is made from or asked."""
    yield "prompt", f"{request.text} {request.target_new}", before
    names = {"subject_rephrase": request.subject_rephrase}
    if queries is not None:
        halves = {"rephrase": queries.rephrase, "shuffle": queries.shuffle}
        names = {kind: (*split.in_domain, *split.out_of_domain) for kind, split in halves.items()}
    for kind, subjects in names.items():
        for subject in subjects:
            yield f"{kind} prompt", f"{request.located.with_subject(subject).text} {request.target_new}", before


def _measured(request: EditRequest, queries: Queries | None) -> Iterator[tuple[str, str, int]]:
    for text in request.rephrase_prompts:
        yield "rephrase_prompts", f"{text} {request.target_new}", 0
    negatives = {} if queries is None else queries.negatives
    for name, questions in (*request.locality.items(), *request.portability.items(), *negatives.items()):
        for question in questions:
            yield name, f"{question.prompt} {question.answer}", 0
