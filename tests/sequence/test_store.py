"""A saved sequence goes on bit for bit, survives being cut at any write, and is refused where it does not belong."""

import os
from dataclasses import replace

import pytest
import torch

from easyedit_rep import files
from easyedit_rep.errors import EditError
from easyedit_rep.pathway.closed import ClosedForm
from easyedit_rep.pathway.model import layers_of
from easyedit_rep.pathway.training import PathwayTraining
from easyedit_rep.rep_options import PathwayShape
from easyedit_rep.request import EditRequest, Question
from easyedit_rep.sequence.store import load_sequence, save_sequence


def logits(editor):
    with torch.no_grad():
        return editor.model(input_ids=torch.tensor([[1, 17, 40, 99, 7, 250]])).logits


@pytest.mark.parametrize("pathways", [False, True])
@pytest.mark.parametrize("form", ["pairs", "recursive"])
def test_goes_on_bit_for_bit(make_editor, tmp_path, form, pathways, requests, weights):
    whole = make_editor(form=form, pathways=pathways)
    for request in requests:
        whole.apply(request)
    first = make_editor(form=form, pathways=pathways)
    for request in requests[:3]:
        first.apply(request)
    save_sequence(first.sequence, tmp_path)
    again = make_editor(form=form, pathways=pathways)
    load_sequence(again.sequence, tmp_path)
    assert torch.equal(logits(again), logits(first))
    for request in requests[3:]:
        again.apply(request)
    assert all(torch.equal(value, weights(whole)[i]) for i, value in weights(again).items())
    assert torch.equal(logits(again), logits(whole))
    assert [e.name for e in again.sequence.edits] == [e.name for e in whole.sequence.edits]
    for edit in (whole.sequence.edits[1], again.sequence.edits[1]):
        edit.undo()
    assert torch.equal(logits(again), logits(whole))
    for edit in list(again.sequence.edits):
        edit.undo()
    assert all(torch.equal(value, weights(make_editor())[i]) for i, value in weights(again).items())
    assert not layers_of(again.model)


def test_pathways_that_know_their_neighbours_go_on_bit_for_bit(make_editor, tmp_path, requests):
    """A gate is told the names of the edits before it, which a run that was taken up reads from its files."""

    def taught(neighbours=9):
        editor = make_editor(pathways=True)
        shape, training = PathwayShape(kind="closed"), PathwayTraining(other_subjects=8, neighbours=neighbours)
        closed = ClosedForm(false_fire=0.01, hard_share=0.5)
        editor.hparams.rep = replace(editor.hparams.rep, pathway=shape, training=training, closed=closed, text_tokens=600)
        return editor

    def gates(editor):
        return [p.tensors[0]["rep_gate.weight"] for e in editor.sequence.edits for p in e.pathways]

    requests = [replace(r, subject_rephrase=(f"the {r.subject}", f"one {r.subject}")) for r in requests[:3]]
    whole, first, again, alone = taught(), taught(), taught(), taught(0)
    for editor, some in ((whole, requests), (first, requests[:2]), (alone, requests)):
        for request in some:
            editor.apply(request)
    save_sequence(first.sequence, tmp_path)
    load_sequence(again.sequence, tmp_path)
    again.apply(requests[2])
    assert all(torch.equal(a, b) for a, b in zip(gates(again), gates(whole), strict=True))
    assert torch.equal(gates(alone)[0], gates(whole)[0]) and not torch.equal(gates(alone)[2], gates(whole)[2])


def test_what_is_kept_of_an_edit(make_editor, tmp_path):
    request = EditRequest(
        "{} plays the",
        "Ann Lee",
        "piano",
        "guitar",
        ("Ann Lee's instrument is",),
        {"near": (Question("Ann Smith plays the", "drums"),)},
        {},
        ("A. Lee",),
    )
    editor, again = make_editor(), make_editor()
    edit = editor.apply(request)
    save_sequence(editor.sequence, tmp_path)
    load_sequence(again.sequence, tmp_path)
    (found,) = again.sequence.edits
    assert found.requests == (request,)
    assert found.seconds == edit.seconds
    assert found.info["norms"] == edit.info["norms"]
    assert found.info["base"] == edit.info["base"]
    assert torch.equal(found.deltas[1].dense(), edit.deltas[1].dense())


@pytest.mark.parametrize("stop", range(6))
def test_a_kill_at_any_write_leaves_the_last_save(make_editor, tmp_path, monkeypatch, stop, requests):
    editor = make_editor()
    editor.apply(requests[0])
    save_sequence(editor.sequence, tmp_path)
    saved = logits(editor)
    for request in requests[1:3]:
        editor.apply(request)
    count, real = [], os.fsync

    def killed(descriptor):
        count.append(descriptor)
        if len(count) > stop:
            raise KeyboardInterrupt
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", killed)
    try:
        save_sequence(editor.sequence, tmp_path)
        want = logits(editor)
    except KeyboardInterrupt:
        want = saved
    monkeypatch.setattr(files.os, "fsync", real)
    again = make_editor()
    load_sequence(again.sequence, tmp_path)
    assert torch.equal(logits(again), want)
    save_sequence(editor.sequence, tmp_path)
    assert len(list(tmp_path.glob("state-*"))) == 1
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4


def test_files_of_removed_edits_go(make_editor, tmp_path, requests):
    editor = make_editor()
    edits = [editor.apply(request) for request in requests[:3]]
    save_sequence(editor.sequence, tmp_path)
    edits[1].undo()
    save_sequence(editor.sequence, tmp_path)
    assert sorted(path.name for path in (tmp_path / "edits").iterdir()) == ["edit0.safetensors", "edit2.safetensors"]


def test_other_weights_options_and_models_are_refused(make_editor, make_model, tmp_path, requests):
    editor = make_editor()
    editor.apply(requests[0])
    save_sequence(editor.sequence, tmp_path)
    model = make_model("llama")
    model.model.layers[2].mlp.down_proj.weight.data[0, 0] += 1
    before = logits(make_editor(model=model))
    with pytest.raises(EditError, match="holds a sequence with another weights than the loaded model and YAML: 2:"):
        load_sequence(make_editor(model=model).sequence, tmp_path)
    assert torch.equal(logits(make_editor(model=model)), before)
    other = make_editor()
    other.hparams.method = replace(other.hparams.method, mom2_update_weight=9.0)
    with pytest.raises(EditError, match=r"another options .* mom2_update_weight: 5.0 there, 9.0 here; load what it was"):
        load_sequence(other.sequence, tmp_path)
    with pytest.raises(EditError, match="already holds 1 edits"):
        load_sequence(editor.sequence, tmp_path)


def test_broken_folders_are_refused(make_editor, tmp_path, requests):
    with pytest.raises(EditError, match="holds no saved sequence"):
        load_sequence(make_editor().sequence, tmp_path)
    editor = make_editor()
    editor.apply(requests[0])
    save_sequence(editor.sequence, tmp_path)
    next(tmp_path.glob("state-*")).unlink()
    with pytest.raises(EditError, match="cannot be read"):
        load_sequence(make_editor().sequence, tmp_path)


def test_an_edit_that_is_not_the_saved_one_is_refused(make_editor, tmp_path, requests):
    editor = make_editor()
    for request in requests[:2]:
        editor.apply(request)
    save_sequence(editor.sequence, tmp_path)
    one, two = sorted((tmp_path / "edits").iterdir())
    one.write_bytes(two.read_bytes())  # as a copy of half of another run would have it
    with pytest.raises(EditError, match=r"cannot be read \(edits/edit0.safetensors is not the one that was saved with it\): restore"):
        load_sequence(make_editor().sequence, tmp_path)


def test_a_full_disk_is_one_line_and_keeps_the_last_save(make_editor, tmp_path, monkeypatch, requests):
    editor = make_editor()
    editor.apply(requests[0])
    save_sequence(editor.sequence, tmp_path)
    editor.apply(requests[1])

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(EditError, match=r"cannot save the sequence to .* \(No space left on device\): the last save is kept"):
        save_sequence(editor.sequence, tmp_path)
    again = make_editor()
    load_sequence(again.sequence, tmp_path)
    assert len(again.sequence.edits) == 1


def test_an_edit_whose_name_is_taken_gets_another(make_editor, tmp_path, requests, weights):
    first = make_editor(pathways=True)
    first.apply(requests[0])
    save_sequence(first.sequence, tmp_path)
    editor = make_editor(pathways=True)
    other = first.robustify(first.base_edit(requests[1]))
    other = editor.ledger.apply(replace(other, pairs={}))
    editor.memory  # noqa: B018 (C belongs to the unedited model)
    load_sequence(editor.sequence, tmp_path)
    (edit,) = editor.sequence.edits
    assert (other.name, edit.name) == ("edit0", "edit1")
    edit.undo()
    assert set(layers_of(editor.model)[editor.anatomy.rewrite_name(1)].rep_count) == set(other.pathway_names)
    with pytest.raises(EditError, match="already carries an edit called edit0"):
        editor.ledger.attach(replace(other, ledger=None), "edit0")
    other.undo()
    assert not layers_of(editor.model)


def test_another_pathway_of_the_same_pairs_is_written_anew(make_editor, tmp_path, requests):
    for pathways in (False, True):
        editor = make_editor(pathways=pathways)
        editor.apply(requests[0])
        save_sequence(editor.sequence, tmp_path)
    again = make_editor(pathways=True)
    load_sequence(again.sequence, tmp_path)
    assert len(again.sequence.edits[0].pathways) == 1
    assert torch.equal(logits(again), logits(editor))
