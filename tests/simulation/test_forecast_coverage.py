"""Whether forecasts hold what follows: many loops are run to their end, and forecast from their beginning."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from karat import registry
from karat.simulation.curves import REACH, fit_curves, futures, half_lives
from karat.simulation.emulator import emulate
from karat.simulation.half_lives import crossing
from karat.simulation.stretching import ANY, Observed, posterior

TASK = registry.make("tasks", "logic:depth_max=3,leaf=0.5,true_share=0.5")
N, LENGTH = 250, 26
ERROR = 0.02
"""Standard error of one iteration's diversity of 250 texts, as a share of the first."""


@pytest.fixture(scope="module")
def loops() -> list[tuple[list[float], list[list[float]]]]:
    """(diversity kept by slow or bad learners, emulated loops) for several temperatures and shares."""
    found = []
    settings = product((0.7, 0.8), ("full", "full:fresh_share=0.1", "incremental"), ((0.0, 0.05), (0.5, 0.0)))
    for number, (temperature, cycle, (memory, smoothing)) in enumerate(settings):
        policy = registry.make("cycles", cycle).policy()
        settings_ = {"n": N, "iterations": LENGTH, "judge": False}
        truth = emulate(
            TASK, policy, temperature, seed=50 + number, memory=memory, smoothing=smoothing, **settings_
        )
        prior = [list(emulate(TASK, policy, temperature, seed=seed, **settings_).kept()) for seed in range(2)]
        found.append((list(truth.kept()), prior))
    return found


def covered(loops, draws, length: int) -> tuple[int, int, float]:
    """Return how many intervals held what followed, of how many, and the share that named a half-life."""
    held = tried = said = 0
    for kept, prior in loops:
        half, limit = crossing(kept, 0.5), REACH * (length - 1)
        if half is not None and half <= length - 1:
            continue
        halves = draws(kept[:length], prior)
        low, middle, high = np.quantile(halves, (0.025, 0.5, 0.975), method="inverted_cdf")
        high = np.inf if high > limit else high
        held += min(low, limit) <= (np.inf if half is None else half) <= high
        said += middle <= limit
        tried += 1
    return held, tried, said / tried


@pytest.mark.parametrize("length", [5, 7])
def test_the_corrected_emulator_covers_what_follows(loops, length) -> None:
    """At least nine in ten 95% intervals hold the half-life, which is named in some of them."""

    def draws(kept, prior):
        return posterior(prior, Observed(tuple(kept), (ERROR,) * length), ANY).half_lives()

    held, tried, said = covered(loops, draws, length)
    assert tried >= 8
    assert held >= 0.9 * tried
    assert said > 0.15


def test_curves_alone_cover_what_follows_of_loops(loops) -> None:
    """Without an emulator intervals are wider, and hold at least nine in ten as well."""

    def draws(kept, prior):
        times = np.linspace(0, 15, 61)
        fits = fit_curves(kept, [ERROR] * 6)
        return np.maximum(half_lives(futures(fits, kept, [ERROR] * 6, times), times), 5)

    held, tried, _ = covered(loops, draws, 6)
    assert held >= 0.9 * tried


def test_the_prior_alone_covers_what_follows(loops) -> None:
    """Without any iteration the bias that was measured is the interval."""
    held = 0
    for kept, prior in loops:
        half = crossing(kept, 0.5)
        halves = posterior(prior, None, ANY).half_lives()
        low, high = np.quantile(halves, (0.025, 0.975), method="inverted_cdf")
        held += min(low, LENGTH) <= (np.inf if half is None else half) <= (np.inf if high > LENGTH else high)
    assert held >= 0.9 * len(loops)
