"""What a curation gives back: both sides, each step, the order and what it is worth. Knows no part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from karat.blocks import Block, Chart, Column, Example, Examples, Headline, Level, Note, Section, Table
from karat.errors import InputError, did_you_mean
from karat.generation.limits import Usage
from karat.records import Records

SCORE = "order_score"


@dataclass(frozen=True)
class Step:
    """What one filter, ordering or mixture did."""

    kind: str
    """filter, order, mixture or top"""
    name: str
    signature: str
    before: int
    dropped: int
    note: str = ""

    @property
    def left(self) -> int:
        """The number of records after it."""
        return self.before - self.dropped


@dataclass(frozen=True)
class Ordering:
    """How the kept records are ordered, and whether that order means anything."""

    name: str
    signature: str
    informative: bool
    note: str
    figures: dict[str, float]
    warnings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Curated:
    """What is kept, in order, and what is dropped, with the reason in the columns `filter` and `reason`."""

    candidate: str
    records: int
    kept: Records
    dropped: Records
    added: int
    """human records that a mixture added; they are part of `kept`"""
    steps: tuple[Step, ...]
    order: Ordering | None
    seed: int
    repeated: int = 0
    """copies of candidates that a mixture drew more than once; they are part of `kept`"""
    asked: Usage | None = None
    """what was asked of a provider; None without one"""

    @property
    def counts(self) -> dict[str, int]:
        """How many records each filter, mixture or bound dropped."""
        found: dict[str, int] = {}
        for name in self.dropped.column("filter"):
            found[name] = found.get(name, 0) + 1
        return found

    @property
    def warnings(self) -> tuple[dict[str, Any], ...]:
        """Warnings with stable codes."""
        if self.order is None or self.order.name == "random":
            return ()
        found = list(self.order.warnings)
        if not self.order.informative:
            found.insert(0, ("no_information_ordering", self.order.note))
        return tuple({"code": code, "message": message, "records": []} for code, message in found)

    def why(self, id: str) -> str:
        """Say why a record was dropped, or where it stands among the kept ones."""
        dropped = {i: k for k, i in enumerate(self.dropped.ids)}
        if id in dropped:
            at = dropped[id]
            return (
                f"{id}: dropped by {self.dropped.column('filter')[at]}: {self.dropped.column('reason')[at]}"
            )
        kept = {i: k for k, i in enumerate(self.kept.ids)}
        if id not in kept:
            raise InputError(f"no record {id!r}{did_you_mean(id, [*kept, *dropped])}")
        if self.order is None:
            return f"{id}: kept; no filter had a reason to drop it"
        score = self.kept.column(SCORE)[kept[id]]
        place = f"place {kept[id] + 1:,} of {len(kept):,} by {self.order.name}"
        return f"{id}: kept, {place}" + ("" if score is None else f" ({score:.3f})")

    def worst(self, n: int = 5) -> tuple[dict[str, Any], ...]:
        """Return the n kept records that come last in the order; without one, the first dropped records."""
        if self.order is None:
            return tuple(self.dropped.slice(0, n))
        scores = np.array([np.inf if s is None else s for s in self.kept.column(SCORE)])
        return tuple(self.kept.take(np.argsort(scores, kind="stable")[: min(n, len(scores))]))

    def to_json(self) -> dict[str, Any]:
        """Return what `karat curate --json` prints; at most 20 dropped records as examples."""
        order = self.order
        return {
            "candidate": {"path": self.candidate, "records": self.records},
            "kept": len(self.kept),
            "dropped": len(self.dropped),
            "added": self.added,
            "repeated": self.repeated,
            "reasons": self.counts,
            "steps": [
                {
                    "kind": s.kind,
                    "name": s.name,
                    "signature": s.signature,
                    "before": s.before,
                    "dropped": s.dropped,
                    "note": s.note,
                }
                for s in self.steps
            ],
            "order": None
            if order is None
            else {
                "name": order.name,
                "signature": order.signature,
                "informative": order.informative,
                "calibrated": "oracle_rho" in order.figures,
                "note": order.note,
                "figures": dict(order.figures),
            },
            "asked": None
            if self.asked is None
            else {
                name: getattr(self.asked, name)
                for name in ("answers", "reused", "tokens_in", "tokens_out", "cost_usd", "failed")
            },
            "examples": [
                {"id": row["id"], "filter": row["filter"], "reason": row["reason"]}
                for row in self.dropped.slice(0, 20)
            ],
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        lines = [f"{len(self.kept):,} of {self.records:,} records kept, {len(self.dropped):,} dropped"]
        if self.added:
            lines[0] += f"; {self.added:,} human records added"
        if self.repeated:
            lines[0] += f"; {self.repeated:,} of the kept are copies, drawn more than once"
        for step in self.steps:
            note = f"  {step.note}" if step.note else ""
            lines.append(f"  {step.name:<20} {step.before:>9,} -> {step.left:>9,}{note}")
        if self.asked is not None and self.asked.answers:
            lines.append(f"  {self.asked.answers:,} answers of a provider, {self.asked.cost_usd:.4g} USD")
        return "\n".join([*lines, *(f"warning {w['code']}: {w['message']}" for w in self.warnings)])

    def __report__(self) -> tuple[Section, ...]:
        """Return what was dropped and why, with examples, and the spread of the order's scores."""
        share = len(self.dropped) / self.records
        detail = f"{len(self.dropped):,} dropped ({share:.1%})" + (
            f", {self.added:,} human records added" if self.added else ""
        )
        detail += f", {self.repeated:,} copies among the kept" if self.repeated else ""
        blocks: list[Block] = [
            Headline(f"{len(self.kept):,}", "records kept", detail),
            _steps_table(self.steps),
        ]
        if self.order is not None:
            level: Level = "info" if self.order.informative or self.order.name == "random" else "warning"
            blocks.append(Note(f"Order by {self.order.name}: {self.order.note}", level))
            blocks += [Note(message, "warning") for _, message in self.order.warnings]
            rows = tuple({"score": s} for s in self.kept.column(SCORE) if s is not None)
            if self.order.figures:
                blocks.append(_figures_table(self.order))
            if self.order.name != "random" and rows:
                blocks.append(Chart("histogram", rows, "score", "", title=f"Scores of {self.order.name}"))
        examples = _examples(self.dropped)
        if examples:
            blocks.append(Examples(examples, "Dropped records", "The first of each filter."))
        return (Section("What was kept", tuple(blocks), id="curate"),)


def _steps_table(steps: Sequence[Step]) -> Table:
    rows = tuple(
        {
            "step": s.name,
            "before": s.before,
            "dropped": s.dropped,
            "share": s.dropped / s.before if s.before else 0.0,
            "note": s.note,
            "_signature": s.signature,
        }
        for s in steps
    )
    return Table(
        (
            Column("step", "step"),
            Column("before", "records before", "number"),
            Column("dropped", "dropped", "number"),
            Column("share", "share", "percent"),
            Column("note", "note"),
        ),
        rows,
        title="Step by step",
    )


def _figures_table(order: Ordering) -> Table:
    rows = tuple({"figure": name, "value": value} for name, value in order.figures.items())
    return Table(
        (Column("figure", "figure"), Column("value", "value", "number")),
        rows,
        title=f"Figures of {order.name}",
    )


def _examples(dropped: Records, each: int = 20) -> tuple[Example, ...]:
    """Return the first dropped records of each filter."""
    found: dict[str, list[Example]] = {}
    labels = dropped.labels() or [""] * len(dropped)
    columns = zip(dropped.ids, dropped.texts(), labels, dropped.column("filter"), dropped.column("reason"))
    for identity, text, label, name, reason in columns:
        rows = found.setdefault(name, [])
        if len(rows) < each:
            rows.append(Example(name, text, label or "", identity, reason))
    return tuple(row for rows in found.values() for row in rows)
