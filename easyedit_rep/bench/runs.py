"""A grid of runs, YAMLs × data files × seeds, each to its own journal: kill it at any moment, start it again, and it goes on."""

import gc
import hashlib
import logging
import platform
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import peft
import torch
import transformers
from tqdm.auto import tqdm

from ..datasets.records import Reading
from ..editor import RobustEditor
from ..errors import EditError
from ..hparams import load_hparams
from ..request import EditRequest
from ..version import __version__
from .compare import compare_one, known_only
from .journal import Journal

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One model and method, on one data file, with one seed.

    Attributes:
        n: facts drawn by the seed; None takes all.
        known: only facts the model knows, as in the papers.
        reading: how the data file is read.
    """

    hparams: Path
    data: Path
    seed: int
    n: int | None = None
    known: bool = True
    reading: Reading = field(default_factory=Reading)

    @property
    def name(self) -> str:
        return f"{self.hparams.stem}-{self.hparams.parent.name}-{self.data.stem}-seed{self.seed}"


def grid(
    hparams: Sequence[Path], data: Sequence[Path], seeds: Sequence[int], n: int | None, known: bool, reading: Reading | None = None
) -> list[Run]:
    """Every combination, those on one YAML next to each other. All files are opened now: a wrong name is not found after hours."""
    reading = reading or Reading()
    runs = [Run(h, d, s, n, known, reading) for h in hparams for d in data for s in seeds]
    names = [run.name for run in runs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise EditError(f"two runs are called {sorted(twice)[0]}: name each YAML, data file and seed once")
    for path in hparams:
        load_hparams(str(path))
    for path in data:
        reading.load(path)
    return runs


def provenance(run: Run, editor: RobustEditor) -> dict:
    """What the records of `run` are made from; a journal with another answer is not continued."""
    h = editor.hparams
    return {
        "hparams": {**vars(h), "rep": asdict(h.rep), "method": vars(h.method) if not isinstance(h.method, dict) else h.method},
        "model": {"name": str(h.model_name), "fingerprint": editor.anatomy.fingerprint()},
        "data": {"file": run.data.name, **_digest(run), **run.reading.about()},
        "seed": run.seed,
        "n": run.n,
        "known": run.known,
        "versions": {
            "easyedit_rep": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    }


def _digest(run: Run) -> dict:
    if run.data.is_file():
        return {"sha256": hashlib.sha256(run.data.read_bytes()).hexdigest()}
    return {"fingerprint": run.reading.load(run.data).digest}


def prepare(run: Run, model=None, tok=None) -> RobustEditor:
    """The editor of `run`, on a model already loaded if given."""
    hparams = load_hparams(str(run.hparams))
    hparams.rep = replace(hparams.rep, seed=run.seed)
    return RobustEditor.from_hparams(hparams, model, tok)


def choose(run: Run, editor: RobustEditor, tell: Callable[[str], object] = log.info) -> list[tuple[int, EditRequest]]:
    """(index in the data file, request) of the facts to edit, in the order they were drawn; `tell` as in `known_only`."""
    loaded = run.reading.load(run.data)
    indexed = list(zip(loaded.indices, loaded.requests, strict=True))
    if run.known:
        kept = {id(request) for request in known_only(editor, loaded.requests, tell)}
        indexed = [(i, request) for i, request in indexed if id(request) in kept]
    if not indexed:
        raise EditError(f"no fact of {run.data} is known to {editor.hparams.model_name}: pass --all to edit them anyway")
    return random.Random(run.seed).sample(indexed, len(indexed) if run.n is None else min(run.n, len(indexed)))


def execute(run: Run, out: Path, editor: RobustEditor, progress: bool = True) -> Path:
    """Run what of `run` is not yet in its journal under `out`; returns the journal's path."""
    path = out / f"{run.name}.jsonl"
    journal = Journal(path, provenance(run, editor))
    done = {(record["index"], record["method"]) for record in journal.records}
    chosen = choose(run, editor, partial(tqdm.write, file=sys.stderr) if progress else log.info)
    with tqdm(total=len(chosen), desc=run.name, unit="fact", disable=not progress) as bar:
        for index, request in chosen:
            if not all((index, method) in done for method in methods(editor)):
                records = attempt(editor, index, request)
                journal.add([r for r in records if (index, r["method"]) not in done])
            bar.update()
    return path


def attempt(editor: RobustEditor, index: int, request: EditRequest) -> list[dict]:
    """`compare_one`; a fact that is refused gives records that say why, so that one fact does not stop a grid."""
    try:
        return compare_one(editor, index, request)
    except EditError as error:
        return [{"index": index, "method": method, "prompt": request.text, "error": str(error)} for method in methods(editor)]


def methods(editor: RobustEditor) -> tuple[str, str]:
    """What the two records of each fact are called."""
    base = editor.hparams.rep.base
    return base, f"{base}+REP"


def execute_all(runs: Sequence[Run], out: Path, progress: bool = True) -> Iterator[Path]:
    """`execute` each run in turn; a model is loaded once for neighbours that share it."""
    editor = loaded = model = tok = None
    for run in runs:
        h = load_hparams(str(run.hparams))
        wanted = (h.model_name, h.device, h.fp16, h.bf16, h.model_parallel)
        if wanted != loaded:
            editor = model = tok = None
            gc.collect()  # a model and its ledger hold each other; two models would not fit
        editor = prepare(run, model, tok)
        loaded, model, tok = wanted, editor.model, editor.tok
        yield execute(run, out, editor, progress)
