"""What holds for every part of every shelf: found by name, made with defaults, written and read back."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import pytest

from karat import registry

PARTS = [(shelf, name) for shelf in registry.SHELVES for name in registry.names(shelf)]
each_part = pytest.mark.parametrize(("shelf", "name"), PARTS, ids=[f"{s}-{n}" for s, n in PARTS])


def example(shelf: str, name: str) -> object:
    """Return a part with its defaults; settings without one are filled with a plausible text."""
    needed = {s.name: "x.jsonl" for s in registry.describe(shelf, name).settings if s.required}
    pairs = ",".join(f"{key}={value}" for key, value in needed.items())
    return registry.make(shelf, name + (":" + pairs if pairs else ""))


@pytest.mark.parametrize("shelf", registry.SHELVES)
def test_no_shelf_is_empty(shelf: str) -> None:
    """Each room of the house has at least one honest part."""
    assert registry.names(shelf)


def test_listing_imports_no_part() -> None:
    """Listing every shelf imports none of the parts."""
    code = (
        "import sys; from karat import registry\n"
        "known = {s: registry.names(s) for s in registry.SHELVES}\n"
        "homes = {f'{registry.SHELVES[s]}.{n}' for s in known for n in known[s]}\n"
        "print(sorted(homes & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == ran.stdout.strip()


@each_part
def test_a_part_is_a_frozen_dataclass_that_says_what_it_is(shelf: str, name: str) -> None:
    """A part is frozen, carries its settings as fields, and its first docstring line is its help."""
    part = registry.find(shelf, name)
    assert dataclasses.is_dataclass(part)
    assert part.__dataclass_params__.frozen  # type: ignore[attr-defined]
    described = registry.describe(shelf, name)
    assert described.summary
    assert not described.summary.startswith(f"{part.__name__}("), "the docstring that dataclass makes"
    assert name == registry.name_of(part)


@each_part
def test_a_part_is_made_and_written_back(shelf: str, name: str) -> None:
    """A part made from its own spec is equal to itself."""
    part = example(shelf, name)
    assert part == registry.make(shelf, registry.spec_of(part))
    assert registry.signature(part).startswith(name + "|")


@each_part
def test_settings_are_plain_and_refused_when_unknown(shelf: str, name: str) -> None:
    """A setting holds a plain value, and one that a part does not have is refused by name."""
    from karat.errors import BadSetting

    for value in registry.settings(example(shelf, name)).values():
        assert value is None or isinstance(value, str | int | float | bool | tuple)
    with pytest.raises(BadSetting, match=r"no_such_setting|takes no settings"):
        registry.make(shelf, f"{name}:no_such_setting=1")


# What a shelf's parts can do; each entry holds names of methods or properties.
VERBS = {
    "datatypes": ({"normalise", "text", "forms", "label"},),
    "executors": ({"map"},),
    "providers": ({"complete"},),
    "recipes": ({"messages"},),
    "encoders": ({"fit"},),
    "metrics": ({"needs", "values"}, {"needs", "between"}, {"needs", "compare"}),
    "scorers": ({"fields", "lacks", "score"},),
    "trainers": ({"fit"},),
    "cycles": ({"policy"},),
}


@each_part
def test_a_part_has_the_verbs_of_its_shelf(shelf: str, name: str) -> None:
    """Whoever asks a shelf for a part can use it without knowing which one it is."""
    have = {verb for verb, _ in inspect.getmembers(registry.find(shelf, name))}
    forms = VERBS.get(shelf, (set(),))
    assert any(form <= have for form in forms), f"{name} has none of {forms}"


FAMILIES = {
    "size",
    "lexical",
    "repetition",
    "embedding",
    "difference",
    "contamination",
    "label",
    "annotation",
    "preference",
    "instruction",
    "dialogue",
    "attribute",
    "discourse",
}


@pytest.mark.parametrize("name", registry.names("metrics"))
def test_a_metric_says_when_it_misleads(name: str) -> None:
    """Each metric names its family, what a higher value means, when it misleads, its source and its cost."""
    metric = registry.find("metrics", name)
    assert metric.family in FAMILIES
    for fact in ("misleads", "cost"):
        assert len(getattr(metric, fact)) > 3, f"{name} does not say: {fact}"
    assert metric.source or metric.family == "size", f"{name} names no source"
    assert set(metric.cure) <= {"higher", "lower"}
