"""Preference metrics on real judgements: figures that others measured, and biases of known judges."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import karat
from karat import records
from karat.auditing.result import Audited
from karat.records import Records


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def pandalm(data_dir: Path) -> list[dict[str, Any]]:
    """999 pairs, each with three people and two judges, as rows of several raters."""
    return [
        {
            "id": row["id"],
            "prompt": f"{row['instruction']}\n\n{row['input']}",
            "response_a": str(row["response1"]),
            "response_b": str(row["response2"]),
            "human_choices": {f"person {i}": choice for i, choice in enumerate(row["human"])},
            "model_choices": row["llm"],
            # equal texts of different models are different pairs
            **dict(zip(("model_a", "model_b"), row["models"].split("_"))),
        }
        for row in lines(data_dir / "pandalm_judgements" / "pandalm_judgements.jsonl.gz")
    ]


def test_agreement_of_people_and_of_a_judge(pandalm: list[dict[str, Any]]) -> None:
    """People agree pairwise on .92; GPT-3.5 with most people on .69, on .70 where "Tie" is read as a tie."""
    judge = [{**row, "model_choices": {"gpt": row["model_choices"]["gpt-3.5-turbo"]}} for row in pandalm]
    found = karat.audit(records.from_rows(judge), metrics="pair_agreement").score("pair_agreement")
    # of three people the other two make a majority, or half of it each: the same as pairwise agreement
    assert 0.92 == pytest.approx(found.reference, abs=0.005)
    assert found.best == found.reference
    assert 0.6977 == pytest.approx(found.details["majority"], abs=1e-4)
    assert found.flagged
    strict = [
        {**row, "model_choices": {"gpt": row["model_choices"]["gpt"].replace("Tie", "garbage")}}
        for row in judge
    ]
    paper = karat.audit(records.from_rows(strict), metrics="pair_agreement", mode="paper").score(
        "pair_agreement"
    )
    assert 0.6927 == pytest.approx(paper.value, abs=1e-4)
    assert paper.interval is not None
    assert paper.interval[0] < 0.69 < paper.interval[1]


def test_judges_are_coded_like_people(pandalm: list[dict[str, Any]]) -> None:
    """No exchanged codes here; after exchanging the judges' a and b the alarm names both figures."""
    found = karat.audit(records.from_rows(pandalm), metrics="coding_swap")
    assert "coding_inverted" not in {one.code for one in found.warnings}
    value = found.score("coding_swap").value
    assert value is not None and value > 0.75
    turned = {"1": "2", "2": "1"}
    swapped = [
        {
            **row,
            "model_choices": {
                name: turned.get(str(one), str(one)) for name, one in row["model_choices"].items()
            },
        }
        for row in pandalm
    ]
    found = karat.audit(records.from_rows(swapped), metrics="coding_swap")
    messages = [one.message for one in found.warnings if one.code == "coding_inverted"]
    assert any(f"{value:.1%}" in one and f"{1 - value:.1%}" in one for one in messages)


def test_length_and_places_beside_people(pandalm: list[dict[str, Any]]) -> None:
    """Judges choose the longer response about as often as people do; people's figure is the plain count."""
    found = karat.audit(records.from_rows(pandalm), metrics="length_bias order_bias tie_share")
    length = found.score("length_bias")
    assert length.reference is not None and length.difference_interval is not None
    assert length.reference > 0.6
    assert length.details["odds_ratio_given_people"] < length.details["odds_ratio_doubling"]
    ties = found.score("tie_share")
    people = [choice for row in pandalm for choice in row["human_choices"].values()]
    assert people.count(0) / len(people) == pytest.approx(ties.reference)


@pytest.fixture(scope="module")
def alpaca(data_dir: Path) -> Records:
    """14,488 verdicts of three judges; 1 is the reference model, 2 the other, fractions go to the nearer."""
    folder = data_dir / "alpaca_eval_outputs"
    outputs, prompts = {}, {}
    for row in lines(folder / "outputs.jsonl.gz"):
        outputs[row["model"], row["instruction_no"]] = row["output"]
        if row["instruction"]:
            prompts[row["instruction_no"]] = row["instruction"]
    rows = []
    for row in lines(folder / "judge_preferences.jsonl.gz"):
        number, said = row["instruction_no"], row["preference"]
        pair = [outputs.get((row[name], number)) for name in ("reference", "model")]
        if None in pair:
            continue
        choice = "invalid" if said is None else "tie" if said == 1.5 else "a" if said < 1.5 else "b"
        rows.append(
            {
                "prompt": prompts[number],
                "response_a": pair[0],
                "response_b": pair[1],
                "model_a": row["reference"],
                "model_b": row["model"],
                "rater": row["judge"],
                "choice": choice,
            }
        )
    return records.from_rows(rows)


@pytest.fixture(scope="module")
def judged(alpaca: Records) -> Audited:
    return karat.audit(alpaca, metrics="length_bias order_bias tie_share")


def test_length_bias_of_each_judge(alpaca: Records, judged: Audited) -> None:
    """Each of the three judges has its share of longer responses, as counted, well above one half."""
    found = judged.score("length_bias")
    assert {"alpaca_eval_gpt4", "alpaca_eval_cot_gpt4_turbo_fn", "weighted_alpaca_eval_gpt4_turbo"} == set(
        found.by
    )
    for part in found.by.values():
        assert part.interval is not None and part.value is not None
        assert 0.5 < part.interval[0] < part.value < part.interval[1] < 1
        assert part.interval[1] - part.interval[0] < 0.05
    hits = total = 0
    for row in alpaca:
        a, b = (len(row[f"response_{side}"].split()) for side in "ab")
        if row["rater"] == "alpaca_eval_gpt4" and row["choice"] in "ab" and a != b:
            hits += row["choice"] == ("a" if a > b else "b")
            total += 1
    assert hits / total == pytest.approx(
        found.by["alpaca_eval_gpt4"].value, abs=0.01
    )  # words cut another way


def test_places_that_stand_for_models_are_not_tested(judged: Audited) -> None:
    """The reference model is always a: a share far from one half is no order bias, and gets no p."""
    found = judged.score("order_bias")
    assert found.p is None
    assert "one order only" in found.note


def test_people_and_length(data_dir: Path) -> None:
    """Crowd workers on harmless replies, read with the implicit prompt: the share is the plain count."""
    rows = records.read(data_dir / "hh_harmless_test" / "hh_harmless_test.jsonl.gz")
    found = karat.audit(rows, metrics="length_bias:unit=characters").score("length_bias")
    gaps = np.array([len(row["chosen"]) - len(row["rejected"]) for row in rows])
    assert (gaps > 0).sum() / (gaps != 0).sum() == pytest.approx(found.value)
    assert found.interval is not None
    assert found.interval[1] - found.interval[0] < 0.05
    assert found.chance == 0.5
