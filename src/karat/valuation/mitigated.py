"""What a study of mitigations found, in numbers, in words and as blocks. Knows no record and no trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from karat.blocks import Block, Chart, Column, Headline, Level, Line, Note, Section, Table
from karat.errors import BadSetting, did_you_mean
from karat.training.stage import Warned
from karat.valuation.comparing import Closure, Compared
from karat.valuation.equivalence import Equivalence
from karat.valuation.gaps import Point
from karat.valuation.mechanisms import Figure

SERIES = 5
"""curves of a chart that can be told apart"""


@dataclass(frozen=True)
class ArmFound:
    """One arm: its curve, and how it stands against plain synthetic and against real data."""

    name: str
    kind: str
    records: int
    curve: tuple[Point, ...]
    """(records, score, low, high)"""
    plain: str
    """the plain synthetic arm that it is held against"""
    area: Compared | None
    """the mean difference between its curve and the plain one; None for the plain arm itself"""
    versus_plain: Compared | None
    """all that it has against all that the plain arm has"""
    versus_real: Compared | None
    """all that it has against all real records"""
    closure: Closure
    """of the area: which share of the gap is closed while records come in"""
    closure_all: Closure
    """the same with all records"""
    worth: Equivalence | None
    """how many real records score as much; None for real arms"""
    order_note: str = ""
    informative: bool | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    mechanisms: tuple[Figure, ...] = ()
    verdict: str = ""
    role: str = "mitigation"
    """real, plain, mitigation, control (a random or a reversed order) or bound (it knows the truth)"""

    @property
    def score(self) -> float:
        """The score with all records."""
        return self.curve[-1][1]

    def to_json(self) -> dict[str, Any]:
        """Return one entry of `arms`."""
        return {
            "name": self.name,
            "kind": self.kind,
            "role": self.role,
            "records": self.records,
            "curve": [list(point) for point in self.curve],
            "plain": self.plain,
            "area": None if self.area is None else self.area.to_json(),
            "versus_plain": None if self.versus_plain is None else self.versus_plain.to_json(),
            "versus_real": None if self.versus_real is None else self.versus_real.to_json(),
            "closure": self.closure.to_json(),
            "closure_all": self.closure_all.to_json(),
            "worth": None if self.worth is None else self.worth.to_json(),
            "order": {
                "note": self.order_note,
                "informative": self.informative,
                "figures": dict(self.figures),
            },
            "mechanisms": [one.to_json() for one in self.mechanisms],
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Mitigated:
    """Whether ordering, mixing or filtering closes the gap between synthetic and real data."""

    signature: str
    metric: str
    trainer: str
    mode: str
    scale: str
    seeds: int
    human_records: int
    held_out: int
    """human records that only detectors, filters and checks learned from"""
    synthetic_records: int
    test_records: int
    plain: str
    generator_saw: str
    """yes, part, no or unknown: had the generator seen the human data?"""
    chance: float | None
    arms: tuple[ArmFound, ...]
    steps: tuple[Compared, ...]
    """each arm against its plain one at equal numbers of records"""
    fractions: tuple[Compared, ...]
    """fractions of the real data against all synthetic data"""
    advice: str
    warnings: tuple[Warned, ...] = ()
    notes: tuple[str, ...] = ()

    def arm(self, name: str) -> ArmFound:
        """Return an arm by name."""
        known = {one.name: one for one in self.arms}
        if name not in known:
            raise BadSetting(f"no arm {name!r}{did_you_mean(name, known)} (there are: {', '.join(known)})")
        return known[name]

    def worst(self, n: int = 5) -> tuple[ArmFound, ...]:
        """Return the n synthetic arms that stay furthest behind real data, the furthest first."""
        behind = [one for one in self.arms if one.versus_real is not None and one.kind != "real"]
        return tuple(sorted(behind, key=lambda one: one.versus_real.difference)[:n])  # type: ignore[union-attr]

    def why(self, name: str) -> str:
        """Say in a few sentences what an arm did and what may be behind it."""
        one = self.arm(name)
        parts = [f"{one.name}: {one.verdict}"] if one.verdict else [f"{one.name}:"]
        parts += [f"With all {one.records:,} records {self.metric} is {one.score:.3f}."]
        if one.worth is not None:
            parts.append(_worth(one.worth))
        if one.order_note:
            parts.append(f"Its order: {one.order_note}.")
        parts += [figure.telling for figure in one.mechanisms if figure.telling]
        return " ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return what `karat mitigate --json` prints."""
        return {
            "signature": self.signature,
            "metric": self.metric,
            "trainer": self.trainer,
            "mode": self.mode,
            "scale": self.scale,
            "seeds": self.seeds,
            "human_records": self.human_records,
            "held_out": self.held_out,
            "synthetic_records": self.synthetic_records,
            "test_records": self.test_records,
            "plain": self.plain,
            "generator_saw_human": "yes" if self.generator_saw == "part" else self.generator_saw,
            "chance": self.chance,
            "arms": [one.to_json() for one in self.arms],
            "steps": [one.to_json() for one in self.steps],
            "fractions": [one.to_json() for one in self.fractions],
            "advice": self.advice,
            "warnings": [
                {"code": w.code, "message": w.message, "records": list(w.records[:20])} for w in self.warnings
            ],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        chance = "" if self.chance is None else f"; chance {self.chance:.3f}"
        lines = [self.advice, "", f"{self.metric} by {self.trainer}, {self.seeds} seeds, {self.mode}{chance}"]
        lines.append(f"  {'arm':<28}{'records':>9}  {'score':<24}{'area':<28}closure")
        for one in self.arms:
            _, score, low, high = one.curve[-1]
            area = "" if one.area is None else _difference(one.area)
            share = _share(one.closure) if one.kind != "real" else ""
            line = f"  {one.name:<28}{one.records:>9,}  {f'{score:.3f} [{low:.3f}, {high:.3f}]':<24}"
            lines.append(f"{line}{area:<28}{share}")
        lines += [f"{one.name}: {one.verdict}" for one in self.arms if one.verdict]
        return "\n".join([*lines, *(f"warning {w.code}: {w.message}" for w in self.warnings)])

    def __report__(self) -> tuple[Section, ...]:
        """Return the curves, the table of arms, what may be behind it, and the verdicts."""
        return (_section(self),)


def _difference(found: Compared) -> str:
    low, high = found.interval
    return f"{found.difference:+.3f} [{low:+.3f}, {high:+.3f}]"


def _share(found: Closure) -> str:
    if found.value is None or found.interval is None:
        return "none"
    low, high = ("?" if end is None else f"{end:.0%}" for end in found.interval)
    return f"{found.value:.0%} [{low}, {high}]"


def _worth(found: Equivalence) -> str:
    low, high = found.interval
    bottom = "fewer than tried" if not low else f"{low:,.0f}"
    top = "more than there are" if high is None else f"{high:,.0f}"
    ends = f"(95 %: {bottom} to {top})"
    if found.censored == "above":
        return f"It scores more than all {found.bound:,} real records {ends}."
    if found.censored == "below":
        return f"It scores less than {found.bound:,} real records, the fewest tried {ends}."
    each = f"{found.rate or 0:.2g} of a real record each"
    return f"It is worth about {found.worth_human_records:,} real records {ends}, {each}."


def verdict(one: ArmFound, better_is_more: bool) -> str:
    """Say in a sentence whether a mitigation helps; `area` has the sign in which more is better."""
    if one.area is None or one.kind in ("real", "generated"):
        return ""
    area, p = one.area, one.area.p_holm
    unit = f"area {_difference(area)} against {one.plain}, p = {p:.3g}" if p is not None else ""
    if not better_is_more:
        unit += ", the loss turned"
    told = area.verdict
    order = " Its order carries no information." if one.informative is False else ""
    if told == "worse":
        return f"makes it worse ({unit}).{order}"
    if told == "not told apart":
        return f"no effect is shown ({unit}).{order}"
    if one.closure.value is None:
        return f"helps ({unit}), but {one.closure.note}.{order}"
    _, high = one.closure.interval or (None, None)
    whole = high is None or high >= 1
    rest = "the gap may be closed" if whole and one.closure.value >= 0.5 else "the gap is not closed"
    return f"helps: closes {_share(one.closure)} of the gap to real data ({unit}); {rest}.{order}"


def advise(arms: Sequence[ArmFound], fractions: Sequence[Compared], metric: str) -> str:
    """Return the answer in plain words: the gap, the best mitigation, and what little real data does."""
    by_name = {one.name: one for one in arms}
    real = by_name["real"]
    parts = []
    gap = real.area
    assert gap is not None, "real data is held against plain synthetic data"
    if gap.verdict == "better":
        parts.append(f"Real data beats plain synthetic data by {_difference(gap)} {metric} (area).")
    elif gap.verdict == "worse":
        parts.append(f"Plain synthetic data beats real data by {-gap.difference:.3f} {metric} (area).")
    else:
        parts.append(f"Real and plain synthetic data are not told apart ({_difference(gap)} {metric}, area).")
    tried, helped = _tried(arms)
    if helped:
        best = max(helped, key=lambda one: one.area.difference if one.area else 0.0)
        share = "" if best.closure.value is None else f", which closes {_share(best.closure)} of the gap"
        parts.append(f"Best of {len(tried)} tried: {best.name} ({_difference(best.area)}{share}).")  # type: ignore[arg-type]
    elif tried:
        parts.append(f"None of the {len(tried)} mitigations tried is shown to help.")
    parts += [_bound(arms), _fraction(arms, fractions)]
    return " ".join(part for part in parts if part)


def _tried(arms: Sequence[ArmFound]) -> tuple[list[ArmFound], list[ArmFound]]:
    """Return the mitigations that were tried and those of them that help; no controls and no bounds."""
    tried = [one for one in arms if one.area is not None and one.role == "mitigation"]
    return tried, [one for one in tried if one.area is not None and one.area.verdict == "better"]


def _bound(arms: Sequence[ArmFound]) -> str:
    """Say what is the most that an order or a choice could gain, where one was tried that knows the truth."""
    known = [one for one in arms if one.area is not None and one.role == "bound"]
    if not known:
        return ""
    best = max(known, key=lambda one: one.area.difference if one.area else 0.0)
    return f"With the truth known, {best.name} gains {_difference(best.area)}."  # type: ignore[arg-type]


def _fraction(arms: Sequence[ArmFound], fractions: Sequence[Compared]) -> str:
    """Say the smallest fraction of the real data that beats every synthetic arm."""
    sizes = {one.name: one.records for one in arms}
    names = list(dict.fromkeys(one.arm for one in fractions))
    beats = [n for n in names if all(one.verdict == "better" for one in fractions if one.arm == n)]
    if not beats:
        return ""
    least = min(beats, key=lambda name: sizes[name])
    return f"{sizes[least]:,} real records ({least}) beat every synthetic arm with all its records."


def _section(found: Mitigated) -> Section:
    tried, helped = _tried(found.arms)
    level: Level = "good" if helped else "warning"
    detail = (
        f"{found.metric} by {found.trainer.partition(':')[0]}, {found.seeds} seeds, against {found.plain}"
    )
    headline = Headline(f"{len(helped)} of {len(tried)}", "mitigations are shown to help", detail, level)
    if not tried:
        gap = found.arm("real").area
        value = "none" if gap is None else f"{gap.difference:+.3f}"
        headline = Headline(value, "from plain synthetic to real data", detail, "info")
    blocks: list[Block] = [headline, Note(found.advice, level), _chart(found), _table(found)]
    blocks += [
        Note(f"{one.name}: {one.verdict}", "good" if one in helped else "info")
        for one in found.arms
        if one.verdict
    ]
    mechanisms = _mechanisms(found)
    if mechanisms is not None:
        blocks.append(mechanisms)
    if found.fractions:
        blocks.append(_fractions(found))
    blocks += [Note(w.message, "warning") for w in found.warnings]
    blocks += [Note(note) for note in found.notes]
    return Section("Whether the gap can be closed", tuple(blocks), id="mitigate")


def _drawn(found: Mitigated) -> list[ArmFound]:
    """Return the arms of the chart: real, plain, the best bound, and the mitigations that gain most."""
    whole = [one for one in found.arms if one.area is not None or one.name == found.plain]
    gained = sorted(whole, key=lambda one: -one.area.difference if one.area else 0.0)
    first = [one for one in whole if one.name in ("real", found.plain)]
    bounds = [one for one in gained if one.role == "bound"][:1]
    rest = [one for role in ("mitigation", "plain", "control") for one in gained if one.role == role]
    chosen = [*first, *bounds, *(one for one in rest if one not in first)][:SERIES]
    return [one for one in found.arms if one in chosen]


def _chart(found: Mitigated) -> Chart:
    drawn = _drawn(found)
    rows = [
        {"series": one.name, "records": n, "score": score, "low": low, "high": high}
        for one in drawn
        for n, score, low, high in one.curve
    ]
    others = sum(one.area is not None for one in found.arms if one not in drawn)
    return Chart(
        "line",
        tuple(rows),
        "records",
        "score",
        series="series",
        low="low",
        high="high",
        title="How good a model gets, arm by arm",
        x_title="training records",
        y_title=found.metric,
        note="Bands: 95 %, over test records and seeds."
        + (f" {others} other arms stand in the table; those drawn gain most." if others else ""),
        lines=() if found.chance is None else (Line(found.chance, "chance"),),
    )


def _table(found: Mitigated) -> Table:
    columns = (
        Column("arm", "arm"),
        Column("role", "role", help="controls and bounds are no mitigations: a bound knows the truth"),
        Column("records", "records", "number"),
        Column("score", found.metric, "number", "with all its records"),
        Column("interval", "95 % interval", "interval"),
        Column("area", "area against plain", "number", "mean difference between the curves; more is better"),
        Column("area_interval", "95 % interval", "interval"),
        Column(
            "p", "p", "number", "randomisation over records and t-test over seeds, the larger, after Holm"
        ),
        Column("closure", "gap closed", "percent", "share of the area between plain synthetic and real data"),
        Column("closure_interval", "95 % interval", "interval"),
        Column("worth", "worth in real records", "number"),
        Column("rho", "order against the oracle", "number", "Spearman's rank correlation; chance 0"),
    )
    rows = []
    for one in found.arms:
        _, score, low, high = one.curve[-1]
        share = one.closure
        rows.append(
            {
                "arm": one.name,
                "role": one.role,
                "records": one.records,
                "score": score,
                "interval": [low, high],
                "area": None if one.area is None else one.area.difference,
                "area_interval": None if one.area is None else list(one.area.interval),
                "p": None if one.area is None else one.area.p_holm,
                "closure": share.value,
                "closure_interval": None if share.interval is None else list(share.interval),
                "worth": None if one.worth is None else one.worth.worth_human_records,
                "rho": one.figures.get("oracle_rho"),
                "_help": share.note or one.order_note,
                "_flag": one.area is not None and one.area.verdict == "worse",
            }
        )
    note = (
        f"Plain: {found.plain}; a mixture is held against the best single generator. Real data closes 100 %."
    )
    return Table(columns, tuple(rows), title="The arms", note=note)


def _mechanisms(found: Mitigated) -> Table | None:
    rows = tuple(
        {
            "arm": one.name,
            "figure": figure.name,
            "value": figure.value,
            "interval": None if figure.interval is None else list(figure.interval),
            "real": figure.real,
            "p": figure.p,
            "_help": figure.note,
            "_signature": figure.signature,
            "_flag": figure.p is not None and figure.p < 0.05 and one.kind != "real",
        }
        for one in found.arms
        for figure in one.mechanisms
    )
    if not rows:
        return None
    columns = (
        Column("arm", "arm"),
        Column("figure", "figure"),
        Column("value", "value", "number"),
        Column("interval", "95 % interval", "interval"),
        Column("real", "real data", "number"),
        Column("p", "p", "number", "one test a figure, not corrected: a hint at the mechanism, no proof"),
    )
    note = "At equal numbers of words. Of ordered arms the half that comes first is looked at."
    return Table(columns, rows, title="What may be behind it: errors and lexical diversity", note=note)


def _fractions(found: Mitigated) -> Table:
    columns = (
        Column("arm", "real data"),
        Column("against", "against"),
        Column("difference", "difference", "number"),
        Column("interval", "95 % interval", "interval"),
        Column("p_holm", "p", "number"),
        Column("verdict", "verdict"),
    )
    rows = tuple(one.to_json() for one in found.fractions)
    return Table(columns, rows, title="A fraction of the real data against all synthetic data")
