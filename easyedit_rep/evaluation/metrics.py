"""Numbers from what `evaluate` measured: for each metric its values, one a question, and apart from them how they are averaged."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

KEY = "robustness"
"""Of ours among EasyEdit's metrics; in its YAML and on its hyper-parameters too."""

KINDS = ("rephrase", "shuffle", "long")
DOMAINS = (("in_domain", "id"), ("out_of_domain", "ood"))
NEGATIVES = ("other_subject", "distracted", "negated")


@dataclass(frozen=True)
class Metric:
    """One column.

    Attributes:
        heading: what it is called in a table.
        source: where the measure is defined.
        values: from what was measured of one record after its edit to its values, each between 0 and 1 (fluency: bits).
    """

    name: str
    heading: str
    source: str
    values: Callable[[dict], Iterable[float]]

    def micro(self, posts: Iterable[dict]) -> float | None:
        """100 × the mean over all questions of all records, as in the REP paper; None where nothing was asked."""
        values = [value for post in posts for value in self.values(post)]
        return 100 * sum(values) / len(values) if values else None


def _flat(name: str):
    return lambda post: post["robustness"].get(name) or ()


def _variant(kind: str, domain: str, protocol: str):
    return lambda post: post["robustness"][kind][domain].get(protocol) or ()


def _protocol(name: str, protocol: str):
    return lambda post: post["robustness"].get("protocols", {}).get(name, {}).get(protocol, ())


def _negative(kind: str):
    return lambda post: post["robustness"].get("negatives", {}).get(kind, {}).get("acc", ())


def _groups(section: str):
    return lambda post: [v for key, values in post.get(section, {}).items() if key.endswith("_acc") for v in values]


def _variants(protocol: str, suffix: str, note: str, source: str) -> tuple[Metric, ...]:
    short = {"rephrase": "Reph.", "shuffle": "Shuf.", "long": "Long"}
    return tuple(
        Metric(f"{kind}_{end}{suffix}", f"{short[kind]}\n{end.upper()}{note}", source, _variant(kind, domain, protocol))
        for kind in KINDS
        for domain, end in DOMAINS
    )


_REP = "REP, section 5.1: exact match of all target tokens, teacher-forced"
_EASYEDIT = "EasyEdit's token_em: share of target tokens, teacher-forced"
_GENERATED = "what greedy decoding says, nothing teacher-forced"

TABLE = (
    Metric("success", "Succ.", _REP, _flat("success")),
    Metric("locality", "Loc.", "REP, section 5.1: share of argmax tokens as before the edit, on neighbours", _groups("locality")),
    Metric("paraphrase", "Para.", _REP, _flat("paraphrase")),
    *_variants("exact", "", "", _REP),
)
"""The paper's Table 1."""

REVERSION = Metric("reversion", "Rev.", "REP, section 5.1: the old answer is still given; lower is better", _flat("reversion"))

EXTRA = (
    Metric("portability", "Port.", _EASYEDIT, _groups("portability")),
    Metric(
        "other_subject", "Other\nsubj.", "share of argmax tokens as before the edit, same prompt, close subject", _negative("other_subject")
    ),
    Metric("distracted", "Distr.", "CounterFact+ (2023): neighbours with the edited fact before them", _negative("distracted")),
    Metric("negated", "Neg.", "share of argmax tokens as before the edit, the prompt negated", _negative("negated")),
    Metric("success_generation", "Succ.\ngen.", _GENERATED, _protocol("success", "generation")),
    Metric("paraphrase_generation", "Para.\ngen.", _GENERATED, _protocol("paraphrase", "generation")),
    *_variants("generation", "_generation", " gen.", _GENERATED),
    Metric("fluency", "Flu.", "ROME: weighted bi- and trigram entropy, × 100", lambda post: list(post.get("fluency", {}).values())),
)
"""What is reported where it was measured."""

PRINTED = ("portability", *NEGATIVES, "success_generation", "fluency")
"""Of `EXTRA`, those that a table has room for; all are in its rows."""

TOKEN = (
    Metric("success_token", "Succ.\ntok.", _EASYEDIT, lambda post: post["rewrite_acc"]),
    Metric("paraphrase_token", "Para.\ntok.", _EASYEDIT, lambda post: post.get("rephrase_acc", ())),
    *_variants("token", "_token", " tok.", _EASYEDIT),
)
"""The same questions, in EasyEdit's protocol."""

HEADINGS = {metric.name: metric.heading for metric in (*TABLE, REVERSION, *EXTRA, *TOKEN)}


def robustness_means(measured: Sequence[dict]) -> dict[str, float]:
    """{metric: percent, two digits} of what is under `robustness`, over all questions: exact matches, the rest where it was asked for."""
    bare = [{KEY: one[KEY]} for one in measured]
    means = {metric.name: metric.micro(bare) for metric in (*TABLE, REVERSION, *EXTRA)}
    return {name: round(value, 2) for name, value in means.items() if value is not None}


def printed(rows: Sequence[dict]) -> list[str]:
    """The columns a table of `rows` has: the paper's, and what else was measured."""
    return [metric.name for metric in TABLE] + [
        name for name in (REVERSION.name, *PRINTED) if any(row.get(name) is not None for row in rows)
    ]
