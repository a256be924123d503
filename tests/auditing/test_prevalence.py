"""Shares corrected for errors: right on hand-worked tables, and their intervals cover the truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from karat.auditing import prevalence


def covered(times: int, trial: Callable[[np.random.Generator], bool]) -> int:
    """How often of `times` a trial covered the truth."""
    return sum(trial(np.random.default_rng(seed)) for seed in range(times))


class TestPlainShares:
    def test_published_intervals(self) -> None:
        """Clopper-Pearson and Jeffreys against scipy's beta quantiles; no hits give an end of 0."""
        from scipy.stats import beta, binomtest

        exact = binomtest(7, 50).proportion_ci(method="exact")
        assert (exact.low, exact.high) == pytest.approx(prevalence.clopper_pearson(7, 50))
        assert tuple(beta.ppf([0.025, 0.975], 7.5, 43.5)) == pytest.approx(prevalence.jeffreys(7, 50))
        for interval in (prevalence.clopper_pearson, prevalence.jeffreys):
            assert interval(0, 0) is None
            assert 0.0 == (interval(0, 20) or (1, 1))[0]
            assert 1.0 == (interval(20, 20) or (0, 0))[1]


class TestRoganGladen:
    def test_by_hand(self) -> None:
        """30% answers, sensitivity .9, specificity .8: (.3 + .8 - 1) / (.9 + .8 - 1) = 1/7."""
        found = prevalence.rogan_gladen(300, 1000, sensitivity=(90, 100), specificity=(80, 100))
        assert 1 / 7 == pytest.approx(found.value)
        assert 0.3 == found.apparent
        assert found.interval is not None and found.interval[0] <= found.value <= found.interval[1]

    def test_a_large_labelled_sample_leaves_the_sampling_error(self) -> None:
        """With errors known for sure the interval is Wald's, stretched by 1 / (Se + Sp - 1)."""
        found = prevalence.rogan_gladen(
            4_000, 10_000, sensitivity=(8 * 10**7, 10**8), specificity=(9 * 10**7, 10**8)
        )
        reach = 1.96 * np.sqrt(0.4 * 0.6 / 10_000) / 0.7
        assert (0.3 / 0.7 - reach, 0.3 / 0.7 + reach) == pytest.approx(found.interval, abs=2e-4)

    def test_answers_that_tell_nothing_leave_it_open(self) -> None:
        """Sensitivity .5 and specificity .5: any share is possible."""
        found = prevalence.rogan_gladen(50, 100, sensitivity=(50, 100), specificity=(50, 100))
        assert (0.0, 1.0) == found.interval
        assert np.isnan(found.value)

    def test_fewer_answers_than_false_ones(self) -> None:
        """Where fewer are found than the errors alone would give, the share is 0 with room above it."""
        found = prevalence.rogan_gladen(10, 1000, sensitivity=(90, 100), specificity=(80, 100))
        assert 0.0 == found.value == (found.interval or (1, 1))[0]
        assert (found.interval or (0, 0))[1] > 0

    @pytest.mark.parametrize("truth", [0.0, 0.02, 0.1, 0.3, 0.6, 1.0])
    @pytest.mark.parametrize("rates", [(0.95, 0.98), (0.8, 0.9), (0.6, 0.6), (1.0, 1.0)])
    def test_coverage(self, truth: float, rates: tuple[float, float]) -> None:
        """At least 93 of 100 intervals hold the truth, 50 labelled records of each kind."""
        se, sp = rates

        def trial(rng: np.random.Generator) -> bool:
            found = prevalence.rogan_gladen(
                int(rng.binomial(400, truth * se + (1 - truth) * (1 - sp))),
                400,
                sensitivity=(int(rng.binomial(50, se)), 50),
                specificity=(int(rng.binomial(50, sp)), 50),
            )
            low, high = found.interval or (1.0, 0.0)
            return low - 1e-12 <= truth <= high + 1e-12

        assert covered(500, trial) >= 0.93 * 500


class TestConfusion:
    def test_two_classes_are_rogan_and_gladen(self) -> None:
        """With two classes the likeliest shares are those of the formula."""
        found = prevalence.confusion_corrected([300, 700], [[90, 10], [20, 80]], trials=50)
        assert [1 / 7, 6 / 7] == pytest.approx(found.values.tolist(), abs=1e-5)

    def test_inverts_a_matrix(self) -> None:
        """Expected answers of known shares give the shares back."""
        rates = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.0, 0.3, 0.7]])
        shares = np.array([0.5, 0.2, 0.3])
        found = prevalence.confusion_corrected(shares @ rates * 1e6, rates * 1e6, trials=50)
        assert shares == pytest.approx(found.values, abs=1e-4)

    def test_stays_on_the_simplex(self) -> None:
        """Answers that no shares explain give shares of 0 and 1 and not below or above."""
        found = prevalence.confusion_corrected([990, 5, 5], 10 * np.eye(3) + 5, trials=50)
        assert 1 == pytest.approx(found.values.sum())
        assert found.values.min() >= 0
        assert all(0 <= low <= high <= 1 for low, high in found.intervals)

    def test_leaves_the_table_alone(self) -> None:
        """A class without labelled records is taken as answered rightly; the table is not changed."""
        table = np.array([[9.0, 1.0], [0.0, 0.0]])
        found = prevalence.confusion_corrected([90, 10], table, trials=50)
        assert [0.0, 0.0] == table[1].tolist()
        assert [1.0, 0.0] == pytest.approx(found.values.tolist(), abs=1e-3)

    @pytest.mark.parametrize("truth", [(0.7, 0.2, 0.1), (0.98, 0.02, 0.0)])
    def test_coverage(self, truth: tuple[float, ...]) -> None:
        """Intervals of each class hold its share in 95% of 300 draws, less two standard errors (2.5%)."""
        rates = np.full((3, 3), 0.1) + 0.7 * np.eye(3)
        inside = np.zeros(3)
        for seed in range(300):
            rng = np.random.default_rng(seed)
            table = np.stack([rng.multinomial(60, row) for row in rates])
            counts = rng.multinomial(800, np.array(truth) @ rates)
            found = prevalence.confusion_corrected(counts, table, trials=600, seed=seed)
            inside += [low - 1e-3 <= t <= high for (low, high), t in zip(found.intervals, truth, strict=True)]
        assert (inside >= 0.925 * 300).all()


class TestPredictionPowered:
    def test_by_hand(self) -> None:
        """40% flagged, of ten labelled ones one flagged wrongly: .4 - .1."""
        judged = [1] * 40 + [0] * 60
        labelled, truth = [1] * 4 + [0] * 6, [1] * 3 + [0] * 7
        assert 0.3 == pytest.approx(prevalence.prediction_powered(judged, labelled, truth).value)

    def test_narrower_than_the_labelled_alone(self) -> None:
        """A good judge of many records makes the interval shorter than the labelled sample's own."""
        rng = np.random.default_rng(0)
        truth = rng.random(10_000) < 0.3
        judged = np.where(rng.random(10_000) < 0.95, truth, ~truth)
        found = prevalence.prediction_powered(judged, judged[:200], truth[:200], subset=True)
        plain = prevalence.jeffreys(int(truth[:200].sum()), 200)
        assert found.interval is not None and plain is not None
        assert found.interval[1] - found.interval[0] < 0.75 * (plain[1] - plain[0])

    @pytest.mark.parametrize("subset", [False, True])
    @pytest.mark.parametrize("truth", [0.0, 0.05, 0.3, 0.9])
    def test_coverage(self, truth: float, subset: bool) -> None:
        """At least 93 of 100 intervals hold the truth, also with a poor judge."""

        def trial(rng: np.random.Generator) -> bool:
            def answers(known: np.ndarray) -> np.ndarray:
                return np.where(known, rng.random(len(known)) < 0.7, rng.random(len(known)) > 0.8)

            known = rng.random(1_000) < truth
            judged = answers(known)
            few = known[:60] if subset else rng.random(60) < truth
            labelled = judged[:60] if subset else answers(few)
            low, high = prevalence.prediction_powered(judged, labelled, few, subset=subset).interval or (1, 0)
            return low - 1e-12 <= truth <= high + 1e-12

        assert covered(400, trial) >= 0.93 * 400


class TestKappa:
    def test_published_example(self) -> None:
        """Two raters, 20 and 15 of 50 agreed, 5 and 10 not: kappa .4 (Cohen's two-by-two example)."""
        value, interval = prevalence.kappa_interval([[20, 5], [10, 15]])
        assert 0.4 == pytest.approx(value)
        assert interval is not None and interval[0] < 0.4 < interval[1]

    def test_no_disagreement_is_no_certainty(self) -> None:
        """Ten agreements of ten: kappa 1, an interval that reaches well below it."""
        value, interval = prevalence.kappa_interval([[5, 0], [0, 5]])
        assert 1.0 == value
        assert interval is not None and 0.3 < interval[0] < 0.95 and 1.0 == interval[1]

    @pytest.mark.parametrize(("classes", "agreed"), [(2, 0.6), (2, 0.95), (4, 0.6), (4, 0.95)])
    def test_coverage(self, classes: int, agreed: float) -> None:
        """At least 93 of 100 intervals hold the kappa of the population, 60 records."""
        cells = np.full((classes, classes), (1 - agreed) / (classes**2 - classes))
        np.fill_diagonal(cells, agreed / classes)
        truth = prevalence.kappa(cells)

        def trial(rng: np.random.Generator) -> bool:
            table = rng.multinomial(60, cells.ravel()).reshape(classes, classes)
            low, high = prevalence.kappa_interval(table, trials=300)[1] or (1, 0)
            return low <= truth <= high

        assert covered(200, trial) >= 0.93 * 200


class TestMixture:
    def test_by_hand(self) -> None:
        """Means .2 and .8 of known scores and .35 of unknown ones: a quarter."""
        found = prevalence.mixture_share([0.3, 0.4] * 50, [0.1, 0.3] * 50, [0.7, 0.9] * 50)
        assert 0.25 == pytest.approx(found.share.value)
        assert found.p < 1e-6

    def test_answers_give_rogan_gladen(self) -> None:
        """With scores 0 and 1 it is Rogan and Gladen's estimate."""
        unknown, negative, positive = np.zeros(1000), np.zeros(100), np.zeros(100)
        unknown[:300] = negative[:20] = positive[:90] = 1
        assert 1 / 7 == pytest.approx(prevalence.mixture_share(unknown, negative, positive).share.value)

    def test_scores_that_tell_nothing_leave_it_open(self) -> None:
        """The same scores on both known sides: the interval is (0, 1) or close to it."""
        rng = np.random.default_rng(1)
        low, high = prevalence.mixture_share(*rng.random((3, 100))).share.interval or (1, 0)
        assert high - low > 0.9

    @pytest.mark.parametrize("truth", [0.0, 0.1, 0.3, 0.6, 1.0])
    def test_coverage_with_clusters(self, truth: float) -> None:
        """At least 93 of 100 intervals hold the truth, also where five records share a source."""

        def drawn(rng: np.random.Generator, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            middle = np.where(kinds, 0.6, 0.4) + rng.normal(0, 0.1, len(kinds))
            return np.repeat(middle, 5) + rng.normal(0, 0.1, 5 * len(kinds)), np.repeat(
                np.arange(len(kinds)), 5
            )

        def trial(rng: np.random.Generator) -> bool:
            sides = [drawn(rng, kinds) for kinds in (rng.random(60) < truth, np.zeros(60), np.ones(60))]
            scores, keys = zip(*sides, strict=True)
            low, high = prevalence.mixture_share(*scores, clusters=keys).share.interval or (1, 0)
            return low <= truth <= high

        assert covered(300, trial) >= 0.93 * 300

    def test_likeliest_prior(self) -> None:
        """Calibrated probabilities of a mixture with 20% positives give 20%, whatever they were made for."""
        rng = np.random.default_rng(2)
        positive = rng.random(20_000) < 0.2
        x = rng.normal(np.where(positive, 1.0, -1.0), 1.0)
        balanced = 1 / (1 + np.exp(-2 * x))  # P(positive) where both are equally frequent
        assert 0.2 == pytest.approx(prevalence.likeliest_prior(balanced, prior=0.5), abs=0.01)

    def test_fit(self) -> None:
        """A true mixture is refused in 1 of 100 at most 1%; scores of a third kind are refused."""
        refused = 0
        for seed in range(100):
            rng = np.random.default_rng(seed)
            n, p = rng.normal(-1, 1, 300), rng.normal(1, 1, 300)
            u = np.concatenate([rng.normal(-1, 1, 200), rng.normal(1, 1, 100)])
            refused += prevalence.mixture_fit(u, n, p, 1 / 3) < 0.01
        assert refused <= 5
        rng = np.random.default_rng(0)
        middle = rng.normal(0, 0.2, 300)
        assert prevalence.mixture_fit(middle, rng.normal(-1, 1, 300), rng.normal(1, 1, 300), 0.5) < 1e-6
