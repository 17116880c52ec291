"""What `--json FILE` writes."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import EditError


def write_json_file(path: Path, data: Mapping) -> None:
    """`data` to `path`, its folder made if need be: what it holds may have taken hours."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise EditError(f"cannot write {path}: {error.strerror}; give --json another place") from error


def check_json_file(path: Path) -> None:
    """Refuse a place that cannot be written, before hours are spent on what it is to hold."""
    folder = next(p for p in (path.absolute().parent, *path.absolute().parent.parents) if p.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise EditError(f"cannot write {path}: give --json another place")
