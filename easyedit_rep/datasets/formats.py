"""The known formats, by name, and which of them a record is in."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..errors import EditError
from ..request import EditRequest
from .counterfact import flat, rome
from .fields import Fields
from .knowedit import knowedit
from .mqd.files import mqd
from .rep import rep
from .twenty_questions import twenty_questions
from .zsre import zsre


class Format(NamedTuple):
    """How records of one kind are told from others, and read.

    Attributes:
        has: whether a record's keys are this format's; formats are asked in order, the most particular first.
    """

    name: str
    read: Callable[[Fields], EditRequest]
    has: Callable[[Mapping], bool]


def _grouped(record: Mapping) -> bool:
    """KnowEdit's groups are mappings of lists; ZsRE's portability is a mapping of texts."""
    sections = [record.get(name) for name in ("locality", "portability")]
    return any(isinstance(s, Mapping) and all(v is None or isinstance(v, list) for v in s.values()) for s in sections)


FORMATS = (
    Format("counterfact-rome", rome, lambda r: "requested_rewrite" in r),
    Format("zsre", zsre, lambda r: "src" in r and "alt" in r),
    Format("mqd", mqd, lambda r: "question" in r and "tail" in r),
    Format("20q", twenty_questions, lambda r: "prompt" in r and "label" in r),
    Format("rep", rep, lambda r: "target_true" in r),
    Format("knowedit", knowedit, lambda r: ("concept" in r and "labels" in r) or _grouped(r)),
    Format("counterfact", flat, lambda r: len({"prompt", "subject", "target_new"} & set(r)) >= 2),
)


def by_name(name: str) -> Format:
    for known in FORMATS:
        if known.name == name:
            return known
    raise EditError(f"format {name!r} is not known: one of {', '.join(f.name for f in FORMATS)}, or a column map")


def detect(record: object, source: str) -> Format:
    """The format of a record's keys."""
    if isinstance(record, Mapping):
        for known in FORMATS:
            if known.has(record):
                return known
    keys = f"has the keys {', '.join(map(str, record)) or '(none)'}" if isinstance(record, Mapping) else "is no mapping"
    raise EditError(
        f"{source}: record 0 {keys}, which is no known format: name one of {', '.join(f.name for f in FORMATS)}, or map columns"
    )
