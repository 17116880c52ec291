"""Writing a file so that a kill or a full disk leaves the old one or the new one, never half of one."""

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

NOT_AN_ARCHIVE = (OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, zipfile.BadZipFile)
"""What reading arrays out of an `.npz` file raises where it is none, by what it is instead and by the version of Python."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A scratch path beside `path`, which takes its place when the block ends without an error, and is removed when it does not.

    Raises:
        OSError: of the file system; `path` is then as it was.
    """
    with replacing_all([path]) as (scratch,):
        yield scratch


@contextmanager
def replacing_all(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """`replacing` for several files: none takes its place before all are on the disk, then each does, in the order given."""
    scratches = [path.with_name(f"{path.name}.tmp{os.getpid()}") for path in paths]
    try:
        yield scratches
        for scratch in scratches:
            with scratch.open("rb+") as written:
                os.fsync(written.fileno())  # a rename may otherwise reach the disk before the data does
        for scratch, path in zip(scratches, paths, strict=True):
            scratch.replace(path)
    finally:
        for scratch in scratches:
            scratch.unlink(missing_ok=True)


def remove_scratch(path: Path) -> None:
    """Remove what killed processes left of writing `path`; another that is alive is writing there still."""
    prefix = f"{path.name}.tmp"
    for left in list(path.parent.iterdir()) if path.parent.is_dir() else []:
        number = left.name.removeprefix(prefix)
        if left.name.startswith(prefix) and number.isdigit() and not _alive(int(number)):
            left.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    """Whether there is another process of that number on this machine."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def replace_together(writers: Mapping[Path, Callable[[Path], object]]) -> None:
    """Write several files; none takes its place before all are on the disk, then each does in turn. OSError of the file system.

    Args:
        writers: {path: what writes the scratch file it is given}.
    """
    for path in writers:
        remove_scratch(path)
    try:
        with replacing_all(list(writers)) as scratches:
            for scratch, write in zip(scratches, writers.values(), strict=True):
                scratch.touch()
                mode = scratch.stat().st_mode  # as files are here; safetensors makes them the owner's alone
                write(scratch)
                scratch.chmod(mode)
    except SafetensorError as error:  # its own type for a full disk
        raise OSError(str(error)) from error


def write_json(path: Path, data: Mapping) -> None:
    """`data`, indented for people."""
    path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """`tensors`, from whatever device."""
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path, metadata=metadata)


def replace_json(path: Path, data: Mapping) -> None:
    """Write `data` to `path`, whole; OSError of the file system."""
    replace_together({path: partial(write_json, data=data)})


def replace_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write `tensors` to `path`, whole; OSError of the file system."""
    replace_together({path: partial(write_tensors, tensors=tensors, metadata=metadata)})
