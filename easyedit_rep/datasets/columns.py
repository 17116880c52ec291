"""Any table as edits: which column holds what, from a YAML.

    columns:
      prompt: question
      subject: entity
      target_new: new_answer
      ground_truth: old
      rephrase_prompts: [para1, para2]
      locality: {neighborhood: {prompt: n_prompts, ground_truth: n_answers}}

A column holds one value or a list; `a.b` is field b of a mapping in column a.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..config import build, check_keys, read_yaml
from ..errors import EditError
from ..request import EditRequest
from .fields import Fields, named


@dataclass(frozen=True)
class GroupColumns:
    """The columns of a group of questions."""

    prompt: str
    ground_truth: str


@dataclass(frozen=True)
class ColumnMap:
    """A column's name for each field of `EditRequest`; lists of names where several columns hold one text each."""

    prompt: str
    subject: str
    target_new: str
    ground_truth: str | None = None
    rephrase_prompts: str | list[str] | None = None
    subject_rephrase: str | list[str] | None = None
    long_context: str | list[str] | None = None
    locality: dict[str, GroupColumns] = field(default_factory=dict)
    portability: dict[str, GroupColumns] = field(default_factory=dict)

    def __call__(self, record: Fields) -> EditRequest:
        """The request in a row."""
        row = Fields({name: _cell(record.raw, name) for name in self.names()}, blank=record.blank)

        def texts(columns: str | list[str] | None) -> tuple[str, ...]:
            return tuple(text for name in _names(columns) for text in row.texts(name))

        def groups(section: Mapping[str, GroupColumns]):
            return named(**{name: row.questions(group.prompt, group.ground_truth) for name, group in section.items()})

        return EditRequest(
            prompt=row.text(self.prompt),
            subject=row.text(self.subject),
            target_new=row.text(self.target_new),
            ground_truth=row.answer(self.ground_truth) if self.ground_truth else None,
            rephrase_prompts=texts(self.rephrase_prompts),
            subject_rephrase=texts(self.subject_rephrase),
            long_context=texts(self.long_context),
            locality=groups(self.locality),
            portability=groups(self.portability),
        )

    def names(self) -> Iterator[str]:
        """Every column the map speaks of."""
        plain = (self.prompt, self.subject, self.target_new, self.ground_truth)
        for columns in (*plain, self.rephrase_prompts, self.subject_rephrase, self.long_context):
            yield from _names(columns)
        for group in (*self.locality.values(), *self.portability.values()):
            yield from (group.prompt, group.ground_truth)

    def check(self, rows: Sequence[object], source: str) -> None:
        """Refuse a column that no row has: the map is wrong, not the rows."""
        for name in self.names():
            if all(_cell(row, name) is None for row in rows):
                there = dict.fromkeys(str(key) for row in rows if isinstance(row, Mapping) for key in row)
                raise EditError(f"{source}: no row has anything in column {name!r}; its columns are {', '.join(there) or 'none'}")


def read_columns(path: str | Path) -> ColumnMap:
    """The column map in a YAML.

    Raises:
        EditError: an unknown or missing key, named with the file.
    """
    data = read_yaml(path)
    check_keys(data, ["columns"], str(path))
    return build(ColumnMap, data.get("columns"), f"{path}: columns")


def _names(columns: str | list[str] | None) -> list[str]:
    return [columns] if isinstance(columns, str) else columns or []


def _cell(row: object, name: str) -> object:
    """What is in a column, or under a dotted name; None where there is nothing."""
    if not isinstance(row, Mapping):
        return None
    if name in row or "." not in name:
        return row.get(name)
    first, _, rest = name.partition(".")
    return _cell(row.get(first), rest)
