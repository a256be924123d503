"""The blocks of a pilot: the recommendation, a row for each arm, all differences. Knows the result only."""

from __future__ import annotations

from typing import Any

from karat.blocks import Block, Chart, Column, Headline, Line, Note, Table
from karat.piloting.diversity import sign_of
from karat.piloting.result import Arm, Pilot

_SCORES = {
    "macro_f1": "score of the student (macro-F1, points)",
    "two_sample_auc": "likeness to human text (100 x (1 - AUC), points)",
}


def blocks(found: Pilot) -> list[Block]:
    """All blocks, the recommendation first."""
    told = found.decision
    good = told.outcome == "better"
    lead = Headline(
        found.headline,
        f"{told.recommended} is recommended" if told.outcome == "no difference found" else f"{told.outcome}",
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
        made.append(_gaps(found))
    varied = _varied(found)
    if varied is not None:
        made.append(varied)
    made.append(_money(found))
    made += [Note(note) for note in found.notes]
    return made


def _arms(found: Pilot) -> Table:
    columns = [Column("name", "arm")]
    if found.metric:
        columns += [
            Column("score", "score", "number", _SCORES[found.metric]),
            Column("interval", "95 % interval", "interval", "for as many other rows and test records"),
        ]
    lead = found.arms[0].diversity[0].name if found.arms and found.arms[0].diversity else ""
    if lead:
        columns += [
            Column("lead", lead.replace("_", " "), "number", "at the size of the arm that wrote least"),
            Column("lead_interval", "95 %", "interval"),
        ]
    columns += [
        Column("kept", "kept of planned"),
        Column("tokens", "tokens", "number", "in and out, of all calls"),
        Column("usd", "USD", "number", "of all calls; empty where no price is known"),
        Column("usd_per_record", "USD a record", "number", "of a kept record of its own text"),
    ]
    rows: list[dict[str, Any]] = []
    for one in found.arms:
        chosen = one.name == found.decision.recommended
        first = one.diversity[0] if one.diversity else None
        rows.append(
            {
                "name": f"{one.name} (recommended)" if chosen else one.name,
                "score": None if one.score is None else round(one.score.value, 2),
                "interval": None if one.score is None else _ends(one.score.interval),
                "lead": None if first is None else first.value,
                "lead_interval": None if first is None or first.interval is None else list(first.interval),
                "kept": f"{one.kept:,} of {one.planned:,}",
                "tokens": one.tokens,
                "usd": one.usd,
                "usd_per_record": one.usd_per_record,
                "_help": _of(one),
            }
        )
    if found.human is not None:
        first = found.human_diversity[0] if found.human_diversity else None
        rows.append(
            {
                "name": f"human, {found.human_records:,} records",
                "score": round(found.human.value, 2),
                "interval": _ends(found.human.interval),
                "lead": None if first is None else first.value,
                "lead_interval": None if first is None or first.interval is None else list(first.interval),
                "_help": "the same student on as many human records",
            }
        )
    if found.chance is not None:
        rows.append({"name": "chance", "score": round(found.chance, 2)})
    return Table(tuple(columns), tuple(rows), "The arms", _how(found))


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


def _gaps(found: Pilot) -> Table:
    rows = tuple(
        {
            "pair": f"{gap.one} minus {gap.other}",
            "value": round(gap.value, 2),
            "interval": _ends(gap.interval),
            "p": _p(gap.p_holm),
            "same": _p(gap.p_same),
            "detectable": round(gap.detectable, 1),
            "verdict": {"differs": "differs", "same": "the same", "open": "open"}[gap.verdict],
            "_flag": gap.verdict == "differs",
        }
        for gap in found.gaps
    )
    columns = (
        Column("pair", "difference"),
        Column("value", "points", "number"),
        Column("interval", "95 % interval", "interval"),
        Column("p", "p (Holm)", "number", "of no difference, over all pairs"),
        Column("same", f"p of more than {found.margin:g} apart", "number", "two one-sided tests"),
        Column("detectable", "would be found", "number", "the difference that is found four times in five"),
        Column("verdict", "verdict"),
    )
    note = (
        f"Paired on the test records. The same: within {found.margin:g} points (two one-sided tests at 5 %)."
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
        columns.append(Column(name, name.replace("_", " ") + arrow, "number", f"higher: {said}"))
        columns.append(Column(f"{name}_interval", "95 %", "interval"))
    if far:
        columns.append(Column("far", "distance to human", "number", "AUC of telling both apart; 0.5 is none"))
        columns.append(Column("far_interval", "95 %", "interval"))
    rows = []
    for label, measures, distance in [
        *((one.name, one.diversity, one.distance) for one in found.arms),
        *([("human", found.human_diversity, None)] if found.human_diversity else []),
    ]:
        row: dict[str, Any] = {"name": label}
        for one in measures:
            row[one.name] = one.value
            row[f"{one.name}_interval"] = None if one.interval is None else list(one.interval)
        if distance is not None:
            row["far"] = distance.value
            row["far_interval"] = None if distance.interval is None else list(distance.interval)
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
            f"what a point over {cheapest} costs, where the difference is shown",
        ),
        Column("ahead", "paid already", "text", "rows of the whole plan that this pilot has made"),
        Column("rejected", "rejected", "percent"),
    )
    note = (
        f"For {found.plan_n:,} kept records of their own text, at the rate of the pilot: failed calls and "
        "calls before the plan are in it, and repeats may grow with the number of records."
    )
    return Table(columns, tuple(rows), "What the whole would cost", note)


def _ends(interval: tuple[float, float]) -> list[float]:
    return [round(interval[0], 2), round(interval[1], 2)]


def _p(value: float) -> float:
    return float(f"{value:.2g}")
