"""The amplification index: an artifact in a model's answers minus the artifact in its training data.

Beside it stands the same index of a model trained on human data: a model that takes the likeliest label makes
any majority larger, whoever gave the labels. Knows no trainer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from karat.auditing import statistics as stats
from karat.curation.influence import one_hot
from karat.training.base import Floats, Indices, Predictions, Written, codes
from karat.training.pairs import Pairs, pairs
from karat.valuation import artifacts
from karat.valuation.crossed import Amplified, Ends
from karat.valuation.second_order import Cell, Study

Sums = dict[str, Floats]


def of(study: Study) -> tuple[Amplified, ...]:
    """Return each artifact of each side in training, in answers to the human test, and the difference.

    Labels have it twice: in the labels that a model gives (hard) and in the probabilities behind (soft).
    Texts are measured by what a model writes; likelihoods have none.
    """
    answers = next(iter(study.said.values()))[0]
    forms: tuple[str, ...]
    if isinstance(answers, Predictions):
        forms = ("hard", "soft")
    elif isinstance(answers, Written):
        forms = ("written",)
    else:
        return ()
    found = []
    for form in forms:
        read = {cell: _totals(study, cell, form) for cell in study.said}
        for name in next(iter(read.values())):
            ends = [_ends(study, read, side, name) for side in range(len(study.names))]
            found += [_row(study, name, form, side, ends[side], ends[0]) for side in range(len(study.names))]
    corrected = stats.holm([row.p for row in found])
    return tuple(replace(row, p_holm=p) for row, p in zip(found, corrected))


@dataclass(frozen=True, eq=False)
class _Totals:
    """Sums of one artifact of one model [k], and those of what each trial draws [trials, k]."""

    trained: Floats
    given: Floats
    gold: Floats
    drawn_trained: Floats
    drawn_given: Floats


def _totals(study: Study, cell: Cell, form: str) -> dict[str, _Totals]:
    """Return the sums of one model by artifact; what is known of each record is let go of again."""
    trained, given, gold, train, test = _read(study, cell, form)
    none = np.zeros((0, 0))
    known: dict[int, Floats] = {}  # several artifacts of labels are read off the same sums

    def drawn(rows: Indices, numbers: Floats) -> Floats:
        if id(numbers) not in known:
            known[id(numbers)] = study.sums(rows, numbers)
        return known[id(numbers)]

    return {
        name: _Totals(
            trained[name].sum(axis=0),
            given[name].sum(axis=0),
            gold[name].sum(axis=0),
            none if cell.half else drawn(train, trained[name]),
            none if cell.half else drawn(test, given[name]),
        )
        for name in trained
    }


def _read(study: Study, cell: Cell, form: str) -> tuple[Sums, Sums, Sums, Indices, Indices]:
    """Return statistics by artifact of training data, of answers and of the gold, and the places of both."""
    train, test = study.plan.train(cell), study.plan.test(0, cell.seed)
    said: Any = study.said[cell][0]
    if isinstance(said, Written):
        trained = artifacts.of_texts(_targets(study, train))
        gold = artifacts.of_texts(_targets(study, test))
        return trained, artifacts.of_texts(said.texts), gold, train, test
    classes = study.classes
    given = np.zeros((len(test), len(classes)))
    given[:, codes(said.classes, classes)] = said.probabilities
    if form == "hard":
        given = one_hot(codes(said.labels, classes), len(classes))
    held = {
        name: one_hot(codes(study.gold(rows), classes), len(classes))
        for name, rows in (("train", train), ("test", test))
    }
    if study.plan.sides.pool.datatype == "preference":
        order = [classes.index(name) for name in ("a", "b", "tie") if name in classes]
        return (
            artifacts.of_labels(held["train"][:, order], _pairs(study, train)),
            artifacts.of_labels(given[:, order], _pairs(study, test)),
            artifacts.of_labels(held["test"][:, order], _pairs(study, test)),
            train,
            test,
        )
    return (
        artifacts.of_labels(held["train"]),
        artifacts.of_labels(given),
        artifacts.of_labels(held["test"]),
        train,
        test,
    )


def _ends(study: Study, read: dict[Cell, dict[str, _Totals]], side: int, name: str) -> tuple[Ends, Floats]:
    """Return (training, answers, gold, index) as means over seeds, and draws of the index [trials, seeds]."""
    points, halves, drawn = [], [], []
    for k in range(study.seeds):
        here = read[Cell(side, k)][name]
        target = here.gold / max(float(here.gold.sum()), 1e-12)
        value = partial(artifacts.finish, name, target=target, mode=int(here.trained.argmax()))

        ends = [float(value(total[None, :])[0]) for total in (here.trained, here.given, here.gold)]
        points.append([*ends, ends[1] - ends[0]])
        drawn.append(value(here.drawn_given) - value(here.drawn_trained))
        if study.seeds > 1:
            part = read[Cell(side, k, half=True)][name]
            halves.append(float(value(part.given[None, :])[0]) - float(value(part.trained[None, :])[0]))
    mean = np.mean(points, axis=0).tolist()
    found = np.stack(drawn, axis=1)
    if halves:  # the draw of the training labels is in `drawn` already, so that this errs on the safe side
        found = found + study.luck(side, np.array(points)[:, 3], np.array(halves))[:, None]
    return Ends(*mean), found


def _row(
    study: Study, name: str, form: str, side: int, mine: tuple[Ends, Floats], human: tuple[Ends, Floats]
) -> Amplified:
    ends, drawn = mine
    excess = ends.index - human[0].index
    gap = drawn - human[1]
    return Amplified(
        artifact=name,
        answers=form,
        side=study.names[side],
        ends=ends,
        interval=study.interval(ends.index, drawn),
        excess=excess if side else None,
        excess_interval=study.interval(excess, gap) if side else None,
        p=study.p(excess, gap) if side else None,
    )


def _targets(study: Study, rows: Indices) -> list[str]:
    pool = study.plan.sides.pool
    name = "target" if pool.datatype == "translation" else "completion"
    return [str(text) for text in pool.take(rows).column(name)]


def _pairs(study: Study, rows: Indices) -> Pairs:
    return pairs(study.plan.sides.pool.take(rows))
