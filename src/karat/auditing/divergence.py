"""The Jensen-Shannon divergence of two samples of counts, and what chance alone gives. Knows no metric.

Two samples of one source have a divergence above 0, the more so the more kinds of things there are and the
fewer of each were seen. What chance gives has a closed form: under "one source" each of the c occurrences of
a type falls on either side by itself, so the expected divergence is a sum over types that depends on c alone.
Subtracting it, and stretching what is left so that disjoint sources still have 1 bit, is the adjustment for
chance of Vinh, Epps and Bailey 2010 (the divergence is the mutual information of side and type).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from karat.auditing.base import Masks, Values
from karat.auditing.spectra import I64, Spectrum
from karat.texts.tokens import pattern

if TYPE_CHECKING:
    from karat.auditing.summaries import Sample

Floats = NDArray[np.float64]
_EXACT = 256  # the largest count whose expectation is a sum over the binomial distribution


def jensen_shannon(
    tables: Iterable[tuple[Floats, I64]], sums: I64, ours: Masks, theirs: Masks, *, adjusted: bool
) -> Values:
    """float64 [K]: the divergence, in bits, of the groups of row k of `ours` [K, G] from those of `theirs`.

    tables: blocks of counts [rows, G], and how many types have each row of counts
    sums: int64 [G], all counts of each group
    adjusted: with what chance gives taken off (it can then be a little below 0); else the plug-in value
    Sources: Lin 1991, equation 4.1; Vinh, Epps and Bailey 2010, equation 2, for the adjustment.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    mine, other = ours @ sums, theirs @ sums
    known = (mine > 0) & (other > 0)
    found = np.zeros(len(ours))
    counts = np.zeros((len(ours), _EXACT + 1))
    first, second = ours.T.astype(np.float64), theirs.T.astype(np.float64)
    with threadpool_limits(1, user_api="blas"), np.errstate(divide="ignore", invalid="ignore"):
        for dense, types in tables:
            a, b = dense @ first, dense @ second
            found += types @ _term(a / mine, b / other)
            for row, column in zip(counts, np.minimum(a + b, _EXACT).astype(np.int64).T):
                row += np.bincount(column, weights=types, minlength=_EXACT + 1)
    if adjusted:
        for k in np.flatnonzero(known).tolist():
            expected = expected_by_chance(counts[k], float(mine[k]), float(other[k]))
            found[k] = (found[k] - expected) / (1 - expected) if expected < 1 else np.nan
    return np.where(known, found, np.nan)


def of_spectrum(spectrum: Spectrum, ours: Masks, theirs: Masks, *, adjusted: bool) -> Values:
    """The divergence of n-gram frequencies."""
    return jensen_shannon(spectrum.tables(), spectrum.sums, ours, theirs, adjusted=adjusted)


def of_counts(counts: I64, ours: Masks, theirs: Masks, *, adjusted: bool) -> Values:
    """The divergence of shares, from counts int64 [G, C]."""
    table = counts.T.astype(np.float64), np.ones(counts.shape[1], np.int64)
    return jensen_shannon([table], counts.sum(axis=1), ours, theirs, adjusted=adjusted)


def expected_by_chance(types: Floats, ours: float, theirs: float) -> float:
    """The expected divergence, in bits, of two samples of one source of `ours` and `theirs` occurrences.

    types[c] types occur c times in both together; the last entry stands for that many and more, for which
    the expectation is the chi-squared one, (1/ours + 1/theirs) / (8 ln 2) a type.
    """
    top = len(types) - 1
    share = ours / (ours + theirs)
    found = float(types[top] * (1 / ours + 1 / theirs) / (8 * np.log(2)))
    present = np.flatnonzero(types[:top])
    present = present[present > 0]
    if len(present) == 0:
        return found
    a = np.arange(int(present[-1]) + 1)
    logs = np.concatenate([np.zeros(1), np.cumsum(np.log(np.maximum(a[1:], 1)))])  # log factorials
    c = present[:, None]
    rest = np.maximum(c - a, 0)
    weight = logs[c] - logs[a] - logs[rest] + a * np.log(share) + rest * np.log1p(-share)
    weight = np.where(a <= c, np.exp(weight), 0.0)
    return found + float(types[present] @ (weight * _term(a / ours, rest / theirs)).sum(axis=1))


def telling_ngrams(
    ours: Sequence[str], theirs: Sequence[str], *, n: int, tokens: str, limit: int = 8
) -> dict[str, float]:
    """The n-grams that add most to the divergence of two samples of texts, and how many bits each.

    Named synthetic.X and human.X, after the side that has more of X.
    """
    counts = [_counted(texts, n, tokens) for texts in (ours, theirs)]
    totals = [sum(one.values()) for one in counts]
    if not all(totals):
        return {}
    names = list(counts[0] | counts[1])
    p, q = (np.array([c[name] for name in names], np.float64) / t for c, t in zip(counts, totals))
    terms = _term(p, q)
    order = np.argsort(-terms, kind="stable")
    found = {}
    for side, more in (("synthetic", p > q), ("human", p < q)):
        for i in order[more[order]][:limit]:
            found[f"{side}.{names[i]}"] = float(terms[i])
    return found


def telling_of(sample: Sample, groups: int, *, n: int, tokens: str) -> dict[str, float]:
    """The same for a pooled sample, whose first `groups` groups are ours."""
    sides = [
        [t for t, g in zip(sample.texts, sample.groups) if (g < groups) == ours] for ours in (True, False)
    ]
    return telling_ngrams(sides[0], sides[1], n=n, tokens=tokens)


def _counted(texts: Sequence[str], n: int, tokens: str) -> Counter[str]:
    split = pl.Series("text", texts, pl.String).str.extract_all(pattern(tokens)).to_list()
    found: Counter[str] = Counter()
    for row in split:
        found.update(" ".join(row[i : i + n]) for i in range(len(row) - n + 1))
    return found


def _term(p: Floats, q: Floats) -> Floats:
    """What one type adds to the divergence: (p log2 p + q log2 q) / 2 - m log2 m."""
    return (_xlog2(p) + _xlog2(q)) / 2 - _xlog2((p + q) / 2)


def _xlog2(x: Floats) -> Floats:
    return np.asarray(x * np.log2(np.where(x > 0, x, 1.0)))
