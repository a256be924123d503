"""One registry for all kinds of parts: found by file name, written `name:key=value`. Knows no part by itself.

A part is one file whose name is the part's name; the file defines a frozen dataclass with the
same name in CamelCase, and the dataclass fields are the part's settings. Looking a part up imports
that one file; listing imports nothing. A part in somebody's own package is found through an entry
point in the group `karat.<shelf>`.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from karat.errors import BadSetting, UnknownPart, did_you_mean
from karat.version import __version__

SHELVES: dict[str, str] = {
    "datatypes": "karat.datatypes",
    "executors": "karat.executors",
    "providers": "karat.generation.providers",
    "recipes": "karat.generation.recipes",
    "encoders": "karat.auditing.encoders",
    "metrics": "karat.auditing.metrics",
    "scorers": "karat.auditing.scorers",
    "filters": "karat.curation.filters",
    "orderings": "karat.curation.orderings",
    "mixtures": "karat.curation.mixtures",
    "trainers": "karat.training.trainers",
    "tasks": "karat.simulation.tasks",
    "cycles": "karat.simulation.cycles",
}

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}


@dataclass(frozen=True)
class Setting:
    """One setting of a part: its name, type, default and help."""

    name: str
    type: str
    default: Any
    required: bool


@dataclass(frozen=True)
class Description:
    """What `karat show` prints of a part."""

    shelf: str
    name: str
    summary: str
    text: str
    settings: tuple[Setting, ...]
    module: str
    spec: str


def names(shelf: str) -> tuple[str, ...]:
    """Return the names of all parts on a shelf, sorted; imports none of them."""
    return tuple(sorted({*_own(shelf), *_foreign(shelf)}))


def find(shelf: str, name: str) -> type[Any]:
    """Return the class of a part; imports its one file.

    Raises UnknownPart with the nearest name when there is none.
    """
    own = _own(shelf)
    key = name.replace("-", "_")
    if key in own:
        module = importlib.import_module(f"{SHELVES[shelf]}.{key}")
        part = getattr(module, camel(key), None)
        if part is None:
            raise AssertionError(f"{module.__name__} must define the class {camel(key)}")
        return typing.cast("type[Any]", part)
    foreign = _foreign(shelf)
    if name in foreign:
        return _load(shelf, foreign[name])
    kind = shelf[:-1]
    hint = did_you_mean(name, names(shelf))
    raise UnknownPart(f"no {kind} named {name!r}{hint} (see: karat list {shelf})")


def make(shelf: str, spec: Any, **defaults: Any) -> Any:
    """Return the part that a spec names; a part that is already made passes through.

    `spec` is `name` or `name:key=value,key=value`. `defaults` fill settings that the spec leaves out
    and that the part has; others are ignored. Raises UnknownPart or BadSetting.
    """
    if not isinstance(spec, str):
        return spec
    name, given = parse(spec)
    part = find(shelf, name)
    fields = {field.name: field for field in dataclasses.fields(part) if field.init}
    hints = _hints(part)
    values: dict[str, Any] = {key: value for key, value in defaults.items() if key in fields}
    where = f"{shelf[:-1]} {name!r}"
    for key, text in given.items():
        if key == "":
            # `name:value` names the first setting, so that `encoder:path` need not repeat itself
            if not fields:
                raise BadSetting(f"{where} takes no settings, but got {text!r}")
            key = next(iter(fields))
        if key not in fields:
            known = ", ".join(fields) or "none"
            raise BadSetting(f"{where} has no setting {key!r}{did_you_mean(key, fields)} (it has: {known})")
        values[key] = coerce(text, hints[key], f"{where}: setting {key!r}")
    missing = [
        key
        for key, field in fields.items()
        if key not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise BadSetting(f"{where} needs the setting {missing[0]!r}: write {name}:{missing[0]}=...")
    try:
        return part(**values)
    except ValueError as error:  # a part's own check in __post_init__
        raise BadSetting(f"{where}: {error}") from None


def make_all(shelf: str, specs: Iterable[Any] | str, **defaults: Any) -> tuple[Any, ...]:
    """Return the parts that several specs name; one string may hold several, separated by spaces."""
    if isinstance(specs, str):
        specs = specs.split()
    flat: list[Any] = []
    for spec in specs:
        flat.extend(spec.split() if isinstance(spec, str) else [spec])
    return tuple(make(shelf, spec, **defaults) for spec in flat)


def parse(spec: str) -> tuple[str, dict[str, str]]:
    """Split `name:key=value,key=value` into the name and its settings as text."""
    name, _, rest = spec.strip().partition(":")
    if not name:
        raise BadSetting(f"{spec!r} names no part; write name or name:key=value,key=value")
    settings: dict[str, str] = {}
    last = ""
    for piece in rest.split(",") if rest else ():
        key, equals, value = piece.partition("=")
        if not equals and settings:
            settings[last] += "," + piece  # a comma inside a value
            continue
        last = key.strip() if equals else ""
        settings[last] = value.strip() if equals else piece.strip()
    return name.strip(), settings


def name_of(part: Any) -> str:
    """Return the name under which a part (instance or class) is found."""
    cls = part if isinstance(part, type) else type(part)
    return str(getattr(cls, "part_name", "")) or snake(cls.__name__)


def settings(part: Any) -> dict[str, Any]:
    """Return a part's settings, in the order of their definition."""
    return {field.name: getattr(part, field.name) for field in dataclasses.fields(part) if field.init}


def spec_of(part: Any) -> str:
    """Return the spec from which `make` would make the same part again."""
    pairs = [f"{key}={_text(value)}" for key, value in settings(part).items() if value is not None]
    return name_of(part) + (":" + ",".join(pairs) if pairs else "")


def signature(part: Any, **extra: Any) -> str:
    """Return how a number was made: `distinct_n|n:2|tokens:word|version:0.1.0`."""
    pairs = {**settings(part), "version": __version__, **extra}
    shown = [f"{key}:{_text(value)}" for key, value in pairs.items() if value is not None]
    return "|".join([name_of(part), *shown])


def describe(shelf: str, name: str) -> Description:
    """Return what a part is, what it can be set to and where it comes from."""
    part = find(shelf, name)
    text = inspect.cleandoc(part.__doc__ or "")
    hints = _hints(part)
    found = []
    for field in dataclasses.fields(part):
        if not field.init:
            continue
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        default = None if required else field.default
        if not required and field.default is dataclasses.MISSING:
            assert field.default_factory is not dataclasses.MISSING
            default = field.default_factory()
        found.append(Setting(field.name, _type_name(hints[field.name]), default, required))
    pairs = ",".join(f"{s.name}={'...' if s.required else _text(s.default)}" for s in found)
    spec = name + (":" + pairs if pairs else "")
    return Description(shelf, name, text.split("\n")[0], text, tuple(found), part.__module__, spec)


def coerce(text: Any, annotation: Any, where: str) -> Any:
    """Return `text` as the annotated type; raises BadSetting naming the place, the value and the cure."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        for choice in arguments:
            if str(choice) == str(text):
                return choice
        raise BadSetting(f"{where} is {text!r}; choose one of: {', '.join(map(str, arguments))}")
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and str(text).lower() in ("none", "null", ""):
            return None
        choices = [argument for argument in arguments if argument is not type(None)]
        for choice in sorted(choices, key=lambda c: c is str):  # text takes anything, so it comes last
            try:
                return coerce(text, choice, where)
            except BadSetting:
                if choice is choices[-1]:
                    raise
    if origin is tuple:
        pieces = str(text).strip("()[]").split("+") if text else []
        return tuple(coerce(piece, arguments[0], where) for piece in pieces)
    if annotation is bool:
        if str(text).lower() in _TRUE | _FALSE:
            return str(text).lower() in _TRUE
        raise BadSetting(f"{where} is {text!r}; write true or false")
    if annotation in (int, float):
        try:
            return annotation(text)
        except (TypeError, ValueError):
            kind = "a whole number" if annotation is int else "a number"
            raise BadSetting(f"{where} is {text!r}, but must be {kind}") from None
    if annotation in (str, Any, Path):
        return str(text) if annotation is not Path else Path(str(text))
    return text


def camel(name: str) -> str:
    """Return the class name for a part's file name: `distinct_n` -> `DistinctN`."""
    return "".join(piece[:1].upper() + piece[1:] for piece in name.split("_"))


def snake(name: str) -> str:
    """Return the file name for a class name: `DistinctN` -> `distinct_n`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@cache
def _own(shelf: str) -> tuple[str, ...]:
    if shelf not in SHELVES:
        hint = did_you_mean(shelf, SHELVES)
        raise UnknownPart(f"no shelf named {shelf!r}{hint} (there are: {', '.join(SHELVES)})")
    # The path comes from this file and not from an import: listing must import nothing.
    folder = Path(__file__).parent.joinpath(*SHELVES[shelf].split(".")[1:])
    found = (file.stem for file in folder.glob("*.py"))
    return tuple(sorted(name for name in found if name != "base" and not name.startswith("_")))


def _foreign(shelf: str) -> dict[str, EntryPoint]:
    _own(shelf)
    return {point.name: point for point in entry_points(group=f"karat.{shelf}")}


def _load(shelf: str, point: EntryPoint) -> type[Any]:
    try:
        part = point.load()
    except Exception as error:
        raise UnknownPart(
            f"the {shelf[:-1]} {point.name!r} of {point.value} cannot be loaded: {error}; "
            "mend or uninstall its package"
        ) from error
    if not (isinstance(part, type) and dataclasses.is_dataclass(part)):
        raise UnknownPart(
            f"the {shelf[:-1]} {point.name!r} of {point.value} is not a dataclass; see CONTRIBUTING.md"
        )
    return part


_HINTS: dict[Any, dict[str, Any]] = {}


def _hints(part: type[Any]) -> dict[str, Any]:
    # Read again for every prompt and every answer otherwise, which takes longer than the rest of it.
    found = _HINTS.get(part)
    if found is None:
        found = _HINTS[part] = typing.get_type_hints(part)
    return found


def _type_name(annotation: Any) -> str:
    if typing.get_origin(annotation) is Literal:
        return " | ".join(map(str, typing.get_args(annotation)))
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "+".join(map(_text, value))
    return str(value)
