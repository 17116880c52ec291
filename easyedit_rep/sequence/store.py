"""A sequence on disk: saved now and then, taken up again bit for bit.

FOLDER/edits/edit0.safetensors …    one file an edit, written once: its pairs and its pathways
FOLDER/state-000041-000040.safetensors  the memory of every layer (edits ever applied, edits held)
FOLDER/sequence.json                which of these belong together, and what they were made from; replaced last, atomically
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..edit import Edit
from ..edits.record import edit_of, edit_record, pathway_of
from ..errors import EditError
from ..files import replace_json, replace_tensors
from ..memory.delta import Delta, tensor_digest
from ..version import __version__
from .sequence import Sequence

FORMAT = 3


def save_sequence(sequence: Sequence, folder: Path) -> None:
    """Save `sequence` to `folder`. A kill at any instant leaves the last complete save.

    Raises:
        EditError: it cannot be written; the last save is kept.
    """
    folder = Path(folder)
    about = _about(sequence)
    before = _index(folder) if (folder / "sequence.json").exists() else {"edits": []}
    if before["edits"]:
        _check_same(before, about, folder)
    written = {entry["name"]: entry for entry in before["edits"]}
    try:
        (folder / "edits").mkdir(parents=True, exist_ok=True)
        entries = []
        for edit in sequence.edits:
            digest = _digest(edit)
            if written.get(edit.name, {}).get("digest") != digest:
                file = f"edits/{edit.name}.safetensors"
                replace_tensors(folder / file, _edit_tensors(edit))
                written[edit.name] = {**edit_record(edit), "digest": digest, "file": file}
            entries.append(written[edit.name])
        state = f"state-{sequence.ledger.applied:06d}-{len(sequence.edits):06d}.safetensors"
        tensors = {f"{i}.{name}": value for i, layer in sequence.states.items() for name, value in layer.state_dict().items()}
        replace_tensors(folder / state, tensors)
        index = {**about, "state": state, "applied": sequence.ledger.applied, "edits": entries}
        replace_json(folder / "sequence.json", index)
    except OSError as error:
        raise EditError(f"cannot save the sequence to {folder} ({error.strerror or error}): the last save is kept") from error
    keep = {state, *(entry["file"] for entry in entries)}
    for path in [*folder.glob("state-*.safetensors"), *(folder / "edits").glob("*.safetensors")]:
        if str(path.relative_to(folder)) not in keep:
            path.unlink(missing_ok=True)


def load_sequence(sequence: Sequence, folder: Path) -> None:
    """Put the edits saved in `folder` into the model of `sequence`, which must be empty and of the same weights.

    Raises:
        EditError: unreadable, or made from something else; nothing is changed then.
    """
    folder = Path(folder)
    if sequence.edits:
        raise EditError(f"the sequence already holds {len(sequence.edits)} edits: load into a fresh one")
    index = _index(folder)
    _check_same(index, _about(sequence), folder)
    try:
        tensors = load_file(folder / index["state"])
        edits = [_edit(sequence, entry, load_file(folder / entry["file"])) for entry in index["edits"]]
        states = {i: {n.removeprefix(f"{i}."): t for n, t in tensors.items() if n.startswith(f"{i}.")} for i in sequence.layers}
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise EditError(f"the sequence in {folder} cannot be read ({error}): restore the folder from a copy, or begin anew") from error
    sequence.restore(edits, states, index["applied"])


def _about(sequence: Sequence) -> dict:
    """What a saved sequence must agree on with the one it is loaded into."""
    anatomy = sequence.ledger.anatomy
    return {
        "format": FORMAT,
        "layers": sequence.layers,
        "options": asdict(sequence.options),
        "weights": {str(i): tensor_digest(sequence.ledger.original(i)) for i in sequence.layers},
        "model": anatomy.fingerprint(min(sequence.layers)),
        "covariances": {str(i): sequence.covariances[i].digest for i in sequence.layers},
        "versions": {"easyedit_rep": __version__, "torch": torch.__version__},
    }


def _check_same(index: Mapping, about: dict, folder: Path) -> None:
    for key, value in json.loads(json.dumps(about)).items():
        if key != "versions" and index.get(key) != value:
            raise EditError(
                f"{folder} holds a sequence with another {key} than the loaded model and YAML: {_differs(index.get(key), value)}; "
                "load what it was made with, or choose another folder"
            )


def _digest(edit: Edit) -> str:
    """What tells an edit, pathways included, from another of the same name."""
    pairs = tensor_digest(torch.cat([tensor.flatten() for layer in sorted(edit.pairs) for tensor in edit.pairs[layer]]))
    return " ".join([pairs, *(pathway.digest for pathway in edit.pathways)])


def _differs(found, wanted) -> str:
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
        return ", ".join(f"{name}: {str(found.get(name))[:20]} there, {str(wanted.get(name))[:20]} here" for name in names)
    return f"{found!r} there, {wanted!r} here"


def _index(folder: Path) -> dict:
    try:
        return json.loads((folder / "sequence.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EditError(f"{folder} holds no saved sequence ({error}): name the folder of a D4S run, or restore it from a copy") from None


def _edit_tensors(edit: Edit) -> dict[str, Tensor]:
    out = {}
    for layer, (keys, residuals) in edit.pairs.items():
        delta = edit.deltas[layer]
        out |= {f"{layer}.keys": keys, f"{layer}.residuals": residuals, f"{layer}.left": delta.left, f"{layer}.right": delta.right}
    for i, pathway in enumerate(edit.pathways):
        out |= {f"pathway.{i}.{layer}.{name}": t for layer, state in pathway.tensors.items() for name, t in state.items()}
    return out


def _edit(sequence: Sequence, entry: dict, tensors: Mapping[str, Tensor]) -> Edit:
    anatomy = sequence.ledger.anatomy
    pairs = {i: (tensors[f"{i}.keys"], tensors[f"{i}.residuals"]) for i in sequence.layers}
    deltas = {i: Delta(tensors[f"{i}.left"], tensors[f"{i}.right"], anatomy.is_transposed(i)) for i in sequence.layers}
    pathways = []
    for i, shape in enumerate(entry["pathways"]):
        prefix = f"pathway.{i}."
        states: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(prefix):
                layer, _, name = key.removeprefix(prefix).partition(".")
                states.setdefault(int(layer), {})[name] = value
        pathways.append(pathway_of(shape, {i: anatomy.rewrite_name(i) for i in states}, states))
    info = {"keys": {i: keys for i, (keys, _) in pairs.items()}}
    edit = edit_of(entry, deltas=deltas, pathways=tuple(pathways), pairs=pairs, info=info)
    if _digest(edit) != entry["digest"]:
        raise ValueError(f"{entry['file']} is not the one that was saved with it")
    return edit
