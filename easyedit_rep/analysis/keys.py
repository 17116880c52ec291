"""Whitened similarity of a subject's perturbed keys to its own key, before and after REP (REP, Figure 3 and appendix B.2)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas

from .similarity import moved, similarities
from .study import Study, asked, rounded
from .style import BASELINE, figure, histogram, shared_legend

RANDOM = 20
"""Other subjects' own keys a fact is compared with."""

EDGES = np.arange(-0.3, 2.11, 0.15)


def measure(study: Study, fact: int) -> dict:
    """{"self": k*ᵀC⁻¹k*, "points": [{kind, domain, before, after, opened}]} of one fact.

    `before` and `after` are kᵀC⁻¹k* / k*ᵀC⁻¹k* with k* the subject's own key on the unedited model, k the key of a query, and for
    `after` k̂, with REP in the model. Kind `random` are other subjects' own keys: the baseline, and what must stay away.
    """
    study.check_gated()
    editor, request = study.editor, study.facts[fact][1]
    queries = editor.queries(request)
    variants = asked(request, queries)
    others = study.others(fact, RANDOM)
    prompts = [v.prompt for v in variants] + [study.facts[i][1].located for i in others]
    labels = [(v.kind, v.domain) for v in variants] + [("random", "")] * len(others)
    star = study.own_keys[fact]
    before = similarities(study.covariance, study.keys(prompts), star)
    with editor.installed(editor.robustify(editor.base_edit(request), queries)):
        raw = study.keys(prompts)
        adapted = study.adapted(raw)
    after, opened = similarities(study.covariance, adapted, star), moved(raw, adapted).tolist()
    points = [
        {"kind": kind, "domain": domain, "before": rounded(b), "after": rounded(a), "opened": o}
        for (kind, domain), b, a, o in zip(labels, before.tolist(), after.tolist(), opened, strict=True)
    ]
    return {"self": rounded((study.covariance.solve(star.double()) @ star.double()).item()), "points": points}


def points(records: Sequence[dict]) -> pandas.DataFrame:
    """One row a point, with the record's index and subject; facts that were refused have none."""
    kept = [record for record in records if "points" in record]
    return pandas.json_normalize(kept, "points", ["index", "subject"]) if kept else pandas.DataFrame()


def table(records: Sequence[dict]) -> pandas.DataFrame:
    """Mean ± standard deviation over queries, by kind and domain."""
    found = points(records)
    rows = []
    for (kind, domain), group in found.groupby(["kind", "domain"], sort=False):
        rows.append(
            {
                "keys": f"{kind} {domain.upper()}".strip(),
                "queries": str(len(group)),
                "before": f"{group['before'].mean():.2f} ± {group['before'].std(ddof=0):.2f}",
                "with REP": f"{group['after'].mean():.2f} ± {group['after'].std(ddof=0):.2f}",
                "gate open (%)": f"{100 * group['opened'].mean():.1f}",
            }
        )
    return pandas.DataFrame(rows)


def draw(records: Sequence[dict], path: Path) -> None:
    """Three histograms, one a kind of perturbation, before and after; the dashed line is the mean over random pairs."""
    found = points(records)
    chance = found[found["kind"] == "random"]["before"].mean()
    with figure(path, columns=3, sharey=True, height=3.1) as (drawn, axes):
        for one, kind in zip(axes, ("rephrase", "shuffle", "long"), strict=True):
            mine = found[found["kind"] == kind]
            histogram(one, [mine["before"], mine["after"]], EDGES, ["before the edit", "with REP"])
            one.axvline(chance, label=f"random pair, mean ({chance:.2f})", **BASELINE)
            one.set_title({"rephrase": "rephrased subject", "shuffle": "shuffled tokens", "long": "long context"}[kind])
            one.set_xlabel("whitened similarity\n(own key = 1)")
        axes[0].set_ylabel("share of queries (%)")
        shared_legend(drawn, axes[0])
