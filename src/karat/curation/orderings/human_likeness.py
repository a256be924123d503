"""Orders synthetic records by how human a cross-fitted detector takes them to be. Knows no label.

Each record is scored by a detector that was trained without it (and without its copies), on human records
of the reference. When the detector tells the sides apart nearly always, all scores lie at one end and the
order says little about quality; when it cannot tell them apart, the order is noise. Both are said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.curation.base import Ordered
from karat.errors import BadSetting
from karat.records import Records

Floats = NDArray[np.float64]

SEPARATED = 0.99
"""AUC above which next to no synthetic record is ever taken for human"""


@dataclass(frozen=True)
class HumanLikeness:
    """The most human-like first, by a detector that was trained without the record (needs a reference).

    folds: how many parts the detector is cross-fitted over. group: a field whose equal values must not be
    split between training and scoring the detector, for example a prompt id.
    """

    folds: int = 5
    group: str = ""

    about: ClassVar[str] = "origin"

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ValueError(f"folds is {self.folds}, but a record must be left out: 2 at least, 5 is usual")

    def order(self, records: Records, reference: Records | None = None, *, seed: int = 0) -> Ordered:
        """Score each record by P(human) from a detector that never saw it."""
        from karat.auditing import statistics
        from karat.auditing.detector import cross_fit_scores

        if reference is None:
            raise BadSetting("ordering 'human_likeness' compares with human records; give --reference HUMAN")
        groups = None
        if self.group:
            groups = [*reference.column(self.group), *records.column(self.group)]
        found = cross_fit_scores(
            reference.texts(), records.texts(), groups=groups, folds=self.folds, seed=seed
        )
        ranking = statistics.auc(found.human, found.synthetic)
        overlap = _overlap(found.human, found.synthetic)
        low, high = ranking.interval or (float("nan"), float("nan"))
        figures = {"auc": ranking.auc, "auc_low": low, "auc_high": high, "overlap": overlap}
        figure = f"AUC {ranking.auc:.3f} [{low:.3f}, {high:.3f}] (chance 0.5), score overlap {overlap:.1%}"
        if not low > 0.5:
            note = f"the order carries no information: human and synthetic are not told apart ({figure})"
            return Ordered(found.synthetic, note, False, figures)
        if ranking.auc > SEPARATED:
            note = (
                "the order carries little information: next to no synthetic record is taken for human, "
                f"so that it ranks artefacts, not quality ({figure})"
            )
            return Ordered(found.synthetic, note, False, figures)
        note = f"the detector tells human from synthetic in part ({figure})"
        return Ordered(found.synthetic, note, True, figures)


def _overlap(human: Floats, synthetic: Floats, bins: int = 20) -> float:
    """Return the shared area of two histograms of scores: 1 for equal ones, 0 for separate ones."""
    edges = np.linspace(0, 1, bins + 1)
    one = np.histogram(human, edges)[0] / len(human)
    other = np.histogram(synthetic, edges)[0] / len(synthetic)
    return float(np.minimum(one, other).sum())
