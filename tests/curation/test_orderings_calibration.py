"""What an order's rank correlation promises: scipy's rho, gold where it is known, else planted errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

import karat
from karat import records
from karat.curation.base import Ordered
from karat.curation.calibration import DAMAGED, calibrated, plant, spearman
from karat.errors import BadSetting, NotEnoughData
from karat.records import Records

GOOD = "fine great lovely superb warm kind bright clever".split()
BAD = "dull awful poor stale cold mean grey clumsy".split()


def reviews(n: int, *, seed: int, noise: float = 0.0, gold: bool = False, name: str = "r") -> Records:
    """Labelled texts whose words tell the label; a share `noise` of labels is turned round."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for i in range(n):
        truth = int(rng.integers(2))
        words = rng.choice((GOOD if truth else BAD) + ["film", "plot", "actor", "scene"], 8)
        wrong = rng.random() < noise
        row = {"id": f"{name}{i}", "text": " ".join(words), "label": ("bad", "good")[truth ^ int(wrong)]}
        rows.append(row | ({"gold": ("bad", "good")[truth]} if gold else {}))
    return records.from_rows(rows)


@dataclass(frozen=True)
class Fixed:
    """Scores by a field, as an ordering of one's own."""

    field: str = "mine"

    def order(self, records: Records, reference: Records | None = None, *, seed: int = 0) -> Ordered:
        """Score by the field."""
        values = [np.nan if v is None else float(v) for v in records.column(self.field)]
        return Ordered(np.array(values), "by the field")


def test_rho_and_p_are_those_of_scipy_and_the_interval_covers() -> None:
    """With ties on both sides; the bootstrap interval holds the true value in about 95 of 100 samples."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 6, 300).astype(float)
    b = a + rng.integers(0, 9, 300)
    found = spearman(a, b)
    peer = spearmanr(a, b)
    assert pytest.approx(peer.statistic, abs=1e-12) == found.rho
    assert pytest.approx(peer.pvalue, rel=1e-6) == found.p
    covers = 0
    for s in range(30):
        x, y = np.random.default_rng(s).standard_normal((2, 80))
        one = spearman(x, y, trials=200)
        covers += one.low <= 0 <= one.high
    assert 25 <= covers <= 30


def test_the_oracle_agrees_with_itself_and_says_that_production_has_none() -> None:
    """rho is 1 for the oracle, its interval is closed, and the note says where it is not available."""
    rows = [{"id": str(i), "text": f"t {i}", "score": float(i % 37)} for i in range(60)]
    found = karat.curate(
        records.from_rows(rows, datatype="text"), order="oracle:field=score", calibrate="oracle:field=score"
    )
    assert found.order is not None and found.order.informative
    assert pytest.approx(1.0) == found.order.figures["oracle_rho"]
    assert "not available in production" in found.order.note
    assert found.to_json()["order"]["figures"]["oracle_n"] == 60


def test_a_random_order_covers_zero_and_says_that_it_carries_nothing() -> None:
    """The control: gold labels are known, and the random order has nothing to do with them."""
    candidate = reviews(300, seed=1, noise=0.3, gold=True)
    found = karat.curate(candidate, order="random")
    assert found.order is not None and not found.order.informative
    figures = found.order.figures
    assert figures["oracle_low"] < 0 < figures["oracle_high"] and 1.0 == figures["oracle_kind"]
    assert "carries no information" in found.order.note


def test_gold_labels_are_used_where_they_are() -> None:
    """A verifier finds planted label noise: rho is clearly positive and near what a perfect order gets."""
    candidate, human = reviews(300, seed=1, noise=0.3, gold=True), reviews(200, seed=2, name="h")
    found = karat.curate(candidate, human, order="agreement")
    assert found.order is not None and found.order.informative
    figures = found.order.figures
    assert 1.0 == figures["oracle_kind"] and 300 == figures["oracle_n"]
    assert figures["oracle_low"] > 0.6
    assert figures["oracle_rho"] <= figures["oracle_best"] < 0.9
    assert () == found.warnings


def test_without_gold_errors_are_planted_in_human_records() -> None:
    """Only the errors that an ordering can see are planted; the figures tell each kind's area."""
    candidate, human = reviews(100, seed=1), reviews(300, seed=2, name="h")
    found = karat.curate(candidate, human, order="agreement")
    assert found.order is not None and found.order.informative
    figures = found.order.figures
    assert 2.0 == figures["oracle_kind"] and 150 == figures["oracle_n"]
    assert figures["planted_labels_auc"] > 0.95 and "planted_words_auc" not in figures
    blind = karat.curate(candidate, human, order="random", calibrate="planted")
    assert (
        blind.order is not None and blind.order.figures["oracle_low"] < 0 < blind.order.figures["oracle_high"]
    )


def test_planting_damages_the_share_it_says_and_leaves_the_rest() -> None:
    """Labels become other labels, words change their order only, and nothing else is touched."""
    human = reviews(200, seed=3)
    damaged, kinds = plant(human, seed=5)
    assert int(DAMAGED * 200) == int((kinds != "").sum())
    assert human.ids == damaged.ids
    for before, after, kind in zip(human, damaged, kinds.tolist()):
        assert (kind == "labels") == (before["label"] != after["label"])
        assert sorted(before["text"].split()) == sorted(after["text"].split())
        assert kind == "words" or before["text"] == after["text"]
    pairs = records.from_rows([{"source": f"s {i}", "target": f"a b c d{i}"} for i in range(40)])
    swapped, kinds = plant(pairs, sees=("answers",))
    assert {"", "answers"} == set(kinds.tolist())
    moved = [one["target"] != other["target"] for one, other in zip(pairs, swapped)]
    assert (kinds == "answers").tolist() == moved
    assert sorted(pairs.column("target")) == sorted(swapped.column("target"))


def test_an_order_without_gold_and_without_humans_says_why_it_is_not_calibrated() -> None:
    """The reason names the field that would mend it; by name the same is an error."""
    rows = [{"text": f"t {i}", "mine": i} for i in range(30)]
    candidate = records.from_rows(rows, datatype="text")
    found = karat.curate(candidate, order="confidence:field=mine")
    assert found.order is not None and "not calibrated: there is no gold" in found.order.note
    assert "oracle_rho" not in found.order.figures
    with pytest.raises(BadSetting, match="--reference HUMAN"):
        karat.curate(candidate, order="confidence:field=mine", calibrate="planted")
    none = karat.curate(candidate, order="confidence:field=mine", calibrate="none")
    assert none.order is not None and "calibrated" not in none.order.note


def test_an_order_that_is_upside_down_says_so() -> None:
    """A negative correlation whose interval does not cover 0 is no information of the wanted kind."""
    rows = [{"text": f"t {i}", "mine": -i, "truth": i} for i in range(50)]
    found = karat.curate(
        records.from_rows(rows, datatype="text"),
        order="confidence:field=mine",
        calibrate="oracle:field=truth",
    )
    assert found.order is not None and not found.order.informative
    assert "upside down" in found.order.note
    assert ["no_information_ordering"] == [one["code"] for one in found.warnings]


def test_records_without_a_score_come_last_and_are_counted() -> None:
    """NaN is not a number: such records stand at the end without a score; none at all is an error."""
    rows = [{"id": str(i), "text": f"t {i}", "mine": None if i % 3 == 0 else i} for i in range(30)]
    candidate = records.from_rows(rows, datatype="text")
    found = karat.curate(candidate, order="confidence:field=mine", top=25)
    assert found.order is not None and "10 records have no score and come last" in found.order.note
    assert [None] * 5 == found.kept.column("order_score")[20:]
    assert "29" == found.kept.ids[0]
    assert [None] * 5 == found.dropped.column("order_score")
    nothing = candidate.with_column("mine", [float("nan")] * 30)
    with pytest.raises((BadSetting, NotEnoughData), match="confidence"):
        karat.curate(nothing, order="confidence:field=mine")


def test_few_or_equal_scores_give_a_reason_and_no_figure() -> None:
    """Nineteen records, or one score for all, cannot be ranked."""
    few = spearman(np.arange(19.0), np.arange(19.0))
    assert not few.known and "19 records" in few.told("x")
    same = spearman(np.ones(30), np.arange(30.0))
    assert not same.known and "equal" in same.told("x")


def test_a_part_of_ones_own_is_calibrated_like_any_other() -> None:
    """Parts are known by what they can do, not by their names."""
    rows = [{"text": f"t {i}", "mine": i, "truth": i % 25} for i in range(50)]
    candidate = records.from_rows(rows, datatype="text")
    found = calibrated(
        Fixed(), candidate, Fixed().order(candidate), None, how="oracle:field=truth,lower=true"
    )
    assert found.known and found.rho < 0
