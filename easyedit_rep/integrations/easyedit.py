"""REP and D4S inside EasyEdit: `activate` makes `BaseEditor` know them, `accept_rep_files` its hyper-parameter classes load REP files."""

import functools
import importlib
import inspect
import logging
from collections.abc import Callable
from pathlib import Path

from ..config import read_yaml
from ..errors import EditError
from ..hparams import KINDS, REPHyperParams, load_hparams
from ..request import EditRequest
from .contract import (
    ALGORITHMS,
    BATCH_EDITOR,
    BATCHABLE,
    EDITOR_POINTS,
    MEASURE,
    RESTORED_BY_CALL,
    SCRIPT_POINTS,
)
from .session import Session, apply_rep_to_model

log = logging.getLogger(__name__)


def activate() -> None:
    """Make REP known to EasyEdit: its name, its way back, its batches, and robustness among the metrics.

    Idempotent, and checked before it acts.

    Raises:
        EditError: EasyEdit no longer offers something this relies on.
    """
    found = {point: point.get() for point in EDITOR_POINTS}
    found[ALGORITHMS].update(dict.fromkeys(KINDS, apply_rep_to_model))
    found[RESTORED_BY_CALL].update(KINDS)
    if not _ours(found[BATCHABLE]):
        found[BATCH_EDITOR].is_batchable_method = staticmethod(_with_rep(found[BATCHABLE]))
    if not _ours(found[MEASURE]):
        importlib.import_module(MEASURE.module).compute_edit_quality = _with_robustness(found[MEASURE])


def accept_rep_files() -> None:
    """Let the hyper-parameter classes of EasyEdit's locate-and-edit methods load REP files too; their own they load as before.

    Idempotent. A class that EasyEdit no longer has is left out with a warning: no script can ask for it.
    """
    for method, point in SCRIPT_POINTS.items():
        try:
            loader = point.get()
        except EditError as error:
            log.warning("%s", error)
            continue
        if not _ours(loader):
            owner = loader.__self__
            owner.from_hparams = classmethod(_with_rep_files(loader.__func__, method))


def _ours(function: Callable) -> bool:
    return hasattr(function, "easyedit_rep")


def _with_rep(is_batchable: Callable) -> Callable:
    """EasyEdit's closed list of methods that `batch_edit` takes, and ours; REP's base may yet write the facts of a batch in turn."""

    @functools.wraps(is_batchable)
    def is_batchable_method(alg_name: str) -> bool:
        return alg_name in KINDS or is_batchable(alg_name)

    is_batchable_method.easyedit_rep = True
    return is_batchable_method


def _with_rep_files(load: Callable, method: str) -> Callable:
    """EasyEdit's `from_hparams` of `method`, which gives our hyper-parameters for a REP or D4S file and for any other is what it was."""

    @functools.wraps(load)
    def from_hparams(cls, hparams_name_or_path):
        if not _is_rep_file(hparams_name_or_path):
            return load(cls, hparams_name_or_path)
        hparams = load_hparams(hparams_name_or_path)
        name, base = Path(hparams_name_or_path).name, hparams.rep.base
        if base == method:
            log.info("%s is a REP file: this is REP around %s", name, base)
        else:
            log.warning("the script asks for %s, but %s says REP around %s, and the file decides", method, name, base)
        return hparams

    from_hparams.easyedit_rep = True
    return from_hparams


def _is_rep_file(path) -> bool:
    """Whether `path` is a YAML with `alg_name: REP` or D4S; one that cannot be read is EasyEdit's to complain about."""
    try:
        return read_yaml(path).get("alg_name") in KINDS
    except (EditError, TypeError, ValueError):
        return False


def _with_robustness(measure: Callable) -> Callable:
    """EasyEdit's `compute_edit_quality`, with `robustness` added for REP; for every other method it is what it was."""
    signature = inspect.signature(measure)

    @functools.wraps(measure)
    def compute_edit_quality(*args, **kwargs):
        metrics = measure(*args, **kwargs)
        given = signature.bind(*args, **kwargs).arguments
        if isinstance(given["hparams"], REPHyperParams):
            session = Session.of(given["model"], given["tok"], given["hparams"])
            request = EditRequest.from_easyedit(given["record"])
            session.editor.check(request)
            metrics["robustness"] = session.robustness(request)
        return metrics

    compute_edit_quality.easyedit_rep = True
    return compute_edit_quality
