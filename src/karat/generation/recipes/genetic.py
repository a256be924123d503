"""New texts of two distant parents; attributes are genes, inherited or mutated. Knows no provider.

After Genetic Prompt (EMNLP Findings 2025, arXiv 2509.02040); distances are those of TF-IDF vectors here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from karat.errors import BadSetting, InputError
from karat.generation import plan
from karat.generation.base import Draft, Message, Plot, Sample, Scene, Slot, check_number
from karat.generation.pool import children, copied, distant_pairs, of_label, text_of, turns
from karat.generation.prompts import (
    answer_form,
    apart_line,
    attribute_lines,
    class_line,
    examples,
    listed,
    numbered,
)
from karat.generation.steps import refused
from karat.generation.tasks import Task

GENES = ("subject", "structure", "tone", "choice of words", "level of detail", "point of view")
"""What a text inherits where the task names fewer than three attributes."""


@dataclass(frozen=True)
class Genetic:
    """Cross the two most distant unused samples of a class and mutate what is left; children join the pool.

    generations: rounds in which children of earlier rounds are parents too. active: the most distant pairs
    rather than random ones. mutate: change a third of the genes to something that neither parent has.
    copies: likeness (0 to 1) from which a child counts as a copy of a parent; 0 turns the guard off.
    """

    generations: int = 4
    active: bool = True
    mutate: bool = True
    copies: float = 0.9

    uses_attributes: ClassVar[bool] = False  # the genes are chosen here, not by the sampler
    needs: ClassVar[frozenset[str]] = frozenset({"human"})
    source: ClassVar[str] = "Genetic Prompt, EMNLP Findings 2025, arXiv 2509.02040"
    cost: ClassVar[str] = "one call a record, with the tokens of two parents in each prompt"

    def __post_init__(self) -> None:
        check_number("generations", self.generations, 1, "1 lets only human records be parents")
        if not 0 <= self.copies <= 1:
            raise BadSetting(f"copies={self.copies:g} must be from 0 (no guard) to 1 (only exact copies)")

    def rounds(self, n: int) -> tuple[int, ...]:
        """As many records in each generation, none of them empty."""
        count = min(self.generations, n)
        return tuple(n // count + (number < n % count) for number in range(count))

    def compose(self, plot: Plot) -> Iterator[Slot]:
        """The usual labels; each row has two parents of its class and a share of the genes of each."""
        couples: dict[str | None, Iterator[tuple[Sample, Sample]]] = {}
        for number, slot in enumerate(plan.slots(plot, self)):
            if slot.label not in couples:
                couples[slot.label] = self._couples(plot, slot.label)
            parents = next(couples[slot.label])
            drawn = random.Random(f"{plot.seed}/{plot.round}/genes/{number}")
            kept, mutated, values = _inherited(plot.task, slot.label, parents, drawn, self.mutate)
            yield replace(
                slot,
                messages=_asked(plot.task, slot.label, parents, kept, mutated, values),
                attributes=values,
                material={"shown": {sample.id: sample.text for sample in parents}},
                parents=tuple(sample.id for sample in parents),
            )

    def _couples(self, plot: Plot, label: str | None) -> Iterator[tuple[Sample, Sample]]:
        """Pairs of parents without end: first of those that had no child yet, then of all."""
        samples = of_label(plot.pool, label)
        if len(samples) < 2:
            raise InputError(
                f"recipe 'genetic' needs two human records of each class, and {label!r} has {len(samples)}; "
                "give more (--human), or remove the class from the task"
            )
        seed = plot.seed + plot.round
        if not self.active:
            drawn = turns(samples, seed, f"couples {label}")
            while True:
                one, other = next(drawn), next(drawn)
                if one.id != other.id:
                    yield one, other
        made = children(plot.pool)
        unused = [sample for sample in samples if not made[sample.id]]
        if len(unused) >= 2:
            fresh = distant_pairs(unused, seed)
            # Of m unused samples m // 2 pairs have no member in common; then all are parents again.
            yield from (next(fresh) for _ in range(len(unused) // 2))
        yield from distant_pairs(samples, seed)

    def messages(self, task: Task, label: str | None, attributes: Mapping[str, str]) -> tuple[Message, ...]:
        """The prompt without its parents, which are chosen when the rows are planned."""
        return _asked(task, label, (), {}, (), attributes)

    async def write(self, scene: Scene) -> Sequence[Draft]:
        """The child, unless it copies a parent."""
        draft = await scene.draft()
        if draft.reason:
            return [draft]
        shown = list(scene.slot.material.get("shown", {}).items())
        why = copied(text_of(scene.task, draft.fields), shown, self.copies)
        return [refused(draft, f"{why}, its parent")] if why else [draft]


def _inherited(
    task: Task, label: str | None, parents: tuple[Sample, Sample], drawn: random.Random, mutate: bool
) -> tuple[dict[int, list[str]], tuple[str, ...], dict[str, str]]:
    """Genes by parent (0, 1), mutated genes, and the child's attribute values as far as they are known."""
    own = {attribute.name: attribute for attribute in task.attributes if attribute.of(label)}
    names = list(own) if len(own) >= 3 else [*own, *(gene for gene in GENES if gene not in own)]
    drawn.shuffle(names)
    third = max(1, len(names) // 3)
    mutated = tuple(names[:third]) if mutate else ()
    kept: dict[int, list[str]] = {0: [], 1: []}
    values: dict[str, str] = {}
    for turn, name in enumerate(names[len(mutated) :]):
        kept[turn % 2].append(name)
        value = parents[turn % 2].attributes.get(name)
        if name in own and value is not None and _allowed(task, label, {**values, name: value}):
            values[name] = value
    for name in mutated:
        if name in own:
            had = {parent.attributes.get(name) for parent in parents}
            may = [v for v in own[name].of(label) if _allowed(task, label, {**values, name: v})]
            fresh = [value for value in may if value not in had] or may
            if fresh:
                values[name] = drawn.choice(fresh)
    return kept, mutated, values


def _allowed(task: Task, label: str | None, values: Mapping[str, str]) -> bool:
    return all(constraint.holds(label, values) for constraint in task.constraints)


def _asked(
    task: Task,
    label: str | None,
    parents: Sequence[Sample],
    kept: Mapping[int, Sequence[str]],
    mutated: Sequence[str],
    values: Mapping[str, str],
) -> tuple[Message, ...]:
    wanted = [class_line(task, label)]
    for parent, genes in kept.items():
        told = [gene.replace("_", " ") + (f" ({values[gene]})" if gene in values else "") for gene in genes]
        if told:
            wanted.append(f"In {listed(told)} it is like example {parent + 1}.")
    free = [gene.replace("_", " ") for gene in mutated if gene not in values]
    if free:
        wanted.append(f"In {listed(free)} it differs from both.")
    wanted += attribute_lines({gene: values[gene] for gene in mutated if gene in values})
    wanted += attribute_lines(values) if not parents else []
    lines = [f"Here are two examples of: {task.domain}.\n", *examples(task, parents)] if parents else []
    lines.append(f"Write one new {task.domain}, of its own content, for which all of this holds:")
    lines += numbered(filter(None, [*wanted, apart_line(task, label)]))
    lines.append("Copy no sentence of the examples." if parents else "")
    return (Message("user", "\n".join([*filter(None, lines), *answer_form(task)])),)
