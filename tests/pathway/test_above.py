"""A pathway in a layer above those that are edited: its gate knows more of what stands before, and its value outlasts fewer layers."""

from functools import partial

import pytest
import torch

from easyedit_rep import EditError, load_edits
from easyedit_rep.memory.keys import read_keys, read_outputs
from easyedit_rep.memory.need import estimate
from easyedit_rep.memory.tokens import locate
from easyedit_rep.pathway import build
from easyedit_rep.pathway.model import layers_of
from easyedit_rep.request import EditRequest
from easyedit_rep.sequence.store import load_sequence, save_sequence

REQUEST = EditRequest("The mother tongue of {} is", "Danielle Darrieux", "Spanish", subject_rephrase=("Danielle Darrieux, the actress",))
OTHER = EditRequest("{} plays the", "Ann Lee", "violin")


@pytest.fixture
def make_editor(make_fitted):
    return partial(make_fitted, layer=3)


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.tensor([[1, 17, 40, 99, 7, 250]])).logits


@pytest.mark.parametrize(("base", "layers", "family"), [("ROME", (1,), "llama"), ("MEMIT", (1, 2), "llama"), ("MEMIT", (0, 1), "gpt2")])
def test_the_edit_and_what_is_added_are_what_was_fitted(make_editor, answered, monkeypatch, base, layers, family):
    """Keys are read with the edit in the weights below; r₀ is s times what the edit changes where the pathway is, and with what is added
    there r results."""
    seen, real = [], build.fit_value
    monkeypatch.setattr(build, "fit_value", lambda *args: seen.append((args, real(*args))) or seen[-1][1])
    editor = make_editor(family, base, layers, strength=2.0)
    before = [p.clone() for p in editor.model.parameters()]
    base_edit = editor.base_edit(REQUEST)
    edit = editor.robustify(base_edit)
    (pathway,) = edit.pathways
    assert list(pathway.tensors) == [3] and list(edit.deltas) == list(layers)
    assert set(editor.unedited._text) == {3}, "no text is read for nothing"

    prompts = [locate(editor.tok, REQUEST.located)]
    raw = read_outputs(editor.anatomy, prompts, 3)[0]
    with editor.installed(base_edit):
        changed = read_outputs(editor.anatomy, prompts, 3)[0]
        key = read_keys(editor.anatomy, prompts, [3])[3][0]
    ((args, (value, told)),) = seen
    assert args[2] == 3 and edit.info["pathway"][3][0]["value_loss"] == told["value_loss"]
    torch.testing.assert_close(args[4], 2.0 * (changed - raw), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(pathway.tensors[3]["rep_key.weight"][:, 0], key, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pathway.tensors[3]["rep_value.weight"][:, 0], value - (changed - raw), rtol=1e-4, atol=1e-5)

    handle = editor.install(edit)
    assert list(layers_of(editor.model)) == [editor.anatomy.rewrite_name(3)]
    editor.anatomy.rewrite(3).part("rep_gate", handle.pathway_names[0]).bias.data.fill_(1e6)  # open wherever it is asked
    torch.testing.assert_close(read_outputs(editor.anatomy, prompts, 3)[0], raw + value, rtol=1e-3, atol=1e-4)
    handle.undo()
    assert all(torch.equal(x, y) for x, y in zip(before, editor.model.parameters(), strict=True))


def test_its_gate_is_told_by_the_c_of_its_own_layer(make_editor, tmp_path, monkeypatch):
    moments, real = [], build.solve_layer
    monkeypatch.setattr(build, "solve_layer", lambda *args: moments.append(args[-1]) or real(*args))
    editor = make_editor(base="ROME", layers=(1,), stats_dir=str(tmp_path / "stats"))
    editor.robustify(editor.base_edit(REQUEST))
    assert sorted(editor.memory.covariances) == [1, 3]
    torch.testing.assert_close(moments[0], editor.memory.covariances[3].moment.float())
    again = make_editor(base="ROME", layers=(1,), stats_dir=str(tmp_path / "stats"))
    assert again.memory.covariances[3].digest == editor.memory.covariances[3].digest, "it is kept with the others"
    need = [estimate(e.anatomy, e.hparams, False)["statistics"] for e in (editor, make_editor(base="ROME", layers=(1,), layer=None))]
    assert need[0] == 2 * need[1]


def test_saved_loaded_and_taken_out_in_any_order(make_editor, make_model, answered, tmp_path):
    editor = make_editor(base="ROME", layers=(1,), false_fire=0.5, margin=0.0, margin_around=0.0)
    edits = [editor.apply(request) for request in (REQUEST, OTHER)]
    edits[0].ledger.save(tmp_path / "edits")
    model = make_model("llama")
    loaded = load_edits(model, tmp_path / "edits")
    assert torch.equal(logits(model), logits(editor.model))
    for handles in (edits, loaded):
        handles[0].undo()
    assert torch.equal(logits(model), logits(editor.model))
    loaded[1].undo()
    assert all(torch.equal(x, y) for x, y in zip(model.parameters(), make_model("llama").parameters(), strict=True))


def test_a_sequence_is_kept_with_its_pathways(make_editor, answered, tmp_path):
    first = make_editor(base="D4S", layers=(0, 1), false_fire=0.5, margin=0.0, margin_around=0.0)
    for request in (REQUEST, OTHER):
        first.apply(request)
    save_sequence(first.sequence, tmp_path / "run")
    again = make_editor(base="D4S", layers=(0, 1), false_fire=0.5, margin=0.0, margin_around=0.0)
    load_sequence(again.sequence, tmp_path / "run")
    assert torch.equal(logits(again.model), logits(first.model))
    assert list(layers_of(again.model)) == [again.anatomy.rewrite_name(3)]
    # One whose pathways are elsewhere goes on with the same memory.
    lowest = make_editor(base="D4S", layers=(0, 1), model=again.model, layer=None)
    edit = lowest.apply(EditRequest("The company of {} makes", "Steve Jobs", "music"))
    assert list(edit.pathways[0].tensors) == [0] and len(again.sequence.edits) == 3


def test_other_layers_are_refused(make_editor):
    with pytest.raises(EditError, match=r"rep.closed.layer: 1 is not above the edited layers \[1, 2\]: take one that is"):
        make_editor(layer=1)
    with pytest.raises(EditError, match=r"rep.closed.layer: 4 is out of range, LlamaForCausalLM has layers 0..3"):
        make_editor(layer=4)
    with pytest.raises(EditError, match=r"rep.closed.layer: 3 is for a fitted value.*set value_steps"):
        make_editor(value_steps=0)
