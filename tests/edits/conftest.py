"""Edits of every method on tiny models, and random ones, with pathways that act."""

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.edit import Edit, Pathway
from easyedit_rep.editor import RobustEditor
from easyedit_rep.ledger import Ledger
from easyedit_rep.memory.delta import Delta
from easyedit_rep.pathway import RepConfig, RepLayer
from easyedit_rep.pathway.model import detached_state
from easyedit_rep.pathway.training import PathwayTraining
from easyedit_rep.rep_options import PathwayShape, QueryOptions, RepOptions
from easyedit_rep.request import EditRequest

IDS = torch.tensor([[1, 17, 40, 99, 7, 250, 31, 8], [1, 5, 6, 7, 300, 301, 11, 2]])
OPTIONS = {
    "ROME": None,
    "R-ROME": None,
    "MEMIT": {"mom2_update_weight": 5.0},
    "EMMET": {"mom2_update_weight": 5.0, "emmet_lambda": 0.1},
    "D4S": {"mom2_update_weight": 5.0},
}


@pytest.fixture
def ids():
    return IDS


@pytest.fixture
def logits():
    def read(model, ids=IDS):
        with torch.no_grad():
            return model(input_ids=ids).logits

    return read


@pytest.fixture
def facts():
    return [
        EditRequest("The mother tongue of {} is", "Danielle Darrieux", "Spanish", "French"),
        EditRequest("{} plays the", "Ann Lee", "piano and drums"),
        EditRequest("The company of {} makes", "Steve Jobs", "music"),
    ]


@pytest.fixture
def make_editor(make_hparams, make_model, tok, tmp_path, texts):
    """An editor of a method on a tiny model; its pathways are wide open, so that a lost one cannot go unnoticed."""
    corpus = tmp_path / "text.txt"
    corpus.write_text("\n".join(texts))

    def make(base="ROME", family="llama", pathways=True, dtype=torch.float32, **options):
        rep = RepOptions(
            base=base,
            corpus=str(corpus),
            statistics_tokens=600,
            pathways=pathways,
            pathway=PathwayShape(rank=4, threshold=0.0, **options),
            training=PathwayTraining(steps=5, lr=0.01),
            queries=QueryOptions(shuffle_count=2, long_context_count=2, long_context_tokens=20),
        )
        layers = [1] if OPTIONS[base] is None else [0, 1]
        hparams = make_hparams(layers=layers, rep=rep, method=OPTIONS[base], context_template_length_params=[[5, 5]])
        return RobustEditor(hparams, make_model(family).to(dtype), tok)

    return make


def random_edit(model, seed, *, rank=1, layers=(1,), pathways=1, whole=False, **shape) -> Edit:
    """An edit of random numbers, not applied: for what does not depend on how they were found."""
    anatomy, generator = Anatomy(model), torch.Generator().manual_seed(seed)

    def draw(*size):
        return 0.3 * torch.randn(*size, generator=generator)

    d, size = 32, anatomy.key_size(layers[0])
    factors = {i: (0.1 * draw(d, size), None) if whole else (draw(d, rank), draw(rank, size)) for i in layers}
    deltas = {i: Delta(*pair, anatomy.is_transposed(i)) for i, pair in factors.items()}
    names = {i: anatomy.rewrite_name(i) for i in layers}
    made = []
    for p in range(pathways):
        shape = {"rank": 4, "threshold": 0.5, "dropout": 0.0, **shape}
        config = RepConfig(target_modules=list(names.values()), inference_mode=True, **shape)
        tensors = {}
        for i, name in names.items():
            layer = RepLayer(getattr(model.get_submodule(name), "base_layer", model.get_submodule(name)), "x", config)
            if config.kind == "paper":
                layer.reset("x", torch.Generator().manual_seed(100 * seed + p))
                torch.nn.init.normal_(layer.rep_up["x"].weight, std=0.3, generator=generator)
            else:
                parts = (group["x"].weight for group in (layer.rep_gate, layer.rep_key, layer.rep_value) if "x" in group)
                for parameter in parts:
                    torch.nn.init.normal_(parameter, std=0.3, generator=generator)
            tensors[i] = detached_state(layer, "x")
        made.append(Pathway(config, tensors))
    request = EditRequest("{} lives in", f"Person {seed}", f"Town {seed}")
    return Edit((request,), "random", deltas, tuple(made), info={"keys": {i: draw(1, size) for i in layers}})


@pytest.fixture
def make_random():
    return random_edit


@pytest.fixture
def carrying(make_model):
    """(model, ledger, edits) with random edits applied; `options` for each."""

    def make(*options, family="llama", dtype=torch.float32):
        model = make_model(family).to(dtype)
        ledger = Ledger.of(model, Anatomy(model))
        edits = [ledger.apply(random_edit(model, seed, **kwargs)) for seed, kwargs in enumerate(options)]
        return model, ledger, edits

    return make
