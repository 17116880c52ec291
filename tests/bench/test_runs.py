"""A run that is stopped and started again ends with the records of one that was not."""

import importlib
import random
import sys

import pytest

from easyedit_rep.bench import runs
from easyedit_rep.bench.compare import known_only
from easyedit_rep.bench.journal import Journal, read_journal
from easyedit_rep.bench.runs import OneProcess, Run, choose, execute, grid
from easyedit_rep.errors import EditError
from easyedit_rep.request import EditRequest


def content(path):
    """Records without the times."""
    return [{**record, "seconds": sorted(record["seconds"])} for record in read_journal(path)[1]]


def test_two_records_a_fact_in_drawn_order(run, editor, crew, tmp_path):
    path = execute(run, tmp_path / "out", crew(), progress=False)
    assert path.name == "tiny-ROME-facts-seed3.jsonl"
    order = [index for index, _ in choose(run, editor())]
    assert sorted(order) == [0, 1, 2]
    assert [(r["index"], r["method"]) for r in content(path)] == [(i, m) for i in order for m in ("ROME", "ROME+REP")]
    about, _ = read_journal(path)
    assert about["seed"] == 3
    assert about["hparams"]["rep"]["training"]["steps"] == 2
    assert len(about["model"]["fingerprint"]) == 64


def test_taken_up_after_a_stop_between_and_within_facts(run, crew, tmp_path, monkeypatch):
    whole = execute(run, tmp_path / "whole", crew(), progress=False)
    real, asked = runs.compare_one, []

    def stops(editor, index, *rest):
        asked.append(index)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(editor, index, *rest)

    monkeypatch.setattr(runs, "compare_one", stops)
    with pytest.raises(KeyboardInterrupt):
        execute(run, tmp_path / "cut", crew(), progress=False)
    path = execute(run, tmp_path / "cut", crew(), progress=False)
    assert len(asked) == 4  # one done, one stopped, the stopped one again, the last
    assert content(path) == content(whole)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4]))  # killed between the two records of a fact
    assert content(execute(run, tmp_path / "cut", crew(), progress=False)) == content(whole)


class Killed(BaseException):
    """Nothing in the package catches it."""


@pytest.mark.parametrize("seed", range(3))
def test_killed_five_times_at_random_moments(run, crew, tmp_path, monkeypatch, seed):
    """As SIGKILL would: in the middle of an edit, or of a write, of which any part is then in the file."""
    whole = execute(run, tmp_path / "whole", crew(), progress=False)
    real, append, moments, killed = runs.compare_one, Journal._append, random.Random(seed), []

    def edit(*args):
        if len(killed) < 5 and moments.random() < 0.3:
            killed.append("edit")
            raise Killed
        return real(*args)

    def write(self, *items):
        if len(killed) < 5 and moments.random() < 0.6:
            before = self.path.stat().st_size if self.path.exists() else 0
            append(self, *items)
            with self.path.open("r+b") as file:
                file.truncate(moments.randint(before, self.path.stat().st_size))
            killed.append("write")
            raise Killed
        append(self, *items)

    monkeypatch.setattr(runs, "compare_one", edit)
    monkeypatch.setattr(Journal, "_append", write)
    for _ in range(5):
        with pytest.raises(Killed):
            execute(run, tmp_path / "cut", crew(), progress=False)
    assert content(execute(run, tmp_path / "cut", crew(), progress=False)) == content(whole)
    assert len(killed) == 5 and "write" in killed


def test_another_model_is_not_mixed_in(run, editor, crew, tmp_path):
    execute(run, tmp_path, crew(), progress=False)
    other = editor()
    other.model.get_input_embeddings().weight.data += 1
    with pytest.raises(EditError, match="was made with model"):
        execute(run, tmp_path, OneProcess(lambda run: other), progress=False)


def test_unknown_facts_are_left_out(run, editor):
    with pytest.raises(EditError, match=r"no fact of .*facts.json is known"):
        choose(Run(run.hparams, run.data, 0), editor())
    assert len(choose(Run(run.hparams, run.data, 0, n=2, known=False), editor())) == 2


def test_names_must_differ_and_files_exist(run, tmp_path):
    with pytest.raises(EditError, match="two runs are called tiny-ROME-facts-seed3"):
        grid([run.hparams], [run.data], [3, 3], None, True)
    with pytest.raises(EditError, match="cannot read"):
        grid([run.hparams], [run.data], [3], None, True)


def test_known_only_tells_its_counts(run, editor):
    told = []
    requests = [request for _, request in choose(run, editor())]
    silent = [EditRequest(r.prompt, r.subject, r.target_new) for r in requests[:1]]
    kept = known_only(editor(), [*requests, *silent], told.append)
    assert told == [
        f"{len(kept)} of 4 facts are known to the model; left out: {3 - len(kept)} answered otherwise, 1 without a ground truth"
    ]


def test_workers_without_ray_are_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "easyedit_rep.bench.workers", raising=False)
    with pytest.raises(EditError, match=r'--workers needs Ray: pip install "easyedit_rep\[ray\]"'):
        importlib.import_module("easyedit_rep.bench.workers")
