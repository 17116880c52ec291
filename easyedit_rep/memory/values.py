"""v* and z*, the value that makes a model say the new target: the batched optimiser.

ROME, section 3.1 and appendix B.4: minimise, over a change δ of what the edited block gives out at the subject's last token (the MLP
for ROME's v*, the whole decoder layer for MEMIT's z*),

    mean over contexts of [ −log p(target) / n_target ]  +  kl_factor · KL(p_δ ‖ p) on "{subject} is a"  +  v_weight_decay · ‖δ‖ / ‖v₀‖²

with Adam, ‖δ‖ projected to at most clamp_norm_factor · ‖v₀‖ after every step, until the loss is under 0.05.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from ..anatomy import Anatomy
from ..errors import EditError
from .linear import fast_linears
from .replay import frozen, record_suffix
from .tokens import Prompt, batches, continuation_of, locate

CONVERGED = 0.05
"""EasyEdit's stopping loss."""
REPLAYED_TOKENS = 1024
"""Padded tokens replayed in one batch at most: more brings no speed on a CPU, and on a GPU the graph of a 7B model would not fit."""


@dataclass(frozen=True)
class ValueConfig:
    """Hyper-parameters of the optimiser, named as in EasyEdit.

    Attributes:
        v_dtype: what the frozen weights are multiplied in at every step, e.g. `bfloat16`; None: their own dtype.
    """

    v_num_grad_steps: int
    v_lr: float
    v_weight_decay: float
    clamp_norm_factor: float
    kl_factor: float
    v_dtype: str | None = None

    @classmethod
    def from_hparams(cls, hparams) -> "ValueConfig":
        named = {f.name: getattr(hparams, f.name) for f in fields(cls) if f.name != "v_dtype"}
        return cls(**named, v_dtype=hparams.rep.v_dtype)

    @property
    def dtype(self) -> torch.dtype | None:
        return None if self.v_dtype is None else getattr(torch, self.v_dtype)


@dataclass(frozen=True)
class ValueTask:
    """One request for the optimiser: its prompt, the target, and the contexts put before the prompt ("" is the bare prompt, first)."""

    prompt: Prompt
    target: str
    contexts: Sequence[str]


@dataclass(frozen=True, eq=False)
class Value:
    """Result for one request.

    Attributes:
        initial: v₀ (d,) float32, the block's output at the subject's last token of the first context.
        change: δ (d,) float32; v* = initial + change.
        loss: at the last step.
        steps: forward passes used.
        probability: mean over contexts of exp(−NLL / token) under the optimised value.
    """

    initial: Tensor
    change: Tensor
    loss: float
    steps: int
    probability: float

    def numbers(self) -> dict[str, float]:
        """What is worth keeping of it in a record."""
        return {"loss": self.loss, "steps": self.steps, "probability": self.probability}


@dataclass(frozen=True)
class _Row:
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


def _rows_of(tok, task: ValueTask) -> list[_Row]:
    rows = []
    # Short sampled contexts often repeat: each text is run once and counts as often as it was drawn.
    for context, times in Counter(task.contexts).items():
        before, target, at = continuation_of(tok, task.prompt.after(context), task.target)
        rows.append(_Row(before + target[:-1], at, target, times / len(task.contexts)))
    located = locate(tok, Prompt("", task.prompt.subject, " is a"))
    # Only the distribution at the subject's last token is compared, so the words after it need not be run.
    return [*rows, _Row(located.ids[: located.last + 1], located.last, [], 0.0)]


class _Batch:
    """The rows of several requests, padded into one batch, with what each contributes to the loss."""

    def __init__(self, anatomy: Anatomy, requests: Sequence[Sequence[_Row]], layer: int, block: str):
        rows = [row for request in requests for row in request]
        self.suffix = record_suffix(anatomy, [row.ids for row in rows], [row.split for row in rows], layer, block)
        device = self.suffix.hidden.device
        self.owner = torch.tensor([i for i, request in enumerate(requests) for _ in request], device=device)
        self.is_kl = torch.tensor([not row.targets for row in rows], device=device)
        self.share = torch.tensor([row.share for row in rows], device=device)
        where = [(i, row.width - len(row.targets) + j, target) for i, row in enumerate(rows) for j, target in enumerate(row.targets)]
        self.target_row, self.target_column, self.target_id = torch.tensor(where, device=device).T

    def keep(self, rows: Tensor) -> None:
        """Drop every row but `rows` (int64, ascending)."""
        new_index = torch.full_like(self.owner, -1)
        new_index[rows] = torch.arange(len(rows), device=rows.device)
        self.suffix = self.suffix.rows(rows)
        self.owner, self.is_kl, self.share = self.owner[rows], self.is_kl[rows], self.share[rows]
        stays = new_index[self.target_row] >= 0
        self.target_row = new_index[self.target_row[stays]]
        self.target_column, self.target_id = self.target_column[stays], self.target_id[stays]


def _losses(anatomy: Anatomy, rows: _Batch, delta: Tensor, initial_kl: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Per request: NLL (n,), KL (n,), mean probability (n,); and the log-probabilities (kl rows, V) at the KL position."""
    kl_rows = rows.is_kl.nonzero().squeeze(1)
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


def optimise_values(anatomy: Anatomy, tok, layer: int, tasks: Sequence[ValueTask], config: ValueConfig, block: str = "mlp") -> list[Value]:
    """The new values of several requests, in padded batches; each request stops at its own convergence and then leaves its batch.

    δ is added to the output of `block` (`mlp`, or `layer` for the whole decoder layer) of `layer`, in every row of its request (the KL
    row too). The model's weights and `requires_grad` flags are as before when this returns. δ, the losses and the logits are float32
    whatever the model's dtype.

    Raises:
        EditError: NaN loss, or a target that shares a token with the subject.
    """
    requests = [_rows_of(tok, task) for task in tasks]
    result: list[Value] = [None] * len(tasks)
    replayed = (*(anatomy.layer_name(i) + "." for i in range(layer, anatomy.n_layers)), anatomy.names.lm_head_module)
    with frozen(anatomy.model), fast_linears(anatomy.model, config.dtype, replayed), torch.enable_grad():
        for group in map(sorted, batches([len(rows) * max(row.width for row in rows) for rows in requests], REPLAYED_TOKENS)):
            with fast_linears(anatomy.model):  # what is recorded stays exact
                batch = _Batch(anatomy, [requests[i] for i in group], layer, block)
            found = _optimise(anatomy, [tasks[i] for i in group], batch, config)
            for i, value in zip(group, found, strict=True):
                result[i] = value
    return result


def _optimise(anatomy: Anatomy, tasks: Sequence[ValueTask], rows: _Batch, config: ValueConfig) -> list[Value]:
    n, size = len(tasks), rows.suffix.hidden.shape[-1]
    delta = torch.zeros(n, size, device=rows.suffix.hidden.device, requires_grad=True)
    optimiser = torch.optim.Adam([delta], lr=config.v_lr, fused=delta.device.type in ("cpu", "cuda"))
    owners = rows.owner.tolist()
    initial = rows.suffix.value[[owners.index(i) for i in range(n)]].to(delta)
    scale = initial.norm(dim=1)
    result: list[Value | None] = [None] * n
    active = torch.ones(n, dtype=torch.bool, device=delta.device)
    initial_kl = None
    for step in range(1, config.v_num_grad_steps + 1):
        nll, kl, probability, kl_now = _losses(anatomy, rows, delta, initial_kl)
        if initial_kl is None:
            initial_kl = kl_now.detach()
        loss = nll + config.kl_factor * kl + config.v_weight_decay * delta.norm(dim=1) / scale**2
        if not torch.isfinite(loss[active]).all():
            bad = tasks[int((active & ~torch.isfinite(loss)).nonzero()[0])]
            raise EditError(f"the loss of {bad.prompt.text!r} -> {bad.target!r} is NaN or infinite: check the model's weights and v_lr")
        done = active & ((loss < CONVERGED) if step < config.v_num_grad_steps else active)
        for i in done.nonzero().squeeze(1).tolist():
            result[i] = Value(initial[i].clone(), delta[i].detach().clone(), loss[i].item(), step, probability[i].item())
        active = active & ~done
        if not active.any():
            break
        (delta.grad,) = torch.autograd.grad(loss[active].sum(), [delta])
        optimiser.step()
        with torch.no_grad():
            limit = config.clamp_norm_factor * scale
            delta.mul_((limit / delta.norm(dim=1).clamp(min=1e-12)).clamp(max=1.0)[:, None])
        if done.any():
            stays = active[rows.owner]
            initial_kl = initial_kl[active[rows.owner[rows.is_kl]]]
            rows.keep(stays.nonzero().squeeze(1))
    return result
