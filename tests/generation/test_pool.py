"""Which records are shown and built on: turns, distances, copies, novelty, each counted in another way."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from karat.generation.base import Sample
from karat.generation.pool import (
    Nearness,
    Novelty,
    copied,
    distant_pairs,
    longest_idle,
    of_label,
    of_task,
    turns,
    words_of,
)
from karat.generation.tasks import Label, Task


def sample(name: str, text: str, label: str | None = None, human: bool = True) -> Sample:
    return Sample(name, text, label, human=human)


def lcs(one: list[str], other: list[str]) -> int:
    """The longest common subsequence by the textbook table."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def test_words_of_any_script() -> None:
    """Case does not matter; Japanese, Chinese and Thai give characters, Korean and Russian words."""
    assert ["straße", "nr", "7"] != ["strasse", "nr", "7"] == words_of("Straße, Nr. 7!")
    assert list("今日は晴れ") == words_of("今日は、晴れ。")
    assert ["привет", "мир"] == words_of("Привет, мир")
    assert 2 == len(words_of("안녕 세계"))
    assert ["ab", "中", "cd"] == words_of("ab中cd")


def test_novelty_is_rouge_l_of_the_most_like_text() -> None:
    """2 LCS / (a + b) with the nearest of the kept texts, as the textbook table gives it."""
    rng = np.random.default_rng(0)
    words = "the old dog sees a grey cat under one tall tree".split()
    texts = [" ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(60)]
    kept, asked = texts[:40], texts[40:]
    novelty = Novelty(kept)
    for text in asked:
        own = words_of(text)
        scores = [2 * lcs(own, words_of(k)) / (len(own) + len(words_of(k))) for k in kept]
        value, which = novelty.likeness(text)
        assert max(scores) == pytest.approx(value, abs=1e-12)
        assert max(scores) == pytest.approx(scores[which])
        least = 0.7
        assert (max(scores) >= least) == (novelty.likeness(text, least)[1] >= 0)


def test_novelty_of_empty_texts_and_of_what_is_kept_later() -> None:
    """A text without words is like nothing; a text that is kept counts from then on."""
    novelty = Novelty()
    assert (0.0, -1) == novelty.likeness("anything")
    novelty.keep("one two three")
    assert (1.0, 0) == novelty.likeness("One, two, three.", 0.7)
    assert (0.0, -1) == novelty.likeness("...", 0.0)
    assert 1.0 == Novelty(["今日は晴れです"]).likeness("今日は晴れです。")[0]
    assert 0.7 > Novelty(["今日は晴れです"]).likeness("明日の朝に雪が降る")[0]


def test_a_copy_is_found_through_case_blanks_and_small_changes() -> None:
    """Exact and near copies are told apart and named; another text about the same is none."""
    shown = [("h1", "The lamp stood near the door for years."), ("h2", "Nobody came.")]
    assert "copies h1" == copied("the  lamp stood near the door for years.", shown, 0.9)
    assert copied("The lamp stood near the door for years!", shown, 0.9).startswith("nearly copies h1 (")
    assert "" == copied("For many years a lamp had its place by that entrance.", shown, 0.9)
    assert "" == copied("Nobody came.", shown, 0.0), "0 turns the guard off"
    assert "" == copied("", [("h3", "")], 0.9)


def test_turns_use_all_before_any_comes_twice() -> None:
    """Each third of three rounds is the whole; the order depends on the seed."""
    samples = [sample(str(i), str(i)) for i in range(7)]
    drawn = [s.id for s in itertools.islice(turns(samples, 1), 21)]
    assert all(set(map(str, range(7))) == set(drawn[i : i + 7]) for i in (0, 7, 14))
    assert drawn == [s.id for s in itertools.islice(turns(samples, 1), 21)]
    assert drawn != [s.id for s in itertools.islice(turns(samples, 2), 21)]
    assert [] == list(turns([], 0))


def test_samples_are_taken_by_class() -> None:
    """A class, all classes of the task, or everything where there are none."""
    pool = [
        sample("1", "a", "x"),
        sample("2", "b", "y"),
        sample("3", "c", "x", human=False),
        sample("4", "d", "z"),
    ]
    assert ["1", "3"] == [s.id for s in of_label(pool, "x")]
    assert ["1"] == [s.id for s in of_label(pool, "x", human=True)]
    assert ["1", "2", "3", "4"] == [s.id for s in of_label(pool, None)]
    assert ["1", "2"] == [s.id for s in of_task(Task("t", (Label("x"), Label("y"))), pool, human=True)]


def test_the_most_distant_pairs_come_first_and_are_disjoint() -> None:
    """In two planted groups all first pairs go across; each sample is used before any is used twice."""
    groups = {"a": "dog barks at the other dog", "b": "rain falls on cold snow"}
    samples = [sample(f"{g}{i}", f"{text} number{i}") for g, text in groups.items() for i in range(6)]
    found = list(itertools.islice(distant_pairs(samples, 3), 6))
    assert 12 == len({s.id for pair in found for s in pair})
    assert all(one.id[0] != other.id[0] for one, other in found)
    every = list(itertools.islice(distant_pairs(samples, 3), 66))
    assert 66 == len({frozenset((one.id, other.id)) for one, other in every}), "no pair twice before all came"
    assert 67 == len(list(itertools.islice(distant_pairs(samples, 3), 67)))
    assert [] == list(distant_pairs(samples[:1], 0))


def test_pairs_are_greedy_in_distance() -> None:
    """The first pair is the most distant of all, the next the most distant of what is left (brute force)."""
    rng = np.random.default_rng(2)
    words = [f"w{i}" for i in range(12)]
    samples = [sample(str(i), " ".join(rng.choice(words, 8))) for i in range(10)]
    cosines = {}
    near = Nearness(samples)
    for i in range(10):
        for j, value in enumerate(near.to(i)):
            cosines[frozenset((str(i), str(j)))] = float(value)
    left = {s.id for s in samples}
    for one, other in itertools.islice(distant_pairs(samples, 0), 5):
        best = min(cosines[frozenset(p)] for p in itertools.combinations(sorted(left), 2))
        assert best == pytest.approx(cosines[frozenset((one.id, other.id))], abs=1e-6)
        left -= {one.id, other.id}


def test_nearest_and_spread_leave_copies_out() -> None:
    """The neighbours of a text are of its kind, what is spread is not; no text is taken twice."""
    texts = [
        "red apple pie",
        "red apple tart",
        "red apple pie",
        "blue steel ship",
        "slow green train",
        "red apple cake",
    ]
    near = Nearness([sample(str(i), text) for i, text in enumerate(texts)])
    assert {1, 5} == set(near.nearest(0, 2))
    spread = near.spread(0, 2)
    assert {3, 4} == set(spread)
    assert 2 not in near.nearest(0, 5) and 2 not in near.spread(0, 5)
    assert 4 == len(near.nearest(0, 9)), "there are only so many different texts"
    assert [0.0, 0.0] == Nearness([sample("1", "..."), sample("2", "!")]).to(0).tolist()


@dataclass(frozen=True)
class Child(Sample):
    parents: tuple[str, ...] = ()


def test_what_had_no_child_comes_first() -> None:
    """Made samples before human ones among those that had no child; parents of many come last."""
    people = [sample(f"h{i}", "x") for i in range(4)]
    made = [
        Child("m1", "y", human=False, parents=("h0",)),
        Child("m2", "z", human=False, parents=("h0", "h1")),
    ]
    order = [s.id for s in longest_idle([*people, *made], [*people, *made], 0, "")]
    assert {"m1", "m2"} == set(order[:2]) and {"h2", "h3"} == set(order[2:4]) and ["h1", "h0"] == order[4:]
    assert Counter(order) == Counter(s.id for s in [*people, *made])
