"""The key adapter's arithmetic, against formulas written out."""

import copy

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from easyedit_rep.pathway import RepConfig, RepLayer


def make_layer(names=("a",), *, conv=False, dtype=torch.float32, threshold=0.5, dropout=0.0, trained=True):
    torch.manual_seed(0)
    base = Conv1D(32, 48) if conv else nn.Linear(48, 32)
    config = RepConfig(target_modules=["x"], rank=4, threshold=threshold, dropout=dropout, inference_mode=True)
    layer = RepLayer(base.to(dtype), names[0], config)
    for name in names[1:]:
        layer.update_layer(name, config)
    if trained:
        for name in names:
            nn.init.normal_(layer.rep_up[name].weight)
    layer.set_adapter(list(names), inference_mode=True)
    return layer.eval()


def formulas(layer, name, keys):
    """gate (…, 1) and projection (…, D), in float64."""
    p = {key: value.double() for key, value in layer.named_parameters()}
    keys = keys.double()
    inner = keys @ p[f"rep_gate_in.{name}.weight"].T + p[f"rep_gate_in.{name}.bias"]
    gelu = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    gate = 1 / (1 + torch.exp(-(gelu @ p[f"rep_gate_out.{name}.weight"].T + p[f"rep_gate_out.{name}.bias"])))
    return gate, keys @ p[f"rep_down.{name}.weight"].T @ p[f"rep_up.{name}.weight"].T


@pytest.fixture
def keys():
    torch.manual_seed(1)
    return torch.randn(5, 7, 48)


def test_sizes_are_the_papers():
    layer = RepLayer(nn.Linear(11008, 8, device="meta"), "a", RepConfig(target_modules=["x"]))
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters() if name.startswith("rep_")}
    assert shapes == {
        "rep_down.a.weight": (32, 11008),
        "rep_up.a.weight": (11008, 32),
        "rep_gate_in.a.weight": (1100, 11008),
        "rep_gate_in.a.bias": (1100,),
        "rep_gate_out.a.weight": (1, 1100),
        "rep_gate_out.a.bias": (1,),
    }


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fresh_pathway_is_the_identity(keys, conv, dtype):
    layer, keys = make_layer(trained=False, conv=conv, dtype=dtype, threshold=0.0), keys.to(dtype)
    assert layer.is_open(keys, "a").all()
    assert torch.equal(layer(keys), layer.base_layer(keys))
    assert torch.equal(layer.train()(keys), layer.base_layer(keys))


def test_training_gate_is_soft_and_test_gate_is_hard(keys):
    layer = make_layer()
    gate, projection = formulas(layer, "a", keys)
    assert 0.1 < (gate > 0.5).double().mean() < 0.9, "some gates are open and some shut, or the test says nothing"
    torch.testing.assert_close(layer.soft(keys, "a").double(), keys + gate * projection, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.adapt(keys).double(), torch.where(gate > 0.5, keys + projection, keys.double()), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.train().adapt(keys).double(), keys + gate * projection, rtol=1e-5, atol=1e-5)


def test_gate_opens_strictly_above_the_threshold(keys):
    layer = make_layer()
    for parameter in (layer.rep_gate_out["a"].weight, layer.rep_gate_out["a"].bias):
        nn.init.zeros_(parameter)  # sigmoid(0) = 0.5, the threshold itself
    assert not layer.is_open(keys, "a").any()
    layer.rep_threshold["a"] = 0.499
    assert layer.is_open(keys, "a").all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_where_no_gate_is_open_the_key_passes_bit_for_bit(keys, dtype):
    layer, keys = make_layer(("a", "b"), dtype=dtype), keys.to(dtype)
    shut = ~(layer.is_open(keys, "a") | layer.is_open(keys, "b")).squeeze(-1)
    adapted = layer.adapt(keys)
    assert adapted.dtype == dtype
    assert 0 < shut.sum() < shut.numel()
    assert torch.equal(adapted[shut], keys[shut])
    assert not torch.equal(adapted[~shut], keys[~shut])


def test_pathways_add_up_whatever_their_order(keys):
    one, other = make_layer(("a", "b", "c")), make_layer(("a", "b", "c"))
    other.set_adapter(["c", "a", "b"], inference_mode=True)
    want = keys.double()
    for name in "abc":
        gate, projection = formulas(one, name, keys)
        want = want + (gate > 0.5) * projection
    torch.testing.assert_close(one.adapt(keys).double(), want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(one.adapt(keys), other.adapt(keys), rtol=1e-6, atol=1e-5)
    soft = sum(one.soft(keys, name) - keys for name in "abc") + keys
    torch.testing.assert_close(one.train().adapt(keys), soft, rtol=1e-6, atol=1e-5)


def test_inactive_and_disabled_pathways_do_nothing(keys):
    layer = make_layer(("a", "b"))
    layer.set_adapter(["b"], inference_mode=True)
    gate, projection = formulas(layer, "b", keys)
    torch.testing.assert_close(layer.adapt(keys).double(), torch.where(gate > 0.5, keys + projection, keys.double()), rtol=1e-5, atol=1e-5)
    layer._disable_adapters = True
    assert layer.adapt(keys) is keys


def test_dropout_is_for_training_only(keys):
    layer = make_layer(dropout=0.5, threshold=0.0)
    assert torch.equal(layer.adapt(keys), layer.adapt(keys))
    layer.train()
    assert not torch.equal(layer.adapt(keys), layer.adapt(keys))


def test_dropout_draws_from_the_generator_it_is_given(keys):
    layer = make_layer(dropout=0.25)
    with torch.random.fork_rng():
        before = torch.get_rng_state()
        first, again = (layer.project(keys, "a", torch.Generator().manual_seed(3)) for _ in range(2))
        assert torch.equal(before, torch.get_rng_state())
    keep = torch.rand(keys.shape, generator=torch.Generator().manual_seed(3)) >= 0.25
    _, want = formulas(layer, "a", keys * keep / 0.75)
    assert torch.equal(first, again)
    torch.testing.assert_close(first.double(), want, rtol=1e-4, atol=1e-5)
    assert keep.double().mean().item() == pytest.approx(0.75, abs=0.05)


def test_start_weights_come_from_the_generator():
    one, two = make_layer(), make_layer()
    for layer in (one, two):
        layer.reset("a", torch.Generator().manual_seed(9))
    for (name, p), q in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.equal(p, q), name
    assert not one.rep_up["a"].weight.any()
    bound = 48**-0.5
    assert one.rep_down["a"].weight.abs().max() < bound
    assert one.rep_down["a"].weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.15)


def test_autocast_leaves_the_arithmetic_alone(keys):
    layer = make_layer()
    want = layer.adapt(keys)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.adapt(keys), want)


@pytest.mark.parametrize("conv", [False, True])
def test_parameters_keep_their_names_and_a_copy_keeps_them_tied(keys, conv):
    layer = make_layer(conv=conv)
    assert layer.weight is layer.base_layer.weight
    assert layer.bias is layer.base_layer.bias
    assert layer.in_features == 48
    assert {"weight", "bias"} < {name for name, _ in layer.named_parameters()}
    assert not any("base_layer" in n for n in layer.state_dict())
    twin = copy.deepcopy(layer)
    assert twin.weight is twin.base_layer.weight
    assert twin.weight is not layer.weight
    assert torch.equal(twin(keys), layer(keys))
    nn.init.zeros_(twin.weight)
    assert not torch.equal(twin(keys), layer(keys))


def test_layer_of_a_converted_model_still_runs(keys):
    layer, keys = make_layer().to(torch.bfloat16), keys.bfloat16()
    assert layer.weight is layer.base_layer.weight
    assert layer(keys).dtype == torch.bfloat16
    shut = ~layer.is_open(keys, "a").squeeze(-1)
    assert torch.equal(layer.adapt(keys)[shut], keys[shut])
