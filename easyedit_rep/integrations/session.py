"""REP as one of EasyEdit's algorithms: `ALG_DICT["REP"]`, and what it keeps between calls, on the model and nowhere else.

Nothing here imports EasyEdit; `integrations.easyedit` puts it in its place.
"""

import copy as copying
import json
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..edit import Edit
from ..editor import RobustEditor
from ..errors import EditError
from ..evaluation.robustness import finish_negatives
from ..hparams import REPHyperParams
from ..memory.covariance import Covariance
from ..pathway.model import pathways_disabled
from ..queries import Queries
from ..request import EditRequest
from .robustness import robustness

log = logging.getLogger(__name__)

SESSIONS = 2
"""Sets of hyper-parameters whose contexts, texts and C, gigabytes for a large model, are kept; the least recently used goes."""


@dataclass(eq=False)
class Bridge:
    """What the integration keeps for one model, in the model's `__dict__`, so that it goes when the model goes."""

    sessions: dict[REPHyperParams, "Session"] = field(default_factory=dict)
    derived: WeakKeyDictionary[Covariance, dict[tuple, Tensor]] = field(default_factory=WeakKeyDictionary)

    @classmethod
    def of(cls, model: nn.Module) -> "Bridge":
        return model.__dict__.setdefault("_easyedit_rep_bridge", cls())

    def __reduce__(self):
        # A copied or pickled model begins anew: its editors are bound to the modules of the old one.
        return Bridge, ()


def _as_they_are(hparams: REPHyperParams) -> str:
    """What tells hyper-parameters from the same ones changed between two edits."""
    return json.dumps(hparams.record(), default=str)


class Session:
    """The `RobustEditor` of one model, tokenizer and set of hyper-parameters, and the queries of its recent requests."""

    def __init__(self, editor: RobustEditor, tok):
        self.editor, self.tok = editor, tok
        self.made_for = _as_they_are(editor.hparams)
        self._queries: OrderedDict[tuple, Queries] = OrderedDict()

    @classmethod
    def of(cls, model: nn.Module, tok, hparams: REPHyperParams) -> "Session":
        if not isinstance(hparams, REPHyperParams):
            raise EditError(f"REP cannot use {type(hparams).__name__}: make the hyper-parameters with REPHyperParams.from_hparams")
        sessions = Bridge.of(model).sessions
        found = sessions.get(hparams)
        if found is None or found.tok is not tok or found.made_for != _as_they_are(hparams):
            editor = RobustEditor(hparams, model, tok)
            dtype = editor.anatomy.weight(hparams.layers[0]).dtype
            if hparams.bf16 and dtype != torch.bfloat16:
                raise EditError(
                    f"bf16: true, but EasyEdit has loaded the model in {dtype}, as it knows fp16 alone: give BaseEditor a loaded "
                    "(model, tokenizer) as hparams.model_name, or set bf16: false"
                )
            found = cls(editor, tok)
        sessions.pop(hparams, None)
        while len(sessions) >= SESSIONS:
            sessions.pop(next(iter(sessions)))
        sessions[hparams] = found  # last, as the youngest
        return found

    def copied(self) -> "Session":
        """The same session on a deep copy of its model, edits included. What was read from the unedited model serves both."""
        editor = self.editor
        editor.unedited.ready()  # read once, from the original
        sequence = editor.ledger.sequence
        if sequence is not None and sequence.edits:
            raise EditError(f"the model holds a sequence of {len(sequence.edits)} edits, which a copy cannot go on with: use copy=False")
        twin = Session.of(copying.deepcopy(editor.model), self.tok, editor.hparams)
        twin.editor.unedited = editor.unedited.on(twin.editor.anatomy, twin.editor.ledger)
        return twin

    def queries(self, request: EditRequest) -> Queries:
        """The request's queries, made once for `pre`, the edit and `post` (the last thousand requests are remembered)."""
        key = (request.text, request.subject, request.target_new, request.subject_rephrase, request.long_context)
        if key not in self._queries:
            self._queries[key] = self.editor.queries(request)
            if len(self._queries) > 1000:
                self._queries.popitem(last=False)
        return self._queries[key]

    def robustness(self, request: EditRequest) -> dict:
        editor = self.editor
        queries = self.queries(request)
        measures = editor.hparams.rep.measures
        found = robustness(editor.anatomy, editor.tok, request, queries, measures)
        if queries.negatives:
            # EasyEdit does not say which call is `pre`; the unedited model can be asked at any time.
            with pathways_disabled(editor.model), editor.ledger.unedited():
                before = robustness(editor.anatomy, editor.tok, request, queries.only_negatives(), measures)
            finish_negatives(before["negatives"], found)
        return found

    def apply(self, *requests: EditRequest) -> Edit:
        return self.editor.apply(*requests, queries=[self.queries(request) for request in requests])


class WayBack:
    """Takes the edits of one call out again, in either way EasyEdit asks for it; a second time does nothing.

    `BaseEditor` calls it. `ConceptEditor` writes the original weights back that it finds in `items()`: to look there takes the edits out,
    and there is none left to write.
    """

    def __init__(self, edits: Sequence[Edit]):
        self._edits = edits

    def __call__(self) -> None:
        for edit in reversed(self._edits):
            edit.undo()

    def items(self) -> tuple:
        self()
        return ()


def apply_rep_to_model(
    model: nn.Module,
    tok,
    requests: Sequence[Mapping] | Mapping,
    hparams: REPHyperParams,
    copy: bool = False,
    return_orig_weights: bool = False,
    keep_original_weight: bool = False,
    **kwargs,
) -> tuple[nn.Module, WayBack]:
    """`ALG_DICT["REP"]`: edit `requests` into `model`, in place unless `copy`.

    Contexts, C and texts are made at the first call for these hyper-parameters and kept on the model for the next ones. The other
    arguments are EasyEdit's and change nothing: the way back is always returned.

    Returns:
        the model itself, and what takes exactly these edits out again.

    Raises:
        EditError: bad input, before anything was changed.
    """
    facts = [EditRequest.from_easyedit(request) for request in ([requests] if isinstance(requests, Mapping) else requests)]
    session = Session.of(model, tok, hparams)
    for fact in facts:
        session.editor.check(fact)
    if copy:
        session = session.copied()
    together = session.editor.batchable
    if len(facts) > 1 and not together:
        log.info("%s writes one fact at a time, so these %d are written in turn", hparams.rep.base, len(facts))
    edits: list[Edit] = []
    back = WayBack(edits)
    try:
        for batch in [facts] if together else [[fact] for fact in facts]:
            edits.append(session.apply(*batch))
    except BaseException:
        back()
        raise
    return session.editor.model, back
