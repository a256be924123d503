"""What a pilot gives: arms, differences, a recommendation. Knows how to say, not how to find."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from karat.blocks import Section
from karat.errors import InputError, did_you_mean
from karat.piloting.decision import Decision, Gap
from karat.piloting.diversity import Measure


@dataclass(frozen=True)
class Figure:
    """A score in points (0 to 100) with its 95 % interval; rows and test are its variances."""

    value: float
    interval: tuple[float, float]
    error: float
    rows: float = 0.0
    test: float = 0.0


@dataclass(frozen=True)
class Arm:
    """One recipe through one provider: what came of it, what it cost, how good and how varied it is.

    usd: of all calls, failed ones and those before the plan too; None where no price is known.
    usd_per_record, tokens_per_record: of a kept record of its own text. trained_on: records of the student.
    ahead: rows that stand in the plan of the whole, and need not be paid again.
    """

    name: str
    provider: str
    recipe: str
    model: str
    planned: int
    kept: int
    distinct: int
    reasons: dict[str, int]
    usd: float | None
    tokens: int
    calls: int
    reused: int
    usd_per_record: float | None
    tokens_per_record: float | None
    usd_of_whole: float | None
    tokens_of_whole: float | None
    ahead: int
    trained_on: int = 0
    score: Figure | None = None
    diversity: tuple[Measure, ...] = ()
    distance: Measure | None = None

    @property
    def rejected_share(self) -> float:
        """Share of the planned records that came to nothing."""
        return max(0.0, 1 - self.kept / max(self.planned, 1))


@dataclass(frozen=True)
class Pilot:
    """The result of `karat.pilot`: print it, or ask why an arm is recommended or not.

    metric: macro_f1 of the student, two_sample_auc (distance to human, turned so that more is better) or
    empty. human: the same student on as many human records. chance: the best of guessing. higher: what a
    higher value of each diversity metric means.
    """

    arms: tuple[Arm, ...]
    decision: Decision
    gaps: tuple[Gap, ...]
    diverse: tuple[Gap, ...]
    metric: str
    trainer: str
    task: str
    n: int
    plan_n: int
    tested_on: int
    refits: int
    margin: float
    seed: int
    human: Figure | None = None
    human_records: int = 0
    human_diversity: tuple[Measure, ...] = ()
    chance: float | None = None
    higher: dict[str, str] | None = None
    notes: tuple[str, ...] = ()

    def arm(self, name: str) -> Arm:
        """Return an arm by name. Raises InputError."""
        for one in self.arms:
            if one.name == name:
                return one
        names = [one.name for one in self.arms]
        raise InputError(f"no arm {name!r}{did_you_mean(name, names)} (there are: {', '.join(names)})")

    def gap(self, one: str, other: str) -> Gap | None:
        """The difference of two arms as it was tested; None where one has no score."""
        return next((gap for gap in self.gaps if {gap.one, gap.other} == {one, other}), None)

    def why(self, name: str) -> str:
        """Say in one sentence why an arm is recommended, or why it is not."""
        self.arm(name)
        chosen = self.decision.recommended
        if name == chosen:
            return f"{name} is recommended: {self.decision.reason}"
        gap = self.gap(name, chosen)
        if gap is None:
            return f"{name} is not recommended: it has no score to compare with {chosen}"
        sign = 1 if gap.one == name else -1
        low, high = sorted(sign * end for end in gap.interval)
        said = {
            "differs": "is shown to be better" if sign * gap.value > 0 else "is shown to be worse",
            "same": f"is no further away than {self.margin:g} in points",
            "open": "was not told apart",
        }[gap.verdict]
        return (
            f"{name} is not recommended: it {said} ({sign * gap.value:+.1f} points against {chosen}, "
            f"95 % interval {low:+.1f} to {high:+.1f}, p = {gap.p_holm:.2g} after Holm)"
        )

    @property
    def headline(self) -> str:
        """What the pilot found, in a few words."""
        if self.decision.outcome == "better":
            return f"Take {self.decision.recommended}"
        if self.decision.outcome == "no difference found":
            return "No difference found"
        return f"Take {self.decision.recommended}"

    @property
    def power(self) -> str:
        """How large a difference this pilot could have seen, and what it takes to see the margin."""
        seen, growth = self.decision.detectable, self.decision.growth
        if seen is None or growth is None:
            return ""
        told = (
            f"This pilot finds a true difference of {seen:.1f} points between any two arms four times in "
            "five."
        )
        if growth > 1:
            rows, test = math.ceil(growth * self._trained()), math.ceil(growth * self.tested_on)
            told += (
                f" To find one of {self.margin:g} as surely takes about {rows:,} rows an arm and "
                f"{test:,} test records."
            )
        return told

    def _trained(self) -> int:
        return max((one.trained_on for one in self.arms), default=self.n)

    def to_json(self) -> dict[str, Any]:
        """Return what `karat pilot --json` prints."""
        return {
            "task": self.task,
            "n": self.n,
            "plan_n": self.plan_n,
            "metric": self.metric,
            "trainer": self.trainer,
            "tested_on": self.tested_on,
            "refits": self.refits,
            "margin": self.margin,
            "seed": self.seed,
            "decision": {**vars(self.decision), "equals": list(self.decision.equals)},
            "power": self.power,
            "arms": [_arm(one) for one in self.arms],
            "human": None
            if self.human is None
            else {"records": self.human_records, **_figure(self.human), **_measures(self.human_diversity)},
            "chance": self.chance,
            "gaps": [_gap(gap) for gap in self.gaps],
            "diversity_gaps": [_gap(gap) for gap in self.diverse],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        take = f"take {self.decision.recommended}"
        head = self.headline if self.headline.lower() == take.lower() else f"{self.headline}; {take}"
        lines = [f"{head}: {self.decision.reason}"]
        for one in self.arms:
            told = "no score"
            if one.score is not None:
                low, high = one.score.interval
                told = f"{one.score.value:.1f} [{low:.1f}, {high:.1f}]"
            price = "price unknown" if one.usd is None else f"{one.usd:.4g} USD"
            lines.append(
                f"  {one.name:<32} {told:<22} {one.kept:>5,} of {one.planned:,} kept  {one.tokens:>9,} tokens"
                f"  {price}"
            )
        return "\n".join([*lines, *filter(None, [self.power]), *(f"note: {note}" for note in self.notes)])

    def __report__(self) -> tuple[Section, ...]:
        """Return the recommendation, the arms, the differences and what is still open as blocks."""
        from karat.piloting.showing import blocks

        return (Section("Pilot", tuple(blocks(self)), id="pilot"),)


def _figure(found: Figure) -> dict[str, Any]:
    return {
        "score": found.value,
        "interval": list(found.interval),
        "error": found.error,
        "variance": {"rows": found.rows, "test": found.test},
    }


def _measures(found: tuple[Measure, ...]) -> dict[str, Any]:
    return {
        "diversity": [
            {
                "name": one.name,
                "value": one.value,
                "interval": None if one.interval is None else list(one.interval),
                "signature": one.signature,
            }
            for one in found
        ]
    }


def _arm(one: Arm) -> dict[str, Any]:
    plain = {
        name: value
        for name, value in vars(one).items()
        if name not in ("score", "diversity", "distance", "reasons")
    }
    scored = _figure(one.score) if one.score is not None else {"score": None, "interval": None}
    far = one.distance
    return {
        **plain,
        "rejected": {"share": one.rejected_share, "reasons": dict(one.reasons)},
        **scored,
        **_measures(one.diversity),
        "distance_to_human": None
        if far is None
        else {
            "name": far.name,
            "value": far.value,
            "interval": None if not far.interval else list(far.interval),
        },
    }


def _gap(gap: Gap) -> dict[str, Any]:
    return {**vars(gap), "interval": list(gap.interval)}
