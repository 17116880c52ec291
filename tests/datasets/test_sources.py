"""Files of every kind hold the same records; a line that is none is refused by its number."""

import json
import os

import pandas
import pytest
from datasets import Dataset, DatasetDict

from easyedit_rep import EditError
from easyedit_rep.datasets.columns import read_columns
from easyedit_rep.datasets.records import Reading, load_dataset_file, load_records
from easyedit_rep.datasets.sources import Broken, read_table
from easyedit_rep.request import Question

ROWS = [
    {
        "question": "Who leads 007 Ltd?",
        "entity": "007 Ltd",
        "new": "Ann Lee",
        "old": "NA",
        "para": "The head of 007 Ltd is",
        "n": "Apple is led by",
        "na": "Tim",
    },
    {"question": "Where is Łódź?", "entity": "Łódź", "new": "Peru", "old": "", "para": "", "n": "", "na": ""},
]
YAML = """
columns:
  prompt: question
  subject: entity
  target_new: new
  ground_truth: old
  rephrase_prompts: [para]
  locality: {neighborhood: {prompt: n, ground_truth: na}}
"""


@pytest.fixture
def columns(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text(YAML)
    return path


def write(kind, tmp_path):
    path = tmp_path / f"rows.{kind}"
    frame = pandas.DataFrame(ROWS)
    if kind == "json":
        path.write_text(json.dumps(ROWS))
    elif kind == "jsonl":
        path.write_text("\n\n".join(json.dumps(row) for row in ROWS) + "\n")
    elif kind == "folder":
        Dataset.from_list(ROWS).save_to_disk(str(path))
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    return path


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "tsv", "parquet", "folder"])
def test_the_same_from_every_kind_of_file(kind, tmp_path, columns):
    path = write(kind, tmp_path)
    loaded = load_dataset_file(path, columns=columns)
    first, second = loaded.requests
    assert (first.subject, first.ground_truth, first.rephrase_prompts) == ("007 Ltd", "NA", ("The head of 007 Ltd is",))
    assert first.locality == {"neighborhood": (Question("Apple is led by", "Tim"),)}
    assert (second.ground_truth, second.rephrase_prompts, second.locality) == (None, (), {})
    assert loaded.format == "columns" and not loaded.found and loaded.digest == read_table(path).digest


def test_broken_lines_are_refused_by_number(tmp_path, columns):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([json.dumps(ROWS[0]), "{", json.dumps(ROWS[1])]))
    loaded = load_dataset_file(path, columns=columns)
    assert loaded.indices == [0, 2] and loaded.refused[0][:2] == (1, "record") and "no JSON" in loaded.refused[0].reason
    with pytest.raises(EditError, match="record 1: is no JSON"):
        load_records(path, columns=columns)


def test_a_short_csv_line_lacks_its_last_cells(tmp_path, columns):
    path = tmp_path / "rows.csv"
    path.write_text("question,entity,new,old,para,n,na\nWho leads Acme?,Acme\nWho leads Acme?,Acme,Ann,Bo,p,n,a\n")
    (refused,) = load_dataset_file(path, columns=columns).refused
    assert (refused.index, refused.field) == (0, "target_new") and "is empty" in refused.reason


def test_lists_and_dotted_columns(tmp_path):
    rows = [{"edit": {"q": "Who leads Acme?", "s": "Acme"}, "new": 1998, "near": ["A is", "B is"], "answers": ["x", "y"]}]
    (tmp_path / "map.yml").write_text(
        "columns: {prompt: edit.q, subject: edit.s, target_new: new, portability: {hop: {prompt: near, ground_truth: answers}}}"
    )
    (request,) = load_dataset_file(rows, columns=tmp_path / "map.yml").requests
    assert (request.subject, request.target_new) == ("Acme", "1998")
    assert request.portability["hop"] == (Question("A is", "x"), Question("B is", "y"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("columns: {prompt: a, subject: b, target: c}", "columns: unknown key 'target', did you mean target_new?"),
        ("columns: {prompt: a, subject: b}", "missing target_new"),
        ("colums: {}", "unknown key 'colums', did you mean columns?"),
        ("columns: {prompt: a, subject: b, target_new: c, locality: {near: {prompt: d}}}", "locality.near: missing ground_truth"),
        ("columns: {prompt: a, subject: b, target_new: c, locality: near}", "locality must be a mapping, not 'near'"),
        ("columns: {prompt: a, subject: b, target_new: c, rephrase_prompts: 3}", "rephrase_prompts must be str or list or null"),
        ("{}", "must be a mapping, not None"),
    ],
)
def test_a_wrong_map_is_refused(text, said, tmp_path):
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(EditError, match=r"map\.yaml") as error:
        read_columns(tmp_path / "map.yaml")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_column_of_no_row_is_the_maps_mistake(columns):
    rows = [{k: v for k, v in row.items() if k != "para"} for row in ROWS]
    with pytest.raises(EditError, match="no row has anything in column 'para'; its columns are question, entity"):
        load_dataset_file(rows, columns=columns)


def test_a_format_and_a_map_are_one_too_many(columns):
    with pytest.raises(EditError, match="give one"):
        load_dataset_file(ROWS, "zsre", columns)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b"\xff\xfe", "cannot read"),
        ("a.json", b"{", "cannot read"),
        ("a.json", b'{"a": 1}', "no list of records"),
        ("a.jsonl", b"\n", "no list of records"),
        ("a.csv", b"", "no list of records"),
        ("a.csv", b"a,b\n\xe9,2\n", "cannot read"),
        ("a.parquet", b"PAR1", "cannot read"),
        ("a", None, "cannot read"),
    ],
)
def test_unreadable_files_are_one_line(name, content, said, tmp_path):
    path = tmp_path / name
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(EditError, match=said) as error:
        load_dataset_file(path)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_a_split_must_be_chosen(tmp_path):
    DatasetDict(train=Dataset.from_list(ROWS)).save_to_disk(str(tmp_path / "both"))
    with pytest.raises(EditError, match="splits train"):
        load_dataset_file(tmp_path / "both")


def test_the_hub_without_a_network_is_one_line():
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(EditError, match="cannot read hf:nobody/nothing@test") as error:
        load_dataset_file("hf:nobody/nothing@test")
    assert "\n" not in str(error.value)


def test_reading_wants_something_left_and_notes_what_decides(tmp_path, columns):
    assert Reading().about() == {} and Reading("zsre").about() == {"format": "zsre"}
    assert Reading(columns=columns).about()["columns"]["prompt"] == "question"
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"prompt": "a revolver makes sound", "label": 1}] * 3))
    with pytest.raises(EditError, match="none of 3 records can be used, the first because subject is missing"):
        Reading(strict=False).load(path)


def test_a_delimiter_at_the_end_of_every_line_is_no_column_and_more_cells_are_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt,subject,target_new,\n"The capital of France, it is said, is",France,Rome,\nA,B,C,D\nE,F\n')
    first, second, third = read_table(path).rows
    assert first == {"prompt": "The capital of France, it is said, is", "subject": "France", "target_new": "Rome"}
    assert second == Broken("has 4 cells, the header 3")
    assert third == {"prompt": "E", "subject": "F", "target_new": ""}
