"""How long until diversity halves: formulas, an emulator that trains nothing, fits to first iterations.

Knows no model. The emulator re-estimates the rules of a known grammar and sharpens them by the temperature,
which is
what makes loops collapse; it is too fast by up to a factor of two, and is stretched to what was observed.
"""

from __future__ import annotations

import os
import statistics as plain
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from karat import registry
from karat.blocks import Block, Chart, Column, Headline, Note, Section, Table
from karat.errors import BadSetting, InputError
from karat.records import Records
from karat.simulation.base import Policy
from karat.simulation.curves import REACH, Fit, fit_curves, fit_stretch
from karat.simulation.emulator import drift_half_life, drift_plateau, emulate
from karat.simulation.result import Simulated, crossing

Progress = Callable[[str, int, int], None]

BIAS = (1.0, 3.0)
"""Half-life of trained models / half-life of the emulator, as measured: LSTM 1.0 to 1.5, small GPT 2 to 3."""

SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)


@dataclass(frozen=True)
class Forecast:
    """When diversity halves, where it stays, what fresh human data keep it; relative to iteration 0."""

    cycle: str
    temperature: float
    n: int
    half_life: float | None
    interval: tuple[float | None, float | None]
    plateau: float | None
    fresh_share_for: dict[str, float | None]
    method: str
    bias_note: str
    notes: tuple[str, ...]
    drift_half_life: float
    observed: tuple[float, ...]
    emulated: tuple[float, ...]
    stretch: float | None
    fits: tuple[Fit, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what `karat forecast --json` prints."""
        return {
            "half_life": {"value": self.half_life, "interval": list(self.interval)},
            "plateau": self.plateau,
            "fresh_share_for": self.fresh_share_for,
            "method": self.method,
            "bias_note": self.bias_note,
            "notes": list(self.notes),
            "cycle": self.cycle,
            "temperature": self.temperature,
            "n": self.n,
            "drift_half_life": self.drift_half_life,
            "observed": list(self.observed),
            "emulated": list(self.emulated),
            "stretch": self.stretch,
            "fits": [asdict(fit) for fit in self.fits],
        }

    def words(self) -> str:
        """Say the forecast in one sentence."""
        low, high = self.interval
        if self.half_life is None:
            bound = f" within {low:.0f} iterations" if low is not None else ""
            return f"cycle {self.cycle}: diversity is not forecast to halve{bound}"
        end = "an unknown number" if high is None else f"{high:.0f}"
        value = f"{self.half_life:.0f} iterations ({low or 0:.0f} to {end})"
        return f"cycle {self.cycle}: diversity halves after about {value}"

    def __str__(self) -> str:
        shares = [
            f"fresh human share that keeps {float(kept):.0%}: "
            + (f"more than {max(SHARES):.0%}" if share is None else f"{share:.0%}")
            for kept, share in self.fresh_share_for.items()
        ]
        return "\n".join(
            [self.words(), f"method: {self.method}", f"bias: {self.bias_note}", *shares, *self.notes]
        )

    def __report__(self) -> tuple[Section, ...]:
        """Return the forecast, its curve and the fresh share that is needed as blocks."""
        value = "not within reach" if self.half_life is None else f"{self.half_life:.0f} iterations"
        blocks: list[Block] = [Headline(value, "forecast until diversity has halved", self.words())]
        rows = [
            {"iteration": t, "kept": v / self.observed[0], "what": "observed"}
            for t, v in enumerate(self.observed)
        ]
        step = self.stretch or 1.0
        rows += [{"iteration": t * step, "kept": v, "what": "emulator"} for t, v in enumerate(self.emulated)]
        if rows:
            chart = Chart(
                "line",
                tuple(rows),
                x="iteration",
                y="kept",
                series="what",
                title="Diversity kept",
                x_title="iteration",
                y_title="share of iteration 0",
                note=self.method,
            )
            blocks.append(chart)
        if self.fresh_share_for:
            table = Table(
                (
                    Column("kept", "diversity kept", "percent"),
                    Column("share", "fresh human share needed", "percent"),
                ),
                tuple({"kept": float(kept), "share": share} for kept, share in self.fresh_share_for.items()),
                title="How much fresh human data keep diversity (emulator)",
                note=f"At iteration {len(self.emulated) - 1}. An empty cell: more than {max(SHARES):.0%}.",
            )
            blocks.append(table)
        blocks += [Note(self.bias_note, "warning"), *(Note(text) for text in self.notes)]
        return (Section("Forecast", tuple(blocks), id="forecast"),)


def forecast(
    source: Any = None,
    *,
    task: Any = "logic",
    cycle: str = "",
    fresh_share: float = 0.0,
    temperature: float = 0.8,
    n: int = 2000,
    horizon: int = 40,
    seeds: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
) -> Forecast:
    """Forecast when a loop loses half of its diversity, and how much fresh human data would keep it.

    source: a simulation (or the folder of one), whose first iterations the forecast is fitted to; or human
        records.
    task: what the loop is about, where no simulation is given; logic has an emulator.
    cycle: which cycle; of a simulation, its first one unless you name another.
    fresh_share: share of fresh human data in each new batch.
    temperature: at which models write.
    n: texts an iteration.
    horizon: iterations that are emulated.
    seeds: emulations behind the interval.
    seed: where all chance begins.
    """
    if horizon < 2 or seeds < 1:
        raise BadSetting(f"horizon={horizon} must be at least 2 and seeds={seeds} at least 1")
    found = _opened(source)
    if isinstance(found, Simulated):
        task, temperature, n = found.task, found.temperature, found.n
        cycle = cycle or found.runs[0].cycle
        observed = _observed(found, cycle)
    else:
        observed = ()
        if isinstance(found, Records):
            task, n = "text", min(n, len(found))
    if not temperature > 0.0 or n < 2:
        raise BadSetting(f"temperature={temperature} must be above 0 and n={n} at least 2")
    cycle = cycle or "full"
    made, policy = registry.make("tasks", task), registry.make("cycles", cycle).policy()
    policy = policy.with_fresh(fresh_share) if fresh_share else policy
    fits = fit_curves(observed) if len(observed) >= 4 else ()
    drift = drift_half_life(n)
    shared = _Shared(cycle, temperature, n, observed, fits, drift)
    if not hasattr(made, "rules"):
        return _without_emulator(shared, policy)
    return _with_emulator(shared, made, policy, horizon, seeds, seed, progress)


@dataclass(frozen=True)
class _Shared:
    cycle: str
    temperature: float
    n: int
    observed: tuple[float, ...]
    fits: tuple[Fit, ...]
    drift: float


def _opened(source: Any) -> Any:
    if source is None or isinstance(source, Simulated | Records):
        return source
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"a forecast cannot start from {type(source).__name__}; give a simulation or records"
        )
    if Path(source).is_dir():
        from karat.runs import read_result

        found = read_result(source)
        if not isinstance(found, Simulated):
            raise InputError(
                f"{source}: holds no simulation; name the folder of a finished `karat simulate` step"
            )
        return found
    from karat.records import read

    return read(source)


def _observed(found: Simulated, cycle: str) -> tuple[float, ...]:
    """Return the mean diversity over the seeds of a cycle, as far as all of them ran."""
    loops = [loop for loop in found.runs if loop.cycle == cycle]
    if not loops:
        known = ", ".join(dict.fromkeys(loop.cycle for loop in found.runs))
        raise InputError(f"the simulation has no cycle {cycle!r} (there are: {known})")
    length = min(len(loop.iterations) for loop in loops)
    return tuple(
        plain.fmean(loop.iterations[t].measures.levenshtein for loop in loops) for t in range(length)
    )


def _without_emulator(shared: _Shared, policy: Policy) -> Forecast:
    """Forecast from fits alone; without observations only drift can be said."""
    notes = [
        f"noise alone (temperature 1, a perfect learner) would halve diversity in "
        f"{shared.drift:,.0f} iterations"
    ]
    best = min(shared.fits, key=lambda fit: fit.aicc) if shared.fits else None
    reach = REACH * (len(shared.observed) - 1) if best else None
    value = best.half_life if best else None
    low = reach if best and value is None else None
    if best is None:
        notes.append(
            "simulate a few iterations (karat simulate FILE --task text --iterations 5), and forecast those"
        )
    plateau = best.plateau if best else None
    if best is None and policy.generated_share < 1:
        plateau = drift_plateau(shared.n, 1 - policy.generated_share)
    ends = _fit_range(shared.fits) if value is not None else (low, None)
    return Forecast(
        cycle=shared.cycle,
        temperature=shared.temperature,
        n=shared.n,
        half_life=value,
        interval=ends,
        plateau=plateau,
        fresh_share_for={},
        method=f"{best.name} curve fitted to {len(shared.observed)} iterations"
        if best
        else "drift formula alone",
        bias_note="loops often speed up, so that curves fitted to their beginning come too late; "
        "nothing is said beyond three times the observed range",
        notes=tuple(notes),
        drift_half_life=shared.drift,
        observed=shared.observed,
        emulated=(),
        stretch=None,
        fits=shared.fits,
    )


def _with_emulator(
    shared: _Shared, task: Any, policy: Policy, horizon: int, seeds: int, seed: int, progress: Progress | None
) -> Forecast:
    total = seeds + len(SHARES)
    curves = []
    for number in range(seeds):
        curves.append(
            emulate(task, policy, shared.temperature, n=shared.n, iterations=horizon, seed=seed + number)
        )
        if progress:
            progress("forecast", number + 1, total)
    kept = [[value / curve[0] for value in curve] for curve in curves]
    mean = [plain.fmean(values) for values in zip(*kept)]
    shares = {}
    for number, share in enumerate(SHARES):
        curve = emulate(
            task, policy.with_fresh(share), shared.temperature, n=shared.n, iterations=horizon, seed=seed
        )
        shares[share] = curve[-1] / curve[0]
        if progress:
            progress("forecast", seeds + number + 1, total)
    halves = [crossing(curve, 0.5) for curve in kept]
    half, notes = crossing(mean, 0.5), []
    stretch = fit_stretch(mean, shared.observed) if len(shared.observed) >= 4 else None
    if stretch is None:
        value, ends = half, _emulator_range(halves, horizon)
        method = f"emulator of the grammar, {seeds} seeds, {horizon} iterations"
        bias = (
            f"the emulator never learns badly and sharpens at once: trained models took {BIAS[0]:g} to "
            f"{BIAS[1]:g} times as long where we measured it, which the interval holds; simulate "
            f"4 iterations to correct it"
        )
    else:
        value, ends, said = _stretched(half, halves, stretch, shared.observed)
        notes += said
        method = (
            f"emulator of the grammar, stretched in time by {stretch:.2f} to fit "
            f"{len(shared.observed)} iterations"
        )
        bias = "the stretch assumes that the model is slower than the emulator by the same factor throughout"
    tail = mean[-max(2, len(mean) // 5) :]
    level = plain.fmean(tail)
    settled = abs(tail[0] - tail[-1]) < 0.05
    notes.append(
        f"noise alone (temperature 1, a perfect learner) would halve diversity in "
        f"{shared.drift:,.0f} iterations"
    )
    return Forecast(
        cycle=shared.cycle,
        temperature=shared.temperature,
        n=shared.n,
        half_life=value,
        interval=ends,
        plateau=level if settled else None,
        fresh_share_for={f"{kept_:g}": _share_for(shares, mean[-1], kept_) for kept_ in (0.9, 0.5)},
        method=method,
        bias_note=bias,
        notes=tuple(notes),
        drift_half_life=shared.drift,
        observed=shared.observed,
        emulated=tuple(mean),
        stretch=stretch,
        fits=shared.fits,
    )


def _emulator_range(halves: Sequence[float | None], horizon: int) -> tuple[float | None, float | None]:
    reached = [half for half in halves if half is not None]
    if not reached:
        return (float(horizon), None)
    high = max(reached) * BIAS[1] if len(reached) == len(halves) else None
    return (min(reached) * BIAS[0], high)


def _stretched(
    half: float | None, halves: Sequence[float | None], stretch: float, observed: Sequence[float]
) -> tuple[float | None, tuple[float | None, float | None], list[str]]:
    """Return half-life, its range (emulations, ten per cent of doubt in the stretch), what to say."""
    limit = REACH * (len(observed) - 1)
    seen = crossing([value / observed[0] for value in observed], 0.5)
    if seen is not None:
        return seen, (seen, seen), ["diversity has halved already within the observed iterations"]
    if half is None or half * stretch > limit:
        return (
            None,
            (limit, None),
            [f"nothing is said beyond {limit:.0f} iterations, three times the observed range"],
        )
    reached = [value for value in halves if value is not None]
    low = max(float(len(observed) - 1), min(reached) * stretch * 0.9)
    high = max(reached) * stretch * 1.1
    return half * stretch, (low, high if len(reached) == len(halves) else None), []


def _share_for(shares: dict[float, float], without: float, kept: float) -> float | None:
    """Return the smallest fresh share that keeps this much diversity at the horizon (linear in between)."""
    if without >= kept:
        return 0.0
    before, level = 0.0, without
    for share, reached in shares.items():
        if reached >= kept:
            return round(before + (share - before) * (kept - level) / (reached - level), 3)
        before, level = share, reached
    return None


def _fit_range(fits: Sequence[Fit]) -> tuple[float | None, float | None]:
    """Range of half-lives over all fits that are about as good as the best one (AICc within 4)."""
    best = min(fit.aicc for fit in fits)
    halves = [fit.half_life for fit in fits if fit.aicc <= best + 4]
    reached = [half for half in halves if half is not None]
    return (min(reached), max(reached) if len(reached) == len(halves) else None)
