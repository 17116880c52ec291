"""Robustness of edits made by EasyEdit's own methods, measured beside EasyEdit's metrics.

    editor = BaseEditor.from_hparams(ROMEHyperParams.from_hparams("hparams/ROME/llama-7b.yaml"))
    measure_robustness(editor, corpus="text.txt")
    metrics, _, _ = editor.edit(...)
    metrics[0]["post"]["robustness"]

`robustness: true`, or a block of `RobustnessOptions`, in EasyEdit's YAML does the same where its files are loaded through us
(`easyedit-rep run`, `accept_rep_files`).
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import yaml
from torch import nn

from ..config import build
from ..datasets.corpus import Corpus, load_corpus
from ..errors import EditError
from ..evaluation.any_model import WholeModel
from ..evaluation.measures import Measures
from ..evaluation.metrics import KEY
from ..evaluation.robustness import evaluate, finish_negatives
from ..hparams import REPHyperParams
from ..memory.tokens import with_offsets
from ..queries import Queries, QueryMaker
from ..rep_options import QueryOptions
from ..request import EditRequest


@dataclass
class RobustnessOptions:
    """What is asked of every request.

    Attributes:
        corpus: text of long contexts and of other subjects' names: a file, or a name as in `rep.corpus`; without one there are none.
        seed: of contexts, shuffles and halves.
    """

    corpus: str | None = None
    seed: int = 0
    queries: QueryOptions = field(default_factory=QueryOptions)
    measures: Measures = field(default_factory=Measures)


class Baseline(dict):
    """Negatives as they were when their request was first seen, so compared with themselves."""


class Robustness:
    """Measures a request on a model as it is, whatever edited it. The same request is asked the same questions whenever it comes."""

    def __init__(self, options: RobustnessOptions):
        self.options = options
        self._tok = self._maker = None
        self._first: dict[tuple, dict] = {}

    @classmethod
    def of(cls, wanted: object, where: str) -> "Robustness | None":
        """From what a YAML says: true, false or a mapping; EditError for anything else."""
        if wanted is None or isinstance(wanted, bool):
            return cls(RobustnessOptions()) if wanted else None
        if not isinstance(wanted, Mapping):
            raise EditError(f"{where}: {KEY} is {wanted!r}: write true, or a block of corpus, seed, queries, measures")
        return cls(build(RobustnessOptions, wanted, f"{where} {KEY}"))

    def __deepcopy__(self, memo) -> "Robustness":
        return Robustness(self.options)  # a tokenizer and its queries need not be copied with hyper-parameters

    @cached_property
    def _corpus(self) -> Corpus | None:
        return load_corpus(self.options.corpus) if self.options.corpus else None

    def _queries(self, tok, request: EditRequest, max_tokens: int) -> Queries:
        if tok is not self._tok:
            o = self.options
            self._maker = QueryMaker.of(o.queries, with_offsets(tok), self._corpus, max_tokens, o.seed)
            self._tok = tok
            self._first.clear()  # another tokenizer comes with another model, whose answers are its own
        return self._maker(request)

    def __call__(self, model: nn.Module, tok, record: Mapping) -> dict:
        """The `robustness` of EasyEdit's request dictionary `record`.

        Negatives are compared with the first time the request is seen: `pre` comes before `post`.
        """
        request, whole = EditRequest.from_easyedit(record), WholeModel(model)
        queries = self._queries(tok, request, whole.max_positions)
        found = robustness(whole, self._maker.tok, request, queries, self.options.measures)
        if queries.negatives:
            key = (request.text, request.subject, request.target_new)
            if key not in self._first:
                self._first[key] = found["negatives"] = Baseline(found["negatives"])
            finish_negatives(self._first[key], found)
        return found


def robustness(anatomy, tok, request: EditRequest, queries: Queries, measures: Measures) -> dict:
    """The `robustness` of one request; locality, portability and fluency are left to EasyEdit."""
    bare = replace(request, locality={}, portability={})
    return evaluate(anatomy, tok, bare, queries, replace(measures, fluency=False))[KEY]


def compare_negatives(row: Mapping) -> None:
    """Where `pre` was not measured but read from a file (`pre_edit`), `post`'s negatives were compared with themselves: compare them with
    the file's, or with none."""
    pre, post = (row.get(when, {}).get(KEY, {}) for when in ("pre", "post"))
    if isinstance(negatives := post.get("negatives"), Baseline):
        for found in negatives.values():
            found.pop("acc", None)
        finish_negatives(pre.get("negatives", {}), post)


def measure_robustness(target, **options):
    """Have `robustness` measured of every edit that EasyEdit makes with `target`, in `pre` and in `post`; returns `target`.

    Args:
        target: a `BaseEditor` of any method that gives an edited model, or its hyper-parameters.
        options: of `RobustnessOptions`; `queries` and `measures` may be mappings, as in a YAML.

    Raises:
        EditError: no EasyEdit, an unknown option, or a REP file's hyper-parameters, whose `rep.queries` say it already.
    """
    hparams = getattr(target, "hparams", target)
    if isinstance(hparams, REPHyperParams):
        raise EditError("REP's edits are measured anyway: set rep.corpus, rep.queries and rep.measures in the YAML")
    from .easyedit import activate

    setattr(hparams, KEY, Robustness.of(options or True, "measure_robustness"))
    activate()
    return target


def without_key(path: str, load: Callable[[str], object]) -> object:
    """`load` of EasyEdit's YAML at `path`, whose class refuses unknown keys, with our key taken out of the file and put on the result."""
    file = Path(path if ".yaml" in str(path) else f"{path}.yaml")  # as EasyEdit reads it
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return load(path)  # EasyEdit's to complain about
    if not isinstance(data, dict) or KEY not in data:
        return load(path)
    wanted = Robustness.of(data.pop(KEY), file.name)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        copy.write_text(yaml.safe_dump(data), encoding="utf-8")
        hparams = load(str(copy))
    setattr(hparams, KEY, wanted)
    return hparams
