"""Statistics files are EasyEdit's: it reads ours and we read its, and neither downloads anything."""

import importlib
from types import SimpleNamespace

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.memory.covariance import collect
from easyedit_rep.memory.statistics import load_statistics, save_statistics, statistics_path

pytestmark = pytest.mark.easyedit


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("EasyEdit went for a download")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    monkeypatch.setattr(importlib.import_module("easyeditor.models.rome.layer_stats"), "load_dataset", refuse)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_easyedit_reads_ours(family, dtype, make_model, tok, corpus, tmp_path, monkeypatch):
    model = make_model(family)
    anatomy = Anatomy(model)
    covariance = collect(anatomy, tok, corpus, [1], n_tokens=600, progress=False)[1]
    path = statistics_path(tmp_path, anatomy, 1, "wikitext", dtype, 100)
    save_statistics(path, covariance, dtype, 100)
    compute_u = importlib.import_module("easyeditor.models.rome.compute_u")
    monkeypatch.setattr(compute_u, "inv_mom2_cache", {})
    module = anatomy.names.rewrite_module_tmp.format(1)
    inverse = compute_u.get_inv_cov(
        model, tok, module, "wikitext", 100, dtype, hparams=SimpleNamespace(stats_dir=str(tmp_path), device="cpu")
    )
    key = torch.randn(covariance.moment.shape[0], generator=torch.Generator().manual_seed(0))
    assert torch.cosine_similarity(inverse @ key, covariance.solve(key), dim=0) > 0.9999


def test_we_read_easyedits(llama, tok, texts, tmp_path, monkeypatch):
    from datasets import Dataset

    stats = importlib.import_module("easyeditor.models.rome.layer_stats")
    monkeypatch.setattr(stats, "load_dataset", lambda *_: {"train": Dataset.from_dict({"text": texts})})
    anatomy, n = Anatomy(llama), 40
    module = anatomy.names.rewrite_module_tmp.format(1)
    theirs = stats.layer_stats(
        llama, tok, module, str(tmp_path), "wikitext", ["mom2"], sample_size=n, precision="float32", hparams=SimpleNamespace(device="cpu")
    )
    ours = load_statistics(statistics_path(tmp_path, anatomy, 1, "wikitext", "float32", n), anatomy, 1)
    assert ours.count == theirs.mom2.count
    assert torch.allclose(ours.moment, theirs.mom2.moment().double(), rtol=1e-5)
