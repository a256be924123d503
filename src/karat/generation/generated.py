"""What a generation leaves: records, plan, rejected rows, cost, and how it explains itself. Knows no part."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from karat.blocks import Block, Column, Commands, Example, Examples, Headline, Note, Section, Table
from karat.errors import InputError, did_you_mean
from karat.formats import release
from karat.generation import attributes as finding
from karat.generation.compliance import Compliance, Written
from karat.generation.limits import Usage
from karat.generation.plan import Plan, PlanRow
from karat.generation.tasks import Task
from karat.records import Records

_SHOWN, _BATCH = 60, 256  # examples in the report; records looked at a time


@dataclass(frozen=True)
class Rejected:
    """A planned row that became no record: why, and the raw text of its last answer."""

    id: str
    reason: str
    text: str = ""
    label: str | None = None


@dataclass(frozen=True)
class Estimate:
    """What a plan may cost: `likely` (with low and high) and `most`, in tokens and dollars.

    sampled: from how many answers the likely cost was read; 0: answers are taken for half of the longest.
    most_usd is None where no price is known.
    """

    rows: int
    tokens_in: int
    likely_tokens: int
    most_tokens: int
    likely_usd: float | None
    most_usd: float | None
    sampled: int = 0
    low_tokens: int = 0
    high_tokens: int = 0


@dataclass(frozen=True)
class Generated:
    """Synthetic records, the plan they came from, the rows that were rejected, and what all cost."""

    records: Records
    plan: Plan
    rejected: tuple[Rejected, ...]
    usage: Usage
    estimate: Estimate
    task: Task
    provider: str
    model: str
    recipe: str
    seed: int
    saw: tuple[str, ...] = ()
    facts: dict[str, float] = field(default_factory=dict)
    dry_run: bool = False
    plan_path: str = ""
    attributes_as_asked: Compliance = field(default_factory=Compliance)
    notes: tuple[str, ...] = ()
    checks: tuple[dict[str, Any], ...] = ()
    """what was asked of finished records: name, how many were looked at and dropped, and more by check"""

    def worst(self, n: int = 5) -> tuple[str, ...]:
        """Return the ids of the n records that a reader should look at first.

        First those that are not as long as asked, then those that the model itself found least likely.
        """
        rows = {row.id: row for row in self.plan}
        keyed = []
        for identity, text, logprob in zip(
            self.records.ids, self.records.texts(), self.records.lineage("logprob")
        ):
            kept = complies(rows, identity, text)
            keyed.append((kept is not False, logprob if logprob is not None else 0.0, identity))
        return tuple(identity for _, _, identity in sorted(keyed)[:n])

    def why(self, id: str) -> str:
        """Say in one paragraph how a row came about, or why it did not."""
        rows = self.plan.pick([id])
        row = _row_of(rows, id)
        if row is None:
            raise InputError(f"no planned row {id!r}{did_you_mean(id, [row.id for row in self.plan])}")
        wanted = [f"label {row.label!r}"] if row.label is not None else []
        wanted += [f"{name} {value!r}" for name, value in row.attributes.items()]
        head = f"{id}: planned by {row.recipe} with {', '.join(wanted) or 'no attributes'}, seed {row.seed}"
        rejected = next((r for r in self.rejected if r.id == id), None)
        if rejected is not None:
            return f"{head}; rejected: {rejected.reason}"
        at = self.records.ids.index(id) if id in self.records.ids else -1
        if at < 0:
            return f"{head}; not generated"
        text, logprob = self.records.texts()[at], self.records.lineage("logprob")[at]
        kept = complies(rows, id, text)
        told = "" if kept is None else f"; its length is {'as asked' if kept else 'NOT as asked'}"
        sure = "" if logprob is None else f"; mean log-probability {logprob:.2f} nats a token"
        return f"{head}; written by {self.model}{sure}{told}"

    def write_rejected(self, path: str | os.PathLike[str]) -> Path:
        """Write the rejected rows as JSONL: id, label, reason and the text of the last answer."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            {"id": one.id, "label": one.label, "reason": one.reason, "text": one.text}
            for one in self.rejected
        ]
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")  # whole or not at all
        with partial.open("w", encoding="utf-8", errors="replace") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        return partial.replace(target)

    @property
    def compliance(self) -> float | None:
        """Share of records that are as long as asked; None where no length was asked for."""
        if not self._surveyed[2]:
            return None
        kept = [c for row, text in _beside(self) if (c := complies({row.id: row}, row.id, text)) is not None]
        return sum(kept) / len(kept) if kept else None

    def to_json(self) -> dict[str, Any]:
        """Return what `karat generate --json` prints."""
        reasons = Counter(_kind(r.reason) for r in self.rejected)
        return {
            "provider": self.provider,
            "model": self.model,
            "recipe": self.recipe,
            "seed": self.seed,
            "dry_run": self.dry_run,
            "planned": len(self.plan),
            "records": len(self.records),
            "fingerprint": self.records.fingerprint if len(self.records) else None,
            "rejected": {"rows": len(self.rejected), "reasons": dict(reasons.most_common())},
            "labels": dict(sorted(self._surveyed[0].items())),
            "combinations": {"distinct": self._surveyed[1], "rows": len(self.plan)},
            "length_as_asked": self.compliance,
            "usage": {
                "answers": self.usage.answers,
                "reused": self.usage.reused,
                "tokens_in": self.usage.tokens_in,
                "tokens_out": self.usage.tokens_out,
                "cost_usd": self.usage.cost_usd,
                "retries": self.usage.retries,
                "throttled": self.usage.throttled,
                "lost": {
                    "attempts": self.usage.lost,
                    "tokens": self.usage.lost_tokens,
                    "usd": self.usage.lost_usd,
                },
                "seconds": round(self.usage.seconds, 3),
            },
            "estimate": dict(vars(self.estimate)),
            "generator_saw": list(self.saw),
            "generator": self.facts,
            "plan": self.plan_path,
            "notes": list(self.notes),
            "checks": list(self.checks),
            "attributes_as_asked": [vars(line) for line in self.attributes_as_asked.lines],
        }

    @cached_property
    def _surveyed(self) -> tuple[Counter[str], int, bool, bool]:
        """In one walk through the plan: rows of each label, combinations, any lengths, any attributes."""
        labels: Counter[str] = Counter()
        distinct: set[int] = set()
        lengths = attributes = False
        for row in self.plan:
            labels.update(map(str, row.material.get("labels") or [row.label]))
            distinct.add(hash((row.label, *sorted(row.attributes.items()))))
            lengths = lengths or finding.LENGTH in row.attributes
            attributes = attributes or bool(row.attributes)
        return labels, len(distinct), lengths, attributes

    def __str__(self) -> str:
        if self.dry_run:
            e = self.estimate
            by = f" (by {e.sampled} rows that were made)" if e.sampled else ""
            return (
                f"{e.rows:,} rows planned for {self.model}: about {e.likely_tokens:,} tokens and "
                f"{_usd(e.likely_usd)}{by}, at most {e.most_tokens:,} and {_usd(e.most_usd)}"
            )
        return (
            f"{len(self.records):,} records of {len(self.plan):,} planned rows from {self.model}, "
            f"{len(self.rejected):,} rejected; {self.usage.tokens_in + self.usage.tokens_out:,} tokens, "
            f"{self.usage.cost_usd:.4g} USD"
        )

    def __report__(self) -> tuple[Section, ...]:
        """Return what was planned, what came of it and what it cost as blocks."""
        blocks: list[Block] = [
            Headline(
                f"{self.estimate.rows if self.dry_run else len(self.records):,}",
                "rows planned" if self.dry_run else "synthetic records",
                str(self),
            ),
            self._table(),
        ]
        if self.attributes_as_asked.lines:
            blocks.append(self.attributes_as_asked.table())
        if not self.dry_run:
            blocks += self._examples()
        blocks += [Note(text, "warning") for text in self.notes]
        if self.plan_path:
            blocks.append(Note(f"The plan stands in {self.plan_path}; edit it and give it back with --plan."))
            blocks.append(Commands((f"karat generate --plan {self.plan_path} ...",)))
        return (Section(f"Generated by {self.recipe.split(':')[0]}", tuple(blocks), id="generate"),)

    def _table(self) -> Table:
        spaces = {
            a.name: len({v for label in self.task.label_names or (None,) for v in a.of(label)})
            for a in self.task.attributes
        }
        used = self._surveyed[3]
        rows: list[dict[str, Any]] = [
            {"name": "model", "value": self.model},
            {"name": "recipe", "value": self.recipe},
            {"name": "rows planned", "value": len(self.plan)},
            {"name": "distinct combinations of label and attributes", "value": self._surveyed[1]},
        ]
        if used:
            told = ", ".join(f"{name} ({count})" for name, count in spaces.items())
            rows.append({"name": "attributes (values)", "value": told})
        if self.dry_run:
            if self.estimate.sampled:
                span = f"{self.estimate.low_tokens:,} to {self.estimate.high_tokens:,}"
                rows.append({"name": "tokens, 95 % interval", "value": span})
            rows += [
                {"name": "tokens, about", "value": self.estimate.likely_tokens},
                {"name": "tokens, at most", "value": self.estimate.most_tokens},
                {"name": "USD, about", "value": self.estimate.likely_usd},
                {"name": "USD, at most", "value": self.estimate.most_usd},
            ]
        else:
            rows += [
                {"name": "records", "value": len(self.records)},
                {"name": "rejected", "value": len(self.rejected)},
                {"name": "answers from the journal", "value": self.usage.reused},
                {"name": "tokens in", "value": self.usage.tokens_in},
                {"name": "tokens out", "value": self.usage.tokens_out},
                {"name": "USD", "value": self.usage.cost_usd},
            ]
            if self.usage.lost:
                most = f"{self.usage.lost_tokens:,} tokens, {self.usage.lost_usd:.4g} USD"
                told = f"{self.usage.lost:,} (at most {most})"
                rows.append({"name": "attempts that may have been charged", "value": told})
            rows += [
                {
                    "name": f"{check['name']}: dropped",
                    "value": f"{check['dropped']:,} of {check['looked_at']:,}",
                }
                for check in self.checks
            ]
            if (as_long := self.compliance) is not None:
                rows.append({"name": "share as long as asked", "value": round(as_long, 3)})
        rows += [
            {"name": f"generator: {name.replace('_', ' ')}", "value": v} for name, v in self.facts.items()
        ]
        return Table((Column("name", ""), Column("value", "")), tuple(rows), "What was done")

    def _examples(self) -> list[Block]:
        blocks: list[Block] = []
        if self.rejected:
            counts = Counter(_kind(r.reason) for r in self.rejected).most_common()
            rows = tuple({"reason": reason, "rows": count} for reason, count in counts)
            columns = (Column("reason", "reason"), Column("rows", "rows", "number"))
            blocks.append(Table(columns, rows, "Why rows were rejected"))
        first = self.records.slice(0, _SHOWN)
        planned = self.plan.pick(first.ids)
        labels = first.labels() or [""] * len(first)
        shown = [
            Example("synthetic", text, label or "", identity, tags=_tags(planned, identity))
            for identity, text, label in zip(first.ids, first.texts(), labels)
        ]
        shown += [Example("rejected", r.text, r.label or "", r.id, r.reason) for r in self.rejected[:30]]
        if shown:
            blocks.append(Examples(tuple(shown), "What was written"))
        return blocks


def _row_of(rows: Mapping[str, PlanRow], identity: str) -> PlanRow | None:
    """The row of a record or of a row itself; a row of several records numbers them."""
    return rows.get(identity) or rows.get(identity.rpartition("-")[0])


def complies(rows: Mapping[str, PlanRow], identity: str, text: str) -> bool | None:
    """True when a text is as long as its row asked; None where it asked for no length."""
    row = _row_of(rows, identity)
    asked = finding.bounds(row.attributes.get(finding.LENGTH, "")) if row is not None else None
    return None if asked is None else asked.hold(text)


def written_of(result: Generated, most: int = 2000) -> list[Written]:
    """Records as they were planned and as they came; of many, `most` that are spread over all."""
    total = len(result.records)
    wanted = [i * total // min(most, total) for i in range(min(most, total))]
    kind = result.records.kind
    some: list[dict[str, Any]] = []
    for i in wanted:
        some += result.records.table.slice(i, 1).to_pylist()
        if not len(some) % _BATCH:
            release()
    rows = result.plan.pick([str(record["id"]) for record in some])
    found = []
    for record in some:
        row = _row_of(rows, str(record["id"]))
        if row is not None and row.attributes:
            label = record.get(kind.label) if kind.label else None
            found.append(Written(str(record["id"]), kind.text(record), row.attributes, label))
    return found


def _beside(result: Generated) -> Iterator[tuple[PlanRow, str]]:
    """Each record's row and text, read side by side: both stand in the order of the plan."""
    kind, rows = result.records.kind, iter(result.plan)
    row = next(rows, None)
    for batch in result.records.table.to_batches(max_chunksize=_BATCH):
        for record in batch.to_pylist():
            identity = str(record["id"])
            while row is not None and row.id not in (identity, identity.rpartition("-")[0]):
                row = next(rows, None)
            if row is None:
                return
            yield row, kind.text(record)
        release()


def _tags(rows: Mapping[str, PlanRow], identity: str) -> tuple[str, ...]:
    row = _row_of(rows, identity)
    return () if row is None else tuple(row.attributes.values())


def _usd(value: float | None) -> str:
    return "an unknown price" if value is None else f"{value:.4g} USD"


def _kind(reason: str) -> str:
    """A reason without what is only about its row."""
    return next((prefix for prefix in _OF_ROWS if reason.startswith(prefix)), reason)


_OF_ROWS = (
    "refused by the provider",
    "no answer",
    "the model refused",
    "the same text as test record",
    "the same text as human record",
    "the same text as",
    "nearly the same text as human record",
    "nearly the same text as",
    "label not confirmed",
    "not as asked",
    "preference not confirmed",
)
