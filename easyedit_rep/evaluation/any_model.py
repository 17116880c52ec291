"""`easyedit_rep.evaluate`: the same measurements on any Hugging Face model, edited by whatever."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..datasets.corpus import load_corpus
from ..errors import EditError
from ..memory.tokens import with_offsets
from ..queries import Queries, QueryMaker
from ..queries.contrasts import held_out_names
from ..queries.fit import check_edited, check_measured
from ..request import EditRequest
from .measures import Measures
from .metrics import EXTRA, REVERSION, TABLE, TOKEN
from .robustness import evaluate as evaluate_one
from .robustness import finish_locality


class Evaluation(NamedTuple):
    """What `evaluate` returns.

    Attributes:
        records: one dictionary a request, as in the `pre` and `post` of an edit.
        summary: {metric: 100 × mean over all questions}, of what was measured (`evaluation/metrics.py` says what each is).
    """

    records: list[dict]
    summary: dict[str, float]


class WholeModel:
    """A model that is only called, never opened: what wraps it (PEFT, another editor's own layers or classes) stays in the way."""

    def __init__(self, model: nn.Module):
        self.model = model
        config = getattr(model, "config", None)
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        self.max_positions: int = getattr(config, "max_position_embeddings", None) or 2**31
        # What is no Hugging Face model may know no such argument.
        self._options = {"use_cache": False} if hasattr(model, "generate") else {}

    @property
    def embedding_device(self) -> torch.device:
        return next(self.model.parameters()).device

    def decoder(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool = False) -> SimpleNamespace:
        """Logits (n, tokens, V) in the place of hidden states."""
        out = self.model(input_ids=input_ids, attention_mask=attention_mask, **self._options)
        return SimpleNamespace(last_hidden_state=out if isinstance(out, Tensor) else out.logits)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden.float()


def evaluate(
    model: nn.Module,
    tok,
    records: Iterable[EditRequest | Mapping],
    *,
    before: Evaluation | Sequence[dict] | None = None,
    queries: Callable[[EditRequest], Queries] | None = None,
    corpus: str | Path | Sequence[str] | None = None,
    rephrases: Mapping[str, tuple[str, ...]] | None = None,
    shuffle_count: int = 10,
    long_context_count: int = 10,
    long_context_tokens: int = 512,
    negative_count: int = 2,
    generation: bool = False,
    fluency: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Measure `records` on `model` as it is now. Nothing is changed.

    Call it before and after an edit, or on two models, with the same arguments: the same record is asked the same questions.

        before = evaluate(model, tok, records)
        ...  # edit the model
        evaluate(model, tok, records, before=before).summary["rephrase_ood"]

    Args:
        model: a causal language model whose call returns logits.
        records: requests (`load_records` of a data file gives them), or EasyEdit's request dictionaries.
        before: what this returned for the unedited model; locality and negatives are compared with it, and absent without.
        queries: gives each record's queries, e.g. `RobustEditor.queries`; the arguments that follow make them otherwise.
        corpus: text for long contexts and names of other subjects; without one there are none.
        rephrases: other names by subject, for records that bring none (`load_rephrases`).
        generation, fluency: also measure what needs generated text.

    Raises:
        EditError: a record that is none, nothing to measure, a text longer than the model's positions, or a `before` of other questions.
    """
    requests = [r if isinstance(r, EditRequest) else EditRequest.from_easyedit(r) for r in records]
    if not requests:
        raise EditError("no records to evaluate: pass at least one")
    earlier = before.records if isinstance(before, Evaluation) else before
    if earlier is not None and len(earlier) != len(requests):
        raise EditError(f"before has {len(earlier)} records, not {len(requests)}: evaluate the same records before and after")
    whole, tok = WholeModel(model), with_offsets(tok)
    if queries is None:
        text = load_corpus(corpus) if corpus is not None else None
        counts = (shuffle_count, long_context_count, long_context_tokens, whole.max_positions, seed, negative_count)
        queries = QueryMaker(tok, rephrases or {}, text, *counts, held_out_names(text, seed) if text and negative_count else ())
    asked = [queries(request) for request in requests]
    for request, questions in zip(requests, asked, strict=True):  # before the first is evaluated
        check_edited(tok, request, (), 0, whole.max_positions)
        check_measured(tok, request, questions, whole.max_positions)
    measures = Measures(generation, fluency)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        rows = []
        for request, questions in zip(tqdm(requests, desc="evaluating", disable=not progress), asked, strict=True):
            rows.append({**evaluate_one(whole, tok, request, questions, measures), "compared": _compared(request, questions)})
    finally:
        for module, training in modes:
            module.training = training
    for i, row in enumerate(rows):
        if earlier is not None:
            _compare(i, earlier[i], row)
    means = {metric.name: metric.micro(rows) for metric in (*TABLE, REVERSION, *TOKEN, *EXTRA)}
    return Evaluation(rows, {name: value for name, value in means.items() if value is not None})


def _compared(request: EditRequest, queries: Queries) -> str:
    """A digest of the questions whose answers are compared with those before the edit."""
    asked = {kind: [(q.prompt, q.answer) for q in questions] for kind, questions in {**request.locality, **queries.negatives}.items()}
    return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _compare(index: int, before: dict, after: dict) -> None:
    try:
        # `pre` of an edit says nothing of its questions; where they are fewer or shorter it is seen all the same.
        if before.get("compared", after["compared"]) != after["compared"]:
            raise ValueError
        finish_locality(before, after)
    except (KeyError, ValueError):
        raise EditError(f"before[{index}] was asked other questions: evaluate with the same records and arguments") from None
