"""R-ROME: ROME with one and the same key throughout, which keeps sequences of edits from collapsing (Gupta et al. 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..errors import EditError
from ..request import EditRequest
from .base import BaseEdit, Memory, Method
from .rome import rank_one


@dataclass(frozen=True)
class RROMEOptions:
    """EasyEdit's switches.

    Attributes:
        enable_random_prefix_keys: every key is the average over the contexts.
        enable_prompt_keys: every key is the bare prompt's.
        original_implementation: ROME's mixture; the update is then written under the averaged key whatever the others say.
    """

    enable_prompt_keys: bool = False
    enable_random_prefix_keys: bool = True
    original_implementation: bool = False

    def __post_init__(self):
        if not self.original_implementation and self.enable_prompt_keys == self.enable_random_prefix_keys:
            raise EditError("enable_prompt_keys and enable_random_prefix_keys: set one of them, or original_implementation")


def r_rome(memory: Memory, hparams, requests: Sequence[EditRequest]) -> BaseEdit:
    """W += Λ uᵀ with u ∝ C⁻¹k̄ and Λ = (v* − Wk̄) / (k̄·u), so that the edited W maps the averaged key k̄ exactly onto v* = Wk₀ + δ.

    With `enable_prompt_keys` the bare prompt's key k₀ stands for k̄ everywhere.
    """
    options: RROMEOptions = hparams.method

    def choose(rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        mean, bare = rows.mean(0), rows[0]
        under = mean if options.original_implementation or options.enable_random_prefix_keys else bare
        if not options.enable_random_prefix_keys:
            return under, bare, 0.0
        return under, mean, weight.float() @ (bare - mean).to(weight.device)

    return rank_one(memory, hparams, requests, choose)


R_ROME = Method(r_rome, RROMEOptions, batch=False, context_template_length_params=((5, 10), (10, 10)))
