"""What a report shows of a sweep: phase diagrams, fresh data that is needed, curves. Knows blocks only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from karat.blocks import Block, Chart, Column, Headline, Line, Note, Section, Table
from karat.simulation.phases import PHASES, Cell, Spread, half_life_of
from karat.simulation.showing import shortened

if TYPE_CHECKING:
    from karat.simulation.swept import Swept

SHOWN = 6
"""Cells whose curves are drawn."""


def sections(swept: Swept) -> tuple[Section, ...]:
    """Return all that a report shows of a sweep."""
    blocks: list[Block] = [_headline(swept)]
    blocks += [Note(warned.message, "warning") for warned in swept.warnings]
    blocks += [_heat(swept, cycle, n) for cycle in swept.cycles for n in swept.sizes]
    blocks.append(Note(" ".join(f"{name}: {words}." for name, words in swept.definitions().items())))
    blocks.append(_needed(swept))
    blocks += _curves(swept)
    blocks.append(_table(swept))
    return (Section("What collapses where", tuple(blocks), id="sweep"),)


def caption(swept: Swept) -> str:
    """Say under which conditions the figures hold."""
    trainers = " ".join(shortened("trainers", spec) for spec in swept.trainer.split())
    task = shortened("tasks", swept.task)
    return f"{swept.iterations} iterations, {len(swept.seeds)} seeds, trainer {trainers}, task {task}"


def _headline(swept: Swept) -> Headline:
    counted, total = swept.counted(), len(swept.cells)
    share = 1 - counted["neither"] / total
    told = ", ".join(f"{phase} in {counted[phase] / total:.0%}" for phase in PHASES)
    detail = [
        f"Of {total:,} cells: {told}. {counted['uncertain']:,} are uncertain; {counted['hidden']:,} keep "
        f"both axes, but fewer than {swept.lines.kept:.0%} of the different texts."
    ]
    cycle, n = swept.cycles[0], swept.sizes[0]
    for temperature in swept.temperatures:
        axes = [
            f"{axis} {swept.needed(temperature, cycle=cycle, n=n, axis=axis)}"
            for axis in ("diversity", "correctness")
            if axis == "diversity" or swept.cells[0].correct is not None
        ]
        detail.append(f"Fresh share needed in {cycle}, n {n:,}, at temperature {temperature:g}: ")
        detail[-1] += "; ".join(axes) + "."
    return Headline(
        f"{share:.0%}", "of the plane collapses", " ".join(detail), "warning" if share else "good"
    )


def _heat(swept: Swept, cycle: str, n: int) -> Chart:
    rows = [
        {
            "temperature": cell.temperature,
            "fresh": cell.fresh_share,
            "kept": cell.kept.value,
            "phase": cell.phase,
            "sure": float(cell.certain),
        }
        for cell in swept.at(cycle=cycle, n=n)
    ]
    hidden = [cell for cell in swept.at(cycle=cycle, n=n) if cell.hidden]
    note = f"{caption(swept)}. A cell's number is the share of diversity that is kept, against "
    note += "the control." if swept.against == "control" else "the first model's texts."
    if hidden:
        places = ", ".join(f"{cell.temperature:g}/{cell.fresh_share:g}" for cell in hidden[:8])
        note += f" Different texts collapsed unseen at temperature/fresh share {places}"
        note += " and more." if len(hidden) > 8 else "."
    return Chart(
        "heat",
        tuple(rows),
        x="temperature",
        y="fresh",
        value="kept",
        category="phase",
        sure="sure",
        percent=True,
        title=f"What collapses: {cycle}, {n:,} texts an iteration",
        x_title="temperature",
        y_title="fresh share",
        value_title="diversity kept",
        note=note,
    )


def _needed(swept: Swept) -> Table:
    rows = []
    verified = swept.cells[0].correct is not None
    kinds = ("diversity", "correctness", "distinct") if verified else ("diversity", "distinct")
    for place in swept.thresholds():
        row: dict[str, Any] = {"cycle": place.cycle, "n": place.n, "temperature": place.temperature}
        for kind in kinds:
            at = {"cycle": place.cycle, "n": place.n, "axis": kind}
            row[kind] = str(swept.needed(place.temperature, **at))  # type: ignore[arg-type]
        rows.append(row)
    titles = {
        "diversity": "to keep diversity",
        "correctness": "to keep correctness",
        "distinct": "to keep different correct texts" if verified else "to keep different texts",
    }
    return Table(
        (
            Column("cycle", "cycle"),
            Column("n", "n", "number"),
            Column("temperature", "temperature", "number"),
            *(Column(kind, titles[kind]) for kind in kinds),
        ),
        tuple(rows),
        title="The fresh share that is needed",
        note="Between which shares of the grid it lies; in brackets what is sure: above the largest "
        "share at which it surely collapses, at most the smallest from which on it surely does not.",
    )


def _curves(swept: Swept) -> list[Block]:
    """Draw the cells of the first cycle and size whose phases differ, in the order of the temperatures."""
    cells = list(swept.at(cycle=swept.cycles[0], n=swept.sizes[0]))
    chosen = sorted(_telling(cells), key=lambda cell: (cell.temperature, cell.fresh_share))
    drawn: list[Block] = []
    for key, title, unit, line in (
        ("kept", "Diversity of a few cells", "share of the control's", swept.lines.kept),
        ("correct", "Correct texts of the same cells", "share", None),
        ("distinct_correct", "Different correct texts", "share of the control's", swept.lines.kept),
    ):
        rows = [
            {
                "iteration": iteration,
                "value": value,
                "cell": f"T {cell.temperature:g}, {cell.fresh_share:.1%} fresh: {cell.phase}",
            }
            for cell in chosen
            for iteration, value in enumerate(cell.curves.get(key, ()))
        ]
        if rows:
            drawn.append(
                Chart(
                    "line",
                    tuple(rows),
                    x="iteration",
                    y="value",
                    series="cell",
                    title=title,
                    x_title="iteration",
                    y_title=unit,
                    note=f"Medians over seeds; {swept.cycles[0]}, n {swept.sizes[0]:,}; {caption(swept)}.",
                    lines=() if line is None else (Line(line, "collapsed below"),),
                )
            )
    return drawn


def _telling(cells: Sequence[Cell]) -> list[Cell]:
    """Return at most SHOWN cells: of each phase the least and the most diverse, while there is room."""
    found: list[Cell] = []
    for phase in PHASES:
        mine = sorted((cell for cell in cells if cell.phase == phase), key=lambda cell: cell.kept.value)
        for cell in (*mine[:1], *mine[-1:]):
            if cell not in found and len(found) < SHOWN:
                found.append(cell)
    return found


def _table(swept: Swept) -> Table:
    verified = swept.cells[0].correct is not None
    rows = []
    for cell in swept.cells:
        row: dict[str, Any] = {
            "cycle": cell.cycle,
            "n": cell.n,
            "temperature": cell.temperature,
            "fresh": cell.fresh_share,
            "phase": cell.phase + ("" if cell.certain else "?"),
            "kept": cell.kept.value,
            "kept_interval": _ends(cell.kept),
            "last": cell.last.value,
            "half_life": half_life_of(cell),
            "gate": {True: "passed", False: "weak", None: "-"}[cell.gate],
            "_flag": cell.phase != "neither" or cell.hidden,
        }
        if cell.correct is not None and cell.correct_change is not None:
            row |= {
                "correct": cell.correct.value,
                "change": cell.correct_change.value,
                "change_interval": _ends(cell.correct_change),
            }
        if cell.real_loss_change is not None and not verified:
            row["loss"] = cell.real_loss_change.value
        rows.append(row)
    columns = [Column("cycle", "cycle"), Column("n", "n", "number")]
    # What is the same in all cells stands in the caption of the charts; a terminal is narrow.
    columns = [c for c in columns if len({row[c.key] for row in rows}) > 1]
    columns += [
        Column("temperature", "temperature", "number"),
        Column("fresh", "fresh", "percent"),
        Column("phase", "collapses", help="? marks cells that are not certain"),
        Column("kept", "diversity kept", "percent", "share of the control's, median over seeds"),
        Column("kept_interval", "95%", "interval"),
    ]
    if verified:
        columns += [
            Column("correct", "correct", "percent"),
            Column("change", "against control", "number"),
            Column("change_interval", "95%", "interval"),
        ]
    last = "different correct texts kept" if verified else "different texts kept"
    columns.append(Column("last", last, "percent", "share of the control's"))
    if any("loss" in row for row in rows):
        columns.append(
            Column("loss", "loss on human texts", "number", "nats a character above the control's")
        )
    columns += [Column("half_life", "half-life", help="iterations"), Column("gate", "first model")]
    return Table(tuple(columns), tuple(rows), title="All cells", note=caption(swept))


def _ends(figure: Spread) -> list[float] | None:
    return None if figure.interval is None else [round(end, 3) for end in figure.interval]
