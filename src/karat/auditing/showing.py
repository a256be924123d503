"""How an audit looks in the report: headline, warnings, tables, records side by side. Knows results only."""

from __future__ import annotations

from typing import Any

from karat.auditing.result import ALPHA, Audited, Score, _finite, _pair, _slice
from karat.blocks import Chart, Column, Example, Examples, Headline, Level, Note, Table

_COLUMNS = (
    Column("name", "metric"),
    Column("value", "candidate", "number"),
    Column("interval", "95% interval", "interval"),
    Column("reference", "human", "number"),
    Column("difference", "difference", "number"),
    Column(
        "p",
        "p (Holm)",
        "number",
        "Chance of such a difference between two samples of one source, for all tests",
    ),
    Column("chance", "by chance", "number", "What both sides would get if they came from one pool"),
    Column("best", "at best", "number", "What an independent human sample of the same size gets"),
)


def blocks(audited: Audited) -> list[Any]:
    """Return the blocks of an audit, what a reader needs first standing first."""
    flagged = [score for score in audited.scores if score.flagged]
    tested = [score for score in audited.scores if score.p is not None]
    found: list[Any] = []
    if audited.reference is not None:
        names = ", ".join(score.name for score in flagged) or "none"
        detail = f"{names}; corrected for {len(tested)} tests (Holm, {ALPHA:.0%})"
        level: Level = "warning" if flagged else "good"
        found.append(
            Headline(f"{len(flagged)} of {len(tested)}", "metrics differ from human data", detail, level)
        )
    found.extend(Note(f"{one.message}", "warning") for one in audited.warnings)
    if audited.mode == "paper":
        found.append(
            Note("Published definitions: whitespace tokens, gzip, sizes as they are. Compare no two sizes.")
        )
    found.append(
        Table(
            _COLUMNS,
            tuple(map(_row, audited.scores)),
            "Scores",
            "Flagged rows differ from human data by more than chance explains (Holm, 5%)."
            if audited.reference
            else "Without a reference no value has a human one beside it.",
        )
    )
    found.extend(_by_tables(audited))
    chart = _length_chart(audited)
    if chart is not None:
        found.append(chart)
    rows = [
        Example("synthetic", one.text, one.label or "", one.id, one.reason, (one.metric,))
        for one in audited.worst(24)
    ]
    rows += [Example(one.metric, one.text, one.label or "", one.id) for one in audited.samples]
    if rows:
        found.append(
            Examples(tuple(rows), "Records", "First the records that tell most, then a few as they come.")
        )
    return found


def _row(score: Score) -> dict[str, Any]:
    return {
        "name": score.name,
        "value": _finite(score.value),
        "interval": _pair(score.interval),
        "reference": _finite(score.reference),
        "difference": _finite(score.difference),
        "p": _finite(score.p_holm),
        "chance": _finite(score.chance),
        "best": _finite(score.best),
        "_help": " ".join(filter(None, [score.help, f"Higher: {score.higher}." if score.higher else ""])),
        "_signature": score.signature,
        "_note": score.note,
        "_flag": "differs" if score.flagged else False,
    }


def _by_tables(audited: Audited) -> list[Table]:
    columns = (
        Column("name", "records"),
        Column("n", "n", "number"),
        Column("value", "candidate", "number"),
        Column("interval", "95% interval", "interval"),
        Column("reference", "human", "number"),
        Column("difference", "difference", "number"),
        Column("p", "p", "number"),
    )
    tables = []
    for score in audited.scores:
        if not score.by:
            continue
        rows = tuple({"name": name, **_slice(part)} for name, part in score.by.items())
        tables.append(
            Table(columns, rows, f"{score.name} by group", "p is not corrected for the number of groups.")
        )
    return tables


def _length_chart(audited: Audited) -> Chart | None:
    rows = []
    for score in audited.scores:
        if score.name == "length":
            for key, value in score.details.items():
                side, _, name = key.rpartition(".")
                side = "human" if side == "reference" else "synthetic"
                if name in ("p05", "p25", "p50", "p75", "p95"):
                    rows.append({"share": int(name[1:]), "tokens": value, "side": side})
    if not rows:
        return None
    return Chart(
        "line",
        tuple(rows),
        "share",
        "tokens",
        "side",
        title="Length of records",
        x_title="percentile",
        y_title="tokens",
    )
