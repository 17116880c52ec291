"""What to edit: a prompt around a subject, the new target, and what it will be measured on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .errors import EditError
from .memory.tokens import Prompt


@dataclass(frozen=True)
class Question:
    """A prompt with the answer it is compared to."""

    prompt: str
    answer: str


def _strings(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """EasyEdit gives one string, a list of them, or nothing; empty strings, and pandas' NaN, occur in real data and ask nothing."""
    if _blank(value):
        return ()
    return tuple(str(v) for v in ([value] if isinstance(value, str) else value) if not _blank(v))


def _blank(value) -> bool:
    """Nothing, pandas' NaN, or a text without a letter."""
    return value is None or (isinstance(value, float) and value != value) or (isinstance(value, str) and not value.strip())


def _answer(value) -> str | None:
    """One answer; of a list of accepted ones the first."""
    while isinstance(value, (list, tuple)):
        value = value[0] if value else None
    return None if _blank(value) else str(value)


def _check_group(name: str, group: Mapping) -> None:
    missing = [key for key in ("prompt", "ground_truth") if key not in group]
    if missing:
        raise EditError(f'{name} lacks {", ".join(missing)}: write {{"prompt": […], "ground_truth": […]}}')


def _questions(groups: Mapping | None) -> dict[str, tuple[Question, ...]]:
    out = {}
    for name, group in (groups or {}).items():
        _check_group(name, group)
        prompts, answers = group["prompt"], group["ground_truth"]
        prompts = list(prompts) if isinstance(prompts, (list, tuple)) else [prompts]
        answers = list(answers) if isinstance(answers, (list, tuple)) else [answers] * len(prompts)
        if len(answers) != len(prompts):
            raise EditError(f"{name}: {len(prompts)} prompts but {len(answers)} ground truths, give one for each")
        pairs = ((p, _answer(a)) for p, a in zip(prompts, answers, strict=True) if not _blank(p))
        out[name] = tuple(Question(str(p), a) for p, a in pairs if a is not None)
    return out


@dataclass(frozen=True)
class EditRequest:
    """One fact to rewrite.

    Attributes:
        prompt: text that holds the subject, or a template with one `{}` in its place. Where the subject occurs several times in a
            text, the last occurrence is the one edited (it sees all the others); write `{}` to choose another.
        target_new: the answer wanted.
        ground_truth: the answer before the edit, if known.
        rephrase_prompts: paraphrased prompts (Paraphrase); they need not hold the subject.
        locality, portability: by name, questions whose answer must stay, or must follow from the edit.
        subject_rephrase: other names of the subject, the first half of which the pathway is trained on.
        long_context: texts to put before the prompt, the first half trained on.

    Raises:
        EditError: on construction, for a request that cannot be edited.
    """

    prompt: str
    subject: str
    target_new: str
    ground_truth: str | None = None
    rephrase_prompts: tuple[str, ...] = ()
    locality: Mapping[str, tuple[Question, ...]] = field(default_factory=dict)
    portability: Mapping[str, tuple[Question, ...]] = field(default_factory=dict)
    subject_rephrase: tuple[str, ...] = ()
    long_context: tuple[str, ...] = ()

    def __post_init__(self):
        if not isinstance(self.prompt, str):
            raise EditError(f"prompt {self.prompt!r} is not a text: write the sentence that holds the subject")
        for name in ("subject", "target_new"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise EditError(f"{name} of prompt {self.prompt!r} is {value!r}, not a text: write {str(value)!r}")
        if not self.target_new or not self.target_new.strip():
            raise EditError(f"target_new of prompt {self.prompt!r} is empty: give the answer the model should say")
        if not self.subject or not self.subject.strip():
            raise EditError(f"subject of prompt {self.prompt!r} is empty: name the entity the fact is about")
        slots = self.prompt.count("{}")
        if slots > 1:
            raise EditError(f"prompt {self.prompt!r} has {slots} '{{}}': leave one, where the subject goes")
        if slots == 0 and self.subject not in self.prompt:
            raise EditError(f"subject {self.subject!r} is not in prompt {self.prompt!r}: spell it as in the prompt, or write {{}}")

    @property
    def located(self) -> Prompt:
        """The prompt, split around the subject."""
        if "{}" in self.prompt:
            prefix, suffix = self.prompt.split("{}")
        else:
            prefix, _, suffix = self.prompt.rpartition(self.subject)
        return Prompt(prefix, self.subject, suffix)

    @property
    def text(self) -> str:
        return self.located.text

    @classmethod
    def from_easyedit(cls, request: Mapping) -> "EditRequest":
        """From the dict `BaseEditor` passes to an algorithm (extra keys are other people's business)."""
        missing = [name for name in ("prompt", "subject", "target_new") if name not in request]
        if missing:
            raise EditError(f"request {str(request.get('prompt'))!r} lacks {', '.join(missing)}: pass {', '.join(missing)}=[…] to edit()")
        return cls(
            prompt=request["prompt"],
            subject=request["subject"],
            target_new=request["target_new"],
            ground_truth=_answer(request.get("ground_truth")),
            rephrase_prompts=_strings(request.get("rephrase_prompt")),
            locality=_questions(request.get("locality")),
            portability=_questions(request.get("portability")),
            subject_rephrase=_strings(request.get("subject_rephrase")),
            long_context=_strings(request.get("long_context")),
        )


def _column(name: str, value, n: int) -> list:
    if value is None:
        return [None] * n
    value = [value] if isinstance(value, str) else list(value)
    if len(value) != n:
        raise EditError(f"{name} has {len(value)} entries for {n} prompts: give one for each")
    return value


def _group_rows(name: str, groups: Mapping | None, n: int) -> Iterator[dict]:
    for key, group in (groups or {}).items():
        _check_group(f"{name}[{key}]", group)
    columns = {
        key: (_column(f"{name}[{key}].prompt", g["prompt"], n), _column(f"{name}[{key}].ground_truth", g["ground_truth"], n))
        for key, g in (groups or {}).items()
    }
    for i in range(n):
        yield {key: {"prompt": p[i], "ground_truth": a[i]} for key, (p, a) in columns.items() if p[i] is not None}


def make_requests(
    prompts: str | Sequence[str],
    subject: str | Sequence[str],
    target_new: str | Sequence[str],
    ground_truth: str | Sequence[str] | None = None,
    rephrase_prompts: Sequence | None = None,
    locality_inputs: Mapping | None = None,
    portability_inputs: Mapping | None = None,
    subject_rephrase: Sequence | None = None,
    long_context: Sequence | None = None,
) -> list[EditRequest]:
    """Requests from columns, as `BaseEditor.edit` takes them. All are checked before any is returned."""
    n = 1 if isinstance(prompts, str) else len(prompts)
    if isinstance(prompts, str) and subject_rephrase is not None and all(isinstance(s, str) for s in subject_rephrase):
        subject_rephrase = [subject_rephrase]
    if isinstance(prompts, str) and long_context is not None and all(isinstance(s, str) for s in long_context):
        long_context = [long_context]
    columns = {
        "prompt": _column("prompts", prompts, n),
        "subject": _column("subject", subject, n),
        "target_new": _column("target_new", target_new, n),
        "ground_truth": _column("ground_truth", ground_truth, n),
        "rephrase_prompt": _column("rephrase_prompts", rephrase_prompts, n),
        "subject_rephrase": _column("subject_rephrase", subject_rephrase, n),
        "long_context": _column("long_context", long_context, n),
        "locality": list(_group_rows("locality_inputs", locality_inputs, n)),
        "portability": list(_group_rows("portability_inputs", portability_inputs, n)),
    }
    return [EditRequest.from_easyedit({name: column[i] for name, column in columns.items()}) for i in range(n)]
