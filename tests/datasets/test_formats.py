"""Every format, from records written out here: what a request holds of each, and how formats are told apart."""

import logging

import pytest
from record_samples import FLAT, KNOWEDIT, ROME, SAMPLES, TWENTY, WIKIBIO, ZSRE

from easyedit_rep import EditError
from easyedit_rep.datasets.fields import Fields
from easyedit_rep.datasets.formats import FORMATS, detect
from easyedit_rep.datasets.records import load_dataset_file, load_records
from easyedit_rep.request import Question


def only(record):
    (request,) = load_dataset_file([record], strict=True).requests
    return request


def test_every_format_has_a_sample_here():
    assert set(SAMPLES) == {known.name for known in FORMATS}


@pytest.mark.parametrize("name", SAMPLES)
def test_found_by_its_keys_and_said_in_one_line(name, caplog):
    with caplog.at_level(logging.INFO, "easyedit_rep"):
        loaded = load_dataset_file([SAMPLES[name]])
    assert (loaded.format, loaded.found, loaded.refused) == (name, True, [])
    assert [record.getMessage() for record in caplog.records] == [f"records: 1 records, format {name} by its keys, 0 refused"]
    assert load_dataset_file([SAMPLES[name]], name).requests == loaded.requests


@pytest.mark.parametrize("name", SAMPLES)
def test_the_wrong_name_is_refused_not_guessed(name):
    for known in FORMATS:
        if known.name not in (name, "counterfact", "knowedit"):  # these two need no more than prompt, subject and target
            assert not load_dataset_file([SAMPLES[name]], known.name).requests


def test_rome():
    request = only(ROME)
    assert (request.text, request.subject, request.target_new, request.ground_truth) == (
        "Spike Hughes originates from",
        "Spike Hughes",
        "Philadelphia",
        "London",
    )
    assert request.rephrase_prompts == ("Spike Hughes is native to",)
    assert [q.answer for q in request.locality["neighborhood"]] == ["London"] * 2
    assert request.locality["attribute"] == (Question("Otis Rush was native to", "Philadelphia"),)
    assert request.locality["distracting_neighborhood"][0].answer == "London"
    assert request.locality["unrelated_relation"] == (Question("What is Spike Hughes an instance of?", "human"),)
    assert request.portability["one_hop"] == (Question("Which food is Hughes' home known for?", "Cheesesteaks"),)


def test_flat():
    request = only(FLAT)
    assert request.ground_truth == "French" and request.rephrase_prompts == (FLAT["rephrase_prompt"],)
    assert request.locality == {"neighborhood": (Question("Bo Ek speaks", "French"),)}


def test_zsre():
    request = only(ZSRE)
    assert (request.target_new, request.ground_truth) == ("Volkswagen Group", "Volvo Buses")
    assert request.locality["neighborhood"] == (Question(ZSRE["loc"], "Roxette"),)
    assert request.portability["one_hop"][0].answer == "Wolfsburg"
    assert only({k: v for k, v in ZSRE.items() if k not in ("answers", "portability")}).ground_truth is None


def test_knowedit_takes_the_first_accepted_answer_and_counts_questions_without_one():
    loaded = load_dataset_file([KNOWEDIT])
    (request,) = loaded.requests
    assert request.ground_truth == "Rome"
    assert request.portability == {
        "Logical_Generalization": (Question("Is Leo Arons still alive?", "no"),),
        "Reasoning": (Question("The continent of the place of death of Leo Arons is", "Europe"),),
    }
    assert [q.answer for q in request.locality["Relation_Specificity"]] == ["Albert Arons"] * 2
    assert loaded.blank == {"portability.Reasoning[1].ground_truth": 1}


def test_wikibio():
    request = only(WIKIBIO)
    assert (request.subject, request.target_new) == ("john reynolds", WIKIBIO["labels"])
    assert request.located.suffix == ". Sir John Reynolds was a neurologist."


def test_20q():
    request = only(TWENTY)
    assert (request.target_new, request.ground_truth) == (" False", "True")
    assert set(request.locality) == {"unaffected_neighborhood_subject", "unaffected_neighborhood_object"}
    assert request.portability == {"affected_neighborhood_subject": (Question("Fixtures make noise", " False"),)}
    (refused,) = load_dataset_file([{"prompt": "a revolver makes sound", "label": 1}]).refused
    assert refused.field == "subject" and "not guessed" in refused.reason


@pytest.mark.parametrize(
    ("record", "field", "said"),
    [
        (FLAT | {"subject": "ann lee"}, "subject", "not in prompt"),
        (FLAT | {"target_new": "  "}, "target_new", "empty"),
        (FLAT | {"prompt": "{} and {} Ann Lee"}, "prompt", "2 '{}'"),
        (FLAT | {"prompt": ["a"]}, "prompt", "must be text"),
        (FLAT | {"target_new": True}, "target_new", "must be text, not True"),
        (
            FLAT | {"locality_prompt": ["a", "b", "c"], "locality_ground_truth": ["x", "y"]},
            "locality_ground_truth",
            "2 answers for 3 prompts",
        ),
        (FLAT | {"locality_ground_truth": None}, "locality_ground_truth", "is missing"),
        (ZSRE | {"portability": "none"}, "portability", "must be a mapping"),
        (ZSRE | {"alt": None}, "alt", "is missing"),
        (ROME | {"requested_rewrite": {"prompt": "{} is"}}, "requested_rewrite.target_new", "is missing"),
        (ROME | {"requested_rewrite": ROME["requested_rewrite"] | {"target_true": None}}, "requested_rewrite.target_true", "is missing"),
        (KNOWEDIT | {"locality": {"Forgetfulness": [3]}}, "locality.Forgetfulness[0]", "must be a mapping, not 3"),
        (KNOWEDIT | {"locality": {"Forgetfulness": {}, "other": []}}, "locality.Forgetfulness", "must be a list"),
    ],
)
def test_malformed_records_name_the_field(record, field, said):
    name = next(name for name, sample in SAMPLES.items() if set(sample) == set(record))
    (refused,) = load_dataset_file([record], name).refused
    assert (refused.index, refused.field) == (0, field) and said in refused.reason
    with pytest.raises(EditError, match="record 0: "):
        load_dataset_file([record], name, strict=True)


def test_the_first_mapping_decides_and_none_is_dropped():
    loaded = load_dataset_file(["not a mapping", ZSRE, {}, FLAT, ZSRE])
    assert (loaded.format, loaded.total, loaded.indices) == ("zsre", 5, [1, 4])
    assert [(r.index, r.field) for r in loaded.refused] == [(0, "record"), (2, "src"), (3, "src")]


@pytest.mark.parametrize("records", [[{"a": 1}], [3], [{}]])
def test_unknown_formats_are_refused(records):
    with pytest.raises(EditError, match="no known format"):
        load_dataset_file(records)


def test_unknown_names_and_empty_sources(tmp_path):
    with pytest.raises(EditError, match="format 'zsr' is not known"):
        load_dataset_file([ZSRE], "zsr")
    with pytest.raises(EditError, match="no records"):
        load_dataset_file([])
    with pytest.raises(EditError, match=r"cannot read .*missing\.json"):
        load_records(tmp_path / "missing.json")


def test_a_dataset_object_is_a_source():
    from datasets import Dataset

    bare = WIKIBIO | {"locality": {"Relation_Specificity": None}}
    loaded = load_dataset_file(Dataset.from_list([bare, WIKIBIO]))
    assert loaded.format == "knowedit" and loaded.requests == [only(bare), only(WIKIBIO)]


def test_detection_reads_no_values_but_groups():
    assert detect(FLAT, "x").name == "counterfact" and detect(dict.fromkeys(FLAT), "x").name == "counterfact"
    assert Fields(FLAT).blank == []
