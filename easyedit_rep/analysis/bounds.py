"""The doses of an edit that its subject's queries and unrelated ones get, with and without REP, their bounds by `lemma.py` from logits, and
whether they held (REP, section 4). `verdicts.py` compares the two."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..anatomy import Anatomy
from ..edit import Edit
from ..errors import EditError
from ..evaluation.predict import predict
from ..memory.delta import Delta
from ..memory.keys import read_token_keys
from ..memory.replay import record_suffix
from ..memory.tokens import batches, continuation, continuation_of, token_budget
from ..queries import Queries
from ..request import EditRequest
from .lemma import doses, full_change, interval
from .study import Study, asked, rounded

UNRELATED = 10
"""Locality questions of a fact that are asked."""
ARMS = ("base", "rep")


class Forced(NamedTuple):
    """A question, teacher-forced.

    Attributes:
        row: ids of prompt and target without the target's last one; `start` is the first position that predicts the target.
        answer: ids of the target.
        at: index of the subject's last token; None: unrelated, and whichever token gets most of the edit.
    """

    kind: str
    domain: str
    text: str
    target: str
    row: list[int]
    start: int
    answer: tuple[int, ...]
    at: int | None


def questions(tok, request: EditRequest, queries: Queries) -> list[Forced]:
    """The edited prompt first, its variants, then unrelated questions."""
    out, target = [], request.target_new
    for kind, domain, prompt in [("prompt", "", request.located), *asked(request, queries)]:
        before, ids, at = continuation_of(tok, prompt, target)
        out.append(Forced(kind, domain, prompt.text, target, before + ids[:-1], len(before) - 1, tuple(ids), at))
    for unrelated in [question for group in request.locality.values() for question in group][:UNRELATED]:
        before, ids = continuation(tok, unrelated.prompt, unrelated.answer)
        row = before + ids[:-1]
        out.append(Forced("unrelated", "", unrelated.prompt, unrelated.answer, row, len(before) - 1, tuple(ids), None))
    return out


class Seen(NamedTuple):
    """What the unedited model says to a question, and (β_min, β_max) of its answer from each of several starts."""

    said: tuple[int, ...]
    intervals: list[tuple[float, float]]


def look(anatomy: Anatomy, layer: int, asked_of: Sequence[Forced], at: Sequence[int], starts: Tensor, change: Tensor) -> list[Seen]:
    """Bounds on the dose of `change` (d,) at token `at[i]` of each question, on the unedited model.

    The prefix runs once; what follows the token is replayed for every start and dose.

    Args:
        starts: (s, n, d) what is added to the value at dose 0; the first must be nought.
    """
    out: list[Seen] = [None] * len(asked_of)
    for group in batches([len(q.row) for q in asked_of], token_budget(anatomy.embedding_device)):
        mine, split = [asked_of[i] for i in group], [at[i] for i in group]
        suffix = record_suffix(anatomy, [q.row for q in mine], split, layer, "mlp")
        sizes = [len(q.row) - q.start for q in mine]
        rows = torch.tensor([j for j, size in enumerate(sizes) for _ in range(size)])
        columns = torch.tensor([q.start - at + t for q, at, size in zip(mine, split, sizes, strict=True) for t in range(size)])

        def logits(changes: Tensor, suffix=suffix, wanted=(rows, columns), sizes=sizes) -> Sequence[Tensor]:
            hidden = suffix.run(anatomy, changes, wanted)
            return anatomy.logits(anatomy.final_norm(hidden)).cpu().split(sizes)

        with torch.no_grad():
            pairs = [(logits(start), logits(start + change)) for start in starts[:, group]]
        said = [z.argmax(-1) for z in pairs[0][0]]
        for j, (i, question) in enumerate(zip(group, mine, strict=True)):
            answer = said[j] if question.at is None else torch.tensor(question.answer)
            out[i] = Seen(tuple(said[j].tolist()), [interval(none[j], full[j], answer) for none, full in pairs])
    return out


class Place(NamedTuple):
    """Where a question meets the edit: the token, its dose β, how far the pathway moves the key there (D,), and what it adds to the value
    (d,), None for nothing."""

    at: int
    dose: float
    move: Tensor
    more: Tensor | None


def place(study: Study, delta: Delta, raw: Tensor, exact: Tensor, at: int | None) -> Place:
    """Of the raw keys (T, D) of a question, on the model as it is: at `at`, or, for None, at the token with the largest |β|."""
    adapted, more = study.moved(raw)
    beta = doses(delta, adapted, exact)
    at = int(beta.abs().argmax()) if at is None else at
    return Place(at, beta[at].item(), adapted[at] - raw[at], None if more is None else more[at])


def measure(study: Study, fact: int) -> dict:
    """{"bounds": [β_min, β_max] of the edited prompt, "points": [{kind, domain, base, rep}]} of one fact.

    Of each question and arm: `dose`, the bounds from its own logits `low` and `high`, and whether it `held`: the new target is given
    to a question about the subject, an unrelated one is answered as before. Where a pathway acts, dose 0 is the value Wk̂ (+ u).

    Raises:
        EditError: the base method writes several layers, or no rank-one change.
    """
    editor, request = study.editor, study.facts[fact][1]
    anatomy, queries = editor.anatomy, editor.queries(request)
    base = editor.base_edit(request)
    delta = rank_one(base, study.layer)
    exact = study.keys([request.located])[0]
    asked_of = questions(editor.tok, request, queries)
    keys = read_token_keys(anatomy, [q.row[: q.start + 1] for q in asked_of], [study.layer])[study.layer]
    places, after = {}, {}
    for arm, edit in (("base", base), ("rep", editor.robustify(base, queries))):
        with editor.installed(edit):
            places[arm] = [place(study, delta, raw, exact, q.at) for raw, q in zip(keys, asked_of, strict=True)]
            after[arm] = predict(anatomy, editor.tok, [q.text for q in asked_of], [q.target for q in asked_of])
    seen = _look_at_both(study, asked_of, places, full_change(delta, exact))
    points: list[dict] = [{"kind": q.kind, "domain": q.domain} for q in asked_of]
    for i, (point, question) in enumerate(zip(points, asked_of, strict=True)):
        wanted = seen[i].said if question.at is None else question.answer
        for arm, (low, high) in zip(ARMS, seen[i].intervals, strict=True):
            held = after[arm][i].predicted == tuple(wanted)
            point[arm] = {"dose": rounded(places[arm][i].dose), "low": rounded(low), "high": rounded(high), "held": held}
    return {"bounds": [points[0]["base"]["low"], points[0]["base"]["high"]], "points": points}


def _look_at_both(study: Study, asked_of: Sequence[Forced], places: dict[str, list[Place]], change: Tensor) -> list[Seen]:
    """What the unedited model says, and the bounds of both arms; with REP they are from where the pathway puts the value, Wk̂ (+ u)."""
    anatomy, layer = study.editor.anatomy, study.layer
    weight = anatomy.weight(layer).detach()
    moves = torch.stack([p.move for p in places["rep"]]).to(weight)
    shift = (moves @ (weight if anatomy.is_transposed(layer) else weight.T)).to(change)
    for row, met in zip(shift, places["rep"], strict=True):
        if met.more is not None:
            row += met.more.to(row)
    starts = torch.stack([torch.zeros_like(shift), shift])
    at, other = ([p.at for p in places[arm]] for arm in ARMS)
    seen = look(anatomy, layer, asked_of, at, starts, change)
    # A pathway may make another token of an unrelated question the one that gets most of the edit.
    apart = [i for i in range(len(at)) if at[i] != other[i]]
    again = look(anatomy, layer, [asked_of[i] for i in apart], [other[i] for i in apart], starts[:, apart], change)
    for i, there in zip(apart, again, strict=True):
        seen[i] = Seen(seen[i].said, [seen[i].intervals[0], there.intervals[1]])
    return seen


def rank_one(edit: Edit, layer: int) -> Delta:
    """The one change of `edit`, refused where the lemma is not about it."""
    if set(edit.deltas) != {layer}:
        raise EditError(f"bounds are of an edit in one layer, {edit.method} wrote {sorted(edit.deltas)}: name one layer in the YAML")
    delta = edit.deltas[layer]
    if delta.right is None or len(delta.right) != 1:
        raise EditError(f"bounds are of a rank-one edit, which {edit.method} did not make: use ROME, R-ROME, MEMIT or EMMET")
    return delta
