"""Sweeps the plane of temperature, fresh data, size and cycle for what collapses. Knows no model.

All cells are jobs of one study: those of a seed share their first model where they can, each is done once,
and a study that was killed goes on from its journal.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from karat import registry
from karat.errors import BadSetting, NotEnoughData
from karat.executors.base import Executor
from karat.records import Records
from karat.simulation.base import Policy, check_whole, needed
from karat.simulation.chain import Job, Shared
from karat.simulation.engine import check_selection, run_jobs
from karat.simulation.phases import Cell, Lines, cell_of
from karat.simulation.result import CONTROL, Loop, Warned
from karat.simulation.stage import GATE, check_batches, policies_of, told, trainers_of
from karat.simulation.swept import Swept

Progress = Callable[[str, int, int], None]

CONTROLS = 4
"""Iterations of each control beyond the first: they share nothing, so that a few tell what chance gives."""


def sweep(
    human: Records | None = None,
    *,
    task: Any = "logic",
    cycles: Sequence[Any] = ("full",),
    temperatures: Sequence[float] = (0.7, 0.8, 0.9, 1.0, 1.1),
    fresh_shares: Sequence[float] = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5),
    sizes: Sequence[int] = (500,),
    seeds: Sequence[int] = (0, 1, 2),
    iterations: int = 20,
    trainer: Any = "emulator",
    continued: bool = False,
    control: bool = True,
    kept: float = 0.5,
    lost: float = 0.1,
    seed: int = 0,
    executor: Executor | None = None,
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Swept:
    """Map where diversity, correctness, both or neither collapse in loops of training on own output.

    human: the user's own records; task logic and the like make their own.
    task: what is learned: logic, arithmetic, json_schema, sql or code (each with a verifier), or text (your
        records, no verifier: only diversity can collapse).
    cycles: how each iteration's training data are made, for instance full or expanding:growth=0.2.
    temperatures: at which models write; below 1 diversity goes first, at 1 and above correctness.
    fresh_shares: shares of fresh human data in each new batch.
    sizes: texts an iteration.
    seeds: runs of each cell; with one no cell is certain, three give an interval, five a narrow one.
    iterations: how many models are trained after the first one.
    trainer: what is trained; emulator trains nothing and takes seconds, gpt takes hours for a large plane.
    continued: each model goes on from the one before it, instead of from scratch.
    control: run the control without a loop for each temperature, size and seed; without it the end is
        measured against the first model's texts.
    kept: diversity has collapsed if a smaller share of the control's is left.
    lost: correctness has collapsed if the correct share fell further than this below the control's.
    seed: added to each of the seeds.
    """
    for name, several in (("seeds", seeds), ("sizes", sizes), ("temperatures", temperatures)):
        if isinstance(several, int | float):
            raise BadSetting(
                f"{name} is {several}, but must be a sequence of numbers, for instance ({several},)"
            )
    seeds = tuple(seed + number for number in seeds)
    axes = (tuple(temperatures), tuple(fresh_shares), tuple(sizes))
    _check(iterations, seeds, kept, lost, *axes)
    made = registry.make("tasks", task)
    makers = trainers_of(trainer, made)
    policies = policies_of(cycles, 0.0)
    for label, policy in policies.items():
        check_selection(label, policy, made, makers, continued)
        if policy.generated_share < 1.0:
            raise BadSetting(f"cycle {label!r} names its own fresh data, which the sweep sets; leave it out")
    for n in axes[2]:
        check_batches(policies, n)
    shared = Shared(made, makers, human, continued, str(journal or ""))
    warnings = _data_warnings(shared, policies, axes, seeds[0], iterations, control)
    loops = _run(shared, policies, axes, seeds, iterations, control, executor, progress)
    lines = Lines(kept, lost)
    cells = tuple(
        cell_of(
            [loops[label, temperature, share, n, number] for number in seeds],
            [loops[CONTROL, temperature, 1.0, n, number] for number in seeds] if control else [],
            place=(label, temperature, share, n),
            lines=lines,
            iterations=iterations,
            gate=GATE,
        )
        for label in policies
        for n in axes[2]
        for temperature in axes[0]
        for share in axes[1]
    )
    return Swept(
        task=registry.spec_of(made),
        described=made.describe(),
        trainer=told(makers, made),
        iterations=iterations,
        continued=continued,
        against="control" if control else "first",
        lines=lines,
        cycles=tuple(policies),
        temperatures=axes[0],
        fresh_shares=axes[1],
        sizes=axes[2],
        seeds=seeds,
        cells=cells,
        warnings=(*warnings, *_cell_warnings(cells, seeds)),
    )


Axes = tuple[tuple[float, ...], tuple[float, ...], tuple[int, ...]]
Place = tuple[str, float, float, int, int]
"""cycle, temperature, fresh share, n, seed"""


def _run(
    shared: Shared,
    policies: dict[str, Policy],
    axes: Axes,
    seeds: Sequence[int],
    iterations: int,
    control: bool,
    executor: Executor | None,
    progress: Progress | None,
) -> dict[Place, Loop]:
    """Run all cells and controls as one list of jobs, so that the executor sees them all."""
    jobs: dict[Place, Job] = {}
    # Seeds outermost and controls first: what a killed study leaves is a whole plane of fewer seeds.
    for number in seeds:
        for n in axes[2]:
            for temperature in axes[0]:
                if control:
                    jobs[CONTROL, temperature, 1.0, n, number] = Job(
                        CONTROL,
                        Policy(generated_share=0.0),
                        number,
                        min(iterations, CONTROLS),
                        temperature,
                        n,
                    )
                for label, policy in policies.items():
                    for share in axes[1]:
                        jobs[label, temperature, share, n, number] = Job(
                            label, policy.with_fresh(share), number, iterations, temperature, n
                        )
    ran = run_jobs(
        shared, list(jobs.values()), executor=executor, progress=progress, name="sweep", texts=False
    )
    return {place: one.loop for place, one in zip(jobs, ran, strict=True)}


def _check(
    iterations: int,
    seeds: Sequence[int],
    kept: float,
    lost: float,
    temperatures: Sequence[float],
    fresh_shares: Sequence[float],
    sizes: Sequence[int],
) -> None:
    check_whole(iterations=iterations, seeds=seeds, sizes=sizes)
    if iterations < 1:
        raise BadSetting(f"iterations is {iterations}, but a loop needs at least 1")
    named: dict[str, Sequence[float]] = {
        "seeds": seeds,
        "temperatures": temperatures,
        "fresh_shares": fresh_shares,
        "sizes": sizes,
    }
    for name, values in named.items():
        if not values or len(set(values)) < len(values):
            raise BadSetting(f"{name} is {tuple(values)}; give at least one, each once")
    limits: dict[str, tuple[Callable[[float], bool], str]] = {
        "temperatures": (lambda value: 0 < value < math.inf, "must be a number above 0"),
        "fresh_shares": (lambda value: 0 <= value <= 1, "must be a share from 0 to 1"),
        "sizes": (lambda value: value >= 20, "must be at least 20 texts"),
    }
    for name, (fits, cure) in limits.items():
        for value in named[name]:
            if not fits(value):
                raise BadSetting(f"{name} holds {value}, but each {cure}")
    if not 0 < kept < 1:
        raise BadSetting(f"kept is {kept}, but must be a share between 0 and 1")
    if not 0 < lost < 1:
        raise BadSetting(f"lost is {lost}, but must be between 0 and 1")


def _data_warnings(
    shared: Shared, policies: dict[str, Policy], axes: Axes, seed: int, iterations: int, control: bool
) -> list[Warned]:
    """Say where the plane is coarser than it looks, and where real data run out."""
    found = []
    for n in axes[2]:
        rows = {
            (label, share): needed(policy.with_fresh(share), n)[1]
            for label, policy in policies.items()
            for share in axes[1]
        }
        lost = sorted({share for (_, share), fresh in rows.items() if share > 0 and not fresh})
        if lost:
            told = ", ".join(f"{share:g}" for share in lost)
            found.append(
                Warned(
                    "no_fresh_rows",
                    f"a fresh share of {told} of a new batch at n {n:,} is less than half a row for some "
                    "cycles, so that these cells have none; raise sizes",
                )
            )
    size, largest = shared.source(seed).size, max(axes[2])
    if size is None:
        return found
    if largest > size:
        raise NotEnoughData(
            f"sizes holds {largest}, but {size} human records can be used (a tenth is held out); lower it"
        )
    fresh = max(
        needed(policy.with_fresh(max(axes[1])), largest)[1] * policy.models for policy in policies.values()
    )
    wanted = largest + max(iterations * fresh, min(iterations, CONTROLS) * largest if control else 0)
    if wanted > size:
        found.append(
            Warned(
                "human_data_reused",
                f"fresh human data would take {wanted:,} records, but {size:,} can be used: rows are dealt "
                "again, so that they are less fresh than they should be; lower sizes or iterations",
            )
        )
    return found


def _cell_warnings(cells: Sequence[Cell], seeds: Sequence[int]) -> list[Warned]:
    found = []
    if len(seeds) < 2:
        found.append(
            Warned(
                "one_seed",
                "with one seed the spread between runs is unknown, so that no cell is certain; "
                "give at least three seeds",
            )
        )
    weak = sorted({(cell.temperature, cell.n) for cell in cells if cell.gate is False})
    if weak:
        told = ", ".join(f"{temperature:g} (n {n:,})" for temperature, n in weak)
        found.append(
            Warned(
                "weak_model",
                f"at temperature {told} less than {GATE:.0%} of the first model's texts are valid, so that "
                "these cells show the model's weakness as much as the loop; train longer (gpt:steps=...)",
            )
        )
    starved = [cell for cell in cells if any(end.ended.startswith("starved") for end in cell.ends)]
    if starved:
        found.append(
            Warned(
                "starved",
                f"{len(starved)} of {len(cells)} cells ran out of texts to train on; "
                "they are shown as they were last",
            )
        )
    return found
