"""Perplexities against the model's own loss."""

import math

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.errors import EditError
from easyedit_rep.evaluation.perplexity import target_perplexities, text_perplexity


def nll(model, ids, start=1):
    labels = torch.tensor([ids])
    labels[:, :start] = -100
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), labels=labels).loss.item() * (len(ids) - start)


def test_of_text(model, any_tok, texts):
    some = [*texts[:5], "", texts[0] * 3]
    rows = [any_tok(text, truncation=True, max_length=40)["input_ids"] for text in some]
    rows = [row for row in rows if len(row) > 1]
    want = math.exp(sum(nll(model, row) for row in rows) / sum(len(row) - 1 for row in rows))
    assert text_perplexity(Anatomy(model), any_tok, some, max_length=40) == pytest.approx(want, rel=1e-4)


def test_of_targets(llama, tok):
    prompts, targets = ["Ann Lee plays the", "The capital of Japan is"], ["piano", "London with many bytes"]
    found = target_perplexities(Anatomy(llama), tok, prompts, targets)
    for prompt, target, value in zip(prompts, targets, found, strict=True):
        start, ids = len(tok(prompt)["input_ids"]), tok(f"{prompt} {target}")["input_ids"]
        assert value == pytest.approx(math.exp(nll(llama, ids, start) / (len(ids) - start)), rel=1e-4)


def test_a_broken_model_has_an_infinite_perplexity_and_nothing_has_none(llama, tok):
    llama.lm_head.weight.data *= 1e5
    anatomy = Anatomy(llama)
    assert text_perplexity(anatomy, tok, ["Ann Lee plays the piano"]) == math.inf
    assert target_perplexities(anatomy, tok, ["Ann Lee plays the"], ["piano"]) == [math.inf]
    with pytest.raises(EditError, match="no text has the two tokens"):
        text_perplexity(anatomy, tok, [""])
