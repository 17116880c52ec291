"""Scores of many keys, whatever their dtype, and their tail."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easyedit_rep.pathway import scores
from easyedit_rep.pathway.scores import highest, score, tail_threshold


@pytest.fixture
def drawn():
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_are_those_of_the_keys_as_they_are_kept(drawn, monkeypatch, dtype):
    monkeypatch.setattr(scores, "ROWS", 7)
    rows, weight = torch.randn(30, 12, generator=drawn).to(dtype), torch.randn(12, generator=drawn)
    found = score(rows, weight)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), rows.double() @ weight.double(), rtol=1e-5, atol=1e-5)
    assert score(rows[:0], weight).shape == (0,)


@pytest.mark.parametrize("n", [1, 5, 23])
def test_the_highest_are_taken_from_all_parts(drawn, n):
    weight = torch.randn(12, generator=drawn)
    parts = [torch.randn(m, 12, generator=drawn).bfloat16() for m in (9, 0, 14)]
    found = highest(parts, weight, n)
    every = torch.cat(parts).float()
    want = every[(every @ weight).argsort(descending=True)[:n]]
    assert found.dtype == torch.float32
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, want.tolist()))


def test_tail_is_counted_where_it_can_be():
    scores = torch.randperm(1000, generator=torch.Generator().manual_seed(0)).double()
    assert tail_threshold(scores, 0.1) == 900
    assert tail_threshold(scores, 0.005) == 995
    assert (scores > tail_threshold(scores, 0.02)).double().mean() <= 0.02


@pytest.mark.parametrize("rate", [1e-3, 1e-4, 1e-6])
def test_tail_of_an_exponential_is_told_from_few(rate):
    uniform = torch.rand(20000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert tail_threshold(-uniform.log(), rate) == pytest.approx(-math.log(rate), rel=0.15)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=60), st.floats(1e-7, 0.9), st.floats(1e-7, 0.9))
def test_a_lower_rate_is_never_a_lower_threshold(scores, one, other):
    scores = torch.tensor(scores, dtype=torch.float64)
    low, high = sorted((one, other))
    assert tail_threshold(scores, low) >= tail_threshold(scores, high) - 1e-12
