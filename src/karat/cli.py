"""The command line: one command a stage, and what leaves each of them. Knows files and exit codes, no method.

Exit codes: 0 done; 2 the user can mend it (one line on standard error); 3 stopped by a budget or an
interrupt, with everything paid for kept; 1 our bug.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from karat import cli_finish, console, registry
from karat.cli_flags import Call, Command, Extra, build, summary, take_fields
from karat.errors import BadSetting, Interrupted, KaratError, did_you_mean
from karat.version import __version__

if TYPE_CHECKING:
    from karat.runs import Run

_PILOT = "--pilot"
_AUTO = "--auto"
_ABOUT = "What LLM-generated training data is worth, and how to make it worth more."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    if not sys.warnoptions:
        import warnings

        # Libraries warn in the middle of a table; what a user must know stands in the result.
        warnings.simplefilter("ignore")
    try:
        _run(tokens)
        sys.stdout.flush()
    except KaratError as error:
        return _say(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _say(
            "interrupted; what was finished is kept, and the same command continues", Interrupted.exit_code
        )
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone; that is no error, but Python would say so at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            return _bug(error)
        return _say(
            f"{error.filename}: {error.strerror or error}; check the path, the rights and the space", 2
        )
    except Exception as error:
        return _bug(error)
    return 0


def _say(message: str, code: int) -> int:
    sys.stderr.write(f"karat: {' '.join(message.split())}\n")
    return code


def _bug(error: BaseException) -> int:
    traceback.print_exception(type(error), error, error.__traceback__)
    return _say(f"this is a bug in karat {__version__}; please report it with the lines above", 1)


def _run(tokens: Sequence[str]) -> None:
    if tokens[:1] == ["generate"] and _PILOT in tokens:
        # The same words, but other flags: a pilot takes several providers and recipes, and leaves a report.
        tokens = ["pilot", *(token for token in tokens[1:] if token != _PILOT)]
    if tokens[:1] == ["curate"] and _AUTO in tokens:
        tokens = ["auto-curate", *(token for token in tokens[1:] if token != _AUTO)]
    chosen = COMMANDS.get(tokens[0]) if tokens else None
    fields: dict[str, dict[str, str]] = {}
    if chosen and chosen.files:
        tokens, fields = take_fields(tokens, chosen.files)
    app = application(chosen, lambda call: _execute(call, fields))
    try:
        app(list(tokens))
    except CycloptsError as error:
        raise _parse_error(error, tokens) from None


def application(chosen: Command | None, run: Callable[[Call], None]) -> App:
    """Return the parser. Only the chosen command is made whole; the others lend their name and summary."""
    app = App(
        name="karat",
        help=_ABOUT,
        version=__version__,
        help_format="plaintext",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for number, command in enumerate(COMMANDS.values()):
        function = build(command, run) if command is chosen else _placeholder(command)
        app.command(function, name=command.name, sort_key=number)
    for number, (name, function) in enumerate(OTHERS.items(), len(COMMANDS)):
        app.command(function, name=name, sort_key=number)
    return app


def _placeholder(command: Command) -> Callable[[], None]:
    def nothing() -> None:
        raise AssertionError("a command that was not chosen does not run")

    nothing.__doc__ = summary(command.home)
    return nothing


# The parser's messages, in the words and the form of all other errors. One that is not listed passes.
_REWORDED = (
    (r'^Command "[^"]*" parameter "?(\S+?)"? requires an argument$', r"\1 is missing"),
    (r"^Parameter (\S+) requires an argument$", r"\1 is missing"),
    (r"^([A-Z]+) is missing$", r"\1 is missing; it comes before flags that take several values"),
    (r"^Unused Tokens: \['(.*?)'.*\]$", r"unexpected argument '\1'"),
    (r"^Unknown option: ", "unknown option "),
    (r'^Invalid value "(.*?)" for (\S+)\. Choose from: (.*)$', r"\2 is '\1'; choose one of: \3"),
    (
        r'^Invalid value for (\S+): unable to convert "(.*)" into int$',
        r"\1 is '\2', but must be a whole number",
    ),
    (r'^Invalid value for (\S+): unable to convert "(.*)" into float$', r"\1 is '\2', but must be a number"),
    (r"\. Did you mean (.*?)\?$", r"; did you mean \1?"),
)


def _parse_error(error: CycloptsError, tokens: Sequence[str]) -> BadSetting:
    """Say what is wrong with the arguments in the one line that all errors have."""
    known = [*COMMANDS, *OTHERS]
    if not tokens or tokens[0] not in known:
        word = tokens[0] if tokens else ""
        kind = "option" if word.startswith("-") else "command"
        return BadSetting(f"no {kind} named {word!r}{did_you_mean(word, known)} (see: karat --help)")
    error.verbose = False
    message = " ".join(str(error).split()).rstrip(".")
    for pattern, words in _REWORDED:
        message = re.sub(pattern, words, message)
    return BadSetting(f"{message.replace(chr(34), '')} (see: karat {tokens[0]} --help)")


def _execute(call: Call, fields: dict[str, dict[str, str]]) -> None:
    """Read the files, run the stage as a step of the run folder, and hand the result on."""
    from karat.runs import Run

    command, common = call.command, call.common
    cli_finish.check(call)
    settings = {
        name: command.read[name](value) if name in command.read and value is not None else value
        for name, value in call.settings.items()
    }
    for name, path in call.files.items():
        renamed = {**fields.get("", {}), **fields.get(name, {})}
        settings[name] = _read(path, call, where=call.where[name], fields=renamed)
    fresh = bool(common["fresh"])
    run = Run(Path(common["run"]), fresh=fresh or command.journalled)
    taken = inspect.signature(call.stage).parameters
    with console.progress(quiet=bool(common["quiet"]), lines=command.lines) as progress:
        placed: dict[str, Any] = {}
        if "progress" in taken:
            placed["progress"] = progress
        if "journal" in taken:
            placed["journal"] = _journal(run, command.journal or command.name, fresh)
        if "cache" in taken:
            placed["cache"] = (
                _journal(run, f"{command.name}-models", fresh) if command.cells else run.work("vectors")
            )
        if not command.kept or (command.anew and settings.get(command.anew) is not None):
            result = call.stage(**settings, **placed)
        else:
            result = run.step(call.stage, **settings, **placed)
            call = dataclasses.replace(call, step=run.home(call.stage, **settings))
    command.finish(call, result)


def _journal(run: Run, name: str, fresh: bool) -> Path:
    """The folder of a stage's own journal; `--fresh` takes a new one, as the old answers cost money."""
    folder = run.work(name)
    kept = sorted((int(path.name) for path in folder.iterdir() if path.name.isdigit()), reverse=True)
    latest = kept[0] if kept else 0
    return run.work(f"{name}/{latest + fresh}")


def _read(path: str, call: Call, *, where: Sequence[str], fields: dict[str, str]) -> Any:
    from karat.records import read

    scratch = Path(call.common["run"]) / "work"
    return read(path, where=where, datatype=call.common.get("type"), fields=fields or None, scratch=scratch)


JSON = Annotated[bool, Parameter(help="Print one JSON object on standard output.", negative="")]
Quiet = Annotated[bool, Parameter(help="No progress on standard error.", negative="")]


def list_parts(
    shelf: Annotated[str | None, Parameter(help="One shelf; all of them when not given.")] = None,
    /,
    *,
    json: JSON = False,
) -> None:
    """List the parts there are: metrics, filters, providers and so on."""
    shelves = [shelf] if shelf else list(registry.SHELVES)
    rows = [(kind, name, _part_summary(kind, name)) for kind in shelves for name in registry.names(kind)]
    if json:
        parts = [{"shelf": kind, "name": name, "summary": text} for kind, name, text in rows]
        console.write_json({"karat": __version__, "command": "list", "parts": parts})
    else:
        console.table([("shelf", "text"), ("part", "text"), ("what it is", "text")], rows)


def _part_summary(shelf: str, name: str) -> str:
    """The first docstring line of a part, read from its file; a part of another package says where it is."""
    from importlib.metadata import entry_points

    for point in entry_points(group=f"karat.{shelf}", name=name):
        return f"from {point.value}"
    return summary(f"{registry.SHELVES[shelf]}.{name}:{registry.camel(name)}")


def show_part(
    shelf: Annotated[str, Parameter(help="A shelf, such as metrics (see: karat list).")],
    part: Annotated[str, Parameter(help="A part on it.")],
    /,
    *,
    json: JSON = False,
) -> None:
    """Show one part: what it does, its settings with their defaults, its source and signature."""
    found = registry.describe(shelf, part)
    cls = registry.find(shelf, part)
    needed = [setting.name for setting in found.settings if setting.required]
    signature = None if needed else registry.signature(registry.make(shelf, part))
    source = inspect.getsourcefile(cls) or found.module
    settings = [
        {"name": s.name, "type": s.type, "default": s.default, "required": s.required} for s in found.settings
    ]
    if json:
        shown: dict[str, Any] = {
            "shelf": shelf,
            "name": found.name,
            "summary": found.summary,
            "text": found.text,
        }
        shown |= {"settings": settings, "spec": found.spec, "signature": signature, **facts(cls)}
        shown |= {"module": found.module, "source": source}
        console.write_json({"karat": __version__, "command": "show", **shown})
        return
    sys.stdout.write(found.text + "\n\n")
    if settings:
        rows = [(s["name"], s["type"], "(needed)" if s["required"] else s["default"]) for s in settings]
        console.table([("setting", "text"), ("type", "text"), ("default", "text")], rows)
    for fact, said in facts(cls).items():
        sys.stdout.write(f"{fact:<10} {said}\n")
    sys.stdout.write(f"write      {found.spec}\n")
    if signature:
        sys.stdout.write(f"signature  {signature}\n")
    sys.stdout.write(f"file       {source}\n")


def facts(part: type[Any]) -> dict[str, str]:
    """What a part says of itself besides its docstring: source, cost, when it misleads, what it makes."""
    names = {"family": "family", "higher": "higher", "misleads": "misleads", "cost": "cost", "source": "from"}
    found = {shown: getattr(part, name, "") for name, shown in names.items()}
    if isinstance(types := getattr(part, "types", ()), tuple) and types:
        verb = "trains on" if hasattr(part, "fit") else "makes"
        found[verb] = f"{' or '.join(types)} records"
    if isinstance(needs := getattr(part, "needs", ()), frozenset) and needs:
        found["needs"] = " and ".join(f"--{need}" for need in sorted(needs))
    return {shown: said for shown, said in found.items() if isinstance(said, str) and said}


def report_results(
    *results: Annotated[
        Path,
        Parameter(help="JSON left by a command, a step's folder (.karat/steps/...) or a whole run folder."),
    ],
    out: Annotated[Path, Parameter(help="The HTML file to write.")],
    title: Annotated[str, Parameter(help="Heading of the page.")] = "karat report",
    json: JSON = False,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained HTML page that shows kept results."""
    from karat.reporting.stage import report

    if not results:
        raise BadSetting("report needs at least one result: karat report RESULT... --out FILE.html")
    found = [result for path in results for result in cli_finish.kept_results(path)]
    with console.progress(quiet=quiet) as progress:
        path = report(*found, out=out, title=title, progress=progress)
    if json:
        console.write_json(
            {"karat": __version__, "command": "report", "report": str(path), "results": len(found)}
        )
    elif not quiet:
        sys.stdout.write(f"report: {path}\n")


_OUT = Extra("out", str, None, "Folder for report.html and result.json.")
_FOLDER = {"out": "folder"}

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command(
            "demo",
            "karat.demo:demo",
            cli_finish.demo,
            kept=False,
            lines=True,
            executor="local:workers=2",
        ),
        Command(
            "generate",
            "karat.generation.stage:generate",
            cli_finish.generate,
            files=("human", "items", "test"),
            flagged=("human", "items", "test"),
            read={"task": cli_finish.read_task},
            optional=("task",),
            journalled=True,
            lines=True,
            extras=(
                Extra("out", str, None, "File for the records: .jsonl, .jsonl.gz, .csv or .parquet."),
                Extra("rejected", str, None, "File for the rejected rows, each with its reason (JSONL)."),
                Extra("pilot", bool, False, "Compare providers and recipes on few rows (see: karat pilot)."),
            ),
            leaves={"out": "file", "rejected": "file"},
        ),
        Command(
            "pilot",
            "karat.piloting.stage:pilot",
            cli_finish.report,
            files=("human", "items", "test"),
            flagged=("human", "items", "test"),
            read={"task": cli_finish.read_task},
            optional=("task",),
            journalled=True,
            journal="generate",  # the run that follows finds there what the pilot has paid for
            lines=True,
            extras=(_OUT,),
            leaves=_FOLDER,
        ),
        Command(
            "attributes",
            "karat.generation.engineering:attributes",
            cli_finish.attributes,
            files=("human",),
            flagged=("human",),
            read={"task": cli_finish.read_task},
            journalled=True,
            lines=True,
            extras=(Extra("out", str, None, "The task file to write (TOML), to be read and edited."),),
            leaves={"out": "task"},
        ),
        Command(
            "annotate",
            "karat.generation.annotating:annotate",
            cli_finish.generate,
            files=("items",),
            read={"task": cli_finish.read_task},
            journalled=True,
            extras=(
                Extra("out", str, None, "File for the records: .jsonl, .jsonl.gz, .csv or .parquet."),
                Extra("rejected", str, None, "File for the rejected rows, each with its reason (JSONL)."),
            ),
            leaves={"out": "file", "rejected": "file"},
        ),
        Command(
            "audit",
            "karat.auditing.stage:audit",
            cli_finish.audit,
            files=("candidate", "reference"),
            extras=(
                _OUT,
                Extra(
                    "fail_if",
                    tuple[str, ...],
                    (),
                    "Exit with 2 when this holds: 'two_sample_auc > 0.8 or length.p < 0.01'; repeatable.",
                ),
            ),
            leaves=_FOLDER,
        ),
        Command(
            "curate",
            "karat.curation.stage:curate",
            cli_finish.curate,
            files=("candidate", "reference"),
            extras=(
                Extra("out", str, None, "File for the kept records: .jsonl, .jsonl.gz, .csv or .parquet."),
                Extra("dropped", str, None, "File for the dropped records, each with its reason."),
                Extra("auto", bool, False, "Search for the best curation (see: karat auto-curate)."),
            ),
            leaves={"out": "file", "dropped": "file"},
        ),
        Command(
            "auto-curate",
            "karat.valuation.auto:auto_curate",
            cli_finish.curate,
            files=("candidate", "reference", "test"),
            extras=(
                Extra("out", str, None, "File for the kept records: .jsonl, .jsonl.gz, .csv or .parquet."),
                Extra("dropped", str, None, "File for the dropped records, each with its reason."),
            ),
            leaves={"out": "file", "dropped": "file"},
            cells=True,
            lines=True,
        ),
        Command(
            "train",
            "karat.training.stage:train",
            cli_finish.train,
            files=("train", "test"),
            extras=(_OUT, Extra("predictions", str, None, "File for the predictions of the test records.")),
            leaves={"out": "folder", "predictions": "file"},
            anew="save",
        ),
        Command(
            "cross-train",
            "karat.valuation.crossing:cross_train",
            cli_finish.report,
            files=("human", "synthetic", "test", "synthetic_test"),
            extras=(_OUT,),
            leaves=_FOLDER,
            cells=True,
            lines=True,
        ),
        Command(
            "value",
            "karat.valuation.stage:value",
            cli_finish.report,
            files=("synthetic", "human", "test"),
            extras=(_OUT,),
            leaves=_FOLDER,
            cells=True,
            lines=True,
        ),
        Command(
            "mitigate",
            "karat.valuation.mitigation:mitigate",
            cli_finish.report,
            files=("synthetic", "human", "test"),
            extras=(_OUT,),
            leaves=_FOLDER,
            cells=True,
            lines=True,
        ),
        Command(
            "simulate",
            "karat.simulation.stage:simulate",
            cli_finish.report,
            files=("human",),
            extras=(_OUT,),
            leaves=_FOLDER,
            lines=True,
        ),
        Command(
            "sweep",
            "karat.simulation.sweep:sweep",
            cli_finish.report,
            files=("human",),
            extras=(_OUT,),
            leaves=_FOLDER,
            lines=True,
        ),
        Command(
            "forecast",
            "karat.simulation.forecast:forecast",
            cli_finish.report,
            positional=("source",),
            read={"source": cli_finish.read_source},
            extras=(_OUT,),
            leaves=_FOLDER,
        ),
        Command(
            "monitor",
            "karat.simulation.monitor:monitor",
            cli_finish.report,
            positional=("stream",),
            extras=(_OUT,),
            leaves=_FOLDER,
            kept=False,  # a step's key would not see what the files of a folder hold
        ),
    )
}
OTHERS: dict[str, Callable[..., None]] = {"report": report_results, "list": list_parts, "show": show_part}
