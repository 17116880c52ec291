"""What saved edits add to the weight behind a pathway when PEFT loads them: W k̂ + left (right k̂), the weight itself unwritten."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Addition(nn.ModuleDict):
    """{adapter: a linear map}, `rep_left`, `rep_right` or `rep_change` of a `RepLayer`."""

    def put(self, adapter: str, inputs: int, outputs: int, device: torch.device) -> None:
        """Make room for a map; it is nothing until it is loaded."""
        self[adapter] = nn.Linear(inputs, outputs, bias=False, device=device, dtype=torch.float32)
        nn.init.zeros_(self[adapter].weight)


def added(keys: Tensor, rights: Addition, lefts: Addition, changes: Sequence[Addition], adapters: Sequence[str]) -> Tensor | None:
    """(..., d) float32: what `adapters` add to the value of keys (..., D) of any dtype; None for nothing."""
    with torch.autocast(keys.device.type, enabled=False):
        keys, parts = keys.float(), []
        for name in adapters:
            if name in rights:
                parts.append(F.linear(F.linear(keys, rights[name].weight.float()), lefts[name].weight.float()))
            parts += [F.linear(keys, change[name].weight.float()) for change in changes if name in change]
        return sum(parts) if parts else None
