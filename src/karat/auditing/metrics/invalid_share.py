"""How many answers of annotators or raters cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing import labels_paired, labels_sheet
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Facts, Found, Metric, Need, Summary, Telling, View, need
from karat.auditing.columns import Columns
from karat.auditing.labels_sheet import SHEET, Floats, Ints

_CHOICES: Need = need("columns", fields="prompt choice rater")
_USABLE = ("a", "b", "tie")
_FLOOD = 0.5
_NAMED = 60


@dataclass(frozen=True)
class InvalidShare(Metric):
    """The share of labels outside the label space, empty or nan; of choices that are not a, b or tie.

    Answers that a parser could not read stand for answers that were not understood: other metrics leave them
    out, so that a source with many of them is judged by the rest.
    labels: the label space as a+b+c; without it the labels of the reference, else every label but blanks
    """

    labels: tuple[str, ...] = ()

    family: ClassVar[str] = "annotation"
    datatypes: ClassVar[tuple[str, ...]] = ("annotation", "preference")
    misleads: ClassVar[str] = (
        "A parser that reads something into every answer makes it 0. Without a label space only "
        "blank answers "
        "are seen, and a label that people never gave counts as invalid."
    )
    cost: ClassVar[str] = "O(records)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Read the raw answers: mend the parser or the answer format, and ask those items again."
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "more answers are unusable"
    source: ClassVar[str] = "Das et al. 2024, section 5.1 (label cleaning); Wilson 1927"

    def needs(self) -> tuple[Need, ...]:
        return (SHEET, _CHOICES)

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        if candidate.datatype == "preference" and "choice" not in candidate.fields:
            return "needs a field choice"
        return ""

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        chosen: Columns = candidate[_CHOICES]
        theirs: Side | None = None
        if chosen.has("choice"):
            mine = _choices(chosen)
            if reference is not None and reference[_CHOICES].has("choice"):
                theirs = _choices(reference[_CHOICES])
        else:
            other = None if reference is None else reference[SHEET]
            book = labels_sheet.read(candidate[SHEET], other, labels=self.labels)
            if book.lacks.startswith("there are"):
                return labels_paired.nothing(book.lacks)
            mine = _labels(book.mine, candidate[SHEET])
            if book.theirs is not None and other is not None:
                theirs = _labels(book.theirs, other)
        return _compared(mine, theirs, context)


@dataclass(frozen=True)
class Side:
    """Answers of one corpus: whether each is invalid, whose it is, and about which unit."""

    invalid: Floats
    who: Ints
    names: tuple[str, ...]
    group: Ints
    unit: Ints
    said: NDArray[np.object_]
    keys: NDArray[np.uint64]


def _labels(sheet: labels_sheet.Sheet, columns: Columns) -> Side:
    invalid = (sheet.label < 0).astype(np.float64)
    group = columns.groups[sheet.row]
    return Side(invalid, sheet.annotator, sheet.annotators, group, sheet.item, sheet.said, sheet.keys)


def _choices(columns: Columns) -> Side:
    choice = columns["choice"]
    said = np.array(["" if one is None else str(one).strip() for one in choice], dtype=object)
    invalid = np.array([one.lower() not in _USABLE for one in said], dtype=np.float64)
    names, who = columns.numbered("rater")
    if (who < 0).any():
        names, who = (*names, "unnamed"), np.where(who < 0, len(names), who)
    _, unit = columns.numbered("prompt")
    return Side(invalid, who, names, columns.groups, unit, said, columns.keys)


def _compared(mine: Side, theirs: Side | None, context: Context) -> Comparison:
    value, interval = _share(mine, context)
    human = None if theirs is None else _share(theirs, context)
    gap = None if theirs is None else _gap(mine, theirs, context)
    n = np.bincount(mine.who, minlength=len(mine.names))
    bad: Floats = np.bincount(mine.who, mine.invalid, len(mine.names)).astype(np.float64)
    shown = np.argsort(-n, kind="stable")[:_NAMED]
    by = {
        mine.names[i]: (float(bad[i] / n[i]), stats.wilson(int(bad[i]), int(n[i])), int(n[i]))
        for i in sorted(shown, key=lambda i: mine.names[i])
        if n[i]
    }
    pooled = None
    if theirs is not None:
        pooled = float(
            (mine.invalid.sum() + theirs.invalid.sum()) / (len(mine.invalid) + len(theirs.invalid))
        )
    common = Counter(str(one) for one in mine.said[mine.invalid > 0]).most_common(5)
    return Comparison(
        value=value,
        interval=interval,
        reference=human[0] if human else None,
        reference_interval=human[1] if human else None,
        difference=None if human is None else value - human[0],
        difference_interval=gap.interval if gap else None,
        p=gap.p if gap else None,
        chance=pooled,
        best=human[0] if human else 0.0,
        n=len(mine.invalid),
        note="unusable: " + ", ".join(f"{_cut(text)} x{n}" for text, n in common) if common else "",
        by=by,
        warnings=_floods(mine, n, bad),
        telling=tuple(
            Telling(int(mine.keys[i]), 1.0, f"{mine.names[mine.who[i]]} said {_cut(str(mine.said[i]))}")
            for i in np.flatnonzero(mine.invalid)[:8]
        ),
    )


def _share(side: Side, context: Context) -> tuple[float, tuple[float, float] | None]:
    """The share, and an interval that draws whole items or prompts."""
    value = float(side.invalid.mean()) if len(side.invalid) else float("nan")
    _, member = np.unique(side.unit, return_inverse=True)
    units = int(member.max(initial=-1)) + 1
    if value in (0.0, 1.0):
        return value, stats.wilson(round(value * units), units)
    sums = [np.bincount(member, side.invalid, units), np.bincount(member, minlength=units).astype(np.float64)]
    rows = np.stack(sums, axis=1)
    drawn = labels_paired.weighted_sums(rows, context)
    return value, stats.percentile_interval(drawn[:, 0] / np.maximum(drawn[:, 1], 1))


def _gap(mine: Side, theirs: Side, context: Context) -> stats.Difference:
    """Candidate less reference, by replicate groups; the same items are in the same group of both."""
    left = []
    for side in (mine, theirs):
        bad = np.bincount(side.group, side.invalid, context.groups)
        n = np.bincount(side.group, minlength=context.groups)
        left.append((bad.sum() - bad) / np.maximum(n.sum() - n, 1))
    value = float(mine.invalid.mean() - theirs.invalid.mean())
    return stats.against_zero(stats.jackknife(value, left[0] - left[1]))


def _floods(mine: Side, n: Ints, bad: Floats) -> tuple[Found, ...]:
    """Sources of which most answers are unusable."""
    named = [i for i in np.flatnonzero(n >= 20) if bad[i] / n[i] >= _FLOOD]
    return tuple(
        Found(
            "degenerate_source",
            f"{mine.names[i]}: {bad[i] / n[i]:.0%} of its {n[i]:,} answers are unusable, so that all other "
            "figures rest on the rest; mend its parser or leave it out",
        )
        for i in named[:10]
    )


def _cut(text: str) -> str:
    shown = text if len(text) <= 30 else text[:29] + "…"
    return repr(shown) if shown else "nothing"
