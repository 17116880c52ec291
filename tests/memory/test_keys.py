"""Keys are the inputs of the down-projections, read in a forward that stops early."""

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.errors import EditError
from easyedit_rep.memory.keys import read_keys, read_token_keys


def full_keys(anatomy, ids, layers):
    """A plain forward of the whole model on one sentence, with plain hooks."""
    seen = {}
    handles = [
        anatomy.rewrite(layer).register_forward_pre_hook(lambda _m, args, layer=layer: seen.update({layer: args[0][0].float()}))
        for layer in layers
    ]
    with torch.no_grad():
        anatomy.model(input_ids=torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_to_full_forwards_one_by_one(model, located, dtype):
    anatomy = Anatomy(model.to(dtype))
    layers = [2, 0]
    keys = read_keys(anatomy, located, layers)
    assert set(keys) == set(layers)
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    for i, p in enumerate(located):
        want = full_keys(anatomy, p.ids, layers)
        for layer in layers:
            assert keys[layer].dtype == torch.float32
            torch.testing.assert_close(keys[layer][i], want[layer][p.last], rtol=tolerance, atol=tolerance)


def test_token_keys_equal_full_forwards(model, rows):
    anatomy = Anatomy(model)
    tokens = read_token_keys(anatomy, rows, [1, 3])
    for i, row in enumerate(rows):
        want = full_keys(anatomy, row, [1, 3])
        for layer in (1, 3):
            torch.testing.assert_close(tokens[layer][i], want[layer], rtol=1e-5, atol=1e-5)


def test_order_does_not_matter(llama, located):
    anatomy = Anatomy(llama)
    forward, backward = (read_keys(anatomy, order, [2])[2] for order in (located, located[::-1]))
    torch.testing.assert_close(forward, backward.flip(0), rtol=1e-5, atol=1e-6)


def test_nothing_above_the_last_layer_runs(model, located):
    anatomy = Anatomy(model)
    calls = dict.fromkeys(range(anatomy.n_layers), 0)
    counted = [anatomy.rewrite(i).register_forward_hook(lambda _m, _a, _o, i=i: calls.update({i: calls[i] + 1})) for i in calls]
    entered = []
    counted += [anatomy.layer(i).register_forward_pre_hook(lambda _m, _a, i=i: entered.append(i)) for i in calls]
    read_keys(anatomy, located, [1, 2])
    assert entered == [0, 1, 2]
    assert list(calls.values()) == [1, 1, 0, 0], "not even the last layer's own down-projection is computed"
    for handle in counted:
        handle.remove()
    assert not any(m._forward_pre_hooks for m in model.modules()), "no hook stays behind"


def test_broken_weights_are_named(llama, located):
    anatomy = Anatomy(llama)
    with torch.no_grad():
        anatomy.weight(0)[0, 0] = torch.nan
    for read in (lambda: read_keys(anatomy, located, [1]), lambda: read_token_keys(anatomy, [p.ids for p in located], [1])):
        with pytest.raises(EditError, match="layer 1 gives NaN or infinite keys: the model's weights are broken, reload them"):
            read()
    assert not any(m._forward_pre_hooks for m in llama.modules())
