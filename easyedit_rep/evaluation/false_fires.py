"""Where pathways act in ordinary text: each token that does not name their subject in full is a false fire."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import EditError
from ..memory.tokens import batches, pad, token_budget
from ..pathway.model import layers_of


class FalseFires(NamedTuple):
    """How often the active pathways of a model opened.

    Attributes:
        tokens: read, special ones included.
        fires: tokens at which any pathway of any layer opened, but for those of its own subject's name.
        by_pathway: {pathway: such tokens at which it opened in some layer}; a token at which two open counts for both.
        named: tokens of a subject's name, in full, at which its own pathway opened, as it should.
    """

    tokens: int
    fires: int
    by_pathway: dict[str, int]
    named: int

    @property
    def per_10_000(self) -> float:
        """False fires in 10,000 tokens."""
        return 1e4 * self.fires / self.tokens

    def most(self, n: int) -> list[tuple[str, int]]:
        """The `n` pathways that open at most tokens, with how many, the first ones first."""
        return sorted(self.by_pathway.items(), key=lambda item: -item[1])[:n]


def refuse_own_text(text: Path, corpus: str | None) -> None:
    """What the gates are made from tells nothing of where they open elsewhere.

    Raises:
        EditError: `text` is `rep.corpus`.
    """
    if corpus and Path(corpus).resolve() == text.resolve():
        raise EditError(f"{text} is what the gates are calibrated on: give another text")


@torch.no_grad()
def false_fires(
    model: nn.Module, tok, texts: Sequence[str], n_tokens: int, max_length: int = 256, subjects: Mapping[str, str] | None = None
) -> FalseFires:
    """Read up to `n_tokens` tokens of `texts`, each cut to `max_length`, with the edited `model`, and count where its pathways open.

    Every layer sees what it would at test: with the edits and open pathways below it in place.

    Args:
        subjects: {pathway: its subject}. A text may name one, and its pathway is right to open there; of pathways that are not among them
            every token at which they open is a false fire.

    Raises:
        EditError: the model carries no pathways, or there is no text.
    """
    layers = list(layers_of(model).values())
    names = sorted({name for layer in layers for name in layer.pathways(layer.active_adapters)})
    if not names:
        raise EditError("the model carries no pathways: install edits that have them first")
    rows, total = [], 0
    for text in texts:
        row = tok(text, truncation=True, max_length=max_length)["input_ids"][: n_tokens - total]
        if row:
            rows.append(row)
            total += len(row)
        if total >= n_tokens:
            break
    if not rows:
        raise EditError("no text to count false fires in: give a corpus")
    subjects = subjects or {}
    counts, fires, named, opened = dict.fromkeys(names, 0), 0, 0, {}
    handles = [layer.register_forward_pre_hook(_noting(opened)) for layer in layers]
    device = next(model.parameters()).device
    try:
        for group in batches([len(row) for row in rows], token_budget(device)):
            ids, mask = pad([rows[i] for i in group], device)
            opened.clear()
            model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1)
            real = mask.bool()
            words = ids.masked_fill(~real, -1)  # pads are a token that a name may end in
            false, true = torch.zeros_like(real), torch.zeros_like(real)
            for name, where in opened.items():
                where = where.to(device) & real
                if name in subjects and where.any():
                    own = mentions(tok, words, subjects[name])
                    true |= where & own
                    where = where & ~own
                false |= where
                counts[name] += int(where.sum())
            fires, named = fires + int(false.sum()), named + int(true.sum())
    finally:
        for handle in handles:
            handle.remove()
    return FalseFires(total, fires, counts, named)


def mentions(tok, ids: Tensor, subject: str) -> Tensor:
    """(..., T) bool over token ids (..., T): those of `subject` in full, as it is written."""
    found = torch.zeros_like(ids, dtype=torch.bool)
    for space in ("", " "):
        name = tok(space + subject.strip(), add_special_tokens=False, return_tensors="pt")["input_ids"][0].to(ids.device)
        if len(name) <= ids.shape[-1]:
            begins = (ids.unfold(-1, len(name), 1) == name).all(-1)
            for i in range(len(name)):
                found[..., i : i + begins.shape[-1]] |= begins
    return found


def _noting(opened: dict[str, torch.Tensor]):
    """A hook that notes in `opened`, by pathway, the tokens (n, T) at which it opens in this layer or did in one before."""

    def hook(layer, args):
        for name in layer.pathways(layer.active_adapters):
            here = layer.is_open(args[0], name).squeeze(-1)
            opened[name] = opened[name].to(here.device) | here if name in opened else here

    return hook
