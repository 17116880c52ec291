"""Every name this package takes from EasyEdit goes through here: the only place that imports `easyeditor`, and only when it is used."""

import importlib

from ..errors import EditError

NEXT_STEP = "use RobustEditor, or an EasyEdit of 2026-07 or older"


def part(module: str, name: str, kind, breaks: str):
    """`module.name` of EasyEdit, checked to be a `kind`; `breaks` says what would go wrong without it."""
    try:
        # Not `import easyeditor.util.x as y`: EasyEdit's star-imports hide its sub-packages.
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        absent = (error.name or "") if isinstance(error, ImportError) else module
        if absent == "easyeditor":
            raise EditError("EasyEdit is not on PYTHONPATH: put its folder there, or use engine: native") from None
        if not absent.startswith("easyeditor"):
            raise EditError(f"EasyEdit cannot be imported ({error}): install what it needs, or use engine: native") from error
        raise EditError(f"EasyEdit has changed: {module} has no {name}, so {breaks}; {NEXT_STEP}") from error
    if not (callable(found) if kind is callable else isinstance(found, kind)):
        raise EditError(f"EasyEdit has changed: {module}.{name} is a {type(found).__name__}, so {breaks}; {NEXT_STEP}")
    return found
