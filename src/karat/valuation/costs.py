"""What a point of score costs, by human and by synthetic records. Knows no trainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.errors import BadSetting
from karat.records import Records
from karat.valuation import equivalence as worth
from karat.valuation.joint import Law

Floats = NDArray[np.float64]

POINT = {"bleu": 1.0, "chrf": 1.0}
"""what a point is: one of BLEU and chrF, a hundredth of all else"""
FARTHEST = 3.0
"""times the largest set that a curve is drawn on beyond its end"""


@dataclass(frozen=True)
class Way:
    """Records to buy and what they cost; None where no such number can be told."""

    human: int | None
    synthetic: int | None
    usd: float | None
    interval: tuple[float | None, float | None] = (None, None)
    """of the dollars"""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return one way as plain JSON."""
        return {
            "human": self.human,
            "synthetic": self.synthetic,
            "usd": self.usd,
            "interval": list(self.interval),
            "note": self.note or None,
        }


@dataclass(frozen=True)
class Cost:
    """Prices, and what the next point and a wanted score cost."""

    human_price: float | None
    """dollars for a human record, as told; None where nobody told"""
    synthetic_price: float | None
    """dollars for a synthetic record, the mean of those whose lineage says it"""
    known_share: float
    """share of the synthetic records whose lineage holds a cost"""
    spent: float | None
    """dollars for all synthetic records at that price"""
    point: float
    next_human: Way
    """one point more than all human records give, by more human records"""
    next_synthetic: Way
    """the same by the synthetic records at hand"""
    wanted: float | None
    ways: tuple[Way, ...]
    """to the wanted score, the cheapest first: human only, synthetic only, the best mixture by the law"""
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Return what `karat value --json` prints under `cost`."""
        return {
            "human_price": self.human_price,
            "synthetic_price": self.synthetic_price,
            "known_share": self.known_share,
            "spent": self.spent,
            "point": self.point,
            "next_point": {
                "human": self.next_human.to_json(),
                "synthetic": self.next_synthetic.to_json(),
            },
            "wanted": self.wanted,
            "ways": [way.to_json() for way in self.ways],
            "sentence": self.sentence,
        }


def prices(synthetic: Records) -> tuple[float | None, float]:
    """Return the mean cost of a synthetic record in dollars, and the share of records that tell theirs."""
    told = [float(usd) for usd in synthetic.lineage("cost_usd") if usd is not None and np.isfinite(usd)]
    return (float(np.mean(told)) if told else None), len(told) / max(len(synthetic), 1)


def check(human_price: float, wanted: float) -> None:
    """Raise BadSetting for a price below zero."""
    if human_price < 0 or not np.isfinite(human_price):
        raise BadSetting(f"human_price is {human_price}, but must be dollars for a record, 0 if not known")
    if np.isinf(wanted):
        raise BadSetting(f"wanted is {wanted}, but must be a score")


def cost(
    synthetic: Records,
    *,
    metric: str,
    sign: float,
    human_price: float,
    wanted: float,
    human: tuple[Sequence[int], Floats, Floats],
    artificial: tuple[Sequence[int], Floats, Floats],
    gain: tuple[float, Floats],
    law: Law | None,
) -> Cost:
    """Return what points cost. Scores are turned so that more is better; `sign` turns them back.

    human, artificial: sizes, mean scores [sizes] and resamples [trials, sizes] of both curves; gain: that of
    all synthetic records added to all human ones, and its resamples [trials]; law: the joint law of -score.
    human_price 0 and wanted nan stand for not told.
    """
    mine, share = prices(synthetic)
    theirs = human_price or None
    point = POINT.get(metric, 0.01)
    after_human = _next_human(*human, point, theirs)
    after_synthetic = _next_synthetic(*gain, artificial[0][-1], point, mine)
    ways: list[Way] = []
    if not np.isnan(wanted):
        ways.append(_reach(*human, sign * wanted, theirs, "human"))
        ways.append(_reach(*artificial, sign * wanted, mine, "synthetic"))
        if law is not None and theirs is not None and mine is not None:
            ways.append(_mixture(law, sign * wanted, human[0][-1], artificial[0][-1], theirs, mine))
        ways.sort(key=lambda way: np.inf if way.usd is None else way.usd)
    spent = None if mine is None else mine * len(synthetic)
    return Cost(
        theirs,
        mine,
        share,
        spent,
        point,
        after_human,
        after_synthetic,
        None if np.isnan(wanted) else float(wanted),
        tuple(ways),
        _sentence(metric, point, after_human, after_synthetic, wanted, ways),
    )


def _next_human(sizes: Sequence[int], point: Floats, draws: Floats, step: float, price: float | None) -> Way:
    """Go on along the end of the human curve, straight on log(size), until it is a point higher."""
    if len(sizes) < 2:
        return Way(None, None, None, note="one human size has no slope")
    more = _steeper(sizes, point[None, :], step)[0]
    drawn = _steeper(sizes, draws, step)
    ends = np.quantile(drawn, [0.025, 0.975], method="nearest")
    most = (FARTHEST - 1) * sizes[-1]
    if more > most:
        note = f"more than {most:,.0f} further records: the curve is too flat to say how many"
        return Way(None, 0, None, (_usd(float(ends[0]), price, most), None), note)
    low, high = (_usd(float(end), price, most) for end in ends)
    return Way(round(float(more)), 0, _usd(float(more), price, most), (low, high), _unpriced(price, "human"))


def _steeper(sizes: Sequence[int], curves: Floats, step: float) -> Floats:
    """Return how many more records give `step`, by the slope of the curve's last tenfold."""
    logs = np.log(np.asarray(sizes, float))
    last = logs >= logs[-1] - np.log(10.0)
    last[-2:] = True
    x = logs[last] - logs[last].mean()
    slope = (curves[:, last] @ x) / float(x @ x)
    with np.errstate(divide="ignore", over="ignore"):
        grown = np.where(slope > 0, np.exp(np.minimum(step / np.maximum(slope, 1e-12), 60.0)) - 1, np.inf)
    return np.asarray(sizes[-1] * grown)


def _next_synthetic(gain: float, draws: Floats, records: int, step: float, price: float | None) -> Way:
    """All synthetic records beside all human ones give so many points; a point costs its share of them."""
    low, high = (float(q) for q in np.quantile(draws, [0.025, 0.975]))
    if low <= 0:
        return Way(0, None, None, note="no gain from adding the synthetic records to all human ones is shown")
    if price is None:
        return Way(0, round(records * step / gain), None, note=_unpriced(price, "synthetic"))
    usd = records * price
    return Way(0, round(records * step / gain), usd * step / gain, (usd * step / high, usd * step / low))


def _reach(
    sizes: Sequence[int], point: Floats, draws: Floats, target: float, price: float | None, side: str
) -> Way:
    """Return how many records of one side reach the target."""
    found = float(worth.reach(sizes, point[None, :], np.array([target]))[0])
    drawn = worth.reach(sizes, draws, np.full(len(draws), target))
    low, high = (float(q) for q in np.quantile(drawn, [0.025, 0.975], method="nearest"))
    if found == worth.ABOVE:
        return Way(None, None, None, note=f"{side} records alone do not reach it with {sizes[-1]:,}")
    count = max(1, round(found if found != worth.BELOW else sizes[0]))
    note = f"the fewest tried, {sizes[0]:,}, are enough" if found == worth.BELOW else _unpriced(price, side)
    ends = (_usd(max(low, 0.0), price, np.inf), None if high == worth.ABOVE else _usd(high, price, np.inf))
    human, made = (count, 0) if side == "human" else (0, count)
    return Way(human, made, _usd(count, price, np.inf), ends, note)


def _mixture(law: Law, target: float, human: int, synthetic: int, theirs: float, mine: float) -> Way:
    """Return the cheapest mixture that the joint law says is enough, within the sizes at hand."""
    r = np.unique(np.concatenate([[0], np.geomspace(1, human, 120).round()]))
    s = np.unique(np.concatenate([[0], np.geomspace(1, synthetic, 120).round()]))
    R, S = np.meshgrid(r, s, indexing="ij")
    enough = law.loss(R, S) <= -target
    if not enough.any():
        return Way(None, None, None, note="no mixture of the records at hand reaches it, by the joint law")
    price = np.where(enough, R * theirs + S * mine, np.inf)
    at = np.unravel_index(int(price.argmin()), price.shape)
    return Way(int(R[at]), int(S[at]), float(price[at]), note="by the joint law")


def _usd(records: float, price: float | None, most: float) -> float | None:
    return None if price is None or records > most else records * price


def _unpriced(price: float | None, side: str) -> str:
    if price is not None:
        return ""
    cure = "tell it with --human-price" if side == "human" else "no lineage holds cost_usd"
    return f"the price of a {side} record is not known: {cure}"


def _sentence(metric: str, point: float, human: Way, made: Way, wanted: float, ways: Sequence[Way]) -> str:
    """Say what the next point costs on both ways and, if asked, the cheapest way to a score."""
    said = [
        f"the next {point:g} of {metric} costs {_words(human)} by human and {_words(made)} by "
        "synthetic records"
    ]
    if ways and not np.isnan(wanted):
        best = ways[0]
        if best.usd is None:
            reached = [way for way in ways if way.human is not None or way.synthetic is not None]
            said.append(
                f"{wanted:g} is reached with {_words(reached[0])}"
                if reached
                else f"{wanted:g} is not reached"
            )
        else:
            records = f"{best.human or 0:,} human and {best.synthetic or 0:,} synthetic records"
            said.append(f"the cheapest way to {wanted:g} is {records} for ${best.usd:,.2f}")
    text = "; ".join(said)
    return text[0].upper() + text[1:] + "."


def _words(way: Way) -> str:
    count = (way.human or 0) + (way.synthetic or 0)
    if way.usd is not None:
        return f"${way.usd:,.2f} ({count:,} records)"
    if way.human is None or way.synthetic is None:
        return "nobody can tell how much"
    return f"about {count:,} records"
