"""What the analyses share: facts drawn from a data file, one editor, one layer, and a record a fact on disk as it comes."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..bench.journal import Journal
from ..bench.runs import Editors, Run, choose, provenance
from ..datasets.corpus import Corpus, load_corpus
from ..editor import RobustEditor
from ..errors import EditError
from ..evaluation.metrics import DOMAINS
from ..memory.covariance import Covariance
from ..memory.keys import read_keys
from ..memory.tokens import Prompt, locate
from ..pathway.layer import RepLayer
from ..queries import Queries
from ..request import EditRequest

log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """A prompt about the edited subject: `kind` is rephrase, shuffle or long, `domain` id or ood."""

    kind: str
    domain: str
    prompt: Prompt


def asked(request: EditRequest, queries: Queries) -> list[Asked]:
    """All robustness queries of `request`, one after another."""
    domains = dict(DOMAINS)
    return [
        Asked(kind, domains[domain], prompt)
        for kind, split in queries.prompts(request.located).items()
        for domain, prompts in split.items()
        for prompt in prompts
    ]


@dataclass(frozen=True, eq=False)
class Study:
    """One editor and the facts that are looked at, in the memory of one layer.

    Attributes:
        facts: (index in the data file, request), in the order they were drawn.
        layer: whose keys are read; one that the YAML edits, or in which it puts pathways.

    Raises:
        EditError: on construction, for another layer, or one without covariance.
    """

    run: Run
    editor: RobustEditor
    facts: Sequence[tuple[int, EditRequest]]
    layer: int

    @classmethod
    def of(
        cls, run: Run, layer: int | None = None, editor: RobustEditor | None = None, tell: Callable[[str], object] = log.info
    ) -> "Study":
        """For the facts of `run`; `layer` defaults to the lowest edited one, `editor` to a fresh one; `tell` as in `known_only`."""
        editor = editor or Editors()(run)
        layers = editor.hparams.memory_layers
        if layer is not None and layer not in layers:
            raise EditError(f"layer: {layer} is not edited by {run.hparams}: choose one of {', '.join(map(str, layers))}")
        study = cls(run, editor, choose(run, editor, tell), min(layers) if layer is None else layer)
        study.covariance  # noqa: B018 (a layer without one is refused now)
        return study

    @property
    def covariance(self) -> Covariance:
        """C of the layer."""
        found = self.editor.memory.covariances.get(self.layer)
        if found is None:
            raise EditError(f"layer {self.layer} has no covariance, which similarities are whitened by: set mom2_adjustment: true")
        return found

    @cached_property
    def own_keys(self) -> Tensor:
        """(facts, D) float32: each subject's own key, at its last token in the bare prompt, on the unedited model."""
        return self.keys([request.located for _, request in self.facts])

    def keys(self, prompts: Sequence[Prompt]) -> Tensor:
        """(n, D) float32 raw keys at the subjects' last tokens, on the model as it is."""
        located = [locate(self.editor.tok, prompt) for prompt in prompts]
        return read_keys(self.editor.anatomy, located, [self.layer])[self.layer]

    def check_gated(self) -> None:
        """Raise `EditError` where edits have no pathway in the layer."""
        gated = self.editor.hparams.pathway_layers
        if self.layer not in gated:
            raise EditError(f"layer: edits have no pathway in {self.layer}: choose {' or '.join(map(str, gated))}")

    def adapted(self, raw: Tensor) -> Tensor:
        """(n, D): what the pathways in the model make of raw keys; the keys themselves where there are none."""
        return self.moved(raw)[0]

    def moved(self, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        """`adapted`, and (n, d) float32 what the pathways add to the values of these; None for nothing."""
        module = self.editor.anatomy.rewrite(self.layer)
        with torch.no_grad():
            return module.moved(raw) if isinstance(module, RepLayer) else (raw, None)

    def text(self, corpus: str | None) -> Corpus:
        """The corpus of that name or file; the YAML's for None."""
        return self.editor.unedited.corpus if corpus is None else load_corpus(corpus)

    def others(self, fact: int, n: int) -> list[int]:
        """Positions in `facts` of up to `n` facts about other subjects, the next ones after `fact`, round and round."""
        subject = self.facts[fact][1].subject
        order = [(fact + step) % len(self.facts) for step in range(1, len(self.facts))]
        return [i for i in order if self.facts[i][1].subject != subject][:n]

    def about(self, analysis: str, **options) -> dict:
        """What records are made from."""
        return {"analysis": analysis, "layer": self.layer, **options, **provenance(self.run, self.editor)}

    def record(
        self,
        analysis: str,
        out: Path,
        measure: Callable[["Study", int], dict],
        *,
        count: int | None = None,
        progress: bool = True,
        **options,
    ) -> Path:
        """Write what `measure` finds of each fact to the journal `out`/`analysis`.jsonl, one line a fact; returns its path.

        Facts that are in the journal already are not measured again. One that is refused gives a record that says why.

        Args:
            measure: (study, position in `facts`) -> the record, to which index and subject are added.
            count: of the first facts alone; the others are company.
            options: noted in the journal; one with others is not continued.
        """
        with Journal(out / f"{analysis}.jsonl", self.about(analysis, **options)) as journal:
            done = {record["index"] for record in journal.records}
            for fact, (index, request) in enumerate(tqdm(self.facts[:count], desc=analysis, unit="fact", disable=not progress)):
                if index in done:
                    continue
                try:
                    found = measure(self, fact)
                except EditError as error:
                    found = {"error": str(error)}
                journal.add([{"index": index, "subject": request.subject, **found}])
        return journal.path


def rounded(value: float) -> float:
    """Six significant digits, enough for any figure; a third of the file."""
    return float(f"{value:.6g}")
