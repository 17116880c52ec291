"""Covariance files in EasyEdit's `.npz` layout, with a provenance record (`.json`) beside each.

`{stats_dir}/{model}/{mom2_dataset}_stats/{module}_{mom2_dtype}_mom2_{mom2_n_samples}.npz` holds the SUM of k kᵀ and the token count.
EasyEdit reads our files and we read its; a file that does not belong to the loaded model is refused.
"""

import json
import logging
from pathlib import Path

import numpy as np
import torch

from ..anatomy import Anatomy
from ..errors import EditError
from ..files import NOT_AN_ARCHIVE, replacing
from .covariance import Covariance
from .spot_check import agreement, least_agreement

log = logging.getLogger(__name__)


def statistics_file(stats_dir: str | Path, model_name: str, module: str, dataset: str, dtype: str, n_samples: int) -> Path:
    """EasyEdit's file name for the second moment of the inputs of `module` in the model of that name or path."""
    # EasyEdit takes what follows the last "/", which is empty for a path that ends in one; we do not.
    model = model_name.rstrip("/").rsplit("/")[-1]
    return Path(stats_dir) / model / f"{dataset}_stats" / f"{module}_{dtype}_mom2_{n_samples}.npz"


def statistics_path(stats_dir: str | Path, anatomy: Anatomy, layer: int, dataset: str, dtype: str, n_samples: int) -> Path:
    """EasyEdit's file name for the second moment of `layer`."""
    return statistics_file(stats_dir, str(anatomy.model.config._name_or_path), anatomy.rewrite_name(layer), dataset, dtype, n_samples)


def save_statistics(path: Path, covariance: Covariance, dtype: str, n_samples: int) -> None:
    """Write `covariance` atomically: the data last, so that a kill leaves no data file without its record.

    Raises:
        EditError: it cannot be written.
    """
    moment = (covariance.moment * covariance.count).to(getattr(torch, dtype)).cpu().numpy()
    arrays = {
        "mom2.constructor": np.array("util.runningstats.SecondMoment()"),
        "mom2.count": np.array(covariance.count),
        "mom2.mom2": moment,
        "sample_size": np.array(n_samples),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as data:
            with data.open("wb") as file:
                np.savez(file, **arrays)
            with replacing(path.with_suffix(".json")) as record:
                record.write_text(json.dumps(covariance.provenance, indent=1))
                path.unlink(missing_ok=True)  # the data of before must never stand beside this record
    except OSError as error:
        raise EditError(f"cannot write statistics {path}: {error}") from error


def load_statistics(path: Path, anatomy: Anatomy, layer: int, tok=None) -> Covariance:
    """Read a second moment and check that it is one of this model's layer.

    Args:
        tok: with it a file without a record, such as EasyEdit's own, is compared with what the model does on a little text.

    Raises:
        EditError: unreadable, of the wrong size, not a second moment, not what its name says, or of other weights.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            total, count, n_samples = data["mom2.mom2"], int(data["mom2.count"]), int(data["sample_size"])
    except NOT_AN_ARCHIVE as error:
        raise EditError(f"statistics {path} cannot be read ({error}): delete the file to have it made again") from error
    size = anatomy.key_size(layer)
    if total.shape != (size, size):
        raise EditError(f"statistics {path} are {total.shape}, layer {layer} has keys of length {size}: they belong to another model")
    if count <= 0 or not _is_second_moment(total):
        raise EditError(f"statistics {path} are not a second moment (count {count}): delete the file to have it made again")
    named = samples_named(path)
    if named not in (None, n_samples):
        raise EditError(f"statistics {path} are of {n_samples} samples, not the {named} of their name: delete or rename the file")
    provenance = read_record(path)
    covariance = Covariance(torch.from_numpy(total).double() / count, count, provenance or {})
    if provenance is None:
        _check_without_record(path, covariance, n_samples, anatomy, layer, tok)
        return covariance
    if provenance.get("fingerprint") != anatomy.fingerprint(layer):
        _check_other_dtype(path, covariance, anatomy, layer, tok)
    if provenance.get("tokens", count) != count:
        raise EditError(f"statistics {path} are of {count} tokens, their record says {provenance['tokens']}: delete both files")
    return covariance


def _check_other_dtype(path: Path, covariance: Covariance, anatomy: Anatomy, layer: int, tok) -> None:
    """Of weights that are not those of the record: refuse them, unless they are of another dtype and behave alike.

    A checkpoint in float16 is not the same numbers in float32 and in bfloat16; C is, to three digits.
    """
    made_in, dtype = covariance.provenance.get("weights_dtype"), str(anatomy.weight(layer).dtype)
    if tok is not None and made_in not in (None, dtype):
        found, least = agreement(covariance.moment, anatomy, tok, layer), least_agreement(len(covariance.moment))
        if found >= least:
            log.info("statistics %s were made in %s, the model is in %s: they agree (%.2f)", path, made_in, dtype, found)
            return
    raise EditError(
        f"statistics {path} were made from {covariance.provenance.get('model')!r} with other weights than the loaded model's"
        f"{'' if made_in else ', or in another dtype'}: set another stats_dir, or delete {path} and {path.with_suffix('.json').name}"
    )


def samples_named(path: Path) -> int | None:
    """mom2_n_samples as a statistics file's name has it; None for a name that has none."""
    end = path.stem.rpartition("_mom2_")[2]
    return int(end) if end.isdigit() else None


def read_record(path: Path) -> dict | None:
    """What the statistics in `path` were made from; None where there is no record, as beside EasyEdit's own files.

    Raises:
        EditError: there is a record, and it cannot be read.
    """
    record = path.with_suffix(".json")
    if not record.is_file():
        return None
    try:
        return dict(json.loads(record.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise EditError(f"record {record} of statistics {path} cannot be read ({error}): delete both to have them made again") from error


def _is_second_moment(total: np.ndarray) -> bool:
    """Whether a sum of k kᵀ could be this: finite, symmetric, and no entry beyond Cauchy-Schwarz (O(D²); eigenvalues would be O(D³))."""
    diagonal = total.diagonal().astype(np.float64)
    if not np.isfinite(total).all() or (diagonal < 0).any():
        return False
    slack = 1e-3 * diagonal.max()
    bound = np.sqrt(diagonal)
    return np.allclose(total, total.T, rtol=1e-3, atol=slack) and all(
        (np.abs(row) <= 1.001 * bound * limit + slack).all() for row, limit in zip(total, bound, strict=True)
    )


def _check_without_record(path: Path, covariance: Covariance, n_samples: int, anatomy: Anatomy, layer: int, tok) -> None:
    longest = min(anatomy.max_positions, 2**20)
    if covariance.count > n_samples * longest:
        raise EditError(
            f"statistics {path} claim {covariance.count} tokens from {n_samples} texts of at most {longest}: "
            "delete the file to have it made again"
        )
    if tok is None:
        log.warning("statistics %s carry no provenance record: their model and corpus are taken on trust", path)
        return
    found, least = agreement(covariance.moment, anatomy, tok, layer), least_agreement(len(covariance.moment))
    if found < least:
        raise EditError(
            f"statistics {path} are not of layer {layer} of the loaded model: their correlations agree with its own by {found:.2f}, "
            f"at least {least:.2f} is expected; set another stats_dir, or delete the file"
        )
    log.warning("statistics %s carry no provenance record: they agree with the model (%.2f), their corpus is taken on trust", path, found)
