"""How long an annotator gives one label after another: answers that do not look at the item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from karat.auditing import labels_paired, labels_sets, labels_sheet
from karat.auditing.base import Comparison, Context, Found, Metric, Need, Summary, View
from karat.auditing.labels_runs import LEAST, Runs, first_answers, runs
from karat.auditing.labels_sheet import SHEET, Book, Ints, Sheet


@dataclass(frozen=True)
class StraightLining(Metric):
    """The longest run of one label in the order of the file, a mean over annotators of 20 items and more.

    Chance is the same after each annotator's labels were exchanged among items of which the others say the
    same (without others: people in the reference). So neither a file in which like items stand together nor
    a lenient annotator makes an alarm. p is that of the largest excess of anybody with whom the others agree
    less inside the run than outside. People in the reference are looked at too. Warns default_order of
    annotators whose runs are far beyond chance.
    labels: the label space in its order, as a+b+c; without it the labels of the reference
    """

    labels: tuple[str, ...] = ()

    family: ClassVar[str] = "annotation"
    datatypes: ClassVar[tuple[str, ...]] = ("annotation",)
    misleads: ClassVar[str] = (
        "The order of the file must be that of the work. A shuffled file hides straight-lining, and "
        "a careful "
        "annotator who is more lenient than all others has long runs too."
    )
    cost: ClassVar[str] = "O(labels log labels) a permutation, 100 permutations"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Read the longest run of the annotators named, and leave out what was not read."
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (1.0, None)
    higher: ClassVar[str] = "longer runs of one answer"
    source: ClassVar[str] = "Johnson 2005 (long strings); permutation within strata"

    def needs(self) -> tuple[Need, ...]:
        return (SHEET,)

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        theirs = None if reference is None else reference[SHEET]
        book = labels_sheet.read(candidate[SHEET], theirs, labels=self.labels)
        if book.lacks and not book.lacks.startswith("no item is on both"):
            return labels_paired.nothing(book.lacks)
        mine = _looked_at(book.mine, book.theirs, book, context)
        if isinstance(mine, str):
            return labels_paired.nothing(mine)
        warnings = _warnings(mine, "candidate")
        details = {f"expected.{name}": float(mine.expected[i]) for i, name in enumerate(mine.names[:60])}
        human = None if book.theirs is None else _looked_at(book.theirs, None, book, context)
        if isinstance(human, Runs):
            warnings += _warnings(human, "reference")
            details["human.longest_run"] = float(human.longest.mean())
            details["human.expected"] = float(human.expected.mean())
        worst = int(np.argmax(mine.excess))
        return Comparison(
            value=float(mine.longest.mean()),
            p=mine.p,
            chance=float(mine.expected.mean()),
            best=float(mine.expected.mean()),
            difference=float((mine.longest - mine.expected).mean()),
            n=int(mine.items.sum()),
            note=f"longest: {mine.names[worst]}, {mine.longest[worst]} items in a row where "
            f"{mine.expected[worst]:.1f} are expected",
            details=details,
            by={
                name: (float(mine.longest[i]), None, int(mine.items[i]))
                for i, name in enumerate(mine.names[:60])
            },
            warnings=warnings,
        )


def _looked_at(sheet: Sheet, people: Sheet | None, book: Book, context: Context) -> Runs | str:
    """The runs of one side, or why they cannot be judged."""
    first = first_answers(sheet)
    said = _said(first, people, book)
    if said is None:
        return "items have one label each and no people's labels: runs may come from the order of the items"
    found = runs(first, said, kinds=len(book.space), trials=context.trials, seed=context.seed)
    return found if found is not None else f"no annotator labelled {LEAST} items"


def _said(sheet: Sheet, people: Sheet | None, book: Book) -> Ints | None:
    """What the others of the same side, else people, say of each record's item; K where undecided."""
    kinds = len(book.space)
    others = labels_sheet.tally(sheet.item, sheet.label, book.items, kinds)[sheet.item]
    valid = np.flatnonzero(sheet.label >= 0)
    others[valid, sheet.label[valid]] -= 1
    if (others.sum(axis=1) > 0).mean() < 0.5:
        if people is None:
            return None
        others = labels_sheet.tally(people.item, people.label, book.items, kinds)[sheet.item]
    modes = labels_sets.modes(others)
    return np.where(modes.sum(axis=1) == 1, modes.argmax(axis=1), kinds).astype(np.int64)


def _warnings(found: Runs, side: str) -> tuple[Found, ...]:
    named = found.suspects()
    if not named:
        return ()
    listed = ", ".join(
        f"{found.names[i]} ({found.longest[i]} in a row, {found.expected[i]:.0f} expected; others agree with "
        f"{found.inside[i]:.0%} of them, with {found.outside[i]:.0%} of the rest)"
        for i in named[:5]
    )
    message = (
        f"in the {side} {len(named)} of {len(found.names)} annotators give one label again and again: "
        f"{listed}; "
        "read what they labelled and leave it out where it was not judged"
    )
    return (Found("default_order", message),)
