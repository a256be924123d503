"""The demo: what it takes of the user's own file, what it refuses, and how it puts the story together."""

from __future__ import annotations

from pathlib import Path

import pytest

from karat import demo, records
from karat.blocks import Headline, Note, Section
from karat.errors import InputError, NotEnoughData


class Result:
    """A stage's result as the demo sees it."""

    def __report__(self) -> tuple[Section, ...]:
        return (
            Section("Its own title", (Headline("7", "records"), Note("text")), "own"),
            Section("More", (), "more"),
        )


def test_a_file_without_labels_is_refused_with_the_cure(tmp_path: Path) -> None:
    """The message names the flag that mends it."""
    path = records.from_rows([{"title": "a", "text": "b"}]).write(tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match=r"no field 'label'.*--label-field"):
        demo.demo(data=str(path), out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_too_few_records_are_refused(tmp_path: Path) -> None:
    """The demo says how many it needs and leaves nothing behind."""
    rows = [{"title": f"number {i}", "topic": "ab"[i % 2]} for i in range(20)]
    path = records.from_rows([{"text": "", **row} for row in rows]).write(tmp_path / "rows.jsonl")
    with pytest.raises(NotEnoughData, match=r"20 records, but the demo needs at least 300"):
        demo.demo(data=str(path), text_field="title", label_field="topic", out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_users_records_are_distinct_and_bounded_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies go, also under other case and spaces; what is left is cut by characters, not by time."""
    found = records.from_rows(
        [{"text": t, "label": "x"} for t in ("One two", "one  TWO", "three", "", "four")]
    )
    assert ["One two", "three", "four"] == demo._distinct(found).texts()
    monkeypatch.setattr(demo, "MOST_CHARACTERS", 1000)
    monkeypatch.setattr(demo, "LEAST", 5)
    many = records.from_rows([{"text": f"{i:010}", "label": "x"} for i in range(500)])
    assert 99 == len(demo._bounded(many, 0))
    assert demo._bounded(many, 0).ids == demo._bounded(many, 0).ids


def test_sections_take_the_titles_of_the_story() -> None:
    """The first section takes the title; a headline says what it is of, or becomes a note."""
    first, second = demo._titled(Result(), "Audit of simple", "audit-simple", "recipe simple")
    assert ("Audit of simple", "audit-simple") == (first.title, first.id)
    assert ("More", "audit-simple-more") == (second.title, second.id)
    assert Headline("7", "records (recipe simple)") == first.blocks[0]
    assert isinstance(demo._titled(Result(), "T", "t", None)[0].blocks[0], Note)
