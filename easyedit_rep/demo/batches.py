"""Batches of the training mixture: many short texts of like length, and a few long rows of prose with statements."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from .mixture import LONG, SHORT, Encoded, Piece, encode_pieces, long_text, short_text
from .world import World

SHORT_ROWS, LONG_ROWS = 128, 4
# Short texts are drawn for several batches at a time and sorted by length, so that little is spent on padding.
POOL = 8
PLAIN_WEIGHT = 0.15


@dataclass(frozen=True)
class Batch:
    """Token ids, loss weights and name numbers, one row a text; padding is on the right and weighs nothing."""

    ids: torch.Tensor
    weights: torch.Tensor
    names: torch.Tensor


class Mixture:
    """Draws batches; the same seed gives the same ones."""

    def __init__(self, world: World, paragraphs: list[str], tok: PreTrainedTokenizerFast, seed: int) -> None:
        self._world, self._paragraphs, self._tok = world, paragraphs, tok
        self._rng = random.Random(f"batches-{seed}")

    def __iter__(self) -> Iterator[tuple[Batch, Batch]]:
        prose = long_text(self._world, self._paragraphs, self._rng)
        while True:
            count = POOL * SHORT_ROWS
            drawn = [self._encode(short_text(self._world, self._paragraphs, self._rng), SHORT) for _ in range(count)]
            drawn.sort(key=lambda row: len(row.ids))
            starts = list(range(0, count, SHORT_ROWS))
            self._rng.shuffle(starts)
            for start in starts:
                long_rows = [self._long_row(prose) for _ in range(LONG_ROWS)]
                yield self._stack(drawn[start : start + SHORT_ROWS]), self._stack(long_rows)

    def _encode(self, pieces: list[Piece], limit: int) -> Encoded:
        row = encode_pieces(self._offsets, self._tok.bos_token_id, pieces, PLAIN_WEIGHT)
        return Encoded(row.ids[:limit], row.weights[:limit], row.names[:limit])

    def _offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoding = self._tok.backend_tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def _long_row(self, prose: Iterator[list[Piece]]) -> Encoded:
        pieces: list[Piece] = []
        # About four characters make a token; what is too long is cut.
        while sum(len(piece.text) for piece in pieces) < 5 * LONG:
            pieces += next(prose)
        return self._encode(pieces, LONG)

    def _stack(self, rows: list[Encoded]) -> Batch:
        width = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), width), self._tok.pad_token_id)
        weights, names = torch.zeros(ids.shape), torch.zeros_like(ids)
        for i, row in enumerate(rows):
            length = len(row.ids)
            ids[i, :length] = torch.tensor(row.ids)
            weights[i, :length] = torch.tensor(row.weights)
            names[i, :length] = torch.tensor(row.names)
        return Batch(ids, weights, names)
