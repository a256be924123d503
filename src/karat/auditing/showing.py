"""How an audit looks in the report: headline, warnings, tables, records side by side. Knows results only."""

from __future__ import annotations

from typing import Any

from karat.auditing.result import ALPHA, Audited, Score, _finite, _pair, _slice
from karat.blocks import Chart, Column, Example, Examples, Headline, Level, Line, Note, Table

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
    if flagged:
        found.append(_findings(audited, flagged))
    if tested:
        found.append(_unflagged(audited, tested))
    found.extend(filter(None, [_difference_chart(audited)]))
    found.extend(_score_tables(audited))
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


def _unflagged(audited: Audited, tested: list[Score]) -> Note:
    """What is shown to be the same, and what is only not shown to differ: two different things."""
    names = {
        verdict: ", ".join(score.name for score in tested if score.verdict == verdict)
        for verdict in ("same", "open")
    }
    said = f"Shown to be the same within {audited.margin:.0%} of the human value: {names['same'] or 'none'}."
    said += f" Open (neither a difference nor sameness is shown): {names['open'] or 'none'}."
    return Note(said)


_TITLES = {
    "size": "Size",
    "lexical": "Words",
    "repetition": "Repetition",
    "embedding": "Meaning (embeddings)",
    "difference": "Distance to human data",
    "contamination": "Contamination",
    "label": "Labels",
    "annotation": "Annotations",
    "preference": "Preferences",
    "instruction": "Instructions",
    "dialogue": "Dialogues",
    "attribute": "Attributes",
    "discourse": "Discourse",
}


def _findings(audited: Audited, flagged: list[Score]) -> Table:
    """Each flagged difference in a sentence, what to do about it, and the records that show it most."""
    columns = (
        Column("name", "metric"),
        Column("finding", "finding"),
        Column("cure", "what to do"),
        Column("records", "records to look at"),
    )
    rows = []
    for score in sorted(flagged, key=lambda one: (one.p_holm or 0.0, one.name)):
        shown = [one.id for one in audited.evidence if one.metric == score.name][:3]
        rows.append(
            {
                "name": score.name,
                "finding": score.finding,
                "cure": score.advice or "–",
                "records": ", ".join(shown) or "–",
            }
        )
    return Table(columns, tuple(rows), "Findings", "Flagged by Holm's test at 5%, the surest first.")


def _score_tables(audited: Audited) -> list[Table]:
    """The scores, one table a family."""
    note = (
        "Flagged rows differ from human data by more than chance explains (Holm, 5%)."
        if audited.reference
        else "Without a reference no value has a human one beside it."
    )
    families: dict[str, list[Score]] = {name: [] for name in _TITLES}
    for score in audited.scores:
        families.setdefault(score.family, []).append(score)
    tables: list[Table] = []
    for family, scores in families.items():
        if scores:
            title = _TITLES.get(family, family)
            tables.append(Table(_COLUMNS, tuple(map(_row, scores)), title, "" if tables else note))
    return tables


_FARTHEST = 200  # per cent; what lies farther would squeeze all others into a line


def _difference_chart(audited: Audited) -> Chart | None:
    """How far each metric lies from human data, as a share of the human value, with its interval."""
    rows, far = [], []
    for score in audited.scores:
        human, ends = score.reference, score.difference_interval
        if score.difference is None or ends is None or not human or score.p is None:
            continue
        scale = 100 / abs(human)
        if max(map(abs, (score.difference, *ends))) * scale > _FARTHEST:
            far.append(score.name)
            continue
        rows.append(
            {
                "metric": score.name,
                "difference": score.difference * scale,
                "low": ends[0] * scale,
                "high": ends[1] * scale,
            }
        )
    if len(rows) < 3:
        return None
    note = f"Beside the line of human data: the margin of ±{audited.margin:.0%}."
    note += f" Farther away, and left out: {', '.join(far)}." if far else ""
    return Chart(
        "point",
        tuple(sorted(rows, key=lambda row: -abs(float(row["difference"])))),
        "metric",
        "difference",
        low="low",
        high="high",
        title="Distance from human data, in per cent of the human value",
        y_title="candidate minus human, % of the human value",
        note=note,
        lines=(Line(0.0, "human"), Line(100 * audited.margin, ""), Line(-100 * audited.margin, "")),
    )


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
