"""Writing a file so that a kill or a full disk leaves the old one or the new one, never half of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
