"""A second moment without a record is told from one of other weights or of another layer, whatever English text it is of."""

import logging

import pytest

from easyedit_rep import EditError, RobustEditor
from easyedit_rep.anatomy import Anatomy
from easyedit_rep.datasets.corpus import load_corpus
from easyedit_rep.demo import CORPUS, MODEL_DIR
from easyedit_rep.loading import load_model
from easyedit_rep.memory.covariance import collect
from easyedit_rep.memory.spot_check import agreement, least_agreement
from easyedit_rep.memory.statistics import load_statistics, save_statistics, statistics_path


def moment_of(model, tok, corpus, layer):
    return collect(Anatomy(model), tok, corpus, [layer], n_tokens=600, progress=False)[layer].moment


@pytest.mark.parametrize("layer", [0, 2])
def test_margin_in_every_family(family, make_model, tok, corpus, layer):
    model, least = make_model(family), least_agreement(48)
    own = agreement(moment_of(model, tok, corpus, layer), Anatomy(model), tok, layer)
    others = [moment_of(make_model(family, seed=1), tok, corpus, layer), moment_of(model, tok, corpus, 3 - layer)]
    assert own > 2 * least
    for other in others:
        assert agreement(other, Anatomy(model), tok, layer) < least


def test_margin_of_a_trained_model_over_two_corpora(texts):
    model, tok = load_model(str(MODEL_DIR))
    anatomy = Anatomy(model)
    for corpus in (load_corpus(CORPUS), load_corpus(texts)):
        found = collect(anatomy, tok, corpus, [0, 1], n_tokens=4000, progress=False)
        assert agreement(found[1].moment, anatomy, tok, 1) > 5 * least_agreement(anatomy.key_size(1))
        assert abs(agreement(found[0].moment, anatomy, tok, 1)) < least_agreement(anatomy.key_size(1)) / 2


@pytest.fixture
def saved(make_model, tok, corpus, tmp_path):
    """A file such as EasyEdit's own: no record beside it."""
    model = make_model("llama")
    anatomy = Anatomy(model)
    path = statistics_path(tmp_path, anatomy, 1, "wikitext", "float32", 100)
    save_statistics(path, collect(anatomy, tok, corpus, [1], n_tokens=600, progress=False)[1], "float32", 100)
    path.with_suffix(".json").unlink()
    return path


def test_wired_to_the_loader(saved, make_model, tok, caplog):
    with caplog.at_level(logging.WARNING):
        assert load_statistics(saved, Anatomy(make_model("llama")), 1, tok).count == 600
    assert "they agree with the model (0." in caplog.text
    with pytest.raises(
        EditError, match=r"are not of layer 1 of the loaded model: their correlations agree with its own by .* delete the file"
    ):
        load_statistics(saved, Anatomy(make_model("llama", seed=1)), 1, tok)


def test_an_editor_refuses_a_cache_of_another_model(saved, tmp_path, make_model, make_hparams, tok):
    hparams = make_hparams(stats_dir=str(tmp_path))
    assert RobustEditor(hparams, make_model("llama"), tok).memory.covariances[1].count == 600
    with pytest.raises(EditError, match="are not of layer 1 of the loaded model"):
        RobustEditor(hparams, make_model("llama", seed=1), tok).memory  # noqa: B018
