"""Attributes are checked beside chance: a planted one is found, one that is ignored is at chance."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
from scipy.stats import norm

from karat.generation.base import Request, Response
from karat.generation.compliance import (
    Compliance,
    Written,
    by_classifier,
    by_judge,
    by_rule,
    judge_requests,
    read_judged,
)
from karat.generation.tasks import Task

TASK = Task("film review")
SCENES = {"harbour": "ships gulls ropes", "forest": "pines moss owls", "station": "trains tracks clocks"}
FILLING = "a man and a woman talk for long about what they did on that day and why".split()


def written(n: int, *, obeyed: float = 1.0, seed: int = 0) -> list[Written]:
    """Texts of which a share has the scene and the length that were asked for, the rest of another record."""
    chance = random.Random(seed)
    found = []
    for i in range(n):
        asked = {
            "scene": chance.choice(sorted(SCENES)),
            "length": chance.choice(["5 to 9 words", "10 to 20 words"]),
        }
        shown = asked
        if chance.random() >= obeyed:
            shown = {
                "scene": chance.choice(sorted(SCENES)),
                "length": chance.choice(["5 to 9 words", "10 to 20 words"]),
            }
        size = 6 if shown["length"].startswith("5") else 14
        words = [
            *chance.sample(SCENES[shown["scene"]].split(), 2),
            *chance.choices(FILLING, k=size - 3),
            f"x{i}",
        ]
        found.append(Written(f"r{i}", " ".join(words), asked))
    return found


def line(found: Compliance, attribute: str) -> tuple[float, float, float, float | None, int]:
    """Share, interval, chance and n of an attribute."""
    one = next(one for one in found.lines if one.attribute == attribute)
    return one.share, one.low, one.high, one.chance, one.n


# ------------------------------------------------------------------------------------------ by rule


def test_length_is_counted_beside_chance() -> None:
    """All as long as asked: 100%, and half would be by chance; with Wilson's interval, and none missed."""
    found = by_rule(written(400))
    share, low, high, chance, n = line(found, "length")
    z = norm.ppf(0.975)
    assert (1.0, 1.0, 400) == (share, high, n)
    assert 400 / (400 + z * z) == pytest.approx(low)
    assert 0.5 == pytest.approx(chance, abs=0.01)
    assert {} == found.missed
    assert ["length"] == [one.attribute for one in found.lines]


def test_ignored_lengths_are_at_chance_and_named() -> None:
    """Lengths that ignore what was asked: the share is that of chance, and each miss is known."""
    rows = written(400, obeyed=0.0)
    found = by_rule(rows)
    share, low, high, chance, _ = line(found, "length")
    assert low < chance < high
    assert round(400 * (1 - share)) == len(found.missed)
    assert {("length",)} == set(found.missed.values())


def test_language_and_style_have_rules() -> None:
    """A German text asked for in English is a miss; one too short to tell counts for neither."""
    rows = [
        Written("a", "The film is good and I liked it.", {"language": "English", "style": "in plain words"}),
        Written("b", "Der Film ist gut und ich mochte ihn?", {"language": "English", "style": "a question"}),
        Written("c", "Gut", {"language": "German", "style": "a question"}),
    ]
    found = by_rule(rows)
    assert (0.5, 2) == (line(found, "language")[0], line(found, "language")[4])
    assert {"b": ("language",), "c": ("style",)} == found.missed
    assert "1 too short to tell" == next(one.note for one in found.lines if one.attribute == "language")


# ------------------------------------------------------------------------------------ by classifier


@pytest.mark.parametrize(("obeyed", "low", "high"), [(1.0, 0.99, 1.0), (0.5, 0.52, 0.74), (0.0, 0.25, 0.41)])
def test_a_classifier_finds_what_is_expressed(obeyed: float, low: float, high: float) -> None:
    """All texts show the asked scene, half of them (two thirds with luck), or none: the accuracy says so."""
    share, bottom, top, chance, n = line(by_classifier(written(450, obeyed=obeyed)), "scene")
    assert low <= share <= high
    assert bottom < share or share == 1.0
    assert 1 / 3 == pytest.approx(chance, abs=0.06)
    assert (450, True) == (n, top <= 1.0)
    if obeyed == 0.0:
        assert bottom < chance


def test_equal_texts_teach_nothing_about_each_other() -> None:
    """A model that repeats ten texts has not expressed values that were dealt to them at random."""
    chance = random.Random(1)
    texts = [" ".join(chance.choices(FILLING, k=8)) + f" t{i}" for i in range(30)]
    dealt = {text: chance.choice(["a", "b"]) for text in texts}
    rows = [Written(f"r{i}", text, {"tone": dealt[text]}) for i, text in enumerate(texts * 10)]
    share, _, _, majority, _ = line(by_classifier(rows), "tone")
    assert share < majority + 0.25


def test_values_of_one_label_are_told_apart_within_it() -> None:
    """Where each label has its own topics, knowing the label is no merit: chance is within the label."""
    chance = random.Random(2)
    rows = []
    for i in range(240):
        label = "good" if i % 2 else "bad"
        topic = chance.choice(["one", "two"]) + label
        text = f"{label} {label} " + " ".join(chance.choices(FILLING, k=8)) + f" y{i}"
        rows.append(Written(f"r{i}", text, {"topic": topic}, label))
    share, low, _, majority, _ = line(by_classifier(rows), "topic")
    assert 0.5 <= majority <= 0.6
    assert low < 0.55 and share < 0.65


def test_topics_that_a_model_was_asked_for_can_be_found_again(data_dir: Path) -> None:
    """News of four sections: the section is found in nine of ten, one in four is the most frequent."""
    with gzip.open(data_dir / "ag_news_test/ag_news_test.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    found = [
        Written(str(i), f"{row['title']} {row['description']}", {"section": str(row["label"])})
        for i, row in enumerate(rows)
    ]
    share, _, _, chance, n = line(by_classifier(found, most=2000), "section")
    assert (0.83 < share < 0.93, 0.25 <= chance < 0.29, 2000) == (True, True, n)


# ----------------------------------------------------------------------------------------- by judge


def reading(request: Request) -> str:
    """A judge that reads: yes where two words of the scene stand in the text."""
    asked = request.messages[1].content
    text = asked.split('"""')[1]
    scene = asked.split("1. scene: ")[1].split("\n")[0]
    hit = sum(word in text.split() for word in SCENES[scene].split()) >= 2
    return f'```json\n{{"1": "{"Yes" if hit else "No"}",}}\n```'


def test_a_judge_that_reads_is_told_from_one_that_nods() -> None:
    """Foils show what a yes is worth: a careful judge says no to them, an agreeable one says yes to all."""
    rows = written(300, obeyed=0.6)
    asked = judge_requests(rows, TASK, most=200, seed=4)
    assert 400 == len(asked)
    assert 200 == sum(one.id.endswith("/foil") for one in asked)
    assert not any("length" in one.messages[1].content for one in asked)
    careful = by_judge(rows, {m.id: Response(m.id, reading(m)) for m in asked}, most=200, seed=4)
    share, low, high, chance, n = line(careful, "scene")
    assert low < 0.6 + 0.4 / 3 < high
    assert chance < 0.25
    assert 200 == n == round(share * 200) + len(careful.missed)
    nodding = by_judge(rows, {m.id: Response(m.id, '{"1": true}') for m in asked}, most=200, seed=4)
    assert (1.0, 1.0) == (line(nodding, "scene")[0], line(nodding, "scene")[3])
    assert nodding.table().rows[0]["_flag"]


def test_answers_that_say_neither_yes_nor_no_are_left_out() -> None:
    """Numbers or names as keys, truth in any spelling; the rest is no answer."""
    values = {"tone": "dry", "place": "Rome", "time": "night"}
    assert {"tone": True, "place": False} == read_judged(
        Response("r", '{"1": "Yes.", "place": false, "3": "perhaps"}'), values
    )
    assert {} == read_judged(Response("r", "I cannot say."), values)
    assert {} == read_judged(None, values)
