"""Generates records: plans every row, calls the provider, parses answers. Knows no part by name."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from karat import records, registry
from karat.blocks import Block, Chart, Column, Commands, Example, Examples, Headline, Note, Section, Table
from karat.errors import BadSetting, BudgetSpent, InputError, did_you_mean
from karat.generation import attributes as finding
from karat.generation import plan as planning
from karat.generation.base import Learning, Progress, Provider, Request, Response, most
from karat.generation.calls import Called, Limits, Usage, call
from karat.generation.journal import Journal
from karat.generation.parsing import parse
from karat.generation.plan import PlanRow
from karat.generation.tasks import Task
from karat.records import LINEAGE, Records


@dataclass(frozen=True)
class Rejected:
    """A planned row that became no record: why, and the raw text of its last answer."""

    id: str
    reason: str
    text: str = ""
    label: str | None = None


@dataclass(frozen=True)
class Estimate:
    """What a plan may cost: `likely` and `most`, in tokens and dollars."""

    rows: int
    tokens_in: int
    likely_tokens: int
    most_tokens: int
    likely_usd: float
    most_usd: float


@dataclass(frozen=True)
class Generated:
    """Synthetic records, the plan they came from, the rows that were rejected, and what all cost."""

    records: Records
    plan: tuple[PlanRow, ...]
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

    def worst(self, n: int = 5) -> tuple[str, ...]:
        """Return the ids of the n records that a reader should look at first.

        First those that are not as long as asked, then those that the model itself found least likely.
        """
        rows = {row.id: row for row in self.plan}
        keyed = []
        for identity, text, logprob in zip(
            self.records.ids, self.records.texts(), self.records.lineage("logprob")
        ):
            kept = _complies(rows[identity], text) if identity in rows else None
            keyed.append((kept is not False, logprob if logprob is not None else 0.0, identity))
        return tuple(identity for _, _, identity in sorted(keyed)[:n])

    def why(self, id: str) -> str:
        """Say in one paragraph how a row came about, or why it did not."""
        row = next((row for row in self.plan if row.id == id), None)
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
        kept = _complies(row, text)
        told = "" if kept is None else f"; its length is {'as asked' if kept else 'NOT as asked'}"
        sure = "" if logprob is None else f"; mean log-probability {logprob:.2f} nats a token"
        return f"{head}; written by {self.model}{sure}{told}"

    @property
    def compliance(self) -> float | None:
        """Share of records that are as long as asked; None where no length was asked for."""
        rows = {row.id: row for row in self.plan}
        texts = zip(self.records.ids, self.records.texts())
        kept = [c for identity, text in texts if (c := _complies(rows[identity], text)) is not None]
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
            "labels": dict(sorted(Counter(str(row.label) for row in self.plan).items())),
            "combinations": {"distinct": self._distinct(), "rows": len(self.plan)},
            "length_as_asked": self.compliance,
            "usage": {
                "answers": self.usage.answers,
                "reused": self.usage.reused,
                "tokens_in": self.usage.tokens_in,
                "tokens_out": self.usage.tokens_out,
                "cost_usd": self.usage.cost_usd,
                "retries": self.usage.retries,
                "seconds": round(self.usage.seconds, 3),
            },
            "estimate": dict(vars(self.estimate)),
            "generator_saw": list(self.saw),
            "generator": self.facts,
            "plan": self.plan_path,
        }

    def _distinct(self) -> int:
        return len({(row.label, *sorted(row.attributes.items())) for row in self.plan})

    def __str__(self) -> str:
        if self.dry_run:
            e = self.estimate
            return (
                f"{e.rows:,} rows planned for {self.model}: about {e.likely_tokens:,} tokens and "
                f"{e.likely_usd:.4g} USD, at most {e.most_tokens:,} and {e.most_usd:.4g} USD"
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
        if not self.dry_run:
            blocks += self._examples()
        if self.plan_path:
            blocks.append(Note(f"The plan stands in {self.plan_path}; edit it and give it back with --plan."))
            blocks.append(Commands((f"karat generate --plan {self.plan_path} ...",)))
        return (Section(f"Generated by {self.recipe.split(':')[0]}", tuple(blocks), id="generate"),)

    def _table(self) -> Table:
        spaces = {
            a.name: len({v for label in self.task.label_names or (None,) for v in a.of(label)})
            for a in self.task.attributes
        }
        used = self.recipe and any(row.attributes for row in self.plan)
        rows: list[dict[str, Any]] = [
            {"name": "model", "value": self.model},
            {"name": "recipe", "value": self.recipe},
            {"name": "rows planned", "value": len(self.plan)},
            {"name": "distinct combinations of label and attributes", "value": self._distinct()},
        ]
        if used:
            told = ", ".join(f"{name} ({count})" for name, count in spaces.items())
            rows.append({"name": "attributes (values)", "value": told})
        if self.dry_run:
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
            if self.compliance is not None:
                rows.append({"name": "share as long as asked", "value": round(self.compliance, 3)})
        rows += [
            {"name": f"generator: {name.replace('_', ' ')}", "value": v} for name, v in self.facts.items()
        ]
        return Table((Column("name", ""), Column("value", "")), tuple(rows), "What was done")

    def _examples(self) -> list[Block]:
        blocks: list[Block] = []
        if self.rejected:
            counts = Counter(_kind(r.reason) for r in self.rejected).most_common()
            rows = tuple({"reason": reason, "rows": count} for reason, count in counts)
            blocks.append(Chart("bar", rows, "reason", "rows", title="Why rows were rejected"))
        planned = {row.id: row for row in self.plan}
        labels = self.records.labels() or [""] * len(self.records)
        shown = [
            Example(
                "synthetic", text, label or "", identity, tags=tuple(planned[identity].attributes.values())
            )
            for identity, text, label in list(zip(self.records.ids, self.records.texts(), labels))[:60]
        ]
        shown += [Example("rejected", r.text, r.label or "", r.id, r.reason) for r in self.rejected[:30]]
        if shown:
            blocks.append(Examples(tuple(shown), "What was written"))
        return blocks


def generate(
    task: Task | str | os.PathLike[str] | None,
    human: Records | None = None,
    *,
    provider: Any = "embedded",
    recipe: Any = "simple",
    n: int = 1000,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    answer_tokens: int = 256,
    max_usd: float | None = None,
    max_tokens: int | None = None,
    concurrency: int = 8,
    retries: int = 6,
    redraw: int = 1,
    plan: Path | None = None,
    dry_run: bool = False,
    journal: Path | None = None,
    progress: Progress | None = None,
) -> Generated:
    """Make training data with a language model: plan, calls, records.

    task: the task file (TOML); None takes type and labels from the human records.
    human: human records, for attributes and for providers that learn from them.
    provider: what answers, for example embedded or replay:path=answers.jsonl.
    recipe: how prompts are made: simple or attributed.
    n: how many rows to plan.
    seed: for the plan, the rows and what a provider learns.
    temperature: how freely the model draws; 0 takes the most likely token.
    top_p: draw from the most likely tokens that make up this share.
    answer_tokens: the most tokens of one answer.
    max_usd: a hard cap in dollars for the whole plan; work in flight counts.
    max_tokens: a hard cap in tokens (in and out) for the whole plan.
    concurrency: calls at a time, if the provider can.
    retries: how often a call is tried again when the server is busy.
    redraw: how often a rejected row is asked for again.
    plan: a plan file to follow, as written by an earlier run and edited since.
    dry_run: plan and price, but call nothing.
    journal: folder for the plan, the answers and trained models; the same call again continues there.
    Raises BudgetSpent at a cap; what was answered is in the journal, and the same call goes on from it.
    """
    if redraw < 0 or retries < 0:
        raise BadSetting(f"redraw={redraw} and retries={retries} must be 0 or more")
    limits = Limits(max_usd, max_tokens, concurrency, retries)
    maker: Any = registry.make("recipes", recipe)
    chosen_task, seen = maker.enrich(_task(task, human), human, seed)
    if plan is None:
        numbers = {"temperature": temperature, "top_p": top_p}
        rows = planning.make_plan(chosen_task, maker, n, seed=seed, answer_tokens=answer_tokens, **numbers)
    else:
        rows = planning.read_plan(plan, chosen_task)
    source: Any = registry.make("providers", provider)
    # A provider that was taught is no part any more: its name says what it was.
    spec = registry.spec_of(source) if isinstance(provider, str) else registry.name_of(source)
    if isinstance(source, Learning) and not dry_run:
        source = _taught(source, chosen_task, seen, seed, journal, progress)
    base = Generated(
        records=_records((), chosen_task, {}, {}, "", "", ()),
        plan=rows,
        rejected=(),
        usage=Usage(),
        estimate=_estimate(rows, source, chosen_task),
        task=chosen_task,
        provider=spec,
        model=source.model,
        recipe=registry.spec_of(maker),
        seed=seed,
        saw=tuple(getattr(source, "saw", ())),
        facts=dict(getattr(source, "facts", {})),
        dry_run=dry_run,
        plan_path=_kept_plan(rows, journal),
    )
    return base if dry_run else _carried_out(base, source, limits, redraw, journal, progress)


def _kept_plan(rows: tuple[PlanRow, ...], journal: Path | None) -> str:
    """Write the plan into the journal's folder; returns its path."""
    if journal is None:
        return ""
    return str(planning.write_plan(rows, journal / f"plan-{planning.fingerprint(rows)}.jsonl"))


def _carried_out(
    base: Generated,
    provider: Provider,
    limits: Limits,
    redraw: int,
    journal: Path | None,
    progress: Progress | None,
) -> Generated:
    """Call for all rows of the plan. Raises BudgetSpent at a cap, with what there is in a file."""
    store = Journal(journal / "calls.sqlite" if journal else None)
    try:
        made, stopped = _answered(base, provider, store, limits, redraw, progress)
    finally:
        store.close()
    if stopped:
        left = ""
        if journal is not None and len(made.records):
            left = f" ({len(made.records):,} records so far: {made.records.write(journal / 'partial.jsonl')})"
        raise BudgetSpent(stopped + left)
    return made


def _task(task: Task | str | os.PathLike[str] | None, human: Records | None) -> Task:
    if task is None:
        if human is None:
            raise InputError(
                "no task and no human records; give a task file (--task) or human records (--human)"
            )
        return Task.from_records(human)
    return task if isinstance(task, Task) else Task.from_toml(task)


def _taught(
    source: Learning,
    task: Task,
    human: Records | None,
    seed: int,
    cache: Path | None,
    progress: Progress | None,
) -> Provider:
    """Let a provider learn; it learns the attributes too, so that one model serves every recipe."""
    name = registry.name_of(source)
    if human is None:
        raise InputError(f"provider {name!r} learns from human records; give some (--human FILE)")
    if all(own is None for own in human.lineage("attributes")):
        finder: Any = registry.make("recipes", "attributed")
        enriched = finder.enrich(task, human, seed)[1]
        human = human if enriched is None else enriched
    return source.fit(human, seed=seed, cache=None if cache is None else cache / "models", progress=progress)


def _estimate(rows: tuple[PlanRow, ...], provider: Any, task: Task) -> Estimate:
    """Price a plan: prompts by what the provider says, answers at half of the longest."""
    tokens = usd = likely_tokens = likely_usd = sent = 0.0
    for i, row in enumerate(rows):
        price = most(provider, row.request(i, schema=task.schema))
        inside = max(price.tokens - row.max_tokens, 0)
        share = (inside + row.max_tokens / 2) / max(inside + row.max_tokens, 1)
        tokens, usd, sent = tokens + price.tokens, usd + price.usd, sent + inside
        likely_tokens, likely_usd = likely_tokens + price.tokens * share, likely_usd + price.usd * share
    return Estimate(len(rows), round(sent), round(likely_tokens), round(tokens), likely_usd, usd)


def _answered(
    base: Generated,
    provider: Provider,
    store: Journal,
    limits: Limits,
    redraw: int,
    progress: Progress | None,
) -> tuple[Generated, str]:
    """Call for all rows, and again for those whose answer was rejected; returns why calling stopped, too."""
    fields: dict[str, dict[str, Any]] = {}
    answers: dict[str, Response] = {}
    rejected: dict[str, Rejected] = {}
    usage, stopped = Usage(), ""
    pending = [(i, row) for i, row in enumerate(base.plan)]
    for replicate in range(redraw + 1):
        requests = [row.request(i, replicate, base.task.schema) for i, row in pending]
        called: Called = call(
            provider, requests, journal=store, limits=replace(limits, spent=usage), progress=progress
        )
        usage, stopped = usage.plus(called.usage), called.stopped
        again: list[tuple[int, PlanRow]] = []
        for i, row in pending:
            response = called.responses.get(row.id)
            if response is None:
                if row.id in called.failures:
                    rejected[row.id] = Rejected(row.id, called.failures[row.id], label=row.label)
                continue
            parsed = parse(response, base.task)
            if parsed.reason:
                rejected[row.id] = Rejected(row.id, parsed.reason, response.text, row.label)
                again.append((i, row))
            else:
                rejected.pop(row.id, None)
                fields[row.id], answers[row.id] = parsed.fields, response
        pending = again
        if not pending or stopped:
            break
    kept = tuple(row for row in base.plan if row.id in fields)
    made = _records(kept, base.task, fields, answers, base.model, base.recipe, base.saw)
    order = {row.id: i for i, row in enumerate(base.plan)}
    left = tuple(sorted(rejected.values(), key=lambda r: order[r.id]))
    return replace(base, records=made, rejected=left, usage=usage), stopped


def _records(
    rows: tuple[PlanRow, ...],
    task: Task,
    fields: Mapping[str, Mapping[str, Any]],
    answers: Mapping[str, Response],
    model: str,
    recipe: str,
    saw: tuple[str, ...],
) -> Records:
    """Records with their whole lineage; `raw` keeps the answer where cleaning changed it."""
    kind = registry.make("datatypes", task.type)
    if not rows:
        names = dict.fromkeys(["id", *kind.forms[0]])
        columns = {name: pa.array([], pa.string()) for name in names}
        return records.from_table(
            pa.table({**columns, "lineage": pa.array([], LINEAGE)}), task.type, "generated"
        )
    found: list[dict[str, Any]] = []
    for row in rows:
        answer, own = answers[row.id], dict(fields[row.id])
        if kind.label and row.label is not None:
            own[kind.label] = row.label
        raw = answer.text if own.get("text") != answer.text else None
        lineage = {
            "source": "synthetic",
            "generator": answer.model or model,
            "recipe": recipe,
            "attributes": json.dumps(row.attributes, ensure_ascii=False, sort_keys=True)
            if row.attributes
            else None,
            "seed": row.seed,
            "prompt_sha256": Request(row.id, row.prompt).prompt_sha256,
            "tokens_in": answer.tokens_in,
            "tokens_out": answer.tokens_out,
            "cost_usd": answer.cost_usd,
            "logprob": answer.logprob,
            "generator_saw": list(saw),
        }
        found.append({**own, "id": row.id, "raw": raw, "lineage": lineage})
    if all(row["raw"] is None for row in found):
        found = [{name: value for name, value in row.items() if name != "raw"} for row in found]
    return records.from_rows(found, datatype=task.type, path="generated")


def _complies(row: PlanRow, text: str) -> bool | None:
    """True when a text is as long as its row asked; None where it asked for no length."""
    asked = finding.bounds(row.attributes.get(finding.LENGTH, ""))
    return None if asked is None else asked.hold(text)


def _kind(reason: str) -> str:
    """A reason without what is only about its row."""
    return reason.split(":")[0] if reason.startswith(("refused by", "no answer")) else reason
