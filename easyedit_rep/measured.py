"""Facts edited one after another, and each measured before and after."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from torch import nn
from tqdm.auto import tqdm

from .edit import Edit
from .evaluation.robustness import evaluate, finish_locality
from .request import EditRequest

if TYPE_CHECKING:
    from .editor import RobustEditor

log = logging.getLogger(__name__)


def edit_and_measure(
    editor: "RobustEditor", requests: Sequence[EditRequest], *, sequential_edit: bool, verbose: bool
) -> tuple[list[dict], nn.Module, list[Edit]]:
    """What `RobustEditor.edit` promises, for requests that are already made."""
    for request in requests:
        editor.check(request)
    editor.unedited.ready()
    queries = [editor.queries(request) for request in requests]
    for request, query in zip(requests, queries, strict=True):
        editor.check(request, queries=query, measured=True)
    metrics = [
        {"case_id": i, "requested_rewrite": asdict(r), "pre": evaluate(editor.anatomy, editor.tok, r, q, editor.hparams.rep.measures)}
        for i, (r, q) in enumerate(zip(requests, queries, strict=True))
    ]
    kept: list[Edit] = []
    try:
        for request, query, row in zip(tqdm(requests, desc="editing", disable=not verbose), queries, metrics, strict=True):
            edit = editor.apply(request, queries=[query])
            kept.append(edit)
            row["time"] = sum(edit.seconds.values())
            row["post"] = evaluate(editor.anatomy, editor.tok, request, query, editor.hparams.rep.measures)
            finish_locality(row["pre"], row["post"])
            edit.metrics = {"pre": row["pre"], "post": row["post"]}
            if not sequential_edit and len(requests) > 1:
                kept.pop().undo()
    except BaseException:  # nobody would have their handles
        for edit in reversed(kept):
            edit.undo()
        raise
    if verbose:
        tqdm.write(outcome(len(kept), len(requests)), file=sys.stderr)
    log.info("the returned model carries %d of %d edits", len(kept), len(requests))
    return metrics, editor.model, kept


def outcome(kept: int, made: int) -> str:
    """One line: what the returned model is, and how to have it otherwise."""
    if kept == 1:
        return "the returned model carries the edit: edits[0].save(folder) keeps it as a file, edits[0].undo() takes it out again"
    if kept:
        return f"the returned model carries all {kept} edits: edits[0].ledger.save(folder) keeps them in a file, edit.undo() takes one out"
    return f"the returned model is the original: each of the {made} edits was measured alone and undone; sequential_edit=True keeps them"
