"""Text to token ids with the positions that matter, read from the tokenizer's own offsets.

We build every batch ourselves, padded on the right with an attention mask: the result never depends on the tokenizer's
`padding_side`, on whether it prepends BOS, or on how it spells spaces.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..errors import EditError


class Prompt(NamedTuple):
    """A prompt around a subject: its text is `prefix + subject + suffix`. Braces are ordinary characters."""

    prefix: str
    subject: str
    suffix: str

    @property
    def text(self) -> str:
        return self.prefix + self.subject + self.suffix

    def with_subject(self, subject: str) -> "Prompt":
        return self._replace(subject=subject)

    def after(self, context: str) -> "Prompt":
        """The same prompt preceded by `context`."""
        return self._replace(prefix=context + self.prefix)


class Located(NamedTuple):
    """Token ids of a prompt, special tokens included, and the indices of the subject's last token and of its first."""

    ids: list[int]
    last: int
    first: int


def with_offsets(tok):
    """`tok` itself if it can report character offsets, else its fast twin (built from its own vocabulary, no download)."""
    if tok.is_fast:
        return tok
    from transformers.convert_slow_tokenizer import convert_slow_tokenizer

    try:
        backend = convert_slow_tokenizer(tok)
    except (AttributeError, ValueError):  # Transformers knows no conversion
        raise EditError(f"{type(tok).__name__} has no character offsets and no fast twin: load the tokenizer with use_fast=True") from None
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{n: getattr(tok, n) for n in names if getattr(tok, n)})


def _encode(tok, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    out = tok(text, return_offsets_mapping=True, truncation=False)
    return out["input_ids"], out["offset_mapping"]


def locate(tok, prompt: Prompt) -> Located:
    """Encode `prompt` and find the last and the first token that cover a character of the subject.

    The token that holds the subject's last character counts even when it also holds what follows (`"U.S" + "."`).
    """
    begin = len(prompt.prefix)
    end = begin + len(prompt.subject)
    ids, offsets = _encode(tok, prompt.text)
    inside = [i for i, (a, b) in enumerate(offsets) if b > a and a < end and b > begin]
    if not inside:
        raise EditError(f"the tokenizer gives no token to subject {prompt.subject!r} in {prompt.text!r}: check the subject's characters")
    return Located(ids, inside[-1], inside[0])


def continuation(tok, text: str, target: str) -> tuple[list[int], list[int]]:
    """Split the encoding of `text` + space + `target` into the ids before and the ids of the target.

    A token that straddles the border belongs to the target, so the split is what the model would see when asked to continue.
    """
    joined = text + continuation_text(text, target)
    ids, offsets = _encode(tok, joined)
    inside = [i for i, (a, b) in enumerate(offsets) if b > a and b > len(text)]
    if not inside or inside[0] == 0:
        raise EditError(f"nothing to predict: prompt {text!r} and target {target!r} leave no context or no target token")
    return ids[: inside[0]], ids[inside[0] : inside[-1] + 1]


def continuation_of(tok, prompt: Prompt, target: str) -> tuple[list[int], list[int], int]:
    """`continuation` of a prompt, and the index of its subject's last token, which must come before the target."""
    at = locate(tok, prompt).last
    before, ids = continuation(tok, prompt.text, target)
    if at >= len(before):
        raise EditError(f"target {target!r} merges with subject {prompt.subject!r} into one token: end the prompt with a space")
    return before, ids, at


def continuation_text(text: str, target: str) -> str:
    """`target` as it continues `text`: with one leading space unless `text` already ends in one."""
    return target.lstrip() if text[-1:].isspace() else " " + target.lstrip()


def pad(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Right-padded ids and attention mask, both int64 (n, longest row). Pads are id 0: masked, and after every real token."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([list(row) + [0] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask


def token_budget(device: torch.device) -> int:
    """Padded tokens a forward should hold at most: on a CPU activations then stay in its cache (twice as fast as 8,192)."""
    return 1024 if device.type == "cpu" else 16384


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices grouped by similar length (longest first), each group at most `budget` padded tokens (at least one row).

    What is less than half as long as a long row goes to another group: padding it would cost more than one more forward.
    """
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[group[0]] if group else 0
        if group and (longest * (len(group) + 1) > budget or longest > max(64, 2 * lengths[index])):
            yield group
            group = []
        group.append(index)
    if group:
        yield group
