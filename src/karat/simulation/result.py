"""What a simulation gives: runs, controls, half-lives, in JSON and words. Knows no trainer and no task."""

from __future__ import annotations

import statistics as plain
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from karat.auditing.statistics import t_quantile
from karat.blocks import Section
from karat.errors import InputError, did_you_mean
from karat.records import Records
from karat.simulation import showing
from karat.simulation.audited import Measured
from karat.simulation.base import Policy
from karat.simulation.half_lives import HalfLife, crossing, half_life_words, over_seeds, reached
from karat.simulation.measures import Interval, Measures

__all__ = ["HalfLife", "Measured", "crossing", "half_life_words"]  # and all that is defined here

CONTROL = "control"

COMPARED = (
    "levenshtein",
    "correct",
    "valid",
    "distinct",
    "distinct_correct",
    "coverage",
    "coverage_rare",
    "entropy",
    "hill_1",
    "hill_2",
    "new",
    "self_bleu",
    "mean_length",
    "mean_depth",
    "real_loss",
)
"""Measures that are set beside the control; n-grams, errors and audit metrics are added as they come."""

SHARES = ("correct", "valid", "coverage", "coverage_rare", "new", "self_bleu", "levenshtein")
"""Measures that lie between 0 and 1; none of the others that are compared lies below 0."""

OWN = ("real_loss", "training_loss", "accepted", "written", "seconds")
"""Figures of an iteration that are not measured on its texts."""


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
    audited: dict[str, Measured] = field(default_factory=dict)  # the audit's metrics, by their specs
    written: int = 0  # texts that the models wrote, more than n where a selection took some of them
    accepted: float | None = None  # share of them that a selection kept
    by_model: dict[str, dict[str, float]] = field(default_factory=dict)  # where a cycle has several models

    def value(self, name: str) -> float | None:
        """Return one measure by name; None where it could not be measured.

        Names are those of Measures, real_loss, training_loss, accepted, written, seconds, distinct_1 and so
        on, error:CLASS (share of texts), and audit:METRIC or METRIC. Raises InputError for any other.
        """
        m = self.measures
        if name in OWN or (name in NUMBERS):
            found = getattr(self if name in OWN else m, name)
            return None if found is None else float(found)
        kind, _, rest = name.partition(":")
        if kind == "error":
            return None if m.valid is None else m.errors.get(rest, 0) / m.n
        if name.startswith("distinct_") and name[len("distinct_") :] in m.distinct_n:
            return m.distinct_n[name[len("distinct_") :]]
        if kind == "audit":
            return self.audited[rest].value if rest in self.audited else None
        if name in self.audited:
            return self.audited[name].value
        known = [*NUMBERS, *OWN, *self.audited]
        raise InputError(f"an iteration has no measure {name!r}{did_you_mean(name, known)}")

    def interval(self, name: str) -> Interval | None:
        """Return the 95% interval of one measure by name; None where it has none."""
        found = self.audited.get(name.removeprefix("audit:"))
        if name in self.measures.intervals or found is None:
            return self.measures.intervals.get(name)
        return None if found.low is None or found.high is None else (found.low, found.high)

    def to_json(self) -> dict[str, Any]:
        """Return one row of `runs[].iterations`."""
        measured = asdict(self.measures)
        return {
            "iteration": self.iteration,
            **measured,
            "intervals": {name: list(interval) for name, interval in self.measures.intervals.items()},
            "audit": audit_json(self.audited),
            "trained_on": asdict(self.trained_on),
            "written": self.written,
            "accepted": self.accepted,
            "by_model": self.by_model,
            "real_loss": self.real_loss,
            "training_loss": self.training_loss,
            "seconds": round(self.seconds, 3),
        }


NUMBERS = tuple(
    name
    for name, kind in Measures.__annotations__.items()
    if name != "n" and str(kind).partition(" ")[0] in ("int", "float")
)
"""The measures of an iteration's texts that are one number."""


def audit_json(found: dict[str, Measured]) -> dict[str, Any]:
    """Return audit metrics as JSON holds them."""
    return {
        name: {
            "value": one.value,
            "interval": None if one.low is None else [one.low, one.high],
            "real": one.real,
            "n": one.n,
        }
        for name, one in found.items()
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
class Band:
    """Where a measure lies without a loop: the control's mean, and a 95% prediction interval for one more."""

    mean: float
    low: float
    high: float
    n: int

    def above(self, value: float) -> bool:
        """Whether the band lies above a value, by more than numbers are rounded."""
        return value < self.low - 1e-9


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
    real_audited: dict[str, Measured] = field(default_factory=dict)
    """The audit's metrics of another real sample: what an iteration would have at best."""
    gate: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of each seed: whether its first model passed (`passed`), and the shares `valid` and `correct`."""
    policies: dict[str, Policy] = field(default_factory=dict)
    """Of each cycle: how its training data were made, fresh shares included."""

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

    def why(self, cycle: str, *, seed: int | None = None) -> str:
        """Say in plain words what happened to a cycle, with its first seed unless you name another."""
        loops = [loop for loop in self.runs if loop.cycle == cycle]
        if not loops:
            known = list(dict.fromkeys(loop.cycle for loop in self.runs))
            raise InputError(
                f"no cycle {cycle!r} was run{did_you_mean(cycle, known)} (there are: {', '.join(known)})"
            )
        known_seeds = [loop.seed for loop in loops]
        if seed is not None and seed not in known_seeds:
            raise InputError(f"cycle {cycle!r} was not run with seed {seed} (seeds: {known_seeds})")
        loop = loops[0 if seed is None else known_seeds.index(seed)]
        first, last = loop.iterations[0], loop.iterations[-1]
        a, b = first.measures, last.measures
        band = self.bands.get("levenshtein")
        beside = ""
        if band and last.iteration > 0:
            where = "below" if band.above(b.levenshtein) else "not below"
            beside = (
                f" ({where} what it is without a loop at the same temperature: {band.mean:.3f} "
                f"[{band.low:.3f}, {band.high:.3f}])"
            )
        which = f", seed {loop.seed} (one of {len(loops)})" if len(loops) > 1 else ""
        parts = [
            f"{cycle}{which}: from iteration 0 to {last.iteration} diversity went "
            f"from {a.levenshtein:.3f} to {b.levenshtein:.3f}{beside}"
        ]
        if a.correct is not None and b.correct is not None:
            parts.append(f"correct texts from {a.correct:.1%} to {b.correct:.1%}")
        parts.append(f"different texts from {a.distinct:,} to {b.distinct:,} of {a.n:,}")
        share = last.trained_on.human / max(1, last.trained_on.rows)
        parts.append(f"the last model trained on {last.trained_on.rows:,} rows, {share:.0%} of them human")
        if loop.ended:
            parts.append(f"it ended early, {loop.ended}")
        return "; ".join(parts) + "." + self._drifted(last)

    def _drifted(self, last: Iteration) -> str:
        """Say whether texts became shorter or longer than without a loop: measures of texts follow that."""
        band, length = self.bands.get("mean_length"), last.measures.mean_length
        if band is None or last.iteration == 0 or band.low <= length <= band.high:
            return ""
        how = "shorter" if length < band.low else "longer"
        return (
            f" Texts became {how}: {length:.1f} tokens, against {band.mean:.1f} "
            f"[{band.low:.1f}, {band.high:.1f}] without a loop."
        )

    def written(self, cycle: str, iteration: int, *, seed: int = 0) -> Records:
        """Return the texts that a cycle's model wrote at an iteration, for instance to audit them."""
        known = list(dict.fromkeys(loop.cycle for loop in (*self.runs, *self.controls)))
        if cycle not in known:
            raise InputError(
                f"no cycle {cycle!r} was run{did_you_mean(cycle, known)} (there are: {', '.join(known)})"
            )
        wanted = self.key_of(cycle, seed, iteration)
        found = [i for i, key in enumerate(self.samples.column("loop")) if key == wanted]
        if not found:
            raise InputError(
                f"no texts of cycle {cycle!r}, seed {seed}, iteration {iteration}; see .at({iteration})"
            )
        return self.samples.take(found)

    def key_of(self, cycle: str, seed: int, iteration: int) -> str:
        """Return what the column `loop` of `samples` holds for a cycle's texts of an iteration."""
        # The cycles of a seed share their first model; several models have first ones of their own.
        own = any(loop.cycle == cycle and loop.iterations[0].by_model for loop in self.runs)
        return f"{'first' if iteration == 0 and not own else cycle}:{seed}:{iteration}"

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
            outside=None if band is None or found.iteration == 0 else band.above(m.levenshtein),
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
            "real_audit": audit_json(self.real_audited),
            "gate": self.gate,
            "policies": {label: asdict(policy) for label, policy in self.policies.items()},
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

    def __report__(self) -> tuple[Section, ...]:
        """Return curves, the state at the end, and texts of several iterations as blocks."""
        return showing.sections(self)


def half_life(loops: Sequence[Loop]) -> HalfLife:
    """Return the half-life of diversity over the seeds of one cycle, relative to the first model's texts.

    What the first model has lost already against human data is not in it: see its diversity beside theirs.
    """
    if not all(loop.iterations[0].measures.levenshtein for loop in loops):
        note = "the first model writes one and the same text, so that there is no diversity to lose"
        return HalfLife(None, (None, None), note)
    return over_seeds(
        [
            reached(
                [row.measures.levenshtein for row in loop.iterations],
                [row.measures.intervals["levenshtein"][0] for row in loop.iterations],
                [row.measures.intervals["levenshtein"][1] for row in loop.iterations],
            )
            for loop in loops
        ]
    )


def named(loops: Iterable[Loop]) -> tuple[str, ...]:
    """Return the measures that are set beside the control: COMPARED, and what these loops have besides."""
    rows = [row for loop in loops for row in loop.iterations]
    grams = {f"distinct_{order}" for row in rows for order in row.measures.distinct_n}
    errors = {f"error:{kind}" for row in rows for kind in row.measures.errors}
    audits = dict.fromkeys(f"audit:{name}" for row in rows for name in row.audited)
    return (*COMPARED, *sorted(grams), *sorted(errors), *audits)


def bands(controls: Sequence[Loop], names: Sequence[str] | None = None) -> dict[str, Band]:
    """Return where each measure lies without a loop.

    The control's iterations share nothing (new data, new model, new samples), so that their spread is the
    spread that chance gives to one iteration. The interval is one for the next value,
    mean ± t s sqrt(1 + 1/k), cut to the range of the measure.
    """
    found = {}
    for name in named(controls) if names is None else names:
        values = [value for loop in controls for value in loop.curve(name) if value is not None]
        if len(values) < 3:
            continue
        mean, spread = plain.fmean(values), plain.stdev(values)
        reach = t_quantile(0.975, len(values) - 1) * spread * (1 + 1 / len(values)) ** 0.5
        low, high = mean - reach, mean + reach
        if name in SHARES or (name.startswith(("error:", "distinct_")) and name != "distinct_correct"):
            low, high = max(0.0, low), min(1.0, high)
        elif name in COMPARED:
            low = max(0.0, low)
        found[name] = Band(mean, low, high, len(values))
    return found
