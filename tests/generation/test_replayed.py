"""Every recipe through a real connection, recorded, and replayed to the same records without any server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fault_server import serving
from test_recipes import ATTRIBUTES, NAMES, OWN, SOME, TYPES, human_of, recipe_of, task_of

import karat
from karat.generation.journal import export
from karat.records import Records

# What a model might say where a recipe wants more than words; the first that fits the prompt.
SCRIPT = (
    ("Answer with A or B", "A"),
    ("better", "A"),
    (
        "probability",
        '[{"text": "a lamp on the wall", "probability": 0.4}, {"text": "two doors", "probability": 0.1}]',
    ),
    ("Answer with the name of one", "yes"),
    ("one of them", "yes"),
)


def pairs() -> list[tuple[str, str]]:
    """Every recipe with one type that it can make."""
    return [(name, (OWN.get(name) or SOME.get(name) or TYPES)[0]) for name in NAMES]


def given(name: str, kind: str) -> tuple[Any, Records, Records | None]:
    recipe, human = recipe_of(name), human_of(kind)
    return recipe, human, human if "items" in getattr(recipe, "needs", ()) else None


@pytest.mark.parametrize(("name", "kind"), pairs())
def test_a_recipe_is_recorded_and_replayed(name: str, kind: str, tmp_path: Path) -> None:
    """Rows end as records or reasons, tokens add up to what the server counted, and a replay is equal."""
    recipe, human, items = given(name, kind)
    task = task_of(kind, attributes=ATTRIBUTES)
    settings: dict[str, Any] = {"recipe": recipe, "n": 6, "seed": 3}
    with serving(latency=0.001, script=SCRIPT) as server:
        made = karat.generate(
            task,
            human,
            items,
            provider=f"openai_compatible:model=m,url={server.url}",
            journal=tmp_path,
            **settings,
        )
        told = server.stats()
    # A server that always says A prefers neither of two answers that are shown in both orders.
    assert len(made.records) or name == "compare", [one.reason for one in made.rejected]
    assert len(made.records) + len(made.rejected) >= min(6, len(made.plan))
    assert (told["tokens_in"], told["tokens_out"]) == (made.usage.tokens_in, made.usage.tokens_out)
    assert all(one.reason for one in made.rejected)
    # What a record has cost is in its lineage; rejected rows bear the rest.
    assert sum(made.records.lineage("tokens_out")) <= made.usage.tokens_out
    assert all(source == "synthetic" for source in made.records.lineage("source"))
    answers = tmp_path / "answers.jsonl"
    assert made.usage.answers == export(tmp_path / "calls.sqlite", answers)
    again = karat.generate(task, human, items, provider=f"replay:path={answers}", **settings)
    assert made.records.ids == again.records.ids and made.records.fingerprint == again.records.fingerprint
    assert [one.id for one in made.rejected] == [one.id for one in again.rejected]
