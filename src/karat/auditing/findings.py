"""What a reader must know before believing a score: the warnings of an audit. Knows no metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karat.auditing.passes import Passed
from karat.auditing.result import Source, Warned
from karat.auditing.selection import GROUPS, Surveyed

NAMED = 50
"""The most ids that a warning names."""
_COPIES = 0.5
_SIZES = 2.0
_LENGTHS = 1.5


@dataclass(frozen=True)
class Corpus:
    """One corpus as the warnings see it."""

    source: Source
    ids: Sequence[str]
    surveyed: Surveyed


def findings(candidate: Corpus, reference: Corpus | None, passed: Passed) -> tuple[Warned, ...]:
    """Return the warnings about two corpora that hold whatever the metrics are."""
    found = [few_records(candidate, reference)]
    repeated = passed.selections[0].units is not None  # many records on one item repeat its text by design
    if not repeated:
        found.append(degenerate("candidate", candidate))
    if reference is not None and not repeated:
        found += [
            degenerate("reference", reference),
            leakage(candidate, reference),
            size_mismatch(candidate, reference),
            length_confounded(candidate, reference, passed),
        ]
    return tuple(warned for warned in found if warned is not None)


def few_records(candidate: Corpus, reference: Corpus | None) -> Warned | None:
    """Warn where the smaller corpus has fewer records than two a replicate group."""
    sides = [("candidate", candidate), ("reference", reference)]
    n, side = min((len(one.ids), name) for name, one in sides if one is not None)
    if n >= 2 * GROUPS:
        return None
    cure = f"bring at least {2 * GROUPS}"
    if n < 2:
        return Warned("too_few_records", f"the {side} has {n} record, so no interval can be given; {cure}")
    return Warned("too_few_records", f"the {side} has {n} records; intervals are wide and rough, {cure}")


def degenerate(side: str, corpus: Corpus) -> Warned | None:
    """Warn of a corpus that is mostly copies of a few texts, or mostly empty."""
    n = len(corpus.ids)
    empty = corpus.surveyed.bytes == 0
    if n > 1 and empty.mean() >= _COPIES:
        ids = _named(corpus, empty)
        return Warned("degenerate_source", f"{int(empty.sum()):,} of {n:,} {side} texts are empty", ids)
    _, first, counts = np.unique(corpus.surveyed.content, return_index=True, return_counts=True)
    copies = 1 - len(counts) / max(n, 1)
    if n > 1 and copies >= _COPIES:
        most = first[np.argsort(-counts, kind="stable")[:NAMED]]
        message = (
            f"the {n:,} {side} records hold {len(counts):,} different texts; "
            "intervals treat records as independent and are too narrow"
        )
        return Warned("degenerate_source", message, tuple(corpus.ids[i] for i in most))
    return None


def leakage(candidate: Corpus, reference: Corpus) -> Warned | None:
    """Warn of candidate texts that are copies of reference texts."""
    mine, theirs = candidate.surveyed, reference.surveyed
    copied = np.isin(mine.content, theirs.content) & (mine.bytes > 0)
    hits, n = int(copied.sum()), len(candidate.ids)
    if hits == 0:
        return None
    if hits == n and n == len(reference.ids):
        message = (
            f"all {n:,} candidate texts are copies of reference texts: this compares a corpus with itself"
        )
    else:
        message = f"{hits:,} of {n:,} candidate texts are copies of reference texts ({hits / n:.1%})"
    return Warned("leakage", message, _named(candidate, copied))


def size_mismatch(candidate: Corpus, reference: Corpus) -> Warned | None:
    """Warn where one corpus is more than twice as large, so that much of it goes unused."""
    small, large = sorted((len(candidate.ids), len(reference.ids)))
    if large <= _SIZES * small:
        return None
    side = "candidate" if len(candidate.ids) == large else "reference"
    unit = "record" if small == 1 else "records"
    message = f"compared at {small:,} {unit}: the {side} has {large:,}, and a random part of it is used"
    return Warned("size_mismatch", message)


def length_confounded(candidate: Corpus, reference: Corpus, passed: Passed) -> Warned | None:
    """Warn where mean lengths differ much, and say whether records of equal lengths could be compared."""
    means = [float(one.surveyed.tokens["word"].mean()) for one in (candidate, reference)]
    low, high = sorted(means)
    if high <= _LENGTHS * low:
        return None
    message = f"candidate records have {means[0]:.1f} tokens on average, reference records {means[1]:.1f}: "
    if passed.banded:
        n = len(passed.selections[0].views["lengths"][0])
        message += f"metrics that feel the length compare {n:,} records of equal lengths of each side"
    else:
        message += (
            "too few have equal lengths, so differences (self_bleu, aps, two_sample_auc) may be of length"
        )
    return Warned("length_confounded", message)


def _named(corpus: Corpus, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(corpus.ids[i] for i in np.flatnonzero(chosen)[:NAMED])
