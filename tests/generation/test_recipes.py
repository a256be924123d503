"""What every recipe on the shelf keeps to, whatever the data and whatever the model answers."""

from __future__ import annotations

import asyncio
import inspect
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from scripted import Scripted, samples

import karat
from karat import records, registry
from karat.errors import KaratError
from karat.generation import plan
from karat.generation.base import Draft, Message, Plot, Request, Response, Slot
from karat.generation.prompts import attribute_lines
from karat.generation.tasks import Attribute, Label, Task
from karat.records import Records

NAMES = registry.names("recipes")
SPECS = {"translate": "translate:into=German"}
ATTRIBUTES = (
    Attribute("length", ("5 to 9 words", "20 to 30 words")),
    Attribute("tone", ("warm", "cold", "dry")),
    Attribute("place", ("inn", "harbour", "attic", "yard")),
)

# Invented, eight of each; what differs is what recipes must not confuse.
THINGS = ("lamp", "kettle", "ladder", "window", "bridge", "violin", "carpet", "engine")
ROWS: dict[str, list[dict[str, Any]]] = {
    "text": [{"text": f"The {t} stood near the door for {i} long years."} for i, t in enumerate(THINGS, 2)],
    "classification": [
        {
            "text": f"The {t} {('broke on day', 'works since day')[i % 2]} {i} of that month.",
            "label": "no yes".split()[i % 2],
        }
        for i, t in enumerate(THINGS, 2)
    ],
    "instruction": [
        {
            "prompt": f"Explain how to repair a {t} in {i} steps.",
            "completion": f"First look at the {t}. Then mend it.",
        }
        for i, t in enumerate(THINGS, 2)
    ],
    "translation": [
        {"source": f"The {t} is number {i}.", "target": f"Nummer {i} ist: {t}."}
        for i, t in enumerate(THINGS, 2)
    ],
    "preference": [
        {"prompt": f"What is a {t} for?", "chosen": f"A {t} has {i} uses.", "rejected": "No idea at all."}
        for i, t in enumerate(THINGS, 2)
    ],
    "dialogue": [
        {
            "messages": [
                {"role": "user", "content": f"Where is the {t}?"},
                {"role": "assistant", "content": f"In room {i}."},
            ]
        }
        for i, t in enumerate(THINGS, 2)
    ],
    "annotation": [
        {
            "item_id": f"i{i}",
            "text": f"The {t} is {i} cm long.",
            "label": "no yes".split()[i % 2],
            "annotator": "ann",
        }
        for i, t in enumerate(THINGS, 2)
    ],
}
TYPES = tuple(ROWS)
# Recipes whose answers are labels, choices and turns; what they write is held by tests of their own.
OWN = {"annotate": ("annotation",), "compare": ("preference",), "converse": ("dialogue",)}
# Recipes that can do some types only.
SOME = {
    **OWN,
    "continue": ("text", "classification", "annotation"),
    "translate": ("text", "classification", "translation"),
}
each_recipe = pytest.mark.parametrize("name", NAMES)


def human_of(kind: str) -> Records:
    return records.from_rows([{**r, "id": f"h{i}"} for i, r in enumerate(ROWS[kind])], datatype=kind)


def task_of(kind: str, **more: Any) -> Task:
    labelled = kind in ("classification", "annotation")
    labels = (Label("no", "it does not work"), Label("yes")) if labelled else ()
    return Task("note about a thing", labels, kind, language="English", **more)


def recipe_of(name: str) -> Any:
    return registry.make("recipes", SPECS.get(name, name))


def plot_of(name: str, kind: str, n: int = 12, seed: int = 5) -> Plot:
    """What the stage would give: enriched, prepared in a dry run, items only where they are needed."""
    recipe, human = recipe_of(name), human_of(kind)
    task, seen = task_of(kind, attributes=ATTRIBUTES), human
    if hasattr(recipe, "enrich"):
        task, seen = recipe.enrich(task, human, seed)
    if hasattr(recipe, "prepare"):
        task = recipe.prepare(task, seen, None, seed)
    items = seen if "items" in getattr(recipe, "needs", ()) else None
    return Plot(task, n, seed, seen, items, pool=samples(seen))


def each_type(*kinds: str) -> Any:
    """Every recipe with every type that it may be asked for."""
    pairs = [(name, kind) for name in NAMES for kind in SOME.get(name, TYPES) if kind in (kinds or TYPES)]
    return pytest.mark.parametrize(("name", "kind"), pairs)


def planned(name: str, kind: str, n: int = 12, seed: int = 5) -> list[Slot]:
    """The slots of one round."""
    plot, recipe = plot_of(name, kind, n, seed), recipe_of(name)
    composed = getattr(recipe, "compose", None)
    return list(composed(plot) if composed else plan.slots(plot, recipe))


def good_answer(kind: str, messages: Sequence[Message]) -> str:
    """What an able model would say: valid for the type, and different for each prompt."""
    asked = messages[-1].content
    drawn = random.Random(asked)
    fresh = " ".join("".join(drawn.choices("abdegiklmnorstu", k=6)) for _ in range(12)).capitalize() + "."
    if '"candidates"' in asked or "candidates" in str([m.content for m in messages[:1]]):
        told = [(json.loads(good_object(kind, f"{fresh} {i}")), 0.1 * i) for i in range(1, 4)]
        return json.dumps({"candidates": [{**own, "probability": sure} for own, sure in told]})
    return good_object(kind, fresh) if "JSON" in asked else fresh


def good_object(kind: str, fresh: str) -> str:
    texts = {
        "instruction": {"prompt": fresh, "completion": "Yes."},
        "translation": {"source": fresh, "target": f"{fresh}, auf Deutsch"},
        "preference": {"prompt": fresh, "chosen": "Yes, surely.", "rejected": "no"},
        "dialogue": {
            "messages": [{"role": "user", "content": fresh}, {"role": "assistant", "content": "I see."}]
        },
    }
    return json.dumps(texts.get(kind, {"text": fresh}))


def written(name: str, kind: str, slot: Slot, answer: Any) -> tuple[list[Draft], Scripted]:
    plot, recipe = plot_of(name, kind), recipe_of(name)
    scene = Scripted(plot.task, slot, answer, plot.pool)
    if not hasattr(recipe, "write"):
        return [asyncio.run(scene.draft())], scene
    return list(asyncio.run(recipe.write(scene))), scene


@each_recipe
def test_a_recipe_says_where_it_is_from(name: str) -> None:
    """Its docstring has more than a title, or it names its source; and it says whether it uses attributes."""
    recipe = recipe_of(name)
    module = inspect.getmodule(type(recipe))
    assert isinstance(recipe.uses_attributes, bool)
    told = f"{getattr(recipe, 'source', '')} {module.__doc__}"
    assert (
        any(f"({year}" in told or f" {year}" in told for year in range(2015, 2027))
        or "as an annotator" in told
    )


@pytest.mark.parametrize("name", [n for n in NAMES if hasattr(recipe_of(n), "enrich")])
def test_enriching_changes_nothing_that_was_given(name: str, remarks: Records) -> None:
    """Task and records are as before; what comes back has the same records, perhaps with attributes."""
    task = Task.from_records(remarks)
    _, found = recipe_of(name).enrich(task, remarks, 0)
    assert Task.from_records(remarks) == task
    assert remarks.ids == found.ids and remarks.texts() == found.texts()


@pytest.mark.parametrize("name", ("continue", "translate"))
def test_types_that_a_recipe_cannot_do_are_refused(name: str) -> None:
    """In one line that names the recipe and the type."""
    for kind in set(TYPES) - set(SOME[name]):
        plot = replace(plot_of(name, "text"), task=task_of(kind))
        with pytest.raises(KaratError, match=f"recipe '{name}'.*{kind}"):
            list(recipe_of(name).compose(plot))


@each_type()
def test_a_plan_is_what_was_asked_for(name: str, kind: str) -> None:
    """Enough records or one for each item; values that a file can hold; parents and labels that exist."""
    slots = planned(name, kind)
    assert slots
    human, task = human_of(kind), task_of(kind)
    if "items" not in getattr(recipe_of(name), "needs", ()):
        assert 12 == sum(slot.yields for slot in slots)
    for slot in slots:
        assert slot.material == json.loads(json.dumps(slot.material))
        assert all(isinstance(v, str) and v for v in slot.attributes.values())
        assert set(slot.parents) <= set(human.ids)
        assert slot.yields >= 1
        assert slot.label is None or slot.label in task.label_names
        assert slot.messages == () or ("user" == slot.messages[-1].role and slot.messages[-1].content.strip())
        assert all(message.role in ("system", "user", "assistant") for message in slot.messages)
    ids = [slot.id for slot in slots if slot.id]
    assert len(ids) == len(set(ids))


@each_type()
def test_a_plan_is_the_same_again_and_another_for_another_seed(name: str, kind: str) -> None:
    """compose depends on its plot alone; planning changes nothing that was given."""
    plot = plot_of(name, kind)
    before = (plot.task, tuple(plot.pool))
    assert planned(name, kind) == planned(name, kind)
    assert before == (plot.task, tuple(plot.pool))


@each_type()
def test_an_able_model_gives_valid_records(name: str, kind: str) -> None:
    """Good answers become records of the type, with every call that was made for them."""
    slots = planned(name, kind)
    assert slots
    made = 0
    task = task_of(kind)
    for number, slot in enumerate(slots[:6]):
        drafts, scene = written(name, kind, slot, lambda m: good_answer(kind, m))
        assert drafts and len(drafts) <= max(slot.yields, 1)
        assert all(draft.reason or draft.fields for draft in drafts), "a record, or why there is none"
        spent = {r.request_id for d in drafts for r in d.responses}
        assert len(spent) <= len(scene.asked)
        for part, draft in enumerate(drafts):
            if not draft.reason:
                label = draft.label if draft.label is not None else slot.label
                kinds = registry.make("datatypes", kind)
                own = {**draft.fields, **({kinds.label: label} if kinds.label and label is not None else {})}
                if kind == "annotation":  # who answers is the stage's to say
                    own = {"annotator": "model", **own}
                row = records.from_rows([{**own, "id": f"r{number}-{part}"}], datatype=kind)
                assert 1 == len(row) and row.texts()[0].strip()
                made += 1
    if name not in OWN:
        assert made >= 4, f"{name} made {made} {task.type} records of 6 good answers"


HOSTILE = (
    "",
    "   \n\t",
    "I'm sorry, but I can't help with that request.",
    "<html><body><h1>502 Bad Gateway</h1></body></html>",
    '{"text": "cut in the mid',
    "[]",
    "null",
    '{"candidates": []}',
    '{"candidates": [null, 3, {"probability": "high"}]}',
    "\x00\x01\ud800",
    "```json\n{}\n```",
    "{" * 400,
)


@each_type()
def test_no_answer_makes_a_recipe_fail(name: str, kind: str) -> None:
    """Whatever is answered, a row ends as drafts with fields or with a reason, never as an exception."""
    slots = planned(name, kind)[:1]
    assert slots
    said = [
        *HOSTILE,
        *(Response("", "Cut in the middle of a", finish_reason=f) for f in ("length", "content_filter")),
    ]
    for answer in said:
        drafts, _ = written(name, kind, slots[0], lambda m, a=answer: a)
        assert drafts, f"{answer!r} made nothing, not even a reason"
        assert all(bool(draft.reason) != bool(draft.fields) or draft.label for draft in drafts)
        assert all("\n" not in draft.reason for draft in drafts)
    for refusal in ("", HOSTILE[2]):
        drafts, _ = written(name, kind, slots[0], lambda m, a=refusal: a)
        assert all(draft.reason for draft in drafts) or name in OWN


PROMPTED = tuple(n for n in NAMES if n not in OWN)


@pytest.mark.parametrize("name", PROMPTED)
def test_prompts_name_domain_class_definition_neighbours_and_language(name: str) -> None:
    """What the task file says of a class stands in each prompt, and JSON is not asked for without need."""
    task = task_of("classification", attributes=ATTRIBUTES, instructions="Mind the budget.")
    task = replace(task, neighbours={"no": ("maybe", "later")})
    human, recipe = human_of("classification"), recipe_of(name)
    if hasattr(recipe, "prepare"):
        task = recipe.prepare(task, human, None, 0)
    plot = Plot(task, 8, 0, human, pool=samples(human))
    slots = list(recipe.compose(plot) if hasattr(recipe, "compose") else plan.slots(plot, recipe))
    for slot in slots:
        told = "\n".join(message.content for message in slot.messages)
        if slot.label == "no" and (name != "translate"):
            assert '"no": it does not work' in told
            if name != "simple":
                assert '"maybe" or "later"' in told
        assert "note about a thing" in told
        assert name == "translate" or "English" in told
        assert name == "translate" or "Mind the budget." in told
        assert ("JSON" in told) == (name == "verbalized")


@pytest.mark.parametrize("name", PROMPTED)
def test_attributes_are_swept_where_a_recipe_uses_them(name: str) -> None:
    """Every value that the sampler draws stands in the row and in its prompt."""
    recipe = recipe_of(name)
    slots = planned(name, "classification", n=24)
    if recipe.uses_attributes:
        for slot in slots:
            assert {"length", "tone", "place"} <= set(slot.attributes)
            told = "\n".join(message.content for message in slot.messages)
            assert all(value in told for value in slot.attributes.values())


@dataclass(frozen=True)
class Able:
    """A provider that answers as an able model would, ten tokens in and five out."""

    kind: str
    model: str = "able"
    batch_size: int = 4
    concurrency: int = 4

    async def complete(self, requests: Sequence[Request]) -> list[Response]:
        return [
            Response(r.id, good_answer(self.kind, r.messages), 10, 5, cost_usd=0.25, model="able")
            for r in requests
        ]


@each_type("classification", "instruction", "translation", "annotation")
def test_the_stage_makes_records_of_every_recipe(name: str, kind: str, tmp_path: Path) -> None:
    """Valid records with lineage, every token accounted for, and nothing paid for twice."""
    task, human = task_of(kind, attributes=ATTRIBUTES), human_of(kind)
    settings: dict[str, Any] = {"recipe": SPECS.get(name, name), "n": 8, "journal": tmp_path, "redraw": 0}
    if "items" in getattr(recipe_of(name), "needs", ()):
        settings["items"] = human
    made = karat.generate(task, human, provider=Able(kind), **settings)
    assert 8 >= len(made.records) >= 4 and made.records.datatype == kind
    assert len(set(made.records.ids)) == len(made.records)
    planned_parents = {row.id: set(row.parents) for row in made.plan}
    known = {*human.ids, *made.records.ids}
    for identity, parents in zip(made.records.ids, made.records.lineage("parents")):
        row = identity if identity in planned_parents else identity.rpartition("-")[0]
        assert set(parents or ()) == planned_parents[row] <= known
    spent = made.usage.tokens_in + made.usage.tokens_out
    assert spent == 15 * made.usage.answers
    if not made.rejected and name != "meta":
        told = made.records.lineage("tokens_in"), made.records.lineage("tokens_out")
        assert spent == sum(map(sum, told)), "what was paid is shared out to the last token"
        assert made.usage.cost_usd == pytest.approx(sum(made.records.lineage("cost_usd")))
    again = karat.generate(task, human, provider=Able(kind), **settings)
    assert (
        0 == again.usage.answers - again.usage.reused
        and made.records.fingerprint == again.records.fingerprint
    )


@pytest.mark.parametrize("name", [n for n in NAMES if "human" in getattr(recipe_of(n), "needs", ())])
def test_a_class_without_human_records_is_named(name: str) -> None:
    """A recipe that builds on human records names the class that has none, and what to do."""
    task = Task("note", (Label("yes"), Label("never seen")), "classification")
    human = human_of("classification")
    with pytest.raises(KaratError, match=r"'never seen'.*(--human|remove)"):
        list(recipe_of(name).compose(Plot(task, 8, 0, human, pool=samples(human))))


def test_requirements_read_as_sentences() -> None:
    """Each attribute value stands in one sentence with one mark at its end, whatever the value looks like."""
    values = {
        "style": "a question",
        "tone_of_voice": "Persuasive: tries to convince.",
        "ending": "Warum nicht?",
        "語り手": "子ども。",
        "form": "{curly} and {}",
    }
    expected = [
        "Its style: a question.",
        "Tone of voice: Persuasive: tries to convince.",
        "Ending: Warum nicht?",
        "語り手: 子ども。",
        "Form: {curly} and {}.",
    ]
    assert expected == attribute_lines(values)
