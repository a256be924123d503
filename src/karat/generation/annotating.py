"""Labels and preferences for existing items: a generation whose rows are items. Knows two recipes by name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from karat import registry
from karat.blocks import Block, Column, Commands, Example, Examples, Headline, Note, Section, Table
from karat.errors import BadSetting, InputError
from karat.generation.base import Progress
from karat.generation.generated import Generated
from karat.generation.stage import generate
from karat.generation.tasks import Task
from karat.records import Records

_SHOWN = 12  # labels that have a column of their own
_EXAMPLES = 60
_WHO = {"annotation": ("annotator", "annotator_kind"), "preference": ("rater", "rater_kind")}
_UNUSABLE = {"annotation": "", "preference": "invalid"}


@dataclass(frozen=True)
class Annotated:
    """Labels or choices of a model, those of people beside them where asked, and how they came about.

    records: all of them; made: the generation, whose records are the model's alone; human: how many records
    of people stand at the end of `records`. unknown: labels of people that the task does not name.
    """

    records: Records
    made: Generated
    items: int
    human: int = 0
    unknown: tuple[str, ...] = ()

    @property
    def dry_run(self) -> bool:
        """Whether all was only planned and priced."""
        return self.made.dry_run

    @property
    def unusable(self) -> int:
        """How many answers gave no label."""
        return sum(one == _UNUSABLE[self.records.datatype] for one in self.made.records.labels() or ())

    def write_rejected(self, path: str | os.PathLike[str]) -> Path:
        """Write the rejected rows as JSONL, each with its reason and the raw text of its last answer."""
        return self.made.write_rejected(path)

    def counts(self) -> dict[str, Counter[str]]:
        """Annotator -> label -> how often; people count together."""
        who, _ = _WHO[self.records.datatype]
        found: dict[str, Counter[str]] = {}
        if not len(self.records):
            return found
        names = self.records.column(who)
        for place, (name, label) in enumerate(zip(names, self.records.labels() or ())):
            people = place >= len(self.records) - self.human
            found.setdefault("people" if people else str(name), Counter())[label] += 1
        return found

    def to_json(self) -> dict[str, Any]:
        """Return what `karat annotate --json` prints."""
        found = self.made.to_json()
        for of_written in ("combinations", "length_as_asked"):
            found.pop(of_written)
        fingerprint = self.records.fingerprint if len(self.records) else None
        return {
            **found,
            "labels": {name: dict(sorted(labels.items())) for name, labels in self.counts().items()},
            "records": len(self.records),
            "fingerprint": fingerprint,
            "items": self.items,
            "unusable": self.unusable,
            "human_records": self.human,
            "unknown_labels": list(self.unknown),
        }

    def __str__(self) -> str:
        if self.dry_run:
            return str(self.made)
        answers = len(self.made.records)
        return (
            f"{answers:,} answers of {self.made.model} to {self.items:,} items, {self.unusable:,} unusable, "
            f"{len(self.made.rejected):,} rows rejected; {self.made.usage.cost_usd:.4g} USD"
        )

    def __report__(self) -> tuple[Section, ...]:
        """Return who gave which label how often, what it cost and how to hold it against people's."""
        if self.dry_run:  # what the plan of a generation says of its file does not hold here
            planned = (one for part in self.made.__report__() for one in part.blocks)
            kept = tuple(one for one in planned if not isinstance(one, Note | Commands))
            return (Section("Planned", kept, id="annotate"),)
        blocks: list[Block] = [Headline(f"{len(self.made.records):,}", "answers", str(self)), self._table()]
        if self.unusable:
            blocks.append(
                Note(
                    f"{self.unusable:,} of {len(self.made.records):,} answers give no label; the field raw "
                    "holds what was said",
                    "warning",
                )
            )
        if self.unknown:
            blocks.append(Note(f"people gave labels that the task does not name: {', '.join(self.unknown)}"))
        blocks += self._examples()
        if self.human:
            kind = _WHO[self.records.datatype][1]
            line = f"karat audit FILE --where {kind}=model --reference FILE --reference-where {kind}=human"
            blocks.append(Commands((line,), "FILE is what --out named"))
        return (Section("Annotated", tuple(blocks), id="annotate"),)

    def _table(self) -> Table:
        counts = self.counts()
        total: Counter[str] = sum(counts.values(), Counter())
        unusable = _UNUSABLE[self.records.datatype]
        named = [*self.made.task.answers, *(label for label, _ in total.most_common())]
        labels = [one for one in dict.fromkeys(named) if one != unusable and one in total][:_SHOWN]
        rows = tuple(
            {
                "annotator": name,
                "answers": own.total(),
                "unusable": own[unusable] / own.total(),
                **{f"label {label}": own[label] / own.total() for label in labels},
            }
            for name, own in counts.items()
        )
        columns = (
            Column("annotator", "annotator"),
            Column("answers", "answers", "number"),
            Column("unusable", "unusable", "percent"),
            *(Column(f"label {label}", label, "percent") for label in labels),
        )
        return Table(columns, rows, "Who said what", "shares of all answers of an annotator")

    def _examples(self) -> list[Block]:
        made = self.made.records
        shown = [
            Example("synthetic", text, label, identity)
            for identity, text, label in zip(made.ids[:_EXAMPLES], made.texts(), made.labels() or ())
        ]
        shown += [Example("rejected", r.text, "", r.id, r.reason) for r in self.made.rejected[:30]]
        return [Examples(tuple(shown), "What was said")] if shown else []


def annotate(
    items: Records,
    *,
    task: Task | str | os.PathLike[str] | None = None,
    provider: Any = "openai_compatible",
    recipe: Any = "",
    samples: int = 1,
    personas: Path | None = None,
    keep_human: bool = False,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_usd: float | None = None,
    max_tokens: int | None = None,
    max_seconds: float | None = None,
    concurrency: int = 32,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    retries: int = 6,
    redraw: int = 1,
    dry_run: bool = False,
    sample: int = 0,
    journal: Path | None = None,
    progress: Progress | None = None,
) -> Annotated:
    """Have a language model label items, or choose between two responses, several times each.

    items: records to be labelled; people's labels of them are not shown to the model.
    task: the task file (TOML) with labels and their definitions; None takes the labels that people gave.
    provider: what answers, for example openai_compatible:model=NAME,url=URL or replay:path=FILE.
    recipe: annotate or compare with their settings; by the type of the task when not given.
    samples: answers to each item by each annotator.
    personas: a file of personas, one a line; each of them answers too.
    keep_human: write people's records of the same items along, so that an audit can compare.
    seed: for orders of labels, personas and draws.
    temperature: how freely the model draws; 0 takes the most likely token.
    top_p: draw from the most likely tokens that make up this share.
    max_usd: a hard cap in dollars; work in flight counts.
    max_tokens: a hard cap in tokens (in and out).
    max_seconds: no call begins after so long; the same command goes on.
    concurrency: calls at a time, if the provider can; fewer where the server asks for it.
    requests_per_minute: a limit of the server that is known beforehand.
    tokens_per_minute: the same in tokens.
    retries: how often a call is tried again when the server fails.
    redraw: how often a rejected row is asked for again.
    dry_run: plan and price, but make nothing.
    sample: with dry_run: make so many rows after all, and price the plan by them; they are kept.
    journal: folder for the plan and the answers; the same call again continues there.
    Raises BudgetSpent at a cap; what was answered is in the journal, and the same call goes on from it.
    """
    given = _task(task, items)
    maker, kind = _maker(recipe, given, items, samples, personas)
    people = _people(items, kind) if keep_human else None
    given = replace(given, type=kind, schema={})
    made = generate(
        given,
        items=items,
        provider=provider,
        recipe=maker,
        n=maker.rows(given, items),
        seed=seed,
        temperature=temperature,
        top_p=top_p,
        max_usd=max_usd,
        max_tokens=max_tokens,
        max_seconds=max_seconds,
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        retries=retries,
        redraw=redraw,
        dry_run=dry_run,
        sample=sample,
        journal=journal,
        progress=progress,
    )
    return _together(made, people, given)


def _together(made: Generated, people: Records | None, task: Task) -> Annotated:
    """The result, with the records of people at its end where they are wanted."""
    if people is None or made.dry_run:
        return Annotated(made.records, made, _item_count(made))
    whole = made.records.concat(people) if len(made.records) else people
    return Annotated(whole, made, _item_count(made), len(people), _unknown(people, task))


def _maker(
    recipe: Any, task: Task, items: Records, samples: int, personas: Path | None
) -> tuple[Any, Literal["annotation", "preference"]]:
    """The recipe and the type of records that it makes. Raises BadSetting or InputError before any call."""
    paired = task.type == "preference" or items.datatype == "preference"
    maker: Any = registry.make(
        "recipes",
        recipe or ("compare" if paired else "annotate"),
        samples=samples,
        personas="" if personas is None else str(personas),
    )
    name = registry.name_of(maker)
    if not hasattr(maker, "rows"):
        raise BadSetting(f"recipe {name!r} labels no items; choose annotate or compare")
    if name == "annotate":  # labels of pairs are labels
        return maker, "annotation"
    if items.datatype != "preference":
        raise InputError(
            f"{items.path}: holds {items.datatype} records, but preferences are between response_a and "
            "response_b; write pairs first (karat generate --recipe compare), or label with --recipe annotate"
        )
    return maker, "preference"


def _task(task: Task | str | os.PathLike[str] | None, items: Records) -> Task:
    """The task that is given; else the labels that people gave, or that a pair is compared."""
    if task is not None:
        return task if isinstance(task, Task) else Task.from_toml(task)
    if items.datatype == "preference":
        return Task("response", type="preference")
    if not any(items.labels() or ()):
        raise InputError(
            f"{items.path}: no task and no labels in the records; name the labels in a task file (--task)"
        )
    found = Task.from_records(items)
    return replace(found, labels=tuple(one for one in found.labels if one.name.strip()))


def _people(items: Records, kind: str) -> Records:
    """The records of people among the items. Raises InputError when there are none."""
    who, of = _WHO[kind]
    if items.datatype != kind or not items.has(who):
        raise InputError(f"{items.path}: keep_human needs {kind} records with a field {who}; leave it out")
    kinds: Sequence[Any] = items.column(of) if items.has(of) else [None] * len(items)
    human = items.where(np.array([one is None or one == "human" for one in kinds], dtype=bool))
    if not len(human):
        raise InputError(f"{items.path}: keep_human, but {of} is human in no record; leave it out")
    return human.with_column(of, ["human"] * len(human))


def _unknown(people: Records, task: Task) -> tuple[str, ...]:
    """Labels of people that the task does not name, if it names any."""
    if task.type == "preference" or not task.answers:
        return ()
    return tuple(sorted({one for one in people.labels() or () if one} - set(task.answers)))


def _item_count(made: Generated) -> int:
    """How many different items the plan holds."""
    return len({row.material.get("item_id", row.material.get("pair")) for row in made.plan})
