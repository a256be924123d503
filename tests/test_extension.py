"""A new metric, filter, provider or recipe is one new file and no other edit, also in another package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from karat import registry
from karat.cli import main

METRIC = '''
"""How many commas stand in a text."""
from dataclasses import dataclass
import numpy as np
from karat.auditing.base import Metric, need

@dataclass(frozen=True)
class CommaRate(Metric):
    """The mean number of commas in a record.

    sign: the sign that is counted
    """

    sign: str = ","

    def needs(self):
        return (need("sample", limit=1000),)

    def values(self, summary, masks):
        sample = summary[self.needs()[0]]
        commas = np.array([text.count(self.sign) for text in sample.texts], dtype=float)
        return np.array([commas[mask[sample.groups]].mean() for mask in masks])
'''

FILTER = '''
"""Drops texts that shout."""
from dataclasses import dataclass
import numpy as np
from karat.curation.base import Verdicts

@dataclass(frozen=True)
class NoShouting:
    """Keeps texts with fewer exclamation marks than `most`."""

    most: int = 2

    def judge(self, records, reference=None):
        marks = np.array([text.count("!") for text in records.texts()])
        kept = marks < self.most
        return Verdicts(kept, {int(i): f"{marks[i]} exclamation marks" for i in np.flatnonzero(~kept)})
'''

PROVIDER = '''
"""Answers with the prompt, for tests."""
from dataclasses import dataclass
from karat.generation.base import Response

@dataclass(frozen=True)
class Parrot:
    """Repeats the last message and the number of the row."""

    times: int = 1
    batch_size: int = 4
    concurrency: int = 1

    @property
    def model(self):
        return f"parrot-{self.times}"

    async def complete(self, requests):
        return [
            Response(r.id, " ".join([r.messages[-1].content] * self.times) + f" ({r.seed})", model=self.model)
            for r in requests
        ]
'''

RECIPE = '''
"""One plain sentence as a prompt."""
from dataclasses import dataclass
from typing import ClassVar
from karat.generation.base import Message

@dataclass(frozen=True)
class Blunt:
    """Says what is wanted in five words."""

    please: bool = True
    uses_attributes: ClassVar[bool] = False

    def enrich(self, task, human, seed):
        return task, human

    def messages(self, task, label, attributes):
        return (Message("user", f"{'Please write' if self.please else 'Write'} a {label} {task.domain}"),)
'''

PARTS = {
    ("metrics", "comma_rate"): METRIC,
    ("filters", "no_shouting"): FILTER,
    ("providers", "parrot"): PROVIDER,
    ("recipes", "blunt"): RECIPE,
}


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
