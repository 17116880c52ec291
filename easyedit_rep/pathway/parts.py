"""The modules a pathway is made of, float32 whatever the model's dtype."""

import torch
from torch import nn

from .config import RepConfig


def parts_of(config: RepConfig, size: int, out: int, device: torch.device) -> dict[str, nn.Linear]:
    """{container: module} of a fresh pathway for keys of length `size` and values of length `out`."""
    make = {"paper": _trained, "closed": _closed}[config.kind]
    return make(config, size, out, {"device": device, "dtype": torch.float32})


def _trained(config: RepConfig, size: int, _out: int, place: dict) -> dict[str, nn.Linear]:
    inner = max(1, int(size * config.gate_ratio))
    parts = {
        "rep_down": nn.Linear(size, config.rank, bias=False, **place),
        "rep_up": nn.Linear(config.rank, size, bias=False, **place),
        "rep_gate_in": nn.Linear(size, inner, **place),
        "rep_gate_out": nn.Linear(inner, 1, **place),
    }
    nn.init.zeros_(parts["rep_up"].weight)
    return parts


def _closed(config: RepConfig, size: int, out: int, place: dict) -> dict[str, nn.Linear]:
    parts = {"rep_gate": nn.Linear(size, config.detectors, **place), "rep_key": nn.Linear(1, size, bias=False, **place)}
    if config.value:
        parts["rep_value"] = nn.Linear(1, out, bias=False, **place)
    for part in parts.values():
        for parameter in part.parameters():
            nn.init.zeros_(parameter)
    return parts
