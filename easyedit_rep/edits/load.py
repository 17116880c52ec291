"""`load_edits`: saved edits into a model, bit for bit as they were, or not at all."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torch import nn

from ..anatomy import Anatomy
from ..config import build
from ..edit import Edit
from ..errors import EditError
from ..interrupts import uninterrupted
from ..ledger import Ledger
from ..memory.delta import tensor_digest
from ..methods.d4s import D4SOptions
from .artefact import Artefact, module_names
from .hub import found

log = logging.getLogger(__name__)

Conflict = Literal["refuse", "replace", "stack"]


def load_edits(
    model: nn.Module, source: str | Path, *, conflict: Conflict = "refuse", force: bool = False, revision: str | None = None
) -> list[Edit]:
    """Put the edits saved in `source` into `model`. Each of them can be undone, in any order; their order in the file is kept.

    Args:
        model: a Hugging Face model with the original weights the edits were made on; other edits it carries do not matter.
        source: a folder, or a repository on the Hugging Face hub (and its `revision`).
        conflict: what to do where the model already carries an edit of the same prompt and subject: `refuse`; `replace` it; or `stack`
            the new one on it.
        force: load although the original weights are others. The same change is then added to weights it was not computed for: it may
            do less, nothing, or harm.

    Returns:
        the edits, active. `undo()` and `save()` are theirs; `edits[0].ledger` is the model's ledger.

    Raises:
        EditError: unreadable, of another model, or in conflict; nothing is changed then.
    """
    if conflict not in ("refuse", "replace", "stack"):
        raise EditError(f"conflict: {conflict!r} is not one of refuse, replace, stack")
    artefact = Artefact.read(found(source, revision))
    return put(model, artefact, str(source), conflict, force)


def put(model: nn.Module, artefact: Artefact, source: str, conflict: Conflict = "refuse", force: bool = False) -> list[Edit]:
    """`load_edits` of what has been read."""
    ledger = Ledger.of(model, Anatomy(model, **module_names(artefact.model)))
    _check_fits(ledger, artefact, source, force)
    leaving = _in_conflict(ledger, artefact.edits, conflict)
    if artefact.sequence is not None and ledger.sequence is not None and set(ledger.sequence.edits) - set(leaving):
        raise EditError(
            f"the model carries a sequence of {len(ledger.sequence.edits)} edits, and {source} holds another: undo the one there first"
        )
    alone = len(leaving) == len(ledger.handles)
    done: list[Edit] = []
    # What leaves does so last, so that a failure finds it untouched; only of sequences a model has room for one.
    first = [(edit, edit.ledger) for edit in leaving if edit.pairs and artefact.sequence is not None]
    try:
        for edit, _ in first:
            edit.undo()
        _apply(ledger, artefact, done)
    except BaseException:
        for edit in reversed(done):
            edit.undo()
        for edit, home in first:
            ledger.sequence = home
            home.append(edit)
        raise
    for edit in leaving:
        edit.undo()
    if alone:
        for layer, weight in artefact.weights.items():
            if weight.edited and tensor_digest(ledger.anatomy.weight(layer)) != weight.edited and not force:
                log.warning("%s differs in rounding from what was saved: another machine, thread count or version of PyTorch", weight.name)
    return done


def _apply(ledger: Ledger, artefact: Artefact, done: list[Edit]) -> None:
    """Apply all edits in their order, noting in `done` which are."""
    taken = {edit.name for edit in ledger.handles}
    numbers = [int(digits) for edit in artefact.edits if (digits := edit.name.removeprefix("edit")).isdigit()]
    ledger.applied = max(ledger.applied, *(n + 1 for n in numbers), 0)
    mine = [edit for edit in artefact.edits if edit.pairs]
    for edit in artefact.edits:
        if edit.name in taken:  # else kept: names say in which order pathways are summed up
            edit.name = ""
    for edit in artefact.edits:
        if not edit.pairs:
            with uninterrupted():
                ledger.apply(edit, edit.name or None)
                done.append(edit)
        elif edit is mine[0]:
            _sequence(ledger, artefact).hold(mine)
            done += mine


def _sequence(ledger: Ledger, artefact: Artefact):
    from ..sequence.kept import Kept

    about = artefact.sequence
    options = build(D4SOptions, about["options"], "the saved sequence")
    ledger.sequence = Kept(ledger, about["layers"], options, {int(layer): digest for layer, digest in about["covariances"].items()})
    return ledger.sequence


def _check_fits(ledger: Ledger, artefact: Artefact, source: str, force: bool) -> None:
    """Refuse a model with other original weights, naming them."""
    differing = differences(ledger, artefact)
    if differing and (not force or any("shape" in what for what in differing.values())):
        named = "; ".join(f"{name}: {what}" for name, what in list(differing.items())[:6])
        name, otherwise = artefact.model["name"] or artefact.model["type"], "" if force else ", or pass force to add to these all the same"
        raise EditError(f"{source} belongs to other weights, of {name} ({named}): load it into the model it was made on{otherwise}")


def differences(ledger: Ledger, artefact: Artefact) -> dict[str, str]:
    """{name of a weight: how the model's original differs from the one the edits were made on}."""
    anatomy, out = ledger.anatomy, {}
    for layer, weight in artefact.weights.items():
        if layer >= anatomy.n_layers:
            out[weight.name] = f"shape: the model has {anatomy.n_layers} layers"
            continue
        anatomy.check_writable(layer)
        original = ledger.original(layer)
        dtype = str(original.dtype).removeprefix("torch.")
        if list(original.shape) != list(weight.shape):
            out[weight.name] = f"shape {tuple(weight.shape)} there, {tuple(original.shape)} here"
        elif dtype != weight.dtype:
            out[weight.name] = f"{weight.dtype} there, {dtype} here"
        elif tensor_digest(original) != weight.original:
            out[weight.name] = f"sha256 {weight.original[:12]}… there, {tensor_digest(original)[:12]}… here"
    return out


def _in_conflict(ledger: Ledger, edits: Sequence[Edit], conflict: Conflict) -> list[Edit]:
    """The edits that have to leave."""
    wanted = {fact(request): request for edit in edits for request in edit.requests}
    standing = [edit for edit in ledger.handles if any(fact(request) in wanted for request in edit.requests)]
    if not standing or conflict == "stack":
        return []
    texts = [f"{r.text!r} → {r.target_new!r}" for edit in standing for r in edit.requests if fact(r) in wanted]
    if conflict == "refuse":
        raise EditError(
            f"the model already carries an edit of {'; '.join(texts[:3])}: undo it, or pass conflict 'replace' (it leaves) or "
            "'stack' (both stay)"
        )
    for edit in standing:
        others = [r.text for r in edit.requests if fact(r) not in wanted]
        if others:
            raise EditError(
                f"replacing {texts[0]} would also take out {len(others)} other facts of the same edit, {others[0]!r} among them: "
                "pass conflict 'stack', or undo that edit yourself"
            )
    return standing


def fact(request) -> tuple[str, str]:
    """What makes two requests edits of the same fact: the prompt's text and the subject, whatever the target."""
    return (" ".join(request.text.split()), request.subject.strip())
