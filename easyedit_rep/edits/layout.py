"""Where the tensors of edits stand in `adapter_model.safetensors`: under the names PEFT looks for, and which part is whose.

base_model.model.MODULE.rep_left.weight     (d, N)  the factors of all edits side by side: an edit has some of the columns of left
base_model.model.MODULE.rep_right.weight    (N, D)  and the same rows of right. float64 where a sequence's whitened keys are among them
base_model.model.MODULE.rep_change_I.weight (d, D)  the I-th whole change (the first without a number)
base_model.model.MODULE.rep_down_I.weight …         the I-th pathway, whatever tensors it has (the first without a number), in the
                                                    narrowest dtype that holds them exactly; float32 in use
edit.E.LAYER.keys, edit.E.LAYER.residuals           what PEFT does not need: the keys edit E was written under; a sequence's residuals
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..edit import Edit
from ..memory.delta import Delta
from ..pathway.layer import numbered
from .record import edit_of, edit_record, pathway_of

PREFIX = "base_model.model."


@dataclass
class Room:
    """What stands at one module so far."""

    lefts: list[Tensor] = field(default_factory=list)
    rights: list[Tensor] = field(default_factory=list)
    changes: list[Tensor] = field(default_factory=list)
    pathways: list[dict] = field(default_factory=list)

    @property
    def rank(self) -> int:
        return sum(len(right) for right in self.rights)

    def bundle(self) -> dict:
        """This module's entry in `RepConfig.bundle`."""
        return {"pathways": self.pathways, "rank": self.rank, "changes": len(self.changes)}


@dataclass(frozen=True)
class Packed:
    """Edits as they are saved.

    Attributes:
        tensors: by name.
        records: of each edit, with `deltas` and `at` saying which tensors are its own.
        bundle: for `RepConfig`.
    """

    tensors: dict[str, Tensor]
    records: list[dict]
    bundle: dict[str, dict]


def pack(edits: Sequence[Edit], modules: Mapping[int, str]) -> Packed:
    """Lay out `edits`; `modules`: {layer: name of its down-projection}, for every layer they touch."""
    rooms = {layer: Room() for layer in modules}
    tensors: dict[str, Tensor] = {}
    records = []
    for e, edit in enumerate(edits):
        record = {**edit_record(edit), "deltas": {}, "at": [], "sequence": bool(edit.pairs)}
        for layer, delta in edit.deltas.items():
            room = rooms[layer]
            if delta.right is None:
                record["deltas"][str(layer)] = {"change": len(room.changes)}
                room.changes.append(delta.left.cpu().contiguous())
            else:
                record["deltas"][str(layer)] = {"columns": [room.rank, room.rank + len(delta.right)]}
                room.lefts.append(delta.left.cpu())
                room.rights.append(delta.right.cpu())
        for pathway in edit.pathways:
            at = {}
            for layer, state in pathway.tensors.items():
                i = at[str(layer)] = len(rooms[layer].pathways)
                rooms[layer].pathways.append(pathway.config.shape)
                tensors |= {f"{PREFIX}{modules[layer]}.{_numbered(name, i)}": narrowest(tensor) for name, tensor in state.items()}
            record["at"].append(at)
        for layer, keys in edit.info.get("keys", {}).items():
            tensors[f"edit.{e}.{layer}.keys"] = keys.cpu().clone()  # a part of a tensor of several layers cannot be saved
        for layer, (keys, residuals) in edit.pairs.items():
            tensors |= {f"edit.{e}.{layer}.keys": keys.clone(), f"edit.{e}.{layer}.residuals": residuals.clone()}
        records.append(record)
    for layer, room in rooms.items():
        start = f"{PREFIX}{modules[layer]}."
        if room.rights:
            tensors[f"{start}rep_left.weight"] = torch.cat([left.float() for left in room.lefts], dim=1)
            tensors[f"{start}rep_right.weight"] = torch.cat(room.rights)  # in the wider of their dtypes
        tensors |= {f"{start}{_numbered('rep_change.weight', i)}": change for i, change in enumerate(room.changes)}
    return Packed(tensors, records, {modules[layer]: room.bundle() for layer, room in rooms.items()})


def unpack(records: Sequence[Mapping], tensors: Mapping[str, Tensor], modules: Mapping[int, str], transposed: bool) -> list[Edit]:
    """The edits that `pack` laid out, not applied. KeyError where a tensor is not there."""
    edits, stored = [], _pathways(tensors)
    for e, record in enumerate(records):
        deltas = {
            int(layer): _delta(where, f"{PREFIX}{modules[int(layer)]}.", tensors, record["sequence"], transposed)
            for layer, where in record["deltas"].items()
        }
        pathways = [
            pathway_of(shape, modules, {int(layer): stored[modules[int(layer)], i] for layer, i in at.items()})
            for shape, at in zip(record["pathways"], record["at"], strict=True)
        ]
        keys = {i: tensors[name] for i in modules if (name := f"edit.{e}.{i}.keys") in tensors}
        pairs = {i: (keys[i], tensors[f"edit.{e}.{i}.residuals"]) for i in deltas} if record["sequence"] else {}
        edits.append(edit_of(record, deltas=deltas, pathways=tuple(pathways), pairs=pairs, info={"keys": keys} if keys else {}))
    return edits


def _delta(where: Mapping, start: str, tensors: Mapping[str, Tensor], whitened: bool, transposed: bool) -> Delta:
    if "change" in where:
        return Delta(tensors[start + _numbered("rep_change.weight", where["change"])], None, transposed)
    columns = slice(*where["columns"])
    right = tensors[f"{start}rep_right.weight"][columns]
    return Delta(tensors[f"{start}rep_left.weight"][:, columns].contiguous(), right if whitened else right.float(), transposed)


def _pathways(tensors: Mapping[str, Tensor]) -> dict[tuple[str, int], dict[str, Tensor]]:
    """{(module, i): {"rep_down.weight": …} of the i-th pathway there}, of all tensors in one go: there may be thousands of pathways."""
    found: dict[tuple[str, int], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(PREFIX):
            module, group, rest = name.removeprefix(PREFIX).rsplit(".", 2)
            base, _, number = group.rpartition("_")
            plain, i = (base, int(number)) if number.isdigit() else (group, 0)
            if plain not in ("rep_left", "rep_right", "rep_change"):
                found.setdefault((module, i), {})[f"{plain}.{rest}"] = tensor.float()
    return found


def narrowest(tensor: Tensor) -> Tensor:
    """`tensor` in two bytes a number where none of them loses a bit by it, as a gate of `gate_dtype: bfloat16` does not."""
    for dtype in (torch.bfloat16, torch.float16):
        if tensor.dtype == torch.float32 and torch.equal(tensor.to(dtype).float(), tensor):
            return tensor.to(dtype)
    return tensor


def _numbered(name: str, i: int) -> str:
    """ "rep_down.weight" of the `i`-th of its kind."""
    group, _, rest = name.partition(".")
    return f"{numbered(group, i)}.{rest}"
