"""Rephrased subjects from a side file."""

import json
from pathlib import Path

from ..errors import EditError


def load_rephrases(path: str | Path) -> dict[str, tuple[str, ...]]:
    """`{subject: [other names]}` from a JSON file.

    Raises:
        EditError: no such file, not JSON, or not an object of lists of strings.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EditError(f"rephrase_file {path}: {error}") from None
    if not isinstance(data, dict):
        raise EditError(f'rephrase_file {path} holds a {type(data).__name__}: write {{"subject": ["other name", …]}}')
    for subject, names in data.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise EditError(f"rephrase_file {path}: the entry of {subject!r} is not a list of strings")
    return {subject: tuple(name for name in names if name.strip()) for subject, names in data.items()}
