"""The key adapter in front of a down-projection: k̂ = k + gate(k) · proj(k) (REP, Eq. 3), or another key where a detector opens, and a value
behind it."""

import math

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from .addition import Addition, added
from .bank import DetectorBank, gate_logits
from .config import RepConfig
from .parts import parts_of


class RepLayer(nn.Module, BaseTunerLayer):
    """Stands in the place of a down-projection and adapts its input, per token, and behind some pathways what comes out. Pathways of both
    kinds may stand side by side.

    `paper`:
    projection  p(k) = B·A·k, rank r, B = 0 at first, so a fresh pathway is the identity
    gate        g(k) = sigmoid(w₂·GELU(W₁k + b₁) + b₂), inner size gate_ratio · D
    training    k̂ = k + g(k) · p(k)          (dropout on p's input)
    test        k̂ = k + 1[g(k) > τ] · p(k)

    Several active pathways each see the raw key and their contributions are summed, so their order does not matter; with `chain` in
    its configuration each sees what the one attached before it gave (REP, appendix D).

    `closed`:
    margin      max over its detectors of w·k + b
    key         what k̂ is where the margin is above 0; else k, as also where k is so near to it already (`leave`, a cosine) that there is
                nothing to move: where the edited prompt goes on otherwise ("… is not") the edit is as strong as the base method made it
    value       of some, u: where it acts the down-projection gives out Wk̂ + u

    Of several that open at a token the one of the highest margin acts, alone (also before any of the other kind); of equal ones the
    first attached.

    The maths is float32 whatever the model's dtype; where nothing is open the key passes through bit for bit.

    The parameters of the down-projection stay parameters of this module under their own names: `model.get_parameter` and look-ups
    in `named_parameters()` or a state dict find them exactly where they were.

    An adapter of saved edits (`RepConfig.bundle`) may hold several pathways, and what is added to the weight. The i-th pathway of
    adapter `a` is called `a/i` here; its tensors stand in containers of their own, `rep_down_i`, under the adapter's name.
    """

    adapter_layer_names = ("rep_down", "rep_up", "rep_gate_in", "rep_gate_out", "rep_gate", "rep_key", "rep_value")
    other_param_names = ("rep_count",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: RepConfig, module: str | None = None):
        super().__init__()
        # Not registered as a child: its parameters are listed below, and would be listed twice.
        self.__dict__["base_layer"] = base_layer
        self._parameters["weight"] = base_layer.weight
        self._parameters["bias"] = base_layer.bias
        # Flat containers: PEFT strips the adapter's name from `rep_down.<name>.weight` but not from deeper keys.
        for name in self.adapter_layer_names:
            setattr(self, name, nn.ModuleDict())
        self.rep_count: dict[str, int] = {}
        self.rep_kind: dict[str, str] = {}
        self.rep_threshold: dict[str, float] = {}
        self.rep_dropout: dict[str, float] = {}
        self.rep_chain: dict[str, bool] = {}
        self.rep_leave: dict[str, float] = {}
        self.rep_valued: dict[str, bool] = {}
        self.merged_adapters = []
        self._forget()
        # A quantised weight is packed, so its shape says nothing.
        self.in_features = base_layer.nx if isinstance(base_layer, Conv1D) else base_layer.in_features
        self.out_features = base_layer.nf if isinstance(base_layer, Conv1D) else base_layer.out_features
        self.train(base_layer.training)
        self.update_layer(adapter_name, config, module)

    def update_layer(self, adapter_name: str, config: RepConfig, module: str | None = None) -> None:
        """Add a fresh pathway called `adapter_name`; where `config` is of saved edits, all that they have at `module`."""
        parts = config.at(module)
        for i, shape in enumerate(parts.pathways):
            self._add_pathway(adapter_name, i, shape)
        self.rep_count[adapter_name] = len(parts.pathways)
        sizes = {"rep_right": (self.in_features, parts.rank), "rep_left": (parts.rank, self.out_features)} if parts.rank else {}
        sizes |= {numbered("rep_change", i): (self.in_features, self.out_features) for i in range(parts.changes)}
        for group, (inputs, outputs) in sizes.items():
            self._container(group, Addition).put(adapter_name, inputs, outputs, self.base_layer.weight.device)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _container(self, group: str, kind: type[nn.ModuleDict] = nn.ModuleDict) -> nn.ModuleDict:
        """The container called `group`, made and made known to PEFT if it is not there."""
        if not hasattr(self, group):
            setattr(self, group, kind())
            self.adapter_layer_names = (*self.adapter_layer_names, group)
        return getattr(self, group)

    def part(self, group: str, pathway: str) -> nn.Module:
        """What the pathway called `pathway` has in `group`."""
        adapter, _, i = pathway.partition("/")
        return getattr(self, numbered(group, int(i or 0)))[adapter]

    def pathways(self, adapters: list[str]) -> list[str]:
        """The pathways of `adapters`, in their order."""
        return [f"{name}/{i}" if i else name for name in adapters for i in range(self.rep_count.get(name, 0))]

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        """Make these adapters, and no others, the active ones."""
        self._forget()
        super().set_adapter(adapter_names, inference_mode=inference_mode)

    def _forget(self) -> None:
        """What was put together for the active pathways is put together anew when it is next asked for."""
        self._active: tuple[list[str], list[str]] | None = None
        self._bank: DetectorBank | None = None

    def _apply(self, fn, recurse=True):
        self._forget()  # parameters are about to move, each by itself
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        self._forget()
        # `assign=True` puts others in the place of the parameters that are listed here, and the down-projection has as its own.
        own = self.base_layer._parameters
        own.update({name: self._parameters[name] for name in ("weight", "bias") if name in own})

    def __getstate__(self) -> dict:
        """For copies: a copied parameter is no longer a view of the bank's matrix."""
        return {**self.__dict__, "_bank": None}

    def delete_adapter(self, adapter_name: str) -> None:
        """Take an adapter out."""
        self._forget()
        super().delete_adapter(adapter_name)
        for table in (self.rep_kind, self.rep_threshold, self.rep_dropout, self.rep_chain, self.rep_leave, self.rep_valued):
            for name in [name for name in table if name.partition("/")[0] == adapter_name]:
                del table[name]

    def _add_pathway(self, adapter: str, i: int, config: RepConfig) -> None:
        for group, layer in parts_of(config, self.in_features, self.out_features, self.base_layer.weight.device).items():
            self._container(numbered(group, i))[adapter] = layer
        name = f"{adapter}/{i}" if i else adapter
        self.rep_kind[name] = config.kind
        if config.kind == "paper":
            self.rep_threshold[name] = config.threshold
            self.rep_dropout[name] = config.dropout
            self.rep_chain[name] = config.chain
        else:
            self.rep_leave[name] = math.inf if config.leave is None else config.leave
            self.rep_valued[name] = config.value

    def reset(self, adapter_name: str, generator: torch.Generator) -> None:
        """Draw the start weights of one trained pathway from `generator` (the distributions nn.Linear uses)."""
        for group in (self.rep_down, self.rep_gate_in, self.rep_gate_out):
            linear = group[adapter_name]
            bound = 1 / math.sqrt(linear.in_features)
            for parameter in linear.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        nn.init.zeros_(self.rep_up[adapter_name].weight)

    def gate_logit(self, keys: Tensor, adapter: str) -> Tensor:
        """(..., 1): the gate before its sigmoid, for float32 keys (..., D); of a closed-form pathway its margin."""
        if self.rep_kind[adapter] == "closed":
            return _linear(keys, self.part("rep_gate", adapter)).amax(-1, keepdim=True)
        inner = _linear(keys, self.part("rep_gate_in", adapter))
        return _linear(F.gelu(inner), self.part("rep_gate_out", adapter))

    def project(self, keys: Tensor, adapter: str, generator: torch.Generator | None = None) -> Tensor:
        """(..., D): the change the pathway proposes for float32 keys.

        With `generator` dropout on its input is drawn from it; else, in training mode, from PyTorch's global state as in any module.
        """
        rate = self.rep_dropout[adapter]
        if generator is not None and rate:
            keys = keys * (torch.rand(keys.shape, generator=generator, device=keys.device) >= rate) / (1 - rate)
        else:
            keys = F.dropout(keys, rate, self.training)
        return _linear(_linear(keys, self.part("rep_down", adapter)), self.part("rep_up", adapter))

    def soft(self, keys: Tensor, adapter: str, generator: torch.Generator | None = None) -> Tensor:
        """k̂ with the soft gate, as in training, for float32 keys (..., D)."""
        return keys + self.gate_logit(keys, adapter).sigmoid() * self.project(keys, adapter, generator)

    def is_open(self, keys: Tensor, adapter: str) -> Tensor:
        """(..., 1) bool: where the gate lets the pathway act at test."""
        keys = keys.float()
        logit = self.gate_logit(keys, adapter)
        if self.rep_kind[adapter] == "paper":
            return logit.sigmoid() > self.rep_threshold[adapter]
        own, opened = self.part("rep_key", adapter).weight[:, 0].float(), logit > 0
        return opened.masked_scatter(opened, F.cosine_similarity(keys[opened[..., 0]], own, dim=-1) < self.rep_leave[adapter])

    def adapt(self, keys: Tensor) -> Tensor:
        """k̂ for keys (..., D) of any dtype, in that dtype, from all active pathways."""
        return self.moved(keys)[0]

    def moved(self, keys: Tensor) -> tuple[Tensor, Tensor | None]:
        """`adapt`, and what is added to the value of each k̂, (..., d) float32; None for nothing."""
        trained, closed = ([], []) if self.disable_adapters else self._acting()
        if not trained and not closed:
            return keys, None  # the very tensor
        with torch.autocast(keys.device.type, enabled=False):
            raw = keys.float()
            out = self._trained(keys, raw, trained) if trained else keys
            return self._detected(out, raw, closed) if closed else (out, None)

    def _acting(self) -> tuple[list[str], list[str]]:
        """The active pathways of either kind. Kept, since a thousand names take longer to sort than a token's products."""
        if self._active is None:
            names = self.pathways(self.active_adapters)
            self._active = tuple([name for name in names if self.rep_kind[name] == kind] for kind in ("paper", "closed"))
        return self._active

    def _trained(self, keys: Tensor, raw: Tensor, names: list[str]) -> Tensor:
        """k̂ of the active pathways of the paper's kind, in the dtype of `keys`."""
        if self.training:
            return (raw + sum(self.soft(raw, name) - raw for name in names)).to(keys.dtype)
        moved, touched = self._chained(raw, names) if any(self.rep_chain[name] for name in names) else self._summed(raw, names)
        return torch.where(touched, moved.to(keys.dtype), keys)

    def _detected(self, keys: Tensor, raw: Tensor, names: list[str]) -> tuple[Tensor, Tensor | None]:
        """`keys`, and where a detector of an active closed-form pathway opens, that pathway's key; and values to add."""
        if self._bank is None:
            valued = [self.part("rep_value", name) if self.rep_valued[name] else None for name in names]
            parts = [(self.part("rep_gate", name), self.part("rep_key", name), v) for name, v in zip(names, valued, strict=True)]
            self._bank = DetectorBank(parts, [self.rep_leave[name] for name in names])
        return self._bank(keys, raw)

    def _summed(self, raw: Tensor, names: list[str]) -> tuple[Tensor, Tensor]:
        """k̂ with every pathway on the raw key, and where any gate is open."""
        logits = gate_logits(raw, [self.part("rep_gate_in", n) for n in names], [self.part("rep_gate_out", n) for n in names])
        opened = logits.sigmoid() > logits.new_tensor([self.rep_threshold[name] for name in names])
        moved = raw
        # Few of many gates are open at once. The question costs a GPU a wait, so it is asked once, and not for a single pathway.
        acting = [True] if len(names) == 1 else opened.flatten(0, -2).any(0).tolist()
        for i, name in enumerate(names):
            if acting[i]:
                moved = torch.where(opened[..., i : i + 1], moved + self.project(raw, name), moved)
        return moved, opened.any(-1, keepdim=True)

    def _chained(self, raw: Tensor, names: list[str]) -> tuple[Tensor, Tensor]:
        """k̂ with every pathway on what the one before it gave (REP, appendix D), and where any gate is open."""
        moved, touched = raw, torch.zeros_like(raw[..., :1], dtype=torch.bool)
        for name in (name for name in self.pathways(list(self.rep_count)) if name in names):
            opened = self.is_open(moved, name)
            moved = torch.where(opened, moved + self.project(moved, name), moved)
            touched = touched | opened
        return moved, touched

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        keys, more = self.moved(x)
        values = plus(self.base_layer(keys, *args, **kwargs), more)
        if self.disable_adapters or len(self.adapter_layer_names) == len(type(self).adapter_layer_names):
            return values
        changes = [getattr(self, group) for group in self.adapter_layer_names if group.startswith("rep_change")]
        return plus(values, added(keys, getattr(self, "rep_right", {}), getattr(self, "rep_left", {}), changes, self.active_adapters))

    def extra_repr(self) -> str:
        return f"pathways={self.pathways(list(self.rep_count))}, in_features={self.in_features}"


def plus(values: Tensor, more: Tensor | None) -> Tensor:
    """`values` of any dtype and `more`, float32 and not needed any more, in that of `values`; the sum is at least float32."""
    return values if more is None else more.to(torch.promote_types(values.dtype, more.dtype)).add_(values).to(values.dtype)


def numbered(group: str, i: int) -> str:
    """The container of the i-th of its kind: the first is the plain one."""
    return f"{group}_{i}" if i else group


def _linear(x: Tensor, linear: nn.Linear) -> Tensor:
    bias = None if linear.bias is None else linear.bias.float()
    return F.linear(x, linear.weight.float(), bias)
