"""Dialogue metrics: fixtures worked out by hand, brute force, planted artifacts, and quiet where none is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from judge_corpora import Seen, chatter, context, dialogues, p_of

import karat
from karat import records, registry
from karat.auditing.base import Comparison
from karat.auditing.result import Score
from karat.errors import BadSetting
from karat.records import Records
from karat.texts.closings import closes


def scored(data: Records, metric: str, reference: Records | None = None, **more: object) -> Score:
    return karat.audit(data, reference, metrics=metric, budget="small", **more).scores[0]  # type: ignore[arg-type]


def spoken(*turns: tuple[str, str]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


# -------------------------------------------------------------------------------------- fixtures


def test_holes() -> None:
    """An empty turn, a turn of blanks and a dialogue without turns are holes; a placeholder is told apart."""
    said = [["a b", ""], ["a", "\n "], ["a", "b"], [], ["My name is [name].", "Book it for {city}."]]
    found = scored(dialogues(said), "empty_turn")
    assert found.value == pytest.approx(3 / 5)
    assert 1 == found.details["dialogues_without_turns"]
    assert 2 == found.details["empty_turns"]
    assert found.details["placeholder_turns"] == pytest.approx(2 / 8)
    assert 0.0 == found.best


def test_a_system_prompt_is_no_turn() -> None:
    """A first message by `system` is left out; a partner that is called system is not."""
    prompted = records.from_rows([spoken(("system", ""), ("user", "a"), ("assistant", "b"))])
    assert 0.0 == scored(prompted, "empty_turn").value
    partner = records.from_rows([spoken(("system", "a"), ("user", "b"), ("system", ""), ("user", "d"))])
    assert 1.0 == scored(partner, "empty_turn").value


def test_speaker_order() -> None:
    """Two turns of one speaker in a row; dialogues of one turn cannot err."""
    data = records.from_rows(
        [
            spoken(("a", "1"), ("a", "2"), ("b", "3"), ("b", "4")),
            spoken(("a", "1"), ("b", "2"), ("a", "3")),
            spoken(("a", "1")),
            spoken(("b", "1"), ("a", "2")),
        ]
    )
    found = scored(data, "speaker_order_error")
    assert found.value == pytest.approx(1 / 3)
    assert 2 == found.details["double_turns"]


def test_turn_balance() -> None:
    """Entropy of words by speaker: 1 for even, H(1/4) for three words to one, 0 for a monologue."""
    quarter = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    data = records.from_rows(
        [
            spoken(("a", "one two"), ("b", "one two")),
            spoken(("a", "one two three"), ("b", "one")),
            spoken(("a", "one two three")),
            spoken(("a", "..."), ("b", "")),
        ]
    )
    found = scored(data, "turn_balance")
    assert (1 + quarter + 0) / 3 == pytest.approx(found.value)
    assert found.details["share.a"] == pytest.approx(8 / 11)


def test_repeated_turns() -> None:
    """Exact and near repeats count, short turns and first ones do not."""
    said = [
        ["I would like a red car.", "Thank you.", "i would like a RED car", "Thank you."],
        ["we meet at nine on monday", "we meet at nine on mondays", "something else is said here", "no"],
    ]
    found = scored(dialogues(said), "repeated_turn")
    assert found.value == pytest.approx(2 / 3)  # turns that count: one, then two
    assert found.details["exact_share"] == pytest.approx(1 / 3)
    assert found.details["echo_share"] == pytest.approx(1 / 3)
    assert 1.0 == found.details["dialogue_share"]
    assert scored(dialogues(said), "repeated_turn:threshold=1").value == pytest.approx(1 / 3)


def lcs(one: str, other: str) -> int:
    rows = np.zeros((len(one) + 1, len(other) + 1), int)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            rows[i + 1, j + 1] = rows[i, j] + 1 if a == b else max(rows[i, j + 1], rows[i + 1, j])
    return int(rows[-1, -1])


def test_repeated_turns_by_brute_force() -> None:
    """Every pair of turns compared by 2 LCS / (a + b) gives the same share."""
    rng = np.random.default_rng(3)
    said = []
    for _ in range(12):
        turns = [" ".join(f"w{w}" for w in rng.integers(0, 30, 5)) for _ in range(6)]
        for place in (3, 5):
            turns[place] = turns[place - 2] if rng.random() < 0.5 else turns[place - 2] + "x"
        said.append(turns)
    for threshold in (0.5, 0.9):
        hits = sum(
            any(2 * lcs(turns[i], turns[j]) / (len(turns[i]) + len(turns[j])) >= threshold for j in range(i))
            for turns in said
            for i in range(1, len(turns))
        )
        found = scored(dialogues(said), f"repeated_turn:threshold={threshold}").value
        assert hits / (12 * 5) == pytest.approx(found)


# Labelled by hand: does the turn do nothing but close?
CLOSING = [
    ("Goodbye!", True),
    ("You're welcome. Have a great day!", True),
    ("Thank you so much, bye.", True),
    ("No problem, take care.", True),
    ("It was nice talking to you!", True),
    ("Vielen Dank und auf Wiedersehen", True),
    ("Merci, bonne journée !", True),
    ("Muchas gracias, adiós.", True),
    ("You too.", True),
    ("Thanks. Can you also book a taxi?", False),
    ("I like apples.", False),
    ("My flight leaves at nine.", False),
    ("The thankless task is done", False),
    ("", False),
]


def test_what_closes() -> None:
    """Thanks, wishes and good-byes in several languages, unless the turn asks for more."""
    assert CLOSING == [(text, closes(text)) for text, _ in CLOSING]


def test_closing_loop() -> None:
    """Runs of 0, 2, 3 and 5 closing turns at the end: two of four are loops of three."""
    bye = ["Thank you!", "You're welcome.", "Bye.", "Goodbye!", "Have a nice day."]
    said = [["a", "b"], ["a", "b", *bye[:2]], ["a", "b", *bye[:3]], [*bye[:1], "a", *bye]]
    found = scored(dialogues(said), "closing_loop")
    assert 0.5 == found.value
    assert found.details["closing_turns"] == pytest.approx(10 / 4)
    assert 5 == found.details["longest"]
    assert 0.25 == scored(dialogues(said), "closing_loop:turns=4").value


# ----------------------------------------------------------------------------------- role markers


def camel(
    n: int, *, seed: int, hazard: float = 0.0, at: int | None = None, least: int = 6, most: int = 20
) -> Records:
    """Instructions and solutions in turn; a role flips at each turn by `hazard`, or at turn `at`."""
    rng = np.random.default_rng(seed)
    said = []
    for i in range(n):
        turns = []
        for place in range(int(rng.integers(least, most))):
            flips = rng.random() < hazard or place + 1 == at
            marker = ("Instruction:", "Solution:")[(place + flips) % 2]
            turns.append(f"{marker} do step {place} of {i}")
        said.append(turns)
    return dialogues(said, termination_reason=["token limit" if i % 2 else "done" for i in range(n)])


# role, text, expected: flip, interruption or neither, as the published rule has it
RULE = [
    ("user", "Instruction: sing", ""),
    ("user", "Solution: I sing", "flip"),
    ("user", "Instruction: x Solution: y", "flip"),
    ("user", "Hello there", "interruption"),
    ("user", "<CAMEL_TASK_DONE>", ""),
    ("assistant", "Solution: I sing", ""),
    ("assistant", "Instruction: sing", "flip"),
    ("assistant", "Sure.", "interruption"),
    ("assistant", "<CAMEL_TASK_DONE>", ""),
    ("critic", "Sure.", ""),
]


def published(messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
    """The published rule, written out: places of flips and of interruptions."""
    flips, breaks = [], []
    own = {"user": "Instruction:", "assistant": "Solution:"}
    for place, message in enumerate(messages):
        text, role = message["content"], message["role"]
        if role not in own:
            continue
        other = own["assistant" if role == "user" else "user"]
        if other in text:
            flips.append(place)
        elif own[role] not in text and "<CAMEL_TASK_DONE>" not in text:
            breaks.append(place)
    return flips, breaks


@pytest.mark.parametrize("mode", ["proper", "paper"])
def test_the_published_rule(mode: str) -> None:
    """Each role and marker; both modes are the rule to the letter, by dialogue and by turn."""
    rng = np.random.default_rng(0)
    rows = [
        {"messages": [{"role": r, "content": t} for r, t, _ in rng.permutation(RULE)[:4]]} for _ in range(40)
    ]
    rows.append({"messages": [{"role": role, "content": text} for role, text, _ in RULE]})
    data = records.from_rows(rows)
    told = [published(row["messages"]) for row in rows]
    assert ([1, 2, 6], [3, 7]) == told[-1]
    counted = sum(m["role"] != "critic" for row in rows for m in row["messages"])
    for metric, which in (("role_flip", 0), ("interruption", 1)):
        found = scored(data, metric, mode=mode)
        assert sum(bool(one[which]) for one in told) / len(rows) == pytest.approx(found.value)
        turns = scored(data, f"{metric}:per=turn", mode=mode)
        assert sum(len(one[which]) for one in told) / counted == pytest.approx(turns.value)


def test_markers_are_needed() -> None:
    """Without any marker there is no value, and the note says what to name; an empty marker is refused."""
    data = dialogues(chatter(10, seed=0))
    for metric in ("role_flip", "interruption", "role_flip_hazard"):
        found = scored(data, metric)
        assert found.value is None
        assert "user_marker=" in found.note
        with pytest.raises(BadSetting, match="user_marker is empty"):
            scored(data, f"{metric}:user_marker=")
    own = dialogues([["ASK: a", "TELL: b", "TELL: c"], ["ASK: a", "TELL: b", "ASK: c"]])
    assert 0.5 == scored(own, "role_flip:user_marker=ASK:,assistant_marker=TELL:").value


def kaplan_meier(first: list[int | None], length: list[int], by: int) -> float:
    """1 - product over turns of 1 - events / at risk, in plain Python."""
    survival = 1.0
    for turn in range(by):
        at_risk = sum(n > turn and (f is None or f >= turn) for f, n in zip(first, length))
        survival *= 1 - (sum(f == turn for f in first) / at_risk if at_risk else 0)
    return 1 - survival


def test_hazard_by_hand() -> None:
    """Events over turns at risk, the hazard of each turn, and Kaplan and Meier's share."""
    data = camel(300, seed=4, hazard=0.03)
    first, length = [], []
    for row in data:
        flips, _ = published(row["messages"])
        first.append(flips[0] if flips else None)
        length.append(len(row["messages"]))
    at_risk = sum((f + 1) if f is not None else n for f, n in zip(first, length))
    found = scored(data, "role_flip_hazard")
    assert sum(f is not None for f in first) / at_risk == pytest.approx(found.value)
    assert kaplan_meier(first, length, 10) == pytest.approx(found.details["flipped_by_turn_10"])
    third = found.by["turn 3"]
    exposed = sum(n > 2 and (f is None or f >= 2) for f, n in zip(first, length))
    assert exposed == third.n
    assert sum(f == 2 for f in first) / exposed == pytest.approx(third.value)
    done = found.by["ended by done"]
    assert 150 == done.n
    assert sum(f is not None for f in first[::2]) / 150 == pytest.approx(done.value)


def test_a_flip_planted_at_turn_k_is_found_there() -> None:
    """All flips stand at turn 5: its hazard is 1, those of others 0, and the intervals say so."""
    found = scored(camel(60, seed=1, at=5), "role_flip_hazard")
    for name, part in found.by.items():
        if name.startswith("turn "):
            assert (1.0 if name == "turn 5" else 0.0) == part.value
            assert part.interval is not None and part.interval[0] <= part.value <= part.interval[1]
    assert 5.0 == scored(camel(60, seed=1, at=5), "role_flip").details["median_first_turn"]


def hazard(data: Records, reference: Records | None = None) -> Comparison:
    other = None if reference is None else Seen.of(reference)
    found: Comparison = registry.make("metrics", "role_flip_hazard").compare(Seen.of(data), other, context())
    return found


def test_the_interval_of_the_hazard_covers() -> None:
    """Of 100 corpora with a hazard of 1% a turn the interval holds it in 90 or more."""
    covered = 0
    for seed in range(100):
        found = hazard(camel(60, seed=seed, hazard=0.01))
        assert found.interval is not None
        covered += found.interval[0] <= 0.01 <= found.interval[1]
    assert covered >= 90


def test_length_is_no_role_flip() -> None:
    """Equal hazards at different lengths: shares of dialogues differ much, the hazards do not."""
    alarms, gaps = 0, []
    for seed in range(100):
        long = camel(50, seed=seed, hazard=0.02, least=20, most=30)
        short = camel(50, seed=seed + 900, hazard=0.02, least=6, most=10)
        found = hazard(long, short)
        alarms += found.p is not None and found.p < 0.05
        gaps.append(found.details["dialogue_share"] - hazard(short).details["dialogue_share"])
    assert np.mean(gaps) > 0.15
    assert alarms <= 10


def test_a_planted_difference_in_hazard_is_found() -> None:
    """4% against 1% a turn: the standardised difference holds 3 points, p is small."""
    found = scored(camel(200, seed=1, hazard=0.04), "role_flip_hazard", camel(200, seed=2, hazard=0.01))
    assert found.p is not None and found.p < 1e-4
    assert found.difference_interval is not None
    assert found.difference_interval[0] <= 0.03 <= found.difference_interval[1]


# --------------------------------------------------------------------------------- planted, quiet


def spoilt(kind: str, turns: list[str], rng: np.random.Generator) -> list[str]:
    """One dialogue with one artifact."""
    if kind == "empty_turn":
        return [*turns[:1], " ", *turns[2:]]
    if kind == "repeated_turn":
        return [*turns, turns[0] + " again"]
    return [*turns, "Thank you!", "You're welcome.", "Bye!", "Goodbye!"]


@pytest.mark.parametrize("kind", ["empty_turn", "repeated_turn", "closing_loop"])
def test_planted_artifacts_are_found(kind: str) -> None:
    """In 25% of 200 dialogues: the interval holds the planted share, human data differ, records are named."""
    rng = np.random.default_rng(7)
    said = chatter(200, seed=11)
    bad = [i % 4 == 0 for i in range(200)]
    said = [spoilt(kind, turns, rng) if flag else turns for turns, flag in zip(said, bad)]
    found = karat.audit(dialogues(said), dialogues(chatter(200, seed=12)), metrics=kind, budget="small")
    score = found.scores[0]
    truth = 0.25
    if kind == "repeated_turn":  # a share of turns
        truth = 50 / sum(len(turns) - 1 for turns in said)
    assert score.flagged
    assert score.interval is not None and score.interval[0] <= truth <= score.interval[1]
    assert {f"d{i}" for i in range(200) if bad[i]} >= {one.id for one in found.evidence}
    assert len(found.evidence) > 0


def noisy(n: int, seed: int) -> Records:
    """Dialogues in which all artifacts occur now and then."""
    rng = np.random.default_rng(seed)
    kinds = ["empty_turn", "repeated_turn", "closing_loop"]
    said = [
        spoilt(kinds[int(rng.integers(3))], turns, rng) if rng.random() < 0.3 else turns
        for turns in chatter(n, seed=seed)
    ]
    return dialogues(said)


def test_no_false_alarms() -> None:
    """Two samples of one source: each metric has p < .05 in at most 10 of 100."""
    names = ["empty_turn", "repeated_turn", "closing_loop", "turn_balance"]
    alarms = dict.fromkeys(names, 0)
    for seed in range(100):
        sides = [Seen.of(noisy(60, seed + shift), seed) for shift in (0, 5000)]
        for name in names:
            alarms[name] += p_of(registry.make("metrics", name), *sides) < 0.05
    assert all(count <= 10 for count in alarms.values()), alarms


# --------------------------------------------------------------------------------------- real data


def test_defects_of_persona_chat(data_dir: Path) -> None:
    """23 dialogues with double turns and 3 without turns are found, and no other one is named."""
    path = data_dir / "synthetic_persona_chat_valid" / "spc_valid.jsonl.gz"
    data = records.read(path)
    audited = karat.audit(data, metrics="speaker_order_error empty_turn", budget="small")
    order, holes = audited.scores
    assert 23 == order.details["dialogues"]
    assert 43 == order.details["double_turns"]
    assert order.value == pytest.approx(23 / 997)
    assert holes.value == pytest.approx(3 / 1000)
    assert {"valid-153", "valid-269", "valid-484"} == {
        one.id for one in audited.evidence if one.metric == "empty_turn"
    }


def test_two_chatbots_against_people(data_dir: Path) -> None:
    """Two copies of one chat model close again and again and leave placeholders; people do not."""
    bots = records.read(data_dir / "botbots_open" / "botbots_open.jsonl.gz")
    for name in ("sgd_dialogues", "topical_chat"):
        people = records.read(data_dir / name / f"{name}.jsonl.gz")
        audited = karat.audit(bots, people, metrics="closing_loop empty_turn turn_balance", budget="small")
        loop, holes, balance = audited.scores
        assert 2 * sum(re.search(r"\[[a-z ]+\|", t) is not None for t in bots.texts()) > len(bots)
        assert holes.details["placeholder_turns"] > 0.3
        assert holes.details["reference.placeholder_turns"] < 0.01
        assert loop.flagged and loop.value is not None and loop.reference is not None
        assert loop.value > 1.3 * loop.reference
        assert balance.flagged and balance.value is not None and balance.reference is not None
        assert balance.value < balance.reference
