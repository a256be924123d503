"""What importing karat costs, and that what it imports is declared."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "pandas", "scipy", "sklearn", "transformers", "sentence_transformers", "polars", "ray")


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def loaded_after(code: str) -> str:
    return run(f"import sys\n{code}\nprint([name for name in {HEAVY!r} if name in sys.modules])")


def test_import_is_quick() -> None:
    """`import karat` takes less than 0.3 s: the median of five fresh processes."""
    code = "import time; begun = time.perf_counter(); import karat; print(time.perf_counter() - begun)"
    seconds = [float(run(code)) for _ in range(5)]
    assert statistics.median(seconds) < 0.3, seconds


def test_import_loads_nothing_heavy() -> None:
    """`import karat` loads no torch, pandas, scipy, sklearn ..."""
    assert "[]" == loaded_after("import karat")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["audit", "--help"], ["train", "--help"]], ids=" ".join
)
def test_the_command_line_answers_before_anything_heavy_is_loaded(arguments: list[str]) -> None:
    """Help and lists load no torch, pandas, scipy, sklearn."""
    code = f"from karat.cli import main\nassert main({arguments!r}) == 0"
    last = loaded_after(code).splitlines()[-1]
    assert not [name for name in ("torch", "pandas", "scipy", "sklearn") if f"'{name}'" in last], last


def test_every_public_name_is_there() -> None:
    """Each name of `karat.__all__` can be had, and `dir` knows it."""
    import karat

    assert [name for name in karat.__all__ if getattr(karat, name, None) is None] == []
    assert set(karat.__all__) <= set(dir(karat))


def test_what_is_imported_is_declared() -> None:
    """Every library that src/karat imports stands in pyproject.toml, but for one that cannot be installed.

    unbabel-comet wants numpy below 2 and transformers below 5: an extra that names it would resolve nowhere.
    """
    declared = (ROOT / "pyproject.toml").read_text("utf-8").lower()
    names = {"jinja2": "jinja2", "sklearn": "scikit-learn", "vl_convert": "vl-convert-python"}
    names |= {"sentence_transformers": "sentence-transformers", "huggingface_hub": "huggingface-hub"}
    missing = set()
    for path in (ROOT / "src/karat").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [node.module or ""]
            else:
                continue
            for name in {module.split(".")[0] for module in found} - {"karat", "__future__", "comet"}:
                written = names.get(name, name)
                if name not in {*sys.stdlib_module_names, "tomllib"} and not re.search(
                    rf'"{re.escape(written)}[<>=~ "\[]', declared
                ):
                    missing.add(f"{path.name}: {name}")
    assert set() == missing
