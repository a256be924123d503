"""Makes a command from a stage function: flags from its signature, help from its docstring. Knows no stage.

Positional parameters of a stage are data and become files; keyword-only parameters are settings and
become flags. So the help, the signature and the manifest of a run come from one place.
"""

from __future__ import annotations

import ast
import collections.abc
import importlib
import importlib.util
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from karat import registry
from karat.errors import BadSetting, did_you_mean

# The command line fills these in itself.
FILLED = frozenset({"progress", "executor", "journal", "cache"})

# What stands for `-` while the arguments are parsed: the parser would take it for a flag.
_STANDARD_INPUT = "<standard input>"

# Conditions hold spaces and signs of their own, so each has its flag; parts may follow one flag together.
_ONE_AT_A_TIME = ("where", "fail_if")

_COMMON_HELP = {
    "seed": "Number from which all chance is drawn.",
    "budget": "One dial for sample sizes, trials and model sizes.",
    "executor": "Where work runs: local, local:workers=N (0: one a core), ray, ray:address=auto.",
    "json": "Print one JSON object on standard output.",
    "run": "Folder where steps and calls are kept; the same command again reuses them.",
    "fresh": "Ignore what is kept.",
    "quiet": "No progress on standard error.",
    "where": "FIELD=VALUE or FIELD!=VALUE: use only the rows of {file} that meet it; repeatable.",
    "type": "Data type of all files, where it cannot be told from the fields.",
    "text_field": "Name in the file of the field `text`; A+B joins two. Any field: --NAME-field; "
    "for one file only: --{file}-NAME-field.",
    "label_field": "Name in the file of the field `label`.",
}


@dataclass(frozen=True)
class Extra:
    """A flag of a command that its stage does not know, such as `--out`."""

    name: str
    type: Any
    default: Any
    help: str


@dataclass(frozen=True)
class Command:
    """A command and where its stage lies; `files` are the parameters that hold records.

    The first file is positional unless it is named in `flagged`. `finish` shows and keeps the result.
    """

    name: str
    home: str
    finish: Callable[[Call, Any], None]
    files: tuple[str, ...] = ()
    flagged: tuple[str, ...] = ()
    extras: tuple[Extra, ...] = ()
    read: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)  # what a text stands for
    positional: tuple[str, ...] = ()  # settings that are written without a flag
    optional: tuple[str, ...] = ()  # settings that the stage wants, but takes as None
    leaves: Mapping[str, str] = field(default_factory=dict)  # extra -> "file" of records or "folder"
    kept: bool = True  # as a step of the run folder
    anew: str = ""  # a setting that leaves something elsewhere, so that a kept step would not do
    journalled: bool = False  # the stage itself knows what is done, and reads files that a key cannot see
    journal: str = ""  # whose journal it shares, where not its own
    cells: bool = False  # its cache holds finished models, which `--fresh` must not find
    executor: str = "local"  # where the work runs unless the user says otherwise
    lines: bool = False  # a stage that takes minutes says where it is even when nobody looks


@dataclass(frozen=True)
class Call:
    """What the user typed, sorted: files, conditions, settings of the stage, flags of the command."""

    command: Command
    stage: Callable[..., Any]
    files: Mapping[str, str]
    where: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, Any]
    extras: Mapping[str, Any]
    common: Mapping[str, Any]
    step: Path | None = None  # the folder that keeps the result


def load(home: str) -> Callable[..., Any]:
    """Return the function named `package.module:function`."""
    module, _, name = home.partition(":")
    return typing.cast("Callable[..., Any]", getattr(importlib.import_module(module), name))


def summary(home: str) -> str:
    """Return the first docstring line of a function without importing its module."""
    module, _, name = home.partition(":")
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        return ""
    for node in ast.parse(Path(spec.origin).read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return (ast.get_docstring(node) or "").split("\n")[0]
    return ""


def setting_help(text: str, names: Sequence[str]) -> dict[str, str]:
    """Return the help of each setting from docstring lines `name: what it does`."""
    found: dict[str, str] = {}
    current = ""
    indent = 0
    for line in inspect.cleandoc(text).split("\n"):
        match = re.match(r"(\s*)`?(\w+)`?(?:\s*\([^)]*\))?\s*:\s*(\S.*)", line)
        if match and match[2] in names:
            current, indent = match[2], len(match[1])
            found[current] = match[3]
        elif current and line.strip() and len(line) - len(line.lstrip()) > indent:
            found[current] += " " + line.strip()
        else:
            current = ""
    return found


def cli_type(annotation: Any) -> tuple[Any, bool]:
    """Return the type that the command line reads for an annotation, and whether it takes several values."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return cli_type(arguments[0])
    if origin is Literal or annotation in (bool, int, float, str, Path):
        return annotation, False
    if origin in (typing.Union, types.UnionType):
        return _union_type([a for a in arguments if a is not type(None)])
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return str, False
    if isinstance(origin, type) and issubclass(origin, collections.abc.Iterable):
        return cli_type(arguments[0])[0] if arguments else str, True
    return str, False  # a part: written as text, made by the stage


def _union_type(choices: Sequence[Any]) -> tuple[Any, bool]:
    read = [cli_type(choice) for choice in choices]
    several = [kind for kind, many in read if many]
    if several:
        return several[0], True
    kinds = [kind for kind, _ in read]
    if len(kinds) == 1:
        return kinds[0], False
    if all(kind in (int, float) for kind in kinds):
        return float, False
    return str, False


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function; a name that only type checkers see becomes Any."""

    class Names(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            return Any

    module = importlib.import_module(function.__module__)
    known = Names({**vars(__import__("builtins")), **vars(module)})
    try:
        return typing.get_type_hints(function, vars(module), known)
    except TypeError:  # `Any | None` on an interpreter that has no such union
        return {}


def build(command: Command, run: Callable[[Call], None]) -> Callable[..., None]:
    """Return a function with the signature and the help of a command; calling it calls `run`."""
    from cyclopts import Group

    stage = load(command.home)
    files_group = Group("Files", sort_key=1)
    settings_group = Group("Settings", sort_key=2)
    common_group = Group("Common to every command", sort_key=3)
    parameters: list[inspect.Parameter] = []
    stage_parameters = inspect.signature(stage).parameters
    found_hints = hints(stage)
    help_texts = setting_help(stage.__doc__ or "", list(stage_parameters))

    positional = [name for name in command.files if name not in command.flagged][:1]
    for name in command.files:
        default = stage_parameters[name].default
        parameters.append(
            _parameter(
                name,
                str,
                default,
                help_texts.get(name, f"File with the {name} records."),
                files_group,
                positional=name in positional,
            )
        )
    for extra in command.extras:
        parameters.append(_parameter(extra.name, extra.type, extra.default, extra.help, settings_group))
    for name, given in stage_parameters.items():
        if name in command.files or name in FILLED:
            continue
        if given.kind not in (given.KEYWORD_ONLY, given.POSITIONAL_OR_KEYWORD):
            continue
        group = common_group if name in _COMMON_HELP else settings_group
        help_text = help_texts.get(name) or _COMMON_HELP.get(name, "")
        parameters.append(
            _parameter(
                name,
                found_hints.get(name, str),
                None if name in command.optional else given.default,
                help_text,
                group,
                positional=name in command.positional,
            )
        )
    parameters.extend(_common(command, {p.name for p in parameters}, common_group, files_group))

    def act(*args: Any, **kwargs: Any) -> None:
        bound = act.__signature__.bind(*args, **kwargs)  # type: ignore[attr-defined]
        bound.apply_defaults()
        run(_sort(command, stage, dict(bound.arguments)))

    first = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
    act.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*first, *(p for p in parameters if p.kind is not p.POSITIONAL_ONLY)]
    )
    act.__annotations__ = {p.name: p.annotation for p in parameters}
    act.__doc__ = (stage.__doc__ or "").strip().split("\n")[0]
    act.__name__ = command.name
    return act


def _parameter(
    name: str,
    annotation: Any,
    default: Any,
    help_text: str,
    group: Any,
    *,
    positional: bool = False,
) -> inspect.Parameter:
    from cyclopts import Parameter

    kind, several = cli_type(annotation)
    required = default is inspect.Parameter.empty
    if several:
        kind = tuple[kind, ...]  # type: ignore[valid-type]
        if not required:
            default = tuple(str(v) if kind == tuple[str, ...] else v for v in _several(default))
    elif not required and default is not None and not isinstance(default, bool | int | float | str | Path):
        default = None  # a part that the stage makes when nothing is said
    if default is None:
        kind = kind | None
    written = _written(name, several)
    # a flag that is off and a list that is empty need no words
    settings: dict[str, Any] = {
        "help": help_text[:1].upper() + help_text[1:],
        "group": group,
        "show_default": _shown if default is not False and default not in ((), None) else False,
    }
    if positional:
        settings["name"] = name.upper()
    else:
        settings["name"] = written
        settings["consume_multiple"] = several and not name.endswith(_ONE_AT_A_TIME)
        if kind is bool:
            settings["negative"] = "--no-" + written[0].lstrip("-") if default is True else ""
        else:
            settings["negative"] = ""
    return inspect.Parameter(
        name,
        inspect.Parameter.POSITIONAL_ONLY if positional else inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, Parameter(**settings)],
    )


def _shown(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _written(name: str, several: bool) -> tuple[str, ...]:
    """The flags of a setting: `-n`, `--top-p`; for several values `--cycles` and, one by one, `--cycle`."""
    long = "--" + name.replace("_", "-")
    if len(name) == 1:
        return ("-" + name, long)
    one = several and name.endswith("s") and name[:-1] not in _COMMON_HELP
    return (long, long[:-1]) if one else (long,)


def _several(default: Any) -> tuple[Any, ...]:
    if default is None:
        return ()
    return tuple(default.split()) if isinstance(default, str) else tuple(default)


def _common(command: Command, taken: set[str], common: Any, files: Any) -> list[inspect.Parameter]:
    """The flags that every command takes, even where its stage has no use for one."""
    first = command.files[0] if command.files else ""
    found: list[inspect.Parameter] = []

    def add(
        name: str, kind: Any, default: Any, group: Any = common, *, key: str = "", file: str = ""
    ) -> None:
        if name not in taken:
            text = _COMMON_HELP[key or name].format(file=(file or first).upper())
            found.append(_parameter(name, kind, default, text, group))

    if command.files:
        add("where", tuple[str, ...], (), files)
        for name in command.files[1:]:
            add(f"{name}_where", tuple[str, ...], (), files, key="where", file=name)
        add("type", str | None, None, files)
        add("text_field", str | None, None, files, file=command.files[-1].lower())
        add("label_field", str | None, None, files)
    add("seed", int, 0)
    add("budget", Literal["small", "medium", "large"], "medium")
    add("executor", str, command.executor)
    add("json", bool, False)
    add("run", str, ".karat")
    add("fresh", bool, False)
    add("quiet", bool, False)
    return found


def _sort(command: Command, stage: Callable[..., Any], values: dict[str, Any]) -> Call:
    parameters = inspect.signature(stage).parameters
    files = {name: values.pop(name) for name in command.files}
    files = {name: "-" if path == _STANDARD_INPUT else path for name, path in files.items()}
    where = {
        name: tuple(values.pop("where" if number == 0 else f"{name}_where", ()))
        for number, name in enumerate(command.files)
    }
    extras = {extra.name: values.pop(extra.name) for extra in command.extras}
    settings = {name: value for name, value in values.items() if name in parameters}
    common = {name: value for name, value in values.items() if name in _COMMON_HELP}
    executor = registry.make(
        "executors", values["executor"]
    )  # a wrong one is refused even where it has no use
    if "executor" in parameters:
        settings["executor"] = executor
    # None stands where the default is a part: the stage knows it better
    settings = {
        name: value
        for name, value in settings.items()
        if value is not None or parameters[name].default is None or name in command.optional
    }
    return Call(
        command, stage, {k: v for k, v in files.items() if v is not None}, where, settings, extras, common
    )


def take_fields(tokens: Sequence[str], files: Sequence[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Take `--NAME-field COLUMN` and `--FILE-NAME-field COLUMN` out of the arguments.

    Returns the other arguments, and for each file (and `""` for all) the names in the file. A new data
    type brings its own field names, so they cannot be a fixed list of flags.
    """
    rest: list[str] = []
    found: dict[str, dict[str, str]] = {"": {}}
    pending = list(tokens)
    while pending:
        token = pending.pop(0)
        if token == "--":
            return [*rest, token, *pending], found
        match = re.fullmatch(r"--([a-z0-9_-]+)-field(?:=(.*))?", token, flags=re.DOTALL)
        if not match:
            rest.append(_STANDARD_INPUT if token == "-" else token)
            continue
        name, value = match[1].replace("-", "_"), match[2]
        if value is None:
            if not pending:
                raise BadSetting(f"{token} needs the name of a field: {token} FIELD")
            value = pending.pop(0)
        file = next((f for f in files if name.startswith(f + "_") and name not in _field_names()), "")
        name = name.removeprefix(file + "_") if file else name
        if name not in _field_names():
            flags = [f"--{known.replace('_', '-')}-field" for known in _field_names()]
            raise BadSetting(
                f"unknown option {token.split('=')[0]}{did_you_mean(token.split('=')[0], flags)}"
            )
        found.setdefault(file, {})[name] = value
    return rest, found


def _field_names() -> tuple[str, ...]:
    kinds = [registry.find("datatypes", name) for name in registry.names("datatypes")]
    names = {name for kind in kinds for form in kind.forms for name in form}
    names |= {name for kind in kinds for name in kind.optional}
    return tuple(sorted(names | {"id"}))
