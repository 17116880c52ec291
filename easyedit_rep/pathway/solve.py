"""Set the closed-form pathway of one layer from its training keys."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import EditError
from .closed import ClosedForm
from .detectors import Background, fit_detector
from .layer import RepLayer
from .scores import ROWS
from .training import TrainingKeys

LARGEST = 2048
"""Keys of a group of negatives that are enough to know it by; of more, evenly spaced ones are taken."""


def solve_layer(layer: RepLayer, keys: TrainingKeys, name: str, options: ClosedForm, moment: Tensor | None) -> dict[str, float]:
    """Set the closed-form pathway `name` of one layer.

    Returns:
        `open`, the share of training keys at which its gate is open; `false_fire`, the share of unseen text at which it acts; and
        `threshold`, the higher one of its detectors.

    Raises:
        EditError: there is no text to tell the subject from.
    """
    text = keys.negatives["text"]
    if len(text) < 100:
        raise EditError(f"rep.text_tokens: {len(text)} tokens are too few to set a gate by: a closed-form pathway wants thousands")
    mined = [] if keys.ordinary is None else [keys.ordinary.first_but(keys.names).to(text.device)]
    mined += [more for more in (keys.stray, keys.neighbours) if more is not None]
    groups = [keys.own, keys.negatives["subject"], keys.negatives["others"], keys.others_last, *keys.after]
    background = Background.of([g[:: -(-len(g) // LARGEST)] for g in groups if len(g)], text, moment, options, mined)
    gate = layer.part("rep_gate", name)
    sets = _positive_sets(keys, gate.out_features)
    rate = options.false_fire / len(sets)
    detectors = []
    for own, positives, words in sets:
        margin = options.margin if own else options.margin_around
        detectors.append(fit_detector(positives, background, options, margin, rate, keys.shut, words))
    detectors += [detectors[0]] * (gate.out_features - len(detectors))
    with torch.no_grad():
        gate.weight.copy_(torch.stack([d.weight for d in detectors]))
        gate.bias.copy_(gate.bias.new_tensor([d.bias for d in detectors]))
        layer.part("rep_key", name).weight.copy_(options.strength * keys.prompt[:, None])
    return {
        "open": (layer.gate_logit(keys.positives, name) > 0).float().mean().item(),
        "false_fire": torch.cat([layer.is_open(rows, name) for rows in background.unseen.split(ROWS)]).float().mean().item(),
        "threshold": max(d.threshold for d in detectors),
    }


def _positive_sets(keys: TrainingKeys, n: int) -> list[tuple[bool, list[Tensor], Tensor | None]]:
    """For each of at most `n` detectors: whether it is that for the subject's own last words, as for two they are told apart, its groups of
    positives by kind, and their last words where they are words like any."""
    by_kind: Mapping[tuple[bool, str], list[Tensor]] = {(True, "subject"): [keys.prompt]}
    for key, kind, own in zip(keys.positives, keys.kinds, keys.own_word.tolist(), strict=True):
        by_kind.setdefault((own or n == 1, kind), []).append(key)
    words: tuple[Tensor | None, ...] = keys.same or (None, None)
    if keys.same and n == 1:  # every third of each stays held out
        words = (torch.cat([w[i::3] for i in range(3) for w in keys.same]), None)
    sets = []
    for own, bare in zip((True, False), words, strict=True):
        groups = [torch.stack(group) for (mine, _), group in by_kind.items() if mine == own]
        sets += [(own, groups, bare)] if groups else []
    return sets
