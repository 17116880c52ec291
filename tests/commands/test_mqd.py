"""`mqd build` and `mqd stats`, and what is built in `data show`, `sequence run` and `analyze`."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from easyedit_rep import EditError
from easyedit_rep.cli import app
from easyedit_rep.demo import CORPUS, HPARAMS

sys.path.append(str(Path(__file__).parents[1] / "datasets"))
from atomic_samples import row, small, v4

MODEL = HPARAMS.parent / "demo-llama"


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def quick(tmp_path):
    """The demo's YAML with two steps and one context: what is edited does not matter here."""
    values = yaml.safe_load(HPARAMS.read_text())
    values |= {"v_num_grad_steps": 2, "context_template_length_params": [], "model_name": str(MODEL)}
    values["rep"] |= {"statistics_tokens": 2000, "corpus": str(CORPUS)}
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "quick.yaml"


@pytest.fixture(scope="module")
def mqd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mqd")
    bad = row()
    bad["xWant"] = "[oops"
    (folder / "atomic.csv").write_text(v4([*small(), bad]))
    result = call("mqd", "build", folder / "atomic.csv", "--n", 500, "--out", folder / "mqd")
    assert result.exit_code == 0, result.output
    return folder / "mqd", result.output


def test_build_says_what_became_of_every_line(mqd):
    folder, said = mqd
    assert "line 30: xWant is no JSON: '[oops'" in said
    assert "29 lines, 1 malformed" in said
    assert "252 samples of each type out of 252 questions" in said and "asked for 500, there are no more" in said
    assert json.loads((folder / "about.json").read_text())["asked"] == 500


def test_what_is_built_is_data_like_any_other(mqd):
    said = call("data", "show", mqd[0] / "mqd_tf.json").output
    assert "format mqd (found by its keys), 252 records: 252 used, 0 refused" in said and "Please answer yes or no. A:" in said


def test_stats(mqd):
    result = call("mqd", "stats", mqd[0], "--model", MODEL, "--n", 6, "--format", "markdown")
    assert result.exit_code == 0, result.output
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in result.stdout.splitlines() if line.startswith("|")]
    assert [r[0] for r in rows[2:]] == ["T/F", "MQ", "DG"]
    assert [r[1] for r in rows[2:]] == ["6"] * 3
    assert [r[8] for r in rows[2:]] == ["12.3", "43.3", "297.4"]
    assert isinstance(call("mqd", "stats", mqd[0], "--model", MODEL, "--format", "csv").exception, EditError)
    assert "cannot read" in str(call("mqd", "stats", mqd[0] / "absent", "--model", MODEL).exception)


def test_analyses_of_sequences(mqd, tmp_path, texts, quick):
    (tmp_path / "text.txt").write_text("\n".join([*(" ".join([text] * 3) for text in texts[:4]), "short"]))
    targets = ["analyze", "targets", "--hparams", quick, "--mqd", mqd[0], "--n", 1, "--out", tmp_path, "--held-out"]
    result = call(*targets, tmp_path / "text.txt")
    assert result.exit_code == 0, result.output
    header, *records = [json.loads(line) for line in (tmp_path / "targets.jsonl").read_text().splitlines()]
    assert header["provenance"]["analysis"] == "targets" and header["provenance"]["held_out"]["paragraphs"] == 4
    indices = {record["question"]: record["index"] for record in records if "edit" in record}
    assert set(indices) == {"DG", "MQ", "TF"} and len(set(indices.values())) == 1
    assert (tmp_path / "targets.png").exists()
    (tmp_path / "short.txt").write_text("too short")
    assert "no paragraph" in str(call(*targets, tmp_path / "short.txt").exception)
    text = (tmp_path / "text.txt").read_text()
    (tmp_path / "text.txt").write_text(text.upper())
    assert "held_out" in str(call(*targets, tmp_path / "text.txt").exception), "the same name, another text"
    (tmp_path / "text.txt").write_text(text)

    run = [
        "sequence",
        "run",
        "--hparams",
        quick,
        "--data",
        mqd[0] / "mqd_dg.json",
        "--all",
        "--plain",
        "--n",
        2,
        "--out",
        tmp_path / "run",
    ]
    assert call(*run).exit_code == 0
    result = call("analyze", "norms", tmp_path / "run", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "norms.csv").read_text().startswith("run,edit,growth,wanted,said\n") and (tmp_path / "norms.png").exists()
    assert "holds no run" in str(call("analyze", "norms", tmp_path).exception)
