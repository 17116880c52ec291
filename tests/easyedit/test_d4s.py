"""D4S through the unmodified `BaseEditor`: a sequence stays and is one; single edits are restored and forgotten."""

from dataclasses import replace

import pytest
import torch

from easyedit_rep import D4SHyperParams, EditError
from easyedit_rep.integrations.session import Session, apply_rep_to_model

pytestmark = pytest.mark.easyedit


@pytest.fixture
def make(bench_hparams):
    def make(batch_size: int = 1, pathways: bool = False) -> D4SHyperParams:
        h = bench_hparams()
        rep = replace(h.rep, base="D4S", pathways=pathways)
        method = {"mom2_update_weight": 1000.0}
        return D4SHyperParams(
            **{**vars(h), "rep": rep, "method": method, "layers": [1, 2, 3], "batch_size": batch_size, "clamp_norm_factor": 1.0}
        )

    return make


def same(before, after):
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("pathways", [False, True])
def test_a_sequence_stays(make, columns, easyeditor, snapshot, pathways):
    hparams = make(pathways=pathways)
    editor = easyeditor.BaseEditor.from_hparams(hparams)
    before = snapshot(editor.model)
    metrics, model, _ = editor.edit(**columns(3), sequential_edit=True, verbose=False)
    assert [row["post"]["rewrite_acc"] for row in metrics] == [[1.0]] * 3
    sequence = Session.of(model, editor.tok, hparams).editor.sequence
    assert [state.count for state in sequence.states.values()] == [3, 3, 3]
    editor.edit(**columns(1), sequential_edit=True, verbose=False)
    assert len(sequence.edits) == 4
    for edit in list(sequence.edits):
        edit.undo()
    assert same(before, snapshot(model))


def test_single_edits_are_restored_and_forgotten(make, columns, easyeditor, snapshot):
    hparams = make()
    editor = easyeditor.BaseEditor.from_hparams(hparams)
    before = snapshot(editor.model)
    metrics, model, _ = editor.edit(**columns(2), verbose=False)
    assert [row["post"]["rewrite_acc"] for row in metrics] == [[1.0]] * 2
    assert same(before, snapshot(model))
    assert not Session.of(model, editor.tok, hparams).editor.sequence.edits


def test_batches(make, columns, easyeditor, snapshot):
    hparams = make(batch_size=2)
    editor = easyeditor.BaseEditor.from_hparams(hparams)
    before = snapshot(editor.model)
    _, model, _ = editor.batch_edit(**columns(3), sequential_edit=True, verbose=False)
    sequence = Session.of(model, editor.tok, hparams).editor.sequence
    assert [len(edit.requests) for edit in sequence.edits] == [2, 1]
    sequence.edits[1].undo()
    sequence.edits[0].undo()
    assert same(before, snapshot(model))


def test_a_second_editor_starts_empty_and_a_copy_is_refused(make, columns, easyeditor):
    hparams = make()
    editor = easyeditor.BaseEditor.from_hparams(hparams)
    editor.edit(**columns(1), sequential_edit=True, verbose=False)
    other = easyeditor.BaseEditor.from_hparams(make())
    other.edit(**columns(1), sequential_edit=True, verbose=False)
    for one in (editor, other):
        assert len(Session.of(one.model, one.tok, one.hparams).editor.sequence.edits) == 1
    request = {"prompt": "Ann Lee plays the", "subject": "Ann Lee", "target_new": "piano"}
    with pytest.raises(EditError, match="holds a sequence of 1 edits"):
        apply_rep_to_model(editor.model, editor.tok, [request], hparams, copy=True)
