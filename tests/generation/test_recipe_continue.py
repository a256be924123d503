"""Continue: the beginning of a human text, word for word, and what the model makes of it."""

from __future__ import annotations

import asyncio

import pytest
from scripted import Scripted, samples

from karat import records, registry
from karat.errors import BadSetting, InputError
from karat.generation.base import Draft, Plot, Slot
from karat.generation.tasks import Label, Task

LONG = "It was late  in the\nyear, and the roads were full of mud when Anna set out."
HUMAN = records.from_rows(
    [
        {"id": "h0", "text": LONG, "label": "a"},
        {"id": "h1", "text": "Nobody had told the cook that eleven guests would come.", "label": "b"},
        {"id": "h2", "text": "No.", "label": "a"},
    ],
    datatype="classification",
)
TASK = Task("tale", (Label("a"), Label("b")))
TEXTS = dict(zip(HUMAN.ids, HUMAN.texts()))


def recipe_of(spec: str):
    return registry.make("recipes", spec)


def slots(spec: str = "continue", n: int = 4) -> list[Slot]:
    return list(recipe_of(spec).compose(Plot(TASK, n, 0, HUMAN, pool=samples(HUMAN))))


def written(answer: str, head: str = "It was late", spec: str = "continue") -> Draft:
    scene = Scripted(TASK, Slot((), material={"beginning": head}), lambda messages: answer)
    (draft,) = asyncio.run(recipe_of(spec).write(scene))
    return draft


def test_the_beginning_is_the_text_word_for_word() -> None:
    """Blanks and line ends stay; a text too short to be cut is not used; label and parent are the text's."""
    found = slots()
    assert {"h0", "h1"} == {slot.parents[0] for slot in found} and 4 == len(found)
    for slot in found:
        head = slot.material["beginning"]
        assert TEXTS[slot.parents[0]].startswith(head) and slot.messages[0].content.endswith(f"\n{head}")
        assert {"h0": "a", "h1": "b"}[slot.parents[0]] == slot.label
    assert "It was late  in the" == recipe_of("continue").beginning(LONG)  # 5 of 16 words


@pytest.mark.parametrize(
    ("spec", "text", "expected"),
    [
        ("continue:words=2", LONG, "It was"),
        ("continue:words=99", LONG, ""),
        ("continue:share=0.5", "one two three four", "one two"),
        ("continue:share=0.01", "one two three four", "one"),
        (
            "continue:share=0.5",
            "今日はとても良い天気ですね、散歩に行きましょう。",
            "今日はとても良い天気ですね"[:12],
        ),
        ("continue:words=20", "a" * 19 + "e\u0301" + "b" * 9, "a" * 19 + "e\u0301"),
        ("continue", "word", ""),
        ("continue", "", ""),
    ],
)
def test_where_a_text_is_cut(spec: str, text: str, expected: str) -> None:
    """By words, or by characters where there are no blanks; a mark is never parted from its letter."""
    assert expected == recipe_of(spec).beginning(text)


@pytest.mark.parametrize(
    ("head", "answer", "whole"),
    [
        ("It was late", "when she came.", "It was late when she came."),
        ("It was late", ", too late.", "It was late, too late."),
        ("It was late", "It was late when she came.", "It was late when she came."),
        ("It was late", "it  was\nlate when she came.", "It was late when she came."),
        ("It was late", "...when she came.", "It was late...when she came."),
        (
            "今日はとても良い天気で、散歩に行くのが楽しみ",
            "でした。",
            "今日はとても良い天気で、散歩に行くのが楽しみでした。",
        ),
        ("Dijo", "¿quién?", "Dijo ¿quién?"),
    ],
)
def test_beginning_and_continuation_are_joined(head: str, answer: str, whole: str) -> None:
    """A blank where one belongs; a repeated beginning is not there twice."""
    assert whole == written(answer, head).fields["text"]


def test_the_continuation_alone() -> None:
    """keep=continuation leaves the human words out, also where the model repeats them."""
    assert (
        "when she came."
        == written("It was late when she came.", spec="continue:keep=continuation").fields["text"]
    )
    assert "only the beginning again" in written("It was late").reason
    assert "refus" in written("I'm sorry, but I can't help with that request.").reason


def test_a_model_without_instructions_gets_the_beginning_alone() -> None:
    """told=false sends nothing else."""
    for slot in slots("continue:told=false"):
        assert slot.material["beginning"] == slot.messages[0].content


def test_items_go_before_human_records() -> None:
    """What is to be continued may be given by itself."""
    items = records.from_rows(
        [{"id": "i", "text": "Once there was a tailor who could not sew."}], datatype="text"
    )
    found = list(recipe_of("continue").compose(Plot(Task("tale", type="text"), 2, 0, HUMAN, items)))
    assert ["i", "i"] == [slot.parents[0] for slot in found]


def test_what_cannot_be_continued_is_said() -> None:
    """Data of several fields, nothing to begin with, a share of everything: one line each."""
    with pytest.raises(InputError, match=r"type instruction; use type text"):
        list(recipe_of("continue").compose(Plot(Task("x", type="instruction"), 2, 0)))
    with pytest.raises(InputError, match=r"no text to continue.*--human"):
        list(recipe_of("continue").compose(Plot(TASK, 2, 0)))
    with pytest.raises(BadSetting, match=r"share=1 leaves nothing"):
        recipe_of("continue:share=1")
