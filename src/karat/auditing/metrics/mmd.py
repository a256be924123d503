"""The maximum mean discrepancy of two corpora as clouds of vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from karat.auditing import kernels
from karat.auditing.base import Masks, Metric, Need, Setting, Summary, Telling, Values, View, need
from karat.auditing.vectors import Vectors


@dataclass(frozen=True)
class Mmd(Metric):
    """The squared maximum mean discrepancy to human data, unbiased: 0 on average where both are one source.

    kernel: rbf (Gaussian, its bandwidth the median distance of the pool), linear, or polynomial, that
    of the kernel inception distance (KID)
    encoder: what turns texts into vectors; empty: the encoder of the audit
    limit: the most records of each side, the first by hash
    """

    kernel: Literal["rbf", "linear", "polynomial"] = "rbf"
    encoder: str = ""
    limit: int = 2_500

    family: ClassVar[str] = "embedding"
    misleads: ClassVar[str] = (
        "Its scale depends on kernel, bandwidth and encoder: read it beside its chance value only. It can be "
        "below 0, which is no error."
    )
    cost: ClassVar[str] = "O(n^2 d) of at most 2,500 records a side"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": (
            "Read the records it names: they stand where human data is thin. Add exemplars or attributes."
        )
    }
    size: ClassVar[View] = "lengths"
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "further from human data"
    source: ClassVar[str] = (
        "Gretton et al. 2012, A kernel two-sample test; Binkowski et al. 2018 (polynomial)"
    )

    def __post_init__(self) -> None:
        if self.limit < 2:
            raise ValueError(f"limit is {self.limit}, but must be 2 or more")

    def needs(self) -> tuple[Need, ...]:
        return (need("vectors", encoder=self.encoder, limit=self.limit),)

    def between(self, pool: Summary, ours: Masks, theirs: Masks) -> Values:
        return kernels.discrepancies(self._sums(pool), ours, theirs)

    def best(self, summary: Summary) -> float | None:
        return 0.0

    def used(self, summary: Summary) -> int:
        return len(summary[self.needs()[0]])

    def extra(self, summary: Summary) -> dict[str, Setting]:
        return {"encoder": summary[self.needs()[0]].encoder}

    def details(self, summary: Summary) -> dict[str, float]:
        vectors: Vectors = summary[self.needs()[0]]
        return {"bandwidth": kernels.median_distance(vectors.rows)} if self.kernel == "rbf" else {}

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        """The records where the candidate is densest beside the reference (the witness function)."""
        vectors: Vectors = summary[self.needs()[0]]
        found = self._sums(summary)
        half = summary.groups // 2
        mine, theirs = found.counts[:half].sum(), found.counts[half:].sum()
        if not mine or not theirs:
            return ()
        witness = found.sums[:, :half].sum(axis=1) / mine - found.sums[:, half:].sum(axis=1) / theirs
        own = np.flatnonzero(vectors.groups < half)
        order = own[np.argsort(-witness[own], kind="stable")[:limit]]
        return tuple(
            Telling(int(vectors.keys[i]), float(witness[i]), "its like are denser here than in human data")
            for i in order
            if witness[i] > 0
        )

    def _sums(self, pool: Summary) -> kernels.GroupSums:
        """All pairs of the pool, once for all the splits that are asked for."""
        vectors: Vectors = pool[self.needs()[0]]
        name = ("kernel", self.kernel)
        if name not in vectors.worked_out:
            vectors.worked_out[name] = kernels.group_sums(
                vectors.rows, vectors.groups, pool.groups, self._kernel(vectors)
            )
        found: kernels.GroupSums = vectors.worked_out[name]
        return found

    def _kernel(self, vectors: Vectors) -> kernels.Kernel:
        if self.kernel == "linear":
            return kernels.linear()
        if self.kernel == "polynomial":
            return kernels.polynomial(vectors.rows.shape[1])
        return kernels.gaussian(kernels.median_distance(vectors.rows))
