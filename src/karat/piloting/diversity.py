"""How varied the rows of each arm are, and how far from human ones, by the audit. Knows no metric by name.

All arms are held against the one that wrote least, so that each figure is at the size of that one. Arms do
not share a row, so the figures of two arms are independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from karat import registry
from karat.auditing import statistics
from karat.auditing.result import Score
from karat.auditing.stage import audit
from karat.auditing.statistics import Estimate
from karat.errors import KaratError
from karat.records import Records

DISTANCE = "two_sample_auc"
# What metrics say a higher value means, and whether that is more diverse.
_MORE = {"more varied": 1, "more repeated": -1, "more alike": -1}


@dataclass(frozen=True)
class Measure:
    """One metric of one arm with its interval; None where it has no value. df: of the error."""

    name: str
    value: float | None
    interval: tuple[float, float] | None
    error: float | None = None
    df: float = 0.0
    signature: str = ""


@dataclass(frozen=True)
class Varied:
    """Measures by arm, what a higher value means by metric, and why metrics were left out."""

    arms: dict[str, tuple[Measure, ...]]
    higher: dict[str, str]
    notes: tuple[str, ...] = ()


def sign_of(higher: str) -> int:
    """1 where more is more diverse, -1 where it is less, 0 where the metric does not say."""
    return _MORE.get(higher, 0)


def measure(
    arms: dict[str, Records],
    metrics: Sequence[Any],
    *,
    human: Records | None = None,
    seed: int = 0,
    executor: Any = None,
    progress: Any = None,
) -> Varied:
    """Audit every arm at the size of the smallest; human records stand beside them under the name human."""
    able = {name: rows for name, rows in arms.items() if len(rows) >= 10}
    if not metrics or not able:
        return Varied(dict.fromkeys(arms, ()), {})
    size = min(len(rows) for rows in able.values())
    sides = {name: rows.take(range(size)) for name, rows in able.items()}
    if human is not None and len(human) >= size:
        sides["human"] = human.sample(size, seed=seed)
    base = min(able, key=lambda name: sum(len(text.split()) for text in sides[name].texts()))
    parts = registry.make_all("metrics", metrics)
    found: dict[str, tuple[Measure, ...]] = dict.fromkeys(arms, ())
    higher: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    for done, (name, rows) in enumerate(sides.items()):
        if progress:
            progress("audit", done, len(sides))
        against = None if name == base else sides[base]
        try:
            # The small budget halves the work for `chance`, which no comparison of arms needs.
            told = audit(rows, against, metrics=parts, seed=seed, budget="small", executor=executor)
        except KaratError as error:
            notes = (*notes, f"{name} could not be audited: {error}")
            continue
        found[name] = tuple(_measure(score, told.groups) for score in told.scores)
        higher.update({score.name: score.higher for score in told.scores})
    return Varied(found, higher, notes)


def distance(rows: Records, human: Records, *, seed: int = 0, executor: Any = None) -> Measure | None:
    """How well arms can be told from human records (AUC); None where there are too few of either."""
    try:
        told = audit(rows, human, metrics=[DISTANCE], seed=seed, budget="small", executor=executor)
    except KaratError:
        return None
    return _measure(told.score(DISTANCE), told.groups)


def _measure(score: Score, groups: int) -> Measure:
    error, df = None, float(max(groups - 1, 1))
    if score.interval is not None and score.value is not None:
        # An interval that was cut at the end of its range is whole on the other side.
        reach = max(score.interval[1] - score.value, score.value - score.interval[0])
        error = float(reach / statistics.t_quantile(0.975, df))
    return Measure(score.name, score.value, score.interval, error, df, score.signature)


def estimate(found: Measure) -> Estimate | None:
    """The measure as a number with an error; None where it has none."""
    if found.value is None or found.error is None or not np.isfinite(found.error):
        return None
    return Estimate(found.value, found.error, found.df)


def turned(found: Estimate, sign: int) -> Estimate:
    """The same where more is better."""
    return replace(found, value=sign * found.value)
