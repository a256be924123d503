"""Whether ordering, mixing or filtering closes the gap from synthetic to human data. Knows no part by itself.

The protocol is that of regurgitative training (Zhang, Qiao, Yang & Wei 2024): arms that differ in which
records they train on, and in which order, trained on growing beginnings and scored on the same test records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from karat import registry
from karat.errors import BadSetting, KaratError
from karat.records import Records
from karat.training import scores as scoring
from karat.training.base import Indices, Progress, Written, gold_labels, inputs, kind_of
from karat.training.grid import Failed
from karat.training.leakage import Leakage, guard
from karat.training.rating import most_common
from karat.training.scores import Scored
from karat.training.stage import Warned, check
from karat.valuation import arms as arming
from karat.valuation import cells, mechanisms
from karat.valuation.arms import Arm, Builder, Built, Pool
from karat.valuation.comparing import Closure, Kind, Scale
from karat.valuation.gaps import Gaps
from karat.valuation.mitigated import ArmFound, Mitigated, advise, verdict
from karat.valuation.saw import Seen, seen

TRIALS = {"small": 300, "medium": 1000, "large": 4000}
STEPS = {"small": 4, "medium": 8, "large": 16}
REAL, GENERATED = "real", "generated"
PART = Closure(None, None, "a part of the real data, which is no way to close the gap")


def mitigate(
    synthetic: Records,
    human: Records,
    test: Records,
    *,
    trainer: Any = "linear",
    metric: str = "",
    arms: Sequence[str] = (),
    plain: str = "",
    increments: Sequence[int] = (),
    mode: Literal["restart", "continue"] = "restart",
    scale: Scale = "linear",
    drop: float = 0.2,
    holdout: float = 0.2,
    item: str = "",
    field: str = "",
    seeds: int = 5,
    seed: int = 0,
    budget: Literal["small", "medium", "large"] = "medium",
    provider: Any = None,
    max_usd: float | None = None,
    max_tokens: int | None = None,
    allow_leakage: bool = False,
    drop_leaks: bool = True,
    executor: Any = None,
    journal: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Mitigated:
    """Train on real data, on plain synthetic data and on what each mitigation makes of it, and compare.

    trainer: the trainer by name and settings, for example linear:C=1.
    metric: the score that decides; macro_f1 for labels and bleu for translations where none is named.
    arms: what is compared: real, real@0.1, generated, generated:NAME, mix:MIXTURE, ordered:ORDERING,
      reversed:ORDERING, filtered:ORDERING, filters:FILTER, detector; @NAME at the end takes one generator.
    plain: the arm that all others are held against; generated, and for a mixture the best single generator.
    increments: records a step (one number), or the sizes themselves; by the budget when none are given.
    mode: restart trains anew at each step; continue goes on from the last step with the new records.
    scale: of the area between curves: linear counts each record alike, log each doubling.
    drop: the share of the records that filtered arms drop.
    holdout: the share of the human records that no arm trains on; detectors and checks learn from them.
    item: the field that names what a record was made for; found by itself for translations and instructions.
    field: the field that names the generator; lineage.generator when empty.
    seeds: how many base orders; at least 3 for a fair interval.
    seed: of the base orders, of training and of resampling.
    budget: small, medium or large: how many steps are tried and how often the test records are resampled.
    provider: who answers orderings that ask a language model.
    max_usd: a hard cap in dollars for each such ordering.
    max_tokens: the same in tokens.
    allow_leakage: keep training records that stand in the test data, and say so.
    drop_leaks: leave training records out that stand in the test data; this is the default.
    journal: folder in which answers of the provider are kept.
    cache: folder in which finished trainings and vectors are kept; the same call again goes on from there.
    Raises LeakageError when records stand in both and neither was chosen.
    """
    maker = registry.make("trainers", trainer)
    metric = metric or scoring.default_metric(kind_of(test), test.datatype)
    _check(maker, human, test, metric, mode, seeds, budget, drop, holdout)
    asked = human
    drops = drop_leaks and not allow_leakage
    human, human_leaks = guard(human, test, allow_leakage=allow_leakage, drop_leaks=drops, what="human")
    synthetic, leaks = guard(synthetic, test, allow_leakage=allow_leakage, drop_leaks=drops, what="synthetic")
    check(synthetic, test, maker)
    pool = arming.pool(human, synthetic, test, source_field=field, item=item, holdout=holdout, seed=seed)
    named = _named(arms, tuple(pool.sources), plain)
    asking = {"provider": provider, "max_usd": max_usd, "max_tokens": max_tokens, "journal": journal}
    builder = Builder(pool, seeds, seed, drop, {**asking, "cache": cache})
    built = {arm.name: builder.build(arm) for arm in named}
    at = cells.bench(
        maker, arming.plain_fields(pool.records), pool.test, metric, continues=mode == "continue"
    )
    models, lost = _models(built, increments, budget, at, executor=executor, cache=cache, progress=progress)
    built = _without(built, lost, _plains(built, plain))
    gaps = Gaps(metric, models, _plains(built, plain), inputs(test), TRIALS[budget], seed, scale)
    gaps = replace(gaps, plain=_best_singles(gaps, built, plain))
    told = mechanisms.figures(
        {name: pool.records.take(rows) for name, rows in _telling(built).items()},
        pool.records.take(pool.human),
        pool.records.take(pool.held) if len(pool.held) else None,
        seed=seed,
    )
    found, steps, fractions = _read(gaps, built, told)
    known = seen(synthetic, (asked, human))
    return Mitigated(
        signature=_signature(maker, metric, mode, scale, seeds, seed, drop, holdout, human, synthetic, test),
        metric=metric,
        trainer=registry.spec_of(maker),
        mode=mode,
        scale=scale,
        seeds=seeds,
        human_records=len(pool.human),
        held_out=len(pool.held),
        synthetic_records=len(pool.synthetic),
        test_records=len(test),
        plain=plain or GENERATED,
        generator_saw=known.verdict,
        chance=_chance(pool, test, metric),
        arms=found,
        steps=steps,
        fractions=fractions,
        advice=advise(found, fractions, metric),
        warnings=tuple(_warnings(human_leaks, leaks, known, built, lost, len(test), seeds)),
        notes=(*pool.notes, *_notes(mode, scale, drop, at.once, len(pool.held))),
    )


def _check(
    maker: Any,
    human: Records,
    test: Records,
    metric: str,
    mode: str,
    seeds: int,
    budget: str,
    drop: float,
    holdout: float,
) -> None:
    several = kind_of(test) == "labels" and metric in scoring.OF_KIND["tags"]
    scoring.check_metric(metric, "tags" if several else kind_of(test))
    if mode not in ("restart", "continue"):
        raise BadSetting(f"mode is {mode!r}; choose one of: restart, continue")
    if mode == "continue" and not getattr(maker, "continues", False):
        raise BadSetting(
            f"trainer {registry.name_of(maker)!r} cannot go on from a trained model; use --mode restart"
        )
    if seeds < 1:
        raise BadSetting(f"seeds is {seeds}, but at least 1 order of the records is needed; 5 is the default")
    if budget not in TRIALS:
        raise BadSetting(f"budget is {budget!r}; choose one of: {', '.join(TRIALS)}")
    if not 0 < drop < 1:
        raise BadSetting(f"drop is {drop:g}, but is a share between 0 and 1; 0.2 is the default")
    if not 0 <= holdout <= 0.5:
        raise BadSetting(f"holdout is {holdout:g}, but is a share from 0 to 0.5; 0.2 is the default")
    check(human, test, maker)


def _named(specs: Sequence[str], generators: tuple[str, ...], plain: str) -> tuple[Arm, ...]:
    """Return the arms, with those that others are held against added: real first, then plain."""
    given = [specs] if isinstance(specs, str) else list(specs)
    given = [name for text in given for name in text.split()] if given else list(arming.standard(generators))
    parsed = [arming.parse(spec, generators) for spec in given]
    needed = [REAL, plain or GENERATED]
    if not plain:
        needed += [f"{GENERATED}:{arm.source}" for arm in parsed if arm.mitigates and arm.source]
        if any(arm.kind == "mix" for arm in parsed) and len(generators) > 1:
            needed += [f"{GENERATED}:{name}" for name in generators]
    known = {arm.name: arm for spec in needed if (arm := arming.parse(spec, generators))}
    known.update({arm.name: arm for arm in parsed})
    if plain and not known[plain].synthetic:
        raise BadSetting(f"plain is {plain!r}, but names the synthetic arm that others are held against")
    return tuple(known.values())


def _plains(built: Mapping[str, Built], plain: str) -> dict[str, str]:
    """Return for each arm the plain one: that of its generator where it has one."""
    found = {}
    for name, one in built.items():
        own = f"{GENERATED}:{one.arm.source}"
        found[name] = plain or (own if one.arm.mitigates and own in built else GENERATED)
    return found


def _best_singles(gaps: Gaps, built: Mapping[str, Built], plain: str) -> dict[str, str]:
    """Hold mixtures against the single generator with the highest curve, the harder test for them."""
    found = dict(gaps.plain)
    singles = [name for name, one in built.items() if one.arm.kind == "generated" and one.arm.source]
    for name, one in built.items():
        if one.arm.kind == "mix" and not one.arm.source and not plain and len(singles) > 1:
            heights = {
                single: float(gaps.gain("area", single, GENERATED) @ gaps.point)
                for single in singles
                if gaps.sizes(single, name, gaps.real)
            }
            if heights:
                found[name] = max(heights, key=lambda single: (heights[single], single))
    return found


def _telling(built: Mapping[str, Built]) -> dict[str, Indices]:
    """Return the positions whose errors and words are looked at: of ordered arms the half that comes first.

    All records of an ordered arm are those of the plain one; an arm with the same set as another has the
    figures of that one.
    """
    found: dict[bytes, tuple[str, Indices]] = {}
    for name, one in built.items():
        if one.arm.fraction < 1:
            continue
        rows = one.orders[0]
        half = one.arm.kind in ("ordered", "reversed")
        kept = rows[: len(rows) // 2] if half else rows
        found.setdefault(np.sort(kept).tobytes(), (name, kept))
    return dict(found.values())


def steps_to(ends: Mapping[str, int], increments: Sequence[int], budget: str, shared: int) -> tuple[int, ...]:
    """Return the sizes of the curves: equal steps up to `shared`, then doublings to the largest arm."""
    largest = max(ends.values())
    asked = [increments] if isinstance(increments, int) else list(increments)
    for size in asked:
        if not 2 <= size <= largest:
            raise BadSetting(f"increments has {size}, but must be from 2 to {largest:,}, the records at hand")
    if len(asked) > 1:
        return tuple(sorted(set(asked)))
    step = asked[0] if asked else max(2, -(-shared // STEPS[budget]))
    found = set(range(step, (largest if asked else shared) + 1, step))
    size = shared
    while not asked and size < largest:
        found.add(size)
        size *= 2
    return tuple(sorted(found))


def sizes_of(
    built: Mapping[str, Built], increments: Sequence[int], budget: str
) -> dict[str, tuple[int, ...]]:
    """Return the sizes at which each arm is tested: the steps and its end; plain and real arms at all ends.

    Of a fraction of the real data only the end is tested: before it, it is the real arm.
    """
    ends = {name: one.size for name, one in built.items()}
    bases = {name for name, one in built.items() if not one.arm.mitigates}
    plain = [ends[name] for name in bases if built[name].arm.synthetic]
    steps = steps_to(ends, increments, budget, min(ends[REAL], max(plain)))
    found = {}
    for name, one in built.items():
        sizes = {ends[name]}
        if one.arm.fraction == 1:
            sizes.update(n for n in steps if n <= ends[name])
            if name in bases:
                parts = name != REAL  # what a part of the real data learns is on the real curve anyway
                others = [n for other, n in ends.items() if not (parts and built[other].arm.fraction < 1)]
                sizes.update(n for n in others if n <= ends[name])
        found[name] = tuple(sorted(sizes))
    return found


def _models(
    built: Mapping[str, Built],
    increments: Sequence[int],
    budget: str,
    at: cells.Bench,
    *,
    executor: Any,
    cache: Path | None,
    progress: Progress | None,
) -> tuple[dict[str, dict[int, list[Scored]]], dict[str, str]]:
    """Train all models and return what they said, arm -> size -> one a seed, and why arms have none."""
    sizes = sizes_of(built, increments, budget)
    plan: list[tuple[str, tuple[int, ...], cells.Cell]] = []
    for name, one in built.items():
        for seed, order in enumerate(one.orders):
            runs = [sizes[name]] if at.continues else [(n,) for n in sizes[name]]
            plan += [(name, run, at.cell(order, run, seed)) for run in runs]
    said = cells.attempt([cell for _, _, cell in plan], at, executor=executor, cache=cache, progress=progress)
    lost: dict[str, str] = {}
    found: dict[str, dict[int, list[Scored]]] = {name: {} for name in built}
    for name, run, cell in plan:
        answers = said[cell.key]
        if isinstance(answers, Failed):
            lost.setdefault(name, answers.reason)
            continue
        for n, one_said in zip(run, answers):
            found[name].setdefault(n, []).append(one_said)
    return {name: sizes for name, sizes in found.items() if name not in lost}, lost


def _without(
    built: Mapping[str, Built], lost: Mapping[str, str], plains: Mapping[str, str]
) -> dict[str, Built]:
    """Return the arms that all their trainings are there for.

    Raises KaratError where those that others are held against are not.
    """
    for name in dict.fromkeys([REAL, *plains.values()]):
        if name in lost:
            raise KaratError(f"arm {name!r} failed, and others are held against it: {lost[name]}")
    return {name: one for name, one in built.items() if name not in lost}


def _read(
    gaps: Gaps, built: Mapping[str, Built], told: Mapping[str, tuple[mechanisms.Figure, ...]]
) -> tuple[tuple[ArmFound, ...], tuple[Any, ...], tuple[Any, ...]]:
    """Return the arms with all comparisons, each kind corrected by itself."""
    whole = [name for name, one in built.items() if one.arm.fraction == 1]
    held = [name for name in whole if gaps.plain[name] != name]
    areas = [name for name in held if gaps.sizes(name, gaps.plain[name], REAL)]
    area = _by_arm(gaps, [("area", name, gaps.plain[name], None) for name in areas])
    everything = _by_arm(gaps, [("all", name, gaps.plain[name], None) for name in held])
    real = _by_arm(gaps, [("all", name, REAL, None) for name in whole if name != REAL])
    steps = gaps.compare(
        [("step", name, gaps.plain[name], n) for name in held for n in gaps.sizes(name, gaps.plain[name])]
    )
    synthetic = _different(built, [name for name in whole if built[name].arm.synthetic])
    parts = [name for name in built if name not in whole]
    fractions = gaps.compare([("all", part, name, None) for part in parts for name in synthetic])
    found = []
    for name, one in built.items():
        arm = ArmFound(
            name=name,
            kind=one.arm.kind,
            role=one.arm.role,
            records=gaps.end(name),
            curve=gaps.curve(name),
            plain=gaps.plain[name],
            area=area.get(name),
            versus_plain=everything.get(name),
            versus_real=real.get(name),
            closure=gaps.closure("area", name) if name in whole else PART,
            closure_all=gaps.closure("all", name) if name in whole else PART,
            worth=gaps.worth(name) if one.arm.synthetic else None,
            order_note=one.note,
            informative=one.informative,
            figures=one.figures,
            mechanisms=told.get(name, ()),
        )
        found.append(replace(arm, verdict=verdict(arm, gaps.sign > 0)))
    return tuple(found), steps, fractions


def _different(built: Mapping[str, Built], names: Sequence[str]) -> list[str]:
    """Return the first of all arms that have the same records, whatever their order."""
    found: dict[bytes, str] = {}
    for name in names:
        found.setdefault(np.sort(built[name].orders[0]).tobytes(), name)
    return list(found.values())


def _by_arm(gaps: Gaps, asked: Sequence[tuple[Kind, str, str, int | None]]) -> dict[str, Any]:
    return {one.arm: one for one in gaps.compare(asked)} if asked else {}


def _chance(pool: Pool, test: Records, metric: str) -> float | None:
    """Return the score of the commonest label of the human records, or of copying what is given."""
    kind = kind_of(test)
    if kind == "labels":
        labels = gold_labels(pool.records.take(pool.human))
        gold = gold_labels(test, "test")
        if not all(isinstance(label, str) for label in (*labels, *gold)):
            return None
        classes = tuple(sorted({*labels, *gold}))
        said: Scored = replace(
            scoring.constant(gold, most_common(labels), classes),
            surprise=np.full(len(gold), np.log(len(classes))),
        )
    elif kind == "texts" and metric != "perplexity":
        texts = inputs(test)
        written = {"translation": "target", "instruction": "completion"}[test.datatype]
        references = tuple(str(text) for text in test.column(written))
        said = scoring.outcome(Written(tuple(test.ids), tuple(texts), references), metrics=(metric,))
    else:
        return None
    return float(scoring.measure(metric, said)[0])


def _signature(maker: Any, metric: str, mode: str, scale: str, seeds: int, seed: int, *rest: Any) -> str:
    drop, holdout, *sides = rest
    prints = {name: side.fingerprint[:8] for name, side in zip(("human", "synthetic", "test"), sides)}
    made = ""
    if scoring.OF_KIND["texts"][0] == metric or metric in ("chrf", "rouge_l"):
        from karat.training import written

        made = written.signature(metric)
    return registry.signature(
        maker,
        metric=metric,
        scored=made or None,
        mode=mode,
        scale=scale,
        seeds=seeds,
        seed=seed,
        drop=drop,
        holdout=holdout,
        **prints,
    )


def _warnings(
    human: Leakage,
    synthetic: Leakage,
    known: Seen,
    built: Mapping[str, Built],
    lost: Mapping[str, str],
    tested: int,
    seeds: int,
) -> list[Warned]:
    found: list[Warned] = []
    told = [*human.told("human"), *synthetic.told("synthetic")]
    found += [Warned("leakage", message, ids) for message, ids in told]
    if known.verdict in ("yes", "part"):
        message = (
            f"the generator saw some of this human data ({known.why}), so that the gap is smaller than it "
            "would be with other human data"
        )
        found.append(Warned("generator_saw_human", message))
    for name, one in built.items():
        if one.informative is False and one.arm.role != "control":
            found.append(Warned("no_information_ordering", f"{name}: {one.note}"))
    found += [Warned("arm_failed", f"{name} is left out: {reason}") for name, reason in lost.items()]
    if tested < 200 or seeds < 3:
        message = (
            f"{tested:,} test records and {seeds} seeds; at least 200 and 3 are needed for a fair interval"
        )
        found.append(Warned("too_few_records", message))
    return found


def _notes(mode: str, scale: str, drop: float, once: bool, held: int) -> tuple[str, ...]:
    each = "every record" if scale == "linear" else "every doubling of the records"
    found = [
        f"The gain of an arm is the area between its curve and the plain one, in which {each} counts alike: "
        "with all its records an ordered arm has the same set as the plain one, up to order.",
        "Intervals hold the draw of test records (paired) and of seeds. p is the larger of two: from answers "
        "of both arms exchanged record by record, and from a t-test over seeds; corrected for the number of "
        "arms (Holm).",
        f"Filtered arms drop {drop:.0%} of the records. Detectors and other parts that need human records "
        f"learned from {held:,} that no arm trains on.",
    ]
    if mode == "continue":
        found.append("Each step trains on its new records only, starting from the model of the step before.")
    if once:
        found.append("The trainer does not depend on seed or order, so equal sets were trained on once.")
    return tuple(found)
