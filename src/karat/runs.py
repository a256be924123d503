"""Runs: a step is named by a hash of its inputs and settings; its manifest is written last. Knows no stage.

Resume is a consequence: a step whose manifest exists is loaded instead of run. A folder without a
manifest is the remains of a run that was killed, and is replaced.

    <run>/steps/<stage>-<key>/result.json     the frozen result, without its records
                              records-*.parquet
                              manifest.json   written last: seed, versions, commit, seconds, tokens, money
    <run>/work/<name>/                        journals and caches of stages that keep their own
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import orjson

from karat import records as karat_records
from karat import registry
from karat.errors import InputError
from karat.formats import release
from karat.records import Records
from karat.version import __version__

if TYPE_CHECKING:
    from cattrs import Converter

Result = TypeVar("Result")

# Where and how loudly a step runs does not change what it gives.
_PLACEMENT = frozenset({"executor", "progress", "journal", "cache", "concurrency", "memory"})
_BATCH = 50_000  # records looked at a time: a corpus may be larger than memory
_LIBRARIES = ("numpy", "pyarrow", "polars", "scikit-learn", "torch", "transformers")


@dataclass(frozen=True)
class Run:
    """A folder in which the results of steps are kept.

    `fresh` ignores what is kept and replaces it.
    """

    folder: Path
    fresh: bool = False

    def step(self, stage: Callable[..., Result], *inputs: Any, **settings: Any) -> Result:
        """Return `stage(*inputs, **settings)`, from the folder when the same step has been run before.

        Inputs and settings must be Records, parts, frozen dataclasses, plain values or earlier results.
        """
        described = _described(stage, inputs, settings)
        home = self._home(described)
        if (home / "manifest.json").exists() and not self.fresh:
            found = load(home)
            if found is not None:
                return found  # type: ignore[no-any-return]
        started = time.perf_counter()
        result = stage(*inputs, **settings)
        seconds = time.perf_counter() - started
        save(result, home, stage=stage.__name__, described=described, seconds=seconds)
        return result

    def home(self, stage: Callable[..., Any], *inputs: Any, **settings: Any) -> Path:
        """Return the folder in which `step` keeps the result of these arguments."""
        return self._home(_described(stage, inputs, settings))

    def _home(self, described: Mapping[str, Any]) -> Path:
        name = str(described["stage"]).rpartition(".")[2]
        return self.folder / "steps" / f"{name}-{step_key(described)}"

    def work(self, name: str) -> Path:
        """Return a folder of the run for a stage's own journal or cache; made when it is missing."""
        folder = self.folder / "work" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def manifests(self) -> list[dict[str, Any]]:
        """Return the manifests of all finished steps, oldest first."""
        found = [json.loads(path.read_text("utf-8")) for path in self.folder.glob("steps/*/manifest.json")]
        return sorted(found, key=lambda manifest: str(manifest["started"]))


def step_key(described: Mapping[str, Any]) -> str:
    """Return the 16 hexadecimal digits that name a step."""
    text = json.dumps(described, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def save(result: Any, home: Path, *, stage: str, described: Mapping[str, Any], seconds: float) -> None:
    """Write a result into a folder, the manifest last; a folder left by a killed run is replaced."""
    if not dataclasses.is_dataclass(result) or isinstance(result, type):
        raise AssertionError(f"{stage} gave {type(result).__name__}; a stage gives a frozen dataclass")
    if home.exists():
        shutil.rmtree(home)
    home.mkdir(parents=True)
    kept: list[Records] = []
    plain = _converter(kept, home).unstructure(result)
    for number, found in enumerate(kept):
        found.write(home / f"records-{number}.parquet")
    options = (
        orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    )  # tables by number, such as shares of sizes
    (home / "result.json").write_bytes(orjson.dumps(plain, option=options))
    manifest = {
        "stage": stage,
        "type": f"{type(result).__module__}:{type(result).__qualname__}",
        "step": described,
        "started": datetime.fromtimestamp(time.time() - seconds, timezone.utc).isoformat(
            timespec="milliseconds"
        ),
        "seconds": round(seconds, 3),
        "usage": _plain_usage(getattr(result, "usage", None)),
        "machine": f"{platform.system()} {platform.machine()}",
        "commit": commit(),
        "versions": versions(),
    }
    temporary = home / ".manifest"
    temporary.write_text(json.dumps(manifest, indent=1, ensure_ascii=False, sort_keys=True), "utf-8")
    os.replace(temporary, home / "manifest.json")


def load(home: Path) -> Any:
    """Return the result kept in a folder, or None when it was written by code that has changed since."""
    manifest = json.loads((home / "manifest.json").read_text("utf-8"))
    module, _, name = str(manifest["type"]).partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
        return _converter([], home).structure(orjson.loads((home / "result.json").read_bytes()), kind)
    except Exception:
        # A field was added or renamed since: the step is simply run again.
        return None


def read_result(path: str | os.PathLike[str]) -> Any:
    """Return the result kept in a step's folder (or named by its manifest). Raises InputError."""
    home = Path(path)
    home = home.parent if home.name == "manifest.json" else home
    if not (home / "manifest.json").exists():
        raise InputError(f"{path}: no manifest.json; name the folder of a finished step (.karat/steps/...)")
    found = load(home)
    if found is None:
        raise InputError(f"{path}: was written by another version of karat; run its command again")
    return found


def versions() -> dict[str, str]:
    """Return the versions of karat, Python and the libraries that change numbers."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"karat": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the commit of the checkout that karat runs from, `+` when changed; empty when installed."""
    root = Path(__file__).parent
    if not (root.parent.parent / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _described(
    stage: Callable[..., Any], inputs: tuple[Any, ...], settings: Mapping[str, Any]
) -> dict[str, Any]:
    bound = inspect.signature(stage).bind(*inputs, **settings)
    bound.apply_defaults()
    chosen = {key: describe(value) for key, value in bound.arguments.items() if key not in _PLACEMENT}
    return {"stage": f"{stage.__module__}.{stage.__name__}", "version": __version__, "arguments": chosen}


def describe(value: Any) -> Any:
    """Return a plain value that changes when `value` does."""
    if isinstance(value, str | Path):
        files = _files(str(value))
        return {"text": str(value), "files": files} if files else str(value)
    if value is None or isinstance(value, int | float | bool):
        return value
    if isinstance(value, Records):
        # ids stand in reasons and warnings, so the same texts under other ids are another step
        return {"records": value.fingerprint, "ids": _ids_key(value), "lineage": _lineage_key(value)}
    if isinstance(value, Mapping):
        return {str(key): describe(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        entries = [describe(entry) for entry in value]
        return sorted(entries, key=str) if isinstance(value, set | frozenset) else entries
    if isinstance(value, np.generic):
        return value.item()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"part": registry.name_of(value), **fields}
    raise AssertionError(
        f"a step cannot be named by {type(value).__name__}; give plain values, parts or records"
    )


def _files(text: str) -> dict[str, str]:
    """The content of files that a setting names, as `plan.jsonl` or `replay:path=answers.jsonl` do.

    People edit such files between two runs of a command; the second must not be answered from the first.
    """
    pieces = {text, *re.split(r"[:=,]", text)} if len(text) < 4096 else set()
    # Path.is_file raises for a text that is longer than any name may be
    found = sorted(piece for piece in pieces if os.path.isfile(piece))
    return {piece: hashlib.sha256(Path(piece).read_bytes()).hexdigest()[:16] for piece in found}


def _ids_key(found: Records) -> str:
    digest = hashlib.sha256()
    for batch in found.table.select(["id"]).to_batches(max_chunksize=_BATCH):
        digest.update("".join(f"{one}\n" for one in batch.column(0).to_pylist()).encode("utf-8", "replace"))
    release()
    return digest.hexdigest()[:8]


def _lineage_key(found: Records) -> str:
    digest = hashlib.sha256()
    for batch in found.table.select(["lineage"]).to_batches(max_chunksize=_BATCH):
        for name in ("source", "generator", "generator_saw", "parents", "attributes"):
            known = batch.column(0).field(name)
            empty = known.null_count == len(known)
            digest.update(repr(len(known) if empty else known.to_pylist()).encode("utf-8", "replace"))
    release()
    return digest.hexdigest()[:8]


def _converter(kept: list[Records], home: Path) -> Converter:
    import cattrs

    converter = cattrs.Converter()

    def keep(found: Records) -> dict[str, Any]:
        kept.append(found)
        return {"file": f"records-{len(kept) - 1}.parquet", "datatype": found.datatype, "path": found.path}

    def restore(entry: dict[str, Any], _: type[Records]) -> Records:
        import pyarrow.parquet as parquet

        table = parquet.read_table(home / entry["file"])
        return karat_records.from_table(table, entry["datatype"], entry["path"])

    converter.register_unstructure_hook(Records, keep)
    converter.register_structure_hook(Records, restore)
    converter.register_structure_hook_func(lambda kind: kind is Any, lambda value, _: value)
    converter.register_unstructure_hook(float, lambda value: value if np.isfinite(value) else None)
    converter.register_structure_hook(float, lambda value, _: float("nan") if value is None else float(value))
    # `[1, 2.5, "x"]` may stand in a row: such unions of plain values are kept as they are
    converter.register_structure_hook_func(_plain_union, lambda value, _: value)
    return converter


def _plain_union(kind: Any) -> bool:
    import types
    import typing

    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return False
    return all(argument in (str, int, float, bool, type(None)) for argument in typing.get_args(kind))


def _plain_usage(usage: Any) -> Any:
    return (
        dataclasses.asdict(usage)
        if dataclasses.is_dataclass(usage) and not isinstance(usage, type)
        else usage
    )
