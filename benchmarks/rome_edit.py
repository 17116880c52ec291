"""One ROME edit: ours, ours with steps in bfloat16, ours with a robust pathway, and EasyEdit's (always float32, and without a pathway).

The facts are those that take the most optimiser steps; a turn is one fact in all ways. Both stop at the same loss. Contexts, C and the
ordinary text that negatives come from are made before the clock starts, for both.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from easyedit_rep import EditRequest, RobustEditor
from easyedit_rep.memory.value_batch import ValueTask, rows_of

from . import theirs
from .common import Case, Setting, name_of
from .models import editor_of, facts_of, twin

POOL = 20


@contextmanager
def _steps_in(editor: RobustEditor, dtype: str) -> Iterator[None]:
    before, editor.hparams.rep.v_dtype = editor.hparams.rep.v_dtype, dtype
    try:
        yield
    finally:
        editor.hparams.rep.v_dtype = before


def _slowest(editor: RobustEditor, facts: list[EditRequest], n: int) -> tuple[list[EditRequest], list[int]]:
    """The facts that take the most steps, and how many."""
    steps = {i: sum(v["steps"] for rows in editor.base_edit(f).info["base"].values() for v in rows) for i, f in enumerate(facts)}
    chosen = sorted(steps, key=lambda i: -steps[i])[:n]
    return [facts[i] for i in chosen], [steps[i] for i in chosen]


def floor_of(editor: RobustEditor, request: EditRequest, dtype: torch.dtype) -> str:
    """Bytes and FLOPs of one step, at least: every weight above the edited layer is read twice (forward, and backward to the activations),
    and each replayed token is multiplied with it twice; the head sees the targets' positions alone."""
    anatomy, layer = editor.anatomy, min(editor.hparams.layers)
    weights = sum(p.numel() for i in range(layer + 1, anatomy.n_layers) for p in anatomy.layer(i).parameters() if p.dim() == 2)
    head = anatomy.model.get_output_embeddings().weight.numel()
    rows = rows_of(editor.tok, ValueTask(request.located, request.target_new, editor.memory.contexts))
    moved = 2 * (weights + head) * dtype.itemsize
    replayed, asked = sum(row.width for row in rows), sum(len(row.targets) or 1 for row in rows)
    flops = 4 * (replayed * weights + asked * head)
    return f"a step moves at least {moved / 1e6:.0f} MB and takes {flops / 1e9:.1f} GFLOP ({len(rows)} rows, {replayed} tokens)"


def cases(setting: Setting) -> Iterator[Case]:
    yield _case("one ROME edit", setting, editor_of(setting, "ROME"))
    if setting.model == "bench":
        # A process of its own for each way's memory would make the case above first, for as much memory as there.
        yield replace(_case("one ROME edit as its pathway wants it", setting, editor_of(setting, "ROME", alone=False)), memory=False)


def _case(title: str, setting: Setting, editor: RobustEditor) -> Case:
    facts, steps = _slowest(editor, facts_of(setting, POOL), setting.n or 5)
    other = twin(editor, setting) if setting.easyedit else None

    def fact(turn: int) -> EditRequest:
        return facts[turn % len(facts)]

    def native(turn: int):
        return theirs.native(editor, [fact(turn)])

    def in_bfloat16(turn: int):
        with _steps_in(editor, "bfloat16"):
            return native(turn)

    def robust(turn: int):
        edit = editor.robustify(editor.base_edit(fact(turn)))
        return {layer: delta.dense() for layer, delta in edit.deltas.items()}

    ways = {"native": native, "native + REP": robust}
    if setting.dtype == torch.float32:
        ways["native, v_dtype bfloat16"] = in_bfloat16
    if other is not None:
        ways["EasyEdit"] = lambda turn: theirs.edit(other, [fact(turn)])
    # A bfloat16 model's updates are not those of another, float32, random model.
    compare = theirs.agreement(ways) if other is editor else None
    targets = {"native": 6.0} if setting.dtype == torch.float32 else {"native": 15.0}
    if setting.device.type == "cuda":
        targets = {"native + REP": 20.0}
    return Case(
        f"{title}, {setting.model}, {name_of(setting.dtype)}, {min(steps)} to {max(steps)} steps",
        ways,
        "EasyEdit" if other is not None else "native",
        compare,
        targets if other is not None else {},
        floor_of(editor, facts[0], setting.dtype),
        memory=True,
    )
