"""Edits come out in any order, and leave exactly the model that never had them."""

import copy
import itertools
import pickle
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.edit import Edit, Pathway
from easyedit_rep.errors import EditError
from easyedit_rep.ledger import Ledger
from easyedit_rep.memory.delta import Delta
from easyedit_rep.pathway import RepConfig, RepLayer
from easyedit_rep.pathway.model import detached_state, layers_of

IDS = torch.tensor([[1, 17, 40, 99, 7, 250, 31, 8]])


def random_edits(model, dtype):
    """Rank one in layer 1; whole in layer 1 and rank one in 2, with a pathway on both; rank one in 2 and 0."""
    anatomy = Anatomy(model)
    torch.manual_seed(1)

    def delta(rank):
        left = torch.randn(32, rank) if rank else 0.05 * torch.randn(32, 48)
        return Delta(left, 0.05 * torch.randn(rank, 48) if rank else None, anatomy.is_transposed(0))

    names = [anatomy.names.rewrite_module_tmp.format(i) for i in (1, 2)]
    config = RepConfig(target_modules=names, rank=4, threshold=0.5, inference_mode=True)
    tensors = {}
    for i, name in zip((1, 2), names, strict=True):
        layer = RepLayer(model.get_submodule(name), "x", config)
        torch.nn.init.normal_(layer.rep_up["x"].weight)
        tensors[i] = detached_state(layer, "x")
    return [
        Edit((), "A", {1: delta(1)}),
        Edit((), "B", {1: delta(0), 2: delta(1)}, (Pathway(config, tensors),)),
        Edit((), "C", {2: delta(1), 0: delta(1)}),
    ]


def state(model):
    """The base parameters' bits and the outputs."""
    with torch.no_grad():
        return {n: p.clone() for n, p in model.named_parameters() if ".rep_" not in n}, model(input_ids=IDS).logits


def same(a, b):
    return a[0].keys() == b[0].keys() and all(torch.equal(a[0][n], b[0][n]) for n in a[0]) and torch.equal(a[1], b[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_undo_in_every_order_leaves_the_model_that_never_had_the_edit(family, dtype, make_model):
    def fresh():
        model = make_model(family).to(dtype)
        return model, Ledger.of(model, Anatomy(model))

    edits = random_edits(make_model(family), dtype)
    never = {}
    for kept in itertools.chain.from_iterable(itertools.combinations(range(3), n) for n in range(4)):
        model, ledger = fresh()
        for i in kept:
            ledger.apply(replace(edits[i]))
        never[kept] = state(model)
    assert not same(never[()], never[(1,)])
    assert not torch.equal(never[(0,)][1], never[(0, 2)][1])

    for order in itertools.permutations(range(3)):
        model, ledger = fresh()
        types = [type(m) for m in model.modules()]
        mine = [ledger.apply(replace(edit)) for edit in edits]
        assert same(state(model), never[(0, 1, 2)])
        kept = [0, 1, 2]
        for i in order:
            mine[i].undo()
            kept.remove(i)
            assert same(state(model), never[tuple(kept)]), f"after {order} up to {i}"
        assert [type(m) for m in model.modules()] == types
        assert not hasattr(model, "peft_config")
        assert not ledger.edits
        assert not ledger._original, "nothing is kept of a model without edits"


def test_an_undone_edit_can_be_applied_again(llama):
    ledger = Ledger.of(llama, Anatomy(llama))
    edits = random_edits(llama, torch.float32)
    before = state(llama)
    ledger.apply(edits[1])
    after = state(llama)
    edits[1].undo()
    ledger.apply(edits[1])
    assert same(state(llama), after)
    assert edits[1].active
    ledger.apply(edits[0])
    ledger.undo_all()
    assert same(state(llama), before)
    assert not any(e.active for e in edits)


def test_undoing_twice_does_nothing_and_applying_twice_is_refused(llama):
    ledger = Ledger.of(llama, Anatomy(llama))
    edit = ledger.apply(random_edits(llama, torch.float32)[0])
    with pytest.raises(EditError, match="edit edit0 is already applied"):
        ledger.apply(edit)
    edit.undo()
    weights = {n: p._version for n, p in llama.named_parameters()}
    edit.undo()
    assert {n: p._version for n, p in llama.named_parameters()} == weights


def in_place(weight):
    with torch.no_grad():
        weight[0, 0] += 1


def through_data(weight):
    weight.data[0, 0] += 1


def replaced_data(weight):
    weight.data = weight.data + 1


def other_rows(weight):
    with torch.no_grad():
        weight.copy_(weight[torch.arange(len(weight)).roll(1)])


def other_columns(weight):
    with torch.no_grad():
        weight.copy_(weight.roll(2, 1))


@pytest.mark.parametrize("change", [in_place, through_data, replaced_data, other_rows, other_columns])
def test_a_weight_changed_outside_is_noticed(llama, change):
    anatomy = Anatomy(llama)
    ledger = Ledger.of(llama, anatomy)
    first, second, third = random_edits(llama, torch.float32)
    ledger.apply(first)
    change(anatomy.weight(1))
    for act in (lambda: ledger.apply(second), first.undo):
        with pytest.raises(EditError, match=r"model.layers.1.mlp.down_proj.weight was changed outside the ledger while it holds 1 edit"):
            act()
    assert ledger.edits == [first]
    assert not second.active
    assert not layers_of(llama)
    ledger.apply(third)  # layers 2 and 0 are as we left them
    third.undo()


def test_a_weight_that_was_put_back_is_as_it_was(llama):
    before = state(llama)
    ledger, weight = Ledger.of(llama, Anatomy(llama)), Anatomy(llama).weight(1)
    first, second, _ = random_edits(llama, torch.float32)
    ledger.apply(first)
    keep = weight.detach().clone()
    in_place(weight)
    with pytest.raises(EditError, match="put it back as it was"):
        first.undo()
    with torch.no_grad():
        weight.copy_(keep)
    llama.load_state_dict(llama.state_dict())
    ledger.apply(second)
    ledger.undo_all()
    assert same(state(llama), before)


def test_another_dtype_is_no_change(llama):
    before = state(copy.deepcopy(llama).to(torch.bfloat16))
    ledger = Ledger.of(llama, Anatomy(llama))
    edit = ledger.apply(random_edits(llama, torch.float32)[1])
    llama.to(torch.bfloat16)
    edit.undo()
    assert same(state(llama), before)


def test_a_change_while_nothing_is_held_is_nobodys_business(llama):
    anatomy = Anatomy(llama)
    ledger = Ledger.of(llama, anatomy)
    edit = random_edits(llama, torch.float32)[0]
    ledger.apply(edit)
    edit.undo()
    with torch.no_grad():
        anatomy.weight(1).add_(1)
    before = state(llama)
    ledger.apply(edit)
    edit.undo()
    assert same(state(llama), before)


def test_one_ledger_a_model(make_model):
    one, two = make_model("llama"), make_model("llama")
    ledger = Ledger.of(one, Anatomy(one))
    assert Ledger.of(one, Anatomy(one)) is ledger
    assert Ledger.of(two, Anatomy(two)) is not ledger
    before = state(two)
    ledger.apply(random_edits(one, torch.float32)[1])
    assert same(state(two), before)
    assert not Ledger.of(two, Anatomy(two)).edits


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"])
@pytest.mark.filterwarnings("error")
def test_a_copy_carries_its_own_history(llama, duplicate):
    before = state(llama)
    edits = random_edits(llama, torch.float32)
    ledger = Ledger.of(llama, Anatomy(llama))
    for edit in edits:
        ledger.apply(edit)
    after = state(llama)
    twin = duplicate(llama)
    theirs = Ledger.of(twin, Anatomy(twin))
    assert theirs is not ledger
    assert len(theirs.edits) == 3
    assert same(state(twin), after)
    theirs.undo_all()
    assert same(state(twin), before)
    assert same(state(llama), after)
    ledger.undo_all()
    assert same(state(llama), before)


def test_names_are_never_used_twice(llama):
    ledger = Ledger.of(llama, Anatomy(llama))
    edit = random_edits(llama, torch.float32)[1]
    names = []
    for _ in range(3):
        ledger.apply(edit)
        names.append(edit.name)
        edit.undo()
    assert len(set(names)) == 3


def test_only_the_models_own_edits_leave_it(make_model):
    one, two = make_model("llama"), make_model("llama")
    mine, theirs = Ledger.of(one, Anatomy(one)), Ledger.of(two, Anatomy(two))
    edit = mine.apply(random_edits(one, torch.float32)[1])
    other = theirs.apply(random_edits(two, torch.float32)[1])  # of the same name
    after = state(one)
    with pytest.raises(EditError, match="edit edit0 is not in this model"):
        mine.remove(other)
    assert same(state(one), after) and edit.active and other.active
    mine.remove(edit)
    with pytest.raises(EditError, match="edit edit0 is not in this model"):
        mine.remove(edit)


def test_an_undo_that_is_interrupted_can_be_made_again(llama, interrupt):
    before = state(llama)
    ledger = Ledger.of(llama, Anatomy(llama))
    first, second, _ = random_edits(llama, torch.float32)
    ledger.apply(first)
    alone = state(llama)
    ledger.apply(second)
    both = state(llama)
    interrupt()  # of two layers
    with pytest.raises(KeyboardInterrupt):
        second.undo()
    assert second.active and ledger.edits == [first, second] and same(state(llama), both)
    second.undo()
    assert same(state(llama), alone)
    first.undo()
    assert same(state(llama), before)


def test_all_edits_leave_at_the_cost_of_one(llama, monkeypatch):
    before = state(llama)
    ledger = Ledger.of(llama, Anatomy(llama))
    edits = [ledger.apply(replace(edit)) for edit in random_edits(llama, torch.float32) * 3]
    summed, real = [], Delta.add_to

    def add_to(self, weight):
        summed.append(self)
        real(self, weight)

    monkeypatch.setattr(Delta, "add_to", add_to)
    ledger.undo_all()
    assert not summed
    assert same(state(llama), before) and not layers_of(llama) and not any(edit.active for edit in edits) and not ledger._original
    ledger.undo_all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sum_takes_one_copy_of_the_weight(llama, dtype):
    llama.to(dtype)
    ledger = Ledger.of(llama, Anatomy(llama))
    edit = random_edits(llama, dtype)[0]
    made = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.shape == (32, 48) and out.data_ptr() not in {a.data_ptr() for a in made}:
                made.append(out)
            return out

    with Watch():
        total = ledger.total(1, [edit.deltas[1]])
    assert total.dtype == torch.float32
    assert len({tensor.data_ptr() for tensor in made} - {Anatomy(llama).weight(1).data_ptr()}) == 1


def test_edits_of_another_module_are_not_written_into_this_one(llama):
    up = {"rewrite_module_tmp": "model.layers.{}.mlp.up_proj"}
    ledger = Ledger.of(llama, Anatomy(llama, **up))
    before = state(llama)
    edit = ledger.apply(Edit((), "A", {1: Delta(torch.randn(48, 1), torch.randn(1, 32))}))
    with pytest.raises(EditError, match=r"mlp.down_proj' is not 'model.layers.\{\}.mlp.up_proj', in which the model carries 1 edit"):
        Ledger.of(llama, Anatomy(llama))
    edit.undo()
    assert same(state(llama), before)
    assert Ledger.of(llama, Anatomy(llama)).anatomy.weight_name(1) == "model.layers.1.mlp.down_proj.weight"
