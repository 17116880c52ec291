"""D4S on tiny models: equal to the released algorithm, exact when edits leave, one among other edits in the ledger."""

import copy
from dataclasses import replace

import pytest
import torch

from easyedit_rep import load_edits
from easyedit_rep.anatomy import Anatomy
from easyedit_rep.edit import Edit
from easyedit_rep.errors import EditError
from easyedit_rep.hparams import D4SHyperParams
from easyedit_rep.ledger import Ledger
from easyedit_rep.memory.delta import Delta
from easyedit_rep.memory.values import ValueConfig, ValueTask, optimise_values
from easyedit_rep.methods import Memory
from easyedit_rep.methods.memit import average
from easyedit_rep.pathway.model import layers_of
from easyedit_rep.rep_options import RepOptions
from easyedit_rep.request import EditRequest
from easyedit_rep.sequence import drift
from easyedit_rep.sequence import kept as kept_module
from easyedit_rep.sequence.state import LayerState

LAYERS = [0, 1, 2]


def released(memory: Memory, hparams, requests) -> dict[int, torch.Tensor]:
    """The released algorithm after `requests`, one by one: S += T Kᵀ, G += K Kᵀ, Δ = S/(m−j) (G + λC)⁻¹, everything in float64."""
    sums = {i: (torch.zeros(32, 48).double(), torch.zeros(48, 48).double()) for i in LAYERS}
    for request in requests:
        twin = Memory(Anatomy(copy.deepcopy(memory.anatomy.model)), memory.tok, memory.contexts, memory.covariances)  # W₀
        task = ValueTask(request.located, request.target_new, memory.contexts)
        (value,) = optimise_values(twin.anatomy, memory.tok, 2, [task], ValueConfig.from_hparams(hparams), block="layer")
        target = value.change.double()[:, None]
        changes = {}
        for j, layer in enumerate(LAYERS):
            key = average(twin.context_keys([request.located], [layer])[layer]).double().T
            sums[layer] = (sums[layer][0] + target @ key.T, sums[layer][1] + key @ key.T)
            system = sums[layer][1] + hparams.method.mom2_update_weight * memory.covariances[layer].moment
            changes[layer] = (sums[layer][0] / (3 - j)) @ torch.linalg.inv(system)
            Delta(changes[layer], None, twin.anatomy.is_transposed(layer)).add_to(twin.anatomy.weight(layer).data)
    return changes


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("form", ["pairs", "recursive"])
def test_equals_the_released_algorithm(make_editor, family, form, requests, weights):
    editor = make_editor(family, form=form)
    original = weights(editor)
    memory = replace(editor.memory, anatomy=Anatomy(copy.deepcopy(editor.model)))
    for request in requests:
        editor.apply(request)
    for layer, want in released(memory, editor.hparams, requests).items():
        found = editor.anatomy.weight(layer).detach().double() - original[layer].double()
        found = found.T if editor.anatomy.is_transposed(layer) else found
        assert ((found - want).norm() / want.norm()).item() < 1e-4
        assert editor.sequence.states[layer].count == 5


def test_the_foreseen_deltas_are_what_the_edit_adds(make_editor, requests, weights):
    editor = make_editor()
    editor.apply(requests[0])
    before = weights(editor)
    edit = editor.apply(requests[1])
    for layer, delta in edit.deltas.items():
        torch.testing.assert_close(editor.anatomy.weight(layer).detach() - before[layer], delta.dense(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("out", [[1], [4, 0], [2, 3, 1]])
def test_what_leaves_was_never_there(make_editor, make_model, out, requests, weights):
    editor = make_editor()
    edits = [editor.apply(request) for request in requests]
    for i in out:
        edits[i].undo()
    other = make_editor()
    for i, edit in enumerate(edits):  # the same pairs; measured once more, they would see other lower layers
        if i not in out:
            other.install(replace(edit, ledger=None, name=""))
    for layer, weight in weights(other).items():
        torch.testing.assert_close(editor.anatomy.weight(layer).detach(), weight, rtol=1e-5, atol=1e-6)
    assert not any(edits[i].active for i in out)


def test_the_last_one_gives_back_the_original_bits(make_editor, requests, weights):
    editor = make_editor(pathways=True)
    ids = torch.tensor([[1, 17, 40, 99, 7]])
    before, logits = weights(editor), editor.model(input_ids=ids).logits
    edits = [editor.apply(request) for request in requests[:3]]
    assert set(next(iter(layers_of(editor.model).values())).rep_down) == {name for e in edits for name in e.pathway_names}
    for i in (1, 2, 0):
        assert not torch.equal(editor.model(input_ids=ids).logits, logits)
        edits[i].undo()
    assert all(torch.equal(value, before[i]) for i, value in weights(editor).items())
    assert torch.equal(editor.model(input_ids=ids).logits, logits)
    assert not layers_of(editor.model)
    assert editor.sequence.states[0].count == 0


def test_replace_is_remove_and_append(make_editor, requests, weights):
    editor, other = make_editor(), make_editor()
    first, second = editor.apply(requests[0]), editor.apply(requests[1])
    update = editor.base_edit(EditRequest("The mother tongue of {} is", "Danielle Darrieux", "music"))
    editor.sequence.replace(first, update)
    for edit in (second, update):
        other.install(replace(edit, ledger=None, name=""))
    for layer, weight in weights(other).items():
        torch.testing.assert_close(editor.anatomy.weight(layer).detach(), weight, rtol=1e-5, atol=1e-6)


def test_a_batch_is_one_edit(make_editor, requests, weights):
    editor = make_editor()
    edit = editor.apply(*requests[:3])
    assert editor.sequence.states[1].count == 3
    before = weights(editor)
    editor.apply(requests[3])
    edit.undo()
    assert editor.sequence.states[1].count == 1
    assert not torch.equal(weights(editor)[1], before[1])


@pytest.mark.parametrize("options", [{"residual": "refresh"}, {"measure_on": "edited"}, {"residual": "refresh", "measure_on": "edited"}])
def test_options_close_the_residual(make_editor, options, requests):
    """With little text and a residual measured where it will be used, the last edit's own z* is reached."""
    editor = make_editor(**options)
    editor.hparams.method = replace(editor.hparams.method, mom2_update_weight=1e-4)
    editor.apply(requests[1])
    before = requests[0]
    edit = editor.base_edit(before)
    editor.install(edit)
    key, residual = edit.pairs[2]
    state = editor.sequence.states[2]
    torch.testing.assert_close(key.double() @ state.change.T, residual.double(), rtol=0.05, atol=0.05 * residual.abs().max().item())


def test_measured_on_the_original_or_the_edited_model(make_editor, requests):
    """On the original the order of edits does not change their first-layer pairs; on the edited model it does."""
    for where, same in (("original", True), ("edited", False)):
        one, two = make_editor(measure_on=where), make_editor(measure_on=where)
        for editor, order in ((one, (0, 1)), (two, (1, 0))):
            for i in order:
                editor.apply(requests[i])
        a = next(e for e in one.sequence.edits if e.requests[0] is requests[1]).pairs[0]
        b = next(e for e in two.sequence.edits if e.requests[0] is requests[1]).pairs[0]
        assert torch.equal(a[1], b[1]) == same


def test_other_edits_stand_beside_the_sequence(make_editor, requests, weights):
    editor = make_editor()
    first = editor.apply(requests[0])
    foreign = Delta(torch.randn(32, 1), torch.randn(1, 48))
    edit_type = type(first)
    other = editor.ledger.apply(edit_type((), "ROME", {1: foreign}))
    second = editor.apply(requests[1])
    alone = make_editor()
    for edit in (first, second):
        alone.install(replace(edit, ledger=None, name=""))
    torch.testing.assert_close(weights(editor)[1], weights(alone)[1] + foreign.dense(), rtol=1e-5, atol=1e-5)
    other.undo()
    assert all(torch.equal(value, weights(alone)[i]) for i, value in weights(editor).items())


def test_editors_of_one_model_share_its_sequence(make_editor, requests):
    editor = make_editor()
    edit = editor.apply(requests[0])
    other = make_editor(model=editor.model)
    assert other.sequence is editor.sequence
    assert not make_editor().sequence.edits
    with pytest.raises(EditError, match="carries a sequence of 1 edits with other layers, options or statistics"):
        make_editor(model=editor.model, residual="refresh").sequence  # noqa: B018
    edit.undo()
    assert not make_editor(model=editor.model, residual="refresh").sequence.edits


def test_bfloat16_is_always_the_original_plus_the_change(make_editor, make_model, requests, weights):
    editor = make_editor(model=make_model("llama").to(torch.bfloat16))
    original = weights(editor)
    for request in requests[:3]:
        editor.apply(request)
    for layer, weight in weights(editor).items():
        want = (original[layer].double() + editor.sequence.states[layer].change).to(torch.bfloat16)
        assert (weight != want).float().mean() < 0.02  # float32 sums may round the other way
        torch.testing.assert_close(weight, want, rtol=1e-2, atol=1e-3)


def test_the_guard_refuses_before_damage(make_editor, requests, weights):
    editor = make_editor(max_norm_growth=1.0001)
    before = weights(editor)
    with pytest.raises(
        EditError, match=r"edit 1 would make the mean \|w\| of layer \d 1\.\d+ times the original's, above max_norm_growth 1.0001"
    ):
        editor.apply(requests[0])
    assert all(torch.equal(value, before[i]) for i, value in weights(editor).items())
    assert not editor.sequence.edits


def test_norms_are_recorded(make_editor, requests):
    editor = make_editor()
    edit = editor.apply(requests[0])
    assert edit.info["norms"][1]["weight"] == pytest.approx(editor.anatomy.weight(1).abs().mean().item(), rel=1e-6)
    assert edit.info["norms"][1]["change"] == pytest.approx(editor.sequence.states[1].change.abs().mean().item(), rel=1e-4)


def test_hparams(make_hparams):
    with pytest.raises(EditError, match=r"d4s\.residual: 'none' is not one of fixed, refresh"):
        make_hparams(rep=RepOptions(base="D4S"), method={"mom2_update_weight": 1.0, "d4s": {"residual": "none"}})
    assert D4SHyperParams.ALG_NAME == "D4S"


def test_a_float32_memory_that_drifts_is_filled_anew(make_editor, requests, monkeypatch):
    monkeypatch.setattr(drift, "EVERY", 2)
    editor = make_editor(dtype="float32", form="recursive")
    editor.apply(requests[0])
    for state in editor.sequence.states.values():
        state.change.mul_(1.1)  # as rounding would, in a very long sequence
    editor.apply(requests[1])
    for layer, state in editor.sequence.states.items():
        keys, residuals = (torch.cat([edit.pairs[layer][k] for edit in editor.sequence.edits]).double() for k in (0, 1))
        system = keys.T @ keys + 5.0 * editor.memory.covariances[layer].moment
        assert state.change.dtype == torch.float32
        assert torch.allclose(state.change.double(), torch.linalg.solve(system, keys.T @ residuals).T, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kept", [False, True])
def test_an_undo_that_is_interrupted_can_be_made_again(make_editor, requests, weights, tmp_path, interrupt, kept):
    editor, other = make_editor(), make_editor()
    edits = [editor.apply(request) for request in requests[:3]]
    if kept:
        editor.ledger.save(tmp_path)
        editor.ledger.undo_all()
        edits = load_edits(editor.model, tmp_path)
    sequence, before = editor.ledger.sequence, weights(editor)
    interrupt()  # of three layers
    with pytest.raises(KeyboardInterrupt):
        edits[1].undo()
    assert edits[1].active and sequence.edits == edits
    for layer, weight in weights(editor).items():
        torch.testing.assert_close(weight, before[layer], rtol=1e-5, atol=1e-6)
    edits[1].undo()
    for edit in (edits[0], edits[2]):
        other.install(replace(edit, deltas={}, ledger=None, name=""))
    for layer, weight in weights(other).items():
        torch.testing.assert_close(weights(editor)[layer], weight, rtol=1e-5, atol=1e-6)


def test_a_load_that_cannot_write_leaves_nothing(make_editor, requests, weights, tmp_path, monkeypatch):
    editor, other = make_editor(pathways=True), make_editor()
    editor.apply(requests[0])
    editor.ledger.save(tmp_path)
    before = weights(other)
    monkeypatch.setattr(Ledger, "_write", lambda *_args, **_options: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        load_edits(other.model, tmp_path)
    monkeypatch.undo()
    assert all(torch.equal(value, before[i]) for i, value in weights(other).items())
    assert not layers_of(other.model) and not other.ledger.handles and not other.ledger.sequence.edits


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("form", ["pairs", "recursive"])
def test_all_edits_leave_at_once(make_editor, requests, weights, tmp_path, monkeypatch, form, kept):
    editor = make_editor(form=form, pathways=True)
    before = weights(editor)
    foreign = editor.ledger.apply(Edit((), "ROME", {1: Delta(torch.randn(32, 1), torch.randn(1, 48))}))
    beside = weights(editor)
    edits = [editor.apply(request) for request in requests[:3]]
    if kept:
        editor.ledger.save(tmp_path)
        editor.ledger.undo_all()
        foreign, *edits = load_edits(editor.model, tmp_path)
    solved = []
    monkeypatch.setattr(LayerState, "remove", lambda *_: solved.append("state"))
    monkeypatch.setattr(kept_module, "shares", lambda *_: solved.append("shares"))
    editor.ledger.edits[1].undo()  # what the ledger sees of the sequence
    assert all(torch.equal(value, beside[i]) for i, value in weights(editor).items())
    assert not any(edit.active for edit in edits) and editor.ledger.handles == [foreign]
    assert not layers_of(editor.model)
    editor.ledger.undo_all()
    assert all(torch.equal(value, before[i]) for i, value in weights(editor).items())
    assert not solved
    monkeypatch.undo()
    again = editor.apply(requests[0])
    assert {state.count for state in editor.sequence.states.values()} == {1} and editor.ledger.handles == [again]


def test_a_folded_memory_is_saved_to_the_bit(make_editor, requests, weights, tmp_path):
    editor, other = make_editor(form="recursive"), make_editor()
    for state in editor.sequence.states.values():
        state.fold_at = 1
    for request in requests[:4]:
        editor.apply(request)
    assert all(state.folded for state in editor.sequence.states.values())
    editor.ledger.save(tmp_path)
    load_edits(other.model, tmp_path)
    assert all(torch.equal(value, weights(editor)[i]) for i, value in weights(other).items())
