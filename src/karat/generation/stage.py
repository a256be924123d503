"""Generates records: plans every row, calls the provider, reads and checks answers. Knows no part by name."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from karat import registry
from karat.errors import BadSetting, BudgetSpent, InputError
from karat.executors.base import session
from karat.generation import attributes as finding
from karat.generation import plan as planning
from karat.generation.asking import Asker
from karat.generation.base import Learning, Plot, Progress, Provider, Sample
from karat.generation.checks import checks_of, compliance_of
from karat.generation.estimate import estimate, spread_rows
from karat.generation.generated import Generated, written_of
from karat.generation.journal import Journal
from karat.generation.limits import Limits, Usage
from karat.generation.plan import Plan, PlanRow, Sampling
from karat.generation.production import Production, no_records
from karat.generation.tasks import Label, Task
from karat.records import Records


def generate(
    task: Task | str | os.PathLike[str] | None,
    human: Records | None = None,
    items: Records | None = None,
    test: Records | None = None,
    *,
    provider: Any = "embedded",
    recipe: Any = "simple",
    n: int = 1000,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    answer_tokens: int = 256,
    sampling: Sampling = "covering",
    targets: Literal["task", "human"] = "task",
    max_usd: float | None = None,
    max_tokens: int | None = None,
    max_seconds: float | None = None,
    concurrency: int = 32,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    retries: int = 6,
    redraw: int = 1,
    repairs: int = 1,
    strict: bool = False,
    novelty: float | None = None,
    verify: Any = None,
    votes: str = "",
    judge: Any = None,
    plan: Path | None = None,
    dry_run: bool = False,
    sample: int = 0,
    executor: Any = None,
    journal: Path | None = None,
    progress: Progress | None = None,
) -> Generated:
    """Make training data with a language model: plan, calls, records.

    task: the task file (TOML); None takes type and labels from the human records.
    human: human records, for attributes, examples and providers that learn from them.
    items: records that are rewritten, translated, continued or labelled, for recipes that need some.
    test: test records; what is nearly the same as one of them is dropped.
    provider: what answers, for example embedded, openai_compatible:model=NAME,url=URL or replay:path=FILE.
    recipe: how prompts are made (see: karat list recipes).
    n: how many records to plan.
    seed: for the plan, the rows and what a provider learns.
    temperature: how freely the model draws; 0 takes the most likely token.
    top_p: draw from the most likely tokens that make up this share.
    answer_tokens: the most tokens of one answer.
    sampling: of attribute values: covering (no combination twice before all have come) or independent draws.
    targets: shares of labels and attribute values: the task's (all alike where it has none), or those of the
        human records.
    max_usd: a hard cap in dollars for the whole plan; work in flight counts.
    max_tokens: a hard cap in tokens (in and out) for the whole plan.
    max_seconds: no call begins after so long; the same command goes on.
    concurrency: calls at a time, if the provider can; fewer where the server asks for it.
    requests_per_minute: a limit of the server that is known beforehand.
    tokens_per_minute: the same in tokens.
    retries: how often a call is tried again when the server fails.
    redraw: how often a rejected row is asked for again.
    repairs: how often the model is asked to mend an answer that is not of the wanted form.
    strict: drop what is not as long as its row asked, or clearly in another language than the task's.
    novelty: drop what is nearly the same as an earlier record: least Jaccard likeness, such as 0.7.
    verify: a provider that votes on the label of each record.
    votes: how many of how many votes must confirm it: 2/3 for labels, 2/2 for preferences when not given.
    judge: a provider (or: classifier) that says whether records have the attributes that were asked for.
    plan: a plan file to follow, as written by an earlier run and edited since.
    dry_run: plan and price, but make nothing.
    sample: with dry_run: make so many rows after all, and price the plan by them; they are kept.
    executor: splits the plan over workers, under one budget, one rate limit and one journal.
    journal: folder for the plan, the answers and trained models; the same call again continues there.
    Raises BudgetSpent at a cap; what was answered is in the journal, and the same call goes on from it.
    """
    check_draws(redraw, retries, repairs, temperature, top_p, answer_tokens)
    if sample and not dry_run:
        raise BadSetting(
            f"sample={sample} prices a dry run; add dry_run, or make so few rows with n={sample}"
        )
    if votes and verify is None:
        raise BadSetting(f"votes={votes!r} needs someone who votes; name a provider with verify")
    limits = Limits(
        max_usd,
        max_tokens,
        concurrency,
        retries,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        max_seconds=max_seconds,
        since=time.time(),
    )
    maker: Any = registry.make("recipes", recipe)
    chosen, seen = _task(task, human), human
    if targets == "human":  # before a recipe finds attributes of its own in the records
        chosen = _targeted(chosen, human)
    _check_needs(maker, chosen, human, items)
    chosen = _answerable(maker, chosen)
    if hasattr(maker, "enrich"):
        chosen, seen = maker.enrich(chosen, human, seed)
    source, spec = _source(provider, chosen, seen, seed, dry_run, journal, progress)
    store = Journal(journal / "calls.sqlite" if journal else None)
    try:
        chosen, usage = _prepared(maker, chosen, human, source, store, limits, seed, dry_run, progress)
        asked: dict[str, Any] = {"novelty": novelty, "verify": verify, "votes": votes, "strict": strict}
        checks = checks_of(chosen, maker, human=seen, test=test, seed=seed, **asked)
        work = Production(chosen, maker, source, store, limits, redraw, repairs, checks, progress, usage)
        work.human, work.items, work.executor = seen, items, executor
        plot = Plot(chosen, n, seed, seen, items, sampling=sampling)
        drawn = {"temperature": temperature, "top_p": top_p}
        rounds = _rounds(maker, plot, plan, answer_tokens, drawn)
        base = replace(_planned(work, next(rounds), plot, spec, journal), dry_run=dry_run)
        if dry_run:
            return _sampled(base, work, plot, sample) if sample else base
        return _carried_out(base, work, rounds, judge, journal)
    finally:
        store.close()


def check_draws(
    redraw: int, retries: int, repairs: int, temperature: float, top_p: float, answer_tokens: int = 1
) -> None:
    """Raise BadSetting where rows are drawn or drawn again in a way that no server knows."""
    if redraw < 0 or retries < 0 or repairs < 0:
        raise BadSetting(f"redraw={redraw}, retries={retries} and repairs={repairs} must be 0 or more")
    if not 0 <= temperature < math.inf:
        raise BadSetting(f"temperature={temperature} must be 0 or more; 0 takes the most likely token")
    if not 0 < top_p <= 1:
        raise BadSetting(f"top_p={top_p} must lie above 0 and be at most 1, which draws from all tokens")
    if answer_tokens < 1:
        raise BadSetting(f"answer_tokens={answer_tokens} leaves no room for an answer; give at least 1")


def _targeted(task: Task, human: Records | None) -> Task:
    """The task with the shares of the human records: of its labels, and of the attributes that they have."""
    if human is None:
        raise InputError("targets=human takes the shares of human records; give some (--human FILE)")
    found = {name for own in human.lineage("attributes") if own for name in json.loads(own)}
    shared = tuple(attribute for attribute in task.attributes if attribute.name in found)
    aimed = finding.targets(replace(task, attributes=shared), human)
    by_name = {attribute.name: attribute for attribute in aimed.attributes}
    return replace(aimed, attributes=tuple(by_name.get(one.name, one) for one in task.attributes))


def _source(
    provider: Any,
    task: Task,
    human: Records | None,
    seed: int,
    dry_run: bool,
    journal: Path | None,
    progress: Progress | None,
) -> tuple[Any, str]:
    """The provider, taught where it must learn, and its spec."""
    source: Any = registry.make("providers", provider)
    # A provider that was taught is no part any more: its name says what it was.
    spec = registry.spec_of(source) if isinstance(provider, str) else registry.name_of(source)
    if isinstance(source, Learning) and not dry_run:
        source = _taught(source, task, human, seed, journal, progress)
    keep = getattr(source, "keep", None)  # where its own state may stay between runs
    if keep is not None and journal is not None:
        keep(journal)
    return source, spec


def _planned(
    work: Production, rows: Iterator[PlanRow], plot: Plot, spec: str, journal: Path | None
) -> Generated:
    """What is known before the first row is made."""
    source, plan = work.provider, Plan.of(rows, journal)
    if not len(plan):
        name = registry.name_of(work.recipe)
        raise InputError(
            f"recipe {name!r} plans no row from what it was given; see: karat show recipes {name}"
        )
    first = work.recipe.rounds(plot.n)[0] if hasattr(work.recipe, "rounds") else plot.n
    planned = max(len(plan), round(len(plan) * plot.n / max(first, 1)))
    return Generated(
        records=no_records(work.task),
        plan=plan,
        rejected=(),
        usage=work.usage,
        estimate=estimate(plan, source, work.task, work.recipe, planned=planned),
        task=work.task,
        provider=spec,
        model=source.model,
        recipe=registry.spec_of(work.recipe),
        seed=plot.seed,
        saw=tuple(getattr(source, "saw", ())),
        facts=dict(getattr(source, "facts", {})),
        plan_path=_near(plan.path),
    )


def _answerable(maker: Any, task: Task) -> Task:
    """An annotation task whose choices are classes, for a recipe that writes a text for each of them."""
    if task.type != "annotation" or task.labels or "annotation" in getattr(maker, "types", ()):
        return task
    if not task.choices:
        raise InputError(
            f"recipe {registry.name_of(maker)!r} writes a text for each answer, and the task names none; "
            "give it choices, scale or labels"
        )
    return replace(task, labels=tuple(Label(name) for name in task.choices))


def _near(path: str) -> str:
    """A path as a person writes it here: from the working folder, where it lies in it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if path and Path(path).is_relative_to(here) else path


def _rounds(
    maker: Any, plot: Plot, plan: Path | None, answer_tokens: int, drawn: dict[str, float]
) -> Generator[Iterator[PlanRow], Sequence[Sample], None]:
    """Yield the rows of each round, which are planned as they are taken; what was made is sent in between."""
    if plan is not None:
        rows = planning.read_plan(plan, plot.task)
        for turn in sorted({row.round for row in rows}):
            yield iter([row for row in rows if row.round == turn])
        return
    sizes = maker.rounds(plot.n) if hasattr(maker, "rounds") else (plot.n,)
    pool = human = _pool(maker, plot.human)
    width, count = max(4, len(str(plot.n))), 0

    def counted(now: Plot) -> Iterator[PlanRow]:
        nonlocal count
        for row in planning.compose(
            now, maker, answer_tokens=answer_tokens, first=count, width=width, **drawn
        ):
            count += 1
            yield row

    for turn, size in enumerate(sizes):
        made = yield counted(replace(plot, n=size, round=turn, pool=pool))
        pool = [*human, *made]


def _pool(maker: Any, human: Records | None) -> Sequence[Sample]:
    """The human records as samples, for a recipe that looks at them."""
    return samples_of(human) if hasattr(maker, "compose") or hasattr(maker, "write") else []


def samples_of(human: Records | None) -> list[Sample]:
    """Human records as samples that a recipe may show."""
    if human is None:
        return []
    labels: Sequence[str | None] = human.labels() or [None] * len(human)
    texts, own = human.texts(), human.lineage("attributes")
    return [
        Sample(
            str(row["id"]),
            text,
            label,
            json.loads(attributes) if attributes else {},
            {name: value for name, value in row.items() if name not in ("id", "lineage")},
        )
        for row, text, label, attributes in zip(human, texts, labels, own)
    ]


def _sampled(base: Generated, work: Production, plot: Plot, sample: int) -> Generated:
    """Make a few rows of a plan, and price the whole by them. Raises BudgetSpent at a cap."""
    if sample < 0:
        raise BadSetting(f"sample={sample} is negative; give how many rows to make, or 0 for none")
    rows = spread_rows(base.plan, sample)
    work.priced = True
    work.make(rows, len(rows), _pool(work.recipe, plot.human))
    if work.stopped:
        raise BudgetSpent(work.stopped)
    planned = base.estimate.rows
    costs = list(work.costs.values())
    priced = estimate(base.plan, work.provider, base.task, work.recipe, planned=planned, sample=costs)
    return replace(base, estimate=priced, usage=work.usage, rejected=work.rejections())


def _carried_out(
    base: Generated,
    work: Production,
    rounds: Generator[Iterator[PlanRow], Sequence[Sample], None],
    judge: Any,
    journal: Path | None,
) -> Generated:
    """Call for all rows of the plan. Raises BudgetSpent at a cap, with what there is in a file."""
    if work.limits.max_usd is not None and base.estimate.most_usd is None:
        raise BadSetting(
            f"max_usd={work.limits.max_usd:g} cannot be held: no price is known for {base.model!r}; give "
            "price_in and price_out to the provider (USD per million tokens), or cap tokens with max_tokens"
        )
    # workers stay from one round to the next
    with session(work.executor) if work.executor is not None else nullcontext():
        plan = _rounds_done(work, base, rounds)
    result = replace(
        base,
        plan=plan,
        records=work.records(),
        rejected=work.rejections(),
        usage=work.usage,
        checks=work.told(),
    )
    if not work.stopped:
        asked = compliance_of(written_of(result), base.task, judge, work, base.seed)
        return replace(result, attributes_as_asked=asked, usage=work.usage, notes=tuple(work.notes))
    left = ""
    if journal is not None and len(result.records):
        path = result.records.write(journal / "partial.jsonl")
        left = f" ({len(result.records):,} records so far: {path})"
    raise BudgetSpent(work.stopped + left)


def _rounds_done(
    work: Production, base: Generated, rounds: Generator[Iterator[PlanRow], Sequence[Sample], None]
) -> Plan:
    """Work on the rows of each round, and plan the next by what came of them; returns the whole plan."""
    plan, rows, pool = base.plan, base.plan, _pool(work.recipe, work.human)
    while True:
        work.make(rows, len(rows), pool)
        if work.stopped:
            return plan
        made = work.samples() if work.count < base.estimate.rows else []
        try:
            rows = Plan.of(rounds.send(made), None)
        except StopIteration:
            return plan
        pool = [*_pool(work.recipe, work.human), *made]
        plan = plan.extended(rows)


def _check_needs(maker: Any, task: Task, human: Records | None, items: Records | None) -> None:
    """Say what a recipe cannot work without, and which data types it cannot make."""
    types = getattr(maker, "types", ())
    if types and task.type not in types:
        raise InputError(
            f"recipe {registry.name_of(maker)!r} makes {' or '.join(types)} records, and the task asks for "
            f"{task.type}; set its type, or choose another recipe (see: karat list recipes)"
        )
    given = {"human": human, "items": items}
    for need in getattr(maker, "needs", ()):
        if given.get(need) is None:
            what = {"human": "human records", "items": "records to work on"}[need]
            raise InputError(f"recipe {registry.name_of(maker)!r} needs {what}; give some (--{need} FILE)")


def _prepared(
    maker: Any,
    task: Task,
    human: Records | None,
    source: Provider,
    store: Journal,
    limits: Limits,
    seed: int,
    dry_run: bool,
    progress: Progress | None,
) -> tuple[Task, Usage]:
    """Let a recipe make the calls that it needs before it can plan; returns the task and what they cost."""
    prepare = getattr(maker, "prepare", None)
    if prepare is None:
        return task, Usage()
    ask = Asker(source, store, limits, progress)
    prepared = prepare(task, human, None if dry_run else ask, seed)
    return prepared, ask.usage


def _task(task: Task | str | os.PathLike[str] | None, human: Records | None) -> Task:
    if task is None:
        if human is None:
            raise InputError(
                "no task and no human records; give a task file (--task) or human records (--human)"
            )
        return Task.from_records(human)
    return task if isinstance(task, Task) else Task.from_toml(task)


def _taught(
    source: Learning,
    task: Task,
    human: Records | None,
    seed: int,
    cache: Path | None,
    progress: Progress | None,
) -> Provider:
    """Let a provider learn; it learns the attributes too, so that one model serves every recipe."""
    name = registry.name_of(source)
    if human is None:
        raise InputError(f"provider {name!r} learns from human records; give some (--human FILE)")
    if all(own is None for own in human.lineage("attributes")):
        finder: Any = registry.make("recipes", "attributed")
        enriched = finder.enrich(task, human, seed)[1]
        human = human if enriched is None else enriched
    return source.fit(human, seed=seed, cache=None if cache is None else cache / "models", progress=progress)
