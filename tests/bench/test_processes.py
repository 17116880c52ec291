"""`bench` as processes that are killed, and as workers: minutes, so `-m slow`."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from easyedit_rep.bench.journal import read_journal
from easyedit_rep.bench.runs import execute_all, grid
from easyedit_rep.demo import FACTS, HPARAMS
from easyedit_rep.errors import EditError

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture
def facts(tmp_path):
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(json.loads(FACTS.read_text(encoding="utf-8"))[:8]))
    return path


def start(facts, out, *more):
    command = [sys.executable, "-m", "easyedit_rep", "bench", "--hparams", str(HPARAMS), "--data", str(facts), "--seeds", "0,1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen(
        [*command, "--out", str(out), *more], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=out.parent
    )


def finish(process):
    _, errors = process.communicate(timeout=1200)
    assert process.returncode == 0, errors[-3000:].decode()


def lines(out):
    return sum(path.read_bytes().count(b"\n") for path in out.glob("*.jsonl"))


def content(out, ordered=True):
    """{journal: records without their times}."""
    found = {path.name: read_journal(path) for path in out.glob("*.jsonl")}
    assert all(about["versions"] for about, _ in found.values())
    plain = {name: [{**r, "seconds": sorted(r["seconds"])} for r in records] for name, (_, records) in found.items()}
    return plain if ordered else {name: sorted(rows, key=lambda r: (r["index"], r["method"])) for name, rows in plain.items()}


def test_killed_five_times_and_taken_up(facts, tmp_path):
    """At random moments, of any stage: loading, a run's first fact, a later one. Moments count from a process's own progress, so that a
    busy machine does not move them all into the loading."""
    cut, moments, grown = tmp_path / "cut", random.Random(7), []
    for facts_more in (1, 0, 2, 0, 1):
        process = start(facts, cut)
        goal = lines(cut) + 2 * facts_more
        while facts_more and lines(cut) < goal and process.poll() is None:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 3))  # an edit takes one, 16 are to be made
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was done before it was killed"
        grown.append(lines(cut))
    finish(start(facts, cut))
    assert 0 < grown[0] < grown[-1] < lines(cut), f"the kills were not spread over the run: {grown}"
    finish(start(facts, tmp_path / "whole"))
    assert content(cut) == content(tmp_path / "whole")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """(data file, records of one process)."""
    folder = tmp_path_factory.mktemp("alone")
    path = folder / "facts.json"
    path.write_text(json.dumps(json.loads(FACTS.read_text(encoding="utf-8"))[:6]))
    finish(start(path, folder / "out"))
    return path, content(folder / "out", ordered=False)


@pytest.fixture
def workers(monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install .[ray]")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from easyedit_rep.bench.workers import RayWorkers

    return RayWorkers


def test_two_workers_give_the_records_of_one_process(alone, workers, tmp_path):
    facts, want = alone
    finish(start(facts, tmp_path / "two", "--workers", "2"))
    assert content(tmp_path / "two", ordered=False) == want


def test_a_worker_killed_in_the_middle_loses_nothing(alone, workers, tmp_path):
    facts, want = alone
    runs, gone = grid([HPARAMS], [facts], [0, 1], None, True), []

    def kill(pids):
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            journals = list(tmp_path.glob("*seed0.jsonl"))
            if journals and read_journal(journals[0])[1]:  # the first fact is done, the next are under way
                os.kill(pids[0], signal.SIGKILL)
                gone.append(pids[0])
                return
            time.sleep(0.05)

    with workers(2) as crew:
        before = crew.pids()
        killer = threading.Thread(target=kill, args=(before,))
        killer.start()
        list(execute_all(runs, tmp_path, crew, progress=False))
        killer.join()
        after = crew.pids()
    assert gone == before[:1] and after[0] != before[0] and after[1] == before[1]
    assert content(tmp_path, ordered=False) == want


def test_more_than_there_is_and_no_cluster_are_refused(workers):
    with pytest.raises(EditError, match=r"2 workers need 200 GPU, Ray has \d+: give fewer --workers"), workers(2, gpus=100):
        pass
    with pytest.raises(EditError, match=r"no Ray cluster at .127\.0\.0\.1:1."), workers(1, address="127.0.0.1:1"):
        pass


def test_a_part_of_a_gpu_is_a_part_of_one(workers):
    """Two GPUs have room for two workers of 0.6, although three need no more than 1.8."""
    from easyedit_rep.bench.workers import places_for

    assert [places_for(2, each) for each in (0.6, 0.5, 0.3, 0.1, 1, 2, 4)] == [2, 4, 6, 20, 2, 1, 0]
    assert places_for(0, 0) > 1000


def test_what_a_worker_refuses_is_said_in_one_line(workers, tmp_path):
    facts = tmp_path / "unknown.json"
    facts.write_text(json.dumps([{"prompt": "A B is", "subject": "A B", "target_new": "C", "target_true": "Q"}]))
    with workers(1) as crew, pytest.raises(EditError, match=r"no fact of .*unknown.json is known") as refusal:
        list(execute_all(grid([HPARAMS], [facts], [0], None, True), tmp_path, crew, progress=False))
    assert "\n" not in str(refusal.value)
