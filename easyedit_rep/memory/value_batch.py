"""The texts a value is optimised on, several requests' in one padded batch, and what each contributes to the loss."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..anatomy import Anatomy
from .replay import record_suffix
from .tokens import Prompt, continuation_of, locate


@dataclass(frozen=True)
class ValueTask:
    """One request for the optimiser: its prompt, the target, and the contexts put before the prompt ("" is the bare prompt, first)."""

    prompt: Prompt
    target: str
    contexts: Sequence[str]


@dataclass(frozen=True)
class Row:
    """One text of a request.

    Attributes:
        ids: its tokens, without the target's last one.
        split: index of the subject's last token.
        targets: the target's tokens; none for the KL row.
        share: weight in the mean over contexts; 0 for the KL row.
    """

    ids: list[int]
    split: int
    targets: list[int]
    share: float

    @property
    def width(self) -> int:
        """Tokens that are replayed."""
        return len(self.ids) - self.split


def rows_of(tok, task: ValueTask) -> list[Row]:
    rows = []
    # Short sampled contexts often repeat: each text is run once and counts as often as it was drawn.
    for context, times in Counter(task.contexts).items():
        before, target, at = continuation_of(tok, task.prompt.after(context), task.target)
        rows.append(Row(before + target[:-1], at, target, times / len(task.contexts)))
    located = locate(tok, Prompt("", task.prompt.subject, " is a"))
    # Only the distribution at the subject's last token is compared, so the words after it need not be run.
    return [*rows, Row(located.ids[: located.last + 1], located.last, [], 0.0)]


class Batch:
    """The rows of several requests, padded into one batch, with what each contributes to the loss."""

    def __init__(self, anatomy: Anatomy, requests: Sequence[Sequence[Row]], layer: int, block: str):
        rows = [row for request in requests for row in request]
        self.suffix = record_suffix(anatomy, [row.ids for row in rows], [row.split for row in rows], layer, block)
        device = self.suffix.hidden.device
        self.owner = torch.tensor([i for i, request in enumerate(requests) for _ in request], device=device)
        self.is_kl = torch.tensor([not row.targets for row in rows], device=device)
        self.share = torch.tensor([row.share for row in rows], device=device)
        where = [(i, row.width - len(row.targets) + j, target) for i, row in enumerate(rows) for j, target in enumerate(row.targets)]
        self.target_row, self.target_column, self.target_id = torch.tensor(where, device=device).T
        self.kl_rows = self.is_kl.nonzero().squeeze(1)

    def keep(self, rows: Tensor) -> None:
        """Drop every row but `rows` (int64, ascending)."""
        new_index = torch.full_like(self.owner, -1)
        new_index[rows] = torch.arange(len(rows), device=rows.device)
        self.suffix = self.suffix.rows(rows)
        self.owner, self.is_kl, self.share = self.owner[rows], self.is_kl[rows], self.share[rows]
        stays = new_index[self.target_row] >= 0
        self.target_row = new_index[self.target_row[stays]]
        self.target_column, self.target_id = self.target_column[stays], self.target_id[stays]
        self.kl_rows = self.is_kl.nonzero().squeeze(1)


def losses(anatomy: Anatomy, rows: Batch, delta: Tensor, initial_kl: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Per request: NLL (n,), KL (n,), mean probability (n,); and the log-probabilities (kl rows, V) at the KL position."""
    kl_rows = rows.kl_rows
    wanted = torch.cat([rows.target_row, kl_rows]), torch.cat([rows.target_column, torch.zeros_like(kl_rows)])
    hidden = rows.suffix.run(anatomy, delta[rows.owner], wanted)
    n_target, n_rows = len(rows.target_id), len(rows.owner)
    logits, kl_logits = anatomy.logits(anatomy.final_norm(hidden)).to(delta.device).split([n_target, len(kl_rows)])
    token_nll = F.cross_entropy(logits, rows.target_id, reduction="none")
    per_row = token_nll.new_zeros(n_rows).index_add(0, rows.target_row, token_nll)
    length = token_nll.new_zeros(n_rows).index_add(0, rows.target_row, torch.ones_like(token_nll))
    each = per_row / length.clamp(min=1)
    zeros = each.new_zeros(len(delta))
    nll = zeros.index_add(0, rows.owner, each * rows.share)
    probability = zeros.index_add(0, rows.owner, (-each.detach()).exp() * rows.share)
    now = kl_logits.log_softmax(-1)
    before = now.detach() if initial_kl is None else initial_kl
    kl = zeros.index_add(0, rows.owner[kl_rows], (now.exp() * (now - before)).sum(-1))
    return nll, kl, probability, now
