"""Whether classes lose most where machine texts differ most: F1 lost, regressed on attribute differences."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing import attributes
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Facts, Found, Metric, Need, Summary, View
from karat.auditing.scorers.base import Scorer
from karat.errors import InputError
from karat.formats import read_rows

Floats = NDArray[np.float64]
ENOUGH = 10
"""Classes below which a line through them says next to nothing; the paper drew eight."""


@dataclass(frozen=True)
class AttributeDeficit(Metric):
    """The slope of F1 lost by training on machine texts over attribute differences, one point a class.

    F1 lost is human_f1 - synthetic_f1 of a class, both tested on human texts; the difference is the mean
    score of the class's machine texts minus that of its human ones. A slope of 0 is no relation.
    deficits: a JSON or JSONL file with `label`, `human_f1` and `synthetic_f1` of each class
    attribute: one attribute
    scorer: who scores: field, text_classification, trained, lineage
    model: a classifier, for the scorer text_classification
    on: a file of records whose value is known, for the scorer trained
    value: of an attribute with several values, the one that is looked at; empty: the first
    records: the most records a classifier reads of each side; 0: by budget (1000, 4000, 20000)
    """

    deficits: str = ""
    attribute: str = ""
    scorer: str = "field"
    model: str = ""
    on: str = ""
    value: str = ""
    records: int = 0

    family: ClassVar[str] = "attribute"
    misleads: ClassVar[str] = (
        "A handful of classes makes a line of anything, and what differs between classes (their size, their "
        "difficulty) may move both axes: a slope is no cause."
    )
    cost: ClassVar[str] = "that of attribute_difference; the F1 are trained elsewhere"
    size: ClassVar[View] = "all"
    by_label: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "more F1 lost where machine texts have more of the attribute"
    source: ClassVar[str] = "Das et al. 2024, Under the Surface, figure 8 (eight points, no test)"

    def _scorer(self) -> Scorer:
        return attributes.scorer_of(self.scorer, attribute=self.attribute, on=self.on, model=self.model)

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        if not self.deficits:
            return "needs the F1 of each class: deficits=FILE with label, human_f1 and synthetic_f1"
        for side, facts in (("candidate", candidate), ("reference", reference)):
            if facts is not None and "label" not in facts.fields:
                return f"needs labels in the {side}"
        return attributes.lacking(self._scorer(), candidate, reference)

    def needs(self) -> tuple[Need, ...]:
        return attributes.needed(self._scorer(), self.records)

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        lost = read_deficits(self.deficits)
        sides = attributes.material(
            [candidate, reference], self.needs(), records=self.records, budget=context.budget
        )
        scores = attributes.scored(self._scorer(), sides, context)
        if self.value and self.value not in scores.names:
            known = ", ".join(scores.names)
            raise InputError(
                f"attribute_deficit: no value {self.value!r} of {self.attribute!r} (there are: {known})"
            )
        column = scores.names.index(self.value) if self.value else 0
        means = [
            _class_means(rows[:, column], side.labels) for rows, side in zip(scores.rows, sides, strict=True)
        ]
        labels = [name for name in lost if name in means[0] and name in means[1]]
        if len(labels) < 3:
            found = ", ".join(sorted(means[0])[:5])
            raise InputError(
                f"{self.deficits}: {len(labels)} of its labels stand in both corpora, but a line needs 3 "
                f"(labels of the candidate: {found})"
            )
        x = np.array([means[0][name] - means[1][name] for name in labels])
        y = np.array([lost[name] for name in labels])
        line = fit_line(x, y)
        shown = scores.names[column]
        return Comparison(
            value=line.slope,
            interval=line.interval,
            p=line.p,
            chance=0.0,
            best=0.0,
            n=len(labels),
            note=(
                f"{len(labels)} classes, r = {line.r:+.2f}: a class with .1 more {shown} loses "
                f"{0.1 * line.slope:+.3f} F1"
            ),
            details={
                "intercept": line.intercept,
                "r": line.r,
                "r_squared": line.r**2,
                "error": line.error,
                **{f"difference.{name}": float(v) for name, v in zip(labels, x, strict=True)},
                **{f"deficit.{name}": float(v) for name, v in zip(labels, y, strict=True)},
            },
            by={name: (float(v), None, 1) for name, v in zip(labels, y, strict=True)},
            extra={"scorer": scores.id, "classes": len(labels), "attribute_value": shown},
            warnings=_few(len(labels)),
        )


@dataclass(frozen=True)
class Line:
    """A least-squares line with the interval and p of its slope (Student's t with n - 2)."""

    slope: float
    intercept: float
    error: float
    interval: tuple[float, float] | None
    p: float | None
    r: float


def fit_line(x: Floats, y: Floats) -> Line:
    """The least-squares line through points; no interval below 3 of them, nan where x does not vary."""
    n = len(x)
    dx, dy = x - x.mean(), y - y.mean()
    spread = float((dx**2).sum())
    if spread <= 1e-18:
        nan = float("nan")
        return Line(nan, nan, nan, None, None, nan)
    slope = float((dx * dy).sum() / spread)
    intercept = float(y.mean() - slope * x.mean())
    rest = dy - slope * dx
    total = float((dy**2).sum())
    r = float((dx * dy).sum() / np.sqrt(spread * total)) if total > 0 else 0.0
    if n < 3:
        return Line(slope, intercept, float("nan"), None, None, r)
    error = float(np.sqrt((rest**2).sum() / (n - 2) / spread))
    reach = stats.t_quantile(0.975, n - 2) * error
    p = stats.t_p(slope / error, n - 2) if error > 0 else None
    return Line(slope, intercept, error, (slope - reach, slope + reach), p, r)


def read_deficits(path: str) -> dict[str, float]:
    """Label -> F1 lost, from a JSON list, a JSON object label -> figures, or JSONL. Raises InputError."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; deficits are label, human_f1 and synthetic_f1 of each class")
    try:
        if path.endswith(".json"):
            given = json.loads(Path(path).read_text("utf-8"))
            rows = [{"label": k, **v} for k, v in given.items()] if isinstance(given, dict) else list(given)
        else:
            rows = [row for _, row in read_rows(path)]
        return {str(row["label"]): float(row["human_f1"]) - float(row["synthetic_f1"]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: each row needs label, human_f1 and synthetic_f1 ({error}); mend the file"
        ) from None


def _class_means(values: Floats, labels: NDArray[np.object_]) -> dict[str, float]:
    known = np.isfinite(values)
    names = labels.astype(str)
    return {str(name): float(values[known & (names == name)].mean()) for name in np.unique(names[known])}


def _few(classes: int) -> tuple[Found, ...]:
    if classes >= ENOUGH:
        return ()
    message = (
        f"attribute_deficit has {classes} classes, one point each: a line through so few shows next to "
        f"nothing; take its interval at its word, and bring {ENOUGH} classes or more"
    )
    return (Found("too_few_records", message),)
