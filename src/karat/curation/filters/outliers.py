"""Drops records that lie farther out than human ones do. Knows vectors, no quality."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from karat.curation.base import Verdicts
from karat.curation.embedding import embed
from karat.errors import BadSetting, NotEnoughData
from karat.records import Records

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]
LEAST = 20
"""Records of a class below which no distance can be called unusual."""


@dataclass(frozen=True)
class Outliers:
    """Drops records that are farther from the human reference than a share of human records are.

    to: reference (any human record) or class (human records of the same label; classes with fewer than 20 are
    compared with all). method: knn (distance to the k-th nearest) or mahalanobis (shrunk covariance, Ledoit
    and Wolf 2004). share: of human records that lie within the bound, measured out of fold: each human record
    against the others. k: which neighbour. encoder: lsa, minilm or another of the encoders.
    """

    to: Literal["reference", "class"] = "reference"
    method: Literal["knn", "mahalanobis"] = "knn"
    share: float = 0.99
    k: int = 5
    encoder: str = "lsa"
    folds: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}, but must lie between 0 and 1, for example 0.99")
        if self.k < 1 or self.folds < 2:
            raise ValueError(f"k={self.k} must be 1 or more and folds={self.folds} 2 or more")

    def judge(
        self, records: Records, reference: Records | None = None, *, cache: Path | None = None, seed: int = 0
    ) -> Verdicts:
        """Judge each record; the reason names the distance and the bound."""
        if reference is None:
            raise BadSetting("filter 'outliers' measures against human records; give --reference HUMAN")
        if len(reference) < LEAST:
            raise NotEnoughData(
                f"filter 'outliers' needs {LEAST} human records to know what is usual, "
                f"but the reference has {len(reference):,}"
            )
        # The encoder is fitted on both sides alike, or new words would make every record an outlier.
        vectors = embed([*records.texts(), *reference.texts()], self.encoder, cache=cache, seed=seed)
        mine, human = vectors[: len(records)], vectors[len(records) :]
        distance, bound = np.full(len(mine), np.nan), np.full(len(mine), np.nan)
        group = np.array(["all"] * len(mine), dtype=object)
        for name, rows, others in self._groups(records, reference):
            if len(rows):
                distance[rows], bound[rows] = self._measure(mine[rows], human[others], seed)
                group[rows] = name
        known = mine.any(axis=1)
        out = (distance > bound) & known
        what = f"distance to the {self.k}th nearest" if self.method == "knn" else "Mahalanobis distance"
        reasons = {
            row: f"{what} of {group[row]} human records {distance[row]:.3f}, over {bound[row]:.3f}, "
            f"the {self.share:g} quantile of human ones"
            for row in np.flatnonzero(out).tolist()
        }
        note = f"{out.mean():.1%} beyond the bound; of human records {1 - self.share:.1%} are"
        if not known.all():
            note += f"; {int((~known).sum()):,} records have nothing to encode and stay"
        return Verdicts(~out, reasons, note)

    def _groups(
        self, records: Records, reference: Records
    ) -> list[tuple[str, NDArray[np.int64], NDArray[np.int64]]]:
        """The records that are measured together, and the human ones that they are measured against."""
        everyone = np.arange(len(reference))
        if self.to == "reference":
            return [("all", np.arange(len(records)), everyone)]
        mine, human = records.labels(), reference.labels()
        if mine is None or human is None:
            lacks = records.path if mine is None else reference.path
            raise BadSetting(
                f"filter 'outliers': to=class needs labels, but {lacks} has none; use to=reference"
            )
        ours, theirs = _rows(mine), _rows(human)
        found, few = [], []
        for name, rows in ours.items():
            others = theirs.get(name, [])
            if len(others) < LEAST:
                few.extend(rows)
            else:
                found.append((repr(name), np.array(rows, np.int64), np.array(others, np.int64)))
        return [*found, ("all", np.array(sorted(few), np.int64), everyone)]

    def _measure(self, mine: Rows, human: Rows, seed: int) -> tuple[Floats, float]:
        """The distance of each record, and the bound from human records that the measure has not seen."""
        human = human[human.any(axis=1)]
        if len(human) < 2:
            raise NotEnoughData("filter 'outliers': the encoder finds nothing in the human records")
        if self.method == "knn":
            k = min(self.k, len(human) - 1)
            own = _nearest(human, human, k, apart=True)
            return _nearest(mine, human, k, apart=False), float(np.quantile(own, self.share))
        fold = np.random.default_rng([seed, 0x0A7]).permutation(len(human)) % min(self.folds, len(human))
        own = np.empty(len(human))
        for one in np.unique(fold):
            own[fold == one] = _mahalanobis(human[fold == one], human[fold != one])
        return _mahalanobis(mine, human), float(np.quantile(own, self.share))


def _nearest(rows: Rows, others: Rows, k: int, *, apart: bool, block: int = 1024) -> Floats:
    """float64 [n]: the Euclidean distance of each row to its k-th nearest; apart: not counting itself."""
    found = np.empty(len(rows))
    lengths = np.einsum("nd,nd->n", others, others, dtype=np.float64)
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        own = np.einsum("nd,nd->n", part, part, dtype=np.float64)
        squares = own[:, None] + lengths - 2.0 * (part @ others.T).astype(np.float64)
        if apart:
            squares[np.arange(len(part)), np.arange(start, start + len(part))] = np.inf
        nearest = np.partition(squares, k - 1, axis=1)[:, k - 1]
        found[start : start + block] = np.sqrt(np.maximum(nearest, 0.0))
    return found


def _mahalanobis(rows: Rows, human: Rows) -> Floats:
    """float64 [n]: the Mahalanobis distance to the mean of human rows, with Ledoit and Wolf's covariance."""
    from sklearn.covariance import LedoitWolf

    fitted = LedoitWolf().fit(human.astype(np.float64))
    return np.asarray(np.sqrt(np.maximum(fitted.mahalanobis(rows.astype(np.float64)), 0.0)))


def _rows(labels: list[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        found.setdefault(str(label), []).append(row)
    return found
