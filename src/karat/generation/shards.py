"""A plan split over workers: what a worker is given, does and gives back. Knows no provider, no executor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from karat.errors import KaratError, ProviderError
from karat.executors.base import session
from karat.generation.base import Progress, Provider, Sample
from karat.generation.calls import run
from karat.generation.engine import Engine
from karat.generation.gate import Rates
from karat.generation.journal import Journal
from karat.generation.limits import Limits, Usage
from karat.generation.office import Address, Desk, Office
from karat.generation.plan import PlanRow
from karat.generation.purse import OwnPurse
from karat.generation.scenes import Outcome, RowScene, play
from karat.generation.tasks import Task

Job = tuple[int, PlanRow]
Take = Callable[[Job, Outcome], None]
"""What is done with the outcome of a row."""


@dataclass(frozen=True)
class Setting:
    """What is the same for all rows of a pass."""

    task: Task
    recipe: Any
    provider: Provider
    limits: Limits
    attempt: int
    repairs: int
    pool: Sequence[Sample] = ()


@dataclass(frozen=True)
class Shard:
    """Some rows of a plan for one worker, and where its office is."""

    setting: Setting
    jobs: tuple[Job, ...]
    address: Address


@dataclass(frozen=True)
class Played:
    """What rows came to in a worker, what it cost, and why calling ended early (fatal: for good)."""

    outcomes: tuple[tuple[Job, Outcome], ...]
    usage: Usage = field(default_factory=Usage)
    stopped: str = ""
    fatal: str = ""


async def perform(engine: Engine, setting: Setting, jobs: Iterable[Job], take: Take) -> None:
    """Work on rows with an engine, and hand on what each comes to."""

    async def one(job: Job) -> None:
        index, row = job
        scene = RowScene(
            engine,
            setting.task,
            row,
            index=index,
            attempt=setting.attempt,
            repairs=setting.repairs,
            pool=setting.pool,
        )
        outcome = await play(setting.recipe, scene)
        if all(draft.reason for draft in outcome.drafts):
            engine.failed += 1
        take(job, outcome)

    await engine.drive(jobs, one)


def play_here(
    setting: Setting,
    jobs: Iterable[Job],
    count: int,
    store: Journal,
    progress: Progress | None,
    take: Take,
) -> tuple[Usage, str]:
    """Work on rows in this process; returns what it cost, and why calling ended early."""

    async def work() -> tuple[Usage, str]:
        engine = Engine(setting.provider, store, setting.limits, progress=progress, total=count)
        async with engine:
            await perform(engine, setting, jobs, take)
        return engine.usage(), engine.stopped

    return run(work)


def play_shard(shard: Shard) -> Played:
    """Work on rows in a worker: purse and journal are in the office, the provider is asked from here."""
    outcomes: list[tuple[Job, Outcome]] = []

    async def work() -> Played:
        desk = Desk(shard.address)
        engine = Engine(
            shard.setting.provider, Journal(None), shard.setting.limits, total=len(shard.jobs), desk=desk
        )
        fatal = ""
        try:
            async with engine:
                await perform(engine, shard.setting, shard.jobs, lambda job, one: outcomes.append((job, one)))
        except ProviderError as error:  # what was answered is in the journal; the run says it once
            fatal = str(error)
        return Played(tuple(outcomes), engine.usage(), engine.stopped, fatal)

    return run(work)


def play_split(
    setting: Setting,
    jobs: Sequence[Job],
    store: Journal,
    executor: Any,
    workers: int,
    progress: Progress | None,
    take: Take,
) -> tuple[Usage, str]:
    """Split rows over an executor's workers, under one purse, one rate and one journal.

    The rows of a worker are spread over the plan, so that all classes come on in step. A worker that died is
    run again by executors that can, and finds in the journal what it had answered.
    """
    limits, count = setting.limits, max(1, min(workers, len(jobs)))
    spent = limits.spent
    purse = OwnPurse(
        limits.max_usd,
        limits.max_tokens,
        usd=spent.cost_usd + spent.lost_usd,
        tokens=spent.tokens_in + spent.tokens_out + spent.lost_tokens,
    )
    rates = Rates(limits.requests_per_minute, limits.tokens_per_minute)

    def tell(done: int) -> None:
        if progress is not None:
            progress("generate", done, len(jobs), note=f"{count} workers · {purse.usd:.4g} USD")

    own = _shared(setting, count)
    usage, stopped, fatal = Usage(), "", ""
    with session(executor):
        host = str(getattr(executor, "host", "127.0.0.1"))
        with Office(store, purse, rates, host=host, done=tell) as office:
            shards = [Shard(own, tuple(jobs[i::count]), office.address) for i in range(count)]
            for part in executor.map(play_shard, shards):
                usage = usage.plus(part.usage)
                stopped, fatal = stopped or part.stopped, fatal or part.fatal
                for job, outcome in part.outcomes:
                    take(job, outcome)
    paid = ("answers", "reused", "tokens_in", "tokens_out", "cost_usd", "lost", "lost_tokens", "lost_usd")
    usage = replace(usage, **{name: getattr(office.usage, name) for name in paid})
    if fatal:
        raise ProviderError(fatal)
    return usage, stopped


def _shared(setting: Setting, workers: int) -> Setting:
    """The setting with each worker's part of the calls at a time."""
    share = max(1, -(-setting.limits.concurrency // workers))
    return replace(setting, limits=replace(setting.limits, concurrency=share))


def workers_of(executor: Any) -> int:
    """How many workers an executor has; 1: this process."""
    import os

    if executor is None:
        return 1
    if not hasattr(executor, "map"):
        raise KaratError(f"{executor!r} is no executor; name local:workers=N or ray")
    return int(getattr(executor, "workers", 1)) or os.cpu_count() or 1
