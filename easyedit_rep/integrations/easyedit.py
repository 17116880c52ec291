"""REP inside EasyEdit: `activate` makes `BaseEditor` know REP."""

import functools
import importlib
import inspect
from collections.abc import Callable

from ..errors import EditError
from ..hparams import REPHyperParams
from ..request import EditRequest
from .contract import NEXT_STEP, part
from .session import Session, apply_rep_to_model


def activate() -> None:
    """Make REP known to EasyEdit: its name, its way back, and robustness among the metrics. Idempotent, and checked before it acts.

    Raises:
        EditError: EasyEdit no longer offers something this relies on.
    """
    editor, utils = "easyeditor.editors.editor", "easyeditor.editors.utils"
    unknown, stuck, unmeasured = "BaseEditor would not know REP", "edits could not be undone", "robustness could not be measured"
    algorithms = part("easyeditor.util.alg_dict", "ALG_DICT", dict, unknown)
    restored_by_call = part(utils, "CALLABLE_RESTORE_ALGS", set, stuck)
    part(editor, "BaseEditor", type, unknown)
    for name, original, breaks in (
        ("ALG_DICT", algorithms, unknown),
        ("restore_after_edit", part(utils, "restore_after_edit", callable, stuck), stuck),
    ):
        if part(editor, name, object, breaks) is not original:
            raise EditError(f"EasyEdit has changed: {editor}.{name} is not the shared one, so {breaks}; {NEXT_STEP}")
    measure = part(editor, "compute_edit_quality", callable, unmeasured)
    missing = {"model", "hparams", "tok", "record"} - set(inspect.signature(measure).parameters)
    if missing:
        names = ", ".join(sorted(missing))
        raise EditError(f"EasyEdit has changed: {editor}.compute_edit_quality has no argument {names}, so {unmeasured}; {NEXT_STEP}")

    algorithms["REP"] = apply_rep_to_model
    restored_by_call.add("REP")
    if not hasattr(measure, "easyedit_rep"):
        importlib.import_module(editor).compute_edit_quality = _with_robustness(measure)


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
