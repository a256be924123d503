"""Rows of a plan become records: calls, reading, checks, redraws. Knows no provider and no recipe by name."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa

from karat import records, registry
from karat.generation.base import Draft, Progress, Provider, Request, Response, Sample
from karat.generation.generated import Rejected
from karat.generation.journal import Journal
from karat.generation.limits import Limits, Usage
from karat.generation.plan import PlanRow
from karat.generation.redaction import Redactor
from karat.generation.scenes import Outcome
from karat.generation.shards import Setting, play_here, play_split, workers_of
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
    rows: list[PlanRow] = field(default_factory=list)
    kept: dict[str, tuple[Outcome, tuple[Draft, ...]]] = field(default_factory=dict)
    rejected: dict[str, Rejected] = field(default_factory=dict)
    answered: dict[str, tuple[Response, ...]] = field(default_factory=dict)
    looked: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.limits = replace(self.limits, since=time.time())
        self.pool: Sequence[Sample] = ()
        self.kind = registry.make("datatypes", self.task.type)

    def make(self, rows: Iterable[PlanRow], pool: Sequence[Sample] = ()) -> None:
        """Work on rows; those that came to nothing are drawn again, as often as `redraw` says."""
        begun = len(self.rows)
        self.rows += rows
        self.pool = pool
        pending = list(enumerate(self.rows[begun:], begun))
        for attempt in range(self.redraw + 1):
            if not pending or self.stopped:
                break
            outcomes = self._play(pending, attempt, pool)
            verdicts = self._checked([outcomes[row.id] for _, row in pending if row.id in outcomes])
            pending = [
                (index, row)
                for index, row in pending
                if row.id in outcomes and self._settle(outcomes[row.id], verdicts)
            ]

    def _play(
        self, pending: list[tuple[int, PlanRow]], attempt: int, pool: Sequence[Sample]
    ) -> dict[str, Outcome]:
        limits = replace(self.limits, spent=self.usage)
        setting = Setting(self.task, self.recipe, self.provider, limits, attempt, self.repairs, pool)
        workers = workers_of(self.executor)
        if workers > 1 or self.apart:
            self.store.hide = Redactor(getattr(self.provider, "secrets", ())).bytes
            played = play_split(setting, pending, self.store, self.executor, workers, self.progress)
        else:
            played = play_here(setting, pending, self.store, self.progress)
        self.usage, self.stopped = self.usage.plus(played.usage), played.stopped
        for identity, outcome in played.outcomes.items():
            self.answered[identity] = (*self.answered.get(identity, ()), *outcome.responses)
        return played.outcomes

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

    def _settle(self, outcome: Outcome, verdicts: Mapping[str, str]) -> bool:
        """Keep what may be kept and note why the rest may not; True when the row is to be drawn again."""
        row, drafts, whole = outcome.row, [], True
        for identity, draft in named(outcome):
            reason = draft.reason or verdicts.get(identity, "")
            label = draft.label if draft.label is not None else row.label
            if reason:
                self.rejected[identity] = Rejected(identity, reason, draft.text, label)
                draft = replace(draft, reason=reason)
            else:
                self.rejected.pop(identity, None)
                whole = False
            drafts.append(draft)
        if whole:
            # Without any answer nothing was drawn: asking again is the engine's work, and it has done it.
            return bool(outcome.responses)
        self.kept[row.id] = (outcome, tuple(drafts))
        return False

    def samples(self) -> list[Sample]:
        """What was made so far, for the rounds that follow."""
        return [
            Sample(
                identity,
                self.kind.text({**draft.fields}),
                draft.label if draft.label is not None else outcome.row.label,
                outcome.row.attributes,
                draft.fields,
                human=False,
                parents=(*outcome.row.parents, *draft.parents),
            )
            for outcome, drafts in self._in_order()
            for identity, draft in named(replace(outcome, drafts=drafts))
            if not draft.reason
        ]

    def costs(self) -> list[tuple[float, float]]:
        """Tokens and dollars of each row that was answered."""
        return [
            (
                float(sum(one.tokens_in + one.tokens_out for one in responses)),
                sum(one.cost_usd for one in responses),
            )
            for responses in self.answered.values()
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

    def _in_order(self) -> Iterator[tuple[Outcome, tuple[Draft, ...]]]:
        return (self.kept[row.id] for row in self.rows if row.id in self.kept)

    def rejections(self) -> tuple[Rejected, ...]:
        """The rejected rows, in the order of the plan."""
        order = {row.id: i for i, row in enumerate(self.rows)}

        def place(one: Rejected) -> int:
            return order.get(one.id, order.get(one.id.rpartition("-")[0], 0))

        return tuple(sorted(self.rejected.values(), key=place))

    def records(self, model: str, spec: str, saw: tuple[str, ...]) -> Records:
        """The kept records with their whole lineage; `raw` keeps the answer where cleaning changed it.

        saw: what the generator was trained on; what it was shown for a row is added to that row.
        """
        shown = {
            identity: source.fingerprint
            for source in (self.human, self.items)
            if source is not None
            for identity in source.ids
        }
        found = [
            one
            for outcome, drafts in self._in_order()
            for one in _rows(replace(outcome, drafts=drafts), self.kind.label, model, spec, saw, shown)
        ]
        if not found:
            return no_records(self.task)
        if all(row.get("raw") is None for row in found):
            for row in found:
                row.pop("raw", None)
        return records.from_rows(found, datatype=self.task.type, path="generated")


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
        raw = draft.text if draft.text and own.get("text") != draft.text else None
        yield {**own, "id": identity, "raw": raw, "lineage": lineage}


def _portion(total: int, parts: int, number: int) -> int:
    """The number-th of whole parts that sum to the total."""
    return total // parts + (number < total % parts)
