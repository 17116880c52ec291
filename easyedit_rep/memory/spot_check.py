"""Whether a second moment without a record is one of the loaded model's layer, from a few hundred tokens of ordinary text.

The second moments of one layer over any two English texts have their correlations (off-diagonal, each neuron scaled to 1) in common;
those of another layer, or of other weights, have not: their correlation is zero but for chance. Measured between the 370 to 900 tokens of
`TEXTS` and C: 0.49 to 0.96 for trained and for tiny random models, over WikiText or an invented world's prose, 0.20 at least for a
large random model; other weights or another layer gave at most 0.01 for D ≥ 1024 and 0.16 for D = 48.
A model that was fine-tuned from this one cannot be told from it.
"""

import torch
from torch import Tensor

from ..anatomy import Anatomy
from .keys import read_token_keys

NEURONS = 1024  # of a longer key, this many are compared
TEXTS = (
    "The river rose after a week of rain, and the old stone bridge had to be closed to traffic until the spring.",
    "In 1912 the company moved its offices to London, where it made radios, lamps and later the first telephones.",
    "She studied physics at the university, married a doctor, and wrote three books about the history of science.",
    "Most of the people who live on the island work in fishing, farming or tourism; there is one school and no hospital.",
    "The album was released in June and reached number four on the charts, but the critics did not like it.",
    "According to the report, the government spent more than two million dollars on roads between 1990 and 1995.",
    "The cat is a small animal that sleeps for most of the day and hunts mice at night.",
    "He was born in Germany, grew up in New York and played football for several clubs before he became a coach.",
    "The church, built in the twelfth century, stands on a hill to the north of the town.",
    "When the war ended, the king returned to the capital with his army and signed a treaty with France.",
    "You can cook the rice in water with a little salt, then add the vegetables, the oil and two eggs.",
    "The storm moved west across the Atlantic Ocean and lost its strength before it could reach the coast.",
    "It is not known who wrote the letter, although many historians believe that it was the queen herself.",
    "Water boils at one hundred degrees, but high in the mountains it boils sooner, because the air is thin.",
)


def agreement(moment: Tensor, anatomy: Anatomy, tok, layer: int) -> float:
    """Correlation, over pairs of neurons, between `moment` (D, D) and the model's own second moment over `TEXTS`: -1 to 1."""
    rows = [tok(text, truncation=True, max_length=anatomy.max_positions)["input_ids"] for text in TEXTS]
    keys = torch.cat(read_token_keys(anatomy, rows, [layer])[layer])
    chosen = torch.arange(0, len(moment), max(1, len(moment) // NEURONS))[:NEURONS]
    ours = keys[:, chosen.to(keys.device)].double().cpu()
    return _similarity(moment.cpu()[chosen][:, chosen], ours.T @ ours)


def least_agreement(size: int) -> float:
    """What unrelated second moments of keys of length `size` do not reach by chance."""
    return 0.05 + 8 / min(size, NEURONS)


def _similarity(first: Tensor, second: Tensor) -> float:
    apart = ~torch.eye(len(first), dtype=torch.bool)
    one, other = (_correlations(moment.double())[apart] for moment in (first, second))
    one, other = one - one.mean(), other - other.mean()
    norms = one.norm() * other.norm()
    return (one @ other / norms).item() if norms > 0 else 0.0


def _correlations(moment: Tensor) -> Tensor:
    scale = moment.diagonal().clamp(min=0).sqrt()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return moment / scale[:, None] / scale
