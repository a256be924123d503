"""Whether somebody's codes stand for other labels than everybody else's. Knows tables of counts only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karat.auditing import statistics as stats
from karat.auditing.agreement import accuracy, apart, by_chance, kappa, left_out
from karat.auditing.base import Found
from karat.auditing.labels_sheet import Floats

_GAIN = 0.1
_LEVEL = 1e-3
_GROUPS = 10


@dataclass(frozen=True)
class Recoded:
    """Codes that agree below chance as they are, and far better once exchanged."""

    mapping: tuple[tuple[str, str], ...]
    accuracy: tuple[float, float]
    kappa: tuple[float, float]
    chance: float
    p: float

    def found(self, name: str) -> Found:
        """The warning about one annotator."""
        change = ", ".join(f"{a} -> {b}" for a, b in self.mapping[:6])
        message = (
            f"{name} agrees with the others on {self.accuracy[0]:.1%}, below the {self.chance:.1%} of chance "
            f"(p={self.p:.1g}); with the codes exchanged ({change}) on {self.accuracy[1]:.1%}, kappa "
            f"{self.kappa[0]:.3f} -> {self.kappa[1]:.3f}: check which code stands for which label"
        )
        return Found("coding_inverted", message)


def recoded(parts: Floats, space: tuple[str, ...], points: Floats | None) -> Recoded | None:
    """Look for an exchange of codes that mends an agreement below chance; None where there is none.

    parts: float64 [G, K, K], label of the annotator against label of the others, by replicate group
    The alarm needs both: kappa below 0 (also quadratically weighted, where labels have an order) at p < .001
    by the jackknife over groups, and an exchange (the best of all by assignment, Kuhn 1955) that gains 0.1.
    """
    from scipy.optimize import linear_sum_assignment

    whole = parts.sum(axis=0)
    if len(parts) < _GROUPS or whole.sum() < 2 * _GROUPS or len(space) < 2:
        return None
    used = np.flatnonzero((whole.sum(axis=0) + whole.sum(axis=1)) > 0)
    rows, columns = linear_sum_assignment(-whole[np.ix_(used, used)])
    exchange = np.arange(len(space))
    exchange[used[rows]] = used[columns]
    if (exchange == np.arange(len(space))).all():
        return None
    after = np.zeros_like(whole)
    after[exchange] = whole
    schemes = ("none",) if points is None or len(used) < 3 else ("none", "quadratic")
    p = 1.0
    gain = 0.0
    for scheme in schemes:
        distance = apart(len(space), points, scheme)
        before = float(kappa(whole, distance))
        test = stats.jackknife(before, kappa(left_out(parts), distance))
        if not np.isfinite(test.error) or before >= 0:
            continue
        one_sided = stats.t_p(before / test.error, test.df) / 2 if test.error > 0 else 0.0
        if one_sided * len(schemes) < p:
            p, gain = one_sided * len(schemes), float(kappa(after, distance)) - before
    if p >= _LEVEL or gain < _GAIN:
        return None
    plain = apart(len(space), None, "none")
    return Recoded(
        tuple((space[i], space[exchange[i]]) for i in used if exchange[i] != i and whole[i].sum() > 0),
        (float(accuracy(whole)), float(accuracy(after))),
        (float(kappa(whole, plain)), float(kappa(after, plain))),
        by_chance(whole),
        p,
    )
