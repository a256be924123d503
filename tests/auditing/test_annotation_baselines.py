"""What stands beside label metrics: chance, best, intervals, and p-values that keep their promise."""

from __future__ import annotations

import numpy as np
import pytest
from annotation_corpora import Told, context, drawn, people

from karat import registry
from karat.auditing import labels_distance, labels_paired, labels_people, labels_sheet
from karat.auditing.base import Comparison

# A spread of opinions: some items clear, some not; labels 0 .. 2, 0 the commonest.
SHAPE = np.array([0.9, 0.5, 0.4])
TESTED = (
    "majority_match",
    "minority_match",
    "label_flips",
    "label_variation:measure=sd",
    "label_variation:measure=entropy",
    "label_mismatch",
    "label_distribution",
    "label_distribution:level=pooled,distance=jsd",
    "item_information",
    "response_repetition",
    "annotator_agreement",
)


def compared(spec: str, model: Told, human: Told, trials: int = 40, *, seed: int = 0) -> Comparison:
    """A metric of two corpora."""
    found: Comparison = registry.make("metrics", spec).compare(model, human, context(trials, seed=seed))
    return found


def crowd(n: int, *, seed: int, people_each: int = 3, draws: int = 5) -> tuple[Told, Told]:
    """A model that answers like another group of the same people, and the people."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(SHAPE, n)
    return Told({"m": drawn(rng, shares, draws)}), Told(people(drawn(rng, shares, people_each)))


def test_no_false_alarms() -> None:
    """Where the model is another group of the same people, at most 10 of 100 seeds have p < .05."""
    alarms = dict.fromkeys(TESTED, 0)
    warned = 0
    for seed in range(100):
        model, human = crowd(40, seed=seed)
        for spec in TESTED:
            found = compared(spec, model, human, 39, seed=seed)
            alarms[spec] += found.p is not None and found.p < 0.05
            warned += len(found.warnings)
    assert {spec: n for spec, n in alarms.items() if n > 10} == {}
    assert 0 == warned


@pytest.mark.parametrize(("each", "draws"), [(3, 5), (5, 5), (3, 1)])
def test_best_is_what_other_people_would_get(each: int, draws: int) -> None:
    """`best` is fitted on few labels an item and still meets what a second group of people really gets."""
    for spec in ("majority_match", "label_mismatch", "item_information"):
        values, best = [], []
        for seed in range(6):
            model, human = crowd(600, seed=seed, people_each=each, draws=draws)
            found = compared(spec, model, human, 20)
            values.append(found.value)
            best.append(found.best)
        if np.isfinite(values).all():
            assert float(np.mean(values)) == pytest.approx(float(np.mean(best)), abs=0.03), spec


@pytest.mark.parametrize("kind", ["tvd", "jsd"])
@pytest.mark.parametrize("model", ["same", "constant", "mixed"])
def test_distances_are_corrected(kind: str, model: str) -> None:
    """With three people and five draws the corrected distance is nearer to the truth than the raw one."""
    rng = np.random.default_rng(4)
    shares = rng.dirichlet(SHAPE, 2000)
    answers = {
        "same": shares,
        "constant": np.tile([1.0, 0, 0], (2000, 1)),
        "mixed": 0.5 * shares + 0.5 * rng.dirichlet(SHAPE, 2000),
    }[model]
    truth = float(labels_distance.distance(answers, shares, kind).mean())
    told = Told({"m": drawn(rng, answers, 5)}), Told(people(drawn(rng, shares, 3)))
    found = compared(f"label_distribution:distance={kind}", *told, 20)
    raw = found.details["raw"]
    if abs(raw - truth) > 0.02:
        assert abs(found.value - truth) < 0.7 * abs(raw - truth)
    if model != "same":  # at no distance at all shares cannot be told from their noise: best says how far
        assert truth == pytest.approx(found.value, abs=0.03)
    else:
        assert found.best == pytest.approx(found.value, abs=0.02)


def test_chance_is_an_annotator_who_never_looked() -> None:
    """For a constant annotator value and chance are equal; the mean over all pairings is the exact chance."""
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(SHAPE, 200)
    human = people(drawn(rng, shares, 3))
    constant = compared("majority_match", Told({"m": [["0"] * 5] * 200}), Told(human))
    assert constant.value == constant.chance
    looking = drawn(rng, shares, 1)
    found = compared("label_flips", Told({"m": looking}), Told(human), 200)
    labels = np.array([[int(x) for x in item] for item in drawn(rng, shares, 1)])
    assert labels.shape == (200, 1)
    table = np.array([[int(items[0]) for items in row] for row in human.values()])
    flat = np.array([int(item[0]) for item in looking])
    exact = np.mean(flat[:, None, None] != table.T[None])
    assert float(exact) == pytest.approx(found.chance, abs=0.01)


def test_intervals_cover() -> None:
    """95% intervals of shares, flips and r hold the truth at least 88 times in 100."""
    rng = np.random.default_rng(9)
    shares = rng.dirichlet(SHAPE, 20000)
    human, model = (np.array(drawn(rng, shares, n)) for n in (3, 5))
    tables = {
        spec: compared(
            spec, Told({"m": model[:6000].tolist()}), Told(people(human[:6000].tolist())), 20
        ).value
        for spec in ("majority_match", "label_flips", "item_information")
    }
    hits = dict.fromkeys(tables, 0)
    for trial in range(50):
        rows = rng.integers(0, len(shares), 150)
        told = Told({"m": model[rows].tolist()}), Told(people(human[rows].tolist()))
        for spec, truth in tables.items():
            interval = compared(spec, *told, 20, seed=trial).interval
            assert interval is not None
            hits[spec] += interval[0] <= truth <= interval[1]
    assert all(n >= 44 for n in hits.values()), hits


def test_swaps_keep_items_and_sizes() -> None:
    """A swap deals the labels of an item anew: totals by item, and the length of each list, stay."""
    model, human = crowd(30, seed=2)
    paired = labels_paired.pair(labels_sheet.read(model.columns, human.columns))
    ours, theirs = paired.swapped(np.random.default_rng(0))
    assert np.array_equal(paired.mine.counts.sum(axis=1), ours.sum(axis=1))
    assert np.array_equal(paired.theirs.counts.sum(axis=1), theirs.sum(axis=1))
    before = paired.mine.by_item(paired.items) + paired.human
    after = sum(
        labels_sheet.summed(lists.item, rows, paired.items)
        for lists, rows in ((paired.mine, ours), (paired.theirs, theirs))
    )
    assert np.array_equal(before, after)
    shuffled = paired.shuffled(np.random.default_rng(0))
    assert sorted(map(tuple, paired.mine.counts)) == sorted(map(tuple, shuffled))


def test_concentration_is_found() -> None:
    """The Dirichlet-multinomial model finds the concentration that labels were made with."""
    rng = np.random.default_rng(0)
    for size in (0.5, 2.0, 8.0):
        shares = rng.dirichlet(np.array([0.5, 0.3, 0.2]) * size, 6000)
        counts = rng.multinomial(4, shares)
        assert size == pytest.approx(labels_people.concentration(counts), rel=0.1)


def test_by_annotator() -> None:
    """Each annotator has a value of its own, its interval, its number of items, and its own chance."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(SHAPE, 100)
    human = Told(people(drawn(rng, shares, 3)))
    both = {"good": drawn(rng, shares, 3), "bad": [["2"] * 3] * 60}
    found = compared("majority_match", Told(both), human)
    alone = {name: compared("majority_match", Told({name: items}), human) for name, items in both.items()}
    for name, one in alone.items():
        assert one.value == pytest.approx(found.by[name][0])
        assert one.n == found.by[name][2]
        assert one.chance == pytest.approx(found.details[f"chance.{name}"], abs=0.05)
    weighted = sum(one.value * one.n for one in alone.values()) / sum(one.n for one in alone.values())  # type: ignore[operator,misc]
    assert weighted == pytest.approx(found.value)
