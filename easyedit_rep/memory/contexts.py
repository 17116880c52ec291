"""Context templates: short texts the model itself writes, put before a prompt so that an edit does not hang on one sentence."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ..anatomy import Anatomy
from .tokens import pad

STARTS = ("The", "Therefore", "Because", "I", "You")
"""How EasyEdit begins them."""


@contextmanager
def seeded(model: nn.Module, seed: int) -> Iterator[None]:
    """PyTorch's global random state follows from `seed` inside, on the CPU and wherever `model` is, and is as it was afterwards.

    `torch.manual_seed` would also seed the GPUs that the model is not on, which nothing puts back.
    """
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        for generator in (torch.default_generator, *(torch.cuda.default_generators[i] for i in devices)):
            generator.manual_seed(seed)
        yield


def generate_contexts(anatomy: Anatomy, tok, length_params: Sequence[Sequence[int]], seed: int) -> tuple[str, ...]:
    """ "" (the bare prompt), then for each (length, n) of `length_params` n texts of `length` tokens, ending in ". ".

    Sampled from the top 5 tokens as EasyEdit does. Fixed by `seed`; the global random state is left as it was.
    """
    model, texts = anatomy.model, [""]
    with seeded(model, seed):
        for length, n in length_params:
            for start in STARTS:
                ids, mask = pad([tok(start)["input_ids"]], anatomy.embedding_device)
                if n < len(STARTS) or ids.shape[1] >= length:
                    continue
                out = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    do_sample=True,
                    top_k=5,
                    top_p=1.0,
                    temperature=1.0,
                    num_beams=1,
                    repetition_penalty=1.0,
                    max_length=length,
                    max_new_tokens=None,
                    num_return_sequences=n // len(STARTS),
                    pad_token_id=0 if tok.pad_token_id is None else tok.pad_token_id,
                )
                texts += [t.replace("{", "").replace("}", "") + ". " for t in tok.batch_decode(out, skip_special_tokens=True)]
    return tuple(texts)
