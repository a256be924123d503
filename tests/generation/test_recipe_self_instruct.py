"""Self-Instruct: six human and two made examples, a gate for novelty, rounds."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from scripted import Scripted, samples

from karat import records, registry
from karat.generation.base import Draft, Plot, Sample, Slot
from karat.generation.pool import words_of
from karat.generation.tasks import Label, Task

HUMAN = records.from_rows(
    [
        {"id": f"h{i}", "prompt": f"Tell me how a {thing} is made and sold.", "completion": f"Answer {i}."}
        for i, thing in enumerate(
            "lamp kettle ladder window bridge violin carpet engine saddle basket".split()
        )
    ],
    datatype="instruction",
)
SEEDS = samples(HUMAN)
MADE = [
    Sample(
        f"m{i}", f"List {w} words.", fields={"prompt": f"List {w} words.", "completion": "So."}, human=False
    )
    for i, w in enumerate(("rare", "long", "odd"))
]
TASK = Task("instruction for an assistant", type="instruction")


def slots(
    spec: str = "self_instruct", n: int = 10, pool: list[Sample] | None = None, task: Task = TASK
) -> list[Slot]:
    return list(registry.make("recipes", spec).compose(Plot(task, n, 0, HUMAN, pool=pool or SEEDS)))


def written(
    answers: list[str], pool: list[Sample] | None = None, spec: str = "self_instruct"
) -> tuple[Draft, Scripted]:
    rest = iter(answers)
    scene = Scripted(TASK, slots(spec)[0], lambda messages: next(rest), pool or SEEDS)
    (draft,) = asyncio.run(registry.make("recipes", spec).write(scene))
    return draft, scene


def test_six_human_and_two_made_examples() -> None:
    """All human at first; two of eight are made when there are some. Only instructions are shown."""
    for slot in slots():
        assert 8 == len(set(slot.parents)) and all(name.startswith("h") for name in slot.parents)
    for slot in slots(pool=[*SEEDS, *MADE]):
        assert {"h": 6, "m": 2} == Counter(name[0] for name in slot.parents)
        told = slot.messages[0].content
        assert "Answer" not in told.replace("Answer with the instruction alone", "") and "JSON" not in told
        assert all(
            next(s for s in [*SEEDS, *MADE] if s.id == name).fields["prompt"] in told for name in slot.parents
        )


def test_the_instruction_is_asked_for_and_then_answered() -> None:
    """Two calls in plain text: the second is the instruction itself."""
    draft, scene = written(["Compare two rivers that you know.", "The Rhine is longer."])
    assert {
        "prompt": "Compare two rivers that you know.",
        "completion": "The Rhine is longer.",
    } == draft.fields
    assert ["instruction", "answer"] == [step for step, _, _ in scene.asked]
    assert "Compare two rivers that you know." == scene.asked[1][1][0].content
    assert 2 == len(draft.responses) and not scene.asked[0][2]


def test_what_is_too_like_the_pool_is_asked_again_and_then_rejected() -> None:
    """The reason names the record and the likeness; a second, novel try counts, and both calls are kept."""
    old = "Tell me how a lamp is made and sold again."  # 9 of its 10 words are those of h0, 2 * 9 / 19
    draft, scene = written([old, "Name a river.", "The Elbe."])
    assert ("Name a river.", 3) == (draft.fields["prompt"], len(draft.responses))
    draft, scene = written([old, old])
    assert "not novel: ROUGE-L 0.95 with h0" == draft.reason and 2 == len(scene.asked)
    draft, _ = written([old, "So it is."], spec="self_instruct:likeness=0.97")
    assert not draft.reason, "the gate is a setting"


def test_a_failed_answer_is_a_reason() -> None:
    """The instruction was novel, but the model refused to carry it out."""
    draft, _ = written(["Name a river.", "I'm sorry, but I can't help with that request."])
    assert draft.reason.startswith("the answer: ") and "refus" in draft.reason and not draft.fields


def test_of_two_alike_in_a_round_the_first_stays() -> None:
    """sift looks at a finished round in its order, against the pool and against each other."""
    texts = [
        "Name a big river.",
        "Paint a house.",
        "Name one big river.",
        "Tell me how a lamp is made and sold.",
    ]
    made = [
        Sample(f"r{i}", t, fields={"prompt": t, "completion": "x"}, human=False) for i, t in enumerate(texts)
    ]
    found = registry.make("recipes", "self_instruct").sift(made, SEEDS)
    assert {"r2": "not novel: ROUGE-L 0.75 with r0", "r3": "not novel: ROUGE-L 1.00 with h0"} == found


def test_a_share_asks_for_choices_and_says_which_is_right() -> None:
    """A quarter by default; the right choice is drawn evenly, so that it is not always the first."""
    found = slots(n=400)
    drawn = Counter(slot.material["choice"] for slot in found)
    assert 70 <= 400 - drawn[0] <= 130
    assert min(drawn[i] for i in (1, 2, 3)) >= 15
    for slot in found:
        choice = slot.material["choice"]
        assert (f"choice number {choice} is the right one" in slot.messages[0].content) == bool(choice)
    assert {0} == {slot.material["choice"] for slot in slots("self_instruct:choices=0", n=100)}


def test_other_data_grow_too() -> None:
    """Classes are asked for with examples of their own, in one call each."""
    rows = [
        {"id": f"c{i}", "text": f"Thing {w} is fine.", "label": "ab"[i % 2]}
        for i, w in enumerate("pqrstuvwxyz")
    ]
    human = records.from_rows(rows, datatype="classification")
    task = Task("remark", (Label("a"), Label("b")))
    recipe = registry.make("recipes", "self_instruct")
    for slot in recipe.compose(Plot(task, 6, 0, human, pool=samples(human))):
        assert {slot.label} == {row["label"] for row in rows if row["id"] in slot.parents}
        scene = Scripted(task, slot, lambda messages: "Thing p is fine.", samples(human))
        (draft,) = asyncio.run(recipe.write(scene))
        assert "not novel" in draft.reason and 1 == len(scene.asked) == recipe.calls(slot)


@pytest.mark.parametrize("n", [1, 3, 8, 199, 1000, 1001])
def test_rounds_add_up(n: int) -> None:
    """At most 200 a round, and four rounds at least where there are so many rows."""
    sizes = registry.make("recipes", "self_instruct").rounds(n)
    assert n == sum(sizes) and 1 <= min(sizes) and max(sizes) <= 200 and len(sizes) >= min(n, 3)


def test_instructions_of_people_pass_the_gate_and_changed_copies_do_not(data_dir: Path) -> None:
    """No seed of Self-Instruct is too like an earlier one; each with two words added is too like itself."""
    seeds = samples(records.read(data_dir / "self_instruct" / "seed_tasks.jsonl.gz", datatype="instruction"))
    recipe = registry.make("recipes", "self_instruct")
    assert (175, {}) == (len(seeds), recipe.sift(seeds, []))
    long = [s for s in seeds if len(words_of(s.fields["prompt"])) >= 6]
    changed = [
        Sample(f"copy of {s.id}", "", fields={"prompt": f"Please {s.fields['prompt']} now"}) for s in long
    ]
    found = recipe.sift(changed, seeds)
    assert len(long) > 150 and len(found) == len(long)
    assert all(why.endswith(f"with {name.removeprefix('copy of ')}") for name, why in found.items())
