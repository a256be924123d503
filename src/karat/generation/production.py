"""Rows of a plan become records: calls, reading, checks, redraws. Knows no provider and no recipe by name."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa

from karat import records, registry
from karat.generation.asking import Asker
from karat.generation.base import Draft, Progress, Provider, Request, Sample
from karat.generation.generated import Rejected
from karat.generation.journal import Journal
from karat.generation.limits import Limits, Usage
from karat.generation.plan import PlanRow
from karat.generation.redaction import Redactor
from karat.generation.scenes import Outcome
from karat.generation.shards import Job, Setting, Take, play_here, play_split, workers_of
from karat.generation.shelf import Shelf
from karat.generation.tasks import Task
from karat.records import LINEAGE, Records


@dataclass(frozen=True)
class Candidate:
    """A finished record that a check looks at: its id, text and fields, and the row that it came from."""

    id: str
    text: str
    draft: Draft
    row: PlanRow

    @property
    def label(self) -> str | None:
        """Its label: what the recipe found, else the planned one."""
        return self.draft.label if self.draft.label is not None else self.row.label


class Check(Protocol):
    """Looks at finished records, in the order of the plan; nothing that was answered is asked again.

    A check may have `facts`, which goes into the result.
    """

    name: str

    def judge(self, candidates: Sequence[Candidate], production: Production) -> Mapping[str, str]:
        """The id of each record that is dropped, and why."""


@dataclass
class Production:
    """The state of one generation: what is kept, what is rejected and why, and what it cost."""

    task: Task
    recipe: Any
    provider: Provider
    store: Journal
    limits: Limits
    redraw: int = 1
    repairs: int = 1
    checks: Sequence[Check] = ()
    progress: Progress | None = None
    usage: Usage = field(default_factory=Usage)
    human: Records | None = None
    items: Records | None = None
    executor: Any = None
    stopped: str = ""
    priced: bool = False
    """whether what each row cost is noted, for an estimate"""
    count: int = 0
    notes: list[str] = field(default_factory=list)
    rejected: dict[str, tuple[int, Rejected]] = field(default_factory=dict)
    costs: dict[str, tuple[float, float]] = field(default_factory=dict)
    looked: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.limits = replace(self.limits, since=self.limits.since or time.time())
        self.pool: Sequence[Sample] = ()
        self.kind = registry.make("datatypes", self.task.type)
        self.shelf = Shelf(None if self.store.path is None else self.store.path.parent)
        self.model, self.saw = self.provider.model, tuple(getattr(self.provider, "saw", ()))
        self.spec = registry.spec_of(self.recipe)
        self._shown: dict[str, str] | None = None

    def make(self, rows: Iterable[PlanRow], count: int, pool: Sequence[Sample] = ()) -> None:
        """Work on rows; those that came to nothing are drawn again, as often as `redraw` says.

        Rows are taken as they are needed, and what is finished goes to the disk: memory does not grow with
        their number, unless checks must see all records of a pass.
        """
        self.pool = pool
        pending: Iterable[Job] = enumerate(rows, self.count)
        self.count += count
        for attempt in range(self.redraw + 1):
            again: list[Job] = []
            finished: list[tuple[int, Outcome]] = []

            def take(job: Job, outcome: Outcome) -> None:
                if self.priced:
                    self._price(outcome)
                if self.checks:
                    finished.append((job[0], outcome))  # noqa: B023 - used in this turn only
                elif self._settle(job[0], outcome, {}):
                    again.append(job)  # noqa: B023

            self._play(pending, count, attempt, pool, take)
            finished.sort(key=lambda one: one[0])
            verdicts = self._checked([outcome for _, outcome in finished])
            again += [(i, one.row) for i, one in finished if self._settle(i, one, verdicts)]
            pending, count = sorted(again, key=lambda job: job[0]), len(again)
            if not again or self.stopped:
                break

    def _play(
        self, pending: Iterable[Job], count: int, attempt: int, pool: Sequence[Sample], take: Take
    ) -> None:
        limits = replace(self.limits, spent=self.usage)
        setting = Setting(self.task, self.recipe, self.provider, limits, attempt, self.repairs, pool)
        workers = workers_of(self.executor)
        if workers > 1 or self.apart:
            self.store.hide = Redactor(getattr(self.provider, "secrets", ())).bytes
            jobs = list(pending)
            usage, stopped = play_split(
                setting, jobs, self.store, self.executor, workers, self.progress, take
            )
        else:
            usage, stopped = play_here(setting, pending, count, self.store, self.progress, take)
        self.usage, self.stopped = self.usage.plus(usage), stopped

    def _price(self, outcome: Outcome) -> None:
        tokens, usd = self.costs.get(outcome.row.id, (0.0, 0.0))
        tokens += sum(one.tokens_in + one.tokens_out for one in outcome.responses)
        self.costs[outcome.row.id] = tokens, usd + sum(one.cost_usd for one in outcome.responses)

    def asker(self, provider: Any) -> Asker:
        """A way to ask another provider about the records, under what is left of the caps."""
        if hasattr(provider, "keep") and self.store.path is not None:
            provider.keep(self.store.path.parent)
        return Asker(provider, self.store, replace(self.limits, spent=self.usage), self.progress)

    @property
    def apart(self) -> bool:
        """Whether even one worker works elsewhere, as those of a cluster do."""
        return self.executor is not None and not getattr(self.executor, "one_machine", True)

    def _checked(self, outcomes: list[Outcome]) -> dict[str, str]:
        """Reasons by record id, from all checks; a record that one drops is not shown to the next."""
        candidates = [
            Candidate(identity, self.kind.text({**draft.fields}), draft, outcome.row)
            for outcome in outcomes
            for identity, draft in named(outcome)
            if not draft.reason
        ]
        verdicts: dict[str, str] = {}
        for check in self.checks:
            candidates = [one for one in candidates if one.id not in verdicts]
            if not candidates or self.stopped:
                break
            found = check.judge(candidates, self)
            self.looked[check.name] = self.looked.get(check.name, 0) + len(candidates)
            self.dropped[check.name] = self.dropped.get(check.name, 0) + len(found)
            verdicts.update(found)
        return verdicts

    def _settle(self, place: int, outcome: Outcome, verdicts: Mapping[str, str]) -> bool:
        """Keep what may be kept and note why the rest may not; True when the row is to be drawn again."""
        row, drafts, whole = outcome.row, [], True
        for identity, draft in named(outcome):
            reason = draft.reason or verdicts.get(identity, "")
            label = draft.label if draft.label is not None else row.label
            if reason:
                self.rejected[identity] = place, Rejected(identity, reason, draft.text, label)
                draft = replace(draft, reason=reason)
            else:
                self.rejected.pop(identity, None)
                whole = False
            drafts.append(draft)
        if whole:
            # Without any answer nothing was drawn: asking again is the engine's work, and it has done it.
            return bool(outcome.responses)
        kept = replace(outcome, drafts=tuple(drafts))
        kind = (self.task.type, self.kind.label)
        self.shelf.add(place, list(_rows(kept, *kind, self.model, self.spec, self.saw, self.shown)))
        return False

    @property
    def shown(self) -> Mapping[str, str]:
        """The records that a recipe may have shown, each with the fingerprint of where it is from."""
        if self._shown is None:
            self._shown = {
                identity: source.fingerprint
                for source in (self.human, self.items)
                if source is not None
                for identity in source.ids
            }
        return self._shown

    def samples(self) -> list[Sample]:
        """What was made so far, for the rounds that follow."""
        return [
            Sample(
                str(row["id"]),
                self.kind.text(row),
                row.get(self.kind.label) if self.kind.label else None,
                json.loads(row["lineage"]["attributes"] or "{}"),
                {name: value for name, value in row.items() if name not in ("id", "lineage", "raw")},
                human=False,
                parents=tuple(row["lineage"].get("parents", ())),
            )
            for row in self.shelf
        ]

    def told(self) -> tuple[dict[str, Any], ...]:
        """What the checks found, for the result."""
        return tuple(
            {
                "name": check.name,
                "looked_at": self.looked.get(check.name, 0),
                "dropped": self.dropped.get(check.name, 0),
                **getattr(check, "facts", {}),
            }
            for check in self.checks
        )

    def rejections(self) -> tuple[Rejected, ...]:
        """The rejected rows, in the order of the plan."""
        return tuple(one for _, one in sorted(self.rejected.values(), key=lambda found: found[0]))

    def records(self) -> Records:
        """The kept records with their whole lineage; `raw` keeps the answer where cleaning changed it.

        `generator_saw` is what the generator was trained on, and what it was shown for a row.
        """
        return self.shelf.table(self.task.type, self.kind) if self.shelf.records else no_records(self.task)


def named(outcome: Outcome) -> Iterator[tuple[str, Draft]]:
    """Each draft of a row with the id of its record; a row of several numbers them."""
    row = outcome.row
    if row.yields == 1 and len(outcome.drafts) == 1:
        yield row.id, outcome.drafts[0]
    else:
        for number, draft in enumerate(outcome.drafts, 1):
            yield f"{row.id}-{number}", draft


def no_records(task: Task) -> Records:
    """Records of the task's type, without a row."""
    names = dict.fromkeys(["id", *registry.make("datatypes", task.type).forms[0]])
    columns = {name: pa.array([], pa.string()) for name in names}
    return records.from_table(pa.table({**columns, "lineage": pa.array([], LINEAGE)}), task.type, "generated")


def _rows(
    outcome: Outcome,
    kind: str,
    label_field: str | None,
    model: str,
    spec: str,
    saw: tuple[str, ...],
    shown: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    """The records of one row. What the row cost is shared out among its drafts, to the last token."""
    row, drafts = outcome.row, len(outcome.drafts)
    tokens_in = sum(one.tokens_in for one in outcome.responses)
    tokens_out = sum(one.tokens_out for one in outcome.responses)
    usd = sum(one.cost_usd for one in outcome.responses)
    prompt = Request(row.id, row.prompt).prompt_sha256
    attributes = json.dumps(row.attributes, ensure_ascii=False, sort_keys=True) if row.attributes else None
    for number, (identity, draft) in enumerate(named(outcome)):
        if draft.reason:
            continue
        own = dict(draft.fields)
        label = draft.label if draft.label is not None else row.label
        if label_field and label is not None:
            own[label_field] = label
        if row.material.get("labels") and "labels" not in own:
            own["labels"] = list(row.material["labels"])
        last = (draft.responses or outcome.responses)[-1] if draft.responses or outcome.responses else None
        lineage: dict[str, Any] = {
            "source": "synthetic",
            "generator": (last.model if last is not None else "") or model,
            "recipe": spec,
            "attributes": attributes,
            "seed": row.seed,
            "prompt_sha256": prompt,
            "tokens_in": _portion(tokens_in, drafts, number),
            "tokens_out": _portion(tokens_out, drafts, number),
            "cost_usd": usd / drafts,
            "logprob": None if last is None else last.logprob,
        }
        parents = (*row.parents, *draft.parents)
        seen = (shown[one] for one in parents if one in shown)
        lineage["generator_saw"] = list(dict.fromkeys([*saw, *seen]))
        if parents:
            lineage["parents"] = list(dict.fromkeys(parents))
        if kind == "annotation":
            told = {"item_id": identity, "annotator": lineage["generator"], "annotator_kind": "model"}
            own = {**told, **own}
        if draft.text and own.get("text") != draft.text:
            own["raw"] = draft.text
        yield {**own, "id": identity, "lineage": lineage}


def _portion(total: int, parts: int, number: int) -> int:
    """The number-th of whole parts that sum to the total."""
    return total // parts + (number < total % parts)
