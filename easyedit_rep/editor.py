"""The editor: requests in, metrics and the edited model out. Same call as EasyEdit's `BaseEditor`, on its own engine."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace

import torch
from torch import nn

from .anatomy import Anatomy
from .edit import Edit, Pathway
from .errors import EditError
from .hparams import REPHyperParams
from .ledger import Ledger
from .loading import load_model
from .measured import edit_and_measure
from .memory.need import check_memory
from .memory.tokens import continuation_of, with_offsets
from .memory.values import ValueConfig
from .methods import BaseEdit, Memory, get_method
from .pathway.build import build_pathways
from .pathway.closed import pathway_layers
from .pathway.config import RepConfig
from .pathway.examples import Examples
from .pathway.model import global_randomness_kept, pathways_disabled
from .pathway.training import PathwayTraining
from .pathway.value_fit import ValueTexts, check_fits
from .queries import Queries, QueryMaker
from .queries.fit import check_edited, check_measured
from .queries.neighbours import Neighbours
from .request import EditRequest, make_requests
from .sequence.sequence import Sequence as EditSequence
from .unedited import Unedited


class RobustEditor:
    """Edits facts in one model with a locate-and-edit method, and puts a robust edit pathway around each edit.

    What depends on the unedited model (context templates, C, keys of ordinary text) is made once, at first use, and belongs to this
    object (`unedited`). The edits themselves belong to the model's `Ledger`, which is shared by all editors of that model.
    """

    def __init__(self, hparams: REPHyperParams, model: nn.Module, tok):
        self.hparams = hparams
        self.model = model
        self.tok = with_offsets(tok)
        names = ("rewrite_module_tmp", "mlp_module_tmp", "layer_module_tmp", "ln_f_module", "lm_head_module")
        self.anatomy = Anatomy(model, **{name: getattr(hparams, name) for name in names})
        if len(set(hparams.layers)) < len(hparams.layers):
            raise EditError(f"layers: {hparams.layers} names a layer twice: name each once")
        for layer in hparams.layers:
            self.anatomy.check_layer(layer)
            self.anatomy.check_writable(layer)
        ValueConfig.from_hparams(hparams)  # what it refuses is refused now
        self.anatomy.check_layer(hparams.v_loss_layer, "v_loss_layer")
        last = self.anatomy.n_layers - 1
        if hparams.rep.engine == "native" and hparams.v_loss_layer != last:
            raise EditError(
                f"v_loss_layer: {hparams.v_loss_layer} is not the last layer, where the native engine reads the loss: set it to {last}"
            )
        if hparams.rep.pathways and hparams.rep.fits_values:
            check_fits(self.anatomy, *hparams.pathway_layers)
        check_memory(self.anatomy, hparams, self.batchable)  # also refuses a base that no engine knows
        self.ledger = Ledger.of(model, self.anatomy)
        self.unedited = Unedited(hparams, self.anatomy, self.tok, self.ledger)

    @classmethod
    def from_hparams(cls, hparams: REPHyperParams, model: nn.Module | None = None, tok=None) -> "RobustEditor":
        """An editor on `model` and `tok` if given, else on `hparams.model_name`: a hub name, a local path, or such a pair."""
        if model is None and isinstance(hparams.model_name, (tuple, list)):
            model, tok = hparams.model_name
        if model is None:
            options = {name: getattr(hparams, name) for name in ("fp16", "bf16", "model_parallel")}
            model, tok = load_model(hparams.model_name, hparams.device, **options)
        if tok is None:
            raise EditError(f"tok is missing: pass the tokenizer of {type(model).__name__} beside it, as tok=…")
        return cls(hparams, model, tok)

    @property
    def memory(self) -> Memory:
        return self.unedited.memory

    @property
    def queries(self) -> QueryMaker:
        return self.unedited.queries

    # -- one edit ----------------------------------------------------------------------------------------------------------------

    def check(self, request: EditRequest, *, queries: Queries | None = None, measured: bool = False) -> None:
        """Raise `EditError` for a request whose prompt does not fit this model's positions, or whose subject and target its tokenizer
        merges; with `queries` also where a name that a pathway is made from makes it too long; if `measured`, for any question about it."""
        longest = max((length for length, _ in self.unedited.context_lengths), default=0)
        names = queries.trained if queries is not None and self.hparams.rep.pathways else ()
        check_edited(self.tok, request, names, longest, self.anatomy.max_positions)
        continuation_of(self.tok, request.located, request.target_new)
        if measured:
            check_measured(self.tok, request, queries, self.anatomy.max_positions)

    def base_edit(self, *requests: EditRequest) -> Edit:
        """The base method's edit of `requests`, all at once, not yet applied; the model is as it was."""
        rep = self.hparams.rep
        if not requests:
            raise EditError("there is nothing to edit: give at least one request")
        _check_gradients()
        if len(requests) != 1 and not self.batchable:
            raise EditError(f"{rep.base} edits one fact at a time, not {len(requests)}: use MEMIT or EMMET, or edit one after another")
        for request in requests:
            self.check(request)
        memory = self.memory
        start = time.perf_counter()
        with pathways_disabled(self.model):
            result = self._solve(memory, requests)
        return Edit(
            requests,
            rep.base,
            result.deltas,
            pairs=result.pairs,
            seconds={"base": time.perf_counter() - start},
            info={"base": result.info, "keys": result.keys},
            hparams=self.hparams.record(),
        )

    @property
    def batchable(self) -> bool:
        """Whether the base method can write several facts in one edit."""
        if self.hparams.rep.engine == "easyedit":
            from .integrations.engine import batchable

            return batchable(self.hparams.rep.base)
        return get_method(self.hparams.rep.base).batch

    def _solve(self, memory: Memory, requests: Sequence[EditRequest]) -> BaseEdit:
        if self.hparams.rep.engine == "easyedit":
            from .integrations.engine import solve

            return solve(memory, self.hparams, requests)
        method = get_method(self.hparams.rep.base)
        return method.solve(memory, self.hparams, requests, *([self.sequence] if method.sequential else []))

    @property
    def sequence(self) -> EditSequence:
        """The edits of a sequential method (D4S) that the model carries."""
        return EditSequence.of(self.ledger, self.memory.covariances, self.hparams.layers, self.hparams.method)

    def install(self, edit: Edit) -> Edit:
        """Write an edit made by `base_edit` or `robustify` into the model."""
        return self.sequence.append(edit) if edit.pairs else self.ledger.apply(edit)

    @contextmanager
    def installed(self, edit: Edit) -> Iterator[Edit]:
        """`edit` is in the model inside, and out of it afterwards."""
        edit = self.install(edit)
        try:
            yield edit
        finally:
            edit.undo()

    def norms(self) -> dict[int, dict[str, float]]:
        """{layer: mean absolute value of an element of W, of W₀ and of their difference} (D4S, Figures 5 and 6)."""
        return {layer: self.ledger.norms(layer) for layer in self.hparams.layers}

    def robustify(self, edit: Edit, *queries: Queries, training: PathwayTraining | None = None) -> Edit:
        """`edit` with a pathway trained around each of its requests, not yet applied; `edit` itself is unchanged.

        Args:
            queries: one for each request; none to have them made.
            training: instead of the hyper-parameters' own.
        """
        _check_gradients()
        rep, memory = self.hparams.rep, self.memory
        training = (training or rep.training).of_kind(rep.pathway.kind)
        queries = queries or [self.queries(request) for request in edit.requests]
        pairs = list(zip(edit.requests, queries, strict=True))
        for request, query in pairs:
            self.check(request, queries=query)
        layers = pathway_layers(edit.deltas, rep.fitted)
        ordinary, text, occurrences = self.unedited.negatives(training, rep.pathway.kind, layers)  # once, so before the clock starts
        start = time.perf_counter()
        names = [self.anatomy.rewrite_name(layer) for layer in layers]
        shape = RepConfig(target_modules=names, inference_mode=True, value=rep.fits_values, **asdict(rep.pathway))
        with pathways_disabled(self.model), global_randomness_kept(self.model):
            active = [r for other in self.ledger.handles if other.pathways for r in other.requests]
            beside = Neighbours(active, pairs, self.queries, training.neighbours, rep.seed)
            examples = [Examples.of(memory, r, q, training, text, rep.seed, occurrences, beside.prompts(r, q)) for r, q in pairs]
            values = None
            if rep.fits_values:
                texts = [ValueTexts.of(r, q, memory.contexts, text, rep.seed) for r, q in pairs]
                values = texts, ValueConfig.from_hparams(self.hparams)
            base = BaseEdit(edit.deltas, edit.info["keys"])
            tensors, losses = build_pathways(memory, base, examples, shape, training, rep.seed, ordinary, rep.closed, values)
        return replace(
            edit,
            pathways=tuple(Pathway(shape, layers) for layers in tensors),
            seconds={**edit.seconds, "pathway": time.perf_counter() - start},
            info={**edit.info, "pathway": losses},
            ledger=None,
            name="",
        )

    def apply(self, *requests: EditRequest, queries: Sequence[Queries] = ()) -> Edit:
        """Edit facts robustly, all at once, and leave them in the model; the handle's `undo()` takes them out again, bit for bit."""
        edit = self.base_edit(*requests)
        return self.install(self.robustify(edit, *queries) if self.hparams.rep.pathways else edit)

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
            EditError: bad input, before anything was changed; or an edit that cannot be made, and then those before it are undone.
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
        return edit_and_measure(self, requests, sequential_edit=sequential_edit, verbose=verbose)


def _check_gradients() -> None:
    if torch.is_inference_mode_enabled():
        raise EditError("an edit is optimised by gradients, which torch.inference_mode() forbids: edit outside of it")
