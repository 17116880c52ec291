"""ROME: the edited matrix maps the bare prompt's key exactly onto v*."""

import copy

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.errors import EditError
from easyedit_rep.memory.values import ValueConfig, ValueTask, optimise_values
from easyedit_rep.methods import Memory, get_method
from easyedit_rep.methods.rome import rome
from easyedit_rep.request import EditRequest

REQUEST = EditRequest("The mother tongue of {} is", "Danielle Darrieux", "Spanish")


@pytest.mark.parametrize("mom2", [True, False])
def test_maps_the_bare_prompts_key_onto_the_new_value(model, tok, make_memory, make_hparams, mom2):
    memory, hparams = make_memory(model, tok), make_hparams(mom2_adjustment=mom2)
    edit = rome(memory, hparams, [REQUEST])
    (value,) = optimise_values(
        memory.anatomy, tok, 1, [ValueTask(REQUEST.located, "Spanish", memory.contexts)], ValueConfig.from_hparams(hparams)
    )
    keys = memory.context_keys([REQUEST.located], [1])[1][0]
    change = edit.deltas[1].dense().double()
    assert change.shape == (32, 48)
    assert torch.linalg.matrix_rank(change, rtol=1e-5) == 1
    torch.testing.assert_close((change @ keys[0].double()).float(), value.change, rtol=1e-4, atol=1e-5)
    # ROME's closed form: the row space is C⁻¹ of the averaged key (or the key itself), so that is the only direction that is answered.
    mean = keys.mean(0).double()
    u = torch.linalg.solve(memory.covariances[1].moment, mean) if mom2 else mean
    closed = torch.outer(value.change.double(), u) / (keys[0].double() @ u)
    torch.testing.assert_close(change, closed, rtol=1e-3, atol=1e-4 * closed.abs().max().item())
    torch.testing.assert_close(edit.keys[1], keys.mean(0)[None])
    assert edit.info[1][0]["steps"] == value.steps
    assert edit.info[1][0]["loss"] == pytest.approx(value.loss, rel=1e-3)


@pytest.mark.parametrize("inner", [48, 32])
def test_conv1d_is_written_in_its_own_orientation(make_model, tok, make_memory, make_hparams, inner):
    model = make_model("gpt2", n_inner=inner)  # where D = d a missing transpose fits, and is wrong
    memory, hparams = make_memory(model, tok), make_hparams()
    delta = rome(memory, hparams, [REQUEST]).deltas[1]
    key = memory.context_keys([REQUEST.located], [1])[1][0, 0]
    with torch.no_grad():
        before = memory.anatomy.rewrite(1)(key)
        delta.add_to(memory.anatomy.weight(1))
        torch.testing.assert_close(memory.anatomy.rewrite(1)(key) - before, delta.dense() @ key, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_upper_layers_are_measured_with_the_lower_ones_edited(family, make_model, tok, make_memory, make_hparams):
    model = make_model(family)
    memory = make_memory(model, tok, layers=(1, 2))
    both = rome(memory, make_hparams(layers=[2, 1]), [REQUEST])
    edited = copy.deepcopy(model)
    both.deltas[1].add_to(Anatomy(edited).weight(1))
    above = Memory(Anatomy(edited), tok, memory.contexts, memory.covariances)
    alone = rome(above, make_hparams(layers=[2]), [REQUEST])
    torch.testing.assert_close(both.deltas[2].dense(), alone.deltas[2].dense(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(both.keys[2], alone.keys[2], rtol=1e-5, atol=1e-6)


def test_model_is_untouched(model, tok, make_memory, make_hparams):
    memory = make_memory(model, tok, layers=(0, 2))
    before = {name: (p, p.clone(), p._version) for name, p in model.named_parameters()}
    rome(memory, make_hparams(layers=[0, 2]), [REQUEST])
    for name, p in model.named_parameters():
        same, values, version = before[name]
        assert p is same
        assert torch.equal(p, values)
        assert p._version == version


def test_unknown_base_is_refused():
    with pytest.raises(EditError, match="base 'GRACE' has no native engine"):
        get_method("GRACE")
