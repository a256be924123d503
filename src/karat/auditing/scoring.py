"""Scores: the one place where a metric meets statistics. Knows metrics only as parts that ask and answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat import registry
from karat.auditing import statistics as stats
from karat.auditing import summaries
from karat.auditing.base import Context, Found, Metric, Summary, Telling, everything, form
from karat.auditing.corpora import Side
from karat.auditing.passes import Passed, Settings
from karat.auditing.result import ALPHA, Evidence, Score, Slice, Warned
from karat.auditing.shards import view_key
from karat.auditing.summaries import Window

_TELLING = 8
_CLIP = 600
_COPIES = 0.02


@dataclass(frozen=True)
class Judged:
    """A score, the records that tell most, and what the metric itself warns of."""

    score: Score
    evidence: tuple[Evidence, ...]
    warnings: tuple[Warned, ...] = ()


def _interval(metric: Metric, found: stats.Estimate, summary: Summary) -> tuple[float, float] | None:
    """The interval of a value; where all groups agree on none or all, Wilson's applies."""
    if not metric.tested:
        return None
    if metric.share and found.error == 0 and found.value in (0.0, 1.0):
        n = metric.used(summary)
        return stats.wilson(round(found.value * n), n)
    return found.interval(bounds=metric.bounds)


@dataclass(frozen=True)
class Judge:
    """Turns summaries into scores: the one place where a metric meets statistics."""

    passed: Passed
    defaults: dict[str, str]
    settings: Settings

    @cached_property
    def _by_key(self) -> NDArray[np.int64]:
        return np.argsort(self.passed.selections[0].keys, kind="stable")

    @cached_property
    def mingled(self) -> bool:
        """Whether the pool of both corpora would hold copies that neither corpus holds alone."""
        if self.passed.linked:  # the same items on both sides is what links them
            return False
        return self.passed.copied > _COPIES and not self.passed.same

    def score(self, metric: Metric, view: str) -> Judged:
        """One metric, with everything that stands beside it."""
        candidate = self._window(metric, view, 0, 1)
        reference = self._window(metric, view, 1, 2) if len(self.passed.sides) > 1 else None
        left = reference is not None and self.passed.selections[1].views[self._key(metric, view)][1]
        spare = self._window(metric, view, 2, 3) if left else None
        if form(metric) == "compare":
            return self._compared(metric, candidate, reference, spare)
        if form(metric) == "between":
            assert reference is not None
            return self._apart(metric, view, candidate, reference)
        mine, left_out = self._estimate(metric, candidate)
        theirs, theirs_left_out = None, None
        if reference is not None:
            theirs, theirs_left_out = self._estimate(metric, reference)
        gap = self._gap(mine, left_out, theirs, theirs_left_out)
        tested = metric.tested and self.settings.matched
        details = metric.details(candidate)
        if reference is not None:
            details |= {f"reference.{name}": value for name, value in metric.details(reference).items()}
        score = self._blank(metric, candidate, metric.extra(candidate))
        score = replace(
            score,
            value=_number(mine.value),
            interval=_interval(metric, mine, candidate),
            reference=_number(theirs.value) if theirs else None,
            reference_interval=_interval(metric, theirs, reference) if theirs and reference else None,
            difference=_number(gap.value) if gap else None,
            difference_interval=gap.interval if gap and tested else None,
            p=gap.p if gap and tested else None,
            chance=self._chance(metric, view, candidate, reference),
            best=self._best(metric, candidate, spare, theirs),
            note=metric.note(candidate),
            details=details,
            **(stats.sizes(gap, mine, theirs, share=metric.share) if gap and theirs and tested else {}),
        )
        if self.mingled and metric.tested:
            reason = (
                f"no value by chance: {self.passed.copied:.0%} of the candidate texts are in the reference"
            )
            score = replace(score, note="; ".join(filter(None, [score.note, reason])))
        evidence = self._evidence(score.name, metric.telling(candidate, _TELLING))
        return Judged(score, evidence, self._warned(metric.warnings(candidate, reference)))

    def _gap(
        self,
        mine: stats.Estimate,
        left_out: NDArray[np.float64],
        theirs: stats.Estimate | None,
        theirs_left_out: NDArray[np.float64] | None,
    ) -> stats.Difference | None:
        """The difference of both sides; paired where the groups of both hold the same items."""
        if theirs is None or theirs_left_out is None:
            return None
        if self.passed.linked and len(left_out) == len(theirs_left_out):
            value = mine.value - theirs.value
            return stats.against_zero(stats.jackknife(value, left_out - theirs_left_out))
        return stats.difference(mine, theirs)

    def _apart(self, metric: Metric, view: str, candidate: Window, reference: Window) -> Judged:
        """A distance of both sides: its interval, and the distance of two halves of their pool."""
        pool = self._window(metric, view, 0, 2)
        groups = candidate.groups
        ours = np.arange(2 * groups) < groups
        point = metric.between(pool, ours[None], ~ours[None])
        left_out = np.full(0, np.nan)
        if groups > 1 and metric.tested:
            kept = stats.leave_one_out(2 * groups)
            left_out = metric.between(pool, kept & ours, kept & ~ours)
        estimate = stats.two_sample_jackknife(float(point[0]), left_out[:groups], left_out[groups:])
        score = self._blank(metric, candidate, metric.extra(candidate))
        trials = min(self.settings.trials, metric.permutations)
        chance = metric.chance(candidate)
        p = None
        if trials and metric.tested and self.settings.matched and not self.mingled:
            halves = stats.random_halves(groups, trials=trials, seed=self.settings.seed)
            null = metric.between(pool, halves, ~halves)
            null = null[np.isfinite(null)]
            if len(null) > 1 and np.isfinite(estimate.value):
                chance = float(null.mean()) if chance is None else chance
                p = stats.tail_p(estimate.value, null, two_sided=metric.two_sided)
        spare = self.passed.selections[1].views[self._key(metric, view)][1]
        best = metric.best(candidate)
        if best is None and spare is not None and self.settings.matched:
            humans = self._window(metric, view, 1, 3)
            best = _number(float(metric.between(humans, ours[None], ~ours[None])[0]))
        score = replace(
            score,
            value=_number(estimate.value),
            interval=estimate.interval(bounds=metric.bounds) if metric.tested else None,
            p=p,
            chance=chance,
            best=best if best is not None else chance,
            note=metric.note(pool),
            details=metric.details(pool),
        )
        evidence = self._evidence(score.name, metric.telling(pool, _TELLING))
        return Judged(score, evidence, self._warned(metric.warnings(candidate, reference)))

    def _warned(self, found: Sequence[Found]) -> tuple[Warned, ...]:
        return tuple(Warned(one.code, one.message, one.records) for one in found)

    def _window(self, metric: Metric, view: str, first: int, last: int) -> Window:
        """The sides first .. last - 1 (0 candidate, 1 reference, 2 spare) through a metric's view."""
        key = self._key(metric, view)
        parts = [part for one in self.passed.selections for part in one.views[key]]
        # views holds (part, spare) a corpus, and a candidate has no spare
        sizes = [len(part) if part is not None else 0 for i, part in enumerate(parts) if i != 1]
        side = self.passed.groups[key]
        start, stop = first * side, last * side
        return Window(self.passed.stacked, view, start, stop, sum(sizes[first:last]), self.defaults)

    def _key(self, metric: Metric, view: str) -> str:
        """The selection that a metric looks at."""
        keys = {view_key(summaries.resolve(need, view, self.defaults)) for need in metric.needs()}
        assert len(keys) == 1, (
            f"{type(metric).__name__} must need something, and all of it with one tokeniser"
        )
        return keys.pop()

    def _estimate(self, metric: Metric, summary: Window) -> tuple[stats.Estimate, NDArray[np.float64]]:
        """The value with its error, and the values that leave one group out each."""
        masks = everything(summary.groups)
        if summary.groups > 1 and metric.tested:
            masks = np.concatenate([masks, stats.leave_one_out(summary.groups)])
        values = metric.values(summary, masks)
        return stats.jackknife(float(values[0]), values[1:]), values[1:]

    def _chance(self, metric: Metric, view: str, candidate: Window, reference: Window | None) -> float | None:
        known = metric.chance(candidate)
        if known is not None:
            return known
        trials = min(self.settings.trials, metric.permutations)
        if reference is None or not (metric.tested and self.settings.matched) or trials == 0:
            return None
        if self.mingled:
            return None
        pool = self._window(metric, view, 0, 2)
        masks = stats.random_halves(candidate.groups, trials=trials, seed=self.settings.seed)
        values = metric.values(pool, masks)
        finite = values[np.isfinite(values)]
        return float(finite.mean()) if len(finite) else None

    def _best(
        self, metric: Metric, candidate: Window, spare: Window | None, theirs: stats.Estimate | None
    ) -> float | None:
        known = metric.best(candidate)
        if known is not None or theirs is None or not (metric.tested and self.settings.matched):
            return known
        if spare is None:
            return _number(theirs.value)
        value = _number(float(metric.values(spare, everything(spare.groups))[0]))
        return value if value is not None else _number(theirs.value)

    def _compared(
        self, metric: Metric, candidate: Window, reference: Window | None, spare: Window | None
    ) -> Judged:
        context = Context(
            seed=self.settings.seed,
            budget=self.settings.budget,
            mode=self.settings.mode,
            groups=candidate.groups,
            trials=max(20, self.settings.trials),
            spare=spare,
            judge=self.settings.judge,
            cache=self.settings.cache,
        )
        found = metric.compare(candidate, reference, context)
        score = self._blank(metric, candidate, {**metric.extra(candidate), **found.extra})
        score = replace(
            score,
            value=_number(found.value),
            interval=found.interval,
            reference=found.reference,
            difference=found.difference,
            reference_interval=found.reference_interval,
            difference_interval=found.difference_interval,
            effect=_number(found.effect),
            effect_name=found.effect_name,
            p=_number(found.p),
            chance=found.chance,
            best=found.best,
            n=found.n if found.n is not None else score.n,
            note=found.note,
            details=dict(found.details),
            by={
                name: Slice(_number(value), interval, None, None, None, n)
                for name, (value, interval, n) in found.by.items()
            },
        )
        evidence = self._evidence(score.name, found.telling[:_TELLING])
        return Judged(score, evidence, self._warned(found.warnings))

    def _blank(self, metric: Metric, summary: Window, extra: dict[str, Any]) -> Score:
        """A score with everything that does not need the value."""
        signed: dict[str, Any] = {"size": self._size(metric, summary), "seed": self.settings.seed, **extra}
        if not self.settings.matched:
            signed["mode"] = "paper"
        if len(self.passed.sides) > 1:
            signed["ref"] = self.passed.sides[1].source.fingerprint[:8]
        name = registry.name_of(metric)
        text = (type(metric).__doc__ or "").strip().split("\n")[0]
        return Score(
            name=name,
            settings=registry.settings(metric),
            signature=registry.signature(metric, **signed),
            value=None,
            interval=None,
            reference=None,
            reference_interval=None,
            difference=None,
            difference_interval=None,
            p=None,
            p_holm=None,
            flagged=False,
            chance=None,
            best=None,
            n=metric.used(summary),
            help=text,
            higher=metric.higher,
            family=metric.family,
            cures=dict(metric.cure),
        )

    def _size(self, metric: Metric, summary: Window) -> str:
        """How much of the corpus was compared, as it stands in the signature."""
        if summary.view == "tokens":
            name = str(next((n.get("tokens", "word") for n in metric.needs()), "word"))
            return f"{int(min(one.tokens[name].sum() for one in self.passed.surveys))}-tokens"
        if summary.view == "bytes":
            return f"{int(min(one.bytes.sum() for one in self.passed.surveys))}-bytes"
        if summary.view == "lengths" and self.passed.banded:
            return f"{summary.records}-records-of-equal-lengths"
        return f"{summary.records}-records"

    def _evidence(self, name: str, telling: Sequence[Telling]) -> tuple[Evidence, ...]:
        if not telling:
            return ()
        keys, order = self.passed.selections[0].keys, self._by_key
        found = []
        for one in telling:
            at = int(np.searchsorted(keys[order], np.uint64(one.key)))
            row = int(order[min(at, len(order) - 1)])
            if int(keys[row]) == one.key:
                found.append(evidence_of(self.passed.sides[0], row, name, one.score, one.reason))
        return tuple(found)


def evidence_of(side: Side, row: int, name: str, score: float, reason: str) -> Evidence:
    """One record as evidence, its text cut to what a reader looks at."""
    text = side.texts[row].as_py() or ""
    label = side.labels[row] if side.labels is not None else None
    return Evidence(
        side.ids[row], name, score, reason, text[:_CLIP] + ("…" if len(text) > _CLIP else ""), label
    )


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def corrected(scores: Sequence[Score], *, margin: float = 0.1) -> tuple[Score, ...]:
    """Holm's correction over all tests of an audit, the flag that follows, and the verdict on each metric."""
    adjusted = stats.holm([score.p for score in scores])
    flagged = [
        replace(score, p_holm=p, flagged=p is not None and p < ALPHA) for score, p in zip(scores, adjusted)
    ]
    return tuple(replace(score, verdict=_verdict(score, margin)) for score in flagged)


def _verdict(score: Score, margin: float) -> str:
    """differs, same or open: "not flagged" is not "the same" until the margin is shown (Schuirmann 1987)."""
    if score.p is None:
        return ""
    if score.flagged:
        return "differs"
    if score.equivalence is not None and score.reference is not None:
        return "same" if score.equivalence <= margin * abs(score.reference) else "open"
    return "open"
