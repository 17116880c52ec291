"""The benchmark of many active edits: what is counted, and what is refused."""

from types import SimpleNamespace

import pytest

from benchmarks import active_edits
from easyedit_rep.errors import EditError
from easyedit_rep.rep_options import RepOptions


def test_false_fires_stand_beside_the_sequences_they_were_counted_in():
    row = {"efficacy": [1.0]}
    records = [{"method": "D4S+REP", "active": 2, "start": i, "rows": [row], "fires": {"tokens": 20_000, "fires": i}} for i in (2, 6)]
    records.append({"method": "D4S+REP", "active": 1, "start": 0, "rows": [row]})
    shown = active_edits.table(records)
    assert shown["active"].tolist() == ["2", "1"] and shown["fires"].tolist() == ["2.00", "–"]
    assert "fires" not in active_edits.table(records[2:])


def test_fires_are_counted_with_all_edits_active_and_the_model_is_unedited_again(make_editor, requests, texts):
    editor = make_editor(pathways=True)
    weights = editor.anatomy.fingerprint()
    found = active_edits.left_of(editor, requests[:2], texts[:20])
    assert found["fires"]["tokens"] == sum(len(editor.tok(text)["input_ids"]) for text in texts[:20])
    assert set(found["fires"]["most"]) == {request.subject for request in requests[:2]}
    assert len(found["rows"]) == 2
    assert not editor.ledger.edits and editor.anatomy.fingerprint() == weights
    assert "fires" not in active_edits.left_of(editor, requests[:1])


def test_text_that_gates_are_calibrated_on_is_refused(tmp_path, monkeypatch):
    corpus = tmp_path / "text.txt"
    corpus.write_text("one line\nanother line\n")
    editor = SimpleNamespace(hparams=SimpleNamespace(rep=RepOptions(base="D4S", corpus=str(corpus))))
    monkeypatch.setattr(active_edits, "Editors", lambda: lambda _run: editor)
    with pytest.raises(EditError, match="calibrated on"):
        active_edits.main([tmp_path / "a.yaml"], tmp_path / "facts.json", text=corpus, out=tmp_path / "journal.jsonl")
    assert not (tmp_path / "journal.jsonl").exists()
