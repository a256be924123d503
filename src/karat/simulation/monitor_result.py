"""What a monitor gives: alarms, tiers and lead times by stream, and how they are shown. Knows no detector."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from karat.blocks import Block, Chart, Column, Headline, Line, Note, Section, Table
from karat.errors import InputError

SHOWN = 4  # streams of a chart, beside the baseline; each has a colour of its own
CUT = 3.0  # limits: evidence beyond it would press the rest of its chart flat


def tier_name(place: int) -> str:
    """Return what a line is called, by how far out it is."""
    return ("watch", "warning", "alarm")[place] if place < 3 else f"tier {place + 1}"


@dataclass(frozen=True)
class Alarm:
    """The step at which a detector speaks; `since` is where the change seems to have begun."""

    step: int
    method: str
    direction: str
    tier: str
    since: int | None = None


@dataclass(frozen=True)
class Tier:
    """A line at a relative change. `expected`: chance that noise alone crosses it within the horizon.

    `counts`: whether that is rare enough for the line to be an alarm of its own.
    """

    name: str
    change: float
    step: int | None
    direction: str
    expected: float | None
    counts: bool


@dataclass(frozen=True)
class Watched:
    """One stream: its baseline, its first alarm, its tiers, and the steps in advance.

    `limit` and `sums` are in standard deviations of the baseline; `arl` is the run length that the limit
    would have if mean and spread were known; `p` the chance of sums so high when nothing changes (Holm's
    correction over the streams).
    """

    name: str
    steps: tuple[int, ...]
    values: tuple[float | None, ...]
    baseline: float
    spread: float
    baseline_values: int
    alarm: Alarm | None
    cusum: Alarm | None
    limit: float | None
    arl: float | None
    sums: tuple[float, ...]
    p: float | None
    tiers: tuple[Tier, ...]
    tier: str  # the outermost line that was crossed
    too_late: int | None
    lead: int | None  # steps from the alarm to the step that is too late
    note: str = ""

    def words(self) -> str:
        """Say in one sentence what was found."""
        if self.alarm is None:
            end = f"; it was too late at step {self.too_late}" if self.too_late is not None else ""
            return f"{self.name}: no alarm{end}"
        way = {"fall": "falls", "rise": "rises"}[self.alarm.direction]
        by = "CUSUM" if self.alarm.method == "cusum" else f"the line of {self.alarm.tier}"
        text = f"{self.name}: {way}, alarm at step {self.alarm.step} by {by}"
        if self.lead is None:
            return f"{text}; it is not too late yet"
        if self.lead > 0:
            return f"{text}, {_steps(self.lead)} before it was too late (step {self.too_late})"
        late = "in the same step in which" if self.lead == 0 else f"{_steps(-self.lead)} after"
        return f"{text}, {late} it was too late (step {self.too_late})"


@dataclass(frozen=True)
class State:
    """A stream as it stood at a step; `sum` is the CUSUM as a share of its limit (1: alarm)."""

    name: str
    step: int
    value: float | None
    change: float | None
    sum: float | None
    tier: str
    alarmed: bool


@dataclass(frozen=True)
class Monitored:
    """All streams, and how often alarms come by chance.

    `false_alarms` is the chance that was allowed for one within `horizon` steps in which nothing changes.

    `control_alarms` of `control_streams` are those that the control raised, each of its streams held
    against the others.
    """

    metric: str
    late: str
    line: float
    direction: str
    false_alarms: float
    horizon: int
    allowance: float
    family: str
    streams: tuple[Watched, ...]
    control_alarms: int | None
    control_streams: int
    control_interval: tuple[float, float] | None
    notes: tuple[str, ...]

    # --- verbs ------------------------------------------------------------------------------------

    def worst(self, n: int = 5) -> tuple[Watched, ...]:
        """Return the n streams that alarmed first; those without an alarm follow by their p."""

        def key(one: Watched) -> tuple[float, float]:
            return (one.alarm.step if one.alarm else float("inf"), 1.0 if one.p is None else one.p)

        return tuple(sorted(self.streams, key=key)[:n])

    def at(self, step: int) -> tuple[State, ...]:
        """Return every stream as it stood at a step (or at its last one before it)."""
        found = []
        for one in self.streams:
            place = max((n for n, at in enumerate(one.steps) if at <= step), default=None)
            if place is None:
                raise InputError(f"{one.name}: step {step} lies before the first watched one, {one.steps[0]}")
            value = one.values[place]
            change = None if value is None or not one.baseline else (value - one.baseline) / abs(one.baseline)
            crossed = [t.name for t in one.tiers if t.step is not None and t.step <= step]
            found.append(
                State(
                    one.name,
                    one.steps[place],
                    value,
                    change,
                    one.sums[place] / one.limit if one.limit else None,
                    crossed[-1] if crossed else "",
                    one.alarm is not None and one.alarm.step <= step,
                )
            )
        return tuple(found)

    def words(self) -> str:
        """Say what was found in a few sentences."""
        alarmed = [one for one in self.streams if one.alarm]
        leads = sorted(one.lead for one in alarmed if one.lead is not None)
        missed = sum(one.alarm is None and one.too_late is not None for one in self.streams)
        several = len(self.streams) > 1
        parts = [
            f"{len(alarmed)} of {len(self.streams)} streams of {self.metric} raised an alarm"
            if several
            else self.streams[0].words()
        ]
        if leads and several:
            middle = leads[(len(leads) - 1) // 2]
            ends = f" (from {leads[0]} to {leads[-1]})" if leads[0] != leads[-1] else ""
            parts.append(f"half came at least {_steps(middle)} before it was too late{ends}")
        if missed and several:
            parts.append(f"{missed} became too late without one")
        return "; ".join([*parts, self.chance()])

    def chance(self) -> str:
        """Say how often an alarm comes by chance."""
        whose = "anywhere" if self.family == "holm" and len(self.streams) > 1 else "in a stream"
        text = (
            f"where nothing changes, an alarm {whose} within {self.horizon} steps "
            f"has a chance of at most {self.false_alarms:.1%}"
        )
        if self.control_alarms is None or self.control_interval is None:
            return text
        low, high = self.control_interval
        return (
            f"{text}; of {self.control_streams} control streams {self.control_alarms} raised one "
            f"(rate {low:.0%} to {high:.0%})"
        )

    # --- forms ------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return what `karat monitor --json` prints."""
        return {
            "metric": self.metric,
            "late": self.late or self.metric,
            "line": self.line,
            "direction": self.direction,
            "false_alarms": {
                "expected": self.false_alarms,
                "horizon": self.horizon,
                "family": self.family,
                "control": None
                if self.control_alarms is None
                else {
                    "alarms": self.control_alarms,
                    "streams": self.control_streams,
                    "interval": list(self.control_interval or ()),
                },
            },
            "allowance": self.allowance,
            "streams": [asdict(one) for one in self.streams],
            "words": self.words(),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [self.words()]
        if len(self.streams) > 1:
            lines += [one.words() for one in self.worst(len(self.streams))]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def __report__(self) -> tuple[Section, ...]:
        """Return the alarms as a table, the streams and their sums as charts."""
        first = self.worst(1)[0]
        value = "no alarm" if first.alarm is None else f"step {first.alarm.step}"
        label = "in any stream" if first.alarm is None else f"first alarm of {self.metric}"
        level = "good" if first.alarm is None else "warning"
        blocks: list[Block] = [Headline(value, label, self.words(), level)]  # type: ignore[arg-type]
        blocks += [self._chart(), *self._sums(), self._table()]
        if any(one.tiers for one in self.streams):
            blocks.append(self._lines())
        blocks += [Note(note, "warning") for note in self.notes]
        return (Section("Early warning", tuple(blocks), id="monitor"),)

    def _shown(self) -> list[Watched]:
        """The worst stream of each group (what stands before a comma), then the worst of the rest."""
        ordered = self.worst(len(self.streams))
        groups = {one.name.partition(",")[0]: one for one in reversed(ordered)}
        firsts = sorted(groups.values(), key=ordered.index)
        return [*firsts, *(one for one in ordered if one not in firsts)][:SHOWN]

    def _chart(self) -> Chart:
        shown = self._shown()
        rows: list[dict[str, Any]] = []
        known = {(one.baseline, one.spread, one.baseline_values) for one in shown}
        lines: list[Line] = []
        if len(known) == 1:
            one = shown[0]
            reach = _reach(one)
            ends = sorted({min(s.steps[0] for s in shown), max(s.steps[-1] for s in shown)})
            band = {"value": one.baseline, "low": one.baseline - reach, "high": one.baseline + reach}
            rows += [{"step": step, "stream": "baseline", **band} for step in ends]
            lines = [Line(y, text) for y, text in self._tier_lines(one, shown)]
        rows += [
            {"step": step, "value": value, "stream": one.name, "low": None, "high": None}
            for one in shown
            for step, value in zip(one.steps, one.values)
        ]
        alarms = [f"{one.name}: step {one.alarm.step}" for one in shown if one.alarm]
        said = f" Alarms: {'; '.join(alarms)}." if alarms else ""
        left = f" {SHOWN} of {len(self.streams)} streams." if len(self.streams) > SHOWN else ""
        return Chart(
            "line",
            tuple(rows),
            x="step",
            y="value",
            series="stream",
            low="low",
            high="high",
            title=f"What is watched: {self.metric}",
            x_title="step",
            y_title=self.metric,
            note=f"Band: where 95% of single values lie when nothing changes.{said}{left}",
            lines=tuple(lines),
        )

    def _tier_lines(self, one: Watched, shown: list[Watched]) -> list[tuple[float, str]]:
        """The lines that lie near values: others would press the chart flat."""
        signs = {"fall": (-1,), "rise": (1,), "both": (-1, 1)}[self.direction]
        reach = _reach(one)
        seen = [v for stream in shown for v in stream.values if v is not None]
        low, high = min(*seen, one.baseline - reach), max(*seen, one.baseline + reach)
        room = 0.15 * (high - low)
        found = []
        for tier in one.tiers:
            for sign in signs:
                y = one.baseline + sign * tier.change * abs(one.baseline)
                if low - room <= y <= high + room:
                    found.append((y, f"{tier.name} {sign * tier.change:+.0%}".replace("-", "\u2212")))
        return found

    def _sums(self) -> tuple[Chart, ...]:
        rows = [
            {"step": step, "sum": min(CUT, total / one.limit), "stream": one.name}
            for one in self._shown()
            if one.limit
            for step, total in zip(one.steps, one.sums)
        ]
        if not rows:
            return ()
        cut = f" Cut off at {CUT:g}." if any(row["sum"] == CUT for row in rows) else ""
        chart = Chart(
            "line",
            tuple(rows),
            x="step",
            y="sum",
            series="stream",
            title="How the evidence adds up (CUSUM)",
            x_title="step",
            y_title="sum as a share of its limit",
            note=f"Above 1 is an alarm.{cut} {self.chance()[:1].upper()}{self.chance()[1:]}.",
            lines=(Line(1.0, "alarm"),),
        )
        return (chart,)

    def _table(self) -> Table:
        rows = [
            {
                "stream": one.name,
                "step": one.alarm.step if one.alarm else None,
                "by": (one.alarm.tier or "CUSUM") if one.alarm else "",
                "direction": one.alarm.direction if one.alarm else "",
                "since": one.cusum.since if one.cusum else None,
                "tier": one.tier,
                "too_late": one.too_late,
                "lead": one.lead,
                "p": one.p,
                "_flag": "alarm" if one.alarm else "",
                "_help": one.note,
            }
            for one in self.worst(len(self.streams))
        ]
        late = self.late or self.metric
        return Table(
            (
                Column("stream", "stream"),
                Column("step", "alarm at step", "number"),
                Column("by", "by"),
                Column("direction", "direction"),
                Column("since", "since", "number", "Where the change seems to have begun, by the CUSUM."),
                Column(
                    "tier", "outermost line", help="The outermost line that was crossed, by chance or not."
                ),
                Column(
                    "too_late",
                    "too late at",
                    "number",
                    f"The first step at which {late} has changed by {self.line:.0%}.",
                ),
                Column("lead", "lead", "number", "Steps from the alarm to the step that is too late."),
                Column(
                    "p",
                    "p",
                    "number",
                    "Chance of a CUSUM so high when nothing changes, corrected for all streams.",
                ),
            ),
            tuple(rows),
            title="Alarms",
        )

    def _lines(self) -> Table:
        rows = [
            {
                "stream": one.name,
                "tier": tier.name,
                "change": tier.change,
                "step": tier.step,
                "expected": tier.expected,
                "counts": tier.counts,
            }
            for one in self._shown()
            for tier in one.tiers
        ]
        return Table(
            (
                Column("stream", "stream"),
                Column("tier", "line"),
                Column("change", "change", "percent"),
                Column("step", "crossed at step", "number"),
                Column(
                    "expected",
                    "by noise",
                    "percent",
                    f"Chance that noise crosses it within {self.horizon} steps.",
                ),
                Column(
                    "counts",
                    "counts",
                    help="Whether noise crosses it so rarely that it is an alarm of its own.",
                ),
            ),
            tuple(rows),
            title="Lines",
        )


def _reach(one: Watched) -> float:
    """Half the width of a 95% prediction interval for one more value of the baseline."""
    from karat.auditing.statistics import t_quantile

    n = one.baseline_values
    return float(t_quantile(0.975, n - 1) * one.spread * (1 + 1 / n) ** 0.5)


def _steps(number: int) -> str:
    return f"{number} step" if number == 1 else f"{number} steps"
