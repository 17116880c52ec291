"""Batches of generated answers equal answers one by one; what is sampled; fluency."""

import math

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.evaluation.fluency import ngram_entropy
from easyedit_rep.evaluation.generation import greedy, sample, says
from easyedit_rep.evaluation.predict import predict

TEXTS = ["The mother tongue of Danielle Darrieux is", "Ann Lee plays the", "東京 is the capital of", "I", "The Eiffel Tower is in"]


def naive(model, tok, text, n):
    """Argmax after argmax, no cache, no padding."""
    ids = tok(text)["input_ids"]
    for _ in range(n):
        with torch.no_grad():
            ids = [*ids, model(input_ids=torch.tensor([ids])).logits[0, -1].argmax().item()]
    return ids[-n:]


def up_to_end(ids, end):
    return ids[: ids.index(end)] if end in ids else ids


@pytest.mark.parametrize("budget", [1, 8192])
def test_a_batch_is_answered_as_its_rows_alone(model, tok, budget):
    n_new = [3, 6, 2, 5, 4]
    found = greedy(Anatomy(model), tok, TEXTS, n_new, budget)
    for text, n, ids in zip(TEXTS, n_new, found, strict=True):
        assert up_to_end(ids, tok.eos_token_id) == up_to_end(naive(model, tok, text, n), tok.eos_token_id)


def test_says_what_it_generates_whatever_the_models_settings(llama, tok):
    llama.generation_config.do_sample, llama.generation_config.repetition_penalty = True, 9.0
    said = [tok.decode(naive(llama, tok, text, 2)).strip() for text in TEXTS]
    targets = [said[0], "Japan", "no way", "like", said[4]]
    expected = predict(Anatomy(llama), tok, TEXTS, targets)
    found = says(Anatomy(llama), tok, TEXTS, targets)
    assert found[1:4] == [0.0] * 3
    for by_itself, taught, text, target in zip(found, expected, TEXTS, targets, strict=True):
        joined = tok(f"{text} {target}")["input_ids"]
        if joined[-len(taught.target) :] == naive(llama, tok, text, len(taught.target)):
            assert by_itself == taught.exact == 1.0


def test_an_answer_that_ends_early_is_not_padded_with_words(llama, tok):
    with torch.no_grad():  # the model always ends its answer
        llama.model.norm.weight.zero_()
        llama.lm_head = torch.nn.Linear(32, 384)
        llama.lm_head.bias[tok.eos_token_id] = 99.0
    assert says(Anatomy(llama), tok, ["Ann Lee plays the"], ["piano"]) == [0.0]
    assert tok.batch_decode(greedy(Anatomy(llama), tok, ["Ann"], [3]), skip_special_tokens=True) == [""]


def test_samples_are_fixed_by_seed_and_leave_the_generator(llama, tok):
    state = torch.get_rng_state()
    first, again, other = (sample(Anatomy(llama), tok, ["Ann Lee"], 30, seed)[0] for seed in (0, 0, 1))
    assert first == again != other
    assert first.startswith("Ann Lee")
    assert torch.equal(torch.get_rng_state(), state)


def test_entropy_of_ngrams():
    # Bigrams ab ba ab ba ab, trigrams aba bab aba bab.
    h2 = -(3 / 5 * math.log2(3 / 5) + 2 / 5 * math.log2(2 / 5))
    assert ngram_entropy("a b a b a b") == pytest.approx((2 / 3 * h2 + 4 / 3 * 1) / 2)
    assert ngram_entropy("a a a a") == 0
    assert ngram_entropy("") == ngram_entropy("one") == 0
    assert ngram_entropy("It's done, isn't it?") == pytest.approx((2 / 3 * math.log2(5) + 4 / 3 * 2) / 2), "It's done , isn't it ?"
