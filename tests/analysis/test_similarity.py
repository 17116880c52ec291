"""Whitened similarities and the running top-k, against brute force in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from easyedit_rep.analysis.nearest import Nearest
from easyedit_rep.analysis.similarity import directions, moved, similarities
from easyedit_rep.memory.covariance import Covariance

SIZE = 12


@pytest.fixture
def covariance():
    root = torch.randn(60, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * torch.linspace(0.1, 4, SIZE)
    return Covariance(root.T @ root / 60, 60)


def test_similarity_is_the_whitened_product_over_the_self_similarity(covariance):
    generator = torch.Generator().manual_seed(0)
    keys, star = torch.randn(7, SIZE, generator=generator), torch.randn(SIZE, generator=generator)
    inverse = torch.linalg.inv(covariance.moment)
    wanted = torch.tensor([k.double() @ inverse @ star.double() for k in keys]) / (star.double() @ inverse @ star.double())
    torch.testing.assert_close(similarities(covariance, keys, star), wanted, rtol=1e-9, atol=1e-12)
    assert similarities(covariance, star[None], star).item() == pytest.approx(1, abs=1e-12)
    plain = (keys.double() @ star.double()) / star.double().square().sum()
    assert not torch.allclose(wanted, plain, rtol=0.1), "an unwhitened similarity would be another one"


def test_similarity_does_not_change_with_the_basis(covariance):
    """kᵀC⁻¹k* is the same after any linear change of all keys, C with them: what makes it a property of the memory."""
    generator = torch.Generator().manual_seed(2)
    keys, star = torch.randn(5, SIZE, generator=generator).double(), torch.randn(SIZE, generator=generator).double()
    change = torch.randn(SIZE, SIZE, generator=generator).double()
    other = Covariance(change @ covariance.moment @ change.T, 60)
    torch.testing.assert_close(
        similarities(other, keys @ change.T, change @ star), similarities(covariance, keys, star), rtol=1e-7, atol=1e-8
    )


def test_moved_keys_are_those_that_differ():
    raw = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    adapted = raw.clone()
    adapted[1, 2] += 1e-6
    assert moved(raw, adapted).tolist() == [False, True, False]


def brute_force(towards, batches, own, after, k):
    """Per direction: the k best (score, number of the token), by walking over rows one token at a time."""
    best = [[] for _ in towards]
    number, total, count = 0, 0.0, 0
    for keys, ids, real in batches:
        for row in range(ids.shape[0]):
            since = [after + 1] * len(towards)
            for t in range(ids.shape[1]):
                if not real[row, t]:
                    continue
                for i, direction in enumerate(towards):
                    since[i] = 0 if int(ids[row, t]) in own[i] else since[i] + 1
                    if since[i] > after:
                        score = float(keys[row, t].double() @ direction.double())
                        best[i].append((score, number))
                        total, count = total + score, count + 1
                number += 1
    return [sorted(entries, reverse=True)[:k] for entries in best], total, count


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000), k=st.integers(1, 5), after=st.integers(0, 4), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8)
)
def test_running_top_k_is_that_of_all_tokens_at_once(seed, k, after, lengths):
    generator = torch.Generator().manual_seed(seed)
    towards = torch.randn(3, SIZE, generator=generator)
    own = [{2}, {3, 4}, {99}]
    nearest = Nearest(towards, k, torch.tensor([[2, -1], [3, 4], [99, -1]]), after=after, width=3)
    batches, first = [], 0
    for start in range(0, len(lengths), 3):
        group = lengths[start : start + 3]
        ids = torch.randint(0, 6, (len(group), max(group)), generator=generator)
        real = torch.arange(max(group))[None] < torch.tensor(group)[:, None]
        keys = torch.randn(*ids.shape, SIZE, generator=generator)
        batches.append((keys, ids, real))
        nearest.add(keys, ids, real, first)
        first += sum(group)
    wanted, total, count = brute_force(towards, batches, own, after, k)
    for i, entries in enumerate(wanted):
        found = [(s, p) for s, p in zip(nearest.score[i].tolist(), nearest.place[i].tolist(), strict=True) if p >= 0]
        assert [place for _, place in found] == [place for _, place in entries]
        assert [score for score, _ in found] == pytest.approx([score for score, _ in entries], rel=1e-4, abs=1e-4)
    assert nearest.count == count
    assert nearest.total == pytest.approx(total, rel=1e-4, abs=1e-3)


def test_a_subject_at_a_rows_end_masks_nothing_in_the_next_row():
    """The released code masks on the flattened batch, so that what follows a subject leaks into the next text."""
    nearest = Nearest(torch.ones(1, 2), 8, torch.tensor([[7]]), after=2, width=2)
    ids = torch.tensor([[1, 1, 1, 7], [2, 3, 7, 4]])
    expected = [[False, False, False, True], [False, False, True, True]]
    assert nearest.own_tokens(ids).tolist() == [expected]
    keys = torch.arange(8.0).view(2, 4, 1).expand(2, 4, 2)
    nearest.add(keys, ids, torch.ones(2, 4, dtype=torch.bool), 0)
    assert sorted(p for p in nearest.place[0].tolist() if p >= 0) == [0, 1, 2, 4, 5]
    assert nearest.count == 5


def test_padding_is_never_found_and_prefixes_stay_in_their_row():
    nearest = Nearest(torch.ones(1, 1), 3, torch.tensor([[-1]]), width=3)
    ids, real = torch.tensor([[5, 6, 0, 0], [1, 2, 3, 4]]), torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    keys = torch.tensor([[[1.0], [9.0], [100.0], [100.0]], [[8.0], [0.0], [0.0], [7.0]]])
    nearest.add(keys, ids, real, 10)
    assert nearest.score.tolist() == [[9.0, 8.0, 7.0]]
    assert nearest.place.tolist() == [[11, 12, 15]]
    assert nearest.prefix.tolist() == [[[-1, 5, 6], [-1, -1, 1], [2, 3, 4]]]


def test_directions_take_many_stars_at_once(covariance):
    stars = torch.randn(4, SIZE, generator=torch.Generator().manual_seed(3))
    together = directions(covariance, stars)
    for i, star in enumerate(stars):
        torch.testing.assert_close(together[i], directions(covariance, star[None])[0])
        assert (together[i] @ star.double()).item() == pytest.approx(1)
