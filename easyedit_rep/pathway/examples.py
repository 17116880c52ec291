"""Training data of a pathway: the keys of a request's training prompts and of the tokens it must leave alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..memory.keys import read_token_keys
from ..memory.tokens import Prompt, locate
from ..methods.base import BaseEdit, Memory
from ..queries import Queries
from ..request import EditRequest
from .training import PathwayTraining, TrainingKeys


def training_prompts(request: EditRequest, queries: Queries, contexts: Sequence[str], config: PathwayTraining) -> list[Prompt]:
    """The bare prompt first, then contexts × {subject, in-domain rephrases, in-domain shuffles}, then in-domain long contexts."""
    prompt = request.located
    templates = [prompt]
    if config.prompt_rephrases:
        templates += [
            EditRequest(text, request.subject, request.target_new).located for text in request.rephrase_prompts if request.subject in text
        ]
    subjects = [request.subject, *queries.rephrase.in_domain, *queries.shuffle.in_domain]
    prompts = [t.with_subject(s).after(c) for s in dict.fromkeys(subjects) for t in templates for c in dict.fromkeys(contexts)]
    if config.long_in_training:
        prompts += [prompt.after(text + " ") for text in queries.long.in_domain]
    return prompts


def read_training_keys(
    memory: Memory,
    request: EditRequest,
    queries: Queries,
    base: BaseEdit,
    config: PathwayTraining,
    text_keys: dict[int, Tensor],
) -> dict[int, TrainingKeys]:
    """Everything training needs, per edited layer, read in one early-stopping pass over the training prompts.

    Args:
        text_keys: {layer: (m, D)} keys of ordinary text, more negatives for the gate.
    """
    layers = sorted(base.deltas)
    located = [locate(memory.tok, p) for p in training_prompts(request, queries, memory.contexts, config)]
    tokens = read_token_keys(memory.anatomy, [p.ids for p in located], layers)
    out = {}
    for layer in layers:
        rows = tokens[layer]
        keys = torch.stack([row[p.last] for row, p in zip(rows, located, strict=True)])
        star = base.keys[layer].to(keys)
        target = star
        if config.target == "whitened" and layer in memory.covariances:
            target = memory.covariances[layer].solve(star)
        others = torch.cat([torch.cat([row[: p.last], row[p.last + 1 :]]) for row, p in zip(rows, located, strict=True)])
        negatives = torch.cat([others, text_keys[layer].to(others)]) if layer in text_keys else others
        out[layer] = TrainingKeys(keys[1:], keys[0], star, target / target.norm(), negatives)
    return out
