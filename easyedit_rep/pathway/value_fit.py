"""The value of a closed-form pathway, fitted so that the model answers behind other wordings too.

Where a gate opens at the subject's name and the name is not the last word ("Toyota Cresta, the sedan, is produced by"), s·v* stands at the
name, but the model reads the answer off the words behind it: v* was optimised for prompts in which there are none. So r, what is added to
the residual stream behind the pathway's layer (the lowest edited, or one above) where it opens, is optimised further, as v* was (ROME,
section 3.1), on the model as it is before the edit. It begins as r₀ = s times what the edit changes at the bare prompt's subject, behind
that layer or behind its own highest, if that is above. It is added at one token of each text, which must then be answered by it alone:

    mean over groups of [ mean over prompts of −log p(target) / n_target ]  +  Σ over kinds w · mean over kept prompts of −log p(its answer)
        +  v_weight_decay · ‖r‖ / ‖r₀‖²                                     with ‖r‖ at most value_norm · ‖r₀‖

    groups   the prompt behind contexts; about the in-domain rephrases and shuffles; about the subject with other words behind its name,
             those of in-domain rephrases and appositions by rule
    kept     the edited fact, then a made-up neighbour's prompt; and "… is not"; the answer is the unedited model's, w in `KEPT_WEIGHTS`

by Adam from r₀; of all it comes by the best is taken. What r is more than the edit itself changes there at the bare prompt is stored.

Two things are left out on purpose. Where a pathway opens the token's own value gives way to the prompt's, which is not told to the fit:
on the bench model the two are a tenth of r apart, or less. And the edited layers above add their part to r, at the bare prompt a seventh
to a third of it more than was fitted. A fit with them in place leans on them where they act and has less where they do not or, under later
edits, no longer do: of 60 sequential edits it loses 4 to 5 points of Long and 1 of Rephrase OOD, for 2 of Shuffle.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from ..anatomy import Anatomy
from ..errors import EditError
from ..evaluation.predict import predict
from ..memory.linear import fast_linears
from ..memory.replay import frozen, replayed_names
from ..memory.tokens import Prompt, batches, continuation_of
from ..memory.value_batch import Batch, Row, losses
from ..memory.values import REPLAYED_TOKENS, ValueConfig
from ..queries import Queries
from ..queries.contrasts import negation
from ..queries.forms import names_with_tails
from ..queries.negatives import OrdinaryText, prompts_after_fact
from ..request import EditRequest
from .closed import ClosedForm

KEPT = 16
"""Neighbours' prompts behind the edited fact whose answers are kept."""

KEPT_WEIGHTS = (2.0, 0.5)
"""Of all of these, and of the negated prompt; what is to be said has 1. From bench-llama's validation facts: with 8 neighbours of weight 1
five answers of 80 changed, with these one of 96, and more or heavier ones kept no more; a negation of 0.3 or 1 is kept as often."""


@dataclass(frozen=True)
class ValueTexts:
    """What one request's value is fitted on.

    Attributes:
        said: groups of prompts behind which the target is to follow.
        kept: prompts, with the edited subject as theirs, whose answers are to stay: neighbours' behind the fact, and the negated one.
    """

    request: EditRequest
    said: tuple[Sequence[Prompt], ...]
    kept: tuple[Sequence[Prompt], Sequence[Prompt]]

    @classmethod
    def of(cls, request: EditRequest, queries: Queries, contexts: Sequence[str], text: OrdinaryText | None, seed: int) -> "ValueTexts":
        """For `request`; `text` gives neighbours' names, None: no answers are kept."""
        prompt = request.located
        prefix, subject, suffix = prompt
        tails = names_with_tails(subject, queries.rephrase.in_domain, queries.held_out)
        said = (
            [prompt.after(context) for context in dict.fromkeys(contexts)],
            [prompt.with_subject(name) for name in queries.trained],
            [Prompt(prefix + before, subject, behind + suffix) for before, behind in tails],
        )
        made = prompts_after_fact(request, queries.rephrase.in_domain, (), text, KEPT, seed) if text is not None else []
        after = [Prompt(prefix, subject, p.text.removeprefix(prefix + subject)) for _, p in made]
        negated = negation(prompt.text)
        denied = [] if negated is None else [Prompt(prefix, subject, negated.removeprefix(prefix + subject))]
        return cls(request, said, (after, denied))

    def rows(self, anatomy: Anatomy, tok) -> list[Row]:
        """Token ids, with the place of the change, what is to follow and how much it counts; the model is asked for the answers to keep, of
        each its first token. What is longer than the model's positions, or has no token of its own for the target, is left out."""
        target, rows = self.request.target_new, []
        groups = [group for group in (_placed(tok, said, target, anatomy.max_positions) for said in self.said) if group]
        for group in groups:
            rows += [Row(before + ids[:-1], at, ids, 1 / len(group) / len(groups)) for _, before, ids, at in group]
        kinds = [_placed(tok, prompts, target, anatomy.max_positions) for prompts in self.kept]
        kept = [(*placed, weight / len(kind)) for kind, weight in zip(kinds, KEPT_WEIGHTS, strict=True) for placed in kind]
        answers = predict(anatomy, tok, [text for text, *_ in kept], [target] * len(kept))
        rows += [Row(before, at, list(a.predicted[:1]), share) for (_, before, _, at, share), a in zip(kept, answers, strict=True)]
        return rows


def _placed(tok, prompts: Sequence[Prompt], target: str, longest: int) -> list[tuple[str, list[int], list[int], int]]:
    """(text, ids before the target, the target's, place of the subject's last token) of every prompt that can be run with the target."""
    found = []
    for prompt in prompts:
        with suppress(EditError):
            before, ids, at = continuation_of(tok, prompt, target)
            if len(before) + len(ids) <= longest:
                found.append((prompt.text, before, ids, at))
    return found


def check_fits(anatomy: Anatomy, layer: int) -> None:
    """Raise `EditError` unless `layer` is one of the model's, and what is added to an MLP's output changes its residual stream as it is."""
    anatomy.check_layer(layer, "rep.closed.layer")
    if not anatomy.residual:
        name = type(anatomy.model).__name__
        raise EditError(f"rep.closed.value_steps: {name} need not add an MLP's output to its residual stream as it is: set it to 0")


def fit_value(
    anatomy: Anatomy, tok, layer: int, texts: ValueTexts, start: Tensor, config: ValueConfig, options: ClosedForm
) -> tuple[Tensor, dict[str, float]]:
    """r (d,) float32 of one request at the output of `layer`, on the model as it is before the edit; `start` is r₀ (d,).

    The value is measured `value_steps` times, r₀ first, and is the best of these.

    Returns:
        also `value_loss`, its loss. Of an edit that changes nothing, the model having said the target already, nothing is fitted: (0, {}).

    Raises:
        EditError: NaN loss.
    """
    if not start.any():
        return start, {}
    rows = texts.rows(anatomy, tok)
    value = start.clone().requires_grad_()
    best, least = start, float("inf")
    lost = f"the loss of the pathway's value of {texts.request.text!r} is NaN or infinite: set rep.closed.value_steps: 0"
    if not start.isfinite().all():
        raise EditError(lost)
    rate = options.value_lr * start.norm().item() / len(start) ** 0.5
    optimiser = torch.optim.Adam([value], lr=rate, fused=value.device.type in ("cpu", "cuda"))
    with frozen(anatomy.model), fast_linears(anatomy.model, config.dtype, replayed_names(anatomy, layer)), torch.enable_grad():
        with fast_linears(anatomy.model):  # what is recorded stays exact
            groups = batches([row.width for row in rows], REPLAYED_TOKENS)
            parts = [Batch(anatomy, [[rows[i] for i in group]], layer, "layer") for group in groups]
        for _ in range(options.value_steps):
            value.grad = None
            loss = config.v_weight_decay * value.norm() / start.norm() ** 2
            loss.backward()
            total = loss.detach()
            for part in parts:  # one graph at a time
                loss = losses(anatomy, part, value[None], None)[0].sum()
                loss.backward()
                total = total + loss.detach()
            total = total.item()
            if not total < float("inf"):
                raise EditError(lost)
            if total < least:
                best, least = value.detach().clone(), total
            optimiser.step()
            with torch.no_grad():
                value *= (options.value_norm * start.norm() / value.norm().clamp(min=1e-12)).clamp(max=1.0)
    return best, {"value_loss": least}
