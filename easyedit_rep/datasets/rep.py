"""The REP paper's CounterFact and ZsRE files (ElliottYan/RobustKeyEdit, `data/`), and the demo's facts."""

from ..request import EditRequest
from .fields import Fields, named


def rep(record: Fields) -> EditRequest:
    """`prompt`, `subject`, `target_new`, `target_true`, and optionally `rephrase_prompt`, `locality_prompt` (all answered by
    `locality_ground_truth`), `subject_rephrase` (ten other names) and `long_context`."""
    return EditRequest(
        prompt=record.text("prompt"),
        subject=record.text("subject"),
        target_new=record.text("target_new"),
        ground_truth=record.text("target_true"),
        rephrase_prompts=record.texts("rephrase_prompt"),
        locality=named(neighborhood=record.questions("locality_prompt", "locality_ground_truth")),
        subject_rephrase=record.texts("subject_rephrase"),
        long_context=record.texts("long_context"),
    )
