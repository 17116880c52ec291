"""20Q: plausibility of commonsense statements (Gupta et al., 2023, anshitag/memit_csk)."""

from ..request import EditRequest
from .fields import Fields, named

KEPT = ("unaffected_neighborhood_subject", "unaffected_neighborhood_object")
FOLLOWS = ("affected_neighborhood_subject", "affected_neighborhood_verb", "affected_neighborhood_object")


def twenty_questions(record: Fields) -> EditRequest:
    """`prompt` (a statement), `label` (the answer: " True"/" False", or 1/0), `subject`, and optionally `predicted_label` (the answer
    before) and lists of statements.

    The unaffected statements come without a label: they are only compared with the model's own answer before the edit, at the place where
    this label would stand. `affected_reasoning` comes without one too, and is compared with it, so a request does not hold it.
    Only the probe set names subjects.
    """
    if "subject" not in record:
        record.refuse("subject", "is missing, and is not guessed: map a column of your own, or `subject: prompt` to edit at the last token")
    label = record.text("label")

    def ask(names: tuple[str, ...]):
        return named(**{name: Fields({name: list(record.texts(name)), "label": label}).questions(name, "label") for name in names})

    return EditRequest(
        prompt=record.text("prompt"),
        subject=record.text("subject"),
        target_new=label,
        ground_truth=record.text_or_none("predicted_label"),
        rephrase_prompts=record.texts("affected_paraphrase"),
        locality=ask(KEPT),
        portability=ask(FOLLOWS),
    )
