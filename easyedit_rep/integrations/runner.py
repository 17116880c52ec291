"""`easyedit-rep run script.py …`: a script of EasyEdit's, or one's own, unmodified; its hyper-parameter classes load REP files too.

The script sees what it would see under `python script.py …`: its arguments, its folder in front of sys.path, `__name__ == "__main__"`, the
caller's working directory; its exit code and its traceback are its own. Only EasyEdit's folder is added to sys.path.
"""

import os
import runpy
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import TracebackType

from ..errors import EditError
from .home import find_easyedit

NOT_FOUND = "easyedit-rep: EasyEdit was not found: set EASYEDIT_HOME to its checkout, or put that on PYTHONPATH"


def prepare(command: Sequence[str]) -> str:
    """Make this process look like `python` followed by `command` (a script, then its arguments), with REP in reach.

    Returns:
        what `start` takes.

    Raises:
        EditError: no such script, or EASYEDIT_HOME is not EasyEdit's; nothing has been changed.
    """
    script = command[0] if command else ""
    path = os.path.abspath(script)
    if not os.path.isfile(path):
        raise EditError(f"there is no script {script!r}: name a Python file, then its arguments")
    folder = str(Path(path).resolve().parent)
    # As `python script.py` does it; what stands first now is where this program came from.
    replaced = sys.path[:]
    if not getattr(sys.flags, "safe_path", False):
        replaced[:1] = [folder]
    before, sys.path[:] = sys.path[:], replaced
    try:
        home = find_easyedit(Path(path))
    except EditError:
        sys.path[:] = before
        raise
    if home is not None and str(home) not in sys.path:
        sys.path.insert(1, str(home))
    sys.argv = list(command)
    sys.meta_path.insert(0, _AtImport())
    sys.excepthook = _shown_from(path)
    return path


def start(path: str) -> None:
    """Run the script. Whatever it raises, SystemExit too, goes to the caller, who lets it pass."""
    runpy.run_path(path, run_name="__main__")


class _AtImport(MetaPathFinder):
    """Prepares EasyEdit at the moment the script imports it.

    Not before: importing it seeds every generator, and a script may set environment variables or seeds first.
    """

    def find_spec(self, name, path=None, target=None):
        if name != "easyeditor":
            return None
        specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module) -> None:
                execute(module)
                from .easyedit import accept_rep_files

                accept_rep_files()

            spec.loader.exec_module = exec_module
        return spec


def _shown_from(script: str):
    """An excepthook that shows a traceback from the script on, without the frames that led to it."""
    show = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        own = trace
        while own is not None and own.tb_frame.f_code.co_filename != script:
            own = own.tb_next
        if own is None and not isinstance(
            error, SyntaxError
        ):  # a script that does not compile has no frame; anything else is our own fault
            own = trace
        show(kind, error.with_traceback(own), own)
        if isinstance(error, ModuleNotFoundError) and error.name == "easyeditor":
            print(NOT_FOUND, file=sys.stderr)

    return hook
