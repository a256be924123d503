"""The audit: two corpora in, scores with baselines out. Knows metrics only as parts that ask and answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from karat import registry
from karat.auditing import passes, summaries
from karat.auditing.base import Fitted, Metric, Progress
from karat.auditing.choosing import choose, fields_of, split_by_kind
from karat.auditing.corpora import Side
from karat.auditing.findings import Corpus, findings
from karat.auditing.judging import jury
from karat.auditing.origin import provenance, with_baseline, without_names
from karat.auditing.passes import Passed, Settings
from karat.auditing.result import Audited, Evidence, Score, Slice, Warned
from karat.auditing.scoring import Judge, corrected, evidence_of
from karat.auditing.selection import Selection
from karat.auditing.showcase import records_that_show
from karat.errors import BadSetting, NotEnoughData
from karat.executors.base import Executor, session
from karat.records import Records

_MAX_GROUPS = 60  # values of --by that are scored; more make a table that nobody reads
_SHOWN = 8
# What one dial sets: random halves for `chance`, and texts that an encoder is fitted on.
_BUDGETS = {"small": (20, 2_000), "medium": (100, 20_000), "large": (400, 100_000)}


def audit(
    candidate: Records,
    reference: Records | None = None,
    *,
    metrics: Sequence[str | Metric] | str = (),
    by: str | None = None,
    mode: Literal["proper", "paper"] = "proper",
    seed: int = 0,
    budget: Literal["small", "medium", "large"] = "medium",
    encoder: str = "lsa",
    judge: str = "",
    judged: Path | None = None,
    margin: float = 0.1,
    baseline: Path | None = None,
    anonymous: bool = False,
    memory: int = passes.MEMORY,
    executor: Executor | None = None,
    progress: Progress | None = None,
    journal: Path | None = None,
    cache: Path | None = None,
) -> Audited:
    """Score a corpus beside human data, with what each number would be by chance and at best.

    metrics: parts as name or name:key=value, or a family such as lexical; all that apply when none is named
    by: a field, lineage.generator or an attribute; each metric is also given for the records of each value
    mode: proper compares at equal sizes; paper uses the published definitions and sizes as they are
    seed: orders the records, and so decides which are compared where a corpus is larger
    budget: how much work goes into baselines: small, medium or large
    encoder: what turns texts into vectors for metrics that need them
    judge: a provider that answers questions about records, for metrics that need one; answers are kept
    judged: a file with `id` and `answer` given by people, which validates the judge and corrects its rates
    margin: sides that differ by less than this share of the reference count as the same
    baseline: result.json of an earlier audit; each score then has a drift, for --fail-if
    anonymous: replace the names of annotators and raters by numbers
    memory: MiB of n-grams kept in memory; what is more is sorted in files, with the same result
    executor: where the work runs; this process when not given
    journal: folder in which the answers of the judge are kept, and for files that are removed afterwards
    cache: folder in which vectors of encoders with weights of their own are kept
    progress: called with a name, steps done and steps in all
    Raises BadSetting, UnknownPart or NotEnoughData.
    """
    started = time.perf_counter()
    settings = _settings(mode, seed, budget, encoder, executor, progress)
    if margin <= 0:
        raise BadSetting(f"margin is {margin}; give the share of the reference that still counts as the same")
    asked = jury(judge, truth=judged, journal=journal, seed=seed, progress=progress) if judge else None
    if asked is None and judged is not None:
        raise BadSetting("--judged validates a judge; name one with --judge PROVIDER")
    settings = replace(settings, cache=cache, judge=asked, memory=memory, scratch=journal)
    candidate, reference, note = _corpora(candidate, reference, anonymous)
    chosen, skipped = choose(metrics, candidate, reference, mode=mode, judged=bool(judge))
    sides = [Side.of(candidate)] + ([Side.of(reference)] if reference is not None else [])
    with session(settings.executor):
        measured = _measure(sides, chosen, settings)
        scores = corrected(measured.scores, margin=margin)
        scores = scores if baseline is None else with_baseline(scores, baseline)
        if by is not None:
            scores = _sliced(candidate, reference, by, chosen, scores, settings, measured.passed.encoders)
    corpora = [
        Corpus(side.source, side.ids, surveyed) for side, surveyed in zip(sides, measured.passed.surveys)
    ]
    warnings = note + findings(corpora[0], corpora[1] if len(corpora) > 1 else None, measured.passed)
    return Audited(
        candidate=sides[0].source,
        reference=sides[1].source if len(sides) > 1 else None,
        scores=scores,
        warnings=warnings + measured.warnings,
        evidence=_shown(measured, scores),
        samples=_samples(sides, measured.passed.selections),
        skipped=skipped,
        mode=mode,
        seed=seed,
        groups=max(measured.passed.groups.values()),
        margin=margin,
        provenance=provenance(candidate, reference),
        seconds=round(time.perf_counter() - started, 3),
    )


def _corpora(
    candidate: Records, reference: Records | None, anonymous: bool
) -> tuple[Records, Records | None, tuple[Warned, ...]]:
    """Both corpora as they are compared: model and human rows of one file apart, names left out if asked."""
    note: tuple[Warned, ...] = ()
    if reference is None and (both := split_by_kind(candidate)) is not None:
        kinds = f"its {len(both[0]):,} model rows are compared with its {len(both[1]):,} human rows"
        note = (Warned("split_by_kind", f"{candidate.path}: {kinds}"),)
        candidate, reference = both
    if anonymous:
        candidate, reference = without_names(candidate, reference)
    if len(candidate) == 0 or (reference is not None and len(reference) == 0):
        empty = candidate.path if len(candidate) == 0 else str(reference and reference.path)
        raise NotEnoughData(f"{empty}: no records to audit; check the file and the conditions")
    return candidate, reference, note


def _shown(measured: _Measured, scores: Sequence[Score]) -> tuple[Evidence, ...]:
    """The records that show each flagged difference, before those of metrics that found none."""
    flagged = {score.name for score in scores if score.flagged}
    named = {one.metric for one in measured.evidence}
    found = list(measured.evidence)
    for score in scores:
        if score.flagged and score.name not in named:
            found += records_that_show(score, measured.passed)
    return tuple(sorted(found, key=lambda one: one.metric not in flagged))


@dataclass(frozen=True)
class _Measured:
    passed: Passed
    scores: tuple[Score, ...]
    evidence: tuple[Evidence, ...]
    warnings: tuple[Warned, ...]


def _settings(
    mode: str, seed: int, budget: str, encoder: Any, executor: Executor | None, progress: Progress | None
) -> Settings:
    if mode not in ("proper", "paper"):
        raise BadSetting(f"mode is {mode!r}; choose one of: proper, paper")
    if budget not in _BUDGETS:
        raise BadSetting(f"budget is {budget!r}; choose one of: {', '.join(_BUDGETS)}")
    trials, fit_on = _BUDGETS[budget]
    spec = encoder if isinstance(encoder, str) else registry.spec_of(encoder)
    runner: Executor = executor or registry.make("executors", "local")
    return Settings(mode, seed, budget, trials, fit_on, spec, runner, progress or (lambda *_: None))


def _measure(
    sides: Sequence[Side],
    metrics: Sequence[Metric],
    settings: Settings,
    encoders: dict[str, Fitted] | None = None,
) -> _Measured:
    """Both passes over the corpora, then every metric on what they gave."""
    views = {metric: metric.size if settings.matched else "all" for metric in metrics}
    defaults = {"encoder": settings.encoder}
    asked = [
        summaries.resolve(need, views[metric], defaults) for metric in metrics for need in metric.needs()
    ]
    passed = passes.run(sides, tuple(dict.fromkeys(asked)), settings, encoders)
    judge = Judge(passed, defaults, settings)
    found = []
    for done, metric in enumerate(metrics):
        settings.progress("scores", done, len(metrics))
        found.append(judge.score(metric, views[metric]))
    settings.progress("scores", len(metrics), len(metrics))
    return _Measured(
        passed,
        tuple(one.score for one in found),
        tuple(evidence for one in found for evidence in one.evidence),
        passed.warnings + tuple(warned for one in found for warned in one.warnings),
    )


def _samples(sides: Sequence[Side], selections: Sequence[Selection]) -> tuple[Evidence, ...]:
    """The first few records of each side by hash, to be read side by side."""
    found = []
    for name, side, selection in zip(("synthetic", "human"), sides, selections):
        found += [evidence_of(side, int(row), name, 0.0, "") for row in selection.order[:_SHOWN]]
    return tuple(found)


# ---------------------------------------------------------------------------------------- by field


def _sliced(
    candidate: Records,
    reference: Records | None,
    by: str,
    metrics: Sequence[Metric],
    scores: Sequence[Score],
    settings: Settings,
    encoders: dict[str, Fitted],
) -> tuple[Score, ...]:
    """The same metrics on the records of each value of a field, for the most frequent values."""
    split = fields_of(candidate, by)
    if split is None:
        candidate.column(by)  # raises, naming the fields there are
        raise AssertionError(by)
    mine = np.array(split, dtype=object)
    theirs = None
    if reference is not None:
        values = fields_of(reference, by)
        theirs = None if values is None else np.array(values, dtype=object)
        if theirs is None or not np.isin(theirs, mine).any():
            # the field splits one side only (a generator, a model): each value is held against all human data
            theirs = np.full(len(reference), None, dtype=object)
    names, counts = np.unique(mine, return_counts=True)
    common = sorted(str(name) for name in names[np.argsort(-counts, kind="stable")[:_MAX_GROUPS]])
    inside = [
        metric for metric in metrics if metric.by_label and not (metric.needs_reference and theirs is None)
    ]
    places = [i for i, metric in enumerate(metrics) if metric in inside]
    quiet = replace(settings, trials=0, budget="small", progress=lambda *_: None)
    slices: list[dict[str, Slice]] = [{} for _ in scores]
    for done, name in enumerate(common):
        settings.progress(f"by {by}", done, len(common))
        sides = [Side.of(candidate.where(mine == name))]
        if reference is not None and theirs is not None:
            inside_too = (theirs == name) | (theirs == None)  # noqa: E711
            if inside_too.any():
                sides.append(Side.of(reference.where(inside_too)))
        able = [m for m in inside if len(sides) > 1 or not m.needs_reference]
        found = _measure(sides, able, quiet, encoders).scores if able else ()
        for i, metric in zip(places, inside):
            if metric in able:
                s = found[able.index(metric)]
                slices[i][name] = Slice(s.value, s.interval, s.reference, s.difference, s.p, s.n)
    return tuple(replace(score, by={**score.by, **part}) for score, part in zip(scores, slices))
