"""Orders synthetic records by how human a cross-fitted detector takes them to be. Knows no label.

Each record is scored by a detector that was trained without it (and without its copies), on human records
of the reference. When the detector tells the sides apart nearly always, all scores lie at one end and the
order says little about quality; when it cannot tell them apart, the order is noise. Both are said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from karat.auditing import statistics
from karat.auditing.detector import CrossFit, cross_fit_scores
from karat.curation import curvature, detection
from karat.curation.base import Ordered
from karat.curation.embedding import embed
from karat.errors import BadSetting
from karat.records import Records

SEPARATED = 0.99
"""AUC above which next to no synthetic record is ever taken for human"""


@dataclass(frozen=True)
class HumanLikeness:
    """The most human-like first, by a detector that was trained without the record (needs a reference).

    Detectors are known to take human texts by learners of a language for synthetic (Liang et al. 2023: 61 %
    of essays); name a field of the reference with `by` to see that rate for each group of people.
    folds: how many parts the detector is cross-fitted over. group: a field whose equal values must not be
    split between training and scoring the detector, for example a prompt id.
    method: ngrams (words and characters), encoder (vectors of `encoder`), or curvature (Fast-DetectGPT under
    the local causal model in the folder `lm`; samples=0 takes its closed form, else so many draws a token).
    by: a field of the reference that names groups of people.
    """

    folds: int = 5
    group: str = ""
    method: Literal["ngrams", "encoder", "curvature"] = "ngrams"
    encoder: str = "minilm"
    lm: str = ""
    samples: int = 0
    by: str = ""

    about: ClassVar[str] = "origin"

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ValueError(f"folds is {self.folds}, but a record must be left out: 2 at least, 5 is usual")
        if self.method == "curvature" and not self.lm:
            raise ValueError("method is curvature, but no causal model is named; give its folder: lm=FOLDER")
        if self.samples < 0 or self.samples == 1:
            raise ValueError(f"samples is {self.samples}; give 0 for the closed form, or 2 and more")

    def order(
        self,
        records: Records,
        reference: Records | None = None,
        *,
        seed: int = 0,
        cache: Path | None = None,
    ) -> Ordered:
        """Score each record by P(human) from a detector that never saw it."""
        if reference is None:
            raise BadSetting("ordering 'human_likeness' compares with human records; give --reference HUMAN")
        groups = None
        if self.group:
            groups = [*reference.column(self.group), *records.column(self.group)]
        people = reference.column(self.by) if self.by and reference.has(self.by) else None
        if self.by and people is None:
            reference.column(self.by)  # raises, naming the fields there are
        found = self._scores(reference.texts(), records.texts(), groups, seed, cache)
        known = np.isfinite(found.human)
        human, synthetic = found.human[known], found.synthetic[np.isfinite(found.synthetic)]
        wrong = detection.accused(human, synthetic)
        warnings: tuple[tuple[str, str], ...] = ()
        more: dict[str, float] = {}
        if people is not None:
            named = [people[i] for i in np.flatnonzero(known).tolist()]
            rates = detection.false_positives(wrong, named, self.by)
            warnings, more = rates.warning(), rates.figures
        ranking = statistics.auc(human, synthetic)
        low, high = ranking.interval or (float("nan"), float("nan"))
        shared, error = detection.overlap(human, synthetic), detection.calibration_error(human, synthetic)
        figures = {"auc": ranking.auc, "auc_low": low, "auc_high": high, "overlap": shared, "ece": error}
        figures |= {"fpr": float(wrong.mean()), **more}
        wronged = f"{wrong.mean():.1%} of human texts taken for synthetic"
        if not self.by:
            wronged += "; of some people it may be far more, name a field of groups to see: by=FIELD"
        note, informative = _told(ranking.auc, low, high, shared, error, wronged)
        return Ordered(found.synthetic, note, informative, figures, warnings)

    def _scores(
        self,
        human: Sequence[str],
        synthetic: Sequence[str],
        groups: Sequence[Any] | None,
        seed: int,
        cache: Path | None,
    ) -> CrossFit:
        if self.method == "ngrams":
            return cross_fit_scores(human, synthetic, groups=groups, folds=self.folds, seed=seed)
        texts = [*human, *synthetic]
        if self.method == "encoder":
            rows = embed(texts, self.encoder.replace(";", ","), cache=cache, seed=seed).astype(np.float64)
            return detection.from_vectors(texts, rows, len(human), groups=groups, folds=self.folds, seed=seed)
        tokenizer, model = curvature.load(self.lm)
        scores = -curvature.discrepancies(texts, tokenizer, model, samples=self.samples, seed=seed)
        return detection.from_scores(texts, scores, len(human), groups=groups, folds=self.folds, seed=seed)


def _told(
    auc: float, low: float, high: float, overlap: float, error: float, wronged: str
) -> tuple[str, bool]:
    figure = (
        f"AUC {auc:.3f} [{low:.3f}, {high:.3f}] (chance 0.5), score overlap {overlap:.1%}, calibration error "
        f"{error:.3f}, {wronged}"
    )
    if not low > 0.5:
        return f"the order carries no information: human and synthetic are not told apart ({figure})", False
    if auc > SEPARATED:
        return (
            "the order carries little information: next to no synthetic record is taken for human, "
            f"so that it ranks artefacts, not quality ({figure})",
            False,
        )
    return f"the detector tells human from synthetic in part ({figure})", True
