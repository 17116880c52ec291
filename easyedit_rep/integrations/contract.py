"""What this package relies on in EasyEdit, declared once: `activate` and `run` check what they need, `easyedit-rep doctor` all of it.

Every name taken from EasyEdit goes through `part`: the only place that imports `easyeditor`, and only when it is used.
"""

import importlib
import inspect
import re
from dataclasses import dataclass

from ..errors import EditError

NEXT_STEP = "use RobustEditor, or an EasyEdit of 2026-07 or older"


class NoEasyEdit(EditError):
    """EasyEdit is asked for and is nowhere to be found."""


def _look_up(module: str, name: str):
    """`name` of `module`, which may go deeper: `BatchEditor.is_batchable_method`, `ALG_DICT[ROME]`."""
    # Not `import easyeditor.util.x as y`: EasyEdit's star-imports hide its sub-packages.
    found = importlib.import_module(module)
    for key, attribute in re.findall(r"\[(.+?)\]|([^.\[\]]+)", name):
        found = found[key] if key else getattr(found, attribute)
    return found


def part(module: str, name: str, kind, breaks: str):
    """`module.name` of EasyEdit, checked to be a `kind`; `breaks` says what would go wrong without it."""
    try:
        found = _look_up(module, name)
    except (ImportError, AttributeError, KeyError) as error:
        absent = (error.name or "") if isinstance(error, ImportError) else module
        if absent == "easyeditor":
            raise NoEasyEdit("EasyEdit is not on PYTHONPATH: put its folder there, or use engine: native") from None
        if not absent.startswith("easyeditor"):
            raise EditError(f"EasyEdit cannot be imported ({error}): install what it needs, or use engine: native") from error
        raise EditError(f"EasyEdit has changed: {module} has no {name}, so {breaks}; {NEXT_STEP}") from error
    if not (callable(found) if kind is callable else isinstance(found, kind)):
        raise EditError(f"EasyEdit has changed: {module}.{name} is a {type(found).__name__}, so {breaks}; {NEXT_STEP}")
    return found


@dataclass(frozen=True)
class Point:
    """One thing of EasyEdit that we rely on.

    Attributes:
        module, name: where it is; `name` may go deeper, see `_look_up`.
        kind: the type it must be, or `callable`.
        breaks: what goes wrong without it.
        shared: another module that must hold the very same object, because we change it in place.
        arguments: what it must take by these names.
    """

    module: str
    name: str
    kind: object
    breaks: str
    shared: str | None = None
    arguments: tuple[str, ...] = ()

    def get(self):
        """The thing itself; `EditError` where EasyEdit no longer has it as we need it."""
        found = part(self.module, self.name, self.kind, self.breaks)
        if self.shared and part(self.shared, self.name, object, self.breaks) is not found:
            raise EditError(f"EasyEdit has changed: {self.shared}.{self.name} is not the shared one, so {self.breaks}; {NEXT_STEP}")
        missing = set(self.arguments) - set(inspect.signature(found).parameters) if self.arguments else ()
        if missing:
            names = ", ".join(sorted(missing))
            raise EditError(f"EasyEdit has changed: {self.module}.{self.name} has no argument {names}, so {self.breaks}; {NEXT_STEP}")
        return found


_EDITOR, _BATCH, _UTILS = "easyeditor.editors.editor", "easyeditor.editors.batch_editor", "easyeditor.editors.utils"
_UNKNOWN, _STUCK = "BaseEditor would not know REP", "edits could not be undone"

ALGORITHMS = Point("easyeditor.util.alg_dict", "ALG_DICT", dict, _UNKNOWN, shared=_EDITOR)
RESTORED_BY_CALL = Point(_UTILS, "CALLABLE_RESTORE_ALGS", set, _STUCK)
RESTORE = Point(_UTILS, "restore_after_edit", callable, _STUCK, shared=_EDITOR)
BASE_EDITOR = Point(_EDITOR, "BaseEditor", type, _UNKNOWN)
MEASURE = Point(
    _EDITOR, "compute_edit_quality", callable, "robustness could not be measured", arguments=("model", "hparams", "tok", "record")
)
SUMMARY = Point(_EDITOR, "summary_metrics", callable, "the summary would not tell of robustness", arguments=("all_metrics",))
REQUESTS = Point(_EDITOR, "_prepare_requests", callable, "subject_rephrase and long_context would be lost", arguments=("prompts",))
BATCH_EDITOR = Point(_BATCH, "BatchEditor", type, "batch_edit would refuse REP", shared=_EDITOR)
BATCHABLE = Point(_BATCH, "BatchEditor.is_batchable_method", callable, "batch_edit would refuse REP")

EDITOR_POINTS = (ALGORITHMS, RESTORED_BY_CALL, RESTORE, BASE_EDITOR, MEASURE, SUMMARY, REQUESTS, BATCH_EDITOR, BATCHABLE)
"""What REP in `BaseEditor` needs; `activate` checks all of it before it changes anything."""

HPARAMS_CLASSES = {
    "ROME": "ROMEHyperParams",
    "R-ROME": "R_ROMEHyperParams",
    "MEMIT": "MEMITHyperParams",
    "MEMIT-FE": "MEMITFEHyperParams",
    "EMMET": "EMMETHyperParams",
    "PMET": "PMETHyperParams",
    "AlphaEdit": "AlphaEditHyperParams",
    "SPHERE": "SPHEREHyperParams",
    "EAMET": "EAMETHyperParams",
    "CORE": "COREHyperParams",
}
"""EasyEdit's hyper-parameter classes of the locate-and-edit methods, which an unmodified script may load a REP file with."""

SCRIPT_POINTS = {
    method: Point(
        "easyeditor",
        f"{name}.from_hparams",
        callable,
        f"a script that asks for {method} could not load a REP file",
        arguments=("hparams_name_or_path",),
    )
    for method, name in HPARAMS_CLASSES.items()
}
"""What `easyedit-rep run` needs, by the method a script asks for."""
