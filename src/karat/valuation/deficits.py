"""What each label loses under synthetic data, how labels are spread, and how sure models are.

Knows no trainer. All figures are of the human test records, on the draws that all models share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from karat.auditing import shares
from karat.auditing import statistics as stats
from karat.errors import InputError
from karat.records import Records
from karat.training import scores as scoring
from karat.training.base import Floats, Indices, codes
from karat.valuation import artifacts
from karat.valuation.crossed import Calibration, Deficit, Distribution, Labels, Slope
from karat.valuation.second_order import Cell, Study

LEAST_CLASSES = 4
"""labels that a regression over labels needs"""


def of(study: Study, attributes: Sequence[str] = ()) -> Labels:
    """Return all figures of labels."""
    found = [row for side in range(1, len(study.names)) for row in _deficits(study, side)]
    holm = stats.holm([row.p for row in found])
    found = [replace(row, p_holm=p) for row, p in zip(found, holm)]
    slopes = [
        slope
        for side in range(1, len(study.names))
        for slope in _slopes(study, side, [row for row in found if row.kind == study.names[side]], attributes)
    ]
    holm = stats.holm([slope.p for slope in slopes])
    return Labels(
        deficits=tuple(found),
        slopes=tuple(replace(slope, p_holm=p) for slope, p in zip(slopes, holm)),
        distributions=tuple(_distribution(study, side) for side in range(len(study.names))),
        calibration=tuple(
            _calibration(study, side, test)
            for side in range(len(study.names))
            for test in range(len(study.names))
        ),
    )


def _deficits(study: Study, side: int) -> list[Deficit]:
    """Return F1 of the human-trained minus of the synthetic-trained model, a row for each label."""
    present = np.zeros(len(study.classes), np.bool_)
    support = np.zeros(len(study.classes))
    for k in range(study.seeds):
        gold = codes(study.gold(study.plan.test(0, k)), study.classes)
        counts = np.bincount(gold, minlength=len(study.classes))
        present |= counts > 0
        support += counts / study.seeds
    (human, drawn_human), (mine, drawn) = _f1(study, 0), _f1(study, side)
    rows = []
    for at in np.flatnonzero(present).tolist():
        value = float((human - mine)[:, at].mean())
        gap = drawn_human[:, :, at] - drawn[:, :, at]
        rows.append(
            Deficit(
                kind=study.names[side],
                label=study.classes[at],
                human=float(human[:, at].mean()),
                synthetic=float(mine[:, at].mean()),
                value=value,
                interval=study.interval(value, gap),
                p=study.p(value, gap),
                n=round(float(support[at])),
            )
        )
    return rows


def _f1(study: Study, side: int) -> tuple[Floats, Floats]:
    """Return F1 of all labels on the human test: point [seeds, labels] and draws [trials, seeds, labels]."""

    def f1(found: Any, weights: Any) -> Floats:
        return scoring.f1_by_label(found, weights)[0]

    return study.draws(side, 0, f1)


def _slopes(study: Study, side: int, rows: Sequence[Deficit], attributes: Sequence[str]) -> list[Slope]:
    """Return the regression of deficits on how far each attribute of a label's records lies from human ones.

    Ordinary least squares over labels; with so few points the interval is that of Student's t.
    """
    from scipy.stats import linregress, t

    labels = [row.label for row in rows]
    if len(labels) < LEAST_CLASSES:
        return []
    human = _means(study, 0, labels, attributes)
    mine = _means(study, side, labels, attributes)
    found = []
    for name in human:
        gap = mine[name] - human[name]
        used = np.isfinite(gap)
        if used.sum() < LEAST_CLASSES or np.ptp(gap[used]) == 0:
            continue
        line = linregress(gap[used], np.array([row.value for row in rows])[used])
        half = float(t.ppf(0.975, used.sum() - 2)) * float(line.stderr)
        slope = float(line.slope)
        found.append(
            Slope(
                kind=study.names[side],
                attribute=name,
                slope=slope,
                interval=(slope - half, slope + half),
                correlation=float(line.rvalue),
                p=float(line.pvalue),
                labels=int(used.sum()),
            )
        )
    return found


def _means(study: Study, side: int, labels: Sequence[str], attributes: Sequence[str]) -> dict[str, Floats]:
    """Return the mean of each attribute over the training records of each label, by name; nan without any."""
    sums: dict[str, Floats] = {}
    counts = np.zeros(len(labels))
    place = {name: i for i, name in enumerate(labels)}
    for k in range(study.seeds):
        rows = study.plan.train(Cell(side, k))
        at = np.array([place.get(label, -1) for label in study.gold(rows)])
        known = at >= 0
        counts += np.bincount(at[known], minlength=len(labels))
        for name, values in _attributes(study, rows, attributes).items():
            total = np.bincount(at[known], weights=values[known], minlength=len(labels))
            sums[name] = sums.get(name, np.zeros(len(labels))) + total
    with np.errstate(invalid="ignore", divide="ignore"):
        return {name: np.where(counts > 0, total / counts, np.nan) for name, total in sums.items()}


def _attributes(study: Study, rows: Indices, attributes: Sequence[str]) -> dict[str, Floats]:
    pool = study.plan.sides.pool.take(rows)
    found = artifacts.described(pool.texts())
    return found | {name: numbers(pool, name) for name in attributes}


def numbers(records: Records, name: str) -> Floats:
    """Return a numeric field [n], nan where it is empty. Raises InputError for another field."""
    values = records.column(name)
    try:
        return np.array([np.nan if value is None else float(value) for value in values])
    except (TypeError, ValueError):
        raise InputError(
            f"{records.path}: attribute {name!r} holds {values[0]!r}; attributes are numbers"
        ) from None


def _distribution(study: Study, side: int) -> Distribution:
    """Return how often each label is gold, given in training, and predicted, and how far these lie apart."""
    classes = len(study.classes)
    gold, trained, hard, soft = (np.zeros((study.seeds, classes)) for _ in range(4))
    for k in range(study.seeds):
        cell = Cell(side, k)
        rows = study.plan.test(0, k)
        gold[k] = np.bincount(codes(study.gold(rows), study.classes), minlength=classes)
        trained[k] = np.bincount(codes(study.gold(study.plan.train(cell)), study.classes), minlength=classes)
        said: Any = study.said[cell][0]
        hard[k] = np.bincount(codes(said.labels, study.classes), minlength=classes)
        soft[k][codes(said.classes, study.classes)] = said.probabilities.sum(axis=0)

    def apart(found: Any, weights: Any) -> Floats:
        rows = np.ones((1, len(found.gold)), np.float32) if weights is None else weights
        part = [scoring.class_sums(rows, places, classes) for places in (found.predicted, found.gold)]
        part = [one / np.maximum(one.sum(axis=1, keepdims=True), 1e-12) for one in part]
        return shares.measure(part[0], part[1], "tvd")

    point, drawn = study.draws(side, 0, apart)
    rng = np.random.default_rng([study.plan.base, 0x7FD])
    goal = gold.sum(axis=0) / gold.sum()
    fair = rng.multinomial(max(1, round(gold.sum() / study.seeds)), goal, size=400)
    mean = [each.mean(axis=0) for each in (gold, trained, hard, soft)]
    spread = [
        float(shares.measure(one / one.sum(), one / one.sum(), "entropy")) for one in (mean[0], mean[2])
    ]
    return Distribution(
        side=study.names[side],
        labels=study.classes,
        gold=tuple(mean[0].tolist()),
        trained=tuple(mean[1].tolist()),
        predicted=tuple(mean[2].tolist()),
        expected=tuple(mean[3].tolist()),
        tvd=float(point.mean()),
        tvd_interval=study.interval(float(point.mean()), drawn, share=True),
        tvd_chance=float(shares.measure(fair / fair.sum(axis=1, keepdims=True), goal, "tvd").mean()),
        tvd_expected=float(shares.measure(mean[3] / mean[3].sum(), goal, "tvd")),
        entropy_ratio=spread[1] / spread[0] if spread[0] > 0 else None,
    )


def _calibration(study: Study, side: int, test: int) -> Calibration:
    """Return how well a side's models know how right they are on a test."""
    errors, halves, briers, drawn, fair, bins = [], [], [], [], [], []
    for k in range(study.seeds):
        cell, rows = Cell(side, k), study.plan.test(test, k)
        said: Any = study.said[cell][test]
        sums = _confidences(study, cell, test)
        if study.seeds > 1:
            part = _confidences(study, replace(cell, half=True), test).sum(axis=0)
            halves.append(float(artifacts.calibration_error(part[None])[0]))
        total = sums.sum(axis=0)
        errors.append(float(artifacts.calibration_error(total[None])[0]))
        briers.append(float(total[0] / len(rows)))
        drawn.append(artifacts.calibration_error(study.sums(rows, sums)))
        fair.append(artifacts.calibrated_by_chance(said.probabilities, seed=study.plan.base + k))
        bins.append(total[2:].reshape(3, artifacts.BINS))
    spread = np.stack(drawn, axis=1)
    if halves:
        spread = spread + study.luck(side, np.array(errors), np.array(halves))[:, None]
    count, confidence, right = np.sum(bins, axis=0)
    used = count > 0
    return Calibration(
        trained_on=study.names[side],
        tested_on=study.names[test],
        error=float(np.mean(errors)),
        interval=study.interval(float(np.mean(errors)), spread, share=True),
        chance=float(np.mean(fair)),
        brier=float(np.mean(briers)),
        confidence=float(confidence.sum() / count.sum()),
        accuracy=float(right.sum() / count.sum()),
        bins=tuple(
            (float(c / n), float(r / n), round(float(n)))
            for n, c, r in zip(count[used], confidence[used], right[used])
        ),
    )


def _confidences(study: Study, cell: Cell, test: int) -> Floats:
    """Return the sums of `artifacts.confidences` of one model on one test."""
    said: Any = study.said[cell][test]
    place = {name: i for i, name in enumerate(said.classes)}
    gold = np.array([place.get(label, -1) for label in study.gold(study.plan.test(test, cell.seed))])
    return artifacts.confidences(np.asarray(said.probabilities, np.float64), gold)
