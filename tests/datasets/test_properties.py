"""Whatever is in a file, each record is used or refused with a reason, and nothing is a traceback."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_samples import SAMPLES

from easyedit_rep import EditError, EditRequest
from easyedit_rep.datasets.columns import ColumnMap, GroupColumns
from easyedit_rep.datasets.formats import FORMATS
from easyedit_rep.datasets.records import load_dataset_file, load_records

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["Ann Lee", "{}", "{} {}", " "])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=8
)
keys = sorted({key for sample in SAMPLES.values() for key in sample} | {"rephrase", "target_true", "ground_truth"})


@st.composite
def mutants(draw):
    """A good record with a few fields replaced, dropped or added."""
    record = dict(draw(st.sampled_from(list(SAMPLES.values()))))
    for key in draw(st.lists(st.sampled_from(keys), max_size=3)):
        if draw(st.booleans()):
            record.pop(key, None)
        else:
            record[key] = draw(values)
    return record


records = mutants() | values | st.dictionaries(st.sampled_from(keys), values, max_size=5)
names = st.sampled_from([known.name for known in FORMATS])
MAP = ColumnMap(
    "prompt",
    "subject",
    "target_new",
    ground_truth="ground_truth",
    rephrase_prompts=["rephrase", "rephrase_prompt"],
    locality={"near": GroupColumns("locality_prompt", "locality_ground_truth")},
)


def check(loaded, rows):
    assert loaded.total == len(rows) == len(loaded.requests) + len(loaded.refused)
    assert sorted(loaded.indices + [refused.index for refused in loaded.refused]) == list(range(len(rows)))
    assert all(refused.field and refused.reason and "\n" not in refused.reason for refused in loaded.refused)
    for request in loaded.requests:
        texts = [request.prompt, request.subject, request.target_new, *request.rephrase_prompts, *request.subject_rephrase]
        questions = [q for section in (request.locality, request.portability) for group in section.values() for q in group]
        texts += [text for question in questions for text in (question.prompt, question.answer)]
        assert all(isinstance(text, str) and text.strip() for text in texts)
        assert request.ground_truth is None or isinstance(request.ground_truth, str)


@settings(deadline=None, max_examples=200)
@given(st.lists(records, min_size=1, max_size=6), names)
def test_counts_add_up_in_every_format(rows, name):
    check(load_dataset_file(rows, name), rows)


@settings(deadline=None, max_examples=150)
@given(st.lists(records, min_size=1, max_size=6))
def test_counts_add_up_when_the_format_is_found_or_nothing_is_read(rows):
    with suppress(EditError):  # and nothing else
        check(load_dataset_file(rows), rows)


@settings(deadline=None, max_examples=150)
@given(st.lists(records, min_size=1, max_size=6))
def test_counts_add_up_with_a_column_map(rows):
    with suppress(EditError):  # a column of no row
        check(load_dataset_file(rows, columns=MAP), rows)


@settings(deadline=None, max_examples=50)
@given(st.lists(records, min_size=1, max_size=4), names)
def test_strict_is_lenient_without_refusals(rows, name):
    lenient = load_dataset_file(rows, name)
    if not lenient.refused:
        assert load_dataset_file(rows, name, strict=True).requests == lenient.requests
        return
    with pytest.raises(EditError) as error:
        load_dataset_file(rows, name, strict=True)
    first = lenient.refused[0]
    assert str(error.value) == f"records: record {first.index}: {first.reason}"


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}"), min_size=1, max_size=12).filter(str.strip)
requests = st.builds(
    lambda subject, before, after, new, old, rephrases: EditRequest(
        f"{before}{subject}{after}", subject, new, old, tuple(rephrases), subject_rephrase=tuple(rephrases)
    ),
    texts,
    texts,
    texts,
    texts,
    texts,
    st.lists(texts, max_size=3),
)


@settings(deadline=None, max_examples=50)
@given(st.lists(requests, min_size=1, max_size=4))
def test_round_trip(tmp_path_factory, made):
    rows = [
        {
            "prompt": r.prompt,
            "subject": r.subject,
            "target_new": r.target_new,
            "target_true": r.ground_truth,
            "rephrase_prompt": list(r.rephrase_prompts),
            "subject_rephrase": list(r.subject_rephrase),
        }
        for r in made
    ]
    folder = tmp_path_factory.mktemp("trip")
    (folder / "a.json").write_text(json.dumps(rows))
    (folder / "a.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    assert load_records(folder / "a.json") == load_records(folder / "a.jsonl") == made
