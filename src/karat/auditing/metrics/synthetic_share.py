"""The share of LLM text in a corpus of unknown origin, corrected for the errors of the detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat import records
from karat.auditing import prevalence, unlabelled
from karat.auditing.base import (
    Comparison,
    Context,
    Facts,
    Found,
    Metric,
    Need,
    Setting,
    Summary,
    Telling,
    View,
    need,
)
from karat.auditing.prevalence import Mixture
from karat.auditing.summaries import Sample
from karat.auditing.unlabelled import Scored
from karat.errors import NotEnoughData
from karat.texts.tokens import hash_strings

# The most records of each of the three corpora.
_BUDGETS = {"small": 1_000, "medium": 2_000, "large": 6_000}
_SHOWN = 8
_WEAK = 0.6
_BINS = 8


@dataclass(frozen=True)
class SyntheticShare(Metric):
    """The share of LLM-written records in the candidate, corrected for the errors of the detector.

    Three corpora: the candidate, of unknown origin; the reference, known to be human; and known LLM text of
    the same kind. A detector is trained on the known ones, five-fold, and says of every text how likely it is
    LLM text without having seen it. Those that it finds are not the share: the scores of held-out known texts
    say how it errs. The value is (mean of the candidate - mean of human) / (mean of LLM - mean of human), the
    probabilistic adjusted count; the interval has the errors of all three means in it, p tests a share of 0.
    synthetic: file of known LLM text of the same kind
    records: the most records of each corpus; 0: by budget (1000, 2000, 6000)
    folds: parts of the data, each scored by a model fitted on the others
    """

    synthetic: str = ""
    records: int = 0
    folds: int = 5

    family: ClassVar[str] = "difference"
    misleads: ClassVar[str] = (
        "It holds for LLM text like the known one and human text like the reference: another "
        "generator, topic or "
        "time shifts it. domain_shift is a warning that can be missed, not a proof that there is none."
    )
    cost: ClassVar[str] = "O(tokens + n^2) of at most 1,000 to 6,000 records of each corpus"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": (
            "Read the records it names and trace where they came from; to put the surest human ones first: "
            "karat curate --order human_likeness."
        )
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "more LLM text"
    source: ClassVar[str] = (
        "Bella et al. 2010, Quantification via probability estimators; Forman 2008; Rogan and Gladen 1978"
    )

    def __post_init__(self) -> None:
        for name, least in (("records", 0), ("folds", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be {least} or more")

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        if not self.synthetic:
            return "needs known LLM text of the same kind: synthetic_share:synthetic=FILE"
        return ""

    def needs(self) -> tuple[Need, ...]:
        return (need("sample", limit=self.records or max(_BUDGETS.values())),)

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        most = self.records or _BUDGETS[context.budget]
        unknown, human = (_first(one[self.needs()[0]], most) for one in (candidate, reference))
        texts, clusters, fingerprint = _known(self.synthetic, most, context.seed)
        keys = np.concatenate([human.clusters, clusters, unknown.clusters]).tolist()
        try:
            found = unlabelled.score(
                human.texts, texts, unknown.texts, clusters=keys, folds=self.folds, seed=context.seed
            )
        except NotEnoughData as few:
            return Comparison(float("nan"), n=len(unknown), note=str(few))
        human_groups, known_groups, groups = found.groups
        mixed = prevalence.mixture_share(
            found.unknown, found.human, found.known, clusters=(groups, human_groups, known_groups)
        )
        extra: dict[str, Setting] = {
            "human": len(human),
            "known": len(texts),
            "known_ref": fingerprint[:8],
        }
        return Comparison(
            value=mixed.share.value,
            interval=mixed.share.interval,
            p=mixed.p,
            chance=0.0,
            best=0.0,
            n=len(unknown),
            note=_note(mixed, found),
            details=_details(mixed, found),
            extra=extra,
            warnings=_warnings(mixed, found),
            telling=_surest(found, unknown) if mixed.p < 0.05 else (),
        )


def _first(sample: Sample, most: int) -> Sample:
    """The first records by hash."""
    return sample.take(np.argsort(sample.keys, kind="stable")[:most])


def _known(path: str, most: int, seed: int) -> tuple[list[str], NDArray[np.uint64], str]:
    """Known LLM texts, at most `most` drawn by seed, the hash of what each was made from, the fingerprint."""
    data = records.read(path)
    fingerprint = data.fingerprint
    rows = np.sort(np.random.default_rng(seed).permutation(len(data))[:most])
    data = data.take(rows.tolist())
    made_from = [one[0] if one else own for one, own in zip(data.lineage("parents"), data.ids, strict=True)]
    return list(data.texts()), hash_strings(pa.array(made_from, pa.large_string())), fingerprint


def _details(mixed: Mixture, found: Scored) -> dict[str, float]:
    """Further figures: how good the detector is, and the share by two other estimators."""
    flagged = [int((one > 0.5).sum()) for one in (found.unknown, found.known, found.human)]
    sizes = [len(found.unknown), len(found.known), len(found.human)]
    counted = prevalence.rogan_gladen(
        flagged[0],
        sizes[0],
        sensitivity=(flagged[1], sizes[1]),
        specificity=(sizes[2] - flagged[2], sizes[2]),
    )
    return {
        "auc": found.auc,
        "error": mixed.error,
        "counted": counted.apparent,
        "sensitivity": flagged[1] / sizes[1],
        "false_positive_rate": flagged[2] / sizes[2],
        "adjusted_count": counted.value,
        "maximum_likelihood": prevalence.likeliest_prior(
            found.unknown, prior=sizes[1] / (sizes[1] + sizes[2])
        ),
        "fit_p": prevalence.mixture_fit(
            found.unknown, found.human, found.known, mixed.share.value, bins=_BINS
        ),
    }


def _note(mixed: Mixture, found: Scored) -> str:
    counted = float((found.unknown > 0.5).mean())
    return f"the detector (AUC {found.auc:.2f}) finds {counted:.1%}; corrected for its errors"


def _warnings(mixed: Mixture, found: Scored) -> tuple[Found, ...]:
    warnings = []
    if found.auc < _WEAK:
        message = (
            f"the detector hardly tells the known LLM text from the human text (AUC {found.auc:.2f}), so the "
            "share is open within its interval; give more known text, or text of the generator you suspect"
        )
        warnings.append(Found("weak_detector", message))
    else:
        fit = prevalence.mixture_fit(found.unknown, found.human, found.known, mixed.share.value, bins=_BINS)
        if fit < 0.01:
            message = (
                "the candidate's scores are no mixture of those of the human and the known LLM text "
                f"(p = {fit:.1g}): it is of another kind, so the share is not to be trusted; "
                "bring human and LLM text of the candidate's own domain"
            )
            warnings.append(Found("domain_shift", message))
    return tuple(warnings)


def _surest(found: Scored, unknown: Sample) -> tuple[Telling, ...]:
    order = np.argsort(-found.unknown, kind="stable")[:_SHOWN]
    return tuple(
        Telling(
            int(unknown.keys[i]),
            float(found.unknown[i]),
            f"to a detector that has not seen it, it is LLM text with probability {found.unknown[i]:.1%}",
        )
        for i in order
    )
