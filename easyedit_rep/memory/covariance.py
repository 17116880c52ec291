"""C, the uncentred second moment of a layer's keys over ordinary text, for all layers in one early-stopping pass.

`C = E[k kᵀ]`, mean over tokens (ROME, section 3.1; ../../README names the corpora). About 10 × D tokens suffice (arXiv 2506.04226).
"""

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
import transformers
from torch import Tensor
from tqdm.auto import tqdm

from ..anatomy import Anatomy
from ..datasets.corpus import Corpus
from ..errors import EditError
from ..version import __version__
from .checkpoint import Checkpoint
from .delta import tensor_digest
from .keys import check_finite, visit_keys
from .linear import gram
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
    def extremes(self) -> tuple[float, float]:
        """Smallest and largest eigenvalue. O(D³)."""
        values = torch.linalg.eigvalsh(self.moment)
        return values[0].item(), values[-1].item()

    @property
    def condition(self) -> float:
        """Largest over smallest eigenvalue; infinite where the smallest is nought but for rounding. O(D³)."""
        smallest, largest = self.extremes
        noise = len(self.moment) * torch.finfo(self.moment.dtype).eps * largest
        return largest / smallest if smallest > noise else math.inf

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

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the moment."""
        return tensor_digest(self.moment)

    def inverse(self) -> Tensor:
        """C⁻¹ (D, D) float64."""
        return torch.cholesky_inverse(self._factor(0.0)[0])


@dataclass(frozen=True, eq=False)
class Sample:
    """The tokens C is made from, chosen once for all layers.

    Attributes:
        rows: token ids of texts, specials included.
        record: where they come from: corpus, its digest, number and digest of the tokens, length cap, seed.
    """

    rows: Sequence[Sequence[int]]
    record: dict

    @classmethod
    def of(cls, anatomy: Anatomy, tok, corpus: Corpus, n_tokens: int, max_length: int = 1024, seed: int = 0) -> "Sample":
        """`n_tokens` tokens of shuffled texts (fewer if the text runs out), each text cut to `max_length` or the model's positions."""
        max_length = min(max_length, anatomy.max_positions)
        rows, total, digest = [], 0, hashlib.sha256()
        for text in corpus.shuffled(seed):
            # Characters bound tokens from above, so long articles are not tokenised whole.
            row = tok(text[: max_length * 8], truncation=True, max_length=max_length)["input_ids"][: n_tokens - total]
            rows.append(row)
            total += len(row)
            digest.update(np.array([*row, -1], dtype="<i8").tobytes())
            if total >= n_tokens:
                break
        # The digest of the tokens last: where a record does not fit, the first difference is named.
        record = {"corpus": corpus.name, "corpus_digest": corpus.digest, "max_length": max_length, "seed": seed}
        return cls(rows, {**record, "tokens": total, "token_digest": digest.hexdigest()})


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
        {layer: Covariance}; each batch's products as `gram` has them, their sum in float64.
    """
    n_tokens = n_tokens or 10 * max(anatomy.key_size(layer) for layer in layers)
    return accumulate(anatomy, Sample.of(anatomy, tok, corpus, n_tokens, max_length, seed), layers, progress=progress)


def made_from(anatomy: Anatomy, sample: Sample, layers: Sequence[int]) -> dict:
    """All that the sums of an unfinished `accumulate` depend on, bit for bit."""
    return {
        "model": _model_name(anatomy),
        "layers": {str(layer): anatomy.fingerprint(layer) for layer in sorted(layers)},
        **sample.record,
        "dtype": str(anatomy.weight(layers[0]).dtype),
        "batch_tokens": token_budget(anatomy.embedding_device),
        "products": "float32" if anatomy.embedding_device.type == "cpu" else "float64",
    }


def accumulate(
    anatomy: Anatomy, sample: Sample, layers: Sequence[int], *, checkpoint: Checkpoint | None = None, progress: bool = True
) -> dict[int, Covariance]:
    """`collect` for tokens that are already chosen.

    Args:
        checkpoint: what was done before a kill is taken from it, and what is done is written to it now and then. It is left for the
            caller to remove, once the result is safe.
    """
    identity = made_from(anatomy, sample, layers)
    sums = {layer: _zeros(anatomy, layer) for layer in layers}
    done = checkpoint.resume(identity, sums) if checkpoint else 0
    groups = list(batches([len(row) for row in sample.rows], token_budget(anatomy.embedding_device)))
    sizes = [sum(len(sample.rows[i]) for i in group) for group in groups]
    total, seen = sum(sizes), sum(sizes[:done])
    with tqdm(total=total, initial=seen, desc="covariance", unit="tok", unit_scale=True, disable=not progress, leave=False) as bar:
        for number, (group, size) in enumerate(zip(groups[done:], sizes[done:], strict=True), done + 1):
            ids, mask = pad([sample.rows[i] for i in group], anatomy.embedding_device)
            visit_keys(anatomy, layers, ids, mask, partial(_add, sums, mask.bool()))
            bar.update(size)
            seen += size
            if checkpoint:
                checkpoint.keep(identity, sums, number, seen)
    common = {"model": _model_name(anatomy), "weights_dtype": identity["dtype"], **sample.record, "versions": _versions()}
    # Divided in place: for all layers of a large model a second copy would not fit.
    return {
        layer: Covariance(moment.div_(total), total, {**common, "layer": layer, "fingerprint": identity["layers"][str(layer)]})
        for layer, moment in sums.items()
    }


def _add(sums: dict[int, Tensor], real: Tensor, layer: int, keys: Tensor) -> None:
    flat = keys[real.to(keys.device)]
    check_finite(flat, layer)
    sums[layer].add_(gram(flat))


def _zeros(anatomy: Anatomy, layer: int) -> Tensor:
    size = anatomy.key_size(layer)
    return torch.zeros(size, size, dtype=torch.float64, device=anatomy.weight(layer).device)


def _model_name(anatomy: Anatomy) -> str:
    return str(getattr(anatomy.model.config, "_name_or_path", ""))


def _versions() -> dict[str, str]:
    return {"easyedit_rep": __version__, "torch": torch.__version__, "transformers": transformers.__version__}
