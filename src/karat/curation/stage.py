"""Filters, orders and mixes records; each record that goes has a reason. Knows no filter by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from karat import registry
from karat.blocks import Block, Chart, Column, Example, Examples, Headline, Level, Note, Section, Table
from karat.curation.base import Ordered
from karat.errors import BadSetting, InputError, NotEnoughData, did_you_mean
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
        if self.order is None or self.order.informative or self.order.name == "random":
            return ()
        return ({"code": "no_information_ordering", "message": self.order.note, "records": []},)

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
                "note": order.note,
                "figures": dict(order.figures),
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
        for step in self.steps:
            note = f"  {step.note}" if step.note else ""
            lines.append(f"  {step.name:<20} {step.before:>9,} -> {step.left:>9,}{note}")
        return "\n".join([*lines, *(f"warning {w['code']}: {w['message']}" for w in self.warnings)])

    def __report__(self) -> tuple[Section, ...]:
        """Return what was dropped and why, with examples, and the spread of the order's scores."""
        share = len(self.dropped) / self.records
        detail = f"{len(self.dropped):,} dropped ({share:.1%})" + (
            f", {self.added:,} human records added" if self.added else ""
        )
        blocks: list[Block] = [
            Headline(f"{len(self.kept):,}", "records kept", detail),
            _steps_table(self.steps),
        ]
        if self.order is not None:
            level: Level = "info" if self.order.informative or self.order.name == "random" else "warning"
            blocks.append(Note(f"Order by {self.order.name}: {self.order.note}", level))
            rows = tuple({"score": s} for s in self.kept.column(SCORE) if s is not None)
            if self.order.name != "random" and rows:
                blocks.append(Chart("histogram", rows, "score", "", title=f"Scores of {self.order.name}"))
        examples = _examples(self.dropped)
        if examples:
            blocks.append(Examples(examples, "Dropped records", "The first of each filter."))
        return (Section("What was kept", tuple(blocks), id="curate"),)


def curate(
    candidate: Records,
    reference: Records | None = None,
    *,
    filters: Sequence[str] = (),
    order: str | None = None,
    mixture: str | None = None,
    top: int | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Curated:
    """Keep, order and mix records; every dropped one has a reason.

    filters: filters by name and settings, one after the other, for example length:min=5 refusals.
    order: the ordering by name; the best records come first.
    mixture: the mixture by name, for example human_share:share=0.2.
    top: how many records to keep, the best ones if an order is given, else the first ones.
    seed: for orderings and mixtures that draw at random.
    Raises NotEnoughData when nothing is left.
    """
    if top is not None and top < 1:
        raise BadSetting(f"top is {top}, but at least 1 record must be kept; leave it out to keep all")
    judges = registry.make_all("filters", filters)
    orderer = registry.make("orderings", order) if order else None
    mixer = registry.make("mixtures", mixture) if mixture else None
    work = _Work(candidate, reference, seed)
    total = len(judges) + (orderer is not None) + (mixer is not None)
    for done, judge in enumerate(judges):
        if progress:
            progress("curate", done, total)
        work.filter(judge)
    ordering = work.order(orderer) if orderer is not None else None
    if mixer is not None:
        work.mix(mixer, top)
    elif top is not None:
        work.cut(top, ordering)
    if progress:
        progress("curate", total, total)
    kept, dropped = work.result()
    return Curated(
        candidate=candidate.path,
        records=len(candidate),
        kept=kept,
        dropped=dropped,
        added=len(kept) + len(dropped) - len(candidate),
        steps=tuple(work.steps),
        order=ordering,
        seed=seed,
    )


class _Work:
    """The records still kept, and the reasons of those that went; lives as long as one call of `curate`."""

    def __init__(self, candidate: Records, reference: Records | None, seed: int) -> None:
        self.candidate, self.reference, self.seed = candidate, reference, seed
        self.left = np.arange(len(candidate))  # positions of kept candidates, in order
        self.reasons: dict[int, tuple[str, str]] = {}
        self.steps: list[Step] = []
        self.scores: dict[int, float] | None = None
        self.mixed: Records | None = None

    def filter(self, judge: Any) -> None:
        """Drop what a filter drops among the records still kept."""
        name, before = registry.name_of(judge), len(self.left)
        found = judge.judge(self.candidate.take(self.left), self.reference)
        for position, reason in found.reasons.items():
            self.reasons[int(self.left[position])] = (name, reason)
        self.left = self.left[found.kept]
        self._note("filter", judge, before, found.note)
        if not len(self.left):
            raise NotEnoughData(
                f"{self.candidate.path}: filter {registry.spec_of(judge)!r} drops all {before:,} records "
                "that were left; loosen it, or leave it out"
            )

    def order(self, orderer: Any) -> Ordering:
        """Put the records still kept in order, the highest score first; equal ones keep their order."""
        found: Ordered = orderer.order(self.candidate.take(self.left), self.reference, seed=self.seed)
        self.scores = dict(zip(self.left.tolist(), found.scores.tolist()))
        self.left = self.left[np.argsort(-found.scores, kind="stable")]
        self._note("order", orderer, len(self.left), found.note)
        signature = self.steps[-1].signature
        return Ordering(
            registry.name_of(orderer), signature, found.informative, found.note, dict(found.figures)
        )

    def mix(self, mixer: Any, top: int | None) -> None:
        """Let a mixture choose among the records still kept."""
        name, before = registry.name_of(mixer), len(self.left)
        found = mixer.mix(self._with_scores(self.left), self.reference, size=top, seed=self.seed)
        for position, reason in found.left_out.items():
            self.reasons[int(self.left[position])] = (name, reason)
        stays = np.ones(before, np.bool_)
        stays[list(found.left_out)] = False
        self.left, self.mixed = self.left[stays], found.records
        self._note("mixture", mixer, before, found.note)

    def cut(self, top: int, ordering: Ordering | None) -> None:
        """Keep the first `top` records."""
        before = len(self.left)
        by = f" by {ordering.name}" if ordering else ""
        for place, position in enumerate(self.left[top:].tolist(), top + 1):
            self.reasons[position] = ("top", f"place {place:,} of {before:,}{by}, over top={top}")
        self.left = self.left[:top]
        self.steps.append(Step("top", "top", f"top|n:{top}", before, before - len(self.left)))

    def result(self) -> tuple[Records, Records]:
        """Return the kept records and the dropped ones with `filter` and `reason`, both with scores."""
        kept = self.mixed if self.mixed is not None else self._with_scores(self.left)
        gone = np.array(sorted(self.reasons), dtype=np.int64)
        dropped = self._with_scores(gone)
        dropped = dropped.with_column("filter", [self.reasons[p][0] for p in gone.tolist()])
        return kept, dropped.with_column("reason", [self.reasons[p][1] for p in gone.tolist()])

    def _with_scores(self, positions: np.ndarray[Any, Any]) -> Records:
        found = self.candidate.take(positions)
        if self.scores is None:
            return found
        import pyarrow

        values = [self.scores.get(p) for p in positions.tolist()]
        return found.with_column(SCORE, pyarrow.array(values, pyarrow.float64()))

    def _note(self, kind: str, part: Any, before: int, note: str) -> None:
        reference = None if self.reference is None else self.reference.fingerprint[:8]
        signature = registry.signature(part, seed=None if kind == "filter" else self.seed, ref=reference)
        step = Step(kind, registry.name_of(part), signature, before, before - len(self.left), note)
        self.steps.append(step)


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
