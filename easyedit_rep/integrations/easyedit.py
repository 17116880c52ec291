"""REP inside EasyEdit, and EasyEdit's methods inside REP. The only file that imports `easyeditor`, and only when it is used.

`activate` makes `BaseEditor` know REP; `solve` is the other direction: EasyEdit's own method makes the base edit
(`rep: {engine: easyedit}`).
"""

import contextlib
import functools
import importlib
import inspect
import io
from collections.abc import Callable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields

import torch
from torch import Tensor

from ..anatomy import Anatomy
from ..errors import EditError
from ..hparams import REPHyperParams
from ..memory.delta import Delta, scratch_weights
from ..memory.replay import frozen
from ..methods.base import BaseEdit, Memory
from ..request import EditRequest
from .session import Bridge, Session, apply_rep_to_model

NEXT_STEP = "use RobustEditor, or an EasyEdit of 2026-07 or older"

# -- EasyEdit's contract -----------------------------------------------------------------------------------------------------------


def _part(module: str, name: str, kind, breaks: str):
    """`module.name` of EasyEdit, checked to be a `kind`; `breaks` says what would go wrong without it."""
    try:
        # Not `import easyeditor.util.x as y`: EasyEdit's star-imports hide its sub-packages.
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        absent = (error.name or "") if isinstance(error, ImportError) else module
        if absent == "easyeditor":
            raise EditError("EasyEdit is not on PYTHONPATH: put its folder there, or use engine: native") from None
        if not absent.startswith("easyeditor"):
            raise EditError(f"EasyEdit cannot be imported ({error}): install what it needs, or use engine: native") from error
        raise EditError(f"EasyEdit has changed: {module} has no {name}, so {breaks}; {NEXT_STEP}") from error
    if not (callable(found) if kind is callable else isinstance(found, kind)):
        raise EditError(f"EasyEdit has changed: {module}.{name} is a {type(found).__name__}, so {breaks}; {NEXT_STEP}")
    return found


def activate() -> None:
    """Make REP known to EasyEdit: its name, its way back, and robustness among the metrics. Idempotent, and checked before it acts.

    Raises:
        EditError: EasyEdit no longer offers something this relies on.
    """
    editor, utils = "easyeditor.editors.editor", "easyeditor.editors.utils"
    unknown, stuck, unmeasured = "BaseEditor would not know REP", "edits could not be undone", "robustness could not be measured"
    algorithms = _part("easyeditor.util.alg_dict", "ALG_DICT", dict, unknown)
    restored_by_call = _part(utils, "CALLABLE_RESTORE_ALGS", set, stuck)
    _part(editor, "BaseEditor", type, unknown)
    for name, original, breaks in (
        ("ALG_DICT", algorithms, unknown),
        ("restore_after_edit", _part(utils, "restore_after_edit", callable, stuck), stuck),
    ):
        if _part(editor, name, object, breaks) is not original:
            raise EditError(f"EasyEdit has changed: {editor}.{name} is not the shared one, so {breaks}; {NEXT_STEP}")
    measure = _part(editor, "compute_edit_quality", callable, unmeasured)
    missing = {"model", "hparams", "tok", "record"} - set(inspect.signature(measure).parameters)
    if missing:
        names = ", ".join(sorted(missing))
        raise EditError(f"EasyEdit has changed: {editor}.compute_edit_quality has no argument {names}, so {unmeasured}; {NEXT_STEP}")

    algorithms["REP"] = apply_rep_to_model
    restored_by_call.add("REP")
    if not hasattr(measure, "easyedit_rep"):
        importlib.import_module(editor).compute_edit_quality = _with_robustness(measure)


def _with_robustness(measure: Callable) -> Callable:
    """EasyEdit's `compute_edit_quality`, with `robustness` added for REP; for every other method it is what it was."""
    signature = inspect.signature(measure)

    @functools.wraps(measure)
    def compute_edit_quality(*args, **kwargs):
        metrics = measure(*args, **kwargs)
        given = signature.bind(*args, **kwargs).arguments
        if isinstance(given["hparams"], REPHyperParams):
            session = Session.of(given["model"], given["tok"], given["hparams"])
            request = EditRequest.from_easyedit(given["record"])
            session.editor.check(request)
            metrics["robustness"] = session.robustness(request)
        return metrics

    compute_edit_quality.easyedit_rep = True
    return compute_edit_quality


# -- EasyEdit's algorithms as REP's base method ------------------------------------------------------------------------------------


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
    kind = _part("easyeditor", f"{base.replace('-', '_')}HyperParams", type, f"rep.base: {base} cannot be run")
    names = asdict(anatomy.names)
    ours = {
        **vars(hparams),
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
        _part(module, name, object, "models would share what belongs to one")
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


def solve(memory: Memory, hparams: REPHyperParams, request: EditRequest) -> BaseEdit:
    """EasyEdit's own edit of `request` with method `hparams.rep.base`, as deltas; the model is as it was.

    k* is the mean key over the contexts, as the native engine has it.

    Raises:
        EditError: no EasyEdit, a method it cannot run here, or a request EasyEdit's templates cannot hold.
    """
    base, anatomy, layers = hparams.rep.base, memory.anatomy, sorted(hparams.layers)
    algorithms = _part("easyeditor.util.alg_dict", "ALG_DICT", dict, "its methods cannot be found")
    edit = their_request(request, base)
    with prepared(memory, hparams) as theirs, scratch_weights(anatomy, layers) as weights:
        _, changed = algorithms[base](anatomy.model, memory.tok, [edit], theirs, copy=False, return_orig_weights=True)
        # Keys do not depend on their own layer's weight, so these are the ones each layer's update was computed for.
        keys = {layer: rows.mean(0) for layer, rows in memory.context_keys(request.located, layers).items()}
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
            raise EditError(f"EasyEdit's {base} made {request.text!r} NaN or infinite at layer {layer}: check v_lr and the statistics")
        transposed = anatomy.is_transposed(layer)
        deltas[layer] = Delta(change.T if transposed else change, None, transposed)
    return BaseEdit(deltas, keys)
