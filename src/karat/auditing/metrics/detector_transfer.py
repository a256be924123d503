"""What a detector of LLM text is worth on domains it was not trained on, beside what it shows at home."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import orjson
from numpy.typing import NDArray

from karat.auditing import detector, domains
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
from karat.auditing.columns import Columns
from karat.auditing.domains import Transfer
from karat.auditing.summaries import Sample
from karat.errors import BadSetting, NotEnoughData

# The most records of each side, and permutations that are refitted.
_BUDGETS = {"small": (600, 50), "medium": (1_200, 50), "large": (3_000, 20)}
_SHOWN = 8
_FRAGILE = 0.05


@dataclass(frozen=True)
class DetectorTransfer(Metric):
    """The AUC of a detector on domains it was not trained on, mean over domains; 0.5 is no detector at all.

    Each domain is left out once. The same texts are also scored by models that saw other texts of their
    domain: that is the figure usually printed, and here it only ever stands beside the first one. Documents
    stay whole: copies, rows made from one record and rows of one group are never split. Areas are within a
    domain.
    by: the field that names the domain: a field, lineage.generator or an attribute; empty: the label
    group: the field that names the document a record was made from; empty: the first parent
    records: the most records of each side; 0: by budget (600, 1200, 3000)
    trials: permutations that are refitted; 0: by budget (50, 50, 20)
    folds: parts of the data for the figure at home
    """

    by: str = ""
    group: str = ""
    records: int = 0
    trials: int = 0
    folds: int = 5

    family: ClassVar[str] = "difference"
    misleads: ClassVar[str] = (
        "Domains of one data set are nearer to each other than the next user's text will be, so it "
        "is still an "
        "upper bound of what the detector is worth elsewhere."
    )
    cost: ClassVar[str] = "O(tokens + n^2) of at most 600 to 3,000 records a side, a fit for each domain"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": (
            "LLM text is told apart beyond its topic: read the telling features of two_sample_auc, "
            "clean what is "
            "formatting, and order by likeness: karat curate --order human_likeness."
        )
    }
    size: ClassVar[View] = "lengths"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    needs_reference: ClassVar[bool] = True
    by_label: ClassVar[bool] = False
    higher: ClassVar[str] = "easier to tell from human text in any domain"
    source: ClassVar[str] = (
        "leave-one-domain-out, as in Koh et al. 2021 (WILDS); Lopez-Paz and Oquab 2017; DeLong et al. 1988"
    )

    def __post_init__(self) -> None:
        for name, least in (("records", 0), ("folds", 2), ("trials", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be {least} or more")
        if self.trials == 1:
            raise ValueError("trials is 1, but an error needs 2 or more (0: by budget)")

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        sides = [candidate] + ([reference] if reference else [])
        for name in (self.by or "label", self.group):
            # what is no field may be an attribute of the lineage, which is seen only when records are read
            if name == "label" and any(name not in side.fields for side in sides):
                return "needs a domain on both sides: detector_transfer:by=FIELD"
        return ""

    def needs(self) -> tuple[Need, ...]:
        most = self.records or max(most for most, _ in _BUDGETS.values())
        fields = [name for name in (self.by or "label", self.group, "lineage.attributes") if name]
        return (
            need("sample", limit=4 * most),
            need("columns", fields=" ".join(dict.fromkeys(fields))),
        )

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        most, trials = _BUDGETS[context.budget]
        most, trials = self.records or most, self.trials or trials
        sides = [self._side(one) for one in (reference, candidate)]
        human, synthetic = _balanced(sides, most)
        if not len(human[0]):
            name = self.by or "label"
            return Comparison(float("nan"), chance=0.5, n=0, note=f"no value of {name} is on both sides")
        try:
            found = domains.transfer(
                human[0].texts,
                synthetic[0].texts,
                [*human[1], *synthetic[1]],
                clusters=[*human[2], *synthetic[2]],
                trials=trials,
                folds=self.folds,
                seed=context.seed,
            )
        except NotEnoughData as few:
            return Comparison(float("nan"), chance=0.5, n=len(human[0]), note=str(few))
        if found is None:
            said = f"fewer than two domains have {domains.LEAST} records of each side"
            return Comparison(float("nan"), chance=0.5, n=len(human[0]), note=said)
        extra: dict[str, Setting] = {
            "sample": len(human[0]),
            "domains": len(found.domains),
            "model": detector.MODEL,
            "features": detector.FEATURES,
            "trials": trials,
        }
        return Comparison(
            value=found.unseen.value,
            interval=found.unseen.interval,
            p=found.unseen.p,
            chance=found.unseen.null,
            best=0.5,
            n=len(human[0]),
            note=_note(found),
            details=_details(found),
            extra=extra,
            by=_by(found),
            warnings=_warnings(found),
            telling=_surest(found, synthetic[0]) if found.unseen.p < 0.05 else (),
        )

    def _side(self, summary: Summary) -> tuple[Sample, NDArray[Any], list[Any]]:
        """The sample in hash order, the domain of each record (None for none), and what it belongs to."""
        wanted, fields = self.needs()
        sample: Sample = summary[wanted]
        columns: Columns = summary[fields]
        sample = sample.take(np.argsort(sample.keys, kind="stable"))
        order = np.argsort(columns.keys, kind="stable")
        rows = order[np.searchsorted(columns.keys[order], sample.keys)]
        domain = _values(columns, self.by or "label")[rows]
        if self.by and len(sample) and all(name is None for name in domain):
            raise BadSetting(
                f"detector_transfer: no record has a field or attribute {self.by!r}; name the domain with "
                "by=FIELD"
            )
        if not self.group:
            return sample, domain, [int(one) for one in sample.clusters]
        groups = _values(columns, self.group)[rows]
        own = [name if name is not None else ("", i) for i, name in zip(sample.ids, groups)]
        return sample, domain, own


def _values(columns: Columns, name: str) -> NDArray[Any]:
    """object [n]: a field as text, or where there is none of that name, the attribute; None for none."""
    if columns.has(name):
        found = columns[name]
    else:
        found = np.full(len(columns), None, dtype=object)
        for row, one in enumerate(columns["lineage.attributes"]):
            if one:
                found[row] = orjson.loads(one).get(name)
    return np.array([None if one is None else str(one) for one in found], dtype=object)


def _balanced(
    sides: list[tuple[Sample, NDArray[Any], list[Any]]], most: int
) -> list[tuple[Sample, list[str], list[Any]]]:
    """Of each domain as many records of one side as of the other, the first by hash, `most` in all."""
    tables = [_places(domain) for _, domain, _ in sides]
    counts = {name: min(len(table.get(name, ())) for table in tables) for name in sorted(tables[0])}
    scale = min(1.0, most / max(1, sum(counts.values())))
    found = []
    for (sample, domain, groups), table in zip(sides, tables, strict=True):
        parts = [table[name][: int(n * scale)] for name, n in counts.items() if n]
        chosen = np.array([row for part in parts for row in part], dtype=np.int64)
        found.append((sample.take(chosen), [str(domain[i]) for i in chosen], [groups[i] for i in chosen]))
    return found


def _places(domain: NDArray[Any]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for row, name in enumerate(domain):
        if name is not None:
            places.setdefault(str(name), []).append(row)
    return places


def _note(found: Transfer) -> str:
    seen, unseen = found.seen, found.unseen
    return (
        f"AUC {unseen.value:.3f} [{unseen.interval[0]:.3f}, {unseen.interval[1]:.3f}] on unseen domains; "
        f"{seen.value:.3f} [{seen.interval[0]:.3f}, {seen.interval[1]:.3f}] on the same texts where their "
        "domain was trained on"
    )


def _details(found: Transfer) -> dict[str, float]:
    details = {"error": found.unseen.error}
    for name, one in (("in_domain", found.seen), ("loss", found.loss)):
        details |= {name: one.value, f"{name}_low": one.interval[0], f"{name}_high": one.interval[1]}
    worst = min(found.domains, key=lambda one: one.unseen.value)
    return details | {"worst_domain": worst.unseen.value}


def _by(found: Transfer) -> dict[str, tuple[float, tuple[float, float] | None, int]]:
    by: dict[str, tuple[float, tuple[float, float] | None, int]] = {}
    for one in found.domains:
        by[one.name] = (one.unseen.value, one.unseen.interval, one.texts // 2)
        by[f"{one.name} (in domain)"] = (one.seen.value, one.seen.interval, one.texts // 2)
    return by


def _warnings(found: Transfer) -> tuple[Found, ...]:
    if found.loss.interval[1] >= 0 or -found.loss.value < _FRAGILE:
        return ()
    worst = min(found.domains, key=lambda one: one.unseen.value)
    message = (
        f"a detector trained here loses {-found.loss.value:.3f} of its AUC on domains it has not seen "
        f"(worst: {worst.name}, {worst.unseen.value:.2f} after {worst.seen.value:.2f}); do not use its "
        "in-domain AUC or its threshold for other text"
    )
    return (Found("domain_shift", message),)


def _surest(found: Transfer, synthetic: Sample) -> tuple[Telling, ...]:
    scores = found.scores[len(found.scores) - len(synthetic) :]
    order = np.argsort(np.where(np.isfinite(scores), scores, np.inf), kind="stable")[:_SHOWN]
    reason = "a detector trained on other domains only finds it the least human"
    return tuple(Telling(int(synthetic.keys[i]), float(-scores[i]), reason) for i in order)
