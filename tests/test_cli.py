"""The command line: one-line errors, and the demo's outputs at a small size."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from easyedit_rep import EditError
from easyedit_rep.bench.compare import COLUMNS
from easyedit_rep.bench.journal import read_journal
from easyedit_rep.cli import app, main
from easyedit_rep.demo import CORPUS, FACTS, HPARAMS, MODEL_DIR


def test_demo_writes_rows_records_and_picture(tmp_path):
    rows_file = tmp_path / "new" / "rows.json"
    result = CliRunner().invoke(app, ["demo", "--n", "2", "--out", str(tmp_path / "out"), "--json", str(rows_file)])
    assert result.exit_code == 0, result.output
    rows = json.loads(rows_file.read_text())["rows"]
    assert [row["method"] for row in rows] == ["ROME", "ROME+REP"]
    for row in rows:
        assert set(row) == {"method", "n", "seconds_per_edit", *COLUMNS}
        assert row["n"] == 2 and all(0 <= row[column] <= 100 for column in COLUMNS)
    journal = tmp_path / "out" / "records.jsonl"
    assert [r["method"] for r in read_journal(journal)[1]] == ["ROME", "ROME+REP"] * 2
    assert (tmp_path / "out" / "robustness.png").read_bytes().startswith(b"\x89PNG")
    before, rows_file = journal.read_bytes(), tmp_path / "again.json"
    result = CliRunner().invoke(app, ["demo", "--n", "2", "--out", str(tmp_path / "out"), "--json", str(rows_file)])
    assert result.exit_code == 0 and journal.read_bytes() == before, "what is done is not done again"
    assert json.loads(rows_file.read_text())["rows"] == rows
    with pytest.raises(EditError, match="was made with n 2, not 1: choose another --out"):
        CliRunner().invoke(app, ["demo", "--n", "1", "--out", str(tmp_path / "out")], catch_exceptions=False)


def test_one_fact_that_is_refused_does_not_cost_the_others(tmp_path):
    facts = json.loads(FACTS.read_text())[:3]
    facts[1]["locality_prompt"] = ["word " * 3000]
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    arguments = [
        "edit",
        "--hparams",
        str(HPARAMS),
        "--data",
        str(tmp_path / "facts.json"),
        "--all",
        "--n",
        "3",
        "--out",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "2 facts, each edited alone" in result.output and "refused, fact 1: " in result.output and "positions" in result.output


@pytest.mark.parametrize("place", ["", "folder", "file/rows.json"])
def test_a_json_file_that_cannot_be_written_is_refused_first(tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(EditError, match="give --json another place"):
        CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "out"), "--json", str(tmp_path / place)], catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_edit_tells_one_fact_and_keeps_it(tmp_path):
    fact = ["--prompt", "The mother tongue of {} is", "--subject", "Odile Abernathy", "--target", "Velish"]
    arguments = ["edit", "--hparams", str(HPARAMS), *fact, "--save", str(tmp_path / "odile")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "Odile Abernathy" in result.output and "ROME+REP" in result.output and "1 edits are kept in" in result.output
    assert json.loads((tmp_path / "odile" / "edit.json").read_text())["edits"][0]["requests"][0]["target_new"] == "Velish"
    result = CliRunner().invoke(app, arguments)
    assert "already holds an adapter or edits: give another folder" in str(result.exception)


def test_sweep_writes_records_and_picture(tmp_path):
    values = yaml.safe_load(HPARAMS.read_text())
    values["rep"] |= {"corpus": str(CORPUS), "pathway": {"kind": "paper"}}
    (tmp_path / "trained.yaml").write_text(yaml.safe_dump({**values, "model_name": str(MODEL_DIR)}))
    command = ["sweep", "--hparams", str(tmp_path / "trained.yaml"), "--data", str(FACTS), "--n", "1", "--out", str(tmp_path)]
    command += ["--thresholds", "0.5,0.9"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "τ=0.5" in result.output
    (journal,) = tmp_path.glob("*.jsonl")
    methods = [json.loads(line)["method"] for line in journal.read_text(encoding="utf-8").splitlines()[1:]]
    assert methods == ["ROME", "ROME+REP τ=0.5 α=50000", "ROME+REP τ=0.9 α=50000"]
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["edit", "--hparams", str(HPARAMS)], "--data"),
        (["edit", "--hparams", "missing.yaml", "--prompt", "a b", "--subject", "a", "--target", "c"], "missing.yaml"),
        (["edit", "--hparams", str(HPARAMS), "--prompt", "a b", "--subject", "z", "--target", "c"], "'z'"),
        (["edit", "--hparams", str(HPARAMS), "--data", "missing.json"], "missing.json"),
        (["edit", "--hparams", str(HPARAMS), "--data", str(FACTS), "--subject", "a"], "both --data and --subject"),
        (["edit", "--hparams", str(HPARAMS), "--data", str(FACTS), "--save", "a", "--json", "b"], "--json"),
        (["sweep", "--hparams", "hparams/REP/ROME/llama2-7b.yaml", "--data", str(FACTS)], "--thresholds"),
        (["sweep", "--hparams", str(HPARAMS), "--data", str(FACTS), "--thresholds", "0.5"], "closed pathway has neither τ nor α"),
        (["sweep", "--hparams", str(HPARAMS), "--data", str(FACTS), "--alphas", "1e3,x"], "'1e3,x'"),
        (["bench", "--hparams", str(HPARAMS), "--data", str(FACTS), "--gpus", "1"], "--gpus 1 is each Ray worker's"),
        (["sequence", "run", "--hparams", str(HPARAMS), "--data", str(FACTS), "--tasks-limit", "5"], "--tasks-limit 5 is for --tasks"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, named, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["easyedit-rep", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and named in lines[0]


@pytest.mark.parametrize("said", ['pip install "easyedit_rep[ray]"', "closed [/b] and [red] never"])
def test_brackets_of_an_error_are_printed_as_they_are(said, capsys, monkeypatch):
    def fail():
        raise EditError(said)

    monkeypatch.setattr("easyedit_rep.cli.app", fail)
    monkeypatch.setattr("sys.argv", ["easyedit-rep", "bench"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err == f"error: {said}\n"


def test_numbers_that_cannot_be_written_are_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    result = CliRunner().invoke(app, ["doctor", "--json", str(tmp_path / "taken" / "findings.json")])
    assert isinstance(result.exception, EditError)
    assert f"cannot write {tmp_path / 'taken' / 'findings.json'}" in str(result.exception)


def test_errors_reach_a_caller_of_the_app_as_they_are():
    result = CliRunner().invoke(app, ["edit", "--hparams", str(HPARAMS)])
    assert isinstance(result.exception, EditError)
