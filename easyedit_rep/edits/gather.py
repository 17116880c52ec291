"""What is saved of edits that a model carries."""

from collections.abc import Sequence
from dataclasses import asdict, replace

from ..edit import Edit
from ..errors import EditError
from ..ledger import Ledger
from ..memory.delta import Delta, tensor_digest
from ..sequence.kept import terms, with_shares
from .artefact import Artefact, Weight


def gather(*edits: Edit) -> Artefact:
    """Copies of `edits`, all carried by one model, and what they belong to.

    Raises:
        EditError: one is not in a model, or its weight was changed by someone else.
    """
    for edit in edits:
        if not edit.active:
            raise EditError(f"edit {edit.name or edit.method} is not in a model: save it before undo(), or apply it first")
    ledger = edits[0].ledger if isinstance(edits[0].ledger, Ledger) else edits[0].ledger.ledger
    anatomy, sequence = ledger.anatomy, ledger.sequence
    layers = sorted({i for edit in edits for i in edit.deltas} | {i for e in edits for p in e.pathways for i in p.tensors})
    ledger.check_untouched(layers)
    copies, about = [_detached(edit, sequence) for edit in edits], None
    if any(edit.pairs for edit in edits):
        about = {"layers": sequence.layers, "options": asdict(sequence.options), "covariances": sequence.digests()}
        copies = with_shares(copies)
    whole = list(edits) == ledger.handles
    weights = {i: _weight(ledger, i, None if whole else terms(copies, i)) for i in layers}
    model = {
        "name": getattr(anatomy.model.config, "_name_or_path", ""),
        "type": anatomy.model.config.model_type,
        "modules": asdict(anatomy.names),
    }
    return Artefact(copies, model, weights, any(anatomy.is_transposed(i) for i in layers), about)


def _detached(edit: Edit, sequence) -> Edit:
    """A copy of `edit`, not applied; that of a sequence carries its whitened keys where its step's gain was."""
    deltas = dict(edit.deltas)
    if edit.pairs:
        deltas = {i: Delta(delta.left, sequence.whitened(i, edit), delta.transposed) for i, delta in deltas.items()}
    return replace(edit, deltas=deltas, ledger=None)


def _weight(ledger: Ledger, layer: int, deltas: Sequence[Delta] | None) -> Weight:
    """`deltas`: those to record the edited weight of; None for the weight as it is."""
    anatomy, original = ledger.anatomy, ledger.original(layer)
    weight = anatomy.weight(layer).detach() if deltas is None else ledger.total(layer, deltas).to(original.dtype)
    return Weight(
        anatomy.weight_name(layer),
        anatomy.rewrite_name(layer),
        list(original.shape),
        str(original.dtype).removeprefix("torch."),
        tensor_digest(original),
        tensor_digest(weight),
    )
