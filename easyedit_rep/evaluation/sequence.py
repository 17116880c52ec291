"""What is left of a sequence of edits, measured on the model as it is at the end of it (D4S, section 5 and appendix C)."""

from collections.abc import Iterable, Sequence

from ..anatomy import Anatomy
from ..queries import Queries, Split
from ..request import EditRequest
from .robustness import evaluate, finish_locality

NOTHING = Queries(Split(), Split(), Split())


def baseline(anatomy: Anatomy, tok, requests: Sequence[EditRequest]) -> list[dict]:
    """What the model answers before any edit; locality is compared with it."""
    return [evaluate(anatomy, tok, request, NOTHING) for request in requests]


def measure(
    anatomy: Anatomy, tok, requests: Sequence[EditRequest], before: Sequence[dict], queries: Sequence[Queries] | None = None
) -> list[dict]:
    """One dict a request, of lists with one token-level accuracy a question (EasyEdit's protocol, as in the paper):

    `efficacy` (the prompt), `paraphrase`, `specificity` (neighbours' answers unchanged since `before`); and with `queries` also
    `rephrase_id` … `long_ood`, exact matches.
    """
    out = []
    for i, request in enumerate(requests):
        post = evaluate(anatomy, tok, request, queries[i] if queries else NOTHING)
        finish_locality(before[i], post)
        row = {
            "efficacy": post["rewrite_acc"],
            "paraphrase": post.get("rephrase_acc", []),
            "specificity": [value for name, values in post["locality"].items() if name.endswith("_acc") for value in values],
        }
        if queries:
            for kind in ("rephrase", "shuffle", "long"):
                for domain, short in (("in_domain", "id"), ("out_of_domain", "ood")):
                    row[f"{kind}_{short}"] = post["robustness"][kind][domain]["exact"] or []
        out.append(row)
    return out


def summary(rows: Sequence[dict]) -> dict[str, float | None]:
    """Means in percent: over a request's questions first, then over requests; `average` is that of efficacy, paraphrase, specificity."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = {name: _percent(_mean(row[name]) for row in rows if row.get(name)) for name in names}
    three = [out[name] for name in ("efficacy", "paraphrase", "specificity") if out.get(name) is not None]
    return {**out, "average": sum(three) / len(three) if three else None}


def blocks(rows: Sequence[dict], size: int = 100) -> list[dict[str, float | None]]:
    """`summary` of each `size` edits in editing order: how much of the earliest is forgotten (D4S, Figures 4 and 8)."""
    return [{"from": at, "to": min(at + size, len(rows)), **summary(rows[at : at + size])} for at in range(0, len(rows), size)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _percent(values: Iterable[float]) -> float | None:
    values = list(values)
    return 100 * _mean(values) if values else None
