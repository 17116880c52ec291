"""The recursive state equals one batch solve over all pairs, in both forms, in any order, after any removal."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from easyedit_rep.errors import EditError
from easyedit_rep.memory.covariance import Covariance
from easyedit_rep.sequence.drift import measure_drift, refill
from easyedit_rep.sequence.state import LayerState

D, d, WEIGHT = 40, 12, 3.0
FORMS = ["pairs", "recursive", "auto"]


def make_covariance(size=D):
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(4 * size, size, generator=generator, dtype=torch.float64) * torch.logspace(0, -1.5, size, dtype=torch.float64)
    return Covariance(root.T @ root / len(root), len(root))


COVARIANCE = make_covariance()


def make_pairs(n, size=D, out=d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(n, size, generator=generator, dtype=torch.float64) + 0.5  # not centred, like real keys
    return keys, torch.randn(n, out, generator=generator, dtype=torch.float64)


def batch(keys, residuals, covariance=COVARIANCE):
    """The released algorithm: accumulate ΣRKᵀ and ΣKKᵀ, and solve."""
    system = WEIGHT * covariance.moment + keys.T @ keys
    return torch.linalg.solve(system, keys.T @ residuals).T


def apart(a, b):
    return ((a - b).norm() / b.norm()).item()


def fill(state, keys, residuals, sizes=(1,)):
    at, i = 0, 0
    while at < len(keys):
        step = sizes[i % len(sizes)]
        state.append(keys[at : at + step], residuals[at : at + step])
        at, i = at + step, i + 1
    return state


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", [(1,), (5, 1, 3)])
def test_a_thousand_edits_equal_one_batch(form, sizes):
    keys, residuals = make_pairs(1000)
    state = fill(LayerState.of(COVARIANCE, WEIGHT, d, form), keys, residuals, sizes)
    assert state.count == 1000
    assert apart(state.change, batch(keys, residuals)) < 1e-10


def test_the_steps_add_up_and_are_known_beforehand():
    keys, residuals = make_pairs(50)
    state, total = LayerState.of(COVARIANCE, WEIGHT, d, "recursive"), torch.zeros(d, D).double()
    for i in range(50):
        before = state.change.clone()
        foreseen = state.step(keys[i : i + 1], residuals[i : i + 1])
        assert torch.equal(state.change, before)
        left, right = state.append(keys[i : i + 1], residuals[i : i + 1])
        assert torch.equal(left @ right, foreseen[0] @ foreseen[1])
        total += left @ right
    assert apart(total, state.change) < 1e-12


@given(order=st.permutations(range(12)), form=st.sampled_from(FORMS))
@settings(max_examples=25, deadline=None)
def test_order_does_not_matter(order, form):
    keys, residuals = make_pairs(12)
    state = fill(LayerState.of(COVARIANCE, WEIGHT, d, form), keys[order], residuals[order])
    assert apart(state.change, batch(keys, residuals)) < 1e-11


@given(out=st.sets(st.integers(0, 79), min_size=1, max_size=79), form=st.sampled_from(FORMS))
@settings(max_examples=25, deadline=None)
def test_what_is_removed_was_never_there(out, form):
    keys, residuals = make_pairs(80)
    state = fill(LayerState.of(COVARIANCE, WEIGHT, d, form), keys, residuals)
    for i in out:
        state.remove(keys[i : i + 1], residuals[i : i + 1])
    left = [i for i in range(80) if i not in out]
    assert state.count == len(left)
    assert apart(state.change, batch(keys[left], residuals[left])) < 1e-9
    more = make_pairs(5, seed=9)
    fill(state, *more)  # and it goes on from there
    assert apart(state.change, batch(torch.cat([keys[left], more[0]]), torch.cat([residuals[left], more[1]]))) < 1e-9


def test_removing_all_gives_nothing():
    keys, residuals = make_pairs(40)
    state = fill(LayerState.of(COVARIANCE, WEIGHT, d, "recursive"), keys, residuals)
    margin = state.remove(keys, residuals)
    assert state.count == 0
    assert 0 < margin < 1e-3  # as many pairs as dimensions: little of P is the text's, and digits are lost in proportion
    assert state.change.norm() < 1e-12 / margin * batch(keys, residuals).norm()


def test_the_form_may_change_in_the_middle():
    keys, residuals = make_pairs(300)
    state = fill(LayerState.of(COVARIANCE, WEIGHT, d, "pairs"), keys[:100], residuals[:100])
    state.fold_at = 8
    fill(state, keys[100:200], residuals[100:200])
    state.fold_at = None
    fill(state, keys[200:], residuals[200:])
    assert apart(state.change, batch(keys, residuals)) < 1e-11


def test_recursive_memory_does_not_grow():
    keys, residuals = make_pairs(500)
    state = LayerState.of(COVARIANCE, WEIGHT, d, "recursive")
    sizes = set()
    for i in range(500):
        state.append(keys[i : i + 1], residuals[i : i + 1])
        sizes.add(sum(t.numel() for t in state.state_dict().values()))
    assert max(sizes) <= d * D + D * D + 32 * (2 * D + d + 32) + 1


def test_drift_in_float32_is_measured():
    """A thousand edits in float32: what is lost is far below what an edit of a bfloat16 model loses by rounding (4e-3)."""
    keys, residuals = make_pairs(1000)
    state = fill(LayerState.of(COVARIANCE, WEIGHT, d, "recursive", torch.float32), keys, residuals)
    lost = measure_drift(state, COVARIANCE, WEIGHT, keys, residuals)
    assert 1e-8 < lost < 1e-3
    assert apart(state.change.double(), batch(keys, residuals)) < 1e-3
    exact = fill(LayerState.of(COVARIANCE, WEIGHT, d, "recursive"), keys, residuals)
    assert measure_drift(exact, COVARIANCE, WEIGHT, keys, residuals) < 1e-10


def test_a_memory_filled_anew_is_exact_and_goes_on():
    keys, residuals = make_pairs(300)
    state = fill(LayerState.of(COVARIANCE, WEIGHT, d, "recursive", torch.float32), keys[:200], residuals[:200])
    state.change.mul_(1.01)
    assert measure_drift(state, COVARIANCE, WEIGHT, keys[:200], residuals[:200]) > 5e-3
    refill(state, COVARIANCE, WEIGHT, keys[:200], residuals[:200])
    assert (state.count, state.change.dtype, state.fold_at) == (200, torch.float32, 32)
    assert apart(state.change.double(), batch(keys[:200], residuals[:200])) < 1e-6
    fill(state, keys[200:], residuals[200:])
    assert apart(state.change.double(), batch(keys, residuals)) < 1e-3


def mapped(tensor):
    """As a tensor of a mapped file lies: nowhere in particular."""
    place = tensor.new_empty(tensor.numel() + 1)[1:].view(tensor.shape)
    return place.copy_(tensor)


@pytest.mark.parametrize("form", FORMS)
def test_a_saved_state_goes_on_bit_for_bit(form):
    keys, residuals = make_pairs(120)
    state = fill(LayerState.of(COVARIANCE, WEIGHT, d, form), keys[:70], residuals[:70])
    other = LayerState.of(COVARIANCE, WEIGHT, d, form)
    other.load_state_dict({name: mapped(value) for name, value in state.state_dict().items()})
    for one in (state, other):
        fill(one, keys[70:], residuals[70:])
        one.remove(keys[3:4], residuals[3:4])
    assert torch.equal(state.change, other.change)
    assert torch.equal(state.inverse, other.inverse)
    with pytest.raises(EditError, match="does not fit a layer"):
        LayerState.of(make_covariance(20), WEIGHT, d).load_state_dict(state.state_dict())


def test_a_pair_that_is_not_held_is_refused():
    keys, residuals = make_pairs(3)
    state = fill(LayerState.of(COVARIANCE, WEIGHT, d), keys[:1], residuals[:1])
    before = state.change.clone()
    with pytest.raises(EditError, match="does not hold"):
        state.remove(100 * keys[1:2], residuals[1:2])
    with pytest.raises(EditError, match="does not hold"):
        state.remove(keys, residuals)
    assert torch.equal(state.change, before)


def test_three_layers_of_two_hundred_edits():
    """The size the issue of drift shows at: D = 512, d = 192, float64."""
    for layer in range(3):
        covariance = make_covariance(512)
        keys, residuals = make_pairs(200, 512, 192, seed=layer)
        state = fill(LayerState.of(covariance, WEIGHT, 192), keys, residuals)
        assert apart(state.change, batch(keys, residuals, covariance)) < 1e-10


def test_a_hundred_of_five_hundred_leave():
    covariance = make_covariance(256)
    keys, residuals = make_pairs(500, 256, 64)
    covariance = Covariance(1000 * covariance.moment, covariance.count)  # text outweighs the pairs, as λ = 15000 makes it
    out = torch.randperm(500, generator=torch.Generator().manual_seed(3))[:100]
    left = torch.ones(500, dtype=torch.bool)
    left[out] = False
    for form in FORMS:
        state = fill(LayerState.of(covariance, WEIGHT, 64, form), keys, residuals)
        for i in out.tolist():
            state.remove(keys[i : i + 1], residuals[i : i + 1])
        assert apart(state.change, batch(keys[left], residuals[left], covariance)) < 1e-10
