"""Values of running text: of all records one after the other, or the mean over records. Knows no metric.

Records stand in hash order, which no order of the file can change; a value for some groups reads the records
of these groups only, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from karat.auditing.base import Masks, Need, Setting, Summary, Values, need
from karat.auditing.lexical import following_in, previous_in
from karat.auditing.sequences import I64, Sequences

RECORDS, TOKENS = 20_000, 200_000
"""The most records and, about, the most tokens of each side that are read in order (a hash sample)."""


def stream(tokens: str) -> Need:
    """The tokens of the first records by hash."""
    return need("sequences", tokens=tokens, limit=RECORDS, most=TOKENS)


def of_stream(some: Sequences, masks: Masks, value: Callable[[I64, I64], float]) -> Values:
    """float64 [K]: a value of the text under each mask.

    value: is given where each token comes next and where it came last, n and -1 for nowhere
    """
    some = some.by_key()
    owner = np.repeat(some.groups, some.lengths)
    codes = np.unique(some.hashes, return_inverse=True)[1].astype(np.int64)
    order = np.argsort(codes, kind="stable")
    out = np.full(len(masks), np.nan)
    for row, mask in enumerate(masks):
        inside = mask[owner]
        place = np.cumsum(inside) - 1
        kept = order[inside[order]]
        moved, mine = place[kept], codes[inside]
        if len(mine):
            out[row] = value(following_in(moved, mine), previous_in(moved, mine))
    return out


def mean_of_records(some: Sequences, masks: Masks, least: int, value: Callable[[I64], float]) -> Values:
    """float64 [K]: the mean value of the records under each mask that have at least `least` tokens."""
    some = some.take(np.flatnonzero(some.lengths >= least)).by_key()
    codes = np.unique(some.hashes, return_inverse=True)[1].astype(np.int64)
    found = np.array(
        [value(codes[low:high]) for low, high in zip(some.offsets[:-1], some.offsets[1:])], dtype=np.float64
    )
    sums = np.bincount(some.groups, weights=found, minlength=masks.shape[1])
    counts = masks @ np.bincount(some.groups, minlength=masks.shape[1])
    return np.where(counts > 0, (masks @ sums) / np.maximum(counts, 1), np.nan)


def sampled(some: Sequences, summary: Summary) -> dict[str, Setting]:
    """What belongs into the signature where not all records were read."""
    return {"sample": f"{len(some)}-records"} if len(some) < summary.records else {}


def records_used(some: Sequences, least: int, unit: str) -> int:
    """The number of records behind the value."""
    return len(some) if unit == "corpus" else int((some.lengths >= least).sum())


def note(some: Sequences, least: int, unit: str) -> str:
    """One line where the text is too short, or most records are."""
    if unit == "corpus":
        total = int(some.lengths.sum())
        return "" if total >= least else f"the whole text has {total} words, fewer than {least}"
    long = int((some.lengths >= least).sum())
    return "" if 2 * long >= len(some) else f"only {long} of {len(some)} records have {least} words or more"
