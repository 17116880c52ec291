"""Where EasyEdit is. It cannot be installed, so it is a folder that somebody names, or that a script lies in."""

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import EditError


def find_easyedit(script: Path | None = None) -> Path | None:
    """The folder of the `easyeditor` package's checkout: EASYEDIT_HOME, else on PYTHONPATH, else the one that `script` lies in.

    Raises:
        EditError: EASYEDIT_HOME is set, and EasyEdit is not there.
    """
    named = os.environ.get("EASYEDIT_HOME")
    if named:
        home = Path(named).expanduser().resolve()
        if not _holds_easyedit(home):
            raise EditError(f"EASYEDIT_HOME is {named!r}, which holds no easyeditor package: set it to a checkout of zjunlp/EasyEdit")
        return home
    spec = importlib.util.find_spec("easyeditor")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).resolve().parents[1]
    if script is None:
        return None
    return next((folder for folder in script.resolve().parents if _holds_easyedit(folder)), None)


def _holds_easyedit(folder: Path) -> bool:
    return (folder / "easyeditor" / "__init__.py").is_file()


def commit_of(home: Path) -> str | None:
    """The commit `home` is a checkout of, or None where it is no git repository of its own."""
    if not (home / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(home), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


@contextlib.contextmanager
def importable(home: Path) -> Iterator[None]:
    """`home` stands on sys.path inside, in front of everything but the first entry, where a script's own folder is."""
    before = sys.path[:]
    if str(home) not in sys.path:
        sys.path.insert(1, str(home))
    try:
        yield
    finally:
        sys.path[:] = before
