"""A grid of runs, YAMLs × data files × seeds, each to its own journal: kill it at any moment, start it again, and it goes on.

Several processes may share a folder of journals, as long as no two do the same run.
"""

import gc
import hashlib
import logging
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from tqdm.auto import tqdm

from ..datasets.records import Reading
from ..editor import RobustEditor
from ..edits.record import versions
from ..errors import EditError
from ..hparams import load_hparams
from ..loading import load_model
from ..request import EditRequest
from .compare import Setting, compare_one, known_only
from .journal import Journal

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One model and method, on one data file, with one seed.

    Attributes:
        n: facts drawn by the seed; None takes all.
        known: only facts the model knows, as in the papers.
        reading: how the data file is read.
        settings: of the pathways, each measured on every fact. They are not part of the name: a run may be gone on with for more of them.
    """

    hparams: Path
    data: Path
    seed: int
    n: int | None = None
    known: bool = True
    reading: Reading = field(default_factory=Reading)
    settings: tuple[Setting, ...] = (Setting(),)

    def methods(self, base: str) -> tuple[str, ...]:
        """What the records of each fact are called."""
        return base, *(setting.label(base) for setting in self.settings)

    @property
    def name(self) -> str:
        return f"{self.hparams.stem}-{self.hparams.parent.name}-{self.data.stem}-seed{self.seed}"


def grid(
    hparams: Sequence[Path],
    data: Sequence[Path],
    seeds: Sequence[int],
    n: int | None,
    known: bool,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
    settings: tuple[Setting, ...] = (Setting(),),
) -> list[Run]:
    """Every combination, those on one YAML next to each other. All files are opened now: a wrong name is not found after hours."""
    runs = [Run(h, d, s, n, known, reading, settings) for h in hparams for d in data for s in seeds]
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
        "hparams": h.record(),
        "model": {"name": str(h.model_name), "fingerprint": editor.anatomy.fingerprint()},
        "data": {"file": run.data.name, **_digest(run), **run.reading.about()},
        "texts": {name: _text(source) for name, source in (("corpus", h.rep.corpus), ("rephrases", h.rep.queries.rephrase_file))},
        "seed": run.seed,
        "n": run.n,
        "known": run.known,
        "versions": versions(),
    }


def _text(source: str | None) -> str | None:
    """What tells a file that questions are made from, from another version of it; the name of what is no file."""
    return hashlib.sha256(Path(source).read_bytes()).hexdigest() if source and Path(source).is_file() else source


def _digest(run: Run) -> dict:
    if run.data.is_file():
        return {"sha256": hashlib.sha256(run.data.read_bytes()).hexdigest()}
    return {"fingerprint": run.reading.load(run.data).digest}


def choose(run: Run, editor: RobustEditor, tell: Callable[[str], object] = log.info) -> list[tuple[int, EditRequest]]:
    """(index in the data file, request) of the facts to edit, in the order they were drawn; `tell` as in `known_only`."""
    loaded = run.reading.load(run.data)
    indexed = list(zip(loaded.indices, loaded.requests, strict=True))
    if run.known:
        kept = {id(request) for request in known_only(editor, loaded.requests, tell)}
        indexed = [(i, request) for i, request in indexed if id(request) in kept]
    if not indexed:
        raise EditError(f"no fact of {run.data} is known to {editor.hparams.model_name}: pass --all to edit them anyway")
    return draw(indexed, run.seed, run.n)


def draw(facts: Sequence[T], seed: int, n: int | None = None) -> list[T]:
    """`n` of `facts`, or all if it is None or they are fewer, in the order in which `seed` draws them."""
    return random.Random(seed).sample(facts, len(facts) if n is None else min(n, len(facts)))


class Editors:
    """The editor of one run after another, the same for runs of one YAML and seed; a model is loaded once for neighbours that share it.

    Args:
        device: where models go, instead of where their YAMLs say.
    """

    def __init__(self, device: int | str | None = None):
        self._device = device
        self._made_for: tuple | None = None
        self._editor: RobustEditor | None = None
        self._loaded: tuple | None = None

    def __call__(self, run: Run) -> RobustEditor:
        if (run.hparams, run.seed) != self._made_for:
            h = load_hparams(str(run.hparams))
            h.rep = replace(h.rep, seed=run.seed)
            options = {name: getattr(h, name) for name in ("fp16", "bf16", "model_parallel")}
            wanted = (h.model_name, h.device if self._device is None else self._device, options)
            if wanted != self._loaded:
                self._editor = self._loaded = None
                gc.collect()  # a model and its ledger hold each other; two models would not fit
                model, tok = load_model(*wanted[:2], **options)
            else:
                model, tok = self._editor.model, self._editor.tok
            self._editor = RobustEditor.from_hparams(h, model, tok)
            self._loaded, self._made_for = wanted, (run.hparams, run.seed)
        return self._editor


class OneProcess:
    """Makes the edits of runs here, one after another; `workers.RayWorkers` has the same three methods."""

    def __init__(self, editors: Callable[[Run], RobustEditor] | None = None):
        self.editors = editors or Editors()

    def about(self, run: Run) -> dict:
        """`provenance` of `run`."""
        return provenance(run, self.editors(run))

    def choose(self, run: Run, tell: Callable[[str], object]) -> list[tuple[int, EditRequest]]:
        """The facts of `run`, as `choose`."""
        return choose(run, self.editors(run), tell)

    def attempts(self, run: Run, facts: Sequence[tuple[int, EditRequest]]) -> Iterator[list[dict]]:
        """The records of each fact, as they come, in any order."""
        if facts:
            self.editors(run).unedited.ready()
        for index, request in facts:
            yield attempt(run, self.editors(run), index, request)


def execute(run: Run, out: Path, crew: OneProcess, progress: bool = True, name: str | None = None) -> Path:
    """Have `crew` do what of `run` is not yet in its journal under `out`, which is written here alone; returns the journal's path.

    Args:
        name: of the journal; the run's own if left out.
    """
    path = out / f"{name or run.name}.jsonl"
    about = crew.about(run)
    with Journal(path, about) as journal:
        done = {(record["index"], record["method"]) for record in journal.records}
        chosen = crew.choose(run, partial(tqdm.write, file=sys.stderr) if progress else log.info)
        base = about["hparams"]["rep"]["base"]
        missing = [(i, fact) for i, fact in chosen if not all((i, name) in done for name in run.methods(base))]
        # Settings that every fact has are not measured again when others are added.
        wanted = tuple(s for s in run.settings if any((i, s.label(base)) not in done for i, _ in missing))
        started = len(chosen) - len(missing)
        with tqdm(total=len(chosen), initial=started, desc=run.name, unit="fact", disable=not progress) as bar:
            for records in crew.attempts(replace(run, settings=wanted), missing):
                journal.add([r for r in records if (r["index"], r["method"]) not in done])
                bar.update()
    return path


def attempt(run: Run, editor: RobustEditor, index: int, request: EditRequest) -> list[dict]:
    """`compare_one`; a fact that is refused gives records that say why, so that one fact does not stop a grid."""
    try:
        return compare_one(editor, index, request, run.settings)
    except EditError as error:
        methods = run.methods(editor.hparams.rep.base)
        return [{"index": index, "method": method, "prompt": request.text, "error": str(error)} for method in methods]


def execute_all(runs: Sequence[Run], out: Path, crew: OneProcess | None = None, progress: bool = True) -> Iterator[Path]:
    """`execute` each run in turn, here unless there is a `crew`."""
    crew = crew or OneProcess()
    for run in runs:
        yield execute(run, out, crew, progress)
