"""Records that are nearly the same as another one: their shingles on the way, and who is whose neighbour.

Knows no metric. Records with equal shingles form a class; classes are joined, and a record has an earlier
near-duplicate if its class or a neighbouring one holds a record that comes before it in hash order. That can
be asked for any union of groups at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.auditing.base import Masks, Need, Values
from karat.auditing.sequences import first_records
from karat.auditing.shards import Shard
from karat.texts.neighbours import I64, U64, Sets, classes, sets_of, shingles, similar_pairs
from karat.texts.tokens import fold, tokenise


@dataclass(frozen=True)
class ShinglesPart:
    """The shingles of some records of one corpus, on their way to be merged."""

    sets: Sets
    keys: U64
    groups: NDArray[np.uint8]
    names: pa.Array
    limit: int
    most: int
    side: int
    threshold: float
    method: str

    def first(self) -> ShinglesPart:
        """In hash order the first `limit` records of each side, until `most` shingles are there (0: all)."""
        if self.limit <= 0 and self.most <= 0:
            return self
        side = self.groups.astype(np.int64) // self.side
        rows = first_records(self.keys, side, self.sets.sizes, self.limit, self.most)
        if len(rows) == len(self.keys):
            return self
        return replace(
            self,
            sets=self.sets.take(rows),
            keys=self.keys[rows],
            groups=self.groups[rows],
            names=self.names.take(pa.array(rows)),
        )


class NeighboursKind:
    """Near-duplicates by the Jaccard coefficient of word shingles.

    Settings n, tokens, threshold; fold, for texts without case and sentence marks; limit records and most
    shingles by hash (0: all); method of the join.
    """

    def collect(self, shard: Shard, need: Need) -> ShinglesPart:
        rows = shard.chosen(need)
        if need.get("fold", True):
            texts = fold(shard.texts.take(pa.array(rows)).fill_null(""))
            tokens = tokenise(texts, str(need.get("tokens", "word")))
        else:
            tokens = shard.tokens(need).take(rows)
        hashes, owner = shingles(tokens, int(need.get("n", 5)))
        return ShinglesPart(
            sets_of(hashes, owner, len(rows)),
            shard.keys[rows],
            shard.groups(need)[rows],
            shard.names.take(pa.array(rows)).cast(pa.large_string()),
            int(need.get("limit", 0)),
            int(need.get("most", 0)),
            shard.side(need),
            float(need.get("threshold", 0.8)),
            str(need.get("method", "auto")),
        ).first()

    def merge(self, one: ShinglesPart, other: ShinglesPart) -> ShinglesPart:
        return replace(
            one,
            sets=one.sets.joined(other.sets),
            keys=np.concatenate([one.keys, other.keys]),
            groups=np.concatenate([one.groups, other.groups]),
            names=pa.concat_arrays([one.names, other.names]),
        ).first()

    def stack(self, corpora: Sequence[ShinglesPart], offsets: Sequence[int], groups: int) -> Alike:
        whole = replace(corpora[0], limit=0, most=0)
        for part in corpora[1:]:
            whole = self.merge(whole, part)
        moved = [part.groups.astype(np.int64) + shift for part, shift in zip(corpora, offsets, strict=True)]
        groups_of = np.concatenate(moved)
        return alike(whole.sets, whole.keys, groups_of, whole.names, whole.threshold, whole.method)


@dataclass(frozen=True, eq=False)
class Alike:
    """Records and the classes of equal ones: keys, groups, ranks in hash order, classes int64 [n]; names.

    one, other int64 [P]: classes that are near-duplicates of each other, each pair once.
    """

    keys: U64
    groups: I64
    ranks: I64
    classes: I64
    names: pa.Array
    one: I64
    other: I64
    jaccard: NDArray[np.float64]
    recall: float
    cut: bool

    def __len__(self) -> int:
        return len(self.keys)

    def window(self, start: int, stop: int) -> Alike:
        """The records of a range of groups, renumbered."""
        rows = np.flatnonzero((self.groups >= start) & (self.groups < stop))
        present, number = np.unique(self.classes[rows], return_inverse=True)
        place = np.full(int(self.classes.max(initial=-1)) + 1, -1, np.int64)
        place[present] = np.arange(len(present))
        both = (place[self.one] >= 0) & (place[self.other] >= 0)
        return Alike(
            self.keys[rows],
            self.groups[rows] - start,
            self.ranks[rows],
            number.astype(np.int64),
            self.names.take(pa.array(rows)),
            place[self.one[both]],
            place[self.other[both]],
            self.jaccard[both],
            self.recall,
            self.cut,
        )

    def shares(self, masks: Masks) -> Values:
        """float64 [K]: the share of the records under each mask that have an earlier near-duplicate there."""
        late_first = np.argsort(-self.ranks, kind="stable")
        found = np.full(len(masks), np.nan)
        for row, mask in enumerate(masks):
            chosen = late_first[mask[self.groups[late_first]]]
            if len(chosen):
                earliest = self._earliest(chosen)
                found[row] = float((earliest[self.classes[chosen]] < self.ranks[chosen]).mean())
        return found

    def _earliest(self, chosen: I64) -> I64:
        """For each class the rank of the first of the chosen records (late ones first) that is near it."""
        first = np.full(int(self.classes.max(initial=-1)) + 1, np.iinfo(np.int64).max)
        first[self.classes[chosen]] = self.ranks[chosen]  # the last one written is the earliest
        near = first.copy()
        np.minimum.at(near, self.one, first[self.other])
        np.minimum.at(near, self.other, first[self.one])
        return near

    def crowded(self, limit: int) -> list[tuple[int, int, str, float]]:
        """The records with the most near-duplicates, one a neighbourhood.

        Each with how many it has, the name of one of them and its Jaccard coefficient.
        """
        sizes = np.bincount(self.classes, minlength=int(self.classes.max(initial=-1)) + 1)
        near = sizes - 1
        np.add.at(near, self.one, sizes[self.other])
        np.add.at(near, self.other, sizes[self.one])
        by_class = np.argsort(self.classes, kind="stable")
        begins = np.searchsorted(self.classes[by_class], np.arange(len(sizes) + 1))
        found: list[tuple[int, int, str, float]] = []
        seen: set[int] = set()
        for one in np.argsort(-near, kind="stable"):
            if near[one] < 1 or len(found) == limit:
                break
            edges = np.flatnonzero((self.one == one) | (self.other == one))
            others = self.one[edges] + self.other[edges] - one
            if int(one) in seen or seen & set(others.tolist()):
                continue
            seen |= {int(one), *others.tolist()}
            members = by_class[begins[one] : begins[one + 1]]
            if len(members) > 1:
                partner, how = members[1], 1.0
            else:
                best = edges[np.argmax(self.jaccard[edges])]
                partner = by_class[begins[self.one[best] + self.other[best] - one]]
                how = float(self.jaccard[best])
            found.append((int(members[0]), int(near[one]), str(self.names[int(partner)]), how))
        return found


def alike(
    sets: Sets, keys: U64, groups: I64, names: pa.Array, threshold: float, method: str = "auto"
) -> Alike:
    """Join records by their shingles; among equal keys the earlier corpus comes first."""
    number, first = classes(sets)
    pairs = similar_pairs(sets.take(first), threshold, method=method)
    ranks = np.empty(len(keys), np.int64)
    ranks[np.lexsort((groups, keys))] = np.arange(len(keys))
    return Alike(
        keys, groups, ranks, number, names, pairs.one, pairs.other, pairs.jaccard, pairs.recall, pairs.cut
    )
