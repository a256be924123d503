"""What the first iterations of a simulation tell a forecast: diversity kept with errors, the cycle's policy.

Knows no emulator.
"""

from __future__ import annotations

import math
import statistics as plain
from dataclasses import dataclass

from karat import registry
from karat.errors import InputError, UnknownPart, did_you_mean
from karat.simulation.base import Policy
from karat.simulation.half_lives import HalfLife
from karat.simulation.result import Loop, Simulated
from karat.simulation.stretching import Observed

LEAST = 3
"""Iterations (the first counts) from which on a loop corrects the emulator."""


@dataclass(frozen=True)
class Seen:
    """One cycle as far as all of its seeds ran."""

    cycle: str
    loops: tuple[Loop, ...]
    diversity: tuple[float, ...]  # mean over seeds
    errors: tuple[float, ...]  # standard errors of that mean
    correct: tuple[tuple[float | None, ...], ...]  # one row a seed
    half: HalfLife | None
    policy: Policy | None = None  # None: the cycle stands on no shelf, and the simulation does not say
    notes: tuple[str, ...] = ()

    @property
    def enough(self) -> bool:
        """Whether there are iterations enough to correct a prior."""
        return len(self.diversity) >= LEAST

    def kept(self) -> Observed:
        """Return diversity as a share of iteration 0, whose own error is in all the others."""
        first, error = self.diversity[0], self.errors[0]
        return Observed(
            tuple(value / first for value in self.diversity),
            tuple(
                math.hypot(own, value / first * error) / first
                for value, own in zip(self.diversity, self.errors)
            ),
        )


def seen(found: Simulated, cycle: str) -> Seen:
    """Return what a simulation showed of one of its cycles. Raises InputError where it cannot be used."""
    loops = tuple(loop for loop in found.runs if loop.cycle == cycle)
    if not loops:
        known = list(dict.fromkeys(loop.cycle for loop in found.runs))
        raise InputError(
            f"the simulation has no cycle {cycle!r}{did_you_mean(cycle, known)} "
            f"(there are: {', '.join(known)})"
        )
    notes = []
    # A loop that has collapsed stays as it is, so that it lasts as long as the others.
    going = [len(loop.iterations) for loop in loops if not _collapsed(loop)]
    length = min(going) if going else max(len(loop.iterations) for loop in loops)
    rows = [_padded(loop, length) for loop in loops]
    for loop in loops:
        if loop.ended:
            notes.append(f"seed {loop.seed} ended early: {loop.ended}")
    values = [[value for value, _ in row] for row in rows]
    for loop, row in zip(loops, values):
        for t, value in enumerate(row):
            if not math.isfinite(value):
                raise InputError(
                    f"cycle {cycle!r}, seed {loop.seed}: the diversity of iteration {t} is {value}; "
                    "simulate it again"
                )
    means = [plain.fmean(column) for column in zip(*values)]
    if means[0] <= 0.0:
        raise InputError(
            f"cycle {cycle!r}: the first model writes one and the same text, so that no diversity can be "
            "lost; train it longer or raise the temperature"
        )
    return Seen(
        cycle,
        loops,
        tuple(means),
        _errors(rows, values),
        tuple(tuple(row.measures.correct for row in loop.iterations) for loop in loops),
        found.half_life.get(cycle),
        found.policies.get(cycle) or policy_of(cycle),
        tuple(notes),
    )


def _collapsed(loop: Loop) -> bool:
    return loop.ended.startswith("collapsed")


def _padded(loop: Loop, length: int) -> list[tuple[float, float]]:
    """Return (diversity, standard error) of each iteration; what has collapsed stays as it is."""
    found = []
    for row in loop.iterations[:length]:
        value = row.measures.levenshtein
        low, high = row.measures.intervals.get("levenshtein", (value, value))
        found.append((value, (high - low) / 2 / 1.96))
    return found + [found[-1]] * (length - len(found))


def _errors(rows: list[list[tuple[float, float]]], values: list[list[float]]) -> tuple[float, ...]:
    """Return standard errors of the means: measurement, or the spread between seeds where that is larger."""
    k = len(rows)
    own = [math.sqrt(plain.fmean([error**2 for _, error in column]) / k) for column in zip(*rows)]
    if k == 1:
        return tuple(own)
    # Few seeds: the spread is pooled with that of the iterations beside it, or it would be small by chance.
    spreads = [plain.variance(column) for column in zip(*values)]
    found = []
    for t, error in enumerate(own):
        near = spreads[max(0, t - 1) : t + 2]
        found.append(max(error, math.sqrt(plain.fmean(near) / k)))
    return tuple(found)


def policy_of(cycle: str) -> Policy | None:
    """Return the policy of a cycle by its label; None where it stands on no shelf."""
    try:
        policy: Policy = registry.make("cycles", cycle).policy()
    except UnknownPart:
        return None
    return policy
