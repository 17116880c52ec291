"""One D4S update in float64, keys and residuals given: our recursive and pairs forms, and the released code's accumulate-and-solve.

Ours is bound by memory. `inverse` is read once, Δ is read and written once for the rank-one step and read once for Δk.
"""

from collections.abc import Iterator

import torch

from easyedit_rep.memory.covariance import Covariance
from easyedit_rep.sequence.state import Form, LayerState

from .common import Case, Setting, clock
from .models import diagonal_covariance

SIZES = ((4096, 1024), (11008, 4096))
"""(D, d): D4S's own example, and Llama-2-7B."""
WEIGHT = 15000.0
BEFORE = 3
"""Edits that are there when the first turn, which only warms up, begins."""


class Released:
    """ΣRKᵀ and ΣKKᵀ in float64, and a solve of the whole D × D system for every edit."""

    def __init__(self, moment: torch.Tensor, out_size: int):
        self.moment = moment
        self.cross = moment.new_zeros(out_size, len(moment))
        self.gram = torch.zeros_like(moment)

    def append(self, key: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        self.cross += residual.T @ key
        self.gram += key.T @ key
        return torch.linalg.solve(self.gram + WEIGHT * self.moment, self.cross, left=False)


class _Stream:
    """The same pairs for every way, one after another."""

    def __init__(self, size: int, out_size: int, device: torch.device):
        self.generator, self.sizes, self.device = torch.Generator().manual_seed(0), (size, out_size), device
        self.made: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        while len(self.made) <= i:
            draws = (torch.randn(1, n, generator=self.generator, dtype=torch.float64) for n in self.sizes)
            self.made.append(tuple(draw.to(self.device) for draw in draws))
        return self.made[i]


def bandwidth(device: torch.device) -> float:
    """GB/s of a plain copy of 512 MB, read and write counted."""
    source = torch.ones(64 * 2**20, dtype=torch.float64, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * 8 / min(clock(lambda _i: target.copy_(source), 0, device)[1] for _ in range(5)) / 1e9


def _way(append, stream: _Stream):
    """Every call writes the next pair."""
    done = [0]

    def step(_turn: int):
        result = append(*stream[done[0]])
        done[0] += 1
        return result

    for _ in range(BEFORE):
        step(0)
    return step


def _state(form: Form, covariance: Covariance, out_size: int, device: torch.device) -> LayerState:
    return LayerState.of(covariance, WEIGHT, out_size, form, device=device)


def cases(setting: Setting) -> Iterator[Case]:
    for size, out_size in [(setting.n, setting.n // 4)] if setting.n else SIZES:
        covariance = diagonal_covariance(size, setting.device, 0)
        stream = _Stream(size, out_size, setting.device)
        states = {form: _state(form, covariance, out_size, setting.device) for form in ("recursive", "pairs")}
        released = Released(covariance.moment, out_size)
        ways = {form: _way(state.append, stream) for form, state in states.items()}
        ways["accumulate and solve"] = _way(released.append, stream)

        def compare(results: dict, states=states) -> dict[str, float]:
            exact = results["accumulate and solve"]
            return {f"relative difference of {f}": ((s.change - exact).norm() / exact.norm()).item() for f, s in states.items()}

        moved = 8 * (size * size + 3 * size * out_size)
        yield Case(
            f"one D4S update, D = {size}, d = {out_size}, float64, from edit {BEFORE + 2} on",
            ways,
            "accumulate and solve",
            compare,
            {"recursive": 100.0, "pairs": 100.0},
            f"a step of ours moves at least {moved / 1e6:.0f} MB; a plain copy reaches {bandwidth(setting.device):.0f} GB/s",
        )
