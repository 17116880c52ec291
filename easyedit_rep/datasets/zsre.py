"""ZsRE (Levy et al., 2017) as MEND and EasyEdit release it, with or without portability questions."""

from ..request import EditRequest
from .fields import Fields, named


def zsre(record: Fields) -> EditRequest:
    """`subject`, `src` (the question), `alt` (the new answer), and optionally `answers` (the true ones; the first is taken), `rephrase`,
    `loc`/`loc_ans` (a Natural Question, kept with its "nq question: ") and `portability` {"New Question", "New Answer"}."""
    return EditRequest(
        prompt=record.text("src"),
        subject=record.text("subject"),
        target_new=record.text("alt"),
        ground_truth=record.answer("answers"),
        rephrase_prompts=record.texts("rephrase"),
        locality=named(neighborhood=record.questions("loc", "loc_ans")),
        portability=named(one_hop=record.group("portability").questions("New Question", "New Answer")),
    )
