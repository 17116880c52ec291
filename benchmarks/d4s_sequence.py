"""A sequence of D4S edits from end to end: z*, keys, the update and the model's weights, one fact after another, all staying.

It is run once: what matters is that the last edits take as long as the first, and how long that is.
"""

import statistics
from collections.abc import Iterator

from .common import Case, Setting, clock, name_of
from .models import editor_of, facts_of

EDITS = 1000


def cases(setting: Setting) -> Iterator[Case]:
    editor = editor_of(setting, "D4S")
    n = setting.n or EDITS
    facts = facts_of(setting, None)
    taken: list[float] = []

    def sequence(_turn: int):
        for i in range(n):
            _, seconds = clock(lambda i=i: editor.apply(facts[i % len(facts)]), 0, setting.device)
            taken.append(seconds)
        return editor.norms()

    def compare(results: dict) -> dict[str, float]:
        tenth = max(1, n // 10)
        (norms,) = results.values()
        return {
            "median seconds of the first tenth": statistics.median(taken[:tenth]),
            "of the last tenth": statistics.median(taken[-tenth:]),
            "largest growth of mean |w|": max(norm["weight"] / norm["original"] for norm in norms.values()),
        }

    yield Case(
        f"{n} D4S edits, {setting.model}, {name_of(setting.dtype)}, layers {editor.hparams.layers}",
        {"one after another": sequence},
        "one after another",
        compare,
        floor=f"{len(facts)} facts in turn" if n > len(facts) else "",
        once=True,
        work=float(n),
        unit="edits",
    )
    editor.ledger.undo_all()
