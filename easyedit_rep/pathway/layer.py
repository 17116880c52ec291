"""The key adapter in front of a down-projection: k̂ = k + gate(k) · proj(k) (REP, Eq. 3), or another key where a detector opens."""

import math

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from .bank import DetectorBank, gate_logits
from .config import RepConfig


class RepLayer(nn.Module, BaseTunerLayer):
    """Stands in the place of a down-projection and adapts its input, per token. Pathways of both kinds may stand side by side.

    `paper`:
    projection  p(k) = B·A·k, rank r, B = 0 at first, so a fresh pathway is the identity
    gate        g(k) = sigmoid(w₂·GELU(W₁k + b₁) + b₂), inner size gate_ratio · D
    training    k̂ = k + g(k) · p(k)          (dropout on p's input)
    test        k̂ = k + 1[g(k) > τ] · p(k)

    Several active pathways each see the raw key and their contributions are summed, so their order does not matter; with `chain` in
    its configuration each sees what the one attached before it gave (REP, appendix D).

    `closed`:
    margin      max over its detectors of w·k + b
    key         what k̂ is where the margin is above 0; else k

    Of several that open at a token the one of the highest margin acts, alone (also before any of the other kind); of equal ones the
    first attached.

    The maths is float32 whatever the model's dtype; where nothing is open the key passes through bit for bit.

    The parameters of the down-projection stay parameters of this module under their own names: `model.get_parameter` and look-ups
    in `named_parameters()` or a state dict find them exactly where they were.
    """

    adapter_layer_names = ("rep_down", "rep_up", "rep_gate_in", "rep_gate_out", "rep_gate", "rep_key")
    other_param_names = ("rep_threshold", "rep_dropout", "rep_chain")

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: RepConfig):
        super().__init__()
        # Not registered as a child: its parameters are listed below, and would be listed twice.
        self.__dict__["base_layer"] = base_layer
        self._parameters["weight"] = base_layer.weight
        self._parameters["bias"] = base_layer.bias
        # Flat containers: PEFT strips the adapter's name from `rep_down.<name>.weight` but not from deeper keys.
        for name in self.adapter_layer_names:
            setattr(self, name, nn.ModuleDict())
        self.rep_threshold: dict[str, float] = {}
        self.rep_dropout: dict[str, float] = {}
        self.rep_chain: dict[str, bool] = {}
        self.merged_adapters = []
        self._bank: DetectorBank | None = None
        self.in_features = base_layer.weight.shape[0 if isinstance(base_layer, Conv1D) else 1]
        self.train(base_layer.training)
        self.update_layer(adapter_name, config)

    @property
    def pathways(self) -> list[str]:
        """Names of all pathways here, in the order they were attached (of each kind)."""
        return [*self.rep_down, *self.rep_gate]

    def update_layer(self, adapter_name: str, config: RepConfig) -> None:
        """Add a fresh pathway called `adapter_name`, which changes nothing yet."""
        {"paper": self._add_trained, "closed": self._add_closed}[config.kind](adapter_name, config)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _add_closed(self, adapter_name: str, config: RepConfig) -> None:
        place = {"device": self.base_layer.weight.device, "dtype": torch.float32}
        gate = self.rep_gate[adapter_name] = nn.Linear(self.in_features, config.detectors, **place)
        key = self.rep_key[adapter_name] = nn.Linear(1, self.in_features, bias=False, **place)
        for parameter in (gate.weight, gate.bias, key.weight):
            nn.init.zeros_(parameter)

    def _add_trained(self, adapter_name: str, config: RepConfig) -> None:
        size, inner = self.in_features, max(1, int(self.in_features * config.gate_ratio))
        place = {"device": self.base_layer.weight.device, "dtype": torch.float32}
        self.rep_down[adapter_name] = nn.Linear(size, config.rank, bias=False, **place)
        self.rep_up[adapter_name] = nn.Linear(config.rank, size, bias=False, **place)
        self.rep_gate_in[adapter_name] = nn.Linear(size, inner, **place)
        self.rep_gate_out[adapter_name] = nn.Linear(inner, 1, **place)
        nn.init.zeros_(self.rep_up[adapter_name].weight)
        self.rep_threshold[adapter_name] = config.threshold
        self.rep_dropout[adapter_name] = config.dropout
        self.rep_chain[adapter_name] = config.chain

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        """Make these pathways, and no others, the active ones."""
        self._bank = None
        super().set_adapter(adapter_names, inference_mode=inference_mode)

    def delete_adapter(self, adapter_name: str) -> None:
        """Take a pathway out."""
        self._bank = None
        super().delete_adapter(adapter_name)

    def _apply(self, fn, recurse=True):
        self._bank = None  # parameters are about to move, each by itself
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict:
        """For copies: a copied parameter is no longer a view of the bank's matrix."""
        return {**self.__dict__, "_bank": None}

    def reset(self, adapter_name: str, generator: torch.Generator) -> None:
        """Draw the start weights of one trained pathway from `generator` (the distributions nn.Linear uses)."""
        for group in (self.rep_down, self.rep_gate_in, self.rep_gate_out):
            linear = group[adapter_name]
            bound = 1 / math.sqrt(linear.in_features)
            for parameter in linear.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        nn.init.zeros_(self.rep_up[adapter_name].weight)

    def gate_logit(self, keys: Tensor, adapter: str) -> Tensor:
        """(..., 1): the gate before its sigmoid, for float32 keys (..., D)."""
        inner = _linear(keys, self.rep_gate_in[adapter])
        return _linear(F.gelu(inner), self.rep_gate_out[adapter])

    def project(self, keys: Tensor, adapter: str, generator: torch.Generator | None = None) -> Tensor:
        """(..., D): the change the pathway proposes for float32 keys.

        With `generator` dropout on its input is drawn from it; else, in training mode, from PyTorch's global state as in any module.
        """
        rate = self.rep_dropout[adapter]
        if generator is not None and rate:
            keys = keys * (torch.rand(keys.shape, generator=generator, device=keys.device) >= rate) / (1 - rate)
        else:
            keys = F.dropout(keys, rate, self.training)
        return _linear(_linear(keys, self.rep_down[adapter]), self.rep_up[adapter])

    def soft(self, keys: Tensor, adapter: str, generator: torch.Generator | None = None) -> Tensor:
        """k̂ with the soft gate, as in training, for float32 keys (..., D)."""
        return keys + self.gate_logit(keys, adapter).sigmoid() * self.project(keys, adapter, generator)

    def is_open(self, keys: Tensor, adapter: str) -> Tensor:
        """(..., 1) bool: where the gate lets the pathway act at test."""
        if adapter in self.rep_gate:
            return _linear(keys.float(), self.rep_gate[adapter]).amax(-1, keepdim=True) > 0
        return self.gate_logit(keys.float(), adapter).sigmoid() > self.rep_threshold[adapter]

    def adapt(self, keys: Tensor) -> Tensor:
        """k̂ for keys (..., D) of any dtype, in that dtype, from all active pathways."""
        active = [] if self.disable_adapters else self.active_adapters
        names = [name for name in active if name in self.rep_down] if len(self.rep_down) else []
        if not active or not (names or len(self.rep_gate)):
            return keys  # the very tensor
        with torch.autocast(keys.device.type, enabled=False):
            raw = keys.float()
            out = self._trained(keys, raw, names) if names else keys
            return self._detected(out, raw) if len(self.rep_gate) else out

    def _trained(self, keys: Tensor, raw: Tensor, names: list[str]) -> Tensor:
        """k̂ of the active pathways of the paper's kind, in the dtype of `keys`."""
        if self.training:
            return (raw + sum(self.soft(raw, name) - raw for name in names)).to(keys.dtype)
        moved, touched = self._chained(raw, names) if any(self.rep_chain[name] for name in names) else self._summed(raw, names)
        return torch.where(touched, moved.to(keys.dtype), keys)

    def _detected(self, keys: Tensor, raw: Tensor) -> Tensor:
        """`keys`, and where a detector of an active closed-form pathway opens, that pathway's key."""
        if self._bank is None:
            active = [name for name in self.active_adapters if name in self.rep_gate]
            if not active:
                return keys
            self._bank = DetectorBank([(self.rep_gate[name], self.rep_key[name]) for name in active])
        return self._bank(keys, raw)

    def _summed(self, raw: Tensor, names: list[str]) -> tuple[Tensor, Tensor]:
        """k̂ with every pathway on the raw key, and where any gate is open."""
        logits = gate_logits(raw, [self.rep_gate_in[n] for n in names], [self.rep_gate_out[n] for n in names])
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
        for name in (name for name in self.rep_down if name in names):
            opened = self.is_open(moved, name)
            moved = torch.where(opened, moved + self.project(moved, name), moved)
            touched = touched | opened
        return moved, touched

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        return self.base_layer(self.adapt(x), *args, **kwargs)

    def extra_repr(self) -> str:
        return f"pathways={self.pathways}, in_features={self.in_features}"


def _linear(x: Tensor, linear: nn.Linear) -> Tensor:
    bias = None if linear.bias is None else linear.bias.float()
    return F.linear(x, linear.weight.float(), bias)
