"""Mergeable summaries of a corpus, one kind a class, split by replicate group. Knows no metric, no executor.

A shard of a corpus gives one partial summary a need; partial summaries merge in any grouping; the
merged ones of candidate, reference and spare reference are stacked, their groups numbered one after
the other, and a metric is given a window on them:

    groups   0 .. G-1     candidate
             G .. 2G-1    reference
            2G .. 3G-1    spare reference records, where there are enough

so that one window over the first 2G groups is the pool from which chance is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, reduce
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from karat.auditing.base import Masks, Need, Values
from karat.auditing.columns import ColumnsKind
from karat.auditing.folded import WordsKind
from karat.auditing.grams import GramKeys, StackedGrams, stack_grams
from karat.auditing.near_duplicates import NeighboursKind
from karat.auditing.postings import PostingsPart, StackedPostings, collect_postings, stack_postings
from karat.auditing.sequences import SequencesKind
from karat.auditing.shards import OUT, UNLABELLED, Plan, Shard, Stretch
from karat.auditing.spectra import SpectrumKind
from karat.auditing.vectors import Embeddings as Embeddings
from karat.auditing.vectors import EmbeddingsKind, MomentsKind, VectorsKind
from karat.executors.base import tree_reduce
from karat.texts import tokens as token_tools


class Stacked(Protocol):
    """The summaries of all corpora of an audit, of one kind."""

    def window(self, start: int, stop: int) -> Any:
        """What a metric is given: the groups start .. stop-1, renumbered from 0."""
        ...


class Kind(Protocol):
    """How one kind of summary is collected, merged and stacked.

    A kind may have `pack(part, folder)` too: it makes a partial summary small for its way and, where a folder
    is given, files in it what grows with the corpus.
    """

    def collect(self, shard: Shard, need: Need) -> Any:
        """The partial summary of one shard; must survive pickling."""
        ...

    def merge(self, one: Any, other: Any) -> Any:
        """The partial summary of both shards together."""
        ...

    def stack(self, corpora: Sequence[Any], offsets: Sequence[int], groups: int) -> Stacked:
        """All corpora side by side: the groups of corpus i are moved by offsets[i]."""
        ...


# ---------------------------------------------------------------------------------------- lengths


@dataclass(frozen=True)
class Lengths:
    """How many records have each length in tokens: lengths int64 [U], counts int64 [G, U]."""

    lengths: NDArray[np.int64]
    counts: NDArray[np.int64]

    def window(self, start: int, stop: int) -> Lengths:
        """The same for a range of groups."""
        return Lengths(self.lengths, self.counts[start:stop])

    def records(self, masks: Masks) -> Values:
        """float64 [K]: the number of records under each mask."""
        return np.asarray(masks @ self.counts.sum(axis=1), dtype=np.float64)

    def totals(self, masks: Masks) -> Values:
        """float64 [K]: the number of tokens under each mask."""
        return np.asarray(masks @ (self.counts @ self.lengths), dtype=np.float64)

    def quantiles(self, share: float, masks: Masks) -> Values:
        """float64 [K]: the shortest length that at least `share` of the records do not exceed."""
        under = np.cumsum(masks.astype(np.int64) @ self.counts, axis=1)
        if under.shape[1] == 0:
            return np.full(len(masks), np.nan)
        total = under[:, -1:]
        index = np.argmax(under >= np.maximum(share * total, 1), axis=1)
        return np.where(total[:, 0] > 0, self.lengths[index].astype(np.float64), np.nan)


class LengthsKind:
    """Lengths of records in tokens (setting tokens), as one exact histogram a group."""

    def collect(self, shard: Shard, need: Need) -> dict[str, NDArray[Any]]:
        group = shard.groups(need)
        chosen = group != OUT
        length = shard.tokens(need).lengths[chosen].astype(np.uint64)
        cells, counts = np.unique((length << np.uint64(8)) | group[chosen], return_counts=True)
        return {"cells": cells, "counts": counts}

    def merge(self, one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        cells, where = np.unique(np.concatenate([one["cells"], other["cells"]]), return_inverse=True)
        counts = np.zeros(len(cells), np.int64)
        np.add.at(counts, where, np.concatenate([one["counts"], other["counts"]]))
        return {"cells": cells, "counts": counts}

    def stack(
        self, corpora: Sequence[dict[str, NDArray[Any]]], offsets: Sequence[int], groups: int
    ) -> Lengths:
        moved = [part["cells"] + np.uint64(shift) for part, shift in zip(corpora, offsets, strict=True)]
        packed = np.concatenate(moved)
        lengths, where = np.unique((packed >> np.uint64(8)).astype(np.int64), return_inverse=True)
        counts = np.zeros((groups, len(lengths)), np.int64)
        cells = ((packed & np.uint64(255)).astype(np.int64), where)
        np.add.at(counts, cells, np.concatenate([part["counts"] for part in corpora]))
        return Lengths(lengths, counts)


# ------------------------------------------------------------------------- n-grams and duplicates


class NgramsKind:
    """Counts of the n-grams of tokens (settings n, tokens), exact up to hash collisions."""

    def collect(self, shard: Shard, need: Need) -> GramKeys:
        hashes, owner = shard.ngrams(need, int(need.get("n", 1)))
        group = shard.groups(need)[owner]
        chosen = group != OUT
        if not chosen.all():
            hashes, group = hashes[chosen], group[chosen]
        return GramKeys.of(hashes, group)

    def merge(self, one: GramKeys, other: GramKeys) -> GramKeys:
        return one.merged(other)

    def pack(self, part: GramKeys, folder: str | None) -> GramKeys:
        return part.packed(folder)

    def stack(self, corpora: Sequence[GramKeys], offsets: Sequence[int], groups: int) -> StackedGrams:
        return stack_grams(corpora, offsets, groups)


class DuplicatesKind(NgramsKind):
    """Counts of whole texts (setting normalise): types are distinct texts, totals are records."""

    def collect(self, shard: Shard, need: Need) -> GramKeys:
        group = shard.groups(need)
        chosen = group != OUT
        content = shard.content
        if need.get("normalise", False):
            content = token_tools.hash_strings(token_tools.normalise(shard.texts))
        return GramKeys.of(content[chosen], group[chosen])


class PostingsKind:
    """Which of the first `limit` records holds which n-gram how often, for orders 1 .. n."""

    def collect(self, shard: Shard, need: Need) -> PostingsPart:
        return collect_postings(
            shard.tokens(need),
            shard.chosen(need),
            shard.keys,
            shard.groups(need),
            n=int(need.get("n", 4)),
            limit=int(need.get("limit", 0)),
            side=shard.side(need),
        )

    def merge(self, one: PostingsPart, other: PostingsPart) -> PostingsPart:
        return one.merged(other)

    def stack(self, corpora: Sequence[PostingsPart], offsets: Sequence[int], groups: int) -> StackedPostings:
        return stack_postings(corpora, offsets, groups)


# ----------------------------------------------------------------------------------------- sample


@dataclass(frozen=True)
class Sample:
    """The first `limit` records by hash, in hash order: a simple random sample that says whom it holds."""

    texts: tuple[str, ...]
    ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    groups: NDArray[np.int64]
    keys: NDArray[np.uint64]  # the hash by which records are ordered; equal for equal texts of two corpora
    content: NDArray[np.uint64]  # the hash of the text alone
    clusters: NDArray[np.uint64]  # records made from one source share a cluster
    places: NDArray[np.int64]  # the position of each record in its corpus

    def __len__(self) -> int:
        return len(self.texts)

    def window(self, start: int, stop: int) -> Sample:
        """The records of a range of groups."""
        return self.take(np.flatnonzero((self.groups >= start) & (self.groups < stop)), start)

    def take(self, chosen: NDArray[np.int64], shift: int = 0) -> Sample:
        """The records at these positions; groups are renumbered to begin at `shift`."""
        return Sample(
            tuple(self.texts[i] for i in chosen),
            tuple(self.ids[i] for i in chosen),
            tuple(self.labels[i] for i in chosen),
            self.groups[chosen] - shift,
            self.keys[chosen],
            self.content[chosen],
            self.clusters[chosen],
            self.places[chosen],
        )

    def joined(self, other: Sample) -> Sample:
        """The records of both."""
        return Sample(
            self.texts + other.texts,
            self.ids + other.ids,
            self.labels + other.labels,
            np.concatenate([self.groups, other.groups]),
            np.concatenate([self.keys, other.keys]),
            np.concatenate([self.content, other.content]),
            np.concatenate([self.clusters, other.clusters]),
            np.concatenate([self.places, other.places]),
        )


@dataclass(frozen=True)
class SamplePart:
    """A sample on its way, as columns: with its limits and the number of groups of one side."""

    texts: pa.Array
    ids: pa.Array
    labels: pa.Array
    numbers: tuple[NDArray[Any], ...]
    """Groups, keys, content, clusters and places [n]."""
    limit: int
    size: int
    side: int

    def first(self) -> SamplePart:
        """In hash order: at most `limit` records and `size` bytes of each `side` groups (0: no limit)."""
        groups, keys = self.numbers[:2]
        order = np.argsort(keys, kind="stable")
        segment = groups[order] // self.side
        lengths = pc.binary_length(self.texts).to_numpy(zero_copy_only=False)
        kept = []
        for one in np.unique(segment):
            chosen = order[segment == one]
            if self.limit > 0:
                chosen = chosen[: self.limit]
            if self.size > 0:
                running = np.cumsum(lengths[chosen])
                chosen = chosen[: max(1, int(np.searchsorted(running, self.size, side="right")))]
            kept.append(chosen)
        rows = np.concatenate(kept) if kept else order
        taken = pa.array(rows)
        return replace(
            self,
            texts=self.texts.take(taken),
            ids=self.ids.take(taken),
            labels=self.labels.take(taken),
            numbers=tuple(one[rows] for one in self.numbers),
        )

    def sample(self, shift: int) -> Sample:
        """The same as Python objects, its groups moved by `shift`."""
        groups, *others = self.numbers
        texts, ids, labels = (tuple(one.to_pylist()) for one in (self.texts, self.ids, self.labels))
        keys, content, clusters, places = others
        return Sample(texts, ids, labels, groups + shift, keys, content, clusters, places)


class SampleKind:
    """Texts, labels and ids of the first records by hash: at most `limit` records, `bytes` bytes (0: all)."""

    def collect(self, shard: Shard, need: Need) -> SamplePart:
        chosen = shard.chosen(need)
        rows = pa.array(chosen)
        numbers = (
            shard.groups(need).astype(np.int64),
            shard.keys,
            shard.content,
            shard.clusters,
            shard.places,
        )
        none = pa.nulls(len(shard), pa.large_string())
        return SamplePart(
            shard.texts.take(rows).fill_null(""),
            shard.names.take(rows).cast(pa.large_string()),
            (none if shard.given is None else shard.given).take(rows).cast(pa.large_string()),
            tuple(one[chosen] for one in numbers),
            int(need.get("limit", 0)),
            int(need.get("bytes", 0)),
            shard.side(need),
        ).first()

    def merge(self, one: SamplePart, other: SamplePart) -> SamplePart:
        return replace(
            one,
            texts=pa.concat_arrays([one.texts, other.texts]),
            ids=pa.concat_arrays([one.ids, other.ids]),
            labels=pa.concat_arrays([one.labels, other.labels]),
            numbers=tuple(np.concatenate(pair) for pair in zip(one.numbers, other.numbers)),
        ).first()

    def stack(self, corpora: Sequence[SamplePart], offsets: Sequence[int], groups: int) -> Sample:
        first, *others = (part.sample(shift) for part, shift in zip(corpora, offsets, strict=True))
        return reduce(Sample.joined, others, first)


# ----------------------------------------------------------------------------------------- labels


@dataclass(frozen=True)
class Labels:
    """How many records have each label: names [C] in order, counts int64 [G, C], unlabelled [G]."""

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    unlabelled: NDArray[np.int64]

    def window(self, start: int, stop: int) -> Labels:
        """The same for a range of groups; labels of the other corpora stay, with count 0."""
        return Labels(self.names, self.counts[start:stop], self.unlabelled[start:stop])


class LabelsKind:
    """A table of labels by group; records without a label are counted apart."""

    def collect(self, shard: Shard, need: Need) -> dict[str, NDArray[np.int64]]:
        group = shard.groups(need)
        inside = group != OUT
        names, codes = shard.label_codes()
        cells = np.bincount(codes[inside] * 256 + group[inside], minlength=256 * len(names))
        return {name: row for name, row in zip(names, cells.reshape(-1, 256)) if row.any()}

    def merge(
        self, one: dict[str, NDArray[np.int64]], other: dict[str, NDArray[np.int64]]
    ) -> dict[str, NDArray[np.int64]]:
        both = dict(one)
        for name, counts in other.items():
            both[name] = both[name] + counts if name in both else counts
        return both

    def stack(
        self, corpora: Sequence[dict[str, NDArray[np.int64]]], offsets: Sequence[int], groups: int
    ) -> Labels:
        names = sorted({name for table in corpora for name in table if name != UNLABELLED})
        counts = np.zeros((groups, len(names) + 1), np.int64)
        for table, shift in zip(corpora, offsets, strict=True):
            for column, name in enumerate([*names, UNLABELLED]):
                if name in table:
                    counts[shift:, column] += table[name][: groups - shift]
        return Labels(tuple(names), counts[:, :-1], counts[:, -1])


KINDS: dict[str, Kind] = {
    "lengths": LengthsKind(),
    "ngrams": NgramsKind(),
    "duplicates": DuplicatesKind(),
    "postings": PostingsKind(),
    "sample": SampleKind(),
    "labels": LabelsKind(),
    "embeddings": EmbeddingsKind(),
    "moments": MomentsKind(),
    "vectors": VectorsKind(),
    "columns": ColumnsKind(),
    "words": WordsKind(),
    "spectrum": SpectrumKind(),
    "sequences": SequencesKind(),
    "neighbours": NeighboursKind(),
}


def collect(stretch: Stretch, *, plan: Plan) -> tuple[Any, ...]:
    """The partial summaries of a stretch of records, in the order of the plan's needs."""
    merged: tuple[Any, ...] = tree_reduce(
        (_collected(shard, plan.needs) for shard in plan.shards(stretch)), partial(merge, needs=plan.needs)
    )
    return tuple(packed(need, part, plan.folder) for need, part in zip(plan.needs, merged, strict=True))


def _collected(shard: Shard, needs: tuple[Need, ...]) -> tuple[Any, ...]:
    # needs of the same n-grams come one after the other, so that these are made once
    order = sorted(range(len(needs)), key=lambda i: (str(needs[i].get("tokens")), int(needs[i].get("n", 0))))
    found = {i: KINDS[needs[i].kind].collect(shard, needs[i]) for i in order}
    return tuple(found[i] for i in range(len(needs)))


def packed(need: Need, part: Any, folder: str | None) -> Any:
    """A partial summary made small for its way, and filed in `folder` where its kind can be."""
    pack = getattr(KINDS[need.kind], "pack", None)
    return part if pack is None else pack(part, folder)


def merge(one: tuple[Any, ...], other: tuple[Any, ...], *, needs: tuple[Need, ...]) -> tuple[Any, ...]:
    """Two tuples of partial summaries into one."""
    return tuple(KINDS[need.kind].merge(a, b) for need, a, b in zip(needs, one, other, strict=True))


@dataclass(frozen=True)
class Window:
    """A range of groups of all stacked summaries, seen through one view: what metrics call a summary."""

    stacked: Mapping[Need, Stacked]
    view: str
    start: int
    stop: int
    records: int
    defaults: Mapping[str, str] = field(default_factory=dict)
    """What an empty setting stands for: {"encoder": "lsa"}."""

    @property
    def groups(self) -> int:
        """The number of replicate groups."""
        return self.stop - self.start

    @cached_property
    def _seen(self) -> dict[Need, Any]:
        return {}

    def __getitem__(self, wanted: Need) -> Any:
        key = resolve(wanted, self.view, self.defaults)
        if key not in self._seen:
            self._seen[key] = self.stacked[key].window(self.start, self.stop)
        return self._seen[key]


def resolve(need: Need, view: str, defaults: Mapping[str, str]) -> Need:
    """A need as it is collected: with its view, and empty settings filled in."""
    settings = tuple((k, defaults.get(k, v) if v == "" else v) for k, v in need.settings)
    return Need(need.kind, settings, view)  # type: ignore[arg-type]
