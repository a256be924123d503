"""Runs: the same step is never run twice, a changed one always is, a killed one leaves no lie."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from karat import records, runs
from karat.errors import InputError
from karat.records import Records
from karat.runs import Run

CALLS: list[int] = []


@dataclass(frozen=True)
class Inner:
    """A nested value."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Doubled:
    """What the stage of these tests gives."""

    kept: Records
    scores: tuple[Inner, ...]
    by: dict[str, float]
    note: str | None = None
    usage: dict[str, int] | None = None


def double(found: Records, *, factor: int = 2, progress: object = None) -> Doubled:
    """A stage that counts how often it is run."""
    CALLS.append(factor)
    kept = found.with_column("text", [text * factor for text in found.texts()])
    return Doubled(kept, (Inner("a", (0.1, float("nan"))),), {"x": 1 / 3}, usage={"tokens": 7})


@pytest.fixture
def found() -> Records:
    CALLS.clear()
    return records.from_rows([{"text": "ab", "label": "x"}, {"text": "cd", "label": "y"}])


def test_a_step_runs_once_and_comes_back_equal(tmp_path: Path, found: Records) -> None:
    """The second time the result is loaded: same records, same numbers to the last digit."""
    first, again = (Run(tmp_path).step(double, found, factor=3) for _ in range(2))
    assert [3] == CALLS
    assert first.kept.texts() == again.kept.texts() == ["ababab", "cdcdcd"]
    assert first.by == again.by
    assert first.scores[0].values[0] == again.scores[0].values[0]
    assert first.kept.fingerprint == again.kept.fingerprint


def test_what_changes_the_result_changes_the_step(tmp_path: Path, found: Records) -> None:
    """Another setting, text or id is another step; progress and --fresh are not settings."""
    run = Run(tmp_path)
    run.step(double, found)
    run.step(double, found, factor=2)  # the default, said aloud
    run.step(double, found, progress=print)
    assert [2] == CALLS
    run.step(double, found, factor=5)
    run.step(double, found.with_column("text", ["ab", "ce"]))
    run.step(double, found.with_column("id", ["p", "q"]))
    assert [2, 5, 2, 2] == CALLS
    Run(tmp_path, fresh=True).step(double, found)
    assert 5 == len(CALLS)


def named(found: Records, *, plan: str = "", provider: str = "") -> Doubled:
    """A stage whose settings name files."""
    CALLS.append(0)
    return Doubled(found, (), {})


def test_a_file_that_a_setting_names_is_known_by_its_content(tmp_path: Path, found: Records) -> None:
    """An edited plan or recording is another step, also under the same name."""
    file, run = tmp_path / "plan.jsonl", Run(tmp_path / "run")
    for settings in ({"plan": str(file)}, {"provider": f"replay:path={file},order=true"}):
        CALLS.clear()
        file.write_text("one")
        run.step(named, found, **settings)
        run.step(named, found, **settings)
        file.write_text("two")
        run.step(named, found, **settings)
        assert 2 == len(CALLS)


def test_a_text_that_no_file_can_be_named_by_is_a_text(found: Records) -> None:
    """A value as long as a paragraph, or with what no name holds, stands for itself."""
    for text in ("word " * 80, "a" * 300, "a\0b", "a/" * 2000, "文" * 200):
        assert text == runs.describe(text)


def test_a_step_without_manifest_is_run_again(tmp_path: Path, found: Records) -> None:
    """The manifest is written last: what a kill leaves behind is not taken for a result."""
    run = Run(tmp_path)
    run.step(double, found)
    manifest = next(tmp_path.glob("steps/*/manifest.json"))
    manifest.unlink()
    run.step(double, found)
    assert [2, 2] == CALLS
    assert manifest.exists()


def test_manifest_holds_what_a_reader_asks_for(tmp_path: Path, found: Records) -> None:
    """Settings, input fingerprints, versions, seconds and usage stand in the manifest."""
    Run(tmp_path).step(double, found, factor=4)
    manifest = Run(tmp_path).manifests()[0]
    assert "double" == manifest["stage"]
    assert 4 == manifest["step"]["arguments"]["factor"]
    assert found.fingerprint == manifest["step"]["arguments"]["found"]["records"]
    assert {"tokens": 7} == manifest["usage"]
    assert {"karat", "python", "numpy"} <= set(manifest["versions"])
    assert manifest["seconds"] >= 0


def test_results_are_read_by_their_folder(tmp_path: Path, found: Records) -> None:
    """`karat report FOLDER` reads a kept result; anything else is refused in words."""
    Run(tmp_path).step(double, found)
    home = next(tmp_path.glob("steps/*"))
    assert ["abab", "cdcd"] == runs.read_result(home).kept.texts()
    with pytest.raises(InputError, match=r"no manifest\.json"):
        runs.read_result(tmp_path)
    manifest = json.loads((home / "manifest.json").read_text())
    (home / "manifest.json").write_text(json.dumps({**manifest, "type": "karat.runs:Gone"}))
    with pytest.raises(InputError, match="another version of karat"):
        runs.read_result(home)
