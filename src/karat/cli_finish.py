"""What leaves a command: a table or JSON on standard output, files, the verdict of a gate. Knows no stage."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from karat import blocks, console
from karat.cli_flags import Call
from karat.errors import BadSetting, GateFailed, InputError, NotEnoughData, did_you_mean
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
        _gate(condition, result)


def train(call: Call, result: Any) -> None:
    """Show the scores of a model; leave its predictions where asked."""
    report(call, result)
    path = call.extras["predictions"]
    if path is not None:
        from karat.records import from_rows

        rows = [
            {
                "id": p.id,
                "text": p.text,
                "label": p.predicted,
                "gold": p.gold,
                "probability": p.probability,
                "gold_probability": p.gold_probability,
            }
            for p in result.predictions
        ]
        from_rows(rows, datatype="text").write(path)
        note(call, f"predictions: {path}")


def generate(call: Call, result: Any) -> None:
    """Leave the generated records, the rejected rows with their reasons, and say what they cost."""
    written = None if result.dry_run else _write(result.records, call.extras["out"])
    rejected = call.extras["rejected"]
    if rejected is not None and not result.dry_run:
        result.write_rejected(rejected)
    show(call, result, out=written, rejected_out=rejected)
    for name, path in (("records", written), ("rejected", rejected)):
        if path and not result.dry_run:
            note(call, f"{name}: {path}")
    if not result.dry_run and not len(result.records):
        made = getattr(result, "made", result)
        reasons = made.to_json()["rejected"]["reasons"]
        most = next(iter(reasons.items()), ("nothing was answered", 0))
        raise NotEnoughData(
            f"no record came of {len(made.plan):,} planned rows; most often ({most[1]:,}): {most[0]}; the "
            "answers are kept, see them with --rejected FILE"
        )


def attributes(call: Call, result: Any) -> None:
    """Leave the task file with its attributes, and say what was found and taken out."""
    path = Path(call.extras["out"])
    console.write_atomically(path, result.task.to_toml().encode("utf-8", "replace"))
    show(call, result, out=str(path))
    note(call, f"task: {path}")


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


def _gate(condition: str, result: Any) -> None:
    """Raise GateFailed when a condition holds; the message gives the figures that it looked at."""
    if not result.fails(condition):
        return
    figures = []
    for name in _names(condition):
        metric, dot, field = name.rpartition(".")
        if not dot or ":" in field:
            figures.append(f"{name} is {result.score(name).value:.6g}")
        elif metric != "warnings":
            figures.append(f"{metric} is {result.score(metric).value:.6g}")
    found = f": {', '.join(dict.fromkeys(figures))}" if figures else ""
    raise GateFailed(f"--fail-if {condition!r} holds{found}")


def _names(condition: str) -> list[str]:
    """Return the scores that a condition names. Raises BadSetting when it cannot be read."""
    from karat.auditing.gate import holds

    names: list[str] = []

    def look(name: str) -> float:
        names.append(name)
        return 0.0

    holds(condition, look)
    return names


def check(call: Call) -> None:
    """Refuse before the work what would fail after it: an unreadable gate, a file name of no known format."""
    from karat.formats import format_of

    for condition in call.extras.get("fail_if", ()):
        _names(condition)
    for name in ("out", "dropped", "predictions", "rejected"):
        path = call.extras.get(name)
        if path is None:
            continue
        if call.command.leaves.get(name) in ("file", "task"):
            if call.command.leaves[name] == "file":
                format_of(Path(path))
            if Path(path).is_dir():
                raise InputError(f"--{name} {path}: is a folder; name a file in it")
        elif Path(path).is_file():
            raise InputError(f"--{name} {path}: is a file; name a folder")
    rejected = call.extras.get("rejected")
    if rejected is not None and Path(rejected).suffix.lower() != ".jsonl":
        raise InputError(
            f"--rejected {rejected}: rejected rows are written as JSONL; let the name end in .jsonl"
        )
    for name in ("dropped", "rejected"):
        path, kept = call.extras.get(name), call.extras.get("out")
        if path is not None and kept is not None and Path(path).resolve() == Path(kept).resolve():
            raise InputError(f"--{name} {path}: is what --out names too; name another file")
    name = call.command.name
    if name in ("generate", "annotate") and call.extras["out"] is None and not call.settings["dry_run"]:
        raise BadSetting(f"{name} needs --out FILE for the records (or --dry-run for the plan and its price)")
    if name == "attributes" and call.extras["out"] is None:
        raise BadSetting("attributes needs --out FILE for the task file that it writes")


def kept_results(path: Path) -> list[Any]:
    """Return the results that a JSON file, what --out left, a step's folder or a run folder points to."""
    from karat.runs import read_result

    if not path.exists():
        near = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file or folder{did_you_mean(str(path), near)}")
    if path.is_dir() and not (path / "manifest.json").exists():
        steps = sorted(path.glob("steps/*/manifest.json"), key=lambda p: p.stat().st_mtime)
        if not steps and (path / "result.json").exists():
            return kept_results(path / "result.json")
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
    from karat.generation.tasks import Task

    return Task.from_toml(path)


def read_source(path: str) -> Any:
    """Return what a forecast begins with: a kept simulation, or human records."""
    place = Path(path)
    if not place.is_dir() and place.suffix != ".json":
        from karat.records import read

        return read(path)
    from karat.simulation.result import Simulated

    found = [result for result in kept_results(place) if isinstance(result, Simulated)]
    if not found:
        raise InputError(f"{path}: holds no simulation; run karat simulate first, or name human records")
    return found[-1]


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
