"""What is written is true: README blocks and examples run, lists of parts and flags are current."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(sh|python|toml)\n(.*?)^```", re.M | re.S)
README = [(kind, text) for kind, text in BLOCK.findall((ROOT / "README.md").read_text("utf-8"))]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/commands.md",
    "docs/parts.md",
    "docs/warnings.md",
]


def rows(n: int, *, seed: int, source: str) -> list[dict[str, str]]:
    """Return labelled reviews; the synthetic ones choose from fewer words and repeat themselves."""
    draw = random.Random(seed)
    things = "camera kettle lamp novel jacket phone garden chair bottle bicycle drill tent watch sofa".split()
    good = "loved great sturdy bright useful pretty quick quiet generous warm solid lovely".split()
    bad = "broke noisy flimsy dull useless ugly slow cheap cold awful loose dirty".split()
    made = []
    for i in range(n):
        label = ("good", "bad")[i % 2]
        words = (good, bad)[i % 2][: None if source == "human" else 5]
        parts = [f"the {draw.choice(things)} was {draw.choice(words)}", f"and {draw.choice(words)}"]
        text = (
            " ".join(parts) if source == "gpt" else f"I think {' '.join(parts)}, for my {draw.choice(things)}"
        )
        made.append({"text": text, "label": label, "source": source})
    return made


def judged(texts: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return labels, choices and dialogues about the same reviews, by people and by a model that errs."""
    draw = random.Random(7)
    labels, choices, chats, human_chats = [], [], [], []
    for one, other in zip(texts[:120], texts[120:240], strict=True):
        right = one["label"]
        wrong = {"good": "bad", "bad": "good"}[right]
        human = [right if draw.random() < 0.9 else wrong for _ in range(3)]
        model = [right if draw.random() < 0.7 else wrong for _ in range(3)]
        labels.append({"text": one["text"], "human_annots": human, "model_annots": model})
        people = {f"p{i}": draw.choice("ab") for i in range(3)}
        pair = {
            "prompt": f"Review number {len(choices)}",
            "response_a": one["text"],
            "response_b": other["text"],
        }
        choices.append({**pair, "human_choices": people, "model_choices": {"judge": draw.choice("ab")}})
        turns = [("user", "What did you think?"), ("assistant", one["text"]), ("user", other["text"])]
        human_chats.append({"messages": [{"role": role, "content": text} for role, text in turns]})
        turns += [("assistant", "Goodbye!"), ("user", "Goodbye!"), ("assistant", "Goodbye!")]
        chats.append({"messages": [{"role": role, "content": text} for role, text in turns]})
    return {"labels": labels, "choices": choices, "chats": chats, "human_chats": human_chats}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README speaks of."""
    folder = tmp_path_factory.mktemp("desk")
    files: dict[str, list[dict[str, Any]]] = {
        "human": rows(400, seed=1, source="human"),
        "synthetic": rows(400, seed=2, source="gpt"),
        "test": rows(200, seed=3, source="human"),
    }
    files["all"] = files["human"] + files["synthetic"]
    files |= judged(files["human"])
    for name, found in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return folder


def run(command: list[str], folder: Path) -> str:
    """Run a command as a reader would, in an activated environment, and return what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    assert 0 == ran.returncode, f"{command}\n{ran.stdout[-2000:]}\n{ran.stderr[-3000:]}"
    return ran.stdout


def test_the_blocks_of_the_readme_run(desk: Path) -> None:
    """Every block of the README does what stands around it, one after the other, in one folder."""
    kinds = set()
    for kind, text in README:
        if text.startswith("make "):  # this test is part of `make test` itself
            continue
        kinds.add(kind)
        if kind == "sh":
            run(["bash", "-euo", "pipefail", "-c", text], desk)
        else:
            run([sys.executable, "-c", text], desk)
    assert {"sh", "python"} == kinds
    for name in ("audit/report.html", "value/result.json", "report.html", "dropped.jsonl", "story.html"):
        assert (desk / name).stat().st_size > 0
    assert "audit" == json.loads((desk / "audit.json").read_text())["command"]
    made = [json.loads(line) for line in (desk / "generated.jsonl").read_text("utf-8").splitlines()]
    assert made
    assert {"good", "bad"} >= {row["label"] for row in made}


def test_the_make_targets_of_the_readme_exist() -> None:
    """`make demo` and `make test` are there, and so is every target that a page names."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        for line in re.findall(r"`(make [a-z ]+)`|^(make [a-z]+)", (ROOT / page).read_text("utf-8"), re.M):
            assert set("".join(line).split()[1:]) <= targets, line


def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_write", ROOT / "docs" / "write.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_lists_are_what_the_program_prints() -> None:
    """The pages of commands, parts and metrics are those that docs/write.py writes today."""
    for page, text in writer().pages().items():
        assert text == (ROOT / "docs" / page).read_text("utf-8"), f"docs/{page} is old; run: make docs"


def test_every_warning_is_explained() -> None:
    """Each code that karat warns with stands on the page of warnings, and the page names no other."""
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    used = set(re.findall(r"\b(?:Warned|Found)\(\s*\"([a-z_]+)\"", source))
    told = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "warnings.md").read_text("utf-8"), re.M))
    assert used <= told, f"not explained: {used - told}"
    unused = {code for code in told - used if f'"{code}"' not in source}
    assert set() == unused, f"nobody warns of: {unused}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """A relative link leads to a file of the repository."""
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in target or (ROOT / page).parent.joinpath(target).exists(), target


def test_commands_in_the_readme_are_commands() -> None:
    """Every `karat COMMAND` that a page names exists."""
    from karat.cli import COMMANDS, OTHERS

    for page in PAGES:
        named = set(re.findall(r"`karat ([a-z]+)", (ROOT / page).read_text("utf-8")))
        assert named <= {*COMMANDS, *OTHERS}, page


def test_the_speedrun_runs(tmp_path: Path) -> None:
    """The example tells the whole story, and is as short as it says."""
    example = ROOT / "examples" / "speedrun.py"
    code = [line for line in example.read_text("utf-8").split('"""')[2].splitlines() if line.strip()]
    assert len(code) <= 25
    printed = run([sys.executable, str(example), "there", "120"], tmp_path)
    assert "report: there/report.html" in printed
    assert (tmp_path / "there/report.html").stat().st_size > 10_000


def test_nothing_points_outside_of_the_project() -> None:
    """No page names a path of the machine it was written on."""
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*"), *(ROOT / "src").rglob("*.py")]:
        if path.is_file():
            text = path.read_text("utf-8")
            assert not re.search(r"(?<![\w.>])/(root|work|home)/", text), path
