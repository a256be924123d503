"""Finds records that stand in both training and test data, and says what to do about them. Knows no trainer.

A score on test records that were trained on measures memory: on one published benchmark of LLM labels
99 to 100 % of the test rows had their text in training, and a look-up table scored 1.000.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from karat.curation.base import normalised
from karat.errors import LeakageError, NotEnoughData
from karat.records import Records
from karat.training.base import inputs


@dataclass(frozen=True)
class Leakage:
    """The overlap of training and test texts, before anything was dropped."""

    exact: int = 0
    """training records whose text is that of a test record, letter by letter"""
    normalised: int = 0
    """the same after folding case, spaces, quotes and stops; includes the exact ones"""
    train: tuple[str, ...] = ()
    """ids of these training records"""
    test: tuple[str, ...] = ()
    """ids of the test records they repeat"""
    test_share: float = 0.0
    """share of the test records that stand in training"""
    dropped: int = 0
    """training records that were left out for it"""
    allowed: bool = False
    """whether the scores were made on leaking data on request"""
    children: tuple[str, ...] = ()
    """ids of training records that name a test record as what they were made from (`lineage.parents`)"""

    def told(self, what: str) -> list[tuple[str, tuple[str, ...]]]:
        """Return what to say of `what` records, each message with the ids it is about."""
        found = []
        if self.dropped:
            message = f"{self.dropped:,} {what} records stand in the test data and were left out"
            found.append((message, self.train))
        elif self.allowed:
            message = (
                f"{self.normalised:,} {what} records stand in the test data "
                f"({self.test_share:.1%} of it), so the scores measure memory too"
            )
            found.append((message, self.train))
        if self.children:
            message = (
                f"{len(self.children):,} {what} records were made from a test record, by their lineage; "
                "they were kept, and the scores may measure memory"
            )
            found.append((message, self.children))
        return found

    def to_json(self) -> dict[str, Any]:
        """Return what `karat train --json` prints under `leakage`; at most 20 ids a side."""
        return {
            "exact": self.exact,
            "normalised": self.normalised,
            "test_share": self.test_share,
            "dropped": self.dropped,
            "allowed": self.allowed,
            "children": list(self.children[:20]),
            "train": list(self.train[:20]),
            "test": list(self.test[:20]),
        }


def overlap(train: Records, test: Records) -> tuple[Leakage, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return the overlap of training and test texts, and bool [len(train)]: which training records leak."""
    exact = set(inputs(test))
    folded = [normalised(text) for text in inputs(test)]
    known = set(folded)
    ours = [normalised(text) for text in inputs(train)]
    leaking = np.fromiter((text in known for text in ours), np.bool_, len(ours))
    hit = {ours[i] for i in np.flatnonzero(leaking).tolist()}
    seen = [identity for identity, text in zip(test.ids, folded) if text in hit]
    return (
        Leakage(
            exact=sum(text in exact for text in inputs(train)),
            normalised=int(leaking.sum()),
            train=tuple(identity for identity, bad in zip(train.ids, leaking.tolist()) if bad),
            test=tuple(seen),
            test_share=len(seen) / len(test) if len(test) else 0.0,
            children=_children(train, test),
        ),
        leaking,
    )


def _children(train: Records, test: Records) -> tuple[str, ...]:
    """Return the ids of training records that have a test record for a parent.

    An id that stands in both files names nobody for sure, and is passed over.
    """
    tested = set(test.ids) - set(train.ids)
    parents = zip(train.ids, train.lineage("parents"))
    return tuple(identity for identity, entry in parents if tested.intersection(entry or ()))


def guard(
    train: Records,
    test: Records,
    *,
    allow_leakage: bool = False,
    drop_leaks: bool = False,
    what: str = "training",
) -> tuple[Records, Leakage]:
    """Return the training records that may be used and the overlap found. Raises LeakageError.

    drop_leaks leaves the leaking records out of training; allow_leakage keeps them and says so.
    """
    found, leaking = overlap(train, test)
    if not found.normalised:
        return train, found
    if drop_leaks:
        if leaking.all():
            raise NotEnoughData(
                f"{train.path}: all {len(train):,} {what} records stand in the test data; give others"
            )
        return train.where(~leaking), _with(found, dropped=int(leaking.sum()))
    if allow_leakage:
        return train, _with(found, allowed=True)
    verb = "stands" if found.normalised == 1 else "stand"
    raise LeakageError(
        f"{found.normalised:,} of {len(train):,} {what} records {verb} in the test data too "
        f"({found.test_share:.1%} of it; for example {found.train[0]!r} and {found.test[0]!r}), so that "
        "a score would measure memory; leave them out with --drop-leaks, or keep them with --allow-leakage"
    )


def _with(found: Leakage, *, dropped: int = 0, allowed: bool = False) -> Leakage:
    return replace(found, dropped=dropped, allowed=allowed)
