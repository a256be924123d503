from __future__ import annotations

import json

import numpy as np
import pytest
from quick_trainers import TASK, Counter

from karat import registry
from karat.errors import BadSetting, InputError
from karat.records import from_rows
from karat.simulation.base import Policy
from karat.simulation.curves import fit_curves, fit_stretch
from karat.simulation.emulator import drift_half_life, drift_plateau, emulate, sharpened
from karat.simulation.forecast import forecast
from karat.simulation.result import crossing
from karat.simulation.stage import simulate

FULL = Policy()
PAPER = registry.make("tasks", "logic:depth_max=5,leaf=0.5,true_share=0.5")


def first_half(curve) -> int | None:
    """The first iteration with half of the diversity or less."""
    return next((t for t, value in enumerate(curve) if value <= curve[0] / 2), None)


def test_the_emulator_halves_when_the_published_one_does() -> None:
    """m = 2,000 on expressions of depth 1 to 5: 6 to 10 iterations at temperature 0.8, 12 to 20 at 0.9."""
    quick = first_half(emulate(PAPER, FULL, 0.8, n=2000, iterations=12, seed=0))
    slow = first_half(emulate(PAPER, FULL, 0.9, n=2000, iterations=22, seed=0))
    assert quick is not None and 6 <= quick <= 10
    assert slow is not None and 12 <= slow <= 20


def test_the_emulator_does_not_collapse_at_temperature_one() -> None:
    """Sampling noise alone does not halve diversity within 60 iterations of 2,000 texts."""
    curve = emulate(PAPER, FULL, 1.0, n=2000, iterations=60, seed=0)
    assert first_half(curve) is None


def test_cycles_come_in_the_published_order() -> None:
    """Final diversity: full < incremental 0.5 < full with 25% fresh < balanced < expanding."""
    policies = [
        FULL,
        Policy(keep="sample", keep_share=0.5, batch=0.5),
        FULL.with_fresh(0.25),
        Policy(keep="all", batch=1.0, weights="source", subsample=1.0),
        Policy(keep="all", batch=0.1),
    ]
    ends = [emulate(PAPER, policy, 0.8, n=500, iterations=25, seed=1)[-1] for policy in policies]
    assert sorted(ends) == ends


def test_the_drift_formula_is_right_for_resampling() -> None:
    """Pairwise diversity of a multinomial that is resampled 30 times from itself, within 2%."""
    n, steps, chance = 100, 30, np.random.default_rng(0)
    kept = []
    for _ in range(4000):
        shares = np.full(20, 1 / 20)
        for _ in range(steps):
            shares = chance.multinomial(n, shares) / n
        kept.append((1 - (shares**2).sum()) / (1 - 1 / 20))
    assert 0.5 ** (steps / drift_half_life(n)) == pytest.approx(float(np.mean(kept)), rel=0.02)


def test_drift_plateaus_with_fresh_data_as_published() -> None:
    """0.1% fresh of 10,000, 1% of 1,000 and 10% of 100 keep about 95%."""
    for n, share in ((10_000, 0.001), (1000, 0.01), (100, 0.1)):
        assert 0.95 == pytest.approx(drift_plateau(n, share), abs=0.01)


def test_sharpening_is_a_power() -> None:
    """p to the power 1/temperature, normalised."""
    found = sharpened({"root": {"a": 3.0, "b": 1.0}}, 0.5)["root"]
    assert {"a": pytest.approx(0.9), "b": pytest.approx(0.1)} == found


def test_curves_of_a_known_shape_are_recognised() -> None:
    """A plateau is told from decay to nothing; a half-life far beyond the data is not given."""
    t = np.arange(9)
    chance = np.random.default_rng(0).normal(0, 0.003, 9)
    best = min(fit_curves((0.5 * (0.7 + 0.3 * np.exp(-0.6 * t)) + chance).tolist()), key=lambda f: f.aicc)
    assert ("plateau", None) == (best.name, best.half_life)
    assert 0.7 == pytest.approx(best.plateau, abs=0.03)
    best = min(fit_curves((0.5 * np.exp(-0.1 * t) + chance).tolist()), key=lambda f: f.aicc)
    assert "exponential" == best.name
    assert np.log(2) / 0.1 == pytest.approx(best.half_life, rel=0.15)
    assert all(
        fit.half_life is None for fit in fit_curves(np.exp(-0.01 * t).tolist()) if fit.name == "exponential"
    )


def test_a_slower_loop_is_the_emulator_stretched_in_time() -> None:
    """The factor is found from the first iterations."""
    curve = [1 / (1 + np.exp(t - 4)) for t in range(30)]
    slow = [np.interp(t / 2.5, range(30), curve) for t in range(6)]
    assert 2.5 == pytest.approx(fit_stretch([c / curve[0] for c in curve], slow), rel=0.02)


def test_a_forecast_from_the_grammar_alone_says_how_far_it_is_off() -> None:
    """Without observations the interval holds the measured bias; JSON as promised."""
    found = forecast(task=TASK, n=300, horizon=25, seeds=2)
    plain = json.loads(json.dumps(found.to_json()))
    assert {"half_life", "plateau", "fresh_share_for", "method", "bias_note"} <= set(plain)
    low, high = plain["half_life"]["interval"]
    assert low <= plain["half_life"]["value"] <= high / 2
    assert plain["fresh_share_for"]["0.5"] <= plain["fresh_share_for"]["0.9"]
    assert "trained models took" in found.bias_note
    assert "halves after about" in str(found)
    assert found.__report__()[0].blocks


def test_a_forecast_from_first_iterations_meets_what_comes() -> None:
    """Fitted to four iterations of a loop, the forecast lies within a third of the half-life that follows."""
    settings = {"task": TASK, "n": 300, "trainer": Counter(), "control": False, "seeds": (0, 1)}
    start, whole = simulate(iterations=4, **settings), simulate(iterations=14, **settings)
    truth = whole.half_life["full"].value
    assert truth is not None
    found = forecast(start, horizon=20, seeds=2)
    assert found.stretch is not None
    assert truth == pytest.approx(found.half_life, rel=0.34)
    assert "full" == found.cycle


def test_nothing_is_said_beyond_three_times_the_observed_range() -> None:
    """A slow loop, seen for three iterations, gives a bound and no half-life."""
    start = simulate(task=TASK, cycles=("expanding",), iterations=3, n=300, trainer=Counter(), control=False)
    found = forecast(start, horizon=12, seeds=1)
    assert found.half_life is None
    assert (9.0, None) == found.interval
    assert "three times the observed range" in " ".join(found.notes)


def test_a_loop_that_has_halved_is_not_forecast_but_read() -> None:
    """The observed half-life is the answer."""
    whole = simulate(task=TASK, iterations=15, n=300, trainer=Counter(), control=False)
    found = forecast(whole, horizon=20, seeds=1)
    curve = whole.runs[0].curve("levenshtein")
    assert crossing([v / curve[0] for v in curve], 0.5) == pytest.approx(found.half_life)


def test_of_a_corpus_only_drift_is_known() -> None:
    """Without a grammar and without iterations, the noise formula is all there is, and it says so."""
    human = from_rows([{"text": f"text {i}"} for i in range(100)], datatype="text")
    found = forecast(human)
    assert (None, "drift formula alone") == (found.half_life, found.method)
    assert 100 * np.log(2) == pytest.approx(found.drift_half_life, rel=0.01)


def test_wrong_sources_are_named(tmp_path) -> None:
    """A folder without a simulation, another object, an unknown cycle."""
    with pytest.raises(InputError, match=r"manifest\.json"):
        forecast(tmp_path)
    with pytest.raises(InputError, match="int"):
        forecast(3)
    with pytest.raises(BadSetting, match="horizon"):
        forecast(horizon=1)
    start = simulate(task=TASK, iterations=1, n=50, trainer=Counter(), control=False)
    with pytest.raises(InputError, match="expanding"):
        forecast(start, cycle="expanding")
