"""The hyper-parameter files that ship, and refusal of those that are wrong."""

import os
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import yaml

from easyedit_rep import EditError, REPHyperParams
from easyedit_rep.methods import METHODS as REGISTERED
from easyedit_rep.pathway.closed import ClosedForm
from easyedit_rep.rep_options import RepOptions

FOLDER = Path(__file__).parents[1] / "hparams" / "REP"
FILES = sorted(path for path in FOLDER.glob("*/*.yaml") if "engine: easyedit" not in path.read_text())
"""Those for EasyEdit's engine need it to be read: tests/easyedit/test_bases.py."""
MODELS = {
    "llama2-7b": "llama",
    "llama3-8b": "llama",
    "llama3.2-3b": "llama",
    "mistral-7b": "mistral",
    "qwen2-7b": "qwen2",
    "qwen2.5-7b": "qwen2",
    "gpt2-xl": "gpt2",
    "gpt-j-6B": "gptj",
}
METHODS = ("ROME", "R-ROME", "MEMIT", "EMMET")
PAPERS = ("llama2-7b", "mistral-7b", "qwen2-7b")
"""Models the paper has results for."""
SHIPPED = ("bench-llama", "demo")


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


def test_there_is_a_file_for_every_method_and_model():
    assert {(path.parent.name, path.stem) for path in FILES} >= {(method, name) for method in METHODS for name in (*MODELS, *SHIPPED)}


def test_easyedits_way_of_leaving_the_suffix_off():
    assert REPHyperParams.from_hparams(str(FOLDER / "ROME" / "qwen2.5-7b")).v_loss_layer == 27


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PAPERS)
def test_file_holds_the_papers_settings(method, name):
    path = FOLDER / method / f"{name}.yaml"
    written = yaml.safe_load(path.read_text())["rep"]
    paper = asdict(RepOptions(base=method))
    assert asdict(REPHyperParams.from_hparams(str(path)).rep) == paper, "the paper's settings are the defaults"
    assert set(written["pathway"]) == set(paper["pathway"]) - {"detectors", "leave"}, "all but what only a closed-form one has"
    assert {"base", "engine", "seed", "pathway", "training", "queries"} == set(written)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", sorted(set(MODELS) - set(PAPERS)))
def test_other_models_have_the_recommended_pathway(method, name):
    ours, tuned = (REPHyperParams.from_hparams(str(FOLDER / method / f"{stem}.yaml")).rep for stem in (name, "bench-llama"))
    assert (ours.pathway, ours.text_tokens) == (tuned.pathway, 20_000)
    # Of so little text stray words would crowd out most of what is mined, and tuned margins are those of gates that know them.
    assert ours.training == replace(tuned.training, stray_words=0) and tuned.training.stray_words
    assert ours.closed == ClosedForm(value_steps=10), "ROME's layer and what is fitted in it are the bench model's alone"
    assert replace(ours.queries, negative_count=2) == tuned.queries, "queries are the paper's"


# What EasyEdit does not give, and the files that say where their values are from.
NOT_EASYEDITS = {("R-ROME", "llama3-8b"), ("R-ROME", "mistral-7b"), ("R-ROME", "qwen2-7b"), ("MEMIT", "llama3-8b")} | {
    ("EMMET", name) for name in ("llama3-8b", "mistral-7b", "qwen2-7b", "qwen2.5-7b")
}


@pytest.mark.easyedit
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_fields_and_values_are_easyedits(method, name):
    path = Path(os.environ["EASYEDIT_HOME"]) / "hparams" / method / f"{name.replace('llama2', 'llama')}.yaml"
    assert path.exists() == ((method, name) not in NOT_EASYEDITS)
    if not path.exists():
        return
    theirs, ours = (yaml.safe_load(p.read_text()) for p in (path, FOLDER / method / f"{name}.yaml"))
    differs = {key for key in theirs if key not in ("context_template_length_params",) and ours.get(key) != theirs[key]}
    allowed = {"alg_name", "model_name", "device", "mom2_adjustment", "mom2_dataset"}
    # EasyEdit's R-ROME loads Llama 2 in half precision; the paper's runs were in single.
    assert differs <= (allowed | {"fp16"} if (method, name) == ("R-ROME", "llama2-7b") else allowed)
    own = {f.name for f in fields(REGISTERED[method].options)}
    assert set(ours) - set(theirs) <= {"rep", "fp16"} | own


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": []}, "layers is empty"),
        ({"layers": 5}, "layers must be a list, not 5"),
        ({"fact_token": "last"}, "fact_token: 'last' is not supported"),
        ({"mom2_dtype": "bfloat16"}, "mom2_dtype: 'bfloat16' is neither float32 nor float64"),
        ({"alg_name": "ROME"}, "alg_name must be REP"),
        ({"alg_name": None}, "alg_name must be REP"),
        ({"alg_name": []}, "alg_name must be REP"),
        ({"v_lr": float("nan")}, "v_lr must be a number, not nan"),
        ({"context_template_length_params": [[5]]}, "context_template_length_params: [5] is no [length, number]"),
        ({"context_template_length_params": [[5, -5]]}, "context_template_length_params: [5, -5] is no [length, number]"),
        ({"rep": {"base": []}}, "rep.base must be the name of a method, not []"),
        ({"rep": {"engine": "easyedit", "v_dtype": "bfloat16"}}, "v_dtype: 'bfloat16' is of the native engine"),
        ({"rep": {"engine": "easyedit", "value_cache": "here"}}, "value_cache: 'here' is of the native engine"),
        ({"rep": None}, None),
        ({"rep": 3}, "rep must be a mapping, not 3"),
        ({"v_lrr": 1}, "unknown key 'v_lrr', did you mean v_lr?"),
        ({"v_lr": "quick"}, "v_lr must be float, not 'quick'"),
        ({"v_num_grad_steps": True}, "v_num_grad_steps must be int, not True"),
        ({"v_num_grad_steps": 0}, "v_num_grad_steps: 0 is not positive"),
        ({"rep": {"engine": "fast"}}, "engine: 'fast' is neither native nor easyedit"),
        ({"rep": {"training": {"steps": 0}}}, "steps: 0 is not positive"),
        ({"rep": {"training": {"aling": "key"}}}, "unknown key 'aling', did you mean align?"),
        ({"rep": {"text_tokens": -1}}, "text_tokens: -1 is negative"),
        ({"rep": {"statistics_tokens": 0}}, "statistics_tokens: 0 is not positive"),
        ({"rep": {"pathway": {"rank": 0}}}, "rank: 0 is not positive"),
        ({"rep": {"pathway": {"dropout": 1.0}}}, "dropout: 1.0 is not"),
        ({"rep": {"queries": {"shuffle_count": -1}}}, "shuffle_count: -1 is negative"),
        ({"rep": {"queries": {"long_context_tokens": 0}}}, "long_context_tokens: 0 is not positive"),
        ({"rep": {"queries": {"negative_count": -1}}}, "negative_count: -1 is negative"),
        ({"rep": {"queries": {"split": "last"}}}, "split: 'last' is neither first nor drawn"),
        ({"rep": {"measures": {"fluency_tokens": 0}}}, "fluency_tokens: 0 is not positive"),
        ({"rep": {"measures": {"generation": "yes"}}}, "measures.generation must be bool"),
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


def test_what_others_put_on_the_object_is_not_recorded(data, load):
    hparams = load(data)
    before = hparams.record()
    hparams.api_key = "sk-secret"
    assert hparams.record() == before and "sk-secret" not in str(before)


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
