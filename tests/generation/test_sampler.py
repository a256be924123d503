"""The sampler: no repeats before the space is used up, even values, many pairs, exact quotas."""

from __future__ import annotations

from itertools import combinations as pairs_of
from math import prod

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from karat.generation import sampler

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 2**31), rounds=st.integers(1, 2))
def test_no_combination_comes_twice_before_all_have_come(sizes: list[int], seed: int, rounds: int) -> None:
    """Each round of as many rows as the space has members holds every member exactly once."""
    space = min(prod(sizes), 300)
    drawn = list(sampler.combinations(sizes, space * rounds, seed=seed))
    for i in range(rounds if space == prod(sizes) else 1):
        assert space == len(set(drawn[i * space : (i + 1) * space]))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 6), min_size=2, max_size=3),
    seed=st.integers(0, 2**31),
    n=st.integers(1, 60),
)
def test_values_are_as_even_as_can_be(sizes: list[int], seed: int, n: int) -> None:
    """At any n, the counts of an attribute's values differ by little: a run that stops early is balanced."""
    n = min(n, prod(sizes))
    drawn = np.array(list(sampler.combinations(sizes, n, seed=seed)))
    for j, size in enumerate(sizes):
        counts = np.bincount(drawn[:, j], minlength=size)
        assert counts.max() - counts.min() <= 2


def test_more_pairs_meet_than_by_independent_draws() -> None:
    """At every n up to the space, at least as many value pairs have met as by drawing independently."""
    sizes = [5, 4, 6]
    drawn = np.array(list(sampler.combinations(sizes, 120, seed=1)))
    generator = np.random.default_rng(1)
    free = np.stack([generator.integers(0, size, 120) for size in sizes], axis=1)
    for n in range(5, 121, 5):
        met, by_chance = (
            sum(len({(r[a], r[b]) for r in rows[:n].tolist()}) for a, b in pairs_of(range(3), 2))
            for rows in (drawn, free)
        )
        assert met >= by_chance


def test_target_shares_are_met() -> None:
    """Given shares, each value comes as often as asked, within two rows of forty."""
    shares = [[0.5, 0.3, 0.2], [0.25] * 4, [0.1, 0.9]]
    drawn = np.array(list(sampler.combinations([3, 4, 2], 40, seed=0, shares=shares)))
    counts = np.bincount(drawn[:10, 0], minlength=3)
    assert np.abs(counts - np.array([5, 3, 2])).max() <= 2


def test_a_huge_space_is_sampled_without_repeats() -> None:
    """A space of a million million is not enumerated, and still nothing repeats."""
    drawn = list(sampler.combinations([10_000, 10_000, 10_000], 500, seed=4))
    assert 500 == len(set(drawn))


def test_one_seed_gives_one_order() -> None:
    """The same seed draws the same, another another."""
    first, again, other = (list(sampler.combinations([4, 4, 4], 30, seed=s)) for s in (1, 1, 2))
    assert first == again
    assert first != other


@given(
    shares=st.lists(st.floats(0.01, 1), min_size=1, max_size=9),
    n=st.integers(0, 500),
)
def test_quotas_sum_to_n_and_are_within_one_of_exact(shares: list[float], n: int) -> None:
    """Largest remainder: whole numbers, none more than one from its exact share."""
    named = {str(i): share for i, share in enumerate(shares)}
    found = sampler.quotas(named, n)
    assert n == sum(found.values())
    assert all(abs(found[k] - n * v / sum(shares)) < 1 + 1e-9 for k, v in named.items())
