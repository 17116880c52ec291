"""`PeftModel.from_pretrained` of saved edits: deltas beside the weights, pathways in front, equal to the written ones up to rounding."""

import copy
import warnings

import pytest
import torch
from peft import PeftModel
from torch import nn

from easyedit_rep import load_edits
from easyedit_rep.pathway.model import layers_of

MIXED = (
    {"pathways": 0, "layers": (1, 2)},
    {"whole": True, "layers": (2,), "pathways": 2},
    {"rank": 3, "layers": (0, 1), "gate_ratio": 0.3},
    {"whole": True, "layers": (2,), "chain": True},
    {"kind": "closed", "detectors": 2, "leave": 0.8, "layers": (1, 2), "pathways": 2},
    {"kind": "closed", "detectors": 2, "value": True, "layers": (1,), "pathways": 2},
)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.bfloat16, 0.2)])
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_the_adapter_is_the_edited_model(carrying, make_model, tmp_path, logits, family, dtype, near):
    model, ledger, _ = carrying(*MIXED, family=family, dtype=dtype)
    ledger.save(tmp_path)
    base = make_model(family).to(dtype)
    before = {name: p.clone() for name, p in base.named_parameters()}
    plain = logits(base)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        loaded = PeftModel.from_pretrained(base, tmp_path, adapter_name="mine")
    assert (logits(model) - plain).abs().max() > 1
    assert (logits(loaded) - logits(model)).abs().max() < near
    with loaded.disable_adapter():
        assert torch.equal(logits(loaded), plain)
    unloaded = loaded.unload()
    assert all(torch.equal(p, before[name]) for name, p in unloaded.named_parameters())
    assert torch.equal(logits(unloaded), plain)


def test_bitwise_where_no_gate_opens_and_nothing_is_added(carrying, make_model, tmp_path, logits):
    _, ledger, (edit,) = carrying({"threshold": 1.0})
    ledger.merge()
    edit.save(tmp_path)
    base = make_model("llama")
    with pytest.warns(UserWarning, match="is not the one these edits were made on"):
        loaded = PeftModel.from_pretrained(base, tmp_path)
    assert torch.equal(logits(loaded), logits(make_model("llama")))


def test_peft_saves_it_again_without_the_weights(carrying, make_model, tmp_path, logits):
    _, ledger, _ = carrying(*MIXED)
    ledger.save(tmp_path / "ours")
    loaded = PeftModel.from_pretrained(make_model("llama"), tmp_path / "ours")
    want = logits(loaded)
    loaded.save_pretrained(tmp_path / "theirs", save_embedding_layers=False)
    again = PeftModel.from_pretrained(make_model("llama"), tmp_path / "theirs", adapter_name="other")
    assert torch.equal(logits(again), want)


def test_two_adapters_are_switched_and_deleted(carrying, make_model, tmp_path, logits):
    wanted = {}
    for name, kinds in (("one", MIXED[:2]), ("two", MIXED[2:])):
        model, ledger, _ = carrying(*kinds)
        ledger.save(tmp_path / name)
        wanted[name] = logits(model)
    loaded = PeftModel.from_pretrained(make_model("llama"), tmp_path / "one", adapter_name="one")
    loaded.load_adapter(tmp_path / "two", adapter_name="two")
    for name in ("two", "one"):
        loaded.set_adapter(name)
        assert (logits(loaded) - wanted[name]).abs().max() < 1e-4
    loaded.delete_adapter("one")
    loaded.set_adapter("two")
    assert (logits(loaded) - wanted["two"]).abs().max() < 1e-4
    assert all("one" not in key for layer in layers_of(loaded).values() for key in (*layer.rep_threshold, *layer.rep_count))


def test_transformers_loads_it_by_itself(carrying, make_model, tmp_path, logits):
    pytest.importorskip("peft.utils.transformers_weight_conversion", reason="Transformers 5 wants a newer PEFT for this")
    model, ledger, _ = carrying(*MIXED)
    ledger.save(tmp_path)
    base = make_model("llama")
    base.load_adapter(str(tmp_path))
    assert (logits(base) - logits(model)).abs().max() < 1e-4


def test_a_sequence_too(make_editor, facts, make_model, tmp_path, logits):
    editor = make_editor("D4S")
    for fact in facts:
        editor.apply(fact)
    editor.ledger.save(tmp_path)
    loaded = PeftModel.from_pretrained(make_model("llama"), tmp_path)
    assert (logits(loaded) - logits(editor.model)).abs().max() < 1e-4


class Packed(nn.Linear):
    """A linear layer that keeps its weight in bytes, as quantised ones do."""

    def __init__(self, linear: nn.Linear):
        super().__init__(linear.in_features, linear.out_features, bias=False)
        weight = linear.weight.detach()
        self.scale = weight.abs().max() / 127
        self.weight = nn.Parameter((weight / self.scale).round().to(torch.int8).view(-1, 1), requires_grad=False)

    def forward(self, x):
        return x @ (self.weight.view(self.out_features, self.in_features).to(x.dtype) * self.scale).T


def test_beside_a_quantised_weight(carrying, make_model, tmp_path, logits):
    """Both what is added and the pathways act on a base that nothing can be written into."""
    _, ledger, _ = carrying({"layers": (1,)})
    ledger.save(tmp_path)
    base = make_model("llama")
    base.model.layers[1].mlp.down_proj = Packed(base.model.layers[1].mlp.down_proj)
    near = make_model("llama")
    with torch.no_grad():
        packed = base.model.layers[1].mlp.down_proj
        near.model.layers[1].mlp.down_proj.weight.copy_(packed.weight.view(32, 48) * packed.scale)
    load_edits(near, tmp_path, force=True)
    loaded = PeftModel.from_pretrained(base, tmp_path)
    assert (logits(loaded) - logits(near)).abs().max() < 1e-3
    assert (logits(near) - logits(make_model("llama"))).abs().max() > 0.1


def test_moved_and_copied(carrying, make_model, tmp_path, logits):
    _, ledger, _ = carrying(*MIXED)
    ledger.save(tmp_path)
    loaded = PeftModel.from_pretrained(make_model("llama"), tmp_path)
    want = logits(loaded)
    assert torch.equal(logits(copy.deepcopy(loaded)), want)
    low = copy.deepcopy(loaded).to(torch.bfloat16)
    assert logits(low).dtype == torch.bfloat16
    assert (logits(low) - want).abs().max() < 1


def test_training_reaches_the_adapter_alone(carrying, make_model, tmp_path, ids):
    _, ledger, _ = carrying(*(kind for kind in MIXED if kind.get("kind") != "closed"))  # its gates are hard: no gradient passes them
    ledger.save(tmp_path)
    loaded = PeftModel.from_pretrained(make_model("llama"), tmp_path, is_trainable=True)
    trained = [name for name, p in loaded.named_parameters() if p.requires_grad]
    assert trained and all(".rep_" in name for name in trained)
    loaded.train()(input_ids=ids, labels=ids).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loaded.parameters() if p.requires_grad)
