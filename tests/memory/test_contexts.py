"""Context templates: written by the model, fixed by a seed."""

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.evaluation.generation import sample
from easyedit_rep.memory.contexts import STARTS, generate_contexts


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_shape_and_start(family, make_model, tok):
    texts = generate_contexts(Anatomy(make_model(family)), tok, [[7, 10], [12, 5]], seed=0)
    assert texts[0] == ""
    assert len(texts) == 1 + 10 + 5
    assert all(text.endswith(". ") and text.startswith(STARTS) and not set("{}") & set(text) for text in texts[1:])


def test_fixed_by_the_seed_and_no_global_randomness(llama, tok):
    anatomy = Anatomy(llama)
    before = torch.get_rng_state()
    first = generate_contexts(anatomy, tok, [[9, 5]], seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(17)
    assert generate_contexts(anatomy, tok, [[9, 5]], seed=3) == first != generate_contexts(anatomy, tok, [[9, 5]], seed=4)


def test_gpus_the_model_is_not_on_are_not_seeded(llama, tok, monkeypatch):
    touched = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", touched.append)  # what torch.manual_seed calls
    anatomy = Anatomy(llama)
    generate_contexts(anatomy, tok, [[9, 5]], seed=3)
    sample(anatomy, tok, ["The"], 5, seed=3)
    assert not touched


@pytest.mark.parametrize("params", [[], [[9, 4]], [[2, 10]]], ids=["none", "fewer than the starts", "shorter than the starts"])
def test_too_few_or_too_short_leave_the_bare_prompt(llama, tok, params):
    assert generate_contexts(Anatomy(llama), tok, params, seed=0)[0] == ""
