"""Judged rates: intervals that cover the truth, words where nobody checked the judge, parsers, samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judge_corpora import Oracle, Scripted, chatter, coin, context, dialogues, written

import karat
from karat.auditing import judged_rates
from karat.auditing.base import Comparison
from karat.auditing.judged_questions import YES_NO, asked
from karat.auditing.judged_rates import Query, Side

QUERY = Query("digression", YES_NO, frozenset({"yes"}), asked("digression", "?", YES_NO))


class World:
    """Records of which some are positive, a judge that errs, and people who look at some of them."""

    def __init__(self, n: int, rate: float, *, sensitivity: float, specificity: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.truth = rng.random(n) < rate
        errs = rng.random(n)
        self.judged = np.where(self.truth, errs < sensitivity, errs > specificity)
        self.ids = [f"{seed}-{i}" for i in range(n)]
        self.rng = rng
        self.side = Side(self.ids, rng.integers(0, 2**63, n).astype(np.uint64), lambda i: "")

    def judge(self, people: np.ndarray | None = None) -> Oracle:  # type: ignore[type-arg]
        """The judge, with people's answers to these records."""
        answers = {name: "yes" if flag else "no" for name, flag in zip(self.ids, self.judged)}
        rows = [] if people is None else [int(i) for i in people]
        return Oracle(answers, {self.ids[i]: "yes" if self.truth[i] else "no" for i in rows})

    def by_class(self, n: int) -> np.ndarray:  # type: ignore[type-arg]
        """Records for people, half of them those that the judge calls positive."""
        return np.concatenate(
            [self.rng.permutation(np.flatnonzero(self.judged == flag))[: n // 2] for flag in (True, False)]
        )


def found_in(world: World, people: np.ndarray | None, sampled: str = "auto") -> Comparison:  # type: ignore[type-arg]
    query = replace(QUERY, sampled=sampled)
    return judged_rates.judged_rate(world.side, None, query, context(world.judge(people), budget="large"))


def covers(found: Comparison, truth: float) -> bool:
    assert found.interval is not None
    return found.interval[0] <= truth <= found.interval[1]


@pytest.mark.parametrize(("rate", "sensitivity", "specificity"), [(0.1, 0.8, 0.85), (0.35, 0.7, 0.9)])
def test_corrected_rates_cover_the_truth(rate: float, sensitivity: float, specificity: float) -> None:
    """Of 100 worlds the corrected interval holds the true rate in 90 or more, the raw one in few."""
    hits = {"random": 0, "chosen": 0, "raw": 0}
    for seed in range(100):
        world = World(800, rate, sensitivity=sensitivity, specificity=specificity, seed=seed)
        truth = float(world.truth.mean())
        random = found_in(world, world.rng.permutation(800)[:120])
        hits["random"] += covers(random, rate)
        true_positive = np.flatnonzero(world.truth)[:60]
        true_negative = np.flatnonzero(~world.truth)[:60]
        chosen = found_in(world, np.concatenate([true_positive, true_negative]), "chosen")
        hits["chosen"] += covers(chosen, rate)
        hits["raw"] += covers(found_in(world, None), rate)
        assert abs(random.value - truth) < 0.2
    assert hits["random"] >= 90 and hits["chosen"] >= 90
    assert hits["raw"] < 50


def test_a_sheet_by_class_is_not_taken_for_random() -> None:
    """Records that people were given by the judge's answers are corrected by Rogan and Gladen's formula."""
    chosen, drawn = 0, 0
    for seed in range(20):
        world = World(600, 0.1, sensitivity=0.9, specificity=0.9, seed=seed)
        chosen += "being chosen" in found_in(world, world.by_class(100)).note
        drawn += "being a random part" in found_in(world, world.rng.permutation(600)[:100]).note
    assert chosen == 20
    assert drawn >= 18


def test_without_people_the_rate_is_called_uncorrected() -> None:
    """The note says it in words, and judge_unvalidated says what to do."""
    found = found_in(World(300, 0.2, sensitivity=0.9, specificity=0.9, seed=0), None)
    assert "uncorrected" in found.note
    assert ["judge_unvalidated"] == [one.code for one in found.warnings]
    assert "--judged FILE" in found.warnings[0].message


def test_a_judge_that_guesses_is_not_validated() -> None:
    """Answers that have nothing to do with people's are flagged by kappa; the interval says: anything."""
    world = World(400, 0.3, sensitivity=0.5, specificity=0.5, seed=3)
    found = found_in(world, world.rng.permutation(400)[:100])
    assert ["judge_unvalidated"] == [one.code for one in found.warnings]
    assert "no better than by chance" in found.warnings[0].message
    assert found.details["kappa_low"] <= 0 <= found.details["kappa_high"]


def test_sensitivity_and_specificity_stand_in_the_details() -> None:
    """With intervals that hold the judge's true figures, and kappa with its own."""
    world = World(2000, 0.4, sensitivity=0.85, specificity=0.7, seed=5)
    details = found_in(world, world.rng.permutation(2000)[:300]).details
    for name, true in (("sensitivity", 0.85), ("specificity", 0.7)):
        assert details[f"{name}_low"] <= true <= details[f"{name}_high"]
    assert details["kappa_low"] < details["kappa"] < details["kappa_high"]
    assert 300 == details["judged_by_people"]


def test_budget_says_how_many_are_asked() -> None:
    """50, 200 or 1000 records a side, the first by hash; those that people judged besides."""
    world = World(1500, 0.2, sensitivity=0.9, specificity=0.9, seed=1)
    for budget, expected in (("small", 50), ("medium", 200), ("large", 1000)):
        found = judged_rates.judged_rate(world.side, None, QUERY, context(world.judge(), budget=budget))
        assert expected == found.n == found.details["asked"]


def test_no_false_alarms() -> None:
    """Two sides of one rate, one judge: p < .05 in at most 10 of 100 (Fisher's test is conservative)."""
    alarms = 0
    for seed in range(100):
        sides = [World(200, 0.2, sensitivity=0.8, specificity=0.9, seed=seed + shift) for shift in (0, 5000)]
        judge = Oracle({**sides[0].judge().answers, **sides[1].judge().answers})
        found = judged_rates.judged_rate(sides[0].side, sides[1].side, QUERY, context(judge))
        alarms += found.p is not None and found.p < 0.05
    assert alarms <= 10


def test_no_false_alarms_where_people_judged_both_sides() -> None:
    """The judge errs otherwise on either side: raw rates differ, corrected ones do not."""
    alarms, raw, covered = 0, 0, 0
    for seed in range(60):
        one = World(400, 0.2, sensitivity=0.9, specificity=0.95, seed=seed)
        other = World(400, 0.2, sensitivity=0.9, specificity=0.7, seed=seed + 5000)
        judges = [side.judge(side.rng.permutation(400)[:100]) for side in (one, other)]
        judge = Oracle({**judges[0].answers, **judges[1].answers}, {**judges[0].truth, **judges[1].truth})
        found = judged_rates.judged_rate(one.side, other.side, QUERY, context(judge))
        alarms += found.p is not None and found.p < 0.05
        raw += abs(found.details["counted"] - found.details["reference.counted"]) > 0.1
        assert found.difference_interval is not None
        covered += found.difference_interval[0] <= 0 <= found.difference_interval[1]
    assert raw > 50
    assert alarms <= 7 and covered >= 53


def test_invalid_answers_and_parsers() -> None:
    """Answers that are none of those allowed are counted; two parsers that disagree are warned of."""

    def answer(text: str) -> str:
        if coin(text, 0.1):
            return "I cannot tell."
        return "yes ... or rather no" if coin(text + "!", 0.2) else "no"

    data = dialogues(chatter(100, seed=2))
    found = karat.audit(data, metrics="human_likeness", judge=Scripted(answer))
    score = found.scores[0]
    assert 0.1 == pytest.approx(score.details["invalid_share"], abs=0.08)
    assert score.n == 100 - round(100 * score.details["invalid_share"])
    assert {"extraction_disagreement", "judge_unvalidated"} <= {one.code for one in found.warnings}
    quiet = karat.audit(data, metrics="human_likeness", judge=Scripted(lambda text: "no"))
    assert "extraction_disagreement" not in {one.code for one in quiet.warnings}


def test_from_the_files(tmp_path: Path) -> None:
    """--judge replay with --judged: the corrected rate, its note and its signature, nothing asked again."""
    n = 60
    data = dialogues(chatter(n, seed=4))
    truth = [i % 3 == 0 for i in range(n)]
    said = [flag != (i % 10 == 9) for i, flag in enumerate(truth)]  # one answer in ten is wrong
    rows = [
        {"id": f"{kind}:d{i}", "text": word if kind == "digression" else f"So it is. Answer: {word}"}
        for kind in ("digression", "digression_revised")
        for i, flag in enumerate(said)
        for word in ("yes" if flag else "no",)
    ]
    answers = written(tmp_path / "answers.jsonl", rows)
    people = written(
        tmp_path / "people.jsonl", [{"id": f"d{i}", "answer": "yes" if truth[i] else "no"} for i in range(40)]
    )
    found = karat.audit(
        data, metrics="digression", judge=f"replay:path={answers}", judged=people, journal=tmp_path / "calls"
    )
    score = found.scores[0]
    assert score.interval is not None and score.value is not None
    assert score.interval[0] <= 1 / 3 <= score.interval[1]
    assert "corrected (prediction-powered" in score.note
    assert 0 == score.details["changed_share"]
    assert "judge:replay@" in score.signature and "sample:60" in score.signature
    assert not {one.code for one in found.warnings} & {"judge_unvalidated", "extraction_disagreement"}
    assert (tmp_path / "calls" / "judge.sqlite").exists()
