"""Doing something as soon as another package has been imported, without importing it: PEFT takes two seconds."""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec


def when_imported(package: str, follower: str) -> None:
    """Import the module `follower` right after `package`, which is not imported yet, will have been. Idempotent."""
    finder = _Watch(package, follower)
    if finder not in sys.meta_path:
        sys.meta_path.insert(0, finder)


class _Watch(MetaPathFinder):
    """Finds nothing itself: it asks the other finders for `package`, and follows what they found when that is run."""

    def __init__(self, package: str, follower: str):
        self.package, self.follower = package, follower

    def __eq__(self, other) -> bool:
        return isinstance(other, _Watch) and vars(other) == vars(self)

    __hash__ = None

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name != self.package:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module) -> None:
            run(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            import_module(self.follower)

        # On this loader alone: a spec is found anew each time, and may be looked at without being run.
        spec.loader.exec_module = exec_module
        return spec
