"""The registry: parts are found by name, made from specs, and described from one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from karat import registry
from karat.errors import BadSetting, UnknownPart


@dataclass(frozen=True)
class FancyPart:
    """A part for these tests."""

    n: int = 2
    share: float = 0.5
    kind: Literal["a", "b"] = "a"
    on: bool = False
    name: str = ""
    top: int | None = None
    sizes: tuple[int, ...] = (1, 2)


@pytest.fixture(autouse=True)
def shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand one part on the shelf of metrics."""
    real = registry.find
    monkeypatch.setattr(registry, "find", lambda s, n: FancyPart if n == "fancy_part" else real(s, n))


def test_settings_are_coerced_by_their_annotations() -> None:
    """Text becomes the annotated type: numbers, switches, choices, optional values, tuples."""
    made = registry.make("metrics", "fancy_part:n=3,share=1e-2,kind=b,on=yes,name=x,top=none,sizes=4+5")
    assert FancyPart(3, 0.01, "b", True, "x", None, (4, 5)) == made
    assert FancyPart(top=7) == registry.make("metrics", "fancy_part:top=7")


def test_spec_and_signature_say_how_a_part_was_made() -> None:
    """A part's spec makes the same part again; its signature names settings and version."""
    made = FancyPart(n=4, on=True, sizes=(9,))
    assert made == registry.make("metrics", registry.spec_of(made))
    assert registry.signature(made, ref="abc").startswith("fancy_part|n:4|share:0.5|kind:a|on:true|")
    assert registry.signature(made, ref="abc").endswith("|version:0.1.0|ref:abc")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fancy_part:m=1", r"metric 'fancy_part' has no setting 'm'.*it has: n, share"),
        ("fancy_part:n=two", r"setting 'n' is 'two', but must be a whole number"),
        ("fancy_part:kind=c", r"setting 'kind' is 'c'; choose one of: a, b"),
        ("fancy_part:on=perhaps", r"write true or false"),
        ("", r"names no part"),
    ],
)
def test_bad_settings_are_named_with_their_cure(spec: str, message: str) -> None:
    """A wrong setting gives one line with the part, the setting, the value and the choices."""
    with pytest.raises(BadSetting, match=message):
        registry.make("metrics", spec)


def test_unknown_names_get_a_suggestion() -> None:
    """An unknown part or shelf names its nearest neighbour."""
    with pytest.raises(
        UnknownPart, match=r"no datatype named 'txt'; did you mean 'text'\? \(see: karat list datatypes\)"
    ):
        registry.make("datatypes", "txt")
    with pytest.raises(UnknownPart, match=r"no shelf named 'metric'; did you mean 'metrics'"):
        registry.names("metric")


def test_a_comma_inside_a_value_stays_in_it() -> None:
    """`name:label=a,b` is one setting with a comma, since `b` has no equals sign."""
    assert ("p", {"label": "a,b", "n": "2"}) == registry.parse("p:label=a,b,n=2")


def test_names_turn_into_classes_and_back() -> None:
    """File names and class names say the same thing."""
    for name in ("distinct_n", "aps", "two_sample_auc", "openai_compatible", "ngram_frequency_dqi"):
        assert name == registry.snake(registry.camel(name))
