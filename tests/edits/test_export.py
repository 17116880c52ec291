"""Merging, and whole checkpoints of edited models."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from easyedit_rep import EditError, load_edits, save_model
from easyedit_rep.pathway.model import layers_of


def test_merged_edits_are_the_model(carrying, make_model, tmp_path, logits):
    model, ledger, edits = carrying({"layers": (1, 2)}, {"pathways": 0})
    want = logits(model)
    ledger.merge()
    assert torch.equal(logits(model), want)
    assert ledger.handles == edits[:1] and edits[0].active and not edits[1].active
    with torch.no_grad():  # nothing is watched any more
        model.model.layers[2].mlp.down_proj.weight.mul_(1.0)
    edits[0].save(tmp_path)
    weights = {name: p.clone() for name, p in model.named_parameters() if ".rep_" not in name}
    edits[0].undo()
    assert not layers_of(model)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters()), "what was merged stays"
    load_edits(model, tmp_path)
    assert torch.equal(logits(model), want)
    with pytest.raises(EditError, match="belongs to other weights"):
        load_edits(make_model("llama"), tmp_path)


def test_merged_sequences_and_new_edits(make_editor, facts, logits):
    editor = make_editor("D4S")
    for fact in facts[:2]:
        editor.apply(fact)
    want = logits(editor.model)
    editor.ledger.merge()
    assert torch.equal(logits(editor.model), want)
    last = editor.apply(facts[2])
    assert not torch.equal(logits(editor.model), want)
    last.undo()
    assert torch.equal(logits(editor.model), want)
    assert [edit.requests for edit in editor.ledger.handles] == [(fact,) for fact in facts[:2]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_a_checkpoint_without_pathways_is_plain(carrying, tmp_path, logits, family, dtype):
    model, _, _ = carrying({"pathways": 0, "layers": (1, 2)}, family=family, dtype=dtype)
    model.save_pretrained(tmp_path / "theirs")
    assert len(save_model(model, tmp_path / "ours").lines()) == 1
    for name in ("theirs", "ours"):
        again = AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=dtype)
        state = again.state_dict()
        assert state.keys() == model.state_dict().keys()
        assert all(torch.equal(state[key], tensor) for key, tensor in model.state_dict().items())
        # A loaded model has its rotary frequencies in float32, whatever its dtype; one that was cast has not.
        assert torch.equal(logits(again), logits(model)) or dtype == torch.bfloat16


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_checkpoint_with_pathways_loads_by_two_lines(carrying, tmp_path, logits, family, tok):
    model, ledger, _ = carrying({"layers": (1, 2)}, {"pathways": 0}, {"pathways": 2}, family=family)
    want = logits(model)
    done = save_model(model, tmp_path / "whole", tok)
    assert torch.equal(logits(model), want) and len(ledger.handles) == 3, "the model is only read"
    first, second = done.lines()
    scope = {"AutoModelForCausalLM": AutoModelForCausalLM, "load_edits": load_edits}
    exec(f"{first}\nedits = {second}", scope)
    assert torch.equal(logits(scope["model"]), want)
    assert len(scope["edits"]) == 2
    assert (tmp_path / "whole" / "tokenizer_config.json").exists()
    ledger.save(tmp_path / "edits")
    with pytest.raises(EditError, match="already holds an adapter or edits: give another folder"):
        save_model(model, tmp_path / "edits")
