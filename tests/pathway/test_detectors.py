"""Closed-form pathways in a layer and a model: one product for all of them, the highest margin wins, and PEFT keeps them."""

import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.errors import EditError
from easyedit_rep.pathway import RepConfig, RepLayer, bank
from easyedit_rep.pathway.model import attach, detach, detached_state, layers_of, load_state
from easyedit_rep.rep_options import PathwayShape

D = 48
IDS = torch.tensor([[1, 17, 40, 99, 7, 250, 31, 8]])


def closed(detectors=1, leave=None, value=False):
    return RepConfig(target_modules=["x"], kind="closed", detectors=detectors, leave=leave, value=value, inference_mode=True)


def fill(layer, name, seed):
    """Detectors that are open at a tenth or so of the keys, a key, and a value if there is one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        gate, key = layer.rep_gate[name], layer.rep_key[name]
        gate.weight.copy_(torch.randn(gate.weight.shape, generator=generator))
        gate.bias.fill_(-1.2 * gate.in_features**0.5)
        key.weight.copy_(torch.randn(key.weight.shape, generator=generator))
        if name in layer.rep_value:
            layer.rep_value[name].weight.copy_(torch.randn(layer.out_features, 1, generator=generator))


def make_layer(n, detectors=lambda i: 1 + i % 2, base=None, valued=lambda i: False):
    layer = RepLayer(base or nn.Linear(D, 32), "p0", closed(detectors(0), value=valued(0))).eval()
    for i in range(1, n):
        layer.update_layer(f"p{i}", closed(detectors(i), value=valued(i)))
    for i in range(n):
        fill(layer, f"p{i}", i)
    layer.set_adapter([f"p{i}" for i in range(n)], inference_mode=True)
    return layer


def winners(layer, keys):
    """In float64, name by name: {pathway: where it is the one with the highest margin}."""
    margins = {}
    for name in layer.active_adapters:
        gate = layer.rep_gate[name]
        margins[name] = (keys.double() @ gate.weight.double().T + gate.bias.double()).amax(-1)
    highest = torch.stack(list(margins.values())).amax(0)
    return {name: (margin == highest) & (margin > 0) for name, margin in margins.items()}


def one_by_one(layer, keys):
    out = keys.double()
    for name, here in winners(layer, keys).items():
        out = torch.where(here[..., None], layer.rep_key[name].weight[:, 0].double(), out)
    return out


def values_one_by_one(layer, keys):
    """What the layer gives out, in float64."""
    out = one_by_one(layer, keys) @ layer.base_layer.weight.double().T + layer.base_layer.bias.double()
    for name, here in winners(layer, keys).items():
        if name in layer.rep_value:
            out = out + torch.where(here[..., None], layer.rep_value[name].weight[:, 0].double(), 0.0)
    return out


@pytest.fixture
def keys():
    torch.manual_seed(1)
    return torch.randn(6, 9, D)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_highest_margin_wins_as_asked_one_by_one(keys, n):
    layer = make_layer(n)
    opened = torch.stack([layer.is_open(keys, name) for name in layer.pathways(layer.active_adapters)]).sum(0)
    assert opened.max() >= min(n, 2), "several are open at once, or the test says nothing"
    assert (opened == 0).any()
    for _ in range(2):  # the second time the bank is there
        torch.testing.assert_close(layer.adapt(keys).double(), one_by_one(layer, keys))


def test_a_key_that_is_near_its_pathways_own_is_left_and_no_other_moves_it(keys):
    layer = RepLayer(nn.Linear(D, 32), "p0", closed(leave=0.9)).eval()
    layer.update_layer("p1", closed())
    for i, bias in enumerate((1000.0, 900.0)):
        fill(layer, f"p{i}", i)
        with torch.no_grad():
            layer.rep_gate[f"p{i}"].bias.fill_(bias)
    layer.set_adapter(["p0", "p1"], inference_mode=True)
    own = layer.rep_key["p0"].weight[:, 0]
    near = own + 0.1 * own.norm() / keys.norm(dim=-1, keepdim=True) * keys
    assert torch.equal(layer.adapt(near), near)
    assert torch.equal(layer.adapt(keys), own.expand_as(keys)), "far ones are moved"
    assert not layer.is_open(near, "p0").any() and layer.is_open(keys, "p0").all()
    assert layer.is_open(near, "p1").all(), "asked alone, it would"
    layer.set_adapter(["p1"], inference_mode=True)
    assert torch.equal(layer.adapt(near), layer.rep_key["p1"].weight[:, 0].expand_as(near))


def test_a_key_that_is_left_is_left_by_the_papers_kind_too(keys):
    layer = RepLayer(nn.Linear(D, 32), "p0", closed(leave=0.9)).eval()
    layer.update_layer("paper", RepConfig(target_modules=["x"], rank=4, threshold=0.0, inference_mode=True))
    nn.init.normal_(layer.rep_up["paper"].weight)
    fill(layer, "p0", 0)
    with torch.no_grad():
        layer.rep_gate["p0"].bias.fill_(1000.0)
    own = layer.rep_key["p0"].weight[:, 0]
    near = 2 * own + 0.01 * keys
    layer.set_adapter(["paper"], inference_mode=True)
    assert not torch.allclose(layer.adapt(near), near), "alone, that one moves it"
    layer.set_adapter(["paper", "p0"], inference_mode=True)
    assert torch.equal(layer.adapt(near), near)


@pytest.mark.parametrize("valued", [lambda i: True, lambda i: i % 2 == 0, lambda i: i == 4])
def test_the_one_that_acts_adds_its_value_if_it_has_one(keys, valued, monkeypatch, tmp_path):
    layer = make_layer(5, valued=valued)
    here = winners(layer, keys)
    assert any(here[f"p{i}"].any() for i in range(5) if valued(i)) and not torch.stack(list(here.values())).any(0).all()
    want = values_one_by_one(layer, keys)
    torch.testing.assert_close(layer(keys).double(), want, rtol=1e-4, atol=1e-5)
    shut = ~torch.stack(list(here.values())).any(0)
    assert torch.equal(layer.moved(keys)[1][shut], torch.zeros(int(shut.sum()), 32))
    twin = copy.deepcopy(layer)
    fill(twin, "p4", 78)
    torch.testing.assert_close(twin(keys).double(), values_one_by_one(twin, keys), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer(keys).double(), want, rtol=1e-4, atol=1e-5)
    twin.double().float()
    torch.testing.assert_close(twin(keys).double(), values_one_by_one(twin, keys), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.compile(copy.deepcopy(layer), backend="eager")(keys).double(), want, rtol=1e-4, atol=1e-5)
    save_file(layer.state_dict(), tmp_path / "x.safetensors")
    assert all(torch.equal(layer.state_dict()[name], value) for name, value in load_file(tmp_path / "x.safetensors").items())
    monkeypatch.setattr(bank, "HIDDEN", 3 * D)  # of some parts none is open
    torch.testing.assert_close(layer(keys).double(), want, rtol=1e-4, atol=1e-5)
    layer.delete_adapter("p4")
    torch.testing.assert_close(layer(keys).double(), values_one_by_one(layer, keys), rtol=1e-4, atol=1e-5)
    layer._disable_adapters = True
    assert torch.equal(layer(keys), layer.base_layer(keys))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_value_is_added_in_float32_and_shut_tokens_are_as_they_were(keys, dtype):
    layer, keys = make_layer(3, valued=lambda i: True), keys.to(dtype)
    layer.base_layer.to(dtype)  # the down-projection alone: a pathway stays float32
    here, out = winners(layer, keys), layer(keys)
    opened = torch.stack(list(here.values())).any(0)
    plain = layer.base_layer(layer.adapt(keys))
    assert out.dtype == dtype and torch.equal(out[~opened], plain[~opened]) and not torch.equal(out[opened], plain[opened])
    more = sum(torch.where(here[n][..., None], layer.rep_value[n].weight[:, 0], 0.0) for n in here)
    want = plain.to(torch.promote_types(dtype, torch.float32)) + more
    assert torch.equal(out, want.to(dtype))


@pytest.mark.parametrize("leave", [0.0, -0.5, 1.0, float("nan")])
def test_a_cosine_that_rounding_may_cross_is_refused(leave):
    for make in (lambda: closed(leave=leave), lambda: PathwayShape(kind="closed", leave=leave)):
        with pytest.raises(EditError, match=r"leave: .* is not above 0 and at most 0\.99"):
            make()
    with pytest.raises(EditError, match=r"leave: 0\.8 .* a value is to be added"):
        closed(leave=0.8, value=True)


def test_a_shape_says_leave_and_value_only_where_they_say_something():
    assert "leave" not in closed().shape and closed(leave=0.8).shape["leave"] == 0.8
    assert "value" not in closed().shape and closed(value=True).shape["value"] is True
    assert RepConfig(**closed(leave=0.8).shape).leave == 0.8 and RepConfig(**closed(value=True).shape).value


def test_order_of_pathways_does_not_matter(keys):
    one, other = make_layer(5), make_layer(5)
    other.set_adapter(["p3", "p1", "p4", "p0", "p2"], inference_mode=True)
    assert torch.equal(one.adapt(keys), other.adapt(keys))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keys(keys, dtype):
    layer, keys = make_layer(3), keys.to(dtype)
    out = layer.adapt(keys)
    assert out.dtype == dtype
    assert torch.equal(out, one_by_one(layer, keys).to(dtype))
    shut = ~torch.stack([layer.is_open(keys, n) for n in layer.pathways(layer.active_adapters)]).any(0).squeeze(-1)
    assert torch.equal(out[shut], keys[shut])


def test_none_open_gives_back_the_very_tensor(keys):
    layer = make_layer(3)
    for gate in layer.rep_gate.values():
        nn.init.constant_(gate.bias, -1e4)
    assert layer.adapt(keys) is keys


def test_written_moved_copied_and_taken_out(keys, tmp_path):
    layer = make_layer(4)
    layer.adapt(keys)
    fill(layer, "p1", 77)  # writing to a parameter writes to the bank
    torch.testing.assert_close(layer.adapt(keys).double(), one_by_one(layer, keys))
    twin = copy.deepcopy(layer)
    fill(twin, "p2", 78)
    torch.testing.assert_close(twin.adapt(keys).double(), one_by_one(twin, keys))
    assert not torch.equal(twin.adapt(keys), layer.adapt(keys))
    twin.double().float()
    torch.testing.assert_close(twin.adapt(keys).double(), one_by_one(twin, keys))
    layer.delete_adapter("p1")
    torch.testing.assert_close(layer.adapt(keys).double(), one_by_one(layer, keys))
    layer.update_layer("late", closed())
    fill(layer, "late", 5)
    layer.set_adapter(list(layer.rep_count), inference_mode=True)
    torch.testing.assert_close(layer.adapt(keys).double(), one_by_one(layer, keys))
    save_file(layer.state_dict(), tmp_path / "x.safetensors")
    assert all(torch.equal(layer.state_dict()[name], value) for name, value in load_file(tmp_path / "x.safetensors").items())


def test_beside_a_trained_pathway_the_detector_has_the_last_word(keys):
    layer = make_layer(1)
    layer.update_layer("t", RepConfig(target_modules=["x"], rank=4, threshold=0.0, inference_mode=True))
    nn.init.normal_(layer.rep_up["t"].weight)
    layer.set_adapter(["p0", "t"], inference_mode=True)
    opened, out = layer.is_open(keys, "p0"), layer.adapt(keys)
    moved = keys + layer.project(keys, "t")
    torch.testing.assert_close(out, torch.where(opened, layer.rep_key["p0"].weight[:, 0], moved))


def test_inactive_and_disabled_ones_do_nothing(keys):
    layer = make_layer(2)
    layer.set_adapter(["p1"], inference_mode=True)
    torch.testing.assert_close(layer.adapt(keys).double(), one_by_one(layer, keys))
    layer.set_adapter([], inference_mode=True)
    assert layer.adapt(keys) is keys
    layer.set_adapter(["p0", "p1"], inference_mode=True)
    layer._disable_adapters = True
    assert layer.adapt(keys) is keys


@pytest.mark.parametrize(("value", "kilobytes"), [(False, 132), (True, 148)])
def test_what_an_edit_of_llama_2_takes(value, kilobytes):
    layer = RepLayer(nn.Linear(11008, 4096, device="meta"), "a", closed(2, value=value))
    size = sum(p.numel() * p.element_size() for name, p in layer.named_parameters() if name.startswith("rep_"))
    assert size // 1000 == kilobytes


def test_compiled_it_gives_the_same(keys):
    layer = make_layer(3)
    want = layer(keys)
    for warm in (True, False):
        twin = copy.deepcopy(layer)
        if warm:
            twin(keys)
        torch.testing.assert_close(torch.compile(twin, backend="eager")(keys), want)


def test_kinds_are_checked_and_shapes_kept():
    with pytest.raises(EditError, match="'open' is not one of paper, closed"):
        RepConfig(target_modules=["x"], kind="open")
    config = closed(2)
    assert RepConfig(target_modules=["y"], **config.shape).shape == config.shape


# -- in a model ------------------------------------------------------------------------------------------------------------------


def put(model, name="p", seed=0, detectors=2, value=True):
    names = [Anatomy(model).names.rewrite_module_tmp.format(i) for i in (1, 2)]
    config = RepConfig(target_modules=names, kind="closed", detectors=detectors, value=value, inference_mode=True)
    state = {}
    for module_name in names:
        module = model.get_submodule(module_name)
        layer = RepLayer(getattr(module, "base_layer", module), "x", config)
        fill(layer, "x", seed)
        layer.rep_gate["x"].bias.data.zero_()  # open at half of the tokens
        state[module_name] = detached_state(layer, "x")
    attach(model, name, config, state)
    return state


def logits(model, ids=IDS, **options):
    with torch.no_grad():
        return model(input_ids=ids, **options).logits


def test_attach_acts_and_detach_restores(model):
    before = logits(model)
    put(model)
    assert not torch.allclose(logits(model), before)
    put(model, "q", seed=5, value=False)
    detach(model, "p")
    assert [list(layer.rep_count) for layer in layers_of(model).values()] == [["q"], ["q"]]
    detach(model, "q")
    assert not layers_of(model)
    assert torch.equal(logits(model), before)


def test_padded_rows_and_the_cache_change_nothing(llama):
    put(llama)
    put(llama, "q", seed=3)
    rows = [IDS[0, :5], IDS[0]]
    padded = torch.zeros(2, 8, dtype=torch.long)
    mask = torch.zeros(2, 8, dtype=torch.long)
    for i, row in enumerate(rows):  # on the left, as for generation
        padded[i, 8 - len(row) :], mask[i, 8 - len(row) :] = row, 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    together = logits(llama, padded, attention_mask=mask, position_ids=positions)
    for i, row in enumerate(rows):
        torch.testing.assert_close(together[i, 8 - len(row) :], logits(llama, row[None])[0], rtol=1e-4, atol=1e-4)
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        cached, whole = (llama.generate(IDS, use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached, whole)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_peft_saves_and_loads_it_under_any_name(make_model, family, tmp_path):
    model = make_model(family)
    names = [Anatomy(model).names.rewrite_module_tmp.format(i) for i in (1, 2)]
    config = RepConfig(target_modules=names, kind="closed", detectors=2, value=True, inference_mode=True)
    wrapped = get_peft_model(copy.deepcopy(model), config, adapter_name="one").eval()
    for i, layer in enumerate(layers_of(wrapped).values()):
        fill(layer, "one", i)
        layer.rep_gate["one"].bias.data.zero_()
    want = logits(wrapped)
    assert not torch.allclose(want, logits(model))
    wrapped.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(copy.deepcopy(model), tmp_path / "one", adapter_name="other").eval()
    assert loaded.peft_config["other"].kind == "closed"
    torch.testing.assert_close(logits(loaded), want)


def test_a_state_of_another_shape_is_refused(llama):
    state = put(llama)
    layer = next(iter(layers_of(llama).values()))
    layer.update_layer("one", closed(1))
    with pytest.raises(RuntimeError, match=r"rep_gate.weight is \(2, 48\), not \(1, 48\)"):
        load_state(layer, "one", next(iter(state.values())))


def test_many_keys_are_looked_at_a_few_at_a_time(keys, monkeypatch):
    layer = make_layer(9)
    want = layer.adapt(keys)
    monkeypatch.setattr(bank, "HIDDEN", 3 * D)
    torch.testing.assert_close(layer.adapt(keys), want)
