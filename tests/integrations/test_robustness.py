"""Robustness of EasyEdit's own methods: asked for by a YAML, a call or the runner's flag, and nowhere else."""

import copy
import sys

import pytest

from easyedit_rep import EditError, measure_robustness
from easyedit_rep.demo import HPARAMS
from easyedit_rep.hparams import load_hparams
from easyedit_rep.integrations.easyedit import accept_rep_files, activate
from easyedit_rep.integrations.robustness import Robustness, RobustnessOptions
from easyedit_rep.integrations.runner import own_options, prepare, start
from easyedit_rep.rep_options import QueryOptions

RECORD = {"prompt": "Ann Lee plays the", "subject": "Ann Lee", "target_new": "piano", "ground_truth": "violin"}


@pytest.fixture
def easyeditor(easyedit_home, process):
    sys.path.append(str(easyedit_home))
    import easyeditor

    return easyeditor


@pytest.fixture
def file(tmp_path):
    def make(more: str):
        path = tmp_path / "mine.yaml"
        path.write_text(f"alg_name: ROME\nlayers: [5]\nv_lr: 5e-1\n{more}")
        return str(path)

    return make


def quality(easyeditor, hparams, llama, tok):
    return easyeditor.editors.editor.compute_edit_quality(llama, "tiny", hparams, tok, RECORD, "cpu")


def test_the_key_of_a_yaml_is_taken_out_before_easyedit_reads_it(easyeditor, file, llama, tok):
    accept_rep_files()
    plain = easyeditor.ROMEHyperParams.from_hparams(file(""))
    asked = easyeditor.ROMEHyperParams.from_hparams(file("robustness: true\n").removesuffix(".yaml"))
    own = {name: value for name, value in vars(asked).items() if name != "robustness"}
    assert own == vars(plain) == {"alg_name": "ROME", "layers": [5], "v_lr": "5e-1"}, "EasyEdit turns these strings into numbers itself"
    few = easyeditor.ROMEHyperParams.from_hparams(file("robustness: {seed: 3, queries: {shuffle_count: 2}}\n"))
    assert (few.robustness.options.seed, few.robustness.options.queries.shuffle_count) == (3, 2)
    assert easyeditor.ROMEHyperParams.from_hparams(file("robustness: false\n")).robustness is None
    for wrong, said in (("5", "robustness is 5: write true"), ("{corpse: x}", "unknown key 'corpse', did you mean corpus")):
        with pytest.raises(EditError, match=said):
            easyeditor.ROMEHyperParams.from_hparams(file(f"robustness: {wrong}\n"))


def test_measured_where_it_was_asked_for_alone(easyeditor, file, llama, tok):
    hparams = easyeditor.ROMEHyperParams.from_hparams(file(""))
    activate()
    assert quality(easyeditor, hparams, llama, tok) == {}
    assert measure_robustness(hparams, queries={"shuffle_count": 3}) is hparams
    found = quality(easyeditor, hparams, llama, tok)["robustness"]
    assert found["success"] in ([0.0], [1.0])
    assert [len(half["exact"]) for half in found["shuffle"].values()] == [2, 1]
    assert quality(easyeditor, copy.deepcopy(hparams), llama, tok)["robustness"] == found
    assert quality(easyeditor, easyeditor.ROMEHyperParams(), llama, tok) == {}


def test_always_is_for_all_methods_of_a_process(easyeditor, llama, tok):
    activate(Robustness(RobustnessOptions()))
    activate()
    assert "robustness" in quality(easyeditor, object(), llama, tok)


def test_negatives_are_compared_with_the_first_time(easyeditor, file, llama, tok, tmp_path, texts):
    (tmp_path / "text.txt").write_text("\n".join(texts))
    hparams = easyeditor.ROMEHyperParams.from_hparams(file(""))
    queries = {"negative_count": 1, "long_context_count": 2, "long_context_tokens": 16}
    measure_robustness(hparams, corpus=str(tmp_path / "text.txt"), queries=queries)
    before = quality(easyeditor, hparams, llama, tok)["robustness"]
    assert len(before["long"]["in_domain"]["exact"]) == 1
    assert all(kind["acc"] == [1.0] for kind in before["negatives"].values())
    llama.model.layers[1].mlp.down_proj.weight.data *= -50
    after = quality(easyeditor, hparams, llama, tok)["robustness"]
    assert min(min(kind["acc"]) for kind in after["negatives"].values()) < 1


def test_another_model_is_compared_with_itself(make_model, make_tokenizer, tmp_path, texts):
    """One measurement for a whole process, as `run --robustness` has it, sees the same request with each model of a script."""
    (tmp_path / "text.txt").write_text("\n".join(texts))
    queries = QueryOptions(negative_count=1, long_context_count=2, long_context_tokens=16)
    measure = Robustness(RobustnessOptions(corpus=str(tmp_path / "text.txt"), queries=queries))
    for seed, kind in enumerate(("bos", "sentencepiece")):
        found = measure(make_model("llama", seed=seed), make_tokenizer(kind), RECORD)
        assert found["negatives"] and all(negative["acc"] == [1.0] for negative in found["negatives"].values())


def test_the_summary_tells_means(easyeditor, file, llama, tok, capsys):
    hparams = measure_robustness(easyeditor.ROMEHyperParams.from_hparams(file("")))
    row = {"pre": quality(easyeditor, hparams, llama, tok), "post": quality(easyeditor, hparams, llama, tok)}
    easyeditor.editors.editor.summary_metrics([row, {"pre": {}, "post": {}}])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Metrics Summary:")
    assert second.startswith("Robustness Summary:  {'pre': {'success': ") and "'shuffle_ood'" in second
    easyeditor.editors.editor.summary_metrics([{"pre": {}, "post": {}}])
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_rep_is_measured_anyway(easyeditor):
    with pytest.raises(EditError, match="REP's edits are measured anyway"):
        measure_robustness(load_hparams(str(HPARAMS)))
    with pytest.raises(EditError, match="unknown key 'shuffles'"):
        measure_robustness(object, shuffles=3)


def test_the_runners_own_options_stand_before_the_script(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Some text that is long enough to be read.\n")
    assert own_options(["mine.py", "--robustness", "--help"]) == (None, ["mine.py", "--robustness", "--help"])
    options, command = own_options(["--robustness", "--corpus", str(text), "mine.py", "--corpus", "x"])
    assert options.corpus == str(text) and command == ["mine.py", "--corpus", "x"]
    with pytest.raises(EditError, match="--corpus x is for --robustness"):
        own_options(["--corpus", "x", "mine.py"])
    with pytest.raises(EditError, match=r"nowhere.json"):
        own_options(["--robustness", "--rephrases", "nowhere.json", "mine.py"])


def test_the_flag_reaches_a_scripts_editor(easyedit_home, process, monkeypatch, tmp_path, llama, tok):
    monkeypatch.setenv("EASYEDIT_HOME", str(easyedit_home))
    script = tmp_path / "mine.py"
    script.write_text("import easyeditor\n")
    options, command = own_options(["--robustness", str(script)])
    start(prepare(command, options))
    assert "robustness" in quality(sys.modules["easyeditor"], object(), llama, tok)
