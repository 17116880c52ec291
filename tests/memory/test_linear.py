"""The fast products are the plain ones: values, gradients, every family, and nothing is left behind."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from easyedit_rep.memory.linear import fast_linears
from easyedit_rep.pathway import RepConfig, RepLayer
from easyedit_rep.pathway.model import attach, detached_state

DOUBLE = {nn.Linear: lambda m, x: x.double() @ m.weight.double().T, Conv1D: lambda m, x: x.double() @ m.weight.double()}


def make(kind, d_in, d_out, bias=True):
    torch.manual_seed(0)
    module = nn.Linear(d_in, d_out, bias=bias) if kind is nn.Linear else Conv1D(d_out, d_in)
    module.requires_grad_(False)
    nn.init.normal_(module.weight)
    if module.bias is not None:
        nn.init.normal_(module.bias)
    return nn.Sequential(module)


def relative(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.mark.parametrize(("kind", "bias"), [(nn.Linear, True), (nn.Linear, False), (Conv1D, True)])
@pytest.mark.parametrize("shape", [(7, 33), (1, 33), (3, 5, 33), (1, 1, 33)], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 1e-6), (torch.bfloat16, 1e-2)], ids=["exact", "bfloat16"])
def test_product_and_gradient(kind, bias, shape, dtype, tolerance):
    model = make(kind, 33, 17, bias)
    x, out_grad = torch.randn(shape, requires_grad=True), torch.randn(*shape[:-1], 17)
    expected = DOUBLE[kind](model[0], x) + (0 if model[0].bias is None else model[0].bias.double())
    (expected_grad,) = torch.autograd.grad(expected, x, out_grad.double())
    with fast_linears(model, dtype):
        assert "forward" in model[0].__dict__
        out = model(x)
        (grad,) = torch.autograd.grad(out, x, out_grad.transpose(0, -2).contiguous().transpose(0, -2))  # not laid out as x is
    assert out.dtype == grad.dtype == torch.float32
    assert relative(out, expected) < tolerance
    assert relative(grad, expected_grad) < tolerance
    assert "forward" not in model[0].__dict__


def test_a_float32_product_in_bfloat16_is_rounded_and_that_alone():
    model, x = make(nn.Linear, 64, 64), torch.randn(9, 64)
    with fast_linears(model, torch.bfloat16):
        out = model(x)
    assert 1e-4 < relative(out, model(x)) < 1e-2
    assert torch.equal(out, nn.functional.linear(x.bfloat16(), model[0].weight.bfloat16(), model[0].bias.bfloat16()).float())


def test_the_inner_one_holds_and_the_outer_one_comes_back():
    model, x = make(nn.Linear, 16, 16).double(), torch.randn(3, 16, dtype=torch.float64)  # float64: there is no faster exact way
    plain = model(x)
    with fast_linears(model, torch.float32):
        rounded = model(x)
        with fast_linears(model):
            assert torch.equal(model(x), plain)
        assert torch.equal(model(x), rounded)
    assert not torch.equal(rounded, plain)
    assert torch.equal(model(x), plain)


def test_every_family_gives_the_same_logits(model):
    ids = torch.tensor([[1, 17, 40, 99, 7, 250, 31, 8]])
    before = [dict(m.__dict__) for m in model.modules()]
    with torch.no_grad():
        plain = model(ids).logits
        with fast_linears(model):
            fast = model(ids).logits
        with fast_linears(model, torch.bfloat16):
            rounded = model(ids).logits
    assert relative(fast, plain) < 1e-5
    assert 1e-4 < relative(rounded, plain) < 0.1
    assert [m.__dict__.keys() for m in model.modules()] == [d.keys() for d in before]


def test_only_the_named_ones(llama):
    with fast_linears(llama, torch.bfloat16, ("model.layers.3.", "lm_head")):
        changed = [name for name, module in llama.named_modules() if "forward" in module.__dict__]
    assert changed
    assert all(name.startswith("model.layers.3.") or name == "lm_head" for name in changed)


def test_others_are_left_alone():
    class Own(nn.Linear):
        pass

    hooked = nn.Linear(4, 4)
    hooked.forward = lambda x: x
    model = nn.Sequential(Own(4, 4), hooked, nn.Bilinear(4, 4, 4))
    before = hooked.forward
    with fast_linears(model, torch.bfloat16):
        assert hooked.forward is before
        assert "forward" not in model[0].__dict__
    assert hooked.forward is before


def test_all_is_put_back_after_an_error():
    model = make(nn.Linear, 4, 4)
    with pytest.raises(KeyError), fast_linears(model):
        raise KeyError
    assert "forward" not in model[0].__dict__


def test_inside_autocast_it_is_autocasts_business(llama):
    ids = torch.tensor([[1, 17, 40, 99]])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        want = llama(input_ids=ids).logits
        with fast_linears(llama):
            torch.testing.assert_close(llama(input_ids=ids).logits, want)


def test_of_a_pathway_layer_the_map_it_stands_before_and_no_other(llama):
    name = "model.layers.1.mlp.down_proj"
    config = RepConfig(target_modules=[name], kind="closed", inference_mode=True)
    for i in range(3):
        attach(llama, f"p{i}", config, {name: detached_state(RepLayer(llama.get_submodule(name), "p", config), "p")})
    layer = llama.get_submodule(name)
    with fast_linears(llama, names="model.layers.1."):
        changed = [module for module in (*llama.modules(), layer.base_layer) if "forward" in module.__dict__]
    assert layer.base_layer in changed and len(changed) == 7
    assert not any("forward" in module.__dict__ for module in (*llama.modules(), layer.base_layer))
