"""Saved edits: DIR/adapter_model.safetensors and, beside it for PEFT and for people, adapter_config.json and edit.json.

The tensors' file is complete by itself: its header holds the same record as edit.json, with a digest of the tensors. So one atomic
replacement is a whole save, and a kill at any instant leaves the edits that were there before or the new ones.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from peft import TaskType
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..anatomy import ModuleNames
from ..edit import Edit
from ..errors import EditError
from ..files import replace_together, write_json, write_tensors
from ..memory.delta import tensor_digest
from ..pathway.config import RepConfig
from .layout import Packed, pack, unpack
from .record import versions

log = logging.getLogger(__name__)

FORMAT = 1
TENSORS, CONFIG, RECORD = "adapter_model.safetensors", "adapter_config.json", "edit.json"
HEADER = "easyedit_rep"
"""The entry of the tensors' header that holds the record, and beside it the record's own digest."""
SEAL = f"{HEADER}_sha256"


@dataclass(frozen=True)
class Weight:
    """A weight that edits belong to.

    Attributes:
        name: of the parameter, and `module` of the down-projection it is in.
        original: SHA-256 of W₀.
        edited: SHA-256 of the weight with exactly these edits; None where it has not been written.
    """

    name: str
    module: str
    shape: Sequence[int]
    dtype: str
    original: str
    edited: str | None = None


@dataclass(frozen=True)
class Artefact:
    """Edits and what they belong to, in memory; none of them is applied.

    Attributes:
        model: name, type, and the module names of the architecture.
        weights: {layer: its weight}.
        sequence: of D4S edits: their layers, options, and the digests of C. Their common Δ is added where the first of them stands.
    """

    edits: Sequence[Edit]
    model: Mapping
    weights: Mapping[int, Weight]
    transposed: bool
    sequence: Mapping | None = None

    def without(self, *places: int) -> "Artefact":
        """The same without the edits at these places."""
        for place in places:
            if not 0 <= place < len(self.edits):
                raise EditError(f"there is no edit {place}: the file holds {len(self.edits)}, counted from 0")
        kept = [edit for i, edit in enumerate(self.edits) if i not in places]
        if not kept:
            raise EditError("no edit would be left: delete the folder instead")
        sequence = self.sequence
        if sequence is not None:
            from ..sequence.kept import with_shares

            mine = any(edit.pairs for edit in kept)
            sequence, kept = (sequence, with_shares(kept)) if mine else (None, kept)
        touched = {i for e in kept for i in e.deltas} | {i for e in kept for p in e.pathways for i in p.tensors}
        weights = {i: replace(weight, edited=None) for i, weight in self.weights.items() if i in touched}
        return replace(self, edits=kept, sequence=sequence, weights=weights)

    @property
    def modules(self) -> dict[int, str]:
        return {layer: weight.module for layer, weight in self.weights.items()}

    def pack(self) -> Packed:
        """The tensors, and what belongs to whom."""
        return pack(self.edits, self.modules)

    def write(self, folder: Path | str) -> Path:
        """Save to `folder`, in the place of what is there.

        Raises:
            EditError: it cannot be written; what was there is kept.
        """
        folder, packed = Path(folder), self.pack()
        record = {
            "format": FORMAT,
            "saved": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": versions(),
            "model": self.model,
            "transposed": self.transposed,
            "weights": {str(layer): asdict(weight) for layer, weight in self.weights.items()},
            "sequence": self.sequence,
            "edits": packed.records,
            "digest": digest(packed.tensors),
        }
        text = json.dumps(record, ensure_ascii=False)
        header = {"format": "pt", HEADER: text, SEAL: _sha256(text)}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            replace_together(
                {
                    folder / TENSORS: partial(write_tensors, tensors=packed.tensors, metadata=header),
                    folder / CONFIG: partial(write_json, data=self.adapter_config(packed)),
                    folder / RECORD: partial(write_json, data=record),
                }
            )
        except OSError as error:
            raise EditError(f"cannot save to {folder} ({error.strerror or error}): what was there is kept") from error
        return folder

    def adapter_config(self, packed: Packed) -> dict:
        """What PEFT rebuilds the adapter from."""
        bundle = {
            module: {**packed.bundle[module], "dtype": weight.dtype, "original": weight.original}
            for module, weight in ((weight.module, weight) for weight in self.weights.values())
        }
        config = RepConfig(
            target_modules=sorted(bundle),
            bundle=bundle,
            base_model_name_or_path=self.model["name"] or None,
            task_type=TaskType.CAUSAL_LM,
            inference_mode=True,
        ).to_dict()
        return {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}

    @classmethod
    def read(cls, folder: Path | str) -> "Artefact":
        """The edits saved in `folder`, checked against their digest.

        Raises:
            EditError: there are none, or they cannot be read as they were saved.
        """
        folder = Path(folder)
        record = read_record(folder)
        try:
            with safe_open(folder / TENSORS, "pt") as file:
                # Copies: what safetensors gives is the file itself, and whoever writes to that would write to the edits.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            if digest(tensors) != record["digest"]:
                raise EditError(f"{folder / TENSORS} is corrupted (its digest is not the one recorded): restore it from a copy")
            weights = {int(layer): Weight(**weight) for layer, weight in record["weights"].items()}
            modules = {layer: weight.module for layer, weight in weights.items()}
            edits = unpack(record["edits"], tensors, modules, record["transposed"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, EditError):
                raise
            raise EditError(f"{folder / TENSORS} cannot be read ({_line(error)}): restore it from a copy") from error
        return cls(edits, record["model"], weights, record["transposed"], record["sequence"])


def read_record(folder: Path | str) -> dict:
    """The record in the header of the tensors' file; the tensors are not read.

    Raises:
        EditError: not there, damaged, or not ours.
    """
    path = Path(folder) / TENSORS
    if not path.is_file():
        raise EditError(f"{folder} holds no saved edits ({TENSORS} is missing): save some with edit.save or `easyedit-rep edit --save`")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
        text = header.get(HEADER, "null")
        if HEADER in header and header.get(SEAL) != _sha256(text):
            raise ValueError("its record is not the one that was written")
        record = json.loads(text)
    except (OSError, SafetensorError, ValueError) as error:
        raise EditError(f"{path} is corrupted or cut short ({_line(error)}): restore it from a copy") from error
    if record is None:
        raise EditError(f"{path} was not saved by easyedit_rep: load it with PeftModel.from_pretrained")
    if record["format"] != FORMAT:
        raise EditError(f"{path} has format {record['format']}, this version reads {FORMAT}: install the version that wrote it")
    beside = Path(folder) / RECORD
    text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
    if not beside.is_file() or beside.read_text(encoding="utf-8", errors="replace") != text:
        log.warning("%s is not what was saved with %s, which counts: a save was interrupted, or the record was edited", beside, path)
    return record


def check_free(folder: Path | str) -> None:
    """Refuse to write over saved edits, or over somebody's adapter.

    Raises:
        EditError: `folder` holds some.
    """
    if (Path(folder) / TENSORS).exists():
        raise EditError(f"{folder} already holds an adapter or edits: give another folder, or delete that one")


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, dtypes and bytes."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype} {tensor_digest(tensors[name])}\n".encode())
    return total.hexdigest()


def module_names(model: Mapping) -> dict[str, str]:
    """The names that `Anatomy` takes, of a saved `Artefact.model`."""
    return {name: model["modules"][name] for name in ModuleNames.__dataclass_fields__}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
