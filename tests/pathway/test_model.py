"""Pathways on a whole Hugging Face model: attach, generate, save, detach."""

import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.errors import EditError
from easyedit_rep.pathway import RepConfig, RepLayer
from easyedit_rep.pathway.model import attach, detach, detached_state, layers_of, load_state, pathways_disabled

IDS = torch.tensor([[1, 17, 40, 99, 7, 250, 31, 8]])


def config_for(model, layers=(1, 2), **options):
    names = [Anatomy(model).names.rewrite_module_tmp.format(i) for i in layers]
    return RepConfig(target_modules=names, **{"rank": 4, "threshold": 0.5, "dropout": 0.0, "inference_mode": True, **options})


def random_state(model, config, seed=0):
    torch.manual_seed(seed)
    out = {}
    for name in sorted(config.target_modules):
        module = model.get_submodule(name)
        layer = RepLayer(getattr(module, "base_layer", module), "x", config)
        nn.init.normal_(layer.rep_up["x"].weight)
        out[name] = detached_state(layer, "x")
    return out


def put(model, name="p", seed=0, **options):
    config = config_for(model, **options)
    attach(model, name, config, random_state(model, config, seed))
    return model


def logits(model, ids=IDS, **options):
    with torch.no_grad():
        return model(input_ids=ids, **options).logits


def test_fresh_pathway_changes_no_output(model):
    before = logits(model)
    config = config_for(model, threshold=0.0)
    state = random_state(model, config)
    for tensors in state.values():
        tensors["rep_up.weight"].zero_()
    attach(model, "p", config, state)
    assert len(layers_of(model)) == 2
    assert torch.equal(logits(model), before)


def test_attach_acts_disable_stops_detach_restores(model):
    before, types, names = logits(model), [type(m) for m in model.modules()], [n for n, _ in model.named_parameters()]
    put(model)
    acting = logits(model)
    assert not torch.allclose(acting, before)
    with pathways_disabled(model):
        assert torch.equal(logits(model), before)
        with pathways_disabled(model):
            pass
        assert torch.equal(logits(model), before), "an inner block does not switch them on again"
    assert torch.equal(logits(model), acting)
    detach(model, "p")
    assert torch.equal(logits(model), before)
    assert [type(m) for m in model.modules()] == types
    assert [n for n, _ in model.named_parameters()] == names
    assert not hasattr(model, "peft_config")


def test_attaching_draws_no_random_numbers(llama):
    config = config_for(llama)
    state = random_state(llama, config)
    before = torch.get_rng_state()
    attach(llama, "p", config, state)
    assert torch.equal(torch.get_rng_state(), before)


def test_order_of_attaching_does_not_matter(llama):
    def both(first, second):
        model = copy.deepcopy(llama)
        for name, seed in (first, second):
            put(model, name, seed)
        return model

    one, two = both(("a", 1), ("b", 2)), both(("b", 2), ("a", 1))
    assert torch.equal(logits(one), logits(two))
    detach(one, "a")
    alone = put(copy.deepcopy(llama), "b", 2)
    assert torch.equal(logits(one), logits(alone))


def test_pathways_on_different_layers(llama):
    before = logits(llama)
    put(llama, "a", 1, layers=(1,))
    only = logits(llama)
    put(llama, "b", 2, layers=(1, 2))
    detach(llama, "b")
    assert torch.equal(logits(llama), only)
    assert list(layers_of(llama)) == ["model.layers.1.mlp.down_proj"]
    detach(llama, "a")
    assert torch.equal(logits(llama), before)


def test_weights_are_found_by_their_own_names(model):
    anatomy = Anatomy(model)
    weight, names, state = anatomy.weight(1), {n for n, _ in model.named_parameters()}, set(model.state_dict())
    key_size, transposed = anatomy.key_size(1), anatomy.is_transposed(1)
    fingerprint = anatomy.fingerprint(2)
    put(model)
    assert anatomy.weight(1) is weight
    assert model.get_parameter(anatomy.weight_name(1)) is weight
    assert dict(model.named_parameters())[anatomy.weight_name(1)] is weight
    extra = {n for n, _ in model.named_parameters()} - names
    assert names < {n for n, _ in model.named_parameters()}
    assert all(".rep_" in n for n in extra)
    assert state < set(model.state_dict())
    assert (anatomy.key_size(1), anatomy.is_transposed(1)) == (key_size, transposed)
    assert anatomy.fingerprint(2) == fingerprint, "a pathway is no change of the weights"


def test_requires_grad_is_left_as_it_was(llama):
    llama.requires_grad_(True)
    llama.lm_head.weight.requires_grad_(False)
    flags = {n: p.requires_grad for n, p in llama.named_parameters()}
    put(llama)
    assert {n: p.requires_grad for n, p in llama.named_parameters() if ".rep_" not in n} == flags
    assert not any(p.requires_grad for n, p in llama.named_parameters() if ".rep_" in n)
    detach(llama, "p")
    assert {n: p.requires_grad for n, p in llama.named_parameters()} == flags


def test_dropout_only_in_training_mode(llama):
    put(llama, dropout=0.5, threshold=0.0)
    assert torch.equal(logits(llama), logits(llama))
    llama.train()
    assert not torch.equal(logits(llama), logits(llama))
    llama.eval()
    assert torch.equal(logits(llama), logits(llama))


def test_generate_with_cache_and_left_padding_equals_plain_forwards(model, rows):
    put(model)
    rows = [row[:n] for row, n in zip(rows, (9, 4, 6), strict=False)]
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    options = {"max_new_tokens": 6, "do_sample": False, "use_cache": True, "pad_token_id": 0, "eos_token_id": None}
    out = model.generate(input_ids=ids, attention_mask=mask, **options)
    for row, generated in zip(rows, out[:, width:].tolist(), strict=True):
        want = list(row)
        for _ in range(6):
            want.append(logits(model, torch.tensor([want]), use_cache=False)[0, -1].argmax().item())
        assert generated == want[len(row) :]


def test_peft_saves_and_loads_under_another_name(family, make_model, tmp_path):
    saved = get_peft_model(make_model(family), config_for(make_model(family), inference_mode=False), adapter_name="mine")
    for name, state in random_state(make_model(family), config_for(make_model(family))).items():
        load_state(layers_of(saved.base_model.model)[name], "mine", state)
    saved.eval()
    want = logits(saved)
    assert not torch.allclose(want, logits(make_model(family)))
    saved.save_pretrained(tmp_path, save_embedding_layers=False)
    loaded = PeftModel.from_pretrained(make_model(family), tmp_path / "mine", adapter_name="another")
    assert torch.equal(logits(loaded), want)
    assert loaded.peft_config["another"].peft_type == "REP"
    assert loaded.peft_config["another"].threshold == 0.5
    with loaded.disable_adapter():
        assert torch.equal(logits(loaded), logits(make_model(family)))


def test_state_goes_round(llama):
    put(llama)
    layer = layers_of(llama)["model.layers.1.mlp.down_proj"]
    state = detached_state(layer, "p")
    other = RepLayer(nn.Linear(48, 32), "q", config_for(llama))
    load_state(other, "q", state)
    assert all(torch.equal(value, state[key]) for key, value in detached_state(other, "q").items())
    state["rep_up.weight"].zero_()
    assert layer.rep_up["p"].weight.any(), "what is handed out is a copy"


def test_a_copied_model_is_its_own(llama):
    put(llama)
    want = logits(llama)
    twin = copy.deepcopy(llama)
    assert torch.equal(logits(twin), want)
    detach(twin, "p")
    assert not torch.allclose(logits(twin), want)
    assert torch.equal(logits(llama), want)


def test_only_a_projection_can_carry_a_pathway(llama):
    with pytest.raises(EditError, match=r"model.layers.1.mlp is a LlamaMLP: a pathway needs a Linear or Conv1D"):
        attach(llama, "p", RepConfig(target_modules=["model.layers.1.mlp"]), {})


def test_a_pathway_that_does_not_fit_is_refused_and_leaves_no_trace(make_model):
    model = make_model("llama")
    before = [(name, type(module)) for name, module in model.named_modules()]
    name = "model.layers.1.mlp.down_proj"
    with pytest.raises(EditError, match="does not fit"):
        attach(model, "edit0", RepConfig(target_modules=[name], rank=4), {name: {"rep_down.weight": torch.zeros(2, 2)}})
    assert [(n, type(m)) for n, m in model.named_modules()] == before
    assert not hasattr(model, "peft_config")
