"""The search over a text: the same as brute force over all keys, and the same after a stop."""

import pytest
import torch

from easyedit_rep.analysis import collisions
from easyedit_rep.analysis.similarity import similarities
from easyedit_rep.bench.journal import read_journal
from easyedit_rep.errors import EditError
from easyedit_rep.memory.keys import read_token_keys


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(collisions, "CHUNK", 200)


@pytest.mark.usefixtures("small")
def test_the_closest_tokens_are_those_of_all_keys(study, tmp_path):
    path = collisions.search(study, study.text(None), tmp_path, 900, top=4, progress=False)
    provenance, records = read_journal(path)
    assert provenance["tokens"] == 900 == sum(record["tokens"] for record in records) and len(records) > 2
    tok = study.editor.tok
    rows = [row for chunk in collisions.chunks(tok, study.text(None), 3, 900, 512) for row in chunk]
    keys = read_token_keys(study.editor.anatomy, rows, [1])[1]
    own = collisions.own_ids(study).tolist()
    found = collisions.closest(records)
    for fact in range(3):
        scores = []
        for row, row_keys in zip(rows, keys, strict=True):
            since = 99
            for score, token in zip(similarities(study.covariance, row_keys, study.own_keys[fact]).tolist(), row, strict=True):
                since = 0 if token in own[fact] else since + 1
                if since > 10:
                    scores.append(score)
        mine = found[found["fact"] == fact]
        # The same sentences come in many texts, so scores tie: which of the equal tokens is named does not matter.
        assert mine["similarity"].tolist() == pytest.approx(sorted(scores, reverse=True)[:4], rel=1e-4)
        assert not mine["token"].isin([tok.decode([i]) for i in own[fact] if i >= 0]).any()


@pytest.mark.usefixtures("small")
def test_a_search_that_is_stopped_goes_on(make_study, tmp_path, monkeypatch):
    study = make_study()
    whole = collisions.search(study, study.text(None), tmp_path / "whole", 900, top=3, progress=False)
    real, scans = collisions.scan, []

    def stops(*arguments):
        scans.append(arguments)
        if len(scans) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(collisions, "scan", stops)
    with pytest.raises(KeyboardInterrupt):
        collisions.search(make_study(), study.text(None), tmp_path / "cut", 900, top=3, progress=False)
    path = collisions.search(make_study(), study.text(None), tmp_path / "cut", 900, top=3, progress=False)
    records, wanted = read_journal(path)[1], read_journal(whole)[1]
    assert len(scans) == 1 + len(wanted)
    assert records == wanted
    assert collisions.closest(records).equals(collisions.closest(wanted))


def test_a_subjects_last_token_is_known_with_and_without_a_space(study):
    tok, ids = study.editor.tok, collisions.own_ids(study)
    for row, (_, request) in zip(ids.tolist(), study.facts, strict=True):
        last = {tok(text, add_special_tokens=False)["input_ids"][-1] for text in (request.subject, " " + request.subject)}
        assert last <= set(row)


def test_broken_weights_are_refused(study, tmp_path):
    study.own_keys, study.covariance  # noqa: B018 (made of whole weights)
    with torch.no_grad():
        study.editor.anatomy.layer(0).mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(EditError, match="NaN or infinite keys"):
        collisions.search(study, study.text(None), tmp_path, 200, progress=False)
