"""A long sequence of edits, watched: norms and probabilities after each, what is left of all of them now and then."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from ..bench.journal import Journal
from ..edit import Edit
from ..editor import RobustEditor
from ..errors import EditError
from ..evaluation.ability import AbilityTasks, measure_ability
from ..evaluation.perplexity import target_perplexities, text_perplexity
from ..evaluation.sequence import baseline, measure
from ..request import EditRequest
from .store import load_sequence, save_sequence

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watch:
    """What is measured when.

    Attributes:
        checkpoints: numbers of edits after which all edits so far are evaluated; the last one always is.
        robustness: ask the rephrased, shuffled and long-context queries too.
        held_out: texts whose perplexity is taken at every checkpoint.
        tasks: of lm-evaluation-harness, run at every checkpoint.
        save_every: edits between two saves of the sequence (D4S).
    """

    checkpoints: Sequence[int] = ()
    robustness: bool = False
    held_out: Sequence[str] = ()
    save_every: int = 10
    tasks: AbilityTasks | None = None


def edit_sequence(
    editor: RobustEditor,
    requests: Sequence[EditRequest],
    out: Path,
    watch: Watch,
    provenance: dict,
    batch: int = 1,
    progress: bool = True,
) -> Path:
    """Edit `requests` one after another (or `batch` at once), all staying, and return the journal's path.

    Records: {"edit": i, "norms", "probability", "info", "seconds"} after each edit; {"after": n, "perplexity", "ability", "norms",
    "rows"} at each checkpoint.
    A D4S sequence is saved under `out` and taken up there, bit for bit; another method begins anew, in a new journal.
    """
    for request in requests:
        editor.check(request, queries=editor.queries(request) if watch.robustness else None, measured=True)
    if watch.tasks:
        watch.tasks.check()
    editor.unedited.ready()
    resumable = bool(getattr(editor.hparams.method, "d4s", None))
    with Journal(out / "sequence.jsonl", {**provenance, "batch": batch, "requests": len(requests)}) as journal:
        return _edit(editor, requests, out, watch, journal, resumable, batch, progress)


def _edit(
    editor: RobustEditor,
    requests: Sequence[EditRequest],
    out: Path,
    watch: Watch,
    journal: Journal,
    resumable: bool,
    batch: int,
    progress: bool,
) -> Path:
    before = baseline(editor.anatomy, editor.tok, requests)
    if resumable and (out / "sequence.json").exists():
        load_sequence(editor.sequence, out)
        _same_requests(editor.sequence.edits, requests)
    elif journal.records and not resumable:
        raise EditError(f"{journal.path} holds a run that cannot be taken up (only D4S can): choose another --out, or move it away")
    edits = list(editor.sequence.edits) if resumable else []
    # What was written after the last save is made again, with the same result, and not noted twice.
    noted = {("edit", r["edit"]) if "edit" in r else ("after", r["after"]) for r in journal.records}
    missing = [n for n in range(1, len(edits) + 1) if ("edit", n) not in noted]
    if missing:
        raise EditError(
            f"{out} holds a saved sequence of {len(edits)} edits, and {journal.path.name} says nothing of edit {missing[0]}: "
            "put that file back, move the whole folder away, or choose another --out"
        )
    queries = [editor.queries(request) for request in requests] if watch.robustness else None

    def note(kind: str, number: int, make: Callable[[], dict]) -> None:
        if (kind, number) not in noted:
            journal.add([{kind: number, **make()}])

    wanted = {n for n in watch.checkpoints if n < len(requests)} | {len(requests)}
    done = sum(len(edit.requests) for edit in edits)
    with tqdm(total=len(requests), initial=done, desc="sequence", unit="edit", disable=not progress) as bar:
        while True:
            if done in wanted and edits:
                note("after", done, lambda n=done: _checkpoint(editor, requests[:n], before, queries, watch))
            if done >= len(requests):
                break
            upto = min(done + batch, min(n for n in wanted if n > done))  # a batch ends where a checkpoint is due
            edit = editor.apply(*requests[done:upto], queries=queries[done:upto] if queries else ())
            edits.append(edit)
            done += len(edit.requests)
            norms = edit.info.get("norms") or editor.norms()
            note("edit", len(edits), lambda e=edit, n=norms: {"norms": n, "probability": _said(editor, e), **_numbers(e)})
            bar.update(len(edit.requests))
            bar.set_postfix({f"|W{i}|": f"{norm['weight']:.5f}" for i, norm in list(norms.items())[:2]})
            if resumable and (len(edits) % watch.save_every == 0 or done >= len(requests)):
                save_sequence(editor.sequence, out)
    return journal.path


def _numbers(edit: Edit) -> dict:
    return {"info": edit.info["base"], "seconds": edit.seconds}


def _said(editor: RobustEditor, edit: Edit) -> list[float]:
    """What the model, as it is now, gives each of the edit's targets: its probability a token, 1 over its perplexity."""
    asked = [request.text for request in edit.requests], [request.target_new for request in edit.requests]
    return [1 / perplexity for perplexity in target_perplexities(editor.anatomy, editor.tok, *asked)]


def _checkpoint(editor, requests, before, queries, watch: Watch) -> dict:
    rows = measure(editor.anatomy, editor.tok, requests, before, queries[: len(requests)] if queries else None)
    perplexity = text_perplexity(editor.anatomy, editor.tok, watch.held_out) if watch.held_out else None
    ability = measure_ability(editor.model, editor.tok, watch.tasks) if watch.tasks else {}
    return {"perplexity": perplexity, "ability": ability, "norms": editor.norms(), "rows": rows}


def _same_requests(edits: Sequence[Edit], requests: Sequence[EditRequest]) -> None:
    found = [request for edit in edits for request in edit.requests]
    for i, (old, new) in enumerate(zip(found, requests, strict=False)):
        if (old.text, old.target_new) != (new.text, new.target_new):
            raise EditError(f"the saved sequence has {old.text!r} as edit {i}, not {new.text!r}: choose another --out, or move it away")
    if len(found) > len(requests):
        raise EditError(f"the saved sequence has {len(found)} edits, {len(requests)} were asked for: ask for more, or choose another --out")
