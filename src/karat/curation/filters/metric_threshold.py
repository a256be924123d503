"""Drops records whose number lies outside bounds: any field, any ordering. Knows no score by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from karat.curation.base import Verdicts
from karat.curation.values import values_of
from karat.errors import BadSetting, NotEnoughData
from karat.records import Records


@dataclass(frozen=True)
class MetricThreshold:
    """Keeps records whose number lies within bounds.

    by: a numeric field, or an ordering such as human_likeness, whose scores are used. min, max: the bounds.
    low, high: quantiles of the numbers as bounds: low=0.1 drops the lowest tenth (0 and 1: none); with min or
    max the tighter bound holds. missing: what becomes of a record without a number (null, nan): drop, keep,
    or refuse, which is an error.
    """

    by: str = "order_score"
    min: float | None = None
    max: float | None = None
    low: float = 0.0
    high: float = 1.0
    missing: Literal["drop", "keep", "refuse"] = "drop"

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low={self.low} and high={self.high} must be shares with 0 <= low < high <= 1")
        for name in ("min", "max"):
            value = getattr(self, name)
            if value is not None and np.isnan(value):
                raise ValueError(f"{name} is nan, which no number reaches; leave it out for no bound")
        if self.min is not None and self.max is not None and self.max < self.min:
            raise ValueError(f"max={self.max} is below min={self.min}; raise max or lower min")

    def judge(
        self,
        records: Records,
        reference: Records | None = None,
        *,
        cache: Path | None = None,
        ask: Any = None,
        seed: int = 0,
    ) -> Verdicts:
        """Judge each record; the reason names its number and the bound."""
        where = "filter 'metric_threshold'"
        if self.min is None and self.max is None and self.low == 0 and self.high == 1:
            raise BadSetting(f"{where} has no bound; give min, max, low or high, for example low=0.1")
        values, note = values_of(records, self.by, where, reference, cache=cache, ask=ask, seed=seed)
        known = np.isfinite(values)
        lacking = np.isnan(values)
        if not known.any():
            raise NotEnoughData(f"{where}: none of {len(values):,} records has a number in {self.by!r}")
        if lacking.any() and self.missing == "refuse":
            first = records.ids[int(np.flatnonzero(lacking)[0])]
            raise BadSetting(
                f"{where}: {int(lacking.sum()):,} records have no number in {self.by!r}, first {first!r}; "
                "give missing=drop or missing=keep"
            )
        least, lower, most, upper = self._bounds(values[~lacking])
        reasons: dict[int, str] = {}
        for row in np.flatnonzero(~((values >= least) & (values <= most))).tolist():
            if lacking[row]:
                if self.missing == "drop":
                    reasons[row] = f"{self.by} has no number, missing=drop"
            elif values[row] < least:
                reasons[row] = f"{self.by} {values[row]:.4g}, under {lower}"
            else:
                reasons[row] = f"{self.by} {values[row]:.4g}, over {upper}"
        kept = np.ones(len(records), np.bool_)
        kept[list(reasons)] = False
        without = f"{int(lacking.sum()):,} without a number ({self.missing})" if lacking.any() else ""
        return Verdicts(kept, reasons, "; ".join(filter(None, (without, note))))

    def _bounds(self, values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, str, float, str]:
        least, lower = (-np.inf, "") if self.min is None else (self.min, f"min={self.min:g}")
        most, upper = (np.inf, "") if self.max is None else (self.max, f"max={self.max:g}")
        # The nearest numbers that occur: between two equal ones interpolation could drop both.
        if self.low > 0 and (bottom := float(np.quantile(values, self.low, method="higher"))) > least:
            least, lower = bottom, f"{bottom:.4g}, the {self.low:g} quantile"
        if self.high < 1 and (top := float(np.quantile(values, self.high, method="lower"))) < most:
            most, upper = top, f"{top:.4g}, the {self.high:g} quantile"
        return least, lower, most, upper
