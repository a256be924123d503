"""Providers: what is asked comes back in order, the same for one seed; and what is special to each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from karat import errors, records, registry
from karat.generation.base import Message, Request, Response
from karat.generation.stage import generate
from karat.generation.tasks import Label, Task
from karat.records import Records

WORDS = {
    "north": ["снег идёт по белому полю", "лёд лежит на тихом озере"],
    "south": ["太陽が海の上に輝く", "砂は昼に熱くなる"],
}
TINY = "embedded:layers=1,heads=2,width=32,context=64,vocab=300,epochs=40,max_seconds=0,dropout=0"


def human(n: int = 80) -> Records:
    """Invented texts in two scripts, which say their label and their attribute."""
    rows = []
    for i in range(n):
        label, which = ("north", "south")[i % 2], i // 2 % 2
        rows.append(
            {
                "text": WORDS[label][which],
                "label": label,
                "lineage": {"source": "human", "attributes": json.dumps({"which": str(which)})},
            }
        )
    return records.from_rows(rows, datatype="classification")


def ask(provider: Any, requests: Sequence[Request]) -> list[Response]:
    return asyncio.run(provider.complete(requests))


def request(i: int, label: str | None = "north", seed: int | None = None, **more: Any) -> Request:
    message = (Message("user", f"write {label}"),)
    seed = i if seed is None else seed
    return Request(f"r{i}", message, label, seed=seed, index=i, max_tokens=60, **more)


@pytest.fixture(scope="module")
def taught() -> Any:
    pytest.importorskip("torch", reason="needs karat[torch]")
    return registry.make("providers", TINY).fit(human(), seed=0)


@pytest.fixture
def recorded(tmp_path: Path) -> Any:
    path = tmp_path / "answers.jsonl"
    path.write_text(
        "\n".join(json.dumps({"text": f"text {i}", "tokens_out": 3, "cost_usd": 0.5}) for i in range(6))
    )
    return registry.make("providers", f"replay:path={path}")


@pytest.mark.parametrize("name", ["taught", "recorded"])
def test_every_provider_keeps_the_contract(name: str, request: pytest.FixtureRequest) -> None:
    """One answer for each request, in order, non-empty, the same again, never dearer than its price."""
    provider = request.getfixturevalue(name)
    asked = [globals()["request"](i) for i in range(5)]
    answers = ask(provider, asked)
    assert [r.id for r in asked] == [a.request_id for a in answers]
    assert answers == ask(provider, asked)
    assert provider.model and provider.batch_size >= 1 and provider.concurrency >= 1
    for r, a in zip(asked, answers):
        price = provider.price(r)
        assert a.tokens_in + a.tokens_out <= price.tokens and a.cost_usd <= price.usd


def test_embedded_learns_labels_and_attributes_in_any_script(taught: Any) -> None:
    """Label and attribute decide the text; it is decoded whole, with its tokens and log-probability."""
    cases = [(label, which) for label in WORDS for which in (0, 1)]
    asked = [
        request(i, label, attributes={"which": str(w)}, temperature=0) for i, (label, w) in enumerate(cases)
    ]
    answers = ask(taught, asked)
    assert [WORDS[label][which] for label, which in cases] == [a.text for a in answers]
    assert all(a.logprob is not None and -1 < a.logprob < 0 and a.tokens_out > 1 for a in answers)


def test_one_embedded_model_answers_plain_requests_too(taught: Any) -> None:
    """Without attributes the label still decides, and both of its texts come up."""
    answers = ask(taught, [request(i, "south", temperature=0.5) for i in range(40)])
    known = [a.text for a in answers if a.text in WORDS["south"]]
    assert len(known) >= 20 and 2 == len(set(known))


def test_an_embedded_answer_does_not_depend_on_its_batch(taught: Any) -> None:
    """A resumed run asks in other batches, and must get the same answers; another replicate differs."""
    asked = [request(i, ("north", "south")[i % 2], temperature=1.5) for i in range(12)]
    together = [a.text for a in ask(taught, asked)]
    assert together == [ask(taught, [r])[0].text for r in asked]
    second = [
        a.text
        for a in ask(
            taught, [request(i, ("north", "south")[i % 2], temperature=1.5, replicate=1) for i in range(12)]
        )
    ]
    assert together != second


def test_embedded_is_named_by_its_content_and_kept_in_a_folder(tmp_path: Path) -> None:
    """One seed gives one model, another another; a second fit loads the first, which answers the same."""
    pytest.importorskip("torch", reason="needs karat[torch]")
    maker = registry.make("providers", TINY.replace("epochs=40", "epochs=2"))
    first = maker.fit(human(), seed=1, cache=tmp_path)
    assert first.model != maker.fit(human(), seed=2).model
    assert first.model == maker.fit(human(), seed=1).model
    loaded = maker.fit(human(), seed=1, cache=tmp_path)
    assert (first.model, first.facts, first.saw) == (loaded.model, loaded.facts, loaded.saw)
    assert 1 == len(list(tmp_path.glob("embedded-*/model.pt"))) and not list(tmp_path.glob("**/*.pkl"))
    asked = [request(i) for i in range(4)]
    assert [a.text for a in ask(first, asked)] == [a.text for a in ask(loaded, asked)]
    assert (human().fingerprint,) == first.saw


def test_embedded_says_what_it_lacks() -> None:
    """Too few records, no records, a wrong setting: each with its cure."""
    maker = registry.make("providers", TINY)
    with pytest.raises(errors.NotEnoughData, match="8 human records are too few"):
        maker.fit(human(8))
    with pytest.raises(errors.InputError, match=r"'embedded' learns from human records.*--human"):
        generate(Task("note", (Label("a"),)), provider=TINY, n=2)
    with pytest.raises(errors.BadSetting, match="width=-3"):
        registry.make("providers", "embedded:width=-3")


def test_replay_finds_answers_by_prompt_seed_id_and_place(tmp_path: Path) -> None:
    """The more a file says, the more exact the match; answers to one prompt go round by plan row."""
    path = tmp_path / "answers.jsonl"
    rows: list[dict[str, Any]] = [
        {"prompt": "write north", "text": "first"},
        {"prompt": "write north", "text": "second"},
        {"prompt": "write south", "text": "of seed 7", "seed": 7},
        {"id": "r9", "text": "by id"},
        {"text": "place 0"},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    provider = registry.make("providers", f"replay:path={path}")
    asked = [request(0), request(1), request(2, "south", seed=7), request(9, "east"), request(0, "west")]
    assert ["first", "second", "of seed 7", "by id", "place 0"] == [a.text for a in ask(provider, asked)]


def test_replay_names_the_row_without_an_answer(tmp_path: Path) -> None:
    """A missing answer names file, row and prompt; a file without texts names its line."""
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"prompt": "other", "text": "x"}))
    provider = registry.make("providers", f"replay:path={path}")
    with pytest.raises(
        errors.InputError, match=r"answers.jsonl: no recorded answer for row 'r3' .*write north"
    ):
        ask(provider, [request(3)])
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text(json.dumps({"answer": "x"}))
    with pytest.raises(errors.InputError, match=r"wrong.jsonl:1: no field 'text' \(found: answer\)"):
        ask(registry.make("providers", f"replay:path={wrong}"), [request(0)])
