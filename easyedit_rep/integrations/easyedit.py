"""REP and D4S inside EasyEdit: `activate` makes `BaseEditor` know them, `accept_rep_files` its hyper-parameter classes load REP files."""

import functools
import importlib
import inspect
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from ..config import read_yaml
from ..errors import EditError
from ..evaluation.metrics import robustness_means
from ..hparams import KINDS, REPHyperParams, load_hparams
from ..request import EditRequest
from .contract import (
    ALGORITHMS,
    BATCH_EDITOR,
    BATCHABLE,
    EDITOR_POINTS,
    MEASURE,
    REQUESTS,
    RESTORED_BY_CALL,
    SCRIPT_POINTS,
    SUMMARY,
)
from .robustness import KEY, Robustness, compare_negatives, without_key
from .session import Session, apply_rep_to_model

log = logging.getLogger(__name__)

OURS = "easyedit_rep"
"""Attribute of a function that stands in the place of EasyEdit's, which it holds."""

COLUMNS = ("subject_rephrase", "long_context")
"""What `BaseEditor.edit` may be given beside EasyEdit's own."""


def activate(always: Robustness | None = None) -> None:
    """Make REP known to EasyEdit: its name, its way back, its batches, and robustness among the metrics and in their summary.

    Idempotent, and checked before it acts.

    Args:
        always: measure this of every edit in this process, of methods too that did not ask for it. It stays until another is given.

    Raises:
        EditError: EasyEdit no longer offers something this relies on.
    """
    found = {point: point.get() for point in EDITOR_POINTS}
    found[ALGORITHMS].update(dict.fromkeys(KINDS, apply_rep_to_model))
    found[RESTORED_BY_CALL].update(KINDS)
    if not _ours(found[BATCHABLE]):
        found[BATCH_EDITOR].is_batchable_method = staticmethod(_with_rep(found[BATCHABLE]))
    editor = importlib.import_module(MEASURE.module)
    if not _ours(found[REQUESTS]):
        editor._prepare_requests = _with_columns(found[REQUESTS])
    if not _ours(found[MEASURE]) or always:
        editor.compute_edit_quality = _with_robustness(getattr(found[MEASURE], OURS, found[MEASURE]), always)
    if not _ours(found[SUMMARY]):
        editor.summary_metrics = _with_robustness_told(found[SUMMARY])


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
    return hasattr(function, OURS)


def _with_columns(prepare: Callable) -> Callable:
    """EasyEdit's making of requests out of columns, with `subject_rephrase` and `long_context`, a list for each prompt, among them."""

    @functools.wraps(prepare)
    def prepare_requests(prompts, *args, **columns):
        ours = {name: columns.pop(name) for name in COLUMNS if columns.get(name) is not None}
        requests = prepare(prompts, *args, **columns)
        for name, column in ours.items():
            if len(column) != len(requests):
                raise EditError(f"{name} has {len(column)} entries for {len(requests)} prompts: give a list for each")
            for request, entry in zip(requests, column, strict=True):
                request[name] = entry
        return requests

    setattr(prepare_requests, OURS, prepare)
    return prepare_requests


def _with_rep(is_batchable: Callable) -> Callable:
    """EasyEdit's closed list of methods that `batch_edit` takes, and ours; REP's base may yet write the facts of a batch in turn."""

    @functools.wraps(is_batchable)
    def is_batchable_method(alg_name: str) -> bool:
        return alg_name in KINDS or is_batchable(alg_name)

    setattr(is_batchable_method, OURS, is_batchable)
    return is_batchable_method


def _with_rep_files(load: Callable, method: str) -> Callable:
    """EasyEdit's `from_hparams` of `method`, which gives our hyper-parameters for a REP or D4S file and for any other is what it was."""

    @functools.wraps(load)
    def from_hparams(cls, hparams_name_or_path):
        if not _is_rep_file(hparams_name_or_path):
            return without_key(hparams_name_or_path, functools.partial(load, cls))
        hparams = load_hparams(hparams_name_or_path)
        name, base = Path(hparams_name_or_path).name, hparams.rep.base
        if base == method:
            log.info("%s is a REP file: this is REP around %s", name, base)
        else:
            log.warning("the script asks for %s, but %s says REP around %s, and the file decides", method, name, base)
        return hparams

    setattr(from_hparams, OURS, load)
    return from_hparams


def _is_rep_file(path) -> bool:
    """Whether `path` is a YAML with `alg_name: REP` or D4S; one that cannot be read is EasyEdit's to complain about."""
    try:
        return read_yaml(path).get("alg_name") in KINDS
    except (EditError, TypeError, ValueError):
        return False


def _with_robustness(measure: Callable, always: Robustness | None) -> Callable:
    """EasyEdit's `compute_edit_quality`, with `robustness` added for REP and where it was asked for; else it is what it was."""
    signature = inspect.signature(measure)

    @functools.wraps(measure)
    def compute_edit_quality(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        given, hparams = bound.arguments, bound.arguments["hparams"]
        if not isinstance(hparams, REPHyperParams):
            metrics = measure(*args, **kwargs)
            if asked := getattr(hparams, KEY, None) or always:
                metrics[KEY] = asked(given["model"], given["tok"], given["record"])
            return metrics
        # EasyEdit puts a space before every target; one that begins with a space of its own is edited without it.
        given["record"] = {**given["record"], "target_new": str(given["record"]["target_new"]).strip()}
        session = Session.of(given["model"], given["tok"], hparams)
        request = EditRequest.from_easyedit(given["record"])
        session.editor.check(request, queries=session.queries(request), measured=True)
        metrics = measure(*bound.args, **bound.kwargs)
        metrics[KEY] = session.robustness(request)
        return metrics

    setattr(compute_edit_quality, OURS, measure)
    return compute_edit_quality


def _with_robustness_told(summarise: Callable) -> Callable:
    """EasyEdit's `summary_metrics`, which then also prints the means of `robustness`, over all questions, in percent."""

    @functools.wraps(summarise)
    def summary_metrics(all_metrics):
        summarise(all_metrics)
        rows = [all_metrics] if isinstance(all_metrics, Mapping) else all_metrics
        for row in rows:
            compare_negatives(row)
        found = {when: [row[when] for row in rows if KEY in row.get(when, {})] for when in ("pre", "post")}
        if any(found.values()):
            print("Robustness Summary: ", {when: robustness_means(measured) for when, measured in found.items()})

    setattr(summary_metrics, OURS, summarise)
    return summary_metrics
