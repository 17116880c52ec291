"""Records of a study: complete, true to the model, taken up where they were left; and the model as it was."""

from dataclasses import replace

import pytest
import torch

from easyedit_rep.analysis import bounds, gate, keys, pca, values
from easyedit_rep.analysis.registry import ANALYSES, analysis
from easyedit_rep.analysis.similarity import similarities
from easyedit_rep.bench.journal import read_journal
from easyedit_rep.errors import EditError
from easyedit_rep.evaluation.predict import predict

MEASURES = {"keys": keys.measure, "pca": pca.measure, "values": values.measure, "bounds": bounds.measure}


def measure_of(name, study):
    return MEASURES.get(name) or gate.Gates(study, study.text(None), 300)


@pytest.mark.parametrize("name", [*MEASURES, "gate"])
def test_a_record_a_fact_a_table_and_a_figure_and_the_model_is_left_alone(name, study, tmp_path):
    before = {key: value.clone() for key, value in study.editor.model.state_dict().items()}
    path = study.record(name, tmp_path, measure_of(name, study), progress=False)
    after = study.editor.model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    provenance, records = read_journal(path)
    assert provenance["analysis"] == name and provenance["layer"] == 1 and provenance["seed"] == 3
    assert sorted(record["index"] for record in records) == [0, 1, 2]
    assert not any("error" in record for record in records)
    table = ANALYSES[name].table(records)
    assert len(table) and table.map(lambda cell: isinstance(cell, str)).all(axis=None)
    ANALYSES[name].draw(records, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_is_stopped_goes_on_where_it_was(make_study, tmp_path):
    whole = make_study().record("keys", tmp_path / "whole", keys.measure, progress=False)
    study, calls = make_study(), []

    def stops(study, fact):
        calls.append(fact)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return keys.measure(study, fact)

    with pytest.raises(KeyboardInterrupt):
        study.record("keys", tmp_path / "cut", stops, progress=False)
    path = make_study().record("keys", tmp_path / "cut", stops, progress=False)
    assert calls == [0, 1, 1, 2]
    assert read_journal(path)[1] == read_journal(whole)[1]


def test_a_fact_that_is_refused_stops_no_other(study, tmp_path):
    def refuses(study, fact):
        if fact == 1:
            raise EditError("not this one")
        return {"points": []}

    _, records = read_journal(study.record("keys", tmp_path, refuses, progress=False))
    assert [record.get("error") for record in records] == [None, "not this one", None]


def test_similarities_in_the_records_are_those_of_the_keys(study):
    """`before` against float64 by hand; `after` moves only where the gate opened."""
    request = study.facts[0][1]
    record = keys.measure(study, 0)
    queries = study.editor.queries(request)
    name = queries.rephrase.out_of_domain[0]
    star, key = study.keys([request.located, request.located.with_subject(name)]).double()
    inverse = torch.linalg.inv(study.covariance.moment)
    (point,) = [p for p in record["points"] if (p["kind"], p["domain"]) == ("rephrase", "ood")]
    assert point["before"] == pytest.approx((key @ inverse @ star / (star @ inverse @ star)).item(), rel=1e-4)
    assert record["self"] == pytest.approx((star @ inverse @ star).item(), rel=1e-4)
    for point in record["points"]:
        assert point["opened"] or point["before"] == pytest.approx(point["after"], rel=1e-5)


def test_the_edited_prompt_gets_a_full_dose_and_its_value_is_what_the_memory_returns(study):
    """A dose is the similarity to k* over that of the prompt's key; ‖Ŵk₀‖ is that of W plus the change, by hand."""
    editor, request = study.editor, study.facts[1][1]
    record = bounds.measure(study, 1)
    prompt = record["points"][0]
    assert prompt["kind"] == "prompt" and prompt["base"]["dose"] == pytest.approx(1, rel=1e-5)
    assert record["bounds"] == [prompt["base"]["low"], prompt["base"]["high"]]
    edit = editor.base_edit(request)
    rephrase = next(p for p in record["points"] if p["kind"] == "rephrase")
    name = editor.queries(request).rephrase.in_domain[0]
    exact, key = study.keys([request.located, request.located.with_subject(name)])
    star = edit.info["keys"][1][0]
    to_star = similarities(study.covariance, torch.stack([key, exact]), star)
    assert rephrase["base"]["dose"] == pytest.approx((to_star[0] / to_star[1]).item(), rel=1e-4)
    weight = editor.anatomy.weight(1).detach() + edit.deltas[1].dense()
    found = values.measure(study, 1)["points"][0]
    assert found["base"] == pytest.approx((weight @ exact).norm().item(), rel=1e-4)


def test_bounds_from_logits_tell_what_a_dose_does(study, monkeypatch):
    """Replayed logits are those of the whole model with the change put in by hand; what it says without the edit is said at dose 0."""
    editor, request = study.editor, study.facts[0][1]
    anatomy, exact = editor.anatomy, study.keys([request.located])[0]
    asked_of = bounds.questions(editor.tok, request, editor.queries(request))
    at = [2 if q.at is None else q.at for q in asked_of]
    change = 5 * bounds.full_change(editor.base_edit(request).deltas[1], exact)
    start = torch.randn(len(at), len(change), generator=torch.Generator().manual_seed(0))
    logits = []
    monkeypatch.setattr(bounds, "interval", lambda none, full, _answer: logits.append((none, full)) or (0.0, 0.0))
    seen = bounds.look(anatomy, 1, asked_of[-2:], at[-2:], torch.stack([torch.zeros_like(start), start])[:, -2:], change)
    order = sorted((0, 1), key=lambda i: -len(asked_of[-2:][i].row))  # batches are longest first
    for place, i in enumerate(order):
        question, added = asked_of[-2:][i], [torch.zeros_like(change), change, start[-2:][i], start[-2:][i] + change]
        found = [z for pair in logits[2 * place : 2 * place + 2] for z in pair]
        for z, extra in zip(found, added, strict=True):
            torch.testing.assert_close(z, by_hand(anatomy, question, at[-2:][i], extra), rtol=1e-4, atol=1e-4)
        assert seen[i].said == predict(anatomy, editor.tok, [question.text], [question.target])[0].predicted


def by_hand(anatomy, question, at, extra):
    """Logits at the predicting positions, with `extra` added to what the down-projection gives out at token `at`."""

    def add(_module, _args, out):
        out = out.clone()
        out[0, at] += extra
        return out

    handle = anatomy.projection(1).register_forward_hook(add)
    try:
        with torch.no_grad():
            return anatomy.model(torch.tensor([question.row])).logits[0, question.start :]
    finally:
        handle.remove()


def test_unrelated_answers_of_the_unedited_model_are_within_their_bounds(study):
    for point in bounds.measure(study, 0)["points"]:
        if point["kind"] == "unrelated":
            assert point["base"]["low"] < 0 < point["base"]["high"]
            assert abs(point["base"]["dose"]) > 0


def test_what_an_analysis_cannot_do_is_refused_by_name(study, make_study):
    with pytest.raises(EditError, match="layer: 2 is not edited"):
        make_study(layer=2)
    rep = study.editor.hparams.rep
    with pytest.raises(EditError, match="mom2_adjustment: true"):
        make_study(mom2_adjustment=False, rep=replace(rep, training=replace(rep.training, target="raw")))
    with pytest.raises(EditError, match="one layer"):
        bounds.measure(make_study(layers=[1, 2]), 0)
    with pytest.raises(EditError, match="analysis 'kees' is not one of keys"):
        analysis("kees")
    fitted = replace(rep, pathway=replace(rep.pathway, kind="closed"), closed=replace(rep.closed, value_steps=2))
    study = make_study(layers=[1, 2], layer=2, rep=fitted)
    with pytest.raises(EditError, match="layer: edits have no pathway in 2: choose 1"):
        gate.Gates(study, study.text(None), 200)


@pytest.mark.parametrize("kind", ["paper", "closed"])
def test_gates_are_counted_where_they_open(kind, study, make_study):
    rep = study.editor.hparams.rep
    shape = replace(rep.pathway, kind=kind) if kind == "closed" else replace(rep.pathway, threshold=0.52)
    study = make_study(rep=replace(rep, pathway=shape, text_tokens=2000))
    gates = gate.Gates(study, study.text(None), 200)
    record = gates(study, 0)
    request = study.facts[0][1]
    with study.editor.installed(study.editor.robustify(study.editor.base_edit(request), study.editor.queries(request))) as edit:
        module = study.editor.anatomy.rewrite(1)
        opened = module.is_open(torch.cat(gates.text_keys), edit.pathway_names[0]).sum().item()
    assert record["opened"][record["levels"].index(record["threshold"])] == opened
    assert (record["scale"], record["threshold"]) == (("margin", 0.0) if kind == "closed" else ("τ", 0.52))
    assert record["opened"] == sorted(record["opened"], reverse=True) and record["tokens"] == 200


def test_other_subjects_are_other(study):
    assert study.others(0, 5) == [1, 2] and study.others(2, 1) == [0]


def test_components_are_those_of_the_covariance():
    points = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double() @ torch.diag(
        torch.tensor([5.0, 3, 1, 1, 1, 1]).double()
    )
    mean, axes, shares = pca.components(points)
    values_, vectors = torch.linalg.eigh(torch.cov(points.T, correction=0))
    torch.testing.assert_close(mean, points.mean(0))
    torch.testing.assert_close(shares, (values_.flip(0) / values_.sum())[:2])
    torch.testing.assert_close((axes @ vectors.flip(1)[:, :2]).abs(), torch.eye(2).double(), atol=1e-8, rtol=0)
