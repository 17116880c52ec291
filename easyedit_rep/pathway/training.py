"""Training a pathway on cached keys: no model forward in the loop, because the keys do not depend on the pathway.

REP, section 4: for subject-last keys X of the training prompts, t the target direction and x₀ the key of the bare prompt,

    L_agg = − mean_i (k̂_i / ‖k̂_i‖) · t,  t = C⁻¹k* / ‖C⁻¹k*‖          (Eq. 4; the paper takes its absolute value, option `absolute`)
    L_con = mean((k̂₀ − x₀)²)                                            (Eq. 5)
    L     = L_agg + α · L_con                                            (Eq. 6)

Options named after what they change (`PathwayTraining`) give the released code's deviations and our additions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import EditError
from .layer import RepLayer
from .ordinary import OrdinaryKeys


@dataclass(frozen=True)
class PathwayTraining:
    """How a pathway is trained; the defaults are the paper's, but for `absolute`, where they follow the released code.

    Attributes:
        steps, lr, batch_size: Adam without weight decay; each batch also holds the original prompt.
        consistency_weight: α.
        target: `whitened` (C⁻¹k*, Eq. 4) or `raw` (k*, what the released code does for MEMIT and EMMET).
        anchor: what L_con holds the prompt's adapted key to: its own raw key (`prompt`), or the averaged k* (`mean`).
        absolute: take Eq. 4's absolute value, as the paper has it: a key on the far side then stays there. False: the signed similarity.
        long_in_training: train on the in-domain long contexts.
        prompt_rephrases: also train on the request's paraphrased prompts, as extra templates.
        align: pull k̂ towards t (`direction`, Eq. 4), onto the key of the bare prompt, at which ROME's edit is exact (`key`), or `both`.
        align_weight: weight of ‖k̂ − k₀‖² / ‖k₀‖².
        gate_negatives: weight of the binary cross-entropy that teaches the gate when to stay shut; 0 is the paper.
        negatives_per_step: how many other tokens' keys each step sees; without `gate_negatives` none.
        other_subjects: how many prompts about other subjects give negatives, lexically close ones among them; for the paper's kind only
            with `gate_negatives`.
        shuffled_subjects: of how many of them the subjects are also given with their tokens shuffled: a pathway is made to open for its own
            shuffled, and where tokens are shared that of a neighbour opens too.
        series: others of a series among them ("iPhone 12", for "iPhone 5"), at which gates above the edited layers open.
        after_fact: how many more such prompts follow the edited fact in one text, where its subject has just been named. Closed-form
            pathways only.
        same_words: of each token that a training prompt's subject ends in, how many occurrences in the corpus are negatives: "star" in any
            text, for an edit that "the film star …" is to open. Closed-form pathways only.
        first_tokens: how many tokens of the vocabulary, names before all, are added to the text that collisions are mined from
            (`closed.hard_share`), each as the first of a text. Closed-form pathways only.
        stray_words: into how many places of the corpus each token of the training prompts' subjects is put, in the place of the one there:
            "o" behind "Command", for "Suzuki Cerv·o", and "RA" in "one of the RA", for "Dickey, RA". Those that a word of the subject's own
            begins with are left out: they may name it wherever they stand. They join the text that collisions are mined from, which should
            be some hundred thousand tokens then (`text_tokens`). Closed-form pathways only.
        neighbours: of how many other edits, that the model carries or that are made along with it, the names are negatives: they join the
            text that collisions are mined from. Those whose subject shares a word with this one come first. A pathway then depends on what
            was active when it was made. Closed-form pathways only.
        subject_forms: also open the gate for rule-made forms of the subject (partial names, initials, appositions).
        gate_dtype: what the gate's matrix, by far the largest part of a trained pathway, is rounded to once it is trained: `float32` (it is
            not), or `bfloat16`, which halves the file of a saved edit.
    """

    steps: int = 10
    lr: float = 5e-4
    batch_size: int = 15
    consistency_weight: float = 5e4
    target: str = "whitened"
    anchor: str = "prompt"
    absolute: bool = False
    long_in_training: bool = True
    prompt_rephrases: bool = False
    align: str = "direction"
    align_weight: float = 1.0
    gate_negatives: float = 0.0
    negatives_per_step: int = 256
    other_subjects: int = 0
    shuffled_subjects: int = 0
    series: bool = False
    after_fact: int = 0
    same_words: int = 0
    first_tokens: int = 0
    stray_words: int = 0
    neighbours: int = 0
    subject_forms: bool = False
    gate_dtype: str = "float32"

    def __post_init__(self):
        choices = {
            "target": ("whitened", "raw"),
            "anchor": ("prompt", "mean"),
            "align": ("direction", "key", "both"),
            "gate_dtype": ("float32", "bfloat16"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise EditError(f"rep.training.{name}: {getattr(self, name)!r} is not one of {', '.join(allowed)}")
        for name in ("steps", "batch_size", "negatives_per_step"):
            if getattr(self, name) < 1:
                raise EditError(f"rep.training.{name}: {getattr(self, name)} is not positive")
        if not self.lr > 0:
            raise EditError(f"rep.training.lr: {self.lr} is not positive")
        counts = ("other_subjects", "shuffled_subjects", "after_fact", "same_words", "first_tokens", "stray_words", "neighbours")
        for name in ("consistency_weight", "align_weight", "gate_negatives", *counts):
            if not getattr(self, name) >= 0:
                raise EditError(f"rep.training.{name}: {getattr(self, name)} is negative or no number")

    def of_kind(self, kind: str) -> "PathwayTraining":
        """The same without what pathways of that kind do not use."""
        return self if kind == "closed" else replace(self, after_fact=0, same_words=0, first_tokens=0, stray_words=0, neighbours=0)


SHARES = {"prompt": 0.15, "subject": 0.1, "others": 0.5, "text": 0.25}
"""How a step's negatives are divided: other tokens of the training prompts, first words of the subject, other subjects, ordinary text."""


@dataclass(frozen=True, eq=False)
class TrainingKeys:
    """Cached keys of one layer, float32.

    Attributes:
        positives: (n, D) subject-last keys of the training prompts, without the bare prompt.
        prompt: (D,) key x₀ of the bare prompt, the one the edit maps onto v* exactly.
        mean: (D,) k*, averaged over the contexts.
        target: (D,) unit direction t.
        negatives: keys (m, D) of tokens at which the gate must stay shut, by where they come from (`SHARES`); groups may be empty. Those of
            `text` are in the model's dtype.
        own: (m, D) of the `prompt` negatives those in prompts about the subject by its own name. The tokens of another name before its last
            are the subject too, and for a pathway that may act at any of them no negatives.
        shut: (m, D) of `own`: the tokens before the subject's last one in the bare prompt, and those behind the subject in every prompt.
        others_last: (m, D) of the `others` those at other subjects' last tokens, the ones most like the positives.
        kinds: of each positive, which kind of prompt it is from; what closed-form pathways count alike.
        own_word: (n,) bool, whether its token is one of the subject's own.
        after: groups (m, D) of keys of prompts that follow the edited fact: of all tokens, and of the other subjects in them.
        same: (m, D) of corpus tokens that are the last of a positive, in random order: of the subject's own words, and of others.
        ordinary: what `text` is from, and keys of tokens that begin a text.
        names: tokens of the subject's names.
        stray: (m, D) of such tokens where others stand in the corpus.
        neighbours: (m, D) of all tokens of other edits' names.
    """

    positives: Tensor
    prompt: Tensor
    mean: Tensor
    target: Tensor
    negatives: Mapping[str, Tensor]
    own: Tensor | None = None
    shut: Tensor | None = None
    others_last: Tensor | None = None
    kinds: tuple[str, ...] = ()
    own_word: Tensor | None = None
    after: tuple[Tensor, ...] = ()
    same: tuple[Tensor, ...] = ()
    ordinary: OrdinaryKeys | None = None
    names: frozenset[int] = frozenset()
    stray: Tensor | None = None
    neighbours: Tensor | None = None


def batch_order(n: int, batch_size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of each step's batch. No example is seen twice before the order is drawn anew, when too few are left for a batch."""
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < min(batch_size, n):
            order = torch.randperm(n, generator=generator)
        yield order[:batch_size]
        order = order[batch_size:]


@torch.enable_grad()
def train_layer(layer: RepLayer, keys: TrainingKeys, name: str, config: PathwayTraining, seed: int) -> dict[str, float]:
    """Train the pathway `name` of one layer in place, from a fresh start drawn from `seed`; returns its last losses.

    Raises:
        EditError: a loss that is not finite.
    """
    device = keys.positives.device
    schedule = torch.Generator().manual_seed(seed)
    dropout = torch.Generator(device).manual_seed(seed)
    layer.reset(name, torch.Generator(layer.base_layer.weight.device).manual_seed(seed))
    groups = (getattr(layer, group) for group in layer.adapter_layer_names)
    trained = [p for group in groups if name in group for p in group[name].parameters()]
    for p in trained:
        p.requires_grad_(True)
    optimiser = torch.optim.Adam(trained, lr=config.lr)
    anchor = keys.prompt if config.anchor == "prompt" else keys.mean
    parts: dict[str, Tensor] = {}
    finite = torch.ones((), dtype=torch.bool, device=device)  # asked at the end: a GPU would be waited for at every step
    for batch in batch_order(len(keys.positives), config.batch_size, config.steps, schedule):
        x = keys.positives[batch.to(device)]
        adapted = layer.soft(x, name, dropout)
        similarity = F.normalize(adapted, dim=-1) @ keys.target
        parts = {}
        if config.align != "key":
            parts["aggregation"] = -(similarity.abs() if config.absolute else similarity).mean()
        if config.align != "direction":
            parts["alignment"] = config.align_weight * ((adapted - keys.prompt) ** 2).sum(-1).mean() / keys.prompt.square().sum()
        parts["consistency"] = config.consistency_weight * F.mse_loss(layer.soft(keys.prompt, name, dropout), anchor)
        if config.gate_negatives:
            others = _draw(keys.negatives, config.negatives_per_step, schedule)
            parts["gate"] = config.gate_negatives * _gate_loss(layer, name, torch.cat([x, keys.prompt[None]]), others)
        loss = sum(parts.values())
        finite &= torch.isfinite(loss)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    if not finite:
        raise EditError(f"pathway training diverged (a loss of {loss.item()} at lr {config.lr}): lower rep.training.lr")
    for p in trained:
        p.requires_grad_(False)
        p.grad = None
    if config.gate_dtype != "float32":
        gate = layer.part("rep_gate_in", name).weight
        gate.data = gate.data.to(getattr(torch, config.gate_dtype)).float()
    return {key: value.item() for key, value in parts.items()}


def _draw(groups: Mapping[str, Tensor], n: int, generator: torch.Generator) -> Tensor:
    """About `n` negatives, from each group that has any in proportion to its share, with replacement."""
    groups = {kind: keys for kind, keys in groups.items() if len(keys)}
    total = sum(SHARES[kind] for kind in groups)
    picked = []
    for kind, keys in groups.items():
        index = torch.randint(len(keys), (max(1, round(n * SHARES[kind] / total)),), generator=generator)
        picked.append(keys.index_select(0, index.to(keys.device)).float())
    return torch.cat(picked)


def _gate_loss(layer: RepLayer, name: str, positives: Tensor, negatives: Tensor) -> Tensor:
    """Mean binary cross-entropy of the gate, each class counting half whatever its size."""
    opened, shut = layer.gate_logit(positives, name), layer.gate_logit(negatives, name)
    return F.softplus(-opened).mean() + F.softplus(shut).mean()
