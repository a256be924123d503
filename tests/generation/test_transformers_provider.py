from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import karat
from karat import registry
from karat.errors import ProviderError
from karat.generation.base import Message, Refused, Request, Response
from karat.generation.providers.transformers import Transformers
from karat.generation.tasks import Label, Task

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

PROMPTS = (
    "Write a text about animals.",
    "Say something.",
    "Sag etwas über das Wetter, 世界!" * 3,
    "Answer in one line.",
)


def asked(text: str, identity: str = "r", **more: Any) -> Request:
    return Request(identity, (Message("user", text),), **{"max_tokens": 24, **more})


def ask(provider: Any, *requests: Request) -> list[Response]:
    return asyncio.run(provider.complete(requests))


@pytest.fixture(scope="module")
def provider(tiny_folder: Path) -> Any:
    return registry.make("providers", f"transformers:path={tiny_folder},device=cpu")


@pytest.fixture(scope="module")
def plain(tiny_folder: Path) -> Any:
    """Tokenizer and model, used without any of karat's code."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_folder).eval().requires_grad_(False)
    return AutoTokenizer.from_pretrained(tiny_folder), model


def chat_ids(plain: Any, text: str) -> list[int]:
    turns = [{"role": "user", "content": text}]
    found = plain[0].apply_chat_template(turns, add_generation_prompt=True, return_dict=True)
    return list(found["input_ids"])


def greedy(plain: Any, ids: list[int], most: int) -> list[int]:
    """The most likely tokens, one full forward pass each: no cache, no padding, no `generate`."""
    made: list[int] = []
    while len(made) < most:
        made.append(int(plain[1](torch.tensor([ids + made])).logits[0, -1].argmax()))
        if made[-1] == plain[0].eos_token_id:
            break
    return made


def test_cached_batched_answers_are_those_of_plain_forward_passes(provider: Any, plain: Any) -> None:
    """At temperature 0 a padded, cached batch gives text, tokens and log-probability of uncached rows."""
    answers = ask(provider, *(asked(p, str(i), temperature=0) for i, p in enumerate(PROMPTS)))
    for prompt, answer in zip(PROMPTS, answers):
        ids = chat_ids(plain, prompt)
        made = greedy(plain, ids, 24)
        assert plain[0].decode(made, skip_special_tokens=True) == answer.text
        assert (len(ids), len(made)) == (answer.tokens_in, answer.tokens_out)
        assert ("stop" if made[-1] == plain[0].eos_token_id else "length") == answer.finish_reason
        scores = torch.log_softmax(plain[1](torch.tensor([ids + made])).logits[0], -1).detach()
        each = [float(scores[len(ids) + i - 1, token]) for i, token in enumerate(made)]
        assert sum(each) / len(each) == pytest.approx(answer.logprob, abs=1e-5)


def test_a_drawn_answer_is_scored_at_temperature_1(provider: Any, plain: Any) -> None:
    """The mean log-probability of a drawn answer is that of the model, not of the sharpened distribution."""
    answer = ask(provider, asked(PROMPTS[0], temperature=0.4, top_p=0.9, seed=5))[0]
    ids = chat_ids(plain, PROMPTS[0])
    made = [*plain[0](answer.text, add_special_tokens=False)["input_ids"], plain[0].eos_token_id]
    if plain[0].decode(made[:-1]) != answer.text or len(made) != answer.tokens_out:
        pytest.fail("the text does not give its tokens back; take another seed")
    scores = torch.log_softmax(plain[1](torch.tensor([ids + made])).logits[0], -1)
    each = [float(scores[len(ids) + i - 1, token]) for i, token in enumerate(made)]
    assert sum(each) / len(each) == pytest.approx(answer.logprob, abs=1e-5)


def test_an_answer_does_not_depend_on_its_neighbours(provider: Any) -> None:
    """Alone, in a batch, in another order or beside longer prompts: a row's seed alone decides."""
    rows = [
        asked(PROMPTS[i % 4], str(i), seed=i, temperature=(1.0, 0.7)[i % 2], top_p=(1.0, 0.9)[i // 2 % 2])
        for i in range(16)
    ]
    alone = [ask(provider, row)[0].text for row in rows]
    assert len(set(alone)) > 8, "draws differ"
    assert alone == [a.text for a in ask(provider, *rows)]
    assert alone[::-1] == [a.text for a in ask(provider, *rows[::-1])]
    assert alone[3] == ask(provider, asked("x " * 300, temperature=0, max_tokens=60), rows[3])[1].text


def test_replicates_and_seeds_draw_anew(provider: Any) -> None:
    """The same request gives the same answer; another replicate or seed gives others."""
    row = asked(PROMPTS[0], seed=3)
    texts = [ask(provider, replace(row, replicate=i % 8))[0].text for i in range(16)]
    assert texts[:8] == texts[8:]
    assert len(set(texts)) > 4


def test_draws_follow_the_distribution(provider: Any, plain: Any) -> None:
    """First tokens of 1,500 seeds come as often as the model says: chi-squared under its 0.999 quantile."""
    from scipy import stats

    wide = replace(provider, batch_size=300)
    n = 1500
    for temperature, top_p in ((1.0, 1.0), (1.5, 0.8)):
        rows = [
            asked(PROMPTS[1], str(i), seed=i, max_tokens=1, temperature=temperature, top_p=top_p)
            for i in range(n)
        ]
        seen = Counter(a.text for i in range(0, n, 300) for a in ask(wide, *rows[i : i + 300]))
        logits = plain[1](torch.tensor([chat_ids(plain, PROMPTS[1])])).logits[0, -1].double() / temperature
        found = sorted(((float(p), i) for i, p in enumerate(torch.softmax(logits, -1))), reverse=True)
        kept: Counter[str] = Counter()
        for p, i in found:  # Holtzman et al. 2020: the fewest that make up top_p
            if sum(kept.values()) >= top_p:
                break
            kept[plain[0].decode([i], skip_special_tokens=True)] += p  # type: ignore[assignment]
        total = sum(kept.values())
        if top_p < 1:
            assert set(seen) <= set(kept), "nothing from outside of the nucleus"
        likely = {text: p / total * n for text, p in kept.items() if p / total * n >= 5}
        counts, expected = [seen[text] for text in likely], list(likely.values())
        if n - sum(expected) > 1e-6 * n:
            counts, expected = [*counts, n - sum(counts)], [*expected, n - sum(expected)]
        assert len(counts) > 2
        assert stats.chisquare(counts, expected).pvalue > 0.001


def test_alternatives_are_the_models_first_tokens(provider: Any, plain: Any) -> None:
    """As many alternatives as asked, with the log-probabilities of the model, most likely first."""
    answer = ask(provider, asked(PROMPTS[0], logprobs=5, temperature=0.3))[0]
    scores = torch.log_softmax(plain[1](torch.tensor([chat_ids(plain, PROMPTS[0])])).logits[0, -1], -1)
    values, ids = scores.topk(5)
    assert [plain[0].decode([i]) for i in ids] == [text for text, _ in answer.alternatives]
    assert values.tolist() == pytest.approx([value for _, value in answer.alternatives], abs=1e-5)
    assert () == ask(provider, asked(PROMPTS[0]))[0].alternatives


def test_stop_and_length_end_a_row_alone(provider: Any) -> None:
    """A stop text is cut off and ends its own row only; so does the longest answer."""
    whole = ask(provider, asked(PROMPTS[0], temperature=0))[0]
    word = whole.text.split()[2]
    cut, short, other = ask(
        provider,
        asked(PROMPTS[0], "a", temperature=0, stop=("no such text", " " + word)),
        asked(PROMPTS[0], "b", temperature=0, max_tokens=2),
        asked(PROMPTS[0], "c", temperature=0),
    )
    assert whole.text[: whole.text.index(" " + word)] == cut.text
    assert "stop" == cut.finish_reason
    assert cut.tokens_out < whole.tokens_out
    assert ("length", 2) == (short.finish_reason, short.tokens_out)
    assert whole.text.startswith(short.text)
    assert whole.text == other.text


def test_a_prompt_beyond_the_context_costs_one_row(provider: Any) -> None:
    """Too long a prompt is refused in one line that says how long; a long answer is cut at the context."""
    with pytest.raises(Refused, match=r"has [\d,]+ tokens; .*takes 1 to 4,095"):
        ask(provider, asked("word " * 5000))
    near = ask(provider, asked("x" * 4060, temperature=1.5, max_tokens=500))[0]
    assert near.tokens_in + near.tokens_out <= 4096


def test_a_model_without_a_chat_template_goes_on_from_the_text(tmp_path: Path) -> None:
    """Messages are joined by empty lines where a model has no chat template."""
    from tiny_models import make_folder
    from transformers import AutoTokenizer

    folder = make_folder(tmp_path / "plain", steps=1, chat=False)
    own = registry.make("providers", f"transformers:path={folder}")
    row = replace(asked("Second."), messages=(Message("system", "First."), Message("user", "Second.")))
    answer = ask(own, row)[0]
    assert (
        len(AutoTokenizer.from_pretrained(folder)("First.\n\nSecond.\n\n")["input_ids"]) == answer.tokens_in
    )


def begin_template(folder: Path, words: str) -> None:
    """Put words in front of a model's chat template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = words + tokenizer.chat_template
    tokenizer.save_pretrained(folder)


def test_a_template_without_a_system_turn_gets_it_with_the_first_words(
    tmp_path: Path, tiny_folder: Path
) -> None:
    """A chat template that refuses the system role is given its text in front of the user's."""
    import shutil

    folder = shutil.copytree(tiny_folder, tmp_path / "gemma-like")
    begin_template(folder, "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}")
    own = registry.make("providers", f"transformers:path={folder}")
    both = (Message("system", "Be brief."), Message("user", PROMPTS[0]))
    merged = asked("Be brief.\n\n" + PROMPTS[0], temperature=0)
    apart = replace(merged, messages=both)
    assert ask(own, merged)[0].text == ask(own, apart)[0].text
    with pytest.raises(Refused, match="takes no such turns"):
        ask(own, replace(merged, messages=both[:1]))


def test_identity_follows_files_and_settings(tmp_path: Path, tiny_folder: Path) -> None:
    """Other weights, another template, number format or top_k never answer from an old journal."""
    import shutil

    folder = shutil.copytree(tiny_folder, tmp_path / "copy")
    base = f"transformers:path={folder}"
    names = [registry.make("providers", base + more).identity for more in ("", ",dtype=bfloat16", ",top_k=5")]
    assert names[0] == registry.make("providers", base + ",batch_size=3").identity, "batches change no answer"
    begin_template(folder, " ")
    names.append(registry.make("providers", base).identity)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    names.append(registry.make("providers", base).identity)
    assert 5 == len(set(names))


def test_a_models_own_taste_is_no_hidden_setting(tmp_path: Path, tiny_folder: Path, provider: Any) -> None:
    """What a model's generation_config.json prefers (penalties, top_k) changes no answer; our top_k does."""
    import shutil

    folder = shutil.copytree(tiny_folder, tmp_path / "penalised")
    taste = {"repetition_penalty": 3.0, "top_k": 1, "temperature": 0.1, "do_sample": True, "max_length": 22}
    (folder / "generation_config.json").write_text(json.dumps(taste), "utf-8")
    rows = [asked(PROMPTS[i % 2], str(i), seed=i) for i in range(6)]
    plain_texts = [a.text for a in ask(provider, *rows)]
    assert plain_texts == [
        a.text for a in ask(registry.make("providers", f"transformers:path={folder}"), *rows)
    ]
    likeliest = [a.text for a in ask(provider, *(replace(row, temperature=0) for row in rows))]
    assert likeliest == [a.text for a in ask(replace(provider, top_k=1), *rows)]
    assert likeliest != plain_texts


def test_dtype_and_device_are_those_asked_for(tiny_folder: Path) -> None:
    """bfloat16 weights are loaded as such; a GPU that is not there is one line."""
    own = registry.make("providers", f"transformers:path={tiny_folder},dtype=bfloat16,device=cpu")
    assert ask(own, asked(PROMPTS[0]))[0].text
    assert torch.bfloat16 == own._kept.model.dtype
    if not torch.cuda.is_available():
        with pytest.raises(ProviderError, match="device:cuda is not there"):
            ask(registry.make("providers", f"transformers:path={tiny_folder},device=cuda"), asked("x"))


@pytest.mark.parametrize("path", ["/no/such/folder", "no-such/model-of-karat", "EMPTY"])
def test_a_model_that_cannot_be_had_is_one_line(path: str, tmp_path: Path, monkeypatch: Any) -> None:
    """No folder, an unknown hub name without a network, a folder without a model: what, and the cure."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    name = str(tmp_path) if path == "EMPTY" else path
    own = Transformers(name)
    with pytest.raises(ProviderError) as caught:
        ask(own, asked("x"))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    assert "give a folder" in str(caught.value)
    assert own.price(asked("x" * 100)).tokens >= 74, "a dry run needs no model"


def test_the_loop_is_not_blocked_and_a_cancelled_call_ends_soon(provider: Any) -> None:
    """Other work goes on while the model answers; a cancelled call of 4,000 tokens draws no further."""
    steps = [0]
    hook = provider._kept.model.register_forward_hook(lambda *_: steps.__setitem__(0, steps[0] + 1))

    def wait_for_the_thread() -> None:
        with provider._kept.lock:
            pass

    async def both() -> int:
        row = asked(PROMPTS[0], temperature=50.0, max_tokens=4000)
        call = asyncio.ensure_future(provider.complete([row] * 8))
        ticks = 0
        while (ticks < 20 or not steps[0]) and not call.done():
            await asyncio.sleep(0.01)
            ticks += 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.to_thread(wait_for_the_thread)
        return ticks

    try:
        assert asyncio.run(both()) >= 20
    finally:
        hook.remove()
    assert 0 < steps[0] < 2000


def test_price_is_what_the_answer_costs_at_most(provider: Any) -> None:
    """The prompt is counted by the model's own tokenizer, the answer at its longest."""
    for prompt in PROMPTS:
        row = asked(prompt, max_tokens=7)
        answer = ask(provider, row)[0]
        assert answer.tokens_in + 7 == provider.price(row).tokens


def test_settings_travel_without_the_weights(provider: Any) -> None:
    """A provider sent to another process is small, equal, and loads its model there."""
    ask(provider, asked("x", max_tokens=1))
    sent = pickle.dumps(provider)
    assert len(sent) < 1000
    assert provider == pickle.loads(sent) == copy.copy(provider)
    assert (
        ask(provider, asked("x", temperature=0))[0].text
        == ask(pickle.loads(sent), asked("x", temperature=0))[0].text
    )


def test_records_from_local_weights(tiny_folder: Path, tmp_path: Path) -> None:
    """`karat.generate` makes classified records with whole lineage, and again from the journal alone."""
    task = Task("remark", labels=(Label("animals"), Label("weather")))
    how: dict[str, Any] = {
        "provider": f"transformers:path={tiny_folder}",
        "recipe": "simple",
        "n": 12,
        "answer_tokens": 40,
        "journal": tmp_path,
    }
    made = karat.generate(task, **how)
    assert 12 == len(made.records) + len(made.rejected)
    assert len(made.records) >= 8
    assert {"animals", "weather"} == set(made.records.labels() or ())
    assert all(value < 0 for value in made.records.lineage("logprob"))
    assert made.usage.tokens_in >= sum(made.records.lineage("tokens_in")), "rejected answers count, too"
    assert 0 == made.usage.cost_usd
    again = karat.generate(task, **how)
    assert made.records.texts() == again.records.texts()
    assert again.usage.answers == again.usage.reused
