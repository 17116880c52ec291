"""The bounds on a memory whose logits are affine in the dose, where they must tell exactly when an answer is retrieved."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from easyedit_rep.analysis.lemma import FAR, doses, full_change, interval
from easyedit_rep.memory.covariance import Covariance
from easyedit_rep.memory.delta import Delta


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 3))
def test_the_interval_holds_exactly_the_doses_that_answer(seed, length):
    generator = torch.Generator().manual_seed(seed)
    before, after = torch.randn(2, length, 9, generator=generator, dtype=torch.float64)
    answer = torch.randint(0, 9, (length,), generator=generator)
    low, high = interval(before, after, answer)
    for dose in torch.linspace(-4, 4, 161).tolist():
        if min(abs(dose - low), abs(dose - high)) > 1e-6:
            answered = bool((torch.lerp(before, after, dose).argmax(-1) == answer).all())
            assert answered == (low < dose < high)


def test_one_rival_gives_the_two_epsilons():
    """The target is 3 behind without the edit and 1 ahead with all of it: three quarters of the edit are needed."""
    low, high = interval(torch.tensor([[0.0, 3.0]]), torch.tensor([[2.0, 1.0]]), torch.tensor([0]))
    assert (low, high) == (pytest.approx(0.75), FAR)
    low, high = interval(torch.tensor([[0.0, 3.0]]), torch.tensor([[2.0, 1.0]]), torch.tensor([1]))
    assert (low, high) == (-FAR, pytest.approx(0.75))


def test_an_answer_that_never_leads_has_no_dose():
    same = torch.tensor([[0.0, 3.0]])
    low, high = interval(same, same, torch.tensor([0]))
    assert low >= high
    assert interval(same, same, torch.tensor([1])) == (-FAR, FAR)


def test_a_toy_memory_retrieves_the_edit_where_the_bounds_say():
    """W maps keys to values, E values to logits. After a rank-one edit every key's answer is foretold by its whitened similarity alone."""
    generator = torch.Generator().manual_seed(0)
    size, out, vocabulary = 16, 8, 12
    root = torch.randn(200, size, generator=generator, dtype=torch.float64)
    covariance = Covariance(root.T @ root / 200, 200)
    weight, unembed = torch.randn(out, size, generator=generator).double(), torch.randn(vocabulary, out, generator=generator).double()
    star, target = torch.randn(size, generator=generator).double(), 5
    u = covariance.solve(star)
    wanted = 3 * unembed[target]
    left = (wanted - weight @ star) / (u @ star)
    delta = Delta(left[:, None], u[None])
    change = full_change(delta, star).double()
    torch.testing.assert_close(weight @ star + change, wanted, rtol=1e-5, atol=1e-5)
    edited, held = weight + delta.left @ delta.right, []
    for closeness in torch.linspace(-0.5, 1.5, 60).double():
        key = closeness * star + torch.randn(size, generator=generator).double() * 0.5
        beta = doses(delta, key[None], star).item()
        assert beta == pytest.approx((key @ u / (star @ u)).item())
        before = unembed @ weight @ key
        low, high = interval(before[None], (before + unembed @ change)[None], torch.tensor([target]))
        answered = int((unembed @ edited @ key).argmax()) == target
        assert answered == (low < beta < high)
        held.append(answered)
    assert 5 < sum(held) < 55, "the toy has both"
