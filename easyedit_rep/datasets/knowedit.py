"""KnowEdit (Zhang et al., 2024): ZsRE, wiki_counterfact, wiki_recent and WikiBio, with groups of locality and portability questions."""

from ..request import EditRequest, Question
from .fields import Fields


def knowedit(record: Fields) -> EditRequest:
    """`prompt`, `subject`, `target_new` (WikiBio: `text`, `concept`, `labels`), and optionally `ground_truth`, `rephrase` and
    `locality`/`portability`: {group: [{"prompt", "ground_truth"}, …]}.

    A ground truth is a text, a list of accepted answers or a list of such lists; the first accepted answer is asked for, as in EasyEdit.
    """
    return EditRequest(
        prompt=record.text("prompt", "text"),
        subject=record.text("subject", "concept"),
        target_new=record.text("target_new", "labels"),
        ground_truth=record.answer("ground_truth"),
        rephrase_prompts=record.texts("rephrase_prompt", "rephrase"),
        locality=_groups(record.group("locality")),
        portability=_groups(record.group("portability")),
    )


def _groups(section: Fields) -> dict[str, tuple[Question, ...]]:
    groups = {str(name): tuple(q for item in section.groups(name) for q in _questions(item)) for name in section}
    return {name: questions for name, questions in groups.items() if questions}


def _questions(item: Fields) -> list[Question]:
    prompts, answer = item.texts("prompt"), item.answer("ground_truth")
    if answer is None:
        # Real files hold questions whose only answer is "": nothing can be compared.
        item.blank += [item.path("ground_truth")] * len(prompts)
        return []
    return [Question(prompt, answer) for prompt in prompts]
