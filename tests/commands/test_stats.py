"""`easyedit-rep stats`: several corpora and layers, a real kill, and what is shown of the files."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from easyedit_rep import EditError
from easyedit_rep.cli import app
from easyedit_rep.demo import CORPUS, HPARAMS, MODEL_DIR


def call(*arguments):
    result = CliRunner().invoke(app, ["stats", *map(str, arguments)], env={"COLUMNS": "120"})
    if isinstance(result.exception, EditError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "stats"


@pytest.fixture
def made(folder):
    call("collect", "--model", MODEL_DIR, "--stats-dir", folder, "--layers", "0,2-3", "--corpus", CORPUS, "--tokens", 1200, "--samples", 50)
    return folder


def path_of(folder, layer, corpus="corpus", samples=50):
    return folder / "demo-llama" / f"{corpus}_stats" / f"model.layers.{layer}.mlp.down_proj_float32_mom2_{samples}.npz"


def test_a_kill_changes_nothing(tmp_path):
    """SIGKILL in the middle of the first of two corpora, then the same command again."""
    two = tmp_path / "two.txt"
    two.write_text("\n".join(CORPUS.read_text().splitlines()[:200]))

    def arguments(name):
        corpora = ["--corpus", f"one={CORPUS}", "--corpus", str(two)]
        return [
            "--model",
            str(MODEL_DIR),
            "--stats-dir",
            str(tmp_path / name),
            *corpora,
            "--layers",
            "0,2",
            "--tokens",
            "9000",
            "--checkpoint-seconds",
            "0",
        ]

    program = [sys.executable, "-m", "easyedit_rep", "stats", "collect", *arguments("killed")]
    process = subprocess.Popen(program, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "killed" / "demo-llama" / "one_stats" / "unfinished_float32_100000.checkpoint"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not list(tmp_path.glob("killed/**/*.npz")), "killed before the first corpus was done"
    assert "unfinished" in call("show", tmp_path / "killed")
    assert "going on after" in call("collect", *arguments("killed"))
    call("collect", *arguments("whole"))
    files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path / "killed") for p in (tmp_path / "killed").rglob("*") if p.is_file())
    assert len(files) == 2 * 2 * 2, "data and record of two layers and two corpora, and nothing else"
    for file in files:
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_yaml_names_everything_but_the_folder(folder):
    with pytest.raises(EditError, match=r"give --stats-dir .*stats_dir: null"):
        call("collect", "--hparams", HPARAMS)
    out = call("collect", "--hparams", HPARAMS, "--stats-dir", folder, "--tokens", 800)
    assert "demo: layers 1, 800 tokens" in " ".join(out.split())
    assert path_of(folder, 1, "demo", 1000).exists()
    assert "there already" in call("collect", "--hparams", HPARAMS, "--stats-dir", folder, "--tokens", 800)


def test_show(made, tmp_path):
    path_of(made, 2).with_suffix(".json").unlink()
    path_of(made, 3).write_bytes(b"garbage")
    rows_file = tmp_path / "rows.json"
    out = call("show", made, "--model", MODEL_DIR, "--json", rows_file)
    assert "demo-llama, corpus: model.layers.{}.mlp.down_proj, float32, 50 samples" in out
    assert "EasyEdit cache" in out
    assert "refused: cannot be read" in out
    rows = json.loads(rows_file.read_text())["files"]
    assert [(row["module"].split(".")[2], row["verdict"].split(":")[0]) for row in rows] == [("0", "OK"), ("2", "OK"), ("3", "refused")]
    assert (rows[0]["tokens"], rows[0]["samples"], rows[0]["dtype"]) == (1200, 50, "float32")
    assert rows[0]["record"]["corpus"] == "corpus" and rows[1]["record"] is None
    assert rows[0]["condition"] is None or rows[0]["condition"] > 1


def test_show_measures_the_condition(folder, tmp_path):
    call("collect", "--model", MODEL_DIR, "--stats-dir", folder, "--layers", "1", "--corpus", CORPUS, "--dtype", "float64", "--samples", 9)
    rows_file = tmp_path / "rows.json"
    call("show", folder, "--json", rows_file)
    (row,) = json.loads(rows_file.read_text())["files"]
    with np.load(row["path"]) as data:
        want = np.linalg.cond(data["mom2.mom2"])
    assert row["condition"] == pytest.approx(want, rel=1e-4)
    assert row["ridge"] == 0 and row["verdict"] == ""


def test_show_refuses_a_matrix_that_is_no_second_moment(made):
    with np.load(path_of(made, 0)) as data:
        arrays = dict(data)
    size = len(arrays["mom2.mom2"])
    np.savez(path_of(made, 0), **{**arrays, "mom2.mom2": np.full((size, size), -0.9) + 1.9 * np.eye(size)})
    assert "refused: not positive semi-definite" in call("show", made)


def test_show_tells_models_apart(made, tmp_path):
    other = tmp_path / "demo-llama"
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(MODEL_DIR)).save_pretrained(other)
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(other)
    path_of(made, 2).with_suffix(".json").unlink()
    out = " ".join(call("show", made, "--model", other).split())
    assert out.count("refused:") == 3
    assert "with other weights than the loaded model's" in out and "are not of layer 2 of the loaded model" in out


def test_show_of_nothing(tmp_path):
    assert "no statistics in" in call("show", tmp_path)
    with pytest.raises(EditError, match="is not a folder"):
        call("show", tmp_path / "missing")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name one model"),
        (["--model", MODEL_DIR, "--hparams", HPARAMS], "name one model"),
        (["--model", MODEL_DIR, "--corpus", CORPUS], "give --stats-dir"),
        (["--model", MODEL_DIR, "--stats-dir", "x"], "no text: give --corpus"),
        (["--model", MODEL_DIR, "--stats-dir", "x", "--corpus", "no.txt"], "'no.txt' is neither a file nor one of wikitext"),
        (["--model", MODEL_DIR, "--stats-dir", "x", "--corpus", CORPUS, "--corpus", CORPUS], "'corpus' is taken"),
        (["--model", MODEL_DIR, "--stats-dir", "x", "--corpus", f"../a={CORPUS}"], "'../a' is no folder name"),
        (["--model", MODEL_DIR, "--stats-dir", "x", "--corpus", CORPUS, "--layers", "1-"], "is not of the form all, 0-5 or 3,7"),
        (["--model", MODEL_DIR, "--stats-dir", "x", "--corpus", CORPUS, "--layers", "4-9"], "--layers: 5 is out of range"),
        (["--model", MODEL_DIR, "--stats-dir", "x", "--corpus", CORPUS, "--dtype", "float16"], "--dtype: 'float16'"),
        (["--model", MODEL_DIR, "--stats-dir", "x", "--corpus", CORPUS, "--max-memory", "0"], "--max-memory: 0.0 is not positive"),
        (["--model", MODEL_DIR, "--stats-dir", "x", "--corpus", CORPUS, "--max-memory", "0.001"], "raise --max-memory"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EditError) as error:
        call("collect", *arguments)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
