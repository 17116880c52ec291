"""`analyze targets` on a tiny model: what is noted, that types do not see each other, and that a stop loses nothing."""

from dataclasses import replace

import pytest
import torch

from easyedit_rep.analysis.targets import draw, growth, record_targets, table
from easyedit_rep.bench.journal import read_journal
from easyedit_rep.editor import RobustEditor
from easyedit_rep.errors import EditError
from easyedit_rep.evaluation.perplexity import target_perplexities, text_perplexity
from easyedit_rep.rep_options import RepOptions
from easyedit_rep.request import EditRequest


@pytest.fixture
def make_editor(make_hparams, make_model, tok, tmp_path, texts):
    (tmp_path / "text.txt").write_text("\n".join(texts))

    def make(base="ROME"):
        rep = RepOptions(base=base, corpus=str(tmp_path / "text.txt"), statistics_tokens=600, pathways=False)
        method = {"mom2_update_weight": 5.0, "d4s": {}} if base == "D4S" else None
        return RobustEditor(make_hparams(rep=rep, method=method), make_model("llama"), tok)

    return make


@pytest.fixture
def sets():
    facts = [("Ann Lee plays", "Ann Lee", "the piano in London"), ("Steve Jobs founded", "Steve Jobs", "a school")]
    requests = [EditRequest(*fact) for fact in facts]
    asked = [replace(r, prompt=f"{r.prompt} ? (a) French; (b) {r.target_new}. It is", target_new="b") for r in requests]
    return {"DG": list(enumerate(requests, 5)), "MQ": list(enumerate(asked, 5))}


def content(path):
    return read_journal(path)[1]


@pytest.mark.parametrize("base", ["ROME", "D4S"])
def test_records(make_editor, sets, tmp_path, texts, base):
    editor = make_editor(base)
    before = {i: editor.anatomy.weight(i).detach().clone() for i in editor.hparams.layers}
    path = record_targets(editor, sets, tmp_path / "a.jsonl", texts[:2], 1, {}, progress=False)
    assert all(torch.equal(editor.anatomy.weight(i), weight) for i, weight in before.items())
    for kind, pairs in sets.items():
        mine = [record for record in content(path) if record["question"] == kind]
        assert [r["index"] for r in mine if "edit" in r] == [5, 6]
        asked = [request.text for _, request in pairs], [request.target_new for _, request in pairs]
        assert [r["perplexity"] for r in mine if "perplexity" in r] == pytest.approx(
            target_perplexities(editor.anatomy, editor.tok, *asked)
        )
        points = [r for r in mine if "after" in r]
        assert [r["after"] for r in points] == [0, 1, 2]
        assert points[0]["held_out"] == pytest.approx(text_perplexity(editor.anatomy, editor.tok, texts[:2]))
        assert points[0]["efficacy"] is None and points[-1]["held_out"] != points[0]["held_out"]
        assert all(0 <= r["probability"] <= 1 and growth(r) for r in mine if "edit" in r)
    alone = record_targets(make_editor(base), {"MQ": sets["MQ"]}, tmp_path / "b.jsonl", texts[:2], 1, {}, progress=False)
    assert content(alone) == [record for record in content(path) if record["question"] == "MQ"]


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_stop_loses_nothing_and_a_finished_type_is_not_edited_again(make_editor, sets, tmp_path, texts, monkeypatch, stop):
    whole = content(record_targets(make_editor(), sets, tmp_path / "whole.jsonl", texts[:2], 1, {}, progress=False))
    real, made = RobustEditor.apply, []

    def counted(self, request, stop=stop):
        made.append(request)
        if len(made) == stop:
            raise KeyboardInterrupt
        return real(self, request)

    monkeypatch.setattr(RobustEditor, "apply", counted)
    editor = make_editor()
    with pytest.raises(KeyboardInterrupt):
        record_targets(editor, sets, tmp_path / "cut.jsonl", texts[:2], 1, {}, progress=False)
    assert not editor.ledger.edits
    kept = content(tmp_path / "cut.jsonl")
    assert kept == whole[: len(kept)] and kept
    made.clear()
    monkeypatch.setattr(RobustEditor, "apply", lambda self, request: counted(self, request, stop=None))
    assert content(record_targets(make_editor(), sets, tmp_path / "cut.jsonl", texts[:2], 1, {}, progress=False)) == whole
    assert len(made) == (4 if stop <= 2 else 2)
    record_targets(make_editor(), sets, tmp_path / "cut.jsonl", texts[:2], 1, {}, progress=False)
    assert len(made) == (4 if stop <= 2 else 2)


def test_other_provenance_and_other_requests_are_refused(make_editor, sets, tmp_path, texts):
    record_targets(make_editor(), sets, tmp_path / "a.jsonl", texts[:2], 2, {"seed": 0}, progress=False)
    with pytest.raises(EditError, match="seed"):
        record_targets(make_editor(), sets, tmp_path / "a.jsonl", texts[:2], 2, {"seed": 1}, progress=False)
    long = [(0, EditRequest("Ann Lee plays " * 600, "Ann Lee", "a"))]
    with pytest.raises(EditError, match="positions"):
        record_targets(make_editor(), {"DG": long}, tmp_path / "b.jsonl", texts[:2], 2, {}, progress=False)
    assert not (tmp_path / "b.jsonl").exists()


def test_table_and_figure_come_from_records_of_unfinished_runs_too(make_editor, sets, tmp_path, texts):
    records = content(record_targets(make_editor(), sets, tmp_path / "a.jsonl", texts[:2], 1, {}, progress=False))
    assert list(table(records)["target"]) == ["direct generation", "multiple choice"]
    first = next(i for i, record in enumerate(records) if "edit" in record)
    assert table(records[:first])["mean |w|, growth %"].tolist() == ["–"]
    for some in (records, records[:first]):
        draw(some, tmp_path / "a.png")
        assert 10_000 < (tmp_path / "a.png").stat().st_size < 200_000
