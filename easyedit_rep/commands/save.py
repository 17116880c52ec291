"""`easyedit-rep edit --save`: edits made to be kept, all in one model and one folder."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ..errors import EditError

if TYPE_CHECKING:
    from ..editor import RobustEditor
    from ..request import EditRequest


def edit_and_save(hparams: Path, requests: "Sequence[EditRequest]", folder: Path, n: int, seed: int, known: bool) -> None:
    """Edit `n` of `requests`, drawn by `seed`, and keep them in `folder`."""
    from ..bench.compare import known_only
    from ..editor import RobustEditor
    from ..hparams import load_hparams

    editor = RobustEditor.from_hparams(load_hparams(str(hparams)))
    if known:
        requests = known_only(editor, requests, Console().print)
    if not requests:
        raise EditError("no fact is known to the model: pass --all to edit them anyway")
    keep(editor, random.Random(seed).sample(requests, min(n, len(requests))), folder)


def keep(editor: "RobustEditor", requests: "Sequence[EditRequest]", folder: Path) -> None:
    """Edit `requests` one after another, measured, and save all of them to `folder`; saved after each, so that a kill loses none."""
    from tqdm.auto import tqdm

    for request in requests:
        editor.check(request)
    for request in tqdm(requests, desc="editing", unit="fact", disable=len(requests) == 1):
        editor.edit_requests([request], sequential_edit=True, verbose=False)
        editor.ledger.save(folder)
    Console().print(f"{len(editor.ledger.handles)} edits are kept in {folder}: `easyedit-rep edits show {folder}`", soft_wrap=True)


def check_free(folder: Path) -> None:
    """Refuse to write over what an earlier run has kept."""
    from ..edits.artefact import TENSORS

    if (folder / TENSORS).exists():
        raise EditError(f"{folder} already holds an adapter or edits: give --save another folder, or delete that one")
