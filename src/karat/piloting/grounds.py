"""Who may see what: human records for prompts and human records for scores are kept apart. Knows no part."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from karat import datasets
from karat.errors import InputError, NotEnoughData
from karat.generation.tasks import Task
from karat.piloting.student import POINTS
from karat.records import Records
from karat.training import scores as scoring
from karat.training.base import gold_labels
from karat.training.leakage import guard
from karat.training.stage import most_common

MOST = 4000
"""test records that are used: more hardly narrow an interval, which then holds the chance of the rows"""
LEAST = 30


@dataclass(frozen=True)
class Grounds:
    """shown: human records that prompts and providers may see. scored: those they may not.

    labelled: whether a student can be trained and scored. chance: the best macro-F1 of guessing, in points.
    """

    shown: Records | None
    scored: Records | None
    items: Records | None
    labelled: bool
    chance: float | None
    notes: tuple[str, ...] = ()


def grounds(
    task: Task,
    human: Records | None,
    items: Records | None,
    test: Records | None,
    *,
    group: str | None = None,
    seed: int = 0,
) -> Grounds:
    """Part the human records; what stands in the test is shown to nobody. Raises NotEnoughData."""
    notes: list[str] = []
    shown, scored = human, test
    if test is None and human is not None:
        if group is not None:
            human.column(group)  # raises, naming the fields there are
        parts = datasets.split(human, by=group or "", shares=(0.5, 0.5, 0), seed=seed)
        shown, scored = parts.train, parts.test
        notes.append(
            f"no test records were given: prompts may show {len(shown):,} of the {len(human):,} human "
            f"records, and the other {len(scored):,} score the students"
        )
    kept_from = scored  # all of them, not only those that are used
    if scored is not None and len(scored) > MOST:
        notes.append(f"{MOST:,} of {len(scored):,} test records are used, drawn at random")
        scored = scored.sample(MOST, seed=seed)
    if kept_from is not None:
        shown = _apart(shown, kept_from, "human", notes)
        items = _apart(items, kept_from, "items", notes)
        if len(kept_from) < LEAST:
            raise NotEnoughData(
                f"{kept_from.path}: {len(kept_from)} human records to score with, but a pilot needs at least "
                f"{LEAST}; give more (--human or --test)"
            )
    labelled = scored is not None and _labelled(task, scored)
    if scored is None:
        notes.append("without human records there is no score: arms are compared by diversity and cost alone")
    elif labelled and task.multi_label:
        notes.append("of records with several labels the student learns the first one only")
    elif not labelled:
        notes.append(
            f"{task.type} records are scored by their distance to human ones alone: a student needs labels"
        )
    return Grounds(
        shown, scored, items, labelled, _chance(scored) if labelled and scored else None, tuple(notes)
    )


def _apart(side: Records | None, scored: Records, what: str, notes: list[str]) -> Records | None:
    """Leave out what stands in the test; None where nothing is left."""
    if side is None or not len(side):
        return None
    try:
        kept, leak = guard(side, scored, drop_leaks=True, what=what)
    except NotEnoughData:
        raise NotEnoughData(
            f"{side.path}: all {len(side):,} {what} records stand in the test; give others"
        ) from None
    if leak.dropped:
        notes.append(f"{leak.dropped:,} {what} records stand in the test and are shown to no model")
    return kept


def _labelled(task: Task, scored: Records) -> bool:
    if task.type not in ("classification", "text") or not task.labels or scored.labels() is None:
        return False
    gold = set(gold_labels(scored, "test"))
    if not gold & set(task.label_names):
        raise InputError(
            f"{scored.path}: no test label is a label of the task (for example {sorted(gold)[0]!r} against "
            f"{task.label_names[0]!r}); spell them alike, or name the field with --label-field"
        )
    return len(gold) > 1


def _chance(scored: Records) -> float:
    """The best of two guesses: the most common label always, or labels by their shares."""
    gold = gold_labels(scored, "test")
    classes = tuple(sorted(set(gold)))
    constant = scoring.measure("macro_f1", scoring.constant(gold, most_common(gold), classes))[0]
    shares = {name: count / len(gold) for name, count in Counter(gold).items()}
    return POINTS * max(float(constant), float(np.mean(scoring.random_f1(gold, shares, classes))))
