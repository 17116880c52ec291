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
    with Journal(path, ABOUT) as journal:
        journal.add(RECORDS[:2])
        journal.add(RECORDS[2:])
        assert journal.records == RECORDS
    with Journal(path, ABOUT) as journal:
        assert journal.records == RECORDS
    assert read_journal(path) == (ABOUT, RECORDS)


@given(cut=st.integers(0, 400))
def test_cut_anywhere_and_taken_up_again(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "run.jsonl"
    with Journal(path, ABOUT) as journal:
        for record in RECORDS:
            journal.add([record])
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    with Journal(path, ABOUT) as again:
        assert again.records == RECORDS[: len(again.records)]
        again.add(RECORDS[len(again.records) :])
    assert path.read_bytes() == whole


def test_reading_leaves_out_a_line_cut_short_wherever_and_the_file_alone(path):
    with Journal(path, ABOUT) as journal:
        journal.add(RECORDS)
    whole = path.read_bytes()
    for cut in range(1, len(whole) - whole[:-1].rfind(b"\n") - 1):  # also within a letter of several bytes
        path.write_bytes(whole[:-cut])
        assert read_journal(path)[1] == RECORDS[:-1]
        assert path.read_bytes() == whole[:-cut]


def test_two_cannot_write_one_journal(path):
    with Journal(path, ABOUT) as journal:
        with pytest.raises(EditError, match="is being written by another process: wait for it"), Journal(path, ABOUT):
            pass
        journal.add(RECORDS[:1])
    with Journal(path, ABOUT) as journal:
        assert journal.records == RECORDS[:1]


def test_other_provenance_is_refused_and_named(path):
    with Journal(path, ABOUT):
        pass
    other = Journal(path, {**ABOUT, "seed": 1, "model": {"name": "other"}})
    with pytest.raises(EditError, match=r"was made with model\.name tiny, not other \(and seed\): choose another --out"), other:
        pass
    with Journal(path, ABOUT):  # a refusal lets go of the file
        pass


def test_what_an_older_version_did_not_note_is_unknown(path, caplog):
    with Journal(path, ABOUT) as journal:
        journal.add([{"index": 0}])
    with Journal(path, {**ABOUT, "texts": {"corpus": "wikitext"}}) as journal:
        assert journal.records == [{"index": 0}]
    assert "does not say with which texts it was made" in caplog.text


@pytest.mark.parametrize(("text", "said"), [('{"index": 0}\n', "no provenance line"), ("not json\n", "is not a file of records")])
def test_other_files_are_refused(path, text, said):
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(EditError, match=said), Journal(path, ABOUT):
        pass
    assert path.read_text() == text
    with pytest.raises(EditError, match="is not a file of this benchmark"):
        read_journal(path)


def test_a_full_disk_is_said_in_one_line(path, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    with Journal(path, ABOUT) as journal:
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(EditError, match="No space left on device; what is finished is kept"):
            journal.add(RECORDS)
        assert journal.records == []
    assert json.loads(path.read_text().splitlines()[0])["provenance"] == ABOUT
