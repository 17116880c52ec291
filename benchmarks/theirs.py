"""EasyEdit's own methods, timed on our memory: the same contexts, C and hyper-parameters; its caches are filled before the clock starts."""

import contextlib
import importlib
import io
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from easyedit_rep import EditRequest, RobustEditor
from easyedit_rep.integrations.engine import prepared, their_request

_EXECUTE = {"ROME": "rome.rome_main.execute_rome", "MEMIT": "memit.memit_main.execute_memit", "EMMET": "emmet.emmet_main.execute_emmet"}


def edit(editor: RobustEditor, requests: Sequence[EditRequest]) -> dict[int, Tensor]:
    """{layer: ΔW} of EasyEdit's method of the editor's base."""
    base = editor.hparams.rep.base
    module, _, name = f"easyeditor.models.{_EXECUTE[base]}".rpartition(".")
    execute = getattr(importlib.import_module(module), name)
    edits = [their_request(request, base) for request in requests]
    with prepared(editor.memory, editor.hparams) as hparams, contextlib.redirect_stdout(io.StringIO()):
        factors = execute(editor.model, editor.tok, edits[0] if base == "ROME" else edits, hparams)
    names = {editor.anatomy.weight_name(layer): layer for layer in editor.hparams.layers}
    if base == "ROME":
        return {names[name]: torch.outer(value, key).float() for name, (key, value) in factors.items()}
    return {names[name]: (value @ key.T).float() for name, (key, value) in factors.items()}


def native(editor: RobustEditor, requests: Sequence[EditRequest]) -> dict[int, Tensor]:
    """{layer: ΔW} of ours."""
    return {layer: delta.dense() for layer, delta in editor.base_edit(*requests).deltas.items()}


def cosine(a: Mapping[int, Tensor], b: Mapping[int, Tensor]) -> float:
    """The smallest over layers."""
    pairs = ((a[layer].double().flatten(), b[layer].double().flatten()) for layer in a)
    return min(torch.cosine_similarity(x, y.to(x), dim=0).item() for x, y in pairs)


def agreement(ways: Mapping[str, Callable]) -> Callable[[dict[str, Mapping[int, Tensor]]], dict[str, float]]:
    """Cosine of every way's update with EasyEdit's, where there is one."""

    def compare(results: dict) -> dict[str, float]:
        theirs = results.get("EasyEdit")
        if theirs is None:
            return {}
        return {f"cosine of {name}": cosine(results[name], theirs) for name in ways if name != "EasyEdit"}

    return compare
