"""`easyedit-rep edit --save`: edits made to be kept, all in one model and one folder."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ..errors import EditError

if TYPE_CHECKING:
    from ..editor import RobustEditor
    from ..hparams import REPHyperParams
    from ..request import EditRequest


SHARE = 10
"""Times as long as a save took that pass before the next: of n edits saved after each the last would be written n times."""


def edit_and_save(hparams: "REPHyperParams", requests: "Sequence[EditRequest]", folder: Path, n: int, known: bool) -> None:
    """Edit `n` of `requests`, drawn by the hyper-parameters' seed, and keep them in `folder`."""
    from ..bench.compare import known_only
    from ..bench.runs import draw
    from ..editor import RobustEditor

    editor = RobustEditor.from_hparams(hparams)
    if known:
        requests = known_only(editor, requests, Console().print)
    if not requests:
        raise EditError("no fact is known to the model: pass --all to edit them anyway")
    keep(editor, draw(requests, hparams.rep.seed, n), folder)


def keep(editor: "RobustEditor", requests: "Sequence[EditRequest]", folder: Path) -> None:
    """Edit `requests` one after another, measured, and save all of them to `folder`.

    All are saved again and again, since a file holds them together: whenever a save took at most a tenth of the time since, which is what a
    kill may cost, and when the last is made or something stops.
    """
    from tqdm.auto import tqdm

    for request in requests:
        editor.check(request, measured=True)
    saved, took, kept = 0.0, 0.0, 0
    try:
        for request in tqdm(requests, desc="editing", unit="fact", disable=len(requests) == 1):
            editor.edit_requests([request], sequential_edit=True, verbose=False)
            start = time.monotonic()
            if start - saved >= SHARE * took:
                editor.ledger.save(folder)
                saved, kept = time.monotonic(), len(editor.ledger.handles)
                took = saved - start
    finally:
        if len(editor.ledger.handles) > kept:
            editor.ledger.save(folder)
    Console().print(f"{len(editor.ledger.handles)} edits are kept in {folder}: `easyedit-rep edits show {folder}`", soft_wrap=True)
