"""Token rows as one ragged array, and batches of rows of like length; knows numbers and no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from karat import errors


@dataclass(frozen=True)
class Rows:
    """Token rows as one ragged array: row i is flat[start[i]:start[i + 1]], scored from `scored[i]` on."""

    flat: np.ndarray
    start: np.ndarray
    scored: np.ndarray
    cut: int = 0

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each row."""
        return np.diff(self.start)

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets [rows, time]; targets that do not count are -100."""
        lengths = self.lengths[rows]
        at = np.arange(int(lengths.max()))
        inside = at[None] < lengths[:, None]
        tokens = np.where(
            inside, self.flat[np.minimum(self.start[rows][:, None] + at, len(self.flat) - 1)], 0
        )
        targets = np.where(inside & (at[None] >= np.maximum(self.scored[rows], 1)[:, None]), tokens, -100)
        return tokens[:, :-1].copy(), targets[:, 1:].copy()


def rows_of(
    sequences: Sequence[Sequence[int] | np.ndarray], context: int, prefix: int | Sequence[int] = 1
) -> Rows:
    """Put sequences into one ragged array, each cut to `context` tokens; those under two are left out."""
    starts = [prefix] * len(sequences) if isinstance(prefix, int) else list(prefix)
    kept = [
        (np.asarray(s, dtype=np.int64)[:context], p)
        for s, p in zip(sequences, starts, strict=True)
        if len(s) > 1
    ]
    if not kept:
        raise errors.NotEnoughData("no sequence of two tokens or more to train on; give longer texts")
    return Rows(
        np.concatenate([s for s, _ in kept]),
        np.concatenate(([0], np.cumsum([len(s) for s, _ in kept]))),
        np.array([p for _, p in kept], dtype=np.int64),
        sum(len(s) > context for s in sequences),
    )


def batches(rows: Rows, which: np.ndarray, tokens: int, generator: np.random.Generator) -> list[np.ndarray]:
    """One epoch: rows shuffled, sorted by length within chunks, about `tokens` a batch, shuffled again."""
    shuffled = generator.permutation(which)
    lengths = rows.lengths
    mean = max(float(lengths[which].mean()), 1.0)
    chunk = max(1, int(24 * tokens / mean))
    result: list[np.ndarray] = []
    for begin in range(0, len(shuffled), chunk):
        part = shuffled[begin : begin + chunk]
        part = part[np.argsort(lengths[part], kind="stable")]
        begin_row = 0
        while begin_row < len(part):
            # The last row of a batch is its longest: take rows while rows x longest fits.
            rest = lengths[part[begin_row:]]
            fits = int(np.searchsorted(rest * np.arange(1, len(rest) + 1), tokens, side="right"))
            result.append(part[begin_row : begin_row + max(fits, 1)])
            begin_row += max(fits, 1)
    return [result[i] for i in generator.permutation(len(result))]
