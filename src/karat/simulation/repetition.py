"""How much of each text can be read in the others: the audit's self-BLEU on token rows. Knows no loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karat import registry
from karat.auditing.base import Need
from karat.auditing.postings import Postings, collect_postings, stack_postings
from karat.auditing.statistics import Estimate, jackknife, leave_one_out
from karat.texts.tokens import Tokens, mix

SAMPLE = 100
"""Texts among which self-BLEU is asked: it rises with their number (to .999 for 2,000 short expressions)."""

SAMPLES = 20
"""Samples over which it is averaged."""

JACKKNIFE = 10

LONGEST = 4


@dataclass(frozen=True)
class _Summary:
    """The postings of one corpus, as a metric asks for them."""

    postings: Postings
    groups: int

    @property
    def records(self) -> int:
        """How many texts there are."""
        return len(self.postings.keys)

    def __getitem__(self, wanted: Need) -> Postings:
        return self.postings


def self_bleu(tokens: Sequence[tuple[str, ...]], *, seed: int = 0) -> Estimate | None:
    """Return the mean BLEU of each text with 99 others as references; None for a single text.

    The metric self_bleu of the audit on these tokens (orders 1 to 4, smoothing method 1), averaged over up
    to 20 random samples of 100 texts that share none; the error is that of their mean. Where there are
    fewer than 200 texts, all of them are one sample, and the error is that of a jackknife over ten groups.
    """
    if len(tokens) < 2:
        return None
    order = np.random.default_rng([seed, len(tokens)]).permutation(len(tokens))
    samples = min(SAMPLES, len(tokens) // SAMPLE)
    metric = registry.make("metrics", f"self_bleu:n={LONGEST},limit=0")
    if samples > 1:
        rows = [tokens[i] for i in order[: samples * SAMPLE]]
        held = _Summary(postings(rows, samples), samples)
        values: NDArray[np.float64] = metric.values(held, np.eye(samples, dtype=np.bool_))
        error = float(values.std(ddof=1)) / float(np.sqrt(samples))
        return Estimate(float(values.mean()), error, samples - 1)
    groups = min(JACKKNIFE, len(tokens) // 2)
    held = _Summary(postings([tokens[i] for i in order], groups), groups)
    values = metric.values(held, np.concatenate([np.ones((1, groups), np.bool_), leave_one_out(groups)]))
    return jackknife(float(values[0]), values[1:])


def postings(rows: Sequence[tuple[str, ...]], groups: int) -> Postings:
    """Return which row holds which n-gram how often; row i belongs to group i modulo `groups`."""
    numbers: dict[str, int] = {}
    flat = [numbers.setdefault(token, len(numbers)) for row in rows for token in row]
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    tokens = Tokens(mix(np.asarray(flat, dtype=np.uint64)), offsets)
    places = np.arange(len(rows), dtype=np.int64)
    part = collect_postings(
        tokens,
        places,
        places.astype(np.uint64),
        (places % groups).astype(np.uint8),
        n=LONGEST,
        limit=0,
        side=groups,
    )
    return stack_postings([part], [0], groups).window(0, groups)
