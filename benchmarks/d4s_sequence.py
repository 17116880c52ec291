"""A sequence of D4S edits from end to end, plain and with a pathway each: z*, keys, the update and the model's weights, all edits staying.

Each is run once: what matters is that the last edits take as long as the first, and how long that is.
"""

import statistics
from collections.abc import Iterator
from dataclasses import replace

from tqdm.auto import tqdm

from easyedit_rep import RobustEditor

from .common import Case, Setting, clock, name_of
from .models import editor_of, sequence_of

EDITS = 1000


def case(setting: Setting, editor: RobustEditor, title: str, n: int) -> Case:
    facts = sequence_of(setting, n)
    whole: list[float] = []
    parts: list[dict[str, float]] = []

    def sequence(_turn: int):
        for i in tqdm(range(n), desc=title, unit="edit"):
            # Again from the first where there are no more facts: the sequence then carries one of them twice.
            edit, seconds = clock(lambda _, i=i: editor.apply(facts[i % len(facts)]), 0, setting.device)
            whole.append(seconds)
            parts.append(edit.seconds)
        return editor.norms()

    def compare(results: dict) -> dict[str, float]:
        tenth = max(1, n // 10)
        (norms,) = results.values()
        out = {}
        for when, part in (("the first tenth", slice(tenth)), ("the last", slice(-tenth, None))):
            out[f"median seconds of an edit in {when}"] = statistics.median(whole[part])
            for name in parts[0]:
                out[f"of its {name} in {when}"] = statistics.median(p[name] for p in parts[part])
        return {**out, "largest growth of mean |w|": max(norm["weight"] / norm["original"] for norm in norms.values())}

    return Case(
        f"{n} {title} edits, {setting.model}, {name_of(setting.dtype)}, layers {editor.hparams.layers}",
        {"one after another": sequence},
        "one after another",
        compare,
        floor=f"{len(facts)} facts in turn" if n > len(facts) else "",
        once=True,
        work=float(n),
        unit="edits",
    )


def cases(setting: Setting) -> Iterator[Case]:
    editor = editor_of(setting, "D4S")
    for title, pathways in (("D4S", False), ("D4S + REP", True)):
        editor.hparams.rep = replace(editor.hparams.rep, pathways=pathways)
        yield case(setting, editor, title, setting.n or EDITS)
        editor.ledger.undo_all()
