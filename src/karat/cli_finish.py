"""What leaves a command: a table or JSON on standard output, files, the verdict of a gate. Knows no stage."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from karat import blocks, console
from karat.cli_flags import Call
from karat.errors import BadSetting, GateFailed, InputError, did_you_mean
from karat.version import __version__


def show(call: Call, result: Any, **more: Any) -> dict[str, Any]:
    """Print a result as JSON or as tables; returns the JSON object."""
    found = {"karat": __version__, "command": call.command.name, **result.to_json(), **more}
    if call.step is not None:
        found["step"] = str(call.step)
    if call.common["json"]:
        console.write_json(found)
    else:
        console.draw(result.__report__())
    return found


def note(call: Call, text: str) -> None:
    """Say where something was left; not when only JSON is wanted."""
    if not call.common["json"] and not call.common["quiet"]:
        sys.stdout.write(text + "\n")


def report(call: Call, result: Any) -> None:
    """Show a result; with `--out DIR` leave report.html and result.json there."""
    found = show(call, result)
    out = call.extras.get("out")
    if out is not None:
        from karat.reporting.stage import report as write_report

        folder = Path(out)
        write_report(result, out=folder / "report.html", title=f"karat {call.command.name}")
        console.write_atomically(folder / "result.json", console.to_json_bytes(found))
        note(call, f"report: {folder / 'report.html'}")


def audit(call: Call, result: Any) -> None:
    """Show an audit, leave its report, and then hold it against the gate."""
    report(call, result)
    for condition in call.extras["fail_if"]:
        check_gate(read_gate(condition), result.to_json()["scores"])


def train(call: Call, result: Any) -> None:
    """Show the scores of a model; leave its predictions where asked."""
    report(call, result)
    path = call.extras["predictions"]
    if path is not None:
        from karat.records import from_rows

        rows = [
            {"id": p.id, "text": p.text, "label": p.predicted, "gold": p.gold, "probability": p.probability}
            for p in result.predictions
        ]
        from_rows(rows).write(path)
        note(call, f"predictions: {path}")


def generate(call: Call, result: Any) -> None:
    """Leave the generated records and say what they cost."""
    written = _write(result.records, call.extras["out"])
    show(call, result, out=written)
    if written:
        note(call, f"records: {written}")


def curate(call: Call, result: Any) -> None:
    """Leave the kept records, and the dropped ones with their reasons."""
    kept = _write(result.kept, call.extras["out"])
    dropped = _write(result.dropped, call.extras["dropped"])
    show(call, result, out=kept, dropped_out=dropped)
    for name, path in (("kept", kept), ("dropped", dropped)):
        if path:
            note(call, f"{name}: {path}")


def _write(records: Any, path: str | None) -> str | None:
    return str(records.write(path)) if path is not None else None


_FIELDS = ("value", "reference", "difference", "p", "chance", "best", "n")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


@dataclass(frozen=True)
class Gate:
    """A condition `SCORE[:KEY=VALUE][.FIELD] OP NUMBER` on the scores of an audit."""

    text: str
    name: str
    settings: Mapping[str, str]
    field: str
    operator: str
    limit: float


def read_gate(text: str) -> Gate:
    """Return the condition that a text states. Raises BadSetting."""
    match = re.fullmatch(r"\s*(\w+)(?::([^\s<>!.]+?))?(?:\.(\w+))?\s*(<=|>=|==|!=|<|>)\s*(\S+)\s*", text)
    try:
        limit = float(match[5]) if match else float("nan")
    except ValueError:
        match = None
    if match is None:
        raise BadSetting(
            f"--fail-if {text!r} cannot be read; write SCORE[.FIELD] OP NUMBER, as in 'two_sample_auc > 0.8'"
        )
    key = match[3] or "value"
    if key not in _FIELDS:
        raise BadSetting(
            f"--fail-if {text!r}: no field {key!r}{did_you_mean(key, _FIELDS)} "
            f"(there are: {', '.join(_FIELDS)})"
        )
    pairs = dict(pair.partition("=")[::2] for pair in (match[2] or "").split(",") if pair)
    return Gate(text, match[1], pairs, key, match[4], limit)


def check_gate(gate: Gate, scores: Sequence[Mapping[str, Any]]) -> None:
    """Raise GateFailed when the condition holds for any score of its name.

    A score that could not be computed fails too: a gate that cannot be checked is not passed.
    """
    found = [
        score for score in scores if score["name"] == gate.name and _has(score["settings"], gate.settings)
    ]
    if not found:
        known = sorted({str(score["name"]) for score in scores})
        raise BadSetting(
            f"--fail-if {gate.text!r}: no score named {gate.name!r} with these settings"
            f"{did_you_mean(gate.name, known)} (there are: {', '.join(known)})"
        )
    for score in found:
        place = "".join(f" {field}={part}" for field, part in (score.get("by") or {}).items())
        value = score[gate.field]
        if value is None:
            reason = score.get("note") or "it needs a reference or more records"
            raise GateFailed(
                f"--fail-if {gate.text!r} cannot be checked: {gate.name}{place} has no {gate.field}; {reason}"
            )
        if _COMPARE[gate.operator](value, gate.limit):
            raise GateFailed(f"--fail-if {gate.text!r} holds: {gate.name}{place} {gate.field} is {value:.6g}")


def _has(settings: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    return all(str(settings.get(key)).lower() == value.lower() for key, value in wanted.items())


def check(call: Call) -> None:
    """Refuse before the work what would fail after it: an unreadable gate, a file name of no known format."""
    from karat.formats import format_of

    for condition in call.extras.get("fail_if", ()):
        read_gate(condition)
    for name in ("out", "dropped", "predictions"):
        path = call.extras.get(name)
        if path is None:
            continue
        if call.command.leaves.get(name) == "file":
            format_of(Path(path))
            if Path(path).is_dir():
                raise InputError(f"--{name} {path}: is a folder; name a file in it")
        elif Path(path).is_file():
            raise InputError(f"--{name} {path}: is a file; name a folder")


def kept_results(path: Path) -> list[Any]:
    """Return the results that a JSON file, a step's folder or a run folder points to."""
    from karat.runs import read_result

    if not path.exists():
        near = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file or folder{did_you_mean(str(path), near)}")
    if path.is_dir() and not (path / "manifest.json").exists():
        steps = sorted(path.glob("steps/*/manifest.json"), key=lambda p: p.stat().st_mtime)
        if not steps:
            raise InputError(f"{path}: no finished steps in it; name a run folder such as .karat")
        return [read_result(step) for step in steps]
    if path.is_dir() or path.name == "manifest.json":
        return [read_result(path)]
    try:
        found = json.loads(path.read_text("utf-8"))
        step = Path(found["step"])
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{path}: not JSON left by a karat command; name a result.json or a folder of .karat/steps"
        ) from None
    return [read_result(step if step.exists() else path.parent / step)]


def read_task(path: str) -> Any:
    """Return the task that a TOML file describes."""
    from karat.generation.base import Task

    return Task.from_toml(path)


def demo(call: Call, result: Any) -> None:
    """Say in a few lines what the demo found and where its report is."""
    if call.common["json"]:
        show(call, result)
        return
    found = [
        blocks.Section(section.title, headlines)
        for section in result.__report__()
        if (headlines := tuple(b for b in section.blocks if isinstance(b, blocks.Headline)))
    ]
    console.draw(found)
    sys.stdout.write(f"{result}\n")
