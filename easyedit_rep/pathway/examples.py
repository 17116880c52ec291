"""Training data of a pathway: the keys of a request's training prompts, and of the tokens it must leave alone."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..memory.keys import read_token_keys
from ..memory.tokens import Located, Prompt, locate
from ..methods.base import BaseEdit, Memory
from ..queries import Queries
from ..queries.forms import subject_forms
from ..queries.negatives import OrdinaryText, negative_prompts
from ..request import EditRequest
from .training import PathwayTraining, TrainingKeys


def training_prompts(request: EditRequest, queries: Queries, contexts: Sequence[str], config: PathwayTraining) -> list[Prompt]:
    """The bare prompt first, then contexts × {subject, in-domain rephrases, in-domain shuffles}, then in-domain long contexts.

    With `subject_forms`, each rule-made form follows under every seventh context: they are many.
    """
    prompt = request.located
    templates = [prompt]
    if config.prompt_rephrases:
        texts = (text for text in request.rephrase_prompts if request.subject in text)
        templates += [EditRequest(text, request.subject, request.target_new).located for text in texts]
    contexts = list(dict.fromkeys(contexts))
    subjects = dict.fromkeys([request.subject, *queries.rephrase.in_domain, *queries.shuffle.in_domain])
    prompts = [t.with_subject(s).after(c) for s in subjects for t in templates for c in contexts]
    if config.subject_forms:
        forms = (form for form in subject_forms(request.subject) if form not in subjects)
        prompts += [prompt.with_subject(form).after(c) for form in forms for c in contexts[::7]]
    if config.long_in_training:
        prompts += [prompt.after(text + " ") for text in queries.long.in_domain]
    return prompts


def read_training_keys(
    memory: Memory,
    request: EditRequest,
    queries: Queries,
    base: BaseEdit,
    config: PathwayTraining,
    text_keys: Mapping[int, Tensor] | None = None,
    text: OrdinaryText | None = None,
    seed: int = 0,
) -> dict[int, TrainingKeys]:
    """Everything training needs, per edited layer, read in one early-stopping pass.

    Args:
        text_keys: {layer: (m, D)} keys of ordinary text, negatives for the gate.
        text: names and snippets to make other subjects from, when `config.other_subjects` asks for them.
    """
    layers = sorted(base.deltas)
    prompts = training_prompts(request, queries, memory.contexts, config)
    located = [locate(memory.tok, p) for p in prompts]
    others: list[Located] = []
    if config.other_subjects and text is not None:
        made = negative_prompts(request, queries.rephrase.in_domain, text, config.other_subjects, seed)
        others = [locate(memory.tok, p) for p in made]
    own = {i for i, p in enumerate(prompts) if p.subject == request.subject}
    # What follows a subject is the same words again and again; it is read, for negatives, after the request's own subject only.
    read = [p.ids if i in own else p.ids[: p.last + 1] for i, p in enumerate(located)]
    tokens = read_token_keys(memory.anatomy, [*read, *(p.ids for p in others)], layers)
    out = {}
    for layer in layers:
        rows, other_rows = tokens[layer][: len(located)], tokens[layer][len(located) :]
        keys = torch.stack([row[p.last] for row, p in zip(rows, located, strict=True)])
        star = base.keys[layer].to(keys)
        target = star
        if config.target == "whitened" and layer in memory.covariances:
            target = memory.covariances[layer].solve(star)
        groups = {
            "prompt": torch.cat([torch.cat([row[: p.last], row[p.last + 1 :]]) for row, p in zip(rows, located, strict=True)]),
            # The subject's first words: shared with many others, and few among the tokens of the prompts.
            "subject": torch.cat([rows[i][_start(memory.tok, located[i], prompts[i]) : located[i].last] for i in sorted(own)]),
            "others": torch.cat(other_rows) if other_rows else keys[:0],
            "text": text_keys[layer].to(keys) if text_keys else keys[:0],
        }
        out[layer] = TrainingKeys(keys[1:], keys[0], star, target / target.norm(), groups)
    return out


def _start(tok, located: Located, prompt: Prompt) -> int:
    """Index of the subject's first token."""
    return max(0, located.last + 1 - len(tok(" " + prompt.subject, add_special_tokens=False)["input_ids"]))
