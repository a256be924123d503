"""Digressions: two passes of a judge, kinds, and what follows from them; the published counts as fixture."""

from __future__ import annotations

import numpy as np
import pytest
from judge_corpora import Scripted, Seen, chatter, context, dialogues

import karat
from karat import registry
from karat.auditing.result import Score
from karat.errors import BadSetting
from karat.records import Records

# Published: successes and dialogues with a digression, then without; and the kinds of 26 and 40 digressions.
PUZZLES = {"yes": (14, 26, 38, 56), "no": (21, 40, 59, 78)}
KINDS = ("procedural", "repetitive", "transitional", "irrelevant", "misleading", "closing", "constructive")
TYPES = {"yes": (5, 1, 0, 14, 2, 4, 0), "no": (6, 1, 0, 27, 5, 1, 0)}


def puzzles() -> Records:
    """200 dialogues with the published counts of outcome, digression, kind and human-likeness."""
    rows = []
    for human, (a, n, c, m) in PUZZLES.items():
        kinds = [kind for kind, count in zip(KINDS, TYPES[human]) for _ in range(count)]
        rows += [(human, "yes", i < a, kinds[i]) for i in range(n)]
        rows += [(human, "no", i < c, None) for i in range(m)]
    said = chatter(len(rows), seed=0)
    names = ("human_like", "digression", "outcome", "digression_type")
    return dialogues(said, **{name: [row[i] for row in rows] for i, name in enumerate(names)})


def scored(data: Records, metric: str, reference: Records | None = None, **more: object) -> Score:
    return karat.audit(data, reference, metrics=metric, budget="small", **more).scores[0]  # type: ignore[arg-type]


def test_published_outcomes() -> None:
    """53.03% of 66 against 72.39% of 134, Fisher's p = .011; within human-likeness p = .23 and .009."""
    found = scored(puzzles(), "outcome_given_digression:within=human_like")
    assert 0.5303 == round(found.by["with digression"].value or 0, 4)
    assert 0.7239 == round(found.by["without digression"].value or 0, 4)
    assert (66, 134) == (found.by["with digression"].n, found.by["without digression"].n)
    assert found.value == pytest.approx(35 / 66 - 97 / 134)
    assert 0.011 == round(found.p or 0, 3)
    assert found.effect == pytest.approx(35 * 37 / (31 * 97))
    assert found.interval is not None and found.interval[1] < 0
    assert 0.23 == round(found.details["p.human_like yes"], 2)
    assert found.details["p_within_human_like"] < 0.05
    assert found.details["odds_ratio_low"] < found.effect < found.details["odds_ratio_high"] < 1  # type: ignore[operator]
    assert "35/66" in found.note


def test_published_kinds() -> None:
    """Off the subject are 53.8% of the human-like and 67.5% of the other digressions; p = .31, mix .34."""
    data = puzzles()
    like = np.array([value == "yes" for value in data.column("human_like")])
    found = scored(data.where(like), "digression_type", data.where(~like), mode="paper")
    assert (0.538, 0.675) == (round(found.value or 0, 3), round(found.reference or 0, 3))
    assert 0.31 == round(found.p or 0, 2)
    # chi-square of the five kinds that occur has p = .34; its permutation null has the same to two points
    assert found.details["mix_p"] == pytest.approx(0.34, abs=0.05)
    assert 14 == found.by["irrelevant"].n
    assert [5, 1, 0, 14, 2, 4, 0] == [found.details[f"count.{kind}"] for kind in KINDS]


def test_a_field_makes_a_judge_needless() -> None:
    """66 of 200 as the records say, without a correction and without a warning."""
    audited = karat.audit(puzzles(), metrics="digression human_likeness", budget="small")
    wander, human = audited.scores
    assert wander.value == pytest.approx(66 / 200)
    assert human.value == pytest.approx(82 / 200)
    assert "answers of a field" in wander.note
    assert "judge_unvalidated" not in {one.code for one in audited.warnings}


def test_without_judge_or_field() -> None:
    """The metric says what it needs, in one line."""
    with pytest.raises(BadSetting, match=r"needs a judge \(--judge PROVIDER\) or a field digression"):
        scored(dialogues(chatter(3, seed=0)), "digression")
    with pytest.raises(BadSetting, match="needs a field outcome"):
        scored(dialogues(chatter(3, seed=0), digression=["no"] * 3), "outcome_given_digression")


def test_two_passes() -> None:
    """Each dialogue is asked about twice; what is said after the reasons counts, and changes are told."""

    def answer(text: str) -> str:
        if "You may change your answer" in text:
            return f"It says ... so, yes or no?\nAnswer: {'yes' if 'turn 0 of 1' in text else 'no'}"
        return "yes"

    data = dialogues(chatter(20, seed=1), task=[f"find {i}" for i in range(20)])
    judge = Scripted(answer)
    found = karat.audit(data, metrics="digression", judge=judge, budget="small")
    score = found.scores[0]
    truth = sum("turn 0 of 1" in text for text in data.texts()) / 20
    assert truth == score.value == 11 / 20
    assert score.details["changed_share"] == pytest.approx(9 / 20)
    assert 40 == len(judge.asked)
    assert {"digression", "digression_revised"} == {name.partition(":")[0] for name in judge.asked}
    assert all(
        "turn 0 of 1" in one.text and "the judge says yes: It says" in one.reason for one in found.evidence
    )


def test_what_the_judge_is_shown() -> None:
    """The task and every turn with its role."""
    seen: list[str] = []

    def answer(text: str) -> str:
        seen.append(text)
        return "no"

    data = dialogues([["sing me a song", "la la"]], task=["music"])
    karat.audit(data, metrics="human_likeness:ask=collaborative", judge=Scripted(answer), budget="small")
    assert "Task: music\n\nuser: sing me a song\nassistant: la la" in seen[0]


def test_kinds_by_a_judge() -> None:
    """Only digressing dialogues are asked for their kind, by name or number; nothing is asked again."""

    def answer(text: str) -> str:
        if "Of which kind" in text:
            return "(4)" if "turn 0 of 2" in text else "closing"
        return "yes" if "turn 0 of 1" in text or "turn 0 of 2" in text else "no"

    data = dialogues(chatter(30, seed=2))
    judge = Scripted(answer)
    found = karat.audit(data, metrics="digression digression_type", judge=judge, budget="small")
    kinds = found.scores[1]
    assert 22 == kinds.n  # 1, 2, 10 to 29
    assert kinds.value == pytest.approx(11 / 22)
    assert 11 == kinds.by["closing"].n
    assert 30 + 30 + 22 == len(judge.asked)


def test_strata_of_length() -> None:
    """Digressions that only make dialogues long, and long ones that fail: no connection at equal lengths."""
    rng = np.random.default_rng(5)
    long = rng.random(400) < 0.5
    digression = rng.random(400) < np.where(long, 0.7, 0.2)
    outcome = rng.random(400) < np.where(long, 0.3, 0.8)
    said = [[f"{place} of {i}" for place in range(20 if flag else 4)] for i, flag in enumerate(long)]
    data = dialogues(
        said, digression=["yes" if one else "no" for one in digression], outcome=outcome.tolist()
    )
    found = scored(data, "outcome_given_digression")
    assert found.p is not None and found.p < 0.01
    assert found.details["p_within_equal_lengths"] > 0.05


def test_no_false_alarms() -> None:
    """Outcome and digression without connection: p < .05 in at most 10 of 100."""
    alarms = 0
    metric = registry.make("metrics", "outcome_given_digression")
    for seed in range(100):
        rng = np.random.default_rng(seed)
        columns = {
            "digression": ["yes" if one else "no" for one in rng.random(100) < 0.3],
            "outcome": (rng.random(100) < 0.6).tolist(),
        }
        found = metric.compare(Seen.of(dialogues([["a", "b"]] * 100, **columns)), None, context())
        alarms += found.p < 0.05
    assert alarms <= 10
