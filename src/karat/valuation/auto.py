"""Finds the curation that helps most by nested validation, and proves it once. Knows no filter.

Human records are cut into folds by groups. In each fold a policy sees the other folds only: its detector, its
verifier and its model are made of them, and synthetic records that share a group with the fold are left out.
Policies race: all are tried on one fold, the better part on all. The test records are read when the choice is
made, once, against the plain union, a random selection of the same size and human records alone.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from karat import registry
from karat.auditing import statistics as stats
from karat.errors import BadSetting, KaratError, NotEnoughData
from karat.records import Records, from_table
from karat.training import scores as scoring
from karat.training.base import Floats, Indices, Progress, gold_labels, inputs, kind_of
from karat.training.leakage import Leakage, guard
from karat.training.stage import check
from karat.valuation import cells, comparing
from karat.valuation.auto_curated import AutoCurated, Proof, Tried
from karat.valuation.cells import Bench
from karat.valuation.policies import (
    HUMAN_ONLY,
    ROW,
    UNION,
    Policy,
    Recipe,
    apply,
    curated,
    places,
    rows,
    space,
)
from karat.valuation.sides import families, pooled

FITS = {"small": 60, "medium": 250, "large": 1000}
_TRIALS = {"small": 300, "medium": 1000, "large": 4000}
LEAST = 20
"""human records that folds are made of, at least"""
RANDOM = "random selection"
ALWAYS = (HUMAN_ONLY, UNION)
"""tried on all folds, whatever they score"""
BEHIND = 3.0
"""standard errors of a difference by which a policy that leaves the race is behind the best"""


def auto_curate(
    candidate: Records,
    reference: Records,
    test: Records,
    *,
    trainer: Any = "linear",
    metric: str = "",
    filters: Sequence[str] = (),
    orders: Sequence[str] = (),
    mixtures: Sequence[str] = (),
    folds: int = 5,
    fits: int = 0,
    seeds: int = 5,
    budget: Literal["small", "medium", "large"] = "medium",
    allow_leakage: bool = False,
    seed: int = 0,
    executor: Any = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> AutoCurated:
    """Choose filters, order, share, mixture and human weight by validation, and prove the choice once.

    trainer: the trainer by name and settings, for example linear:C=1.
    metric: the score that decides; chosen by the data type when none is given.
    filters: sets of filters to try, those of one set joined by +; the budget's own when none are given.
    orders: orderings to try; the budget's own when none are given.
    mixtures: mixtures to try; the budget's own when none are given.
    folds: into how many parts the human records are cut for validation.
    fits: the most models that the search trains; 0 takes the budget's (60, 250 or 1000).
    seeds: how often the final models are trained, and how many random selections they are held against.
    budget: small, medium or large: how many policies are tried, how often test records are resampled.
    allow_leakage: keep training records that stand in the test data, and say so.
    seed: of folds, of what draws at random, and of resampling.
    Raises NotEnoughData where human records cannot be cut into folds.
    """
    began = time.perf_counter()
    maker = registry.make("trainers", trainer)
    _check(folds, fits, seeds, budget)
    check(reference, test, maker)
    check(candidate, test, maker)
    kind = kind_of(reference)
    metric = metric or scoring.default_metric(kind, reference.datatype)
    scoring.check_metric(metric, kind)
    human, human_leaks = guard(reference, test, allow_leakage=allow_leakage, drop_leaks=not allow_leakage)
    made, leaks = guard(
        candidate, test, allow_leakage=allow_leakage, drop_leaks=not allow_leakage, what="candidate"
    )
    if len(human) < max(LEAST, 2 * folds):
        raise NotEnoughData(
            f"{reference.path}: {len(human):,} human records cannot be cut into {folds} folds; "
            f"{max(LEAST, 2 * folds)} are needed"
        )
    search = Search(human, made, maker, metric, folds, seed, executor, cache, progress)
    tried, used, failed = search.race(
        space(human.datatype, budget, filters=filters, orders=orders, mixtures=mixtures), fits or FITS[budget]
    )
    chosen = choose(tried)
    kept, dropped, left = _curated(chosen, made, human, seed, cache)
    proofs = prove(search, chosen, left, test, seeds=seeds, trials=_TRIALS[budget])
    return AutoCurated(
        candidate=candidate.path,
        records=len(candidate),
        human_records=len(human),
        test_records=len(test),
        trainer=registry.spec_of(maker),
        metric=metric,
        higher=scoring.METRICS[metric],
        chosen=chosen,
        tried=tried,
        failed=failed,
        proofs=proofs,
        fits=used,
        folds=folds,
        seconds=time.perf_counter() - began,
        kept=kept,
        dropped=dropped,
        warnings=_warnings(human_leaks, leaks, test),
    )


def _check(folds: int, fits: int, seeds: int, budget: str) -> None:
    if folds < 2:
        raise BadSetting(f"folds is {folds}, but validation needs 2 at least; 5 is the default")
    if fits < 0 or seeds < 1:
        raise BadSetting(f"fits={fits} must be 0 or more and seeds={seeds} 1 or more")
    if budget not in FITS:
        raise BadSetting(f"budget is {budget!r}; choose one of: {', '.join(FITS)}")


@dataclass(frozen=True)
class _Fold:
    """The places of one fold in the pool, and the records that its policies are made of."""

    train: Indices
    test: Indices
    candidate: Records


class Search:
    """The pool of human and candidate records, its folds, and what policies score on them."""

    def __init__(
        self,
        human: Records,
        candidate: Records,
        maker: Any,
        metric: str,
        folds: int,
        seed: int,
        executor: Any,
        cache: Path | None,
        progress: Progress | None,
    ) -> None:
        self.human, self.candidate = human, candidate
        self.maker, self.metric, self.seed = maker, metric, seed
        self.placed: dict[str, Any] = {"executor": executor, "cache": cache, "progress": progress}
        self.cache = cache
        self.pool = pooled(human, candidate)
        self._bench = cells.bench(
            maker, self.pool, np.arange(len(human)), metric, continues=False, cache=cache
        )
        self.folds = self._folds(folds)
        self.kept: dict[Hashable, Indices | KaratError] = {}
        self.trained: set[str] = set()

    def _folds(self, count: int) -> list[_Fold]:
        """Cut human records by groups; synthetic records of a group of the fold are no candidates there."""
        kin = families(self.pool, np.arange(len(self.pool)) < len(self.human))
        group = kin.group
        n = len(self.human)
        mine = np.unique(group[:n])
        if len(mine) < count:
            raise NotEnoughData(
                f"{self.human.path}: {len(mine)} groups of human records make no {count} folds"
            )
        fold = np.full(int(group.max()) + 1, -1)
        fold[np.random.default_rng([self.seed, 0xF01D]).permutation(mine)] = np.arange(len(mine)) % count
        of = fold[group]
        found = []
        for k in range(count):
            free = np.flatnonzero(~kin.touched(of == k)[n:])
            placed = self.candidate.take(free).with_column(ROW, (free + n).tolist())
            found.append(_Fold(np.flatnonzero(of[:n] != k), np.flatnonzero(of[:n] == k), placed))
        return found

    def race(
        self, policies: Sequence[Policy], fits: int
    ) -> tuple[tuple[Tried, ...], int, tuple[tuple[str, str], ...]]:
        """Return policies with their scores, how many models were trained, and what could not be run.

        All are tried on the first fold; as many of the best as `fits` allows go on, until they fall behind.
        """
        count = len(self.folds)
        first = list(policies)[: max(2, fits - 2 * (count - 1))]
        scored: dict[Policy, list[float]] = {policy: [] for policy in first}
        failed = self._score(scored, first, 0)
        left = [policy for policy in first if scored[policy]]
        most = max(2, (fits - len(self.trained)) // max(1, count - 1))
        left.sort(key=lambda policy: -scored[policy][0])
        going = [policy for policy in left if policy in ALWAYS]
        going += [policy for policy in left if policy not in going][: max(0, most - len(going))]
        for fold in range(1, count):
            failed += self._score(scored, going, fold)
            going = still_racing(going, scored)
        sign = 1.0 if scoring.METRICS[self.metric] else -1.0
        tried = tuple(
            Tried(policy, tuple(sign * score for score in scored[policy]), len(scored[policy]) == count)
            for policy in sorted(left, key=lambda p: (len(scored[p]) < count, -float(np.mean(scored[p]))))
        )
        return tried, len(self.trained), tuple(dict.fromkeys(failed))

    def _score(
        self, scored: Mapping[Policy, list[float]], policies: Sequence[Policy], fold: int
    ) -> list[tuple[str, str]]:
        """Train and score policies on one fold; more is better. Returns what could not be run, and why."""
        at = self.folds[fold]
        bench = self.bench(at.test, f"fold{fold}")
        planned, failed = {}, []
        tell = self.placed["progress"]
        for done, policy in enumerate(policies, 1):
            if tell:
                tell(f"curations of fold {fold + 1} of {len(self.folds)}", done, len(policies))
            kept = self._kept(policy.recipe, fold) if policy.synthetic else np.zeros(0, np.int64)
            if isinstance(kept, KaratError):
                failed.append((policy.recipe.flags, str(kept)))
                continue
            chosen = rows(policy, kept, at.train)
            planned[policy] = bench.cell(chosen, (len(chosen),), self.seed + fold)
        if planned:
            self.trained.update(cell.key for cell in planned.values())
            said = cells.train(
                list(planned.values()), bench, name=f"models of fold {fold + 1}", **self.placed
            )
            for policy, cell in planned.items():
                scored[policy].append(float(comparing.scored(self.metric, said[cell.key][0])[0]))
        return failed

    def _kept(self, recipe: Recipe, fold: int) -> Indices | KaratError:
        """Return the places of what a recipe keeps in a fold; each part is run once on the same records.

        Filters go one after the other, so that recipes share them; what is ordered or mixed is shared by
        all recipes whose filters leave the same records.
        """
        left = self._filtered(recipe.filters, fold)
        if isinstance(left, KaratError) or not (recipe.order or recipe.mixture):
            return left
        rest = replace(recipe, filters=())
        return self._run(rest, left, fold, (rest, fold, left.tobytes()))

    def _filtered(self, filters: tuple[str, ...], fold: int) -> Indices | KaratError:
        """Return the places of what filters keep, in the order of the candidates."""
        if not filters:
            return np.asarray(self.folds[fold].candidate.column(ROW), dtype=np.int64)
        before = self._filtered(filters[:-1], fold)
        if isinstance(before, KaratError):
            return before
        return self._run(Recipe(filters[-1:]), before, fold, (filters, fold))

    def _run(self, recipe: Recipe, left: Indices, fold: int, key: Hashable) -> Indices | KaratError:
        if key not in self.kept:
            at = self.folds[fold]
            candidate = self.candidate.take(left - len(self.human)).with_column(ROW, left.tolist())
            human = self.human.take(at.train)
            self.kept[key] = apply(recipe, candidate, human, seed=self.seed, cache=self.cache)
        return self.kept[key]

    def bench(self, test: Indices, name: str) -> Bench:
        """Return the bench that scores on some records of the pool."""
        gold: tuple[str, ...] = ()
        if self._bench.classes:
            gold = tuple(gold_labels(self.pool.take(test), "test"))
        return replace(self._bench, test=test, gold=gold, print=f"{self._bench.print}|{name}|{self.seed}")


def still_racing(policies: Sequence[Policy], scored: Mapping[Policy, Sequence[float]]) -> list[Policy]:
    """Return the policies that may still be the best; those far behind on the folds so far are out.

    What a policy and a fold add to a score is taken off; the rest is noise, whose variance all policies
    share. So it is told well even from two folds, where that of a single difference is not.
    """
    tried = max(len(scored[policy]) for policy in policies)
    whole = [policy for policy in policies if len(scored[policy]) == tried]
    table = np.array([scored[policy] for policy in whole])
    means = table.mean(axis=1)
    rest = table - means[:, None] - table.mean(axis=0) + table.mean()
    freedom = (len(whole) - 1) * (tried - 1)
    if freedom < 1:
        return whole
    error = float(np.sqrt((rest**2).sum() / freedom * 2 / tried))
    best = float(means.max())
    return [one for one, mean in zip(whole, means) if one in ALWAYS or best - mean <= BEHIND * error]


def choose(tried: Sequence[Tried]) -> Policy:
    """Return the policy with the fewest choices among those within one standard error of the best.

    The error is that of the paired difference over folds (the rule of Breiman et al. 1984, section 3.4.3).
    """
    full = [one for one in tried if one.complete]
    assert full, "the plain union and human records alone are always tried on all folds"
    best = full[0]  # they come best first
    near = []
    for one in full:
        behind = np.abs(best.mean - one.mean)
        gap = np.array(best.scores) - np.array(one.scores)
        if behind <= float(gap.std(ddof=1)) / np.sqrt(len(gap)):
            near.append((one.policy.size, float(behind), one))
    return min(near, key=lambda row: row[:2])[2].policy


def _curated(
    chosen: Policy, made: Records, human: Records, seed: int, cache: Path | None
) -> tuple[Records, Records, Indices]:
    """Return what the chosen policy keeps of the candidates, what it drops with the reason, and all places.

    The places are those that the recipe leaves in a pool of human records and candidates, before the share.
    """
    if not chosen.synthetic:
        nothing = made.take(np.zeros(0, np.int64))
        gone = made.with_column("filter", ["auto"] * len(made))
        gone = gone.with_column("reason", ["human records alone did best in validation"] * len(made))
        return nothing, gone, np.zeros(0, np.int64)
    placed = made.with_column(ROW, (np.arange(len(made)) + len(human)).tolist())
    found = curated(chosen.recipe, placed, human, seed=seed, cache=cache)
    kept, dropped = (
        from_table(side.table.drop_columns([ROW]), side.datatype, side.path)
        for side in (found.kept, found.dropped)
    )
    most = max(1, round(chosen.share * len(kept)))
    if most == len(kept):
        return kept, dropped, places(found)
    rest = kept.slice(most, len(kept) - most)
    reason = f"not among the best {chosen.share:.0%} ({most:,} records)"
    rest = rest.with_column("filter", ["top"] * len(rest)).with_column("reason", [reason] * len(rest))
    return kept.slice(0, most), dropped.concat(rest), places(found)


def prove(
    search: Search, chosen: Policy, kept: Indices, test: Records, *, seeds: int, trials: int
) -> tuple[Proof, ...]:
    """Return the scores of the choice and of what it must beat, on the test records, paired.

    kept: the places that the chosen recipe leaves, best first.
    The random selection is of as many candidates as the choice keeps, with human records counted alike.
    """
    human, made = search.human, search.candidate
    n, m = len(human), len(made)
    pool = pooled(human, made, test)
    tested = np.arange(n + m, len(pool))
    bench = cells.bench(search.maker, pool, tested, search.metric, continues=False, cache=search.cache)
    own = np.arange(n)
    arms: dict[str, list[Indices]] = {"chosen": [], "human only": [], "plain union": [], RANDOM: []}
    for k in range(seeds):
        mine = rows(chosen, kept, own)
        drawn = np.random.default_rng([search.seed, k, 0x4A]).permutation(m) + n
        arms["chosen"].append(mine)
        arms["human only"].append(own)
        arms["plain union"].append(np.arange(n + m))
        beside = rows(replace(chosen, share=1.0), drawn[: max(0, len(mine) - n * chosen.human)], own)
        arms[RANDOM].append(beside)
    planned = {
        name: [bench.cell(each, (len(each),), search.seed + k) for k, each in enumerate(sets)]
        for name, sets in arms.items()
    }
    once = {cell.key: cell for each in planned.values() for cell in each}
    said = cells.train(list(once.values()), bench, name="the choice on the test", **search.placed)
    models = [said[cell.key][0] for each in planned.values() for cell in each]
    drawn_scores = comparing.draws(search.metric, models, inputs(test), trials, seed=search.seed)
    shaped = drawn_scores.reshape(trials, len(arms), seeds)
    point = np.array([float(comparing.scored(search.metric, model)[0]) for model in models])
    return _proofs(list(arms), point.reshape(len(arms), seeds), shaped, search.metric, search.seed)


def _proofs(names: Sequence[str], point: Floats, drawn: Floats, metric: str, seed: int) -> tuple[Proof, ...]:
    """Return one row an arm; differences are those of the choice and the arm, more being better."""
    sign = 1.0 if scoring.METRICS[metric] else -1.0
    means = comparing.over_seeds(drawn, seed=seed)
    found = []
    for k, name in enumerate(names):
        low, high = sorted(sign * end for end in scoring.interval(means[:, k]))
        gap = means[:, 0] - means[:, k]
        value = float((point[0] - point[k]).mean())
        error = float(gap.std(ddof=1))
        found.append(
            Proof(
                name=name,
                value=sign * float(point[k].mean()),
                interval=(low, high),
                gain=value if k else None,
                gain_interval=scoring.interval(gap) if k else None,
                p=None if not k else 1.0 if error == 0 else stats.normal_p(value / error),
            )
        )
    holm = stats.holm([one.p for one in found])
    return tuple(replace(one, p_holm=p) for one, p in zip(found, holm))


def _warnings(human: Leakage, made: Leakage, test: Records) -> tuple[tuple[str, str], ...]:
    found = []
    for message, _ in (*human.told("human"), *made.told("candidate")):
        found.append(("leakage", message))
    if len(test) < 200:
        found.append(("too_few_records", f"{len(test):,} test records prove little; 200 are needed at least"))
    return tuple(found)
