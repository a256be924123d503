"""What a simulation shows: curves beside the control, tables, texts. Knows no trainer and no task.

Several seeds of a cycle are one line, their mean, with their range as its band. The control is one band.
"""

from __future__ import annotations

import statistics as plain
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from karat import registry
from karat.blocks import Block, Chart, Column, Example, Examples, Headline, Line, Note, Section, Table
from karat.errors import BadSetting, UnknownPart
from karat.simulation.half_lives import half_life_words

if TYPE_CHECKING:
    from karat.simulation.result import Iteration, Loop, Simulated

REAL = "human data"

SHOWN_CYCLES = 4
"""Cycles whose histograms are drawn: those that kept the least."""

VERIFIED = (
    ("levenshtein", "Diversity", "mean normalised edit distance"),
    ("correct", "Correct texts", "share"),
    ("distinct_correct", "Different correct texts", "texts"),
    ("coverage", "Coverage of real texts", "share of another real sample that is written"),
    ("coverage_rare", "Coverage of rare real texts", "share of what another real sample holds once"),
    ("real_loss", "Loss on human texts", "nats a character"),
    ("mean_length", "Length", "tokens a text"),
    ("self_bleu", "Self-BLEU", "of 100 texts"),
)

UNVERIFIED = (
    ("levenshtein", "Diversity", "mean normalised edit distance"),
    ("distinct", "Different texts", "texts"),
    ("real_loss", "Loss on human texts", "nats a character"),
    ("mean_length", "Length", "tokens a text"),
    ("self_bleu", "Self-BLEU", "of 100 texts"),
)


def sections(found: Simulated) -> tuple[Section, ...]:
    """Return curves, the state at the end, and texts of several iterations as blocks."""
    blocks: list[Block] = [_headline(found)]
    blocks += [Note(w.message, "warning") for w in found.warnings]
    names = VERIFIED if found.real.correct is not None else UNVERIFIED
    blocks += [chart(found, *name) for name in names if _has(found, name[0])]
    if _has(found, "accepted"):
        blocks.append(chart(found, "accepted", "Texts that the selection took", "share of all written"))
    blocks += [_half_lives(found), _ends(found)]
    blocks += _errors(found)
    blocks += [_histogram(found, "lengths", "Lengths", "tokens a text")]
    if found.real.depths:
        blocks.append(_histogram(found, "depths", "Depths of valid texts", "depth"))
    blocks += _models(found) + _gate(found)
    blocks.append(_examples(found))
    told = [Section("What happens if models keep training on their own output", tuple(blocks), id="simulate")]
    audits = dict.fromkeys(name for loop in found.runs for row in loop.iterations for name in row.audited)
    if audits:
        charts = [chart(found, f"audit:{name}", name.replace("_", " "), "") for name in audits]
        note = Note(
            "The audit's metrics, each iteration beside the same real texts and with the same encoder, "
            "learned from real texts that are not compared. The line is what another real sample has."
        )
        told.append(Section("The audit of each iteration", (note, *charts), id="simulate-audit"))
    return tuple(told)


def caption(found: Simulated) -> str:
    """Say under which conditions the figures hold; stands under each chart."""
    trainer = " ".join(shortened("trainers", spec) for spec in found.trainer.split())
    task = shortened("tasks", found.task)
    return (
        f"temperature {found.temperature:g}, {found.n:,} texts an iteration, trainer {trainer}, task {task}"
    )


def shortened(shelf: str, spec: str) -> str:
    """Return a spec without the settings that are as they always are."""
    try:
        part = registry.make(shelf, spec)
    except UnknownPart:  # an object that the user made, which stands on no shelf
        return spec
    except BadSetting:  # a spec that holds another spec: its settings cannot be told apart
        return spec.partition(":")[0]
    usual = {field.name: field.default for field in fields(part) if field.init}
    pairs = registry.parse(spec)[1]
    kept = [f"{key}={text}" for key, text in pairs.items() if getattr(part, key) != usual[key]]
    return registry.name_of(part) + (":" + ",".join(kept) if kept else "")


# --- loops over their seeds ---------------------------------------------------------------------------


def by_cycle(loops: Iterable[Loop]) -> dict[str, list[Loop]]:
    """Return the loops of each cycle, one a seed."""
    grouped: dict[str, list[Loop]] = {}
    for loop in loops:
        grouped.setdefault(loop.cycle, []).append(loop)
    return grouped


def _at(loop: Loop, position: int) -> Iteration | None:
    """Return the iteration at a position; after total collapse nothing changes any more."""
    if position < len(loop.iterations):
        return loop.iterations[position]
    return loop.iterations[-1] if loop.ended.startswith("collapsed") else None


def _length(found: Simulated) -> int:
    return max(len(loop.iterations) for loop in found.runs)


def _has(found: Simulated, name: str) -> bool:
    return any(value is not None for loop in found.runs for value in loop.curve(name))


def _share(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return plain.fmean(known) if known else None


# --- charts -------------------------------------------------------------------------------------------


def chart(found: Simulated, name: str, title: str, unit: str) -> Chart:
    """Return one measure over the iterations: a line a cycle, the control's band, human data's line."""
    rows: list[dict[str, Any]] = []
    grouped = by_cycle(found.runs)
    for cycle, loops in grouped.items():
        rows += _line(cycle, loops, name, _length(found))
    band = found.bands.get(name)
    if band is not None:
        rows += [
            {"iteration": t, "value": band.mean, "cycle": "control", "low": band.low, "high": band.high}
            for t in range(_length(found))
        ]
    elif found.controls:
        rows += _line("control", found.controls, name, _length(found))
    seeds = max(map(len, grouped.values()))
    what = f"Lines: means over {seeds} seeds, with their range." if seeds > 1 else "Bands: 95% intervals."
    without = "control: no loop, new human data each time, same temperature"
    without += "; mean and 95% prediction interval of one iteration." if band is not None else "."
    real = _real(found, name)
    return Chart(
        "line",
        tuple(rows),
        x="iteration",
        y="value",
        series="cycle",
        low="low",
        high="high",
        title=title,
        x_title="iteration",
        y_title=unit,
        note=f"{caption(found)}. {what} {without if found.controls else ''}".rstrip(),
        lines=() if real is None else (Line(float(real), REAL),),
    )


def _line(label: str, loops: Sequence[Loop], name: str, length: int) -> list[dict[str, Any]]:
    """Return a cycle's line: of one seed with the measure's interval, of several their mean and range."""
    rows: list[dict[str, Any]] = []
    for t in range(length):
        turns = [turn for loop in loops if (turn := _at(loop, t)) is not None]
        values = [value for turn in turns if (value := turn.value(name)) is not None]
        if not values:
            continue
        ends = (min(values), max(values)) if len(loops) > 1 else turns[0].interval(name)
        low, high = ends or (None, None)
        rows.append({"iteration": t, "value": plain.fmean(values), "cycle": label, "low": low, "high": high})
    return rows


def _real(found: Simulated, name: str) -> float | None:
    """Return what human data have: the ceiling, or another real sample's value."""
    if name.startswith("audit:"):
        measured = found.real_audited.get(name[len("audit:") :])
        return None if measured is None else measured.value
    value = getattr(found.real, name, None)
    return None if value is None else float(value)


def _histogram(found: Simulated, name: str, title: str, unit: str) -> Chart:
    """Return how many texts fall into each bin: human data, the first model's texts, and the last ones'."""
    grouped = by_cycle(found.runs)
    worst = list(dict.fromkeys(row.cycle for row in found.worst(len(found.runs))))[:SHOWN_CYCLES]
    series: dict[str, Counter[str]] = {REAL: Counter(getattr(found.real, name))}
    first: Counter[str] = Counter()
    for loop in found.runs:
        if loop.cycle == worst[0]:
            first.update(getattr(loop.iterations[0].measures, name))
    series["iteration 0"] = first
    for cycle in worst:
        held: Counter[str] = Counter()
        for loop in grouped[cycle]:
            held.update(getattr(loop.iterations[-1].measures, name))
        end = max(len(loop.iterations) for loop in grouped[cycle]) - 1  # it may have ended early
        series[f"{cycle}, iteration {end}"] = held
    bins = sorted({one for held in series.values() for one in held}, key=lambda one: int(one.split("-")[0]))
    rows = tuple(
        {"bin": one, "share": held[one] / max(1, held.total()), "which": label}
        for one in bins
        for label, held in series.items()
    )
    return Chart(
        "bar",
        rows,
        x="bin",
        y="share",
        series="which",
        title=title,
        x_title=unit,
        y_title="share of texts",
        note=f"{caption(found)}.",
    )


# --- tables -------------------------------------------------------------------------------------------


def _half_lives(found: Simulated) -> Table:
    rows = []
    for cycle, loops in by_cycle(found.runs).items():
        half = found.half_life[cycle]
        kept = [row.kept for row in found.at(_length(found) - 1) if row.cycle == cycle]
        rows.append(
            {
                "cycle": cycle,
                "seeds": len(loops),
                "half_life": half.value,
                "interval": list(half.interval),
                "kept": plain.fmean(kept),
                "range": [min(kept), max(kept)] if len(kept) > 1 else None,
                "note": half.note,
            }
        )
    return Table(
        (
            Column("cycle", "cycle"),
            Column("seeds", "seeds", "number"),
            Column("half_life", "half-life", "number", "iterations until half of the diversity is lost"),
            Column("interval", "95% interval", "interval"),
            Column("kept", "kept at the end", "percent", "share of the first model's diversity"),
            Column("range", "range over seeds", "interval"),
            Column("note", "how"),
        ),
        tuple(rows),
        title="Half-life of diversity",
        note=caption(found),
    )


def _ends(found: Simulated) -> Table:
    rows = [
        {
            **asdict(row),
            "half_life": half_life_words(found.half_life[row.cycle]),
            "_flag": bool(row.outside),
        }
        for row in found.at(_length(found) - 1)
    ]
    return Table(
        (
            Column("cycle", "cycle"),
            Column("seed", "seed", "number"),
            Column("iteration", "iteration", "number"),
            Column(
                "levenshtein", "diversity", "number", "mean normalised edit distance over all pairs of texts"
            ),
            Column("kept", "kept", "percent", "share of the first model's diversity"),
            Column("correct", "correct", "percent"),
            Column("distinct", "different texts", "number"),
            Column("half_life", "half-life"),
        ),
        tuple(rows),
        title="The end of each run",
        note=caption(found),
    )


def _errors(found: Simulated) -> list[Block]:
    """Return the shares of correct, wrong and invalid texts by class: first, middle and last iteration."""
    everything = [row for loop in (*found.runs, *found.controls) for row in loop.iterations]
    kinds = sorted({kind for row in everything for kind in row.measures.errors})
    if found.real.correct is None:
        return []
    last = _length(found) - 1
    rows = []
    for cycle, loops in by_cycle(found.runs).items():
        for t in sorted({0, last // 2, last}):
            turns = [turn for loop in loops if (turn := _at(loop, t)) is not None]
            if turns:
                rows.append({"cycle": cycle, "iteration": t, **_kinds(turns, kinds)})
    if found.controls:
        turns = [row for loop in found.controls for row in loop.iterations]
        rows.append({"cycle": "control", "iteration": None, **_kinds(turns, kinds)})
    columns = [
        Column("cycle", "cycle"),
        Column("iteration", "iteration", "number"),
        Column("correct", "correct", "percent"),
        Column("wrong", "valid, but wrong", "percent"),
        *(Column(f"error:{kind}", kind.replace("_", " "), "percent") for kind in kinds),
    ]
    note = "Shares of all texts, means over seeds; control: over all of its iterations."
    return [
        Table(tuple(columns), tuple(rows), "Correct, wrong and invalid texts", f"{caption(found)}. {note}")
    ]


def _kinds(turns: Sequence[Iteration], kinds: Sequence[str]) -> dict[str, float | None]:
    correct, valid = (_share([turn.value(name) for turn in turns]) for name in ("correct", "valid"))
    wrong = None if valid is None or correct is None else valid - correct
    shares = {f"error:{kind}": _share([turn.value(f"error:{kind}") for turn in turns]) for kind in kinds}
    return {"correct": correct, "wrong": wrong, **shares}


def _models(found: Simulated) -> list[Block]:
    """Return what each of several models wrote by itself, first and last."""
    rows = []
    for loop in found.runs:
        for turn in dict.fromkeys((0, len(loop.iterations) - 1)):
            row = loop.iterations[turn]
            rows += [
                {"cycle": loop.cycle, "seed": loop.seed, "iteration": turn, "model": model, **figures}
                for model, figures in row.by_model.items()
            ]
    if not rows:
        return []
    columns = (
        Column("cycle", "cycle"),
        Column("seed", "seed", "number"),
        Column("iteration", "iteration", "number"),
        Column("model", "model"),
        Column("levenshtein", "diversity", "number"),
        Column("correct", "correct", "percent"),
        Column("distinct", "different texts", "number"),
    )
    return [Table(columns, tuple(rows), "Each model by itself", caption(found))]


def _gate(found: Simulated) -> list[Block]:
    if not found.gate:
        return []
    columns = (
        Column("seed", "seed"),
        Column("valid", "valid", "percent"),
        Column("correct", "correct", "percent"),
        Column("passed", "has learned the task"),
    )
    rows = tuple(
        {"seed": seed, **told, "passed": "yes" if told["passed"] else "no", "_flag": not told["passed"]}
        for seed, told in found.gate.items()
    )
    return [Table(columns, rows, "Whether the first model has learned its task", caption(found))]


# --- words --------------------------------------------------------------------------------------------


def _headline(found: Simulated) -> Headline:
    worst = found.worst(1)[0]
    half = found.half_life[worst.cycle]
    value = f"{worst.kept:.0%}"
    label = f"of its diversity is left in cycle {worst.cycle} at iteration {worst.iteration}"
    if not next(loop for loop in found.runs if loop.cycle == worst.cycle).iterations[0].measures.levenshtein:
        value, label = "none", f"of the texts of cycle {worst.cycle} differ, from the first model on"
    elif half.value is not None:
        value = f"{half.value:.1f} iterations"
        label = f"until cycle {worst.cycle} has lost half of its diversity"
    return Headline(
        value, label, found.why(worst.cycle, seed=worst.seed), "warning" if worst.outside else "info"
    )


def _examples(found: Simulated) -> Examples:
    keys, texts = found.samples.column("loop"), found.samples.texts()
    grouped: dict[str, list[str]] = {}
    for key, text in zip(keys, texts):
        grouped.setdefault(key, []).append(text)
    rows = []
    for loop in found.runs:
        if loop.seed != found.runs[0].seed:
            continue
        last = len(loop.iterations) - 1
        for position in sorted({0, last // 2, last}):
            key = found.key_of(loop.cycle, loop.seed, position)
            for text, times in Counter(grouped.get(key, ())).most_common(6):
                reason = f"{times:,} of {len(grouped[key]):,}"
                rows.append(Example(f"{loop.cycle}, iteration {position}", text, reason=reason))
    return Examples(tuple(rows), "The most common texts of each iteration", "How often each was written.")
