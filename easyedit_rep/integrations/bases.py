"""The methods of EasyEdit that `engine: easyedit` can run: one entry each, with what it keeps for the whole process."""

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import EditError
from ..hparams import REPHyperParams
from ..memory.tokens import continuation
from ..methods.base import Memory
from ..methods.memit import average
from ..request import EditRequest
from .refused import REFUSED
from .state import covariances, flat_contexts, inverses, nested_contexts, projectors, protected_keys

Maker = Callable[[Memory, REPHyperParams], object]


def _nothing(_memory: Memory, _hparams: REPHyperParams) -> dict:
    return {}


def _stripped(_tok, request: EditRequest) -> str:
    return request.target_new.strip()


def _same(tok):
    return tok


def _averaged(rows: Tensor, _hparams: REPHyperParams) -> Tensor:
    return average(rows)


@dataclass(frozen=True)
class Base:
    """One method of EasyEdit.

    Attributes:
        state: {"module.attribute" below easyeditor.models: (memory, hparams) -> what it holds during a run}.
        late: the attributes of `state` that come into being when the method first runs.
        keys: ((n, contexts, D) keys, hparams) -> (n, D), those the update is written under.
        batch: several requests can be written at once.
        adapt: (memory, hparams) -> hyper-parameters that follow from the memory; `EditError` for those it cannot take.
        target: (tok, request) -> the target, spelt as the method wants it.
        tokenizer: tok -> what the method is given for it.
        subject_once: the method replaces the subject wherever it stands, so it may stand in one place only.
    """

    state: Mapping[str, Maker]
    late: Collection[str] = ()
    keys: Callable[[Tensor, REPHyperParams], Tensor] = _averaged
    batch: bool = True
    adapt: Callable[[Memory, REPHyperParams], Mapping[str, object]] = _nothing
    target: Callable[[object, EditRequest], str] = _stripped
    tokenizer: Callable[[object], object] = _same
    subject_once: bool = False


def _rome_keys(rows: Tensor, _hparams: REPHyperParams) -> Tensor:
    return rows.mean(1)


def _r_rome_keys(rows: Tensor, hparams: REPHyperParams) -> Tensor:
    averaged = hparams.method.original_implementation or hparams.method.enable_random_prefix_keys
    return rows.mean(1) if averaged else rows[:, 0]


def _pmet(memory: Memory, hparams: REPHyperParams) -> dict:
    down = memory.anatomy.names.rewrite_module_tmp
    given = hparams.method.get("rewrite_module_tmps", [down])
    if given != [down]:
        raise EditError(f"rewrite_module_tmps: {given!r} is not supported: a pathway sits on {down} alone")
    if not hparams.attn_module_tmp:
        raise EditError("attn_module_tmp is missing: PMET shifts the attention block's output too, so name it, as in EasyEdit's YAML")
    return {"rewrite_module_tmps": [down]}


def _pmet_target(tok, request: EditRequest) -> str:
    """With a space before it unless the tokenizer makes it one: PMET itself adds it for models called "gpt" only."""
    target = request.target_new.strip()
    _, wanted = continuation(tok, request.text, target)
    return target if tok.encode(target, add_special_tokens=False) == wanted else f" {target}"


def _refuse_transposed(memory: Memory, hparams: REPHyperParams, why: str) -> None:
    if any(memory.anatomy.is_transposed(layer) for layer in hparams.layers):
        kind = type(memory.anatomy.model).__name__
        raise EditError(f"EasyEdit's {hparams.rep.base} cannot edit a {kind}, whose weights are stored transposed: {why}; use MEMIT")


def _eamet(memory: Memory, hparams: REPHyperParams) -> dict:
    _refuse_transposed(memory, hparams, "the sums it logs multiply the wrong sides and fail")
    weight, n = hparams.method["mom2_update_weight"], len(hparams.layers)
    if isinstance(weight, list) and len(weight) != n:
        raise EditError(f"mom2_update_weight: {weight!r} must hold one number for each of the {n} layers")
    return {"mom2_update_weight": [float(w) for w in (weight if isinstance(weight, list) else [weight] * n)]}


class _PlainTargets:
    """A tokenizer that adds no special tokens to a single string, which is what EAMET tokenises targets as: with a BOS in it, <s> itself
    would be trained as part of the target. Attributes EAMET sets (`add_bos_token`) stay here."""

    def __init__(self, tok):
        self._tok = tok

    def __getattr__(self, name: str):
        return getattr(self._tok, name)

    def __call__(self, text, **options):
        return self._tok(text, add_special_tokens=not isinstance(text, str), **options)


def _alphaedit(_memory: Memory, _hparams: REPHyperParams) -> dict:
    # It asks whether this file is there, and then finds that P is loaded already.
    return {"P_loc": __file__}


def _sphere(memory: Memory, hparams: REPHyperParams) -> dict:
    _refuse_transposed(memory, hparams, "it would project values in place of keys")
    dtypes = {memory.anatomy.weight(layer).dtype for layer in hparams.layers} - {torch.float32, torch.float64}
    if dtypes:
        raise EditError(f"EasyEdit's SPHERE decomposes a weight as it is and cannot for {dtypes.pop()}: load the model in float32")
    return _alphaedit(memory, hparams)


def _memit_like(module: str, **rest) -> Base:
    state = {f"{module}.CONTEXT_TEMPLATES_CACHE": nested_contexts, f"{module}.COV_CACHE": covariances}
    return Base({**state, **rest.pop("state", {})}, **rest)


def _null_space(module: str, adapt) -> Base:
    own = {"P": projectors, "P_loaded": lambda *_: True, "cache_c": protected_keys, "cache_c_new": lambda *_: True}
    state = {f"{module}.{name}": make for name, make in own.items()}
    return _memit_like(module, state=state, late=(f"{module}.P", f"{module}.cache_c"), adapt=adapt, subject_once=True)


_CORE_OWN = "core.compute_z.CONTEXT_TEMPLATES_CACHE"
_ROME = Base(
    {"rome.rome_main.CONTEXT_TEMPLATES_CACHE": flat_contexts, "rome.compute_u.inv_mom2_cache": inverses},
    keys=_rome_keys,
    batch=False,
)
BASES = {
    "ROME": _ROME,
    "R-ROME": replace(
        _ROME,
        state={"r_rome.r_rome_main.CONTEXT_TEMPLATES_CACHE": flat_contexts, "r_rome.compute_u.inv_mom2_cache": inverses},
        keys=_r_rome_keys,
    ),
    "MEMIT": _memit_like("memit.memit_main"),
    "EMMET": _memit_like("emmet.emmet_main"),
    "MEMIT-FE": _memit_like("memit_FE.memit_FE_main"),
    "PMET": _memit_like("pmet.pmet_main", state={"pmet.pmet_main.KZ_CACHE": _nothing}, adapt=_pmet, target=_pmet_target),
    "EAMET": _memit_like("eamet.eamet_main", adapt=_eamet, tokenizer=_PlainTargets),
    "CORE": _memit_like("core.core_main", state={_CORE_OWN: nested_contexts}, late=[_CORE_OWN]),
    "AlphaEdit": _null_space("alphaedit.AlphaEdit_main", _alphaedit),
    "SPHERE": _null_space("SPHERE.SPHERE_main", _sphere),
}
"""name in EasyEdit -> how to run it."""


def get_base(name: str) -> Base:
    """The entry of method `name`.

    Raises:
        EditError: a method no pathway can be put around, with the reason, or an unknown one.
    """
    if name in BASES:
        return BASES[name]
    by_case = {other.casefold(): other for other in (*REFUSED, *BASES)}
    known = by_case.get(str(name).casefold(), name)
    if known in REFUSED:
        raise EditError(f"rep.base: no pathway can be put around {known}: {REFUSED[known]}")
    close = known if known in BASES else next(iter(difflib.get_close_matches(str(name), BASES, n=1)), None)
    hint = f"did you mean {close}? " if close else ""
    raise EditError(f"rep.base: {name!r} has no easyedit engine, {hint}(there are: {', '.join(BASES)})")
