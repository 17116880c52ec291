"""`data show`, and data files of other formats in `edit` and `bench`."""

import json

import pytest
from typer.testing import CliRunner

from easyedit_rep import EditError
from easyedit_rep.bench.journal import read_journal
from easyedit_rep.cli import app
from easyedit_rep.demo import FACTS, HPARAMS

ZSRE = {
    "subject": "Acme",
    "src": "Who leads Acme?",
    "alt": "Ann",
    "answers": ["Bo"],
    "rephrase": "",
    "loc": "Who leads X?",
    "loc_ans": "Cy",
}


def show(*arguments):
    return CliRunner().invoke(app, ["data", "show", *map(str, arguments)])


@pytest.fixture
def mixed(tmp_path):
    path = tmp_path / "mixed.json"
    path.write_text(json.dumps([ZSRE, *[ZSRE | {"subject": f"acme {i}"} for i in range(30)]]))
    return path


def test_show_counts_refuses_and_tells(mixed):
    result = show(mixed)
    said = result.output
    assert result.exit_code == 0, said
    assert "format zsre (found by its keys), 31 records: 1 used, 30 refused" in said
    assert "left out of records that are used, blank or without an answer: rephrase 1" in said
    assert said.count("not in prompt") == 20 and "and 10 more" in said
    assert "after 'Who leads Acme?' say 'Ann' instead of 'Bo'" in said
    assert "must stay, neighborhood: 1, the first 'Who leads X?', 'Cy'" in said


def test_show_strict_and_nothing_usable(mixed, tmp_path):
    assert "record 1: subject 'acme 0'" in str(show(mixed, "--strict").exception)
    none = tmp_path / "none.json"
    none.write_text(json.dumps([{"prompt": "a b", "label": 1}]))
    result = show(none)
    assert result.exit_code == 1 and "0 used, 1 refused" in result.output


def test_show_with_columns_and_formats(tmp_path):
    (tmp_path / "map.yaml").write_text("columns: {prompt: q, subject: s, target_new: t}")
    (tmp_path / "rows.csv").write_text("q,s,t\nWho leads Acme?,Acme,Ann\n")
    assert "format columns (as told), 1 records: 1 used" in show(tmp_path / "rows.csv", "--columns", tmp_path / "map.yaml").output
    assert "'zsr' is not known" in str(show(FACTS, "--format", "zsr").exception)


def facts(tmp_path, count=2):
    """The demo's facts as a CSV with a map, and one line that cannot be used."""
    records = json.loads(FACTS.read_text())[:count]
    (tmp_path / "map.yaml").write_text("columns: {prompt: q, subject: s, target_new: new, ground_truth: old}")
    lines = ["q\ts\tnew\told", "Who leads Acme?\tacme\tAnn\tBo"]
    lines += ["\t".join(record[key] for key in ("prompt", "subject", "target_new", "target_true")) for record in records]
    (tmp_path / "facts.tsv").write_text("\n".join(lines))
    return ["--data", str(tmp_path / "facts.tsv"), "--columns", str(tmp_path / "map.yaml")]


def test_edit_takes_a_map_and_refuses_or_goes_without(tmp_path):
    arguments = ["edit", "--hparams", str(HPARAMS), *facts(tmp_path), "--n", "1", "--out", str(tmp_path / "out")]
    strict = CliRunner().invoke(app, arguments)
    assert isinstance(strict.exception, EditError) and "record 0: subject 'acme'" in str(strict.exception)
    result = CliRunner().invoke(app, [*arguments, "--no-strict"])
    assert result.exit_code == 0, result.output
    assert "3 records: 2 used, 1 refused" in result.output
    assert "2 of 2 facts are known to the model; left out: 0 answered otherwise" in " ".join(result.output.split())


def test_bench_records_keep_the_files_own_indices_and_what_was_read(tmp_path):
    _, data, _, columns = facts(tmp_path)
    arguments = ["bench", "--hparams", str(HPARAMS), "--data", data, "--columns", columns, "--no-strict", "--seeds", "0", "--out"]
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    (journal,) = (tmp_path / "out").glob("*.jsonl")
    about, records = read_journal(journal)
    assert {record["index"] for record in records} == {1, 2}
    assert about["data"]["columns"]["prompt"] == "q" and about["data"]["file"] == "facts.tsv"
    assert "are known to the model" in result.output
