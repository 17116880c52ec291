"""Pathways on several layers and of several requests: each trained on the keys it will meet at test."""

import copy

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.edit import Edit, Pathway
from easyedit_rep.errors import EditError
from easyedit_rep.ledger import Ledger
from easyedit_rep.methods import BaseEdit, Memory, get_method
from easyedit_rep.pathway import RepConfig
from easyedit_rep.pathway import build as build_module
from easyedit_rep.pathway.build import build_pathways
from easyedit_rep.pathway.examples import Examples, read_training_keys
from easyedit_rep.pathway.layer import RepLayer
from easyedit_rep.pathway.model import detached_state, layers_of
from easyedit_rep.pathway.training import PathwayTraining, train_layer
from easyedit_rep.queries import Queries, Split
from easyedit_rep.rep_options import RepOptions
from easyedit_rep.request import EditRequest

REQUESTS = [EditRequest("The mother tongue of {} is", "Danielle Darrieux", "Spanish"), EditRequest("{} plays the", "Ann Lee", "piano")]
QUERIES = [
    Queries(Split(("D. Darrieux",), ("Miss Darrieux",)), Split(), Split(("It was winter.",), ())),
    Queries(Split(("A. Lee",), ("Annie",)), Split(), Split()),
]
TRAINING = PathwayTraining(steps=40, lr=1e-2, align="key")
SHAPE = {"rank": 4, "threshold": 0.3, "dropout": 0.0, "inference_mode": True}


@pytest.fixture
def base(make_model, make_memory, make_hparams, tok):
    """(memory, MEMIT edit of both requests in layers 0 to 2)."""
    memory = make_memory(make_model("llama"), tok, layers=(0, 1, 2))
    hparams = make_hparams(layers=[0, 1, 2], rep=RepOptions(base="MEMIT"), method={"mom2_update_weight": 20.0})
    return memory, get_method("MEMIT").solve(memory, hparams, REQUESTS)


def build(memory, edit, n=2):
    shape = RepConfig(target_modules=[memory.anatomy.rewrite_name(i) for i in (0, 1, 2)], **SHAPE)
    some = [Examples.of(memory, r, q, TRAINING, None, 0) for r, q in zip(REQUESTS[:n], QUERIES, strict=False)]
    tensors, losses = build_pathways(memory, edit, some, shape, TRAINING, seed=0)
    return shape, some, tensors, losses


def test_upper_keys_are_read_over_lower_edits_and_pathways(base):
    memory, edit = base
    shape, examples, tensors, losses = build(memory, edit)
    # The same by hand: a copy of the model that truly carries the deltas and pathways of the layers below.
    model = copy.deepcopy(memory.anatomy.model)
    twin = Memory(Anatomy(model), memory.tok, memory.contexts, memory.covariances)
    ledger = Ledger.of(model, twin.anatomy)
    below = Edit(tuple(REQUESTS), "MEMIT", {i: edit.deltas[i] for i in (0, 1)})
    below.pathways = tuple(
        Pathway(RepConfig(target_modules=sorted(shape.target_modules)[:2], **SHAPE), {i: t[i] for i in (0, 1)}) for t in tensors
    )
    ledger.apply(below)
    assert len(layers_of(model)) == 2
    for i, keys in enumerate(read_training_keys(twin, 2, examples, edit.keys[2], TRAINING)):
        layer = RepLayer(twin.anatomy.projection(2), "a", shape)
        assert train_layer(layer, keys, "a", TRAINING, seed=0) == pytest.approx(losses[2][i], rel=1e-3, abs=1e-5)
        for name, value in detached_state(layer, "a").items():
            torch.testing.assert_close(value, tensors[i][2][name], rtol=1e-3, atol=1e-4)


def test_lower_pathways_matter_to_upper_ones(base):
    memory, edit = base
    together, alone = build(memory, edit)[2], build(memory, BaseEdit({2: edit.deltas[2]}, {2: edit.keys[2]}))[2]
    assert not torch.equal(together[0][2]["rep_up.weight"], alone[0][2]["rep_up.weight"])


def test_a_large_batch_is_read_a_few_requests_at_a_time(base, monkeypatch):
    memory, edit = base
    _, _, together, losses = build(memory, edit)
    read, real = [], build_module.read_training_keys

    def reading(*args):
        read.append(len(args[2]))
        return real(*args)

    monkeypatch.setattr(build_module, "HELD", 1)
    monkeypatch.setattr(build_module, "read_training_keys", reading)
    _, _, apart, others = build(memory, edit)
    assert read == [1] * 6  # two requests in three layers
    for layer in (0, 1, 2):
        for i in (0, 1):
            assert others[layer][i] == pytest.approx(losses[layer][i], rel=1e-3, abs=1e-5)
            for name, value in together[i][layer].items():
                torch.testing.assert_close(apart[i][layer][name], value, rtol=1e-3, atol=1e-4)


def test_model_is_left_alone(base):
    memory, edit = base
    model = memory.anatomy.model
    before = {name: (p, p.clone(), p._version) for name, p in model.named_parameters()}
    build(memory, edit)
    assert not layers_of(model)
    assert not any(module._forward_pre_hooks for module in model.modules())
    for name, (parameter, value, version) in before.items():
        assert model.get_parameter(name) is parameter
        assert torch.equal(parameter, value)
        assert parameter._version == version


def test_a_batch_is_applied_and_undone_as_one(base):
    memory, edit = base
    model = memory.anatomy.model
    ids = torch.tensor([[1, 17, 40, 99, 7]])
    before = model(input_ids=ids).logits
    shape, _, tensors, _ = build(memory, edit)
    ledger = Ledger.of(model, memory.anatomy)
    applied = ledger.apply(Edit(tuple(REQUESTS), "MEMIT", edit.deltas, tuple(Pathway(shape, t) for t in tensors)))
    assert applied.pathway_names == ["edit0_0", "edit0_1"]
    assert all(set(layer.rep_down) == {"edit0_0", "edit0_1"} for layer in layers_of(model).values())
    assert not torch.equal(model(input_ids=ids).logits, before)
    applied.undo()
    assert torch.equal(model(input_ids=ids).logits, before)


def test_a_pathway_that_does_not_fit_leaves_none_of_its_batch(base):
    memory, edit = base
    model = memory.anatomy.model
    shape, _, tensors, _ = build(memory, edit)
    bad = {layer: {name: value[..., :1] for name, value in state.items()} for layer, state in tensors[1].items()}
    ledger = Ledger.of(model, memory.anatomy)
    with pytest.raises(EditError, match="edit0_1 does not fit"):
        ledger.apply(Edit(tuple(REQUESTS), "MEMIT", edit.deltas, (Pathway(shape, tensors[0]), Pathway(shape, bad))))
    assert not layers_of(model)
    assert not ledger.edits
