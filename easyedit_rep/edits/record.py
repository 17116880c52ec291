"""What a file says of an edit besides its tensors, as JSON can hold it, and back."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict

import peft
import torch
import transformers

from ..edit import Edit, Pathway
from ..pathway.config import RepConfig
from ..request import EditRequest, Question
from ..version import __version__

BY_LAYER = ("base", "pathway", "norms")
"""Entries of `Edit.info` that are {layer: …}: JSON has no whole numbers for keys."""


def versions() -> dict[str, str]:
    """Of everything that has a say in the numbers."""
    return {
        "easyedit_rep": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    }


def edit_record(edit: Edit) -> dict:
    """Everything of `edit` that is no tensor, ready for JSON."""
    record = {
        "name": edit.name,
        "method": edit.method,
        "made": edit.made,
        "requests": [asdict(request) for request in edit.requests],
        "hparams": edit.hparams,
        "seconds": edit.seconds,
        "info": {name: value for name, value in edit.info.items() if name != "keys"},
        "metrics": edit.metrics,
        "norms": {str(layer): delta.norm() for layer, delta in edit.deltas.items()},
        "pathways": [pathway.config.shape for pathway in edit.pathways],
    }
    return json.loads(json.dumps(record, default=str))


def edit_of(record: Mapping, **parts) -> Edit:
    """The edit of which `record` was made, not applied.

    Args:
        parts: its tensors, as the fields of `Edit` hold them; `info` is added to what the record has.
    """
    info = dict(record["info"])
    for name in BY_LAYER:
        if name in info:
            info[name] = {int(layer): value for layer, value in info[name].items()}
    return Edit(
        requests=tuple(request_of(request) for request in record["requests"]),
        method=record["method"],
        seconds=dict(record["seconds"]),
        info={**info, **parts.pop("info", {})},
        hparams=dict(record["hparams"]),
        metrics=dict(record["metrics"]),
        made=record["made"],
        name=record["name"],
        **parts,
    )


def pathway_of(shape: Mapping, modules: Mapping[int, str], tensors: Mapping[int, Mapping[str, torch.Tensor]]) -> Pathway:
    """The pathway of this shape.

    Args:
        modules: {layer: name of its down-projection}.
        tensors: {layer: {"rep_down.weight": …}}.
    """
    return Pathway(RepConfig(target_modules=sorted(modules[i] for i in tensors), inference_mode=True, **shape), tensors)


def request_of(record: Mapping) -> EditRequest:
    """The request of which `asdict` made `record`."""
    questions = {
        section: {name: tuple(Question(**q) for q in group) for name, group in record[section].items()}
        for section in ("locality", "portability")
    }
    lists = {name: tuple(record[name]) for name in ("rephrase_prompts", "subject_rephrase", "long_context")}
    return EditRequest(**{**record, **lists, **questions})
