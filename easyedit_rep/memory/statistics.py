"""Covariance files in EasyEdit's `.npz` layout, with a provenance record (`.json`) beside each.

`{stats_dir}/{model}/{mom2_dataset}_stats/{module}_{mom2_dtype}_mom2_{mom2_n_samples}.npz` holds the SUM of k kᵀ and the token count.
EasyEdit reads our files and we read its; a file that does not belong to the loaded model is refused.
"""

import json
import logging
import os
import zipfile
from pathlib import Path

import numpy as np
import torch

from ..anatomy import Anatomy
from ..errors import EditError
from .covariance import Covariance

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
    """Write `covariance` atomically: the data last, so that a kill leaves no data file without its record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    moment = (covariance.moment * covariance.count).to(getattr(torch, dtype)).cpu().numpy()
    arrays = {
        "mom2.constructor": np.array("util.runningstats.SecondMoment()"),
        "mom2.count": np.array(covariance.count),
        "mom2.mom2": moment,
        "sample_size": np.array(n_samples),
    }
    scratch = path.with_suffix(f".tmp{os.getpid()}.npz")
    record = path.with_suffix(".json")
    try:
        np.savez(scratch, **arrays)
        record.with_suffix(f".tmp{os.getpid()}").write_text(json.dumps(covariance.provenance, indent=1))
        record.with_suffix(f".tmp{os.getpid()}").replace(record)
        scratch.replace(path)
    except OSError as error:
        raise EditError(f"cannot write statistics {path}: {error}") from error
    finally:
        scratch.unlink(missing_ok=True)
        record.with_suffix(f".tmp{os.getpid()}").unlink(missing_ok=True)


def load_statistics(path: Path, anatomy: Anatomy, layer: int) -> Covariance:
    """Read a second moment and check that it is one of this model's layer.

    Raises:
        EditError: unreadable, of the wrong size, not a second moment, or recorded for other weights.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            total, count = data["mom2.mom2"], int(data["mom2.count"])
    except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise EditError(f"statistics {path} cannot be read ({error}): delete the file to have it made again") from error
    size = anatomy.key_size(layer)
    if total.shape != (size, size):
        raise EditError(f"statistics {path} are {total.shape}, layer {layer} has keys of length {size}: they belong to another model")
    diagonal = total.diagonal()
    if (
        count <= 0
        or not np.isfinite(total).all()
        or (diagonal < 0).any()
        or not np.allclose(total, total.T, rtol=1e-3, atol=1e-3 * diagonal.max())
    ):
        raise EditError(f"statistics {path} are not a second moment (count {count}): delete the file to have it made again")
    record = path.with_suffix(".json")
    provenance = {}
    if record.is_file():
        try:
            provenance = dict(json.loads(record.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise EditError(
                f"record {record} of statistics {path} cannot be read ({error}): delete both to have them made again"
            ) from error
        if provenance.get("fingerprint") != anatomy.fingerprint(layer):
            raise EditError(
                f"statistics {path} were made from {provenance.get('model')!r} with other weights than the loaded model's: "
                f"set another stats_dir, or delete {path} and {record.name}"
            )
    else:
        log.warning("statistics %s carry no provenance record: their model and corpus are taken on trust", path)
    return Covariance(torch.from_numpy(total).double() / count, count, provenance)
