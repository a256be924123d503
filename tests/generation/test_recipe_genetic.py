"""Genetic: distant parents, inherited and mutated attributes, children that become parents."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace

import pytest
from scripted import Scripted

from karat import registry
from karat.errors import InputError
from karat.generation.base import Plot, Sample, Slot
from karat.generation.constraints import Constraint
from karat.generation.recipes.genetic import GENES
from karat.generation.tasks import Attribute, Label, Task

GENE_VALUES = {
    "tone": ("dry", "warm", "cold"),
    "length": ("short", "middling", "long"),
    "place": ("inn", "yard", "attic"),
}
TASK = Task("remark", (Label("x"),), attributes=tuple(Attribute(n, v) for n, v in GENE_VALUES.items()))
POOL = [
    Sample(
        f"{group}{i}",
        f"{words} number{i}",
        "x",
        {
            "tone": "dry" if group == "a" else "warm",
            "length": "short",
            "place": "inn" if group == "a" else "yard",
        },
    )
    for group, words in (("a", "old dogs bark at dogs"), ("b", "rain falls on cold snow"))
    for i in range(5)
]
OF = {sample.id: sample for sample in POOL}


@dataclass(frozen=True)
class Child(Sample):
    parents: tuple[str, ...] = ()


def slots(
    spec: str = "genetic", n: int = 5, pool: list[Sample] | None = None, task: Task = TASK, turn: int = 0
) -> list[Slot]:
    plot = Plot(task, n, 0, pool=POOL if pool is None else pool, round=turn)
    return list(registry.make("recipes", spec).compose(plot))


def test_parents_are_the_most_distant_and_each_is_used_once() -> None:
    """In two planted groups every pair goes across, and ten samples make five couples."""
    found = slots()
    assert 10 == len({name for slot in found for name in slot.parents})
    for slot in found:
        assert ["a", "b"] == sorted(name[0] for name in slot.parents)
        assert all(OF[name].text in slot.messages[0].content for name in slot.parents)
    across = [
        sorted(name[0] for name in slot.parents) == ["a", "b"] for slot in slots("genetic:active=false", n=25)
    ]
    assert not all(across), "without active choice couples are drawn"


def test_genes_come_from_either_parent_and_a_third_is_new() -> None:
    """Each attribute has the value of one parent, but for one that neither has; all values are recorded."""
    changed = Counter()
    for slot in slots(n=25):
        one, other = (OF[name] for name in slot.parents)
        fresh = [n for n in GENE_VALUES if slot.attributes[n] not in (one.attributes[n], other.attributes[n])]
        assert 1 == len(fresh)
        assert slot.attributes[fresh[0]] in GENE_VALUES[fresh[0]]
        assert slot.attributes[fresh[0]] in slot.messages[0].content
        changed[fresh[0]] += 1
        said = slot.messages[0].content
        assert "it is like example 1" in said and "it is like example 2" in said
    assert 3 == len(changed), "any gene may mutate"


def test_without_mutation_all_genes_are_inherited() -> None:
    """mutate=false leaves nothing new."""
    for slot in slots("genetic:mutate=false", n=10):
        one, other = (OF[name] for name in slot.parents)
        assert all(slot.attributes[n] in (one.attributes[n], other.attributes[n]) for n in GENE_VALUES)
        assert "differs from both" not in slot.messages[0].content


def test_a_task_without_attributes_has_genes_too() -> None:
    """General genes are used; their values are not known, so none are recorded."""
    task = Task("remark", (Label("x"),))
    for slot in slots(task=task, pool=[Sample(s.id, s.text, s.label) for s in POOL]):
        assert {} == slot.attributes
        assert "differs from both" in slot.messages[0].content
        assert all(gene in slot.messages[0].content for gene in GENES)


def test_children_are_parents_before_those_who_had_their_turn() -> None:
    """In the next round the unused come first: the children, and whoever had no child yet."""
    first = slots(n=3)
    used = {name for slot in first for name in slot.parents}
    made = [
        Child(f"m{i}", f"entirely new words {i} {i}", "x", human=False, parents=s.parents)
        for i, s in enumerate(first)
    ]
    unused = {s.id for s in POOL} - used | {child.id for child in made}
    following = slots(n=3, pool=[*POOL, *made], turn=1)
    assert {name for slot in following for name in slot.parents} <= unused
    many = slots(n=30, pool=[*POOL, *made], turn=1)
    assert 30 == len(many), "when all are used, all are parents again"


def test_rounds_add_up() -> None:
    """Four generations of about the same size; never an empty one."""
    recipe = registry.make("recipes", "genetic")
    for n in (1, 2, 3, 4, 5, 99, 1000):
        assert n == sum(recipe.rounds(n)) and min(recipe.rounds(n)) >= 1 and len(recipe.rounds(n)) <= 4


def test_a_copy_of_a_parent_is_rejected() -> None:
    """A child must be a text of its own."""
    (slot, *_) = slots()
    for text, expected in (
        (OF[slot.parents[0]].text, f"copies {slot.parents[0]}, its parent"),
        ("A stork nests on our chimney.", ""),
    ):
        scene = Scripted(TASK, slot, lambda messages, t=text: t, POOL)
        (draft,) = asyncio.run(registry.make("recipes", "genetic").write(scene))
        assert expected == draft.reason


def test_a_class_with_one_record_cannot_have_children() -> None:
    """The class and the cure are named."""
    with pytest.raises(InputError, match="two human records of each class, and 'x' has 1"):
        slots(pool=POOL[:1])


def test_children_keep_to_the_constraints_of_the_task() -> None:
    """What may not go together is neither inherited together nor mutated into."""
    rule = Constraint(forbid={"tone": ("cold", "dry"), "place": ("attic", "yard")})
    task = replace(TASK, constraints=(rule,))
    assert any(not rule.holds("x", slot.attributes) for slot in slots(n=60)), "without it they do meet"
    assert all(rule.holds("x", slot.attributes) for slot in slots(n=60, task=task))
