"""What an editor reads from the unedited model and its texts: made once, at first use."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .anatomy import Anatomy
from .datasets.corpus import HUB_CORPORA, Corpus, load_corpus
from .errors import EditError
from .hparams import REPHyperParams
from .ledger import Ledger
from .loading import check_weights
from .memory.contexts import generate_contexts
from .memory.covariance import Covariance, Sample, collect
from .memory.statistics import load_statistics, save_statistics, statistics_path
from .methods import METHODS, Memory
from .methods.memit import MEMIT
from .pathway.model import pathways_disabled
from .pathway.ordinary import OrdinaryKeys, first_tokens, read_first, read_text
from .pathway.training import PathwayTraining
from .queries import QueryMaker
from .queries.contrasts import TRAINED_NAMES
from .queries.negatives import OrdinaryText
from .queries.occurrences import Occurrences

log = logging.getLogger(__name__)

LOOKED_THROUGH = 200_000
"""Tokens of the corpus that bare words are looked for in, and stray ones are put into: what is not among them is rarer than any rate of
false fires that could be told."""

PARAGRAPH = 256
"""Tokens of a paragraph of ordinary text that are read."""


class Negatives(NamedTuple):
    """What gates are to stay shut for, whichever the edit; None is what was not asked for."""

    ordinary: Mapping[int, OrdinaryKeys] | None = None
    text: OrdinaryText | None = None
    occurrences: Occurrences | None = None


class Unedited:
    """Context templates, C, ordinary text and its keys, and the maker of queries, for one model and set of hyper-parameters."""

    def __init__(self, hparams: REPHyperParams, anatomy: Anatomy, tok, ledger: Ledger):
        self.hparams, self.anatomy, self.tok, self.ledger = hparams, anatomy, tok, ledger
        self._text: dict[int, Tensor] = {}  # by layer
        self._first: dict[tuple[int, int], tuple[Sequence[int], Tensor]] = {}  # by how many tokens were asked for, and by layer

    def on(self, anatomy: Anatomy, ledger: Ledger) -> "Unedited":
        """The same for a copy of the model; what has been read serves both."""
        twin = Unedited(self.hparams, anatomy, self.tok, ledger)
        shared = ("corpus", "text", "occurrences", "_text", "_first", "queries")
        made = {name: value for name, value in vars(self).items() if name in shared}
        vars(twin).update(made, memory=replace(self.memory, anatomy=anatomy))
        return twin

    @cached_property
    def corpus(self) -> Corpus:
        return load_corpus(self.hparams.rep.corpus or self.hparams.mom2_dataset)

    @property
    def context_lengths(self) -> Sequence[Sequence[int]]:
        """[[length, number], …] of the contexts."""
        h = self.hparams
        own = METHODS.get(h.rep.base, MEMIT).context_template_length_params
        return own if h.context_template_length_params is None else h.context_template_length_params

    @cached_property
    def memory(self) -> Memory:
        h = self.hparams
        check_weights(self.anatomy.model)
        with pathways_disabled(self.anatomy.model), self.ledger.unedited():
            covariances = self._covariances()
            contexts = generate_contexts(self.anatomy, self.tok, self.context_lengths, h.rep.seed)
        cache = Path(h.rep.value_cache) if h.rep.value_cache else None
        return Memory(self.anatomy, self.tok, contexts, covariances, cache)

    def _covariances(self) -> dict[int, Covariance]:
        h = self.hparams
        rank_one = h.rep.base in METHODS and not METHODS[h.rep.base].batch
        if rank_one and not h.mom2_adjustment and h.rep.training.target != "whitened":
            return {}
        paths: dict[int, Path] = {}
        if h.stats_dir is not None:
            common = h.mom2_dataset, h.mom2_dtype, h.mom2_n_samples
            paths = {i: statistics_path(h.stats_dir, self.anatomy, i, *common) for i in h.memory_layers}
        found = {i: load_statistics(path, self.anatomy, i, self.tok) for i, path in paths.items() if path.exists()}
        for layer, covariance in found.items():
            self._check_sample(paths[layer], covariance)
        missing = [i for i in h.memory_layers if i not in found]
        if missing:
            try:
                corpus = self.corpus
            except EditError as error:
                where = paths.get(missing[0], "in memory (stats_dir: null)")
                raise EditError(f"no statistics {where} and no text to make them from: {error}") from error
            made = collect(self.anatomy, self.tok, corpus, missing, n_tokens=h.rep.statistics_tokens, seed=h.rep.seed)
            for layer, covariance in made.items():
                if layer in paths:
                    save_statistics(paths[layer], covariance, h.mom2_dtype, h.mom2_n_samples)
                    made[layer] = load_statistics(paths[layer], self.anatomy, layer)  # rounded, as the next run will find it
            found.update(made)
        return {layer: self._placed(layer, covariance) for layer, covariance in found.items()}

    def _placed(self, layer: int, covariance: Covariance) -> Covariance:
        """`covariance` where `rep.statistics_device` wants it."""
        device = self.anatomy.weight(layer).device if self.hparams.rep.statistics_device == "model" else torch.device("cpu")
        return covariance if covariance.moment.device == device else replace(covariance, moment=covariance.moment.to(device))

    def _check_sample(self, path: Path, covariance: Covariance) -> None:
        """Warn, and no more, of statistics of another text or of less of it: C hardly depends on which text it is."""
        made, source, wanted = covariance.provenance, self.hparams.rep.corpus, self.hparams.rep.statistics_tokens
        again = "`stats collect --force` makes them again"
        if "corpus_digest" in made and source:
            named = source in HUB_CORPORA and made.get("corpus") != source
            if named or (Path(source).is_file() and made["corpus_digest"] != self.corpus.digest):
                log.warning("statistics %s were made from another text (%s) than %s: %s", path, made.get("corpus"), source, again)
        if wanted is not None and covariance.count < wanted:
            log.warning(
                "statistics %s are of %d tokens, rep.statistics_tokens asks for %d: they are used as they are; %s, if the text has as many",
                *(path, covariance.count, wanted, again),
            )

    def ready(self) -> None:
        """Read what all edits want of the unedited model and its texts; what cannot be had is refused now, and not at the first of them."""
        self.memory  # noqa: B018
        self.queries  # noqa: B018
        rep = self.hparams.rep
        if rep.pathways:
            self.negatives(rep.training.of_kind(rep.pathway.kind), rep.pathway.kind, self.hparams.pathway_layers)

    def negatives(self, training: PathwayTraining, kind: str, layers: Sequence[int]) -> Negatives:
        """What `training` asks for, in these layers, if pathways of that kind are taught when to stay shut at all."""
        if kind != "closed" and not training.gate_negatives:
            return Negatives()
        text = self.text if training.other_subjects or training.after_fact else None
        occurrences = self.occurrences if training.same_words or training.stray_words else None
        return Negatives(self.ordinary(training.first_tokens, layers), text, occurrences)

    @cached_property
    def text(self) -> OrdinaryText:
        return OrdinaryText.from_corpus(self.corpus, TRAINED_NAMES, self.hparams.rep.seed)

    @cached_property
    def occurrences(self) -> Occurrences:
        return Occurrences.of(self.tok, self._rows(LOOKED_THROUGH, self.hparams.rep.seed))

    def ordinary(self, first: int, layers: Sequence[int]) -> Mapping[int, OrdinaryKeys]:
        """{layer: keys of ordinary text, and of `first` tokens that begin one}: gates learn from them when to stay shut."""
        rep = self.hparams.rep
        with pathways_disabled(self.anatomy.model), self.ledger.unedited():
            if missing := [layer for layer in layers if layer not in self._text]:
                rows = self._rows(rep.text_tokens, rep.seed + 1) if rep.text_tokens else []
                self._text |= read_text(self.anatomy, rows, missing)
            if missing := [layer for layer in layers if (first, layer) not in self._first]:
                tokens = first_tokens(self.anatomy, self.tok, first, rep.seed)
                found = read_first(self.anatomy, self.tok, tokens, missing)
                self._first |= {(first, layer): (tokens, keys) for layer, keys in found.items()}
        asked = {layer: self._first[first, layer] for layer in layers}
        return {layer: OrdinaryKeys(self._text[layer], keys, tokens) for layer, (tokens, keys) in asked.items()}

    def _rows(self, n_tokens: int, seed: int) -> Sequence[Sequence[int]]:
        """Token ids of paragraphs of the corpus, in an order fixed by `seed`."""
        return Sample.of(self.anatomy, self.tok, self.corpus, n_tokens, PARAGRAPH, seed).rows

    @cached_property
    def queries(self) -> QueryMaker:
        rep = self.hparams.rep
        corpus = self.corpus if rep.queries.long_context_count or rep.queries.negative_count else None
        return QueryMaker.of(rep.queries, self.tok, corpus, self.anatomy.max_positions, rep.seed)
