"""Preferences of a model: both orders seen, choices read, pairs written and judged, every call paid."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from answering import Answering, draw

import karat
from karat import records
from karat.errors import InputError
from karat.generation.annotating import annotate
from karat.generation.base import Request, Response
from karat.generation.stage import generate
from karat.generation.tasks import Attribute, Label, Task
from karat.records import Records

TASK = Task("answer to a question", type="preference")


def pairs(n: int = 30) -> Records:
    """Pairs of answers; response a is the longer one in every second pair."""
    rows = []
    for i in range(n):
        texts = [f"Short {i}.", f"This is the much longer answer number {i}."]
        a, b = texts if i % 2 else texts[::-1]
        rows.append({"id": f"p{i}", "prompt": f"Question {i}?", "response_a": a, "response_b": b})
    return records.from_rows([{**row, "choice": "tie", "rater": "someone"} for row in rows])


def sides(request: Request) -> tuple[str, str]:
    """What is shown as response A and as response B."""
    text = request.messages[-1].content
    first, rest = text.split("Response A:\n")[1].split("\n\nResponse B:\n")
    return first, rest.split("\n\n")[0]


def longer(request: Request) -> str:
    first, second = sides(request)
    return "A" if len(first) > len(second) else "B"


def test_a_judge_that_looks_at_places_is_seen_through() -> None:
    """One that always says A contradicts itself in the two orders, and the audit's order bias is 1."""
    found = annotate(pairs(), task=TASK, provider=Answering(lambda _: "A"))
    rows = list(found.records)
    assert 60 == len(rows)
    assert all(row["choice"] == row["shown_first"] for row in rows)
    assert {"a": 30, "b": 30} == Counter(row["shown_first"] for row in rows)
    assert {False} == {row["consistent"] for row in rows}
    scored = karat.audit(found.records, metrics="order_bias position_consistency")
    assert 1.0 == scored.score("order_bias").value
    assert 0.0 == scored.score("position_consistency").value


def test_a_judge_that_looks_at_responses_is_consistent() -> None:
    """One that prefers the longer response says the same in both orders, whichever is called a."""
    found = annotate(pairs(), task=TASK, provider=Answering(longer))
    for row in found.records:
        assert ("a" if len(row["response_a"]) > len(row["response_b"]) else "b") == row["choice"]
    assert {True} == set(found.records.column("consistent"))
    scored = karat.audit(found.records, metrics="order_bias position_consistency")
    assert (0.5, 1.0) == tuple(scored.score(name).value for name in ("order_bias", "position_consistency"))


def test_records_are_preferences_with_their_lineage() -> None:
    """Pair, rater, place and draw stand in the record; tokens of both orders are shared out to the last."""
    provider = Answering(longer)
    found = annotate(pairs(3), task=TASK, provider=provider, samples=2, temperature=0.7)
    assert "preference" == found.records.datatype and (12, 12) == (len(found.records), len(provider.asked))
    row = next(iter(found.records))
    assert ("p0@plain/1-1", "scripted-1", "model", "a", "1") == tuple(
        row[name] for name in ("id", "rater", "rater_kind", "shown_first", "sample_id")
    )
    assert ["p0"] == row["lineage"]["parents"]
    assert 12 * 16 == sum(one["tokens_in"] + one["tokens_out"] for one in found.records.column("lineage"))
    assert 12 * 0.25 == sum(found.records.lineage("cost_usd")) == found.made.usage.cost_usd
    assert {0.7} == {request.temperature for request in provider.asked}
    assert (3, 12) == (found.items, found.to_json()["records"])


def test_pairs_that_several_people_judged_are_asked_once() -> None:
    """Also where the second person's record names the responses the other way round."""
    rows = [
        {"prompt": "q", "response_a": "x", "response_b": "y", "choice": "a", "rater": "p1", "model_a": "m"},
        {"prompt": "q", "response_a": "y", "response_b": "x", "choice": "b", "rater": "p2"},
        {"prompt": "q2", "response_a": "x", "response_b": "y", "choice": "b", "rater": "p1"},
    ]
    people = records.from_rows(rows)
    found = annotate(people, provider=Answering(lambda _: "TIE"), keep_human=True)
    assert (2, 3, 4) == (found.items, found.human, len(found.made.records))
    assert {"m", None} == set(found.made.records.column("model_a"))
    assert ["tie"] * 4 + ["a", "b", "b"] == found.records.labels()
    assert ["model"] * 4 + ["human"] * 3 == found.records.column("rater_kind")


def test_pairs_may_be_chosen_and_rejected() -> None:
    """Response a is then what was chosen; the judge does not see that."""
    items = records.from_rows([{"prompt": "q", "chosen": "fine", "rejected": "poor"}])
    provider = Answering(longer)
    found = annotate(items, provider=provider)
    assert [("fine", "poor")] * 2 == [(row["response_a"], row["response_b"]) for row in found.records]
    assert not any("chosen" in message.content for request in provider.asked for message in request.messages)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("B", "b"),
        ("Response B", "b"),
        ("[[A]]", "a"),
        ("A.", "a"),
        ("B is better than A.", "b"),
        ("Answer: B", "b"),
        ("TIE", "tie"),
        ("It is a tie.", "tie"),
        ("A good question; both have merits", "invalid"),
        ("A or B", "invalid"),
        ("", "invalid"),
    ],
)
def test_choices_are_read(text: str, choice: str) -> None:
    """The first order of a pair shows response a as A."""
    found = annotate(pairs(1), task=TASK, provider=Answering(lambda _: text))
    assert choice == found.records.labels()[0]  # type: ignore[index]


def test_an_order_that_cannot_be_read_confirms_nothing() -> None:
    """One unreadable order makes a pair inconsistent; `redraw` asks again for both, then rejects the pair."""

    def answer(request: Request) -> str:
        silent = request.id.endswith("/bfirst") and (request.id.startswith("p0@") or request.replicate == 0)
        return "hm" if silent else longer(request)

    found = annotate(pairs(2), task=TASK, provider=Answering(answer))
    assert ["a", "invalid", "b", "invalid"] == found.records.labels()
    assert {False} == set(found.records.column("consistent")) and 2 == found.unusable
    drawn = annotate(pairs(2), task=TASK, provider=Answering(answer), recipe="compare:invalid=redraw")
    assert ["b", "b"] == drawn.records.labels()
    assert ["no choice in the answer"] == [one.reason for one in drawn.made.rejected]
    assert 8 == drawn.made.usage.answers


def test_orders_may_be_drawn_instead() -> None:
    """One order a sample, turns about: over two samples each pair is shown both ways."""
    found = annotate(
        pairs(20), task=TASK, provider=Answering(longer), recipe="compare:order=drawn", samples=2
    )
    assert 40 == len(found.records) and {None} == set(found.records.column("consistent"))
    shown = {(row["prompt"], row["shown_first"]) for row in found.records}
    assert 40 == len(shown)
    first = Counter(found.records.column("shown_first")[:20])
    assert 3 <= first["a"] <= 17  # drawn for each pair: 20 tosses are hardly ever further apart


def test_the_first_token_gives_the_distribution_over_choices() -> None:
    """Shares are of response a, b and tie, whichever stood first."""

    def answer(request: Request) -> Response:
        better = longer(request)
        shares = {better: 0.6, "AB".replace(better, ""): 0.2, "T": 0.1, "I": 0.1}
        alternatives = tuple((token, math.log(share)) for token, share in shares.items())
        return Response("", better, 9, 1, alternatives=alternatives)

    found = annotate(pairs(2), task=TASK, provider=Answering(answer), recipe="compare:mode=logprobs")
    shares = [json.loads(one) for one in found.records.column("distribution")]
    long = ["a", "a", "b", "b"]
    short = ["b", "b", "a", "a"]
    for one, better, worse in zip(shares, long, short):
        assert {better: 6 / 9, worse: 2 / 9, "tie": 1 / 9} == pytest.approx(one, abs=1e-6)
    assert long == found.records.labels()
    plain = annotate(pairs(2), task=TASK, provider=Answering(longer), recipe="compare:mode=logprobs")
    assert long == plain.records.labels()
    assert {None} == set(plain.records.column("distribution"))
    assert all("no alternatives" in one for one in plain.records.column("fallback"))


def test_criterion_ties_and_personas_are_in_the_prompt(tmp_path: Path) -> None:
    """What makes a response better is said; without ties none is allowed; a persona judges as itself."""
    path = tmp_path / "people.txt"
    path.write_text("a strict teacher\n\n", "utf-8")
    provider = Answering(longer)
    found = annotate(
        pairs(1),
        task=TASK,
        provider=provider,
        recipe="compare:ties=false,plain=false,criterion=Which is ruder?",
        personas=path,
    )
    told = provider.told()
    assert told.startswith("Which is ruder?\n") and told.endswith("Answer with A or B and nothing else.")
    assert "tie" not in told.lower()
    assert "a strict teacher" in provider.asked[0].messages[0].content
    assert {"scripted-1 as a strict teacher"} == set(found.records.column("rater"))


def test_question_and_choices_of_the_task_are_asked() -> None:
    """Instructions and question of the task stand first; a tie is offered only where it is a choice."""
    for choices, words in ((("a", "b"), "A or B"), (("a", "b", "tie"), "A or B or TIE")):
        provider = Answering(longer)
        task = Task("answer", type="preference", instructions="Be strict.", question="Which is clearer?")
        annotate(pairs(1), task=replace(task, choices=choices), provider=provider)
        assert provider.told().startswith("Be strict.\nWhich is clearer?\n")
        assert provider.told().endswith(f"Answer with {words} and nothing else.")


# ------------------------------------------------------------------------------------ written pairs


def writer(request: Request) -> str:
    """Writes a question, a good or a short answer by temperature, and prefers the longer answer."""
    if request.messages[-1].content.startswith("Write one request"):
        return f"What is {int(draw(request) * 1000)}?"
    if "Response A" not in request.messages[-1].content:
        return "Well: " + "a long and careful answer. " * (3 if request.temperature < 1 else 1) + request.id
    return longer(request)


def test_pairs_are_written_and_judged_in_both_orders() -> None:
    """Prompt, two answers and two judgements make one record that has all five calls on its account."""
    provider = Answering(writer)
    made = generate(TASK, provider=provider, recipe="compare", n=6)
    assert 6 == len(made.records) and 30 == len(provider.asked)
    for row in made.records:
        assert len(row["chosen"]) > len(row["rejected"]) and row["prompt"].startswith("What is")
        assert (55, 25, 1.25) == tuple(row["lineage"][k] for k in ("tokens_in", "tokens_out", "cost_usd"))
        assert row["expected"] is True and "temperature" == row["contrast"]
    answers = [request for request in provider.asked if "/answer" in request.id]
    assert {0.3: 6, 1.2: 6} == Counter(request.temperature for request in answers)
    judged = [request for request in provider.asked if "first" in request.id]
    assert {0.0} == {request.temperature for request in judged} and 12 == len(judged)
    assert "preference" == made.records.datatype


def test_a_pair_that_the_judge_does_not_confirm_is_rejected() -> None:
    """A judge that looks at places confirms nothing: no record, and the reason says what was said."""
    made = generate(
        TASK, provider=Answering(lambda r: "A" if not r.temperature else writer(r)), recipe="compare", n=2
    )
    assert 0 == len(made.records)
    assert ["the judge prefers neither answer: a and b in the two orders"] * 2 == [
        one.reason for one in made.rejected
    ]


def test_one_answer_may_be_asked_to_be_careless() -> None:
    """By instruction, without a judge: the good one is chosen, with three calls a record."""

    def answer(request: Request) -> str:
        system = request.messages[0].content if len(request.messages) > 1 else ""
        return "a poor one" if "careless" in system else "a good one" if system else "Why?"

    task = Task(
        "cooking",
        (Label("soup", "liquid food"), Label("bread")),
        type="preference",
        attributes=(Attribute("mood", ("calm", "angry")),),
    )
    provider = Answering(answer)
    made = generate(task, provider=provider, recipe="compare:contrast=instruction,judged=false", n=4)
    assert [("Why?", "a good one", "a poor one")] * 4 == [
        (row["prompt"], row["chosen"], row["rejected"]) for row in made.records
    ]
    assert 12 == len(provider.asked)
    attributes = [json.loads(one) for one in made.records.lineage("attributes")]
    assert {("soup", "calm"), ("soup", "angry"), ("bread", "calm"), ("bread", "angry")} == {
        (one["class"], one["mood"]) for one in attributes
    }
    assert any("liquid food" in request.messages[0].content for request in provider.asked)


def test_prompts_of_items_are_answered() -> None:
    """Items without pairs give the prompts; equal answers are no pair."""
    items = records.from_rows([{"id": f"q{i}", "prompt": f"Q{i}", "completion": "c"} for i in range(3)])
    provider = Answering(lambda r: "the same" if r.messages[0].content == "Q0" else writer(r))
    made = generate(TASK, items=items, provider=provider, recipe="compare", n=3)
    assert ["Q1", "Q2"] == made.records.column("prompt")
    assert [["q1"], ["q2"]] == made.records.lineage("parents")
    assert ["both answers are the same"] == [one.reason for one in made.rejected]


def test_items_that_are_no_pairs_are_refused_by_annotate() -> None:
    """Labels of pairs need pairs; the error says how to get them."""
    items = records.from_rows([{"text": "t"}])
    with pytest.raises(InputError, match="karat generate --recipe compare"):
        annotate(items, task=TASK, provider=Answering(longer))
