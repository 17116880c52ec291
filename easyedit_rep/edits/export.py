"""A whole checkpoint of an edited model: plain where there are no pathways, else with them in a folder beside it."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from safetensors import SafetensorError
from torch import nn

from ..anatomy import Anatomy
from ..errors import EditError
from ..ledger import Ledger
from ..memory.delta import tensor_digest
from ..pathway.model import layers_of
from .artefact import Artefact, check_free
from .gather import gather

PATHWAYS = "pathways"
"""The folder inside the checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """What has been written, and the lines that load it again."""

    folder: Path
    pathways: int

    def lines(self) -> list[str]:
        out = [f'model = AutoModelForCausalLM.from_pretrained("{self.folder}")']
        return [*out, f'load_edits(model, "{self.folder / PATHWAYS}")'] if self.pathways else out


def save_model(model: nn.Module, folder: Path | str, tok=None) -> Checkpoint:
    """Save `model` with its edits as a checkpoint of Hugging Face's, loaded by the lines of what is returned; `model` stays as it is.

    The deltas are in the checkpoint's weights, so they cannot be undone there. Pathways, which no checkpoint can hold, are saved as edits
    in `folder/pathways` that belong to those weights. (`model.save_pretrained` is as good where the model has no pathways.)

    Raises:
        EditError: `folder` holds an adapter or edits, or it cannot be written.
    """
    folder, ledger = Path(folder), Ledger.of(model, Anatomy(model, **_names(model)))
    check_free(folder)
    robust = [edit for edit in ledger.handles if edit.pathways]
    try:
        if not layers_of(model):
            model.save_pretrained(folder)
        else:
            model.save_pretrained(folder, state_dict={name: t for name, t in model.state_dict().items() if ".rep_" not in name})
        if tok is not None:
            tok.save_pretrained(folder)
    except (OSError, SafetensorError) as error:  # the latter for a full disk
        raise EditError(f"cannot save the model to {folder} ({getattr(error, 'strerror', None) or error})") from error
    if robust:
        _pathways_alone(ledger, robust).write(folder / PATHWAYS)
    return Checkpoint(folder, sum(len(edit.pathways) for edit in robust))


def _names(model: nn.Module) -> dict[str, str]:
    """The module names of the ledger that `model` has: it may be of an architecture we do not know."""
    ledger = model.__dict__.get("_easyedit_rep_ledger")
    return asdict(ledger.anatomy.names) if ledger is not None else {}


def _pathways_alone(ledger: Ledger, robust: list) -> Artefact:
    """The edits as they will be once their deltas are the weights."""
    whole = gather(*robust)
    layers = {i for edit in robust for pathway in edit.pathways for i in pathway.tensors}
    weights = {}
    for layer in sorted(layers):
        digest = tensor_digest(ledger.anatomy.weight(layer))
        weights[layer] = replace(whole.weights[layer], original=digest, edited=digest)
    edits = [replace(edit, deltas={}, pairs={}) for edit in whole.edits]
    return replace(whole, edits=edits, weights=weights, sequence=None)
