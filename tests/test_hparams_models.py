"""Every hyper-parameter file against a random model of its architecture: as many layers, the same ratios of sizes, tiny."""

from dataclasses import replace
from pathlib import Path

import pytest

from easyedit_rep import EditRequest, RobustEditor
from easyedit_rep.evaluation.predict import predict
from easyedit_rep.hparams import load_hparams

FOLDER = Path(__file__).parents[1] / "hparams"


def _llama(layers, heads, groups, inner, **options):
    sizes = {"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": groups}
    return {**sizes, "hidden_size": 8 * heads, "intermediate_size": inner, **options}


def _gpt(layers, heads, **options):
    return {"n_layer": layers, "n_head": heads, "n_embd": 8 * heads, "n_inner": 32 * heads, **options}


# model -> family, sizes: layers, query heads per key-value head, D / d and tied embeddings are the real model's
SHAPES = {
    "llama2-7b": ("llama", _llama(32, 4, 4, 86)),
    "llama3-8b": ("llama", _llama(32, 4, 1, 112)),
    "llama3.2-3b": ("llama", _llama(28, 6, 2, 128, tie_word_embeddings=True)),
    "mistral-7b": ("mistral", _llama(32, 4, 1, 112, sliding_window=64, head_dim=8)),
    "qwen2-7b": ("qwen2", _llama(28, 7, 1, 296, tie_word_embeddings=False)),
    "qwen2.5-7b": ("qwen2", _llama(28, 7, 1, 296, tie_word_embeddings=False)),
    "gpt2-xl": ("gpt2", _gpt(48, 5)),
    "gpt-j-6B": ("gptj", _gpt(28, 4, rotary_dim=2, tie_word_embeddings=False)),
}
METHODS = ("REP/ROME", "REP/R-ROME", "REP/MEMIT", "REP/EMMET", "D4S")
ONE_A_FAMILY = ("llama2-7b", "mistral-7b", "qwen2-7b", "gpt2-xl", "gpt-j-6B")


@pytest.fixture(scope="module")
def models():
    return {}


@pytest.fixture
def load(models, make_model):
    def load(name):
        family, sizes = SHAPES[name]
        if name not in models:
            # Small steps in each of many layers, as in a trained model: else no layer would have a say in the output.
            models[name] = make_model(family, **sizes, initializer_range=0.05)
        return models[name]

    return load


def read(method, name):
    path = FOLDER / method / f"{name}.yaml"
    if not path.exists():
        pytest.skip(f"{method} has no file for {name}")
    return load_hparams(str(path))


def _without_names(hparams):
    names = {name: None for name in vars(hparams) if name.endswith(("_module", "_module_tmp"))}
    return type(hparams)(**{**vars(hparams), **names})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SHAPES)
def test_modules_and_layers_are_the_models(name, method, load, tok):
    hparams, model = read(method, name), load(name)
    anatomy = RobustEditor.from_hparams(hparams, model, tok).anatomy
    own = RobustEditor.from_hparams(_without_names(hparams), model, tok).anatomy
    for layer in hparams.layers:
        assert anatomy.rewrite(layer) is own.rewrite(layer)
        assert anatomy.mlp(layer) is own.mlp(layer)
        assert anatomy.layer(layer) is own.layer(layer)
        assert model.get_submodule(hparams.attn_module_tmp.format(layer))
    assert anatomy.names.ln_f_module == own.names.ln_f_module
    assert model.get_submodule(hparams.lm_head_module).weight is model.get_output_embeddings().weight
    assert hparams.v_loss_layer == anatomy.n_layers - 1, "the loss is read from the last layer"
    assert max(hparams.layers) < hparams.v_loss_layer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ONE_A_FAMILY)
def test_one_edit(name, method, load, tok, texts, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(texts), encoding="utf-8")
    hparams, model = read(method, name), load(name)
    hparams.rep = replace(hparams.rep, corpus=str(text), statistics_tokens=200)
    # The shapes are the file's; strength and steps are those of a tiny random model.
    hparams.stats_dir, hparams.context_template_length_params = None, [[3, 1]]
    hparams.v_num_grad_steps, hparams.v_lr, hparams.v_weight_decay, hparams.clamp_norm_factor = 6, 1.0, 0.0, 100.0
    if hasattr(hparams.method, "mom2_update_weight"):
        hparams.method = replace(hparams.method, mom2_update_weight=1e-3)
    editor = RobustEditor.from_hparams(hparams, model, tok)
    # The subject stands last, so that the change reaches the answer without attention, of which a random model has none to speak of.
    request = EditRequest("I like {}", "Danielle Darrieux", "and")
    edit = editor.install(editor.base_edit(request))
    try:
        assert sorted(edit.deltas) == hparams.layers
        assert predict(editor.anatomy, editor.tok, [request.text], [request.target_new])[0].exact
    finally:
        edit.undo()
    assert not predict(editor.anatomy, editor.tok, [request.text], [request.target_new])[0].exact


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("demo.yaml")), ids=lambda file: file.parent.name)
def test_the_demos_files_find_its_model_from_anywhere(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hparams = load_hparams(str(file))
    assert Path(hparams.model_name).is_dir() and Path(hparams.rep.corpus).is_file()
