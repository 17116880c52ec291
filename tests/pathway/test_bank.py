"""Gates asked together answer as gates asked one by one, and hold nothing twice."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from easyedit_rep.pathway import RepConfig, RepLayer
from easyedit_rep.pathway.bank import gate_logits


def make_layer(n, **options):
    torch.manual_seed(0)
    layer = RepLayer(nn.Linear(48, 32), "p0", RepConfig(target_modules=["x"], rank=4, threshold=0.5, inference_mode=True, **options)).eval()
    for i in range(1, n):
        layer.update_layer(f"p{i}", RepConfig(target_modules=["x"], rank=4, threshold=0.4 + 0.02 * i, inference_mode=True, **options))
    for group in (layer.rep_up, layer.rep_gate_out):
        for linear in group.values():
            nn.init.normal_(linear.weight)
    layer.set_adapter([f"p{i}" for i in range(n)], inference_mode=True)
    return layer


def one_by_one(layer, keys):
    moved = keys.clone()
    for name in layer.rep_down:
        moved = torch.where(layer.is_open(keys, name), moved + layer.project(keys, name), moved)
    return moved


@pytest.mark.parametrize("n", [1, 2, 9])
def test_equal_to_one_by_one(n):
    layer, keys = make_layer(n), torch.randn(3, 5, 48)
    want = one_by_one(copy.deepcopy(layer), keys)
    for _ in range(2):  # the second time they already lie together
        torch.testing.assert_close(layer.adapt(keys), want)
    opened = torch.stack([layer.is_open(keys, name) for name in layer.rep_down])
    assert opened.any() and not opened.all()


def test_weights_are_views_of_one_matrix_and_stay_parameters():
    layer, keys = make_layer(3), torch.randn(4, 48)
    layer.adapt(keys)
    storages = {layer.rep_gate_in[name].weight.untyped_storage().data_ptr() for name in layer.rep_gate_in}
    assert len(storages) == 1
    with torch.no_grad():
        layer.rep_gate_in["p1"].weight.mul_(3.0)
    torch.testing.assert_close(layer.adapt(keys), one_by_one(copy.deepcopy(layer), keys))


def test_moved_copied_and_changed_sets_of_pathways(tmp_path):
    layer, keys = make_layer(4), torch.randn(6, 48)
    layer.adapt(keys)
    twin = copy.deepcopy(layer)
    torch.testing.assert_close(twin.adapt(keys), layer.adapt(keys))
    twin.double().float()
    torch.testing.assert_close(twin.adapt(keys), layer.adapt(keys))
    layer.delete_adapter("p1")
    layer.update_layer("late", RepConfig(target_modules=["x"], rank=4, threshold=0.1, inference_mode=True))
    nn.init.normal_(layer.rep_up["late"].weight)
    layer.set_adapter([*layer.rep_down], inference_mode=True)
    torch.testing.assert_close(layer.adapt(keys), one_by_one(copy.deepcopy(layer), keys))
    save_file(layer.state_dict(), tmp_path / "x.safetensors")
    saved = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(saved[name], value) for name, value in layer.state_dict().items())


def test_gates_of_different_sizes_are_asked_one_by_one():
    layer, keys = make_layer(2), torch.randn(6, 48)
    layer.update_layer("wide", RepConfig(target_modules=["x"], rank=4, gate_ratio=0.5, threshold=0.5, inference_mode=True))
    layer.set_adapter([*layer.rep_down], inference_mode=True)
    torch.testing.assert_close(layer.adapt(keys), one_by_one(copy.deepcopy(layer), keys))


def test_gradients_reach_the_keys():
    layer = make_layer(3)
    keys = torch.randn(2, 48, requires_grad=True)
    first, second = list(layer.rep_gate_in.values()), list(layer.rep_gate_out.values())
    (gradient,) = torch.autograd.grad(gate_logits(keys, first, second).sum(), [keys])
    assert gradient.abs().min() > 0


def test_chained_pathways_see_what_the_one_before_gave():
    layer, keys = make_layer(3, chain=True), torch.randn(7, 48)
    want = keys.clone()
    for name in ("p0", "p1", "p2"):
        want = torch.where(layer.is_open(want, name), want + layer.project(want, name), want)
    torch.testing.assert_close(layer.adapt(keys), want)
    summed = make_layer(3).adapt(keys)
    assert not torch.equal(layer.adapt(keys), summed)
