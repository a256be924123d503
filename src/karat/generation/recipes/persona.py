"""Prompts as people of a wanted mixture would answer them. Knows no provider.

As with personas of a hub (Ge et al. 2024); here the joint distribution of the people is a target, met to
within one row. The facets that are built in are invented.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from karat.errors import BadSetting, InputError
from karat.generation import plan
from karat.generation.base import Message, Plot, Slot
from karat.generation.prompts import answer_form, numbered, requirements
from karat.generation.tasks import Task

PERSONA = "persona"
# Rough shares that add up to 1; a target of one's own stands in a file.
FACETS: dict[str, dict[str, float]] = {
    "age": {
        "under 18": 0.12,
        "between 18 and 29": 0.22,
        "between 30 and 44": 0.26,
        "between 45 and 64": 0.26,
        "65 or older": 0.14,
    },
    "occupation": {
        "at school": 0.12,
        "in training or at a university": 0.1,
        "in an office": 0.22,
        "in a trade or a workshop": 0.12,
        "in a shop or a restaurant": 0.12,
        "in care, health or teaching": 0.12,
        "on the land or out of doors": 0.05,
        "retired": 0.15,
    },
    "home": {"a big city": 0.35, "a suburb": 0.25, "a small town": 0.2, "the countryside": 0.2},
    "manner": {
        "brief and to the point": 0.3,
        "chatty": 0.25,
        "careful and polite": 0.25,
        "blunt": 0.2,
    },
}
_PHRASES = {
    "age": "is {}",
    "occupation": "spends the day {}",
    "home": "lives in {}",
    "manner": "writes in a way that is {}",
}
_IMPOSSIBLE: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
    (frozenset(FACETS["age"]) - {"under 18"}, frozenset({"at school"})),
    (
        frozenset({"under 18"}),
        frozenset(FACETS["occupation"]) - {"at school", "in training or at a university"},
    ),
    (frozenset({"between 18 and 29", "between 30 and 44"}), frozenset({"retired"})),
    (
        frozenset({"65 or older", "between 45 and 64"}),
        frozenset({"in training or at a university"}),
    ),
)


@dataclass(frozen=True)
class Persona:
    """Prompt the model to write as a person, drawn from a mixture whose joint shares are the target.

    path: personas, one a line (.txt), or one an object with `persona` or with facets such as age, and with
    `weight` if they are not all alike (.jsonl). Without it the task's attribute `persona` is used, and
    where there is none, invented people of four facets. place: whether the person stands before the
    prompt (user) or in a system message.
    """

    path: str = ""
    place: Literal["user", "system"] = "user"

    uses_attributes: ClassVar[bool] = True
    source: ClassVar[str] = "Ge et al. 2024, personas; the shares are a target of our own"
    cost: ClassVar[str] = "one call a record, 30 to 150 tokens in more"

    def compose(self, plot: Plot) -> Iterator[Slot]:
        """The usual rows, each as a person; within each class the people are of the wanted shares."""
        own = next((a for a in plot.task.attributes if a.name == PERSONA and not self.path), None)
        bound = {name for one in plot.task.constraints for name in one.names()}
        bound |= {name for one in plot.task.joint for name in one.attributes}
        if own is not None and PERSONA in bound:
            yield from plan.slots(plot, self)  # what goes with whom is the sampler's matter
            return
        # The sampler would rather not repeat a value; here it is the shares that count.
        others = tuple(a for a in plot.task.attributes if a.name != PERSONA)
        slots = list(plan.slots(replace(plot, task=replace(plot.task, attributes=others)), self))
        given = read_people(self.path) if self.path else None if own is not None else invented()
        queues: dict[str | None, Iterator[str]] = {}
        for slot in slots:
            if slot.label not in queues:
                people = given or list(own.shares(slot.label).items() if own is not None else ())
                drawn = shares_met(
                    [weight for _, weight in people],
                    sum(other.label == slot.label for other in slots),
                    f"{plot.seed}/{plot.round}/{slot.label}",
                )
                queues[slot.label] = iter([people[cell][0] for cell in drawn])
            attributes = {**slot.attributes, PERSONA: next(queues[slot.label])}
            yield replace(
                slot,
                messages=self.messages(plot.task, slot.label, attributes),
                attributes=attributes,
            )

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """Who writes, and then the prompt with its requirements."""
        person = attributes.get(PERSONA, "")
        others = {name: value for name, value in attributes.items() if name != PERSONA}
        wanted = requirements(task, label, others)
        who = f"You are this person: {person.rstrip('.')}." if person else ""
        head = f"Write one {task.domain}" + (" as this person would write it" if person else "")
        lines = [head + (" and that meets these requirements:" if wanted else "."), *numbered(wanted)]
        lines += ["The text must not describe the person." if person else "", *answer_form(task)]
        asked = "\n".join(filter(None, lines))
        if self.place == "system" and who:
            return (Message("system", who), Message("user", asked))
        return (Message("user", "\n".join(filter(None, [who, asked]))),)


def invented() -> list[tuple[str, float]]:
    """The people that are built in: every possible combination of facets, with its share."""
    names = list(FACETS)
    found = []
    for values in itertools.product(*FACETS.values()):
        if any(set(values) & one and set(values) & other for one, other in _IMPOSSIBLE):
            continue
        weight = 1.0
        for name, value in zip(names, values):
            weight *= FACETS[name][value]
        found.append((described(dict(zip(names, values))), weight))
    return found


def described(facets: Mapping[str, Any]) -> str:
    """One sentence about a person; a facet that is not known is named with its value."""
    if set(facets) <= set(_PHRASES):
        return "someone who " + ", ".join(_PHRASES[name].format(value) for name, value in facets.items())
    return "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facets.items())


def read_people(path: str) -> list[tuple[str, float]]:
    """Personas and their weights from a file. Raises InputError that names the line and the cure."""
    from karat.formats import read_rows

    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; give personas as .txt (one a line) or .jsonl")
    if Path(path).suffix == ".txt":
        lines = (line.strip() for line in Path(path).read_text("utf-8").splitlines())
        found = [(line, 1.0) for line in lines if line]
    else:
        found = []
        for line, row in read_rows(path):
            where = f"{path}:{line}"
            try:
                weight = float(row.pop("weight", 1.0))
            except (TypeError, ValueError):
                raise InputError(f"{where}: weight is no number; give the wanted share") from None
            if not 0 <= weight < float("inf"):
                raise InputError(f"{where}: weight is {weight:g}; give a share of 0 or more")
            row.pop("id", None)
            told = row.get(PERSONA) or (described({k: v for k, v in row.items() if v}) if row else "")
            if not str(told).strip():
                raise InputError(f"{where}: no persona; name it persona, or give facets such as age")
            found.append((str(told), weight))
    if not found or sum(weight for _, weight in found) <= 0:
        raise InputError(f"{path}: no persona with a weight above 0; give at least one")
    return found


def shares_met(weights: Sequence[float], n: int, seed: str) -> list[int]:
    """n numbers of cells in a drawn order: each cell floor(n share) or one more, in expectation n share.

    Systematic sampling of the cells in their order, so that the shares of any run of cells (such as all of
    one age) are met to within one row as well.
    """
    if not weights or min(weights) < 0 or sum(weights) <= 0:
        raise BadSetting("shares must be 0 or more, and one above 0")
    drawn = random.Random(f"{seed}/shares")
    total, start = sum(weights), drawn.random()
    ends = list(itertools.accumulate(weight / total for weight in weights))
    found, cell = [], 0
    for point in ((start + i) / n for i in range(n)):
        while point >= ends[cell] and cell < len(ends) - 1:
            cell += 1
        found.append(cell)
    drawn.shuffle(found)
    return found
