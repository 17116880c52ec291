"""The value of a closed-form pathway, fitted so that the model answers behind other wordings too.

Where a gate opens at the subject's name and the name is not the last word ("Toyota Cresta, the sedan, is produced by"), s·v* stands at
the name, but the model reads the answer off the words behind it: v* was optimised for prompts in which there are none. So r, what the
edit and its pathways change in the residual stream behind the highest edited layer, at the bare prompt's subject, is optimised further, as
v* was (ROME, section 3.1), on the model as it is before the edit. It is added at one token of each text, which must then be answered by it
alone:

    mean over groups of [ mean over prompts of −log p(target) / n_target ]  +  w · mean over kept prompts of −log p(its answer)
        +  v_weight_decay · ‖r‖ / ‖r₀‖²                                     with ‖r‖ at most value_norm · ‖r₀‖

    groups   the prompt behind contexts; about the in-domain rephrases and shuffles; about the subject with other words behind its name,
             those of in-domain rephrases and appositions by rule
    kept     the edited fact, then a made-up neighbour's prompt; the answer is the model's own, w is `KEPT_WEIGHT`

by Adam from r₀, what it is. Of the keys that the highest layer's edited weight maps onto r − r₀ the one that is most like a key of text
(`keys_of_values`) is added to that layer's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..anatomy import Anatomy
from ..errors import EditError
from ..evaluation.predict import predict
from ..memory.linear import fast_linears
from ..memory.replay import frozen, record_suffix
from ..memory.tokens import Located, Prompt, batches, continuation_of, locate
from ..memory.value_batch import Batch, Row, losses
from ..memory.values import REPLAYED_TOKENS, ValueConfig
from ..queries import Queries
from ..queries.forms import names_with_tails
from ..queries.negatives import OrdinaryText, prompts_after_fact
from ..request import EditRequest
from .closed import ClosedForm

KEPT = 16
"""Neighbours' prompts behind the edited fact whose answers are kept."""

KEPT_WEIGHT = 2.0
"""Of all of them; what is to be said has 1. Both from bench-llama's validation facts: with 8 of weight 1 five neighbours' answers of 80
changed, with these one of 96; more or heavier ones kept no more."""


@dataclass(frozen=True)
class ValueTexts:
    """What one request's value is fitted on.

    Attributes:
        said: groups of prompts behind which the target is to follow.
        kept: prompts, with the edited subject as theirs, whose answer is to stay.
    """

    request: EditRequest
    said: tuple[Sequence[Prompt], ...]
    kept: Sequence[Prompt]

    @classmethod
    def of(cls, request: EditRequest, queries: Queries, contexts: Sequence[str], text: OrdinaryText | None, seed: int) -> "ValueTexts":
        """For `request`; `text` gives neighbours' names, None: no answers are kept."""
        prompt, shuffles = request.located, queries.shuffle
        prefix, subject, suffix = prompt
        held_out = (*queries.rephrase.out_of_domain, *shuffles.out_of_domain)
        tails = names_with_tails(subject, queries.rephrase.in_domain, held_out)
        said = (
            [prompt.after(context) for context in contexts],
            [prompt.with_subject(name) for name in (*queries.rephrase.in_domain, *shuffles.in_domain)],
            [Prompt(prefix + before, subject, behind + suffix) for before, behind in tails],
        )
        made = prompts_after_fact(request, queries.rephrase.in_domain, (), text, KEPT, seed) if text is not None else []
        return cls(request, said, [Prompt(prefix, subject, p.text.removeprefix(prefix + subject)) for _, p in made])

    def rows(self, anatomy: Anatomy, tok) -> list[Row]:
        """Token ids, with the place of the change, what is to follow and how much it counts, of all texts that fit the model's positions;
        the model is asked for the answers to keep, of each its first token."""
        groups = [group for group in self.said if group]
        rows = []
        for group in groups:
            for prompt in group:
                before, target, at = continuation_of(tok, prompt, self.request.target_new)
                rows.append(Row(before + target[:-1], at, target, 1 / len(group) / len(groups)))
        answers = predict(anatomy, tok, [p.text for p in self.kept], [self.request.target_new] * len(self.kept))
        for located, answer in zip((locate(tok, prompt) for prompt in self.kept), answers, strict=True):
            rows.append(Row(located.ids, located.last, list(answer.predicted[:1]), KEPT_WEIGHT / len(self.kept)))
        return [row for row in rows if len(row.ids) <= anatomy.max_positions]


def hidden_at(anatomy: Anatomy, prompts: Sequence[Located], layer: int) -> Tensor:
    """(n, d) float32: what `layer` gives out at each prompt's subject's last token, on the model as it stands."""
    rows = [prompt.ids[: prompt.last + 1] for prompt in prompts]
    return record_suffix(anatomy, rows, [prompt.last for prompt in prompts], layer, "layer").value.float()


def fit_value(
    anatomy: Anatomy, tok, layer: int, texts: ValueTexts, start: Tensor, config: ValueConfig, options: ClosedForm
) -> tuple[Tensor, dict[str, float]]:
    """r − r₀ (d,) float32 of one request, on the model as it is before the edit; `start` is r₀ (d,), at the output of `layer`.

    Returns:
        also `value_loss`, before the last step.

    Raises:
        EditError: NaN loss.
    """
    rows = texts.rows(anatomy, tok)
    replayed = (*(anatomy.layer_name(i) + "." for i in range(layer, anatomy.n_layers)), anatomy.names.lm_head_module)
    value = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([value], lr=config.v_lr, fused=value.device.type in ("cpu", "cuda"))
    with frozen(anatomy.model), fast_linears(anatomy.model, config.dtype, replayed), torch.enable_grad():
        with fast_linears(anatomy.model):  # what is recorded stays exact
            groups = batches([row.width for row in rows], REPLAYED_TOKENS)
            parts = [Batch(anatomy, [[rows[i] for i in group]], layer, "layer") for group in groups]
        for _ in range(options.value_steps):
            value.grad, total = None, 0.0
            for part in parts:  # one graph at a time
                loss = losses(anatomy, part, value[None], None)[0].sum()
                loss.backward()
                total += loss.detach()
            loss = config.v_weight_decay * value.norm() / start.norm() ** 2
            loss.backward()
            total = (total + loss.detach()).item()
            if not total < float("inf"):
                about = f"the loss of the pathway's value of {texts.request.text!r}"
                raise EditError(f"{about} is NaN or infinite: check v_lr, or set rep.closed.value_steps: 0")
            optimiser.step()
            with torch.no_grad():
                value *= (options.value_norm * start.norm() / value.norm().clamp(min=1e-12)).clamp(max=1.0)
    return value.detach() - start, {"value_loss": total}


def keys_of_values(weight: Tensor, moment: Tensor | None, values: Tensor) -> Tensor:
    """The keys (n, D) that `weight` (d, D) maps onto `values` (n, d), of all the ones least in the norm of C⁻¹ (`moment`, (D, D); None: I):

        k = C Wᵀ (W C Wᵀ)⁻¹ v

    Of all keys with these values they are likeliest among keys of text, and a later edit, whose change is written under C⁻¹ times its
    own key, changes their values least. Float32; the d × d system is solved in float64.
    """
    weight = weight.detach().float()
    across = weight.T if moment is None else moment.to(weight) @ weight.T
    gram = (weight @ across).double()
    gram.diagonal().add_(1e-9 * gram.diagonal().mean())
    solved = torch.cholesky_solve(values.double().T, torch.linalg.cholesky(gram))
    return (across @ solved.to(across)).T
