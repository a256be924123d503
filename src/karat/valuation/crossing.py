"""Second-order tests: the same trainer on human and on synthetic data, each model tested on both.

What is wrong with a set shows in what a model makes of it. Training sets have equal sizes, groups of records
are never split, a look-up table stands beside each score, and all draws of test records are common to all
models, so that differences are paired. Knows no trainer by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from karat import registry
from karat.errors import BadSetting
from karat.records import Records
from karat.training import grid, keeping
from karat.training import scores as scoring
from karat.training.base import Answers, Prepared, Progress, kind_of, prepared
from karat.training.stage import check
from karat.valuation import amplification, deficits
from karat.valuation.crossed import CrossTrained
from karat.valuation.second_order import Cell, Plan, Study
from karat.valuation.sides import make_sides

_TRIALS = {"small": 200, "medium": 500, "large": 2000}


def cross_train(
    human: Records,
    synthetic: Records,
    test: Records | None = None,
    *,
    synthetic_test: Records | None = None,
    trainer: Any = "linear",
    metric: str = "",
    by: str = "",
    group: str = "",
    size: int = 0,
    test_share: float = 0.2,
    seeds: int = 5,
    attributes: Sequence[str] = (),
    budget: Literal["small", "medium", "large"] = "medium",
    seed: int = 0,
    executor: Any = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> CrossTrained:
    """Train on human and on synthetic records alike, test each model on both, and find what is amplified.

    test: human test records; without them a share of the human records is held out, by groups.
    synthetic_test: synthetic test records; without them a share of the synthetic ones is held out.
    trainer: the trainer by name and settings, for example linear:C=1.
    metric: the score of the table; chosen by the data type when none is given.
    by: a field that tells kinds of synthetic records apart; lineage.generator when not given.
    group: a field whose equal values stay on one side of the split, besides texts, items and parents.
    size: records that each model is trained on; 0 takes as many as the smallest side has.
    test_share: the share of groups that is held out where no test records are given.
    seeds: how many splits and draws; 3 at least for a fair interval.
    attributes: numeric fields of the records that may explain what a class loses, besides plain ones.
    budget: small, medium or large: how often the test records are resampled.
    seed: of splits, draws and resamples.
    Raises NotEnoughData where a side is too small to be split.
    """
    maker = registry.make("trainers", trainer)
    _check(seeds, test_share, budget, size)
    check(human, test if test is not None else human, maker)
    check(synthetic, synthetic_test if synthetic_test is not None else synthetic, maker)
    sides = make_sides(human, synthetic, test, synthetic_test, by=by, group=group, keep=attributes)
    for name in attributes:
        deficits.numbers(sides.pool, name)
    kind = kind_of(sides.pool)
    metric = metric or scoring.default_metric(kind, sides.pool.datatype)
    most = sides.check(seeds, test_share=test_share, base=seed)
    if size > most:
        raise BadSetting(f"size is {size:,}, but the smallest side can train on {most:,} records only")
    plan = Plan(sides, size or most, seeds, test_share, seed)
    cells = plan.cells()
    made = registry.signature(maker, seed=seed, size=plan.size, seeds=seeds, data=sides.pool.fingerprint[:8])
    print_ = sides.fingerprint
    said = grid.run(
        partial(_train, prepared(maker, sides.pool, cache=cache), plan),
        cells,
        key=lambda cell: f"{made}|{test_share}|{print_}|{cell}",
        executor=executor,
        cache=cache,
        pack=keeping.pack,
        unpack=keeping.unpack,
        progress=progress,
        name="cross_train",
    )
    study = Study(plan, kind, metric, dict(zip(cells, said)), _TRIALS[budget])
    every = range(len(sides.names))
    return CrossTrained(
        trainer=registry.spec_of(maker),
        signature=made,
        metric=metric,
        higher=scoring.METRICS[metric],
        kinds=sides.names[1:],
        size=plan.size,
        seeds=seeds,
        cells=tuple(study.cell(a, b) for a in every for b in every),
        gaps=study.gaps(),
        labels=deficits.of(study, attributes) if kind == "labels" else None,
        amplified=amplification.of(study),
        warnings=_warnings(study, seeds),
    )


def _warnings(study: Study, seeds: int) -> tuple[tuple[str, str], ...]:
    """Return (code, message) of what a reader must know."""
    found = []
    tested = min(len(study.plan.test(side, k)) for side in range(len(study.names)) for k in range(seeds))
    few = [f"{tested:,} test records, of which 100 are needed at least"] if tested < 100 else []
    few += [f"{seeds} seeds, of which 3 are needed at least"] if seeds < 3 else []
    if few:
        found.append(("too_few_records", "; ".join(few)))
    human = set(study.gold(np.flatnonzero(study.plan.sides.side == 0))) if study.labels else set()
    for side, name in enumerate(study.names[1:], 1):
        mine = set(study.gold(np.flatnonzero(study.plan.sides.side == side))) if study.labels else set()
        if mine - human:
            names = ", ".join(sorted(mine - human)[:5])
            found.append(("unseen_labels", f"{name} has labels that no human record has: {names}"))
    return tuple(found)


def _check(seeds: int, test_share: float, budget: str, size: int) -> None:
    if seeds < 1:
        raise BadSetting(f"seeds is {seeds}, but at least 1 draw is needed; 5 is the default")
    if not 0 < test_share < 1:
        raise BadSetting(f"test_share is {test_share}, but must lie between 0 and 1; 0.2 is the default")
    if budget not in _TRIALS:
        raise BadSetting(f"budget is {budget!r}; choose one of: {', '.join(_TRIALS)}")
    if size < 0:
        raise BadSetting(f"size is {size}, but must be 0 (as many as there are) or more")


def _train(reader: Prepared, plan: Plan, cell: Cell) -> tuple[Answers, ...]:
    """Train one model and let it answer the tests of all sides; runs in a worker."""
    tests = [plan.test(side, cell.seed) for side in range(len(plan.sides.names))]
    found = reader.fit_predict(plan.train(cell), np.concatenate(tests), seed=plan.base + cell.seed)
    ends = np.cumsum([0, *(len(rows) for rows in tests)]).tolist()
    return tuple(_part(found, start, stop) for start, stop in pairwise(ends))


def _part(answers: Any, start: int, stop: int) -> Answers:
    """Return the answers to some of the records, classes as they are."""
    values: dict[str, Any] = {
        f.name: getattr(answers, f.name) for f in fields(answers) if f.name not in ("classes", "threshold")
    }
    found: Answers = replace(answers, **{k: None if v is None else v[start:stop] for k, v in values.items()})
    return found
