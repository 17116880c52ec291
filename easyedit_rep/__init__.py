"""easyedit_rep: robust, sequential, measurable and reversible knowledge edits, inside EasyEdit or on their own.

from easyedit_rep import REPHyperParams, RobustEditor

editor = RobustEditor.from_hparams(REPHyperParams.from_hparams("hparams/REP/ROME/llama2-7b.yaml"))
metrics, model, edits = editor.edit(prompts=[…], subject=[…], target_new=[…])
edits[0].save("my-edit")  # a file; load_edits(model, "my-edit") in another process
edits[0].undo()
"""

from .editor import RobustEditor
from .edits.export import save_model
from .edits.load import load_edits
from .errors import EditError
from .evaluation.any_model import Evaluation, evaluate
from .hparams import D4SHyperParams, REPHyperParams
from .ledger import Edit, Ledger
from .pathway import RepConfig, RepLayer, RepModel
from .request import EditRequest
from .version import __version__

__all__ = [
    "D4SHyperParams",
    "Edit",
    "EditError",
    "EditRequest",
    "Evaluation",
    "Ledger",
    "REPHyperParams",
    "RepConfig",
    "RepLayer",
    "RepModel",
    "RobustEditor",
    "__version__",
    "evaluate",
    "load_edits",
    "save_model",
]
