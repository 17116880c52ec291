"""A journal loses nothing that was finished, whenever it is cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyedit_rep.bench.journal import Journal, read_journal
from easyedit_rep.errors import EditError

ABOUT = {"seed": 0, "model": {"name": "tiny"}, "path": "a/b"}
RECORDS = [{"index": i, "text": "Łódź\n" * i} for i in range(4)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "run.jsonl"


def test_records_come_back(path):
    journal = Journal(path, ABOUT)
    journal.add(RECORDS[:2])
    journal.add(RECORDS[2:])
    assert journal.records == RECORDS
    assert Journal(path, ABOUT).records == RECORDS
    assert read_journal(path) == (ABOUT, RECORDS)


@given(cut=st.integers(0, 400))
def test_cut_anywhere_and_taken_up_again(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "run.jsonl"
    journal = Journal(path, ABOUT)
    for record in RECORDS:
        journal.add([record])
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    again = Journal(path, ABOUT)
    assert again.records == RECORDS[: len(again.records)]
    again.add(RECORDS[len(again.records) :])
    assert path.read_bytes() == whole


def test_reading_leaves_out_a_line_cut_short_and_the_file_alone(path):
    Journal(path, ABOUT).add(RECORDS)
    path.write_bytes(path.read_bytes()[:-3])
    before = path.read_bytes()
    assert read_journal(path)[1] == RECORDS[:-1]
    assert path.read_bytes() == before


def test_other_provenance_is_refused_and_named(path):
    Journal(path, ABOUT)
    with pytest.raises(EditError, match=r"was made with model .*tiny.*, not .*other.* \(and seed\): choose another --out"):
        Journal(path, {**ABOUT, "seed": 1, "model": {"name": "other"}})


@pytest.mark.parametrize(("text", "said"), [('{"index": 0}\n', "no provenance line"), ("not json\n", "is not a file of records")])
def test_other_files_are_refused(path, text, said):
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(EditError, match=said):
        Journal(path, ABOUT)
    assert path.read_text() == text
    with pytest.raises(EditError, match="is not a file of this benchmark"):
        read_journal(path)


def test_a_full_disk_is_said_in_one_line(path, monkeypatch):
    journal = Journal(path, ABOUT)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EditError, match="No space left on device; what is finished is kept"):
        journal.add(RECORDS)
    assert journal.records == []
    assert json.loads(path.read_text().splitlines()[0])["provenance"] == ABOUT
