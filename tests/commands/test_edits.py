"""`easyedit-rep edits …` on the demo model: what each command shows and writes, and its one-line refusals."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from easyedit_rep import EditError, load_edits
from easyedit_rep.cli import app
from easyedit_rep.demo import HPARAMS, MODEL_DIR
from easyedit_rep.edits.artefact import CONFIG, RECORD, TENSORS

PROMPT = "The mother tongue of {} is"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two facts edited and kept by the command line."""
    folder = tmp_path_factory.mktemp("edits")
    facts = [{"question": PROMPT, "who": who, "answer": "Velish"} for who in ("Ann Lee", "Odile Abernathy")]
    (folder / "facts.json").write_text(json.dumps(facts))
    (folder / "map.yaml").write_text("columns: {prompt: question, subject: who, target_new: answer}\n")
    data = ["--data", str(folder / "facts.json"), "--columns", str(folder / "map.yaml"), "--all", "--n", "2"]
    result = CliRunner().invoke(app, ["edit", "--hparams", str(HPARAMS), *data, "--save", str(folder / "two")])
    assert result.exit_code == 0, result.output or result.exception
    assert "2 edits are kept in" in result.output
    return folder / "two"


@pytest.fixture
def saved(made, tmp_path):
    return shutil.copytree(made, tmp_path / "two")


def invoke(*arguments):
    result = CliRunner().invoke(app, ["edits", *map(str, arguments)], env={"COLUMNS": "200"})
    if isinstance(result.exception, EditError):
        raise result.exception
    return result


def answer(model, prompt="The mother tongue of Odile Abernathy is"):
    tok = AutoTokenizer.from_pretrained(MODEL_DIR)
    ids = tok(prompt, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=3, do_sample=False, pad_token_id=tok.eos_token_id)
    return tok.decode(out[0, ids["input_ids"].shape[1] :]).strip()


def fresh(folder=MODEL_DIR):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def test_what_edit_keeps(saved):
    assert {path.name for path in saved.iterdir()} == {TENSORS, CONFIG, RECORD}
    model = fresh()
    assert not answer(model).startswith("Velish")
    edit, _ = load_edits(model, saved)
    assert answer(model).startswith("Velish")
    assert edit.metrics["post"]["rewrite_acc"] == [1.0] and edit.metrics["pre"]["rewrite_acc"] != [1.0]
    assert edit.hparams["rep"]["base"] == "ROME" and edit.hparams["layers"]
    assert all(path.stat().st_mode & 0o777 == saved.joinpath(RECORD).stat().st_mode & 0o777 for path in saved.iterdir())


def test_list_and_show(saved):
    for arguments in (["list", saved], ["list", saved.parent]):
        shown = invoke(*arguments).output
        assert "Odile Abernathy" in shown and "Velish" in shown and "ROME" in shown
    shown = invoke("show", saved).output
    assert "mlp.down_proj.weight" in shown and "‖ΔW‖ of layer" in shown and "torch" in shown and "post: rewrite_acc" in shown
    record = json.loads(invoke("show", saved, "--json").output)
    assert record == json.loads((saved / RECORD).read_text())
    with pytest.raises(EditError, match="no saved edits in"):
        invoke("list", saved.parent / "nothing")


def test_diff(saved):
    shown = invoke("diff", saved, "--model", MODEL_DIR, "--tokens", 3).output
    assert "The mother tongue of Odile Abernathy is" in shown and "Velish" in shown
    shown = invoke("diff", saved, "--model", MODEL_DIR, "--prompt", "The mother tongue of Odile Abernathy is", "--tokens", 3).output
    assert shown.count("Odile Abernathy") == 1


def test_verify(saved):
    result = invoke("verify", saved, "--model", MODEL_DIR)
    assert result.exit_code == 0 and "✗" not in result.output
    assert "as saved once edited" in result.output and "the original again when undone" in result.output
    assert invoke("verify", saved, "--file-only").exit_code == 0
    other = fresh()
    with torch.no_grad():
        for name, weight in other.named_parameters():
            if name.endswith("down_proj.weight"):
                weight.mul_(1.01)
    other.save_pretrained(saved.parent / "other")
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(saved.parent / "other")
    result = invoke("verify", saved, "--model", saved.parent / "other")
    assert result.exit_code == 1 and "✗" in result.output
    with pytest.raises(EditError, match="belongs to other weights"):
        invoke("diff", saved, "--model", saved.parent / "other")
    assert invoke("diff", saved, "--model", saved.parent / "other", "--force").exit_code == 0


def test_merge_gives_a_checkpoint_and_its_pathways(saved, tmp_path):
    result = invoke("merge", saved, "--model", MODEL_DIR, "--out", tmp_path / "whole")
    assert "load_edits(model" in result.output
    want = fresh()
    load_edits(want, saved)
    model = fresh(tmp_path / "whole")
    load_edits(model, tmp_path / "whole" / "pathways")
    ids = torch.tensor([[1, 17, 40, 99, 7, 250, 31, 8]])
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, want(input_ids=ids).logits)
    assert answer(model).startswith("Velish")


def test_export(saved, tmp_path):
    shown = invoke("export", saved, "--out", tmp_path / "lora").output
    assert "--max-lora-rank 8" in shown and "exact, rank 2" in shown and "LoRA cannot express a gate" in shown
    with pytest.raises(EditError, match="rank: 7"):
        invoke("export", saved, "--out", tmp_path / "other", "--rank", 7)
    with pytest.raises(EditError, match="--dtype: 'int4'"):
        invoke("export", saved, "--out", tmp_path / "other", "--dtype", "int4")
    assert not (tmp_path / "other").exists()
    rounded = invoke("export", saved, "--out", tmp_path / "rounded", "--dtype", "bfloat16").output
    assert "exact" not in rounded and "of ‖ΔW‖ is lost" in rounded


@pytest.mark.parametrize("command", ["export", "remove"])
def test_what_another_folder_holds_is_not_written_over(saved, tmp_path, command):
    other = tmp_path / "precious"
    invoke("export", saved, "--out", other)
    before = {path.name: path.read_bytes() for path in other.iterdir()}
    places = [0] if command == "remove" else []
    with pytest.raises(EditError, match="precious already holds an adapter or edits"):
        invoke(command, saved, *places, "--out", other)
    assert {path.name: path.read_bytes() for path in other.iterdir()} == before


def test_remove(saved, tmp_path):
    assert "1 edits are left" in invoke("remove", saved, 0, "--out", tmp_path / "one").output
    assert len(json.loads((saved / RECORD).read_text())["edits"]) == 2
    assert len(load_edits(fresh(), tmp_path / "one")) == 1
    assert invoke("verify", tmp_path / "one", "--model", MODEL_DIR).exit_code == 0
    with pytest.raises(EditError, match="no edit would be left"):
        invoke("remove", tmp_path / "one", 0)
    assert "1 edits are left" in invoke("remove", saved, 1).output
    assert len(json.loads((saved / RECORD).read_text())["edits"]) == 1
