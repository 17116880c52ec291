"""A session is of a model and of hyper-parameters as they are."""

from dataclasses import replace

import pytest

from easyedit_rep.integrations import session as module
from easyedit_rep.integrations.robustness import Baseline, compare_negatives
from easyedit_rep.integrations.session import Bridge, Session


@pytest.fixture
def hparams(make_hparams, texts, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    out = make_hparams()
    out.rep = replace(out.rep, corpus=str(path))
    return out


def test_changed_hyper_parameters_are_another_session(llama, tok, hparams):
    first = Session.of(llama, tok, hparams)
    assert Session.of(llama, tok, hparams) is first
    hparams.rep.seed = 7
    second = Session.of(llama, tok, hparams)
    assert second is not first and second.editor.hparams.rep.seed == 7
    assert Session.of(llama, tok, hparams) is second


def test_the_least_recently_used_goes(llama, tok, make_hparams, monkeypatch):
    monkeypatch.setattr(module, "SESSIONS", 2)
    a, b, c = (make_hparams() for _ in range(3))
    kept = Session.of(llama, tok, a)
    Session.of(llama, tok, b)
    assert Session.of(llama, tok, a) is kept
    Session.of(llama, tok, c)
    assert list(Bridge.of(llama).sessions) == [a, c]


def test_negatives_are_compared_with_the_files_where_pre_comes_from_one():
    def measured(*output, kind=Baseline):
        return {"robustness": {"negatives": kind({"negated": {"output": [list(output)], "acc": [1.0]}})}}

    row = {"pre": measured(1, 2, kind=dict), "post": measured(1, 3)}
    compare_negatives(row)
    assert row["post"]["robustness"]["negatives"]["negated"]["acc"] == [0.5]
    for pre in ({}, {"rewrite_acc": [1.0]}):
        row = {"pre": pre, "post": measured(1, 3)}
        compare_negatives(row)
        assert "acc" not in row["post"]["robustness"]["negatives"]["negated"]
    row = {"pre": {}, "post": measured(1, 3, kind=dict)}  # as REP's own, which asks the unedited model itself
    compare_negatives(row)
    assert row["post"]["robustness"]["negatives"]["negated"]["acc"] == [1.0]
