"""Scores: the one place where a metric meets statistics. Knows metrics only as parts that ask and answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from karat import registry
from karat.auditing import statistics as stats
from karat.auditing import summaries
from karat.auditing.base import Context, Metric, Summary, Telling, compares, everything
from karat.auditing.passes import Passed, Settings, Side
from karat.auditing.result import ALPHA, Evidence, Score, Warned
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
        return stats.wilson(round(found.value * summary.records), summary.records)
    return found.interval(bounds=metric.bounds)


@dataclass(frozen=True)
class Judge:
    """Turns summaries into scores: the one place where a metric meets statistics."""

    passed: Passed
    defaults: dict[str, str]
    settings: Settings

    @cached_property
    def mingled(self) -> bool:
        """Whether the pool of both corpora would hold copies that neither corpus holds alone."""
        return self.passed.copied > _COPIES and not self.passed.same

    def score(self, metric: Metric, view: str) -> Judged:
        """One metric, with everything that stands beside it."""
        candidate = self._window(metric, view, 0, 1)
        reference = self._window(metric, view, 1, 2) if len(self.passed.sides) > 1 else None
        left = reference is not None and self.passed.selections[1].views[self._key(metric, view)][1]
        spare = self._window(metric, view, 2, 3) if left else None
        if compares(metric):
            assert reference is not None
            return self._compared(metric, candidate, reference, spare)
        mine = self._estimate(metric, candidate)
        theirs = self._estimate(metric, reference) if reference is not None else None
        gap = stats.difference(mine, theirs) if theirs is not None else None
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
        )
        if self.mingled and metric.tested:
            reason = (
                f"no value by chance: {self.passed.copied:.0%} of the candidate texts are in the reference"
            )
            score = replace(score, note="; ".join(filter(None, [score.note, reason])))
        return Judged(score, self._evidence(score.name, metric.telling(candidate, _TELLING)))

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

    def _estimate(self, metric: Metric, summary: Window) -> stats.Estimate:
        masks = everything(summary.groups)
        if summary.groups > 1 and metric.tested:
            masks = np.concatenate([masks, stats.leave_one_out(summary.groups)])
        values = metric.values(summary, masks)
        return stats.jackknife(float(values[0]), values[1:])

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

    def _compared(self, metric: Metric, candidate: Window, reference: Window, spare: Window | None) -> Judged:
        context = Context(
            seed=self.settings.seed,
            budget=self.settings.budget,
            mode=self.settings.mode,
            groups=candidate.groups,
            spare=spare,
        )
        found = metric.compare(candidate, reference, context)
        score = self._blank(metric, candidate, {**metric.extra(candidate), **found.extra})
        score = replace(
            score,
            value=_number(found.value),
            interval=found.interval,
            reference=found.reference,
            difference=found.difference,
            p=_number(found.p),
            chance=found.chance,
            best=found.best,
            n=found.n if found.n is not None else score.n,
            note=found.note,
            details=dict(found.details),
        )
        warned = tuple(Warned(code, message) for code, message in found.warnings)
        return Judged(score, self._evidence(score.name, found.telling[:_TELLING]), warned)

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
        )

    def _size(self, metric: Metric, summary: Window) -> str:
        """How much of the corpus was compared, as it stands in the signature."""
        if summary.view == "tokens":
            name = str(next((n.get("tokens", "word") for n in metric.needs()), "word"))
            return f"{int(min(one.tokens[name].sum() for one in self.passed.surveys))}-tokens"
        if summary.view == "bytes":
            return f"{int(min(one.bytes.sum() for one in self.passed.surveys))}-bytes"
        return f"{summary.records}-records"

    def _evidence(self, name: str, telling: Sequence[Telling]) -> tuple[Evidence, ...]:
        if not telling:
            return ()
        keys, order = self.passed.selections[0].keys, self.passed.selections[0].order
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


def corrected(scores: Sequence[Score]) -> tuple[Score, ...]:
    """Holm's correction over all tests of an audit, and the flag that follows."""
    adjusted = stats.holm([score.p for score in scores])
    return tuple(
        replace(score, p_holm=p, flagged=p is not None and p < ALPHA) for score, p in zip(scores, adjusted)
    )
