"""`engine: easyedit`: EasyEdit's own edit, with a pathway around it, leaving nothing behind in EasyEdit."""

import importlib
from dataclasses import replace

import pytest
import torch

from easyedit_rep import EditError, EditRequest, RobustEditor
from easyedit_rep.integrations.engine import prepared, solve, their_request

pytestmark = pytest.mark.easyedit

REQUEST = EditRequest("The mother tongue of Danielle Darrieux is", "Danielle Darrieux", "music")
ROME_MAIN, COMPUTE_U = "easyeditor.models.rome.rome_main", "easyeditor.models.rome.compute_u"


@pytest.fixture(params=["gpt2", "llama"])
def memory(request, make_model, make_memory, tok):
    return make_memory(make_model(request.param), tok)


@pytest.fixture
def hparams(make_hparams):
    hparams = make_hparams()
    hparams.rep = replace(hparams.rep, engine="easyedit")
    return hparams


def test_applied_deltas_are_easyedits_weights(memory, hparams, easyeditor, snapshot):
    model, weight = memory.anatomy.model, memory.anatomy.weight(1)
    before, version = snapshot(model), weight._version
    (delta,) = solve(memory, hparams, [REQUEST]).deltas.values()
    assert weight is memory.anatomy.weight(1)
    assert weight._version == version
    assert weight.requires_grad
    for name, value in snapshot(model).items():
        assert torch.equal(before[name], value)
    delta.add_to(weight)
    ours = weight.detach().clone()
    with torch.no_grad():
        weight.copy_(before[memory.anatomy.weight_name(1)])
    with prepared(memory, hparams) as theirs:
        easyeditor.ALG_DICT["ROME"](model, memory.tok, [their_request(REQUEST, "ROME")], theirs)
    assert not torch.equal(weight, before[memory.anatomy.weight_name(1)])
    assert torch.equal(ours, weight)


def test_nothing_stays_in_easyedit_or_the_tokenizer(memory, hparams, monkeypatch, capsys):
    main, compute_u = importlib.import_module(ROME_MAIN), importlib.import_module(COMPUTE_U)
    contexts, inverses = ["someone else's {}"], {"someone": "else"}
    monkeypatch.setattr(main, "CONTEXT_TEMPLATES_CACHE", contexts)
    monkeypatch.setattr(compute_u, "inv_mom2_cache", inverses)
    monkeypatch.setattr(memory.tok, "padding_side", "left")
    solve(memory, hparams, [REQUEST])
    assert main.CONTEXT_TEMPLATES_CACHE is contexts
    assert compute_u.inv_mom2_cache is inverses
    assert inverses == {"someone": "else"}
    assert memory.tok.padding_side == "left"
    assert capsys.readouterr().out == ""


def test_padding_side_does_not_matter(memory, hparams, monkeypatch):
    right = solve(memory, hparams, [REQUEST]).deltas[1].dense()
    monkeypatch.setattr(memory.tok, "padding_side", "left")
    assert torch.equal(solve(memory, hparams, [REQUEST]).deltas[1].dense(), right)


def test_keys_are_the_mean_over_contexts(memory, hparams):
    rows = memory.context_keys([REQUEST.located], [1])[1]
    assert torch.equal(solve(memory, hparams, [REQUEST]).keys[1], rows.mean(1))


def test_robust_edits_stack_and_come_out_in_any_order(bench_hparams, bench_editor, facts, snapshot):
    hparams = bench_hparams()
    hparams.rep = replace(hparams.rep, engine="easyedit")
    editor = RobustEditor(hparams, bench_editor.model, bench_editor.tok)
    before = snapshot(editor.model)
    first, second = editor.apply(facts[0]), editor.apply(facts[1])
    first.undo()
    second.undo()
    after = snapshot(editor.model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_braces_are_refused(memory, hparams):
    with pytest.raises(EditError, match="use engine: native"):
        solve(memory, hparams, [EditRequest("We write {braces} about Ann Lee in", "Ann Lee", "London")])


def test_unknown_base_is_refused(memory, hparams):
    hparams.rep = replace(hparams.rep, base="FT")
    with pytest.raises(EditError, match="FT"):
        solve(memory, hparams, [REQUEST])
