"""Which of a group of records that are alike is kept. Knows pairs and an order of preference, no text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from karat.curation.base import Mask
from karat.errors import BadSetting
from karat.records import Records

I64 = NDArray[np.int64]
Floats = NDArray[np.float64]
Keep = Literal["first", "longest", "best"]
Shape = Literal["star", "component"]


@dataclass(frozen=True, eq=False)
class Links:
    """Pairs of records that are alike: one, other int64 [P], each pair once; alike float64 [P]."""

    one: I64
    other: I64
    alike: Floats


@dataclass(frozen=True, eq=False)
class Kept:
    """What is kept of n records: kept bool [n]; for a dropped one which record stands for it, and how alike.

    likeness is nan where the two are joined by a chain of pairs and are no pair themselves.
    """

    kept: Mask
    stands: I64
    likeness: Floats


def preference(records: Records, keep: Keep, by: str, where: str) -> I64:
    """Return positions, the most wanted first: in order, by length in characters, or by a numeric field.

    Equal ones keep their order; records without a number come last. Raises BadSetting where none has one.
    """
    if keep == "first":
        return np.arange(len(records))
    if keep == "longest":
        return np.argsort([-len(text) for text in records.texts()], kind="stable").astype(np.int64)
    values = numbers(records, by, where)
    if len(values) and np.isnan(values).all():
        raise BadSetting(
            f"{where}: field {by!r} holds no number at all, so that none is the best; order first"
        )
    return np.argsort(np.where(np.isnan(values), np.inf, -values), kind="stable").astype(np.int64)


def numbers(records: Records, name: str, where: str) -> Floats:
    """Return a field as numbers, float64 [n]; nulls are nan.

    Raises InputError for a field that is missing, BadSetting for values that are no numbers.
    """
    found = np.full(len(records), np.nan)
    for row, value in enumerate(records.column(name)):
        if value is None or value == "":
            continue
        try:
            found[row] = float(value)
        except (TypeError, ValueError):
            raise BadSetting(
                f"{where}: field {name!r} of record {records.ids[row]!r} is {str(value)[:40]!r}, "
                "but must be a number; name another field"
            ) from None
    return found


def texts_of(records: Records, name: str) -> list[str]:
    """Return a field of all records as text, null as empty; the whole text where no field is named."""
    if not name:
        return records.texts()
    return ["" if value is None else str(value) for value in records.column(name)]


def keep_of(order: I64, links: Links, shape: Shape) -> Kept:
    """Keep one record of each cluster, the most wanted by `order`.

    star: records are visited in order; one that is not yet dropped is kept and drops all that are alike to
    it, so that no two kept ones are alike and each dropped one is alike to the one that stands for it.
    component: one of each connected component is kept, also where only a chain of pairs leads to it.
    """
    n = len(order)
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    first = np.concatenate([links.one, links.other])
    second = np.concatenate([links.other, links.one])
    alike = np.concatenate([links.alike, links.alike])
    by_first = np.argsort(first, kind="stable")
    first, second, alike = first[by_first], second[by_first], alike[by_first]
    stands = np.arange(n)
    likeness = np.ones(n)
    begins = np.searchsorted(first, np.arange(n + 1))
    linked = np.unique(first)
    if shape == "star":
        taken = np.zeros(n, np.bool_)
        for record in linked[np.argsort(rank[linked])].tolist():
            if not taken[record]:
                near = slice(begins[record], begins[record + 1])
                free = ~taken[second[near]]
                stands[second[near][free]] = record
                likeness[second[near][free]] = alike[near][free]
                taken[second[near]] = True
                taken[record] = True
    else:
        member = components(n, links)
        best = np.full(n, n)
        np.minimum.at(best, member, rank)
        stands = order[best[member]]
        likeness = np.where(stands == np.arange(n), 1.0, np.nan)
        direct = stands[first] == second
        likeness[first[direct]] = alike[direct]
    return Kept(stands == np.arange(n), stands, likeness)


def components(n: int, links: Links) -> I64:
    """int64 [n]: the number of the connected component of each record."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(links.one), np.int8), (links.one, links.other)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def cosine_links(vectors: ArrayLike, threshold: float, *, block: int = 1024) -> Links:
    """All pairs of unit rows [n, d] whose cosine is at least `threshold`; O(n^2 d) time, in blocks."""
    rows = np.asarray(vectors, dtype=np.float32)
    one, other, alike = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for start in range(0, len(rows), block):
        cosines = rows[start : start + block] @ rows[start:].T
        i, j = np.nonzero(cosines >= threshold - 1e-6)
        above = j > i
        i, j = i[above], j[above]
        one.append(i + start)
        other.append(j + start)
        alike.append(np.minimum(cosines[i, j].astype(np.float64), 1.0))
    return Links(np.concatenate(one), np.concatenate(other), np.concatenate(alike))
