"""What holds for preference records as pairs: orientation, raters, and what must not be split."""

from __future__ import annotations

import random

import numpy as np
import pytest

from karat import records
from karat.errors import InputError, NotEnoughData
from karat.training.base import gold_labels
from karat.training.pairs import pairs


def chosen(n: int) -> records.Records:
    return records.from_rows(
        [
            {"id": f"r{i}", "prompt": f"question {i}", "chosen": f"good {i}", "rejected": f"bad {i}"}
            for i in range(n)
        ]
    )


def said(rows: list[tuple[str, str, str, str]]) -> records.Records:
    return records.from_rows(
        [
            {
                "id": str(i),
                "prompt": p,
                "response_a": a,
                "response_b": b,
                "choice": c,
                "rater": f"rater {i % 2}",
            }
            for i, (p, a, b, c) in enumerate(rows)
        ]
    )


def test_the_chosen_response_is_on_either_side_and_always_on_the_same() -> None:
    """The gold of chosen/rejected rows is not constant, points at the chosen one, and needs no neighbours."""
    given = chosen(1000)
    found = pairs(given)
    for row in range(1000):
        side = found.a if found.choices[row] == "a" else found.b
        assert f"good {row}" == side[row]
    assert 440 < found.choices.count("a") < 560  # 500 +- 3.8 standard deviations of a fair coin
    order = random.Random(1).sample(range(1000), 300)
    part = pairs(given.take(order))
    assert [found.choices[i] for i in order] == list(part.choices)
    assert found.take(order).a == part.a


def test_rows_with_a_choice_stay_as_they_stand() -> None:
    """Responses, choices and raters are those of the file; what cannot be read is invalid and counted so."""
    found = pairs(said([("p", "x", "y", "b"), ("p", "x", "y", "tie"), ("q", "x", "z", "invalid")]))
    assert ("x", "x", "x") == found.a
    assert ("y", "y", "z") == found.b
    assert ("b", "tie", "invalid") == found.choices
    assert ("rater 0", "rater 1", "rater 0") == found.raters
    assert [True, True, False] == found.valid.tolist()
    assert ("a", "tie", "invalid") == found.swapped().choices
    assert found.a == found.swapped().b


def test_both_forms_may_stand_in_one_table() -> None:
    """Rows of one form put to rows of the other are each read in their own form."""
    both = chosen(3).concat(said([("p", "x", "y", "b")]))
    found = pairs(both)
    assert ("x", "y", "b") == (found.a[3], found.b[3], found.choices[3])
    assert {"good 0", "bad 0"} == {found.a[0], found.b[0]}


def test_raters_of_a_pair_share_its_number_in_either_order() -> None:
    """Two raters, one with the sides exchanged and another way of writing, speak of the same pair."""
    found = pairs(said([("p", "One.", "Two", "a"), ("P", "two", "one", "b"), ("q", "One.", "Two", "a")]))
    assert [0, 0, 1] == found.pair.tolist()


def test_groups_are_connected_components() -> None:
    """Groups are those of a search through the graph of shared texts, by brute force."""
    rng = random.Random(3)
    rows = [
        (f"p{rng.randrange(60)}", f"t{rng.randrange(90)}", f"u{rng.randrange(90)}", "a") for _ in range(40)
    ]
    found = pairs(said(rows)).groups
    texts = [{("p", p), ("r", a), ("r", b)} for p, a, b, _ in rows]
    expected = [-1] * len(rows)
    for start in range(len(rows)):
        if expected[start] < 0:
            todo, number = [start], max(expected) + 1
            while todo:
                row = todo.pop()
                if expected[row] < 0:
                    expected[row] = number
                    todo += [other for other in range(len(rows)) if texts[row] & texts[other]]
    assert expected == found.tolist()
    assert 1 < len(set(expected)) < len(rows)


def test_a_text_of_most_pairs_connects_nothing() -> None:
    """The same question before every pair, and `Yes` against `No`, do not make one group of all."""
    same = pairs(said([("Which is better?", f"x{i}", f"y{i}", "a") for i in range(9)]))
    assert list(range(9)) == same.groups.tolist()
    yes = pairs(said([(f"p{i // 2}", "Yes", "No", "a") for i in range(8)]))
    assert [0, 0, 1, 1, 2, 2, 3, 3] == yes.groups.tolist()
    empty = pairs(said([("", f"x{i}", f"y{i}", "a") for i in range(3)]))
    assert [0, 1, 2] == empty.groups.tolist()


def test_gold_labels_are_choices() -> None:
    """Trainers get a, b and tie; an invalid choice and no record at all are told, each with the cure."""
    assert ["b", "tie"] == gold_labels(said([("p", "x", "y", "b"), ("p", "x", "y", "tie")]))
    assert list(pairs(chosen(20)).choices) == gold_labels(chosen(20))
    with pytest.raises(InputError, match=r"record '1' is invalid \(1 of 2 are\); leave these out"):
        gold_labels(said([("p", "x", "y", "b"), ("p", "x", "y", "invalid")]))
    with pytest.raises(NotEnoughData):
        gold_labels(chosen(2).where(np.zeros(2, bool)))


def test_other_records_are_no_pairs() -> None:
    """Texts with labels are refused with the fields that are needed."""
    with pytest.raises(InputError, match="chosen and rejected"):
        pairs(records.from_rows([{"text": "x", "label": "a"}]))
