"""Which layers are made, in which passes; and what is refused before the first of them."""

import json

import pytest
import torch
from filelock import FileLock

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.errors import EditError
from easyedit_rep.memory.checkpoint import Checkpoint
from easyedit_rep.memory.covariance import Sample, accumulate, collect
from easyedit_rep.memory.passes import Passes, available_memory, text_of
from easyedit_rep.memory.statistics import load_statistics


@pytest.fixture
def make(llama, tok, corpus, tmp_path):
    def make(layers=(0, 1, 2, 3), n_tokens=2000, seed=0, **options):
        anatomy = Anatomy(llama)
        sample = Sample.of(anatomy, tok, corpus, n_tokens, seed=seed)
        options = {"stats_dir": tmp_path, "dataset": "mine", "dtype": "float64", "n_samples": 7, "max_bytes": 10**9, **options}
        return Passes(anatomy, sample, list(layers), **options)

    return make


def leave_checkpoint(passes, layers):
    """As after a kill in the middle of a pass over `layers`."""

    class Mortal(Checkpoint):
        def keep(self, *args):
            super().keep(*args)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        accumulate(passes.anatomy, passes.sample, layers, checkpoint=Mortal(passes.checkpoint.path, every=0), progress=False)


def test_files_are_those_of_the_collector(make, llama, tok, corpus):
    passes, said = make(layers=[1, 3]), []
    passes.run(said.append, progress=False)
    want = collect(Anatomy(llama), tok, corpus, [1, 3], n_tokens=2000, progress=False)
    for layer in (1, 3):
        found = load_statistics(passes.path(layer), passes.anatomy, layer)
        torch.testing.assert_close(found.moment, want[layer].moment, rtol=1e-14, atol=0)
        assert found.provenance == want[layer].provenance
    assert len(said) == 1 and said[0].startswith("mine: layers 1,3, 2,000 tokens")
    assert len(list(passes.path(1).parent.iterdir())) == 4, "no checkpoint and no scratch file stays behind"


def test_layers_are_grouped_by_memory_with_the_same_result(make, tmp_path):
    one, many = make(stats_dir=tmp_path / "one"), make(stats_dir=tmp_path / "many")
    small = make(stats_dir=tmp_path / "many", max_bytes=many.need(3))
    assert [one.groups, small.groups] == [[[0, 1, 2, 3]], [[0, 1, 2], [3]]]
    one.run(lambda _: None, progress=False)
    small.run(lambda _: None, progress=False)
    for layer in range(4):
        assert one.path(layer).read_bytes() == small.path(layer).read_bytes()


def test_too_little_memory_is_refused(make):
    with pytest.raises(EditError, match=r"layers 0 take .* GB of memory, 0\.0 GB are allowed: raise --max-memory"):
        make(max_bytes=1000).groups  # noqa: B018


def test_too_little_disk_is_refused(make, monkeypatch):
    from shutil import _ntuple_diskusage

    monkeypatch.setattr("shutil.disk_usage", lambda _: _ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(EditError, match=r"has 0\.0 GB free, files and checkpoint of mine take up to .* make room"):
        make().check_disk()


def test_what_is_there_is_kept_or_refused_or_made_again(make):
    make(layers=[1]).run(lambda _: None, progress=False)
    before = make().path(1).stat().st_mtime_ns
    again, said = make(layers=[0, 1]), []
    assert (again.finished, again.groups) == ([1], [[0]])
    again.run(said.append, progress=False)
    assert said[0] == "mine: layers 1 are there already (--force makes them again)"
    assert make().path(1).stat().st_mtime_ns == before
    for changed, name in (({"seed": 2}, "seed 0, asked for is 2"), ({"n_tokens": 900}, "tokens 2000, asked for is 900")):
        with pytest.raises(EditError, match=f"was made with {name}: pass --force to make it again"):
            make(**changed).finished  # noqa: B018
        assert make(**changed, force=True).groups == [[0, 1, 2, 3]]


def test_of_other_weights_is_refused_and_easyedits_is_kept(make, make_model):
    make(layers=[1]).run(lambda _: None, progress=False)
    record = make().path(1).with_suffix(".json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "fingerprint": "0"}))
    with pytest.raises(EditError, match="was made with fingerprint 0"):
        make().groups  # noqa: B018
    record.unlink()
    assert make().finished == [1]


def test_layers_of_a_killed_run_come_first_and_together(make):
    leave_checkpoint(make(), [1, 2])
    assert make(max_bytes=make().need(3)).groups == [[1, 2], [0, 3]]
    said = []
    make(max_bytes=make().need(3)).run(said.append, progress=False)
    assert "going on after" in said[0] and "going on" not in said[1]


def test_killed_while_files_are_written(make):
    """Files that are there already belong to the checkpoint as long as it exists."""
    make(layers=[1]).run(lambda _: None, progress=False)
    leave_checkpoint(make(), [1, 2])
    assert (make().finished, make().groups) == ([], [[1, 2], [0, 3]])


def test_checkpoint_of_layers_that_are_not_asked_for_is_refused(make):
    leave_checkpoint(make(), [1, 2])
    with pytest.raises(EditError, match="holds layers 1-2, 0-1 are asked for: ask for --layers 0-2, or delete it"):
        make(layers=[0, 1]).groups  # noqa: B018
    with pytest.raises(EditError, match="seed was 0 and is now 5"):
        make(seed=5).groups  # noqa: B018
    with pytest.raises(EditError, match=r"layers 1-2 take .* or delete .* to begin with smaller passes"):
        make(max_bytes=make().need(1)).groups  # noqa: B018


def test_text_of_layers():
    assert [text_of(layers) for layers in ([3], [0, 1, 2], [7, 3, 1, 2], [0, 2])] == ["3", "0-2", "1-3,7", "0,2"]


def test_free_memory_is_a_number_of_bytes():
    assert 10**7 < available_memory(torch.device("cpu")) < 10**14


def test_two_processes_do_not_collect_in_one_place(make):
    passes = make(layers=[1])
    passes.checkpoint.path.parent.mkdir(parents=True)
    with FileLock(f"{passes.checkpoint.path}.lock"), pytest.raises(EditError, match=r"another process collects in .*: wait for it"):
        passes.run(print, progress=False)
    passes.run(lambda _said: None, progress=False)
    assert passes.path(1).exists()
