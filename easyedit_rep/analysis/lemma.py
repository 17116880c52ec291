"""At which doses of an edit an answer is retrieved: the bounds of REP's section 4 (Lemma 4.8), every ε taken from logits.

The statement here is derived, from the associative memory and the softmax over its values; the paper's own wording of Lemma 4.8 was not at
hand, and its ε may be bounded otherwise.

**Dose.** A rank-one edit Ŵ = W + Λuᵀ with u ∝ C⁻¹k* and full change δ = Λ(uᵀk₀), exact at k₀ (the prompt's key), returns for any key k

    Ŵk = Wk + β(k) δ,    β(k) = uᵀk / uᵀk₀ = kᵀC⁻¹k* / k₀ᵀC⁻¹k*,

so a query gets the edit in the dose β(k), its whitened similarity to the edited key, and nothing else of the key matters.

**Assumption.** Between dose 0 and dose 1 the logits z_j at a predicted position are affine in β. (They are where what lies above the edited
layer is linear along δ; elsewhere the secant stands for it.)

**Lemma.** Write for an answer a and each rival token j

    ε_j⁰ = z_a − z_j at dose 0,    ε_j¹ = z_a − z_j at dose 1.

The argmax is a at dose β if and only if ε_j⁰ + β (ε_j¹ − ε_j⁰) > 0 for all j, that is for β_min < β < β_max with

    β_min = max over j with ε_j¹ > ε_j⁰ of −ε_j⁰ / (ε_j¹ − ε_j⁰),
    β_max = min over j with ε_j¹ < ε_j⁰ of  ε_j⁰ / (ε_j⁰ − ε_j¹),

an interval, empty where β_min ≥ β_max or where some j with ε_j¹ = ε_j⁰ ≤ 0 is never overtaken. An answer of several tokens, teacher-forced,
is retrieved where all its positions are: the intersection.

- *Robustness*: the edited answer is retrieved for a key k of the subject iff β(k) is in the interval of the target. The target is behind at
  dose 0 and ahead at dose 1, so β_min is in (0, 1): the share of the similarity a rephrased key may lose.
- *Specificity*: an unrelated answer, given at dose 0, stays iff β(k) is in its own interval, which holds 0: |β(k)| must be small.
"""

import torch
from torch import Tensor

from ..memory.delta import Delta

FAR = 1e6
"""Stands for infinity in records, which are JSON."""


def interval(before: Tensor, after: Tensor, answer: Tensor) -> tuple[float, float]:
    """(β_min, β_max): the doses strictly between which every position's argmax is its answer; β_min ≥ β_max where there are none.

    Args:
        before, after: (T, V) logits at dose 0 and at dose 1.
        answer: (T,) token ids.
    """
    before, after = before.double(), after.double()
    at = answer.to(before.device)[:, None]
    start = before.gather(1, at) - before  # ε⁰
    slope = (after.gather(1, at) - after) - start  # ε¹ − ε⁰
    # The answer is no rival of its own: it has nought for both, which would read as never overtaken.
    rival = torch.ones_like(start, dtype=torch.bool).scatter_(1, at, False)
    crossing = -start / slope
    low = crossing[rival & (slope > 0)].max().item() if (rival & (slope > 0)).any() else -FAR
    high = crossing[rival & (slope < 0)].min().item() if (rival & (slope < 0)).any() else FAR
    if (rival & (slope == 0) & (start <= 0)).any():
        return FAR, -FAR
    return max(-FAR, min(FAR, low)), max(-FAR, min(FAR, high))


def doses(delta: Delta, keys: Tensor, exact: Tensor) -> Tensor:
    """(n,) float64: β of keys (n, D) under a rank-one `delta` whose full dose is what the key `exact` (D,) gets."""
    u = delta.right[0].double()
    return keys.double() @ u / (exact.double() @ u)


def full_change(delta: Delta, exact: Tensor) -> Tensor:
    """(d,) float32: δ, what the edit adds to the value of the key `exact` (D,)."""
    return (delta.left[:, 0].double() * (delta.right[0].double() @ exact.double())).float()
