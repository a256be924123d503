"""What diverse selection, balance, outliers and thresholds promise, against brute force and planted cases."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from karat import records, registry
from karat.curation import coverage
from karat.curation.base import Verdicts
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.records import Records

Rows = NDArray[np.float32]


def unit(n: int, d: int, seed: int) -> Rows:
    """Return unit rows in clumps."""
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((4, d))[draw.integers(0, 4, n)] + 0.6 * draw.standard_normal((n, d))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def judged(spec: str, given: Records, reference: Records | None = None, **more: object) -> Verdicts:
    """Run one filter."""
    found: Verdicts = registry.make("filters", spec).judge(given, reference, **more)
    return found


def naive(table: coverage.Similarities, k: int) -> list[int]:
    """Return the plain greedy choice: every gain anew in each round, ties to the first."""
    covered, chosen = np.zeros(table.n), []
    for _ in range(k):
        gains = [-1.0 if row in chosen else table.gain(row, covered) for row in range(table.n)]
        chosen.append(int(np.argmax(gains)))
        table.cover(chosen[-1], covered)
    return chosen


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dense", [1000, 0])
def test_lazy_greedy_is_greedy(seed: int, dense: int) -> None:
    """The lazy choice equals the naive one, row by row, with ties and copies, on both forms of the table."""
    rows = unit(60, 5, seed)
    rows[7] = rows[3]
    rows[11] = 0
    table = coverage.similarities(rows, dense=dense, nearest=20)
    assert naive(table, 25) == coverage.facility_location(table, 25).tolist()
    assert sorted(coverage.facility_location(table, 99).tolist()) == list(range(60))


def test_the_nearest_ones_are_enough_where_all_are_held() -> None:
    """With as many nearest rows as there are, the sparse table gives the dense choice."""
    rows = unit(80, 6, 9)
    dense = coverage.facility_location(coverage.similarities(rows), 20)
    sparse = coverage.facility_location(coverage.similarities(rows, dense=0, nearest=80), 20)
    assert dense.tolist() == sparse.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_facility_location_and_k_center_keep_their_bounds(seed: int) -> None:
    """For n=10, k=3: at least 1 - 1/e of the best coverage, at most twice the best radius, by trying all."""
    rows = unit(10, 3, seed)
    every = [coverage.reach(rows, np.array(some)) for some in combinations(range(10), 3)]
    table = coverage.similarities(rows)
    chosen = coverage.reach(rows, coverage.facility_location(table, 3))
    assert chosen.coverage >= (1 - 1 / np.e) * max(one.coverage for one in every) - 1e-9
    centres = coverage.reach(rows, coverage.k_center(rows, 3))
    assert centres.covering <= 2 * min(one.covering for one in every) + 1e-9


def test_reach_is_what_it_says() -> None:
    """Covering, packing and coverage against loops over pairs."""
    rows, chosen = unit(40, 4, 1), np.array([3, 17, 25, 30])
    distance = np.linalg.norm(rows[:, None].astype(float) - rows[None].astype(float), axis=2)
    found = coverage.reach(rows, chosen)
    assert distance[:, chosen].min(axis=1).max() == pytest.approx(found.covering, abs=1e-6)
    assert min(distance[i, j] for i, j in combinations(chosen, 2)) == pytest.approx(found.packing, abs=1e-6)
    best = np.maximum(rows.astype(float) @ rows[chosen].T.astype(float), 0).max(axis=1)
    assert best.mean() == pytest.approx(found.coverage, abs=1e-6)


def topics(sizes: list[int], seed: int = 0) -> Records:
    """Return texts of topics that share no word."""
    draw = np.random.default_rng(seed)
    rows = []
    for topic, size in enumerate(sizes):
        words = [f"t{topic}w{k}" for k in range(30)]
        rows += [
            {"text": " ".join(draw.choice(words, 12)), "label": f"c{topic}", "q": float(draw.random())}
            for _ in range(size)
        ]
    return records.from_rows(rows)


@pytest.mark.parametrize("method", ["facility", "center"])
def test_a_diverse_choice_takes_all_topics_where_a_random_one_misses_some(method: str) -> None:
    """Of eight topics eight records are one of each, or nearly; the note stands beside random choice."""
    given = topics([60, 20, 20, 20, 20, 20, 20, 20])
    found = judged(f"diverse:k=8,method={method},encoder=lsa:dims=32", given)
    labels = given.labels()
    assert labels is not None
    taken = {labels[row] for row in np.flatnonzero(found.kept)}
    assert found.kept.sum() == 8
    assert len(taken) >= 7
    assert "covering radius" in found.note
    assert "random" in found.note
    with pytest.raises(NotEnoughData, match="k=999"):
        judged("diverse:k=999", given)


def test_class_balance_gives_the_target_and_says_what_lacks() -> None:
    """Uniform, the human shares or given ones, exactly; the highest stay where a field is named."""
    given = topics([100, 40, 20])
    labels = np.array(given.labels())
    found = judged("class_balance:by=q", given)
    assert Counter({"c0": 20, "c1": 20, "c2": 20}) == Counter(labels[found.kept].tolist())
    q = np.array(given.column("q"))
    first = np.flatnonzero(labels == "c0")
    assert sorted(q[first])[-20:] == sorted(q[first[found.kept[first]]])
    assert "c2 33" in found.note  # 160 / 3 = 53 are its share, 20 are there
    human = topics([10, 30, 0])
    shares = judged("class_balance:target=reference", given, human)
    assert Counter({"c0": 13, "c1": 40}) == Counter(labels[shares.kept].tolist())
    assert "no share in the target" in shares.reasons[159]
    fixed = judged("class_balance:target=given,classes=c0+c1+zz,shares=0.6+0.3+0.1", given)
    assert Counter({"c0": 80, "c1": 40}) == Counter(labels[fixed.kept].tolist())
    assert "1 classes of the target have no record" in fixed.note
    assert (
        judged("class_balance", given, seed=1).kept.tolist() != judged("class_balance", given).kept.tolist()
    )


def test_ten_thousand_classes_are_balanced_at_once() -> None:
    """Many classes of one or two records: one of each stays, and the note stays short."""
    given = records.from_rows([{"text": f"t {k}", "label": f"c{k % 10_000}"} for k in range(15_000)])
    found = judged("class_balance", given)
    assert 10_000 == found.kept.sum()
    assert len(found.note) < 400


def test_outliers_are_what_lies_farther_out_than_human_texts_do() -> None:
    """Texts of other words go; of new texts of the human kind about the stated share goes."""
    human, same, other = topics([150, 150]), topics([100, 100], seed=5), topics([0, 0, 0, 20], seed=6)
    given = same.concat(other)
    for spec, most in (("outliers:share=0.95", 0.13), ("outliers:share=0.95,method=mahalanobis", 0.2)):
        found = judged(spec, given, human)
        assert (~found.kept[200:]).mean() > 0.9, spec
        assert (~found.kept[:200]).mean() < most, spec
        reason = found.reasons[max(found.reasons)]
        assert "over" in reason
        assert "0.95 quantile" in reason


def test_an_outlier_of_its_class_is_no_outlier_of_the_corpus() -> None:
    """A text of one topic under the label of another goes with to=class and stays with to=reference."""
    human, same = topics([60, 60]), topics([30, 30], seed=5)
    wrong = ["c1" if k < 3 else label for k, label in enumerate(same.labels() or [])]
    given = same.with_column("label", wrong)
    assert judged("outliers", given, human).kept[:3].all()
    assert not judged("outliers:to=class", given, human).kept[:3].any()


def test_thresholds_hold_for_fields_orderings_and_quantiles() -> None:
    """Bounds are inclusive, quantiles are of the numbers there are, and nan goes as the setting says."""
    q = [0.1, 0.2, None, 0.4, float("nan"), 0.5, 0.9, float("inf")]
    given = records.from_rows([{"text": f"t{k}", "q": value} for k, value in enumerate(q)])
    found = judged("metric_threshold:by=q,min=0.2,max=0.5", given)
    assert [1, 3, 5] == np.flatnonzero(found.kept).tolist()
    assert "q 0.1, under min=0.2" == found.reasons[0]
    assert "no number" in found.reasons[2]
    assert [1, 2, 3, 4, 5] == np.flatnonzero(
        judged("metric_threshold:by=q,min=0.2,max=0.5,missing=keep", given).kept
    ).tolist()
    with pytest.raises(BadSetting, match="2 records have no number"):
        judged("metric_threshold:by=q,min=0,missing=refuse", given)
    low = judged("metric_threshold:by=random,low=0.25", given, seed=3)
    assert 6 == low.kept.sum()
    with pytest.raises(InputError, match="no field 'nothing'"):
        judged("metric_threshold:by=nothing,min=0", given)
    with pytest.raises(BadSetting, match="no bound"):
        judged("metric_threshold:by=q", given)
    with pytest.raises(NotEnoughData, match="none of 8"):
        judged("metric_threshold:by=z,min=0", given.with_column("z", [float("nan")] * 8))


def test_bad_input_is_named() -> None:
    """No reference, no labels, too few human records: one line that says what to do."""
    given = topics([10, 10])
    bare = records.from_rows([{"text": "a b"}] * 30)
    for spec, reference, match in (
        ("outliers", None, "give --reference"),
        ("outliers", topics([5]), "needs 20 human records"),
        ("outliers:to=class", bare, "has none"),
        ("class_balance:target=reference", None, "give --reference"),
    ):
        with pytest.raises((BadSetting, NotEnoughData), match=match):
            judged(spec, given, reference)
    with pytest.raises(BadSetting, match="needs labels"):
        judged("class_balance", bare)
    for spec in (
        "diverse:share=0",
        "class_balance:slack=0.5",
        "class_balance:target=given",
        "outliers:share=1",
    ):
        with pytest.raises(BadSetting, match=r"share is|slack is|target=given"):
            registry.make("filters", spec)


def test_empty_texts_do_no_harm() -> None:
    """Texts without a word are neither covered nor outliers, and no number is nan."""
    given = records.from_rows([{"text": text, "label": "a"} for text in ["", " ", "a b c", "d e f", "a b d"]])
    found = judged("diverse:k=2", given)
    assert 2 == found.kept.sum()
    assert "nan" not in found.note
    human = topics([30])
    assert judged("outliers", given, human).kept[:2].all()
