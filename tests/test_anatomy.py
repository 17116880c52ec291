"""Which modules hold keys and values, for every architecture."""

from dataclasses import asdict

import pytest
import torch
import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

from easyedit_rep.anatomy import FAMILIES, Anatomy
from easyedit_rep.errors import EditError

NAMES = ("rewrite_module_tmp", "mlp_module_tmp", "layer_module_tmp", "ln_f_module", "lm_head_module")


def test_every_family_finds_its_modules(model, family):
    anatomy = Anatomy(model)
    assert anatomy.n_layers == 4
    assert anatomy.max_positions == 512
    for layer in range(anatomy.n_layers):
        down = anatomy.rewrite(layer)
        assert isinstance(down, Conv1D if family == "gpt2" else nn.Linear)
        assert anatomy.is_transposed(layer) == (family == "gpt2")
        assert anatomy.weight(layer) is down.weight
        assert anatomy.key_size(layer) == 48
        assert down in set(anatomy.mlp(layer).modules())
        assert anatomy.mlp(layer) in set(anatomy.layer(layer).modules())


def test_logits_equal_the_models_own(model, rows):
    anatomy = Anatomy(model)
    for row in rows:
        ids = torch.tensor([row])
        with torch.no_grad():
            ours = anatomy.logits(anatomy.decoder(input_ids=ids, use_cache=False).last_hidden_state)
            assert torch.equal(ours, model(input_ids=ids, use_cache=False).logits)


def test_logits_are_soft_capped_and_taken_from_an_embedding(llama, make_model):
    hidden = torch.randn(3, 32)
    capped = make_model("llama")
    capped.config.final_logit_softcapping = 2.0
    with torch.no_grad():
        assert torch.allclose(Anatomy(capped).logits(hidden), 2 * torch.tanh(Anatomy(llama).logits(hidden) / 2))
        gpt2 = make_model("gpt2")
        tied = Anatomy(gpt2, lm_head_module="transformer.wte")  # EasyEdit's gpt2 files
        assert torch.equal(tied.logits(hidden), Anatomy(gpt2).logits(hidden))


def test_conv1d_is_known_by_class_not_by_shape(make_model):
    anatomy = Anatomy(make_model("gpt2", n_inner=32))
    assert anatomy.weight(0).shape == (32, 32)
    assert anatomy.is_transposed(0)


def test_overrides_take_the_place_of_the_familys_names(llama):
    anatomy = Anatomy(llama, mlp_module_tmp="model.layers.{}.self_attn", ln_f_module=None)
    assert anatomy.mlp(2) is llama.model.layers[2].self_attn
    assert anatomy.names.ln_f_module == "model.norm"


@pytest.mark.parametrize(("given", "said"), [("gpt2", "'gpt2' is no Hugging Face model"), (None, "a NoneType is no Hugging Face model")])
def test_a_name_is_no_model(given, said):
    with pytest.raises(EditError, match=said):
        Anatomy(given)


def test_unknown_architecture_says_what_to_set(llama):
    names = asdict(FAMILIES["llama"]) | {"lm_head_module": "lm_head"}
    llama.config.model_type = "martian"
    with pytest.raises(EditError, match=f"model_type='martian': set {', '.join(NAMES[1:])} in"):
        Anatomy(llama, rewrite_module_tmp=names["rewrite_module_tmp"])
    anatomy = Anatomy(llama, **names)
    assert not anatomy.residual, "nobody vouches for an unknown block's output going to the residual stream as it is"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("rewrite_module_tmp", "model.layers.{}.mlp.fc2", "'model.layers.0.mlp.fc2' is not in LlamaForCausalLM"),
        ("mlp_module_tmp", "model.layers.0.mlp", "must hold exactly one {}"),
        ("ln_f_module", "transformer.ln_f", "'transformer.ln_f' is not in"),
        ("lm_head_module", "embed_out", "'embed_out' is not in"),
    ],
)
def test_a_name_that_is_not_in_the_model_is_refused(llama, name, value, said):
    with pytest.raises(EditError) as error:
        Anatomy(llama, **{name: value})
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("layer", [-1, 4])
def test_layer_out_of_range(llama, layer):
    with pytest.raises(EditError, match=rf"v_loss_layer: {layer} is out of range, LlamaForCausalLM has layers 0..3"):
        Anatomy(llama).check_layer(layer, "v_loss_layer")


def test_every_known_family_is_under_test(families):
    assert set(FAMILIES) == set(families)


class TestFingerprint:
    def test_ignores_the_dtype(self, model):
        half = model.bfloat16()
        print_half = Anatomy(half).fingerprint(2)
        assert Anatomy(half.float()).fingerprint(2) == print_half

    def test_tells_models_apart(self, family, make_model):
        prints = {Anatomy(make_model(family, seed=seed)).fingerprint(1) for seed in (0, 0, 1)}
        assert len(prints) == 2

    @pytest.mark.parametrize(("edited", "seen"), [(0, True), (1, True), (2, False), (3, False)])
    def test_sees_edits_of_lower_layers_only(self, model, edited, seen):
        anatomy = Anatomy(model)
        before = anatomy.fingerprint(2)
        weight = anatomy.weight(edited)
        with torch.no_grad():
            weight += 0.1 * torch.outer(torch.randn(weight.shape[0]), torch.randn(weight.shape[1]))
        assert (anatomy.fingerprint(2) != before) == seen

    def test_ignores_what_comes_after_the_key(self, model):
        anatomy = Anatomy(model)
        before = anatomy.fingerprint(1)
        with torch.no_grad():
            anatomy._module(anatomy.names.ln_f_module).weight += 1
            anatomy.layer(3).get_parameter(next(name for name, _ in anatomy.layer(3).named_parameters())).add_(1)
        assert anatomy.fingerprint(1) == before

    def test_sees_the_embeddings(self, model):
        anatomy = Anatomy(model)
        before = anatomy.fingerprint(0)
        with torch.no_grad():
            model.get_input_embeddings().weight += 1
        assert anatomy.fingerprint(0) != before


@pytest.mark.parametrize(
    ("config", "model_class", "more"),
    [("GraniteConfig", "GraniteForCausalLM", {"logits_scaling": 8.0}), ("CohereConfig", "CohereForCausalLM", {"logit_scale": 0.25})],
)
def test_logits_are_scaled_where_the_model_scales_them(config, model_class, more):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(getattr(transformers, config)(vocab_size=99, pad_token_id=0, **sizes, **more)).eval()
    names = {"rewrite_module_tmp": "model.layers.{}.mlp.down_proj", "mlp_module_tmp": "model.layers.{}.mlp", "ln_f_module": "model.norm"}
    anatomy = Anatomy(model, layer_module_tmp="model.layers.{}", lm_head_module="lm_head", **names)
    ids = torch.tensor([[1, 5, 9]])
    with torch.no_grad():
        torch.testing.assert_close(anatomy.logits(anatomy.decoder(input_ids=ids).last_hidden_state), model(input_ids=ids).logits)
