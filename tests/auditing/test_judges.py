"""Judges: asked once, read by two parsers, refused where they cannot answer, swapped where they compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from judge_corpora import Scripted, chatter, coin, dialogues, written

import karat
from karat.auditing.base import Question
from karat.auditing.judged_pairs import A, Pair, both_orders
from karat.auditing.judged_questions import SHOWN, cut
from karat.auditing.judging import (
    jury,
    known_answer,
    messages,
    read_given,
    read_truth,
)
from karat.errors import BadSetting, InputError

# -------------------------------------------------------------------------------------- provider


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    """A second judge with the same journal answers without a call, whatever the seed."""
    questions = [Question(f"r{i}", f"Is {i} even?", kind="even") for i in range(5)]
    answers = []
    providers = [Scripted(lambda text: "Yes."), Scripted(lambda text: "No.")]
    for seed, provider in enumerate(providers):
        judge = jury(provider, journal=tmp_path, seed=seed)
        answers.append([one.answer for one in judge.ask(questions)])
    assert [["yes"] * 5] * 2 == answers
    assert [5, 0] == [len(one.asked) for one in providers]
    assert "even:r0" in providers[0].asked


def test_recorded_answers(tmp_path: Path) -> None:
    """The provider replay answers by KIND:RECORD, and names the record that it has no answer for."""
    path = written(tmp_path / "a.jsonl", [{"id": "even:r0", "text": "no"}, {"id": "even:r1", "text": "Yes"}])
    judge = jury(f"replay:path={path}")
    asked = [Question(name, name, kind="even") for name in ("r0", "r1")]
    assert ["no", "yes"] == [one.answer for one in judge.ask(asked)]
    with pytest.raises(InputError, match="'even:r7'"):
        judge.ask([Question("r7", "?", kind="even")])


def test_a_learning_provider_is_refused() -> None:
    """The embedded model writes like the user's records and answers nothing: one line says so."""
    with pytest.raises(BadSetting, match=r"judge 'embedded' learns .* replay:path=FILE") as caught:
        jury("embedded")
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------- prompts


def test_prompt() -> None:
    """The prompt states question and allowed answers; many answers are numbered; reasons come first."""
    system, user = messages(Question("r", "Is it?"))
    assert ("system", "user") == (system.role, user.role)
    assert user.content.startswith("Is it?\n\nAllowed answers: yes, no\n")
    assert "(2) b" in messages(Question("r", "?", ("a", "b", "c", "d")))[1].content
    assert messages(Question("r", "?", rationale=True))[1].content.endswith("Answer: WORD")


def test_long_records_are_cut_in_the_middle() -> None:
    """Beginning and end are shown, and what is left out is said."""
    shown = cut("a" * SHOWN + "b" * 5 + "c" * SHOWN)
    assert shown.startswith("a") and shown.endswith("c") and "characters left out" in shown
    assert "short" == cut("short")


# ----------------------------------------------------------------------------------------- people


def test_answers_of_people(tmp_path: Path) -> None:
    """Ids map to answers; a question keeps several apart; empty rows are not filled in yet."""
    rows = [
        {"id": "a", "answer": "Yes"},
        {"id": "b", "answer": ""},
        {"id": 3, "answer": "no", "question": "digression"},
        {"id": "c", "answer": 1},
    ]
    truth = read_truth(written(tmp_path / "t.jsonl", rows))
    assert {"a": "Yes", "digression:3": "no", "c": "1"} == dict(truth)
    assert "no" == known_answer(truth, "digression", "3", ("yes", "no"))
    assert known_answer(truth, "human_like", "3", ("yes", "no")) is None
    assert "yes" == known_answer(truth, "human_like", "c", ("yes", "no"))
    assert read_given("irrelevant", ("yes", "no")) is None


def test_bad_files_of_answers(tmp_path: Path) -> None:
    """A missing field, two answers to one question and an empty sheet are named."""
    for rows, message in (
        ([{"id": "a", "label": "yes"}], "no field 'answer'"),
        ([{"id": "a", "answer": "yes"}, {"id": "a", "answer": "no"}], "'a' has two answers"),
        ([{"id": "a", "answer": ""}], "no answers"),
    ):
        with pytest.raises(InputError, match=message):
            read_truth(written(tmp_path / "bad.jsonl", rows))


# ------------------------------------------------------------------------------------------ pairs


def longer(text: str) -> str:
    """A fair judge: the longer text wins, wherever it stands."""
    first, second = text.split("### first\n")[1].split("\n\nAllowed")[0].split("\n\n### second\n")
    return "first" if len(first) > len(second) else "second"


def pairs(n: int) -> list[Pair]:
    return [
        Pair(f"p{i}", f"{i:03}" + "x" * (10 + i % 7), f"{i:03}" + "x" * (10 + (i + 3) % 7)) for i in range(n)
    ]


def test_a_fair_judge_is_consistent() -> None:
    """The winner does not depend on the order, and nothing is warned of."""
    found = both_orders(jury(Scripted(longer)), "Which is longer?", pairs(60), kind="longer")
    assert 1.0 == found.consistency
    assert 1.0 == found.order_p
    assert found.warning("longer") is None
    expected = [A if len(one.a) > len(one.b) else 1 for one in pairs(60)]
    assert expected == found.outcome.tolist()


@pytest.mark.parametrize("bias", [0.3, 0.6, 1.0])
def test_a_judge_that_favours_a_place_is_found_out(bias: float) -> None:
    """Where it says "first" without looking, pairs are inconsistent, and the warning names the place."""

    def answer(text: str) -> str:
        return "first" if coin(text, bias) else longer(text)

    found = both_orders(jury(Scripted(answer)), "Which is longer?", pairs(400), kind="longer")
    # a pair flips where bias strikes in the order in which the loser stands first
    assert bias == pytest.approx(1 - found.consistency, abs=0.08)
    assert 0 == found.second
    assert found.order_p < 0.001
    warning = found.warning("longer")
    assert warning is not None
    assert "orientation_dependent" == warning.code
    assert "favours the first" in warning.message
    right = [A if len(one.a) > len(one.b) else 1 for one in pairs(400)]
    decided = found.outcome <= 1
    assert np.array(right)[decided].tolist() == found.outcome[decided].tolist()


def test_pairs_in_an_audit() -> None:
    """ask=pair: a judge that knows the human side gives 1, one that goes by the place gives a warning."""
    mine = dialogues([["robot speaks", f"beep {i}"] for i in range(30)])
    human = dialogues(chatter(30, seed=1))

    def knows(text: str) -> str:
        return "second" if "robot" in text.split("### second")[0] else "first"

    found = karat.audit(mine, human, metrics="human_likeness:ask=pair", judge=Scripted(knows), budget="small")
    assert 0.0 == found.scores[0].value
    assert found.scores[0].p is not None and found.scores[0].p < 1e-6
    assert 1.0 == found.scores[0].details["consistency"]
    blind = karat.audit(
        mine, human, metrics="human_likeness:ask=pair", judge=Scripted(lambda text: "first"), budget="small"
    )
    assert blind.scores[0].value is None
    assert "orientation_dependent" in {one.code for one in blind.warnings}
