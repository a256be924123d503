"""Drawing records more than once: how often each, under which id. Knows no weights by itself."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from karat.errors import NotEnoughData
from karat.records import Records

I64 = NDArray[np.int64]
Floats = NDArray[np.float64]


def drawn(weights: Floats, size: int, most: int, seed: int) -> I64:
    """int64 [n]: how often each record is drawn, in proportion to its weight, in all `size`.

    Draws are multinomial, at most `most` of a record; what falls on a full record is drawn again among
    the others. Raises NotEnoughData where all with a weight, each `most` times, are fewer than `size`.
    """
    counts = np.zeros(len(weights), np.int64)
    able = int((weights > 0).sum())
    if size > most * able:
        raise NotEnoughData(
            f"{size:,} records are wanted, but {able:,} with a weight, each at most {most} times, give "
            f"{most * able:,}; lower the total, or allow more repeats"
        )
    rng = np.random.default_rng(seed)
    while (left := size - int(counts.sum())) > 0:
        free = np.flatnonzero((weights > 0) & (counts < most))
        share = weights[free] / weights[free].max()
        counts[free] += rng.multinomial(left, share / share.sum())
        np.minimum(counts, most, out=counts)
    return counts


def copies(kept: Records, candidate: Records) -> int:
    """Return how many of the kept records are further copies of a candidate, as `repeated` names them."""
    own = set(candidate.ids)
    return sum(
        identity not in own and bool(parents) and parents[0] in own and identity.startswith(f"{parents[0]}#")
        for identity, parents in zip(kept.ids, kept.lineage("parents"))
    )


def repeated(records: Records, counts: I64, taken: Collection[str] = ()) -> Records:
    """Return each record as often as `counts` says, in order; copies get an id of their own.

    The first copy keeps its id unless it is among `taken`; the others are ID#2, ID#3 ... and name the record
    they repeat as their parent.
    """
    rows = np.repeat(np.arange(len(records)), counts)
    found = records.take(rows)
    known = {*taken, *records.ids}
    refused = set(taken)
    ids: list[str] = []
    parents: list[list[str] | None] = []
    kept = found.lineage("parents")
    seen = -1
    for place, row in enumerate(rows.tolist()):
        own = records.ids[row]
        if row != seen and own not in refused:
            ids.append(own)
            parents.append(kept[place])
        else:
            number = 2
            while (name := f"{own}#{number}") in known:
                number += 1
            known.add(name)
            ids.append(name)
            parents.append([*(kept[place] or []), own])
        seen = row
    if ids == found.ids:
        return found
    return found.with_column("id", ids).with_lineage(parents=parents)
