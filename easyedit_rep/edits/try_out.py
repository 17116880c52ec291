"""Saved edits tried on a model: what they change in its answers, and whether they do what they say."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ..anatomy import Anatomy
from ..evaluation.generation import greedy
from ..ledger import Ledger
from ..memory.delta import tensor_digest
from .artefact import Artefact, module_names
from .load import differences, put


@dataclass(frozen=True)
class Asked:
    """A prompt and why it is asked: the edit's own, a paraphrase, another name of the subject, or one whose answer must stay."""

    kind: str
    text: str
    target: str = ""

    @classmethod
    def stored(cls, artefact: Artefact, each: int = 2) -> "list[Asked]":
        """The prompts that the edits bring, of each kind at most `each` for a request."""
        out = []
        for request in (request for edit in artefact.edits for request in edit.requests):
            out.append(cls("edit", request.text, request.target_new))
            out += [cls("paraphrase", text, request.target_new) for text in request.rephrase_prompts[:each]]
            names = request.subject_rephrase[:each]
            out += [cls("rephrase", request.located.with_subject(name).text, request.target_new) for name in names]
            stay = [question for group in request.locality.values() for question in group][:each]
            out += [cls("locality", question.prompt) for question in stay]
        return out


def answers(model: nn.Module, tok, artefact: Artefact, asked: Sequence[Asked], tokens: int) -> list[str]:
    """The first `tokens` tokens that the model says to each, greedily."""
    anatomy = Anatomy(model, **module_names(artefact.model))
    said = greedy(anatomy, tok, [one.text for one in asked], [tokens] * len(asked))
    return [" ".join(text.split()) for text in tok.batch_decode(said, skip_special_tokens=True)]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    well: bool
    said: str = ""


def check(artefact: Artefact, source: str, model: nn.Module | None) -> list[Finding]:
    """The findings about a file that could be read, and, with a model, about the two together. The model is given back as it was."""
    findings = [Finding("file", True, f"{len(artefact.edits)} edits, digest as recorded")]
    if model is None:
        return findings
    ledger = Ledger.of(model, Anatomy(model, **module_names(artefact.model)))
    differing = differences(ledger, artefact)
    for weight in artefact.weights.values():
        findings.append(Finding(f"{weight.name} is the original", weight.name not in differing, differing.get(weight.name, "")))
    if differing:
        return findings
    edits = put(model, artefact, source, conflict="stack")
    try:
        for layer, weight in artefact.weights.items():
            same = tensor_digest(ledger.anatomy.weight(layer)) == weight.edited
            said = "no digest: edits have been taken out of the file" if weight.edited is None else "" if same else "differs in rounding"
            findings.append(Finding(f"{weight.name} as saved once edited", same or weight.edited is None, said))
    finally:
        if ledger.handles == edits:
            ledger.undo_all()  # at once
        else:
            for edit in edits:
                edit.undo()
    for layer, weight in artefact.weights.items():
        back = tensor_digest(ledger.anatomy.weight(layer)) == weight.original
        findings.append(Finding(f"{weight.name} the original again when undone", back))
    return findings
