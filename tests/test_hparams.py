"""The hyper-parameter files that ship, and refusal of those that are wrong."""

import os
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from easyedit_rep import EditError, REPHyperParams, RobustEditor
from easyedit_rep.hparams import RepOptions

FOLDER = Path(__file__).parents[1] / "hparams" / "REP"
FILES = sorted(path for path in FOLDER.glob("*/*.yaml") if "engine: easyedit" not in path.read_text())
"""Those for EasyEdit's engine need it to be read: tests/easyedit/test_bases.py."""
MODELS = {
    "llama2-7b": "llama",
    "llama3-8b": "llama",
    "mistral-7b": "mistral",
    "qwen2-7b": "qwen2",
    "qwen2.5-7b": "qwen2",
    "gpt2-xl": "gpt2",
    "gpt-j-6B": "gptj",
}


@pytest.fixture
def data():
    return yaml.safe_load((FOLDER / "ROME" / "llama2-7b.yaml").read_text())


@pytest.fixture
def load(tmp_path):
    def load(data):
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(data))
        return REPHyperParams.from_hparams(str(path))

    return load


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_file_loads(path):
    hparams = REPHyperParams.from_hparams(str(path))
    assert hparams.alg_name == "REP"
    assert hparams.rep.base == path.parent.name
    assert hparams.mom2_adjustment, "REP needs C"


def test_easyedits_way_of_leaving_the_suffix_off():
    assert REPHyperParams.from_hparams(str(FOLDER / "ROME" / "qwen2.5-7b")).v_loss_layer == 27


@pytest.mark.parametrize(("name", "family"), MODELS.items(), ids=MODELS)
def test_file_names_the_modules_of_its_model_and_the_papers_settings(name, family, make_model, tok):
    path = FOLDER / "ROME" / f"{name}.yaml"
    hparams = REPHyperParams.from_hparams(str(path))
    written = yaml.safe_load(path.read_text())["rep"]
    paper = asdict(RepOptions())
    assert asdict(hparams.rep) == paper, "the paper's settings are the defaults"
    assert set(written["pathway"]) == set(paper["pathway"])
    assert {"base", "engine", "seed", "pathway", "training", "queries"} == set(written)
    hparams.layers, hparams.v_loss_layer = [1], 3
    model = make_model(family)
    anatomy = RobustEditor.from_hparams(hparams, model, tok).anatomy
    own = RobustEditor.from_hparams(_without_names(hparams), model, tok).anatomy
    assert anatomy.rewrite(1) is own.rewrite(1)
    assert anatomy.mlp(1) is own.mlp(1)
    assert anatomy.layer(1) is own.layer(1)
    head = model.get_submodule(hparams.lm_head_module)
    assert head.weight is model.get_output_embeddings().weight
    assert model.get_submodule(hparams.attn_module_tmp.format(1))


def _without_names(hparams):
    names = {name: None for name in vars(hparams) if name.endswith(("_module", "_module_tmp"))}
    return REPHyperParams(**{**vars(hparams), **names})


@pytest.mark.easyedit
@pytest.mark.parametrize("name", MODELS)
def test_fields_and_values_are_easyedits(name):
    theirs = yaml.safe_load((Path(os.environ["EASYEDIT_HOME"]) / "hparams/ROME" / f"{name.replace('llama2', 'llama')}.yaml").read_text())
    ours = yaml.safe_load((FOLDER / "ROME" / f"{name}.yaml").read_text())
    differs = {key for key in theirs if ours.get(key) != theirs[key]}
    assert differs <= {"alg_name", "model_name", "device", "mom2_adjustment", "mom2_dataset"}
    assert set(ours) - set(theirs) <= {"rep", "fp16"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": []}, "layers is empty"),
        ({"layers": 5}, "layers must be a list, not 5"),
        ({"fact_token": "last"}, "fact_token: 'last' is not supported"),
        ({"mom2_dtype": "bfloat16"}, "mom2_dtype: 'bfloat16' is neither float32 nor float64"),
        ({"alg_name": "ROME"}, "alg_name must be REP"),
        ({"alg_name": None}, "alg_name must be REP"),
        ({"rep": None}, None),
        ({"rep": 3}, "rep must be a mapping, not 3"),
        ({"v_lrr": 1}, "unknown key 'v_lrr', did you mean v_lr?"),
        ({"v_lr": "quick"}, "v_lr must be float, not 'quick'"),
        ({"v_num_grad_steps": True}, "v_num_grad_steps must be int, not True"),
        ({"v_num_grad_steps": 0}, "v_num_grad_steps: 0 is not positive"),
        ({"rep": {"engine": "fast"}}, "engine: 'fast' is neither native nor easyedit"),
        ({"rep": {"training": {"steps": 0}}}, "steps: 0 is not positive"),
        ({"rep": {"training": {"aling": "key"}}}, "unknown key 'aling', did you mean align?"),
        ({"rep": {"pathway": {"rank": 0}}}, "rank: 0 is not positive"),
        ({"rep": {"pathway": {"dropout": 1.0}}}, "dropout: 1.0 is not"),
        ({"rep": {"queries": {"shuffle_count": -1}}}, "shuffle_count: -1 is negative"),
        ({"rep": {"queries": {"long_context_tokens": 0}}}, "long_context_tokens: 0 is not positive"),
    ],
)
def test_refusals_are_one_line_that_names_file_and_value(data, load, change, said):
    data |= change
    if said is None:
        assert load(data).rep == RepOptions(), "an empty block means the defaults"
        return
    with pytest.raises(EditError) as error:
        load(data)
    message = str(error.value)
    assert said in message
    assert message.startswith("mine.yaml")
    assert "\n" not in message


@pytest.mark.parametrize("key", ["rep", "layers", "v_lr", "model_name"])
def test_a_missing_key_is_named(data, load, key):
    del data[key]
    said = "mine.yaml has no rep: block" if key == "rep" else f"mine.yaml: missing {key}"
    with pytest.raises(EditError, match=said):
        load(data)


def test_scientific_notation_as_a_string(data, load):
    data["v_weight_decay"] = "1e-3"
    data["rep"]["training"]["lr"] = "5e-4"
    hparams = load(data)
    assert (hparams.v_weight_decay, hparams.rep.training.lr) == (1e-3, 5e-4)


def test_paths_may_be_relative_to_the_file(data, load, tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "names.json").write_text("{}")
    data["model_name"], data["rep"]["corpus"], data["rep"]["queries"]["rephrase_file"] = "org/hub-name", "text.txt", "names.json"
    hparams = load(data)
    assert hparams.rep.corpus == str(tmp_path / "text.txt")
    assert hparams.rep.queries.rephrase_file == str(tmp_path / "names.json")
    assert hparams.model_name == "org/hub-name"
    monkeypatch.chdir(tmp_path)
    assert load(data).rep.corpus == "text.txt", "what exists from here is left alone"
