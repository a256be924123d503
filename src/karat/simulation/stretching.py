"""An emulated loop as a prior, corrected by the first iterations of a real one. Knows numbers only.

A real model is slower (or faster) than the emulator by an unknown factor, and keeps more or less where it
settles: kept(t) = emulated(t / stretch) ** power. Both have priors from measured learners, and observed
iterations correct them on a grid; what follows is a weighted set of curves, of which everything is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Learner:
    """How much slower than the emulator a kind of trained model was, where it was measured.

    left: the time that really remained until half was gone / the time that first iterations promised: loops
    of trained models speed up. strays: the spread of the logarithm of that.
    """

    low: float
    high: float
    source: str
    left: float = 1.0
    strays: float = 0.0


MEASURED = {
    "emulator": Learner(0.95, 1.05, "the emulator itself"),
    "lstm": Learner(
        1.0,
        1.5,
        "LSTM of 19,208 parameters: half-life 10 to 11 against 8 at T 0.8, 24 against 16 at 0.9",
        left=0.75,
        strays=0.35,
    ),
    "gpt": Learner(
        1.4,
        3.0,
        "GPTs of 0.1 M parameters at T 0.8: half-life 5.6 to 11 against 4; what remained after 3 to 7 "
        "iterations took 0.35 to 0.96 of the promised time, in the middle 0.54",
        left=0.55,
        strays=0.3,
    ),
}
"""Half-life of trained models / half-life of the emulator. Measure more, and add them here."""

ANY = Learner(
    min(row.low for key, row in MEASURED.items() if key != "emulator"),
    max(row.high for row in MEASURED.values()),
    "all kinds of models that were measured",
    left=0.75,
    strays=0.35,
)

OUTLIERS = 0.1
"""Prior probability that a learner is like none that was measured; its stretch may then lie far off."""

FAR = 0.8
POWER = 0.2
"""Prior spread of log(power): trained models settle somewhat above or below the emulator."""

ROUGH = 0.02
"""By how much a true curve leaves the stretched one at any point, as a share of the first diversity."""

WANDER = 0.15
"""How far the time that remains may differ from the stretched curve's: spread of its logarithm.

The spread between emulated loops is added: what breaks ties early is chance, and moves all that follows.
"""

WIGGLE = 0.4
"""The same where little remains, in iterations: a curve crosses half a little sooner or later by chance."""


@dataclass(frozen=True)
class Observed:
    """The first iterations: diversity kept (mean over seeds, iteration 0 is 1) with a standard error each."""

    kept: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def last(self) -> int:
        """The last iteration that was seen."""
        return len(self.kept) - 1


@dataclass(frozen=True)
class Posterior:
    """Curves of the future with their weights; see `posterior`."""

    curves: tuple[Floats, ...]  # emulated, one a seed
    stretches: Floats  # one for each grid cell
    powers: Floats
    owners: NDArray[np.int64]  # which emulated curve
    weights: Floats
    observed: Observed | None
    misfit: float  # chi squared of the best cell / observed iterations
    left: float = 1.0  # see Learner
    strays: float = 0.0

    def draws(self, size: int = 2000, seed: int = 0) -> NDArray[np.int64]:
        """Return grid cells drawn by their weight."""
        random = np.random.default_rng([seed, 11])
        return random.choice(len(self.weights), size=size, p=self.weights)

    def at(self, times: Sequence[float] | Floats, size: int = 2000) -> Floats:
        """Return drawn curves at these iterations; shape (size, times)."""
        t = np.asarray(times, dtype=np.float64)
        seen = float(self.observed.last) if self.observed else 0.0
        slower = np.exp(-self.wander() * np.random.default_rng(14).standard_normal(size)) / self.hastens()
        found = np.empty((size, len(t)))
        for row, cell in enumerate(self.draws(size)):
            found[row] = self._curve(int(cell), np.where(t > seen, seen + (t - seen) * slower[row], t))
        return found

    def _curve(self, cell: int, t: Floats) -> Floats:
        curve = self.curves[self.owners[cell]]
        steps = np.arange(len(curve), dtype=np.float64)
        values: Floats = np.interp(t / self.stretches[cell], steps, curve) ** self.powers[cell]
        return values

    def half_lives(self, size: int = 4000, seed: int = 0) -> Floats:
        """Return draws of the half-life; infinite where the emulated range does not reach it."""
        halves = np.full(len(self.weights), np.inf)
        for owner, curve in enumerate(self.curves):
            for power in np.unique(self.powers):
                cells = (self.owners == owner) & (self.powers == power)
                cross = _crossing(curve, 0.5 ** (1 / power))
                halves[cells] = np.inf if cross is None else cross * self.stretches[cells]
        drawn = halves[self.draws(size, seed)]
        seen = float(self.observed.last) if self.observed else 0.0
        scale, shift = np.random.default_rng([seed, 12]).standard_normal((2, size))
        # What was seen is no longer uncertain: only the time that remains is.
        left = np.maximum((drawn - seen) * self.hastens() + WIGGLE * shift, 0.02)
        found: Floats = seen + left * np.exp(self.wander() * scale)
        return found

    def wander(self) -> float:
        """Return the spread of the logarithm of the time that remains."""
        crossings = [_crossing(curve, 0.5) for curve in self.curves]
        known = [math.log(max(cross, 0.5)) for cross in crossings if cross is not None]
        between = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
        return math.hypot(WANDER, min(between, 0.5), self.strays if self.observed else 0.0)

    def hastens(self) -> float:
        """Return by which factor the time that remains is shorter than it looks; 1 where nothing was seen."""
        return self.left if self.observed and self.observed.last else 1.0

    def stretch(self) -> tuple[float, float, float]:
        """Return the median stretch and its 95% interval."""
        low, middle, high = np.quantile(self.stretches[self.draws(4000)], (0.025, 0.5, 0.975))
        return float(middle), float(low), float(high)


def learner_of(trainer: str) -> Learner:
    """Return what was measured of a trainer's kind, by its name; of all kinds where it is unknown."""
    name = trainer.partition(":")[0]
    return MEASURED.get(name, ANY)


def posterior(curves: Sequence[Sequence[float]], observed: Observed | None, learner: Learner) -> Posterior:
    """Weigh stretches, powers and emulated curves by their priors and by the observed iterations.

    curves: emulated diversity kept, one a seed, each beginning at 1.
    """
    emulated = tuple(np.maximum(np.asarray(curve, dtype=np.float64), 0.0) for curve in curves)
    centre = 0.5 * (math.log(learner.low) + math.log(learner.high))
    spread = max(0.05, (math.log(learner.high) - math.log(learner.low)) / 2 / 1.28)  # the middle 80%
    logs = np.linspace(math.log(0.3), math.log(16.0), 90)
    prior = (1 - OUTLIERS) * _normal(logs, centre, spread) + OUTLIERS * _normal(logs, centre, FAR)
    powers = np.linspace(-2.5, 2.5, 11) * POWER
    log_prior = np.log(prior)[:, None] + np.log(_normal(powers, 0.0, POWER))[None, :]
    stretches, exponents = (grid.ravel() for grid in np.meshgrid(np.exp(logs), np.exp(powers), indexing="ij"))
    scores, misfits = [], []
    for curve in emulated:
        fit = np.zeros(len(stretches))
        if observed and observed.last:
            t = np.arange(1, observed.last + 1, dtype=np.float64)
            kept = np.asarray(observed.kept[1:])
            sigma = np.sqrt(np.asarray(observed.errors[1:]) ** 2 + ROUGH**2)
            steps = np.arange(len(curve), dtype=np.float64)
            told = np.interp(t[None, :] / stretches[:, None], steps, curve) ** exponents[:, None]
            fit = (((told - kept) / sigma) ** 2).sum(axis=1)
            misfits.append(float(fit.min()) / len(t))
        scores.append(log_prior.ravel() - fit / 2)
    score = np.concatenate(scores)
    weights = np.exp(score - score.max())
    copies = len(emulated)
    return Posterior(
        emulated,
        np.tile(stretches, copies),
        np.tile(exponents, copies),
        np.repeat(np.arange(copies), len(stretches)),
        weights / weights.sum(),
        observed,
        min(misfits, default=0.0),
        learner.left,
        learner.strays,
    )


def _normal(x: Floats, centre: float, spread: float) -> Floats:
    found: Floats = np.exp(-0.5 * ((x - centre) / spread) ** 2) / spread
    return found


def _crossing(curve: Floats, target: float) -> float | None:
    below = np.flatnonzero(curve <= target)
    if not len(below):
        return None
    t = int(below[0])
    if t == 0:
        return 0.0
    return float(t - 1 + (curve[t - 1] - target) / (curve[t - 1] - curve[t]))
