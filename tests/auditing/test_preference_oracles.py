"""Published constants of CoBBLEr, P2C and MT-Bench, on the authors' own files, which cannot be passed on.

They run only where the environment variable KARAT_ORACLES names a folder with these files, under the names
that they have in the repositories minnesotanlp/artifacts-of-llmgendata (preference/data) and
minnesotanlp/cobbler (competitive-llms/human):

    cobbler/{gpt4,chatgpt,baize,dolly,human}.json      rankings of 15 models on 50 questions
    cobbler_sentences_df_roberta_entailment.csv        probabilities of entailment, a list a response
    annotators/annot_{1..6}.json                       points of six people (batches/human_annotations)
    cobbler_table2_anova.csv                           bias rates of 15 judges
    p2c_subjective_pref_preferences.csv                choices of people on 5,000 pairs of sentences
    p2c_generative_pref_preferences.csv                choices of GPT-3 on the same pairs
    mtbench-gpt4-human-pref.csv                        882 votes of people and of GPT-4
"""

from __future__ import annotations

import ast
import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import karat
from karat import records
from karat.records import Records

# The order in which the authors combined models into pairs, and that of the list that people were given.
COMBINED = (
    "gpt4 vicuna koala llama falcon instructgpt dolly baize "
    "wizardlm chatgpt alpaca mpt openassist redpajama cohere"
)
LISTED = (
    "vicuna baize koala wizardlm chatgpt instructgpt gpt4 cohere "
    "dolly openassist redpajama mpt alpaca falcon llama"
)


def oracle(name: str) -> Path:
    """A file of the oracles' folder; skips where it is not there."""
    folder = os.environ.get("KARAT_ORACLES")
    if not folder:
        pytest.skip("no oracles: name their folder with the environment variable KARAT_ORACLES")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"no {name} in the folder of oracles")
    return path


def table(name: str) -> list[dict[str, str]]:
    csv.field_size_limit(10_000_000)
    with oracle(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def ranked(judge: str, order: str = COMBINED) -> Records:
    """The rankings of one judge as pairs, with the entailment of each response."""
    rankings = json.loads(oracle(f"cobbler/{judge}.json").read_text("utf-8"))
    entailed = {
        (int(row["example_idx"]), row["model"]): ast.literal_eval(row["roberta_entail"])
        for row in table("cobbler_sentences_df_roberta_entailment.csv")
    }
    rows = []
    for number in range(1, 51):
        example = rankings[f"example_{number}"]
        by_model = {one["model"]: one for one in example["rankings"]}
        rows.append(
            {
                "prompt": example["instruction"],
                "responses": {model: by_model[model]["output"] for model in order.split()},
                "points": {model: by_model[model]["point"] for model in order.split()},
                "entailment": {model: entailed[number, model] for model in order.split()},
                "rater": judge,
            }
        )
    return records.from_rows(rows)


R = {"gpt4": 0.06545353159557292, "chatgpt": 0.05506723520209109, "human": 0.03336983892689573}
DECILES = {
    "gpt4": [0.264, 0.048, 0.001, 0.051, 0.043, 0.131, 0.008, -0.027, 0.070, 0.128],
    "chatgpt": [0.198, 0.010, 0.019, 0.036, 0.028, 0.096, 0.026, 0.078, 0.028, 0.035],
    "human": [0.124, -0.053, 0.050, -0.027, 0.055, 0.030, 0.032, 0.001, 0.101, 0.046],
}


@pytest.mark.parametrize("judge", list(R))
def test_published_entailment_coupling(judge: str) -> None:
    """Pearson's r of entailment and preference to the last digits, and ten bars of the figure."""
    found = karat.audit(
        ranked(judge), metrics="cue_coupling:cue=entailment", mode="paper", budget="small"
    ).scores[0]
    # the published ChatGPT value differs in the 11th digit from the one its own files give
    assert R[judge] == pytest.approx(found.value, abs=1e-11)
    bars = [found.by[f"decile {i}"].value for i in range(1, 11)]
    assert DECILES[judge] == pytest.approx(bars, abs=6e-4)


def test_published_coupling_depends_on_names() -> None:
    """GPT-4's r is at the 99.9th percentile of random model orders, 0.035 [0.019, 0.053]: a warning."""
    found = karat.audit(ranked("gpt4"), metrics="cue_coupling:cue=entailment", mode="paper", budget="small")
    details = found.scores[0].details
    assert details["r.percentile"] > 0.995
    assert (0.019, 0.035, 0.053) == pytest.approx(
        tuple(details[f"r.{x}"] for x in ("low", "median", "high")), abs=2e-3
    )
    assert "orientation_dependent" in {one.code for one in found.warnings}


def test_coupling_without_names() -> None:
    """Agreement with the entailment winner, 50 clusters: GPT-4 51.8 [48.3, 55.3], people 50.6."""
    found = karat.audit(ranked("gpt4"), ranked("human"), metrics="cue_coupling:cue=entailment").scores[0]
    assert found.interval is not None and found.p is not None
    assert 0.518 == pytest.approx(found.details["all_pairs"], abs=2e-3)
    assert (0.483, 0.553) == pytest.approx(found.interval, abs=5e-3)
    assert 0.506 == pytest.approx(found.reference, abs=3e-3)
    assert found.p > 0.05


@pytest.mark.parametrize(("judge", "agreement"), [("gpt4", 0.707), ("chatgpt", 0.827), ("baize", 0.183)])
def test_agreement_with_people_without_ties(judge: str, agreement: float) -> None:
    """Agreement on pairs that both decided, as counted before."""
    found = karat.audit(ranked(judge), ranked("human"), metrics="pair_agreement", budget="small").scores[0]
    assert agreement == pytest.approx(found.details["non_tie"], abs=5e-4)


def test_a_judge_of_ties() -> None:
    """Dolly's failed verdicts were coded as ties, 99.7% of all: a warning names it."""
    found = karat.audit(ranked("dolly"), metrics="tie_share", budget="small")
    assert 0.997 == pytest.approx(found.scores[0].value, abs=5e-4)
    message = next(one.message for one in found.warnings if one.code == "degenerate_source")
    assert "dolly (99.7% of 5,250)" in message


def test_rankings_of_people_follow_the_list() -> None:
    """Earlier in the list wins 82.8% of people's preferences, and a warning names the order."""
    found = karat.audit(ranked("human", LISTED), metrics="default_order")
    assert 0.828 == pytest.approx(found.scores[0].value, abs=5e-4)
    assert "default_order" in {one.code for one in found.warnings}


def test_two_annotators_kept_the_list() -> None:
    """Annotators 1 and 2 kept 55% of neighbours in the order of the list; chance is 1 of 15."""
    rows = []
    for number in range(1, 7):
        points = json.loads(oracle(f"annotators/annot_{number}.json").read_text("utf-8"))
        rows += [
            {
                "prompt": f"example {i}",
                "responses": {model: f"{model} on {i}" for model in LISTED.split()},
                "points": given,
                "rater": f"annotator {number}",
            }
            for i, given in enumerate(points)
        ]
    found = karat.audit(records.from_rows(rows), metrics="default_order", budget="small")
    message = next(one.message for one in found.warnings if one.code == "default_order")
    assert "annotator 1 (55" in message
    assert "annotator 2 (55" in message
    assert 1 / 15 == pytest.approx(found.scores[0].details["succession_chance"], abs=3e-3)


def test_table_of_judge_biases() -> None:
    """CoBBLEr's Table 2 as the authors count it: a corpus with these rates gives them back."""
    rates = {(row["model"], row["bias"]): float(row["score"]) for row in table("cobbler_table2_anova.csv")}
    for judge in ("gpt4", "chatgpt", "baize"):
        first, last = (round(5250 * rates[judge, f"order_{place}"]) for place in ("first", "last"))
        rows = []
        for i in range(5250):
            habit = "first" if i < first else "last" if i < first + last else "none"
            for shown in "ab":
                other = "b" if shown == "a" else "a"
                choice = {"first": shown, "last": other, "none": "a"}[habit]
                pair = {"prompt": f"p{i % 50}", "response_a": f"x{i}", "response_b": f"y{i}"}
                rows.append({**pair, "shown_first": shown, "choice": choice, "rater": judge})
        found = karat.audit(
            records.from_rows(rows), metrics="order_bias", mode="paper", budget="small"
        ).scores[0]
        assert rates[judge, "order_first"] == pytest.approx(found.details["order_first"], abs=1e-9)
        assert rates[judge, "order_last"] == pytest.approx(found.details["order_last"], abs=1e-9)


def sentences(name: str, rater: str, **turn: Any) -> Records:
    """P2C: 0 is the first sentence, 1 the second, 2 no preference, as the analysis reads it."""
    words = {"0": "a", "1": "b", "2": "tie", **turn}
    return records.from_rows(
        {
            "response_a": row["output1"],
            "response_b": row["output2"],
            "choice": words[row["target"]],
            "rater": rater,
        }
        for row in table(f"p2c_{name}_pref_preferences.csv")
    )


def test_people_of_p2c_look_inverted() -> None:
    """31.8% agreement, kappa -.040; without ties 40.5%, exchanged 59.5%: the alarm gives both figures."""
    found = karat.audit(
        sentences("generative", "gpt3"),
        sentences("subjective", "people"),
        metrics="pair_agreement coding_swap",
    )
    agreement, swap = found.score("pair_agreement"), found.score("coding_swap")
    assert 0.318 == pytest.approx(agreement.details["majority"], abs=2e-3)
    assert -0.040 == pytest.approx(agreement.details["kappa_as_coded"], abs=3e-3)
    assert 0.405 == pytest.approx(swap.details["as_coded"], abs=2e-3)
    assert 0.595 == pytest.approx(swap.details["exchanged"], abs=2e-3)
    assert swap.p is not None and swap.p < 1e-20
    message = next(one.message for one in found.warnings if one.code == "coding_inverted")
    assert "40.5%" in message and "59.5%" in message


def test_mt_bench() -> None:
    """GPT-4 agrees with people on 66.8% (kappa .41), 85.8% without ties, and contradicts itself on 15.9%."""
    rows = table("mtbench-gpt4-human-pref.csv")
    sides = {}
    for column in ("human_model", "gpt4_model"):
        sides[column] = records.from_rows(
            {
                "prompt": f"{row['question_id']} turn {row['turn']}",
                "response_a": f"{row['model_a']}: {row['conversation_a']}",
                "response_b": f"{row['model_b']}: {row['conversation_b']}",
                "choice": row[column],
                "rater": column,
            }
            for row in rows
        )
    found = karat.audit(
        sides["gpt4_model"],
        sides["human_model"],
        metrics="pair_agreement position_consistency",
        budget="small",
    )
    agreement = found.score("pair_agreement")
    consistent = found.score("position_consistency")
    assert 0.858 == pytest.approx(agreement.details["non_tie"], abs=0.01)
    assert 0.668 == pytest.approx(agreement.details["majority"], abs=0.02)
    assert 1 - 0.159 == pytest.approx(consistent.value, abs=3e-3)
    assert len(rows) == consistent.n
    assert np.isfinite(agreement.details["kappa"])
