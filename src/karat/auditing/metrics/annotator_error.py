"""How often each annotator misses a label that is known to be right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing import labels_paired, labels_sets, labels_sheet
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Facts, Metric, Need, Summary, Telling, View
from karat.auditing.columns import Columns
from karat.auditing.labels_paired import Part
from karat.auditing.labels_sheet import SHEET, Book, Floats, Ints, Sheet

_NAMED = 60


@dataclass(frozen=True)
class AnnotatorError(Metric):
    """The share of labels that differ from a gold label, overall and by annotator.

    Gold is the field `gold` of the records, or the labels of an annotator called gold in the reference. An
    answer outside the label space is an error. Chance always gives the commonest gold label. details hold the
    rank of each annotator (1 errs most) and the error of the majority of the annotators.
    gold: the name of the annotator of the reference whose labels are right
    labels: the label space in its order, as a+b+c; without it all labels that there are
    """

    gold: str = "gold"
    labels: tuple[str, ...] = ()

    family: ClassVar[str] = "annotation"
    datatypes: ClassVar[tuple[str, ...]] = ("annotation",)
    misleads: ClassVar[str] = (
        "Gold labels are wrong too, and on subjective items there is no right label: read the "
        "records it names "
        "before an annotator is dismissed."
    )
    cost: ClassVar[str] = "O(labels)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Leave out or retrain the annotators that err most, or take majorities (details.majority)."
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    share: ClassVar[bool] = True
    higher: ClassVar[str] = "more labels are wrong"
    source: ClassVar[str] = "Wilson 1927 (intervals); Röttger et al. 2021 (annotators against designed gold)"

    def needs(self) -> tuple[Need, ...]:
        return (SHEET,)

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        if "gold" in candidate.fields or reference is not None:
            return ""
        return "needs a field gold, or a reference with an annotator called gold"

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        theirs = None if reference is None else reference[SHEET]
        everything = self.labels or _all_labels([candidate[SHEET]] + ([] if theirs is None else [theirs]))
        book = labels_sheet.read(candidate[SHEET], theirs, labels=everything)
        if book.lacks and not book.lacks.startswith("no item is on both"):
            return labels_paired.nothing(book.lacks)
        gold = _gold(book, self.gold)
        mine = _judged(book.mine, gold)
        if not len(mine):
            return labels_paired.nothing(
                f"no gold label: bring a field gold, or a reference with an annotator called {self.gold!r}"
            )
        wrong = (mine.label != gold[mine.item]).astype(np.float64)
        by = _by(mine, wrong)
        value, interval = _clustered(wrong, mine.item, context)
        shares = np.bincount(gold[mine.item], minlength=len(book.space)) / len(mine)
        people = None if book.theirs is None else _people(book.theirs, gold, self.gold)
        human = _by_chance_of(people, gold) if people is not None and len(people) else None
        gap = _gap(book, mine, wrong, people, gold, context) if human is not None else None
        ranked = sorted(by, key=lambda name: (-by[name][0], name))
        majority = _majority(mine, gold, book)
        details = {"majority": majority, **{f"rank.{name}": float(i) for i, name in enumerate(ranked, 1)}}
        return Comparison(
            value=value,
            interval=interval,
            chance=float(1 - shares.max()),
            best=0.0,
            reference=human,
            difference=None if human is None else value - human,
            difference_interval=gap.interval if gap else None,
            p=gap.p if gap else None,
            n=len(mine),
            note=_note(by, ranked, len(mine)),
            details=details,
            by=by,
            telling=_lonely(mine, wrong, gold, book),
        )


def _all_labels(sides: list[Columns]) -> tuple[str, ...]:
    """Every label and gold label of both sides: a label that gold never has is an error."""
    found: set[str] = set()
    for side in sides:
        for name in ("label", "gold"):
            names, _ = side.numbered(name)
            found |= {labels_sheet.plain(one) for one in names}
    found = {one for one in found if not labels_sheet.blank(one)}
    return tuple(sorted(found))


def _gold(book: Book, called: str) -> Ints:
    """int64 [items]: the right label of each item; -1 where none is known."""
    gold = np.full(book.items, -1, np.int64)
    sheets = [book.mine] if book.theirs is None else [book.theirs, book.mine]
    for sheet in sheets:  # the candidate's own field has the last word
        known = sheet.gold >= 0
        gold[sheet.item[known]] = sheet.gold[known]
    if book.theirs is not None and called in book.theirs.annotators:
        right = (book.theirs.annotator == book.theirs.annotators.index(called)) & (book.theirs.label >= 0)
        gold[book.theirs.item[right]] = book.theirs.label[right]
    return gold


def _judged(sheet: Sheet, gold: Ints) -> Sheet:
    return sheet.take(gold[sheet.item] >= 0)


def _people(sheet: Sheet, gold: Ints, called: str) -> Sheet:
    """The labels of people beside gold, without gold itself."""
    judged = _judged(sheet, gold)
    if called not in sheet.annotators:
        return judged
    return judged.take(judged.annotator != sheet.annotators.index(called))


def _by_chance_of(people: Sheet, gold: Ints) -> float:
    return float((people.label != gold[people.item]).mean())


def _by(sheet: Sheet, wrong: Floats) -> dict[str, Part]:
    """The error of each annotator with Wilson's interval, those with most labels first taken."""
    n = np.bincount(sheet.annotator, minlength=len(sheet.annotators))
    errors = np.bincount(sheet.annotator, wrong, len(sheet.annotators))
    chosen = np.argsort(-n, kind="stable")[:_NAMED]
    return {
        sheet.annotators[i]: (float(errors[i] / n[i]), stats.wilson(int(errors[i]), int(n[i])), int(n[i]))
        for i in sorted(chosen, key=lambda i: sheet.annotators[i])
        if n[i]
    }


def _clustered(wrong: Floats, item: Ints, context: Context) -> tuple[float, tuple[float, float] | None]:
    """The share with an interval that draws items, since errors on one item go together."""
    value = float(wrong.mean())
    if value in (0.0, 1.0):
        return value, stats.wilson(int(wrong.sum()), len(np.unique(item)))
    known, member = np.unique(item, return_inverse=True)
    sums = [
        np.bincount(member, wrong, len(known)),
        np.bincount(member, minlength=len(known)).astype(np.float64),
    ]
    rows = np.stack(sums, axis=1)
    drawn = labels_paired.weighted_sums(rows, context)
    return value, stats.percentile_interval(drawn[:, 0] / np.maximum(drawn[:, 1], 1))


def _gap(
    book: Book, mine: Sheet, wrong: Floats, people: Sheet | None, gold: Ints, context: Context
) -> stats.Difference:
    """Candidate less people, by groups of items left out of both."""
    assert people is not None
    missed = (people.label != gold[people.item]).astype(np.float64)
    sides = []
    for sheet, amount in ((mine, wrong), (people, missed)):
        group = book.groups[sheet.item]
        hits = np.bincount(group, amount, context.groups)
        n = np.bincount(group, minlength=context.groups)
        sides.append((hits.sum() - hits) / np.maximum(n.sum() - n, 1))
    value = float(wrong.mean() - missed.mean())
    return stats.against_zero(stats.jackknife(value, sides[0] - sides[1]))


def _majority(mine: Sheet, gold: Ints, book: Book) -> float:
    """How often the majority of the annotators of an item is wrong; ties share."""
    counts = labels_sheet.lists(mine, len(book.space), crowd=True)
    shares = labels_sets.even(labels_sets.modes(counts.counts))
    right = shares[np.arange(len(counts)), gold[counts.item]]
    return float(1 - right.mean())


def _note(by: dict[str, Part], ranked: list[str], n: int) -> str:
    if len(ranked) < 2:
        return f"{n:,} labels against gold"
    worst = ", ".join(f"{name} {by[name][0]:.1%}" for name in ranked[:3])
    return f"{n:,} labels against gold; most errors: {worst}; fewest: {ranked[-1]} {by[ranked[-1]][0]:.1%}"


def _lonely(mine: Sheet, wrong: Floats, gold: Ints, book: Book) -> tuple[Telling, ...]:
    """Errors where all others were right come first."""
    counts = labels_sheet.tally(mine.item, mine.label, book.items, len(book.space))
    right = counts[mine.item, gold[mine.item]]
    score = wrong * (1 + right)
    order = np.argsort(-score, kind="stable")[:8]
    return tuple(
        Telling(
            int(mine.keys[i]),
            float(score[i]),
            f"{mine.annotators[mine.annotator[i]]}: {mine.said[i]}; gold: {book.space[gold[mine.item[i]]]}; "
            f"{right[i]} others say gold",
        )
        for i in order
        if wrong[i]
    )
