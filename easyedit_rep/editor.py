"""The editor: requests in, metrics and the edited model out. Same call as EasyEdit's `BaseEditor`, on its own engine."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .anatomy import Anatomy
from .datasets.corpus import Corpus, load_corpus
from .errors import EditError
from .evaluation.robustness import evaluate, finish_locality
from .hparams import REPHyperParams
from .ledger import Edit, Ledger, Pathway
from .loading import check_weights, load_model
from .memory.contexts import generate_contexts
from .memory.covariance import Covariance, collect
from .memory.keys import read_token_keys
from .memory.statistics import load_statistics, save_statistics, statistics_path
from .memory.tokens import continuation_of, with_offsets
from .methods import BaseEdit, Memory, get_method
from .pathway.config import RepConfig
from .pathway.examples import read_training_keys
from .pathway.layer import RepLayer
from .pathway.model import detached_state, global_randomness_kept, pathways_disabled
from .pathway.training import train_pathway
from .queries import Queries, QueryMaker
from .queries.negatives import OrdinaryText
from .queries.rephrase import load_rephrases
from .request import EditRequest, make_requests

log = logging.getLogger(__name__)


class RobustEditor:
    """Edits facts in one model with a locate-and-edit method, and puts a robust edit pathway around each edit.

    What depends on the unedited model (context templates, C, keys of ordinary text) is made once, at first use, and belongs to this
    object. The edits themselves belong to the model's `Ledger`, which is shared by all editors of that model.
    """

    def __init__(self, hparams: REPHyperParams, model: nn.Module, tok):
        self.hparams = hparams
        self.model = model
        self.tok = with_offsets(tok)
        names = ("rewrite_module_tmp", "mlp_module_tmp", "layer_module_tmp", "ln_f_module", "lm_head_module")
        self.anatomy = Anatomy(model, **{name: getattr(hparams, name) for name in names})
        for layer in hparams.layers:
            self.anatomy.check_layer(layer)
        self.anatomy.check_layer(hparams.v_loss_layer, "v_loss_layer")
        if hparams.rep.engine == "native":
            get_method(hparams.rep.base)
        self.ledger = Ledger.of(model, self.anatomy)

    @classmethod
    def from_hparams(cls, hparams: REPHyperParams, model: nn.Module | None = None, tok=None) -> "RobustEditor":
        """An editor on `model` and `tok` if given, else on `hparams.model_name`: a hub name, a local path, or such a pair."""
        if model is None and isinstance(hparams.model_name, (tuple, list)):
            model, tok = hparams.model_name
        if model is None:
            model, tok = load_model(hparams.model_name, hparams.device, fp16=hparams.fp16, model_parallel=hparams.model_parallel)
        return cls(hparams, model, tok)

    # -- what is read from the unedited model, once ------------------------------------------------------------------------------

    @cached_property
    def corpus(self) -> Corpus:
        return load_corpus(self.hparams.rep.corpus or self.hparams.mom2_dataset)

    @cached_property
    def memory(self) -> Memory:
        check_weights(self.model)
        with pathways_disabled(self.model), self.ledger.unedited():
            covariances = self._covariances()
            contexts = generate_contexts(self.anatomy, self.tok, self.hparams.context_template_length_params, self.hparams.rep.seed)
        return Memory(self.anatomy, self.tok, contexts, covariances)

    def _covariances(self) -> dict[int, Covariance]:
        h = self.hparams
        if not h.mom2_adjustment and h.rep.training.target != "whitened":
            return {}
        paths: dict[int, Path] = {}
        if h.stats_dir is not None:
            paths = {i: statistics_path(h.stats_dir, self.anatomy, i, h.mom2_dataset, h.mom2_dtype, h.mom2_n_samples) for i in h.layers}
        found = {i: load_statistics(path, self.anatomy, i) for i, path in paths.items() if path.exists()}
        missing = [i for i in h.layers if i not in found]
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
            found.update(made)
        return found

    @cached_property
    def text(self) -> OrdinaryText:
        return OrdinaryText.from_corpus(self.corpus, 400, self.hparams.rep.seed)

    @cached_property
    def text_keys(self) -> dict[int, Tensor]:
        """{layer: (text_tokens, D)} keys of ordinary text, for gates that learn when to stay shut."""
        rows, total, wanted = [], 0, self.hparams.rep.text_tokens
        for text in self.corpus.shuffled(self.hparams.rep.seed + 1):
            if total >= wanted:
                break
            rows.append(self.tok(text, truncation=True, max_length=min(256, wanted - total, self.anatomy.max_positions))["input_ids"])
            total += len(rows[-1])
        with pathways_disabled(self.model), self.ledger.unedited():
            tokens = read_token_keys(self.anatomy, rows, self.hparams.layers)
        return {layer: torch.cat(keys) for layer, keys in tokens.items()}

    @cached_property
    def queries(self) -> QueryMaker:
        options = self.hparams.rep.queries
        return QueryMaker(
            tok=self.tok,
            rephrases=load_rephrases(options.rephrase_file) if options.rephrase_file else {},
            corpus=self.corpus if options.long_context_count else None,
            shuffle_count=options.shuffle_count,
            long_context_count=options.long_context_count,
            long_context_tokens=options.long_context_tokens,
            max_tokens=self.anatomy.max_positions,
            seed=self.hparams.rep.seed,
        )

    # -- one edit ----------------------------------------------------------------------------------------------------------------

    def check(self, request: EditRequest) -> None:
        """Raise `EditError` for a request that does not fit this model's positions, or whose subject and target its tokenizer merges."""
        length = len(self.tok(f"{request.text} {request.target_new}")["input_ids"])
        if length > self.anatomy.max_positions:
            raise EditError(
                f"prompt {request.text[:60]!r}… has {length} tokens, the model has {self.anatomy.max_positions} positions: shorten it"
            )
        continuation_of(self.tok, request.located, request.target_new)

    def base_edit(self, request: EditRequest) -> Edit:
        """The base method's edit of `request`, not yet applied; the model is as it was."""
        self.check(request)
        memory = self.memory
        start = time.perf_counter()
        with pathways_disabled(self.model):
            result = self._solve(memory, request)
        return Edit(
            (request,),
            self.hparams.rep.base,
            result.deltas,
            seconds={"base": time.perf_counter() - start},
            info={"base": result.info, "keys": result.keys},
        )

    def _solve(self, memory: Memory, request: EditRequest) -> BaseEdit:
        if self.hparams.rep.engine == "easyedit":
            from .integrations.easyedit import solve

            return solve(memory, self.hparams, request)
        return get_method(self.hparams.rep.base)(memory, self.hparams, [request])

    def robustify(self, edit: Edit, queries: Queries | None = None) -> Edit:
        """`edit` with a pathway trained around it, not yet applied; `edit` itself is unchanged."""
        (request,) = edit.requests
        rep, memory = self.hparams.rep, self.memory
        training = rep.training
        queries = queries or self.queries(request)
        # Read once for all edits, so before the clock starts.
        text_keys = self.text_keys if training.gate_negatives else None
        text = self.text if training.gate_negatives and training.other_subjects else None
        start = time.perf_counter()
        base = BaseEdit(edit.deltas, edit.info["keys"])
        names = {layer: self.anatomy.rewrite_name(layer) for layer in edit.deltas}
        shape = RepConfig(target_modules=list(names.values()), inference_mode=True, **asdict(rep.pathway))
        with pathways_disabled(self.model), global_randomness_kept(self.model):
            keys = read_training_keys(
                memory,
                request,
                queries,
                base,
                training,
                text_keys,
                text,
                rep.seed,
            )
            layers = {i: RepLayer(self.anatomy.projection(i), "new", shape) for i in names}
            losses = train_pathway(layers, keys, "new", training, rep.seed)
        pathway = Pathway(shape, {i: detached_state(layer, "new") for i, layer in layers.items()})
        return replace(
            edit,
            pathway=pathway,
            seconds={**edit.seconds, "pathway": time.perf_counter() - start},
            info={**edit.info, "pathway": losses},
            ledger=None,
            name="",
        )

    def apply(self, request: EditRequest, queries: Queries | None = None) -> Edit:
        """Edit one fact robustly and leave it in the model; the handle's `undo()` takes it out again, bit for bit."""
        return self.ledger.apply(self.robustify(self.base_edit(request), queries))

    # -- many edits, measured ----------------------------------------------------------------------------------------------------

    def edit(
        self,
        prompts: str | Sequence[str],
        target_new: str | Sequence[str],
        ground_truth: str | Sequence[str] | None = None,
        rephrase_prompts: Sequence | None = None,
        locality_inputs: dict | None = None,
        portability_inputs: dict | None = None,
        *,
        subject: str | Sequence[str],
        subject_rephrase: Sequence | None = None,
        long_context: Sequence | None = None,
        sequential_edit: bool = False,
        verbose: bool = True,
    ) -> tuple[list[dict], nn.Module, list[Edit]]:
        """Edit facts and measure each before and after, as `BaseEditor.edit` does.

        With `sequential_edit` every edit stays. Without it each is undone before the next begins, and after the last of several too; a
        single edit stays until `undo()`.

        Args:
            locality_inputs, portability_inputs: {name: {"prompt": […], "ground_truth": […]}}, one entry (or list) for each prompt.
            subject_rephrase, long_context: a list for each prompt; what is not given is made (see `rep.queries`).

        Returns:
            metrics (EasyEdit's dictionaries, with `robustness` in `pre` and `post`), the model (the Hugging Face model itself), and
            the handles of the edits it carries.

        Raises:
            EditError: bad input, before anything was changed.
        """
        requests = make_requests(
            prompts,
            subject,
            target_new,
            ground_truth,
            rephrase_prompts,
            locality_inputs,
            portability_inputs,
            subject_rephrase,
            long_context,
        )
        return self.edit_requests(requests, sequential_edit=sequential_edit, verbose=verbose)

    def edit_requests(
        self, requests: Sequence[EditRequest], *, sequential_edit: bool = False, verbose: bool = True
    ) -> tuple[list[dict], nn.Module, list[Edit]]:
        """`edit` for requests that are already made."""
        for request in requests:
            self.check(request)
        self.memory  # noqa: B018 (contexts and C come from the model before its first edit, or are refused now)
        queries = [self.queries(request) for request in requests]
        metrics = [
            {"case_id": i, "requested_rewrite": asdict(r), "pre": evaluate(self.anatomy, self.tok, r, q)}
            for i, (r, q) in enumerate(zip(requests, queries, strict=True))
        ]
        kept: list[Edit] = []
        for request, query, row in zip(tqdm(requests, desc="editing", disable=not verbose), queries, metrics, strict=True):
            edit = self.apply(request, query)
            row["time"] = sum(edit.seconds.values())
            row["post"] = evaluate(self.anatomy, self.tok, request, query)
            finish_locality(row["pre"], row["post"])
            if sequential_edit or len(requests) == 1:
                kept.append(edit)
            else:
                edit.undo()
        log.info("the returned model carries %d of %d edits", len(kept), len(requests))
        return metrics, self.model, kept
