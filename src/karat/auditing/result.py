"""What an audit gives: scores with baselines, warnings, examples. Knows how to show, not how to make them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from karat.auditing.gate import holds
from karat.blocks import Section
from karat.errors import BadSetting, did_you_mean

Setting = str | int | float | bool
ALPHA = 0.05
"""The chance of even one false flag in an audit without any real difference (after Holm)."""


@dataclass(frozen=True)
class Source:
    """A corpus as an audit names it."""

    path: str
    records: int
    fingerprint: str


@dataclass(frozen=True)
class Warned:
    """Something that a reader of the scores must know; the codes are stable."""

    code: str
    message: str
    records: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slice:
    """One metric on the records that share one value of a field."""

    value: float | None
    interval: tuple[float, float] | None
    reference: float | None
    difference: float | None
    p: float | None
    n: int


@dataclass(frozen=True)
class Score:
    """One metric of a corpus, beside what it is by chance, at best and for the reference."""

    name: str
    settings: dict[str, Setting]
    signature: str
    value: float | None
    interval: tuple[float, float] | None
    reference: float | None
    reference_interval: tuple[float, float] | None
    difference: float | None
    difference_interval: tuple[float, float] | None
    p: float | None
    p_holm: float | None
    flagged: bool
    chance: float | None
    best: float | None
    n: int
    by: dict[str, Slice] = field(default_factory=dict)
    note: str = ""
    details: dict[str, float] = field(default_factory=dict)
    help: str = ""
    higher: str = ""
    family: str = ""
    effect: float | None = None
    """The difference without a scale: odds ratio for shares, else the ratio to the reference."""
    effect_name: str = ""
    detectable: float | None = None
    """The smallest true difference that this comparison finds four times in five (before correction)."""
    equivalence: float | None = None
    """The smallest margin within which the two sides are shown to be the same (two one-sided tests, 5%)."""
    verdict: str = ""
    """differs, same (within the margin of the audit) or open; empty where nothing was tested."""
    baseline: float | None = None
    """The value of the same metric in an earlier audit."""
    cures: dict[str, str] = field(default_factory=dict)

    @property
    def advice(self) -> str:
        """What to do about a flagged difference; empty where there is none or nothing is known to help."""
        if not self.flagged:
            return ""
        if self.difference is None:  # a distance: it lies above or below what chance gives
            below = None not in (self.value, self.chance) and self.value < self.chance  # type: ignore[operator]
            return self.cures.get("lower" if below else "higher", "")
        return self.cures.get("higher" if self.difference > 0 else "lower", "")

    @property
    def finding(self) -> str:
        """What the score says, in one sentence with its figures."""
        if self.value is None:
            return f"{self.name} has no value here" + (f": {self.note}" if self.note else "")
        said = f"{self.name} is {number(self.value)}"
        if self.reference is not None:
            said += f", human data has {number(self.reference)}"
        elif self.chance is not None:
            said += f", chance gives {number(self.chance)}"
        if self.effect is not None and self.effect_name in ("odds_ratio", "ratio"):
            words = {"odds_ratio": "times the odds", "ratio": "times as much"}[self.effect_name]
            said += f" ({number(self.effect)} {words})"
        if self.verdict == "open" and self.detectable is not None:
            said += f"; a true difference of {number(self.detectable)} would be found four times in five"
        return said

    def __str__(self) -> str:
        parts = [f"{self.signature} = {number(self.value)}"]
        if self.interval is not None:
            parts.append(f"[{number(self.interval[0])}, {number(self.interval[1])}]")
        parts.extend(
            f"{name} {number(found)}"
            for name, found in (("reference", self.reference), ("chance", self.chance), ("best", self.best))
            if found is not None
        )
        return " ".join(parts)


@dataclass(frozen=True)
class Evidence:
    """One record that shows best what a metric sees."""

    id: str
    metric: str
    score: float
    reason: str
    text: str
    label: str | None = None


@dataclass(frozen=True)
class Audited:
    """The result of `karat.audit`: print it, ask for a score, the worst records, or why a record is named."""

    candidate: Source
    reference: Source | None
    scores: tuple[Score, ...]
    warnings: tuple[Warned, ...]
    evidence: tuple[Evidence, ...]
    samples: tuple[Evidence, ...]
    """A few records of both sides as they come (metric is "human" or "synthetic")."""
    skipped: dict[str, str]
    """Metric -> why it was not computed, for metrics that were not asked for by name."""
    mode: str
    seed: int
    groups: int
    seconds: float = 0.0
    margin: float = 0.1
    """Sides that differ by less than this share of the reference's value count as the same."""
    provenance: dict[str, str] = field(default_factory=dict)
    """Versions, hashes of the files and licences, by name."""

    def score(self, name: str) -> Score:
        """Return the score of a metric, named as `distinct_n` or `distinct_n:n=3`. Raises BadSetting."""
        wanted, _, rest = name.partition(":")
        pairs = dict(pair.split("=", 1) for pair in rest.split(",")) if rest else {}
        for score in self.scores:
            shown = {key: _setting(value) for key, value in score.settings.items()}
            if score.name == wanted and all(shown.get(key) == value for key, value in pairs.items()):
                return score
        known = [score.name for score in self.scores]
        raise BadSetting(
            f"no score named {name!r}{did_you_mean(wanted, known)} (there are: {', '.join(known)})"
        )

    def worst(self, k: int = 5) -> tuple[Evidence, ...]:
        """Return the k records that tell most, taking the metrics in turn and no record twice."""
        queues: dict[str, list[Evidence]] = {}
        for named in self.evidence:
            queues.setdefault(named.metric, []).append(named)
        found: dict[str, Evidence] = {}
        while len(found) < k and any(queues.values()):
            for queue in queues.values():
                while queue and queue[0].id in found:
                    queue.pop(0)
                if queue and len(found) < k:
                    one = queue.pop(0)
                    found[one.id] = one
        return tuple(found.values())

    def why(self, name: str) -> tuple[str, ...]:
        """Return why a metric says what it says, or every reason for which a record is named.

        For a metric: the finding, its note, what to do about it, and the records that show it most.
        For the id of a record: its reasons and warnings; empty if it is not named in this audit.
        """
        if any(score.name == name.partition(":")[0] for score in self.scores):
            score = self.score(name)
            said = [score.finding, score.note, score.advice and f"what to do: {score.advice}"]
            said += [f"{one.id}: {one.reason}" for one in self.evidence if one.metric == score.name]
            return tuple(filter(None, said))
        id = name
        reasons = [f"{one.metric}: {one.reason}" for one in self.evidence if one.id == id]
        reasons += [f"{warned.code}: {warned.message}" for warned in self.warnings if id in warned.records]
        return tuple(reasons)

    def fails(self, expression: str) -> bool:
        """Tell whether a `--fail-if` expression holds, for example "distinct_n < 0.3 and length.p < 0.01".

        Fields are value (default), reference, difference, p, p_holm, flagged, chance, best, low, high and n;
        warnings.CODE counts the records of a warning. Raises BadSetting.
        """
        return holds(expression, self._look)

    def to_json(self) -> dict[str, Any]:
        """Return the plain object that `karat audit --json` prints after its name and version."""
        return {
            "candidate": _source(self.candidate),
            "reference": _source(self.reference) if self.reference else None,
            "mode": self.mode,
            "seed": self.seed,
            "scores": [_score(score) for score in self.scores],
            "warnings": [
                {"code": one.code, "message": one.message, "records": list(one.records)}
                for one in self.warnings
            ],
            "examples": [
                {"id": one.id, "metric": one.metric, "score": _finite(one.score), "reason": one.reason}
                for one in self.evidence
            ],
            "skipped": dict(self.skipped),
            "margin": self.margin,
            "provenance": dict(self.provenance),
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        return "\n".join([*map(str, self.scores), *(f"{one.code}: {one.message}" for one in self.warnings)])

    def __report__(self) -> tuple[Section, ...]:
        """Return the blocks of the report: headline, warnings, the table, lengths, records side by side."""
        from karat.auditing.showing import blocks

        return (Section("Audit", tuple(blocks(self)), id="audit"),)

    def _look(self, name: str) -> float | None:
        metric, dot, attribute = name.rpartition(".")
        if not dot or (":" in attribute):
            metric, attribute = name, "value"
        if metric == "warnings":
            hits = [one for one in self.warnings if one.code == attribute]
            return float(sum(max(1, len(one.records)) for one in hits))
        score = self.score(metric)
        fields: dict[str, float | None] = {
            "value": score.value,
            "reference": score.reference,
            "difference": score.difference,
            "p": score.p,
            "p_holm": score.p_holm,
            "flagged": float(score.flagged),
            "chance": score.chance,
            "best": score.best,
            "low": score.interval[0] if score.interval else None,
            "high": score.interval[1] if score.interval else None,
            "n": float(score.n),
            "effect": score.effect,
            "detectable": score.detectable,
            "equivalence": score.equivalence,
            "baseline": score.baseline,
            "drift": None if score.baseline is None or score.value is None else score.value - score.baseline,
            **score.details,
        }
        if attribute not in fields:
            hint = did_you_mean(attribute, fields)
            raise BadSetting(f"{metric} has no {attribute!r}{hint} (it has: {', '.join(fields)})")
        return fields[attribute]


def number(value: float | None) -> str:
    """Write a number with three significant digits, whole ones with separators."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _setting(value: Setting) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return list(interval) if interval is not None and all(map(math.isfinite, interval)) else None


def _source(source: Source) -> dict[str, Any]:
    return {"path": source.path, "records": source.records, "fingerprint": source.fingerprint}


def _score(score: Score) -> dict[str, Any]:
    return {
        "name": score.name,
        "settings": dict(score.settings),
        "signature": score.signature,
        "value": _finite(score.value),
        "interval": _pair(score.interval),
        "reference": _finite(score.reference),
        "reference_interval": _pair(score.reference_interval),
        "difference": _finite(score.difference),
        "difference_interval": _pair(score.difference_interval),
        "p": _finite(score.p),
        "p_holm": _finite(score.p_holm),
        "flagged": score.flagged,
        "chance": _finite(score.chance),
        "best": _finite(score.best),
        "n": score.n,
        "by": {name: _slice(part) for name, part in score.by.items()},
        "note": score.note,
        "details": {name: _finite(value) for name, value in score.details.items()},
        "family": score.family,
        "effect": {"name": score.effect_name, "value": _finite(score.effect)} if score.effect_name else None,
        "detectable": _finite(score.detectable),
        "equivalence": _finite(score.equivalence),
        "verdict": score.verdict,
        "baseline": _finite(score.baseline),
        "advice": score.advice,
    }


def _slice(part: Slice) -> dict[str, Any]:
    return {
        "value": _finite(part.value),
        "interval": _pair(part.interval),
        "reference": _finite(part.reference),
        "difference": _finite(part.difference),
        "p": _finite(part.p),
        "n": part.n,
    }
