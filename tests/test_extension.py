"""A new metric, filter, provider or recipe is one new file and no other edit, also in another package."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from karat import registry
from karat.cli import main

ROOT = Path(__file__).parent.parent

# The parts are those that CONTRIBUTING.md shows: what is written there must work.
SHELVES = {"comma_rate": "metrics", "no_shouting": "filters", "parrot": "providers", "blunt": "recipes"}
FILES = dict(
    re.findall(r"```python\n# alloy/(\w+)\.py\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.S)
)
PARTS = {(shelf, name): FILES[name] for name, shelf in SHELVES.items()}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with one file for each part; the current folder is empty beside it."""
    site = tmp_path / "site"
    code, info = site / "alloy", site / "alloy-1.0.dist-info"
    code.mkdir(parents=True)
    info.mkdir()
    (code / "__init__.py").touch()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: alloy\nVersion: 1.0\n")
    points = []
    for (shelf, name), text in PARTS.items():
        (code / f"{name}.py").write_text(text)
        points.append(f"[karat.{shelf}]\n{name} = alloy.{name}:{registry.camel(name)}\n")
    (info / "entry_points.txt").write_text("\n".join(points))
    monkeypatch.syspath_prepend(str(site))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield site
    for name in [name for name in sys.modules if name.split(".")[0] == "alloy"]:
        del sys.modules[name]


def write_rows() -> None:
    rows = [f"A record, number {i}, about{',' * (i % 2)} a thing{'!' * (i % 4)}" for i in range(80)]
    Path("rows.jsonl").write_text("".join(json.dumps({"text": text, "label": "a"}) + "\n" for text in rows))


@pytest.mark.parametrize(("shelf", "name"), PARTS, ids=[name for _, name in PARTS])
def test_a_part_of_a_package_is_listed_shown_and_made(
    shelf: str, name: str, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stands on the shelf without being imported, shows its settings, and is made from a spec."""
    assert name in registry.names(shelf)
    assert f"alloy.{name}" not in sys.modules
    assert 0 == main(["list", shelf])
    assert name in capsys.readouterr().out
    assert 0 == main(["show", shelf, name, "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"]
    assert registry.name_of(registry.make(shelf, shown["spec"])) == name


def test_a_new_metric_has_an_interval_and_a_baseline(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A metric of a few lines gets its interval, difference and chance from the audit."""
    write_rows()
    Path("human.jsonl").write_text(Path("rows.jsonl").read_text().replace("record, number", "record; number"))
    metrics = ["--metrics", "comma_rate", "comma_rate:sign=!", "records"]
    assert 0 == main(["audit", "rows.jsonl", "--reference", "human.jsonl", "--json", *metrics])
    scores = json.loads(capsys.readouterr().out)["scores"]
    commas, marks = (score for score in scores if score["name"] == "comma_rate")
    assert (2.5, 1.5, 1.0) == (commas["value"], commas["reference"], commas["difference"])
    assert 1.5 == pytest.approx(marks["value"])
    assert marks["interval"][0] < 1.5 < marks["interval"][1]
    assert "comma_rate|sign:!|" in marks["signature"]
    assert commas["p"] < 0.05 < marks["p"]


def test_a_new_filter_gives_its_reasons(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a filter of a few lines drops is on disk with its reason."""
    write_rows()
    files = ["--out", "kept.jsonl", "--dropped", "dropped.jsonl", "--quiet"]
    assert 0 == main(["curate", "rows.jsonl", "--filters", "no_shouting:most=3", *files])
    dropped = [json.loads(line) for line in Path("dropped.jsonl").read_text().splitlines()]
    assert 20 == len(dropped)
    assert all("3 exclamation marks" in row["reason"] for row in dropped)
    assert 60 == len(Path("kept.jsonl").read_text().splitlines())


def test_a_new_provider_and_a_new_recipe_generate(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A provider and a recipe of a few lines generate records that say where they come from."""
    Path("task.toml").write_text('domain = "film review"\nlabels = ["kind", "harsh"]\n')
    parts = ["--provider", "parrot:times=2", "--recipe", "blunt:please=no"]
    assert 0 == main(
        ["generate", "--task", "task.toml", *parts, "-n", "10", "--out", "made.jsonl", "--quiet"]
    )
    rows = [json.loads(line) for line in Path("made.jsonl").read_text().splitlines()]
    assert 10 == len(rows)
    assert {"kind", "harsh"} == {row["label"] for row in rows}
    assert all(row["text"].startswith(f"Write a {row['label']} film review Write a") for row in rows)
    lineage = rows[0]["lineage"]
    assert ("synthetic", "parrot-2") == (lineage["source"], lineage["generator"])
    assert lineage["recipe"].startswith("blunt")


def test_a_broken_package_is_named(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A part that cannot be imported is an error of one line that names its package; others still work."""
    (package / "alloy" / "comma_rate.py").write_text("import no_such_library_at_all\n")
    write_rows()
    assert 2 == main(["audit", "rows.jsonl", "--metrics", "comma_rate"])
    err = capsys.readouterr().err
    assert 1 == err.count("\n")
    assert "alloy.comma_rate" in err
    assert 0 == main(["audit", "rows.jsonl", "--metrics", "records", "--json"])


def test_it_works_in_a_process_of_its_own(package: Path) -> None:
    """The command line finds the package wherever Python finds it."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from karat.cli import main; main()"
    command = [sys.executable, "-c", code, str(package), "list", "metrics"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "comma_rate" in ran.stdout
