"""The robustness questions of one record: asked together, and in one forward with all logits each.

They are what `evaluate` asks: the prompt, rephrased and shuffled subjects, long contexts, paraphrases, neighbours. Short questions and
long contexts are also timed apart: of the first a forward is mostly overhead, of the second mostly matrix products.
"""

from collections.abc import Iterator

import torch

from easyedit_rep import EditRequest, RobustEditor
from easyedit_rep.evaluation.predict import Prediction, predict
from easyedit_rep.memory.tokens import continuation

from .common import Case, Setting, name_of
from .models import editor_of, facts_of


def questions(editor: RobustEditor, request: EditRequest) -> dict[str, list[tuple[str, str]]]:
    """{"all questions" | "short questions" | "long contexts": (text, target) of each}."""
    prompts, target = editor.queries(request).prompts(request.located), request.target_new
    short = [(text, target) for text in (request.text, *request.rephrase_prompts)]
    short += [(request.text, request.ground_truth)] if request.ground_truth else []
    short += [(p.text, target) for kind in ("rephrase", "shuffle") for half in prompts[kind].values() for p in half]
    short += [(q.prompt, q.answer) for group in request.locality.values() for q in group]
    long = [(p.text, target) for half in prompts["long"].values() for p in half]
    return {"all questions": short + long, "short questions": short, "long contexts": long}


def _one_by_one(editor: RobustEditor, asked: list[tuple[str, str]]) -> list[Prediction]:
    anatomy, out = editor.anatomy, []
    for text, target in asked:
        before, ids = continuation(editor.tok, text, target)
        with torch.no_grad():
            logits = anatomy.model(input_ids=torch.tensor([before + ids[:-1]], device=anatomy.embedding_device), use_cache=False).logits
        out.append(Prediction(tuple(logits[0, len(before) - 1 :].argmax(-1).tolist()), tuple(ids)))
    return out


def _together(editor: RobustEditor, asked: list[tuple[str, str]]) -> list[Prediction]:
    return predict(editor.anatomy, editor.tok, [text for text, _ in asked], [target for _, target in asked])


def cases(setting: Setting) -> Iterator[Case]:
    editor = editor_of(setting, "ROME")
    facts = facts_of(setting, setting.repeats)
    records = [questions(editor, fact) for fact in facts]
    for name in records[0]:
        by_turn = [record[name] for record in records]
        yield Case(
            f"{name} of a record, {len(by_turn[0])} in the first, {setting.model}, {name_of(setting.dtype)}",
            {
                "together": lambda turn, asked=by_turn: _together(editor, asked[turn]),
                "one forward each": lambda turn, asked=by_turn: _one_by_one(editor, asked[turn]),
            },
            "one forward each",
            lambda results: {"answers equal": float(results["together"] == results["one forward each"])},
            {"together": 4.0} if name == "all questions" else {},
        )
