"""Translate: items kept word for word on one side, made text on the other, forward or back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from scripted import Scripted

from karat import records, registry
from karat.errors import InputError
from karat.generation.base import Draft, Plot, Slot
from karat.generation.tasks import Label, Task
from karat.records import Records

SPACED = "  Two  blanks,\n a line end\tand «marks». "
ITEMS = records.from_rows(
    [{"id": "i0", "text": SPACED}, {"id": "i1", "text": "Good morning."}], datatype="text"
)
TASK = Task("sentence", type="translation", language="German")


def plotted(
    spec: str = "translate", task: Task = TASK, n: int = 9, items: Records | None = ITEMS
) -> list[Slot]:
    return list(registry.make("recipes", spec).compose(Plot(task, n, 0, items=items)))


def written(slot: Slot, *answers: str, spec: str = "translate", task: Task = TASK) -> tuple[Draft, Scripted]:
    rest = iter(answers)
    scene = Scripted(task, slot, lambda messages: next(rest))
    (draft,) = asyncio.run(registry.make("recipes", spec).write(scene))
    return draft, scene


def test_each_item_is_translated_once_and_kept_word_for_word() -> None:
    """The source is the item to the last blank; the item is the parent."""
    found = plotted()
    assert [("i0",), ("i1",)] == [slot.parents for slot in found]
    draft, scene = written(found[0], "Zwei Leerzeichen.")
    assert {"source": SPACED, "target": "Zwei Leerzeichen."} == draft.fields
    assert scene.asked[0][1][0].content.endswith(SPACED) and "into German" in scene.asked[0][1][0].content
    assert "JSON" not in scene.asked[0][1][0].content and 1 == len(scene.asked)
    assert 1 == len(plotted(n=1))


def test_back_translation_makes_the_source() -> None:
    """Items are the target side, in the language of the task; their sources are made in another."""
    spec = "translate:direction=back,out_of=English"
    pairs = records.from_rows([{"source": "old", "target": "Guten Morgen."}], datatype="translation")
    (slot,) = plotted(spec, items=pairs)
    assert (
        "from German into English" in slot.messages[0].content and "Guten Morgen." in slot.messages[0].content
    )
    draft, _ = written(slot, "Good morning.", spec=spec)
    assert {"source": "Good morning.", "target": "Guten Morgen."} == draft.fields
    with pytest.raises(InputError, match="out_of"):
        plotted("translate:direction=back")


def test_pairs_are_translated_anew_from_their_source() -> None:
    """Forward, the source of a pair is what is translated; its old target is not shown."""
    pairs = records.from_rows([{"source": "Good night.", "target": "ALT"}], datatype="translation")
    (slot,) = plotted(items=pairs)
    assert "Good night." in slot.messages[0].content and "ALT" not in slot.messages[0].content


def test_without_items_the_text_is_written_first() -> None:
    """Two calls: a text in the source language, then its translation; both are counted."""
    spec = "translate:out_of=Danish"
    (slot, *_) = plotted(spec, n=3, items=None)
    assert "Write it in Danish." in slot.messages[0].content
    draft, scene = written(slot, "Der er koldt.", "Es ist kalt.", spec=spec)
    assert {"source": "Der er koldt.", "target": "Es ist kalt."} == draft.fields
    assert ["text", "translation"] == [step for step, _, _ in scene.asked]
    assert 2 == len(draft.responses) == registry.make("recipes", spec).calls(slot)
    assert scene.asked[1][1][0].content.endswith("\nDer er koldt.")
    draft, scene = written(slot, "", spec=spec)
    assert draft.reason and 1 == len(scene.asked), "nothing is translated that was not written"


@pytest.mark.parametrize(
    ("given", "answer", "rejected"),
    [
        ("This is a whole sentence.", "This is a whole sentence.", True),
        ("Berlin", "Berlin", False),
        ("A 380", "A 380", False),
        ("This is a whole sentence.", "Das ist ein ganzer Satz.", False),
    ],
)
def test_a_sentence_that_was_only_repeated_is_rejected(given: str, answer: str, rejected: bool) -> None:
    """Names and numbers may be alike in both languages."""
    draft, _ = written(Slot((), material={"text": given}), answer)
    assert rejected == bool(draft.reason)


def test_classes_keep_their_label_in_the_new_language() -> None:
    """A labelled item becomes a labelled text; its source stays behind as the parent."""
    items = records.from_rows(
        [{"id": "c", "text": "Bad weather.", "label": "sad"}], datatype="classification"
    )
    task = Task("remark", (Label("sad"), Label("glad")), language="German")
    (slot,) = plotted(task=task, items=items)
    draft, _ = written(slot, "Schlechtes Wetter.", task=task)
    assert ("sad", {"text": "Schlechtes Wetter."}, ("c",)) == (slot.label, draft.fields, slot.parents)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Task("x", type="translation"), "no target language"),
        (Task("x", type="dialogue", language="German"), "of type dialogue"),
    ],
)
def test_what_cannot_be_translated_is_said(task: Any, message: str) -> None:
    """A missing language and other data are named in one line."""
    with pytest.raises(InputError, match=message):
        plotted(task=task)


def test_languages_of_the_task_are_used_and_settings_go_before_them() -> None:
    """source_language and target_language name both sides; into=... and out_of=... replace them."""
    task = Task("sentence", type="translation", source_language="Danish", target_language="Dutch")
    assert "from Danish into Dutch" in plotted(task=task)[0].messages[0].content
    assert "from Danish into Greek" in plotted("translate:into=Greek", task=task)[0].messages[0].content
    back = plotted("translate:direction=back", task=task)[0].messages[0].content
    assert "from Dutch into Danish" in back
