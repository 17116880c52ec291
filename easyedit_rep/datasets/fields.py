"""One record's fields, read by name: what is not as it must be is refused with the field's name."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NoReturn

from ..errors import EditError
from ..request import Question


class FieldError(EditError):
    """A malformed record; `field` names where."""

    def __init__(self, field: str, reason: str):
        super().__init__(reason)
        self.field = field


class Fields:
    """A record, read.

    Texts are taken as they are; a number where a text is wanted (a year, a 0/1 label) is its digits. Blank entries of lists ask nothing,
    occur in real data, and are left out: `blank` holds the field of each.

    Raises:
        FieldError: from every method, for a value of another kind.
    """

    def __init__(self, record: object, path: str = "", blank: list[str] | None = None):
        if not isinstance(record, Mapping):
            raise FieldError(path.rstrip(".") or "record", f"must be a mapping, not {_short(record)}")
        self.raw, self._path = record, path
        self.blank: list[str] = [] if blank is None else blank

    def __contains__(self, name: str) -> bool:
        return self.raw.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def path(self, name: str) -> str:
        """Where `name` is, seen from the whole record."""
        return f"{self._path}{name}"

    def refuse(self, name: str, reason: str) -> NoReturn:
        raise FieldError(self.path(name), f"{self.path(name)} {reason}")

    def text(self, *names: str) -> str:
        """The first of `names` that is there: releases of one format differ in names."""
        name = next((name for name in names if name in self), names[0])
        if name not in self:
            self.refuse(name, "is missing")
        return self._as_text(name, self.raw[name])

    def text_or_none(self, *names: str) -> str | None:
        """As `text`; None where nothing is given or it is blank."""
        text = self.text(*names) if any(name in self for name in names) else ""
        return text if text.strip() else None

    def texts(self, *names: str) -> tuple[str, ...]:
        """One text or a list of them, without the blank ones; () where nothing is given."""
        name = next((name for name in names if name in self), names[0])
        out = tuple(self._as_text(name, value) for value in self._as_list(name))
        return self._without_blank(name, out)

    def answer(self, *names: str) -> str | None:
        """The first that is not blank of accepted answers: a text, a list, or a list of lists. None where there is none."""
        name = next((name for name in names if name in self), names[0])
        answers = (self._as_text(name, value) for value in _flat(self.raw.get(name)))
        return next((text for text in answers if text.strip()), None)

    def group(self, name: str) -> "Fields":
        """A mapping within the record; one that is not given is empty."""
        return Fields(self.raw.get(name) if name in self else {}, f"{self._path}{name}.", self.blank)

    def groups(self, name: str) -> "Iterator[Fields]":
        """Each mapping of a list of them."""
        value = self.raw.get(name)
        if value is not None and not isinstance(value, list):
            self.refuse(name, f"must be a list, not {_short(value)}")
        for index, item in enumerate(value or ()):
            yield Fields(item, f"{self._path}{name}[{index}].", self.blank)

    def questions(self, prompts: str, answers: str) -> tuple[Question, ...]:
        """A question for each prompt, with its own answer or the one that all share; one without an answer asks nothing either."""
        asked = [self._as_text(prompts, value) for value in self._as_list(prompts)]
        if not asked:
            return ()
        if answers not in self:
            self.refuse(answers, f"is missing: {prompts} cannot be compared with anything")
        given = [self._as_text(answers, value) for value in self._as_list(answers)]
        if len(given) == 1:
            given *= len(asked)
        if len(given) != len(asked):
            self.refuse(answers, f"has {len(given)} answers for {len(asked)} prompts: give one for each, or one for all")
        kept = [Question(p, a) for p, a in zip(asked, given, strict=True) if p.strip() and a.strip()]
        self.blank += [self.path(prompts)] * (len(asked) - len(kept))
        return tuple(kept)

    def _as_list(self, name: str) -> list:
        value = self.raw.get(name)
        return value if isinstance(value, list) else [] if value is None else [value]

    def _as_text(self, name: str, value: object) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            self.refuse(name, f"must be text, not {_short(value)}")
        return value

    def _without_blank(self, name: str, texts: Iterable[str]) -> tuple[str, ...]:
        texts = tuple(texts)
        kept = tuple(text for text in texts if text.strip())
        self.blank += [self.path(name)] * (len(texts) - len(kept))
        return kept


def named(**groups: tuple[Question, ...]) -> dict[str, tuple[Question, ...]]:
    """The groups that ask something."""
    return {name: questions for name, questions in groups.items() if questions}


def _flat(value: object) -> Iterator[object]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    elif value is not None:
        yield value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
