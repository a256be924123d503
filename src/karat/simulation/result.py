"""What a simulation gives: runs, controls, half-lives, and what they show. Knows no trainer and no task."""

from __future__ import annotations

import statistics as plain
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from karat import registry
from karat.auditing.statistics import t_quantile
from karat.blocks import Block, Chart, Column, Example, Examples, Headline, Line, Note, Section, Table
from karat.errors import InputError, UnknownPart, did_you_mean
from karat.records import Records
from karat.simulation.audited import Measured
from karat.simulation.measures import Measures

CONTROL = "control"

COMPARED = (
    "levenshtein",
    "correct",
    "valid",
    "distinct",
    "distinct_correct",
    "entropy",
    "mean_length",
    "real_loss",
)
"""Measures that are set beside the control."""


@dataclass(frozen=True)
class Warned:
    """A warning with a stable code."""

    code: str
    message: str


@dataclass(frozen=True)
class TrainedOn:
    """What one iteration's model was trained on."""

    rows: int
    human: int
    synthetic: int
    by_iteration: dict[str, int]  # rows that each iteration's model wrote


@dataclass(frozen=True)
class Iteration:
    """One turn of a loop: a model was trained, wrote n texts, and these were measured."""

    iteration: int
    measures: Measures
    trained_on: TrainedOn
    real_loss: float | None  # nats a character on human texts that no model saw
    training_loss: float | None
    seconds: float
    audited: dict[str, Measured] = field(default_factory=dict)  # the audit's metrics, where the task asks
    written: int = 0  # texts that the models wrote
    accepted: float | None = None  # the share of them that a selection let through
    by_model: dict[str, dict[str, float]] = field(default_factory=dict)  # of several models, each alone

    def value(self, name: str) -> float | None:
        """Return one measure by name."""
        found = self.real_loss if name == "real_loss" else getattr(self.measures, name)
        return None if found is None else float(found)

    def to_json(self) -> dict[str, Any]:
        """Return one row of `runs[].iterations`."""
        measured = asdict(self.measures)
        return {
            "iteration": self.iteration,
            **measured,
            "intervals": {name: list(interval) for name, interval in self.measures.intervals.items()},
            "trained_on": asdict(self.trained_on),
            "real_loss": self.real_loss,
            "training_loss": self.training_loss,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Loop:
    """One cycle with one seed, iteration by iteration; `ended` says why it stopped before its time."""

    cycle: str
    seed: int
    iterations: tuple[Iteration, ...]
    ended: str = ""

    def curve(self, name: str) -> list[float | None]:
        """Return one measure over the iterations."""
        return [row.value(name) for row in self.iterations]


@dataclass(frozen=True)
class HalfLife:
    """Iterations until the diversity of the first model's texts has halved; None where it did not happen."""

    value: float | None
    interval: tuple[float | None, float | None]
    note: str


@dataclass(frozen=True)
class Band:
    """Where a measure lies without a loop: the control's mean, and a 95% prediction interval for one more."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Row:
    """One line of an answer: a cycle at an iteration beside what the control gives."""

    cycle: str
    seed: int
    iteration: int
    levenshtein: float
    kept: float  # share of the first model's diversity
    correct: float | None
    distinct: int
    outside: bool | None  # whether the diversity lies below the control's prediction interval


@dataclass(frozen=True)
class Simulated:
    """Loops and their controls. `samples` holds all texts that the models wrote, each with its lineage."""

    task: str
    described: dict[str, str]
    trainer: str
    temperature: float
    n: int
    real: Measures
    runs: tuple[Loop, ...]
    controls: tuple[Loop, ...]
    half_life: dict[str, HalfLife]
    bands: dict[str, Band]
    samples: Records
    warnings: tuple[Warned, ...]
    real_audited: dict[str, Measured] = field(default_factory=dict)  # the ceiling: real beside real
    gate: dict[str, dict[str, Any]] = field(default_factory=dict)  # by seed: has the first model learned?

    # --- verbs ------------------------------------------------------------------------------------

    def at(self, iteration: int) -> tuple[Row, ...]:
        """Return every run as it stood at an iteration (or at its last one, if it ended before)."""
        if iteration < 0:
            raise InputError(f"there is no iteration {iteration}; the first is 0")
        return tuple(self._row(loop, min(iteration, len(loop.iterations) - 1)) for loop in self.runs)

    def worst(self, n: int = 5) -> tuple[Row, ...]:
        """Return the n runs that kept the smallest share of their diversity, at their last iteration."""
        rows = [self._row(loop, len(loop.iterations) - 1) for loop in self.runs]
        return tuple(sorted(rows, key=lambda row: row.kept)[:n])

    def why(self, cycle: str) -> str:
        """Say in plain words what happened to a cycle."""
        loops = [loop for loop in self.runs if loop.cycle == cycle]
        if not loops:
            known = list(dict.fromkeys(loop.cycle for loop in self.runs))
            raise InputError(
                f"no cycle {cycle!r} was run{did_you_mean(cycle, known)} (there are: {', '.join(known)})"
            )
        first, last = loops[0].iterations[0], loops[0].iterations[-1]
        a, b = first.measures, last.measures
        parts = [
            f"{cycle}: from iteration 0 to {last.iteration} diversity went "
            f"from {a.levenshtein:.3f} to {b.levenshtein:.3f}"
        ]
        if a.correct is not None and b.correct is not None:
            parts.append(f"correct texts from {a.correct:.1%} to {b.correct:.1%}")
        parts.append(f"different texts from {a.distinct:,} to {b.distinct:,} of {a.n:,}")
        share = last.trained_on.human / max(1, last.trained_on.rows)
        parts.append(f"the last model trained on {last.trained_on.rows:,} rows, {share:.0%} of them human")
        sentence = "; ".join(parts)
        band = self.bands.get("levenshtein")
        if band and last.iteration > 0:
            where = (
                "which is below that" if b.levenshtein < band.low else "which is not below what chance gives"
            )
            sentence += (
                f", {where}: without a loop, at the same temperature, diversity is {band.mean:.3f} "
                f"[{band.low:.3f}, {band.high:.3f}]"
            )
        return sentence + "."

    def written(self, cycle: str, iteration: int, *, seed: int = 0) -> Records:
        """Return the texts that a cycle's model wrote at an iteration, for instance to audit them."""
        keys = self.samples.column("loop")
        # All cycles of a seed share their first model.
        wanted = f"{'first' if iteration == 0 else cycle}:{seed}:{iteration}"
        found = [i for i, key in enumerate(keys) if key == wanted]
        if not found:
            raise InputError(
                f"no texts of cycle {cycle!r}, seed {seed}, iteration {iteration}; see .at({iteration})"
            )
        return self.samples.take(found)

    def _row(self, loop: Loop, position: int) -> Row:
        found, first = loop.iterations[position], loop.iterations[0].measures
        m, band = found.measures, self.bands.get("levenshtein")
        return Row(
            cycle=loop.cycle,
            seed=loop.seed,
            iteration=found.iteration,
            levenshtein=m.levenshtein,
            kept=m.levenshtein / first.levenshtein if first.levenshtein else 0.0,
            correct=m.correct,
            distinct=m.distinct,
            outside=None if band is None or found.iteration == 0 else m.levenshtein < band.low,
        )

    # --- forms ------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return what `karat simulate --json` prints."""
        return {
            "runs": [
                {
                    "cycle": loop.cycle,
                    "seed": loop.seed,
                    "iterations": [row.to_json() for row in loop.iterations],
                    "ended": loop.ended,
                }
                for loop in self.runs
            ],
            "half_life": {
                cycle: {"value": h.value, "interval": list(h.interval), "note": h.note}
                for cycle, h in self.half_life.items()
            },
            "controls": {
                "what": "each iteration trains on new human data alone and samples at the same temperature",
                "runs": [
                    {"seed": loop.seed, "iterations": [row.to_json() for row in loop.iterations]}
                    for loop in self.controls
                ],
                "bands": {
                    name: {"mean": b.mean, "interval": [b.low, b.high], "n": b.n}
                    for name, b in self.bands.items()
                },
            },
            "real": asdict(self.real),
            "task": {"spec": self.task, **self.described},
            "trainer": self.trainer,
            "temperature": self.temperature,
            "n": self.n,
            "warnings": [{"code": w.code, "message": w.message, "records": []} for w in self.warnings],
        }

    def __str__(self) -> str:
        lines = [f"{'cycle':<22} seed  it  diversity  correct  distinct  human share"]
        for loop in (*self.runs, *self.controls):
            for row in loop.iterations:
                m, correct = (
                    row.measures,
                    "      -" if row.measures.correct is None else f"{row.measures.correct:7.3f}",
                )
                share = row.trained_on.human / max(1, row.trained_on.rows)
                lines.append(
                    f"{loop.cycle:<22} {loop.seed:>4} {row.iteration:>3}  {m.levenshtein:>9.3f}  "
                    f"{correct}  {m.distinct:>8,}  {share:>10.0%}"
                )
        lines += [f"half-life of {cycle}: {half_life_words(h)}" for cycle, h in self.half_life.items()]
        return "\n".join([*lines, *(f"warning {w.code}: {w.message}" for w in self.warnings)])

    def caption(self) -> str:
        """Say under which conditions the figures hold; stands under each chart."""
        trainer, task = shortened("trainers", self.trainer), shortened("tasks", self.task)
        return (
            f"temperature {self.temperature:g}, {self.n:,} texts an iteration, trainer {trainer}, task {task}"
        )

    def __report__(self) -> tuple[Section, ...]:
        """Return curves, the state at the end, and texts of several iterations as blocks."""
        blocks: list[Block] = [self._headline()]
        blocks += [Note(w.message, "warning") for w in self.warnings]
        names = [("levenshtein", "Diversity", "mean normalised edit distance")]
        if self.real.correct is not None:
            names += [
                ("correct", "Correct texts", "share"),
                ("distinct_correct", "Different correct texts", "texts"),
            ]
        else:
            names += [
                ("distinct", "Different texts", "texts"),
                ("real_loss", "Loss on human texts", "nats a character"),
            ]
        blocks += [self._chart(*name) for name in names]
        blocks.append(self._table())
        blocks.append(self._examples())
        return (
            Section("What happens if models keep training on their own output", tuple(blocks), id="simulate"),
        )

    def _headline(self) -> Headline:
        worst = self.worst(1)[0]
        half = self.half_life[worst.cycle]
        value = f"{worst.kept:.0%}"
        label = f"of its diversity is left in cycle {worst.cycle} at iteration {worst.iteration}"
        if half.value is not None:
            value = f"{half.value:.0f} iterations"
            label = f"until cycle {worst.cycle} has lost half of its diversity"
        return Headline(
            value,
            label,
            self.why(worst.cycle),
            "warning" if worst.outside else "info",
        )

    def _chart(self, name: str, title: str, unit: str) -> Chart:
        rows = []
        for loop in (*self.runs, *self.controls):
            several = len({other.seed for other in self.runs}) > 1
            label = f"{loop.cycle}, seed {loop.seed}" if several else loop.cycle
            for row in loop.iterations:
                low, high = row.measures.intervals.get(name, (None, None))
                rows.append(
                    {
                        "iteration": row.iteration,
                        "value": row.value(name),
                        "cycle": label,
                        "low": low,
                        "high": high,
                    }
                )
        real = None if name == "real_loss" else getattr(self.real, name)
        return Chart(
            "line",
            tuple(rows),
            x="iteration",
            y="value",
            series="cycle",
            low="low",
            high="high",
            title=title,
            x_title="iteration",
            y_title=unit,
            note=f"{self.caption()}. control: no loop, new human data each time, same temperature.",
            lines=() if real is None else (Line(float(real), "human data"),),
        )

    def _table(self) -> Table:
        last = max(row.iteration for loop in self.runs for row in loop.iterations)
        rows = []
        for row in self.at(last):
            rows.append(
                {
                    **asdict(row),
                    "half_life": half_life_words(self.half_life[row.cycle]),
                    "_flag": bool(row.outside),
                }
            )
        return Table(
            (
                Column("cycle", "cycle"),
                Column("seed", "seed", "number"),
                Column("iteration", "iteration", "number"),
                Column(
                    "levenshtein",
                    "diversity",
                    "number",
                    "mean normalised edit distance over all pairs of texts",
                ),
                Column("kept", "kept", "percent", "share of the first model's diversity"),
                Column("correct", "correct", "percent"),
                Column("distinct", "different texts", "number"),
                Column("half_life", "half-life"),
            ),
            tuple(rows),
            title="The end of each run",
            note=self.caption(),
        )

    def _examples(self) -> Examples:
        keys, texts = self.samples.column("loop"), self.samples.texts()
        grouped: dict[str, list[str]] = {}
        for key, text in zip(keys, texts):
            grouped.setdefault(key, []).append(text)
        rows = []
        for loop in self.runs:
            if loop.seed != self.runs[0].seed:
                continue
            last = len(loop.iterations) - 1
            for position in sorted({0, last // 2, last}):
                key = f"{'first' if position == 0 else loop.cycle}:{loop.seed}:{position}"
                common = Counter(grouped[key]).most_common(6)
                for text, times in common:
                    rows.append(
                        Example(
                            f"{loop.cycle}, iteration {position}",
                            text,
                            reason=f"{times:,} of {len(grouped[key]):,}",
                        )
                    )
        return Examples(tuple(rows), "The most common texts of each iteration", "How often each was written.")


def shortened(shelf: str, spec: str) -> str:
    """Return a spec without the settings that are as they always are."""
    try:
        part = registry.make(shelf, spec)
    except UnknownPart:  # an object that the user made, which stands on no shelf
        return spec
    usual = {field.name: field.default for field in fields(part) if field.init}
    pairs = registry.parse(spec)[1]
    kept = [f"{key}={text}" for key, text in pairs.items() if getattr(part, key) != usual[key]]
    return registry.name_of(part) + (":" + ",".join(kept) if kept else "")


def half_life_words(half: HalfLife) -> str:
    """Say a half-life in a few words."""
    if half.value is None:
        low = half.interval[0]
        return f"not reached; more than {low:.1f} iterations" if low is not None else "not reached"
    low, high = half.interval
    end = "?" if high is None else f"{high:.1f}"
    return f"{half.value:.1f} iterations [{low:.1f}, {end}]"


def crossing(values: Sequence[float], target: float) -> float | None:
    """Return where a curve first falls to the target (linear between iterations); None if it never does."""
    for t, value in enumerate(values):
        if value <= target:
            if t == 0:
                return 0.0
            before = values[t - 1]
            return t - 1 + (before - target) / (before - value)
    return None


def half_life(loops: Sequence[Loop]) -> HalfLife:
    """Return the half-life of diversity over the seeds of one cycle, relative to the first model's texts."""
    points: list[float | None] = []
    lows: list[float | None] = []
    highs: list[float | None] = []
    last = max(len(loop.iterations) for loop in loops) - 1
    for loop in loops:
        estimates = [row.measures for row in loop.iterations]
        target = estimates[0].levenshtein / 2
        points.append(crossing([m.levenshtein for m in estimates], target))
        lows.append(crossing([m.intervals["levenshtein"][0] for m in estimates], target))
        highs.append(crossing([m.intervals["levenshtein"][1] for m in estimates], target))
    reached = [point for point in points if point is not None]
    if 2 * len(reached) <= len(points):
        early = [low for low in lows if low is not None]
        note = f"diversity did not halve within {last} iterations; the half-life is longer than that"
        if reached:
            note = f"diversity halved in {len(reached)} of {len(points)} seeds within {last} iterations"
        return HalfLife(None, (min(early) if early else float(last), None), note)
    # A seed that did not get there counts as later than all that did.
    ordered = sorted(float("inf") if point is None else point for point in points)
    value = plain.median(ordered) if ordered[-1] != float("inf") else ordered[len(ordered) // 2]
    known = [high for high in highs if high is not None]
    ends = (min(low for low in lows if low is not None), max(known) if len(known) == len(highs) else None)
    note = f"range over {len(loops)} seeds, with the sampling error of each"
    if len(loops) == 1:
        note = "one seed: the interval holds the sampling error of the measure, not the spread between runs"
    return HalfLife(value, ends, note)


def bands(controls: Sequence[Loop], names: Sequence[str] = COMPARED) -> dict[str, Band]:
    """Return where each measure lies without a loop.

    The control's iterations share nothing (new data, new model, new samples), so that their spread is the
    spread that
    chance gives to one iteration. The interval is one for the next value, mean ± t s sqrt(1 + 1/k).
    """
    found = {}
    for name in names:
        values = [value for loop in controls for value in loop.curve(name) if value is not None]
        if len(values) < 3:
            continue
        mean, spread = plain.fmean(values), plain.stdev(values)
        reach = t_quantile(0.975, len(values) - 1) * spread * (1 + 1 / len(values)) ** 0.5
        found[name] = Band(mean, mean - reach, mean + reach, len(values))
    return found
