"""The order of the house: who may import whom, and how large a file and a function may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from karat import registry

SOURCE = Path(__file__).parent.parent / "src" / "karat"

# A module imports only from its own room and from rooms before it.
ORDER = (
    "version",
    "errors",
    "registry",
    "formats",
    "rows",
    "records",
    "blocks",
    "runs",
    "executors",
    "datatypes",
    "datasets",
    "texts",
    "generation",
    "auditing",
    "curation",
    "training",
    "valuation",
    "simulation",
    "piloting",
    "reporting",
    "demo",
    "console",
    "cli_flags",
    "cli_finish",
    "cli",
    "__main__",
)
HEAVY = {"torch", "transformers", "sentence_transformers", "scipy", "sklearn", "pandas", "ray"}
# Imported by nobody at the top level; they are models, and name torch on every line.
TORCH_AT_TOP = {
    "generation/causal.py",
    "generation/causal_kernels.py",
    "generation/causal_training.py",
    "training/transformer.py",
    "training/transformer_search.py",
    "training/transformer_training.py",
}
SHELF_FOLDERS = {
    shelf: home.removeprefix("karat.").replace(".", "/") for shelf, home in registry.SHELVES.items()
}
LINES_OF_A_FILE = 500
LINES_OF_A_FUNCTION = 80

FILES = sorted(SOURCE.rglob("*.py"))
MODULES = {str(path.relative_to(SOURCE)): ast.parse(path.read_text("utf-8")) for path in FILES}


def each_module() -> list[object]:
    return [pytest.param(name, tree, id=name) for name, tree in MODULES.items()]


def imports(tree: ast.AST, name: str, *, types: bool = True) -> Iterator[tuple[str, int]]:
    """Yield the full name and the line of every import, in functions and, with `types`, for checkers too."""
    skipped: set[int] = set()
    if not types:
        skipped = {id(inner) for node in ast.walk(tree) if type_checking(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: relative import"
            module = node.module or ""
            for alias in node.names:
                # `from karat import runs` names a module, `from karat.runs import Run` does not
                inside = SOURCE / Path(*module.split(".")[1:]) / alias.name
                named = inside.with_suffix(".py").exists() or (inside / "__init__.py").exists()
                yield (
                    f"{module}.{alias.name}" if module.startswith("karat") and named else module,
                    node.lineno,
                )


def type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def top_level(tree: ast.Module) -> ast.Module:
    """Return what runs when the module is imported: everything but the bodies of functions."""

    class Cut(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

    return Cut().visit(ast.parse(ast.unparse(tree)))


def room(module: str) -> str:
    """Return the room of `karat.auditing.stage`: `auditing`."""
    return module.split(".")[1] if "." in module else ""


def room_of_file(name: str) -> str:
    return Path(name).parts[0].removesuffix(".py")


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the length of a function without its docstring: that of a stage holds the help of all flags."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
    return lines


def shelf_of_file(name: str) -> str | None:
    """Return the shelf of a file, for parts and for what stands beside them."""
    folder = str(Path(name).parent)
    return next((shelf for shelf, home in SHELF_FOLDERS.items() if home == folder), None)


def part_of_file(name: str) -> str | None:
    shelf, stem = shelf_of_file(name), Path(name).stem
    return stem if shelf and stem != "base" and not stem.startswith("_") else None


def test_the_rules_see_the_whole_package() -> None:
    """The rules below are of no use if they read nothing."""
    assert len(MODULES) > 40
    rooms = {room_of_file(name) for name in MODULES} - {"__init__"}
    assert set(ORDER) >= rooms, f"not in the order: {rooms - set(ORDER)}"


@pytest.mark.parametrize(("name", "tree"), each_module())
def test_import_order_is_data_order(name: str, tree: ast.Module) -> None:
    """A module imports only from its own room and those before it; inside functions too."""
    if name == "__init__.py":
        pytest.skip("the face imports by name, when a name is first used")
    own = ORDER.index(room_of_file(name))
    late = [
        f"{name}:{line} imports {module}"
        for module, line in imports(tree, name)
        if module.startswith("karat.") and ORDER.index(room(module)) > own
    ]
    assert [] == late


@pytest.mark.parametrize(("name", "tree"), each_module())
def test_stages_and_parts_keep_apart(name: str, tree: ast.Module) -> None:
    """A part imports no other part, no executor, no run and no stage; reporting and stages meet in blocks."""
    part = part_of_file(name)
    if name == "__init__.py":
        return
    wrong = []
    for module, line in imports(tree, name):
        if not module.startswith("karat."):
            continue
        target = module.removeprefix("karat.").replace(".", "/") + ".py"
        other = part_of_file(target)
        itself = target == name
        if part and other and not itself:
            wrong.append(f"{name}:{line}: the part imports the part {module}; ask for it with registry.make")
        if part and room(module) in ("executors", "runs") and room_of_file(name) != "executors":
            wrong.append(f"{name}:{line}: the part imports {module}; a part does not know where it runs")
        if part and target.endswith("/stage.py"):
            wrong.append(f"{name}:{line}: the part imports the stage {module}")
        if room_of_file(name) == "reporting" and room(module) not in (
            "reporting",
            "blocks",
            "errors",
            "version",
        ):
            wrong.append(f"{name}:{line}: reporting imports {module}; it knows blocks only")
        if room(module) == "reporting" and room_of_file(name) not in (
            "reporting",
            "demo",
            "cli",
            "cli_finish",
        ):
            wrong.append(f"{name}:{line}: a stage imports reporting; they meet in blocks")
    assert [] == wrong


@pytest.mark.parametrize(("name", "tree"), each_module())
def test_heavy_libraries_wait_until_they_are_needed(name: str, tree: ast.Module) -> None:
    """No module imports torch, scipy, sklearn, pandas ... at its top level, and only one file knows ray."""
    at_top = {module.split(".")[0] for module, _ in imports(top_level(tree), name, types=False)} & HEAVY
    if name in TORCH_AT_TOP:
        at_top -= {"torch"}
    assert set() == at_top
    if name != "executors/ray.py":
        assert "ray" not in {module.split(".")[0] for module, _ in imports(tree, name)}


@pytest.mark.parametrize(("name", "tree"), each_module())
def test_models_are_imported_inside_functions(name: str, tree: ast.Module) -> None:
    """The files that have torch at their top level are themselves imported only inside functions."""
    if name in TORCH_AT_TOP:
        return
    heavy = {"karat." + path.removesuffix(".py").replace("/", ".") for path in TORCH_AT_TOP}
    assert set() == {module for module, _ in imports(top_level(tree), name, types=False)} & heavy


@pytest.mark.parametrize(("name", "tree"), each_module())
def test_budgets(name: str, tree: ast.Module) -> None:
    """A file has under 500 lines, a function without its help under 80; a module says what it holds."""
    assert ast.get_docstring(tree), f"{name} does not say what it holds"
    assert (SOURCE / name).read_text("utf-8").count("\n") < LINES_OF_A_FILE
    long = [
        f"{name}:{node.lineno} {node.name} has {length} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := lines_of(node)) >= LINES_OF_A_FUNCTION
    ]
    assert [] == long


@pytest.mark.parametrize("name", list(MODULES))
def test_a_name_says_what_is_inside(name: str) -> None:
    """No module is called utils, helpers or common: such a room has no order."""
    assert not {Path(name).stem, *Path(name).parts} & {"utils", "util", "helpers", "helper", "common", "misc"}


@pytest.mark.parametrize(("name", "tree"), each_module())
def test_libraries_are_quiet(name: str, tree: ast.Module) -> None:
    """No module configures logging or reads the environment on import; only the command line prints."""
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not calls & {"logging.basicConfig", "logging.disable", "eval", "exec"}
    if room_of_file(name) not in ("console", "cli", "cli_finish"):
        assert "print" not in calls
    top = {ast.unparse(node) for node in ast.walk(top_level(tree)) if isinstance(node, ast.Attribute)}
    assert not top & {"os.environ", "os.getenv"}
