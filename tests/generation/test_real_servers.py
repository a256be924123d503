"""What karat promises, kept with well-known servers of a tiny model: its words are poor, the rest is real.

All hold the weights that the provider `transformers` runs in this process, which is the reference. Where the
package is installed, llama.cpp's server is always asked; the others, which take half a minute to start, only
with KARAT_SERVERS=1 in the environment.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from real_servers import PROXY_KEY, Counter, RealServer, counted, litellm_proxy, llama_cpp, transformers_serve
from test_recipes import ATTRIBUTES, NAMES, SOME, TYPES, human_of, recipe_of, task_of

import karat
from karat import records, registry
from karat.errors import ProviderError
from karat.generation.base import Message, Refused, Request, Response
from karat.generation.tasks import Attribute, Label, Task

torch = pytest.importorskip("torch")

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string", "maxLength": 12}, "n": {"type": "integer", "maximum": 99}},
    "required": ["title", "n"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=["transformers_serve", "llama_cpp", "litellm_proxy"])
def server(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    if request.param != "llama_cpp" and not os.environ.get("KARAT_SERVERS"):
        pytest.skip(f"{request.param} takes half a minute to start; ask for it with KARAT_SERVERS=1")
    if request.param == "transformers_serve":
        with transformers_serve(request.getfixturevalue("tiny_folder")) as found:
            yield found
    else:
        with llama_cpp(request.getfixturevalue("tiny_gguf")) as found:
            if request.param == "llama_cpp":
                yield found
            else:
                with litellm_proxy(found) as before:
                    yield before


@pytest.fixture(autouse=True)
def proxy_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXY_KEY", PROXY_KEY)


@pytest.fixture(scope="module")
def local(tiny_folder: Path) -> Any:
    return registry.make("providers", f"transformers:path={tiny_folder},device=cpu")


def provider(server: RealServer, **settings: Any) -> Any:
    told = {"model": server.model, "url": server.url, "key_env": "PROXY_KEY", **settings}
    return registry.find("providers", "openai_compatible")(**told)


def asked(text: str, **more: Any) -> Request:
    return Request("r", (Message("user", text),), **{"max_tokens": 30, **more})


def ask(own: Any, *requests: Request) -> list[Response]:
    """One after the other."""

    async def run() -> list[Response]:
        found = [(await own.complete([request]))[0] for request in requests]
        if hasattr(own, "close"):
            await own.close()
        return found

    return asyncio.run(run())


def test_the_most_likely_answer_is_that_of_the_weights(server: RealServer, local: Any) -> None:
    """At temperature 0 each server says what the same weights say in this process; usage counts the same."""
    requests = [asked(text, temperature=0) for text in ("Say something.", "Write about animals, 世界 é!")]
    for here, there in zip(ask(local, *requests), ask(provider(server), *requests)):
        assert here.text == there.text
        assert here.tokens_in == there.tokens_in
        ended = here.finish_reason == "stop"
        assert here.tokens_out - (ended and not server.counts_end) == there.tokens_out
        assert here.finish_reason == there.finish_reason


def test_the_completions_api_goes_on_from_the_prompt(server: RealServer) -> None:
    """The prompt that the chat template makes, sent as plain text, gives the answer of the chat API."""
    plain = "<|im_start|>user\nSay something.<|im_end|>\n<|im_start|>assistant\n"
    chat = ask(provider(server), asked("Say something.", temperature=0))[0]
    text = ask(provider(server, api="completions"), asked(plain, temperature=0))[0]
    assert (chat.text, chat.tokens_in) == (text.text, text.tokens_in)


def test_a_seed_gives_its_answer_again(server: RealServer) -> None:
    """The same seed draws the same answer, others draw others."""
    found = [a.text for a in ask(provider(server), *(asked("Say something.", seed=i % 6) for i in range(12)))]
    assert found[:6] == found[6:]
    assert len(set(found)) > 3


def test_a_seed_in_a_crowd(server: RealServer) -> None:
    """Seeds hold beside other calls, too, but for servers whose random numbers are shared by all calls."""
    if server.seeds_alone:
        pytest.skip(
            f"{server.name} {server.version} draws all calls from one source: seeds hold one by one only"
        )
    own = provider(server)

    async def crowd() -> list[str]:
        calls = [own.complete([asked("Say something.", seed=i % 6)]) for i in range(12)]
        found = [answers[0].text for answers in await asyncio.gather(*calls)]
        await own.close()
        return found

    found = asyncio.run(crowd())
    assert found[:6] == found[6:]


def test_log_probabilities_are_those_of_the_weights(server: RealServer, local: Any) -> None:
    """Where offered, mean and alternatives are what the model gives; where not, they are absent, not 0."""
    request = asked("Say something.", temperature=0.8, seed=4, logprobs=3)
    answer = ask(provider(server), request)[0]
    if not server.logprobs:
        assert (None, ()) == (answer.logprob, answer.alternatives)
        return
    kept = local._kept
    prompt = kept.tokens(request.messages)
    made = kept.tokenizer(answer.text, add_special_tokens=False)["input_ids"]
    scores = torch.log_softmax(kept.model(torch.tensor([prompt + made])).logits[0].detach(), -1)
    each = [float(scores[len(prompt) + i - 1, token]) for i, token in enumerate(made)]
    assert len(made) == answer.tokens_out, "the text gives its tokens back"
    assert sum(each) / len(each) == pytest.approx(answer.logprob, abs=1e-3)
    values, ids = scores[len(prompt) - 1].topk(3)
    assert [kept.tokenizer.decode([i]) for i in ids] == [text for text, _ in answer.alternatives]
    assert values.tolist() == pytest.approx([value for _, value in answer.alternatives], abs=1e-3)


def test_the_most_tokens_and_stop_texts(server: RealServer) -> None:
    """An answer ends after the most tokens, and at a stop text."""
    whole, short, cut = ask(
        provider(server),
        asked("Say something.", temperature=0),
        asked("Say something.", temperature=0, max_tokens=3),
        asked("Say something.", temperature=0, stop=(" the ", " still")),
    )
    assert ("length", 3) == (short.finish_reason, short.tokens_out)
    assert whole.text.startswith(short.text)
    at = min(i for i in (whole.text.find(" the "), whole.text.find(" still")) if i >= 0)
    assert whole.text[:at] == cut.text


def test_an_unknown_model_is_one_line(server: RealServer) -> None:
    """A server that knows its model's name refuses another in a line that names it."""
    if not server.pins_model:
        pytest.skip(f"{server.name} {server.version} answers to any name")
    with pytest.raises(ProviderError) as caught:
        ask(provider(server, model="no-such-model"), asked("x"))
    assert "no-such-model" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_prompt_beyond_the_context_costs_its_row_alone(server: RealServer) -> None:
    """Too long a prompt is refused with the server's own numbers."""
    if not server.checks_context:
        pytest.skip(f"{server.name} {server.version} takes prompts of any length")
    with pytest.raises(Refused, match="4096"):
        ask(provider(server), asked("word " * 6000))


def test_an_answer_follows_a_schema(server: RealServer) -> None:
    """Where a server can hold an answer to a schema, even a model that knows no JSON writes it."""
    if not server.grammar:
        pytest.skip(f"{server.name} {server.version} passes over schemas")
    form = json.dumps({"response_format": {"type": "json_object", "schema": SCHEMA}})
    own = provider(server, structured="off", body=form)
    for answer in ask(own, *(asked("Say something.", seed=i, max_tokens=200) for i in range(4))):
        found = json.loads(answer.text)
        assert {"title", "n"} == set(found)
        assert len(found["title"]) <= 12
        assert isinstance(found["n"], int)


def test_a_server_that_knows_no_schema_is_asked_in_a_weaker_way(server: RealServer) -> None:
    """A request with a schema gets its answer, whatever the server makes of the schema."""
    own = provider(server)
    wanted = [asked("Say it.", schema=SCHEMA, seed=i) for i in range(2)]
    assert all(answer.text for answer in ask(own, *wanted))


def run(seen: RealServer, recipe: Any, **more: Any) -> Any:
    """Generate a few rows, four calls at a time; nothing is retried, so that each call is seen once."""
    told = {"n": 6, "answer_tokens": 40, "concurrency": 4, "seed": 3, "retries": 0, **more}
    return karat.generate(provider=provider(seen, structured="off"), recipe=recipe, **told)


def check(made: Any, counter: Counter, server: RealServer, recipe: str, folder: Path) -> None:
    """Each planned row became valid records or a reason; lineage is whole; all calls are accounted for."""
    ids = {row.id for row in made.plan}
    rejected = {row.id for row in made.rejected}
    kept = {
        next((i for i in (record, record.rsplit("-", 1)[0]) if i in ids), record)
        for record in made.records.ids
    }
    assert ids == {i if i in ids else i.rsplit("-", 1)[0] for i in rejected} | kept
    assert all(row.reason and "\n" not in row.reason for row in made.rejected)
    if len(made.records):
        again = records.read(made.records.write(folder / "made.jsonl"), datatype=made.task.type)
        assert made.records.fingerprint == again.fingerprint
        assert len(made.records.ids) == len(set(made.records.ids))
        for name in ("tokens_in", "tokens_out"):
            assert all(value > 0 for value in made.records.lineage(name))
        assert {"synthetic"} == set(made.records.lineage("source"))
        assert {server.model} == set(made.records.lineage("generator"))
        assert all(told.startswith(recipe) for told in made.records.lineage("recipe"))
        assert all(len(told) == 64 for told in made.records.lineage("prompt_sha256"))
        assert all(seed is not None for seed in made.records.lineage("seed"))
    assert {200} == set(counter.statuses)
    assert len(counter.statuses) == made.usage.answers - made.usage.reused
    assert (counter.tokens_in, counter.tokens_out) == (made.usage.tokens_in, made.usage.tokens_out)
    assert 0 == made.usage.cost_usd


LABELS = (Label("animals"), Label("weather"))
PLACES = (Attribute("place", ("by the sea", "on a hill")), Attribute("length", ("5 to 9 words",)))


@pytest.mark.parametrize("recipe", ["simple", "attributed"])
def test_classified_records_and_again_for_nothing(recipe: str, server: RealServer, tmp_path: Path) -> None:
    """`karat.generate` makes records of both classes; the same call again sends nothing and gives them."""
    told = {"task": Task("remark", LABELS, attributes=PLACES), "n": 12, "journal": tmp_path}
    with counted(server) as (seen, counter):
        made = run(seen, recipe, **told)
        check(made, counter, server, recipe, tmp_path)
        assert len(made.records) >= 6
        assert {"animals", "weather"} == set(made.records.labels() or ())
        sent = len(counter.statuses)
        again = run(seen, recipe, **told)
        assert sent == len(counter.statuses), "paid twice"
    assert made.records.ids == again.records.ids
    assert made.records.texts() == again.records.texts()
    assert again.usage.reused == again.usage.answers == made.usage.answers


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_gives_valid_records_or_reasons(name: str, server: RealServer, tmp_path: Path) -> None:
    """Each recipe, for a type of data that it makes, ends with every row a valid record or a reason."""
    kinds: Sequence[str] = SOME.get(name, TYPES)
    kind = "classification" if "classification" in kinds else kinds[0]
    human = human_of(kind)
    items = human if "items" in getattr(recipe_of(name), "needs", ()) else None
    task = task_of(kind, attributes=ATTRIBUTES)
    with counted(server) as (seen, counter):
        made = run(seen, recipe_of(name), task=task, human=human, items=items)
    check(made, counter, server, name, tmp_path)
    assert counter.statuses


@pytest.mark.parametrize("mode", ["choice", "logprobs"])
def test_judgements_of_given_pairs(mode: str, server: RealServer, tmp_path: Path) -> None:
    """Pairs that are given are judged in both orders; a model that says no letter is counted as invalid."""
    pairs = human_of("preference")
    with counted(server) as (seen, counter):
        made = run(seen, f"compare:mode={mode}", task=task_of("preference"), items=pairs, n=len(pairs))
    check(made, counter, server, "compare", tmp_path)
    assert 2 * len(pairs) == len(made.records)
    assert {"a", "b"} == set(made.records.column("shown_first"))
    assert set(made.records.column("choice")) <= {"a", "b", "tie", "invalid"}
