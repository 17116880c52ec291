"""What a float32 memory has lost to rounding, measured against the pairs themselves, and filling it anew from them."""

import torch
from torch import Tensor

from ..memory.covariance import Covariance
from .state import LayerState

EVERY = 128
"""Pairs between two measurements."""
TOLERATED = 1e-4
"""Relative drift above which a memory is filled anew: far below the rounding of a bfloat16 weight (4e-3)."""


def measure_drift(state: LayerState, covariance: Covariance, weight: float, keys: Tensor, residuals: Tensor) -> float:
    """How far Δ is from solving Δ (λC + KᵀK) = RᵀK, in float64 along one fixed random direction, relative to the right side.

    Args:
        weight: λ.
        keys, residuals: all pairs (n, D), (n, d) that `state` holds. O(nD + D²), nothing is factored.
    """
    keys, residuals = keys.double(), residuals.double()
    moment, change = covariance.moment.to(keys.device), state.change.to(keys.device).double()
    direction = torch.randn(keys.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(keys.device)
    met = keys @ direction
    wanted = residuals.T @ met
    found = change @ (weight * (moment @ direction + covariance.ridge * direction) + keys.T @ met)
    return ((found - wanted).norm() / wanted.norm()).item()


def refill(state: LayerState, covariance: Covariance, weight: float, keys: Tensor, residuals: Tensor) -> None:
    """Make `state` what the pairs give in float64, in one batch, rounded once."""
    exact = LayerState.of(covariance, weight, len(state.change), "pairs", torch.float64, state.change.device)
    exact.append(keys, residuals)
    exact.fold()
    state.load_state_dict(exact.state_dict())


def is_due(state: LayerState, added: int) -> bool:
    """Whether a memory that can drift has passed another `EVERY` pairs with the last `added`."""
    return state.change.dtype != torch.float64 and state.count // EVERY != (state.count - added) // EVERY


def keep_exact(state: LayerState, covariance: Covariance, weight: float, keys: Tensor, residuals: Tensor) -> float:
    """Fill `state` anew if it has drifted too far from what its pairs say; returns by how much it had, 0 where it is left as it is."""
    lost = measure_drift(state, covariance, weight, keys, residuals)
    if lost > TOLERATED:
        refill(state, covariance, weight, keys, residuals)
        return lost
    return 0.0
