"""What counts as collapse: a cell of the plane from the loops of its seeds. Knows no trainer and no plane.

Diversity and correctness at the end of a loop are set beside the control: the same trainer without a loop, at
the same temperature, size and seed. A temperature that alone costs diversity is so no collapse.
"""

from __future__ import annotations

import math
import statistics as plain
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from karat.auditing.statistics import t_quantile
from karat.blocks import SURE
from karat.simulation.result import HalfLife, Iteration, Loop, half_life

Phase = Literal["neither", "diversity", "correctness", "both"]
PHASES: tuple[Phase, ...] = ("diversity", "both", "correctness", "neither")


@dataclass(frozen=True)
class Spread:
    """A figure over the seeds: their median, and the 95% interval of their mean (Student's t).

    The interval always holds the median. Of one seed it holds the sampling error alone, and None where
    even that is unknown.
    """

    value: float
    interval: tuple[float, float] | None
    seeds: tuple[float, ...]

    def below(self, line: float) -> bool:
        """Whether the median lies below a line."""
        return self.value < line

    def clear(self, line: float) -> bool:
        """Whether a line lies outside the interval, with at least SURE of the seeds on one side of it.

        One seed is never clear: the spread between runs is then unknown.
        """
        if len(self.seeds) < 2 or self.interval is None:
            return False
        same = sum((seed < line) == self.below(line) for seed in self.seeds) / len(self.seeds)
        return not self.interval[0] <= line <= self.interval[1] and same >= SURE

    def to_json(self) -> dict[str, Any]:
        """Return the figure as plain values."""
        ends = None if self.interval is None else list(self.interval)
        return {"value": self.value, "interval": ends, "seeds": list(self.seeds)}


def spread(
    values: Sequence[float],
    sampling: tuple[float, float] | None = None,
    *,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Spread:
    """Return the spread of one figure over seeds.

    sampling: the interval of a single seed. bounds: between which the figure lies in any case.
    """
    middle = plain.median(values)
    if len(values) < 2:
        return Spread(middle, sampling, tuple(values))
    mean = plain.fmean(values)
    reach = t_quantile(0.975, len(values) - 1) * plain.stdev(values) / len(values) ** 0.5
    low, high = max(mean - reach, bounds[0]), min(mean + reach, bounds[1])
    return Spread(middle, (min(low, middle), max(high, middle)), tuple(values))


@dataclass(frozen=True)
class Lines:
    """Where a collapse begins.

    kept: a share of the control's diversity. lost: a fall of the correct share below the control's.
    """

    kept: float = 0.5
    lost: float = 0.1


@dataclass(frozen=True)
class Base:
    """What a loop is measured against: means over the control's iterations, or its own first iteration."""

    levenshtein: float
    correct: float | None
    distinct: float
    distinct_correct: float | None
    real_loss: float | None

    @classmethod
    def of(cls, rows: Sequence[Iteration]) -> Base:
        """Return the means over iterations that share nothing."""

        def mean(name: str) -> float | None:
            found = [value for row in rows if (value := row.value(name)) is not None]
            return plain.fmean(found) if found else None

        return cls(
            mean("levenshtein") or 0.0,
            mean("correct"),
            mean("distinct") or 0.0,
            mean("distinct_correct"),
            mean("real_loss"),
        )


@dataclass(frozen=True)
class End:
    """Where one seed's loop ended; a loop that stopped before its time stays as it was last."""

    seed: int
    iteration: int
    levenshtein: float
    correct: float | None
    valid: float | None
    distinct: int
    distinct_correct: int | None
    real_loss: float | None
    ended: str
    control: Base
    first_valid: float | None


@dataclass(frozen=True)
class Cell:
    """One cycle at one temperature, fresh share and size, over all seeds.

    kept, distinct, distinct_correct: shares of what the control has. correct: at the end; correct_change:
    minus the control's. real_loss_change: nats a character above the control's. hidden: whether neither
    axis collapsed, but the different (correct) texts did. gate: whether the first models learned the task.
    """

    cycle: str
    temperature: float
    fresh_share: float
    n: int
    ends: tuple[End, ...]
    kept: Spread
    distinct: Spread
    correct: Spread | None
    correct_change: Spread | None
    distinct_correct: Spread | None
    real_loss_change: Spread | None
    half_life: HalfLife
    phase: Phase
    certain: bool
    hidden: bool
    gate: bool | None
    curves: dict[str, tuple[float, ...]]  # medians over the seeds: kept, correct, distinct_correct

    @property
    def last(self) -> Spread:
        """The third axis, which edit distance hides: different correct texts, or different texts."""
        return self.distinct_correct or self.distinct

    def to_json(self) -> dict[str, Any]:
        """Return the cell as plain values."""
        found: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("cycle", "temperature", "fresh_share", "n", "phase", "certain", "hidden", "gate")
        }
        for name in (
            "kept",
            "distinct",
            "correct",
            "correct_change",
            "distinct_correct",
            "real_loss_change",
        ):
            figure = getattr(self, name)
            found[name] = None if figure is None else figure.to_json()
        half = self.half_life
        found["half_life"] = {"value": half.value, "interval": list(half.interval), "note": half.note}
        found["ends"] = [asdict(end) for end in self.ends]
        found["curves"] = {name: list(curve) for name, curve in self.curves.items()}
        return found


# --- from loops to cells -----------------------------------------------------------------------------


def cell_of(
    loops: Sequence[Loop],
    controls: Sequence[Loop],
    *,
    place: tuple[str, float, float, int],
    lines: Lines,
    iterations: int,
    gate: float,
) -> Cell:
    """Return the cell of some loops, a seed each, beside the control of each seed (empty: their first row).

    place: cycle, temperature, fresh share and n. gate: the valid share that a first model must reach.
    """
    bases = [Base.of(loop.iterations) for loop in controls] or [
        Base.of(loop.iterations[:1]) for loop in loops
    ]
    ends = tuple(_end(loop, base) for loop, base in zip(loops, bases, strict=True))
    last = [loop.iterations[-1] for loop in loops]
    one = last[0].measures.intervals if len(loops) == 1 else {}

    def against(name: str, difference: bool = False) -> Spread | None:
        found = [(getattr(end, name), getattr(end.control, name)) for end in ends]
        if any(value is None or base is None for value, base in found):
            return None
        if difference:
            ends_of = one.get(name)
            base = found[0][1]
            return spread(
                [value - base for value, base in found],
                None if ends_of is None else (ends_of[0] - base, ends_of[1] - base),
            )
        ends_of, base = one.get(name), found[0][1]
        return spread(
            [_share(value, base) for value, base in found],
            None if ends_of is None else (_share(ends_of[0], base), _share(ends_of[1], base)),
            bounds=(0.0, math.inf),
        )

    kept, distinct = against("levenshtein"), against("distinct")
    assert kept is not None and distinct is not None, "all loops have a diversity"
    change, distinct_correct = against("correct", difference=True), against("distinct_correct")
    phase, certain = _phase(lines, kept, change)
    valid = [end.first_valid for end in ends if end.first_valid is not None]
    return Cell(
        *place,
        ends=ends,
        kept=kept,
        distinct=distinct,
        correct=_correct(ends, one),
        correct_change=change,
        distinct_correct=distinct_correct,
        real_loss_change=against("real_loss", difference=True),
        half_life=half_life(loops),
        phase=phase,
        certain=certain,
        hidden=phase == "neither" and (distinct_correct or distinct).below(lines.kept),
        gate=min(valid) >= gate if valid else None,
        curves=_curves(loops, bases, iterations),
    )


def _correct(ends: Sequence[End], one: dict[str, tuple[float, float]]) -> Spread | None:
    found = [end.correct for end in ends if end.correct is not None]
    return spread(found, one.get("correct"), bounds=(0.0, 1.0)) if len(found) == len(ends) else None


def _share(value: float, base: float) -> float:
    """Return what is left of something; where there was nothing, nothing is lost."""
    return value / base if base else 1.0


def _end(loop: Loop, base: Base) -> End:
    row = loop.iterations[-1]
    m = row.measures
    return End(
        loop.seed,
        row.iteration,
        m.levenshtein,
        m.correct,
        m.valid,
        m.distinct,
        m.distinct_correct,
        row.real_loss,
        loop.ended,
        base,
        loop.iterations[0].measures.valid,
    )


def _curves(loops: Sequence[Loop], bases: Sequence[Base], iterations: int) -> dict[str, tuple[float, ...]]:
    """Return medians over seeds; a loop that ended before its time goes on as it was."""
    found: dict[str, tuple[float, ...]] = {}
    for key, name in (
        ("kept", "levenshtein"),
        ("correct", "correct"),
        ("distinct", "distinct"),
        ("distinct_correct", "distinct_correct"),
    ):
        curves = []
        for loop, base in zip(loops, bases):
            values = [value for value in loop.curve(name) if value is not None]
            if not values:
                break
            values += [values[-1]] * (iterations + 1 - len(values))
            divisor = 1.0 if key == "correct" else getattr(base, name)
            curves.append([_share(value, divisor) for value in values])
        else:
            found[key] = tuple(plain.median(column) for column in zip(*curves))
    return found


def _phase(lines: Lines, kept: Spread, change: Spread | None) -> tuple[Phase, bool]:
    """Return what collapsed, and whether each axis is clear of its line."""
    low, sure = kept.below(lines.kept), kept.clear(lines.kept)
    wrong = False
    if change is not None:
        wrong, sure = change.below(-lines.lost), sure and change.clear(-lines.lost)
    if low:
        return ("both" if wrong else "diversity"), sure
    return ("correctness" if wrong else "neither"), sure


def half_life_of(cell: Cell) -> str:
    """Say the half-life of a cell in iterations, as briefly as a table wants it."""
    value, (low, high) = cell.half_life.value, cell.half_life.interval
    if value is None:
        return "none" if low is None else f"> {low:.1f}"
    return f"{value:.1f} [{low or 0:.1f}, {'?' if high is None else f'{high:.1f}'}]"
