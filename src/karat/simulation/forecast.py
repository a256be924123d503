"""How long until diversity halves: formulas, an emulator that trains nothing, fits to first iterations.

Knows no model. Where the task has a grammar, an emulated loop is the prior, corrected by what was observed;
where it has none, curves are fitted to what was observed. Nothing is said beyond three times that range.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from karat import registry
from karat.errors import BadSetting, InputError, UnknownPart
from karat.records import Records
from karat.simulation.base import Policy, check_whole
from karat.simulation.correctness import Trend, trend
from karat.simulation.curves import REACH, Fit, compare, fit_curves, futures, half_lives
from karat.simulation.emulator import Emulated, emulate, not_emulated
from karat.simulation.formulas import drift_collapse, drift_half_life, drift_plateau, sharpening_time
from karat.simulation.half_lives import crossing
from karat.simulation.observing import Seen, seen
from karat.simulation.outlook import Fan, Forecast, Formulas, Interval
from karat.simulation.planning import FIRST_SHARES, REFINED, plan
from karat.simulation.result import Simulated
from karat.simulation.stretching import Floats, Learner, learner_of, posterior

Progress = Callable[[str, int, int], None]

MISFIT = 2.5
"""Chi squared an iteration from which on a loop is unlike the emulated one, and curves are fitted instead.

Of 285 beginnings of loops that were slower and worse learners' than the emulator, 99% lay below 0.8.
"""

LEAST_FOR_CURVES = 3
"""More iterations than these are needed before curves may speak against the emulator."""

SETTLED = 0.02
"""A forecast has settled where it loses less than this of the first diversity over its last fifth."""


def forecast(
    source: Any = None,
    *,
    task: Any = "logic",
    cycle: str = "",
    fresh_share: float = 0.0,
    temperature: float = 0.8,
    n: int = 2000,
    horizon: int = 40,
    keep: Sequence[float] = (0.9, 0.5),
    seeds: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
) -> Forecast:
    """Forecast when a loop loses half of its diversity, and how much fresh human data would keep it.

    source: a simulation (or the folder of one), whose first iterations the forecast is fitted to; or human
        records.
    task: what the loop is about, where no simulation is given; all but detector cycles can be emulated.
    cycle: which cycle; of a simulation, its first one unless you name another.
    fresh_share: share of fresh human data in each new batch; of a simulation its own.
    temperature: at which models write.
    n: texts an iteration.
    horizon: iterations that are emulated, and at which the fresh share must have kept diversity.
    keep: shares of the first diversity for which the fresh human share is looked up.
    seeds: emulations behind the interval.
    seed: where all chance begins.
    """
    _check(horizon, keep, seeds, fresh_share)
    found, human, known = _opened(source), None, None
    if isinstance(found, Simulated):
        task, temperature, n = found.task, found.temperature, found.n
        known = seen(found, cycle or found.runs[0].cycle)
        cycle, trainer = known.cycle, found.trainer
    else:
        trainer = ""
        if isinstance(found, Records):
            task, n, human = ("text" if task == "logic" else task), min(n, len(found)), found
    check_whole(n=n)
    if not 0.0 < temperature < math.inf or n < 2:
        raise BadSetting(f"temperature={temperature} must be a number above 0, and n={n} at least 2")
    cycle = cycle or "full"
    policy, fresh, said = _policy(cycle, known, fresh_share, n)
    ask = _Asked(
        cycle, temperature, n, fresh, horizon, tuple(keep), seeds, seed, known, trainer, human, progress, said
    )
    made, why = _emulable(task, policy, human, known)
    if made is None or policy is None:
        return _from_curves(ask, why)
    return _from_emulator(ask, made, policy)


@dataclass(frozen=True)
class _Asked:
    """The question, with what is known already."""

    cycle: str
    temperature: float
    n: int
    fresh_share: float
    horizon: int
    keep: tuple[float, ...]
    seeds: int
    seed: int
    seen: Seen | None
    trainer: str
    human: Records | None
    progress: Progress | None
    notes: tuple[str, ...]

    @property
    def usable(self) -> Seen | None:
        """What was observed, where it is enough to learn from."""
        return self.seen if self.seen and self.seen.enough else None

    @property
    def reach(self) -> float:
        """The last iteration that anything is said about."""
        known = self.usable
        return REACH * (len(known.diversity) - 1) if known else float(self.horizon)


def _check(horizon: int, keep: Sequence[float], seeds: int, fresh_share: float) -> None:
    check_whole(horizon=horizon, seeds=seeds)
    if not isinstance(seeds, int):
        raise BadSetting(f"seeds is {seeds!r}, but a forecast takes how many emulations there are")
    if horizon < 2 or seeds < 1:
        raise BadSetting(f"horizon={horizon} must be at least 2 and seeds={seeds} at least 1")
    for value in keep:
        if not 0.0 < value < 1.0:
            raise BadSetting(f"keep={value} must lie between 0 and 1; 0.9 keeps nine tenths of the diversity")
    if not 0.0 <= fresh_share <= 1.0:
        raise BadSetting(f"fresh_share={fresh_share} is not a share; give a number from 0 to 1")


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


def _policy(
    cycle: str, known: Seen | None, fresh_share: float, n: int
) -> tuple[Policy | None, float, tuple[str, ...]]:
    """Return the cycle's policy, its fresh share, and what must be said of it."""
    if known is None:
        policy: Policy = registry.make("cycles", cycle).policy()
        policy = policy.with_fresh(fresh_share) if fresh_share else policy
        return policy, 1.0 - policy.generated_share, ()
    if known.policy is None:
        return None, fresh_share, (f"the cycle {cycle!r} stands on no shelf, so that it is not emulated",)
    policy = known.policy.with_fresh(fresh_share) if fresh_share else known.policy
    return policy, 1.0 - policy.generated_share, ()


def _emulable(task: Any, policy: Policy | None, human: Records | None, known: Seen | None) -> tuple[Any, str]:
    """Return the task, or None and why its loop is not emulated."""
    if policy is None:
        return None, "its cycle is unknown"
    try:
        made = registry.make("tasks", task)
    except UnknownPart:
        return None, f"the task {task!r} stands on no shelf"
    if why := not_emulated(made, policy):
        return None, why
    if human is None and registry.name_of(made) == "text":
        if known is None:
            return None, "it needs human records; name their file"
        return None, "the human texts are not part of a simulation; forecast them for an emulated loop"
    return made, ""


# --- without emulator -------------------------------------------------------------------------------


def _from_curves(ask: _Asked, why: str) -> Forecast:
    """Forecast from fits alone; without observations only the formulas speak."""
    known = ask.usable
    fits = fit_curves(known.diversity, known.errors) if known else ()
    if known is None or not fits:
        few = "simulate at least 4 iterations (karat simulate FILE --iterations 5), and forecast those"
        plateau = drift_plateau(ask.n, ask.fresh_share) if ask.fresh_share else None
        return _made(
            ask,
            method="drift formula alone",
            bias="loops at a temperature below 1 fall much faster than drift",
            plateau=(plateau, (None, None)),
            notes=(f"not emulated: {why}", few),
            reason="no iterations to learn from",
        )
    times = np.linspace(0.0, ask.reach, int(4 * ask.reach) + 1)
    drawn = futures(fits, known.diversity, known.errors, times, seed=ask.seed)
    halves = np.maximum(half_lives(drawn, times), len(known.diversity) - 1.0)
    return _made(
        ask,
        method=(
            f"{len(fits)} curves fitted to {len(known.diversity)} iterations, averaged by AICc weight "
            f"(first {fits[0].name}, {fits[0].weight:.0%}); bootstrap of {len(drawn)}"
        ),
        bias="loops often speed up, so that curves fitted to their beginning come too late",
        halves=halves,
        fan=(times, drawn),
        plateau=_plateau(times, drawn),
        fits=fits,
        notes=(f"not emulated: {why}",),
    )


# --- with emulator ----------------------------------------------------------------------------------


def _from_emulator(ask: _Asked, task: Any, policy: Policy) -> Forecast:
    total = ask.seeds + len(FIRST_SHARES) + REFINED * len(ask.keep)
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        if ask.progress:
            ask.progress("forecast", min(done, total), total)

    loops = []
    for number in range(ask.seeds):
        loops.append(
            emulate(
                task,
                policy,
                ask.temperature,
                n=ask.n,
                iterations=ask.horizon,
                seed=ask.seed + number,
                human=ask.human,
            )
        )
        tell()
    if not all(loop.diversity[0] for loop in loops):
        raise InputError("the emulated model writes one and the same text; raise the temperature or n")
    known = ask.usable
    learner = learner_of(ask.trainer)
    found = posterior([loop.kept() for loop in loops], known.kept() if known else None, learner)
    if known and found.misfit > MISFIT and len(known.diversity) > LEAST_FOR_CURVES:
        curves = _from_curves(ask, f"the loop is unlike the emulated one (chi squared {found.misfit:.0f})")
        return replace(curves, **_told(loops))
    planned = plan(
        task,
        policy,
        ask.temperature,
        n=ask.n,
        horizon=ask.horizon,
        keep=ask.keep,
        found=found,
        human=ask.human,
        seeds=min(2, ask.seeds),
        seed=ask.seed + 100,
        tell=tell,
    )
    times = np.linspace(0.0, ask.reach, int(ask.reach) + 1)
    drawn = found.at(times)
    stretch, low, high = found.stretch()
    made = _made(
        ask,
        method=_method(ask, stretch, low, high),
        bias=_bias(ask, learner, task),
        halves=found.half_lives(),
        fan=(times, drawn),
        plateau=_plateau(times, drawn),
        fits=fit_curves(known.diversity, known.errors) if known else (),
        notes=_beyond(ask),
        emulated=loops,
    )
    return replace(
        made, plan=planned, stretch=stretch if known else None, stretch_interval=(low, high), **_told(loops)
    )


def _told(loops: Sequence[Emulated]) -> dict[str, Any]:
    """Return what the emulated loops say by themselves, as fields of a forecast."""
    kept = tuple(np.mean([loop.kept() for loop in loops], axis=0).tolist())
    judged = [loop.correct for loop in loops if loop.correct is not None]
    return {
        "emulated": kept,
        "emulated_correct": tuple(np.mean(judged, axis=0).tolist()) if judged else (),
        "emulated_half_life": crossing(kept, 0.5),
    }


def _method(ask: _Asked, stretch: float, low: float, high: float) -> str:
    emulated = f"emulator of the grammar, {ask.seeds} seeds, {ask.horizon} iterations"
    known = ask.usable
    if known is None:
        return f"{emulated}, stretched in time by what measured learners took ({low:.1f} to {high:.1f})"
    return (
        f"{emulated}, stretched in time by {stretch:.2f} ({low:.2f} to {high:.2f}) to fit "
        f"{len(known.diversity)} iterations"
    )


def _bias(ask: _Asked, learner: Learner, task: Any) -> str:
    blind = (
        "it knows no errors of syntax"
        if task.verifies
        else "its grammar of a corpus is a chain of n-grams, which memorises: longer ones fall slower"
    )
    if ask.usable is None:
        return (
            "the emulator never learns badly and sharpens at once: trained models took "
            f"{learner.low:g} to {learner.high:g} times as long where we measured it ({learner.source}), "
            f"which the interval holds; {blind}; simulate 4 iterations to correct it"
        )
    pace = (
        "the stretch assumes that the model is slower than the emulator by about the same factor throughout"
        if learner.left == 1
        else "trained models speed up as they lose diversity, so that what remains is taken for "
        f"{learner.left:.0%} of the time that the first iterations promise"
    )
    return f"{pace}; {blind.replace('it knows', 'the emulator knows')}"


def _beyond(ask: _Asked) -> tuple[str, ...]:
    if ask.usable and ask.horizon > ask.reach:
        return (
            f"the fresh share for iteration {ask.horizon} lies beyond three times the observed range: it is "
            "the emulator's, and the loop has only corrected its speed",
        )
    return ()


# --- put together -----------------------------------------------------------------------------------


def _made(
    ask: _Asked,
    *,
    method: str,
    bias: str,
    halves: Floats | None = None,
    fan: tuple[Floats, Floats] | None = None,
    plateau: tuple[float | None, Interval] = (None, (None, None)),
    fits: tuple[Fit, ...] = (),
    notes: tuple[str, ...] = (),
    reason: str = "",
    emulated: Sequence[Emulated] = (),
) -> Forecast:
    """Put a forecast together; what was observed to have halved is read and not forecast."""
    known, value = ask.seen, None
    interval: Interval = (None, None)
    if known and known.half and known.half.value is not None:
        value, interval = known.half.value, known.half.interval
        notes = ("diversity has halved already within the observed iterations", *notes)
    elif halves is not None:
        value, interval, reason = _read(ask, halves)
    if known and not known.enough:
        notes = (f"{len(known.diversity)} iterations are too few to learn from; simulate at least 4", *notes)
    moving = trend(known.correct, ask.n) if known else None
    axis, why = _axis(value, ask.reach, moving, emulated, halves is not None or value is not None)
    return Forecast(
        cycle=ask.cycle,
        temperature=ask.temperature,
        n=ask.n,
        fresh_share=ask.fresh_share,
        reach=ask.reach,
        half_life=value,
        interval=interval,
        reason=reason if value is None else "",
        plateau=plateau[0],
        plateau_interval=plateau[1],
        comparison=compare(fits),
        axis=axis,
        axis_note=why,
        correctness=moving,
        plan=None,
        method=method,
        bias_note=bias,
        notes=(*ask.notes, *(known.notes if known else ()), *notes),
        formulas=Formulas(
            drift_half_life(ask.n),
            drift_collapse(ask.n),
            drift_plateau(ask.n, ask.fresh_share) if ask.fresh_share else None,
            sharpening_time(ask.n, ask.temperature),
        ),
        observed=known.diversity if known else (),
        errors=known.errors if known else (),
        emulated=(),
        emulated_correct=(),
        emulated_half_life=None,
        stretch=None,
        stretch_interval=(None, None),
        fits=fits,
        fan=_fan(*fan) if fan else (),
    )


def _read(ask: _Asked, halves: Floats) -> tuple[float | None, Interval, str]:
    """Return half-life, 95% interval and why there is none, from draws; nothing beyond reach."""
    low, middle, high = (float(x) for x in np.quantile(halves, (0.025, 0.5, 0.975), method="inverted_cdf"))
    limit = ask.reach
    ends: Interval = (min(low, limit), None if high > limit else high)
    if middle <= limit:
        return middle, ends, ""
    chance = float((halves <= limit).mean())
    far = "three times the observed range" if ask.usable else "the horizon"
    reason = (
        f"nothing is said beyond {limit:.0f} iterations, {far}; until then it halves with {chance:.0%} chance"
    )
    return None, (ends[0], None), reason


def _plateau(times: Floats, drawn: Floats) -> tuple[float | None, Interval]:
    """Return the level at the end of reach with its interval, where the forecast no longer falls there."""
    late = times >= 0.8 * times[-1]
    tail = drawn[:, late]
    if not late.sum() > 1 or float(np.median(tail[:, 0] - tail[:, -1])) > SETTLED:
        return None, (None, None)
    low, middle, high = (float(x) for x in np.quantile(tail.mean(axis=1), (0.025, 0.5, 0.975)))
    return middle, (low, high)


def _fan(times: Floats, drawn: Floats) -> tuple[Fan, ...]:
    low, middle, high = np.quantile(drawn, (0.025, 0.5, 0.975), axis=0)
    return tuple(Fan(float(t), float(m), float(a), float(b)) for t, m, a, b in zip(times, middle, low, high))


def _axis(
    value: float | None, reach: float, moving: Trend | None, emulated: Sequence[Emulated], asked: bool
) -> tuple[str, str]:
    """Return what collapses (diversity, correctness, both, neither), and how that is known."""
    if not asked:
        return "", ""
    diversity = value is not None
    said = [
        f"diversity {'halves' if diversity else 'is not forecast to halve'} within {reach:.0f} iterations"
    ]
    wrong = moving is not None and moving.verdict == "falls"
    if moving:
        said.append(moving.words())
    else:
        judged = [loop.correct for loop in emulated if loop.correct is not None]
        if judged:
            first, last = np.mean(judged, axis=0)[[0, -1]]
            said.append(
                f"emulated, the correct share goes from {first:.0%} to {last:.0%}, without errors of syntax"
            )
        else:
            said.append("of correctness nothing is known")
    axis = {(True, True): "both", (True, False): "diversity", (False, True): "correctness"}.get(
        (diversity, wrong), "neither"
    )
    return axis, "; ".join(said)
