"""Label metrics on real data sets: designed gold labels, LLM labels of expert items, severity scales."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import karat
from karat import records
from karat.records import Records


@pytest.fixture(scope="module")
def hatecheck(data_dir: Path) -> Records:
    """Ten annotators, five an item, with a designed gold label."""
    path = data_dir / "hatecheck_annotations" / "hatecheck_annotations.jsonl.gz"
    return records.read(path, fields={"gold": "label_gold", "item_id": "case_id"})


@pytest.fixture(scope="module")
def finphrase(data_dir: Path) -> list[dict[str, Any]]:
    """Rows with an expert label and the labels of several LLMs."""
    with gzip.open(
        data_dir / "finphrase_llm_labels" / "finphrase_llm_labels.jsonl.gz", "rt", "utf-8"
    ) as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def convabuse(data_dir: Path) -> Records:
    """Eight expert annotators on a scale of severity from 1 to -3."""
    return records.read(
        data_dir / "convabuse" / "convabuse.jsonl.gz", fields={"label": "severity", "text": "user"}
    )


def test_annotators_are_ranked_by_their_true_errors(hatecheck: Records) -> None:
    """Error rates and their order are those that come with the data; majorities err on 5 of 3,901."""
    known = {
        "a1": 0.007,
        "a2": 0.05,
        "a3": 0.013,
        "a4": 0.003,
        "a5": 0.009,
        "a6": 0.007,
        "a7": 0.039,
        "a8": 0.002,
        "a9": 0.027,
        "a10": 0.006,
    }
    found = karat.audit(hatecheck, metrics="annotator_error", budget="small").score("annotator_error")
    assert known == {name: round(part.value or 0, 3) for name, part in found.by.items()}
    ranked = sorted(known, key=lambda name: found.details[f"rank.{name}"])
    assert sorted(known.values(), reverse=True) == [known[name] for name in ranked]
    assert 317 / 19505 == found.value
    assert 5 / 3901 == pytest.approx(found.details["majority"])
    for name, part in found.by.items():
        assert part.interval is not None
        assert part.interval[0] < known[name] < part.interval[1] + 0.0005


def test_people_without_a_reference(hatecheck: Records) -> None:
    """Careful annotators on a file sorted by kind of case: agreement is high and no alarm is raised."""
    metrics = "annotator_agreement krippendorff_alpha straight_lining item_information response_repetition"
    found = karat.audit(hatecheck, metrics=metrics, budget="small")
    assert () == found.warnings
    agreed = found.score("annotator_agreement").by
    assert ["a2", "a7", "a9"] == sorted(agreed, key=lambda name: agreed[name].value or 0)[:3]
    assert found.score("krippendorff_alpha").value == pytest.approx(0.929, abs=1e-3)


def test_llm_labels_against_expert_labels(finphrase: list[dict[str, Any]]) -> None:
    """Four LLMs on the items that all labelled: agreement with the expert as counted by hand."""
    both = [row for row in finphrase if row["in_gpt_test"]]
    models = sorted({name for row in both for name in row["llm"]})
    expert = records.from_rows(
        [{"id": row["id"], "text": row["text"], "labels": {"expert": row["label_expert"]}} for row in both]
    )
    llm = records.from_rows(
        [
            {"id": row["id"], "text": row["text"], "labels": {m: plain(row["llm"][m]) for m in row["llm"]}}
            for row in both
        ]
    )
    found = karat.audit(
        llm,
        expert,
        metrics=(
            "annotator_agreement:measure=accuracy",
            "majority_match:per=annotator",
            "item_information:per=annotator",
        ),
        budget="small",
    )
    agreed = found.score("annotator_agreement")
    for name in models:
        pairs = [(plain(row["llm"][name]), row["label_expert"]) for row in both if name in row["llm"]]
        hits = [said == right for said, right in pairs if said in ("positive", "negative", "neutral")]
        assert float(np.mean(hits)) == pytest.approx(agreed.by[name].value)
        assert float(np.mean(hits)) == pytest.approx(found.score("majority_match").by[name].value)
    assert 0.85 < (agreed.value or 0) < 1
    assert (agreed.chance or 1) < 0.6
    assert "one person an item" in agreed.note
    assert (found.score("item_information").value or 0) > 0.7
    assert "degenerate_source" not in [one.code for one in found.warnings]


def test_three_runs_of_one_model(finphrase: list[dict[str, Any]]) -> None:
    """Runs are draws of one annotator: how often all three are the same, and who differs, by hand."""
    runs = [
        {
            "id": row["id"],
            "text": row["text"],
            "annotator": "mixtral",
            "labels": row["llm"]["mixtral"]["runs"],
        }
        for row in finphrase
        if "mixtral" in row["llm"] and row["llm"]["mixtral"].get("runs")
    ]
    model = records.from_rows(runs)
    assert len(model) == sum(len(row["labels"]) for row in runs)
    space = "labels=negative+neutral+positive"
    found = karat.audit(model, metrics=f"response_repetition:{space} invalid_share:{space}", budget="small")
    valid = [[x for x in row["labels"] if x in ("negative", "neutral", "positive")] for row in runs]
    same = [len(set(one)) == 1 for one in valid if len(one) > 1]
    assert float(np.mean(same)) == pytest.approx(found.score("response_repetition").value)
    bad = sum(len(row["labels"]) for row in runs) - sum(map(len, valid))
    assert bad / len(model) == pytest.approx(found.score("invalid_share").value)
    assert (found.score("response_repetition").chance or 1) < 0.6


def plain(given: Any) -> str:
    """The label that an LLM gave without a chain of thought."""
    return str(given["plain"]) if isinstance(given, dict) else str(given)


def test_agreement_on_a_scale(convabuse: Records) -> None:
    """Annotators with their kappa, alpha by level, and how far annotators agree with themselves."""
    peer = pytest.importorskip("krippendorff")
    metrics = "annotator_agreement:weights=quadratic krippendorff_alpha krippendorff_alpha:level=interval "
    metrics += "krippendorff_alpha:unit=annotator straight_lining"
    found = karat.audit(convabuse, metrics=metrics, budget="small")
    table: dict[str, dict[str, int]] = {}
    for row in convabuse:
        counts = table.setdefault(row["item_id"], {})
        counts[row["label"]] = counts.get(row["label"], 0) + 1
    space = ["-3", "-2", "-1", "0", "1"]
    values = np.array([[counts.get(label, 0) for label in space] for counts in table.values()])
    for level in ("nominal", "interval"):
        expected = peer.alpha(
            value_counts=values, value_domain=[float(x) for x in space], level_of_measurement=level
        )
        score = found.score(f"krippendorff_alpha:level={level},unit=item")
        assert expected == pytest.approx(score.value, abs=1e-9)
        assert score.interval is not None
        assert score.interval[0] < expected < score.interval[1]
    itself = found.score("krippendorff_alpha:unit=annotator").value or 0
    assert itself > (found.score("krippendorff_alpha:level=nominal,unit=item").value or 1)
    agreed = found.score("annotator_agreement").by
    assert 8 == len(agreed)
    assert all(0.6 < (part.value or 0) < 0.85 for part in agreed.values())
    assert {"Annotator5", "Annotator7"} == set(sorted(agreed, key=lambda name: agreed[name].value or 0)[:2])
