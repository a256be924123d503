"""The two-sample test: finds what is there, finds nothing where nothing is, and is not fooled by copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audit_corpora import corpus, write

import karat
from karat import records
from karat.auditing import detector, two_sample
from karat.errors import KaratError, NotEnoughData


class TestFolds:
    def test_groups_stay_whole_and_sides_even(self) -> None:
        """No group in two folds; each fold has its fifth of each side, give or take a group."""
        rng = np.random.default_rng(0)
        groups = rng.integers(0, 150, 400)
        sides = np.arange(400) < 200
        fold = detector.assign_folds(sides, detector.numbered(groups.tolist()), seed=1)
        assert all(1 == len(set(fold[groups == g])) for g in np.unique(groups))
        for side in (sides, ~sides):
            assert np.abs(np.bincount(fold[side], minlength=5) - 40).max() <= 4

    def test_single_rows_are_dealt_evenly(self) -> None:
        """Without groups every fold has the same number of each side."""
        sides = np.arange(100) < 50
        fold = detector.assign_folds(sides, np.arange(100))
        assert [10] * 5 == np.bincount(fold[sides]).tolist() == np.bincount(fold[~sides]).tolist()

    def test_copies_share_a_group(self) -> None:
        """Case, spaces, punctuation and Unicode form do not make a copy another text; other words do."""
        texts = ["Good movie!", "good  movie .", "good film", "…", "!!", "", "ｇｏｏｄ movie"]
        ids = detector.group_ids(texts)
        assert ids[0] == ids[1] == ids[6]
        assert 5 == len(set(ids.tolist()))

    def test_groups_chain(self) -> None:
        """A copy of a text ties the prompts of both copies together."""
        ids = detector.group_ids(["a", "b", "a", "c", "d"], ["p", "p", "q", "q", "r"])
        assert ids[0] == ids[1] == ids[2] == ids[3] != ids[4]

    def test_too_few(self) -> None:
        """Fewer than eight texts on a side, or one group only, is said in one line."""
        with pytest.raises(NotEnoughData, match="needs 8 texts on each side, but one side has 3"):
            detector.assign_folds(np.arange(20) < 3, np.arange(20))
        with pytest.raises(NotEnoughData, match="copies of one text"):
            detector.cross_fit_scores(["x"] * 20, ["x"] * 20)


class TestNull:
    def test_shuffles_within_folds(self) -> None:
        """Each permutation keeps the number of each side in each fold."""
        sides = np.arange(60) < 30
        fold = np.arange(60) % 5
        drawn = two_sample.permuted_sides(sides, fold, np.arange(60), trials=20)
        for k in range(5):
            assert [6] * 20 == drawn[fold == k].sum(axis=0).tolist()
        assert len({column.tobytes() for column in drawn.T}) > 15

    def test_clusters_change_sides_as_a_whole(self) -> None:
        """Rows of one source keep one side; a source with rows of both sides keeps its numbers."""
        units = np.repeat(np.arange(12), 4)
        sides = units < 5
        sides[units == 11] = [True, False, False, True]
        drawn = two_sample.permuted_sides(sides, units % 3, units, trials=30)
        for unit in range(11):
            assert {0, 4} >= set(drawn[units == unit].sum(axis=0).tolist())
        assert {2} == set(drawn[units == 11].sum(axis=0).tolist())

    def test_refits_equal_one_at_a_time(self) -> None:
        """Solving all permutations at once gives what a fit of each gives; so does the sparse solver."""
        texts = write(120, seed=3, words=200)
        sides = np.arange(120) < 60
        fold = detector.assign_folds(sides, np.arange(120))
        _, matrix = detector.featurise(texts, chars=(2, 3))
        drawn = two_sample.permuted_sides(sides, fold, np.arange(120), trials=3)
        many = detector.out_of_fold(matrix, detector.signs(drawn), fold)
        for trial in range(3):
            one = detector.out_of_fold(matrix, detector.signs(drawn[:, [trial]]), fold)
            assert np.allclose(one[:, 0], many[:, trial], atol=1e-5)
        limit, detector.DENSE_ROWS = detector.DENSE_ROWS, 10
        try:
            sparse = detector.out_of_fold(matrix, detector.signs(drawn), fold)
        finally:
            detector.DENSE_ROWS = limit
        assert np.allclose(many, sparse, atol=0.01)


class TestSeparation:
    def test_finds_a_planted_word(self) -> None:
        """One word in six of ten synthetic texts: AUC near 0.8, significant, and the word is named."""
        human, synthetic = write(200, seed=1), write(200, seed=2)
        synthetic = [f"{text} delve" if i % 10 < 6 else text for i, text in enumerate(synthetic)]
        found = two_sample.separation(human, synthetic, trials=50)
        assert 0.7 < found.auc < 0.85
        assert found.interval[0] > 0.5
        assert found.p < 1e-4
        best = max((f for f in found.features if f.side == "synthetic"), key=lambda f: f.weight)
        assert "delve" == best.text
        assert (0.0, pytest.approx(0.6)) == (best.human, best.synthetic)

    def test_style_is_named_where_words_are_equal(self) -> None:
        """Capitals are invisible to words; the characters show them."""
        human = write(100, seed=1)
        found = two_sample.separation(human, [text.title() for text in write(100, seed=2)], trials=20)
        assert found.auc > 0.95
        assert any("W" in f.text for f in found.features if f.side == "synthetic")

    def test_identical_corpora_give_one_half(self) -> None:
        """Copies share a fold and a score, so they tie: exactly 0.5, and nothing is found."""
        texts = write(60, seed=4)
        found = two_sample.separation(texts, list(texts), trials=20)
        assert 0.5 == found.auc
        assert found.interval[0] <= 0.5 <= found.interval[1]
        assert found.p > 0.4

    def test_a_corpus_against_itself_shuffled(self) -> None:
        """Also in another order, where float32 sums differ in the last digit, copies tie."""
        texts = write(300, seed=4)
        order = np.random.default_rng(0).permutation(300)
        clusters = [*range(300), *order.tolist()]
        found = two_sample.separation(texts, [texts[i] for i in order], clusters=clusters, trials=20)
        assert 0.5 == found.auc
        assert 1.0 == found.p

    def test_copies_do_not_leak(self) -> None:
        """Ten copies of each of twenty texts a side: a split by rows would read the side off the copies."""
        human, synthetic = write(20, seed=5) * 10, write(20, seed=6) * 10
        found = two_sample.separation(
            human, synthetic, clusters=[hash(text) for text in human + synthetic], trials=40
        )
        assert found.p > 0.01
        assert found.interval[0] < 0.5 < found.interval[1]

    def test_rows_of_one_source_do_not_leak(self) -> None:
        """Texts that name their source, twenty sources a side: with whole folds the name is useless."""
        rng = np.random.default_rng(0)
        texts = write(400, seed=7)
        source = np.concatenate([rng.integers(0, 20, 200), rng.integers(20, 40, 200)])
        names = ["".join(rng.choice(list("abcdefghij"), 8)) for _ in range(40)]
        marked = [f"{text} {names[s]} {names[s][::-1]}" for text, s in zip(texts, source)]
        fooled = two_sample.separation(marked[:200], marked[200:], trials=20)
        honest = two_sample.separation(marked[:200], marked[200:], clusters=source.tolist(), trials=40)
        assert fooled.auc > 0.9
        assert honest.p > 0.01

    def test_interval_near_one(self) -> None:
        """Perfect separation has an interval that ends at 1 and does not begin there."""
        assert (1.0 - 0.02, 1.0) < two_sample.area_interval(1.0, 0.0, df=50, n=500) < (1.0, 1.0 + 1e-9)
        low, high = two_sample.area_interval(0.99, 0.01, df=50, n=500)
        assert 0.9 < low < 0.99 < high < 1

    def test_length_alone(self) -> None:
        """Texts of the same words but half the length: length alone separates them, and the note says so."""
        human, synthetic = write(200, seed=1, length=40), write(200, seed=2, length=10)
        found = two_sample.separation(human, synthetic, trials=20)
        assert found.length_auc > 0.9
        same = two_sample.separation(write(200, seed=3), write(200, seed=4), trials=20)
        assert abs(same.length_auc - 0.5) < 0.1

    def test_length_in_the_middle(self) -> None:
        """Texts that are never short and never long are told by their length too."""
        even = ["word " * n for n in range(1, 101)]
        middle = ["word " * n for n in range(40, 60)] * 5
        sides = np.arange(200) < 100
        fold = detector.assign_folds(sides, np.arange(200))
        assert two_sample.length_area(even + middle, sides, fold) > 0.8


class TestMetric:
    def test_in_an_audit(self) -> None:
        """The score carries chance, best, an interval, p, the sample and the model in its signature."""
        human = corpus(write(300, seed=1))
        synthetic = corpus([f"{text} delve" for text in write(250, seed=2)])
        score = karat.audit(synthetic, human, metrics="two_sample_auc:trials=30", budget="small").scores[0]
        assert score.value is not None and score.value > 0.95
        assert 0.5 == score.best
        assert score.chance is not None and abs(score.chance - 0.5) < 0.05
        assert score.p is not None and score.p < 1e-6
        assert score.n < 250, "only records of equal lengths are compared"
        assert "records-of-equal-lengths" in score.signature
        for part in (f"sample:{score.n}", "model:ridge", "null:30 refits", "folds:5"):
            assert part in score.signature
        assert "delve" in score.note
        assert score.details["synthetic.delve"] == pytest.approx(1.0, abs=1e-4)

    def test_nothing_to_find(self) -> None:
        """Two halves of one source: 0.5 inside the interval, and no feature is named."""
        score = karat.audit(
            corpus(write(200, seed=1)), corpus(write(200, seed=2)), metrics="two_sample_auc", budget="small"
        ).scores[0]
        assert score.interval is not None and score.interval[0] < 0.5 < score.interval[1]
        assert "nothing was found" in score.note
        assert not [key for key in score.details if key.startswith("synthetic.")]

    def test_too_few_records(self) -> None:
        """A handful of records gives no number and the reason why."""
        score = karat.audit(
            corpus(write(5, seed=1)), corpus(write(5, seed=2)), metrics="two_sample_auc", budget="small"
        ).scores[0]
        assert score.value is None
        assert "needs 8 texts on each side" in score.note

    def test_odd_texts(self) -> None:
        """Empty texts, control characters, one megabyte and other scripts do no harm."""
        odd = ["", "\x00\x1b[31m", "word " * 200_000, "猫が好きです", "שלום", "\u202e", "🙂🙂", " \n"]
        score = karat.audit(
            corpus(odd + write(30, seed=1)),
            corpus(write(38, seed=2)),
            metrics="two_sample_auc",
            budget="small",
        ).scores[0]
        assert score.value is not None and 0 <= score.value <= 1

    def test_same_seed_same_number(self) -> None:
        """The same records and seed give the same score."""
        one, other = corpus(write(80, seed=1)), corpus(write(80, seed=2))
        found = {
            str(karat.audit(one, other, metrics="two_sample_auc", budget="small", seed=7).scores[0])
            for _ in "ab"
        }
        assert 1 == len(found)

    @pytest.mark.parametrize("spec", ["folds=1", "trials=1", "records=-1"])
    def test_impossible_settings(self, spec: str) -> None:
        """One line that names the setting."""
        with pytest.raises(KaratError, match=spec.split("=")[0]):
            karat.audit(corpus(write(20)), corpus(write(20, seed=1)), metrics=f"two_sample_auc:{spec}")

    def test_without_a_reference(self) -> None:
        """Asked for without human data, it says what it needs."""
        with pytest.raises(KaratError, match=r"two_sample_auc.*needs a reference"):
            karat.audit(corpus(write(20)), metrics="two_sample_auc")


class TestDetector:
    def test_probabilities_are_calibrated(self) -> None:
        """Of texts given P(human) near p, about p are human; a fitted detector agrees on new texts."""

        def some(n: int, seed: int) -> tuple[list[str], list[str]]:
            rng = np.random.default_rng(seed)
            add = [(" delve" if rng.random() < 0.7 else "") for _ in range(n)]
            more = [(" delve" if rng.random() < 0.3 else "") for _ in range(n)]
            texts = write(2 * n, seed=seed)
            return [t + m for t, m in zip(texts, more)], [t + a for t, a in zip(texts[n:], add)]

        human, synthetic = some(400, 1)
        found = detector.cross_fit_scores(human, synthetic)
        new_human, new_synthetic = some(400, 2)
        fitted = detector.fit_detector(human, synthetic)
        for mine, theirs in (
            (found.human, found.synthetic),
            (fitted.score(new_human), fitted.score(new_synthetic)),
        ):
            scores = np.concatenate([mine, theirs])
            truth = np.arange(800) < 400
            order = np.argsort(scores)
            for quarter in np.array_split(order, 4):
                assert abs(scores[quarter].mean() - truth[quarter].mean()) < 0.1

    def test_curve_equals_scikit_learn(self) -> None:
        """The logistic curve is that of scikit-learn without a penalty, but for Platt's drawn-in targets."""
        from sklearn.linear_model import LogisticRegression

        rng = np.random.default_rng(0)
        sides = rng.random(5000) < 0.5
        scores = sides + rng.standard_normal(5000)
        slope, offset = detector.fit_platt(scores, sides)
        peer = LogisticRegression(C=1e6, tol=1e-9).fit(scores[:, None], sides)
        assert slope == pytest.approx(float(peer.coef_[0, 0]), rel=2e-3)
        assert offset == pytest.approx(float(peer.intercept_[0]), rel=5e-3)

    def test_separable_scores_stay_finite(self) -> None:
        """Perfectly separated sides give probabilities short of 0 and 1."""
        slope, offset = detector.fit_platt(np.r_[np.ones(50), -np.ones(50)], np.arange(100) < 50)
        assert np.isfinite([slope, offset]).all()
        assert 0.9 < 1 / (1 + np.exp(-(slope + offset))) < 1

    def test_scores_nothing_and_the_unknown(self) -> None:
        """No texts give no scores; a text without a known feature gets the middle."""
        fitted = detector.fit_detector(write(50, seed=1), [f"{t} delve" for t in write(50, seed=2)])
        assert 0 == len(fitted.score([]))
        assert 0.2 < fitted.score([""])[0] < 0.8


class TestRealData:
    def test_gpt4_is_told_from_people(self, data_dir: Path) -> None:
        """GPT-4 sentences against human ones of the same task: AUC about 0.92 at 1,000 a side."""
        path = data_dir / "wvg_tendim" / "wvg_tendim.jsonl.gz"
        human = records.read(path, where=("split=human_train",))
        synthetic = records.read(path, where=("generator=gpt-4",))
        score = karat.audit(synthetic, human, metrics="two_sample_auc:trials=20", budget="small").scores[0]
        assert score.value == pytest.approx(0.92, abs=0.025)
        assert score.p is not None and score.p < 1e-6

    def test_halves_of_human_data_are_not(self, data_dir: Path) -> None:
        """Random halves of real human text: the interval covers 0.5 about 95 times in 100."""
        rows = records.read(data_dir / "nltk_sentence_polarity" / "sentence_polarity.jsonl.gz").texts()
        covered = flagged = 0
        for seed in range(15):
            order = np.random.default_rng(seed).permutation(len(rows))[:400]
            texts = [rows[i] for i in order]
            found = two_sample.separation(texts[:200], texts[200:], trials=20, features=0, seed=seed)
            covered += found.interval[0] <= 0.5 <= found.interval[1]
            flagged += found.p < 0.05
        assert covered >= 12
        assert flagged <= 3
