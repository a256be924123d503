"""Whether labels depend on the item at all, and sources of labels that do not. Knows counts only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from karat.auditing.base import Found
from karat.auditing.labels_sheet import Floats, Ints, Sheet

_CONSTANT = 0.95
_USUAL = 0.9
_LITTLE = 0.2
_ITEMS = 20


def features(counts: Ints, points: Floats | None) -> Floats:
    """float64 [n, D]: the mean of the points of each row, or its label shares where labels have no order."""
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if points is not None:
        return np.asarray((counts @ points)[:, None] / total, dtype=np.float64)
    return np.asarray(counts / total, dtype=np.float64)


@dataclass(frozen=True)
class Moments:
    """Sums of products of two sides' features, a row a cell; cells add up. float64 [C, 2 D + 4]."""

    sums: Floats

    @staticmethod
    def of(mine: Floats, theirs: Floats, weight: Floats, cell: Ints, cells: int) -> Moments:
        """The sums over the rows of features [n, D] of each cell, with weights [n]."""
        centre = theirs.mean(axis=0) if len(theirs) else 0.0  # keeps the sums of squares small
        x, y = mine - centre, theirs - centre
        columns = [weight, *(weight * one for one in x.T), *(weight * one for one in y.T)]
        columns += [weight * (a * b).sum(axis=1) for a, b in ((x, y), (x, x), (y, y))]
        return Moments(np.stack([np.bincount(cell, one, cells) for one in columns], axis=1))

    def correlation(self) -> Floats:
        """float64 [C]: Pearson's r of each cell; 0 where a side never varies, nan for an empty cell.

        For several columns products are added over columns, which for two labels is the r of their shares,
        and for more the cosine of the two sides' deviations from their means.
        """
        n = self.sums[:, 0]
        width = (self.sums.shape[1] - 4) // 2
        x, y = self.sums[:, 1 : 1 + width], self.sums[:, 1 + width : 1 + 2 * width]
        xy, xx, yy = self.sums[:, -3:].T
        with np.errstate(invalid="ignore", divide="ignore"):
            shared = xy - (x * y).sum(axis=1) / n
            spread = (xx - (x**2).sum(axis=1) / n) * (yy - (y**2).sum(axis=1) / n)
            r = np.where(spread > 1e-16 * np.maximum(xx * yy, 1e-12), shared / np.sqrt(np.abs(spread)), 0.0)
        return np.where(n > 0, r, np.nan)

    def merged(self, cells: int) -> Moments:
        """Cells in runs of equal length put together: C / cells runs."""
        return Moments(self.sums.reshape(-1, cells, self.sums.shape[1]).sum(axis=1))

    def left_out(self, cells: int) -> Floats:
        """float64 [runs, cells]: r of each run of cells with one of its cells left out."""
        table = self.sums.reshape(-1, cells, self.sums.shape[1])
        rest = table.sum(axis=1, keepdims=True) - table
        return Moments(rest.reshape(self.sums.shape)).correlation().reshape(-1, cells)


def explained(counts: Ints) -> float:
    """The share of the variance of single labels that the item explains (intraclass correlation).

    (agreement - chance) / (1 - chance), agreement that of two labels of one item (Landis and Koch 1977); 0
    for labels that never vary, nan where no item has two.
    """
    several = counts.sum(axis=1) > 1
    if not several.any():
        return float("nan")
    if (counts.sum(axis=0) > 0).sum() < 2:
        return 0.0
    some = counts[several].astype(np.float64)
    m = some.sum(axis=1)
    agreement = float(((some * (some - 1)).sum(axis=1) / (m * (m - 1))).mean())
    shares = counts.sum(axis=0) / counts.sum()
    chance = float((shares**2).sum())
    return (agreement - chance) / (1 - chance)


def among_people(counts: Ints, draws: float, points: Floats | None) -> float:
    """The r that the mean of so many further labels of the same people would have with the mean of these.

    sqrt(rel(draws) rel(n)), n the mean number of labels an item, rel(n) = n rho / (1 + (n - 1) rho)
    (Spearman 1910, Brown 1910), rho the intraclass correlation of single labels or of their points.
    """
    several = counts[counts.sum(axis=1) > 1]
    if not len(several):
        return 1.0
    rho = explained(counts)
    if points is not None:
        n = several.sum(axis=1)
        sums, squares = several @ points, several @ points**2
        within = float(((squares - sums**2 / n) / (n - 1)).mean())
        mean = float(sums.sum() / n.sum())
        total = float(squares.sum() / n.sum()) - mean**2
        rho = 1 - within / total if total > 0 else 0.0
    rho = min(max(rho, 0.0), 1.0)
    reliable = [k * rho / (1 + (k - 1) * rho) for k in (draws, float(several.sum(axis=1).mean()))]
    return float(np.sqrt(reliable[0] * reliable[1]))


@dataclass(frozen=True)
class Source:
    """What is known of one annotator: r with people, its interval, and what people reach."""

    name: str
    value: float
    interval: tuple[float, float] | None
    best: float | None


def degenerate(
    sheet: Sheet, sources: Sequence[Source], shares: Floats, *, others: str = "people"
) -> tuple[Found, ...]:
    """Warn of annotators whose labels are constant, draw by draw, or say nothing about the item.

    shares: how often `others` give each label; a label that nearly everybody gives may well be constant
    """
    known = {one.name: one for one in sources}
    found = []
    for i, name in enumerate(sheet.annotators):
        reasons = [*_constant(sheet, i, shares, others), *_uninformed(known.get(name))]
        if reasons:
            cure = "its labels are no judgement of the items: leave it out or mend its prompt"
            found.append(Found("degenerate_source", f"{name}: {'; '.join(reasons)}; {cure}"))
    return tuple(found)


def _constant(sheet: Sheet, annotator: int, shares: Floats, others: str) -> list[str]:
    """Draws of an annotator that are nearly always one label, although the others' labels vary."""
    mine = (sheet.annotator == annotator) & (sheet.label >= 0)
    slots, counts = np.unique(sheet.slot[mine], return_counts=True)
    constant, tops = [], []
    for slot, n in zip(slots, counts, strict=True):
        given = np.bincount(sheet.label[mine & (sheet.slot == slot)])
        label = int(given.argmax())
        if n >= _ITEMS and given[label] / n >= _CONSTANT and float(shares[label]) < _USUAL:
            constant.append(int(slot) + 1)
            tops.append(float(given[label] / n))
    if not constant:
        return []
    beside = f", where the commonest label of {others} has {float(shares.max()):.0%}"
    if len(slots) == 1:
        return [f"gives one label on {tops[0]:.0%} of its items{beside}"]
    listed = ", ".join(map(str, constant[:5]))
    word = "draws" if len(constant) > 1 else "draw"
    return [f"{word} {listed} of {len(slots)}: one label on at least {min(tops):.0%} of its items{beside}"]


def _uninformed(source: Source | None) -> list[str]:
    """An annotator whose correlation with people is shown to be small where people's is not."""
    if source is None or source.interval is None or source.best is None:
        return []
    high = max(abs(end) for end in source.interval)
    if high >= _LITTLE or high >= source.best / 2:
        return []
    return [
        f"its labels hardly depend on the item (r {source.value:.2f} with people's, at most {high:.2f}; "
        f"people among themselves {source.best:.2f})"
    ]
