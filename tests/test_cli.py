"""The command line: flags from signatures, exit codes, one line an error, one JSON object."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from karat import cli, cli_flags, console
from karat.cli import COMMANDS, main


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small labelled corpus in a train and a test file; the current folder is there."""
    monkeypatch.chdir(tmp_path)
    nouns = "cat dog sun moon tree river stone bird cloud road house lamp".split()
    verbs = {"good": "loves helps greets thanks".split(), "bad": "hates hurts scolds blames".split()}
    rows = [
        {"text": f"the {a} {verb} the {b} today", "label": label, "side": "left" if i % 2 else "right"}
        for label, words in verbs.items()
        for verb in words
        for i, a in enumerate(nouns)
        for b in nouns
        if a != b
    ]
    train = [row for n, row in enumerate(rows) if n % 4]
    test = [row for n, row in enumerate(rows) if n % 4 == 0]
    for name, part in (("train", train), ("test", test)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return tmp_path


def test_train_prints_one_json_object(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints one object and nothing else on standard output, with the promised keys."""
    assert 0 == main(["train", "train.jsonl", "--test", "test.jsonl", "--json"])
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert ("train", "") == (found["command"], err)
    assert {"accuracy", "macro_f1"} <= {score["name"] for score in found["scores"]}
    assert {"trained_on", "leakage"} <= set(found)


def test_the_same_command_again_reuses_the_step(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run prints the same and adds no step; `--fresh` makes it again, another seed another step."""
    command = ["train", "train.jsonl", "--test", "test.jsonl", "--json"]
    main(command)
    first = capsys.readouterr().out
    manifest = corpus / json.loads(first)["step"] / "manifest.json"
    kept = manifest.stat().st_mtime_ns
    main(command)
    assert (first, kept) == (capsys.readouterr().out, manifest.stat().st_mtime_ns)
    main([*command, "--fresh"])
    capsys.readouterr()
    assert kept != manifest.stat().st_mtime_ns
    main([*command, "--seed", "5"])
    assert 2 == len(list(corpus.glob(".karat/steps/*/manifest.json")))


def test_where_picks_rows_for_each_file(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--where` is for the first file, `--test-where` for the other, so that one file can serve both."""
    whole = corpus / "train.jsonl"
    sides = ["--where", "side=left", "--where", "label!=none", "--test-where", "side=right"]
    assert 0 == main(["train", str(whole), "--test", str(whole), "--json", *sides])
    found = json.loads(capsys.readouterr().out)
    rows = [json.loads(line) for line in whole.read_text().splitlines()]
    assert sum(row["side"] == "left" for row in rows) == found["trained_on"]
    assert sum(row["side"] == "right" for row in rows) == found["tested_on"]


def test_fields_are_renamed_for_all_files_or_for_one(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--text-field` holds for all files, `--test-text-field` for the test file only."""
    for name, field in (("train", "body"), ("test", "words")):
        old = (corpus / f"{name}.jsonl").read_text()
        (corpus / f"{name}.jsonl").write_text(
            old.replace('"text"', f'"{field}"').replace('"label"', '"kind"')
        )
    renamed = ["--text-field", "body", "--test-text-field=words", "--label-field", "kind"]
    assert 0 == main(["train", "train.jsonl", "--test", "test.jsonl", "--json", *renamed])
    assert json.loads(capsys.readouterr().out)["trained_on"] > 0


def test_out_leaves_a_report_and_the_same_json(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--out DIR` leaves report.html and result.json; `karat report` draws the page again from the JSON."""
    files = ["train.jsonl", "--test", "test.jsonl", "--out", "there", "--predictions", "said.csv"]
    assert 0 == main(["train", *files])
    assert "report: there/report.html" in capsys.readouterr().out
    assert "train" == json.loads((corpus / "there/result.json").read_text())["command"]
    assert 1 + sum(1 for _ in (corpus / "test.jsonl").open()) == sum(1 for _ in (corpus / "said.csv").open())
    assert 0 == main(["report", "there/result.json", "--out", "again.html"])
    assert (corpus / "there/report.html").stat().st_size == pytest.approx(
        (corpus / "again.html").stat().st_size, rel=0.02
    )
    assert 0 == main(["report", ".karat", "--out", "all.html"])


def test_a_table_is_printed_without_json(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--json` a person reads a table, and no bar is drawn where nobody looks."""
    assert 0 == main(["train", "train.jsonl", "--test", "test.jsonl"])
    out, err = capsys.readouterr()
    assert "accuracy" in out
    assert "" == err


MISTAKES = {
    "train": "TRAIN is missing",
    "train a.jsonl": "--test is missing",
    "audit --metrics length train.jsonl": "CANDIDATE is missing; it comes before flags",
    "train a.jsonl --test b.jsonl --sed 3": "did you mean --seed?",
    "train a.jsonl --test b.jsonl --seed x": "--seed is 'x', but must be a whole number",
    "train a.jsonl --test b.jsonl --budget huge": "choose one of: small, medium, large",
    "train a.jsonl --test b.jsonl --tex-field c": "did you mean '--text-field'?",
    "train a.jsonl --test b.jsonl --text-field": "--text-field FIELD",
    "train a.jsonl c.jsonl --test b.jsonl": "unexpected argument 'c.jsonl'",
    "train train.jsonl --test b.jsonl": "b.jsonl: no such file",
    "train train.jsonl --test test.jsonl --trainer linaer": "did you mean 'linear'?",
    "train train.jsonl --test test.jsonl --trainer linear:c=1": "has no setting 'c'",
    "train train.jsonl --test test.jsonl --executor cloud": "no executor named 'cloud'",
    "train train.jsonl --test test.jsonl --where side=up": "no record where side=up",
    "train train.jsonl --test test.jsonl --where side": "FIELD=VALUE",
    "train train.jsonl --test test.jsonl --type poem": "no datatype named 'poem'",
    "train train.jsonl --test test.jsonl --out test.jsonl": "is a file; name a folder",
    "train train.jsonl --test test.jsonl --predictions x.doc": "must end in one of",
    "tarin a.jsonl": "did you mean 'train'?",
    "--verbose": "no option named '--verbose'",
    "list metrcs": "did you mean 'metrics'?",
    "show metrics distint_n": "did you mean 'distinct_n'?",
    "report": "--out is missing",
    "report gone.json --out x.html": "gone.json: no such file",
    "report train.jsonl --out x.html": "not JSON left by a karat command",
    "forecast gone.jsonl": "gone.jsonl: no such file",
    "forecast .": "no finished steps in it",
    "generate --task task.toml": "needs --out FILE",
    "generate --task gone.toml --out x.jsonl": "gone.toml: no such file",
    "generate --human train.jsonl --out x.jsonl --rejected ./x.jsonl": "is what --out names too",
    "generate --human train.jsonl --out x.jsonl --rejected y.csv": "written as JSONL; let the name end in",
    "annotate train.jsonl --out x.jsonl --rejected y.jsonl.gz": "are written as JSONL; let the name end in",
    "curate train.jsonl --out x.jsonl --dropped x.jsonl": "is what --out names too",
}


@pytest.mark.parametrize(("command", "said"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_one_line_with_its_cure(
    command: str, said: str, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake of the user ends with exit code 2 and one line that names the thing and the cure."""
    before = sorted(path.name for path in corpus.iterdir())
    assert 2 == main(command.split())
    out, err = capsys.readouterr()
    assert "" == out
    assert 1 == err.count("\n"), err
    assert err.startswith("karat: ")
    assert said in err
    assert before == sorted(path.name for path in corpus.iterdir() if path.name != ".karat")


def with_stage(monkeypatch: pytest.MonkeyPatch, stage: Callable[..., Any]) -> None:
    """Let `karat train` run another function."""
    monkeypatch.setattr(cli_flags, "load", lambda home: stage)


def test_exit_codes(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """3 for a stop that keeps what was paid for, 1 with a traceback for our own bug."""
    from karat.errors import BudgetSpent

    def fails_with(error: BaseException) -> Callable[..., Any]:
        def train(train: Any, test: Any) -> Any:
            raise error

        return train

    for error, code in (
        (BudgetSpent("stopped at $1.00"), 3),
        (KeyboardInterrupt(), 3),
        (ZeroDivisionError("ours"), 1),
        (PermissionError(13, "Permission denied", "/there"), 2),
    ):
        with_stage(monkeypatch, fails_with(error))
        assert code == main(["train", "train.jsonl", "--test", "test.jsonl"])
        err = capsys.readouterr().err
        assert (code == 1) == ("Traceback" in err), err
        assert err.splitlines()[-1].startswith("karat: ")


def test_flags_come_from_the_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keyword-only arguments become flags with their types, defaults and docstring lines."""
    seen: dict[str, Any] = {}

    def stage(
        train: Any,
        test: Any,
        *,
        parts: tuple[str | object, ...] = ("a",),
        share: float = 0.5,
        order: str | object | None = None,
        mode: Literal["proper", "paper"] = "proper",
        hard: bool = False,
        progress: Any = None,
        executor: Any = None,
    ) -> None:
        """Do a thing.

        parts: what to do it with,
            over two lines.
        share: how much of it.
        """

    with_stage(monkeypatch, stage)
    function = cli_flags.build(COMMANDS["train"], lambda call: seen.update(vars(call)))
    names = list(inspect.signature(function).parameters)
    assert {"parts", "share", "order", "mode", "hard", "where", "test_where", "seed", "json"} <= set(names)
    assert "progress" not in names
    assert "Do a thing." == function.__doc__
    app = cli.application(None, lambda call: None)
    app.command(function, name="thing")
    app("thing x.jsonl --test y.jsonl --parts a b:n=3 --parts c --hard --where f=1 --where g=2".split())
    assert {"parts": ("a", "b:n=3", "c"), "share": 0.5, "order": None, "mode": "proper", "hard": True} == {
        key: value for key, value in seen["settings"].items() if key != "executor"
    }
    assert 1 == seen["settings"]["executor"].workers
    assert ({"train": "x.jsonl", "test": "y.jsonl"}, ("f=1", "g=2")) == (
        seen["files"],
        seen["where"]["train"],
    )
    assert (
        "what to do it with, over two lines."
        == cli_flags.setting_help(stage.__doc__ or "", ["parts"])["parts"]
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_of_every_command_has_help(name: str) -> None:
    """`karat COMMAND --help` explains each flag, and the flags common to all commands are there."""
    function = cli_flags.build(COMMANDS[name], lambda call: None)
    assert function.__doc__
    for parameter in inspect.signature(function).parameters.values():
        assert parameter.annotation.__metadata__[0].help, f"{name}: no help for {parameter.name}"
    common = {"json", "run", "fresh", "seed", "executor", "budget", "quiet"}
    assert common <= set(inspect.signature(function).parameters)


def test_a_gate_fails_when_its_condition_holds(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--fail-if` prints the audit, and then ends with 2 and one line that gives the figure."""
    audit = ["audit", "train.jsonl", "--metrics", "records", "length", "--json", "--fail-if"]
    assert 0 == main([*audit, "length > 100 or records < 5"])
    capsys.readouterr()
    assert 2 == main([*audit, "records > 100", "--fail-if", "length < 1"])
    out, err = capsys.readouterr()
    assert "audit" == json.loads(out)["command"]
    count = sum(1 for _ in (corpus / "train.jsonl").open())
    assert f"karat: --fail-if 'records > 100' holds: records is {count}\n" == err
    for wrong in ("records >", "recrods > 1", "length.difference > 1"):
        assert 2 == main([*audit, wrong])
        assert 1 == capsys.readouterr().err.count("\n")


def test_json_holds_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    """A number that is not finite is null, as JSON has no other word for it."""
    console.write_json({"value": float("nan"), "path": Path("a")})
    assert {"value": None, "path": "a"} == json.loads(capsys.readouterr().out)


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A record cannot steer the terminal of the person who reads the table."""
    console.table([("text", "text")], [["a\x1b[31mred\x07"]])
    assert not {"\x1b", "\x07"} & set(capsys.readouterr().out)


def test_a_closed_pipe_is_no_error() -> None:
    """`karat list | head -1` ends quietly."""
    command = f"{sys.executable} -m karat list | head -1; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env={**os.environ})
    assert (0, "") == (ran.returncode, ran.stderr)


def test_a_kept_simulation_is_what_a_forecast_begins_with(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--cycle` names one cycle at a time, `--seed` the seed of one run; `karat forecast RUN` finds it."""
    pytest.importorskip("torch")
    loop = ["--cycle", "full", "--cycle", "expanding", "--iterations", "1", "-n", "60", "--seed", "3"]
    small = ["--trainer", "gpt:steps=4", "--no-control", "--quiet", "--json"]
    assert 0 == main(["simulate", *loop, *small]), capsys.readouterr().err
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [("full", 3), ("expanding", 3)] == [(run["cycle"], run["seed"]) for run in runs]
    assert 0 == main(["forecast", ".karat", "--horizon", "2", "--seeds", "1", "--json"])
    assert "half_life" in json.loads(capsys.readouterr().out)
    main(["train", "train.jsonl", "--test", "test.jsonl", "--run", "other", "--quiet"])
    assert 2 == main(["forecast", "other"])
    assert "holds no simulation" in capsys.readouterr().err


def test_standard_input_is_a_file(corpus: Path) -> None:
    """`-` reads JSON lines from standard input."""
    command = [sys.executable, "-m", "karat", "train", "-", "--test", "test.jsonl", "--json"]
    with (corpus / "train.jsonl").open("rb") as file:
        ran = subprocess.run(command, stdin=file, capture_output=True)
    assert 0 == ran.returncode, ran.stderr
    assert json.loads(ran.stdout)["trained_on"] > 0


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    """Parts are listed with what they are, and shown with settings, defaults, source and signature."""
    assert 0 == main(["list", "metrics", "--json"])
    listed = json.loads(capsys.readouterr().out)["parts"]
    assert "distinct_n" in {part["name"] for part in listed}
    assert all(part["summary"] for part in listed)
    assert 0 == main(["show", "metrics", "distinct_n"])
    shown = capsys.readouterr().out
    assert "signature  distinct_n|n:" in shown
    assert "distinct_n.py" in shown
    assert 0 == main(["show", "metrics", "distinct_n", "--json"])
    assert json.loads(capsys.readouterr().out)["settings"]
    assert 0 == main(["list"])


def test_a_generation_without_a_record_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every answer empty: exit code 2, the reason in one line, and the rejected rows are there."""
    (tmp_path / "task.toml").write_text('domain = "note"\nlabels = ["a", "b"]\n')
    (tmp_path / "answers.jsonl").write_text('{"text": ""}\n' * 4)
    command = [
        *("generate", "--task", str(tmp_path / "task.toml"), "--run", str(tmp_path / "run"), "-n", "4"),
        *("--provider", f"replay:path={tmp_path / 'answers.jsonl'}", "--redraw", "0"),
        *("--out", str(tmp_path / "out.jsonl"), "--rejected", str(tmp_path / "rejected.jsonl")),
    ]
    assert 2 == main(command)
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no record came of 4 planned rows; most often (4): empty answer" in said
    assert 4 == len((tmp_path / "rejected.jsonl").read_text().splitlines())
