"""From what a chat model answers to names: lists parsed, and what is no other name of the subject left out."""

import json
import re
from collections.abc import Iterable, Sequence

_ITEM = re.compile(r"^\s*(?:\(?\d{1,3}[.):]|[-*•–])\s+(.+?)\s*$")
_FENCE = re.compile(r"```\w*\n?")
_QUOTES = "\"'“”‘’«»`*_ \t"

LONGEST = 200
"""Characters of a name at most; what is longer is an explanation."""


def parse_names(answer: str) -> list[str]:
    """The items of a JSON list (or of an object's values), or of the numbered or bulleted lines of `answer`; [] where there are none.

    Lines outside the list ("Sure! Here are …") are left out, and quotes and asterisks around an item taken off.
    """
    items = _from_json(_FENCE.sub("", answer))
    if items is None:
        items = [match.group(1) for line in answer.splitlines() if (match := _ITEM.match(line))]
    return [name for item in items if (name := item.strip(_QUOTES))]


def _from_json(text: str) -> list[str] | None:
    start = min((at for at in (text.find("["), text.find("{")) if at >= 0), default=None)
    if start is None:
        return None
    try:
        data, _ = json.JSONDecoder().raw_decode(text[start:])
    except ValueError:
        return None
    values = list(data.values()) if isinstance(data, dict) else data
    if len(values) == 1 and isinstance(values[0], list):  # {"rephrases": [...]}
        values = values[0]
    return [v for v in values if isinstance(v, str)] or None


def valid_names(subject: str, names: Sequence[str]) -> tuple[str, ...]:
    """Those of `names` that are other names of `subject`, in order: not itself, not a repetition (both whatever the case), no essay."""
    seen, out = {_plain(subject), ""}, []
    for name in names:
        if _plain(name) not in seen and len(name) <= LONGEST:
            seen.add(_plain(name))
            out.append(" ".join(name.split()))
    return tuple(out)


def without_targets(names: Sequence[str], targets: Iterable[str]) -> tuple[str, ...]:
    """Those of `names` that hold none of `targets` as a word: a name that says the new target would be answered by copying."""
    leaks = [re.compile(rf"(?<!\w){re.escape(target.strip())}(?!\w)", re.IGNORECASE) for target in targets if target.strip()]
    return tuple(name for name in names if not any(leak.search(name) for leak in leaks))


def _plain(name: str) -> str:
    return " ".join(name.casefold().split()).strip(" .,;:!\"'")
