"""One law for human and synthetic records together: loss over (R, S), fitted. Knows no record and no trainer.

    L(R, S) = E + A (R + eta S)^-alpha + B (S / (R + S))^gamma

R human and S synthetic records give the loss L. eta is the exchange rate: human records that one synthetic
record replaces. E is what no amount of data removes, and B the floor of models that read synthetic records
alone: what is wrong with these does not go away with their number. Where dL/dS is above zero, adding more
synthetic records makes the model worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST_RUNS = 12
"""different (R, S) below which the six parameters are not fitted"""
ETA = (1e-3, 30.0)
ALPHA = (0.03, 2.0)
GAMMA = (0.2, 8.0)
_WIDEST = 50.0
"""times the lower end of eta's interval (or 0.02) that the upper one may be before it says nothing"""
_MISFIT, _ENOUGH = 3.0, 0.998
"""times the noise that the law may miss runs by, where it explains less than this share of the variance"""
_EARNED = 4.0
"""what B and gamma must take off the sum of squares, in units of the noise: twice their number, as in AIC"""
_FLAT = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 1.0])


@dataclass(frozen=True)
class Law:
    """The six parameters. Losses: less is better."""

    E: float
    A: float
    alpha: float
    eta: float
    B: float
    gamma: float

    def loss(self, human: Any, synthetic: Any) -> Floats:
        """Return L for numbers of records; infinite without any."""
        r, s = np.asarray(human, float), np.asarray(synthetic, float)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(r + s > 0, s / (r + s), 0.0)
            return np.asarray(
                self.E + self.A * (r + self.eta * s) ** -self.alpha + self.B * share**self.gamma
            )

    def slope(self, human: Any, synthetic: Any) -> Floats:
        """Return dL/dS: below zero where one more synthetic record helps."""
        r, s = np.asarray(human, float), np.asarray(synthetic, float)
        gain = -self.A * self.alpha * self.eta * (r + self.eta * s) ** (-self.alpha - 1)
        harm = self.B * self.gamma * (s / (r + s)) ** (self.gamma - 1) * r / (r + s) ** 2
        return np.asarray(gain + harm)


@dataclass(frozen=True)
class Stop:
    """Whether one more synthetic record helps beside `human` and `synthetic` ones."""

    human: int
    synthetic: int
    slope: float
    """change of the score by a hundred more synthetic records; more is better"""
    interval: tuple[float, float]
    verdict: str
    """goes on helping, stop adding here, or unclear"""
    best: int | None
    """the number of synthetic records, up to those tried, at which the fitted score is highest"""

    def to_json(self) -> dict[str, Any]:
        """Return one entry of `joint.stop`."""
        return {
            "human": self.human,
            "synthetic": self.synthetic,
            "slope_per_100": self.slope,
            "interval": list(self.interval),
            "verdict": self.verdict,
            "best_synthetic": self.best,
        }


@dataclass(frozen=True)
class Joint:
    """The fitted law, or why there is none."""

    runs: int
    law: Law | None
    eta: float | None
    interval: tuple[float, float] | None
    explained: float | None
    """share of the variance of the runs' scores that the law explains"""
    error: float | None
    """root mean square of what it misses, in points of the score"""
    stop: tuple[Stop, ...] = ()
    refused: str = ""
    least: int | None = None
    """the smallest set that the law is fitted to: smaller ones, which follow another law, are left out"""

    def to_json(self) -> dict[str, Any]:
        """Return what `karat value --json` prints under `joint`."""
        law = self.law
        return {
            "runs": self.runs,
            "smallest": self.least,
            "eta": self.eta,
            "interval": None if self.interval is None else list(self.interval),
            "parameters": None
            if law is None
            else {"E": law.E, "A": law.A, "alpha": law.alpha, "B": law.B, "gamma": law.gamma},
            "explained": self.explained,
            "error": self.error,
            "stop": [row.to_json() for row in self.stop],
            "refused": self.refused or None,
        }


def fit(
    human: Sequence[int],
    synthetic: Sequence[int],
    losses: Floats,
    draws: Floats,
    *,
    floor: float = -np.inf,
    at: Sequence[tuple[int, int]] = (),
    level: float = 0.95,
) -> Joint:
    """Fit the law to the losses of runs, and to each resample of them.

    human, synthetic, losses [runs]: records and mean loss of each run; draws [trials, runs]: resamples
    of these losses (over seeds and test records). floor: the least loss that there can be. at: (R, S) for
    which to say whether to stop adding.
    Refused, with the reason, where the runs cannot tell eta.
    """
    r, s = np.asarray(human, float), np.asarray(synthetic, float)
    reason = _unfit(r, s, losses, draws)
    if reason:
        return Joint(len(r), None, None, None, None, None, refused=reason)
    kept, law, quality = _where_it_holds(r, s, losses, draws, floor)
    explained, error, times = quality
    r, s, losses, draws = r[kept], s[kept], losses[kept], draws[:, kept]
    if law is None:
        reason = (
            f"the law does not fit: it misses the runs by {error:.3g}, {times:.1f} times their noise, and "
            f"explains {explained:.1%}"
        )
        return Joint(len(r), None, None, None, explained, error, refused=reason)
    noise = draws.std(axis=0)
    pairs = [solve(r, s, row, noise, floor=floor, start=law) for row in draws]
    laws = [chosen for chosen, _ in pairs]
    # whether there is a floor B is a choice that the interval must hold too
    ends = [_corrected(np.array([each.eta for each in some]), law.eta, level) for some in zip(*pairs)]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    if high > _WIDEST * max(low, 0.02) or high > 0.99 * ETA[1]:
        reason = (
            f"the runs cannot tell the exchange rate: {low:.3g} to {high:.3g} fit them about equally well; "
            "more seeds, more test records or more sizes would narrow it"
        )
        return Joint(len(r), None, None, (low, high), explained, error, refused=reason)
    stops = tuple(_stop(law, laws, *pair, level) for pair in at if pair[0] > 0 and pair[1] > 0)
    return Joint(len(r), law, law.eta, (low, high), explained, error, stops, least=int((r + s).min()))


def _where_it_holds(
    r: Floats, s: Floats, losses: Floats, draws: Floats, floor: float
) -> tuple[NDArray[np.bool_], Law | None, tuple[float, float, float]]:
    """Return the runs that the law is fitted to, the law, and (explained, error, error in units of noise).

    Learning curves begin with a part in which a model hardly does better than guessing, before they fall as a
    power of the size (Hestness et al. 2017). So runs of the smallest sets are left out, one size after the
    other, until the law fits what is left; None where it never does.
    """
    first: tuple[NDArray[np.bool_], Law | None, tuple[float, float, float]] | None = None
    for size in np.unique(r + s):
        kept = r + s >= size
        if _unfit(r[kept], s[kept], losses[kept], draws[:, kept]):
            break
        noise = draws[:, kept].std(axis=0)
        law, _ = solve(r[kept], s[kept], losses[kept], noise, floor=floor)
        missed = losses[kept] - law.loss(r[kept], s[kept])
        error = float(np.sqrt((missed**2).mean()))
        spread = float(((losses[kept] - losses[kept].mean()) ** 2).sum())
        quality = 1 - float(missed @ missed) / spread, error, error / max(float(np.median(noise)), 1e-12)
        if quality[2] <= _MISFIT or quality[0] >= _ENOUGH:
            return kept, law, quality
        first = first or (kept, None, quality)
    assert first is not None, "all runs were tried"
    return first


def solve(
    human: Floats,
    synthetic: Floats,
    losses: Floats,
    noise: Floats,
    *,
    floor: float = -np.inf,
    start: Law | None = None,
) -> tuple[Law, Law]:
    """Return the law of least robust squares (soft L1, in units of `noise` [runs]) over several starts.

    The second law is the one with B free; the first may have B = 0, where a free one does not earn its place.

    For given alpha, eta and gamma the law is linear in E, A and B; a grid of these gives the starts.
    """
    span = float(np.ptp(losses)) or 1.0
    # few seeds tell the noise of one run badly: none counts for more than the middle one
    scale = np.maximum(noise, max(float(np.median(noise)), 0.003 * span))
    unit = _Unit(human, synthetic, losses, scale, floor)
    starts = unit.starts(1 if start is not None else 4)
    if start is not None:
        starts.append(unit.pack(start))
    steps = 60 if start is None else 25
    full, cost = unit.least(starts, steps)
    flat, without = unit.least([first * _FLAT for first in starts], steps, flat=True)
    # B cannot be below zero, so that a free one takes from eta what is noise: it must earn its two parameters
    free = unit.unpack(full)
    return (free if 2 * (without - cost) > _EARNED else unit.unpack(flat)), free


class _Unit:
    """One fit: parameters E, ln A', ln alpha, ln eta, B, ln gamma, with A' the loss at the middle size."""

    def __init__(self, human: Floats, synthetic: Floats, losses: Floats, scale: Floats, floor: float) -> None:
        self.r, self.s, self.y, self.scale = human, synthetic, losses, scale
        self.share = synthetic / (human + synthetic)
        self.log_share = np.log(np.maximum(self.share, 1e-12))
        total = human + synthetic
        self.middle = float(np.exp(np.log(total).mean()))  # A and alpha are told apart best from here
        span = float(np.ptp(losses)) or 1.0
        self.low = np.array(
            [
                min(max(losses.min() - 3 * span, floor), losses.min() - 1e-6 * span),
                np.log(span * 1e-3),
                *np.log([ALPHA[0], ETA[0]]),
                0,
                0,
            ]
        )
        self.high = np.array([losses.min(), np.log(span * 30), *np.log([ALPHA[1], ETA[1]]), 5 * span, 0])
        self.low[5], self.high[5] = np.log(GAMMA)

    def least(self, starts: Sequence[Floats], steps: int, *, flat: bool = False) -> tuple[Floats, float]:
        """Return the best parameters from several starts, and their cost; flat: with B = 0."""
        from scipy.optimize import least_squares

        free = np.array([0, 1, 2, 3]) if flat else np.arange(6)
        best, cost = starts[0], np.inf
        for first in starts:
            x = np.clip(first, self.low, self.high)

            def residuals(part: Floats, x: Floats = x) -> Floats:
                return self.residuals(_filled(x, free, part))

            def jacobian(part: Floats, x: Floats = x) -> Floats:
                return np.asarray(self.jacobian(_filled(x, free, part))[:, free])

            found = least_squares(
                residuals,
                x[free],
                jac=jacobian,
                bounds=(self.low[free], self.high[free]),
                loss="soft_l1",
                f_scale=2.0,
                x_scale=np.array([1.0, 0.3, 0.3, 0.5, 1.0, 0.5])[free],
                max_nfev=steps,
            )
            if found.cost < cost:
                best, cost = _filled(x, free, found.x), float(found.cost)
        return best, cost

    def parts(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        mass = (self.r + np.exp(x[3]) * self.s) / self.middle
        power = np.exp(x[1] - np.exp(x[2]) * np.log(mass))
        floor = np.where(self.s > 0, np.exp(np.exp(x[5]) * self.log_share), 0.0)
        return mass, power, floor

    def residuals(self, x: Floats) -> Floats:
        _, power, floor = self.parts(x)
        return np.asarray((x[0] + power + x[4] * floor - self.y) / self.scale)

    def jacobian(self, x: Floats) -> Floats:
        mass, power, floor = self.parts(x)
        alpha, eta, gamma = np.exp(x[2]), np.exp(x[3]), np.exp(x[5])
        columns = (
            np.ones_like(power),
            power,
            -alpha * np.log(mass) * power,
            -alpha * power * eta * self.s / self.middle / mass,
            floor,
            x[4] * floor * gamma * np.where(self.s > 0, self.log_share, 0.0),
        )
        return np.asarray(np.stack(columns, axis=1) / self.scale[:, None])

    def starts(self, count: int) -> list[Floats]:
        """Return the best places of a grid over alpha, eta and gamma, with E, A and B by least squares."""
        grid = np.array(
            [
                (a, e, g)
                for a in np.log([0.1, 0.25, 0.5, 0.9])
                for e in np.log([0.003, 0.03, 0.1, 0.3, 0.6, 1.0, 2.0, 5.0])
                for g in np.log([0.5, 1.0, 3.0])
            ]
        )
        mass = (self.r + np.exp(grid[:, 1:2]) * self.s) / self.middle
        power = mass ** -np.exp(grid[:, 0:1])
        floor = np.where(self.s > 0, np.exp(np.exp(grid[:, 2:3]) * self.log_share), 0.0)
        found = []
        for with_floor in (True, False):
            columns = [np.ones_like(power), power] + ([floor] if with_floor else [])
            design = np.stack(columns, axis=2) / self.scale[:, None]
            target = self.y / self.scale
            gram = np.einsum("gnk,gnl->gkl", design, design) + 1e-9 * np.eye(len(columns))
            linear = np.linalg.solve(gram, np.einsum("gnk,n->gk", design, target)[..., None])[..., 0]
            missed = ((np.einsum("gnk,gk->gn", design, linear) - target) ** 2).sum(axis=1)
            for at in range(len(grid)):
                E, A = linear[at, 0], linear[at, 1]
                B = linear[at, 2] if with_floor else 0.0
                if A > 0 and B >= 0:
                    found.append(
                        (float(missed[at]), [E, np.log(A), grid[at, 0], grid[at, 1], B, grid[at, 2]])
                    )
        found.sort(key=lambda row: row[0])
        kept: list[Floats] = []
        for _, row in found:
            x = np.clip(np.array(row), self.low, self.high)
            if all(abs(x[3] - other[3]) > 0.5 for other in kept):  # starts that differ in eta
                kept.append(x)
            if len(kept) == count:
                break
        return kept or [0.5 * (self.low + self.high)]

    def unpack(self, x: Floats) -> Law:
        alpha = float(np.exp(x[2]))
        A = float(np.exp(x[1]) * self.middle**alpha)
        return Law(float(x[0]), A, alpha, float(np.exp(x[3])), float(x[4]), float(np.exp(x[5])))

    def pack(self, law: Law) -> Floats:
        level = np.log(law.A) - law.alpha * np.log(self.middle)
        return np.array([law.E, level, *np.log([law.alpha, law.eta]), law.B, np.log(law.gamma)])


def _filled(x: Floats, free: NDArray[np.int64], part: Floats) -> Floats:
    found = x.copy()
    found[free] = part
    return found


def _corrected(draws: Floats, value: float, level: float) -> tuple[float, float]:
    """Return the bias-corrected percentile interval (Efron 1987): B >= 0 pushes eta up."""
    curve = NormalDist()
    below = float(np.clip((draws < value).mean(), 0.5 / len(draws), 1 - 0.5 / len(draws)))
    shift = 2 * curve.inv_cdf(below)
    ends = [curve.cdf(shift + curve.inv_cdf((1 + side * level) / 2)) for side in (-1, 1)]
    low, high = (float(q) for q in np.quantile(draws, ends))
    return min(low, value), max(high, value)


def _unfit(r: Floats, s: Floats, losses: Floats, draws: Floats) -> str:
    """Say why the runs cannot tell the law; empty where they may."""
    pairs = set(zip(r.tolist(), s.tolist()))
    if len(pairs) < LEAST_RUNS:
        return (
            f"{len(pairs)} different sizes are too few for six parameters; at least {LEAST_RUNS} are needed: "
            "give more records, or a larger --budget"
        )
    alone, both = r[s == 0], s[(r > 0) & (s > 0)]
    if len(set(alone.tolist())) < 4 or len(set(both.tolist())) < 1 or len(set(s[s > 0].tolist())) < 3:
        return "the runs must hold at least 4 human sizes, 3 synthetic ones and mixed sets"
    curve = losses[s == 0]
    noise = float(np.median(draws.std(axis=0)))
    if np.ptp(curve) < 3 * noise:
        return "human records change the score no more than chance does, so that nothing is measured in them"
    return ""


def _stop(law: Law, laws: Sequence[Law], human: int, synthetic: int, level: float) -> Stop:
    slopes = np.array([-100 * float(each.slope(human, synthetic)) for each in laws])
    low, high = (float(q) for q in np.quantile(slopes, [(1 - level) / 2, (1 + level) / 2]))
    verdict = "goes on helping" if low > 0 else "stop adding here" if high < 0 else "unclear"
    tried = np.unique(np.concatenate([[0], np.geomspace(1, synthetic, 200).round()]))
    best = int(tried[int(np.argmin(law.loss(human, tried)))])
    return Stop(human, synthetic, -100 * float(law.slope(human, synthetic)), (low, high), verdict, best)
