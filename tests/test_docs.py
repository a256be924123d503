"""What is written is true: README blocks and examples run, lists of parts and flags are current."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import karat
from karat.generation.taskfile import task_of
from karat.generation.tasks import Task

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(sh|python|toml)\n(.*?)^```", re.M | re.S)
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/commands.md",
    "docs/cycles.md",
    "docs/filters.md",
    "docs/generating.md",
    "docs/mixtures.md",
    "docs/orderings.md",
    "docs/parts.md",
    "docs/providers.md",
    "docs/recipes.md",
    "docs/simulating.md",
    "docs/tasks.md",
    "docs/trainers.md",
    "docs/valuing.md",
    "docs/warnings.md",
]

# Where readers have a server of their own, the tests have one that says what fits the question.
ADDRESS = "http://localhost:8000/v1"
DIMENSIONS = [
    {"name": "length", "description": "how long it is", "class_dependent": False, "complete": True},
    {"name": "subject", "description": "what it is about", "class_dependent": True, "complete": False},
]
SCRIPT = (
    ("Which dimensions make such texts differ", json.dumps(DIMENSIONS)),
    ("different values of the attribute 'length'", "at most 15 words\n16 to 40 words\n41 to 90 words"),
    ('Their class is "good"', "a gift\na repair that held\na long journey\nthe first use"),
    ('Their class is "bad"', "a late parcel\na broken part\na refund\nno reply"),
    ('easily confused with "good"', "bad"),
    ('easily confused with "bad"', "good"),
    ("Is it just as typical of one of these other classes?", "none"),
    ("Answer with one label from the list", "good"),
    ("Answer with the name of one class", "good"),
    ("Allowed answers:", "A"),
)


def blocks(page: str) -> list[tuple[str, str]]:
    """Kind and text of each block of a page, in order."""
    return BLOCK.findall((ROOT / page).read_text("utf-8"))


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


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that speaks OpenAI's API; it writes nonsense and answers questions."""
    sys.path.append(str(ROOT / "tests" / "generation"))
    from fault_server import serving

    with serving(script=SCRIPT, models=("my-model", "other-model")) as found:
        yield found.url


def run(command: list[str], folder: Path) -> str:
    """Run a command as a reader would, in an activated environment, and return what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    assert 0 == ran.returncode, f"{command}\n{ran.stdout[-2000:]}\n{ran.stderr[-3000:]}"
    return ran.stdout


def test_the_blocks_of_the_readme_run(desk: Path, server: str) -> None:
    """Every block of the README does what stands around it, one after the other, in one folder."""
    kinds = set()
    for kind, text in blocks("README.md"):
        if text.startswith("make "):  # this test is part of `make test` itself
            continue
        kinds.add(kind)
        run_block(kind, text.replace(ADDRESS, server), desk)
    assert {"sh", "python"} == kinds
    for name in ("audit/report.html", "value/result.json", "report.html", "dropped.jsonl", "story.html"):
        assert (desk / name).stat().st_size > 0
    assert "audit" == json.loads((desk / "audit.json").read_text())["command"]
    made = [json.loads(line) for line in (desk / "generated.jsonl").read_text("utf-8").splitlines()]
    assert made
    assert {"good", "bad"} >= {row["label"] for row in made}


def run_block(kind: str, text: str, folder: Path) -> str:
    command = ["bash", "-euo", "pipefail", "-c"] if kind == "sh" else [sys.executable, "-c"]
    return run([*command, text], folder)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_blocks_about_generating_run(
    desk: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command of docs/generating.md does what stands around it, one after the other, without a key."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for file in desk.glob("*.jsonl"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    printed = [
        run_block(kind, text.replace(ADDRESS, server), tmp_path)
        for kind, text in blocks("docs/generating.md")
        if kind != "toml"
    ]
    assert "1,000 rows planned for gpt-4.1-mini" in printed[0]
    assert 40 == len(read(tmp_path / "generated.jsonl"))
    found = (tmp_path / "found.toml").read_text("utf-8")
    assert {"[attributes.length]", "[attributes.subject.values]", "[neighbours]"} <= set(found.splitlines())
    assert any("by 20 rows that were made" in text for text in printed)
    # the other model takes every text for a good one
    assert {"good"} == {row["label"] for row in read(tmp_path / "checked.jsonl")}
    dropped = {row["reason"] for row in read(tmp_path / "rejected.jsonl")}
    assert {"label not confirmed: 0 of 3 votes for 'bad' (most: 'good')"} == dropped
    kinds = [row["annotator_kind"] for row in read(tmp_path / "annotated.jsonl")]
    assert (120 * 2 * 3, 120 * 3) == (kinds.count("model"), kinds.count("human"))
    judged = [(row["choice"], row["shown_first"]) for row in read(tmp_path / "judged.jsonl")]
    assert {("a", "a"), ("b", "b")} == set(judged)  # it says A whatever stands there
    assert {4} == {len(row["messages"]) for row in read(tmp_path / "chats.jsonl")}
    assert 4 == len(read(tmp_path / "pairs.jsonl"))
    assert (tmp_path / "pilot/report.html").stat().st_size > 10_000


def test_the_blocks_about_simulating_run(tmp_path: Path) -> None:
    """Every block of docs/simulating.md runs, and shows what the page says of loops."""
    printed = [run_block(kind, text, tmp_path) for kind, text in blocks("docs/simulating.md")]
    found = json.loads((tmp_path / "loop/result.json").read_text("utf-8"))
    halves = {cycle: told["value"] for cycle, told in found["half_life"].items()}
    assert halves["full"] is not None and halves["full"] < 8
    assert halves["balanced"] is None
    last = {(run["cycle"], run["seed"]): run["iterations"][-1] for run in found["runs"]}
    assert last["full", 0]["levenshtein"] < last["full:fresh_share=0.25", 0]["levenshtein"]
    cells = json.loads((tmp_path / "map/result.json").read_text("utf-8"))["cells"]
    plane = {(cell["temperature"], cell["fresh_share"]): cell["phase"] for cell in cells}
    assert "diversity" == plane[0.8, 0.0]
    assert {"neither", "correctness"} >= {plane[1.0, 0.0], plane[1.0, 0.25]}
    assert "diversity halves after about" in printed[-1]


def test_the_blocks_about_valuing_run(tmp_path: Path) -> None:
    """Every block of docs/valuing.md runs, and finds what is known of the set that the page makes."""
    printed = [run_block(kind, text, tmp_path) for kind, text in blocks("docs/valuing.md")]
    valued = json.loads((tmp_path / "value/result.json").read_text("utf-8"))
    low, high = valued["equivalence"]["interval"]
    assert 0 < low < high < 800
    verdicts = {row["human"]: row["verdict"] for row in valued["marginal"]}
    assert ("helps", "hurts") == (verdicts[0], verdicts[800])
    assert "no" == valued["generator_saw_human"]
    lines = [line for text in printed for line in text.splitlines() if line.startswith(("narrow ", "noisy "))]
    told = dict(line.split(maxsplit=1) for line in lines)
    assert told["noisy"].startswith("None (0.0") and told["noisy"].endswith("hurts")
    assert 0 < int(told["narrow"].split()[0]) < 400
    crossed = json.loads((tmp_path / "crossed/result.json").read_text("utf-8"))["table"]
    table = {(cell["trained_on"], cell["tested_on"]): cell["value"] for cell in crossed}
    assert table["narrow", "narrow"] > 0.9 > table["human", "human"] > table["narrow", "human"]
    arms = json.loads((tmp_path / "mitigated/result.json").read_text("utf-8"))["arms"]
    better = {arm["name"] for arm in arms if arm["area"] and arm["area"]["verdict"] == "better"}
    assert "ordered:agreement" in better and "ordered:random" not in better
    assert {"detector"} <= {arm["name"] for arm in arms if arm["order"]["informative"] is False}
    wrong = [row["label"] != row["gold"] for row in read(tmp_path / "kept.jsonl")]
    assert sum(wrong) < 0.1 * len(wrong) == 40  # 0.25 of all
    saw = {tuple(row["lineage"]["generator_saw"]) for row in read(tmp_path / "written.jsonl")}
    assert {(karat.read(tmp_path / "human.jsonl").fingerprint,)} == saw


def test_the_constraints_on_the_page_about_generating_are_of_an_example() -> None:
    """The tables that the page shows are read in a task file that has the attributes they speak of."""
    (shown,) = (text for kind, text in blocks("docs/generating.md") if kind == "toml")
    lists = {
        "writer": ["a child of eight years", "a racer"],
        "subject": ["a refund", "a cargo bicycle"],
        "mood": ["friendly", "in a hurry"],
        "wish": ["a quiet compartment", "room for a bicycle"],
        "outcome": ["the wish is met", "the traveller leaves"],
    }
    values = "\n".join(f"{name} = {json.dumps(listed)}" for name, listed in lists.items())
    text = f'domain = "message"\nlabels = ["advice", "order"]\n[attributes]\n{values}\n{shown}'
    task = task_of(tomllib.loads(text), "page")
    assert (2, 1) == (len(task.constraints), len(task.joint))


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "tasks").glob("*.toml")), ids=lambda p: p.stem)
def test_the_example_tasks_make_records(path: Path, desk: Path, server: str, tmp_path: Path) -> None:
    """Each example is made on the command line, by a recipe for its type, into records of that type."""
    task = Task.from_toml(path)
    recipes = {"preference": "compare:contrast=instruction,judged=false", "dialogue": "converse"}
    provider = f"openai_compatible:model=my-model,url={server}"
    command = ["karat", "generate", "--task", str(path), "-n", "6"]
    command += ["--recipe", recipes.get(task.type, "simple")]
    if task.type == "annotation":
        command = ["karat", "annotate", str(desk / "human.jsonl"), "--task", str(path)]
    out = tmp_path / "made.jsonl"
    told = json.loads(run([*command, "--provider", provider, "--out", str(out), "--json"], tmp_path))
    assert 0 == told["rejected"]["rows"]
    found = karat.read(out)
    assert task.type == found.datatype
    assert (400 if task.type == "annotation" else 6) == len(found)
    if task.type == "dialogue":
        assert {task.turns} == {len(row["messages"]) for row in found}


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
    used |= set(re.findall(r"\bfound\.(?:append|insert)\((?:0, )?\(\s*\"([a-z_]+)\"", source))
    used |= set(re.findall(r"^CODE = \"([a-z_]+)\"", source, re.M))
    told = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "warnings.md").read_text("utf-8"), re.M))
    assert used <= told, f"not explained: {used - told}"
    begun = tuple(re.findall(r"\bWarned\(\s*f\"([a-z_]+_)\{", source))  # a code whose end is put in
    unused = {code for code in told - used if f'"{code}"' not in source and not code.startswith(begun)}
    assert set() == unused, f"nobody warns of: {unused}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """A relative link leads to a file of the repository."""
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in target or (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "docs/generating.md", "docs/simulating.md", "docs/valuing.md"])
def test_flags_on_the_pages_are_flags(page: str) -> None:
    """Every flag that stands behind karat on a page is one of the program's."""
    known = set(re.findall(r"--[a-z][a-z-]*", (ROOT / "docs" / "commands.md").read_text("utf-8")))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*(?![a-z-]*[A-Z])", (ROOT / page).read_text("utf-8")))
    assert set() == named - known


def test_commands_in_the_readme_are_commands() -> None:
    """Every `karat COMMAND` that a page names exists."""
    from karat.cli import COMMANDS, OTHERS

    for page in PAGES:
        named = set(re.findall(r"`karat ([a-z]+(?:-[a-z]+)*)", (ROOT / page).read_text("utf-8")))
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
