"""A new part of any kind is one new file and no other edit, also in another package."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from karat import registry
from karat.cli import main

ROOT = Path(__file__).parent.parent

# The parts are those that CONTRIBUTING.md shows: what is written there must work.
SHELVES = {
    "comma_rate": "metrics",
    "no_shouting": "filters",
    "rare_words": "orderings",
    "cap": "mixtures",
    "bayes": "trainers",
    "parrot": "providers",
    "blunt": "recipes",
}
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


def write_jsonl(name: str, rows: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_new_ordering_sorts_and_is_calibrated(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The records that an ordering of a few lines scores highest come first; it is held against gold."""
    rows = [{"text": f"common words {'and rarity' + str(i) if i % 4 == 0 else 'only'}"} for i in range(80)]
    write_jsonl("rows.jsonl", [{**row, "label": "a", "gold": "ab"[i % 4 > 0]} for i, row in enumerate(rows)])
    command = ["curate", "rows.jsonl", "--order", "rare_words:least=5", "--top", "20", "--out", "first.jsonl"]
    assert 0 == main([*command, "--json", "--quiet"])
    told = json.loads(capsys.readouterr().out)
    kept = [json.loads(line)["text"] for line in Path("first.jsonl").read_text().splitlines()]
    assert [f"common words and rarity{i}" for i in range(0, 80, 4)] == kept
    assert 1.0 == pytest.approx(told["order"]["figures"]["oracle_rho"])


def test_a_new_mixture_chooses_and_gives_its_reasons(package: Path) -> None:
    """A mixture of a few lines draws from the sources that the records name."""
    rows = [{"text": f"text {i}", "label": "a", "writer": "xxy"[i % 3]} for i in range(60)]
    write_jsonl("rows.jsonl", rows)
    files = ["--out", "capped.jsonl", "--dropped", "dropped.jsonl", "--quiet"]
    assert 0 == main(["curate", "rows.jsonl", "--mixture", "cap:most=10,field=writer", *files])
    kept = [json.loads(line) for line in Path("capped.jsonl").read_text().splitlines()]
    assert {"x": 10, "y": 10} == Counter(row["writer"] for row in kept)
    dropped = [json.loads(line) for line in Path("dropped.jsonl").read_text().splitlines()]
    assert {"over 10 records of its source"} == {row["reason"] for row in dropped}
    assert 40 == len(dropped)


def topics(n: int, seed: int) -> list[dict[str, Any]]:
    """Texts of two topics that share most of their words."""
    draw = random.Random(seed)
    words = {"tea": [f"tea{i}" for i in range(40)], "tin": [f"tin{i}" for i in range(40)]}
    labels = [draw.choice(sorted(words)) for _ in range(n)]
    texts = [draw.choices(words[x], k=2) + draw.choices(words["tea"] + words["tin"], k=6) for x in labels]
    return [{"text": " ".join(text), "label": label} for text, label in zip(texts, labels)]


def test_a_new_trainer_is_scored_valued_and_used_by_other_parts(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trainer of a few lines gives scikit-learn's probabilities, and works wherever a trainer is named."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.metrics import log_loss
    from sklearn.naive_bayes import MultinomialNB

    train, test = topics(200, 1), topics(200, 2)
    for name, rows in {"train": train, "made": topics(120, 3), "test": test}.items():
        write_jsonl(f"{name}.jsonl", rows)
    command = ["--test", "test.jsonl", "--trainer", "bayes:smoothing=0.5", "--json", "--quiet"]
    assert 0 == main(["train", "train.jsonl", *command])
    scores = {s["name"]: s["value"] for s in json.loads(capsys.readouterr().out)["scores"] if not s["by"]}
    counted = CountVectorizer(token_pattern=r"\S+")
    peer = MultinomialNB(alpha=0.5).fit(
        counted.fit_transform(row["text"] for row in train), [row["label"] for row in train]
    )
    gold = [row["label"] for row in test]
    chances = peer.predict_proba(counted.transform(row["text"] for row in test))
    assert log_loss(gold, chances) == pytest.approx(scores["log_loss"])
    assert np.mean(peer.classes_[chances.argmax(axis=1)] == gold) == pytest.approx(scores["accuracy"])
    small = ["--seeds", "3", "--budget", "small"]
    assert 0 == main(["value", "made.jsonl", "--human", "train.jsonl", *command, *small])
    assert json.loads(capsys.readouterr().out)["equivalence"]["worth_human_records"] > 0
    order = ["--order", "agreement:trainer=bayes:smoothing=2", "--reference", "train.jsonl"]
    assert 0 == main(["curate", "made.jsonl", *order, "--out", "kept.jsonl", "--json", "--quiet"])
    assert json.loads(capsys.readouterr().out)["order"]["informative"]


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
