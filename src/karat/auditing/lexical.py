"""Lexical diversity as arithmetic on numbered tokens and on frequency spectra. Knows no corpus and no metric.

A text is an array of codes here, equal codes for equal tokens; a frequency spectrum says how many types occur
once, twice and so on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing.spectra import I64, Frequencies

Floats = NDArray[np.float64]


# ----------------------------------------------------------------------------- of frequency spectra


def token_entropy(spectrum: Frequencies, correction: str) -> float:
    """The entropy of the token distribution, in bits; nan without tokens.

    none: of the frequencies seen, which is too low while there are words that were not seen yet
    miller_madow: plus (types - 1) / (2 tokens), Miller 1955
    chao_shen: coverage-adjusted and weighted by the chance of having been seen, Chao and Shen 2003, eq. 8
    """
    counts, types = spectrum
    n = int(counts @ types)
    if n == 0:
        return float("nan")
    shares = counts / n
    if correction == "chao_shen":
        once = int(types[counts == 1].sum())
        cover = 1 - (once - (once == n)) / n  # one that is seen twice, where all were seen once
        shares = cover * shares
        seen = -np.expm1(n * np.log1p(-np.minimum(shares, 1 - 1e-16)))
        return float(-(types * shares * np.log2(shares) / seen).sum())
    plain = float(-(types * shares * np.log2(shares)).sum())
    if correction == "miller_madow":
        plain += float((types.sum() - 1) / (2 * n * np.log(2)))
    return plain


def hdd(spectrum: Frequencies, draws: int) -> float:
    """HD-D: the expected share of different types among `draws` tokens drawn without return.

    The sum over types of the chance to be among the drawn, by the hypergeometric distribution, divided by
    `draws` (McCarthy and Jarvis 2007, pages 465-466); nan for fewer tokens.
    """
    from scipy.special import gammaln

    counts, types = spectrum
    n = int(counts @ types)
    if n < draws:
        return float("nan")
    left = n - counts
    logs = (
        gammaln(left + 1) - gammaln(np.maximum(left - draws, 0) + 1) - gammaln(n + 1) + gammaln(n - draws + 1)
    )
    missed = np.where(left >= draws, np.exp(logs), 0.0)
    return float((types * (1 - missed)).sum() / draws)


def zipf_exponent(spectrum: Frequencies, least: int) -> tuple[float, int]:
    """The exponent s of count ~ rank^-s over the types that occur at least `least` times, and their number.

    Maximum likelihood of the zeta distribution cut off at the last of these ranks: the likelihood of Clauset,
    Shalizi and Newman 2009 (appendix B) for ranks instead of sizes. Rare types are left out because their
    order by count is that of chance, which bends the tail (Pilgrim and Hills 2021). nan below 10 types.
    """
    counts, types = spectrum
    enough = counts >= least
    ranked = np.repeat(counts[enough][::-1], types[enough][::-1]).astype(np.float64)
    if len(ranked) < 10:
        return float("nan"), len(ranked)
    logs = np.log(np.arange(1, len(ranked) + 1))
    target = float(ranked @ logs / ranked.sum())
    s = 1.0
    for _ in range(60):  # Newton's method; the mean log rank falls with s, and its slope is a variance
        weights = np.exp(-s * logs)
        weights /= weights.sum()
        mean = float(weights @ logs)
        step = (mean - target) / max(float(weights @ logs**2) - mean**2, 1e-12)
        s += float(np.clip(step, -0.5, 0.5))
        if abs(step) < 1e-10:
            break
    return s, len(ranked)


def rarefied(shared: I64, sizes: NDArray[Any], groups: int) -> Floats:
    """float64 [groups]: the expected types of j = 1 .. groups groups, over all choices of j of them.

    sizes[i] types are held by shared[i] of the groups. Source: Hurlbert 1971, equation 2, with groups of
    records drawn instead of single tokens, so that records stay whole.
    """
    from scipy.special import gammaln

    j = np.arange(1, groups + 1)
    without = groups - shared[:, None]  # groups that lack the type
    logs = gammaln(without + 1) - gammaln(np.maximum(without - j, 0) + 1)
    logs += gammaln(groups - j + 1) - gammaln(groups + 1)
    missed = np.where(without >= j, np.exp(logs), 0.0)
    return np.asarray(sizes @ (1 - missed))


def slope(x: Floats, y: Floats) -> float:
    """The slope of the least-squares line through points."""
    gaps = x - x.mean()
    return float(gaps @ y / (gaps @ gaps))


# ------------------------------------------------------------------------------ of running text


def previous(codes: I64) -> I64:
    """int64 [n]: where each token stood last before, -1 where it is new."""
    return previous_in(np.argsort(codes, kind="stable"), codes)


def previous_in(order: I64, codes: I64) -> I64:
    """The same, given the stable order of the codes."""
    found = np.full(len(codes), -1, np.int64)
    again = codes[order[1:]] == codes[order[:-1]]
    found[order[1:][again]] = order[:-1][again]
    return found


def moving_ttr(before: I64, window: int) -> float:
    """MATTR: the mean share of different tokens in all windows of a text; nan where it is shorter.

    before: where each token stood last. A token counts in the windows that begin after that place, so the
    sum over windows is a sum over tokens. Source: Covington and McFall 2010.
    """
    n = len(before)
    if n < window:
        return float("nan")
    at = np.arange(n)
    first = np.maximum(np.maximum(before, at - window), -1) + 1  # the first window that counts the token
    last = np.minimum(at, n - window)
    return float(np.maximum(last - first + 1, 0).sum() / (n - window + 1) / window)


def following_in(order: I64, codes: I64) -> I64:
    """int64 [n]: where each token comes next, n where it does not; given the stable order of the codes."""
    found = np.full(len(codes), len(codes), np.int64)
    again = codes[order[1:]] == codes[order[:-1]]
    found[order[:-1][again]] = order[1:][again]
    return found


def mtld(before: I64, threshold: float) -> float:
    """MTLD in one direction: tokens divided by factors, the runs after which the share of types is too low.

    before: where each token stood last. What is left at the end counts as the part of a factor that it has
    covered (McCarthy and Jarvis 2010, pages 384-385); nan without tokens.
    """
    n = len(before)
    if n == 0:
        return float("nan")
    start, factors = 0, 0.0
    while start < n:
        length, part = _run(before, start, threshold)
        factors += part
        start += length
    return n / factors if factors > 0 else float(n)


def _run(before: I64, start: int, threshold: float) -> tuple[int, float]:
    """The length of the run that begins at `start`, and the part of a factor that it covers."""
    length, types, reach = 0, 0, 128
    while start + length < len(before):
        part = before[start + length : start + length + reach]
        running = types + np.cumsum(part < start)
        shares = running / np.arange(length + 1, length + len(part) + 1)
        low = shares <= threshold
        if low.any():
            return length + int(low.argmax()) + 1, 1.0
        length, types, reach = length + len(part), int(running[-1]), 2 * reach
    return length, (1 - types / length) / (1 - threshold)


def mtld_both(before: I64, after: I64, threshold: float) -> float:
    """MTLD, the mean of reading forwards and backwards; before and after say where each token stands next."""
    backwards = (len(after) - 1 - after)[::-1]  # a token that does not come again gets -1
    return (mtld(before, threshold) + mtld(np.ascontiguousarray(backwards), threshold)) / 2


def both_ways(codes: I64, threshold: float) -> float:
    """MTLD of a text, the mean of reading it forwards and backwards."""
    order = np.argsort(codes, kind="stable")
    return mtld_both(previous_in(order, codes), following_in(order, codes), threshold)


def hdd_of(codes: I64, draws: int) -> float:
    """HD-D of a text."""
    counts, types = np.unique(np.unique(codes, return_counts=True)[1], return_counts=True)
    return hdd((counts.astype(np.int64), types.astype(np.int64)), draws)
