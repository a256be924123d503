"""A worth as blocks of a report. Knows no record and no trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from karat.blocks import Block, Chart, Column, Headline, Line, Note, Section, Table
from karat.valuation.advice import law_sentence
from karat.valuation.equivalence import Equivalence

if TYPE_CHECKING:
    from karat.valuation.stage import Valued


def _ends(worth: Equivalence) -> str:
    low, high = worth.interval
    upper = "more than there are" if high is None else f"{high:,.0f}"
    return f"95 %: {low or 0:,.0f} to {upper}"


def section(found: Valued) -> Section:
    """Return the worth, the curves, the gain, the law and the costs as blocks."""
    worth = found.equivalence
    figure = {"above": f"> {worth.bound:,}", "below": f"< {worth.bound:,}"} if worth.bound else {}
    seen = found.generator_saw_human in ("yes", "part")
    level: Literal["info", "good", "warning"] = "warning" if seen else "info"
    headline = Headline(
        figure.get(worth.censored, f"{worth.worth_human_records or 0:,}"),
        f"human records are what {worth.records:,} synthetic records are worth",
        f"{_ends(worth)}; {found.metric} by {found.trainer.partition(':')[0]}, {found.seeds} seeds",
        level,
        rank=1,
    )
    rows = [
        {"series": name, "records": n, "score": score, "low": low, "high": high}
        for name in ("human", "synthetic", "mixed")
        for n, score, low, high in getattr(found.curves, name)
        if n
    ]
    chart = Chart(
        "line",
        tuple(rows),
        "records",
        "score",
        series="series",
        low="low",
        high="high",
        title="How good a model gets",
        x_title="training records (for mixed: human records, with all synthetic ones added)",
        y_title=found.metric,
        note="Bands: 95 %, over test records and seeds.",
        log_x=True,
        lines=(Line(found.chance, "chance"),),
    )
    gains = Table(
        (
            Column("human", "human records", "number"),
            Column("without", "alone", "number"),
            Column("with", "with all synthetic", "number"),
            Column("difference", "gain", "number", "positive where the synthetic records help"),
            Column("interval", "95 % interval", "interval"),
            Column("verdict", "verdict", "text"),
        ),
        tuple({**row.to_json(), "_flag": row.verdict == "hurts"} for row in found.marginal),
        title="What adding all synthetic records does",
        note="Paired: the same human records, seeds and test records with and without.",
    )
    parts = _parts(worth)
    blocks: list[Block] = [headline, Note(found.advice, level), chart, gains, parts]
    blocks += [_stops(found)] if found.joint.stop else []
    blocks += [Note(law_sentence(found.joint)), Note(found.cost.sentence)]
    blocks += [Note(w.message, "warning") for w in found.warnings]
    blocks += [Note(note) for note in found.notes]
    return Section("What the synthetic data is worth", tuple(blocks), id="value")


def _parts(worth: Equivalence) -> Table:
    return Table(
        (
            Column("records", "synthetic records", "number"),
            Column("worth", "worth in human records", "number"),
            Column("interval", "95 % interval", "interval"),
        ),
        tuple(
            {
                "records": n,
                "worth": w,
                "interval": [low, high],
                "_note": "" if w is not None else "outside the human sizes tried",
            }
            for n, w, low, high in worth.by_size
        ),
        title="The worth of a part of the set",
    )


def _stops(found: Valued) -> Table:
    rows = tuple({**row.to_json(), "_flag": row.verdict == "stop adding here"} for row in found.joint.stop)
    return Table(
        (
            Column("human", "human records", "number"),
            Column("synthetic", "synthetic records", "number"),
            Column(
                "slope_per_100", "gain by 100 more", "number", "by the fitted law, in points of the score"
            ),
            Column("interval", "95 % interval", "interval"),
            Column("verdict", "verdict", "text"),
            Column("best_synthetic", "best number", "number", "of those tried"),
        ),
        rows,
        title="Whether to add more synthetic records",
        note="By one law fitted to all sets: E + A (R + eta S)^-alpha + B (S / (R + S))^gamma.",
    )
