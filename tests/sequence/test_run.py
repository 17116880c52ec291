"""A watched sequence: what is noted when, and that a stop changes nothing."""

from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from easyedit_rep.bench.journal import Journal, read_journal
from easyedit_rep.bench.sequences import block_cells, blocks_of, cells, checkpoints, draw
from easyedit_rep.cli import app
from easyedit_rep.errors import EditError
from easyedit_rep.evaluation.sequence import baseline, blocks, measure, summary
from easyedit_rep.rep_options import RepOptions
from easyedit_rep.request import Question
from easyedit_rep.sequence.run import Watch, edit_sequence

ABOUT = {"hparams": {"rep": {"base": "D4S", "pathways": False}}, "seed": 0}


@pytest.fixture
def facts(requests):
    near = {"near": (Question("Ann Smith plays the", "piano"), Question("The river of Paris is", "Spanish"))}
    return [replace(r, locality=near, rephrase_prompts=("They say so",)) for r in requests]


@pytest.fixture
def watch(texts):
    return Watch(checkpoints=(2,), held_out=texts[:2], save_every=2)


def content(path):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in read_journal(path)[1]]


def test_records(make_editor, facts, watch, tmp_path):
    editor = make_editor()
    path = edit_sequence(editor, facts, tmp_path, watch, ABOUT, progress=False)
    kinds = [next(iter(record)) + str(next(iter(record.values()))) for record in content(path)]
    assert kinds == ["edit1", "edit2", "after2", "edit3", "edit4", "edit5", "after5"]
    last = content(path)[-1]
    assert len(last["rows"]) == 5
    assert last["perplexity"] > 1
    assert last["norms"]["0"]["weight"] != last["norms"]["0"]["original"]
    assert len(last["rows"][0]["specificity"]) == 2
    assert (tmp_path / "sequence.json").exists()


@pytest.mark.parametrize("stop", [1, 3, 4, 5])
def test_a_stop_changes_neither_weights_nor_records(make_editor, facts, watch, tmp_path, weights, monkeypatch, stop):
    whole = make_editor()
    want = edit_sequence(whole, facts, tmp_path / "whole", watch, ABOUT, progress=False)
    first, made = make_editor(), []
    real = type(first).apply

    def stops(self, *args, **kwargs):
        made.append(args)
        if len(made) == stop:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(type(first), "apply", stops)
    with pytest.raises(KeyboardInterrupt):
        edit_sequence(first, facts, tmp_path / "cut", watch, ABOUT, progress=False)
    again = make_editor()
    path = edit_sequence(again, facts, tmp_path / "cut", watch, ABOUT, progress=False)
    assert all(torch.equal(value, weights(whole)[i]) for i, value in weights(again).items())
    assert content(path) == content(want)
    edit_sequence(make_editor(), facts, tmp_path / "cut", watch, ABOUT, progress=False)  # a finished run is not made again
    assert content(path) == content(want)


def test_other_requests_are_refused(make_editor, facts, watch, tmp_path):
    edit_sequence(make_editor(), facts, tmp_path, watch, ABOUT, progress=False)
    with pytest.raises(EditError, match="has 'The mother tongue of Danielle Darrieux is' as edit 0, not"):
        edit_sequence(make_editor(), facts[::-1], tmp_path, watch, ABOUT, progress=False)


def test_a_saved_sequence_is_not_taken_up_without_its_journal(make_editor, facts, watch, tmp_path):
    """With the journal moved away the edits would go on, made with whatever hyper-parameters, and nothing be known of those before."""
    path = edit_sequence(make_editor(), facts[:2], tmp_path, watch, ABOUT, progress=False)
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(EditError, match=r"holds a saved sequence of 2 edits, and sequence.jsonl says nothing of edit 1: .* choose another"):
        edit_sequence(make_editor(), facts, tmp_path, watch, ABOUT, progress=False)


def test_other_methods_run_too_but_are_not_taken_up(make_hparams, make_editor, facts, watch, tmp_path):
    editor = make_editor()
    hparams = make_hparams(rep=replace(editor.hparams.rep, base="ROME", pathways=False), method=None)
    rome = type(editor)(hparams, editor.model, editor.tok)
    path = edit_sequence(rome, facts[:2], tmp_path, watch, ABOUT, progress=False)
    assert len(content(path)) == 3
    with pytest.raises(EditError, match="cannot be taken up"):
        edit_sequence(rome, facts[:2], tmp_path, watch, ABOUT, progress=False)
    assert RepOptions().base == "ROME"


def test_batches_and_robustness(make_editor, facts, tmp_path):
    editor = make_editor()
    editor.unedited.queries.rephrases.update({fact.subject: ["A. Lee", "Annie"] for fact in facts})
    path = edit_sequence(editor, facts, tmp_path, Watch(robustness=True), ABOUT, batch=2, progress=False)
    assert [len(edit.requests) for edit in editor.sequence.edits] == [2, 2, 1]
    row = content(path)[-1]["rows"][0]
    assert len(row["rephrase_id"]) == len(row["rephrase_ood"]) == 1


def test_means_over_requests_and_blocks(make_editor, facts):
    rows = [
        {"efficacy": [1.0], "paraphrase": [1.0, 0.0], "specificity": []},
        {"efficacy": [0.0], "paraphrase": [1.0], "specificity": [1.0]},
    ]
    assert summary(rows) == {"efficacy": 50.0, "paraphrase": 75.0, "specificity": 100.0, "average": 75.0}
    assert [(b["from"], b["to"], b["efficacy"]) for b in blocks(rows, 1)] == [(0, 1, 100.0), (1, 2, 0.0)]
    editor = make_editor()
    (row,) = measure(editor.anatomy, editor.tok, facts[:1], baseline(editor.anatomy, editor.tok, facts[:1]))
    assert row["specificity"] == [1.0, 1.0]  # nothing was edited


def test_tables_and_picture(make_editor, facts, watch, tmp_path):
    run = read_journal(edit_sequence(make_editor(), facts, tmp_path, watch, ABOUT, progress=False))
    rows = checkpoints([run, run])
    assert list(rows["edits"]) == [2, 2, 5, 5]
    assert set(cells([run])["method"]) == {"D4S"}
    assert blocks_of([run], 2)["to"].tolist() == [2, 4, 5]
    printed = block_cells([run], 2)
    assert printed["block"].tolist() == ["1 to 2", "3 to 4", "5 to 5"] and {"Eff.", "Par.", "Spe.", "Avg."} <= set(printed)
    draw([run], tmp_path / "a.png", 2)
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_two_runs_of_one_method_are_told_apart():
    after = {"after": 2, "rows": [{"efficacy": [1.0]}], "perplexity": None, "norms": {"1": {"weight": 1.0, "original": 1.0}}}
    hparams = {"rep": {"base": "D4S", "pathways": False}}
    runs = [({"hparams": hparams, "data": {"file": name}}, [after]) for name in ("a.json", "b.json", "b.json")]
    names = ["D4S, a.json", "D4S, b.json (2)", "D4S, b.json (3)"]
    assert checkpoints(runs)["method"].tolist() == blocks_of(runs)["method"].tolist() == names


def test_a_run_without_a_checkpoint_yet_does_not_keep_others_from_being_shown(tmp_path):
    norms = {"1": {"weight": 1.1, "original": 1.0}}
    about = {"hparams": {"rep": {"base": "MEMIT", "pathways": False}}}
    rows = [{"efficacy": [1.0], "paraphrase": [], "specificity": []}]
    runs = {"done": [{"edit": 1, "norms": norms}, {"after": 1, "rows": rows, "perplexity": None, "norms": norms}]}
    runs["begun"] = [{"edit": 1, "norms": norms}]
    for name, records in runs.items():
        with Journal(tmp_path / name / "sequence.jsonl", about) as journal:
            journal.add(records)
    result = CliRunner().invoke(app, ["sequence", "show", *(str(tmp_path / name) for name in runs), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.exception
    assert "begun has reached no checkpoint yet and is left out" in " ".join(result.output.split())
    assert result.stdout.count("MEMIT") == 2 and (tmp_path / "sequence.png").exists()
    result = CliRunner().invoke(app, ["sequence", "show", str(tmp_path / "begun"), "--out", str(tmp_path)])
    assert "no checkpoint has been reached yet" in str(result.exception)
