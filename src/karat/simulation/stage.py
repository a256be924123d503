"""Simulates self-consuming training: loops over tasks, cycles and seeds, beside a control. Knows no model.

All cycles of a seed share their first iteration, and each seed has a control without a loop: new human data
in every iteration, the same trainer, the same temperature. Iterations can be kept in a journal and are then
not done twice.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import is_dataclass, replace
from typing import Any

from karat import records as karat_records
from karat import registry
from karat.errors import BadSetting, NotEnoughData
from karat.executors.base import Executor
from karat.records import Records
from karat.simulation.audited import Measured, apart, audited
from karat.simulation.base import Batch, Policy, Task, as_rows, check_whole, needed
from karat.simulation.chain import FIRST, Job, Shared, audits, share_of, verdicts_of
from karat.simulation.engine import Ran, check_selection, is_control, run_jobs
from karat.simulation.measures import measure
from karat.simulation.result import CONTROL, Loop, Simulated, Warned, bands, half_life

Progress = Callable[[str, int, int], None]

DEFAULT_N = 2000
GATE = 0.9
"""The first model must write this share of valid texts, or the loop says more of the model than of loops."""
HELD_LEAST = 10
"""Real texts held out below which it is said that they are few."""
CONTROLS = 8
"""Iterations of a control: they share nothing, so that a few tell what chance gives to one."""


def simulate(
    human: Records | None = None,
    *,
    task: Any = "logic",
    cycles: Sequence[Any] = ("full",),
    iterations: int = 10,
    seeds: Sequence[int] = (0,),
    fresh_share: float = 0.0,
    temperature: float = 0.8,
    trainer: Any = "gpt",
    n: int = 0,
    continued: bool = False,
    control: bool = True,
    seed: int = 0,
    executor: Executor | None = None,
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Simulated:
    """Let models train on their own output, and measure what happens.

    human: the user's own records; task logic makes its own.
    task: what is learned: logic, arithmetic, json_schema, sql or code (each with a verifier), or text (your
        records, no verifier).
    cycles: how each iteration's training data are made, for instance full or expanding:growth=0.2.
    iterations: how many models are trained after the first one.
    seeds: one run a cycle and seed; three or more give half-lives an interval that holds the spread between
        runs.
    fresh_share: share of fresh human data in each new batch, for cycles that do not name their own.
    temperature: at which models write; below 1 diversity goes first, at 1 correctness.
    trainer: what is trained; emulator trains nothing. Of several, the models of a cycle take turns.
    n: texts an iteration; 0 takes 2,000, or all human records if they are fewer.
    continued: each model goes on from the one before it, instead of from scratch.
    control: run the control without a loop, too.
    seed: added to each of the seeds.
    """
    if isinstance(seeds, int):
        raise BadSetting(f"seeds is {seeds}, but must be a sequence of numbers, for instance (0, 1, 2)")
    check_whole(iterations=iterations, n=n, seeds=seeds, seed=seed)
    seeds = tuple(seed + number for number in seeds)
    _check(iterations, seeds, fresh_share, temperature, n)
    made = made_of("tasks", task)
    makers = trainers_of(trainer, made)
    policies = policies_of(cycles, fresh_share)
    for label, policy in policies.items():
        check_selection(label, policy, made, makers, continued)
    if len(makers) > (most := max(policy.models for policy in policies.values())):
        raise BadSetting(
            f"{len(makers)} trainers are given, but no cycle has more than {most} models, which take them in "
            f"turn; add the cycle crossed:models={len(makers)}, or give one trainer"
        )
    size = made.source(human, seed=seeds[0]).size
    rows = _rows(n, size)
    check_batches(policies, rows)
    shared = Shared(made, makers, human, continued, str(journal or ""))
    warnings = _data_warnings(policies, rows, size, iterations, control)
    warnings += _few_held_out(made.source(human, seed=seeds[0]).held_out(rows))
    jobs = [
        Job(label, policy, number, iterations, temperature, rows)
        for number in seeds
        for label, policy in policies.items()
    ]
    if control:
        alone, length = Policy(generated_share=0.0), min(iterations, CONTROLS)
        jobs += [Job(CONTROL, alone, number, length, temperature, rows) for number in seeds]
    ran = run_jobs(shared, jobs, executor=executor, progress=progress)
    runs = tuple(one.loop for one in ran if not is_control(one.loop))
    controls = tuple(one.loop for one in ran if is_control(one.loop))
    real, held = shared.source(seeds[0]).draw(rows, turn=0), shared.source(seeds[0]).held_out(rows)
    return Simulated(
        task=registry.spec_of(made),
        described=made.describe(),
        trainer=told(makers, made),
        temperature=temperature,
        n=rows,
        real=measure(
            [made.tokens(text) for text in real],
            verdicts_of(made, real),
            known=frozenset(tuple(made.tokens(text)) for text in real),
            support=[tuple(made.tokens(text)) for text in held],
            seed=seeds[0],
        ),
        runs=runs,
        controls=controls,
        half_life={label: half_life([loop for loop in runs if loop.cycle == label]) for label in policies},
        bands=bands(controls),
        samples=_samples(ran),
        warnings=(*warnings, *_gate(runs), *_starved(runs, policies, rows)),
        real_audited=ceiling(made, real, held, seeds[0]),
        gate=gate(runs),
        policies=policies,
    )


def told(makers: Sequence[Any], task: Task) -> str:
    """Return the specs of trainers; that they were bound to the task of the loop goes without saying."""
    spec = registry.spec_of(task)
    loose = [replace(one, task="") if getattr(one, "task", None) == spec else one for one in makers]
    return " ".join(registry.spec_of(one) for one in loose)


def ceiling(task: Task, real: Sequence[str], held: Sequence[str], seed: int) -> dict[str, Measured]:
    """Return the audit's metrics of real texts that the encoder has not learned from, beside other ones."""
    if not audits(task):
        return {}
    seen, other = apart(real)
    return audited(other, held, metrics=audits(task), seed=seed, learned_from=seen)


def made_of(shelf: str, spec: Any) -> Any:
    """Return a part, or the user's own object, whose settings must be known. Raises BadSetting."""
    part = registry.make(shelf, spec)
    if not is_dataclass(part) or isinstance(part, type):
        raise BadSetting(
            f"{shelf[:-1]} {spec!r} is not an object of a dataclass, whose fields are settings; make one, "
            f"or name a part (see: karat list {shelf})"
        )
    return part


def trainers_of(trainer: Any, task: Task) -> tuple[Any, ...]:
    """Return the trainers that a spec (or several) names, bound to the task where they must know it."""
    several = trainer if isinstance(trainer, list | tuple) else [trainer]
    specs = [piece for one in several for piece in (one.split() if isinstance(one, str) else [one])]
    makers = []
    for spec in specs:
        maker = made_of("trainers", spec)
        if not getattr(maker, "writes", False):
            raise BadSetting(
                f"trainer {registry.name_of(maker)!r} makes models that cannot write records; "
                "use gpt or emulator"
            )
        makers.append(maker.bound(registry.spec_of(task)) if hasattr(maker, "bound") else maker)
    if not makers:
        raise BadSetting("no trainer is given; use gpt or emulator")
    return tuple(makers)


def _check(iterations: int, seeds: Sequence[int], fresh_share: float, temperature: float, n: int) -> None:
    if iterations < 1:
        raise BadSetting(f"iterations is {iterations}, but a loop needs at least 1")
    if not seeds or len(set(seeds)) < len(seeds):
        raise BadSetting(f"seeds is {tuple(seeds)}; give at least one, each once")
    if not 0.0 <= fresh_share <= 1.0:
        raise BadSetting(f"fresh_share is {fresh_share}, but must be a share from 0 to 1")
    if not 0.0 < temperature < math.inf:
        raise BadSetting(f"temperature is {temperature}, but must be a number above 0")
    if n < 0 or 0 < n < 20:
        raise BadSetting(f"n is {n}, but a loop needs at least 20 texts an iteration (0: {DEFAULT_N})")


def policies_of(cycles: Sequence[Any], fresh_share: float) -> dict[str, Policy]:
    """Return label -> policy; the label is what the user wrote: a cycle may be run with several settings."""
    specs = [cycles] if isinstance(cycles, str) else list(cycles)
    flat = [piece for spec in specs for piece in (spec.split() if isinstance(spec, str) else [spec])]
    found: dict[str, Policy] = {}
    for spec in flat:
        cycle = made_of("cycles", spec)
        label = spec if isinstance(spec, str) else registry.spec_of(cycle)
        if label in found or label in (CONTROL, FIRST):
            raise BadSetting(f"cycle {label!r} is given twice; give each once, or with other settings")
        policy = cycle.policy()
        own = policy.generated_share < 1.0
        found[label] = policy.with_fresh(fresh_share) if fresh_share and not own else policy
    if not found:
        raise BadSetting("no cycle is given; try full (see: karat list cycles)")
    return found


def _rows(n: int, size: int | None) -> int:
    if size is None:
        return n or DEFAULT_N
    if n > size:
        raise NotEnoughData(f"n is {n}, but {size} human records can be used (a tenth is held out); lower n")
    return n or min(DEFAULT_N, size)


def check_batches(policies: dict[str, Policy], n: int) -> None:
    """Raise BadSetting where a cycle is to add rows, but they come to less than half a row."""
    for label, policy in policies.items():
        if policy.batch > 0 and not any(needed(policy, n)):
            raise BadSetting(
                f"cycle {label!r} adds {policy.batch:g} of n={n} rows each iteration, which is none; "
                "raise n, or how much the cycle adds"
            )


def _data_warnings(
    policies: dict[str, Policy], n: int, size: int | None, iterations: int, control: bool
) -> list[Warned]:
    if size is None:
        return []
    fresh = max(needed(policy, n)[1] * policy.models for policy in policies.values())
    wanted = n + max(iterations * fresh, min(iterations, CONTROLS) * n if control else 0)
    if wanted <= size:
        return []
    return [
        Warned(
            "human_data_reused",
            f"fresh human data would take {wanted:,} records, but {size:,} can be used: rows are dealt "
            "again, so that `fresh` rows are not new, and the control's band holds too little chance; "
            "lower n or iterations",
        )
    ]


def _few_held_out(held: Sequence[str]) -> list[Warned]:
    """Say where too few real texts are held out for what is measured on them to mean anything."""
    if len(held) >= HELD_LEAST:
        return []
    return [
        Warned(
            "too_few_records",
            f"only {len(held)} human records are held out, so that coverage, the loss on human texts and the "
            f"audit's metrics say little; give at least {10 * HELD_LEAST} records",
        )
    ]


def gate(runs: Iterable[Loop]) -> dict[str, dict[str, Any]]:
    """Return for each seed whether its first model has learned the task, as far as a verifier can say."""
    found: dict[str, dict[str, Any]] = {}
    for loop in runs:
        first = loop.iterations[0].measures
        worst = found.get(str(loop.seed), {"valid": 1.0})[
            "valid"
        ]  # cycles may have first models of their own
        if first.valid is not None and first.valid <= worst:
            found[str(loop.seed)] = {
                "passed": first.valid >= GATE,
                "valid": first.valid,
                "correct": first.correct,
            }
    return found


def _gate(runs: Sequence[Loop]) -> list[Warned]:
    return [
        Warned(
            "weak_model",
            f"seed {seed}: only {told['valid']:.0%} of the first model's texts are valid (at least "
            f"{GATE:.0%} are needed), so that the loop shows the model's weakness; train longer "
            "(gpt:steps=...) or make the task easier",
        )
        for seed, told in gate(runs).items()
        if not told["passed"]
    ] + [
        Warned(
            "weak_model",
            f"cycle {loop.cycle}, seed {loop.seed}: the first model writes one and the same text, so that "
            "there is no diversity to lose; train it longer, raise the temperature, or give other texts",
        )
        for loop in runs
        if not loop.iterations[0].measures.levenshtein
    ]


def _starved(runs: Iterable[Loop], policies: dict[str, Policy], n: int) -> list[Warned]:
    """Say where a selection took fewer texts than its cycle trains on, so that models had fewer rows."""
    found = []
    for loop in runs:
        policy = policies[loop.cycle]
        wanted = needed(policy, n)[0] * policy.models
        # What the last iteration wrote was trained on only where the loop was to go on.
        rows = loop.iterations if loop.ended.startswith("starved") else loop.iterations[:-1]
        taken = [(row.iteration, round((row.accepted or 0.0) * row.written), row.written) for row in rows]
        short = [one for one in taken if one[1] < wanted]
        if loop.ended.startswith("starved") and policy.selection.by != "verifier":
            found.append(Warned("starved", f"cycle {loop.cycle}, seed {loop.seed}: it ended, {loop.ended}"))
        if policy.selection.by == "verifier" and short:
            t, took, written = min(short, key=lambda one: one[1])
            ended = f"; it ended, {loop.ended}" if loop.ended.startswith("starved") else ""
            found.append(
                Warned(
                    "starved",
                    f"cycle {loop.cycle}, seed {loop.seed}: after {len(short)} of {len(rows)} iterations the "
                    f"selection took fewer texts than the {wanted:,} wanted (iteration {t}: {took:,} of "
                    f"{written:,} written), so that models trained on fewer rows{ended}; take a better "
                    "trainer, or a selection that refuses less",
                )
            )
    return found


def _samples(ran: Sequence[Ran]) -> Records:
    """Return all texts that were written, each with the loop it comes from and its lineage."""
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for one in ran:
        label, seed = one.loop.cycle, one.loop.seed
        for row, texts in zip(one.loop.iterations, one.texts, strict=True):
            t = row.iteration
            # All cycles of a seed share their first model; several first models have cycles of their own.
            name = FIRST if t == 0 and not row.by_model else label
            key = f"{name}:{seed}:{t}"
            if key in seen:
                continue
            seen.add(key)
            models = len(row.by_model)
            writers = tuple(m for m in range(models) for _ in range(share_of(len(texts), models, m)))
            written = Batch(texts, (t,) * len(texts), writers)
            for made in as_rows(written, cycle=name, seed=seed, iteration=t):
                rows.append({**made, "loop": key})
    return karat_records.from_rows(rows, datatype="text", path="<simulate>")
