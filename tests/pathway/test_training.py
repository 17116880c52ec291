"""Training on cached keys, against the paper's formulas written out with PyTorch's own Adam."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import gelu, normalize

from easyedit_rep.errors import EditError
from easyedit_rep.pathway import RepConfig, RepLayer
from easyedit_rep.pathway.model import detached_state
from easyedit_rep.pathway.training import SHARES, PathwayTraining, TrainingKeys, batch_order, train_layer

CONFIG = PathwayTraining(steps=4, lr=0.02, consistency_weight=3.0)


@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 12))
def test_every_example_is_seen_before_any_is_seen_again(n, size, steps):
    order = list(batch_order(n, size, steps, torch.Generator().manual_seed(0)))
    assert len(order) == steps
    assert all(len(batch) == min(n, size) for batch in order)
    epoch = n // min(n, size)  # batches before the rest is too few for another
    for start in range(0, steps, epoch):
        seen = torch.cat(order[start : start + epoch]).tolist()
        assert len(seen) == len(set(seen))
    assert all(set(batch.tolist()) <= set(range(n)) for batch in order)


def make_layer(dropout=0.0):
    return RepLayer(nn.Linear(48, 32), "a", RepConfig(target_modules=["x"], rank=4, dropout=dropout, inference_mode=True))


@pytest.fixture
def keys():
    torch.manual_seed(2)
    positives, prompt, mean, target = torch.randn(6, 48), torch.randn(48), torch.randn(48), normalize(torch.randn(48), dim=0)
    # One negative many times, so that which are drawn does not matter to the oracle.
    negatives = {"prompt": torch.randn(1, 48).repeat(5, 1), "text": torch.randn(1, 48).repeat(3, 1), "others": torch.empty(0, 48)}
    return TrainingKeys(positives, prompt, mean, target, negatives)


def oracle(keys, config, seed):
    """Parameters after training, and the last losses, in float64."""
    layer = make_layer()
    layer.reset("a", torch.Generator().manual_seed(seed))
    p = {key: value.double().requires_grad_() for key, value in detached_state(layer, "a").items()}
    k = SimpleNamespace(**{name: getattr(keys, name).double() for name in ("positives", "prompt", "mean", "target")})
    share = SHARES["prompt"] / (SHARES["prompt"] + SHARES["text"])
    adam = torch.optim.Adam(p.values(), lr=config.lr)

    def logit(x):
        inner = gelu(x @ p["rep_gate_in.weight"].T + p["rep_gate_in.bias"])
        return inner @ p["rep_gate_out.weight"].T + p["rep_gate_out.bias"]

    def adapt(x):
        return x + torch.sigmoid(logit(x)) * (x @ p["rep_down.weight"].T @ p["rep_up.weight"].T)

    for _ in range(config.steps):
        cosines = torch.stack([adapt(x) @ k.target / adapt(x).norm() for x in k.positives])
        parts = {}
        if config.align in ("direction", "both"):
            parts["aggregation"] = -(cosines.abs() if config.absolute else cosines).mean()
        if config.align in ("key", "both"):
            distance = torch.stack([(adapt(x) - k.prompt).norm() ** 2 / k.prompt.norm() ** 2 for x in k.positives])
            parts["alignment"] = config.align_weight * distance.mean()
        anchor = k.prompt if config.anchor == "prompt" else k.mean
        parts["consistency"] = config.consistency_weight * ((adapt(k.prompt) - anchor) ** 2).mean()
        if config.gate_negatives:
            opened = -torch.log(torch.sigmoid(logit(torch.cat([k.positives, k.prompt[None]])))).mean()
            prompt, text = (-torch.log(1 - torch.sigmoid(logit(keys.negatives[name][0].double()))) for name in ("prompt", "text"))
            parts["gate"] = config.gate_negatives * (opened + (share * prompt + (1 - share) * text).squeeze())
        adam.zero_grad()
        sum(parts.values()).backward()
        adam.step()
    return {key: value.detach() for key, value in p.items()}, {key: value.item() for key, value in parts.items()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"absolute": True},
        {"anchor": "mean"},
        {"align": "key", "align_weight": 2.0},
        {"align": "both"},
        {"gate_negatives": 1.5},
        {"consistency_weight": 0.0},
        {"target": "raw", "align": "both", "anchor": "mean", "absolute": True, "gate_negatives": 0.5},
    ],
    ids=lambda options: ",".join(options) or "paper",
)
def test_equals_the_formulas(keys, options):
    config = replace(CONFIG, **options)
    want, losses = oracle(keys, config, seed=5)
    layer = make_layer()
    found = train_layer(layer, keys, "a", config, seed=5)
    assert found == pytest.approx(losses, rel=1e-4, abs=1e-6)
    for key, value in detached_state(layer, "a").items():
        torch.testing.assert_close(value.double(), want[key], rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.parametrize("options", [{}, {"gate_negatives": 1.0, "batch_size": 2}], ids=["paper", "gate"])
def test_same_seed_same_bits_and_no_global_randomness(keys, options):
    config, layers = replace(CONFIG, **options), [make_layer(dropout=0.3) for _ in range(3)]
    before = torch.get_rng_state()
    for layer, seed in zip(layers, (7, 7, 8), strict=True):
        train_layer(layer, keys, "a", config, seed)
    assert torch.equal(before, torch.get_rng_state())
    one, two, other = (detached_state(layer, "a") for layer in layers)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not any(torch.equal(one[key], other[key]) for key in one)


def test_pathways_of_one_layer_are_trained_apart(keys):
    others = replace(keys, positives=keys.positives.flip(0) + 1)
    alone, together = make_layer(), make_layer()
    train_layer(alone, others, "a", CONFIG, seed=3)
    together.update_layer("b", RepConfig(target_modules=["x"], rank=4, dropout=0.0, inference_mode=True))
    train_layer(together, keys, "b", CONFIG, seed=3)
    train_layer(together, others, "a", CONFIG, seed=3)
    want = detached_state(alone, "a")
    assert all(torch.equal(value, want[key]) for key, value in detached_state(together, "a").items())


def test_nothing_asks_for_gradients_afterwards(keys):
    layer = make_layer()
    train_layer(layer, keys, "a", CONFIG, seed=0)
    assert not any(p.requires_grad or p.grad is not None for n, p in layer.named_parameters() if n.startswith("rep_"))


def test_divergence_is_refused(keys):
    with pytest.raises(EditError, match=r"pathway training diverged \(.*lr 1e\+30\): lower rep.training.lr"):
        train_layer(make_layer(), keys, "a", replace(CONFIG, lr=1e30, steps=9), seed=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "C"}, "target: 'C' is not one of whitened, raw"),
        ({"anchor": "k"}, "anchor: 'k' is not one of prompt, mean"),
        ({"align": ""}, "align: '' is not one of direction, key, both"),
        ({"steps": 0}, "steps: 0 is not positive"),
        ({"batch_size": -1}, "batch_size: -1 is not positive"),
        ({"negatives_per_step": 0}, "negatives_per_step: 0 is not positive"),
        ({"lr": -5e-4}, "lr: -0.0005 is not positive"),
        ({"gate_negatives": -1.0}, "gate_negatives: -1.0 is negative or no number"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(EditError) as error:
        PathwayTraining(**options)
    assert str(error.value) == f"rep.training.{said}"
