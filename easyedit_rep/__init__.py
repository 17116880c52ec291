"""easyedit_rep: robust, sequential, measurable and reversible knowledge edits, inside EasyEdit or on their own.

from easyedit_rep import REPHyperParams, RobustEditor

editor = RobustEditor.from_hparams(REPHyperParams.from_hparams("hparams/REP/ROME/llama2-7b.yaml"))
metrics, model, edits = editor.edit(prompts=[…], subject=[…], target_new=[…])
edits[0].save("my-edit")  # a file; load_edits(model, "my-edit") in another process
edits[0].undo()

A public name is imported when it is first asked for, so that importing the package takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .integrations import register_with_peft
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .edit import Edit as Edit
    from .editor import RobustEditor as RobustEditor
    from .edits.load import load_edits as load_edits
    from .errors import EditError as EditError
    from .evaluation.any_model import Evaluation as Evaluation
    from .evaluation.any_model import evaluate as evaluate
    from .hparams import D4SHyperParams as D4SHyperParams
    from .hparams import REPHyperParams as REPHyperParams
    from .integrations.robustness import measure_robustness as measure_robustness
    from .ledger import Ledger as Ledger
    from .pathway import RepConfig as RepConfig
    from .pathway import RepLayer as RepLayer
    from .pathway import RepModel as RepModel
    from .request import EditRequest as EditRequest

_MODULES = {
    "D4SHyperParams": "hparams",
    "Edit": "edit",
    "EditError": "errors",
    "EditRequest": "request",
    "Evaluation": "evaluation.any_model",
    "Ledger": "ledger",
    "REPHyperParams": "hparams",
    "RepConfig": "pathway",
    "RepLayer": "pathway",
    "RepModel": "pathway",
    "RobustEditor": "editor",
    "evaluate": "evaluation.any_model",
    "load_edits": "edits.load",
    "save_model": "edits.export",
    "measure_robustness": "integrations.robustness",
}
"""Public name -> the module that it comes from."""

__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_with_peft()
