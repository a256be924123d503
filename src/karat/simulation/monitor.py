"""The verb `monitor`: says early that a metric drifts away, and how often it would say so by chance.

Knows streams of numbers, no model. Two detectors: lines at stated losses or gains against the baseline
(tiers), and a tabular CUSUM, whose limit is chosen so that the stated chance of a false alarm holds although
mean and spread are known only from the baseline's few values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from karat.auditing.statistics import Floats, holm, wilson
from karat.errors import BadSetting, NotEnoughData
from karat.simulation import cusum
from karat.simulation.monitor_result import Alarm, Monitored, Tier, Watched, tier_name
from karat.simulation.streams import Found, Stream, open_streams

LEAST = 3  # baseline values
Direction = Literal["fall", "rise", "both"]


@dataclass(frozen=True)
class _Rules:
    """The settings that all streams share."""

    direction: Direction
    methods: tuple[str, ...]
    tiers: tuple[float, ...]
    line: float
    false_alarms: float
    horizon: int
    allowance: float
    correlation: float
    family: str
    several: int  # streams, over which the chance of a false alarm is shared
    seed: int

    @property
    def sides(self) -> int:
        return 2 if self.direction == "both" else 1

    @property
    def level(self) -> float:
        """The chance of a false alarm that each detector may have."""
        return self.false_alarms / max(1, len(self.methods))


def monitor(
    stream: Any,
    *,
    value: str = "levenshtein",
    by: Sequence[str] = (),
    baseline: Sequence[float] | None = None,
    first: int = 0,
    direction: Direction = "both",
    methods: Sequence[Literal["cusum", "threshold"]] = ("cusum", "threshold"),
    tiers: Sequence[float] = (0.1, 0.25, 0.5),
    late: str = "",
    line: float = 0.5,
    false_alarms: float = 0.05,
    arl: float = 0.0,
    horizon: int = 0,
    allowance: float = 0.5,
    correlation: float = 0.0,
    family: Literal["holm", "each"] = "holm",
    seed: int = 0,
) -> Monitored:
    """Watch a metric step by step and say when it drifts away, with the chance of a false alarm.

    stream: numbers; a file (CSV, JSONL, Parquet, JSON); records; a simulation or its folder, where each cycle
        and seed is a stream and the control the baseline; or names with numbers.
    value: the column or measure that is watched.
    by: columns whose values tell streams apart in one file.
    baseline: values that are known to be good; otherwise a simulation's control, or the first values.
    first: how many first values of each stream are its baseline (0: a third of it, 3 to 30).
    direction: which change matters: fall, rise or both.
    methods: cusum (finds small lasting changes) and threshold (lines at the tiers).
    tiers: relative changes against the baseline's mean: watch, warning, alarm.
    late: another column or measure, which the alarm is to come before (empty: the same one).
    line: relative change of it at which it is too late.
    false_alarms: chance that anything is called an alarm within the horizon though nothing changes.
    arl: mean steps between two false alarms of a stream; when given, it sets the chance in place of
        false_alarms.
    horizon: steps that the chance is about (0: those of the longest stream).
    allowance: of the CUSUM, in standard deviations; half the shift that is to be found soonest.
    correlation: of each value with the one before it when nothing changes; limits widen with it.
    family: holm: the chance is that of all streams together; each: of each stream alone.
    seed: where the simulated limits begin.
    """
    _check(direction, methods, tiers, line, false_alarms, arl, horizon, allowance, correlation, first, family)
    found = open_streams(stream, value, late, tuple(by))
    parted, notes = _parted(found, baseline, first)
    length = horizon or max(len(one.steps) for one in parted)
    rules = _Rules(
        direction=direction,
        methods=tuple(dict.fromkeys(methods)),
        tiers=tuple(sorted(tiers)),
        line=line,
        false_alarms=1 - float(np.exp(-length / arl)) if arl else false_alarms,
        horizon=length,
        allowance=allowance,
        correlation=correlation,
        family=family,
        several=len(parted) if family == "holm" else 1,
        seed=seed,
    )
    watched = _watch(parted, rules)
    controls = (
        _watch(found.controls, dataclasses.replace(rules, several=1, family="each")) if found.controls else ()
    )
    hits = sum(one.alarm is not None for one in controls)
    return Monitored(
        metric=value if not _plain_numbers(found) else "value",
        late=late,
        line=line,
        direction=direction,
        false_alarms=rules.false_alarms,
        horizon=length,
        allowance=allowance,
        family=family,
        streams=watched,
        control_alarms=hits if controls else None,
        control_streams=len(controls),
        control_interval=wilson(hits, len(controls)) if controls else None,
        notes=(*notes, *_doubts(parted, watched, rules)),
    )


def _check(
    direction: str,
    methods: Sequence[str],
    tiers: Sequence[float],
    line: float,
    false_alarms: float,
    arl: float,
    horizon: int,
    allowance: float,
    correlation: float,
    first: int,
    family: str,
) -> None:
    if direction not in ("fall", "rise", "both"):
        raise BadSetting(f"direction={direction!r} must be fall, rise or both")
    if not methods or set(methods) - {"cusum", "threshold"}:
        raise BadSetting(f"methods={' '.join(methods)!r} must name cusum, threshold or both")
    if family not in ("holm", "each"):
        raise BadSetting(f"family={family!r} must be holm or each")
    if any(not tier > 0 for tier in (*tiers, line)):
        raise BadSetting(
            f"tiers={tuple(tiers)} and line={line} must be above 0, such as 0.1 for ten per cent"
        )
    if not 0 < false_alarms < 1 or (arl and not 2 < arl < np.inf):
        raise BadSetting(
            f"false_alarms={false_alarms} must lie between 0 and 1, and arl={arl:g} above 2 steps"
        )
    if horizon < 0 or first < 0 or 0 < first < LEAST:
        raise BadSetting(
            f"horizon={horizon} must not be negative, and first={first} be 0 or at least {LEAST}"
        )
    if not 0 <= allowance < np.inf or not -1 < correlation < 1:
        raise BadSetting(
            f"allowance={allowance} must be a number from 0; correlation={correlation} within -1 and 1"
        )


def _plain_numbers(found: Found) -> bool:
    return len(found.streams) == 1 and found.streams[0].name == "stream"


def _parted(found: Found, given: Sequence[float] | None, first: int) -> tuple[tuple[Stream, ...], list[str]]:
    """Return streams that each have a baseline, which is not watched itself."""
    parted, notes = [], []
    own = 0
    for stream in found.streams:
        seen = [v for v in stream.values if v is not None]
        if not seen:
            raise NotEnoughData(f"{stream.name}: no step has a number; name another column with --value")
        if given is not None and len(given):
            good = tuple(float(v) for v in given if np.isfinite(v))
            parted.append(dataclasses.replace(stream, baseline=good))
        elif stream.baseline and not first:
            parted.append(stream)
        else:
            own += 1
            parted.append(_split(stream, first or min(30, max(LEAST, len(seen) // 3))))
    for stream in parted:
        if len(stream.baseline) < LEAST:
            raise NotEnoughData(
                f"{stream.name}: a baseline needs at least {LEAST} values, but has {len(stream.baseline)}; "
                "give known good ones with --baseline, or more first ones with --first"
            )
        if not any(v is not None for v in stream.values):
            raise NotEnoughData(f"{stream.name}: no step is left after the baseline; lower --first")
    if own:
        notes.append(
            "the baseline is the beginning of the stream itself: a change that had begun by then is part of "
            "it; a control, or known good values (--baseline), would show it"
        )
    if given is not None and len(given) and any(stream.late is not None for stream in parted):
        notes.append("of the late metric no baseline is known: its changes are told from its first value")
    missing = sum(v is None for stream in parted for v in stream.values)
    if missing:
        notes.append(f"{missing:,} steps without a number were left out; the sums stand still there")
    return tuple(parted), notes


def _split(stream: Stream, first: int) -> Stream:
    """Return the stream after its first values, which become its baseline."""
    good: list[float] = []
    place = 0
    while place < len(stream.values) and len(good) < first:
        now = stream.values[place]
        place += 1
        if now is not None:
            good.append(now)
    late = stream.late
    before = tuple(v for v in late[:place] if v is not None) if late is not None else ()
    return Stream(
        stream.name,
        stream.steps[place:],
        stream.values[place:],
        None if late is None else late[place:],
        tuple(good),
        before,
    )


# ------------------------------------------------------------------------------------ the detectors


def _watch(streams: Sequence[Stream], rules: _Rules) -> tuple[Watched, ...]:
    """Run both detectors over all streams; Holm's step-down sets the level of each CUSUM."""
    charts = [_chart(stream, rules) for stream in streams]
    p_values = [chart.p for chart in charts]
    adjusted = holm(p_values) if rules.family == "holm" else tuple(p_values)
    ranks = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    tried = len(ranks)
    levels = {
        place: rules.level / (tried - rank if rules.family == "holm" else 1)
        for rank, (_, place) in enumerate(ranks)
    }
    found = []
    for place, (stream, chart) in enumerate(zip(streams, charts)):
        level = levels.get(place, rules.level)
        alarmed = adjusted[place] is not None and adjusted[place] <= rules.level  # type: ignore[operator]
        found.append(_watched(stream, chart, level, adjusted[place], alarmed, rules))
    return tuple(found)


@dataclass(frozen=True)
class _Chart:
    """A stream standardised by its baseline, with its sums; spread 0: the baseline is constant."""

    mean: float
    spread: float
    values: Floats
    up: Floats
    down: Floats
    maxima: Floats | None
    singles: Floats | None
    p: float | None


def _chart(stream: Stream, rules: _Rules) -> _Chart:
    good = np.array(stream.baseline)
    mean, spread = float(good.mean()), float(good.std(ddof=1))
    values = np.array([np.nan if v is None else v for v in stream.values], dtype=float)
    if spread <= 1e-9 * max(abs(mean), float(np.abs(good).max()), 1e-300):
        nothing = np.zeros(len(values))
        return _Chart(mean, 0.0, values, nothing, nothing, None, None, None)
    up, down = cusum.sums((values - mean) / spread, rules.allowance)
    if rules.direction == "fall":
        up = np.zeros(len(up))
    elif rules.direction == "rise":
        down = np.zeros(len(down))
    trials = int(max(cusum.TRIALS, min(200_000, 10 * rules.several / rules.level)))
    maxima, singles = cusum.null_maxima(
        len(good),
        max(rules.horizon, len(values)),
        rules.allowance,
        rules.sides,
        correlation=rules.correlation,
        trials=trials,
        seed=rules.seed,
    )
    p = None
    if "cusum" in rules.methods:
        p = cusum.chance(maxima, float(max(up.max(), down.max())))
    return _Chart(mean, spread, values, up, down, maxima, singles, p)


def _watched(
    stream: Stream, chart: _Chart, level: float, p: float | None, alarmed: bool, rules: _Rules
) -> Watched:
    limit = None
    alarm = None
    if chart.maxima is not None and "cusum" in rules.methods:
        limit = cusum.limit_of(chart.maxima, level)
        if alarmed:
            alarm = _cusum_alarm(stream, chart, limit)
    tiers = _tiers(stream, chart, rules) if "threshold" in rules.methods else ()
    crossed = [
        Alarm(t.step, "threshold", t.direction, t.name) for t in tiers if t.step is not None and t.counts
    ]
    alarms = sorted([*([alarm] if alarm else []), *crossed], key=lambda one: one.step)
    reached = [t for t in tiers if t.step is not None]
    too_late = _too_late(stream, chart.mean, rules)
    first = alarms[0] if alarms else None
    return Watched(
        name=stream.name,
        steps=stream.steps,
        values=stream.values,
        baseline=chart.mean,
        spread=chart.spread,
        baseline_values=len(stream.baseline),
        alarm=first,
        cusum=alarm,
        limit=limit,
        arl=None if limit is None else cusum.run_length(rules.allowance, max(limit, 1e-6), sides=rules.sides),
        sums=tuple(round(float(max(a, b)), 6) for a, b in zip(chart.up, chart.down)),
        p=p,
        tiers=tiers,
        tier=reached[-1].name if reached else "",
        too_late=too_late,
        lead=None if too_late is None or first is None else too_late - first.step,
        note=""
        if chart.spread
        else "the baseline is constant: any change is a change; only lines can be drawn",
    )


def _cusum_alarm(stream: Stream, chart: _Chart, limit: float) -> Alarm | None:
    over = np.flatnonzero(np.maximum(chart.up, chart.down) > limit)
    if not len(over):
        return None
    place = int(over[0])
    rising = chart.up[place] >= chart.down[place]
    run = chart.up if rising else chart.down
    zero = np.flatnonzero(run[: place + 1] == 0)
    begun = stream.steps[int(zero[-1]) + 1] if len(zero) else stream.steps[0]
    return Alarm(stream.steps[place], "cusum", "rise" if rising else "fall", "", begun)


def _tiers(stream: Stream, chart: _Chart, rules: _Rules) -> tuple[Tier, ...]:
    """Return each line, the step that crosses it, and the chance that noise alone crosses it."""
    if chart.mean == 0:
        return ()
    found = []
    for place, tier in enumerate(rules.tiers):
        step, way = _crossing(stream.steps, stream.values, chart.mean, tier, rules.direction)
        expected = None
        if chart.singles is not None:
            expected = cusum.chance(chart.singles, tier * abs(chart.mean) / chart.spread)
        counts = expected is None or expected <= rules.level / rules.several
        found.append(Tier(tier_name(place), tier, step, way, expected, counts))
    return tuple(found)


def _too_late(stream: Stream, mean: float, rules: _Rules) -> int | None:
    if stream.late is None:
        return _crossing(stream.steps, stream.values, mean, rules.line, rules.direction)[0] if mean else None
    good = stream.late_baseline or tuple(v for v in stream.late[:1] if v is not None)
    if not good or not np.mean(good):
        return None
    return _crossing(stream.steps, stream.late, float(np.mean(good)), rules.line, "both")[0]


def _crossing(
    steps: Sequence[int], values: Sequence[float | None], mean: float, change: float, direction: str
) -> tuple[int | None, str]:
    """Return the first step that lies further from the mean than the change, and on which side."""
    for step, value in zip(steps, values):
        if value is None:
            continue
        relative = (value - mean) / abs(mean)
        if relative <= -change and direction != "rise":
            return step, "fall"
        if relative >= change and direction != "fall":
            return step, "rise"
    return None, ""


def _doubts(streams: Sequence[Stream], watched: Sequence[Watched], rules: _Rules) -> list[str]:
    """Say what makes the false-alarm chance uncertain."""
    notes = []
    if any(one.spread == 0 for one in watched):
        notes.append(
            "a constant baseline has no spread: CUSUM and chances of false alarms cannot be given for it"
        )
    if "threshold" in rules.methods and any(one.baseline == 0 for one in watched):
        notes.append("a baseline with the mean 0 has no relative change: lines cannot be drawn for it")
    loud = sorted({t.name for one in watched for t in one.tiers if not t.counts})
    if loud:
        notes.append(
            f"noise alone would cross the line of {', '.join(loud)} too often: there it is shown, "
            "but is no alarm of its own"
        )
    short = min(len(stream.baseline) for stream in streams)
    if short < 10 and "cusum" in rules.methods:
        notes.append(
            f"with {short} baseline values the limit of the CUSUM must be high, so that it finds large "
            "changes only; 30 values bring it close to that of a known baseline"
        )
    baselines = {stream.baseline for stream in streams}
    related = [
        r
        for good in baselines
        if len(good) >= 20 and (r := cusum.correlation_of(good)) > 2 / len(good) ** 0.5
    ]
    if related and max(related) > rules.correlation + 0.1:
        notes.append(
            f"neighbouring values of the baseline are correlated (about {max(related):.2f}): false alarms "
            f"come more often than stated; set correlation={max(related):.1f}"
        )
    return notes
