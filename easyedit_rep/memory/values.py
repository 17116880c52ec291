"""v* and z*, the value that makes a model say the new target: the batched optimiser.

ROME, section 3.1 and appendix B.4: minimise, over a change δ of what the edited block gives out at the subject's last token (the MLP
for ROME's v*, the whole decoder layer for MEMIT's z*),

    mean over contexts of [ −log p(target) / n_target ]  +  kl_factor · KL(p_δ ‖ p) on "{subject} is a"  +  v_weight_decay · ‖δ‖ / ‖v₀‖²

with Adam, ‖δ‖ projected to at most clamp_norm_factor · ‖v₀‖ after every step, until the loss is under 0.05.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..anatomy import Anatomy
from ..errors import EditError
from .linear import fast_linears
from .replay import frozen, replayed_names
from .tokens import batches
from .value_batch import Batch, ValueTask, losses, rows_of

CONVERGED = 0.05
"""EasyEdit's stopping loss."""
REPLAYED_TOKENS = 512
"""Padded tokens replayed in one batch at most: more brings no speed on a CPU, and on a GPU the graph of a 7B model would not fit."""


@dataclass(frozen=True)
class ValueConfig:
    """Hyper-parameters of the optimiser, named as in EasyEdit.

    Attributes:
        v_dtype: what the frozen weights are multiplied in at every step, e.g. `bfloat16`; None: their own dtype.
        cuda_graphs: on a GPU, for a request alone in its batch, record a step once and replay it.
    """

    v_num_grad_steps: int
    v_lr: float
    v_weight_decay: float
    clamp_norm_factor: float
    kl_factor: float
    v_dtype: str | None = None
    cuda_graphs: bool = False

    def __post_init__(self):
        for name in ("v_lr", "clamp_norm_factor"):
            if not getattr(self, name) > 0:
                raise EditError(f"{name}: {getattr(self, name)} is not positive")
        for name in ("v_weight_decay", "kl_factor"):
            if not getattr(self, name) >= 0:
                raise EditError(f"{name}: {getattr(self, name)} is negative or no number")

    @classmethod
    def from_hparams(cls, hparams) -> "ValueConfig":
        ours = {name: getattr(hparams.rep, name) for name in ("v_dtype", "cuda_graphs")}
        return cls(**{f.name: getattr(hparams, f.name) for f in fields(cls) if f.name not in ours}, **ours)

    @property
    def dtype(self) -> torch.dtype | None:
        return None if self.v_dtype is None else getattr(torch, self.v_dtype)


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


def optimise_values(anatomy: Anatomy, tok, layer: int, tasks: Sequence[ValueTask], config: ValueConfig, block: str = "mlp") -> list[Value]:
    """The new values of several requests, in padded batches; each request stops at its own convergence and then leaves its batch.

    δ is added to the output of `block` (`mlp`, or `layer` for the whole decoder layer) of `layer`, in every row of its request (the KL
    row too). The model's weights and `requires_grad` flags are as before when this returns. δ, the losses and the logits are float32
    whatever the model's dtype.

    Raises:
        EditError: NaN loss, or a target that shares a token with the subject.
    """
    requests = [rows_of(tok, task) for task in tasks]
    result: list[Value] = [None] * len(tasks)
    with frozen(anatomy.model), fast_linears(anatomy.model, config.dtype, replayed_names(anatomy, layer)), torch.enable_grad():
        for group in map(sorted, batches([len(rows) * max(row.width for row in rows) for rows in requests], REPLAYED_TOKENS)):
            with fast_linears(anatomy.model):  # what is recorded stays exact
                batch = Batch(anatomy, [requests[i] for i in group], layer, block)
            found = _optimise(anatomy, [tasks[i] for i in group], batch, config)
            for i, value in zip(group, found, strict=True):
                result[i] = value
    return result


class _Descent:
    """Adam on the changes of a batch, a step at a time."""

    def __init__(self, anatomy: Anatomy, rows: Batch, config: ValueConfig, n: int):
        self.anatomy, self.rows, self.config = anatomy, rows, config
        owners = rows.owner.tolist()
        first = torch.tensor([owners.index(i) for i in range(n)], device=rows.owner.device)
        self.initial = rows.suffix.value[first].float()
        self.scale = self.initial.norm(dim=1)
        self.delta = torch.zeros_like(self.initial, requires_grad=True)
        self.initial_kl: Tensor | None = None
        device = self.delta.device.type
        # A graph holds one device's work: copies between several would be left out of it.
        alone = n == 1 and len({p.device for p in anatomy.model.parameters()}) == 1
        self.graphed = config.cuda_graphs and device == "cuda" and alone
        self.optimiser = torch.optim.Adam([self.delta], lr=config.v_lr, fused=device in ("cpu", "cuda"), capturable=self.graphed)
        self._graph: torch.cuda.CUDAGraph | None = None

    def measure(self) -> tuple[Tensor, Tensor]:
        """Loss of each request (n,), and (2, n): its value and the target's mean probability."""
        nll, kl, probability, kl_now = losses(self.anatomy, self.rows, self.delta, self.initial_kl)
        if self.initial_kl is None:
            self.initial_kl = kl_now.detach()
        loss = nll + self.config.kl_factor * kl + self.config.v_weight_decay * self.delta.norm(dim=1) / self.scale**2
        return loss, torch.stack([loss.detach(), probability])

    def update(self, loss: Tensor) -> None:
        # The requests do not meet in the loss; those that have left the batch only decay, and nobody looks.
        (self.delta.grad,) = torch.autograd.grad(loss.sum(), [self.delta])
        self.optimiser.step()
        with torch.no_grad():
            limit = self.config.clamp_norm_factor * self.scale
            self.delta.mul_((limit / self.delta.norm(dim=1).clamp(min=1e-12)).clamp(max=1.0)[:, None])

    def capture(self) -> None:
        """From now on `replay` does what `measure` and `update` do: what Python and the launches cost is paid once."""
        self._graph = torch.cuda.CUDAGraph()
        device = self.delta.device  # need not be the current one, whose stream would be taken by itself
        with torch.cuda.device(device), torch.cuda.graph(self._graph, stream=torch.cuda.Stream(device)):
            self._before = self.delta.detach().clone()
            loss, self._numbers = self.measure()
            self.update(loss)

    def replay(self) -> tuple[Tensor, Tensor]:
        """δ as it was, and `measure`'s numbers for it; δ itself is a step further."""
        self._graph.replay()
        return self._before, self._numbers

    def keep(self, before: Sequence[int], active: Sequence[int]) -> None:
        """Only the requests in `active`, of those in `before`, stay in the batch."""
        self.initial_kl = self.initial_kl[[list(before).index(i) for i in active]]
        stays = [row for row, owner in enumerate(self.rows.owner.tolist()) if owner in active]
        self.rows.keep(torch.tensor(stays, device=self.rows.owner.device))


def _optimise(anatomy: Anatomy, tasks: Sequence[ValueTask], rows: Batch, config: ValueConfig) -> list[Value]:
    descent = _Descent(anatomy, rows, config, len(tasks))
    result: list[Value | None] = [None] * len(tasks)
    active = list(range(len(tasks)))
    for step in range(1, config.v_num_grad_steps + 1):
        # Two steps as they are warm everything up that must not be met for the first time in a graph.
        if descent.graphed and step == 3:
            descent.capture()
        if descent.graphed and step >= 3:
            delta, numbers = descent.replay()
        else:
            loss, numbers = descent.measure()
            delta = descent.delta.detach()
        values, probabilities = numbers.tolist()  # the one wait for the device in a step
        bad = [i for i in active if not math.isfinite(values[i])]
        if bad:
            task = tasks[bad[0]]
            raise EditError(f"the loss of {task.prompt.text!r} -> {task.target!r} is NaN or infinite: check the model's weights and v_lr")
        left = [i for i in active if values[i] >= CONVERGED and step < config.v_num_grad_steps]
        for i in set(active).difference(left):
            result[i] = Value(descent.initial[i].clone(), delta[i].clone(), values[i], step, probabilities[i])
        if not left:
            break
        if not (descent.graphed and step >= 3):
            descent.update(loss)
            loss = None  # its autograd graph ties δ to this stream, which none that is captured may wait for
        if left != active:
            descent.keep(active, left)
            active = left
    return result
