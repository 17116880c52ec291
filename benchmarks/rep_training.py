"""Training the pathway of one edit: on keys that are read once, and with one model forward a step, as the released code has it.

The forwards of the alternative are of the model's decoder alone, without gradients and without a vocabulary projection, over the prompts
of the step's batch; the training itself is the same code on the same batches, so the weights come out equal.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace

import torch
from torch import Tensor

from easyedit_rep import RobustEditor
from easyedit_rep.memory.tokens import pad
from easyedit_rep.pathway import RepConfig, RepLayer
from easyedit_rep.pathway.examples import Examples, read_training_keys
from easyedit_rep.pathway.model import detached_state
from easyedit_rep.pathway.training import batch_order, train_layer

from .common import Case, Setting, name_of
from .models import editor_of, facts_of
from .pathways import VARIANTS


class _Training:
    """The pathway of one edit, ready to be trained."""

    def __init__(self, editor: RobustEditor, request):
        rep, self.memory = editor.hparams.rep, editor.memory
        if rep.pathway.kind != "paper":  # a closed-form one is not trained
            rep = replace(rep, **{block: replace(getattr(rep, block), **values) for block, values in VARIANTS["trained"].items()})
        self.config, self.seed = rep.training.of_kind(rep.pathway.kind), rep.seed
        edit = editor.base_edit(request)
        ((self.layer, _delta),) = edit.deltas.items()
        self.stars = edit.info["keys"][self.layer]
        self.shape = RepConfig(target_modules=[editor.anatomy.rewrite_name(self.layer)], **asdict(rep.pathway))
        ordinary, text, _ = editor.unedited.negatives(self.config, rep.pathway.kind, [self.layer])
        self.ordinary = None if ordinary is None else ordinary[self.layer]
        self.examples = Examples.of(self.memory, request, editor.queries(request), self.config, text, rep.seed)
        self.keys = self.read()

    def read(self):
        (keys,) = read_training_keys(self.memory, self.layer, [self.examples], self.stars, self.config, self.ordinary)
        return keys

    def train(self, keys) -> dict[str, Tensor]:
        module = RepLayer(self.memory.anatomy.projection(self.layer), "p", self.shape)
        train_layer(module, keys, "p", self.config, self.seed)
        return detached_state(module, "p")

    def forwards(self) -> None:
        """What the released code's steps read from the model."""
        anatomy, prompts = self.memory.anatomy, self.examples.located
        schedule = torch.Generator().manual_seed(self.seed)
        for batch in batch_order(len(prompts) - 1, self.config.batch_size, self.config.steps, schedule):
            rows = [prompts[0].ids, *(prompts[i + 1].ids for i in batch.tolist())]
            ids, mask = pad(rows, anatomy.embedding_device)
            with torch.no_grad():
                anatomy.decoder(input_ids=ids, attention_mask=mask, use_cache=False)


def cases(setting: Setting) -> Iterator[Case]:
    editor = editor_of(setting, "ROME")
    training = _Training(editor, facts_of(setting, 1)[0])

    def released(_turn: int):
        training.forwards()
        return training.train(training.keys)

    def compare(results: dict) -> dict[str, float]:
        a, b = results["keys read once"], results["a forward every step"]
        return {"largest difference of a weight": max((a[name] - b[name]).abs().max().item() for name in a)}

    steps, n = training.config.steps, len(training.examples.located)
    yield Case(
        f"REP training of one edit, {setting.model}, {name_of(setting.dtype)}, {steps} steps",
        {
            "training alone, keys given": lambda _turn: training.train(training.keys),
            "keys read once": lambda _turn: training.train(training.read()),
            "a forward every step": released,
        },
        "a forward every step",
        compare,
        {"keys read once": 25.0},
        f"{n} training prompts of {sum(len(p.ids) for p in training.examples.located)} tokens",
    )
