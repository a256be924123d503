"""What holds for the reward: Bradley-Terry, Davidson's ties, and equality with independent references."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from karat import records, registry
from karat.errors import BadSetting, InputError
from karat.training.pairs import pairs
from karat.training.trainers.reward import Reward, RewardModel, davidson

WORDS = [f"word{i}" for i in range(30)]


def planted(
    n: int, *, nu: float = 0.0, seed: int = 0, sharp: float = 1.0
) -> tuple[records.Records, dict[str, float]]:
    """Pairs of six-word responses whose words have utilities; a tie has Davidson's probability."""
    rng = np.random.default_rng(seed)
    worth = dict(zip(WORDS, sharp * np.random.default_rng(99).normal(size=len(WORDS))))
    rows = []
    for i in range(n):
        a, b = (rng.choice(WORDS, 6, replace=False).tolist() for _ in "ab")
        d = sum(worth[w] for w in a) - sum(worth[w] for w in b)
        weights = np.array([np.exp(d / 2), np.exp(-d / 2), nu])
        choice = ("a", "b", "tie")[int(rng.choice(3, p=weights / weights.sum()))]
        rows.append(
            {
                "id": f"{seed}-{i}",
                "prompt": f"p{i}",
                "response_a": " ".join(a),
                "response_b": " ".join(b),
                "choice": choice,
                "rater": "r",
            }
        )
    return records.from_rows(rows), worth


@pytest.fixture(scope="module")
def tied() -> tuple[records.Records, records.Records, RewardModel]:
    train, test = planted(600, nu=1.0)[0], planted(300, nu=1.0, seed=1)[0]
    return train, test, Reward().fit(train)


def swapped(given: records.Records) -> records.Records:
    other = {"a": "b", "b": "a"}
    return records.from_rows(
        [
            {
                **{k: row[k] for k in ("id", "prompt", "rater")},
                "response_a": row["response_b"],
                "response_b": row["response_a"],
                "choice": other.get(row["choice"], row["choice"]),
            }
            for row in given
        ]
    )


def test_without_ties_it_is_scikit_learns_logistic_regression() -> None:
    """On difference features the weights are those of LogisticRegression without an intercept."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 12))
    said = (rng.random(200) > 1 / (1 + np.exp(-x @ rng.normal(size=12)))).astype(np.int64)
    for C in (0.1, 3.0):
        weights, ln_nu = davidson(x, said, C)
        peer = LogisticRegression(C=C, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(x, said == 0)
        assert ln_nu is None
        np.testing.assert_allclose(peer.coef_[0], weights, atol=1e-5)


def test_the_whole_reward_is_that_regression_on_scikit_learns_features() -> None:
    """TfidfVectorizer on responses and LogisticRegression on differences predict the same."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    train, test = planted(200)[0], planted(50, seed=1)[0]
    model = Reward(characters="0", lengths=False, least=1, C=2.0).fit(train)
    a, b = train.column("response_a"), train.column("response_b")
    tfidf = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+", sublinear_tf=True)
    tfidf.fit([*a, *b])
    peer = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-10, max_iter=10_000)
    peer.fit(tfidf.transform(a) - tfidf.transform(b), [c == "a" for c in train.column("choice")])
    x = tfidf.transform(test.column("response_a")) - tfidf.transform(test.column("response_b"))
    found = model.predict(test)
    assert ("a", "b") == found.classes
    np.testing.assert_allclose(peer.predict_proba(x)[:, 1], found.probabilities[:, 0], atol=1e-5)


def test_ties_are_davidsons_by_brute_force() -> None:
    """A search without gradients finds the same weights and v for the likelihood as the paper writes it."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 2))
    said = rng.integers(0, 3, 60)

    def written_out(point: Sequence[float]) -> float:
        w, nu = np.asarray(point[:2]), np.exp(point[2])
        loss = 0.5 * float(w @ w)
        for features, choice in zip(x, said):
            one, other = np.exp(w @ features), 1.0  # strengths: only their ratio counts
            tie = nu * np.sqrt(one * other)
            loss -= 0.7 * np.log([one, other, tie][choice] / (one + other + tie))
        return loss

    best = minimize(
        written_out, [0.1, 0.1, 0.1], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
    )
    weights, ln_nu = davidson(x, said, 0.7)
    np.testing.assert_allclose(best.x, [*weights, ln_nu], atol=1e-5)


def test_exchanging_the_responses_exchanges_the_probabilities(tied: Any) -> None:
    """P(a) of a pair is P(b) of the same pair turned round, to the last bit; the tie stays."""
    _, test, model = tied
    there, back = model.predict(test).probabilities, model.predict(swapped(test)).probabilities
    np.testing.assert_array_equal(there, back[:, [1, 0, 2]])
    np.testing.assert_allclose(1, there.sum(axis=1))


def test_training_on_exchanged_pairs_gives_the_same_reward(tied: Any) -> None:
    """A reward cannot learn on which side the preferred response stood."""
    train, test, model = tied
    again = Reward().fit(swapped(train))
    np.testing.assert_allclose(
        model.score(test.column("response_a")), again.score(test.column("response_a")), atol=1e-4
    )


def test_a_planted_utility_is_found() -> None:
    """Scores of unseen responses follow the planted utilities, v comes out, and chance is beaten."""
    from scipy.stats import spearmanr

    train, worth = planted(1500, nu=1.5)
    model = Reward(words="1", characters="0", lengths=False, C=30.0).fit(train)
    test = planted(400, nu=1.5, seed=5)[0]
    texts = test.column("response_a")
    true = [sum(worth[w] for w in text.split()) for text in texts]
    assert spearmanr(true, model.score(texts)).statistic > 0.9
    assert model.ln_nu == pytest.approx(np.log(1.5), abs=0.25)
    found = model.predict(test)
    right = np.mean([said == gold for said, gold in zip(found.labels, test.column("choice"))])
    most = max(np.mean([c == choice for c in test.column("choice")]) for choice in "ab")
    assert right > most + 0.2
    shares = [np.mean([c == choice for c in test.column("choice")]) for choice in found.classes]
    np.testing.assert_allclose(shares, found.probabilities.mean(axis=0), atol=0.06)


def test_shuffled_choices_teach_nothing() -> None:
    """Where choices are drawn without looking, unseen pairs are guessed at the rate of chance."""
    train = planted(800, sharp=0.0)[0]
    test = planted(800, sharp=0.0, seed=1)[0]
    found = Reward().fit(train).predict(test)
    right = np.mean([said == gold for said, gold in zip(found.labels, test.column("choice"))])
    assert 0.5 == pytest.approx(right, abs=0.07)  # 4 standard deviations


@pytest.mark.parametrize("features", ["text", "encoder"])
def test_a_pool_predicts_what_a_fit_predicts(tied: Any, features: Any) -> None:
    """Training within a prepared pool and on the records alone give the same probabilities."""
    train, test, _ = tied
    trainer = Reward(features=features, encoder="lsa:dims=8,rest=8")
    both = train.concat(test)
    rows, others = np.arange(0, 300), np.arange(600, 700)
    pooled = trainer.prepare(both).fit_predict(rows, others)
    alone = trainer.fit(both.take(rows)).predict(both.take(others))
    assert alone.ids == pooled.ids
    assert alone.gold == pooled.gold
    np.testing.assert_allclose(alone.probabilities, pooled.probabilities, atol=1e-6)


def test_several_raters_of_a_pair_count_as_often_as_they_spoke() -> None:
    """Three of four raters for a: without a penalty to speak of, P(a) is three quarters."""
    pair = {"prompt": "p", "response_a": "left answer", "response_b": "right reply"}
    rows = [{**pair, "id": str(i), "choice": c, "rater": str(i)} for i, c in enumerate("aaab")]
    given = records.from_rows(rows)
    found = Reward(least=1, C=1e4).fit(given).predict(given)
    np.testing.assert_allclose(0.75, found.probabilities[:, 0], atol=1e-3)


def test_chosen_and_rejected_are_learned_without_a_side() -> None:
    """From rows with a chosen response, where each chosen one holds a word, unseen pairs are told apart."""
    rows = [
        {"prompt": f"q{i}", "chosen": f"{WORDS[i % 30]} please", "rejected": f"{WORDS[(i * 7 + 3) % 30]} no"}
        for i in range(60)
    ]
    found = Reward().fit(records.from_rows(rows[:40])).predict(records.from_rows(rows[40:]))
    assert found.gold == found.labels
    assert {"a", "b"} == set(found.labels)


def test_length_can_be_kept_from_the_reward() -> None:
    """Where only length decides, the reward learns it; without lengths and shared n-grams it cannot."""
    rows = [{"prompt": "p", "chosen": f"x{i} x{i}b x{i}c x{i}d", "rejected": f"y{i}"} for i in range(80)]
    train, test = records.from_rows(rows[:40]), records.from_rows(rows[40:])
    long = Reward(characters="0").fit(train).predict(test)
    assert long.gold == long.labels
    blind = Reward(characters="0", lengths=False).fit(train).predict(test)
    np.testing.assert_allclose(0.5, blind.probabilities)


def test_only_ties_and_one_sided_choices_have_an_answer() -> None:
    """All ties: a tie is nearly sure. Always a: the words of that side are preferred on either side."""
    ties = planted(20, nu=1e9)[0]
    found = Reward().fit(ties).predict(ties)
    assert {"tie"} == set(found.labels)
    assert 20.5 / 21 == pytest.approx(found.probabilities[0, 2])
    row = {"prompt": "p", "response_a": "good", "response_b": "bad", "choice": "a", "rater": "r"}
    always = records.from_rows([{**row, "id": str(i)} for i in range(9)])
    assert {"b"} == set(Reward().fit(always).predict(swapped(always)).labels)


def test_a_saved_reward_says_the_same(tied: Any, tmp_path: Path) -> None:
    """Loaded from its folder, in which is no pickle, it gives the same probabilities."""
    _, test, model = tied
    model.save(tmp_path)
    again = registry.find("trainers", "reward").load(tmp_path)
    np.testing.assert_array_equal(model.predict(test).probabilities, again.predict(test).probabilities)
    told = json.loads((tmp_path / "reward.json").read_text())
    (tmp_path / "reward.json").write_text(json.dumps({**told, "format": 99}))
    with pytest.raises(InputError, match="train anew"):
        Reward.load(tmp_path)
    learned = Reward(features="encoder").fit(test)
    with pytest.raises(InputError, match="encoder=minilm"):
        learned.save(tmp_path / "other")


def test_bad_input_is_told() -> None:
    """Labelled texts, invalid choices and settings without sense are refused in one line."""
    with pytest.raises(InputError, match="pairs are needed"):
        Reward().fit(records.from_rows([{"text": "x", "label": "a"}]))
    bad = planted(3)[0].with_column("choice", ["a", "invalid", "b"])
    with pytest.raises(InputError, match="invalid"):
        Reward().fit(bad)
    assert Reward().fit(planted(9)[0]).predict(bad).gold is None
    for spec in (
        "reward:C=0",
        "reward:least=0",
        "reward:words=0,characters=0,lengths=false",
        "reward:words=x",
    ):
        with pytest.raises(BadSetting):
            registry.make("trainers", spec)


def test_empty_and_foreign_texts_have_a_score(tied: Any) -> None:
    """No text, a text of unknown words, of signs and of other scripts: each a finite number."""
    assert np.isfinite(tied[2].score(["", "nothing known", "!!!", "日本語の文", "\U0001f600"])).all()


def test_on_real_preferences_it_beats_every_rule_of_length(data_dir: Path) -> None:
    """People's choices between answers: unseen prompts are told better than by chance, longer or shorter."""
    given = records.read(data_dir / "hh_harmless_test" / "hh_harmless_test.jsonl.gz")
    found = pairs(given)
    apart = found.groups % 2 == 0
    test = found.take(np.flatnonzero(apart))
    said = Reward().fit(given.where(~apart)).predict(given.where(apart))
    right = np.mean([a == b for a, b in zip(said.labels, test.choices)])
    longer = np.mean(
        [("a" if len(a) > len(b) else "b") == c for a, b, c in zip(test.a, test.b, test.choices)]
    )
    error = np.sqrt(0.25 / len(test))
    assert right - 2 * error > max(0.5, longer, 1 - longer)
