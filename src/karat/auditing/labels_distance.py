"""How far two distributions of labels are apart, and what finite numbers of labels add. Knows counts only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karat.auditing.labels_paired import Paired, Scored
from karat.auditing.labels_people import People, concentration, multinomial
from karat.auditing.labels_sheet import Floats, Ints, summed

DISTANCES = ("tvd", "jsd", "cross_entropy")


def distance(mine: NDArray[np.generic], theirs: NDArray[np.generic], kind: str) -> Floats:
    """float64 [n]: the distance of the label shares of each pair of rows of counts; nan where one is empty.

    tvd: half the sum of absolute differences, 0 .. 1
    jsd: Jensen-Shannon divergence in bits, 0 .. 1 (Lin 1991)
    cross_entropy: bits that an answer of people costs under the candidate's shares, half a label added to
    each (Krichevsky and Trofimov 1981), so that a label it never gave costs much but not infinitely much
    """
    ours, people = np.asarray(mine, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    n, m = (one.sum(axis=1, keepdims=True) for one in (ours, people))
    with np.errstate(invalid="ignore", divide="ignore"):
        q, p = ours / n, people / m
        if kind == "tvd":
            found = np.abs(q - p).sum(axis=1) / 2
        elif kind == "jsd":
            middle = (q + p) / 2
            found = (_divergence(q, middle) + _divergence(p, middle)) / 2
        else:
            smooth = (ours + 0.5) / (n + 0.5 * ours.shape[1])
            found = -(p * np.log2(smooth)).sum(axis=1)
    return np.where((n > 0)[:, 0] & (m > 0)[:, 0], found, np.nan)


def excess(
    mine: Ints, human: Ints, *, at: Ints, owner: Ints, kind: str, rng: np.random.Generator, trials: int
) -> Scored:
    """What finite numbers of labels add to the distance of each list: float64 [L], with weight 1 where known.

    Shares of both sides are drawn given their labels, as many labels as there are are drawn from them, and
    the distance of those labels, less that of the shares, is the excess: a parametric bootstrap of the bias
    (Efron 1979) under the model of labels_people, one of people's labels and one for each annotator.
    """
    people, model = People.of(human), _by_annotator(mine, owner)
    total = np.zeros(len(mine))
    for _ in range(trials):
        shares, answers = people.shares(rng), model.shares(rng)
        drawn = multinomial(rng, mine.sum(axis=1), answers)
        theirs = multinomial(rng, human.sum(axis=1), shares)
        total += distance(drawn, theirs[at], kind) - distance(answers, shares[at], kind)
    known = np.isfinite(total)
    return Scored(np.where(known, total / trials, 0.0), known.astype(np.float64))


def _by_annotator(mine: Ints, owner: Ints) -> People:
    """The same model for each annotator on its own."""
    added = np.zeros(mine.shape, np.float64)
    for one in np.unique(owner):
        chosen = owner == one
        total = mine[chosen].sum(axis=0)
        added[chosen] = concentration(mine[chosen]) * total / max(int(total.sum()), 1)
    return People(mine, added)


@dataclass(frozen=True)
class Pooled:
    """The distance of all labels of each annotator to all labels that people gave its items."""

    paired: Paired
    kind: str

    def of(self, mine: NDArray[np.generic], human: NDArray[np.generic]) -> tuple[float, Floats]:
        """The mean over annotators, weighted by their items, and the distance of each."""
        owner, owners = self.paired.mine.owner, len(self.paired.mine.owners)
        ours, people = (
            np.stack(
                [np.bincount(owner, column, owners) for column in np.asarray(rows, np.float64).T], axis=1
            )
            for rows in (mine, human[self.paired.mine.item])
        )
        found = distance(ours, people, self.kind)
        weight = np.bincount(owner, minlength=owners) * np.isfinite(found)
        mean = float((np.nan_to_num(found) * weight).sum() / weight.sum()) if weight.any() else float("nan")
        return mean, np.nan_to_num(found)

    def even(self) -> float:
        """The distance of labels that are all equally frequent."""
        return self.of(np.ones_like(self.paired.mine.counts), self.paired.human)[0]

    def swapped(self, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Labels dealt anew within items: counts of lists, and of people's labels by item."""
        ours, people = self.paired.swapped(rng)
        return ours, summed(self.paired.theirs.item, people, self.paired.items)

    def excess(self, rng: np.random.Generator, trials: int) -> tuple[float, Floats]:
        """What finite numbers of labels add to the mean and to the distance of each annotator."""
        paired = self.paired
        mine, human = paired.mine.counts, paired.human
        sizes, totals = mine.sum(axis=1), human.sum(axis=1)
        model = _by_annotator(mine, paired.mine.owner)
        means, each = 0.0, np.zeros(len(paired.mine.owners))
        for _ in range(trials):
            shares, answers = paired.people.shares(rng), model.shares(rng)
            drawn = multinomial(rng, sizes, answers), multinomial(rng, totals, shares)
            mean, parts = self.of(*drawn)
            true_mean, true_parts = self.of(answers * sizes[:, None], shares * totals[:, None])
            means, each = means + mean - true_mean, each + parts - true_parts
        return means / trials, each / trials

    def rows(self) -> Floats:
        """float64 [items, columns]: what is summed over items: labels of each annotator and of people."""
        paired = self.paired
        owners, kinds = len(paired.mine.owners), len(paired.space)
        rows = np.zeros((paired.items, 2 * owners * kinds))
        for side, counts in enumerate((paired.mine.counts, paired.human[paired.mine.item])):
            for k in range(kinds):
                column = (side * owners + paired.mine.owner) * kinds + k
                np.add.at(rows, (paired.mine.item, column), counts[:, k])
        return rows

    def drawn(self, sums: Floats) -> tuple[Floats, Floats]:
        """float64 [trials, annotators] and [trials]: distances and their mean, of sums of `rows`."""
        owners, kinds = len(self.paired.mine.owners), len(self.paired.space)
        table = sums.reshape(-1, 2, owners, kinds)
        found = np.stack([distance(table[:, 0, i], table[:, 1, i], self.kind) for i in range(owners)], axis=1)
        weight = np.bincount(self.paired.mine.owner, minlength=owners) * np.isfinite(found)
        return found, (np.nan_to_num(found) * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1)


def _divergence(p: Floats, q: Floats) -> Floats:
    """float64 [n]: Kullback-Leibler divergence in bits."""
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = np.where(p > 0, p * np.log2(p / q), 0.0)
    return np.asarray(terms.sum(axis=1), dtype=np.float64)


def information(joint: Floats) -> float:
    """The mutual information of the two variables of a table of counts, in bits."""
    total = joint.sum()
    if not total > 0:
        return 0.0
    shares = joint / total
    free = shares.sum(axis=1, keepdims=True) * shares.sum(axis=0, keepdims=True)
    known = shares > 0
    return float((shares[known] * np.log2(shares[known] / free[known])).sum())
