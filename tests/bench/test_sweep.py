"""Other thresholds and weights, on the same edits."""

from dataclasses import asdict, replace

import pytest
import torch

from easyedit_rep.bench.compare import Setting
from easyedit_rep.bench.journal import Journal, read_journal
from easyedit_rep.bench.runs import execute
from easyedit_rep.bench.sweep import draw, points, settings
from easyedit_rep.editor import RobustEditor
from easyedit_rep.errors import EditError
from easyedit_rep.rep_options import PathwayShape, RepOptions
from easyedit_rep.request import EditRequest

REP = RepOptions()
REQUEST = EditRequest("The mother tongue of Danielle Darrieux is", "Danielle Darrieux", "music")


def test_settings_vary_one_value_at_a_time():
    assert settings(REP, [0.5, 0.9], [1e3, 5e4]) == (Setting(5e4, 0.5), Setting(5e4, 0.9), Setting(1e3, 0.9))
    assert [s.label("ROME") for s in (*settings(REP, [0.5], []), Setting())] == ["ROME+REP τ=0.5 α=50000", "ROME+REP"]
    for thresholds, alphas, said in (([], [], "nothing to vary"), ([1.5], [], r"--thresholds: 1\.5"), ([], [-1.0], "--alphas: -1")):
        with pytest.raises(EditError, match=said):
            settings(REP, thresholds, alphas)


def test_a_pathway_is_trained_once_for_all_thresholds_and_more_can_follow(run, crew, tmp_path, monkeypatch):
    trained, real = [], RobustEditor.robustify
    monkeypatch.setattr(RobustEditor, "robustify", lambda *a, **k: trained.append(k["training"].consistency_weight) or real(*a, **k))
    first = replace(run, settings=settings(REP, [0.1, 0.9], []))
    path = execute(first, tmp_path, crew(), progress=False)
    assert trained == [5e4] * 3
    more = replace(run, settings=settings(REP, [0.1, 0.9], [1e2]))
    before = read_journal(path)[1]
    trained.clear()
    assert execute(more, tmp_path, crew(), progress=False) == path
    assert trained == [1e2] * 3, "what is there is not made again"
    about, after = read_journal(path)
    assert after[: len(before)] == before
    assert [r["method"] for r in after[len(before) :]] == ["ROME+REP τ=0.9 α=100"] * 3
    rep = about["hparams"]["rep"]
    assert [value for value, _ in points(after, rep, "threshold")] == [0.1, 0.9]
    assert [value for value, _ in points(after, rep, "alpha")] == [1e2, 5e4]
    draw([path], tmp_path / "sweep.png")
    picture = (tmp_path / "sweep.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) < 200_000


def test_nothing_but_refusals_cannot_be_drawn(tmp_path):
    with Journal(tmp_path / "a.jsonl", {"hparams": {"rep": asdict(REP), "model_name": "tiny"}, "data": {"file": "a"}}) as journal:
        journal.add([{"index": 0, "method": "ROME", "error": "no"}])
    with pytest.raises(EditError, match="every fact was refused, so there is nothing to draw"):
        draw([journal.path], tmp_path / "sweep.png")


def test_a_threshold_acts_as_the_hyper_parameters_would(editor, tok):
    """At both ends: the gates, trained so shortly that they stand near a half, all open; and shut for good, which is the plain method."""
    ids = tok("The mother tongue of Danielle Darrieux is", return_tensors="pt")

    def logits(editor, edit):
        editor.install(edit)
        found = editor.model(**ids).logits
        edit.undo()
        return found

    first, opened = editor(steps=30), editor(steps=30, pathway=PathwayShape(threshold=0.1))
    base = first.base_edit(REQUEST)
    robust = first.robustify(base)
    assert torch.equal(logits(first, robust.at_threshold(1.0)), logits(first, base))
    assert torch.equal(logits(first, robust.at_threshold(0.1)), logits(opened, opened.robustify(opened.base_edit(REQUEST))))
    assert not torch.allclose(logits(first, robust.at_threshold(0.1)), logits(first, base))
    assert not robust.active and robust.pathways[0].config.threshold == REP.pathway.threshold
