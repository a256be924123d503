"""Which fresh share keeps a wanted diversity up to a horizon, from emulated loops. Knows no trainer.

Loops with several fresh shares are emulated; in between their curve is interpolated, and inverted for each
draw of the stretch, so that the answer has an interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from karat.records import Records
from karat.simulation.base import Policy, needed
from karat.simulation.emulator import emulate
from karat.simulation.stretching import Floats, Posterior

FIRST_SHARES = (0.1, 0.3, 0.6)
REFINED = 1
"""More shares that are emulated for each wanted retention, between those that enclose it."""

DRAWS = 400


@dataclass(frozen=True)
class Point:
    """What a fresh share keeps of the diversity at the horizon: median and 95% interval."""

    share: float
    kept: float
    low: float
    high: float


@dataclass(frozen=True)
class Need:
    """The fresh share that keeps a wanted part of the diversity, and what it costs; None: none was found."""

    kept: float
    share: float | None
    interval: tuple[float | None, float | None]
    rows: int | None  # fresh human rows an iteration

    def to_json(self) -> dict[str, Any]:
        """Return the need as plain values."""
        return {**asdict(self), "interval": list(self.interval)}


@dataclass(frozen=True)
class Plan:
    """The fresh shares that were emulated, and what each wanted retention needs at a horizon."""

    horizon: int
    points: tuple[Point, ...]
    needs: tuple[Need, ...]


def plan(
    task: Any,
    policy: Policy,
    temperature: float,
    *,
    n: int,
    horizon: int,
    keep: Sequence[float],
    found: Posterior,
    human: Records | None = None,
    seeds: int = 2,
    seed: int = 0,
    tell: Callable[[], None] | None = None,
) -> Plan:
    """Return the smallest fresh shares that keep wanted parts of iteration 0's diversity at the horizon.

    found: how much slower than the emulator the loop is; its own curves stand for the share that it has.
    """
    cells = found.draws(DRAWS)
    stretches, powers = found.stretches[cells], found.powers[cells]
    # A fast learner needs more emulated iterations than a slow one; what lies beyond stays as it is.
    iterations = max(2, min(horizon, math.ceil(horizon / float(np.quantile(stretches, 0.1)))))
    owners = np.arange(DRAWS) % seeds
    known: dict[float, Floats] = {}

    def ask(share: float) -> None:
        rows = []
        for number in range(seeds):
            curve = emulate(
                task,
                policy.with_fresh(share),
                temperature,
                n=n,
                iterations=iterations,
                seed=seed + number,
                human=human,
                every=max(1, iterations // 8),
                judge=False,
            )
            rows.append(np.interp(horizon / stretches, curve.at, curve.kept()) ** powers)
        known[share] = np.choose(owners, rows)
        if tell:
            tell()

    known[0.0] = _without(found, policy, stretches, powers, horizon, ask, known)
    for share in FIRST_SHARES:
        ask(share)
    for wanted in keep:
        for _ in range(REFINED):
            between = _enclosing(known, wanted)
            if between is None or between[1] - between[0] < 0.02:
                break
            ask(round(sum(between) / 2, 3))
    shares = sorted(known)
    points = tuple(_point(share, known[share]) for share in shares)
    table = np.maximum.accumulate(np.stack([known[share] for share in shares]), axis=0)
    needs = tuple(_need(wanted, shares, table, policy, n) for wanted in keep)
    return Plan(horizon, points, needs)


def _without(
    found: Posterior,
    policy: Policy,
    stretches: Floats,
    powers: Floats,
    horizon: int,
    ask: Callable[[float], None],
    known: dict[float, Floats],
) -> Floats:
    """Return what no fresh data keep: the forecast's own curves, where they are those of such a loop."""
    if policy.generated_share < 1.0:
        ask(0.0)
        return known[0.0]
    rows = [np.interp(horizon / stretches, np.arange(len(curve)), curve) ** powers for curve in found.curves]
    return np.choose(np.arange(len(stretches)) % len(rows), rows)


def _enclosing(known: dict[float, Floats], wanted: float) -> tuple[float, float] | None:
    """Return the neighbouring shares of which one keeps too little and the next enough, by their medians."""
    shares = sorted(known)
    kept = np.maximum.accumulate([float(np.median(known[share])) for share in shares])
    enough = np.flatnonzero(kept >= wanted)
    if len(enough) and enough[0] == 0:
        return None
    if not len(enough):
        return (shares[-1], 1.0)
    return (shares[int(enough[0]) - 1], shares[int(enough[0])])


def _point(share: float, kept: Floats) -> Point:
    low, middle, high = np.quantile(kept, (0.025, 0.5, 0.975))
    return Point(share, float(middle), float(low), float(high))


def _need(wanted: float, shares: Sequence[float], table: Floats, policy: Policy, n: int) -> Need:
    """Invert the curve of each draw; all data fresh are taken to keep everything, which is the control."""
    grid, rows = np.asarray([*shares, 1.0]), np.vstack([table, np.ones(table.shape[1])])
    drawn = np.asarray([_inverted(grid, rows[:, column], wanted) for column in range(rows.shape[1])])
    low, middle, high = (float(value) for value in np.quantile(drawn, (0.025, 0.5, 0.975)))
    fresh = needed(replace(policy, generated_share=1.0 - middle), n)[1]
    return Need(wanted, round(middle, 3), (round(low, 3), round(high, 3)), fresh)


def _inverted(shares: Floats, kept: Floats, wanted: float) -> float:
    enough = int(np.argmax(kept >= wanted))
    if enough == 0:
        return 0.0
    before, after = kept[enough - 1], kept[enough]
    step = (wanted - before) / (after - before)
    return float(shares[enough - 1] + step * (shares[enough] - shares[enough - 1]))
