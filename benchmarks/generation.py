"""Tokens a second of `generate` with many pathways attached, against the same model without any: greedy, one text at a time.

The pathways are untrained, and their gates stay shut, as nearly all of a model's pathways are at any token; this is the price of asking
them. The texts come out equal.
"""

import copy
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product

import torch
from torch import nn

from easyedit_rep import RobustEditor
from easyedit_rep.pathway import RepConfig, RepLayer
from easyedit_rep.pathway.model import attach, detached_state
from easyedit_rep.rep_options import PathwayShape

from .common import Case, Setting, name_of
from .models import editor_of

COUNTS = {1: 0.97, 10: 0.95, 100: 0.9, 1000: 0.75}
"""Pathways -> the share of the tokens a second that is to be left."""
TOKENS = 64
PROMPT = "The council met again in winter and"


def _with_pathways(editor: RobustEditor, count: int, shape: PathwayShape, value: bool) -> nn.Module:
    model = copy.deepcopy(editor.model)
    names = [editor.anatomy.rewrite_name(layer) for layer in editor.hparams.layers]
    config = RepConfig(target_modules=names, inference_mode=True, value=value, **asdict(shape))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for i in range(count):
            tensors = {}
            for name in names:
                layer = RepLayer(editor.model.get_submodule(name), "p", config)
                tensors[name] = detached_state(layer, "p")
            attach(model, f"p{i}", config, tensors)
    return model


def cases(setting: Setting) -> Iterator[Case]:
    editor = editor_of(setting, "ROME")
    ids = editor.tok(PROMPT, return_tensors="pt")["input_ids"].to(setting.device)

    def way(model: nn.Module):
        def generate(_turn: int) -> torch.Tensor:
            with torch.no_grad():
                return model.generate(
                    ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False, pad_token_id=0
                )

        return generate

    shapes = {"paper": PathwayShape(), "closed": PathwayShape("closed", detectors=2)}
    for kind, count in product(shapes, [setting.n] if setting.n else COUNTS):
        name = f"{count} {kind} pathway" + ("s" if count > 1 else "")
        target = COUNTS.get(count) if kind == "closed" else None
        yield Case(
            f"generation, {setting.model}, {name_of(setting.dtype)}, {name}",
            {"no pathway": way(editor.model), name: way(_with_pathways(editor, count, shapes[kind], kind == "closed"))},
            "no pathway",
            lambda results: {"texts equal": float(len({tuple(out[0].tolist()) for out in results.values()}) == 1)},
            {name: target} if target else {},
            work=float(TOKENS),
            unit="tokens",
        )
