"""Every analysis by name: what its figure is called, and how its records become a table and a figure. Reads records, never a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas

from ..errors import EditError
from . import collisions, gate, keys, pca, targets, values, verdicts


@dataclass(frozen=True)
class Analysis:
    """One analysis.

    Attributes:
        title: heading of its section in a report.
        caption: what the figure shows and how it is read, for one who has not read the paper.
        table: records -> rows of text.
        draw: (records, path of a PNG) -> the figure, written.
    """

    title: str
    caption: str
    table: Callable[[Sequence[dict]], pandas.DataFrame]
    draw: Callable[[Sequence[dict], Path], None]


ANALYSES = {
    "keys": Analysis(
        "Keys move when a subject is asked about otherwise",
        "Whitened similarity of a query's key to the subject's own key, kᵀC⁻¹k* / k*ᵀC⁻¹k*, before the edit and with REP. It is the share "
        "of a rank-one edit that the query gets. Dashed: the mean over pairs of different subjects.",
        keys.table,
        keys.draw,
    ),
    "collisions": Analysis(
        "Unrelated tokens whose keys are close to an edited subject's",
        "The largest whitened similarities of ordinary text to each subject's key; the subject's own last token, and what follows it, is "
        "left out. Dashed: the mean over all tokens.",
        collisions.table,
        collisions.draw,
    ),
    "pca": Analysis(
        "Keys of one subject, before and after REP",
        "The two largest components of the subject's keys before the edit and of other subjects' keys; filled marks are in-domain "
        "queries, which the pathway was trained on, empty ones out-of-domain.",
        pca.table,
        pca.draw,
    ),
    "values": Analysis(
        "What the memory returns",
        "L2 norm of the edited layer's value at the subject's last token. Boxes: quartiles; whiskers: 5th to 95th percentile.",
        values.table,
        values.draw,
    ),
    "bounds": Analysis(
        "Which queries theory says will fail, and which do",
        "The dose of the edit a query's key gets (its whitened similarity), over the bound within which the logits say the edited answer "
        "is retrieved (left), or an unrelated one stays (right). Theory puts failures left of 1 on the left, and right of 1 on the right.",
        verdicts.table,
        verdicts.draw,
    ),
    "gate": Analysis(
        "Where gates open",
        "False fires of the pathways' gates on ordinary text, and the share of queries about the subject that open them, over the "
        "threshold: τ of a trained gate, or the margin of a closed-form one. Dashed: where gates act.",
        gate.table,
        gate.draw,
    ),
    "targets": Analysis(
        "Which edit targets damage a model",
        "MQD's three types of question about the same facts, each edited one after another into the unedited model (D4S, Figure 3): the "
        "targets' perplexity before any edit, the growth of the edited layers, and the perplexity of ordinary text over the edits.",
        targets.table,
        targets.draw,
    ),
}


def analysis(name: str) -> Analysis:
    """The analysis called `name`."""
    if name not in ANALYSES:
        raise EditError(f"analysis {name!r} is not one of {', '.join(ANALYSES)}")
    return ANALYSES[name]
