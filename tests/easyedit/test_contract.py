"""What REP relies on in EasyEdit: a change there is one line that says what broke, before anything is registered."""

import copy
import importlib

import pytest
import torch

from easyedit_rep import EditError, EditRequest
from easyedit_rep.integrations import doctor
from easyedit_rep.integrations.contract import EDITOR_POINTS, SCRIPT_POINTS
from easyedit_rep.integrations.easyedit import activate
from easyedit_rep.integrations.engine import prepared
from easyedit_rep.integrations.session import Bridge, apply_rep_to_model

pytestmark = pytest.mark.easyedit

RECORD = {"prompt": "The mother tongue of Danielle Darrieux is", "subject": "Danielle Darrieux", "target_new": "music"}
WEIGHT = "model.layers.1.mlp.down_proj.weight"
EDITOR, UTILS, ALGORITHMS = "easyeditor.editors.editor", "easyeditor.editors.utils", "easyeditor.util.alg_dict"
BATCHES = "easyeditor.editors.batch_editor"
CHANGES = [
    (UTILS, "CALLABLE_RESTORE_ALGS", None, "no CALLABLE_RESTORE_ALGS, so edits could not be undone"),
    (UTILS, "CALLABLE_RESTORE_ALGS", ("KN",), "CALLABLE_RESTORE_ALGS is a tuple, so edits could not be undone"),
    (ALGORITHMS, "ALG_DICT", None, "no ALG_DICT, so BaseEditor would not know REP"),
    (EDITOR, "ALG_DICT", {}, "ALG_DICT is not the shared one"),
    (EDITOR, "BaseEditor", None, "no BaseEditor"),
    (EDITOR, "restore_after_edit", None, "no restore_after_edit, so edits could not be undone"),
    (EDITOR, "compute_edit_quality", None, "no compute_edit_quality, so robustness could not be measured"),
    (EDITOR, "compute_edit_quality", lambda model, tok: {}, "no argument hparams, record"),
    (BATCHES, "BatchEditor", None, "no BatchEditor, so batch_edit would refuse REP"),
    (BATCHES, "BatchEditor", dict, "BatchEditor is not the shared one"),
]


@pytest.mark.parametrize(("module", "name", "value", "message"), CHANGES, ids=lambda x: x if isinstance(x, str) and " " not in x else "")
def test_change_is_one_line(module, name, value, message, make_hparams, monkeypatch):
    place = importlib.import_module(module)
    if value is None:
        monkeypatch.delattr(place, name)
    else:
        monkeypatch.setattr(place, name, value)
    algorithms = importlib.import_module("easyeditor").ALG_DICT
    monkeypatch.delitem(algorithms, "REP", raising=False)
    with pytest.raises(EditError, match=message) as caught:
        _ = make_hparams().alg_name  # as BaseEditor reads it
    assert str(caught.value).startswith("EasyEdit has changed: ")
    assert "\n" not in str(caught.value)
    assert "REP" not in algorithms


def test_doctor_finds_all_of_it(easyeditor):
    found = list(doctor.easyedit(doctor.declared()[2], required=True))
    assert not [finding for finding in found if finding.state == "wrong"]
    contract = [finding for finding in found if "contract" in finding.section]
    assert len(contract) >= len(EDITOR_POINTS) + len(SCRIPT_POINTS) + 4


def test_changed_cache_is_refused(make_model, make_memory, make_hparams, tok, monkeypatch):
    monkeypatch.delattr(importlib.import_module("easyeditor.models.rome.compute_u"), "inv_mom2_cache")
    with pytest.raises(EditError, match="no inv_mom2_cache"), prepared(make_memory(make_model("llama"), tok), make_hparams()):
        pass


def test_activation_is_idempotent(easyeditor, make_hparams):
    editor = importlib.import_module(EDITOR)
    assert make_hparams().alg_name == "REP"
    wrapped = editor.compute_edit_quality
    activate()
    assert editor.compute_edit_quality is wrapped
    assert easyeditor.ALG_DICT["REP"] is apply_rep_to_model


@pytest.fixture
def hparams(make_hparams, texts, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(texts))
    hparams = make_hparams()
    hparams.rep.corpus = str(path)
    return hparams


def test_second_call_reuses_the_session(llama, tok, hparams):
    for _ in range(2):
        model, restore = apply_rep_to_model(llama, tok, [RECORD], hparams)
        (session,) = Bridge.of(model).sessions.values()
        memory = session.editor.memory
        restore()
    assert session.editor.memory is memory
    assert not session.editor.ledger.edits


def test_copy_leaves_the_model_alone(llama, tok, hparams, snapshot):
    before = snapshot(llama)
    twin, restore = apply_rep_to_model(llama, tok, [RECORD], hparams, copy=True)
    assert twin is not llama
    assert not torch.equal(twin.get_parameter(WEIGHT), before[WEIGHT])
    assert snapshot(llama).keys() == before.keys()
    assert all(torch.equal(before[name], value) for name, value in snapshot(llama).items())
    restore()
    assert all(torch.equal(before[name], value) for name, value in snapshot(twin).items())


def test_copy_of_an_edited_model_carries_its_edits(llama, tok, hparams, snapshot):
    before = snapshot(llama)
    _, first = apply_rep_to_model(llama, tok, [RECORD], hparams)
    edited = snapshot(llama)
    other = {**RECORD, "subject": "Ann Lee", "prompt": "The mother tongue of Ann Lee is"}
    twin, second = apply_rep_to_model(llama, tok, [other], hparams, copy=True)
    assert all(torch.equal(edited[name], value) for name, value in snapshot(llama).items())
    second()
    assert all(torch.equal(edited[name], value) for name, value in snapshot(twin).items())
    (session,) = Bridge.of(twin).sessions.values()
    session.editor.ledger.undo_all()
    first()
    for model in (twin, llama):
        assert snapshot(model).keys() == before.keys()
        assert all(torch.equal(before[name], value) for name, value in snapshot(model).items())


def test_sessions_do_not_follow_a_copied_model(llama, tok, hparams):
    _, restore = apply_rep_to_model(llama, tok, [RECORD], hparams)
    restore()
    assert not Bridge.of(copy.deepcopy(llama)).sessions


def test_bad_request_of_many_changes_nothing(llama, tok, hparams, snapshot):
    before = snapshot(llama)
    with pytest.raises(EditError, match="empty"):
        apply_rep_to_model(llama, tok, [RECORD, {**RECORD, "target_new": " "}], hparams)
    assert all(torch.equal(before[name], value) for name, value in snapshot(llama).items())


def test_failure_half_way_takes_the_first_edits_out(llama, tok, hparams, snapshot, monkeypatch):
    before = snapshot(llama)
    base_edit = importlib.import_module("easyedit_rep.editor").RobustEditor.base_edit
    asked = []

    def fail_on_second(self, *requests: EditRequest):
        asked.append(requests)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return base_edit(self, *requests)

    monkeypatch.setattr("easyedit_rep.editor.RobustEditor.base_edit", fail_on_second)
    with pytest.raises(KeyboardInterrupt):
        apply_rep_to_model(llama, tok, [RECORD, RECORD], hparams)
    assert snapshot(llama).keys() == before.keys()
    assert all(torch.equal(before[name], value) for name, value in snapshot(llama).items())
