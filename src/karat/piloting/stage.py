"""The pilot: few rows through every recipe and provider, then which pays. Knows no part by name."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from karat import registry
from karat.auditing import statistics
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.generation.base import Progress
from karat.generation.plan import Sampling
from karat.generation.tasks import Task
from karat.piloting import arms as making
from karat.piloting import diversity, student
from karat.piloting.decision import Contrast, Decision, Gap, Standing, decide, judge
from karat.piloting.diversity import DISTANCE, Measure, Varied
from karat.piloting.grounds import Grounds, grounds
from karat.piloting.result import Arm, Figure, Pilot
from karat.records import Records
from karat.training.base import gold_labels
from karat.training.leakage import guard

LEAST = 10
"""an arm of fewer records has no score"""


def pilot(
    task: Task | str | os.PathLike[str] | None,
    human: Records | None = None,
    items: Records | None = None,
    test: Records | None = None,
    *,
    providers: Sequence[Any] = ("embedded",),
    recipes: Sequence[Any] = ("simple", "attributed", "verbalized"),
    n: int = 200,
    plan_n: int = 1000,
    trainer: Any = "linear",
    metrics: Sequence[Any] = ("distinct_n", "self_bleu", "vendi", "duplicate_share", "vocabulary"),
    margin: float = 1.0,
    refits: int = 50,
    group: str | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    answer_tokens: int = 256,
    sampling: Sampling = "covering",
    max_usd: float | None = None,
    max_tokens: int | None = None,
    max_seconds: float | None = None,
    concurrency: int = 32,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    retries: int = 6,
    redraw: int = 1,
    repairs: int = 1,
    executor: Any = None,
    journal: Path | None = None,
    progress: Progress | None = None,
) -> Pilot:
    """Find out on few rows which recipe and which provider pay for a task.

    task: the task file (TOML); None takes type and labels from the human records.
    human: human records, for recipes and providers that learn from them; without test they are split in two.
    items: records that are rewritten, translated, continued or labelled, for recipes that need some.
    test: human test records, on which the student is scored; no prompt and no provider sees them.
    providers: what answers; each is tried with each recipe; repeatable.
    recipes: how prompts are made (see: karat list recipes); repeatable.
    n: how many records to plan for each arm.
    plan_n: how many records are wanted in the end: the first n of that plan are made, and it is priced.
    trainer: the student that tells what rows are worth, cheap enough to be trained many times.
    metrics: of diversity; the first one decides between arms that are equal in score and price.
    margin: arms that differ by fewer points than this count as the same.
    refits: how often the student of each arm is trained again on resampled rows, for the intervals.
    group: a field whose values must not be on both sides, where human records are split.
    seed: for the plan, the rows, the split and resampling.
    temperature: how freely the model draws; 0 takes the most likely token.
    top_p: draw from the most likely tokens that make up this share.
    answer_tokens: the most tokens of one answer.
    sampling: of attribute values: covering (no combination twice before all have come) or independent draws.
    max_usd: a hard cap in dollars for the whole pilot; work in flight counts.
    max_tokens: a hard cap in tokens (in and out) for the whole pilot.
    max_seconds: of each arm: no call begins after so long; the same command goes on.
    concurrency: calls at a time, if the provider can; fewer where the server asks for it.
    requests_per_minute: a limit of the server that is known beforehand.
    tokens_per_minute: the same in tokens.
    retries: how often a call is tried again when the server fails.
    redraw: how often a rejected row is asked for again.
    repairs: how often the model is asked to mend an answer that is not of the wanted form.
    executor: splits the plan and the students over workers.
    journal: folder for the answers, which the whole run then finds there; the same call again continues.
    Raises BudgetSpent at a cap; what was answered is in the journal, and the same call goes on from it.
    """
    for name, value, least in (("n", n, LEAST), ("plan_n", plan_n, 1), ("refits", refits, 10)):
        if value < least:
            raise BadSetting(f"{name}={value} is too few for a pilot; give at least {least}")
    if not margin > 0:
        raise BadSetting(f"margin={margin:g} must be more than 0 points; 1 is the default")
    maker = registry.make("trainers", trainer)
    registry.make_all("metrics", metrics)
    choices = making.choices(providers, recipes)
    chosen = _task(task, human)
    ground = grounds(chosen, human, items, test, group=group, seed=seed)
    settings = {
        "temperature": temperature,
        "top_p": top_p,
        "answer_tokens": answer_tokens,
        "sampling": sampling,
        "max_seconds": max_seconds,
        "concurrency": concurrency,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "retries": retries,
        "redraw": redraw,
        "repairs": repairs,
    }
    order = making.Order(
        chosen, n, plan_n, ground.shown, ground.items, ground.scored, seed, max_usd, max_tokens, settings
    )
    with _folder(journal) as folder:
        made = making.make(order, choices, journal=folder, progress=progress, executor=executor)
        return _told(made, ground, order, maker, metrics, margin, refits, executor, progress)


@contextmanager
def _folder(journal: Path | None) -> Iterator[Path]:
    """The journal's folder; without one a folder for as long as the pilot takes: a model is learned once."""
    if journal is not None:
        yield journal
        return
    with tempfile.TemporaryDirectory(prefix="karat-pilot-") as folder:
        yield Path(folder)


def _task(task: Task | str | os.PathLike[str] | None, human: Records | None) -> Task:
    if task is None:
        if human is None:
            raise InputError(
                "no task and no human records; give a task file (--task) or human records (--human)"
            )
        return Task.from_records(human)
    return task if isinstance(task, Task) else Task.from_toml(task)


def _told(
    made: Sequence[making.Made],
    ground: Grounds,
    order: making.Order,
    maker: Any,
    metrics: Sequence[Any],
    margin: float,
    refits: int,
    executor: Any,
    progress: Progress | None,
) -> Pilot:
    """Score and audit what was made, and decide."""
    records = {one.choice.name: one.found.records for one in made}
    varied = diversity.measure(
        records, metrics, human=ground.scored, seed=order.seed, executor=executor, progress=progress
    )
    far = {
        name: diversity.distance(rows, ground.scored, seed=order.seed, executor=executor)
        for name, rows in records.items()
        if ground.scored is not None and len(rows) >= LEAST and (metrics or not ground.labelled)
    }
    notes = [*ground.notes, *varied.notes]
    figures: dict[str, Figure] = {}
    contrasts: list[Contrast] = []
    sizes: dict[str, int] = {}
    if ground.labelled:
        sets, notes_of_sets = _sets(made, ground, order)
        notes += notes_of_sets
        sizes = {name: len(one.records) for name, one in sets.items()}
        assert ground.scored is not None
        draws = student.score(
            sets,
            ground.scored,
            trainer=maker,
            refits=refits,
            seed=order.seed,
            executor=executor,
            progress=progress,
        )
        figures = {name: _figure(found) for name, found in draws.items()}
        contrasts = [
            _contrast(one, other, draws[one].minus(draws[other]))
            for one, other in combinations([name for name in draws if name != "human"], 2)
        ]
    elif far:
        figures, contrasts = _likeness(far)
    gaps = judge(contrasts, margin=margin)
    diverse = _diverse(varied, [one.choice.name for one in made])
    human = figures.pop("human", None)
    rows = [_arm(one, order, figures, sizes, varied, far) for one in made]
    found = _decide(rows, gaps, diverse, varied, margin)
    metric = "macro_f1" if ground.labelled else DISTANCE if figures else ""
    return Pilot(
        arms=tuple(rows),
        decision=found,
        gaps=gaps,
        diverse=diverse,
        metric=metric,
        trainer=registry.spec_of(maker),
        task=order.task.name or order.task.domain,
        n=order.n,
        plan_n=order.whole,
        tested_on=0 if ground.scored is None else len(ground.scored),
        refits=refits if ground.labelled else 0,
        margin=margin,
        seed=order.seed,
        human=human,
        human_records=sizes.get("human", 0),
        human_diversity=varied.arms.get("human", ()),
        chance=ground.chance,
        higher=varied.higher,
        notes=(*notes, *_notes(rows)),
    )


def _sets(
    made: Sequence[making.Made], ground: Grounds, order: making.Order
) -> tuple[dict[str, student.TrainingSet], list[str]]:
    """The training set of each arm, all of one size, and as many human records beside them."""
    assert ground.scored is not None
    notes: list[str] = []
    kept: dict[str, tuple[Records, list[str]]] = {}
    for one in made:
        rows, name = one.found.records, one.choice.name
        labels = [] if not len(rows) else rows.labels() or []
        if len(rows) < LEAST or None in labels or len(set(labels)) < 2:
            notes.append(f"{name} has no score: {len(rows):,} records of {len(set(labels))} labels were kept")
            continue
        rows, leak = guard(rows, ground.scored, allow_leakage=True)
        if leak.normalised:
            notes.append(f"{name}: {leak.normalised:,} rows stand in the test records word by word")
        kept[name] = rows, one.calls
    # An arm that lost most of its rows must not shrink the others: it is scored at its own size.
    size = min((len(rows) for rows, _ in kept.values() if len(rows) >= order.n / 2), default=order.n)
    sets: dict[str, student.TrainingSet] = {}
    for name, (rows, calls) in kept.items():
        if len(rows) < size:
            notes.append(f"{name} is scored on its {len(rows):,} rows, the others on {size:,}")
        sets[name] = student.TrainingSet(rows.take(range(min(size, len(rows)))), calls[:size])
    if ground.shown is not None and ground.shown.labels() is not None and len(ground.shown) >= LEAST:
        pattern = next((one.records.labels() or [] for one in sets.values()), [])
        human = _alike(ground.shown, pattern, order.seed)
        if len(set(human.labels() or ())) > 1:
            sets["human"] = student.TrainingSet(human, human.ids)
            if len(human) < size:
                notes.append(
                    f"the human ceiling is that of {len(human):,} records: of some labels there are no more"
                )
    if not kept:
        raise NotEnoughData(
            "no arm kept enough labelled records for a student; look at why rows are rejected with karat "
            "generate, or ask for more with -n"
        )
    return sets, notes


def _alike(human: Records, pattern: Sequence[str | None], seed: int) -> Records:
    """Human records with the label shares of an arm, as many as there are."""
    labels = np.array(gold_labels(human, "human"), dtype=object)
    rng = np.random.default_rng([seed, 0x40])
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in Counter(pattern).items()
    ]
    rows = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *chosen]))
    return human.take(rows.astype(np.int64))


def _figure(found: student.Draws) -> Figure:
    rows, test, _ = found.parts
    whole = found.estimate
    interval = whole.interval(bounds=(0.0, student.POINTS)) or (found.value, found.value)
    return Figure(found.value, interval, whole.error, rows, test)


def _contrast(one: str, other: str, found: student.Draws) -> Contrast:
    rows, test, _ = found.parts
    whole = found.estimate
    return Contrast(one, other, whole.value, whole.error, whole.df, rows, test)


def _likeness(far: dict[str, Measure | None]) -> tuple[dict[str, Figure], list[Contrast]]:
    """Scores where there are no labels: how much like human text, in points.

    Two arms are held against the same human records, which makes their figures alike; taken for
    independent, their difference has too large an error, never too small a one.
    """
    estimates = {}
    figures: dict[str, Figure] = {}
    for name, measured in far.items():
        found = None if measured is None else diversity.estimate(measured)
        if found is None or measured is None or measured.interval is None:
            continue
        scale = student.POINTS
        low, high = measured.interval
        estimates[name] = statistics.Estimate(scale * (1 - found.value), scale * found.error, found.df)
        figures[name] = Figure(
            estimates[name].value, (scale * (1 - high), scale * (1 - low)), scale * found.error
        )
    contrasts = [
        Contrast(one, other, gap.value, gap.error, max(gap.df, 1.0))
        for one, other in combinations(estimates, 2)
        for gap in [statistics.difference(estimates[one], estimates[other])]
    ]
    return figures, contrasts


def _diverse(varied: Varied, names: Sequence[str]) -> tuple[Gap, ...]:
    """All differences in the first metric that says which way is more diverse; more is more varied."""
    lead = next((name for name, said in varied.higher.items() if diversity.sign_of(said)), "")
    found = {}
    for name in names:
        measured = next((one for one in varied.arms.get(name, ()) if one.name == lead), None)
        value = None if measured is None else diversity.estimate(measured)
        if value is not None:
            found[name] = diversity.turned(value, diversity.sign_of(varied.higher[lead]))
    contrasts = []
    for one, other in combinations(found, 2):
        gap = statistics.difference(found[one], found[other])
        contrasts.append(Contrast(one, other, gap.value, gap.error, max(gap.df, 1.0)))
    scale = max((abs(one.value) for one in found.values()), default=1.0) or 1.0
    return judge(contrasts, margin=0.01 * scale)


def _arm(
    one: making.Made,
    order: making.Order,
    figures: dict[str, Figure],
    sizes: dict[str, int],
    varied: Varied,
    far: dict[str, Measure | None],
) -> Arm:
    found, usage, name = one.found, one.found.usage, one.choice.name
    known = found.estimate.most_usd is not None
    usd = usage.cost_usd + usage.lost_usd if known else None
    tokens = usage.tokens_in + usage.tokens_out + usage.lost_tokens
    distinct = one.distinct
    each = None if usd is None or not distinct else usd / distinct
    words = tokens / distinct if distinct else None
    return Arm(
        name=name,
        provider=found.provider,
        recipe=found.recipe,
        model=found.model,
        planned=sum(row.yields for row in found.plan),
        kept=len(found.records),
        distinct=distinct,
        reasons=dict(Counter(_short(row.reason) for row in found.rejected).most_common(8)),
        usd=usd,
        tokens=tokens,
        calls=usage.answers,
        reused=usage.reused,
        usd_per_record=each,
        tokens_per_record=words,
        usd_of_whole=None if each is None else each * order.whole,
        tokens_of_whole=None if words is None else words * order.whole,
        ahead=one.ahead,
        trained_on=sizes.get(name, 0),
        score=figures.get(name),
        diversity=varied.arms.get(name, ()),
        distance=far.get(name),
    )


def _short(reason: str) -> str:
    """A reason without what is only about its row."""
    return reason.split(":")[0].split(" record ")[0]


def _decide(
    rows: Sequence[Arm], gaps: Sequence[Gap], diverse: Sequence[Gap], varied: Varied, margin: float
) -> Decision:
    lead = next((name for name, said in varied.higher.items() if diversity.sign_of(said)), "")
    standings = []
    for one in rows:
        measured = next((m for m in one.diversity if m.name == lead), None)
        value = None if measured is None or measured.value is None else measured.value
        standings.append(
            Standing(
                one.name,
                None if one.score is None else one.score.value,
                one.usd_per_record,
                np.inf if one.tokens_per_record is None else one.tokens_per_record,
                None if value is None else diversity.sign_of(varied.higher[lead]) * value,
            )
        )
    return decide(standings, gaps, margin=margin, diverse=diverse)


def _notes(rows: Sequence[Arm]) -> list[str]:
    notes = []
    unknown = [one.name for one in rows if one.usd is None]
    if unknown:
        notes.append(f"no price is known for {', '.join(unknown)}, so arms are compared by tokens")
    elif not any(one.usd for one in rows):
        notes.append("no arm costs dollars, so arms are compared by tokens")
    if any(not one.ahead for one in rows):
        names = ", ".join(one.name for one in rows if not one.ahead)
        notes.append(
            f"rows of {names} stand in no plan of the whole (a plan in rounds, or a smaller one), so that "
            "the whole may pay for them again"
        )
    lost = [one.name for one in rows if one.rejected_share > 0.2]
    if lost:
        notes.append(f"more than a fifth of the rows of {', '.join(lost)} was rejected: see why in the table")
    return notes
