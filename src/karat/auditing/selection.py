"""Which records of two corpora are compared, and in which replicate group each stands. Knows no metric.

Records are ordered by a hash of (seed, text, how often the text occurred before). That order is a
simple random order which does not depend on the order of the file, and equal texts of two corpora
fall on the same place. From it come five views of each corpus:

    all       every record
    records   the first n records, n the smaller number of both corpora
    lengths   records of equal lengths: from each band of lengths as many of one side as of the other
    tokens    records until the smaller number of tokens of both corpora is reached, the last one cut
    bytes     records until the smaller number of bytes is reached, the last one kept whole

Records of the reference that a view leaves over give a second, independent human sample of the same
size (the spare), from which metrics learn what human data would get: the best value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from karat.auditing.shards import OUT
from karat.texts.tokens import count_tokens, hash_strings, mix

GROUPS = 20
BANDS = 40


@dataclass(frozen=True)
class Surveyed:
    """What the first pass learns of records: content uint64 [n], bytes int64 [n], tokens int64 [n] each."""

    content: NDArray[np.uint64]
    bytes: NDArray[np.int64]
    tokens: Mapping[str, NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.content)


@dataclass(frozen=True)
class Part:
    """A run of ranks [start, stop) of one corpus in one view; the last record keeps `last` tokens."""

    start: int
    stop: int
    last: int | None = None

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Selection:
    """One corpus, ordered and cut: for each view the part that is compared and the spare part, if any."""

    order: NDArray[np.int64]  # positions of records, first by hash
    keys: NDArray[np.uint64]  # the hash of each record, by position
    views: Mapping[str, tuple[Part, Part | None]]
    banded: NDArray[np.int64] | None = None
    """The order of the view `lengths`: matched records first, then the spare ones, then the rest."""
    units: NDArray[np.int64] | None = None
    """The number of the unit (item, prompt) of each record: its records are never in two groups."""

    def rows(self, view: str) -> NDArray[np.int64]:
        """Positions of records in the order of a view, of which its parts are runs."""
        return self.banded if view == "lengths" and self.banded is not None else self.order

    def members(self, view: str, groups: int) -> NDArray[np.uint8]:
        """uint8 [n], by position: rank (or unit) modulo G, plus G for spare records; OUT for the rest."""
        out = np.full(len(self.order), OUT, np.uint8)
        part, spare = self.views[view]
        rows = self.rows(view)
        for piece, shift in ((part, 0), (spare, groups)):
            if piece is not None:
                chosen = rows[piece.start : piece.stop]
                rank = np.arange(len(piece)) if self.units is None else self.units[chosen]
                out[chosen] = rank % groups + shift
        return out

    def largest(self, view: str, limit: int, size: int, amount: NDArray[np.int64]) -> tuple[int, int]:
        """The largest key of the first `limit` records by key that hold `size` bytes, of part and spare.

        0 stands for no limit; one record is kept whatever its size. amount: the bytes of each record.
        """
        found = []
        for piece in self.views[view]:
            rows = np.zeros(0, np.int64) if piece is None else self.rows(view)[piece.start : piece.stop]
            rows = rows[np.argsort(self.keys[rows], kind="stable")]
            if limit > 0:
                rows = rows[:limit]
            if size > 0 and len(rows):
                rows = rows[: max(1, int(np.searchsorted(np.cumsum(amount[rows]), size, side="right")))]
            found.append(int(self.keys[rows[-1]]) if len(rows) else 0)
        return found[0], found[1]

    def cuts(self, view: str) -> dict[int, int]:
        """Position -> number of tokens kept, for the records that are cut to size."""
        pieces = (piece for piece in self.views[view] if piece is not None and piece.last is not None)
        return {int(self.rows(view)[piece.stop - 1]): int(piece.last or 0) for piece in pieces}


def survey(texts: pa.Array, *, tokenisers: tuple[str, ...]) -> Surveyed:
    """The first pass over one shard of texts."""
    size = pc.binary_length(texts).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    counted = {name: count_tokens(texts, name) for name in tokenisers}
    return Surveyed(hash_strings(texts), size, counted)


def joined(shards: Sequence[Surveyed]) -> Surveyed:
    """The surveys of all shards of a corpus, in order."""
    return Surveyed(
        np.concatenate([shard.content for shard in shards]),
        np.concatenate([shard.bytes for shard in shards]),
        {name: np.concatenate([shard.tokens[name] for shard in shards]) for name in shards[0].tokens},
    )


def record_keys(
    content: NDArray[np.uint64], *, seed: int, tie: NDArray[np.uint64] | None = None
) -> NDArray[np.uint64]:
    """uint64 [n]: the hash of (seed, text, occurrence) of each record.

    Copies of a text are numbered in the order of `tie` (a hash of the label, for instance), so that a
    shuffled file gives each copy the same number.
    """
    n = len(content)
    # both sorts are stable: what is equal in all of it stays in the order of the file
    order = np.argsort(content, kind="stable") if tie is None else np.lexsort((tie, content))
    ordered = content[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if n else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[starts, n])
    occurrence = np.empty(n, np.uint64)
    occurrence[order] = (np.arange(n) - np.repeat(starts, lengths)).astype(np.uint64)
    salt = mix(np.array([seed & (1 << 63) - 1], np.uint64))
    return mix(mix(content ^ salt) + mix(occurrence + np.uint64(1)))


def select(
    candidate: Surveyed,
    reference: Surveyed | None,
    *,
    keys: Sequence[NDArray[np.uint64]],
    views: Sequence[str],
    units: Sequence[NDArray[np.uint64]] | None = None,
) -> tuple[Selection, ...]:
    """Order both corpora and cut them to equal size in each view (all, records, lengths, tokens:NAME).

    units: a hash of the item or prompt of each record, where several records belong together
    """
    corpora = [candidate] if reference is None else [candidate, reference]
    numbers = None if units is None else unit_numbers(units)
    if units is not None:  # records of one unit stand side by side
        orders = [np.lexsort((key, mix(unit))) for key, unit in zip(keys, units, strict=True)]
    else:
        orders = [np.argsort(key, kind="stable") for key in keys]
    cut: list[dict[str, tuple[Part, Part | None]]] = [{} for _ in corpora]
    bands = match_lengths(corpora, orders) if "lengths" in views and len(corpora) > 1 else None
    for view in views:
        if view == "lengths" and bands is not None:
            for found, (_, part, spare_part) in zip(cut, bands, strict=True):
                found[view] = (part, spare_part)
            continue
        for corpus, order, found, spare in zip(corpora, orders, cut, (False, True), strict=False):
            n = len(corpus)
            if view == "all" or reference is None:
                found[view] = (Part(0, n), None)
            elif view in ("records", "lengths"):  # where lengths have too little in common, equal records
                size = min(map(len, corpora))
                left = Part(size, 2 * size) if spare and 2 * size <= n else None
                found[view] = (Part(0, size), left)
            else:
                amounts = [
                    one.bytes if view == "bytes" else one.tokens[view[len("tokens:") :]] for one in corpora
                ]
                size = int(min(amount.sum() for amount in amounts))
                amount = corpus.bytes if view == "bytes" else corpus.tokens[view[len("tokens:") :]]
                found[view] = _equal(amount[order], size, spare, whole=view == "bytes")
    return tuple(
        Selection(
            order, key, found, bands[i][0] if bands else None, numbers[i] if numbers is not None else None
        )
        for i, (order, key, found) in enumerate(zip(orders, keys, cut, strict=True))
    )


def unit_numbers(units: Sequence[NDArray[np.uint64]]) -> list[NDArray[np.int64]]:
    """One number a record: units of all corpora in the order of a hash, equal units equal numbers."""
    scattered = [mix(one) for one in units]
    known = np.unique(np.concatenate(scattered))
    return [np.searchsorted(known, one) for one in scattered]


def match_lengths(
    corpora: Sequence[Surveyed], orders: Sequence[NDArray[np.int64]]
) -> list[tuple[NDArray[np.int64], Part, Part | None]] | None:
    """For two corpora: an order that begins with records of equal lengths, that part, and a spare part.

    Lengths in words are cut into at most 40 bands of equal numbers of records, and each band gives as many
    records of one side as of the other, the first by hash. None where that would leave less than a quarter
    of the smaller corpus: then the corpora have too little in common to be compared at equal lengths.
    """
    lengths = [one.tokens["word"][order] for one, order in zip(corpora, orders, strict=True)]
    pooled = np.concatenate(lengths)
    edges = np.unique(np.quantile(pooled, np.linspace(0, 1, BANDS + 1)[1:-1], method="lower"))
    bands = [np.searchsorted(edges, one, side="left") for one in lengths]
    counts = [np.bincount(band, minlength=len(edges) + 1) for band in bands]
    wanted = np.minimum(*counts)
    total = int(wanted.sum())
    if total < 0.25 * min(map(len, lengths)) or total < 2:
        return None
    found = []
    for side, (order, band) in enumerate(zip(orders, bands, strict=True)):
        by_band = np.argsort(band, kind="stable")
        starts = np.cumsum(counts[side]) - counts[side]
        rank = np.empty(len(band), np.int64)  # how many of the band stand before a record
        rank[by_band] = np.arange(len(band)) - np.repeat(starts, counts[side])
        first = rank < wanted[band]
        second = ~first & (rank < 2 * wanted[band])
        full = side == 1 and int(second.sum()) == total
        place = np.where(first, 0, np.where(second & full, 1, 2))
        spare = Part(total, 2 * total) if full else None
        found.append((order[np.argsort(place, kind="stable")], Part(0, total), spare))
    return found


def replicate_groups(selections: Sequence[Selection], view: str) -> int:
    """G of a view: 20, or as many as its smallest part has records or units (at least 1)."""
    sizes = [len(part) for one in selections for part in one.views[view] if part is not None]
    sizes += [len(np.unique(one.units)) for one in selections if one.units is not None]
    return max(1, min([GROUPS, *sizes]))


def _equal(amounts: NDArray[np.int64], size: int, spare: bool, *, whole: bool) -> tuple[Part, Part | None]:
    """The ranks that hold the first `size` tokens (or bytes), and the next `size`, if there are as many."""
    running = np.cumsum(amounts)
    part = _until(running, 0, 0, size, whole)
    if not spare or part.stop >= len(amounts):
        return part, None
    before = int(running[part.stop - 1]) if part.stop else 0
    if int(running[-1]) - before < size or size == 0:
        return part, None
    return part, _until(running, part.stop, before, size, whole)


def _until(running: NDArray[np.int64], start: int, before: int, size: int, whole: bool) -> Part:
    """From rank `start` to the record that brings what comes after `before` to `size`."""
    if size == 0:
        # one side has nothing but empty texts: all of those, and nothing of the other side
        return Part(start, len(running) if len(running) and running[-1] == 0 else start)
    last = int(np.searchsorted(running, before + size, side="left"))
    surplus = int(running[last]) - before - size
    held = int(running[last] - (running[last - 1] if last else 0))
    # empty records after the last one that counts cost nothing and are part of an uncut corpus
    stop = len(running) if surplus == 0 and int(running[-1]) == before + size else last + 1
    return Part(start, stop, held - surplus if surplus and not whole else None)
