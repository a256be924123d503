"""Writes the pages of commands, parts and metrics from the program itself; a test checks them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from karat import registry
from karat.auditing.base import form_of
from karat.cli import COMMANDS, OTHERS, facts
from karat.cli_flags import build
from karat.training.stage import LABELLED

HERE = Path(__file__).parent
PAGES = {
    "recipes": "how prompts are made",
    "providers": "what answers",
    "filters": "which records go",
    "orderings": "which records come first",
    "mixtures": "how much of what",
    "trainers": "what is trained on records",
    "tasks": "what a loop learns",
    "cycles": "what a loop trains on next",
}
GUIDES = {
    "recipes": "generating",
    "providers": "generating",
    "tasks": "simulating",
    "cycles": "simulating",
}
"""shelf -> the page on how its parts work together, where it is not valuing"""
NOTE = "<!-- Written by docs/write.py; do not edit. -->"


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    found = {"commands.md": "\n".join(commands()) + "\n", "parts.md": "\n".join(parts()) + "\n"}
    found |= {f"{shelf}.md": "\n".join(shelf_page(shelf)) + "\n" for shelf in PAGES}
    found["metrics/README.md"] = "\n".join(metric_index()) + "\n"
    found |= {f"metrics/{name}.md": "\n".join(metric_page(name)) + "\n" for name in registry.names("metrics")}
    return found


def metric_index() -> Iterator[str]:
    """Yield the lines of the list of all metrics, family by family."""
    yield from (NOTE, "# Metrics", "", "Every metric, by family; `--metrics FAMILY` runs one family.")
    made = {name: registry.find("metrics", name) for name in registry.names("metrics")}
    for family in dict.fromkeys(metric.family for metric in made.values()):
        yield from ("", f"## {family}", "", "| metric | what it is |", "| --- | --- |")
        for name, metric in made.items():
            if metric.family == family:
                yield f"| [`{name}`]({name}.md) | {registry.describe('metrics', name).summary} |"


def metric_page(name: str) -> Iterator[str]:
    """Yield the lines of the page of one metric: what it measures, when it misleads, its source, its cost."""
    metric, found = registry.find("metrics", name), registry.describe("metrics", name)
    yield from (NOTE, f"# {name}", "", found.text, "")
    if found.settings:
        yield from ("| setting | type | default |", "| --- | --- | --- |")
        for setting in found.settings:
            kind = setting.type.replace("|", "\\|")
            yield f"| `{setting.name}` | {kind} | `{setting.default}` |"
        yield ""
    form = {"values": "one value a corpus", "between": "a distance of two corpora"}
    facts = {
        "Family": metric.family,
        "Reads": ", ".join(metric.datatypes) + " records",
        "Gives": form.get(form_of(metric), "a value of the candidate beside the reference"),
        "Compared at": {
            "all": "all records as they are",
            "records": "equal numbers of records",
            "lengths": "equal numbers of records of equal lengths",
            "tokens": "equal numbers of tokens",
            "bytes": "equal numbers of bytes",
        }[metric.size],
        "A higher value means": metric.higher,
        "When it misleads": metric.misleads,
        "Source": metric.source,
        "Cost": metric.cost,
    }
    for title, text in facts.items():
        if text:
            yield f"**{title}.** {text[0].upper() + text[1:].rstrip('.')}."
            yield ""
    for side, cure in metric.cure.items():
        yield f"**If {side} than in human data.** {cure}"
        yield ""
    published = " ".join(f"{key}={value}" for key, value in metric.paper.items())
    if published:
        yield f"**As published** (`--mode paper`): {published}"
        yield ""
    yield f"Write it `{found.spec}`."


def shelf_page(shelf: str) -> Iterator[str]:
    """Yield the lines of the page of a shelf: what `karat show` says of each of its parts."""
    yield from (NOTE, f"# {shelf.capitalize()}: {PAGES[shelf]}", "")
    guide = GUIDES.get(shelf, "valuing")
    yield f"How they work together: [{guide}.md]({guide}.md)."
    for name in registry.names(shelf):
        found = registry.describe(shelf, name)
        yield from ("", f"## {name}", "", found.text, "")
        if found.settings:
            yield from ("| setting | type | default |", "| --- | --- | --- |")
            for setting in found.settings:
                kind = setting.type.replace("|", "\\|")
                said = "" if setting.default in (None, "", ()) else f"`{written(setting.default)}`"
                default = "(needed)" if setting.required else said
                yield f"| `{setting.name}` | {kind} | {default} |"
        told = facts(registry.find(shelf, name))
        if shelf == "trainers":  # without types of its own it takes labelled texts
            told.setdefault("trains on", f"{' or '.join(LABELLED)} records, with labels")
        if told:
            yield from ("", *(f"- {fact}: {said.rstrip('.')}" for fact, said in told.items()))


def written(value: Any) -> str:
    """A default as it stands in a spec."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def commands() -> Iterator[str]:
    """Yield the lines of the page about commands."""
    yield from (NOTE, "# Commands", "")
    yield from (
        "Exit codes: 0 done; 2 you can mend it (one line on standard error); 3 stopped by a budget or an",
        "interrupt, with everything paid for kept; 1 a bug in karat. Files end in `.jsonl`, `.jsonl.gz`,",
        "`.csv` or `.parquet`, or are `-` (standard input) or `hf:NAME[/CONFIG][:SPLIT]`. Parts are written",
        "`name` or `name:key=value,key=value`; several are separated by spaces.",
    )
    for name, command in COMMANDS.items():
        yield from command_lines(name, build(command, lambda call: None))
    for name, function in OTHERS.items():
        yield from command_lines(name, function)
    yield from ("", "## Common to every command", "")
    yield from table(build(COMMANDS["audit"], lambda call: None), lambda group: "Common" in group)


def command_lines(name: str, function: Any) -> Iterator[str]:
    """Yield the heading, the summary and the flags of one command."""
    yield from ("", f"## karat {name}", "", (inspect.getdoc(function) or "").split("\n")[0], "")
    yield from table(function, lambda group: "Common" not in group)


def table(function: Any, shown: Any) -> Iterator[str]:
    """Yield the rows of a table of flags."""
    yield "| argument | value | default | |"
    yield "| --- | --- | --- | --- |"
    hints = typing.get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        kind, about = typing.get_args(hints[parameter.name])[:2]
        group = next(iter(about.group or ()), None)
        if not shown(group.name if group else ""):
            continue
        flags = about.name or ("--" + parameter.name.replace("_", "-"),)
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            flags = (parameter.name.upper(),)
        default = parameter.default
        if default is True and about.negative != "":
            flags += ("--no-" + flags[0].removeprefix("--"),)
        needed = default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL
        blank = default is None or default is False or default == () or default is parameter.empty
        text = "needed" if needed else "" if blank else f"`{default}`"
        words = (str(about.help).replace("|", "\\|"), value_of(kind))
        yield f"| {', '.join(f'`{flag}`' for flag in flags)} | {words[1]} | {text} | {words[0]} |"


def value_of(kind: Any) -> str:
    """Return what stands behind a flag, in words."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        return value_of(arguments[0]) + " ..."
    if arguments:
        return value_of(next(a for a in arguments if a is not type(None)))
    return {bool: "", int: "number", float: "number"}.get(kind, "text")


def parts() -> Iterator[str]:
    """Yield the lines of the page about parts."""
    yield from (NOTE, "# Parts", "")
    yield "What `karat list` and `karat show SHELF PART` print."
    yield "[CONTRIBUTING.md](../CONTRIBUTING.md) says how to add one."
    for shelf in registry.SHELVES:
        yield from ("", f"## {shelf}", "")
        if shelf in PAGES:
            yield from (f"What each setting means: [{shelf}.md]({shelf}.md).", "")
        yield from ("| part | settings | what it is |", "| --- | --- | --- |")
        for name in registry.names(shelf):
            found = registry.describe(shelf, name)
            settings = found.spec.partition(":")[2].replace(",", " ")
            cell = f"`{settings}`" if settings else ""
            yield f"| `{name}` | {cell} | {found.summary} |".replace("||", "| |")


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (HERE / name).parent.mkdir(exist_ok=True)
        (HERE / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
