"""EMMET: MEMIT's spread with ROME's equality constraint, in batches (Gupta et al. 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..errors import EditError
from ..memory.covariance import Covariance
from ..request import EditRequest
from .base import BaseEdit, Memory, Method
from .memit import MEMITOptions, solve_right, spread_adjoint


@dataclass(frozen=True)
class EMMETOptions(MEMITOptions):
    """EMMET's own hyper-parameters, beside MEMIT's.

    Attributes:
        update_norm_lambda: added to the diagonal of λC: keeps the update small.
        emmet_lambda: added to the diagonal of the keys' Gram matrix: 0 makes the update exact at every key.
    """

    update_norm_lambda: float = 0.0
    emmet_lambda: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        for name in ("update_norm_lambda", "emmet_lambda"):
            if getattr(self, name) < 0:
                raise EditError(f"{name}: {getattr(self, name)} is negative")


def emmet(memory: Memory, hparams, requests: Sequence[EditRequest]) -> BaseEdit:
    """A = Ct⁻¹K (KᵀCt⁻¹K + emmet_lambda·I)⁻¹ with Ct = λC + update_norm_lambda·I."""
    options: EMMETOptions = hparams.method

    def adjoint(covariance: Covariance, keys: Tensor) -> Tensor:
        weight = options.mom2_update_weight
        whitened = covariance.solve(keys.T, options.update_norm_lambda / weight).T / weight
        return solve_right(whitened, keys.T @ whitened, options.emmet_lambda)

    return spread_adjoint(memory, hparams, requests, adjoint)


EMMET = Method(emmet, EMMETOptions, batch=True, context_template_length_params=((10, 5),))
