"""Whitened similarity kᵀC⁻¹k*: how much of an edit written under k* a key k retrieves (REP, section 4)."""

import torch
from torch import Tensor

from ..memory.covariance import Covariance


def directions(covariance: Covariance, stars: Tensor) -> Tensor:
    """(n, D) float64: C⁻¹k* / (k*ᵀC⁻¹k*) for k* of shape (n, D). Its product with a key is the whitened similarity, 1 for k* itself."""
    stars = stars.double()
    whitened = covariance.solve(stars)
    return whitened / (whitened * stars).sum(-1, keepdim=True)


def similarities(covariance: Covariance, keys: Tensor, star: Tensor) -> Tensor:
    """(n,) float64: kᵀC⁻¹k* / k*ᵀC⁻¹k* of keys (n, D) to one k* (D,); the key k* itself has 1.

    C⁻¹ makes directions that many keys share count little. A rank-one edit under k* adds just this share of its δ to what the memory
    returns for k, so the similarity is the dose of the edit that k gets.
    """
    return keys.double() @ directions(covariance, star[None])[0]


def moved(raw: Tensor, adapted: Tensor) -> Tensor:
    """(n,) bool: which of the keys (n, D) a pathway has changed."""
    return torch.ne(raw, adapted).any(-1)
