"""MQD on disk: a JSON file a type in EasyEdit's format, the same as a Hugging Face dataset, and what both were made from.

OUT/mqd_dg.json, mqd_mq.json, mqd_tf.json   lists of records: EasyEdit's prompt, subject, target_new, and MQD's own keys beside them
OUT/dataset/                                a `DatasetDict` with the splits dg, mq and tf
OUT/about.json                              source, digest, seed, counts
"""

import json
import os
import shutil
from pathlib import Path

from ...errors import EditError
from ...files import remove_scratch, replace_json, replacing
from ...request import EditRequest
from ..fields import Fields
from .build import TYPES, Mqd


def mqd(record: Fields) -> EditRequest:
    """A record of any of the three types: `prompt`, `subject`, `target_new`, and `question`, which names the type."""
    if record.text("question") not in TYPES:
        record.refuse("question", f"must be one of {', '.join(TYPES)}, not {record.text('question')!r}")
    return EditRequest(record.text("prompt"), record.text("subject"), record.text("target_new"))


def path_of(folder: Path, kind: str) -> Path:
    """The JSON file of a type of `TYPES`."""
    return folder / f"mqd_{kind.lower()}.json"


def write_mqd(made: Mqd, folder: Path) -> None:
    """Write `made` to `folder`; each file is whole or as it was.

    Raises:
        EditError: it cannot be written, or would take the place of what is another's.
    """
    from datasets import Dataset, DatasetDict

    final, scratch = folder / "dataset", folder / f"dataset.tmp{os.getpid()}"
    if final.exists() and not ((folder / "about.json").is_file() and (final / "dataset_dict.json").is_file()):
        raise EditError(f"{final} is there, and was not made by mqd build: give --out another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind in TYPES:
            path = path_of(folder, kind)
            remove_scratch(path)
            with replacing(path) as written:
                written.write_text(json.dumps(made.sets[kind], ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        DatasetDict({kind.lower(): Dataset.from_list(made.sets[kind]) for kind in TYPES}).save_to_disk(str(scratch))
        shutil.rmtree(final, ignore_errors=True)
        scratch.rename(final)
        replace_json(folder / "about.json", made.about)
    except OSError as error:
        raise EditError(f"cannot write MQD to {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
