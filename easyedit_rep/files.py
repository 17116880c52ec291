"""Writing a file so that a kill or a full disk leaves the old one or the new one, never half of one."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A scratch path beside `path`, which takes its place when the block ends without an error, and is removed when it does not.

    Raises:
        OSError: of the file system; `path` is then as it was.
    """
    scratch = path.with_name(f"{path.name}.tmp{os.getpid()}")
    try:
        yield scratch
        with scratch.open("rb+") as written:
            os.fsync(written.fileno())  # a rename may otherwise reach the disk before the data does
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def remove_scratch(path: Path) -> None:
    """Remove what killed processes left of writing `path`."""
    for left in path.parent.glob(f"{path.name}.tmp*"):
        left.unlink(missing_ok=True)


def replace_json(path: Path, data: Mapping) -> None:
    """Write `data` to `path`, whole; OSError of the file system."""
    remove_scratch(path)
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def replace_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write `tensors` to `path`, whole; OSError of the file system."""
    remove_scratch(path)
    try:
        with replacing(path) as scratch:
            save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, scratch, metadata=metadata)
    except SafetensorError as error:  # its own type for a full disk
        raise OSError(str(error)) from error
