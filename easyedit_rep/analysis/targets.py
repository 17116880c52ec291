"""Which edit targets damage a model (D4S, Figure 3 and section 3.3): MQD's three types, edited one after another with one method.

Records, each with its `question` (the type):

    {"index", "prompt", "target_new", "perplexity"}    a target's perplexity on the unedited model (Eq. 1), before any edit of its type
    {"edit": i, "index", "norms", "probability"}       after each edit: mean |w| of every edited layer; the target's probability a token
    {"after": i, "held_out", "efficacy"}               now and then, from 0 on: perplexity of ordinary text; % of edits so far that hold
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas
from tqdm.auto import tqdm

from ..bench.journal import Journal
from ..editor import RobustEditor
from ..evaluation.perplexity import target_perplexities, text_perplexity
from ..evaluation.predict import predict
from ..request import EditRequest
from .style import LINES, figure, shared_legend

NAMES = {"DG": "direct generation", "MQ": "multiple choice", "TF": "true / false"}


def record_targets(
    editor: RobustEditor,
    sets: dict[str, list[tuple[int, EditRequest]]],
    path: Path,
    held_out: Sequence[str],
    every: int,
    provenance: dict,
    progress: bool = True,
) -> Path:
    """Edit each type's requests into the unedited model, all staying, and give the model back; returns the journal's path.

    Args:
        sets: {type: (index in the data file, request)}, in editing order.
        every: edits between two measurements of `held_out`.

    A type whose records are all there is not edited again. One that was cut short is edited again from its first edit, which gives the
    same weights, and what is already noted is kept.
    """
    for _, request in (pair for pairs in sets.values() for pair in pairs):
        editor.check(request)
    editor.memory  # noqa: B018 (read from the model before its first edit, or refused now)
    with Journal(path, {**provenance, "analysis": "targets"}) as journal:
        for kind, pairs in sets.items():
            if not any(record.get("after") == len(pairs) for record in _of(journal.records, kind)):
                try:
                    _edit_type(editor, kind, pairs, journal, held_out, every, progress)
                finally:
                    editor.ledger.undo_all()
    return path


def _edit_type(editor, kind: str, pairs, journal: Journal, held_out: Sequence[str], every: int, progress: bool) -> None:
    requests = [request for _, request in pairs]
    noted = {_key(record) for record in _of(journal.records, kind)}

    def note(*records: dict) -> None:
        journal.add([{"question": kind, **record} for record in records if _key(record) not in noted])

    values = target_perplexities(editor.anatomy, editor.tok, [r.text for r in requests], [r.target_new for r in requests])
    note(*(_target(index, request, value) for (index, request), value in zip(pairs, values, strict=True)))
    for done, (index, request) in enumerate(tqdm(pairs, desc=kind, unit="edit", disable=not progress)):
        if done % every == 0:
            note(_checkpoint(editor, requests[:done], held_out))
        editor.apply(request)
        (perplexity,) = target_perplexities(editor.anatomy, editor.tok, [request.text], [request.target_new])
        note({"edit": done + 1, "index": index, "norms": editor.norms(), "probability": 1 / perplexity})
    note(_checkpoint(editor, requests, held_out))


def _target(index: int, request: EditRequest, perplexity: float) -> dict:
    return {"index": index, "prompt": request.text, "target_new": request.target_new, "perplexity": perplexity}


def _checkpoint(editor: RobustEditor, done: Sequence[EditRequest], held_out: Sequence[str]) -> dict:
    said = predict(editor.anatomy, editor.tok, [r.text for r in done], [r.target_new for r in done]) if done else []
    return {
        "after": len(done),
        "held_out": text_perplexity(editor.anatomy, editor.tok, held_out),
        "efficacy": 100 * sum(answer.exact for answer in said) / len(said) if said else None,
    }


def _key(record: dict) -> tuple:
    kind = next(name for name in ("edit", "after", "perplexity") if name in record)
    return kind, record["index"] if kind == "perplexity" else record[kind]


def _of(records: Iterable[dict], kind: str) -> list[dict]:
    return [record for record in records if record["question"] == kind]


# -- from the records ----------------------------------------------------------------------------------------------------------------


def growth(record: dict) -> float:
    """Mean over the edited layers of how much their mean |w| has grown, in percent of the original's."""
    norms = record["norms"].values()
    return sum(100 * (norm["weight"] / norm["original"] - 1) for norm in norms) / len(norms)


def table(records: Sequence[dict]) -> pandas.DataFrame:
    """A row a type: target perplexity before the edits, and what the edits did."""
    rows = []
    for kind in dict.fromkeys(record["question"] for record in records):
        mine = _of(records, kind)
        values = pandas.Series([r["perplexity"] for r in mine if "perplexity" in r])
        edits, points = [r for r in mine if "edit" in r], [r for r in mine if "after" in r]
        row = {"target": NAMES[kind], "edits": str(len(edits)), "perplexity, median": f"{values.median():,.0f}"}
        row["mean"] = f"{values.mean():,.0f}"
        row["mean |w|, growth %"] = f"{growth(edits[-1]):.2f}" if edits else "–"
        row["probability after edit"] = f"{sum(r['probability'] for r in edits) / len(edits):.2f}" if edits else "–"
        first, last = (points[0], points[-1]) if points else ({}, {})
        row["held-out before"], row["after"] = (f"{p['held_out']:,.1f}" if p else "–" for p in (first, last))
        row["efficacy at the end %"] = f"{last['efficacy']:.0f}" if last.get("efficacy") is not None else "–"
        rows.append(row)
    return pandas.DataFrame(rows)


def draw(records: Sequence[dict], path: Path) -> None:
    """Three panels: target perplexities before any edit, growth of the edited layers, perplexity of held-out text."""
    kinds = list(dict.fromkeys(record["question"] for record in records))
    with figure(path, columns=3, width=9.6, height=3.4) as (drawn, (before, norms, damage)):
        boxes = [[r["perplexity"] for r in _of(records, kind) if "perplexity" in r] for kind in kinds]
        look = {"boxprops": {"facecolor": "#d0d0d0"}, "medianprops": {"color": "black", "linewidth": 1.6}}
        before.boxplot(boxes, whis=(5, 95), showfliers=False, patch_artist=True, widths=0.5, **look)
        before.set_xticks(range(1, len(kinds) + 1), [NAMES[kind].replace(" ", "\n", 1) for kind in kinds])
        before.set_yscale("log")
        before.set_title("targets before the edits")
        before.set_ylabel("perplexity")
        for kind, line in zip(kinds, LINES, strict=False):
            mine = _of(records, kind)
            edits, points = [r for r in mine if "edit" in r], [r for r in mine if "after" in r]
            mark = {**line, "markevery": max(1, len(edits) // 6), "markersize": 4, "linewidth": 1.4}
            norms.plot([0, *(r["edit"] for r in edits)], [0, *map(growth, edits)], label=NAMES[kind], **mark)
            damage.plot([r["after"] for r in points], [r["held_out"] for r in points], **{**mark, "markevery": 1})
        norms.set_title("L1 norm of the edited layers")
        norms.set_ylabel("growth of mean |w| (%)")
        damage.set_title("held-out text")
        damage.set_ylabel("perplexity")
        for axes in (norms, damage):
            axes.set_xlabel("edits made")
        shared_legend(drawn, norms)
