"""The blocks of a pilot: the recommendation, a row for each arm, all differences. Knows the result only."""

from __future__ import annotations

import math
from typing import Any

from karat.blocks import Block, Chart, Column, Headline, Line, Note, Table
from karat.piloting.decision import Gap
from karat.piloting.diversity import Measure, sign_of
from karat.piloting.result import Arm, Figure, Pilot

_MINUS = "\u2212"

_SCORES = {
    "macro_f1": "score of the student (macro-F1, points)",
    "two_sample_auc": "likeness to human text (100 x (1 - AUC), points)",
}

_LABELS = {
    "better": "shown to be better than the cheapest arm",
    "cheapest": "the cheapest arm, and none was shown to be better",
    "no difference found": "{} is recommended",
    "one arm": "the only one",
    "not scored": "by cost and diversity alone",
}


def blocks(found: Pilot) -> list[Block]:
    """All blocks, the recommendation first."""
    told = found.decision
    good = told.outcome == "better"
    lead = Headline(
        found.headline,
        _LABELS[told.outcome].format(told.recommended),
        told.reason,
        "good" if good else "info",
        rank=1,
    )
    made: list[Block] = [lead]
    if found.power:
        made.append(Note(found.power))
    made.append(_arms(found))
    if found.metric:
        made.append(_chart(found))
    if found.gaps:
        made += [_differences(found), _gaps(found)]
    varied = _varied(found)
    if varied is not None:
        made.append(varied)
    made.append(_money(found))
    made += [Note(note) for note in found.notes]
    return made


def _arms(found: Pilot) -> Table:
    lead = found.arms[0].diversity[0].name if found.arms and found.arms[0].diversity else ""
    columns = [Column("name", "arm")]
    if found.metric:
        columns.append(Column("points", "score, 95 % interval", "text", _SCORES[found.metric]))
    if lead:
        help_text = "at the size of the arm that wrote least"
        columns.append(Column("lead", lead.replace("_", " "), "text", help_text))
    columns += [
        Column("kept", "kept of planned"),
        Column("tokens", "tokens", "number", "in and out, of all calls"),
        Column("usd", "USD", "number", "of all calls; empty where no price is known"),
        Column("usd_per_record", "USD a record", "number", "of a kept record of its own text"),
    ]
    rows: list[dict[str, Any]] = []
    for one in found.arms:
        chosen = one.name == found.decision.recommended
        rows.append(
            {
                "name": f"{one.name} (recommended)" if chosen else one.name,
                "points": _points(one.score),
                "lead": _measured(one.diversity[0]) if one.diversity else None,
                "kept": f"{one.kept:,} of {one.planned:,}",
                "tokens": one.tokens,
                "usd": one.usd,
                "usd_per_record": one.usd_per_record,
                "_help": _of(one),
            }
        )
    if found.human is not None:
        rows.append(
            {
                "name": f"human, {found.human_records:,} records",
                "points": _points(found.human),
                "lead": _measured(found.human_diversity[0]) if found.human_diversity else None,
                "_help": "the same student on human records with the label shares of an arm",
            }
        )
    if found.chance is not None:
        rows.append({"name": "chance", "points": f"{found.chance:.1f}", "_help": "the best of guessing"})
    return Table(tuple(columns), tuple(rows), "The arms", _how(found))


def _points(found: Figure | None) -> str | None:
    """A score with its interval, in points."""
    return None if found is None else f"{found.value:.1f} {_ends(found.interval)}"


def _ends(interval: tuple[float, float], signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"[{interval[0]:{sign}.1f},\u00a0{interval[1]:{sign}.1f}]".replace("-", _MINUS)


def _measured(found: Measure | None) -> str | None:
    """A measure with its interval, each to the digits that the interval leaves."""
    if found is None or found.value is None:
        return None
    low, high = found.interval or (found.value, found.value)
    width = high - low
    places = 0 if width >= 20 else 3 if width <= 0 else max(0, min(4, 1 - math.floor(math.log10(width))))
    ends = "" if found.interval is None else f" [{low:,.{places}f},\u00a0{high:,.{places}f}]"
    return f"{found.value:,.{places}f}{ends}".replace("-", _MINUS)


def _of(one: Arm) -> str:
    told = f"{one.recipe} through {one.provider} ({one.model})"
    reasons = "; ".join(f"{reason}: {count:,}" for reason, count in one.reasons.items())
    return f"{told}. Rejected: {reasons}" if reasons else told


def _how(found: Pilot) -> str:
    if found.metric == "macro_f1":
        sizes = sorted({one.trained_on for one in found.arms if one.score is not None})
        of = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}" if sizes else "no"
        return (
            f"Score: macro-F1 in points of {found.trainer.partition(':')[0]} trained on {of} rows of an arm, "
            f"on {found.tested_on:,} human test records that no prompt has shown. Intervals hold another "
            f"draw of rows ({found.refits} refits) and other test records."
        )
    if found.metric:
        return (
            "Score: 100 x (1 - AUC) of a classifier that tells the rows from human ones; 50 is no difference."
        )
    return "No score: it needs human records."


def _chart(found: Pilot) -> Chart:
    rows = [
        {
            "arm": one.name,
            "score": one.score.value,
            "low": one.score.interval[0],
            "high": one.score.interval[1],
        }
        for one in found.arms
        if one.score is not None
    ]
    if found.human is not None:
        low, high = found.human.interval
        rows.append({"arm": "human", "score": found.human.value, "low": low, "high": high})
    chance = 50.0 if found.metric == "two_sample_auc" else found.chance
    name = "like human text" if found.metric == "two_sample_auc" else "chance"
    return Chart(
        "bar",
        tuple(rows),
        "arm",
        "score",
        low="low",
        high="high",
        title="Score of each arm",
        y_title=_SCORES[found.metric],
        note="Arms whose whiskers overlap may still differ: the test below is paired on the test records.",
        lines=() if chance is None else (Line(chance, name),),
    )


def _pair(gap: Gap) -> str:
    return f"{gap.one} minus {gap.other}"


def _differences(found: Pilot) -> Chart:
    cheapest = found.decision.cheapest
    rows = []
    for one in found.arms:
        gap = found.gap(one.name, cheapest)
        if gap is not None and one.name != cheapest:
            sign = 1 if gap.one == one.name else -1
            low, high = sorted(sign * end for end in gap.interval)
            rows.append({"arm": one.name, "points": sign * gap.value, "low": low, "high": high})
    return Chart(
        "point",
        tuple(rows),
        "arm",
        "points",
        low="low",
        high="high",
        title=f"Against {cheapest}, the cheapest arm",
        y_title="points",
        note="Each with its 95 % interval; what counts is the test over all pairs below.",
        lines=(Line(0.0, "no difference"),),
    )


def _gaps(found: Pilot) -> Table:
    rows = tuple(
        {
            "pair": _pair(gap),
            "points": f"{gap.value:+.1f}".replace("-", _MINUS) + f" {_ends(gap.interval, True)}",
            "p": gap.p_holm,
            "same": _p(gap.p_same),
            "detectable": round(gap.detectable, 1),
            "verdict": {"differs": "differs", "same": "the same", "open": "open"}[gap.verdict],
            "_flag": "differs" if gap.verdict == "differs" else "",
        }
        for gap in found.gaps
    )
    columns = (
        Column("pair", "difference"),
        Column("points", "points, 95 % interval"),
        Column("p", "p (Holm)", "number", "of no difference, over all pairs"),
        Column("same", f"p of {found.margin:g} or more apart", "text", "two one-sided tests"),
        Column("detectable", "would be found", "number", "the difference that is found four times in five"),
        Column("verdict", "verdict"),
    )
    note = (
        "Paired on the test records. The same: no further apart than "
        f"{found.margin:g} (two one-sided tests at 5 %)."
    )
    return Table(columns, rows, "All differences in score", note)


def _varied(found: Pilot) -> Table | None:
    names = [one.name for one in next((arm.diversity for arm in found.arms if arm.diversity), ())]
    far = any(one.distance is not None for one in found.arms)
    if not names and not far:
        return None
    columns = [Column("name", "arm")]
    for name in names:
        said = (found.higher or {}).get(name, "")
        arrow = {1: " ↑", -1: " ↓"}.get(sign_of(said), "")
        columns.append(Column(name, name.replace("_", " ") + arrow, "text", f"higher: {said}"))
    if far:
        columns.append(Column("far", "told from human", "text", "AUC of telling both apart; 0.5 is chance"))
    rows = []
    for label, measures, distance in [
        *((one.name, one.diversity, one.distance) for one in found.arms),
        *([("human", found.human_diversity, None)] if found.human_diversity else []),
    ]:
        row: dict[str, Any] = {"name": label}
        for one in measures:
            row[one.name] = _measured(one)
        row["far"] = _measured(distance)
        rows.append(row)
    sure = [gap for gap in found.diverse if gap.verdict == "differs"]
    told = "; ".join(
        f"{a} is more varied than {b}"
        for a, b in ((g.one, g.other) if g.value > 0 else (g.other, g.one) for g in sure)
    )
    lead = names[0].replace("_", " ") if names else ""
    note = "All at the size of the arm that wrote least."
    if lead:
        note += f" By {lead}, after Holm over all pairs: {told or 'no pair is shown to differ'}."
    return Table(tuple(columns), tuple(rows), "Diversity", note)


def _money(found: Pilot) -> Table:
    cheapest = found.decision.cheapest
    rows = []
    for one in found.arms:
        gap = found.gap(one.name, cheapest)
        sure = gap is not None and gap.verdict == "differs"
        points = None
        if gap is not None and sure:
            points = gap.value if gap.one == one.name else -gap.value
        base = found.arm(cheapest).usd_of_whole
        more = None if one.usd_of_whole is None or base is None else one.usd_of_whole - base
        rows.append(
            {
                "name": one.name,
                "tokens": None if one.tokens_of_whole is None else round(one.tokens_of_whole),
                "usd": one.usd_of_whole,
                "per_point": more / points if points and points > 0 and more is not None else None,
                "ahead": f"{one.ahead:,} rows" if one.ahead else "none",
                "rejected": one.rejected_share,
            }
        )
    columns = (
        Column("name", "arm"),
        Column("tokens", f"tokens for {found.plan_n:,} records", "number"),
        Column("usd", f"USD for {found.plan_n:,} records", "number"),
        Column(
            "per_point",
            "USD a point",
            "number",
            f"what a point over {cheapest} costs, where the difference was shown",
        ),
        Column("ahead", "paid already", "text", "rows of the whole plan that this pilot has made"),
        Column("rejected", "rejected", "percent"),
    )
    note = (
        f"For {found.plan_n:,} kept records of their own text, at the rate of the pilot: failed calls and "
        "calls before the plan are in it, and repeats may grow with the number of records."
    )
    return Table(columns, tuple(rows), "What the whole would cost", note)


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
