from __future__ import annotations

from collections import Counter

import pytest

from karat import registry
from karat.errors import BadSetting, NotEnoughData
from karat.simulation.base import HUMAN, Batch, Policy, Pool, advance, as_rows, human_batch, needed


def step(policy: Policy, pool: Batch, n: int = 100, turn: int = 0):
    generated = Batch(tuple(f"s{turn}-{i}" for i in range(n)), (turn,) * n)
    return advance(policy, pool, generated, [f"h{turn}-{i}" for i in range(n)], n=n, seed=turn)


START = human_batch([f"h-{i}" for i in range(100)])


def test_the_full_cycle_keeps_nothing_old() -> None:
    """Every row is new; a share of fresh human rows is what the setting says."""
    kept, batch = step(registry.make("cycles", "full").policy(), START)
    assert (100, 0) == (len(batch), batch.human)
    assert kept == batch
    _, batch = step(registry.make("cycles", "full:fresh_share=0.25").policy(), START)
    assert (100, 25) == (len(batch), batch.human)
    assert not set(batch.texts) & set(START.texts)


def test_the_expanding_cycle_removes_nothing() -> None:
    """All rows of before stay, in front of the new ones."""
    policy = registry.make("cycles", "expanding:growth=0.2,fresh_share=0.5").policy()
    kept, batch = step(policy, START)
    kept2, _ = step(policy, kept, turn=1)
    assert (120, 110) == (len(batch), batch.human)
    assert kept.texts == kept2.texts[:120]
    assert {HUMAN: 100, HUMAN - 1: 10, HUMAN - 2: 10, 0: 10, 1: 10} == dict(Counter(kept2.made))


def test_other_published_cycles_are_settings_of_the_same_policy() -> None:
    """Incremental, balanced and accumulate-subsample loops need no code of their own."""
    incremental = Policy(keep="sample", keep_share=0.5, batch=0.5)
    _, batch = step(incremental, START)
    assert (100, 50) == (len(batch), batch.human)
    balanced = Policy(keep="all", batch=1.0, weights="source", subsample=1.0)
    pool = START
    for turn in range(3):
        pool, batch = step(balanced, pool, turn=turn)
    assert {HUMAN: 25, 0: 25, 1: 25, 2: 25} == dict(Counter(batch.made))
    assert 400 == len(pool)
    subsampled = Policy(keep="all", batch=1.0, subsample=1.0)
    _, batch = step(subsampled, START)
    assert 100 == len(batch)
    assert 25 < batch.human < 75


def test_chance_in_a_cycle_comes_from_the_seed() -> None:
    """The same seed keeps the same rows."""
    policy = Policy(keep="sample", keep_share=0.5, batch=0.5)
    assert step(policy, START, turn=3) == step(policy, START, turn=3)
    assert step(policy, START, turn=3)[1].texts[:50] != step(policy, START, turn=4)[1].texts[:50]


def test_sizes_are_shares_of_n() -> None:
    """What the next batch needs is known before anything is written."""
    assert (15, 5) == needed(Policy(batch=0.2, generated_share=0.75), 100)


def test_every_row_says_who_made_it() -> None:
    """Human rows have no parents; synthetic rows name iteration and model."""
    rows = as_rows(Batch(("a", "b"), (HUMAN, 2)), cycle="full", seed=1, iteration=3)
    assert ("human", None, []) == tuple(rows[0]["lineage"][k] for k in ("source", "iteration", "parents"))
    assert ("synthetic", 2, ["model:full:1:2"]) == tuple(
        rows[1]["lineage"][k] for k in ("source", "iteration", "parents")
    )


def test_a_pool_deals_each_row_once_before_it_deals_again() -> None:
    """Turns do not overlap while rows last, and held-out rows are never dealt."""
    pool = Pool(tuple(f"t{i}" for i in range(100)), seed=1)
    dealt = [text for turn in range(3) for text in pool.draw(30, turn=turn)]
    assert 90 == pool.size == len(set(dealt))
    assert 10 == len(set(pool.held_out(500)) - set(dealt))
    assert pool.draw(30, turn=0) == pool.draw(30, turn=3)
    with pytest.raises(NotEnoughData):
        Pool(("a",) * 5)


@pytest.mark.parametrize("spec", ["full:fresh_share=2", "expanding:growth=0", "expanding:fresh_share=-1"])
def test_impossible_settings_are_refused(spec) -> None:
    """The error names the setting and its value."""
    with pytest.raises(BadSetting, match=spec.partition("=")[2]):
        registry.make("cycles", spec)


def test_every_cycle_on_the_shelf_gives_a_policy() -> None:
    """The contract of the shelf: a policy whose training data are never empty."""
    for name in registry.names("cycles"):
        policy = registry.make("cycles", name).policy()
        _, batch = step(policy, START)
        assert len(batch) > 0, name
