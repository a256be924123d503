"""What label orderings promise: planted noise comes last; Shapley values are those of all subsets."""

from __future__ import annotations

from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import pytest

import karat
from karat import records, registry
from karat.auditing import statistics
from karat.curation.confident import doubts
from karat.curation.influence import descent_influence, fit_logistic, knn_shapley, logistic_influence
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.records import Records

Floats = np.ndarray


def utility(
    chosen: tuple[int, ...], features: Floats, labels: Floats, point: Floats, truth: int, k: int
) -> float:
    """The share of k nearest neighbours among the chosen with the right label (missing ones are wrong)."""
    rows = np.array(chosen, dtype=int)
    order = (
        rows[np.argsort(((features[rows] - point) ** 2).sum(axis=1), kind="stable")] if len(rows) else rows
    )
    return float((labels[order[:k]] == truth).sum()) / k


@pytest.mark.parametrize("k", [1, 2, 3, 8, 11])
def test_knn_shapley_is_the_shapley_value_over_all_subsets(k: int) -> None:
    """Eight records, three validation records: the recursion equals the sum over all 2^8 subsets."""
    rng = np.random.default_rng(k)
    features, points = rng.standard_normal((8, 3)), rng.standard_normal((3, 3))
    labels, truth = rng.integers(0, 2, 8), rng.integers(0, 2, 3)
    wanted = np.zeros(8)
    for v in range(3):
        for i in range(8):
            others = [j for j in range(8) if j != i]
            for size in range(8):
                for chosen in combinations(others, size):
                    gain = utility((*chosen, i), features, labels, points[v], int(truth[v]), k)
                    gain -= utility(chosen, features, labels, points[v], int(truth[v]), k)
                    wanted[i] += gain / (8 * comb(7, size))
    found = knn_shapley(features, labels, points, truth, k=k)
    assert pytest.approx((wanted / 3).tolist(), abs=1e-12) == found.tolist()


def test_shapley_values_add_up_to_the_accuracy_of_all() -> None:
    """Efficiency: their sum is the utility of the whole set, also beyond one block of distances."""
    rng = np.random.default_rng(0)
    features, points = rng.standard_normal((500, 4)), rng.standard_normal((60, 4))
    labels, truth = rng.integers(0, 3, 500), rng.integers(0, 3, 60)
    whole = np.mean(
        [utility(tuple(range(500)), features, labels, points[v], int(truth[v]), 5) for v in range(60)]
    )
    assert pytest.approx(whole, abs=1e-10) == knn_shapley(features, labels, points, truth, k=5).sum()


def test_influences_predict_what_leaving_a_record_out_does() -> None:
    """Refitting without each of 60 records changes the validation loss as the influences say, nearly."""
    rng = np.random.default_rng(1)
    features, points = rng.standard_normal((60, 2)), rng.standard_normal((80, 2))
    labels, truth = (features[:, 0] > 0).astype(int), (points[:, 0] > 0).astype(int)
    labels[:8] = 1 - labels[:8]
    penalty = 0.05

    def loss(rows: Floats) -> float:
        # The penalty stays what it is in total, as influence functions have it.
        design = np.c_[features[rows], np.ones(len(rows))]
        weights = fit_logistic(design, labels[rows], classes=2, penalty=penalty * 60 / len(rows))
        scores = np.c_[points, np.ones(80)] @ weights
        return float((np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(80), truth]).mean())

    whole = loss(np.arange(60))
    wanted = np.array([loss(np.delete(np.arange(60), i)) - whole for i in range(60)])
    found = logistic_influence(features, labels, points, truth, classes=2, penalty=penalty)
    assert np.corrcoef(wanted, found)[0, 1] > 0.99
    assert pytest.approx(1.0, abs=0.25) == float(np.polyfit(found, wanted, 1)[0])
    assert found[:8].mean() < 0 < found[8:].mean()


def test_what_training_gained_is_shared_out_among_records() -> None:
    """The shares of a slow descent add up to the fall of the validation loss; turned labels get less."""
    rng = np.random.default_rng(2)
    features, points = rng.standard_normal((50, 3)), rng.standard_normal((70, 3))
    labels, truth = (features[:, 0] > 0).astype(int), (points[:, 0] > 0).astype(int)
    labels[:10] = 1 - labels[:10]
    # so slow that the loss still falls at the end
    shares = descent_influence(features, labels, points, truth, classes=2, steps=2000, rate=0.005)
    design, weights = np.c_[features, np.ones(50)], np.zeros((4, 2))
    for _ in range(2000):
        odds = np.exp(design @ weights)
        weights -= 0.005 * design.T @ (odds / odds.sum(axis=1, keepdims=True) - np.eye(2)[labels]) / 50
    scores = np.c_[points, np.ones(70)] @ weights
    after = float((np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(70), truth]).mean())
    assert pytest.approx(np.log(2) - after, rel=0.01) == shares.sum()
    assert shares[:10].mean() < 0 < shares[10:].mean()


def test_confident_learning_by_hand() -> None:
    """Four records of two classes: thresholds are mean self-confidences, issues lie off the diagonal."""
    chances = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.9, 0.1]])
    given = np.array([0, 0, 1, 1])
    found = doubts(chances, given, score="self_confidence", adjust=False)
    assert pytest.approx([0.8, 0.45]) == found.thresholds.tolist()
    assert pytest.approx([0.9, 0.7, 0.8, 0.1]) == found.scores.tolist()
    assert [False, False, False, True] == found.issues.tolist()
    # class 0 counts record 0 (record 1 is below its threshold); class 1 counts record 2 and takes 3 for 0
    assert pytest.approx(0.25) == found.noise
    margin = doubts(chances, given, score="margin", adjust=False)
    assert pytest.approx([0.9, 0.7, 0.8, 0.1]) == margin.scores.tolist()  # two classes: the same
    unknown = doubts(chances, np.array([0, 0, 1, -1]))
    assert 0.0 == unknown.scores[3] and unknown.issues[3]


def test_thresholds_keep_a_class_that_is_never_sure_from_blame() -> None:
    """A class whose records all get 0.4 is not doubted once its own threshold is taken off."""
    rng = np.random.default_rng(0)
    sure = np.c_[np.full(50, 0.9), np.full(50, 0.1)]
    shy = np.c_[np.full(50, 0.6), np.full(50, 0.4)]
    chances = np.r_[sure, shy] + rng.uniform(-0.01, 0.01, (100, 1)) * [1, -1]
    given = np.r_[np.zeros(50, int), np.ones(50, int)]
    plain, adjusted = (doubts(chances, given, adjust=flag).scores for flag in (False, True))
    assert plain[50:].max() < plain[:50].min()
    assert pytest.approx(adjusted[:50].mean(), abs=0.05) == adjusted[50:].mean()


@pytest.fixture(scope="module")
def noisy(data_dir: Path) -> tuple[Records, Records, np.ndarray]:
    """600 generated reviews with a fifth of the labels turned round, and 600 human ones."""
    made = records.read(data_dir / "supergen_open" / "sst2.jsonl.gz", where=["origin=llm"]).sample(
        600, seed=1
    )
    human = records.read(data_dir / "nltk_sentence_polarity" / "sentence_polarity.jsonl.gz").sample(
        600, seed=1
    )
    wrong = np.random.default_rng(0).random(600) < 0.2
    other = {"negative": "positive", "positive": "negative"}
    labels = made.labels()
    assert labels is not None
    turned = [other[one] if flag else one for one, flag in zip(labels, wrong)]
    return made.with_column("gold", labels).with_column("label", turned), human, wrong


@pytest.mark.parametrize(
    ("spec", "least"),
    [
        ("agreement", 0.8),
        ("agreement:mode=cross", 0.8),
        ("agreement:trainer=linear:words=1;characters=0,score=self_confidence,adjust=false", 0.75),
        ("influence", 0.6),
        ("quality_estimation", 0.6),
    ],
)
def test_planted_label_noise_comes_last(
    noisy: tuple[Records, Records, np.ndarray], spec: str, least: float
) -> None:
    """P(a right label is scored above a wrong one), the lower end of its interval, on generated reviews."""
    candidate, human, wrong = noisy
    part = registry.make("orderings", spec)
    scores = part.order(candidate, human).scores
    found = statistics.auc(scores[~wrong], scores[wrong])
    assert found.interval is not None and found.interval[0] > least - 0.1
    assert found.auc > least


@pytest.mark.parametrize("method", ["shapley", "gradient"])
def test_records_with_wrong_labels_are_worth_less(method: str) -> None:
    """Four topics of made-up words, a quarter of the labels exchanged: right ones are valued above wrong."""
    rng = np.random.default_rng(5)
    words = [[f"w{topic}x{i}" for i in range(30)] for topic in range(4)]
    common = [f"c{i}" for i in range(30)]

    def texts(n: int, start: str) -> tuple[list[dict[str, str]], np.ndarray]:
        topics = rng.integers(0, 4, n)
        drawn = [[*rng.choice(words[t], 4), *rng.choice(common, 8)] for t in topics.tolist()]
        rows = [{"id": f"{start}{i}", "text": " ".join(rng.permutation(d))} for i, d in enumerate(drawn)]
        return rows, topics

    (mine, topics), (theirs, known) = texts(400, "m"), texts(300, "h")
    wrong = rng.random(400) < 0.25
    told = np.where(wrong, (topics + rng.integers(1, 4, 400)) % 4, topics)
    candidate = records.from_rows([row | {"label": f"t{y}"} for row, y in zip(mine, told.tolist())])
    human = records.from_rows([row | {"label": f"t{y}"} for row, y in zip(theirs, known.tolist())])
    scores = registry.make("orderings", f"influence:method={method}").order(candidate, human).scores
    assert statistics.auc(scores[~wrong], scores[wrong]).auc > 0.85


def test_a_verifier_learns_from_no_copy_of_a_candidate(noisy: tuple[Records, Records, np.ndarray]) -> None:
    """Human records that are candidates too are left out; if nothing is left, that is said."""
    _, human, _ = noisy
    with pytest.raises(NotEnoughData, match="mode=cross"):
        registry.make("orderings", "agreement").order(human, human)
    one, other = human.take(range(0, 600, 2)), human.take(range(1, 600, 2))
    half = registry.make("orderings", "agreement").order(one, human)
    alone = registry.make("orderings", "agreement").order(one, other)
    assert alone.scores.tolist() == half.scores.tolist()


def test_labels_that_cannot_be_judged_are_errors_or_come_last() -> None:
    """No label, one label, a label the verifier never saw, text records: a clear error or the last place."""
    make = registry.make
    rows = [{"id": str(i), "text": f"word{i % 7} w{i}", "label": "ab"[i % 2]} for i in range(40)]
    human = records.from_rows([{**row, "text": row["text"] + " h"} for row in rows])
    strange = records.from_rows([{**rows[0], "label": "zz"}, *rows[1:]])
    found = make("orderings", "agreement").order(strange, human)
    assert 0.0 == found.scores[0] and 1.0 == found.figures["unknown"]
    with pytest.raises(NotEnoughData, match="nothing to tell apart"):
        make("orderings", "agreement").order(records.from_rows([{**row, "label": "a"} for row in rows]))
    with pytest.raises(BadSetting, match="needs labels"):
        make("orderings", "agreement").order(records.from_rows([{"source": "a", "target": "b"}]))
    with pytest.raises(BadSetting, match="--reference HUMAN"):
        make("orderings", "influence").order(records.from_rows(rows))
    with pytest.raises(BadSetting, match="--reference HUMAN"):
        make("orderings", "agreement:mode=verifier").order(records.from_rows(rows))
    with pytest.raises((InputError, BadSetting), match="label"):
        make("orderings", "influence").order(records.from_rows([{"text": "a b"}], datatype="text"), human)


def test_the_worst_filter_drops_the_share_it_says_with_the_score_and_the_place() -> None:
    """A fifth of 10 is 2, the lowest two; below= goes by the score; a missing score is a reason."""
    rows = [{"id": str(i), "text": f"t {i}", "mine": float(i)} for i in range(10)]
    candidate = records.from_rows(rows, datatype="text")
    found = karat.curate(candidate, filters=["worst:by=confidence:field=mine,share=0.2"])
    assert ["0", "1"] == sorted(found.dropped.ids)
    assert "confidence 0, place 10 of 10, among the worst 20%" in found.why("0")
    bounded = karat.curate(candidate, filters=["worst:by=confidence:field=mine,below=3"])
    assert ["0", "1", "2"] == sorted(bounded.dropped.ids)
    holes = candidate.with_column("mine", [None, *map(float, range(1, 10))])
    kept = karat.curate(holes, filters=["worst:by=confidence:field=mine,share=0,unknown=false"])
    assert 10 == len(kept.kept)
    gone = karat.curate(holes, filters=["worst:by=confidence:field=mine,share=0"])
    assert "no score by confidence" in gone.why("0")
