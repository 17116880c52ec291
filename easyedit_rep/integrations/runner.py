"""`easyedit-rep run script.py …`: a script of EasyEdit's, or one's own, unmodified; its hyper-parameter classes load REP files too.

The script sees what it would see under `python script.py …`: its arguments, its folder in front of sys.path, `__name__ == "__main__"`, the
caller's working directory; its exit code and its traceback are its own. Only EasyEdit's folder is added to sys.path.
"""

import argparse
import os
import runpy
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import TracebackType

from ..datasets.corpus import load_corpus
from ..errors import EditError
from ..queries.rephrase import load_rephrases
from ..rep_options import QueryOptions
from .home import find_easyedit
from .robustness import Robustness, RobustnessOptions

NOT_FOUND = "easyedit-rep: EasyEdit was not found: set EASYEDIT_HOME to its checkout, or put that on PYTHONPATH"


def own_options(arguments: Sequence[str]) -> tuple[RobustnessOptions | None, list[str]]:
    """What `easyedit-rep run` keeps for itself, before the script's name: `--robustness`, `--corpus FILE`, `--rephrases FILE`.

    Returns:
        what to measure of every edit, None without `--robustness`; and the rest, a script and its arguments.
    """
    parser = argparse.ArgumentParser("easyedit-rep run", add_help=False, allow_abbrev=False)
    parser.add_argument("--robustness", action="store_true")
    parser.add_argument("--corpus")
    parser.add_argument("--rephrases")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    found = parser.parse_args(arguments)
    return robustness_options(found.robustness, found.corpus, found.rephrases), found.command


def robustness_options(wanted: bool, corpus: str | None, rephrases: str | None) -> RobustnessOptions | None:
    """None unless `wanted`; EditError for files that nobody asked for, or that are not there."""
    for name, path in (("--corpus", corpus), ("--rephrases", rephrases)):
        if path is not None and not wanted:
            raise EditError(f"{name} {path} is for --robustness, which is not given: give it too")
    if not wanted:
        return None
    if rephrases is not None:
        load_rephrases(rephrases)
    if corpus is not None:
        load_corpus(corpus)
    return RobustnessOptions(corpus=_absolute(corpus), queries=QueryOptions(rephrase_file=_absolute(rephrases)))


def _absolute(path: str | None) -> str | None:
    return os.path.abspath(path) if path is not None and os.path.exists(path) else path  # the script may change directory


def prepare(command: Sequence[str], measured: RobustnessOptions | None = None) -> str:
    """Make this process look like `python` followed by `command` (a script, then its arguments), with REP in reach.

    Args:
        measured: of every edit that the script has EasyEdit make.

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
    sys.meta_path.insert(0, _AtImport(measured))
    sys.excepthook = _shown_from(path)
    return path


def start(path: str) -> None:
    """Run the script. Whatever it raises, SystemExit too, goes to the caller, who lets it pass."""
    runpy.run_path(path, run_name="__main__")


class _AtImport(MetaPathFinder):
    """Prepares EasyEdit at the moment the script imports it.

    Not before: importing it seeds every generator, and a script may set environment variables or seeds first.
    """

    def __init__(self, measured: RobustnessOptions | None):
        self._measured = measured

    def find_spec(self, name, path=None, target=None):
        if name != "easyeditor":
            return None
        specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module) -> None:
                execute(module)
                from .easyedit import accept_rep_files, activate

                accept_rep_files()
                if self._measured is not None:
                    activate(Robustness(self._measured))

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
