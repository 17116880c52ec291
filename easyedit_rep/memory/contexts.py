"""Context templates: short texts the model itself writes, put before a prompt so that an edit does not hang on one sentence."""

from collections.abc import Sequence

import torch

from ..anatomy import Anatomy
from .tokens import pad

STARTS = ("The", "Therefore", "Because", "I", "You")
"""How EasyEdit begins them."""


def generate_contexts(anatomy: Anatomy, tok, length_params: Sequence[Sequence[int]], seed: int) -> tuple[str, ...]:
    """ "" (the bare prompt), then for each (length, n) of `length_params` n texts of `length` tokens, ending in ". ".

    Sampled from the top 5 tokens as EasyEdit does. Fixed by `seed`; the global random state is left as it was.
    """
    model, texts = anatomy.model, [""]
    devices = [anatomy.embedding_device] if anatomy.embedding_device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
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
