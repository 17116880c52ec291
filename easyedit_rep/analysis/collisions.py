"""The unrelated tokens of a text whose keys are closest to a subject's: who else would retrieve its edit (REP, Figure 4).

The text is read in chunks of `CHUNK` tokens. A chunk's record holds what entered the running top-k in it, so that the records of a killed
run are taken up where they end, and their merge is the result: memory, and the file, hardly grow with the text.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..anatomy import Anatomy
from ..bench.journal import Journal
from ..datasets.corpus import Corpus
from ..errors import EditError
from ..memory.keys import check_finite, visit_keys
from ..memory.tokens import batches, locate, pad, token_budget
from .nearest import Nearest
from .similarity import directions
from .study import Study
from .style import BASELINE, FILLS, figure

CHUNK = 65_536
"""Tokens between two records."""
SHOWN = 20
"""Subjects the table has room for."""


def chunks(tok, corpus: Corpus, seed: int, n_tokens: int, max_length: int) -> Iterator[list[list[int]]]:
    """Rows of token ids (texts in an order drawn by `seed`, cut to `max_length`), about `CHUNK` tokens at a time, `n_tokens` in all."""
    rows, size, total = [], 0, 0
    for text in corpus.shuffled(seed):
        # Characters bound tokens from above, so long articles are not tokenised whole.
        row = tok(text[: max_length * 8], truncation=True, max_length=max_length)["input_ids"][: n_tokens - total]
        rows.append(row)
        size, total = size + len(row), total + len(row)
        if size >= CHUNK or total >= n_tokens:
            yield rows
            rows, size = [], 0
        if total >= n_tokens:
            return
    if rows:
        yield rows


def scan(anatomy: Anatomy, layer: int, rows: Sequence[Sequence[int]], nearest: Nearest, first: int) -> int:
    """Show the keys of all tokens of `rows` to `nearest`; returns the number of the token after the last."""
    for group in batches([len(row) for row in rows], token_budget(anatomy.embedding_device)):
        ids, mask = pad([rows[i] for i in group], anatomy.embedding_device)
        real = mask.bool()

        def look(_layer: int, keys: Tensor, ids=ids, real=real, first=first) -> None:
            nearest.add(keys, ids.to(keys.device), real.to(keys.device), first)

        visit_keys(anatomy, [layer], ids, mask, look)
        first += sum(len(rows[i]) for i in group)
    return first


def own_ids(study: Study) -> Tensor:
    """(facts, m) int64: the ids a subject's last token has, in its prompt and alone, with and without a space before; -1 fills up."""
    tok = study.editor.tok
    found = []
    for _, request in study.facts:
        located = locate(tok, request.located)
        alone = [tok(text, add_special_tokens=False)["input_ids"] for text in (request.subject, " " + request.subject)]
        found.append(sorted({located.ids[located.last], *(ids[-1] for ids in alone if ids)}))
    width = max(map(len, found))
    return torch.tensor([ids + [-1] * (width - len(ids)) for ids in found])


def start(study: Study, top: int) -> Nearest:
    """Nothing seen yet, for the subjects of `study`."""
    check_finite(study.own_keys, study.layer)
    towards = directions(study.covariance, study.own_keys).float()
    return Nearest(towards, top, own_ids(study).to(towards.device))


def search(study: Study, corpus: Corpus, out: Path, n_tokens: int, top: int = 10, max_length: int = 512, progress: bool = True) -> Path:
    """Write collisions.jsonl into `out`, or go on with it; returns its path."""
    editor = study.editor
    max_length = min(max_length, editor.anatomy.max_positions)
    text = {"corpus": corpus.name, "corpus_digest": corpus.digest, "tokens": n_tokens, "max_length": max_length}
    subjects = [request.subject for _, request in study.facts]
    nearest, first = start(study, top), 0
    with Journal(out / "collisions.jsonl", study.about("collisions", **text, top=top, subjects=subjects)) as journal:
        for record in journal.records:
            _replay(nearest, record)
            first += record["tokens"]
        parts = islice(chunks(editor.tok, corpus, study.run.seed, n_tokens, max_length), len(journal.records), None)
        with tqdm(total=n_tokens, initial=first, desc="collisions", unit="tok", unit_scale=True, disable=not progress) as bar:
            for rows in parts:
                begin, nearest.count, nearest.total = first, 0, 0.0
                first = scan(editor.anatomy, study.layer, rows, nearest, first)
                if not math.isfinite(nearest.total):
                    raise EditError(f"layer {study.layer} gives NaN or infinite keys: the model's weights are broken, reload them")
                found = list(_entered(nearest, begin, editor.tok, subjects))
                counts = {"chunk": len(journal.records), "tokens": first - begin, "compared": nearest.count, "sum": nearest.total}
                journal.add([{**counts, "top": top, "entered": found}])
                bar.update(first - begin)
    return journal.path


def _entered(nearest: Nearest, begin: int, tok, subjects: Sequence[str]) -> Iterator[dict]:
    """What of the top-k was found at token `begin` or after."""
    for i, j in (nearest.place >= begin).nonzero().tolist():
        ids = [t for t in nearest.prefix[i, j].tolist() if t >= 0]
        yield {
            "fact": i,
            "subject": subjects[i],
            "similarity": nearest.score[i, j].item(),  # unrounded: a run that goes on compares with it
            "place": nearest.place[i, j].item(),
            "token": tok.decode(ids[-1:]),
            "prefix": tok.decode(ids, skip_special_tokens=True),
            "ids": ids,
        }


def _replay(nearest: Nearest, record: dict) -> None:
    n, width = len(nearest.score), nearest.width
    most = max((sum(e["fact"] == i for e in record["entered"]) for i in range(n)), default=0)
    score, place = nearest.score.new_full((n, most), -torch.inf), nearest.place.new_full((n, most), -1)
    prefix, filled = nearest.prefix.new_full((n, most, width), -1), [0] * n
    for entry in record["entered"]:
        i, ids = entry["fact"], entry["ids"]
        j = filled[i]
        filled[i] += 1
        score[i, j], place[i, j] = entry["similarity"], entry["place"]
        prefix[i, j, width - len(ids) :] = torch.tensor(ids)
    nearest.merge(torch.arange(n, device=score.device), score, place, prefix)


def closest(records: Sequence[dict]) -> pandas.DataFrame:
    """One row for each of the top-k of each subject, the closest first: fact, subject, similarity, place, token, prefix."""
    entries = pandas.DataFrame([entry for record in records for entry in record["entered"]])
    # Later chunks push out what earlier ones let in: the largest of all that ever entered are the result.
    ranked = entries.sort_values(["fact", "similarity", "place"], ascending=[True, False, True], kind="stable")
    return ranked.groupby("fact").head(records[0]["top"]).drop(columns="ids").reset_index(drop=True)


def chance(records: Sequence[dict]) -> float:
    """Mean similarity over all tokens and subjects."""
    return sum(record["sum"] for record in records) / max(1, sum(record["compared"] for record in records))


def table(records: Sequence[dict]) -> pandas.DataFrame:
    """The closest prefix of each subject, the `SHOWN` most dangerous subjects first; its last token is the one that collides."""
    best = closest(records).groupby("fact").head(1).sort_values("similarity", ascending=False).head(SHOWN)
    return pandas.DataFrame(
        {"subject": best["subject"], "similarity": best["similarity"].map("{:.2f}".format), "…text up to the token": best["prefix"]}
    )


def draw(records: Sequence[dict], path: Path) -> None:
    """Histogram of the similarities of the top-k tokens of all subjects, and of the closest token alone."""
    found = closest(records)
    best = found.groupby("fact").head(1)["similarity"]
    top, tokens = records[0]["top"], sum(record["tokens"] for record in records)
    high = max(1.05, found["similarity"].max())
    edges = np.linspace(min(0.0, chance(records)), high, 43)
    with figure(path) as (_, (axes,)):
        for values, label, fill in ((found["similarity"], f"{top} closest tokens", FILLS[0]), (best, "the closest token", FILLS[1])):
            axes.hist(values, edges, label=f"{label} of each of {len(best)} subjects", linewidth=0.6, **fill)
        axes.axvline(chance(records), label=f"all tokens, mean ({chance(records):.3f})", **BASELINE)
        axes.set_xlabel("whitened similarity to the subject's own key (own key = 1)")
        axes.set_ylabel("tokens")
        axes.set_title(f"unrelated tokens among {tokens:,}")
        axes.legend()
