"""The doses of an edit that its subject's queries and unrelated ones get, against the bounds of `lemma.py`: who theory says will fail, and
who does, with and without REP (REP, section 4)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas
import torch
from torch import Tensor

from ..anatomy import Anatomy
from ..errors import EditError
from ..evaluation.predict import predict
from ..ledger import Edit
from ..memory.delta import Delta
from ..memory.keys import read_token_keys
from ..memory.tokens import batches, continuation, locate, pad, token_budget
from ..queries import Queries
from ..request import EditRequest
from .lemma import doses, full_change, interval
from .study import Study, asked, rounded
from .style import BASELINE, figure, histogram, shared_legend

UNRELATED = 10
"""Locality questions of a fact that are asked."""
ARMS = {"base": "base edit", "rep": "with REP"}


class Forced(NamedTuple):
    """A teacher-forced question: its ids without the last of the target, where its first predicting position is, and the target's ids."""

    row: list[int]
    start: int
    target: list[int]

    @classmethod
    def of(cls, tok, text: str, target: str) -> "Forced":
        before, ids = continuation(tok, text, target)
        return cls(before + ids[:-1], len(before) - 1, ids)


class Question(NamedTuple):
    """What is asked: `at` is the index of the subject's last token; None: unrelated, and whichever token gets most of the edit."""

    kind: str
    domain: str
    text: str
    target: str
    at: int | None


def questions(tok, request: EditRequest, queries: Queries) -> list[Question]:
    """The edited prompt first, its variants, then unrelated questions."""
    target = request.target_new
    own = [("prompt", "", request.located), *asked(request, queries)]
    out = [Question(kind, domain, prompt.text, target, locate(tok, prompt).last) for kind, domain, prompt in own]
    unrelated = [question for group in request.locality.values() for question in group][:UNRELATED]
    return out + [Question("unrelated", "", question.prompt, question.answer, None) for question in unrelated]


@contextmanager
def added(anatomy: Anatomy, layer: int, changes: Tensor, at: Sequence[int]) -> Iterator[None]:
    """`changes[j]` (d,) is added to what the layer's memory returns at token `at[j]` of the j-th row of a batch."""

    def add(_module, _args, out: Tensor) -> Tensor:
        out = out.clone()
        out[torch.arange(len(at), device=out.device), torch.tensor(at, device=out.device)] += changes.to(out)
        return out

    handle = anatomy.rewrite(layer).register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def intervals(
    anatomy: Anatomy, layer: int, forced: Sequence[Forced], at: Sequence[int], none: Tensor, full: Tensor, answers: Sequence[Sequence[int]]
) -> list[tuple[float, float]]:
    """(β_min, β_max) between which each question is answered with `answers[i]`, on the unedited model.

    Args:
        none, full: (n, d) what is added to the value at token `at[i]` at dose 0 and at dose 1.
    """
    out: list[tuple[float, float]] = [(0.0, 0.0)] * len(forced)
    for group in batches([len(f.row) for f in forced], token_budget(anatomy.embedding_device)):
        ids, mask = pad([forced[i].row for i in group], anatomy.embedding_device)
        hidden = []
        with torch.no_grad():
            for changes in (none, full):
                with added(anatomy, layer, changes[group], [at[i] for i in group]):
                    hidden.append(anatomy.decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state)
            for j, i in enumerate(group):
                logits = [anatomy.logits(h[j, forced[i].start : len(forced[i].row)]) for h in hidden]
                out[i] = interval(*logits, torch.tensor(answers[i]))
    return out


def measure(study: Study, fact: int) -> dict:
    """{"bounds": [β_min, β_max] of the edited prompt, "points": [{kind, domain, base, rep}]} of one fact.

    Of each question and arm: `dose`, the bounds from its own logits `low` and `high`, and whether it `held`: the new target is given
    to a question about the subject, an unrelated one is answered as before. Where a pathway acts, dose 0 is the value Wk̂.

    Raises:
        EditError: the base method writes several layers, or no rank-one change.
    """
    editor, request = study.editor, study.facts[fact][1]
    queries = editor.queries(request)
    base = editor.base_edit(request)
    delta = rank_one(base, study.layer)
    exact = study.keys([request.located])[0]
    asked_of = questions(editor.tok, request, queries)
    forced = [Forced.of(editor.tok, q.text, q.target) for q in asked_of]
    keys = read_token_keys(editor.anatomy, [f.row[: f.start + 1] for f in forced], [study.layer])[study.layer]
    texts, targets = [q.text for q in asked_of], [q.target for q in asked_of]
    before = predict(editor.anatomy, editor.tok, texts, targets)
    answers = [b.predicted if q.at is None else b.target for b, q in zip(before, asked_of, strict=True)]
    points: list[dict] = [{"kind": q.kind, "domain": q.domain} for q in asked_of]
    for arm, edit in (("base", base), ("rep", editor.robustify(base, queries))):
        with editor.installed(edit):
            placed = [_place(delta, k, study.adapted(k), exact, q.at) for k, q in zip(keys, asked_of, strict=True)]
            after = predict(editor.anatomy, editor.tok, texts, targets)
        at = [p.at for p in placed]
        with torch.no_grad():
            raw, adapted = (editor.anatomy.projection(study.layer)(torch.stack(k)) for k in zip(*[p[2:] for p in placed], strict=True))
        shift = (adapted - raw).float()
        limits = intervals(editor.anatomy, study.layer, forced, at, shift, shift + full_change(delta, exact), answers)
        for point, place, (low, high), said, answer in zip(points, placed, limits, after, answers, strict=True):
            held = said.predicted == tuple(answer)
            point[arm] = {"dose": rounded(place.dose), "low": rounded(low), "high": rounded(high), "held": held}
    return {"bounds": [points[0]["base"]["low"], points[0]["base"]["high"]], "points": points}


class Place(NamedTuple):
    """Where a question meets the edit: the token, its dose β, and its key, raw and adapted (D,)."""

    at: int
    dose: float
    raw: Tensor
    adapted: Tensor


def _place(delta: Delta, raw: Tensor, adapted: Tensor, exact: Tensor, at: int | None) -> Place:
    """Of the keys (T, D) of a question: at `at`, or, for None, at the token with the largest |β|."""
    beta = doses(delta, adapted, exact)
    at = int(beta.abs().argmax()) if at is None else at
    return Place(at, beta[at].item(), raw[at], adapted[at])


def rank_one(edit: Edit, layer: int) -> Delta:
    """The one change of `edit`, refused where the lemma is not about it."""
    if set(edit.deltas) != {layer}:
        raise EditError(f"bounds are of an edit in one layer, {edit.method} wrote {sorted(edit.deltas)}: name one layer in the YAML")
    delta = edit.deltas[layer]
    if delta.right is None or len(delta.right) != 1:
        raise EditError(f"bounds are of a rank-one edit, which {edit.method} did not make: use ROME, R-ROME, MEMIT or EMMET")
    return delta


def verdicts(records: Sequence[dict]) -> pandas.DataFrame:
    """One row a question and arm: kind, domain, arm, dose, low, high (those theory goes by: the edit's for its subject's questions, the
    question's own for unrelated ones), own_low, own_high, held, and what theory says: `within`, and `own_within` by its own bounds."""
    rows = []
    for record in (r for r in records if "points" in r):
        for point in record["points"]:
            for arm in ARMS:
                seen = point[arm]
                low, high = (seen["low"], seen["high"]) if point["kind"] == "unrelated" else record["bounds"]
                rows.append(
                    {
                        "subject": record["subject"],
                        "kind": point["kind"],
                        "domain": point["domain"],
                        "arm": arm,
                        "dose": seen["dose"],
                        "low": low,
                        "high": high,
                        "own_low": seen["low"],
                        "own_high": seen["high"],
                        "held": seen["held"],
                        "within": low < seen["dose"] < high,
                        "own_within": seen["low"] < seen["dose"] < seen["high"],
                    }
                )
    return pandas.DataFrame(rows)


def table(records: Sequence[dict]) -> pandas.DataFrame:
    """The confusion table: by kind and arm, how many theory lets hold (`within` their bounds), how many did, and the four counts."""
    rows = []
    for (kind, arm), group in verdicts(records).groupby(["kind", "arm"], sort=False):
        within, held = group["within"], group["held"]
        rows.append(
            {
                "keys of": f"{kind}, {ARMS[arm]}",
                "n": str(len(group)),
                "within bounds (%)": f"{100 * within.mean():.1f}",
                "held (%)": f"{100 * held.mean():.1f}",
                "said to hold: held / failed": f"{(within & held).sum()} / {(within & ~held).sum()}",
                "said to fail: failed / held": f"{(~within & ~held).sum()} / {(~within & held).sum()}",
                "theory right (%)": f"{100 * (within == held).mean():.1f}",
                "right by own ε (%)": f"{100 * (group['own_within'] == held).mean():.1f}",
            }
        )
    return pandas.DataFrame(rows)


def ratios(found: pandas.DataFrame) -> pandas.Series:
    """Dose over bound: over β_min for a subject's question, over the bound on the dose's side for an unrelated one; infinite
    where that is no bound."""
    up = found["dose"] >= 0
    side = np.where(up, found["high"], found["low"])
    unrelated = found["kind"] == "unrelated"
    # A bound on the wrong side of nought leaves no room at all, or, for the subject, asks for nothing.
    bound = np.where(unrelated, side, found["low"])
    room = np.where(unrelated, np.where(up, bound > 0, bound < 0), bound > 0)
    return pandas.Series(np.where(room, found["dose"] / np.where(room, bound, 1.0), np.inf), found.index)


def draw(records: Sequence[dict], path: Path) -> None:
    """Histograms of dose over bound, held against failed: the subject's queries (left) and unrelated ones (right), without and with REP."""
    found = verdicts(records)
    found["ratio"] = ratios(found)
    sides = (
        (found[found["kind"].isin(["rephrase", "shuffle", "long"])], np.arange(-0.5, 3.01, 0.125), "dose β / bound β_min of the edit"),
        (found[found["kind"] == "unrelated"], np.arange(0, 2.01, 0.1), "dose β / own bound (β_max, or β_min where β < 0)"),
    )
    with figure(path, 2, 2, height=4.6, sharex="col") as (drawn, axes):
        for row, (arm, name) in enumerate(ARMS.items()):
            for column, (side, edges, label) in enumerate(sides):
                one, mine = axes[2 * row + column], side[side["arm"] == arm]
                groups = [mine[mine["held"]]["ratio"], mine[~mine["held"]]["ratio"]]
                histogram(one, groups, edges, ["held", "failed"], of=len(mine))
                one.axvline(1, label="bound", **BASELINE)
                one.set_title(f"{('subject', 'unrelated')[column]}, {name}: {100 * mine['held'].mean():.0f} % held")
                if row:
                    one.set_xlabel(label)
            axes[2 * row].set_ylabel("share of queries (%)")
        shared_legend(drawn, axes[0])
