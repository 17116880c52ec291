"""EasyEdit's own methods as the base of REP (`rep: {engine: easyedit}`): run one, take the difference, leave no trace."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..anatomy import Anatomy
from ..errors import EditError
from ..hparams import REPHyperParams
from ..memory.delta import Delta, scratch_weights
from ..methods.base import BaseEdit, Memory
from ..request import EditRequest
from .bases import BASES, get_base
from .contract import HPARAMS_CLASSES, Point, part
from .prepared import ALGORITHMS, check_fields, prepared

__all__ = ["batchable", "check_fields", "prepared", "solve", "their_request"]


def _difference(before: Tensor, after: Tensor) -> Tensor:
    """The change such that before + change is `after` exactly: float32 where that is enough, else float64."""
    change = after.float() - before.float()
    if torch.equal((before.float() + change).to(before.dtype), after):
        return change
    return after.double() - before.double()


def their_request(request: EditRequest, method: str, tok=None) -> dict[str, str]:
    """What an EasyEdit method is given for `request`: a template with one `{}`."""
    prompt, base = request.located, get_base(method)
    for text in (prompt.prefix, prompt.suffix, request.target_new):
        if "{" in text or "}" in text:
            raise EditError(f"EasyEdit's {method} cannot take the braces of {text!r}: use engine: native")
    if base.subject_once and prompt.subject in prompt.prefix + "\0" + prompt.suffix:
        raise EditError(f"EasyEdit's {method} cannot take {prompt.text!r}, where {prompt.subject!r} stands twice: rephrase the prompt")
    edit = {"prompt": prompt._replace(subject="{}").text, "subject": prompt.subject, "target_new": base.target(tok, request)}
    return edit if request.ground_truth is None else {**edit, "ground_truth": request.ground_truth}


def batchable(base: str) -> bool:
    """Whether EasyEdit's `base` writes several requests at once; `EditError` for a base that has no easyedit engine."""
    return get_base(base).batch


def _algorithm(base: str) -> Callable:
    algorithms = part(ALGORITHMS, "ALG_DICT", dict, "its methods cannot be found")
    if base not in algorithms:
        raise EditError(f"this EasyEdit has no {base}: use one of 2026-07, or another base")
    return algorithms[base]


def _check_weights(anatomy: Anatomy, layers: Sequence[int]) -> None:
    for layer in layers:
        rows, columns = anatomy.weight(layer).shape
        if rows == columns:
            raise EditError(
                f"{anatomy.weight_name(layer)} is square ({rows} × {columns}): EasyEdit tells keys from values by the shape and would "
                "transpose the edit, use engine: native"
            )


def solve(memory: Memory, hparams: REPHyperParams, requests: Sequence[EditRequest]) -> BaseEdit:
    """EasyEdit's own edit of `requests` with method `hparams.rep.base`, as deltas; the model is as it was.

    Keys are averaged over the contexts as the method does.

    Raises:
        EditError: no EasyEdit, a method it cannot run here, or a request EasyEdit's templates cannot hold.
    """
    name, anatomy, layers = hparams.rep.base, memory.anatomy, sorted(hparams.layers)
    base, apply = get_base(name), _algorithm(name)
    if len(requests) != 1 and not base.batch:
        raise EditError(f"EasyEdit's {name} edits one fact at a time, not {len(requests)}")
    edits = [their_request(request, name, memory.tok) for request in requests]
    prompts = [request.located for request in requests]
    _check_weights(anatomy, layers)
    with prepared(memory, hparams) as theirs, scratch_weights(anatomy, layers) as weights:
        try:
            # EMMET hands out what it has overwritten only if it is told to keep it.
            options = {"copy": False, "return_orig_weights": True, "keep_original_weight": True}
            _, changed = apply(anatomy.model, base.tokenizer(memory.tok), edits, theirs, **options)
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise EditError(f"EasyEdit's {name} failed on {requests[0].text!r}: {said}") from error
        # Keys do not depend on their own layer's weight, so these are the ones each layer's update was computed for (SPHERE's but nearly:
        # it still projects what it has found before it writes it).
        keys = {layer: base.keys(rows, hparams) for layer, rows in memory.context_keys(prompts, layers).items()}
    elsewhere = sorted(set(changed) - {anatomy.weight_name(layer) for layer in layers})
    if elsewhere:
        with torch.no_grad():
            for weight in elsewhere:
                anatomy.model.get_parameter(weight).copy_(changed[weight])
        raise EditError(f"EasyEdit's {name} also changed {', '.join(elsewhere)}, which no pathway sits on: use another base")
    deltas = {}
    for layer in layers:
        change = _difference(anatomy.weight(layer).detach(), weights[layer].detach())
        if not torch.isfinite(change).all():
            raise EditError(f"EasyEdit's {name} made {requests[0].text!r} NaN or infinite at layer {layer}: check v_lr and the statistics")
        transposed = anatomy.is_transposed(layer)
        deltas[layer] = Delta(change.T if transposed else change, None, transposed)
    return BaseEdit(deltas, keys)


def points() -> Iterator[Point]:
    """What this relies on in EasyEdit, base by base."""
    for name, base in BASES.items():
        breaks = f"rep.base: {name} cannot be run"
        yield Point(ALGORITHMS, f"ALG_DICT[{name}]", callable, breaks, arguments=("copy", "return_orig_weights"))
        yield Point(ALGORITHMS, HPARAMS_CLASSES[name], type, breaks)
        for path in base.state:
            if path not in base.late:  # those come into being when the method first runs
                module, _, attribute = f"easyeditor.models.{path}".rpartition(".")
                yield Point(module, attribute, object, "models would share what belongs to one")
