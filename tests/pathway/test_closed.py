"""The closed-form pathway's directions and thresholds, against formulas written out in float64."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from easyedit_rep.errors import EditError
from easyedit_rep.pathway import RepConfig, RepLayer
from easyedit_rep.pathway.closed import ClosedForm
from easyedit_rep.pathway.detectors import GAP, HELD_OUT, Background, fit_detector
from easyedit_rep.pathway.ordinary import OrdinaryKeys
from easyedit_rep.pathway.solve import solve_layer
from easyedit_rep.pathway.training import TrainingKeys

D = 24
OPTIONS = ClosedForm(false_fire=1e-3, hard_share=0.1, spread=1.0, margin_around=0.5)


def normal(n, seed, shift=0.0, dtype=torch.float64):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=dtype) + shift


@pytest.fixture
def direction():
    return nn.functional.normalize(normal(1, 9)[0], dim=0)


@pytest.fixture
def groups(direction):
    """(positives, negatives, text, C) with the positives 6 deviations off the others, along one direction."""
    positives = [normal(7, 1, 6 * direction), normal(30, 2, 6 * direction)]
    return positives, [normal(40, 3), normal(9, 4)], normal(900, 5), torch.diag(torch.linspace(0.5, 2, D, dtype=torch.float64))


def layer_and_keys(direction, detectors=1, dtype=torch.float32):
    """A fresh layer, and what it is made from: positives of two kinds, those of one with another last word."""
    layer = RepLayer(nn.Linear(D, 8), "a", RepConfig(target_modules=["x"], kind="closed", detectors=detectors, inference_mode=True)).eval()
    shift, other = 8 * direction, 8 * normal(1, 17)[0] / normal(1, 17)[0].norm()
    positives = torch.cat([normal(10, 11, shift), normal(12, 12, shift + other)]).to(dtype)
    kinds = {"subject": normal(5, 19), "others": normal(50, 14, other), "text": normal(900, 15)}
    negatives = {kind: keys.to(dtype) for kind, keys in kinds.items()}
    own = normal(60, 13).to(dtype)
    prompt = normal(1, 16, shift)[0].to(dtype)
    own_word = torch.tensor([True] * 10 + [False] * 12)
    kinds = ("subject",) * 10 + ("forms",) * 12
    return layer, TrainingKeys(positives, prompt, prompt, prompt, negatives, own, own[:8], normal(20, 18).to(dtype), kinds, own_word)


@pytest.mark.parametrize("words", [0, 6])
@pytest.mark.parametrize(("hard", "rounds"), [(0.0, 1), (0.1, 1), (0.1, 3)])
@pytest.mark.parametrize("given_moment", [True, False])
def test_direction_equals_the_formula(groups, direction, hard, rounds, given_moment, words):
    positives, negatives, text, moment = groups
    options = replace(OPTIONS, hard_share=hard, hard_rounds=rounds, spread=2.0)
    background = Background.of(negatives, text, moment if given_moment else None, options)
    bare = normal(words, 6, 2 * direction)
    found = fit_detector(positives, background, options, 0.0, 0.01, words=bare)
    seen = text[: len(text) - round(HELD_OUT * len(text))]
    c = moment if given_moment else sum(torch.outer(k, k) for k in seen) / len(seen)
    middle = (positives[0].mean(0) + positives[1].mean(0)) / 2
    seconds = [sum(torch.outer(k, k) for k in g) / len(g) for g in negatives] + [c]
    spread = sum(sum(torch.outer(k - middle, k - middle) for k in g) / len(g) for g in positives) / 2
    scatter = sum(seconds) / 3 + options.text_weight * c + 2.0 * spread
    ridge = options.ridge * torch.trace(scatter) / D * torch.eye(D, dtype=torch.float64)
    means = [g.mean(0) for g in negatives] + [seen.mean(0)]
    mean = sum(means) / 3
    if words:
        means, met = [*means, bare[:4].mean(0)], sum(torch.outer(k, k) for k in bare[:4]) / 4
        scatter = scatter + met
        ridge = options.ridge * torch.trace(scatter) / D * torch.eye(D, dtype=torch.float64)
    n = len(means)
    w = torch.linalg.inv(scatter + ridge) @ (middle - sum(means) / n)
    for _ in range(rounds if hard else 0):
        near = torch.stack(sorted(seen, key=lambda k: -(k @ w).item())[: round(hard * len(seen))])
        met = options.hard_weight * sum(torch.outer(k, k) for k in near) / len(near)
        behind = (sum(means) + options.hard_weight * near.mean(0)) / (n + options.hard_weight)
        w = torch.linalg.inv(scatter + ridge + met) @ (middle - behind)
    low = mean @ w
    torch.testing.assert_close(found.weight, w / (middle @ w - low))
    scores = sorted(((text[len(seen) :] @ found.weight) - low / (middle @ w - low)).tolist())
    threshold = scores[-3]  # 1 % of 300
    if words:
        held = sorted((k @ found.weight - low / (middle @ w - low)).item() for k in bare[4:])
        threshold = max(threshold, held[0] + 0.9 * (held[1] - held[0]) + GAP)
    assert found.threshold == pytest.approx(threshold)
    assert found.bias == pytest.approx(-(low / (middle @ w - low)).item() - found.threshold)


def test_groups_count_the_same_whatever_their_size(groups):
    positives, negatives, text, moment = groups
    one = fit_detector(positives, Background.of(negatives, text, moment, OPTIONS), OPTIONS, 0.5, 1e-3)
    larger = Background.of([negatives[0], negatives[1].repeat(3, 1)], text, moment, OPTIONS)
    again = fit_detector([positives[0].repeat(5, 1), positives[1]], larger, OPTIONS, 0.5, 1e-3)
    torch.testing.assert_close(one.weight, again.weight)
    assert one.bias == pytest.approx(again.bias)


def test_spread_of_the_positives_is_ignored(direction):
    """Positives that differ along an axis of their own, as names with other words behind them do: the direction turns off that axis."""
    axis = nn.functional.normalize(normal(1, 21)[0] - (normal(1, 21)[0] @ direction) * direction, dim=0)
    positives = [normal(40, 22, 6 * direction) + torch.linspace(-20, 30, 40, dtype=torch.float64)[:, None] * axis]
    background = Background.of([normal(40, 3)], normal(900, 5), None, OPTIONS)
    blind = [fit_detector(positives, background, replace(OPTIONS, spread=spread), 0.5, 0.01).weight for spread in (0.0, 1.0)]
    leaning = [abs((w @ axis) / w.norm()).item() for w in blind]
    assert leaning[1] < 0.1 < leaning[0]


@pytest.mark.parametrize("detectors", [1, 2])
def test_open_for_the_subject_and_shut_for_others(direction, detectors):
    layer, keys = layer_and_keys(direction, detectors)
    info = solve_layer(layer, keys, "a", OPTIONS, None)
    assert info["open"] == 1.0
    assert layer.is_open(keys.prompt, "a").all()
    assert layer.is_open(normal(50, 31, 8 * direction).float(), "a").float().mean() > 0.9
    fresh = normal(20000, 32).float()
    assert layer.is_open(fresh, "a").float().mean() <= 3 * OPTIONS.false_fire
    assert layer.is_open(keys.others_last, "a").float().mean() <= 0.05


def test_each_detector_is_made_from_its_own_positives(direction):
    layer, keys = layer_and_keys(direction, 2)
    solve_layer(layer, keys, "a", OPTIONS, None)
    subject, around = keys.own_word, ~keys.own_word
    parts = [keys.positives[subject], keys.positives[around]]
    for i, part in enumerate(parts):
        scores = part @ layer.rep_gate["a"].weight[i] + layer.rep_gate["a"].bias[i]
        assert (scores > 0).all(), "each opens for its own part"
    # Where all positives are of one sort there is one detector, twice.
    solve_layer(layer, replace(keys, own_word=torch.ones(22, dtype=torch.bool)), "a", OPTIONS, None)
    assert torch.equal(*layer.rep_gate["a"].weight)


def test_shut_where_it_must_be_whatever_else(direction):
    layer, keys = layer_and_keys(direction)
    loud = replace(keys, shut=torch.cat([keys.shut, keys.positives[:1]]))
    solve_layer(layer, keys, "a", OPTIONS, None)
    assert layer.is_open(loud.shut, "a").squeeze(-1).tolist() == [False] * 8 + [True]
    solve_layer(layer, loud, "a", OPTIONS, None)
    assert not layer.is_open(loud.shut, "a").any()
    assert layer.is_open(keys.positives, "a").any()


def test_the_bare_word_a_name_ends_in_does_not_open(direction):
    """ "star" of "… , the film star": what it shares with the positives says nothing, and the direction turns off it."""
    layer, keys = layer_and_keys(direction, 2)
    word = 40 * normal(1, 51)[0] / normal(1, 51)[0].norm()
    keys = replace(keys, positives=keys.positives + torch.where(keys.own_word[:, None], 0.0, word.float()))
    bare, met = normal(60, 52, word).float(), normal(30, 53, word).float()
    solve_layer(layer, keys, "a", replace(OPTIONS, false_fire=0.05), None)
    assert layer.is_open(bare, "a").float().mean() > 0.5, "or the test says nothing"
    solve_layer(layer, replace(keys, same=(met[:0], met)), "a", replace(OPTIONS, false_fire=0.05), None)
    assert layer.is_open(bare, "a").float().mean() < 0.1
    assert layer.is_open(keys.positives, "a").float().mean() > 0.9


def test_one_detector_takes_the_words_of_both(direction):
    layer, keys = layer_and_keys(direction, 1)
    made = []
    for same in ((), (normal(9, 54).float(), normal(9, 55).float()), (normal(9, 55).float(), normal(9, 54).float())):
        solve_layer(layer, replace(keys, same=same), "a", OPTIONS, None)
        made.append(layer.rep_gate["a"].weight.clone())
    assert not torch.equal(made[0], made[1])
    torch.testing.assert_close(made[1], made[2])


def test_groups_behind_the_fact_are_negatives(direction):
    layer, keys = layer_and_keys(direction)
    close = normal(80, 56, 6 * direction).float()
    shut = []
    for after in ((), (close[:40],)):
        solve_layer(layer, replace(keys, after=after), "a", OPTIONS, None)
        shut.append(layer.gate_logit(close[40:], "a").mean().item() - layer.gate_logit(keys.positives, "a").mean().item())
    assert shut[1] < shut[0]


def test_shut_for_words_that_begin_a_text(direction):
    """ "Honda", for an edit of "Nokia N85": close to the subject, and not in ordinary text."""
    layer, keys = layer_and_keys(direction)
    apart = normal(1, 57)[0]
    apart = 6 * nn.functional.normalize(apart - (apart @ direction) * direction, dim=0)
    words = normal(400, 58, 7 * direction + apart).float()
    options = replace(OPTIONS, false_fire=0.05)
    opened = []
    tokens = range(200)
    for others in (None, OrdinaryKeys(words[:0], words[:200], tokens)):
        solve_layer(layer, replace(keys, ordinary=others), "a", options, None)
        opened.append(layer.is_open(words[200:], "a").float().mean().item())
        assert layer.is_open(keys.positives, "a").float().mean() > 0.9
    assert opened[0] > 0.5 and opened[1] < 0.1
    solve_layer(layer, replace(keys, ordinary=others, names=frozenset(tokens)), "a", options, None)
    assert layer.is_open(words[200:], "a").float().mean().item() == opened[0], "its own names are none of them"


@pytest.mark.parametrize("group", ["stray", "neighbours"])
def test_shut_for_pieces_of_names_in_other_words_and_for_other_edits(direction, group):
    """ "Command·o", for an edit of "Suzuki Cerv·o", and "326 BMW", for one of "BMW E23": close to the subject, and not in ordinary text."""
    layer, keys = layer_and_keys(direction)
    apart = normal(1, 57)[0]
    apart = 6 * nn.functional.normalize(apart - (apart @ direction) * direction, dim=0)
    pieces = normal(400, 58, 7 * direction + apart).float()
    opened = []
    for some in (None, pieces[:0], pieces[:200]):
        solve_layer(layer, replace(keys, **{group: some}), "a", replace(OPTIONS, false_fire=0.05), None)
        opened.append(layer.is_open(pieces[200:], "a").float().mean().item())
        assert layer.is_open(keys.positives, "a").float().mean() > 0.9
    assert opened[0] == opened[1] > 0.5 and opened[2] < 0.1


@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_where_open_the_key_is_the_prompts_and_elsewhere_untouched(direction, strength):
    layer, keys = layer_and_keys(direction)
    solve_layer(layer, keys, "a", replace(OPTIONS, strength=strength), None)
    layer.set_adapter(["a"], inference_mode=True)
    x = torch.cat([keys.positives, normal(50, 41).float()])
    opened = layer.is_open(x, "a").squeeze(-1)
    out = layer.adapt(x)
    assert 0 < opened.sum() < len(x)
    assert torch.equal(out[opened], (strength * keys.prompt).expand(int(opened.sum()), D))
    assert torch.equal(out[~opened], x[~opened])


def test_a_fresh_one_is_the_identity():
    layer = RepLayer(nn.Linear(D, 8), "a", RepConfig(target_modules=["x"], kind="closed", detectors=2, inference_mode=True))
    x = normal(5, 1).float()
    assert torch.equal(layer(x), layer.base_layer(x))


def test_text_of_a_16_bit_model_may_stay_as_it_is(direction):
    layer, keys = layer_and_keys(direction)
    text = keys.negatives["text"].bfloat16()
    kept, exact = (
        replace(keys, ordinary=OrdinaryKeys(text.to(dtype), normal(40, 59, 3 * direction).bfloat16().to(dtype), range(40)))
        for dtype in (torch.bfloat16, torch.float32)
    )
    kept, exact = (replace(each, negatives={**keys.negatives, "text": each.ordinary.text}) for each in (kept, exact))
    gates = []
    for each in (kept, exact):
        told = solve_layer(layer, each, "a", OPTIONS, torch.eye(D))
        gates.append((layer.rep_gate["a"].weight.clone(), layer.rep_gate["a"].bias.clone(), told))
    torch.testing.assert_close(gates[0], gates[1], rtol=1e-5, atol=1e-6)


def test_same_keys_same_bits(direction):
    made = []
    for _ in range(2):
        layer, keys = layer_and_keys(direction, 2)
        solve_layer(layer, keys, "a", OPTIONS, None)
        made.append(layer.state_dict())
    assert all(torch.equal(made[0][name], value) for name, value in made[1].items() if name.startswith("rep_"))


def test_too_little_text_is_refused(direction):
    layer, keys = layer_and_keys(direction)
    few = replace(keys, negatives={**keys.negatives, "text": keys.negatives["text"][:50]})
    with pytest.raises(EditError, match="text_tokens: 50 tokens are too few"):
        solve_layer(layer, few, "a", OPTIONS, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("false_fire", 0.0), ("false_fire", 1.0), ("hard_share", 1.0), ("ridge", 0.0), ("strength", -1.0), ("strength", math.nan)],
        *[("spread", -0.1), ("margin", -0.1), ("margin", math.nan), ("margin_around", 1.1)],
        *[("value_steps", -1), ("value_lr", 0.0), ("value_norm", math.nan), ("hard_rounds", 0)],
    ],
)
def test_wrong_options_are_refused_by_name(name, value):
    with pytest.raises(EditError, match=f"rep.closed.{name}"):
        ClosedForm(**{name: value})
