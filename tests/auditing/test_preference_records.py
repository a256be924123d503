"""Preference records: what is read as which pair and choice, and what is refused with which words."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from karat import records
from karat.auditing.preferences import pairs_from_rankings
from karat.errors import InputError

PAIR: dict[str, Any] = {"prompt": "p", "response_a": "x", "response_b": "y", "rater": "r"}


def one(**row: Any) -> dict[str, Any]:
    """The single record of a row."""
    found = list(records.from_rows([row]))
    assert 1 == len(found)
    return found[0]


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        *(
            (word, "a")
            for word in ("a", "A", " [[A]] ", "model_a", "response_a", "first", "Left", 1, 1.0, "1", "1.0")
        ),
        *((word, "b") for word in ("b", "B", "model_b", "response_b", "second", "right", 2, "2")),
        *((word, "tie") for word in ("tie", "Tie", 0, "0", "draw", "tie (bothbad)", "No preference")),
        *((word, "invalid") for word in ("invalid", "garbage", "", "NaN", float("nan"))),
    ],
)
def test_words_for_choices(given: Any, choice: str) -> None:
    """a, b, tie and invalid are read from the words and numbers that files hold."""
    assert choice == one(**PAIR, choice=given)["choice"]


@pytest.mark.parametrize("given", ["purple", 3, 1.4, True, "-1"])
def test_other_choices_are_refused(given: Any) -> None:
    """Anything else is refused in one line with place, value and cure."""
    with pytest.raises(InputError, match=r"^<memory>:2: field 'choice' is .*; write a, b, tie or invalid"):
        records.from_rows([{**PAIR, "choice": "a"}, {**PAIR, "choice": given}])


def test_a_choice_may_name_the_model_and_may_be_missing() -> None:
    """The name of a model stands for its side; a verdict that is null is invalid, and no broken file."""
    named = {**PAIR, "model_a": "left-llm", "model_b": "right-llm"}
    assert "b" == one(**named, choice="right-llm")["choice"]
    found = records.from_rows([{**PAIR, "choice": "a"}, {**PAIR, "choice": None}])
    assert ["a", "invalid"] == found.column("choice")


def test_sides_and_kinds() -> None:
    """shown_first and rater_kind are read from other words too, and refused when they are none."""
    found = one(**PAIR, choice="a", shown_first="B", rater_kind="LLM")
    assert ("b", "model") == (found["shown_first"], found["rater_kind"])
    with pytest.raises(InputError, match="field 'shown_first' is 'tie'; write a or b"):
        one(**PAIR, choice="a", shown_first="tie")
    with pytest.raises(InputError, match="field 'rater_kind' is 'alien'; write human or model"):
        one(**PAIR, choice="a", rater_kind="alien")


def test_a_tie_of_two_verdicts_that_contradict_each_other() -> None:
    """MT-Bench writes it as tie (inconsistent): a tie, and a sign that the order decided."""
    found = one(**PAIR, choice="tie (inconsistent)")
    assert ("tie", False) == (found["choice"], found["consistent"])


def test_what_is_missing_is_filled_in() -> None:
    """Without a rater there is one; without a prompt the prompt is empty."""
    found = one(response_a="x", response_b="y", choice="a")
    assert ("rater", "") == (found["rater"], found["prompt"])
    assert "gpt" == one(response_a="x", response_b="y", choice="a", rater_model="gpt")["rater"]


# ---------------------------------------------------------------------------------- implicit prompts


def test_the_prompt_is_what_both_begin_with() -> None:
    """Plain text: the common words; a word is never cut."""
    found = one(chosen="Say hello to Bob", rejected="Say hello to Boris")
    assert ("Say hello to ", "Bob", "Boris") == (found["prompt"], found["chosen"], found["rejected"])
    found = one(chosen="yes", rejected="no")
    assert ("", "yes", "no") == (found["prompt"], found["chosen"], found["rejected"])


def test_transcripts_are_cut_at_the_last_turn() -> None:
    """Replies that begin alike stay whole, and turns that follow belong to the reply."""
    talk = "\n\nHuman: hi\n\nAssistant: Hello.\n\nHuman: bye\n\nAssistant:"
    found = one(chosen=talk + " Good bye.", rejected=talk + " Good night.\n\nHuman: ok\n\nAssistant: So.")
    assert talk == found["prompt"]
    assert (" Good bye.", " Good night.\n\nHuman: ok\n\nAssistant: So.") == (
        found["chosen"],
        found["rejected"],
    )


def test_messages() -> None:
    """Lists of messages: the messages in common are the prompt; one message is its content."""
    ask = {"role": "user", "content": "why?"}
    yes, no = {"role": "assistant", "content": "so"}, {"role": "assistant", "content": "hm"}
    found = one(chosen=[ask, yes], rejected=[ask, no])
    assert ("why?", "so", "hm") == (found["prompt"], found["chosen"], found["rejected"])
    assert found["prompt"] == one(prompt=[ask], chosen=[yes], rejected=[no])["prompt"]
    longer = one(chosen=[ask, yes, ask, yes], rejected=[ask, yes, ask, no])
    assert "user: why?\n\nassistant: so\n\nuser: why?" == longer["prompt"]
    assert "so" == one(prompt="p", response_a=[yes], response_b=[no], choice="a", rater="r")["response_a"]


# --------------------------------------------------------------------------------------- wide rows


def test_several_raters_in_a_row() -> None:
    """choices as an object or a list, and human and model choices: a record a rater; null was not asked."""
    pair = {"id": 7, "prompt": "p", "response_a": "x", "response_b": "y"}
    found = records.from_rows([{**pair, "choices": {"ann": 1, "bob": "tie", "cy": None}}])
    assert [("7/ann", "ann", "a"), ("7/bob", "bob", "tie")] == list(
        zip(found.ids, found.column("rater"), found.column("choice"))
    )
    found = records.from_rows([{**pair, "choices": ["a", "b"]}])
    assert ["rater 1", "rater 2"] == found.column("rater")
    found = records.from_rows([{**pair, "human_choices": [2, 2], "model_choices": {"gpt": "1"}}])
    assert ["human", "human", "model"] == found.column("rater_kind")
    assert ["b", "b", "a"] == found.column("choice")


def test_ranking_by_name() -> None:
    """Four models give six pairs with their places in the list; equal ranks tie, fields are split alike."""
    row = {
        "prompt": "p",
        "responses": {"m1": "w", "m2": "x", "m3": "y", "m4": "z"},
        "rankings": {"m1": 2, "m2": 1, "m3": 2, "m4": 4},
        "entailment": {"m1": [0.1, 0.2], "m2": [0.3], "m3": [0.4], "m4": [0.5]},
        "rater": "ann",
    }
    found = list(records.from_rows([row]))
    assert list(combinations("wxyz", 2)) == [(r["response_a"], r["response_b"]) for r in found]
    assert ["b", "tie", "a", "a", "a", "a"] == [r["choice"] for r in found]
    assert list(combinations(range(4), 2)) == [(r["place_a"], r["place_b"]) for r in found]
    assert ("m2", "m4", [0.3], [0.5]) == tuple(
        found[4][name] for name in ("model_a", "model_b", "entailment_a", "entailment_b")
    )
    assert 6 == len({r["id"] for r in found})


def test_rankings_of_several_raters_and_points() -> None:
    """Rankings by rater, points instead of ranks, and a ranking as names from best to worst."""
    lists = {"prompt": "p", "responses": ["x", "y", "z"]}
    found = records.from_rows([{**lists, "rankings": {"ann": [1, 2, 3], "bob": [3, 2, 1], "cy": None}}])
    assert ["a"] * 3 + ["b"] * 3 == found.column("choice")
    assert ["ann"] * 3 + ["bob"] * 3 == found.column("rater")
    assert ["a", "b", "b"] == records.from_rows([{**lists, "points": [1, 0.5, 2]}]).column("choice")
    named = {"prompt": "p", "responses": {"m1": "x", "m2": "y"}, "rankings": ["m2", "m1"]}
    assert ["b"] == records.from_rows([named]).column("choice")
    assert ["a", "b", "b"] == records.from_rows([{**lists, "rankings": [[2, 3, 1]]}]).column("choice")


def test_a_response_without_a_rank_is_in_no_pair() -> None:
    """None of three leaves one pair."""
    assert [("x", "z")] == [
        (one["response_a"], one["response_b"]) for one in pairs_from_rankings(["x", "y", "z"], [1, None, 2])
    ]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"responses": ["x", "y"], "rankings": [1]}, "1 ranks for 2 responses"),
        ({"responses": ["x"], "rankings": [1]}, "two or more texts"),
        ({"responses": ["x", "y"], "rankings": ["best", "worst"]}, "the rank 'best' is no number"),
        ({"responses": ["x", "y"], "rankings": {"m": {"q": 1}}}, "object model -> text"),
    ],
)
def test_rankings_that_cannot_be_read(row: dict[str, Any], words: str) -> None:
    """A ranking that does not fit its responses is refused with place and reason."""
    with pytest.raises(InputError, match=f"^<memory>:1: .*{words}"):
        records.from_rows([{"prompt": "p", **row}], datatype="preference")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_pairs_survive_a_file(tmp_path: Path, suffix: str) -> None:
    """What was made of rankings is read back as the same pairs, whatever the format."""
    row = {
        "prompt": "p",
        "responses": {"m1": "x", "m2": "y", "m3": "z"},
        "points": {"m1": 1, "m2": 1, "m3": 0},
    }
    first = records.from_rows([row])
    again = records.read(first.write(tmp_path / f"pairs{suffix}"))
    assert first.column("choice") == again.column("choice")
    assert first.ids == again.ids
    assert [str(place) for place in first.column("place_a")] == [
        str(place) for place in again.column("place_a")
    ]


def test_real_transcripts(data_dir: Path) -> None:
    """2,312 pairs of human preferences without a prompt: each prompt ends where the last reply begins."""
    found = records.read(data_dir / "hh_harmless_test" / "hh_harmless_test.jsonl.gz")
    assert ("preference", 2312) == (found.datatype, len(found))
    for row in found:
        assert row["prompt"].endswith("\n\nAssistant:")
        # what follows is one reply: the data differ in the last one only
        assert "\n\nHuman:" not in row["chosen"]
