"""A base method against the same edits with a pathway around them: records first, numbers from the records."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from ..edit import Edit
from ..editor import RobustEditor
from ..errors import EditError
from ..evaluation.metrics import EXTRA, REVERSION, TABLE
from ..evaluation.predict import predict
from ..evaluation.robustness import evaluate, finish_locality
from ..queries import Queries
from ..request import EditRequest

log = logging.getLogger(__name__)

COLUMNS = tuple(metric.name for metric in TABLE)
"""Columns of the paper's Table 1, in its order of ideas; all are percentages of exact matches, locality of unchanged answers."""


def known_only(editor: RobustEditor, requests: Sequence[EditRequest], tell: Callable[[str], object] = log.info) -> list[EditRequest]:
    """The requests whose true answer the model gives before any edit, as in the papers; those without a `ground_truth` are left out.

    Args:
        tell: is told in one line how many were kept, and why others were not.
    """
    asked = [r for r in requests if r.ground_truth and _fits(editor, r)]
    answers = predict(editor.anatomy, editor.tok, [r.text for r in asked], [r.ground_truth for r in asked])
    known = [request for request, answer in zip(asked, answers, strict=True) if answer.exact]
    silent = sum(not r.ground_truth for r in requests)
    refused = len(requests) - silent - len(asked)
    tell(
        f"{len(known)} of {len(requests)} facts are known to the model; left out: {len(asked) - len(known)} answered otherwise"
        + (f", {silent} without a ground truth" if silent else "")
        + (f", {refused} that it cannot be asked (too long for its positions, or a target that merges with the subject)" if refused else "")
    )
    return known


def _fits(editor: RobustEditor, request: EditRequest) -> bool:
    try:
        editor.check(request)
    except EditError:
        return False
    return True


@dataclass(frozen=True)
class Setting:
    """A pathway other than the hyper-parameters say.

    Attributes:
        alpha: weight of the consistency loss (α, Eq. 6), and
        threshold: of the gate at test (τ); None: the hyper-parameters' own.
    """

    alpha: float | None = None
    threshold: float | None = None

    def label(self, base: str) -> str:
        """What its records call their method."""
        values = {"τ": self.threshold, "α": self.alpha}
        return " ".join([f"{base}+REP", *(f"{name}={value:g}" for name, value in values.items() if value is not None)])


def compare_one(editor: RobustEditor, index: int, request: EditRequest, settings: Sequence[Setting] = (Setting(),)) -> list[dict]:
    """The records of one request, `{base}` and `{base}+REP` of each setting, on a model that is clean before and after each.

    The base edit is made once and serves all, so the difference to it is the pathway alone; and a pathway, trained once for each α,
    serves all thresholds.
    """
    base_name = editor.hparams.rep.base
    queries = editor.queries(request)
    editor.check(request, queries=queries, measured=True)
    # Before the edit only what locality is compared with is asked: the rest would be a third of the run, and is not in the table.
    pre = evaluate(editor.anatomy, editor.tok, request, queries.only_negatives())
    base = editor.base_edit(request)
    records = [_measure(editor, index, request, base_name, base, queries, pre)]
    training, robust = editor.hparams.rep.training, {}
    for setting in settings:
        if setting.alpha not in robust:
            changed = training if setting.alpha is None else replace(training, consistency_weight=setting.alpha)
            robust[setting.alpha] = editor.robustify(base, queries, training=changed)
        edit = robust[setting.alpha]
        edit = edit if setting.threshold is None else edit.at_threshold(setting.threshold)
        about = {name: value for name, value in asdict(setting).items() if value is not None}
        records.append({**_measure(editor, index, request, setting.label(base_name), edit, queries, pre), **about})
    return records


def _measure(editor: RobustEditor, index: int, request: EditRequest, method: str, edit: Edit, queries: Queries, pre: dict) -> dict:
    """The record of one edit, which is taken out again."""
    with editor.installed(edit):
        post = evaluate(editor.anatomy, editor.tok, request, queries, editor.hparams.rep.measures)
    finish_locality(pre, post)
    return {
        "index": index,
        "method": method,
        "prompt": request.text,
        "subject": request.subject,
        "target_new": request.target_new,
        "ground_truth": request.ground_truth,
        "seconds": edit.seconds,
        "pre": pre,
        "post": post,
    }


def summarise(records: Sequence[dict], *, reversion: bool = False) -> list[dict]:
    """One row a method: `COLUMNS`, micro-averaged over queries (None: nothing was asked), `n`, `seconds_per_edit`.

    What else was measured (`metrics.EXTRA`) has columns where some record has it; Reversion only if asked for, since it is always there.
    """
    done = [r["post"] for r in records if "error" not in r]
    optional = [m for m in (*([REVERSION] if reversion else []), *EXTRA) if m.micro(done) is not None]
    rows = []
    for method in dict.fromkeys(r["method"] for r in records):
        mine = [r for r in records if r["method"] == method and "error" not in r]
        posts = [r["post"] for r in mine]
        means = {metric.name: metric.micro(posts) for metric in (*TABLE, *optional)}
        row = {"method": method, "n": len(mine), **{name: None if v is None else round(v, 2) for name, v in means.items()}}
        row["seconds_per_edit"] = round(sum(sum(r["seconds"].values()) for r in mine) / len(mine), 4) if mine else None
        refused = sum(r["method"] == method for r in records) - len(mine)
        rows.append({**row, "refused": refused} if refused else row)
    return rows
