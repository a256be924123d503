"""The forecast: its emulator against published figures, its formulas against chance, its answers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from quick_trainers import TASK, Counter

from karat import registry
from karat.errors import BadSetting, InputError
from karat.records import from_rows
from karat.simulation.base import Policy
from karat.simulation.correctness import trend
from karat.simulation.curves import compare, fit_curves, futures, half_lives
from karat.simulation.emulator import emulate, sharpened
from karat.simulation.forecast import forecast
from karat.simulation.half_lives import crossing
from karat.simulation.stage import simulate
from karat.simulation.stretching import MEASURED, Observed, posterior

FULL = Policy()
PAPER = registry.make("tasks", "logic:depth_max=5,leaf=0.5,true_share=0.5")
QUICK = {"n": 200, "horizon": 14, "seeds": 2}


def first_half(curve) -> int | None:
    """The first iteration with half of the diversity or less."""
    return next((t for t, value in enumerate(curve) if value <= curve[0] / 2), None)


def test_the_emulator_halves_when_the_published_one_does() -> None:
    """m = 2,000 on expressions of depth 1 to 5: 6 to 10 iterations at temperature 0.8, 12 to 20 at 0.9."""
    quick = first_half(emulate(PAPER, FULL, 0.8, n=2000, iterations=12, seed=0).diversity)
    slow = first_half(emulate(PAPER, FULL, 0.9, n=2000, iterations=22, seed=0).diversity)
    assert quick is not None and 6 <= quick <= 10
    assert slow is not None and 12 <= slow <= 20


def test_the_emulator_does_not_collapse_at_temperature_one() -> None:
    """Sampling noise alone does not halve diversity within 60 iterations of 2,000 texts."""
    curve = emulate(PAPER, FULL, 1.0, n=2000, iterations=60, seed=0, every=12, judge=False)
    assert first_half(curve.diversity) is None


def test_cycles_come_in_the_published_order() -> None:
    """Final diversity: full < incremental 0.5 < full with 25% fresh < balanced < expanding."""
    cycles = ("full", "incremental:share=0.5", "full:fresh_share=0.25", "balanced", "expanding")
    ends = [
        emulate(PAPER, registry.make("cycles", cycle).policy(), 0.8, n=500, iterations=25, seed=1, every=25)
        for cycle in cycles
    ]
    assert sorted(end.diversity[-1] for end in ends) == [end.diversity[-1] for end in ends]


def test_temperature_decides_what_happens_to_correctness() -> None:
    """Emulated at 0.8 the correct share rises above 0.99, as published; at 1.0 nothing moves it far."""
    cold = emulate(PAPER, FULL, 0.8, n=500, iterations=15, every=15)
    plain = emulate(PAPER, FULL, 1.0, n=500, iterations=15, every=15)
    assert cold.correct[0] < 0.9 < 0.99 < cold.correct[-1]
    assert cold.correct[0] - 0.15 < plain.correct[-1] < 0.95


def test_a_verifier_keeps_correctness_and_not_different_texts() -> None:
    """At temperature 1 nearly all texts become correct, and fewer of them differ than without a verifier."""
    loops = {
        cycle: emulate(PAPER, registry.make("cycles", cycle).policy(), 1.0, n=500, iterations=20, every=20)
        for cycle in ("full", "verified")
    }
    assert loops["verified"].correct[-1] > 0.95 > loops["full"].correct[-1]
    assert loops["verified"].distinct[-1] < 0.8 * loops["full"].distinct[-1]


def test_a_verifier_with_errors_lets_wrong_texts_through() -> None:
    """With a third of the wrong texts let through, fewer are correct than with a perfect verifier."""
    loops = [
        emulate(PAPER, registry.make("cycles", cycle).policy(), 1.0, n=500, iterations=6, every=6)
        for cycle in ("verified", "verified:false_positives=0.4", "full")
    ]
    ends = [loop.correct[-1] for loop in loops]
    assert sorted(ends, reverse=True) == ends


def test_several_models_that_share_their_texts_are_emulated() -> None:
    """Two models that feed each other at temperature 0.8 lose diversity as one does; apart, they differ."""
    ends = [
        emulate(PAPER, registry.make("cycles", cycle).policy(), 0.8, n=300, iterations=16, every=16, seed=3)
        for cycle in ("crossed:feed=pool", "crossed:feed=ring", "full")
    ]
    assert all(end.diversity[-1] < 0.3 * end.diversity[0] for end in ends)


def test_a_learner_with_memory_is_slower() -> None:
    """Half of the old rules kept: about twice the half-life."""
    fast, slow = (
        crossing(emulate(PAPER, FULL, 0.8, n=500, iterations=24, memory=share, judge=False).kept(), 0.5)
        for share in (0.0, 0.5)
    )
    assert 1.5 * fast < slow < 3 * fast


def test_a_detector_cannot_be_emulated_and_is_named() -> None:
    """One line says why."""
    with pytest.raises(BadSetting, match="detector"):
        emulate(PAPER, registry.make("cycles", "detected").policy(), 0.8, n=50, iterations=2)


def test_sharpening_is_a_power() -> None:
    """p to the power 1/temperature, normalised."""
    found = sharpened({"root": {"a": 3.0, "b": 1.0}}, 0.5)["root"]
    assert {"a": pytest.approx(0.9), "b": pytest.approx(0.1)} == found


def test_curves_of_a_known_shape_are_recognised() -> None:
    """A plateau is told from decay to nothing; a half-life far beyond the data is not given."""
    t, chance = np.arange(12), np.random.default_rng(0).normal(0, 0.004, 12)
    errors = [0.004] * 12
    best = fit_curves((0.5 * (0.7 + 0.3 * np.exp(-0.6 * t)) + chance / 2).tolist(), errors)
    assert ("plateau", None) == (best[0].name, best[0].half_life)
    assert 0.7 == pytest.approx(best[0].plateau, abs=0.03)
    assert "favours a plateau" == compare(best).verdict
    best = fit_curves((0.5 * np.exp(-0.1 * t) + chance / 2).tolist(), errors)
    exponential = next(fit for fit in best if fit.name == "exponential")
    assert np.log(2) / 0.1 == pytest.approx(exponential.half_life, rel=0.1)
    assert "favours zero" == compare(best).verdict
    assert all(
        fit.half_life is None for fit in fit_curves(np.exp(-0.01 * t).tolist()) if fit.name == "exponential"
    )


def test_weights_add_up_to_one_and_are_those_of_akaike() -> None:
    """exp(-difference / 2), normalised."""
    fits = fit_curves([0.5, 0.47, 0.45, 0.41, 0.4, 0.37, 0.36], [0.01] * 7)
    scores = np.array([fit.aicc for fit in fits])
    expected = np.exp(-(scores - scores.min()) / 2)
    assert (expected / expected.sum()).tolist() == pytest.approx([fit.weight for fit in fits])


def test_short_ranges_are_mostly_undecided_and_hardly_ever_wrong() -> None:
    """Six noisy iterations say mostly nothing of plateau or zero, and hardly one misleads."""
    chance, t, undecided, wrong = np.random.default_rng(1), np.arange(6), 0, 0
    for trial in range(30):
        zero = bool(trial % 2)
        curve = np.exp(-0.05 * t) if zero else 0.8 + 0.2 * np.exp(-0.3 * t)
        verdict = compare(fit_curves((curve + chance.normal(0, 0.01, 6)).tolist(), [0.01] * 6)).verdict
        undecided += verdict == "undecided"
        wrong += verdict == ("favours a plateau" if zero else "favours zero")
    assert undecided > 15
    assert wrong <= 1


def test_curves_alone_cover_what_follows() -> None:
    """Loops that fall exponentially, seen for six iterations: the 95% interval holds the half-life."""
    chance, held = np.random.default_rng(2), 0
    for trial in range(12):
        rate = 0.06 + 0.01 * trial
        seen = (np.exp(-rate * np.arange(6)) + chance.normal(0, 0.01, 6)).tolist()
        times = np.linspace(0, 15, 61)
        fits = fit_curves(seen, [0.01] * 6)
        halves = half_lives(futures(fits, seen, [0.01] * 6, times), times)
        low, high = np.quantile(halves, (0.025, 0.975), method="inverted_cdf")
        held += min(low, 15) <= np.log(2) / rate <= high
    assert held >= 11


def test_a_slower_loop_is_the_emulator_stretched_in_time() -> None:
    """The factor is found from the first iterations, and its interval holds it."""
    curve = np.array([1 / (1 + np.exp(t - 4)) for t in range(30)])
    curve /= curve[0]
    slow = [float(np.interp(t / 2.5, range(30), curve)) for t in range(7)]
    steady = replace(MEASURED["gpt"], left=1.0, strays=0.0)
    found = posterior([curve.tolist()], Observed(tuple(slow), (0.005,) * 7), steady)
    middle, low, high = found.stretch()
    assert 2.5 == pytest.approx(middle, rel=0.15)
    assert low < 2.5 < high
    assert 2.5 * crossing(curve.tolist(), 0.5) == pytest.approx(np.median(found.half_lives()), rel=0.1)
    # Small GPTs speed up: what remains after the six iterations is taken for about half of that.
    hastened = posterior([curve.tolist()], Observed(tuple(slow), (0.005,) * 7), MEASURED["gpt"])
    remains = np.median(found.half_lives()) - 6
    assert MEASURED["gpt"].left * remains == pytest.approx(np.median(hastened.half_lives()) - 6, rel=0.25)
    alone = [
        np.median(posterior([curve.tolist()], None, one).half_lives()) for one in (steady, MEASURED["gpt"])
    ]
    assert alone[0] == pytest.approx(alone[1], rel=0.02), "a prior of whole half-lives knows that already"


def test_observations_narrow_the_prior() -> None:
    """The interval of the half-life is narrower with five iterations than with none."""
    curve = [1 / (1 + np.exp(0.8 * (t - 5))) for t in range(30)]
    kept = [value / curve[0] for value in curve]
    slow = tuple(float(np.interp(t / 1.5, range(30), kept)) for t in range(6))
    widths = []
    for seen in (None, Observed(slow, (0.01,) * 6)):
        halves = posterior([kept], seen, MEASURED["gpt"]).half_lives()
        low, high = np.quantile(halves, (0.025, 0.975))
        widths.append(high / low)
    assert widths[1] < 0.7 * widths[0]


def test_a_forecast_from_the_grammar_alone_says_how_far_it_is_off() -> None:
    """Without observations the interval holds the measured bias; JSON as promised."""
    found = forecast(task=TASK, n=200, horizon=25, seeds=2)
    plain = json.loads(json.dumps(found.to_json()))
    assert {"half_life", "plateau", "fresh_share_for", "method", "bias_note"} <= set(plain)
    low, high = plain["half_life"]["interval"]
    assert low <= plain["emulated_half_life"] < plain["half_life"]["value"]
    assert high is None or high > 2 * plain["emulated_half_life"]
    assert 0 < plain["fresh_share_for"]["0.5"] < plain["fresh_share_for"]["0.9"] < 1
    low, high = plain["fresh_share_interval"]["0.5"]
    assert low <= plain["fresh_share_for"]["0.5"] <= high
    assert round(200 * plain["fresh_share_for"]["0.5"]) == plain["fresh_rows_for"]["0.5"]
    assert "trained models took" in found.bias_note
    assert "halves after about" in str(found)
    assert "diversity" == found.axis
    titles = [getattr(block, "title", "") for block in found.__report__()[0].blocks]
    assert "Diversity kept: observed, and forecast with its 95% band" in titles
    assert "Where it ends" in titles and "How much fresh human data keep diversity" in titles


def test_other_retentions_may_be_wanted() -> None:
    """A retention is looked up as it is asked for; one that is no share is named."""
    found = forecast(task=TASK, keep=(0.7,), **{**QUICK, "horizon": 8, "seeds": 1})
    assert ["0.7"] == list(found.fresh_share_for)
    with pytest.raises(BadSetting, match="keep=1"):
        forecast(keep=(1.0,))


def test_at_temperature_one_no_half_life_is_claimed() -> None:
    """There is a bound and a reason in its place, and no fresh data are needed to keep half."""
    found = forecast(task=TASK, temperature=1.0, keep=(0.5,), **QUICK)
    assert (None, (14.0, None)) == (found.half_life, found.interval)
    assert "nothing is said beyond 14 iterations" in found.reason
    assert {"0.5": 0.0} == found.fresh_share_for
    assert "neither" == found.axis


@pytest.fixture(scope="module")
def whole():
    """A loop that loses half of its diversity within fourteen iterations."""
    return simulate(task=TASK, n=300, trainer=Counter(), control=False, seeds=(0, 1), iterations=14)


def cut(found, iterations: int):
    """The same simulation, had it been stopped after some iterations."""
    runs = tuple(replace(loop, iterations=loop.iterations[: iterations + 1], ended="") for loop in found.runs)
    half = {cycle: replace(value, value=None) for cycle, value in found.half_life.items()}
    return replace(found, runs=runs, half_life=half)


def with_diversity(found, values):
    """The same simulation with other diversities, the same for each seed."""
    runs = []
    for loop in found.runs:
        rows = []
        for row, value in zip(loop.iterations, values):
            intervals = {**row.measures.intervals, "levenshtein": (value - 0.01, value + 0.01)}
            rows.append(replace(row, measures=replace(row.measures, levenshtein=value, intervals=intervals)))
        runs.append(replace(loop, iterations=tuple(rows), ended=""))
    half = {cycle: replace(value, value=None) for cycle, value in found.half_life.items()}
    return replace(found, runs=tuple(runs), half_life=half)


def test_a_forecast_from_first_iterations_meets_what_comes(whole) -> None:
    """Fitted to four iterations of a loop, the interval holds the half-life that follows."""
    truth = whole.half_life["full"].value
    assert truth is not None
    found = forecast(cut(whole, 4), **QUICK)
    assert found.stretch is not None
    low, high = found.interval
    assert low <= truth <= (high or np.inf)
    assert truth == pytest.approx(found.half_life, rel=0.34)
    assert ("full", 12.0) == (found.cycle, found.reach)
    assert 12 >= max(point.iteration for point in found.fan)
    assert found.comparison is not None


def test_nothing_is_said_beyond_three_times_the_observed_range(whole) -> None:
    """A slow loop, seen for three iterations, gives a bound and no half-life."""
    start = simulate(task=TASK, cycles=("expanding",), iterations=3, n=300, trainer=Counter(), control=False)
    found = forecast(start, **QUICK)
    assert found.half_life is None
    assert (9.0, None) == found.interval
    assert "three times the observed range" in found.reason


def test_a_loop_that_has_halved_is_not_forecast_but_read(whole) -> None:
    """The observed half-life is the answer, with the interval of the simulation."""
    found = forecast(whole, **QUICK)
    assert whole.half_life["full"].value == found.half_life
    assert whole.half_life["full"].interval == found.interval


def test_the_fresh_share_of_a_loop_is_that_of_its_policy() -> None:
    """Also where it was given to all cycles of a study, and no cycle's name tells it."""
    start = simulate(
        task=TASK, fresh_share=0.25, iterations=3, n=200, trainer=Counter(), control=False, seeds=(0,)
    )
    found = forecast(start, **{**QUICK, "seeds": 1})
    assert 0.25 == pytest.approx(found.fresh_share, abs=0.01)


def test_a_loop_unlike_the_emulated_one_is_fitted_by_curves(whole) -> None:
    """Diversity that rises is nothing that the emulator knows: curves answer, and say why."""
    found = forecast(with_diversity(whole, [0.3, 0.35, 0.41, 0.48, 0.55]), **QUICK)
    assert "curves fitted" in found.method
    assert "unlike the emulated one" in " ".join(found.notes)
    assert found.half_life is None
    assert found.interval[1] is None


def test_constant_diversity_has_no_half_life(whole) -> None:
    """A loop that loses nothing gives a bound, whatever the emulator thinks of it."""
    found = forecast(with_diversity(whole, [0.5] * 6), **QUICK)
    assert found.half_life is None
    assert "favours zero" != found.comparison.verdict


def test_simulations_that_cannot_be_used_are_named(whole) -> None:
    """No diversity at the first iteration, NaN, too few iterations: one line each, or a defined answer."""
    with pytest.raises(InputError, match="one and the same text"):
        forecast(with_diversity(whole, [0.0, 0.0, 0.0, 0.0]))
    with pytest.raises(InputError, match="nan"):
        forecast(with_diversity(whole, [0.5, float("nan"), 0.4, 0.3]))
    found = forecast(cut(whole, 1), **{**QUICK, "seeds": 1})
    assert "too few to learn from" in " ".join(found.notes)
    assert found.stretch is None


def test_a_seed_that_collapsed_early_stays_collapsed(whole) -> None:
    """Its last value stands for what would have followed, and the note names it."""
    start = cut(whole, 5)
    gone = replace(
        with_diversity(start, [0.5, 0.3, 0.0]).runs[0], ended="collapsed: one text is left at iteration 2"
    )
    found = forecast(replace(start, runs=(gone, start.runs[1])), **QUICK)
    assert 6 == len(found.observed)
    assert start.runs[1].iterations[5].measures.levenshtein / 2 == pytest.approx(found.observed[5])
    assert "ended early" in " ".join(found.notes)


def test_a_corpus_is_emulated_by_its_n_grams() -> None:
    """Human records alone: an n-gram grammar is emulated; of correctness nothing is known."""
    human = from_rows([{"text": f"the {a} {b} ran off"} for a in "abcdefgh" for b in "klmnopqr"])
    found = forecast(human, horizon=6, seeds=1, keep=(0.5,))
    assert "emulator" in found.method
    assert 64 * np.log(2) == pytest.approx(found.drift_half_life, rel=0.01)
    assert "of correctness nothing is known" in found.axis_note


def test_a_simulated_corpus_is_forecast_by_curves() -> None:
    """A simulation of a corpus does not hold the human texts, so that curves speak alone."""
    from quick_trainers import Words

    human = from_rows([{"text": f"the {a} {b} ran off"} for a in "abcdefgh" for b in "klmnopqr"])
    start = simulate(human, task="text:audit=", iterations=5, trainer=Words(), control=False)
    found = forecast(start)
    assert "curves fitted" in found.method
    assert "human texts are not part of a simulation" in " ".join(found.notes)
    assert found.__report__()[0].blocks


@pytest.mark.parametrize(("temperature", "axis"), [(0.7, "diversity"), (1.0, "correctness")])
def test_temperature_decides_which_axis_collapses(temperature, axis) -> None:
    """A learner that slips: cold, its diversity halves; at temperature 1 its correct share falls."""
    start = simulate(
        task=TASK,
        trainer="emulator:slip=0.01",
        iterations=5,
        n=250,
        temperature=temperature,
        control=False,
        seeds=(0, 1),
    )
    found = forecast(start, **{**QUICK, "seeds": 1}, keep=(0.5,))
    assert axis == found.axis
    assert ("falls" == found.correctness.verdict) == (axis == "correctness")


def test_a_trend_is_told_with_its_uncertainty() -> None:
    """A share that falls by a tenth of a logit an iteration is found; noise alone has no trend."""
    t, chance = np.arange(8), np.random.default_rng(5)
    falling = 1 / (1 + np.exp(-(1.5 - 0.1 * t)))
    rows = [(chance.binomial(2000, falling) / 2000).tolist() for _ in range(3)]
    found = trend(rows, 2000)
    assert "falls" == found.verdict
    assert found.interval[0] < -0.1 < found.interval[1]
    assert found.then_interval[0] < 1 / (1 + np.exp(-(1.5 - 0.1 * 21))) < found.then_interval[1]
    level = trend([(chance.binomial(2000, 0.8, 8) / 2000).tolist() for _ in range(3)], 2000)
    assert "no clear trend" == level.verdict
    assert trend([[0.9, 0.8]], 100) is None
    assert trend([[None] * 5], 100) is None


def test_a_cycle_of_the_users_own_is_fitted_by_curves(whole) -> None:
    """A label that stands on no shelf says nothing of its policy, so that nothing is emulated."""
    start = cut(whole, 5)
    runs = tuple(replace(loop, cycle="homemade") for loop in start.runs)
    found = forecast(replace(start, runs=runs, half_life={}))
    assert "curves fitted" in found.method
    assert "stands on no shelf" in " ".join(found.notes)


def test_wrong_sources_are_named(tmp_path, whole) -> None:
    """A folder without a simulation, another object, an unknown cycle."""
    with pytest.raises(InputError, match=r"manifest\.json"):
        forecast(tmp_path)
    with pytest.raises(InputError, match="int"):
        forecast(3)
    with pytest.raises(BadSetting, match="horizon"):
        forecast(horizon=1)
    with pytest.raises(InputError, match="expanding"):
        forecast(whole, cycle="expanding")
