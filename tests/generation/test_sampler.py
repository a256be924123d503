"""The sampler: no repeats before the space is used up, even values, many pairs, exact quotas, constraints."""

from __future__ import annotations

import tracemalloc
from itertools import combinations as pairs_of
from itertools import islice, product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from karat.errors import BadSetting
from karat.generation import sampler
from karat.generation.attributes import targets
from karat.generation.constraints import Constraint, Joint
from karat.generation.draws import draws, label_sets
from karat.generation.spaces import Space
from karat.generation.tasks import Attribute, Label, Task
from karat.records import from_rows

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=4)


def rows_of(sizes: list[int], n: int, seed: int, **settings: object) -> np.ndarray:
    """The rows [n, attributes] of a sampler."""
    return np.array(list(sampler.combinations(sizes, n, seed=seed, **settings)))  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sizes=SIZES, seed=st.integers(0, 2**31), rounds=st.integers(1, 2))
def test_no_combination_comes_twice_before_all_have_come(sizes: list[int], seed: int, rounds: int) -> None:
    """Each round of as many rows as the space has members holds every member exactly once."""
    space = min(prod(sizes), 300)
    drawn = list(sampler.combinations(sizes, space * rounds, seed=seed))
    for i in range(rounds if space == prod(sizes) else 1):
        assert space == len(set(drawn[i * space : (i + 1) * space]))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(2, 6), min_size=2, max_size=3),
    seed=st.integers(0, 2**31),
    n=st.integers(1, 60),
)
def test_values_are_as_even_as_can_be(sizes: list[int], seed: int, n: int) -> None:
    """At any n, the counts of an attribute's values differ by little: a run that stops early is balanced."""
    n = min(n, prod(sizes))
    drawn = rows_of(sizes, n, seed)
    for j, size in enumerate(sizes):
        counts = np.bincount(drawn[:, j], minlength=size)
        assert counts.max() - counts.min() <= 2


def covered(rows: np.ndarray, sizes: list[int]) -> np.ndarray:
    """How many pairs of values have met after each row."""
    new = np.zeros(len(rows))
    for a, b in pairs_of(range(len(sizes)), 2):
        new[np.unique(rows[:, a] * sizes[b] + rows[:, b], return_index=True)[1]] += 1
    return new.cumsum()


def covered_by_chance(shares: list[np.ndarray], n: int) -> np.ndarray:
    """How many pairs will have met after each of n independent draws, in the mean (exact)."""
    t = np.arange(1, n + 1)[:, None]
    pairs = (np.outer(shares[a], shares[b]).ravel() for a, b in pairs_of(range(len(shares)), 2))
    return np.sum([(1 - (1 - pair) ** t).sum(axis=1) for pair in pairs], axis=0)


@pytest.mark.parametrize("skewed", [False, True])
def test_never_fewer_pairs_have_met_than_by_independent_draws(skewed: bool) -> None:
    """In 50 random spaces, at every n: no fewer than the mean of independent draws."""
    generator = np.random.default_rng(7 + skewed)
    beaten = total = 0
    for seed in range(50):
        sizes = generator.integers(1, 13, generator.integers(2, 7)).tolist()
        shares = [generator.dirichlet(np.full(s, 2.0)) if skewed else np.full(s, 1 / s) for s in sizes]
        n = int(generator.integers(5, 300))
        given = [share.tolist() for share in shares]
        ours = covered(rows_of(sizes, n, seed, shares=given), sizes)
        assert (ours >= covered_by_chance(shares, n) - 1e-9).all()
        for again in range(3):
            free = rows_of(sizes, n, 1000 * seed + again, shares=given, mode="independent")
            beaten += int((ours < covered(free, sizes)).sum())
            total += n
    # Single runs of independent draws may be lucky at one n; in the mean over all they never are.
    assert beaten <= (0.003 if skewed else 0.001) * total


def feasible(space: Space, quota: list[np.ndarray]) -> bool:
    """Whether different permitted rows can meet all quotas (linear relaxation; an independent solver)."""
    codes = space.codes()
    assert codes is not None
    rows = space.rows(codes)
    marks = np.concatenate(
        [np.eye(size)[:, rows[:, j]] for j, size in enumerate(space.sizes)], axis=0
    )  # [values of all attributes, rows]
    found = linprog(np.zeros(len(codes)), A_eq=marks, b_eq=np.concatenate(quota), bounds=(0, 1))
    return bool(found.status == 0)


@pytest.mark.parametrize("constrained", [False, True])
def test_quotas_are_met_where_they_can_be(constrained: bool) -> None:
    """Shares are met within one row of each value, also under constraints, in 98 % of feasible spaces."""
    generator = np.random.default_rng(3 + constrained)
    misses = []
    for seed in range(80):
        sizes = generator.integers(2, 8, generator.integers(2, 5)).tolist()
        clauses = []
        for _ in range(int(generator.integers(1, 4)) if constrained else 0):
            some = generator.choice(len(sizes), min(len(sizes), int(generator.integers(2, 4))), replace=False)
            clauses.append({int(j): generator.choice(sizes[j], 1 + sizes[j] // 3).tolist() for j in some})
        space = Space(sizes, clauses)
        codes = space.codes()
        if codes is None or len(codes) < 4:
            continue
        n = int(generator.integers(1, max(2, len(codes) // 2)))
        shares = [generator.dirichlet(np.full(s, 4.0)).tolist() for s in sizes]
        quota = [np.array(list(sampler.quotas(dict(enumerate(s)), n).values())) for s in shares]
        drawn = rows_of(sizes, n, seed, shares=shares, forbidden=clauses)
        assert space.permitted(drawn).all()
        assert n == len(np.unique(drawn, axis=0))
        if feasible(space, quota):
            off = [np.bincount(drawn[:, j], minlength=s) - quota[j] for j, s in enumerate(sizes)]
            misses.append(max(np.abs(o).max() for o in off))
    assert len(misses) >= 30
    assert np.mean(np.array(misses) <= 1) >= 0.98


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    seed=st.integers(0, 2**31),
    mode=st.sampled_from(["covering", "independent"]),
    data=st.data(),
)
def test_constraints_hold_in_both_modes(sizes: list[int], seed: int, mode: str, data: st.DataObject) -> None:
    """What is forbidden never comes, everything else does; where nothing is left, one line says so."""
    clause = st.dictionaries(
        st.integers(0, len(sizes) - 1), st.sets(st.integers(0, 4), min_size=1), min_size=1, max_size=3
    )
    clauses = data.draw(st.lists(clause, max_size=4))
    every = list(product(*map(range, sizes)))
    fine = {row for row in every if not any(all(row[j] in v for j, v in c.items()) for c in clauses)}
    if not fine:
        with pytest.raises(BadSetting, match="no combination of the attribute values is permitted"):
            sampler.combinations(sizes, 5, seed=seed, forbidden=clauses, mode=mode)  # type: ignore[arg-type]
        return
    n = len(fine) if mode == "covering" else 300
    drawn = list(sampler.combinations(sizes, n, seed=seed, forbidden=clauses, mode=mode))  # type: ignore[arg-type]
    assert n == len(drawn)
    assert fine == set(drawn) if mode == "covering" else fine >= set(drawn)


def test_independent_draws_are_independent_with_the_given_shares() -> None:
    """Paper mode: each cell of the table comes as often as the product of shares, within 4 deviations."""
    shares = [[0.5, 0.3, 0.2], [0.1, 0.9], [1.0, 0.0]]
    drawn = rows_of([3, 2, 2], 20_000, 5, shares=shares, mode="independent")
    assert 0 == drawn[:, 2].max()
    for a, b in product(range(3), range(2)):
        share = shares[0][a] * shares[1][b]
        seen = float(((drawn[:, 0] == a) & (drawn[:, 1] == b)).mean())
        assert abs(seen - share) <= 4 * (share * (1 - share) / 20_000) ** 0.5


def test_little_that_is_permitted_is_found_in_a_huge_space() -> None:
    """Of 10^8 combinations 16 are permitted: both modes find them, covering all before one comes again."""
    sizes = [100] * 4
    clauses = [{j: range(2, 100)} for j in range(4)]
    for mode in ("covering", "independent"):
        drawn = rows_of(sizes, 32, 1, forbidden=clauses, mode=mode)
        assert 1 == drawn.max()
        assert (
            16 == len(np.unique(drawn[: 16 if mode == "covering" else 32], axis=0)) or mode == "independent"
        )


def test_target_shares_are_met_at_every_stage() -> None:
    """Given shares, a run that stops after ten of twenty rows has them too, within two rows."""
    shares = [[0.5, 0.3, 0.2], [0.125] * 8, [0.1, 0.9]]
    drawn = rows_of([3, 8, 2], 20, 0, shares=shares)
    assert np.abs(np.bincount(drawn[:10, 0], minlength=3) - np.array([5, 3, 2])).max() <= 2
    assert [10, 6, 4] == np.bincount(drawn[:, 0]).tolist()
    assert [2, 18] == np.bincount(drawn[:, 2]).tolist()


def test_joint_shares_are_met() -> None:
    """Pairs of two attributes come as often as asked, those without a share never."""
    joint = [[0.4, 0.0, 0.1], [0.0, 0.3, 0.2]]
    shares = [[0.5, 0.5], [0.4, 0.3, 0.3], [0.01] * 100]
    drawn = rows_of([2, 3, 100], 200, 2, shares=shares, joint={(0, 1): joint})
    seen = np.zeros((2, 3))
    np.add.at(seen, (drawn[:, 0], drawn[:, 1]), 1)
    assert np.abs(seen - 200 * np.array(joint)).max() <= 1


def test_a_huge_space_is_sampled_without_repeats() -> None:
    """A space of 10^12 or 10^30 is not enumerated, and still nothing repeats."""
    for sizes in ([10_000] * 3, [1000] * 10):
        assert 300 == len(np.unique(rows_of(sizes, 300, 4), axis=0))


def test_rows_come_one_by_one_and_memory_stays_small() -> None:
    """Of 10^7 rows of 10^9 combinations the first come at once, and 3,000 take under 30 MB."""
    tracemalloc.start()
    drawn = sampler.combinations([1000, 1000, 1000], 10_000_000, seed=0)
    assert 3000 == sum(1 for _ in islice(drawn, 3000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


def test_one_seed_gives_one_order() -> None:
    """The same seed draws the same, another another; in both modes."""
    for mode in ("covering", "independent"):
        first, again, other = (rows_of([4, 4, 4], 30, s, mode=mode).tolist() for s in (1, 1, 2))
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


AGES = Task(
    "note",
    (Label("ill"), Label("well")),
    attributes=(
        Attribute("age", ("8", "40", "70")),
        Attribute("disease", by_label={"ill": ("hypertension", "a cold"), "well": ("none",)}),
        Attribute("style", tuple("abcdefgh")),
    ),
    constraints=(
        Constraint(forbid={"age": ("8",), "disease": ("hypertension",)}),
        Constraint(given={"label": ("well",), "age": ("70",)}, then={"style": ("a", "b")}),
    ),
)


def test_label_sets_have_the_wanted_sizes_and_shares() -> None:
    """Rows have as many labels as asked, labels come by their shares at every stage, and all pairs meet."""
    names = tuple("abcdef")
    task = Task(
        "note",
        tuple(map(Label, names)),
        multi_label=True,
        cardinality={1: 0.5, 2: 0.3, 3: 0.2},
        shares={"a": 0.3, "b": 0.3, "c": 0.1, "d": 0.1, "e": 0.1, "f": 0.1},
    )
    rows = label_sets(task, 200, seed=5)
    assert {1: 100, 2: 60, 3: 40} == {size: sum(len(r) == size for r in rows) for size in (1, 2, 3)}
    assert all(len(set(row)) == len(row) for row in rows)
    for n in (50, 200):
        total = sum(map(len, rows[:n]))
        for name in names:
            assert abs(sum(name in row for row in rows[:n]) - task.shares[name] * total) <= 4
    met = {frozenset(pair) for row in rows for pair in pairs_of(row, 2)}
    assert 15 == len(met)
    assert rows == label_sets(task, 200, seed=5)
    assert [("x",)] * 3 == label_sets(Task("note", (Label("x"),)), 3, seed=0)


@pytest.mark.parametrize("mode", ["covering", "independent"])
def test_a_task_is_drawn_within_its_constraints(mode: str) -> None:
    """No child with hypertension; who is 70 and well has one of two styles, and elsewhere all styles come."""
    for label, n in (("ill", 40), ("well", 18)):
        rows = list(draws(AGES, label, n, seed=3, mode=mode))  # type: ignore[arg-type]
        assert all(rule.holds(label, row) for rule in AGES.constraints for row in rows)
        if mode == "covering":
            assert n == len({tuple(row.values()) for row in rows})
    assert {"8"} < {row["age"] for row in draws(AGES, "ill", 40, seed=3)}


def test_targets_are_taken_from_human_records() -> None:
    """Shares of labels and values, of each class where asked, and of pairs of values."""
    rows = [
        {
            "id": str(i),
            "text": "x",
            "label": label,
            "lineage": {"attributes": f'{{"age": "{age}", "style": "{s}"}}'},
        }
        for i, (label, age, s) in enumerate(
            [("ill", "70", "a")] * 3 + [("ill", "40", "b")] + [("well", "40", "a")] * 3 + [("well", "8", "c")]
        )
    ]
    human = from_rows(rows, datatype="classification")
    task = Task("note", AGES.labels, attributes=(AGES.attributes[0], AGES.attributes[2]))
    found = targets(task, human)
    assert {"8": 1 / 8, "40": 4 / 8, "70": 3 / 8} == found.attributes[0].weights
    assert {"ill": 0.5, "well": 0.5} == found.shares
    own = targets(task, human, by_label=True)
    assert {"40": 0.25, "70": 0.75} == own.attributes[0].weights_by_label["ill"]
    pairs = targets(task, human, joint=("age", "style"))
    assert (
        Joint(
            ("age", "style"), (("40", "a", 3 / 8), ("40", "b", 1 / 8), ("70", "a", 3 / 8), ("8", "c", 1 / 8))
        )
        in pairs.joint
    )
    drawn = list(draws(pairs, "ill", 4, seed=0))
    assert {("40", "a"), ("70", "a")} <= {(row["age"], row["style"]) for row in drawn}


@pytest.mark.parametrize("seed", range(4))
def test_shares_hold_where_a_space_is_exhausted(seed: int) -> None:
    """More rows than combinations: each comes once first, and in the end values came as often as wanted."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 5, size=3).tolist()
    shares = [rng.dirichlet(np.ones(size) * 2).tolist() for size in sizes]
    n = 400
    rows = np.array(list(sampler.combinations(sizes, n, seed=seed, shares=shares)))
    for j, share in enumerate(shares):
        counts = np.bincount(rows[:, j], minlength=sizes[j])
        assert np.abs(counts - n * np.array(share)).max() <= 1.5
    # Each combination comes about as often as the product of its shares says.
    chance = np.prod([np.array(share)[rows[:, j]] for j, share in enumerate(shares)], axis=0)
    codes, first, times = np.unique(rows, axis=0, return_index=True, return_counts=True)
    assert np.abs(times - n * chance[first]).max() <= 3
    assert len(codes) == np.prod(sizes) == len(np.unique(rows[: np.prod(sizes)], axis=0))


def test_shares_hold_under_constraints_where_a_space_is_exhausted() -> None:
    """A forbidden pair bends the product; the margins are met all the same, and the pair never comes."""
    shares = [[0.5, 0.3, 0.2], [0.6, 0.4]]
    rows = list(sampler.combinations([3, 2], 200, seed=1, shares=shares, forbidden=[{0: {0}, 1: {1}}]))
    assert (0, 1) not in rows
    table = np.array(rows)
    assert [100, 60, 40] == np.bincount(table[:, 0]).tolist()
    assert [120, 80] == np.bincount(table[:, 1]).tolist()
