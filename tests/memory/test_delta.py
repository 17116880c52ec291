"""A weight change in factors equals the dense one."""

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.memory.delta import Delta, bit_sum, scratch_weights


@pytest.fixture(params=["rank one", "rank three", "whole"])
def factors(request):
    n = {"rank one": 1, "rank three": 3, "whole": None}[request.param]
    torch.manual_seed(0)
    return (torch.randn(4, 6), None) if n is None else (torch.randn(4, n), torch.randn(n, 6))


@pytest.mark.parametrize("transposed", [False, True])
def test_add_dense_and_norm_agree(factors, transposed):
    left, right = factors
    delta = Delta(left, right, transposed)
    want = left.double() if right is None else left.double() @ right.double()
    weight = torch.nn.Parameter(torch.zeros(6, 4) if transposed else torch.zeros(4, 6))
    delta.add_to(weight)
    torch.testing.assert_close((weight.T if transposed else weight).double(), want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(delta.dense().double(), want, rtol=1e-5, atol=1e-6)
    assert delta.norm() == pytest.approx(want.norm().item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_adds_in_the_weights_dtype(factors, dtype):
    left, right = factors
    weight = torch.ones(4, 6, dtype=dtype)
    Delta(left, right).add_to(weight)
    assert weight.dtype == dtype
    want = torch.ones(4, 6).double() + (left.double() if right is None else left.double() @ right.double())
    torch.testing.assert_close(weight.double(), want, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_scratch_weights_stand_in_and_leave(family, make_model):
    anatomy = Anatomy(make_model(family))
    before = {i: (anatomy.weight(i), anatomy.weight(i).clone(), anatomy.weight(i)._version) for i in (0, 2)}

    def scribble():
        with scratch_weights(anatomy, [0, 2]) as running:
            for i, weight in running.items():
                assert anatomy.weight(i) is weight
                assert torch.equal(weight, before[i][1])
                weight.add_(1)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        scribble()
    for i, (weight, values, version) in before.items():
        assert anatomy.weight(i) is weight
        assert torch.equal(weight, values)
        assert weight._version == version


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(8, 6), (5, 3)])
def test_the_sum_of_the_bits_tells_any_change(dtype, shape):
    tensor = torch.randn(shape).to(dtype)
    found = bit_sum(tensor)
    assert bit_sum(tensor.clone()) == bit_sum(tensor.T.contiguous().T) == found
    for row, column in torch.cartesian_prod(*map(torch.arange, shape)).tolist():
        changed = tensor.clone()
        changed[row, column] = -changed[row, column]
        assert bit_sum(changed) != found
    assert len({bit_sum(tensor.roll(n, axis)) for axis in (0, 1) for n in range(shape[axis])}) == sum(shape) - 1
