"""Where a pathway's gate opens: on ordinary text, which it should leave alone, and on queries about its subject, over its threshold.

A trained gate is between 0 and 1 and opens above the YAML's τ. A closed-form one has a margin, and opens above 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas
import torch
from torch import Tensor

from ..datasets.corpus import Corpus
from ..memory.covariance import Sample
from ..memory.keys import read_token_keys
from ..pathway.layer import RepLayer
from .keys import points
from .study import Study, asked, rounded
from .style import BASELINE, LINES, figure, shared_legend

TAUS = (*(round(0.05 * i, 2) for i in range(1, 20)), 0.97, 0.99)
MARGINS = tuple(round(0.05 * i, 2) for i in range(-8, 13))
SHOWN = (-0.1, 0.1, 0.5, 0.8, 0.9, 0.99)
"""Of these thresholds, those a table has room for, besides the one gates act by."""
TOP = 5
"""Tokens of the text a record names, those with the widest gates."""
PREFIX = 12
"""Tokens of text shown up to such a token."""
RANDOM = 20


@dataclass(frozen=True, eq=False)
class Gates:
    """The measurement of one study, against one text.

    Attributes:
        n_tokens: tokens of the corpus that are read, drawn by the run's seed.

    Raises:
        EditError: on construction, edits have no pathway in the study's layer.
    """

    study: Study
    corpus: Corpus
    n_tokens: int = 20_000

    def __post_init__(self):
        self.study.check_gated()

    @cached_property
    def sample(self) -> Sample:
        editor = self.study.editor
        return Sample.of(editor.anatomy, editor.tok, self.corpus, self.n_tokens, 512, self.study.run.seed)

    @cached_property
    def text_keys(self) -> list[Tensor]:
        """[(length, D)] keys of every token of the sample, on the unedited model."""
        layer = self.study.layer
        return read_token_keys(self.study.editor.anatomy, self.sample.rows, [layer])[layer]

    def __call__(self, study: Study, fact: int) -> dict:
        """{"scale": "τ" or "margin", "threshold": the one gates act by, "tokens": n, "levels": thresholds, "opened": [tokens with a gate
        above each], "points": [{kind, domain, gate}], "top": [{gate, prefix}]} of one fact."""
        editor, request = study.editor, study.facts[fact][1]
        queries = editor.queries(request)
        variants = asked(request, queries)
        others = study.others(fact, RANDOM)
        prompts = [request.located, *(v.prompt for v in variants), *(study.facts[i][1].located for i in others)]
        labels = [("prompt", ""), *((v.kind, v.domain) for v in variants), *[("random", "")] * len(others)]
        text_keys = self.text_keys  # before the edit: a lower layer of it would change them
        with editor.installed(editor.robustify(editor.base_edit(request), queries)) as edit:
            module, (name,) = editor.anatomy.rewrite(study.layer), edit.pathway_names
            own = module.rep_threshold.get(name)
            asked_gates = _gates(module, name, study.keys(prompts)).tolist()
            rows = [_gates(module, name, keys) for keys in text_keys]
        text = torch.cat(rows)
        scale, levels = ("margin", MARGINS) if own is None else ("τ", sorted({*TAUS, own}))
        return {
            "scale": scale,
            "threshold": own or 0.0,
            "tokens": len(text),
            "levels": list(levels),
            "opened": [int((text > level).sum()) for level in levels],
            "points": [{"kind": k, "domain": d, "gate": rounded(g)} for (k, d), g in zip(labels, asked_gates, strict=True)],
            "top": self._top(rows),
        }

    def _top(self, rows: Sequence[Tensor]) -> list[dict]:
        flat = torch.cat(list(rows))
        places = [(i, j) for i, row in enumerate(rows) for j in range(len(row))]
        best = flat.topk(min(TOP, len(flat)))
        out = []
        for gate, at in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            row, token = places[at]
            ids = self.sample.rows[row][max(0, token + 1 - PREFIX) : token + 1]
            out.append({"gate": rounded(gate), "prefix": self.study.editor.tok.decode(ids, skip_special_tokens=True)})
        return out


def _gates(module: RepLayer, name: str, keys: Tensor) -> Tensor:
    """(n,) on the host: the gate of pathway `name`, or its margin, for raw keys (n, D)."""
    with torch.no_grad():
        logits = module.gate_logit(keys.float(), name).squeeze(-1).cpu()
    return logits.sigmoid() if name in module.rep_threshold else logits


def rates(records: Sequence[dict]) -> pandas.DataFrame:
    """One row a fact and threshold: false fires per 1,000 tokens of ordinary text."""
    rows = [
        {"subject": record["subject"], "level": level, "rate": 1000 * opened / record["tokens"]}
        for record in records
        for level, opened in zip(record["levels"], record["opened"], strict=True)
    ]
    return pandas.DataFrame(rows)


def table(records: Sequence[dict]) -> pandas.DataFrame:
    """Over some thresholds: false fires per 1,000 tokens (mean, median and worst fact), and the share of queries that open the gate."""
    found, text, scale, own = _read(records)
    columns = {}
    for level in sorted({*SHOWN, own} & set(text["level"])):
        per_fact = text[text["level"] == level]["rate"]
        column = {"false fires per 1,000 tokens, mean": f"{per_fact.mean():.2f}"}
        column |= {"…median fact": f"{per_fact.median():.2f}", "…worst fact": f"{per_fact.max():.1f}"}
        for (kind, domain), group in found.groupby(["kind", "domain"], sort=False):
            name = {"prompt": "edited prompt", "random": "other subjects"}.get(kind, f"{kind} {domain.upper()}")
            column[f"{name}, open (%)"] = f"{100 * (group['gate'] > level).mean():.1f}"
        columns[f"{scale} {level:g}" + (" (opens)" if level == own else "")] = column
    return pandas.DataFrame(columns).rename_axis("gate").reset_index()


def draw(records: Sequence[dict], path: Path) -> None:
    """Two panels over the threshold: false fires on ordinary text, and the share of queries whose gate opens."""
    found, text, scale, own = _read(records)
    levels = sorted(set(text["level"]))
    with figure(path, columns=2, height=3.6) as (drawn, (fires, opens)):
        groups = text.groupby("level")["rate"]
        curves = (("worst fact", groups.max()), ("mean", groups.mean()), ("median fact", groups.median()))
        for style, (label, values) in zip(LINES, curves, strict=False):
            fires.plot(values.index, values, markersize=3.5, label=label, **style)
        fires.set_yscale("symlog", linthresh=0.1)
        fires.set_ylim(0)
        fires.set_ylabel("false fires per 1,000 tokens of text")
        fires.legend()
        for style, (kind, domain) in zip(LINES, ((k, d) for k in ("rephrase", "shuffle", "long") for d in ("id", "ood")), strict=True):
            mine = found[(found["kind"] == kind) & (found["domain"] == domain)]["gate"]
            if len(mine):
                label = f"{kind} {domain.upper()}"
                opens.plot(levels, [100 * (mine > level).mean() for level in levels], markersize=3.5, label=label, **style)
        opens.set_ylabel("queries that open the gate (%)")
        opens.set_ylim(0, 103)
        for one in (fires, opens):
            one.set_xlabel({"τ": "gate threshold τ", "margin": "margin that opens the gate"}[scale])
            one.axvline(own, **BASELINE)
        note = {"xycoords": ("data", "axes fraction"), "xytext": (-4, -2), "textcoords": "offset points", "ha": "right", "va": "top"}
        fires.annotate(f"{scale} = {own:g}", (own, 1), **note)
        shared_legend(drawn, opens)


def _read(records: Sequence[dict]) -> tuple[pandas.DataFrame, pandas.DataFrame, str, float]:
    """Points, `rates`, the thresholds' scale, and the one gates act by."""
    kept = [record for record in records if "opened" in record]
    return points(kept), rates(kept), kept[0]["scale"], kept[0]["threshold"]
