"""A run that was interrupted goes on from its checkpoint and ends in the same bits; a checkpoint of something else is refused."""

import resource

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.datasets.corpus import load_corpus
from easyedit_rep.errors import EditError
from easyedit_rep.memory.checkpoint import Checkpoint
from easyedit_rep.memory.covariance import Sample, accumulate, made_from

LAYERS = [0, 2]


class Killed(Exception):
    pass


class Mortal(Checkpoint):
    """Dies right after its second write."""

    writes = 0

    def keep(self, *args):
        super().keep(*args)
        self.writes += 1
        if self.writes == 2:
            raise Killed


@pytest.fixture
def path(tmp_path):
    return tmp_path / "unfinished.checkpoint"


@pytest.fixture
def sample(llama, tok, corpus):
    return Sample.of(Anatomy(llama), tok, corpus, 4000, max_length=60)


@pytest.fixture
def interrupted(llama, sample, path):
    with pytest.raises(Killed):
        accumulate(Anatomy(llama), sample, LAYERS, checkpoint=Mortal(path, every=0), progress=False)
    return path


def test_same_bits_as_one_run(llama, sample, interrupted):
    checkpoint = Checkpoint(interrupted)
    assert checkpoint.layers() == LAYERS
    seen, total = checkpoint.done()
    assert 0 < seen < total == 4000
    whole = accumulate(Anatomy(llama), sample, LAYERS, progress=False)
    resumed = accumulate(Anatomy(llama), sample, LAYERS, checkpoint=checkpoint, progress=False)
    for layer in LAYERS:
        assert torch.equal(resumed[layer].moment, whole[layer].moment)
        assert resumed[layer].provenance == whole[layer].provenance
    assert interrupted.exists(), "it is the caller's to remove, once the result is written"


def test_only_the_batches_that_are_left_are_read(llama, sample, interrupted, monkeypatch):
    calls = []
    monkeypatch.setattr("easyedit_rep.memory.covariance.visit_keys", lambda *args: calls.append(args))
    seen, total = Checkpoint(interrupted).done()
    accumulate(Anatomy(llama), sample, LAYERS, checkpoint=Checkpoint(interrupted), progress=False)
    assert sum(int(mask.sum()) for _, _, _, mask, _ in calls) == total - seen


def test_written_only_when_it_is_time(llama, sample, path):
    accumulate(Anatomy(llama), sample, LAYERS, checkpoint=Checkpoint(path, every=60), progress=False)
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"max_length": 50}, "max_length was 60 and is now 50"),
        ({"n_tokens": 3000}, "tokens was 4000 and is now 3000"),
        ({"source": "other"}, 'corpus_digest was "'),
    ],
)
def test_of_other_text_is_refused(llama, tok, corpus, interrupted, options, said):
    text = load_corpus([*corpus.texts, "More."]) if options.pop("source", None) else corpus
    sample = Sample.of(Anatomy(llama), tok, text, **{"n_tokens": 4000, "max_length": 60, **options})
    with pytest.raises(EditError) as error:
        accumulate(Anatomy(llama), sample, LAYERS, checkpoint=Checkpoint(interrupted), progress=False)
    assert said in str(error.value) and "or delete it" in str(error.value)


def test_of_another_model_tokenizer_or_dtype_is_refused(llama, make_model, make_tokenizer, corpus, sample, interrupted):
    def refused(anatomy, sample, said):
        with pytest.raises(EditError, match=said):
            accumulate(anatomy, sample, LAYERS, checkpoint=Checkpoint(interrupted), progress=False)

    refused(Anatomy(make_model("llama", seed=1)), sample, "of 'tiny/llama', with other weights than the loaded model's")
    other = Sample.of(Anatomy(llama), make_tokenizer("no_bos"), corpus, 4000, max_length=60)
    refused(Anatomy(llama), other, "token_digest was")
    refused(Anatomy(make_model("llama").to(torch.bfloat16)), sample, "checkpoint .* does not fit")


def test_damaged_is_refused(llama, sample, interrupted):
    whole = interrupted.read_bytes()
    for data in (b"", b"garbage", whole[: len(whole) // 2], whole[:500] + b"x" * 9 + whole[509:]):
        interrupted.write_bytes(data)
        with pytest.raises(EditError, match=r"cannot be read .* delete it to begin again"):
            accumulate(Anatomy(llama), sample, LAYERS, checkpoint=Checkpoint(interrupted), progress=False)


def test_full_disk_keeps_the_one_before(llama, sample, interrupted):
    """A limit on file sizes fails in the middle of a write, as a full disk does."""
    before = interrupted.read_bytes()
    sums = {layer: torch.ones(48, 48, dtype=torch.float64) for layer in LAYERS}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(EditError, match=r"cannot write checkpoint .*; the one before is kept: make room") as error:
            Checkpoint(interrupted, every=0).keep(made_from(Anatomy(llama), sample, LAYERS), sums, 3, 3000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(error.value)
    assert interrupted.read_bytes() == before
    assert list(interrupted.parent.iterdir()) == [interrupted], "no scratch file stays behind"
