"""C equals a float64 mean of k kᵀ over the same tokens, and is inverted only where that means something."""

import logging

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.datasets.corpus import load_corpus
from easyedit_rep.errors import EditError
from easyedit_rep.memory.covariance import Covariance, collect


def oracle(anatomy, tok, corpus, layer, n_tokens, max_length, seed):
    """Text by text through the whole model, so that nothing is ever padded."""
    keys, left = [], n_tokens
    handle = anatomy.rewrite(layer).register_forward_pre_hook(lambda _m, args: keys.append(args[0][0].double()))
    for text in corpus.shuffled(seed):
        ids = tok(text)["input_ids"][:max_length][:left]
        left -= len(ids)
        with torch.no_grad():
            anatomy.model(input_ids=torch.tensor([ids]))
        if not left:
            break
    handle.remove()
    keys = torch.cat(keys)
    return keys.T @ keys / len(keys), len(keys)


@pytest.mark.parametrize("max_length", [1024, 9])
def test_equals_a_float64_oracle(model, tok, corpus, max_length):
    anatomy = Anatomy(model)
    options = {"n_tokens": 401, "max_length": max_length, "seed": 3}
    found = collect(anatomy, tok, corpus, [2, 0], progress=False, **options)
    assert set(found) == {0, 2}
    for layer, covariance in found.items():
        moment, count = oracle(anatomy, tok, corpus, layer, **options)
        assert covariance.count == count == 401
        assert covariance.moment.dtype == torch.float64
        torch.testing.assert_close(covariance.moment, moment, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_side_is_irrelevant(llama, make_tokenizer, corpus, side):
    tok = make_tokenizer("bos")
    want = collect(Anatomy(llama), tok, corpus, [1], n_tokens=300, progress=False)[1].moment
    before, tok.padding_side = tok.padding_side, side
    try:
        assert torch.equal(collect(Anatomy(llama), tok, corpus, [1], n_tokens=300, progress=False)[1].moment, want)
    finally:
        tok.padding_side = before


def test_default_size_and_the_end_of_the_text(llama, tok, corpus):
    anatomy = Anatomy(llama)
    assert collect(anatomy, tok, corpus, [0], progress=False)[0].count == 10 * 48
    short = load_corpus(["I like Paris.", "  ", "Ann Lee"])
    total = sum(len(tok(text)["input_ids"]) for text in ("I like Paris.", "Ann Lee"))
    assert collect(anatomy, tok, short, [0], n_tokens=10**6, progress=False)[0].count == total


def test_records_what_it_was_made_from(llama, tok, corpus):
    record = collect(Anatomy(llama), tok, corpus, [1], n_tokens=100, seed=5, progress=False)[1].provenance
    assert record["fingerprint"] == Anatomy(llama).fingerprint(1)
    assert (record["model"], record["corpus_digest"], record["tokens"], record["seed"]) == ("tiny/llama", corpus.digest, 100, 5)


def test_solve_inverts(caplog):
    root = torch.randn(48, 48, dtype=torch.float64)
    covariance = Covariance(root @ root.T + torch.eye(48, dtype=torch.float64), 1000)
    keys = torch.randn(3, 48)
    with caplog.at_level(logging.WARNING):
        solved = covariance.solve(keys)
    assert covariance.ridge == 0
    assert not caplog.records
    assert solved.dtype == keys.dtype
    torch.testing.assert_close(solved.double(), torch.linalg.solve(covariance.moment, keys.double().T).T, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(covariance.solve(keys[1]), solved[1], rtol=1e-5, atol=1e-7)


def test_singular_matrix_gets_a_stated_ridge(caplog):
    keys = torch.randn(20, 48, dtype=torch.float64)
    covariance = Covariance(keys.T @ keys / 20, 20)
    with caplog.at_level(logging.WARNING):
        solved = covariance.solve(keys[0])
    (record,) = caplog.records
    assert "covariance of 20 keys of length 48 is singular: added a ridge" in record.getMessage()
    assert 0 < covariance.ridge < covariance.moment.diagonal().mean()
    want = torch.linalg.solve(covariance.moment + covariance.ridge * torch.eye(48, dtype=torch.float64), keys[0])
    assert torch.isfinite(solved).all()
    torch.testing.assert_close(solved, want, rtol=1e-4, atol=1e-8)


def test_nothing_to_invert_is_refused():
    with pytest.raises(EditError, match="covariance of 0 keys of length 4 cannot be inverted: collect it again"):
        Covariance(torch.zeros(4, 4, dtype=torch.float64), 0).solve(torch.ones(4))


def test_broken_weights_are_named(llama, tok, corpus):
    with torch.no_grad():
        llama.model.layers[0].mlp.up_proj.weight[0, 0] = torch.inf
    with pytest.raises(EditError, match="layer 1 gives NaN or infinite keys"):
        collect(Anatomy(llama), tok, corpus, [1], progress=False)
