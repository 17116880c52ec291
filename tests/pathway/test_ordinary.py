"""Keys that every gate must stay shut for."""

from copy import deepcopy

import pytest
import torch

from easyedit_rep.memory.keys import read_token_keys
from easyedit_rep.pathway import ordinary
from easyedit_rep.pathway.ordinary import OrdinaryKeys, first_tokens, read_first, read_text


@pytest.fixture
def rows(tok):
    return [tok("The river flows to the sea.")["input_ids"], tok("Ann likes tea.")["input_ids"], tok("No.")["input_ids"]]


def test_text_is_read_in_its_order_and_a_little_at_a_time(llama, tok, make_memory, rows, monkeypatch):
    monkeypatch.setattr(ordinary, "TOKENS", 3 * len(rows[0]) // 2)
    anatomy = make_memory(llama, tok, layers=(1, 2)).anatomy
    for layer, keys in read_text(anatomy, rows, [1, 2]).items():
        torch.testing.assert_close(keys, torch.cat(read_token_keys(anatomy, rows, [layer])[layer]), rtol=1e-4, atol=1e-5)
    assert read_text(anatomy, [], [1])[1].shape == (0, 48)


def test_keys_of_words_that_begin_a_text(model, any_tok, make_memory):
    tok = any_tok
    anatomy = make_memory(model, tok, layers=(1, 2)).anatomy
    words = [word for word in ("Ann", "The", "river", "tea") if len(tok(word, add_special_tokens=False)["input_ids"]) == 1]
    assert words, "or nothing is compared"
    tokens = [tok(word, add_special_tokens=False)["input_ids"][0] for word in words]
    for layer, keys in read_first(anatomy, tok, tokens, [1, 2]).items():
        want = [row[-1] for row in read_token_keys(anatomy, [tok(word)["input_ids"] for word in words], [layer])[layer]]
        torch.testing.assert_close(keys, torch.stack(want), rtol=1e-4, atol=1e-5)


def test_a_tokenizer_that_ends_texts_begins_them_all_the_same(llama, make_memory, tok, monkeypatch):
    anatomy = make_memory(llama, tok).anatomy
    token = tok("The", add_special_tokens=False)["input_ids"][0]
    want = read_first(anatomy, tok, [token], [1])[1]
    real = ordinary.locate
    monkeypatch.setattr(ordinary, "locate", lambda tok, p: (found := real(tok, p))._replace(ids=[*found.ids, tok.eos_token_id]))
    torch.testing.assert_close(read_first(anatomy, tok, [token], [1])[1], want)


def test_words_are_drawn_by_the_seed_with_names_before_all(llama, any_tok, make_memory):
    tok = deepcopy(any_tok)
    tok.add_tokens(["Quux"])
    anatomy = make_memory(llama, tok).anatomy
    size = anatomy.model.get_input_embeddings().weight.shape[0]
    every = first_tokens(anatomy, tok, 10 * size, 0)
    assert len(set(every)) == len(every) > 20
    assert not {*tok.all_special_ids, *tok.convert_tokens_to_ids(["Quux"])} & set(every)
    assert all(0 <= token < size and tok.decode([token]).strip() for token in every)

    def may_begin(token):
        word = tok.decode([token]).strip()
        return (tok(word, add_special_tokens=False)["input_ids"] == [token]) * (1 + word[0].isupper())

    ranks = [may_begin(token) for token in every]
    assert ranks == sorted(ranks, reverse=True) and len(set(ranks)) > 1
    few, again, other = (first_tokens(anatomy, tok, 20, seed) for seed in (0, 0, 1))
    assert few == again == every[:20] != other
    assert first_tokens(anatomy, tok, 0, 0) == ()


def test_a_names_own_words_are_left_out():
    keys = OrdinaryKeys(torch.zeros(1, 4), torch.arange(12.0)[:, None].expand(12, 4), range(50, 62))
    assert keys.first_but({53, 57, 99})[:, 0].tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10, 11]
    assert keys.first_but(set(keys.tokens)).shape == (0, 4)


def test_keys_keep_the_models_dtype(llama, tok, make_memory, rows):
    anatomy = make_memory(llama.bfloat16(), tok).anatomy
    keys = read_text(anatomy, rows, [1])[1]
    assert keys.dtype == torch.bfloat16
    assert torch.equal(keys.float(), torch.cat(read_token_keys(anatomy, rows, [1])[1])), "nothing is rounded"
