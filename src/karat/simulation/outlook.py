"""What a forecast says: in JSON, in words, on a page. Knows neither emulator nor simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from karat.blocks import Block, Chart, Column, Headline, Level, Line, Note, Section, Table
from karat.simulation.correctness import Trend
from karat.simulation.curves import Comparison, Fit
from karat.simulation.planning import Need, Plan, Point

Interval = tuple[float | None, float | None]


@dataclass(frozen=True)
class Fan:
    """The forecast curve: diversity kept at an iteration, median and 95% interval."""

    iteration: float
    kept: float
    low: float
    high: float


@dataclass(frozen=True)
class Formulas:
    """What can be said without any loop, for these n, temperature and fresh share."""

    drift_half_life: float
    drift_collapse: float
    drift_plateau: float | None  # None without fresh data: drift then ends at zero
    sharpening_time: float | None  # None at temperature 1 and above

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the report's table."""
        found: list[dict[str, Any]] = [
            {
                "what": "drift alone: pairwise diversity halves",
                "value": f"{self.drift_half_life:,.0f} iterations",
            },
            {
                "what": "drift alone: one text is left",
                "value": f"about {self.drift_collapse:,.0f} iterations",
            },
        ]
        if self.drift_plateau is not None:
            found.append(
                {"what": "drift alone, with the fresh share: stays at", "value": f"{self.drift_plateau:.1%}"}
            )
        if self.sharpening_time is not None:
            words = f"about {self.sharpening_time:.0f} iterations"
            found.append({"what": "sharpening alone: one text is left", "value": words})
        return found


@dataclass(frozen=True)
class Forecast:
    """When diversity halves, where it stays, what fresh human data keep it; relative to iteration 0."""

    cycle: str
    temperature: float
    n: int
    fresh_share: float
    reach: float  # the last iteration that anything is said about
    half_life: float | None
    interval: Interval
    reason: str  # why there is no half-life
    plateau: float | None  # share of the first diversity at which the loop settles within reach
    plateau_interval: Interval
    comparison: Comparison | None
    axis: str  # diversity, correctness, both, neither: what collapses within reach
    axis_note: str
    correctness: Trend | None
    plan: Plan | None
    method: str
    bias_note: str
    notes: tuple[str, ...]
    formulas: Formulas
    observed: tuple[float, ...]  # mean diversity over seeds
    errors: tuple[float, ...]  # its standard errors
    emulated: tuple[float, ...]  # diversity kept, mean over seeds
    emulated_correct: tuple[float, ...]
    emulated_half_life: float | None
    stretch: float | None
    stretch_interval: Interval
    fits: tuple[Fit, ...]
    fan: tuple[Fan, ...]

    @property
    def drift_half_life(self) -> float:
        """Iterations until noise alone would halve diversity."""
        return self.formulas.drift_half_life

    @property
    def needs(self) -> tuple[Need, ...]:
        """What each wanted retention needs."""
        return self.plan.needs if self.plan else ()

    @property
    def fresh_share_for(self) -> dict[str, float | None]:
        """The fresh share for each wanted retention."""
        return {f"{need.kept:g}": need.share for need in self.needs}

    def to_json(self) -> dict[str, Any]:
        """Return what `karat forecast --json` prints."""
        return {
            "half_life": {"value": self.half_life, "interval": list(self.interval), "reason": self.reason},
            "plateau": self.plateau,
            "plateau_interval": list(self.plateau_interval),
            "fresh_share_for": self.fresh_share_for,
            "fresh_share_interval": {f"{need.kept:g}": list(need.interval) for need in self.needs},
            "fresh_rows_for": {f"{need.kept:g}": need.rows for need in self.needs},
            "fresh_share_curve": [asdict(point) for point in self.plan.points] if self.plan else [],
            "fresh_share_horizon": self.plan.horizon if self.plan else None,
            "comparison": self.comparison.to_json() if self.comparison else None,
            "axis": {"collapses": self.axis, "note": self.axis_note},
            "correctness": self.correctness.to_json() if self.correctness else None,
            "method": self.method,
            "bias_note": self.bias_note,
            "notes": list(self.notes),
            "cycle": self.cycle,
            "temperature": self.temperature,
            "n": self.n,
            "fresh_share": self.fresh_share,
            "reach": self.reach,
            "drift_half_life": self.drift_half_life,
            "formulas": asdict(self.formulas),
            "observed": list(self.observed),
            "observed_errors": list(self.errors),
            "emulated": list(self.emulated),
            "emulated_correct": list(self.emulated_correct),
            "emulated_half_life": self.emulated_half_life,
            "stretch": self.stretch,
            "stretch_interval": list(self.stretch_interval),
            "fits": [asdict(fit) for fit in self.fits],
            "fan": [asdict(point) for point in self.fan],
        }

    # --- words --------------------------------------------------------------------------------------

    def words(self) -> str:
        """Say the forecast in one sentence."""
        low, high = self.interval
        if self.half_life is None:
            bound = f" before iteration {low:.0f}" if low is not None else ""
            return f"cycle {self.cycle}: diversity is not forecast to halve{bound}"
        end = f"more than {self.reach:.0f}" if high is None else f"{high:.1f}"
        value = f"{self.half_life:.1f} iterations ({low or 0:.1f} to {end})"
        return f"cycle {self.cycle}: diversity halves after about {value}"

    def __str__(self) -> str:
        lines = [self.words()]
        if self.reason:
            lines.append(f"why no half-life: {self.reason}")
        if self.plateau is not None:
            lines.append(f"it settles at {self.plateau:.0%} {_range(self.plateau_interval)} of iteration 0")
        if self.comparison:
            lines.append(self.comparison.words)
        lines += [f"method: {self.method}", f"bias: {self.bias_note}"]
        lines += [self._need_words(need) for need in self.needs]
        if self.axis_note:
            lines.append(f"what collapses: {self.axis} ({self.axis_note})")
        return "\n".join([*lines, *self.notes])

    def _need_words(self, need: Need) -> str:
        assert self.plan is not None
        start = f"fresh human share that keeps {need.kept:.0%} at iteration {self.plan.horizon}: "
        if need.share is None:
            return start + "none was found"
        return start + f"{need.share:.0%} {_range(need.interval)}, {need.rows:,} fresh rows an iteration"

    # --- a page -------------------------------------------------------------------------------------

    def __report__(self) -> tuple[Section, ...]:
        """Return the forecast, its fan, plateau against zero and the fresh share as blocks."""
        value = "not within reach" if self.half_life is None else f"{self.half_life:.0f} iterations"
        level: Level = "info" if self.half_life is None else "warning"
        detail = ". ".join(part for part in (self.words(), self.reason) if part)
        blocks: list[Block] = [Headline(value, "forecast until diversity has halved", detail, level)]
        if self.fan:
            blocks.append(self._fan_chart())
        blocks.append(self._ends())
        if self.plan:
            blocks += [self._share_chart(self.plan.points), self._share_table()]
        blocks.append(
            Table(
                (Column("what", "without any loop"), Column("value", "value")),
                tuple(self.formulas.rows()),
                title="What formulas say",
                note=f"For n = {self.n:,} texts an iteration at temperature {self.temperature:g}.",
            )
        )
        blocks += [Note(self.bias_note, "warning"), *(Note(text) for text in self.notes)]
        return (Section("Forecast", tuple(blocks), id="forecast"),)

    def _fan_chart(self) -> Chart:
        first = self.observed[0] if self.observed else 1.0
        rows: list[dict[str, Any]] = [
            {
                "iteration": t,
                "kept": value / first,
                "low": (value - 1.96 * error) / first,
                "high": (value + 1.96 * error) / first,
                "what": "observed",
            }
            for t, (value, error) in enumerate(zip(self.observed, self.errors))
        ]
        rows += [{**asdict(point), "what": "forecast"} for point in self.fan]
        rows += [
            {"iteration": t, "kept": value, "low": None, "high": None, "what": "emulator as it is"}
            for t, value in enumerate(self.emulated)
            if t <= self.reach
        ]
        return Chart(
            "line",
            tuple(rows),
            x="iteration",
            y="kept",
            series="what",
            low="low",
            high="high",
            title="Diversity kept: observed, and forecast with its 95% band",
            x_title="iteration",
            y_title="share of iteration 0",
            note=f"{self.method}. Nothing is said beyond iteration {self.reach:.0f}.",
            lines=(Line(0.5, "half"),),
        )

    def _ends(self) -> Table:
        rows: list[dict[str, Any]] = []
        if self.comparison:
            words = self.comparison.words
            rows.append({"question": "plateau or zero", "answer": self.comparison.verdict, "why": words})
        if self.plateau is not None:
            interval = _range(self.plateau_interval)
            why = f"within iteration {self.reach:.0f} the forecast no longer falls"
            rows.append(
                {"question": "where it settles", "answer": f"{self.plateau:.0%} {interval}", "why": why}
            )
        else:
            why = f"up to iteration {self.reach:.0f} the forecast has not settled, or nothing tells"
            rows.append({"question": "where it settles", "answer": "not known", "why": why})
        if self.axis_note:
            rows.append({"question": "what collapses", "answer": self.axis, "why": self.axis_note})
        columns = (Column("question", "question"), Column("answer", "answer"), Column("why", "why"))
        return Table(columns, tuple(rows), title="Where it ends")

    def _share_chart(self, points: Sequence[Point]) -> Chart:
        assert self.plan is not None
        return Chart(
            "line",
            tuple(asdict(point) for point in points),
            x="share",
            y="kept",
            low="low",
            high="high",
            title=f"Diversity kept at iteration {self.plan.horizon}, by fresh human share",
            x_title="share of fresh human data in each batch",
            y_title="share of iteration 0",
            note="Emulated, and stretched as the forecast; the band holds seeds and stretch.",
            lines=tuple(Line(need.kept, f"{need.kept:.0%} wanted") for need in self.needs),
        )

    def _share_table(self) -> Table:
        return Table(
            (
                Column("kept", "diversity kept", "percent"),
                Column("share", "fresh human share needed", "percent"),
                Column("interval", "95% interval", "interval"),
                Column("rows", "fresh human rows an iteration", "number"),
            ),
            tuple({**need.to_json(), "interval": list(need.interval)} for need in self.needs),
            title="How much fresh human data keep diversity",
            note="All data fresh are taken to keep everything: that is the loop's control.",
        )


def _range(interval: Interval) -> str:
    low, high = interval
    if low is None or high is None:
        return ""
    return f"({low:.0%} to {high:.0%})"
