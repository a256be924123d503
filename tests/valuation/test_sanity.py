"""A worth whose answer is known beforehand, on real human records with the linear trainer.

The synthetic set is made of human records that the human side does not hold: as they are, with noisy labels,
or doubled. So the right worth is known without any generator.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import karat
from karat import records, registry
from karat.records import Records
from karat.valuation import curves, reading
from karat.valuation.equivalence import Equivalence

TRAINER = "linear:characters=0"


@pytest.fixture(scope="module")
def news(data_dir: Path) -> Records:
    """7,600 news titles of four topics."""
    found = records.read(data_dir / "ag_news_test" / "ag_news_test.jsonl.gz", fields={"text": "title"})
    _, first = np.unique([" ".join(text.lower().split()) for text in found.texts()], return_index=True)
    return found.take(np.random.default_rng(0).permutation(first))


def cut(
    news: Records, human: int, synthetic: int, test: int, seed: int = 0
) -> tuple[Records, Records, Records]:
    """Return disjoint human, synthetic and test records of one source."""
    order = np.random.default_rng([seed, 5]).permutation(len(news))
    ends = np.cumsum([human, synthetic, test])
    one, other, last = (news.take(order[a:b]) for a, b in zip((0, *ends), ends))
    return one, other, last


def noisy(found: Records, share: float, seed: int = 0) -> Records:
    """Return the records with this share of labels drawn anew, from the same labels."""
    rng = np.random.default_rng([seed, 6])
    labels = np.array(found.labels(), dtype=object)
    drawn = rng.random(len(labels)) < share
    labels[drawn] = rng.permutation(labels[drawn])
    return found.with_column("label", labels.tolist())


def worth(synthetic: Records, human: Records, test: Records, seed: int = 0, seeds: int = 5) -> Equivalence:
    """Return the worth alone: the curves and their reading, as `value` makes them."""
    sizes, parts = (n for n in (curves.grid(len(side), "small") for side in (human, synthetic)))
    fits = curves.plan(
        len(human), len(synthetic), seeds=seeds, sizes=sizes, parts=parts, added_to=(len(human),)
    )
    run = partial(
        curves.run, trainer=registry.make("trainers", TRAINER), seeds=seeds, seed=seed, metric="macro_f1"
    )
    found = run(fits, human, synthetic, test)
    read = reading.read(
        found, human=sizes, synthetic=parts, added=(len(human),), texts=test.texts(), trials=300, seed=seed
    )
    return read.equivalence()


def covers(interval: tuple[float | None, float | None], truth: float) -> bool:
    low, high = interval
    return (low or 0.0) <= truth <= (np.inf if high is None else high)


def test_human_records_of_the_same_source_have_a_rate_of_one(news: Records) -> None:
    """A disjoint draw of 600 records against 1,500: the interval of the rate covers 1, within 0.5 to 2."""
    human, synthetic, test = cut(news, 1500, 600, 1500)
    found = karat.value(synthetic, human, test, trainer=TRAINER, budget="small")
    low, high = found.equivalence.rate_interval
    assert low is not None and high is not None and low <= 1 <= high
    assert 0.5 < low and high < 2.0
    assert all(row.verdict != "hurts" for row in found.marginal)


def test_the_interval_covers_one_as_often_as_it_says(news: Records) -> None:
    """Twenty disjoint draws of the same source: at least 17 of 20 intervals of 95 % cover the truth.

    By a binomial of 20 and 0.95, fewer than 17 come up in 1.6 % of such studies.
    """
    hits = 0
    for k in range(20):
        human, synthetic, test = cut(news, 500, 200, 500, seed=k)
        hits += covers(worth(synthetic, human, test, seed=k, seeds=4).rate_interval, 1.0)
    assert 17 <= hits


def test_label_noise_is_worth_nothing_and_half_noise_lies_between(news: Records) -> None:
    """Labels drawn at random: below the fewest human records tried. Half of them right: more, but under 1."""
    human, synthetic, test = cut(news, 1500, 600, 1500, seed=1)
    nothing = karat.value(noisy(synthetic, 1.0), human, test, trainer=TRAINER, budget="small")
    half = worth(noisy(synthetic, 0.5), human, test)
    clean = worth(synthetic, human, test)
    none = nothing.equivalence
    assert ("below", None, 0.0) == (none.censored, none.worth_human_records, none.interval[0])
    assert none.rate_interval[1] is not None and none.rate_interval[1] < 0.1
    assert half.rate is not None and clean.rate is not None
    assert 0.05 < half.rate < 0.7 * clean.rate
    assert half.rate_interval[1] is not None and half.rate_interval[1] < 1.0
    assert "hurts" == nothing.marginal[-1].verdict
    assert nothing.joint.eta is None or nothing.joint.eta < 0.1


def test_doubled_records_are_worth_no_more_than_themselves(news: Records) -> None:
    """300 records twice are 600 rows, but worth about what the 300 are worth."""
    human, synthetic, test = cut(news, 1500, 300, 1500, seed=2)
    doubled = synthetic.concat(synthetic.with_column("id", [f"{name}-again" for name in synthetic.ids]))
    one, two = worth(synthetic, human, test), worth(doubled, human, test)
    assert one.worth_human_records is not None and two.worth_human_records is not None
    assert two.worth_human_records < 1.25 * one.worth_human_records
    assert covers(two.interval, 300)
    assert not covers(two.rate_interval, 1.0)


def test_human_records_sold_as_synthetic_add_nothing(news: Records) -> None:
    """Copies of the human side itself: no gain beside it, the copies are named, and the sight of them too."""
    human, _, test = cut(news, 600, 10, 1000, seed=3)
    copies = human.sample(300, seed=1).with_column("id", [f"copy{i}" for i in range(300)])
    found = karat.value(copies, human, test, trainer=TRAINER, budget="small", seeds=3)
    assert "helps" != found.marginal[-1].verdict
    warned: dict[str, Any] = {w.code: w for w in found.warnings}
    assert 300 == len(warned["copied_human"].records)
    assert found.generator_saw_human in ("part", "yes")
    assert "yes" == found.to_json()["generator_saw_human"], "three words are promised"


def test_seventy_seven_intents(data_dir: Path) -> None:
    """Many labels, few records each: the rate of a disjoint draw covers 1 too."""
    every = records.read(data_dir / "banking77" / "banking77.jsonl.gz")
    train, test = (
        every.where([s == "train" for s in every.column("split")]),
        every.where([s == "test" for s in every.column("split")]),
    )
    human, synthetic, _ = cut(train, 2000, 1000, 10, seed=4)
    found = worth(synthetic, human, test.sample(1000), seeds=3)
    assert covers(found.rate_interval, 1.0)
    assert found.rate is not None and 0.7 < found.rate < 1.4
