"""EasyEdit's own methods as the base of REP (`rep: {engine: easyedit}`): run one, take the difference, leave no trace."""

import contextlib
import importlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass

import torch
from torch import Tensor

from ..anatomy import Anatomy
from ..config import check_keys
from ..errors import EditError
from ..hparams import REPHyperParams
from ..memory.delta import Delta, scratch_weights
from ..memory.replay import frozen
from ..methods.base import BaseEdit, Memory
from ..request import EditRequest
from .contract import HPARAMS_CLASSES, Point, part
from .session import Bridge


@dataclass(frozen=True)
class _Caches:
    """Where an EasyEdit method keeps, for the whole process, what belongs to one model: (module, attribute)."""

    contexts: tuple[str, str]
    inverse: tuple[str, str]


CACHES = {
    "ROME": _Caches(
        contexts=("easyeditor.models.rome.rome_main", "CONTEXT_TEMPLATES_CACHE"),
        inverse=("easyeditor.models.rome.compute_u", "inv_mom2_cache"),
    ),
}
"""The bases `engine: easyedit` can run."""


@contextlib.contextmanager
def _assigned(*places: tuple[object, str, object]) -> Iterator[None]:
    """(object, attribute, value): the values hold inside, the old ones are put back after."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    try:
        for owner, name, value in places:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _method_hparams(base: str, hparams: REPHyperParams, anatomy: Anatomy):
    """EasyEdit's own hyper-parameters of method `base`, from ours. The model says where it is and what its modules are called."""
    kind = part("easyeditor", f"{base.replace('-', '_')}HyperParams", type, f"rep.base: {base} cannot be run")
    names = asdict(anatomy.names)
    ours = {
        **vars(hparams),
        **(asdict(hparams.method) if is_dataclass(hparams.method) else hparams.method),
        **names,
        "attn_module_tmp": hparams.attn_module_tmp or "",
        "alg_name": base,
        "model_name": str(anatomy.model.config._name_or_path),
        "device": anatomy.embedding_device,
        "stats_dir": hparams.stats_dir or "",
    }
    wanted = [f for f in fields(kind) if f.init]
    missing = [f.name for f in wanted if f.name not in ours and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise EditError(f"EasyEdit's {base} needs {', '.join(missing)}, which REP's hyper-parameters lack: use engine: native")
    return kind(**{f.name: ours[f.name] for f in wanted if f.name in ours})


def _inverses(memory: Memory) -> dict[tuple[str, str], Tensor]:
    """C⁻¹ per layer under EasyEdit's keys, inverted once per model."""
    anatomy, kept = memory.anatomy, Bridge.of(memory.anatomy.model).inverses
    model = anatomy.model.config._name_or_path.replace("/", "_")
    out = {}
    for layer, covariance in memory.covariances.items():
        if covariance not in kept:
            kept[covariance] = covariance.solve(torch.eye(*covariance.moment.shape, dtype=torch.float64)).float()
        out[model, anatomy.rewrite_name(layer)] = kept[covariance]
    return out


def _difference(before: Tensor, after: Tensor) -> Tensor:
    """The change such that before + change is `after` exactly: float32 where that is enough, else float64."""
    change = after.float() - before.float()
    if torch.equal((before.float() + change).to(before.dtype), after):
        return change
    return after.double() - before.double()


@contextlib.contextmanager
def prepared(memory: Memory, hparams: REPHyperParams) -> Iterator[object]:
    """EasyEdit's hyper-parameters of method `hparams.rep.base`, and inside, EasyEdit ready to run it on this memory: its process-wide
    caches hold this memory's contexts and C (so nothing is generated, downloaded or shared with another model), its prints are
    silenced, and the tokenizer pads on the right. All is put back after.

    Raises:
        EditError: no EasyEdit, or a method it cannot run here.
    """
    base, tok = hparams.rep.base, memory.tok
    if base not in CACHES:
        raise EditError(f"rep.base: {base!r} has no easyedit engine (there are: {', '.join(CACHES)})")
    theirs = _method_hparams(base, hparams, memory.anatomy)
    values = {"contexts": [context + "{}" for context in memory.contexts], "inverse": _inverses(memory)}
    places: list[tuple[object, str, object]] = []
    for what, (module, name) in asdict(CACHES[base]).items():
        part(module, name, object, "models would share what belongs to one")
        places.append((importlib.import_module(module), name, values[what]))
    # EasyEdit counts positions from the left, whatever side its editor has told the tokenizer to pad on.
    places.append((tok, "padding_side", "right"))
    if tok.pad_token is None:
        places.append((tok, "pad_token", tok.eos_token))
    with frozen(memory.anatomy.model), _assigned(*places), contextlib.redirect_stdout(io.StringIO()):
        yield theirs


def their_request(request: EditRequest, method: str) -> dict[str, str]:
    """What an EasyEdit method is given for `request`: a template with one `{}`."""
    prompt = request.located
    for text in (prompt.prefix, prompt.suffix, request.target_new):
        if "{" in text or "}" in text:
            raise EditError(f"EasyEdit's {method} cannot take the braces of {text!r}: use engine: native")
    return {"prompt": prompt._replace(subject="{}").text, "subject": prompt.subject, "target_new": request.target_new.strip()}


def check_fields(base: str, names, where: str) -> None:
    """Raise `EditError` unless EasyEdit's hyper-parameters of method `base` have all of `names`."""
    kind = part("easyeditor", f"{base.replace('-', '_')}HyperParams", type, f"{where}: rep.base: {base} cannot be run")
    check_keys(names, [f.name for f in fields(kind)], where)


def batchable(base: str) -> bool:
    """Whether EasyEdit's `base` writes several requests at once; `EditError` for a base that has no easyedit engine."""
    if base not in CACHES:
        raise EditError(f"rep.base: {base!r} has no easyedit engine (there are: {', '.join(CACHES)})")
    return False


def solve(memory: Memory, hparams: REPHyperParams, requests: Sequence[EditRequest]) -> BaseEdit:
    """EasyEdit's own edit of `requests` with method `hparams.rep.base`, as deltas; the model is as it was.

    k* is averaged over the contexts as the native engine does.

    Raises:
        EditError: no EasyEdit, a method it cannot run here, or a request EasyEdit's templates cannot hold.
    """
    base, anatomy, layers = hparams.rep.base, memory.anatomy, sorted(hparams.layers)
    algorithms = part("easyeditor.util.alg_dict", "ALG_DICT", dict, "its methods cannot be found")
    edits = [their_request(request, base) for request in requests]
    prompts = [request.located for request in requests]
    with prepared(memory, hparams) as theirs, scratch_weights(anatomy, layers) as weights:
        _, changed = algorithms[base](anatomy.model, memory.tok, edits, theirs, copy=False, return_orig_weights=True)
        # Keys do not depend on their own layer's weight, so these are the ones each layer's update was computed for.
        keys = {layer: rows.mean(1) for layer, rows in memory.context_keys(prompts, layers).items()}
    elsewhere = sorted(set(changed) - {anatomy.weight_name(layer) for layer in layers})
    if elsewhere:
        with torch.no_grad():
            for name in elsewhere:
                anatomy.model.get_parameter(name).copy_(changed[name])
        raise EditError(f"EasyEdit's {base} also changed {', '.join(elsewhere)}, which no pathway sits on: use another base")
    deltas = {}
    for layer in layers:
        change = _difference(anatomy.weight(layer).detach(), weights[layer].detach())
        if not torch.isfinite(change).all():
            raise EditError(f"EasyEdit's {base} made {requests[0].text!r} NaN or infinite at layer {layer}: check v_lr and the statistics")
        transposed = anatomy.is_transposed(layer)
        deltas[layer] = Delta(change.T if transposed else change, None, transposed)
    return BaseEdit(deltas, keys)


def points() -> Iterator[Point]:
    """What this relies on in EasyEdit, base by base."""
    for base, caches in CACHES.items():
        breaks = f"rep.base: {base} cannot be run"
        yield Point("easyeditor.util.alg_dict", f"ALG_DICT[{base}]", callable, breaks, arguments=("copy", "return_orig_weights"))
        yield Point("easyeditor", HPARAMS_CLASSES[base], type, breaks)
        for module, name in asdict(caches).values():
            yield Point(module, name, object, "models would share what belongs to one")
