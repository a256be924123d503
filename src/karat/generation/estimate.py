"""What a plan will cost: bounds from prices, likely figures from a sample. Knows no part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from karat.generation.base import most
from karat.generation.generated import Estimate
from karat.generation.plan import PlanRow
from karat.generation.scenes import wanted_schema
from karat.generation.tasks import Task


def estimate(
    rows: Sequence[PlanRow],
    provider: Any,
    task: Task,
    recipe: Any,
    *,
    planned: int = 0,
    sample: Sequence[tuple[float, float]] = (),
) -> Estimate:
    """Price a plan: prompts by what the provider says, answers at half of the longest or as in a sample.

    planned: how many rows there will be, where only the first round is planned yet. sample: tokens and
    dollars of rows that were made; the likely cost is then their mean, with a 95 % interval (Student's t).
    """
    calls = getattr(recipe, "calls", lambda slot: 1)
    form = wanted_schema(task)
    tokens = usd = likely_tokens = likely_usd = sent = 0.0
    for i, row in enumerate(rows):
        price, times = most(provider, row.request(i, schema=form)), calls(row.slot)
        inside = max(price.tokens - row.max_tokens, 0)
        share = (inside + row.max_tokens / 2) / max(inside + row.max_tokens, 1)
        tokens, usd, sent = tokens + times * price.tokens, usd + times * price.usd, sent + times * inside
        likely_tokens += times * price.tokens * share
        likely_usd += times * price.usd * share
    grown = max(planned, len(rows)) / max(len(rows), 1)
    low = high = likely_tokens * grown
    if sample:
        count = max(planned, len(rows))
        mean, spread = _mean([tokens for tokens, _ in sample])
        low, high = max(mean - spread, 0.0) * count, (mean + spread) * count
        likely_tokens, likely_usd = mean * count / grown, _mean([usd for _, usd in sample])[0] * count / grown
    return Estimate(
        max(planned, len(rows)),
        round(sent * grown),
        round(likely_tokens * grown),
        round(tokens * grown),
        _known(likely_usd * grown),
        _known(usd * grown),
        len(sample),
        round(low),
        round(high),
    )


def spread_rows(rows: Sequence[PlanRow], count: int) -> list[PlanRow]:
    """That many rows of a plan, evenly spread over it."""
    count = min(count, len(rows))
    wanted = {i * len(rows) // count for i in range(count)}
    return [row for i, row in enumerate(rows) if i in wanted]


def _known(usd: float) -> float | None:
    return None if math.isnan(usd) else usd


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval."""
    count = len(values)
    mean = sum(values) / count
    if count < 2:
        return mean, mean
    from scipy.stats import t

    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    return mean, float(t.ppf(0.975, count - 1)) * math.sqrt(variance / count)
