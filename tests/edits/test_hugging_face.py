"""What a Hugging Face user does next with an edited model: every way of running it goes through deltas and pathways."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoModelForCausalLM, pipeline

from easyedit_rep import EditError, load_edits
from easyedit_rep.anatomy import Anatomy
from easyedit_rep.ledger import Ledger
from easyedit_rep.pathway.model import layers_of

TWO = ({"layers": (1, 2)}, {"layers": (1,)})


@pytest.fixture
def edited(carrying):
    return carrying(*TWO)


@pytest.mark.parametrize(
    "how",
    [
        {"do_sample": False},
        {"do_sample": True, "top_k": 20, "temperature": 1.5},
        {"num_beams": 3, "do_sample": False},
        {"num_beams": 2, "num_return_sequences": 2, "do_sample": False},
    ],
    ids=["greedy", "sampling", "beams", "several beams"],
)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_generation_is_the_same_with_and_without_a_cache(carrying, make_model, family, how, ids):
    model, _, _ = carrying(*TWO, family=family)
    left = {"input_ids": ids.clone(), "attention_mask": torch.ones_like(ids)}
    left["input_ids"][1, :3], left["attention_mask"][1, :3] = 0, 0
    said = {}
    for cache in (True, False):
        torch.manual_seed(0)
        said[cache] = model.generate(**left, max_new_tokens=6, use_cache=cache, pad_token_id=0, eos_token_id=None, **how)
    assert torch.equal(said[True], said[False])
    torch.manual_seed(0)
    plain = make_model(family).generate(**left, max_new_tokens=6, pad_token_id=0, eos_token_id=None, **how)
    assert not torch.equal(said[True], plain)


def test_pipeline(edited, tok):
    model, _, _ = edited
    ask = pipeline("text-generation", model=model, tokenizer=tok, device="cpu")
    prompts = ["The Eiffel Tower is", "Ann"]
    said = ask(prompts, max_new_tokens=4, do_sample=False, return_full_text=False)
    for prompt, answer in zip(prompts, said, strict=True):
        ids = tok(prompt, return_tensors="pt")["input_ids"]
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False, pad_token_id=0)
        assert answer[0]["generated_text"] == tok.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("n", [1, 2])
def test_a_compiled_block(carrying, n):
    model, _, _ = carrying(*TWO[:n])
    mlp = model.model.layers[1].mlp
    compiled = torch.compile(mlp, backend="eager")
    with torch.no_grad():
        for size in (8, 5):
            x = torch.randn(2, size, 32, generator=torch.Generator().manual_seed(size))
            assert (compiled(x) - mlp(x)).abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiled_model(edited, logits, backend):
    model, _, _ = edited
    compiled = torch.compile(model, backend=backend)
    assert (logits(compiled) - logits(model)).abs().max() < 1e-3
    ids = torch.tensor([[1, 9, 9, 40]])
    assert (logits(compiled, ids) - logits(model, ids)).abs().max() < 1e-3


@pytest.mark.parametrize("cast", [lambda m: m.half(), lambda m: m.bfloat16(), lambda m: m.to("cpu", torch.bfloat16)])
def test_cast_after_editing_and_undone_after_that(edited, make_model, logits, cast):
    model, _ledger, edits = edited
    want = logits(model)
    cast(model)
    for layer in layers_of(model).values():
        assert layer.weight is layer.base_layer.weight and layer.weight.dtype == model.dtype
    assert logits(model).dtype == model.dtype
    assert (logits(model).float() - want).abs().mean() < 0.2
    for edit in edits:
        edit.undo()
    assert torch.equal(logits(model), logits(cast(make_model("llama"))))


def test_weights_put_in_anothers_place_are_the_ones_used_and_seen(carrying, make_model, logits, ids):
    model, _, (edit,) = carrying({"pathways": 1})
    others = {name: value.clone() for name, value in model.state_dict().items()}
    others["model.layers.1.mlp.down_proj.weight"] *= 2
    model.load_state_dict(others, assign=True)
    with pytest.raises(EditError, match="was changed outside the ledger"):
        edit.undo()
    want, _, _ = carrying({"pathways": 1})
    want.load_state_dict(others)
    assert torch.equal(logits(model), logits(want))


def test_a_functional_call_leaves_nothing_behind(carrying, make_model, logits, ids):
    model, _, (edit,) = carrying({"pathways": 1})
    others = {name: 2 * value for name, value in model.state_dict().items()}
    torch.func.functional_call(model, others, (), {"input_ids": ids})
    assert torch.equal(logits(copy.deepcopy(model)), logits(model))
    edit.undo()
    assert torch.equal(logits(model), logits(make_model("llama")))


def test_device_map(edited, make_model, tmp_path, logits):
    pytest.importorskip("accelerate")
    model, ledger, _ = edited
    ledger.save(tmp_path / "edits")
    make_model("llama").save_pretrained(tmp_path / "base")
    placed = AutoModelForCausalLM.from_pretrained(tmp_path / "base", device_map="auto")
    load_edits(placed, tmp_path / "edits")
    assert torch.equal(logits(placed), logits(model))


def test_gradient_checkpointing(edited, ids):
    model, _, _ = edited
    grads = {}
    for checkpointing in (False, True):
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.zero_grad()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        grads[checkpointing] = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert grads[True].keys() == grads[False].keys() and len(grads[True]) > 10
    assert all(torch.allclose(grads[True][name], grad, atol=1e-6) for name, grad in grads[False].items())


def test_many_threads_at_once(carrying, logits):
    model, _, _ = carrying(*TWO, {"layers": (0, 1, 2)})
    batches = [torch.randint(3, 380, (2, 5 + n), generator=torch.Generator().manual_seed(n)) for n in range(12)]
    with ThreadPoolExecutor(4) as pool:  # from the start: the first call lays the gates out anew
        together = list(pool.map(lambda ids: logits(model, ids), batches))
    assert all(torch.equal(found, logits(model, ids)) for found, ids in zip(together, batches, strict=True))


def test_a_deep_copy_saves_and_undoes_by_itself(edited, make_model, tmp_path, logits):
    model, _ledger, _ = edited
    want = logits(model)
    twin = copy.deepcopy(model)
    theirs = Ledger.of(twin, Anatomy(twin))
    theirs.save(tmp_path)
    theirs.remove(-1)
    theirs.remove(0)
    assert torch.equal(logits(twin), logits(make_model("llama")))
    assert torch.equal(logits(model), want)
    load_edits(twin, tmp_path)
    assert torch.equal(logits(twin), want)
