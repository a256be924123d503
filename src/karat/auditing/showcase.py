"""Records that show a flagged difference, for metrics that name none themselves. Knows families, no metric.

A corpus-wide figure (distinct n-grams, a mean cosine) belongs to no record; but each has records that it
comes from: those made of n-grams that all others use too, those nearest to the middle, the longest ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.auditing.passes import Passed
from karat.auditing.result import Evidence, Score
from karat.texts import tokens as token_tools

_LOOK = 5_000
"""Records looked at, the first by hash."""
_CLIP = 600

Ranked = list[tuple[int, float, str]]  # row of the corpus, how much, why


def records_that_show(score: Score, passed: Passed, limit: int = 8) -> tuple[Evidence, ...]:
    """Return the candidate records behind a difference, the most telling first; empty if none are known."""
    if score.difference is None or len(passed.sides) < 2:  # a metric may bring its human side in a file
        return ()
    rows = np.sort(passed.selections[0].order[:_LOOK])
    ways = {
        "size": _by_length,
        "lexical": _by_ngrams,
        "repetition": _by_ngrams,
        "embedding": _by_centre,
        "label": _by_label,
    }
    way = ways.get(score.family)
    if way is None or len(rows) < 2:
        return ()
    side = passed.sides[0]
    found = []
    for row, much, reason in way(score, passed, rows)[:limit]:
        text = side.texts[row].as_py() or ""
        label = side.labels[row] if side.labels is not None else None
        shown = text[:_CLIP] + ("…" if len(text) > _CLIP else "")
        found.append(Evidence(side.ids[row], score.name, much, reason, shown, label))
    return tuple(found)


def _first(order: NDArray[np.int64], values: NDArray[np.float64], rows: NDArray[np.int64]) -> Ranked:
    return [(int(rows[i]), float(values[i]), "") for i in order]


def _up(score: Score) -> bool:
    return score.difference is not None and score.difference > 0


def _by_length(score: Score, passed: Passed, rows: NDArray[np.int64]) -> Ranked:
    """The longest records of a corpus of long ones, the shortest of a corpus of short ones."""
    lengths = passed.surveys[0].tokens["word"][rows].astype(np.float64)
    usual = float(np.median(passed.surveys[1].tokens["word"]))
    order = np.argsort(-lengths if _up(score) else lengths, kind="stable")
    reason = "{:.0f} tokens; half of the human records have at most " + f"{usual:.0f}"
    return [(row, much, reason.format(much)) for row, much, _ in _first(order, lengths, rows)]


def _by_ngrams(score: Score, passed: Passed, rows: NDArray[np.int64]) -> Ranked:
    """Records made of n-grams that others use too; where a corpus is more varied, of n-grams of its own."""
    n = int(score.settings.get("n", 2) or 2)
    found = token_tools.tokenise(passed.sides[0].texts.take(pa.array(rows)), "word")
    grams, owner = token_tools.ngrams(found, n)
    if len(grams) == 0:
        return []
    _, where = np.unique(grams, return_inverse=True)
    pairs = np.unique(np.stack([where, owner], axis=1), axis=0)  # an n-gram and a record that holds it
    holders = np.bincount(pairs[:, 0])
    shared = holders[where] > 1
    count = np.bincount(owner, minlength=len(rows))
    share = np.bincount(owner, weights=shared, minlength=len(rows)) / np.maximum(count, 1)
    repeated = _up(score) != ("varied" in score.higher)
    known = np.flatnonzero(count >= 3)
    # of equally shared records the longest says most
    order = known[np.lexsort((-count[known], -share[known] if repeated else share[known]))]
    return [
        (int(rows[i]), float(share[i]), f"{share[i]:.0%} of its {n}-grams stand in other records too")
        for i in order
    ]


def _by_centre(score: Score, passed: Passed, rows: NDArray[np.int64]) -> Ranked:
    """Records nearest to the middle of the corpus; where a corpus is more spread, the farthest."""
    if not passed.encoders:
        return []
    wanted = str(score.settings.get("encoder") or next(iter(passed.encoders)))
    encoder = passed.encoders.get(wanted)
    if encoder is None:
        return []
    rows = rows[:2_000]
    texts = [text or "" for text in passed.sides[0].texts.take(pa.array(rows)).to_pylist()]
    vectors = encoder.encode(texts).astype(np.float64)
    centre = vectors.mean(axis=0)
    length = float(np.linalg.norm(centre))
    if length == 0:
        return []
    cosine = vectors @ (centre / length)
    near = _up(score) != ("varied" in score.higher)
    order = np.argsort(-cosine if near else cosine, kind="stable")
    usual = float(np.median(cosine))
    return [
        (
            row,
            much,
            f"cosine {much:.2f} to the middle of the corpus; half of its records have at most {usual:.2f}",
        )
        for row, much, _ in _first(order, cosine, rows)
    ]


def _by_label(score: Score, passed: Passed, rows: NDArray[np.int64]) -> Ranked:
    """Records of the label that the candidate has most too often."""
    mine, theirs = (_shares(side.labels) for side in passed.sides[:2])
    labels = passed.sides[0].labels
    if labels is None or not mine:
        return []
    most = max(mine, key=lambda name: mine[name] - theirs.get(name, 0.0))
    reason = (
        f"label {most!r} has {mine[most]:.0%} of the records, {theirs.get(most, 0.0):.0%} of the human ones"
    )
    return [(int(row), mine[most], reason) for row in rows if labels[row] == most]


def _shares(labels: Sequence[str | None] | None) -> dict[str, float]:
    counts = Counter(label for label in labels or () if label is not None)
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()}
