"""What a point of score costs, on curves whose prices are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from karat import records
from karat.errors import BadSetting
from karat.records import Records
from karat.valuation import costs
from karat.valuation.joint import Law

SIZES = (100, 200, 400, 800, 1000)


def curve(scale: float = 1.0) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    """A score of 0.1 ln(n * scale), exactly: a point (0.01) more takes exp(0.1) times the records."""
    score = 0.1 * np.log(np.array(SIZES) * scale)
    return SIZES, score, np.repeat(score[None], 50, axis=0)


def priced(usd: float | None = 0.002, told: int = 10) -> Records:
    rows = records.from_rows([{"text": f"x {i}", "label": "a"} for i in range(10)])
    return rows if usd is None else rows.with_lineage(cost_usd=[usd] * told + [None] * (10 - told))


def made(synthetic: Records, **changed: Any) -> costs.Cost:
    settings: dict[str, Any] = {
        "metric": "accuracy",
        "sign": 1.0,
        "human_price": 0.5,
        "wanted": 0.55,
        "human": curve(),
        "artificial": curve(0.5),
        "gain": (0.05, np.linspace(0.04, 0.06, 101)),
        "law": None,
    }
    return costs.cost(synthetic, **{**settings, **changed})


def test_the_next_point_of_human_records() -> None:
    """1,000 records more by exp(0.1) - 1, at half a dollar each."""
    way = made(priced()).next_human
    more = 1000 * (np.exp(0.1) - 1)
    assert round(more) == way.human
    assert 0.5 * more == pytest.approx(way.usd)
    assert 0.5 * more == pytest.approx(way.interval[0])


def test_the_next_point_of_synthetic_records() -> None:
    """1,000 records for two dollars give five points: forty cents each, from its interval 33 to 50."""
    way = made(priced()).next_synthetic
    assert (200, 0.4) == (way.synthetic, pytest.approx(way.usd))
    low, high = way.interval
    assert low == pytest.approx(2 / 6, rel=0.02) and high == pytest.approx(0.5, rel=0.03)
    none = made(priced(), gain=(0.001, np.linspace(-0.01, 0.01, 101))).next_synthetic
    assert none.usd is None and "no gain" in none.note


def test_the_cheapest_way_comes_first() -> None:
    """0.55 is reached by 245 human records for $122 or by twice as many synthetic ones for $1."""
    found = made(priced())
    first, second = found.ways
    assert (0, pytest.approx(2 * np.exp(5.5), rel=0.02)) == (first.human, first.synthetic)
    assert 0.002 * 2 * np.exp(5.5) == pytest.approx(first.usd, rel=0.02)
    assert 0.5 * np.exp(5.5) == pytest.approx(second.usd, rel=0.02)
    assert "cheapest way to 0.55 is 0 human and" in found.sentence


def test_a_mixture_by_the_joint_law() -> None:
    """With a floor under synthetic records alone, the cheapest set that is good enough is mixed."""
    law = Law(E=-0.8, A=1.0, alpha=0.3, eta=0.5, B=0.06, gamma=2.0)
    found = made(priced(), law=law, wanted=0.62)
    mixed = [way for way in found.ways if way.human and way.synthetic]
    assert 1 == len(mixed)
    assert law.loss(mixed[0].human, mixed[0].synthetic) <= -0.62 + 1e-9
    grid = [(r, s) for r in range(0, 1001, 5) for s in range(0, 1001, 20) if r + s]
    best = min(0.5 * r + 0.002 * s for r, s in grid if law.loss(r, s) <= -0.62)
    assert best == pytest.approx(mixed[0].usd, rel=0.06)


def test_what_is_not_known_is_not_made_up() -> None:
    """No price, no dollars; a score that no curve reaches has no way; records are still counted."""
    found = made(priced(None), human_price=0.0, wanted=0.9)
    assert (None, None, None, 0.0) == (
        found.human_price,
        found.synthetic_price,
        found.spent,
        found.known_share,
    )
    assert found.next_human.usd is None and found.next_human.human is not None
    assert "--human-price" in found.next_human.note
    assert found.next_synthetic.usd is None and "no lineage holds cost_usd" in found.next_synthetic.note
    assert all(way.usd is None and way.human is None for way in found.ways)
    assert "0.9 is not reached" in found.sentence
    assert 0.5 == made(priced(told=5)).known_share


def test_a_flat_curve_is_not_drawn_on_for_ever() -> None:
    """No number of records beyond three times the largest set."""
    flat = (SIZES, np.full(5, 0.7), np.full((50, 5), 0.7))
    way = made(priced(), human=flat).next_human
    assert way.human is None and "too flat" in way.note


def test_prices_below_zero_are_refused() -> None:
    """One line with the value."""
    with pytest.raises(BadSetting, match=r"human_price is -1"):
        costs.check(-1, 0.5)
