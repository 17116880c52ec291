"""Covariance files: EasyEdit's layout, and refusal of every file that does not belong to the model."""

import json
import logging
import os

import numpy as np
import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.errors import EditError
from easyedit_rep.memory.covariance import collect
from easyedit_rep.memory.statistics import load_statistics, save_statistics, statistics_path


@pytest.fixture
def anatomy(llama):
    return Anatomy(llama)


@pytest.fixture
def saved(anatomy, tok, corpus, tmp_path):
    path = statistics_path(tmp_path, anatomy, 1, "wikitext", "float32", 100)
    covariance = collect(anatomy, tok, corpus, [1], n_tokens=300, progress=False)[1]
    save_statistics(path, covariance, "float32", 100)
    return path, covariance


@pytest.mark.parametrize("name", ["hub/tiny-llama", "hub/tiny-llama/", "tiny-llama"])
def test_path_is_easyedits(llama, tmp_path, name):
    llama.config._name_or_path = name
    path = statistics_path(tmp_path, Anatomy(llama), 5, "wikitext", "float16", 1000)
    assert path == tmp_path / "tiny-llama" / "wikitext_stats" / "model.layers.5.mlp.down_proj_float16_mom2_1000.npz"


def test_file_holds_what_easyedit_reads(saved):
    path, covariance = saved
    with np.load(path) as data:
        assert set(data) == {"mom2.constructor", "mom2.count", "mom2.mom2", "sample_size"}
        assert (int(data["mom2.count"]), int(data["sample_size"])) == (300, 100)
        assert data["mom2.mom2"].dtype == np.float32
        np.testing.assert_allclose(data["mom2.mom2"] / 300, covariance.moment, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_round_trip(anatomy, saved, tmp_path, dtype):
    _, covariance = saved
    path = tmp_path / "new" / f"c_{dtype}.npz"
    save_statistics(path, covariance, dtype, 7)
    back = load_statistics(path, anatomy, 1)
    assert (back.count, back.provenance) == (covariance.count, covariance.provenance)
    assert back.moment.dtype == torch.float64
    rtol = {"float16": 1e-3, "float32": 1e-6, "float64": 1e-14}[dtype]
    torch.testing.assert_close(back.moment, covariance.moment, rtol=rtol, atol=rtol * covariance.moment.abs().max().item())
    assert {p.suffix for p in path.parent.iterdir()} == {".npz", ".json"}, "no scratch file stays behind"


def rewrite(**changes):
    """Replace (or, with None, drop) arrays of the file."""

    def damage(path):
        with np.load(path) as data:
            arrays = dict(data)
        arrays |= changes
        np.savez(path, **{k: v for k, v in arrays.items() if v is not None})

    return damage


def with_nan(path):
    with np.load(path) as data:
        arrays = dict(data)
    arrays["mom2.mom2"][3, 4] = np.nan
    np.savez(path, **arrays)


DAMAGE = {
    "not an archive": (lambda path: path.write_bytes(b"garbage"), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:2000]), "cannot be read"),
    "a bare array": (lambda path: np.save(path.open("wb"), np.ones(3)), "cannot be read"),
    "no count": (rewrite(**{"mom2.count": None}), "mom2.count"),
    "count of many": (rewrite(**{"mom2.count": np.ones(3)}), "cannot be read"),
    "count zero": (rewrite(**{"mom2.count": np.array(0)}), "not a second moment (count 0)"),
    "NaN": (with_nan, "not a second moment"),
    "not symmetric": (rewrite(**{"mom2.mom2": np.triu(np.ones((48, 48)))}), "not a second moment"),
    "negative": (rewrite(**{"mom2.mom2": -np.eye(48)}), "not a second moment"),
    "beyond Cauchy-Schwarz": (rewrite(**{"mom2.mom2": np.eye(48) + 0.5 * (np.eye(48, k=5) + np.eye(48, k=-5)) * 3}), "not a second moment"),
    "of other samples": (rewrite(**{"sample_size": np.array(99)}), "are of 99 samples, not the 100 of their name"),
    "no samples": (rewrite(**{"sample_size": None}), "sample_size"),
    "other tokens than recorded": (rewrite(**{"mom2.count": np.array(299)}), "are of 299 tokens, their record says 300"),
    "another shape": (rewrite(**{"mom2.mom2": np.eye(64)}), "are (64, 64), layer 1 has keys of length 48"),
    "broken record": (lambda path: path.with_suffix(".json").write_text("{"), "record"),
    "record of another kind": (lambda path: path.with_suffix(".json").write_text("[1]"), "record"),
    "record without a fingerprint": (lambda path: path.with_suffix(".json").write_text("{}"), "other weights"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE)
def test_bad_file_is_refused_in_one_line(anatomy, saved, damage, said):
    path, _ = saved
    damage(path)
    with pytest.raises(EditError) as error:
        load_statistics(path, anatomy, 1)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_file_of_another_model_or_layer_is_refused(anatomy, saved, make_model):
    path, _ = saved
    for other, layer in ((Anatomy(make_model("llama", seed=1)), 1), (anatomy, 2)):
        with pytest.raises(EditError, match=r"were made from 'tiny/llama' with other weights .* delete"):
            load_statistics(path, other, layer)


def test_another_dtype_of_the_same_weights_is_compared(anatomy, saved, make_model, tok):
    path, made = saved
    rounded = Anatomy(make_model("llama").to(torch.bfloat16))
    assert anatomy.fingerprint(1) != rounded.fingerprint(1)
    assert torch.allclose(load_statistics(path, rounded, 1, tok).moment, made.moment, rtol=1e-5, atol=1e-6)
    with pytest.raises(EditError, match="with other weights than"):
        load_statistics(path, Anatomy(make_model("llama", seed=1).to(torch.bfloat16)), 1, tok)
    with pytest.raises(EditError, match="with other weights than"):
        load_statistics(path, Anatomy(make_model("llama", seed=1)), 1, tok)


def test_file_without_record_is_taken_on_trust(anatomy, saved, caplog):
    path, covariance = saved
    path.with_suffix(".json").unlink()
    with caplog.at_level(logging.WARNING):
        back = load_statistics(path, anatomy, 1)
    assert "no provenance record" in caplog.text
    assert back.provenance == {}
    torch.testing.assert_close(back.moment, covariance.moment, rtol=1e-5, atol=1e-6)


def test_more_tokens_than_its_texts_can_hold_are_refused(anatomy, saved):
    path, _ = saved
    path.with_suffix(".json").unlink()
    rewrite(**{"mom2.count": np.array(100 * 512 + 1)})(path)
    with pytest.raises(EditError, match="claim 51201 tokens from 100 texts of at most 512"):
        load_statistics(path, anatomy, 1)


def test_a_kill_never_pairs_old_data_with_a_new_record(anatomy, saved, monkeypatch):
    path, covariance = saved
    instants = []

    def watch(self, target):
        instants.append((path.exists(), path.with_suffix(".json").exists()))
        return os.replace(self, target)

    monkeypatch.setattr("pathlib.Path.replace", watch)
    save_statistics(path, covariance, "float32", 100)
    assert instants == [(False, True), (False, True)], "the old data are gone before the new record is there"
    assert load_statistics(path, anatomy, 1).count == covariance.count


def test_a_place_that_cannot_be_written_is_named(saved, tmp_path):
    _, covariance = saved
    path = tmp_path / "c.npz"
    path.mkdir()
    with pytest.raises(EditError, match="cannot write statistics"):
        save_statistics(path, covariance, "float32", 100)


def test_record_is_json(saved):
    path, covariance = saved
    assert json.loads(path.with_suffix(".json").read_text()) == covariance.provenance
