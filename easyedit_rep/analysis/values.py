"""L2 norms of what the edited layer's memory returns, before and after the edit (REP, Figure 8)."""

from collections.abc import Sequence
from pathlib import Path

import pandas
import torch
from torch import Tensor

from ..memory.tokens import Prompt
from .keys import points
from .study import Study, asked, rounded
from .style import FILLS, figure

RANDOM = 10
KINDS = {
    "prompt": "edited\nprompt",
    "rephrase": "rephrased\nsubject",
    "shuffle": "shuffled\ntokens",
    "long": "long\ncontext",
    "random": "other\nsubjects",
}
STATES = {"before": "unedited", "base": "base edit", "after": "with REP"}


def measure(study: Study, fact: int) -> dict:
    """{"points": [{kind, domain, before, base, after}]} of one fact: ‖Wk‖, ‖Ŵk‖ and ‖Ŵk̂ (+ u)‖ at the last token of the subject."""
    study.check_gated()
    editor, request = study.editor, study.facts[fact][1]
    queries = editor.queries(request)
    labelled: list[tuple[str, str, Prompt]] = [("prompt", "", request.located), *asked(request, queries)]
    labelled += [("random", "", study.facts[i][1].located) for i in study.others(fact, RANDOM)]
    prompts = [prompt for _, _, prompt in labelled]
    found = {"before": _norms(study, prompts)}
    base = editor.base_edit(request)
    for state, edit in (("base", base), ("after", editor.robustify(base, queries))):
        with editor.installed(edit):
            found[state] = _norms(study, prompts)
    return {
        "points": [
            {"kind": kind, "domain": domain, **{state: rounded(norms[i].item()) for state, norms in found.items()}}
            for i, (kind, domain, _) in enumerate(labelled)
        ]
    }


def _norms(study: Study, prompts: Sequence[Prompt]) -> Tensor:
    """(n,): norms of what the down-projection, with the pathways around it, makes of the prompts' keys."""
    anatomy, keys = study.editor.anatomy, study.keys(prompts)
    with torch.no_grad():
        return anatomy.rewrite(study.layer)(keys.to(anatomy.weight(study.layer).dtype)).float().norm(dim=-1)


def table(records: Sequence[dict]) -> pandas.DataFrame:
    """Mean ± standard deviation of the norm, by kind and state."""
    found = points(records)
    rows = []
    for kind, group in found.groupby("kind", sort=False):
        cells = {name: f"{group[state].mean():.2f} ± {group[state].std(ddof=0):.2f}" for state, name in STATES.items()}
        rows.append({"values of": KINDS[kind].replace("\n", " "), "n": str(len(group)), **cells})
    return pandas.DataFrame(rows)


def draw(records: Sequence[dict], path: Path) -> None:
    """Boxes of the norms: quartiles, and whiskers from the 5th to the 95th percentile."""
    found = points(records)
    kinds = [kind for kind in KINDS if (found["kind"] == kind).any()]
    with figure(path) as (_, (axes,)):
        for i, (state, name) in enumerate(STATES.items()):
            at = [x + (i - 1) * 0.26 for x in range(len(kinds))]
            values = [found[found["kind"] == kind][state].to_numpy() for kind in kinds]
            middle = {"color": "white" if "hatch" not in FILLS[i] else "black", "linewidth": 1.6}
            axes.boxplot(
                values,
                positions=at,
                widths=0.22,
                whis=(5, 95),
                showfliers=False,
                patch_artist=True,
                boxprops=FILLS[i],
                medianprops=middle,
                label=name,
                manage_ticks=False,
            )
        axes.set_xticks(range(len(kinds)), [KINDS[kind] for kind in kinds])
        axes.set_ylabel("L2 norm of the value")
        axes.set_ylim(0)
        axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.12))
