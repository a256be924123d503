"""Streams to be watched: numbers by step, from lists, files, rows and simulations. Knows no detector."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from karat.errors import InputError, NotEnoughData, did_you_mean
from karat.records import Records

Values = tuple[float | None, ...]


@dataclass(frozen=True)
class Stream:
    """One metric by step. `late` is another metric of the same steps, `baseline` what is known to be good."""

    name: str
    steps: tuple[int, ...]
    values: Values
    late: Values | None = None
    baseline: tuple[float, ...] = ()
    late_baseline: tuple[float, ...] = ()


@dataclass(frozen=True)
class Found:
    """All streams of a source, and those of its control, in which nothing changes."""

    streams: tuple[Stream, ...]
    controls: tuple[Stream, ...] = ()


def open_streams(source: Any, value: str, late: str, by: Sequence[str]) -> Found:
    """Return the streams of anything that holds some. Raises InputError, NotEnoughData."""
    if isinstance(source, str | os.PathLike):
        source = _read(Path(source), str(source))
    if hasattr(source, "runs") and hasattr(source, "controls"):
        source = _measured(source, value, late)
    if isinstance(source, Records):
        source = list(source)
    if isinstance(source, Mapping):
        return _simulation(source, value, late) if "runs" in source else _named(source, late)
    if isinstance(source, Iterable) and not isinstance(source, str | bytes):
        rows = list(source)
        if rows and all(isinstance(row, Mapping) for row in rows):
            return _rows(rows, value, late, by)
        if late:
            raise InputError(f"late={late!r} names a second metric, but the stream is one list of numbers")
        return Found((_stream("stream", rows),))
    raise InputError(
        f"a monitor cannot watch {type(source).__name__}; give numbers, records, a file or a simulation"
    )


def _read(path: Path, name: str) -> Any:
    kept = any((path / one).exists() for one in ("steps", "manifest.json"))  # a run, or one of its steps
    if path.is_dir() and (path / "result.json").exists() and not kept:
        path = path / "result.json"  # what --out left
    elif path.is_dir():
        return _folder(path)
    if path.suffix == ".json" and path.exists():
        try:
            found = json.loads(path.read_text("utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError):
            found = None  # perhaps a JSON object a line
        if isinstance(found, Mapping) and ("runs" in found or all(map(_several, found.values()))):
            return found
        if isinstance(found, list):
            return found
        if isinstance(found, Mapping) and any(
            isinstance(one, Mapping) or _several(one) for one in found.values()
        ):
            raise InputError(
                f"{name}: holds no streams (it has: {', '.join(map(str, list(found)[:6]))}); name what "
                "`karat simulate` left, rows, or an object of names with lists of numbers"
            )
    from karat.formats import read_rows

    return [row for _, row in read_rows(name)]


def _several(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _folder(path: Path) -> Any:
    """Return the last simulation that a run folder holds, or the one of a step's folder."""
    from karat.runs import read_result

    steps = [path / "manifest.json"]
    if not steps[0].exists():
        steps = sorted(path.glob("steps/*/manifest.json"), key=lambda step: step.stat().st_mtime)
        steps = [
            step for step in steps if str(json.loads(step.read_text("utf-8"))["type"]).endswith(":Simulated")
        ]
    found = read_result(steps[-1]) if steps else None
    if not hasattr(found, "runs"):
        raise InputError(f"{path}: holds no simulation; name the folder of a finished `karat simulate` step")
    return found


def _measured(found: Any, value: str, late: str) -> dict[str, Any]:
    """Return a simulation as its JSON has it, with the measures that are asked for alone."""

    def loops(several: Any) -> list[dict[str, Any]]:
        return [
            {
                "cycle": loop.cycle,
                "seed": loop.seed,
                "iterations": [
                    {"iteration": row.iteration, **{name: row.value(name) for name in (value, late) if name}}
                    for row in loop.iterations
                ],
            }
            for loop in several
        ]

    return {"runs": loops(found.runs), "controls": {"runs": loops(found.controls)}}


# ------------------------------------------------------------------------------------ kinds of sources


def _simulation(found: Mapping[str, Any], value: str, late: str) -> Found:
    """Return each cycle and seed as a stream; what is good is the control, at the same temperature."""
    runs = found["runs"]
    controls = found.get("controls") or {}
    controls = controls.get("runs", []) if isinstance(controls, Mapping) else controls
    if not runs:
        raise NotEnoughData("the simulation has no runs; nothing can be watched")
    _known(_flat(runs[0]["iterations"][0]), value, late)
    quiet = [_curve(run, "control", value, late) for run in controls]
    # The first model has seen no loop yet: it belongs to the baseline, once a seed.
    heads = {run["seed"]: _curve(run, "control", value, late, upto=1) for run in runs}
    begun = {run["seed"] for run in controls if run["iterations"] and run["iterations"][0]["iteration"] == 0}
    good = quiet + [head for seed, head in heads.items() if seed not in begun]
    if not quiet:
        return Found(tuple(_curve(run, run["cycle"], value, late) for run in runs))
    known = tuple(v for stream in good for v in stream.values if v is not None)
    known_late = tuple(v for stream in good for v in stream.late or () if v is not None)
    streams = []
    for run in runs:
        stream = _curve(run, run["cycle"], value, late, after=0)
        streams.append(Stream(stream.name, stream.steps, stream.values, stream.late, known, known_late))
    held_out = []
    for place, stream in enumerate(quiet):
        others = tuple(v for n, other in enumerate(good) if n != place for v in other.values if v is not None)
        held_out.append(Stream(stream.name, stream.steps, stream.values, None, others))
    return Found(tuple(streams), tuple(held_out) if len(quiet) > 1 else ())


def _curve(
    run: Mapping[str, Any], label: str, value: str, late: str, *, after: int = -1, upto: int | None = None
) -> Stream:
    rows = [_flat(row) for row in run["iterations"] if row["iteration"] > after][:upto]
    return Stream(
        f"{label}, seed {run['seed']}",
        tuple(int(row["iteration"]) for row in rows),
        tuple(_number(row.get(value), value) for row in rows),
        tuple(_number(row.get(late), late) for row in rows) if late else None,
    )


def _flat(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an iteration with the audit's metrics beside the measures, as `METRIC` and `audit:METRIC`."""
    audit = {name: one["value"] for name, one in (row.get("audit") or {}).items()}
    return {**{f"audit:{name}": one for name, one in audit.items()}, **audit, **row}


def _named(found: Mapping[str, Any], late: str) -> Found:
    """Return name -> numbers as streams; `late` names the one that the others are to foresee."""
    if late and late not in found:
        raise InputError(
            f"no stream {late!r}{did_you_mean(late, list(found))} (there are: {', '.join(found)})"
        )
    streams = []
    for name, values in found.items():
        if name == late:
            continue
        one = _stream(str(name), values)
        other = _stream(late, found[late]).values if late else None
        if other is not None and len(other) != len(one.values):
            raise InputError(
                f"{name} has {len(one.values):,} steps and {late} {len(other):,}; they must be the same"
            )
        streams.append(Stream(one.name, one.steps, one.values, other))
    if not streams:
        raise NotEnoughData("no stream is given; give at least one name with its numbers")
    return Found(tuple(streams))


def _rows(rows: Sequence[Mapping[str, Any]], value: str, late: str, by: Sequence[str]) -> Found:
    """Return a column of rows as one stream, or as one for each value of the columns `by`."""
    _known(rows[0], value, late, *by)
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        name = ", ".join(f"{key} {row.get(key)}" for key in by) or value
        grouped.setdefault(name, []).append(row)
    streams = []
    for name, own in grouped.items():
        one = _stream(name, [row.get(value) for row in own])
        other = _stream(late, [row.get(late) for row in own]).values if late else None
        streams.append(Stream(one.name, one.steps, one.values, other))
    return Found(tuple(streams))


def _known(row: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if name and name not in row:
            known = [key for key, one in row.items() if isinstance(one, int | float) or _numeric(one)]
            raise InputError(
                f"no column {name!r}{did_you_mean(name, known)} "
                f"(numbers are in: {', '.join(known) or 'none'}); name one with --value"
            )


def _numeric(value: Any) -> bool:
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def _stream(name: str, values: Any) -> Stream:
    if not isinstance(values, Iterable) or isinstance(values, str | bytes):
        raise InputError(f"{name}: is {type(values).__name__}, but a stream is a list of numbers")
    found = tuple(_number(value, f"{name}, step {step}") for step, value in enumerate(values))
    return Stream(name, tuple(range(len(found))), found)


def _number(value: Any, place: str) -> float | None:
    """Return a value as a number, and None for what was not measured (empty, None, nan, infinite)."""
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"{place}: {str(value)[:40]!r} is no number; name a column of numbers with --value"
        ) from None
    return number if math.isfinite(number) else None
