"""Verbalized: k candidates with probabilities in one call, read in whatever form they come."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from scripted import Scripted

from karat import registry
from karat.errors import BadSetting
from karat.generation.base import Draft, Plot, Response, Slot
from karat.generation.parsing import violation
from karat.generation.tasks import Attribute, Label, Task

TASK = Task("remark", (Label("kind"), Label("harsh")), attributes=(Attribute("tone", ("dry", "warm")),))
CHAT = Task("question", type="instruction")


def slots(spec: str, task: Task = TASK, n: int = 10) -> list[Slot]:
    return list(registry.make("recipes", spec).compose(Plot(task, n, 0)))


def written(spec: str, answers: list[str | Response], task: Task = TASK) -> tuple[list[Draft], Scripted]:
    slot = slots(spec, task)[0]
    rest = iter(answers)
    scene = Scripted(task, slot, lambda messages: next(rest))
    return list(asyncio.run(registry.make("recipes", spec).write(scene))), scene


def listed(*pairs: tuple[str, float]) -> str:
    return json.dumps({"candidates": [{"text": text, "probability": p} for text, p in pairs]})


@pytest.mark.parametrize(
    ("n", "calls"), [(10, [5, 5]), (11, [5, 5, 1]), (4, [2, 2]), (1, [1]), (3, [1, 1, 1])]
)
def test_calls_bring_k_records_and_all_classes_have_some(n: int, calls: list[int]) -> None:
    """n records in about n / k calls; with few records each class still has its turn."""
    found = slots("verbalized", n=n)
    assert calls == [slot.yields for slot in found]
    assert n == 1 or {"kind", "harsh"} == {slot.label for slot in found}
    for slot in found:
        assert f"Give {slot.yields} of them" in slot.messages[0].content


def test_each_call_is_for_one_cell_of_attributes() -> None:
    """Attribute values stand in prompt and row; attributes=false leaves them out."""
    found = slots("verbalized", n=40)
    assert {"dry": 4, "warm": 4} == Counter(slot.attributes["tone"] for slot in found)
    assert all(slot.attributes["tone"] in slot.messages[0].content for slot in found)
    assert all(not slot.attributes for slot in slots("verbalized:attributes=false", n=40))


def test_each_candidate_is_a_record_with_its_probability() -> None:
    """One call, a draft a candidate, the probability beside the text."""
    drafts, scene = written("verbalized", [listed(("one", 0.4), ("two", 0.05), ("three", 0.01))])
    assert [{"text": "one", "probability": 0.4}, {"text": "two", "probability": 0.05}] == [
        dict(draft.fields) for draft in drafts[:2]
    ]
    assert 3 == len(drafts) and 1 == len(scene.asked)
    assert 1 == len({r.request_id for draft in drafts for r in draft.responses})


def test_no_more_candidates_than_asked_for() -> None:
    """A model that gives more is cut to what the row was to bring."""
    drafts, _ = written("verbalized:k=2", [listed(*((f"text {i}", 0.1) for i in range(7)))])
    assert 2 == len(drafts)


def test_the_tail_is_asked_for_and_kept_to() -> None:
    """A candidate that says it is not in the tail is rejected; one that says nothing is kept."""
    (slot, *_) = slots("verbalized:tail=0.1")
    assert "below 0.1" in slot.messages[0].content
    answer = json.dumps(
        [{"text": "a b", "probability": 0.1}, {"text": "c d", "probability": 0.09}, {"text": "e f"}]
    )
    drafts, _ = written("verbalized:tail=0.1", [answer])
    assert [True, False, False] == [bool(draft.reason) for draft in drafts]
    assert "not below the tail" in drafts[0].reason
    with pytest.raises(BadSetting, match=r"tail=1\.5"):
        registry.make("recipes", "verbalized:tail=1.5")


def test_a_refused_candidate_costs_only_itself() -> None:
    """Each candidate is read by itself."""
    drafts, _ = written(
        "verbalized", [listed(("fine", 0.2), ("I'm sorry, but I can't help with that request.", 0.1))]
    )
    assert ["", True] == [drafts[0].reason, "refus" in drafts[1].reason]


def test_an_answer_without_candidates_is_asked_for_once_more() -> None:
    """The model sees its answer and the form again; what it then says counts, and both calls are kept."""
    drafts, scene = written("verbalized", ["I would say this: well", listed(("mended", 0.3))])
    assert ["mended"] == [draft.fields["text"] for draft in drafts]
    assert ["", "repair"] == [step for step, _, _ in scene.asked]
    assert (
        "I would say this: well" == scene.asked[1][1][-2].content
        and "candidates" in scene.asked[1][1][-1].content
    )
    assert 2 == len(drafts[0].responses)
    drafts, scene = written("verbalized", ["well", "well, well", "never asked"])
    assert 1 == len(drafts) and "no candidates" in drafts[0].reason and 2 == len(scene.asked)


def test_of_a_cut_answer_only_the_last_candidate_is_lost() -> None:
    """An answer that ends at its last token still brings what was finished."""
    text = listed(("first text", 0.2), ("second text", 0.2), ("thi", 0.2))
    drafts, _ = written("verbalized", [Response("r", text, tokens_out=40, finish_reason="length")])
    assert ["", "", True] == [drafts[0].reason, drafts[1].reason, "cut at 40 tokens" in drafts[2].reason]


def test_candidates_of_several_fields() -> None:
    """Records of several fields are objects; a schema of all of them goes with the request."""
    answer = [
        {"prompt": "What is rain?", "completion": "Water.", "probability": 0.1},
        {"prompt": "What is snow?", "probability": 0.2},
    ]
    drafts, scene = written("verbalized", [json.dumps({"candidates": answer})], CHAT)
    assert {"prompt": "What is rain?", "completion": "Water.", "probability": 0.1} == drafts[0].fields
    assert "completion" in drafts[1].reason
    schema: dict[str, Any] = dict(scene.asked[0][2])
    assert "" == violation({"candidates": answer[:1]}, schema)
    assert "completion" in violation({"candidates": answer[1:]}, schema)


def test_tags_instead_of_json() -> None:
    """structured=false sends no schema and asks for tags, where a record is one text."""
    (slot, *_) = slots("verbalized:structured=false")
    assert (
        not slot.schema
        and "<probability>" in slot.messages[0].content
        and "JSON" not in slot.messages[0].content
    )
    said = "<text>one</text><probability>0.2</probability>\n<text>two</text><probability>0.04</probability>"
    drafts, _ = written("verbalized:structured=false", [said])
    assert [("one", 0.2), ("two", 0.04)] == [(d.fields["text"], d.fields["probability"]) for d in drafts]
    assert all(slot.schema for slot in slots("verbalized:structured=false", CHAT))
