"""CounterFact (Meng et al., 2022): ROME's nested records, and EasyEdit's flat ones."""

from ..request import EditRequest
from .fields import Fields, named


def rome(record: Fields) -> EditRequest:
    """`requested_rewrite` {prompt with `{}`, subject, target_new, target_true}, `paraphrase_prompts`, `neighborhood_prompts` (answered by
    the old target), `attribute_prompts` (other subjects of which the new target is true), and what derived files add:
    `distracting_neighborhood_prompts`, `unrelated_relation`, `portability`.

    `generation_prompts` have no answer (they are for fluency), so a request does not hold them.
    """
    rewrite = record.group("requested_rewrite")
    if "requested_rewrite" not in record:
        record.refuse("requested_rewrite", "is missing")
    new, old = _target(rewrite, "target_new"), _target(rewrite, "target_true")

    def ask(name: str, answer: str | None):
        prompts = record.texts(name)
        if prompts and answer is None:
            rewrite.refuse("target_true", f"is missing: {name} cannot be compared with anything")
        return Fields({"prompt": list(prompts), "answer": answer}).questions("prompt", "answer") if prompts else ()

    return EditRequest(
        prompt=rewrite.text("prompt"),
        subject=rewrite.text("subject"),
        target_new=new or "",
        ground_truth=old,
        rephrase_prompts=record.texts("paraphrase_prompts"),
        locality=named(
            neighborhood=ask("neighborhood_prompts", old),
            attribute=ask("attribute_prompts", new),
            distracting_neighborhood=ask("distracting_neighborhood_prompts", old),
            unrelated_relation=record.group("unrelated_relation").questions("question", "object"),
        ),
        portability=named(one_hop=record.group("portability").questions("New Question", "New Answer")),
    )


def _target(rewrite: Fields, name: str) -> str | None:
    """A target is {"str": …, "id": …}; `target_true` may be left out where nothing is compared with it."""
    if name not in rewrite:
        return rewrite.text(name) if name == "target_new" else None
    return rewrite.group(name).text("str")


def flat(record: Fields) -> EditRequest:
    """EasyEdit's `counterfact-edit.json` and its kin: `prompt`, `subject`, `target_new`, and optionally `ground_truth`,
    `rephrase_prompt`, `locality_prompt`/`locality_ground_truth` and `portability_prompt`/`portability_ground_truth` (a text or a list)."""
    return EditRequest(
        prompt=record.text("prompt"),
        subject=record.text("subject"),
        target_new=record.text("target_new"),
        ground_truth=record.answer("ground_truth"),
        rephrase_prompts=record.texts("rephrase_prompt", "rephrase_prompts", "rephrase"),
        locality=named(neighborhood=record.questions("locality_prompt", "locality_ground_truth")),
        portability=named(one_hop=record.questions("portability_prompt", "portability_ground_truth")),
        subject_rephrase=record.texts("subject_rephrase"),
        long_context=record.texts("long_context"),
    )
