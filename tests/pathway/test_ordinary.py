"""Keys that every gate must stay shut for."""

import pytest
import torch

from easyedit_rep.memory.keys import read_token_keys
from easyedit_rep.pathway.ordinary import read_ordinary


@pytest.fixture
def rows(tok):
    return [tok("The river flows to the sea.")["input_ids"], tok("Ann likes tea.")["input_ids"]]


def test_keys_are_those_of_every_token_and_of_words_that_begin_a_text(model, tok, make_memory, rows):
    anatomy = make_memory(model, tok, layers=(1, 2)).anatomy
    found = read_ordinary(anatomy, tok, rows, [1, 2], 9, 0)
    start = tok("")["input_ids"]
    for layer, keys in found.items():
        torch.testing.assert_close(keys.text, torch.cat(read_token_keys(anatomy, rows, [layer])[layer]), rtol=1e-4, atol=1e-5)
        assert keys.tokens == found[1].tokens and len(set(keys.tokens)) == len(keys.first) == 9
        for token, key in zip(keys.tokens, keys.first, strict=True):
            alone = read_token_keys(anatomy, [[*start, token]], [layer])[layer][0]
            torch.testing.assert_close(key, alone[-1], rtol=1e-4, atol=1e-5)


def test_words_are_drawn_once_by_the_seed_and_are_no_specials(llama, tok, make_memory):
    anatomy = make_memory(llama, tok).anatomy
    size = anatomy.model.get_input_embeddings().weight.shape[0]
    tokens = read_ordinary(anatomy, tok, [], [1], 10 * size, 0)[1].tokens
    readable = {t for t in range(min(size, len(tok))) if t not in tok.all_special_ids and tok.decode([t]).strip()}
    assert set(tokens) == readable and len(tokens) == len(readable), "asked for more than there are, all come"
    few, again, other = (read_ordinary(anatomy, tok, [], [1], 20, seed)[1].tokens for seed in (0, 0, 1))
    assert few == again != other


def test_a_names_own_words_are_left_out(llama, tok, make_memory):
    keys = read_ordinary(make_memory(llama, tok).anatomy, tok, [], [1], 12, 0)[1]
    own = {keys.tokens[3], keys.tokens[7]}
    kept = [i for i in range(12) if i not in (3, 7)]
    assert torch.equal(keys.first_but(own), keys.first[kept])
    assert keys.first_but(set(keys.tokens)).shape == (0, 48)


def test_keys_keep_the_models_dtype(llama, tok, make_memory, rows):
    anatomy = make_memory(llama.bfloat16(), tok).anatomy
    keys = read_ordinary(anatomy, tok, rows, [1], 5, 0)[1]
    assert keys.text.dtype == keys.first.dtype == torch.bfloat16
    assert torch.equal(keys.text.float(), torch.cat(read_token_keys(anatomy, rows, [1])[1])), "nothing is rounded"


def test_nothing_asked_for_is_nothing_read(llama, tok, make_memory):
    keys = read_ordinary(make_memory(llama, tok).anatomy, tok, [], [1], 0, 0)[1]
    assert keys.text.shape == keys.first.shape == (0, 48) and keys.tokens == ()
