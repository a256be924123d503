"""Published figures of a study of LLM labels, from its authors' own data, where that is at hand.

The data have no licence that lets them be passed on. KARAT_ORACLES names a folder with one file a data set,
task_labels_SBIC.jsonl.gz, task_labels_GHC.jsonl.gz, task_labels_Sentiment.jsonl.gz and
task_labels_SChem.jsonl.gz: the rows of the inter-model experiment (three splits put together) in the order of
`text_ind`, with the fields model_name, text, human_annots and model_annots.

Figures: Das et al. 2024 (arXiv 2401.14698), figure 9 and the flip matrices, and re-runs on the same data.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

import karat
from karat import records
from karat.auditing.result import Audited

MODELS = ("baize", "koala", "llama2", "vicuna", "open_ai_gpt35turbo")
GPT = "open_ai_gpt35turbo"
ITEMS = {"SBIC": 3127, "GHC": 2755, "Sentiment": 1407, "SChem": 790}
MAJORITY = {
    "SChem": (68.2, 67.5, 15.3, 64.4, 63.3),
    "Sentiment": (28.6, 27.7, 17.1, 9.3, 50.5),
    "SBIC": (31.0, 31.5, 34.9, 31.2, 64.4),
    "GHC": (8.6, 87.2, 34.1, 8.6, 72.1),
}
MINORITY = {
    "SChem": (33.2, 30.5, 31.6, 31.4, 2.91),
    "Sentiment": (24.5, 22.1, 31.3, 22.4, 2.27),
    "SBIC": (10.6, 8.0, 10.8, 7.2, 0.58),
    "GHC": (2.8, 14.2, 6.2, 0.6, 0.18),
}
FLIPS = {
    "GHC": [[0, 2078], [259, 0]],
    "SBIC": [[0, 645, 1443], [213, 0, 575], [288, 175, 0]],
    "SChem": [
        [0, 4, 7, 5, 0],
        [3, 0, 21, 20, 0],
        [1, 94, 0, 326, 6],
        [0, 157, 169, 0, 87],
        [0, 65, 54, 903, 0],
    ],
    "Sentiment": [
        [0, 170, 63, 24, 11],
        [33, 0, 320, 107, 25],
        [20, 695, 0, 333, 183],
        [5, 226, 555, 0, 217],
        [2, 79, 192, 137, 0],
    ],
}
FLIP_RATE = {"SBIC": 35.6, "SChem": 48.7, "Sentiment": 60.4, "GHC": 28.3}
REPEATED = {"SBIC": 95.0, "SChem": 90.9, "Sentiment": 90.6, "GHC": 98.7}
IDEAL_MAJORITY = {"SBIC": 88.2, "SChem": 84.7, "Sentiment": 82.1, "GHC": 94.8}
IDEAL_MINORITY = {"SBIC": 21.7, "SChem": 55.9, "Sentiment": 52.8, "GHC": 16.8}
PERMUTED_MAJORITY = {"SBIC": 40.0, "SChem": 54.3, "Sentiment": 32.9, "GHC": 62.5}
HUMAN_MINORITY = {"SBIC": 33.0, "SChem": 88.7, "Sentiment": 70.9, "GHC": 25.4}
LEAVE_ONE_OUT = {"SBIC": 0.841, "SChem": 0.652, "Sentiment": 0.510, "GHC": 0.915}
METRICS = "majority_match minority_match label_flips label_mismatch response_repetition"

each_set = pytest.mark.parametrize("name", sorted(ITEMS))


def folder() -> Path:
    """Where the files lie; skips where they do not."""
    given = os.environ.get("KARAT_ORACLES")
    if not given:
        pytest.skip("KARAT_ORACLES names no folder with task_labels_SBIC.jsonl.gz and its three fellows")
    missing = [name for name in ITEMS if not (Path(given) / f"task_labels_{name}.jsonl.gz").is_file()]
    if missing:
        pytest.skip(f"{given} lacks task_labels_{missing[0]}.jsonl.gz")
    return Path(given)


@cache
def audited(name: str, model: str = "", mode: str = "paper", metrics: str = METRICS) -> Audited:
    """One data set, all models or one."""
    rows = records.read(
        folder() / f"task_labels_{name}.jsonl.gz", where=[f"model_name={model}"] if model else []
    )
    return karat.audit(rows, metrics=metrics, mode=mode, budget="small")  # type: ignore[arg-type]


@each_set
def test_figure_9(name: str) -> None:
    """M and m of five models, to the digits of the table."""
    folder()
    found = audited(name)
    for metric, table in (("majority_match", MAJORITY), ("minority_match", MINORITY)):
        by = found.score(metric).by
        for model, expected in zip(MODELS, table[name], strict=True):
            assert ITEMS[name] == by[model].n
            close = 0.006 if (metric, model) == ("minority_match", GPT) else 0.055
            assert expected == pytest.approx(100 * (by[model].value or 0), abs=close)


@each_set
def test_flip_matrices(name: str) -> None:
    """Every cell of the published matrix, and the rate."""
    folder()
    found = audited(name, GPT).score("label_flips")
    expected = {
        f"flip.{a}>{b}": float(count)
        for a, row in enumerate(FLIPS[name])
        for b, count in enumerate(row)
        if a != b
    }
    assert expected == {key: value for key, value in found.details.items() if key.startswith("flip.")}
    assert FLIP_RATE[name] == pytest.approx(100 * (found.value or 0), abs=0.05001)


def test_mismatched_items() -> None:
    """8,032 of 8,079 items."""
    folder()
    counts = [audited(name, GPT).score("label_mismatch") for name in ITEMS]
    assert 8032 == sum(one.details["items"] for one in counts)
    assert 8079 == sum(one.n for one in counts)


@each_set
def test_chance_and_ceilings(name: str) -> None:
    """What re-runs put beside M and m: permuted answers, an ideal sampler, people left out."""
    folder()
    majority, minority = (audited(name, GPT).score(one) for one in ("majority_match", "minority_match"))
    assert PERMUTED_MAJORITY[name] == pytest.approx(100 * (majority.chance or 0), abs=0.6)
    assert IDEAL_MAJORITY[name] == pytest.approx(100 * (majority.best or 0), abs=0.7)
    assert IDEAL_MINORITY[name] == pytest.approx(100 * (minority.best or 0), abs=0.9)
    assert HUMAN_MINORITY[name] == pytest.approx(100 * minority.details["human_with_minority"], abs=0.06)
    assert LEAVE_ONE_OUT[name] == pytest.approx(majority.details["leave_one_out"], abs=6e-4)
    repeated = audited(name, GPT).score("response_repetition")
    assert REPEATED[name] == pytest.approx(100 * repeated.details["all_same"], abs=0.06)


@each_set
def test_four_of_five_models_carry_no_information(name: str) -> None:
    """|r| with people is at most .095 for the open models, .40 to .62 for the other; they are named."""
    folder()
    found = audited(name, mode="proper", metrics="item_information annotator_agreement")
    by = found.score("item_information").by
    for model in MODELS:
        r = abs(by[model].value or 0)
        assert (r <= 0.0951) == (model != GPT)
        assert r <= 0.6251
    assert (by[GPT].value or 0) >= 0.395
    named = [one.message.split(":")[0] for one in found.warnings if one.code == "degenerate_source"]
    assert set(MODELS) - {GPT} == set(named)
    assert "coding_inverted" not in [one.code for one in found.warnings]
