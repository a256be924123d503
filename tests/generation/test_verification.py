"""Votes confirm a label or not, and the reason counts them; no order of the labels is favoured."""

from __future__ import annotations

from collections import Counter

import pytest

from karat.errors import BadSetting
from karat.generation.base import Request, Response
from karat.generation.tasks import Label, Task
from karat.generation.verification import Claim, Pair, pair_requests, quorum, read, read_pairs, requests

TASK = Task("bank query", (Label("card_lost", "the card is gone"), Label("top_up"), Label("transfer")))
CLAIMS = [Claim("r1", "Where is my card?", "card_lost"), Claim("r2", "Add money please", "transfer")]


def answered(asked: list[Request], texts: list[str]) -> dict[str, Response]:
    """One answer a request, in order; an empty text is no answer at all."""
    return {one.id: Response(one.id, text) for one, text in zip(asked, texts, strict=True) if text}


def test_votes_are_counted_and_told() -> None:
    """Two of three confirm; else the reason says how many, and what most votes were for."""
    asked = requests(CLAIMS, TASK, votes=3)
    said = ["Card lost", "**top_up**", 'Class: "card_lost"', "top up", "transfer", "The class is top_up."]
    found = read(CLAIMS, answered(asked, said), TASK, votes=3, needed=2)
    assert ("card_lost", "top_up", "card_lost") == found["r1"].votes
    assert (2, 3, "card_lost", "") == (
        found["r1"].agreed,
        found["r1"].asked,
        found["r1"].voted,
        found["r1"].reason,
    )
    assert "label not confirmed: 1 of 3 votes for 'transfer' (most: 'top_up')" == found["r2"].reason


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (["card_lost or top_up", "?", "no idea"], "0 of 3 votes for 'card_lost'; none named a class"),
        (["card_lost", "", ""], "1 of 3 votes for 'card_lost'; 2 got no answer"),
        (["card_lost", "top_up", "transfer"], "1 of 3 votes for 'card_lost'"),
    ],
)
def test_votes_that_name_nothing_confirm_nothing(said: list[str], reason: str) -> None:
    """An answer with two labels, none, or no answer at all counts against the label, and says so."""
    asked = requests(CLAIMS[:1], TASK)
    assert f"label not confirmed: {reason}" == read(CLAIMS[:1], answered(asked, said), TASK)["r1"].reason


def test_no_label_stands_first_more_often() -> None:
    """Over the votes on many records each label stands in each place equally often; no two votes are one."""
    claims = [Claim(f"r{i}", f"text {i}", "top_up") for i in range(300)]
    asked = requests(claims, TASK, votes=3, seed=5)
    prompts = [one.messages[1].content for one in asked]
    lines = [[line[2:].split(":")[0] for line in text.split("\n") if line[:2] == "- "] for text in prompts]
    for place in range(3):
        assert dict.fromkeys(TASK.label_names, 300) == Counter(order[place] for order in lines)
    assert len({one.key("model") for one in asked}) == len(asked)
    assert "- card_lost: the card is gone" in prompts[0]
    assert [one.messages for one in requests(claims, TASK, votes=3, seed=5)] == [m.messages for m in asked]


def test_a_judge_that_always_says_a_confirms_no_preference() -> None:
    """Pairs are shown in both orders, so that favouring a place wins one of two votes, never both."""
    pairs = [Pair(f"r{i}", "Why?", "Because it rains.", "Dunno.") for i in range(40)]
    asked = pair_requests(pairs, TASK)
    found = read_pairs(pairs, answered(asked, ["A"] * 80))
    assert {"preference not confirmed: 1 of 2 votes for 'chosen'"} == {one.reason for one in found.values()}
    shown = [one.messages[1].content for one in asked]
    fair = ["A" if text.index("rains") < text.index("Dunno") else "B" for text in shown]
    assert {""} == {one.reason for one in read_pairs(pairs, answered(asked, fair)).values()}
    wrong = ["(B)" if side == "A" else "Answer: A" for side in fair]
    assert {"preference not confirmed: 0 of 2 votes for 'chosen' (most: 'rejected')"} == {
        one.reason for one in read_pairs(pairs, answered(asked, wrong)).values()
    }
    assert 10 < fair[::2].count("A") < 30


def test_settings_that_confirm_nothing_are_named() -> None:
    """A quorum that is none, pairs with an odd number of votes, one label alone."""
    assert (2, 3) == quorum("2/3")
    for wrong in ("3/2", "2", "0/3", "a/b", "2/3/4"):
        with pytest.raises(BadSetting, match="is no quorum; write"):
            quorum(wrong)
    with pytest.raises(BadSetting, match="votes=3 on pairs must be even"):
        pair_requests([], TASK, votes=3)
    with pytest.raises(BadSetting, match="fewer than two labels"):
        requests(CLAIMS, Task("x", (Label("a"),)))
