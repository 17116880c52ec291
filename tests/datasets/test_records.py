"""Records of the REP paper's format: read whole, or refused by index and reason."""

import json

import pytest

from easyedit_rep import EditError
from easyedit_rep.datasets.records import load_records

RECORD = {
    "prompt": "The mother tongue of Ann Lee is",
    "subject": "Ann Lee",
    "target_new": "English",
    "target_true": "French",
    "rephrase_prompt": ["Ann Lee speaks", ""],
    "locality_prompt": ["Bo Ek speaks", "Cy Ray speaks"],
    "locality_ground_truth": "French",
    "subject_rephrase": ["Ms. Lee", " ", "Lee, Ann"],
}


def write(tmp_path, data):
    path = tmp_path / "facts.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_fields(tmp_path):
    (request,) = load_records(write(tmp_path, [RECORD]))
    assert (request.target_new, request.ground_truth) == ("English", "French")
    assert request.rephrase_prompts == ("Ann Lee speaks",), "empty strings ask nothing"
    assert request.subject_rephrase == ("Ms. Lee", "Lee, Ann")
    assert [(q.prompt, q.answer) for q in request.locality["neighborhood"]] == [("Bo Ek speaks", "French"), ("Cy Ray speaks", "French")]


def test_optional_fields_may_be_null_or_absent(tmp_path):
    bare = {k: RECORD[k] for k in ("prompt", "subject", "target_new", "target_true")} | {"rephrase_prompt": None}
    (request,) = load_records(write(tmp_path, [bare]))
    assert (request.rephrase_prompts, request.locality, request.subject_rephrase) == ((), {}, ())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{", "cannot read"),
        ("{}", "no list"),
        ("[]", "no list"),
        ([RECORD, {k: v for k, v in RECORD.items() if k != "subject"}], "record 1: subject is missing"),
        ([RECORD, RECORD | {"target_new": " "}], "record 1: target_new"),
        ([RECORD | {"subject": "Bo"}], "record 0: subject 'Bo'"),
        ([["not", "a", "mapping"]], "record 0"),
    ],
)
def test_refusals_name_the_record(tmp_path, data, said):
    with pytest.raises(EditError, match=r"facts\.json") as error:
        load_records(write(tmp_path, data))
    assert said in str(error.value) and "\n" not in str(error.value)
