"""Keys of one subject under every perturbation, in the plane of their two largest components, before and after REP (REP, Figure 7)."""

from collections.abc import Sequence
from pathlib import Path

import pandas
import torch
from torch import Tensor

from .keys import points
from .similarity import moved
from .study import Study, asked, rounded
from .style import figure, shared_legend

RANDOM = 30
"""Other subjects in the background, if the study has so many."""
MARKS = {
    "rephrase": {"marker": "o", "color": "#1f5a94"},
    "shuffle": {"marker": "s", "color": "#c1572b"},
    "long": {"marker": "^", "color": "#2f7d4f"},
    "random": {"marker": "x", "color": "#999999"},
}
NAMES = {"rephrase": "rephrased subject", "shuffle": "shuffled tokens", "long": "long context", "random": "other subjects"}
SHOWN = 3
"""Subjects a figure has room for."""


def components(keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(mean (D,), axes (2, D), share of the variance along each (2,)) of keys (n, D), in float64."""
    keys = keys.double()
    mean = keys.mean(0)
    _, scale, axes = torch.linalg.svd(keys - mean, full_matrices=False)
    shares = scale.square() / scale.square().sum().clamp_min(torch.finfo(torch.float64).tiny)
    # A component's sign is arbitrary: the largest loading is made positive, so that figures do not flip.
    sign = axes[:2].gather(1, axes[:2].abs().argmax(1, keepdim=True)).sign()
    return mean, axes[:2] * sign, shares[:2]


def measure(study: Study, fact: int) -> dict:
    """{"explained": [share, share], "own": {…}, "points": [{kind, domain, before: [x, y], after: [x, y], opened}]} of one fact.

    The axes are those of the subject's keys before the edit and of other subjects' own keys together: without the others the plane
    would spread one subject's keys whatever their distances. What comes after is shown on the same axes.
    """
    study.check_gated()
    editor, request = study.editor, study.facts[fact][1]
    queries = editor.queries(request)
    variants = asked(request, queries)
    others = study.others(fact, RANDOM)
    prompts = [request.located, *(v.prompt for v in variants), *(study.facts[i][1].located for i in others)]
    labels = [("own", ""), *((v.kind, v.domain) for v in variants), *[("random", "")] * len(others)]
    before = study.keys(prompts)
    with editor.installed(editor.robustify(editor.base_edit(request), queries)):
        raw = study.keys(prompts)
        after = study.adapted(raw)
    mean, axes, shares = components(before)
    flat = [((keys.double() - mean) @ axes.T).tolist() for keys in (before, after)]
    opened = moved(raw, after).tolist()
    own, *rest = [
        {"kind": kind, "domain": domain, "before": [rounded(v) for v in b], "after": [rounded(v) for v in a], "opened": o}
        for (kind, domain), b, a, o in zip(labels, *flat, opened, strict=True)
    ]
    return {"explained": [rounded(v) for v in shares.tolist()], "own": own, "points": rest}


def table(records: Sequence[dict]) -> pandas.DataFrame:
    """Mean distance to the subject's own key in the plane, before and after, by subject and kind."""
    rows = []
    for record in (r for r in records if "points" in r):
        found, centre = points([record]), record["own"]["before"]
        row = {"subject": record["subject"], "variance shown (%)": f"{100 * sum(record['explained']):.0f}"}
        for kind, group in found.groupby("kind", sort=False):
            far = [_distance(group[state], centre) for state in ("before", "after")]
            row[NAMES[kind]] = f"{far[0]:.2f} → {far[1]:.2f}"
        rows.append(row)
    return pandas.DataFrame(rows).fillna("–")  # a subject of one token has no shuffle


def _distance(places: pandas.Series, centre: Sequence[float]) -> float:
    return sum(((x - centre[0]) ** 2 + (y - centre[1]) ** 2) ** 0.5 for x, y in places) / len(places)


def draw(records: Sequence[dict], path: Path) -> None:
    """A row a subject (the first `SHOWN`): before the edit, and with REP. Filled marks are in-domain, empty ones out-of-domain."""
    shown = [record for record in records if "points" in record][:SHOWN]
    with figure(path, len(shown), 2, height=0.7 + 2.7 * len(shown), sharex="row", sharey="row") as (drawn, axes):
        for i, record in enumerate(shown):
            for one, state, title in zip(axes[2 * i : 2 * i + 2], ("before", "after"), ("before the edit", "with REP"), strict=True):
                _scatter(one, record, state)
                one.set_title(f"{record['subject']}: {title}")
                one.set_xlabel(f"component 1 ({100 * record['explained'][0]:.0f} % of variance)")
            axes[2 * i].set_ylabel(f"component 2 ({100 * record['explained'][1]:.0f} %)")
        shared_legend(drawn, axes[0])


def _scatter(axes, record: dict, state: str) -> None:
    found = points([record])
    for kind, mark in reversed(MARKS.items()):
        mine = found[found["kind"] == kind]
        for domain, filled in (("id", True), ("ood", False), ("", True)):
            places = mine[mine["domain"] == domain][state].tolist()
            if places:
                face = {"c": mark["color"]} if filled else {"facecolors": "none", "edgecolors": mark["color"]}
                note = {"id": ", ID", "ood": ", OOD", "": ""}[domain]
                axes.scatter(*zip(*places, strict=True), marker=mark["marker"], s=26, linewidths=1, label=NAMES[kind] + note, **face)
    axes.scatter(*record["own"][state], marker="*", s=130, c="black", edgecolors="white", linewidths=0.8, label="own key", zorder=5)
