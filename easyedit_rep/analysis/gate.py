"""Where a pathway's gate opens: on ordinary text, which it should leave alone, and on queries about its subject, over the threshold τ."""

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
    """

    study: Study
    corpus: Corpus
    n_tokens: int = 20_000

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
        """{"threshold": τ of the YAML, "tokens": n, "opened": [tokens with a gate above τ, for each of `TAUS`], "points": [{kind, domain,
        gate}], "top": [{gate, prefix}]} of one fact."""
        editor, request = study.editor, study.facts[fact][1]
        queries = editor.queries(request)
        variants = asked(request, queries)
        others = study.others(fact, RANDOM)
        prompts = [request.located, *(v.prompt for v in variants), *(study.facts[i][1].located for i in others)]
        labels = [("prompt", ""), *((v.kind, v.domain) for v in variants), *[("random", "")] * len(others)]
        text_keys = self.text_keys  # before the edit: a lower layer of it would change them
        with editor.installed(editor.robustify(editor.base_edit(request), queries)) as edit:
            module, (name,) = editor.anatomy.rewrite(study.layer), edit.pathway_names
            asked_gates = _gates(module, name, study.keys(prompts)).tolist()
            rows = [_gates(module, name, keys) for keys in text_keys]
        text = torch.cat(rows)
        return {
            "threshold": editor.hparams.rep.pathway.threshold,
            "tokens": len(text),
            "opened": [int((text > tau).sum()) for tau in TAUS],
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
    """(n,) on the host: the gate of pathway `name` for raw keys (n, D)."""
    with torch.no_grad():
        return module.gate_logit(keys.float(), name).sigmoid().squeeze(-1).cpu()


def rates(records: Sequence[dict]) -> pandas.DataFrame:
    """One row a fact and τ: false fires per 1,000 tokens of ordinary text."""
    rows = [
        {"subject": r["subject"], "tau": tau, "rate": 1000 * opened / r["tokens"]}
        for r in records
        if "opened" in r
        for tau, opened in zip(TAUS, r["opened"], strict=True)
    ]
    return pandas.DataFrame(rows)


def table(records: Sequence[dict]) -> pandas.DataFrame:
    """Over some τ and the YAML's own: false fires per 1,000 tokens (mean, median and worst fact), and the share of queries that open."""
    found, text = points(records), rates(records)
    own = next(r["threshold"] for r in records if "threshold" in r)
    columns = {}
    for tau in sorted({0.5, 0.8, 0.9, 0.99, own} & set(TAUS)):
        per_fact = text[text["tau"] == tau]["rate"]
        column = {"false fires per 1,000 tokens, mean": f"{per_fact.mean():.2f}"}
        column |= {"…median fact": f"{per_fact.median():.2f}", "…worst fact": f"{per_fact.max():.1f}"}
        for (kind, domain), group in found.groupby(["kind", "domain"], sort=False):
            name = {"prompt": "edited prompt", "random": "other subjects"}.get(kind, f"{kind} {domain.upper()}")
            column[f"{name}, open (%)"] = f"{100 * (group['gate'] > tau).mean():.1f}"
        columns[f"τ = {tau:g}" + (" (YAML)" if tau == own else "")] = column
    return pandas.DataFrame(columns).rename_axis("gate").reset_index()


def draw(records: Sequence[dict], path: Path) -> None:
    """Two panels over τ: false fires on ordinary text, and the share of queries whose gate opens."""
    found, text = points(records), rates(records)
    own = next(r["threshold"] for r in records if "threshold" in r)
    with figure(path, columns=2, height=3.6) as (drawn, (fires, opens)):
        groups = text.groupby("tau")["rate"]
        for style, (label, values) in zip(
            LINES, (("worst fact", groups.max()), ("mean", groups.mean()), ("median fact", groups.median())), strict=False
        ):
            fires.plot(values.index, values, markersize=3.5, label=label, **style)
        fires.set_yscale("symlog", linthresh=0.1)
        fires.set_ylim(0)
        fires.set_ylabel("false fires per 1,000 tokens of text")
        fires.legend()
        for style, (kind, domain) in zip(LINES, ((k, d) for k in ("rephrase", "shuffle", "long") for d in ("id", "ood")), strict=True):
            mine = found[(found["kind"] == kind) & (found["domain"] == domain)]["gate"]
            if len(mine):
                label = f"{kind} {domain.upper()}"
                opens.plot(TAUS, [100 * (mine > tau).mean() for tau in TAUS], markersize=3.5, label=label, **style)
        opens.set_ylabel("queries that open the gate (%)")
        opens.set_ylim(0, 103)
        for one in (fires, opens):
            one.set_xlabel("gate threshold τ")
            one.axvline(own, **BASELINE)
        fires.annotate(
            f"τ = {own:g}", (own, 1), xycoords=("data", "axes fraction"), xytext=(-4, -2), textcoords="offset points", ha="right", va="top"
        )
        shared_legend(drawn, opens)
