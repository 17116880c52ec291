"""REP through `batch_edit` of the unmodified `BaseEditor`: one joint edit for each batch, and out again bit for bit."""

import importlib
import json
from dataclasses import replace

import pytest
import torch

from easyedit_rep import EditError, REPHyperParams
from easyedit_rep.integrations.easyedit import activate
from easyedit_rep.integrations.session import Bridge

pytestmark = pytest.mark.easyedit

OPTIONS = {
    "MEMIT": {"mom2_update_weight": 1000},
    "EMMET": {"mom2_update_weight": 1000},
    "ROME": {},
}


@pytest.fixture
def make(bench_hparams):
    """Quick hyper-parameters of REP around `base`, for batches of `batch_size`."""

    def make(base: str, batch_size: int, steps: int = 5) -> REPHyperParams:
        h = bench_hparams(v_num_grad_steps=steps)
        layers = [1] if base == "ROME" else [1, 2]
        rep = replace(h.rep, base=base)
        return REPHyperParams(**{**vars(h), "rep": rep, "method": OPTIONS[base], "layers": layers, "batch_size": batch_size})

    return make


def same(before: dict, after: dict) -> bool:
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("base", OPTIONS)
def test_batches_come_out_again_bit_for_bit(base, make, columns, easyeditor, snapshot):
    editor = easyeditor.BaseEditor.from_hparams(make(base, 2, steps=30))
    before = snapshot(editor.model)
    metrics, model, restore = editor.batch_edit(**columns(3), verbose=False)
    assert model is editor.model
    assert same(before, snapshot(model))
    restore()  # again does nothing
    assert same(before, snapshot(model))
    assert [row["case_id"] for row in metrics] == [0, 1, 0], "EasyEdit numbers within a batch"
    assert [row["post"]["rewrite_acc"] for row in metrics] == [[1.0]] * 3
    for row in metrics:
        assert "neighborhood_acc" in row["post"]["locality"]
        assert row["pre"]["robustness"]["success"] == [0.0]
        assert row["post"]["robustness"]["success"] == [1.0]
    json.dumps(metrics)


def test_a_batch_is_one_edit_and_stays_if_sequential(make, columns, easyeditor, snapshot):
    editor = easyeditor.BaseEditor.from_hparams(make("MEMIT", 2))
    before = snapshot(editor.model)
    _, model, restore = editor.batch_edit(**columns(4), sequential_edit=True, verbose=False)
    (session,) = Bridge.of(model).sessions.values()
    assert [len(edit.requests) for edit in session.editor.ledger.edits] == [2, 2]
    assert not same(before, snapshot(model))
    restore()
    assert [len(edit.requests) for edit in session.editor.ledger.edits] == [2]
    session.editor.ledger.undo_all()
    assert same(before, snapshot(model))


def test_padding_side_does_not_matter(make, columns, easyeditor, snapshot):
    editor = easyeditor.BaseEditor.from_hparams(make("MEMIT", 3))
    assert editor.tok.padding_side == "left", "EasyEdit's list of methods that need the right side is closed"
    found = []
    for side in ("left", "right"):
        editor.tok.padding_side = side
        _, model, restore = editor.batch_edit(**columns(3), sequential_edit=True, verbose=False)
        found.append([value for _, value in sorted(snapshot(model).items())])  # not by name, for edits are numbered
        restore()
    assert all(torch.equal(left, right) for left, right in zip(*found, strict=True))


def test_a_base_that_writes_one_fact_at_a_time_says_so(make, columns, easyeditor, caplog):
    editor = easyeditor.BaseEditor.from_hparams(make("ROME", 2))
    with caplog.at_level("INFO", "easyedit_rep"):
        editor.batch_edit(**columns(2), verbose=False)
    assert caplog.messages.count("ROME writes one fact at a time, so these 2 are written in turn") == 1


def test_list_is_extended_once_and_in_place(easyeditor, monkeypatch):
    batches = importlib.import_module("easyeditor.editors.batch_editor").BatchEditor
    activate()
    extended = batches.is_batchable_method
    activate()
    assert batches.is_batchable_method is extended
    answers = {name: extended(name) for name in easyeditor.ALG_DICT}
    assert answers.pop("REP") is answers.pop("D4S") is True
    assert answers == {name: extended.__wrapped__(name) for name in answers}
    assert answers["MEMIT"] and not answers["ROME"]


def test_normal_edit_is_refused_before_anything_is_changed(make, columns, easyeditor, snapshot):
    """It passes no subjects, so no locate-and-edit method can run in it, and it would restore weights from a dictionary."""
    editor = easyeditor.BaseEditor.from_hparams(make("MEMIT", 2))
    before = snapshot(editor.model)
    some = columns(2)
    with pytest.raises(EditError, match="lacks subject"):
        editor.normal_edit(some["prompts"], some["target_new"])
    assert same(before, snapshot(editor.model))


@pytest.mark.parametrize("size", [0, -1])
def test_batch_size_that_is_none_is_refused(make, size):
    with pytest.raises(EditError, match="batch_size"):
        make("MEMIT", size)
