"""The memory of a sequence in one layer: recursive least squares over all (k, r) pairs written so far.

After the pairs K (n, D), R (n, d) the change of W that fits them best against ordinary text (D4S, Eq. 8 to 11, with λC kept in) is

    Δ = Rᵀ K P,   P = (λC + KᵀK)⁻¹

whatever their order. A new pair moves it by (r − Δk)(Pk)ᵀ / (1 + kᵀPk), which costs a few reads of P where the released code solves a
D × D system; taking a pair out is the same with the signs turned.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ..errors import EditError
from ..memory.covariance import Covariance

Form = Literal["auto", "pairs", "recursive"]


class LayerState:
    """Δ and what is needed to move it.

    P is held as a dense (D, D) `inverse` of λC plus the pairs *folded* into it, and the *pending* pairs beside it, through the n × n
    identity of Woodbury. Never folding is the `pairs` form: n (2D + n) numbers, any pair comes out without loss. Folding in small
    blocks is the `recursive` form: memory does not grow. `auto` folds once the pending pairs are a sixteenth of P.

    Attributes:
        change: (d, D) Δ, always current.
        inverse: (D, D).
        fold_at: pending pairs at which they are folded; None for never. May be changed at any time.
        count: pairs held.
        folded: `inverse` is no longer that of λC alone.
    """

    def __init__(self, inverse: Tensor, value_size: int, fold_at: int | None):
        size = inverse.shape[0]
        # Row-major, as files are: an inverse comes column-major, and products round by layout.
        self.inverse, self.fold_at, self.count, self.folded = inverse.contiguous(), fold_at, 0, False
        self.change = inverse.new_zeros(value_size, size)
        self._clear()

    @classmethod
    def of(
        cls,
        covariance: Covariance,
        weight: float,
        value_size: int,
        form: Form = "auto",
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> "LayerState":
        """An empty memory over `weight` · C."""
        size = covariance.moment.shape[0]
        fold_at = {"pairs": None, "recursive": 32, "auto": max(32, size // 32)}[form]
        return cls((covariance.inverse() / weight).to(device, dtype), value_size, fold_at)

    def _clear(self) -> None:
        size = self.inverse.shape[0]
        self._keys = _Rows(self.inverse.new_empty(0, size))
        self._whitened = _Rows(self.inverse.new_empty(0, size))  # keys @ inverse
        self._residuals = _Rows(self.inverse.new_empty(0, len(self.change)))
        self._lower = self.inverse.new_empty(0, 0)  # Cholesky factor of I + keys @ whitenedᵀ

    def gain(self, keys: Tensor) -> Tensor:
        """(m, D): keys (m, D) times P."""
        return self._project(keys, keys @ self.inverse)

    def _project(self, keys: Tensor, whitened: Tensor) -> Tensor:
        """keys @ P from keys @ inverse."""
        if not len(self._lower):
            return whitened
        met = self._whitened.rows @ keys.T
        return whitened - torch.cholesky_solve(met, self._lower).T @ self._whitened.rows

    def step(self, keys: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor]:
        """Factors (d, m), (m, D) of what `append` would add to `change`; nothing is changed."""
        keys, residuals = keys.to(self.inverse), residuals.to(self.inverse)
        return self._factors(keys, residuals, self.gain(keys), 1.0)

    def _factors(self, keys: Tensor, residuals: Tensor, gain: Tensor, sign: float) -> tuple[Tensor, Tensor]:
        small = torch.eye(len(keys), dtype=gain.dtype, device=gain.device) + sign * (keys @ gain.T)
        missing = residuals - keys @ self.change.T
        return sign * torch.linalg.solve(small, missing).T, gain

    def append(self, keys: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor]:
        """Write pairs: keys (m, D), residuals (m, d), the change of value wanted at each. Returns the factors of Δ's own change."""
        keys, residuals = keys.to(self.inverse), residuals.to(self.inverse)
        whitened = keys @ self.inverse
        left, right = self._factors(keys, residuals, self._project(keys, whitened), 1.0)
        self._grow(keys, whitened, residuals)
        self.change.addmm_(left, right)
        self.count += len(keys)
        if self.fold_at is not None and len(self._lower) >= self.fold_at:
            self.fold()
        return left, right

    def _grow(self, keys: Tensor, whitened: Tensor, residuals: Tensor) -> None:
        """Add pending pairs: the Cholesky factor gets their rows."""
        n, m = len(self._lower), len(keys)
        across = self._keys.rows @ whitened.T
        low = torch.linalg.solve_triangular(self._lower, across, upper=False) if n else across
        corner = torch.eye(m, dtype=keys.dtype, device=keys.device) + keys @ whitened.T - low.T @ low
        grown = self._lower.new_zeros(n + m, n + m)
        grown[:n, :n], grown[n:, :n], grown[n:, n:] = self._lower, low.T, torch.linalg.cholesky((corner + corner.T) / 2)
        self._lower = grown
        for rows, new in ((self._keys, keys), (self._whitened, whitened), (self._residuals, residuals)):
            rows.append(new)

    def fold(self) -> None:
        """Take the pending pairs into `inverse`, in one product."""
        if len(self._lower):
            root = torch.linalg.solve_triangular(self._lower, self._whitened.rows, upper=False)
            self.inverse.addmm_(root.T, root, alpha=-1)
            self.folded = True
            self._clear()

    def reset(self) -> bool:
        """Forget everything, where that is possible without a new inverse; returns whether it was."""
        if not self.folded:
            self._clear()
            self.change.zero_()
            self.count = 0
        return not self.folded

    def remove(self, keys: Tensor, residuals: Tensor) -> float:
        """Take pairs out again, wherever in the sequence they are. They must be the ones that were appended.

        Returns:
            between 0 and 1: the smallest share of a pair's direction that the others leave to the text. Digits are lost in its
            proportion; a caller that still has all pairs should fill a new state where it is tiny.

        Raises:
            EditError: this memory cannot hold them.
        """
        keys, residuals = keys.to(self.inverse), residuals.to(self.inverse)
        pending = self._find(keys, residuals)
        if pending is None:
            self.fold()
        gain = self.gain(keys)
        small = torch.eye(len(keys), dtype=gain.dtype, device=gain.device) - keys @ gain.T
        margin = torch.linalg.eigvalsh((small + small.T) / 2).min().item()
        if len(keys) > self.count or margin <= 0:
            raise EditError("a pair that this sequence does not hold cannot be taken out of it")
        if margin > 1 + 1e-6:  # kᵀPk cannot be negative: rounding has eaten it
            margin = 0.0
        left, right = self._factors(keys, residuals, gain, -1.0)
        self.change.addmm_(left, right)
        self.count -= len(keys)
        if pending is None:
            self.inverse.addmm_(gain.T, torch.linalg.solve(small, gain))
        else:
            self._forget(pending)
        return margin

    def _find(self, keys: Tensor, residuals: Tensor) -> list[int] | None:
        """Where these pairs are among the pending ones; None unless all of them are."""
        found: list[int] = []
        for key, residual in zip(keys, residuals, strict=True):
            same = (self._keys.rows == key).all(1) & (self._residuals.rows == residual).all(1)
            left = [i for i in same.nonzero().squeeze(1).tolist() if i not in found]
            if not left:
                return None
            found.append(left[0])
        return found

    def _forget(self, pairs: list[int]) -> None:
        """Drop pending pairs; the factor of the others is made anew, so that it is the one of a sequence without them."""
        keep = torch.ones(len(self._lower), dtype=torch.bool, device=self.inverse.device)
        keep[pairs] = False
        rows = [rows.rows[keep] for rows in (self._keys, self._whitened, self._residuals)]
        self._clear()
        if len(rows[0]):
            self._grow(*rows)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything, bit for bit: a state loaded from it goes on exactly as this one would."""
        inverse = {"inverse": self.inverse} if self.folded else {}  # else it follows from C
        return {
            **inverse,
            "change": self.change,
            "keys": self._keys.rows,
            "whitened": self._whitened.rows,
            "residuals": self._residuals.rows,
            "lower": self._lower,
            "count": torch.tensor(self.count),
        }

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Become the state that gave `tensors`."""
        if tensors["change"].shape != self.change.shape:
            raise EditError(f"a state of {tuple(tensors['change'].shape)} does not fit a layer of {tuple(self.change.shape)}")
        place = {"device": self.inverse.device, "dtype": self.inverse.dtype}
        self.change, self._lower = (tensors[name].to(**place).clone() for name in ("change", "lower"))
        self.folded = "inverse" in tensors
        if self.folded:
            self.inverse = tensors["inverse"].to(**place).clone()
        # Cloned, also where nothing else asks for it: what lies in a mapped file is not aligned, and products round by alignment.
        self._keys, self._whitened, self._residuals = (_Rows(tensors[n].to(**place).clone()) for n in ("keys", "whitened", "residuals"))
        self.count = int(tensors["count"])


class _Rows:
    """A matrix that rows are appended to, at the cost of the rows."""

    def __init__(self, rows: Tensor):
        self._data, self._n = rows, len(rows)

    @property
    def rows(self) -> Tensor:
        return self._data[: self._n]

    def append(self, rows: Tensor) -> None:
        wanted = self._n + len(rows)
        if wanted > len(self._data):
            grown = self._data.new_empty(max(wanted, 2 * self._n, 16), self._data.shape[1])
            grown[: self._n] = self.rows
            self._data = grown
        self._data[self._n : wanted] = rows
        self._n = wanted
