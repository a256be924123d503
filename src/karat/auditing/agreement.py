"""Agreement of annotators: kappa, Krippendorff's alpha, panels that leave one out. Knows counts only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karat.auditing import statistics as stats
from karat.auditing.labels_sets import even, modes
from karat.auditing.labels_sheet import Floats, Ints, Lists

WEIGHTS = ("none", "linear", "quadratic")
LEVELS = ("nominal", "ordinal", "interval")


def apart(kinds: int, points: Floats | None, weights: str) -> Floats:
    """float64 [K, K]: how far two labels are apart: 1 unless equal, or by their points (Cohen 1968)."""
    if weights == "none" or points is None:
        return 1.0 - np.eye(kinds)
    gaps = np.abs(points[:, None] - points[None, :])
    return gaps if weights == "linear" else gaps**2


def kappa(tables: Floats, distance: Floats) -> Floats:
    """float64 [...]: Cohen's kappa of tables [..., K, K], weighted by a distance [K, K]; nan where undefined.

    1 - (observed distance) / (distance of the margins): Cohen 1960, 1968.
    """
    total = tables.sum(axis=(-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = (tables * distance).sum(axis=(-2, -1)) / total
        rows, columns = tables.sum(axis=-1), tables.sum(axis=-2)
        expected = np.einsum("...k,...l,kl->...", rows, columns, distance) / total**2
        return np.asarray(np.where(expected > 0, 1 - observed / expected, np.nan), dtype=np.float64)


def accuracy(tables: Floats) -> Floats:
    """float64 [...]: the share of tables [..., K, K] on the diagonal."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.trace(tables, axis1=-2, axis2=-1) / tables.sum(axis=(-2, -1))
    return np.asarray(found, dtype=np.float64)


def by_chance(table: Floats) -> float:
    """The accuracy of labels with the same margins that do not depend on the item."""
    total = table.sum()
    return float((table.sum(axis=1) * table.sum(axis=0)).sum() / total**2) if total > 0 else float("nan")


@dataclass(frozen=True)
class Panels:
    """What the other annotators of an item say: of each list, the modes of the others with equal shares.

    targets float64 [L, K], a row of zeros where nobody else labelled the item; shares float64 [L, K] are
    what the list itself says.
    """

    targets: Floats
    shares: Floats

    @property
    def known(self) -> Floats:
        """float64 [L]: 1 where both the list and the others have a label."""
        both: NDArray[np.bool_] = (self.targets.sum(axis=1) > 0) & (self.shares.sum(axis=1) > 0)
        return both.astype(np.float64)

    @property
    def hits(self) -> Floats:
        """float64 [L]: how far each list agrees with the others, 0 .. 1."""
        found: Floats = (self.targets * self.shares).sum(axis=1)
        return found


def panels(lists: Lists, items: int) -> Panels:
    """For each list the majority of all other lists on its item."""
    others = lists.by_item(items)[lists.item] - lists.counts
    return Panels(even(modes(others)), shares_of(lists.counts))


def shares_of(counts: Ints) -> Floats:
    """float64 [n, K]: each row of counts as shares; zeros for an empty row."""
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), dtype=np.float64)


def tables(shares: Floats, targets: Floats, weight: Floats, group: Ints, groups: int) -> Floats:
    """float64 [G, K, K]: label of the list against label of its target, summed by replicate group."""
    kinds = shares.shape[1]
    found = np.zeros((groups, kinds, kinds))
    for g in range(groups):
        chosen = group == g
        found[g] = (shares[chosen] * weight[chosen, None]).T @ targets[chosen]
    return found


def left_out(parts: Floats) -> Floats:
    """float64 [G, ...]: sums over all groups but one."""
    return np.asarray(parts.sum(axis=0) - parts, dtype=np.float64)


@dataclass(frozen=True)
class Outlier:
    """An annotator who agrees less with the others than they do among themselves on the same items."""

    name: str
    less: float
    p: float


def outliers(lists: Lists, found: Panels, items: int, *, least: float = 0.1) -> tuple[Outlier, ...]:
    """Annotators whose agreement is lower by `least` than that of the others on the same items.

    Paired by item: the agreement of a list less the mean of the other lists of its item, t-test, Holm at 1%.
    """
    known = found.known
    total = np.bincount(lists.item, found.hits * known, items)[lists.item]
    number = np.bincount(lists.item, known, items)[lists.item]
    usable = (known > 0) & (number > 1)
    gap = np.zeros(len(lists))
    gap[usable] = found.hits[usable] - (total[usable] - found.hits[usable]) / (number[usable] - 1)
    candidates = []
    for i, name in enumerate(lists.owners):
        own = gap[usable & (lists.owner == i)]
        if len(own) >= 20:
            test = stats.paired_difference(own, np.zeros(len(own)))
            candidates.append((name, float(own.mean()), test.p))
    adjusted = stats.holm([p for _, _, p in candidates])
    return tuple(
        Outlier(name, -less, float(p))
        for (name, less, _), p in zip(candidates, adjusted, strict=True)
        if p is not None and p < 0.01 and less < -least
    )


# ------------------------------------------------------------------------------- Krippendorff's alpha


def coincidences(counts: Ints, group: Ints, groups: int) -> Floats:
    """float64 [G, K, K]: Krippendorff's coincidence matrix of units [U, K], by group; they add up.

    A unit with m >= 2 labels adds each ordered pair of its labels 1 / (m - 1) times (Krippendorff 2011,
    Computing Krippendorff's alpha-reliability); O(labels) for a given label space.
    """
    m = counts.sum(axis=1)
    several = m > 1
    some = counts[several].astype(np.float64)
    scaled = some / (m[several, None] - 1)
    where = group[several]
    found = np.zeros((groups, counts.shape[1], counts.shape[1]))
    for g in range(groups):
        chosen = where == g
        found[g] = some[chosen].T @ scaled[chosen] - np.diag(scaled[chosen].sum(axis=0))
    return found


def alpha(matrices: Floats, level: str, points: Floats | None = None) -> Floats:
    """float64 [M]: Krippendorff's alpha of coincidence matrices [M, K, K]; nan where nothing can vary.

    1 - (n - 1) sum o_ck d_ck / sum n_c n_k d_ck, d the squared distance of two labels: 1 unless equal
    (nominal), of their mean ranks (ordinal), of their points (interval). Krippendorff 2011.
    """
    found = np.full(len(matrices), np.nan)
    for i, matrix in enumerate(matrices):
        margin = matrix.sum(axis=1)
        if level == "nominal":
            apart_squared = 1.0 - np.eye(len(margin))
        else:
            place = np.cumsum(margin) - margin / 2 if level == "ordinal" else points
            assert place is not None
            apart_squared = (place[:, None] - place[None, :]) ** 2
        expected = float(margin @ apart_squared @ margin)
        if expected > 0:
            found[i] = 1 - (margin.sum() - 1) * float((matrix * apart_squared).sum()) / expected
    return found
