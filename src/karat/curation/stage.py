"""Filters, orders and mixes records; each record that goes has a reason. Knows no filter by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from karat import registry
from karat.curation.base import Ask, Ordered, offered
from karat.curation.calibration import AUTO, calibrated, decides
from karat.curation.repeats import copies
from karat.curation.result import SCORE as SCORE
from karat.curation.result import Curated as Curated
from karat.curation.result import Ordering as Ordering
from karat.curation.result import Step as Step
from karat.errors import BadSetting, NotEnoughData
from karat.generation.asking import Asker
from karat.generation.base import Learning
from karat.generation.journal import Journal
from karat.generation.limits import Limits
from karat.records import Records

Progress = Callable[[str, int, int], None]


def curate(
    candidate: Records,
    reference: Records | None = None,
    *,
    filters: Sequence[str] = (),
    order: str | None = None,
    mixture: str | None = None,
    top: int | None = None,
    calibrate: str = AUTO,
    provider: Any = None,
    max_usd: float | None = None,
    max_tokens: int | None = None,
    concurrency: int = 32,
    seed: int = 0,
    journal: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Curated:
    """Keep, order and mix records; every dropped one has a reason.

    filters: filters by name and settings, one after the other, for example length:min=5 refusals.
    order: the ordering by name; the best records come first.
    mixture: the mixture by name, for example human_share:share=0.2.
    top: how many records to keep, the best ones if an order is given, else the first ones.
    calibrate: what the order is held against: auto (gold where the records have it, else errors planted in
      human records), planted, none, or an ordering that knows the truth, for example oracle:field=mqm.
    provider: who answers the parts that ask a language model, for example openai_compatible:model=NAME.
    max_usd: a hard cap in dollars for what is asked; work in flight counts.
    max_tokens: the same in tokens (in and out).
    concurrency: calls at a time, if the provider can.
    seed: for orderings and mixtures that draw at random.
    journal: folder in which answers of the provider are kept; the same call again asks nothing twice.
    cache: folder in which vectors of encoders with weights of their own are kept.
    Raises NotEnoughData when nothing is left, BudgetSpent at a cap.
    """
    if top is not None and top < 1:
        raise BadSetting(f"top is {top}, but at least 1 record must be kept; leave it out to keep all")
    judges = registry.make_all("filters", filters)
    orderer = registry.make("orderings", order) if order else None
    mixer = registry.make("mixtures", mixture) if mixture else None
    limits = Limits(max_usd=max_usd, max_tokens=max_tokens, concurrency=concurrency)
    asker = None if provider is None else _asker(provider, journal, limits, progress)
    work = _Work(candidate, reference, seed, asker, cache)
    total = len(judges) + (orderer is not None) + (mixer is not None)
    for done, judge in enumerate(judges):
        if progress:
            progress("curate", done, total)
        work.filter(judge)
    ordering = work.order(orderer, calibrate) if orderer is not None else None
    if mixer is not None:
        work.mix(mixer, top)
    elif top is not None:
        work.cut(top, ordering)
    if progress:
        progress("curate", total, total)
    kept, dropped = work.result()
    again = copies(kept, candidate)
    return Curated(
        candidate=candidate.path,
        records=len(candidate),
        kept=kept,
        dropped=dropped,
        added=len(kept) + len(dropped) - len(candidate) - again,
        repeated=again,
        steps=tuple(work.steps),
        order=ordering,
        seed=seed,
        asked=None if asker is None else asker.usage,
    )


def _asker(provider: Any, journal: Path | None, limits: Limits, progress: Progress | None) -> Asker:
    """Return who asks the provider. Raises BadSetting for one that would first have to learn."""
    made = registry.make("providers", provider)
    if isinstance(made, Learning):
        raise BadSetting(
            f"provider {registry.name_of(made)!r} learns to write from your records and cannot answer "
            "questions; name one that follows instructions, or recorded answers: replay:path=FILE"
        )
    told = None
    if progress is not None:
        told = lambda _, done, total, **_more: progress("ask", done, total)  # noqa: E731
    return Asker(made, Journal(None if journal is None else journal / "curate.sqlite"), limits, told)


class _Work:
    """The records still kept, and the reasons of those that went; lives as long as one call of `curate`."""

    def __init__(
        self,
        candidate: Records,
        reference: Records | None,
        seed: int,
        ask: Ask | None = None,
        cache: Path | None = None,
    ) -> None:
        self.candidate, self.reference, self.seed = candidate, reference, seed
        self.given: dict[str, Any] = {"ask": ask, "cache": cache}
        self.left = np.arange(len(candidate))  # positions of kept candidates, in order
        self.reasons: dict[int, tuple[str, str]] = {}
        self.steps: list[Step] = []
        self.scores: dict[int, float] | None = None
        self.mixed: Records | None = None

    def filter(self, judge: Any) -> None:
        """Drop what a filter drops among the records still kept."""
        name, before = registry.name_of(judge), len(self.left)
        more = offered(judge.judge, seed=self.seed, **self.given)
        found = judge.judge(self.candidate.take(self.left), self.reference, **more)
        for position, reason in found.reasons.items():
            self.reasons[int(self.left[position])] = (name, reason)
        self.left = self.left[found.kept]
        self._note("filter", judge, before, found.note)
        if not len(self.left):
            raise NotEnoughData(
                f"{self.candidate.path}: filter {registry.spec_of(judge)!r} drops all {before:,} records "
                "that were left; loosen it, or leave it out"
            )

    def order(self, orderer: Any, calibrate: str = AUTO) -> Ordering:
        """Put the records still kept in order, the highest score first; equal ones keep their order."""
        name, records = registry.name_of(orderer), self.candidate.take(self.left)
        more = offered(orderer.order, **self.given)
        found: Ordered = orderer.order(records, self.reference, seed=self.seed, **more)
        unknown = int(np.isnan(found.scores).sum())
        if unknown == len(records):
            raise NotEnoughData(
                f"{self.candidate.path}: ordering {registry.spec_of(orderer)!r} has no score for any of "
                f"{unknown:,} records; {found.note or 'check its settings'}"
            )
        held = calibrated(
            orderer, records, found, self.reference, how=calibrate, seed=self.seed, given=self.given
        )
        deciding = decides(orderer, held)
        note = "; ".join(part for part in (found.note, _unscored(unknown), held.told(name, deciding)) if part)
        self.scores = dict(zip(self.left.tolist(), found.scores.tolist()))
        self.left = self.left[np.argsort(-found.scores, kind="stable")]  # NaN sorts last
        self._note("order", orderer, len(self.left), note)
        figures = {**found.figures, **held.figures}
        informative = found.informative and not (deciding and not held.low > 0)
        signature = self.steps[-1].signature
        return Ordering(name, signature, informative, note, figures, found.warnings)

    def mix(self, mixer: Any, top: int | None) -> None:
        """Let a mixture choose among the records still kept."""
        name, before = registry.name_of(mixer), len(self.left)
        more = offered(mixer.mix, **self.given)
        found = mixer.mix(self._with_scores(self.left), self.reference, size=top, seed=self.seed, **more)
        for position, reason in found.left_out.items():
            self.reasons[int(self.left[position])] = (name, reason)
        stays = np.ones(before, np.bool_)
        stays[list(found.left_out)] = False
        self.left, self.mixed = self.left[stays], found.records
        self._note("mixture", mixer, before, found.note)

    def cut(self, top: int, ordering: Ordering | None) -> None:
        """Keep the first `top` records."""
        before = len(self.left)
        by = f" by {ordering.name}" if ordering else ""
        for place, position in enumerate(self.left[top:].tolist(), top + 1):
            self.reasons[position] = ("top", f"place {place:,} of {before:,}{by}, over top={top}")
        self.left = self.left[:top]
        self.steps.append(Step("top", "top", f"top|n:{top}", before, before - len(self.left)))

    def result(self) -> tuple[Records, Records]:
        """Return the kept records and the dropped ones with `filter` and `reason`, both with scores."""
        kept = self.mixed if self.mixed is not None else self._with_scores(self.left)
        gone = np.array(sorted(self.reasons), dtype=np.int64)
        dropped = self._with_scores(gone)
        dropped = dropped.with_column("filter", [self.reasons[p][0] for p in gone.tolist()])
        return kept, dropped.with_column("reason", [self.reasons[p][1] for p in gone.tolist()])

    def _with_scores(self, positions: np.ndarray[Any, Any]) -> Records:
        found = self.candidate.take(positions)
        if self.scores is None:
            return found
        import pyarrow

        values = [self.scores.get(p) for p in positions.tolist()]
        return found.with_column(SCORE, pyarrow.array(values, pyarrow.float64(), from_pandas=True))

    def _note(self, kind: str, part: Any, before: int, note: str) -> None:
        reference = None if self.reference is None else self.reference.fingerprint[:8]
        signature = registry.signature(part, seed=None if kind == "filter" else self.seed, ref=reference)
        step = Step(kind, registry.name_of(part), signature, before, before - len(self.left), note)
        self.steps.append(step)


def _unscored(unknown: int) -> str:
    if unknown < 2:
        return "1 record has no score and comes last" * unknown
    return f"{unknown:,} records have no score and come last"
