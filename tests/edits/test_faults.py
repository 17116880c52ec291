"""What is damaged, of another model, or in conflict is refused in one line and nothing is touched; a failed save leaves the last one."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from easyedit_rep import EditError, files, load_edits
from easyedit_rep.anatomy import Anatomy
from easyedit_rep.edits.artefact import CONFIG, RECORD, TENSORS, Artefact
from easyedit_rep.ledger import Ledger
from easyedit_rep.pathway.model import layers_of


def bits(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def untouched(model, before):
    now = bits(model)
    return now.keys() == before.keys() and all(torch.equal(now[n], before[n]) for n in now) and not hasattr(model, "peft_config")


def refused(model, source, match, **options):
    before = bits(model)
    with pytest.raises(EditError, match=match) as caught:
        load_edits(model, source, **options)
    assert "\n" not in str(caught.value)
    assert untouched(model, before)


@pytest.fixture
def saved(carrying, tmp_path):
    carrying({"layers": (1, 2)}, {"pathways": 0})[1].save(tmp_path / "edits")
    return tmp_path / "edits"


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file(saved, llama, share):
    cut(saved / TENSORS, share)
    refused(llama, saved, f"{TENSORS} is corrupted or cut short .* restore it from a copy")


@pytest.mark.parametrize("where", [-1, -1000, -5000])
def test_a_flipped_bit(saved, llama, where):
    data = bytearray((saved / TENSORS).read_bytes())
    data[where] ^= 1
    (saved / TENSORS).write_bytes(data)
    refused(llama, saved, "is corrupted .its digest is not the one recorded")


def test_a_changed_letter_of_the_record(saved, llama):
    data = (saved / TENSORS).read_bytes()
    assert data.count(b"Town 0")
    (saved / TENSORS).write_bytes(data.replace(b"Town 0", b"Town 9"))
    refused(llama, saved, "is corrupted or cut short .its record is not the one that was written")


def test_nothing_there(tmp_path, llama):
    refused(llama, tmp_path, "holds no saved edits")
    refused(llama, tmp_path / "missing", "holds no saved edits")


def test_a_file_of_peft_or_of_a_later_version(saved, llama):
    tensors = load_file(saved / TENSORS)
    save_file(tensors, saved / TENSORS, metadata={"format": "pt"})
    refused(llama, saved, "was not saved by easyedit_rep: load it with PeftModel")
    later = json.dumps({"format": 99})
    seal = hashlib.sha256(later.encode()).hexdigest()
    save_file(tensors, saved / TENSORS, metadata={"easyedit_rep": later, "easyedit_rep_sha256": seal})
    refused(llama, saved, "has format 99")


def test_a_pickle_is_never_opened(saved, llama):
    (saved / TENSORS).rename(saved / "adapter_model.bin")
    refused(llama, saved, f"{TENSORS} is missing")


def test_other_weights_are_refused_by_name(saved, make_model, make_random, logits):
    refused(make_model("llama", seed=1), saved, r"belongs to other weights, .*model.layers.1.mlp.down_proj.weight: sha256 .* pass force")
    refused(make_model("llama").to(torch.bfloat16), saved, "float32 there, bfloat16 here")
    refused(make_model("llama", intermediate_size=40), saved, r"shape \(32, 48\) there, \(32, 40\) here")
    refused(make_model("llama", intermediate_size=40), saved, r"shape \(32, 48\)", force=True)
    refused(make_model("gpt2"), saved, "is not in GPT2LMHeadModel")
    one = make_model("llama")
    with torch.no_grad():
        Anatomy(one).weight(2)[3, 4] += 1e-3
    refused(one, saved, r"\(model.layers.2.mlp.down_proj.weight: sha256")
    before = bits(one)
    edits = load_edits(one, saved, force=True)
    assert not torch.equal(bits(one)["model.layers.2.mlp.down_proj.weight"], before["model.layers.2.mlp.down_proj.weight"])
    edits[0].ledger.undo_all()
    assert untouched(one, before)


def test_an_edited_model_is_asked_for_its_original_weights(saved, make_model, make_random, logits):
    model = make_model("llama")
    other = Ledger.of(model, Anatomy(model)).apply(make_random(model, 7))
    edits = load_edits(model, saved)
    assert edits[0].name not in (other.name, edits[1].name)
    other.undo()
    alone = make_model("llama")
    load_edits(alone, saved)
    assert torch.allclose(logits(model), logits(alone), atol=1e-5)


def test_a_quantised_weight_is_refused_with_the_way_out(saved, make_model):
    model = make_model("llama")
    model.model.layers[1].mlp.down_proj.weight = torch.nn.Parameter(torch.zeros(32, 48, dtype=torch.int8), requires_grad=False)
    with pytest.raises(EditError, match=r"is quantised \(Linear, int8\): .* PeftModel.from_pretrained"):
        load_edits(model, saved)


def test_two_edits_of_one_fact(saved, make_model, make_random, logits):
    model = make_model("llama")
    (first, _) = load_edits(model, saved)
    standing = logits(model)
    with pytest.raises(EditError, match=r"already carries an edit of 'Person 0 lives in' → 'Town 0'; .* 'replace' .* 'stack'"):
        load_edits(model, saved)
    assert torch.equal(logits(model), standing)
    again = load_edits(model, saved, conflict="replace")
    assert not first.active and all(edit.active for edit in again)
    assert torch.equal(logits(model), standing)
    load_edits(model, saved, conflict="stack")
    assert len(again[0].ledger.handles) == 4
    assert not torch.equal(logits(model), standing)
    with pytest.raises(EditError, match="conflict: 'maybe' is not one of"):
        load_edits(model, saved, conflict="maybe")


def test_replacing_one_fact_of_a_batch_is_refused(saved, make_model, make_random):
    model = make_model("llama")
    batch = make_random(model, 5)
    batch.requests = (*make_random(model, 0).requests, *batch.requests)
    Ledger.of(model, Anatomy(model)).apply(batch)
    with pytest.raises(EditError, match="would also take out 1 other facts of the same edit, 'Person 5 lives in'"):
        load_edits(model, saved, conflict="replace")
    assert batch.active


def test_a_load_that_fails_half_way_gives_everything_back(saved, make_model, make_random, monkeypatch, logits):
    model = make_model("llama")
    ledger = Ledger.of(model, Anatomy(model))
    standing = ledger.apply(make_random(model, 0, pathways=0))  # the fact of the first of the file
    later = ledger.apply(make_random(model, 8))
    before, apply = logits(model), Ledger.apply

    def failing(self, edit, name=None):
        if edit.requests[0].subject == "Person 1":
            raise MemoryError
        return apply(self, edit, name)

    monkeypatch.setattr(Ledger, "apply", failing)
    with pytest.raises(MemoryError):
        load_edits(model, saved, conflict="replace")
    monkeypatch.undo()
    assert ledger.handles == [standing, later] and torch.equal(logits(model), before)
    ledger.undo_all()
    assert not layers_of(model)


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("what", ["fsync", "replace"])
def test_a_kill_during_a_save_leaves_the_old_edits_or_the_new(carrying, make_model, make_random, tmp_path, monkeypatch, what, at, logits):
    model, ledger, (_edit,) = carrying({})
    ledger.save(tmp_path)
    old = logits(model)
    ledger.apply(make_random(model, 9, layers=(0,)))
    new = logits(model)
    calls, real = [], getattr(os, what)

    def killed(*args, **kwargs):
        calls.append(args)
        if len(calls) > at:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(files.os, what, killed)
    try:
        ledger.save(tmp_path)
        whole = True
    except KeyboardInterrupt:
        whole = False
    monkeypatch.undo()
    twin = make_model("llama")
    load_edits(twin, tmp_path)
    found = logits(twin)
    assert torch.equal(found, new) if whole else (torch.equal(found, old) or torch.equal(found, new))
    assert not list(tmp_path.glob("*.tmp*"))
    if what == "fsync" and not whole:
        assert torch.equal(found, old)


@pytest.mark.parametrize("at", range(3))
def test_a_full_disk_keeps_the_old_edits(carrying, make_model, tmp_path, monkeypatch, at, logits):
    _model, ledger, (edit,) = carrying({})
    ledger.save(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in (TENSORS, CONFIG, RECORD)}
    calls, real = [], os.fsync

    def full(fd):
        calls.append(fd)
        if len(calls) > at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(EditError, match=r"cannot save to .* \(No space left on device\): what was there is kept"):
        edit.save(tmp_path)
    monkeypatch.undo()
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(before)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_edited_record_is_told_and_does_not_count(saved, llama, caplog, encoding):
    record = json.loads((saved / RECORD).read_text())
    record["edits"][0]["requests"][0]["target_new"] = "Elsewhere"
    (saved / RECORD).write_bytes(json.dumps(record).encode(encoding))
    with caplog.at_level("WARNING"):
        (edit, _) = load_edits(llama, saved)
    assert "is not what was saved with" in caplog.text
    assert edit.requests[0].target_new == "Town 0"


def test_what_is_not_in_a_model_cannot_be_saved(carrying, tmp_path):
    _, ledger, (edit,) = carrying({})
    edit.undo()
    with pytest.raises(EditError, match="edit edit0 is not in a model: save it before undo"):
        edit.save(tmp_path)
    with pytest.raises(EditError, match="carries no edit"):
        ledger.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_weight_changed_outside_is_not_saved_over(carrying, tmp_path):
    model, ledger, _ = carrying({})
    with torch.no_grad():
        Anatomy(model).weight(1).add_(1)
    with pytest.raises(EditError, match="was changed outside the ledger"):
        ledger.save(tmp_path)


def test_a_file_that_is_cut_later_takes_nothing_from_the_model(saved, make_model, logits):
    model = make_model("llama")
    edits = load_edits(model, saved)
    with (saved / TENSORS).open("rb+") as file:  # in place, as `rsync --inplace` does: what maps the file would be killed
        file.truncate(100)
    edits[0].undo()
    for edit in edits[1:]:
        edit.undo()
    assert torch.equal(logits(model), logits(make_model("llama")))


def test_edits_leave_a_file(saved, make_model, make_random, tmp_path, logits):
    Artefact.read(saved).without(0).write(tmp_path / "less")
    model, alone = make_model("llama"), make_model("llama")
    (_edit,) = load_edits(model, tmp_path / "less")
    Ledger.of(alone, Anatomy(alone)).apply(make_random(alone, 1, pathways=0))
    assert torch.equal(logits(model), logits(alone))
    for places, match in (((5,), "there is no edit 5: the file holds 2"), ((0, 1), "no edit would be left")):
        with pytest.raises(EditError, match=match):
            Artefact.read(saved).without(*places)


def test_a_sequence_replaces_another_or_is_refused(make_editor, facts, tmp_path, logits, monkeypatch):
    """A model holds one sequence: the one of a file takes its place where each of its facts is edited anew, and not else."""
    editor = make_editor("D4S", pathways=False)
    for fact in facts[:2]:
        editor.apply(fact)
    editor.ledger.save(tmp_path)
    want = logits(editor.model)
    load_edits(editor.model, tmp_path, conflict="replace")
    assert torch.allclose(logits(editor.model), want, atol=1e-6) and len(editor.ledger.handles) == 2
    monkeypatch.setattr(Ledger, "attach", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        load_edits(make_editor("D4S", pathways=False).model, tmp_path)
    monkeypatch.undo()
    editor.apply(facts[2])
    with pytest.raises(EditError, match=r"carries a sequence of 3 edits, and .* holds another: undo the one there first"):
        load_edits(editor.model, tmp_path, conflict="replace")
    assert len(editor.ledger.handles) == 3
