"""A swept plane: what collapses where, which fresh share prevents it, as text and JSON. Knows no trainer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from karat.blocks import SURE, Section
from karat.errors import InputError
from karat.simulation.phases import PHASES, Cell, Lines, Phase, Spread
from karat.simulation.result import Warned

LETTERS = {"diversity": "D", "correctness": "C", "both": "B", "neither": "."}
WHERE = 1e-9
"""Temperatures and shares that differ by less are the same place."""
Axis = Literal["all", "diversity", "correctness", "distinct"]


@dataclass(frozen=True)
class Needed:
    """The smallest fresh share on the grid from which on nothing collapses.

    share: None where even the largest share does not keep it. low: the largest share at which it surely
    collapses (None: nowhere surely). high: the smallest share from which on it surely does not (None: none).
    The true threshold lies between grid points: `below` is the next smaller share, which did not suffice
    (the largest of all where share is None).
    """

    cycle: str
    n: int
    temperature: float
    axis: str
    share: float | None
    below: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.share is None:
            told = f"more than {_percent(self.below or 0.0)}"
        elif not self.share:
            told = "none"
        elif self.below is None:
            told = f"{_percent(self.share)} or less"
        else:
            told = f"{_percent(self.below)} to {_percent(self.share)}"
        sure = [] if self.low is None else [f"above {_percent(self.low)}"]
        sure += [] if self.high is None else [f"at most {_percent(self.high)}"]
        return f"{told} (surely {' and '.join(sure)})" if sure else f"{told} (nothing sure)"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


@dataclass(frozen=True)
class Swept:
    """Cells of the plane: what collapses where, and how sure that is."""

    task: str
    described: dict[str, str]
    trainer: str
    iterations: int
    continued: bool
    against: str  # control or first: what the ends are measured against
    lines: Lines
    cycles: tuple[str, ...]
    temperatures: tuple[float, ...]
    fresh_shares: tuple[float, ...]
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    warnings: tuple[Warned, ...]

    # --- verbs ------------------------------------------------------------------------------------

    def at(
        self,
        *,
        cycle: str | None = None,
        temperature: float | None = None,
        fresh_share: float | None = None,
        n: int | None = None,
    ) -> tuple[Cell, ...]:
        """Return the cells at some place; what is not said may be anything. Raises InputError if none."""
        wanted = {"cycle": cycle, "temperature": temperature, "fresh_share": fresh_share, "n": n}
        found = tuple(
            cell
            for cell in self.cells
            if all(value is None or _same(getattr(cell, name), value) for name, value in wanted.items())
        )
        if not found:
            said = ", ".join(f"{name}={value}" for name, value in wanted.items() if value is not None)
            raise InputError(
                f"no cell has {said}; there are cycles {', '.join(self.cycles)}, temperatures "
                f"{_list(self.temperatures)}, fresh shares {_list(self.fresh_shares)}, n {_list(self.sizes)}"
            )
        return found

    def phase(
        self,
        temperature: float,
        fresh_share: float = 0.0,
        *,
        cycle: str | None = None,
        n: int | None = None,
    ) -> Phase:
        """Return what collapses in one cell: diversity, correctness, both or neither."""
        found = self.at(
            cycle=cycle or self.cycles[0],
            temperature=temperature,
            fresh_share=fresh_share,
            n=n or self.sizes[0],
        )
        return found[0].phase

    def worst(self, n: int = 5) -> tuple[Cell, ...]:
        """Return the n cells that kept the smallest share of the different (correct) texts."""
        return tuple(sorted(self.cells, key=lambda cell: (cell.last.value, cell.kept.value))[:n])

    def needed(
        self,
        temperature: float,
        *,
        cycle: str | None = None,
        n: int | None = None,
        axis: Axis = "all",
    ) -> Needed:
        """Return the smallest fresh share on the grid from which on an axis does not collapse.

        axis: diversity, correctness, distinct (different correct texts, which the phase leaves out), or all:
        diversity and correctness.
        """
        cycle, n = cycle or self.cycles[0], n or self.sizes[0]
        cells = sorted(self.at(cycle=cycle, temperature=temperature, n=n), key=lambda cell: cell.fresh_share)
        judged = [
            (cell.fresh_share, *_falls(self.lines, _kinds(axis), cell.kept, cell.correct_change, cell.last))
            for cell in cells
        ]
        share = _from_on(judged, lambda collapsed, sure: not collapsed)
        smaller = [cell.fresh_share for cell in cells if share is None or cell.fresh_share < share]
        surely = [fresh for fresh, collapsed, sure in judged if collapsed and sure]
        return Needed(
            cycle=cycle,
            n=n,
            temperature=temperature,
            axis=axis,
            share=share,
            below=max(smaller, default=None),
            low=max(surely, default=None),
            high=_from_on(judged, lambda collapsed, sure: not collapsed and sure),
        )

    def counted(self) -> dict[str, int]:
        """Return how many cells each phase has, and how many are uncertain or hide a loss."""
        found = Counter(cell.phase for cell in self.cells)
        return {
            **{phase: found[phase] for phase in PHASES},
            "uncertain": sum(not cell.certain for cell in self.cells),
            "hidden": sum(cell.hidden for cell in self.cells),
        }

    def definitions(self) -> dict[str, str]:
        """Return what counts as collapse, in words."""
        kept, lost = self.lines.kept, self.lines.lost
        base = "the control's mean (no loop; same temperature, size and seed)"
        if self.against == "first":
            base = "the first model's texts (there is no control)"
        last = "distinct_correct" if self.cells and self.cells[0].distinct_correct else "distinct"
        found = {
            "diversity": f"mean normalised edit distance at the end is below {kept:.0%} of {base}",
            "correctness": f"the correct share at the end is more than {lost:.2f} below {base}",
            "hidden": f"neither, but {last} texts at the end are below {kept:.0%} of {base}",
            "over seeds": "the median decides; the interval is the 95% t interval of the mean over seeds",
            "certain": "the line lies outside the interval on each axis, and at least "
            f"{SURE:.0%} of the seeds agree; never with one seed",
            "end": f"iteration {self.iterations}; a loop that ended before stays as it was",
        }
        if self.cells and self.cells[0].correct is None:
            found["correctness"] = "not known: the task has no verifier"
        return found

    # --- forms ------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return axes, definitions, cells and warnings as one document."""
        return {
            "axes": {
                "cycle": list(self.cycles),
                "temperature": list(self.temperatures),
                "fresh_share": list(self.fresh_shares),
                "n": list(self.sizes),
                "seed": list(self.seeds),
            },
            "iterations": self.iterations,
            "continued": self.continued,
            "against": self.against,
            "lines": asdict(self.lines),
            "definitions": self.definitions(),
            "phases": self.counted(),
            "cells": [cell.to_json() for cell in self.cells],
            "needed": [asdict(found) for found in self.thresholds()],
            "task": {"spec": self.task, **self.described},
            "trainer": self.trainer,
            "warnings": [{"code": w.code, "message": w.message, "records": []} for w in self.warnings],
        }

    def thresholds(self, axis: Axis = "all") -> list[Needed]:
        """Return the fresh share that is needed at each temperature, for each cycle and size."""
        return [
            self.needed(temperature, cycle=cycle, n=n, axis=axis)
            for cycle in self.cycles
            for n in self.sizes
            for temperature in self.temperatures
        ]

    def __str__(self) -> str:
        lines: list[str] = []
        for cycle in self.cycles:
            for n in self.sizes:
                lines += [f"{cycle}, n {n:,}", *self._diagram(cycle, n), ""]
        lines.append(
            "D diversity  C correctness  B both  . neither;  ? uncertain  * different "
            "texts collapsed unseen  ! first model too weak; beside it the share of diversity kept"
        )
        lines += [
            f"needed, {found.cycle}, n {found.n:,}, temperature {found.temperature:g}: {found}"
            for found in self.thresholds()
        ]
        return "\n".join([*lines, *(f"warning {w.code}: {w.message}" for w in self.warnings)])

    def _diagram(self, cycle: str, n: int) -> list[str]:
        rows = ["  fresh \\ T" + "".join(f"{temperature:>10g}" for temperature in self.temperatures)]
        places = {(c.temperature, c.fresh_share): c for c in self.cells if (c.cycle, c.n) == (cycle, n)}
        for share in sorted(self.fresh_shares, reverse=True):
            cells = [places[temperature, share] for temperature in self.temperatures]
            rows.append(f"  {share:>9.1%}" + "".join(f"{_short(cell):>10}" for cell in cells))
        return rows

    def __report__(self) -> tuple[Section, ...]:
        """Return the phase diagram, the fresh share that is needed, the table and curves as blocks."""
        from karat.simulation.phase_blocks import sections

        return sections(self)


# --- which share is needed ------------------------------------------------------------


def _kinds(axis: str) -> tuple[str, ...]:
    if axis not in ("all", "diversity", "correctness", "distinct"):
        raise InputError(f"axis is {axis!r}; take all, diversity, correctness or distinct")
    return ("diversity", "correctness") if axis == "all" else (axis,)


def _falls(
    lines: Lines, kinds: Sequence[str], kept: Spread, change: Spread | None, last: Spread
) -> tuple[bool, bool]:
    """Return whether one of the axes collapsed, and whether that is sure.

    One axis that surely collapsed is enough to be sure; that none did is sure only where each is.
    """
    judged = []
    for kind in kinds:
        figure, line = {
            "diversity": (kept, lines.kept),
            "correctness": (change, -lines.lost),
            "distinct": (last, lines.kept),
        }[kind]
        if figure is not None:
            judged.append((figure.below(line), figure.clear(line)))
    collapsed = any(low for low, _ in judged)
    if collapsed:
        return True, any(low and sure for low, sure in judged)
    return False, all(sure for _, sure in judged)


def _from_on(judged: Sequence[tuple[float, bool, bool]], holds: Callable[[bool, bool], bool]) -> float | None:
    """Return the smallest share for which something holds, and for all larger ones too."""
    found = None
    for share, collapsed, sure in reversed(judged):
        if not holds(collapsed, sure):
            break
        found = share
    return found


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return bool(one == other)
    return bool(abs(one - other) < WHERE)


def _short(cell: Cell) -> str:
    marks = ("*" if cell.hidden else "") + ("" if cell.certain else "?") + ("!" if cell.gate is False else "")
    return f"{LETTERS[cell.phase]}{marks} {cell.kept.value:.2f}"


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
