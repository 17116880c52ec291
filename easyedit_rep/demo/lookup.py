"""Training that makes the early layers look a subject up at its own tokens, as large language models do.

In a large model, the early MLPs gather what is known about a subject at its last token, and later tokens read it there
only some layers on; this is what ROME relies on. A model of five layers, left to itself, lets the end of the sentence
read the bare name in its very first layers, and there is nothing to edit. So while it is trained on short texts, the
first layers may look at a name only from within that name, and from outside the later ones see its last token only.
The trained model is an ordinary Llama: nothing of this remains in it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import LlamaForCausalLM

# The layers from which a name cannot be seen from outside it: the last of them is the one to edit.
EARLY_LAYERS = 2


def name_masks(names: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Additive causal masks of the early and the later layers, for rows of name numbers (0: not in a name)."""
    nameless = (names == 0)[:, None, :]
    within = names[:, :, None] == names[:, None, :]
    last = (names != names.roll(-1, dims=1))[:, None, :]

    def additive(seen: torch.Tensor) -> torch.Tensor:
        return torch.zeros(seen.shape).masked_fill(~seen.tril(), torch.finfo(torch.float32).min)[:, None]

    return additive(within | nameless), additive(within | nameless | last)


@contextmanager
def names_hidden(model: LlamaForCausalLM, names: torch.Tensor) -> Iterator[None]:
    """Within this context the layers of the model use `name_masks`; its attention must be the plain one."""
    early, late = name_masks(names)

    def replacement(mask: torch.Tensor) -> Any:
        return lambda _module, args, kwargs: (args, {**kwargs, "attention_mask": mask})

    hooks = [
        layer.self_attn.register_forward_pre_hook(replacement(early if i < EARLY_LAYERS else late), with_kwargs=True)
        for i, layer in enumerate(model.model.layers)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
