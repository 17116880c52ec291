"""What `--json FILE` writes."""

import json
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
