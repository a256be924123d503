"""The arms of a pilot: each recipe through each provider, made by the same stage. Knows no part by name.

Where it can be, an arm is the beginning of the plan that the user wants in the end. The rows of a class take
turns, so that a beginning is as balanced as the whole; and what it cost is not paid again by the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from karat import registry
from karat.curation.base import normalised
from karat.errors import BadSetting
from karat.generation.base import Progress
from karat.generation.generated import Generated
from karat.generation.limits import Usage
from karat.generation.plan import PlanRow, fingerprint, write_plan
from karat.generation.stage import generate
from karat.generation.tasks import Task
from karat.records import Records


@dataclass(frozen=True)
class Choice:
    """One recipe through one provider, and the name that the pilot gives it."""

    name: str
    recipe: Any
    provider: Any


@dataclass(frozen=True)
class Made:
    """What came of an arm. ahead: how many of its rows stand in the plan of the whole."""

    choice: Choice
    found: Generated
    ahead: int

    @property
    def calls(self) -> list[str]:
        """The row that each record came from; a row of several numbers its records."""
        rows = {row.id for row in self.found.plan}
        return [i if i in rows else i.rpartition("-")[0] for i in self.found.records.ids]

    @property
    def distinct(self) -> int:
        """Kept records of different text, case and spaces aside."""
        return len({normalised(text) for text in self.found.records.texts()})


@dataclass(frozen=True)
class Order:
    """What is to be made: the same for all arms. whole: how many records are wanted in the end."""

    task: Task
    n: int
    whole: int
    human: Records | None = None
    items: Records | None = None
    test: Records | None = None
    seed: int = 0
    max_usd: float | None = None
    max_tokens: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def choices(providers: Sequence[Any], recipes: Sequence[Any]) -> tuple[Choice, ...]:
    """Every recipe through every provider; names are as short as they can be told apart."""
    sources, makers = _once("providers", providers), _once("recipes", recipes)
    called = _names("providers", sources), _names("recipes", makers)
    return tuple(
        Choice(
            recipe_name if len(sources) == 1 else f"{provider_name} · {recipe_name}",
            recipe,
            provider,
        )
        for provider, provider_name in zip(sources, called[0])
        for recipe, recipe_name in zip(makers, called[1])
    )


def _once(shelf: str, given: Sequence[Any]) -> list[Any]:
    """The parts in their order, none twice, each refused before any call where it cannot be made."""
    found = list(given.split()) if isinstance(given, str) else list(given)
    found = [one for i, one in enumerate(found) if one not in found[:i]]
    if not found:
        raise BadSetting(f"{shelf} names none; give at least one (see: karat list {shelf})")
    for one in found:
        registry.make(shelf, one)
    return found


def _names(shelf: str, parts: Sequence[Any]) -> list[str]:
    """The model or the bare name of each part; the whole spec where that is not enough."""
    short = []
    for one in parts:
        if isinstance(one, str):
            name, settings = registry.parse(one)
            own = settings.get("model") or settings.get("name") if shelf == "providers" else ""
            short.append(own or name)
        else:
            model = getattr(one, "model", "") if shelf == "providers" else ""
            short.append(str(model) or registry.name_of(one))
    return [
        name if short.count(name) == 1 else one if isinstance(one, str) else registry.spec_of(one)
        for name, one in zip(short, parts)
    ]


def make(
    order: Order,
    arms: Sequence[Choice],
    *,
    journal: Path,
    progress: Progress | None = None,
    executor: Any = None,
) -> list[Made]:
    """Make all arms, one after the other, under one cap. Raises BudgetSpent where it is reached."""
    made: list[Made] = []
    for number, choice in enumerate(arms):
        told = None if progress is None else _Told(progress, f"{number + 1}/{len(arms)} {choice.name}")
        made.append(_one(order, choice, [one.found.usage for one in made], journal, told, executor))
    return made


@dataclass(frozen=True)
class _Told:
    """Progress that says which arm it is about."""

    tell: Progress
    arm: str

    def __call__(self, stage: str, done: int, total: int, **more: Any) -> None:
        self.tell(f"{self.arm}: {stage}", done, total, **more)


def _one(
    order: Order,
    choice: Choice,
    spent: Sequence[Usage],
    journal: Path,
    progress: Progress | None,
    executor: Any,
) -> Made:
    settings: dict[str, Any] = {
        "provider": choice.provider,
        "recipe": choice.recipe,
        "seed": order.seed,
        **order.settings,
    }
    inputs = (order.task, order.human, order.items, order.test)
    placed = {"journal": journal, "progress": progress, "executor": executor}
    caps = {
        "max_usd": _left(order.max_usd, sum(one.cost_usd + one.lost_usd for one in spent)),
        "max_tokens": _left(
            order.max_tokens, sum(one.tokens_in + one.tokens_out + one.lost_tokens for one in spent)
        ),
    }
    maker, run = registry.make("recipes", choice.recipe), cast("Any", generate)
    if hasattr(maker, "rounds") or hasattr(maker, "prepare"):
        # Its plan is known only when the calls of an earlier round are answered.
        return Made(choice, run(*inputs, n=order.n, **settings, **caps, **placed), 0)
    whole = run(*inputs, n=max(order.whole, order.n), dry_run=True, **settings)
    rows = _beginning(whole.plan, order.n)
    path = write_plan(rows, journal / f"pilot-{fingerprint(rows)}.jsonl")
    found = run(*inputs, n=order.n, plan=path, **settings, **caps, **placed)
    return Made(choice, found, len(rows) if order.whole >= order.n else 0)


def _beginning(plan: Sequence[PlanRow], n: int) -> tuple[PlanRow, ...]:
    """The first rows that yield n records."""
    found, records = [], 0
    for row in plan:
        if records >= n:
            break
        found.append(row)
        records += row.yields
    return tuple(found)


def _left(cap: float | None, spent: float) -> Any:
    return None if cap is None else max(cap - spent, 0)
