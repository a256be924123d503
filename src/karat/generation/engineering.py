"""Attribute engineering: dimensions, values, neighbour classes and ambiguous values of a task, by a model.

Each part is done only where the task has nothing yet, so that what people edit stays, and a run that stopped
goes on. Knows no provider by name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from karat import registry
from karat.blocks import Block, Column, Headline, Note, Section, Table
from karat.errors import BadSetting, InputError
from karat.generation import dimensions as asking_for
from karat.generation.asking import Asker
from karat.generation.base import Learning, Progress
from karat.generation.dimensions import Dimension, Filtered
from karat.generation.journal import Journal
from karat.generation.limits import Limits, Usage
from karat.generation.merging import merge_values
from karat.generation.tasks import Attribute, Task
from karat.records import Records


@dataclass(frozen=True)
class Engineered:
    """A task with its attributes, and how they were found.

    agreement: the share of neighbour classes that the model and the human records name alike; None where only
    one of them was asked. filtered: the values that were taken out, each with its reason.
    """

    task: Task
    dimensions: tuple[Dimension, ...] = ()
    filtered: tuple[Filtered, ...] = ()
    asked: int = 0
    agreement: float | None = None
    short: tuple[str, ...] = ()
    """attributes (and classes) for which fewer values were found than asked for"""
    notes: tuple[str, ...] = ()
    provider: str = ""
    model: str = ""
    usage: Usage = field(default_factory=Usage)

    def to_json(self) -> dict[str, Any]:
        """Return what `karat attributes --json` prints."""
        return {
            "provider": self.provider,
            "model": self.model,
            "attributes": [self._told(one) for one in self.task.attributes],
            "discovered": [vars(one) for one in self.dimensions],
            "neighbours": {label: list(near) for label, near in self.task.neighbours.items()},
            "neighbour_agreement": self.agreement,
            "filtered": {
                "asked": self.asked,
                "removed": len(self.filtered),
                "values": [vars(one) for one in self.filtered],
            },
            "short": list(self.short),
            "notes": list(self.notes),
            "usage": vars(self.usage),
        }

    def _told(self, one: Attribute) -> dict[str, Any]:
        sizes = [len(one.of(label)) for label in self.task.label_names or (None,)]
        return {
            "name": one.name,
            "class_dependent": bool(one.by_label),
            "complete": one.complete,
            "values": {"least": min(sizes), "mean": sum(sizes) / len(sizes), "most": max(sizes)},
            "removed": len(one.removed) + sum(len(found) for found in one.removed_by_label.values()),
        }

    def why(self, value: str) -> str:
        """Say why a value was taken out. Raises InputError where none of that name was."""
        found = [one for one in self.filtered if one.value == value]
        if not found:
            raise InputError(f"no value {value!r} was taken out (see `filtered`)")
        return "; ".join(f"{one.attribute} of {one.label}: {one.reason}" for one in found)

    def __str__(self) -> str:
        names = ", ".join(one.name for one in self.task.attributes) or "none"
        return f"attributes: {names}; {len(self.filtered)} of {self.asked} values taken out as ambiguous"

    def __report__(self) -> tuple[Section, ...]:
        """Return the attributes, what was taken out and what it cost as blocks."""
        columns = (
            Column("name", "attribute"),
            Column("class_dependent", "of the class"),
            Column("complete", "complete"),
            Column("least", "values, least", "number"),
            Column("mean", "mean", "number"),
            Column("most", "most", "number"),
            Column("removed", "taken out", "number"),
        )
        rows = [{**told, **told["values"]} for told in map(self._told, self.task.attributes)]
        blocks: list[Block] = [
            Headline(f"{len(self.task.attributes)}", "attributes", str(self)),
            Table(columns, tuple(rows), "Attributes"),
        ]
        if self.filtered:
            names = ("label", "attribute", "value", "reason")
            shown = tuple(vars(one) for one in self.filtered)
            blocks.append(Table(tuple(Column(n, n) for n in names), shown, "Values taken out"))
        blocks += [Note(text) for text in self.notes]
        return (Section("Attributes", tuple(blocks), id="attributes"),)


def attributes(
    task: Task | str | os.PathLike[str] | None = None,
    human: Records | None = None,
    *,
    provider: Any = None,
    published: Path | None = None,
    dimensions: int = 4,
    values: int = 10,
    neighbours: int = 5,
    nearness: Literal["both", "model", "human"] = "both",
    filter: bool = True,
    draws: int = 3,
    seed: int = 0,
    max_usd: float | None = None,
    max_tokens: int | None = None,
    concurrency: int = 32,
    retries: int = 6,
    journal: Path | None = None,
    progress: Progress | None = None,
) -> Engineered:
    """Find attributes for a task: dimensions, values, neighbour classes, and which values are ambiguous.

    task: the task file (TOML); what it has already is kept as it is. None takes classes from human records.
    human: human records; classes that a classifier confuses in them are neighbours too.
    provider: what answers, such as openai_compatible:model=NAME,url=URL.
    published: a folder of published attribute lists to begin with (the layout of AttrPrompt).
    dimensions: how many attributes to find where the task has none.
    values: how many values an attribute (of a class) is to have; shorter lists are topped up.
    neighbours: how many neighbour classes each class has; 0: none.
    nearness: who names neighbours: the model, a classifier on the human records, or both.
    filter: ask of each value of a class whether it suits a neighbour class too, and take such out.
    draws: how often dimensions are asked for; those that come often go first.
    seed: of the calls.
    max_usd: a hard cap in dollars.
    max_tokens: a hard cap in tokens (in and out).
    concurrency: calls at a time, if the provider can.
    retries: how often a call is tried again when the server fails.
    journal: folder for the answers; the same call again continues there.
    """
    for name, number, least in (
        ("dimensions", dimensions, 1),
        ("values", values, 1),
        ("neighbours", neighbours, 0),
        ("draws", draws, 1),
    ):
        if number < least:
            raise BadSetting(f"{name}={number} must be at least {least}")
    chosen, notes = _begun(task, human, published)
    if provider is None:
        if published is None:
            raise BadSetting("attributes needs a provider that finds them (--provider), or --published DIR")
        return Engineered(chosen, notes=tuple(notes))
    source: Any = registry.make("providers", provider)
    if isinstance(source, Learning):
        raise BadSetting(
            f"provider {registry.name_of(source)!r} learns to write from records and answers no questions; "
            "name one that follows instructions"
        )
    store = Journal(journal / "calls.sqlite" if journal else None)
    try:
        ask = Asker(source, store, Limits(max_usd, max_tokens, concurrency, retries), progress)
        work = _Work(chosen, ask, seed, values, notes)
        found = work.discover(dimensions, draws)
        agreed = work.near(human, neighbours, nearness)
        work.fill()
        filtered, asked = work.filter() if filter else ((), 0)
        failed = len(ask.failures)
        if failed:
            work.notes.append(f"{failed} questions got no answer: {next(iter(ask.failures.values()))}")
    finally:
        store.close()
    return Engineered(
        work.task,
        tuple(found),
        tuple(filtered),
        asked,
        agreed,
        work.short(),
        tuple(work.notes),
        registry.spec_of(source) if isinstance(provider, str) else registry.name_of(source),
        source.model,
        ask.usage,
    )


def _begun(
    task: Task | str | os.PathLike[str] | None, human: Records | None, published: Path | None
) -> tuple[Task, list[str]]:
    """The task to begin with; published lists are taken where it has no attributes of its own."""
    if published is not None:
        from karat.generation.published import survey

        surveyed = survey(published)
        found, notes = surveyed.task, list(surveyed.warnings)
        if task is None:
            return found, notes
        own = task if isinstance(task, Task) else Task.from_toml(task)
        kept = own.attributes or found.attributes
        near = own.neighbours or found.neighbours
        return replace(own, attributes=kept, neighbours=near, labels=own.labels or found.labels), notes
    if task is None:
        if human is None:
            raise InputError(
                "no task; give a task file (--task), human records (--human), or published lists "
                "(--published DIR)"
            )
        return Task.from_records(human), []
    return (task if isinstance(task, Task) else Task.from_toml(task)), []


class _Work:
    """A task on its way to its attributes."""

    def __init__(self, task: Task, ask: Asker, seed: int, count: int, notes: list[str]) -> None:
        self.task, self.ask, self.seed, self.count, self.notes = task, ask, seed, count, notes
        self.described: dict[str, str] = {}

    def discover(self, count: int, draws: int) -> list[Dimension]:
        """Find dimensions where the task has no attributes; their values come later."""
        if self.task.attributes:
            return []
        found = asking_for.discover(self.task, self.ask, count=count, draws=draws, seed=self.seed)
        if not found:
            raise InputError(
                f"{self.ask.provider.model} named no attributes that can be read; name some in the task file "
                "([attributes]) or use a model that follows instructions"
            )
        self.described = {one.name: one.description for one in found}
        several = len(self.task.labels) > 1
        self.task = replace(
            self.task,
            attributes=tuple(
                Attribute(
                    one.name,
                    by_label=dict.fromkeys(self.task.label_names, ())
                    if one.class_dependent and several
                    else {},
                    complete=one.complete,
                )
                for one in found
            ),
        )
        return found

    def near(self, human: Records | None, count: int, nearness: str) -> float | None:
        """Find neighbour classes where the task has none; returns how far the two ways agree."""
        if count == 0 or self.task.neighbours or len(self.task.labels) < 2:
            return None
        count = min(count, len(self.task.labels) - 1)
        lists: list[Mapping[str, Sequence[str]]] = []
        if nearness in ("both", "model"):
            lists.append(asking_for.ask_neighbours(self.task, self.ask, count=count, seed=self.seed))
        if nearness in ("both", "human") and human is not None:
            from karat.generation.confusions import confused

            lists.append(confused(human, self.task.label_names, count=count, seed=self.seed))
        elif nearness == "human":
            raise InputError("neighbour classes by human records need some; give them (--human FILE)")
        self.task = replace(self.task, neighbours=asking_for.merged_neighbours(lists, count))
        return asking_for.agreement(lists[0], lists[1]) if len(lists) == 2 else None

    def fill(self) -> None:
        """Top up every list of values, and merge those of multi-label tasks."""
        wanted: list[tuple[str, str, str | None, Sequence[str]]] = []
        for one in self.task.attributes:
            told = self.described.get(one.name, "")
            if one.by_label:
                wanted += [(one.name, told, label, self._known(one, label)) for label in one.by_label]
            elif not one.complete or not one.values:
                wanted.append((one.name, told, None, self._known(one, None)))
        found = asking_for.ask_values(self.task, self.ask, wanted, count=self.count, seed=self.seed)
        filled = []
        for one in self.task.attributes:
            if one.by_label:
                lists = {label: tuple(found[one.name, label]) for label in one.by_label}
                one = replace(one, by_label={k: self._without(one, k, v) for k, v in lists.items()})
                filled.append(self._merged(one) if self.task.multi_label else one)
            elif (one.name, None) in found:
                filled.append(replace(one, values=self._without(one, None, tuple(found[one.name, None]))))
            else:
                filled.append(one)
        empty = [one.name for one in filled if not one.values and not any(one.by_label.values())]
        if empty:
            self.notes.append(f"no values were found for: {', '.join(empty)}; name some in the task file")
        self.task = replace(self.task, attributes=tuple(one for one in filled if one.name not in empty))

    def _merged(self, one: Attribute) -> Attribute:
        """Values that several classes have are theirs together; those that name another class are out."""
        merged = merge_values(one.by_label)
        spelt = {text.casefold(): text for values in one.by_label.values() for text in values}
        removed = {label: dict(reasons) for label, reasons in one.removed_by_label.items()}
        for value, reason in merged.removed.items():
            for label, values in one.by_label.items():
                if any(value == known.casefold() for known in values):
                    removed.setdefault(label, {})[spelt.get(value, value)] = reason
        kept = {label: tuple(spelt.get(v, v) for v in values) for label, values in merged.by_label().items()}
        lists = {label: kept.get(label, ()) for label in one.by_label}
        mean = sum(map(len, merged.labels.values())) / max(len(merged.labels), 1)
        told = f"{len(merged.labels)} values for {len(one.by_label)} classes, {mean:.2f} classes a value"
        self.notes.append(f"{one.name}: {told}")
        return replace(one, by_label=lists, removed_by_label=removed)

    def _known(self, one: Attribute, label: str | None) -> tuple[str, ...]:
        """The values there are and those that were taken out earlier: neither is to come again."""
        return (*one.of(label), *one.gone(label))

    def _without(self, one: Attribute, label: str | None, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(value for value in values if value not in one.gone(label))

    def filter(self) -> tuple[list[Filtered], int]:
        """Take out values that suit a neighbour class as well; returns them and how many were asked about."""
        lists = {
            (one.name, label): values
            for one in self.task.attributes
            for label, values in one.by_label.items()
        }
        found = asking_for.ask_ambiguous(self.task, self.ask, lists, seed=self.seed)
        asked = sum(len(v) for (_, label), v in lists.items() if self.task.neighbours.get(label))
        gone = {(one.attribute, one.label, one.value): one.reason for one in found}
        kept = []
        for one in self.task.attributes:
            if not one.by_label:
                kept.append(one)
                continue
            left = {
                label: tuple(v for v in values if (one.name, label, v) not in gone)
                for label, values in one.by_label.items()
            }
            removed = {
                label: {
                    **one.removed_by_label.get(label, {}),
                    **{v: gone[one.name, label, v] for v in values if (one.name, label, v) in gone},
                }
                for label, values in one.by_label.items()
            }
            bare = [label for label, values in left.items() if not values and one.by_label[label]]
            if bare:
                self.notes.append(
                    f"every value of {one.name!r} was taken out for: {', '.join(bare)}; the classes may be "
                    "too near to each other to be told apart by it"
                )
            taken = {label: reasons for label, reasons in removed.items() if reasons}
            kept.append(replace(one, by_label=left, removed_by_label=taken))
        self.task = replace(self.task, attributes=tuple(kept))
        return found, asked

    def short(self) -> tuple[str, ...]:
        """Which lists are shorter than asked for, as `attribute` or `attribute of class`."""
        found = []
        for one in self.task.attributes:
            for label in one.by_label or (None,):
                if len(one.of(label)) < self.count and not one.complete:
                    found.append(one.name + (f" of {label}" if label else ""))
        return tuple(found)
