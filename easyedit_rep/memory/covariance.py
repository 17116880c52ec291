"""C, the uncentred second moment of a layer's keys over ordinary text, for all layers in one early-stopping pass.

`C = E[k kᵀ]`, mean over tokens (ROME, section 3.1; ../../README names the corpora). About 10 × D tokens suffice (arXiv 2506.04226).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import transformers
from torch import Tensor
from tqdm.auto import tqdm

from ..anatomy import Anatomy
from ..datasets.corpus import Corpus
from ..errors import EditError
from ..version import __version__
from .keys import check_finite, forward_keys
from .tokens import batches, pad, token_budget

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Covariance:
    """Second moment of the keys of one layer.

    Attributes:
        moment: (D, D) float64, mean of k kᵀ over tokens.
        count: number of tokens.
        provenance: what it was made from; written beside the cache file.
    """

    moment: Tensor
    count: int
    provenance: dict = field(default_factory=dict)

    @property
    def ridge(self) -> float:
        """What is added to the diagonal before inversion: 0 for a well-conditioned C."""
        return self._factor(0.0)[1]

    @cached_property
    def _factors(self) -> dict[float, tuple[Tensor, float]]:
        return {}

    def _factor(self, extra: float) -> tuple[Tensor, float]:
        """Cholesky factor of C + (extra + ridge)·I, and the ridge it took; computed once for each `extra`."""
        if extra not in self._factors:
            self._factors[extra] = self._decompose(extra)
        return self._factors[extra]

    def _decompose(self, extra: float) -> tuple[Tensor, float]:
        size = self.moment.shape[0]
        scale = self.moment.diagonal().mean().item()
        eye = torch.eye(size, dtype=self.moment.dtype, device=self.moment.device)
        for relative in (0.0, *(10.0**e for e in range(-9, 0))):
            lower, info = torch.linalg.cholesky_ex(self.moment + (extra + relative * scale) * eye)
            diagonal = lower.diagonal()
            # A pivot this small is rounding error, not information: solving with it would be silent garbage.
            if info == 0 and diagonal.min() > 1e-6 * diagonal.max():
                if relative:
                    log.warning(
                        "covariance of %d keys of length %d is singular: added a ridge of %.0e × mean diagonal", self.count, size, relative
                    )
                return lower, relative * scale
        raise EditError(f"covariance of {self.count} keys of length {size} cannot be inverted: collect it again from more text")

    def solve(self, keys: Tensor, extra: float = 0.0) -> Tensor:
        """(C + extra·I)⁻¹k for keys (D,) or (n, D), in the keys' dtype and on their device."""
        lower, _ = self._factor(extra)
        columns = keys.to(lower).reshape(-1, lower.shape[0]).T
        return torch.cholesky_solve(columns, lower).T.reshape(keys.shape).to(keys)

    def inverse(self) -> Tensor:
        """C⁻¹ (D, D) float64."""
        return torch.cholesky_inverse(self._factor(0.0)[0])


def _rows(tok, corpus: Corpus, n_tokens: int, max_length: int, seed: int) -> list[list[int]]:
    """Token ids of shuffled texts, specials included, each cut to `max_length`, `n_tokens` in all (fewer if the text runs out)."""
    rows, total = [], 0
    for text in corpus.shuffled(seed):
        # Characters bound tokens from above, so long articles are not tokenised whole.
        row = tok(text[: max_length * 8], truncation=True, max_length=max_length)["input_ids"][: n_tokens - total]
        rows.append(row)
        total += len(row)
        if total >= n_tokens:
            break
    return rows


def collect(
    anatomy: Anatomy,
    tok,
    corpus: Corpus,
    layers: Sequence[int],
    *,
    n_tokens: int | None = None,
    max_length: int = 1024,
    seed: int = 0,
    progress: bool = True,
) -> dict[int, Covariance]:
    """Second moments of the keys of `layers`, all in one pass over the text that stops after the last of them.

    Args:
        n_tokens: tokens to read; default 10 × D.
        max_length: longest text in tokens, capped at the model's positions.

    Returns:
        {layer: Covariance}, accumulated in float64.
    """
    size = max(anatomy.key_size(layer) for layer in layers)
    max_length = min(max_length, anatomy.max_positions)
    rows = _rows(tok, corpus, n_tokens or 10 * size, max_length, seed)
    sums: dict[int, Tensor] = {}
    total = sum(map(len, rows))
    with tqdm(total=total, desc="covariance", unit="tok", unit_scale=True, disable=not progress, leave=False) as bar:
        for group in batches([len(row) for row in rows], token_budget(anatomy.embedding_device)):
            ids, mask = pad([rows[i] for i in group], anatomy.embedding_device)
            for layer, keys in forward_keys(anatomy, layers, ids, mask).items():
                flat = keys[mask.to(keys.device).bool()].double()
                check_finite(flat, layer)
                if layer not in sums:
                    sums[layer] = flat.new_zeros(flat.shape[1], flat.shape[1])
                sums[layer].addmm_(flat.T, flat)
            bar.update(sum(len(rows[i]) for i in group))
    return {
        layer: Covariance(
            moment / total,
            total,
            {
                "model": str(getattr(anatomy.model.config, "_name_or_path", "")),
                "fingerprint": anatomy.fingerprint(layer),
                "layer": layer,
                "corpus": corpus.name,
                "corpus_digest": corpus.digest,
                "tokens": total,
                "max_length": max_length,
                "seed": seed,
                "versions": {"easyedit_rep": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
            },
        )
        for layer, moment in sums.items()
    }
