from __future__ import annotations

import asyncio
import pickle

import numpy as np
import pytest

from karat import registry
from karat.errors import BadSetting, InputError
from karat.records import from_rows, read
from karat.simulation.tasks.logic import Logic

pytest.importorskip("torch")
from karat.generation.base import Message, Request
from karat.training.trainers.gpt import PRESETS, Codec, join_words, make_codec

TINY = "gpt:layers=1,heads=2,width=32,steps=150"


@pytest.fixture(scope="module")
def expressions():
    return from_rows([{"text": text} for text in Logic(depth_max=2).sample(400, seed=0)], datatype="text")


@pytest.fixture(scope="module")
def model(expressions):
    return registry.make("trainers", TINY).fit(expressions, seed=1)


@pytest.fixture(scope="module")
def labelled():
    words = {"fruit": ["apple", "pear", "plum"], "tool": ["hammer", "saw", "drill"]}
    rows = [
        {"text": f"the {words[label][i % 3]} is {'old' if i % 2 else 'new'}", "label": label}
        for i in range(150)
        for label in words
        if label == "fruit" or i % 2
    ]
    return from_rows(rows, datatype="classification")


def test_a_tiny_model_learns_the_grammar(model) -> None:
    """In a few seconds most of what it writes at temperature 0.8 is valid, which chance never is."""
    texts = model.generate(300, temperature=0.8, seed=5).texts()
    assert 0.7 < sum(verdict.valid for verdict in Logic().verify(texts)) / 300


def test_models_and_texts_are_determined_by_their_seeds(expressions, model) -> None:
    """The same seed gives the same weights and texts, another seed others."""
    short = registry.make("trainers", "gpt:layers=1,heads=2,width=16,steps=5")
    assert short.fit(expressions, seed=1).model == short.fit(expressions, seed=1).model
    assert short.fit(expressions, seed=1).model != short.fit(expressions, seed=2).model
    assert model.generate(20, seed=1).texts() == model.generate(20, seed=1).texts()
    assert model.generate(20, seed=1).texts() != model.generate(20, seed=2).texts()


def test_low_temperature_writes_less_variety(model) -> None:
    """Nearly the same text each time at 0.05, many at 1."""
    cold = len(set(model.generate(100, temperature=0.05, seed=0).texts()))
    assert cold < len(set(model.generate(100, temperature=1.0, seed=0).texts())) / 3


def test_what_it_writes_has_a_lineage(expressions, model) -> None:
    """Source, generator, seed, log-probability, and what the generator has seen."""
    made = model.generate(10, seed=3)
    assert ({"synthetic"}, {model.model}, {3}) == tuple(
        set(made.lineage(name)) for name in ("source", "generator", "seed")
    )
    assert [[expressions.fingerprint]] * 10 == made.lineage("generator_saw")
    assert all(value < 0 for value in made.lineage("logprob"))


def test_the_loss_tells_real_texts_from_shuffled_ones(model) -> None:
    """Nats a character: low on the language that was learned, high on the same words in disorder."""
    real = Logic(depth_max=2).sample(100, seed=99)
    shuffled = [" ".join(reversed(Logic().tokens(text))) for text in real]
    assert model.loss(real) < 0.5 * model.loss(shuffled)


def test_a_model_is_a_provider(model) -> None:
    """It answers requests in order; equal seeds give equal answers, whatever stands beside them."""
    requests = [
        Request(id=str(i), messages=(Message("user", "go on"),), temperature=0.7 + 0.1 * (i % 2), seed=i // 2)
        for i in range(8)
    ]
    answers = asyncio.run(model.complete(requests))
    assert [str(i) for i in range(8)] == [answer.request_id for answer in answers]
    alone = asyncio.run(model.complete(requests[3:4]))
    assert [answers[3].text] == [alone[0].text]
    assert {model.model} == {answer.model for answer in answers}
    assert all(answer.cost_usd == 0 and answer.tokens_out > 0 for answer in answers)
    short = asyncio.run(model.complete([Request(id="a", messages=(), max_tokens=2, seed=1)]))
    assert short[0].tokens_out <= 2


def test_labelled_records_give_a_model_that_writes_and_tells_labels(labelled) -> None:
    """By Bayes' rule it labels what it was never told to classify; what it writes has the label's words."""
    model = registry.make("trainers", TINY).fit(labelled, seed=0)
    found = model.predict(labelled.take([0, 1, 2, 3]))
    assert labelled.take([0, 1, 2, 3]).labels() == list(found.labels)
    assert np.allclose(1.0, found.probabilities.sum(axis=1))
    texts = model.generate(20, labels=["tool"] * 20, temperature=0.3, seed=0).texts()
    assert 18 <= sum(any(word in text for word in ("hammer", "saw", "drill")) for text in texts)
    made = model.generate(300, seed=1)
    assert 1 / 3 == pytest.approx(made.labels().count("tool") / 300, abs=0.08)


def test_without_labels_nothing_can_be_labelled(expressions, model) -> None:
    """The error says what is missing."""
    with pytest.raises(InputError, match="without labels"):
        model.predict(expressions)


def test_a_model_survives_pickling(model) -> None:
    """A worker process sends its model home."""
    again = pickle.loads(pickle.dumps(model))
    assert model.model == again.model
    assert model.generate(5, seed=1).texts() == again.generate(5, seed=1).texts()


def test_many_words_are_cut_into_pieces_and_come_back(data_dir) -> None:
    """Byte-level BPE loses nothing of real text; few words stay whole."""
    records = read(data_dir / "tinyshakespeare" / "tinyshakespeare.jsonl.gz").take(range(200))
    codec = make_codec(records, "auto", 512)
    assert codec.pieces and not codec.words
    assert 512 + 3 == codec.size
    for text in [*records.texts(), "naïve 漢字 \t x"]:
        assert text == codec.text(codec.encode(text, "")[codec.prefix : -1])


def test_words_are_tokens_where_there_are_few() -> None:
    """The eight tokens of the logic task; a word that was never seen is unknown, and never written."""
    codec = make_codec(from_rows([{"text": "(True and (not False))"}], datatype="text"), "auto", 100)
    assert ("(", ")", "False", "True", "and", "not") == codec.words
    assert "(True and (not False))" == codec.text(codec.encode("(True and (not False))", "")[1:-1])
    assert 2 == codec.encode("maybe", "")[1]
    assert 2 in codec.banned
    assert codec.encode("True", "") == pickle.loads(pickle.dumps(codec)).encode("True", "")
    assert isinstance(codec, Codec)


def test_words_are_joined_as_people_write() -> None:
    """No space inside parentheses or before a mark."""
    assert "(True or False)" == join_words(["(", "True", "or", "False", ")"])
    assert "well, so." == join_words(["well", ",", "so", "."])


def test_a_small_corpus_of_real_text_is_not_learned_by_heart(data_dir) -> None:
    """The presets stop after a few epochs of text: what the model writes is new, and held-out loss is low."""
    corpus = read(data_dir / "tinyshakespeare" / "tinyshakespeare.jsonl.gz")
    lines = [line for text in corpus.take(range(60)).texts() for line in text.splitlines() if line]
    known = from_rows([{"text": line} for line in lines[:300]], datatype="text")
    made = registry.make("trainers", "gpt:tokens=bpe").fit(known, seed=0)
    assert made.history.epochs < 9
    assert len(set(made.generate(50, temperature=0.8, seed=0).texts()) & set(lines)) <= 2
    assert made.loss(lines[300:400]) < 3.0  # 5.5 would be any byte alike


def test_settings_are_checked_and_the_paper_s_preset_is_the_paper_s() -> None:
    """6 layers, 6 heads, 384 dimensions, 5,000 steps of 64 x 256 tokens."""
    paper = PRESETS["paper"]
    assert (6, 6, 384, 5000, 64 * 256) == (
        paper.layers, paper.heads, paper.width, paper.steps, paper.batch_tokens,
    )  # fmt: skip
    with pytest.raises(BadSetting, match="steps=-1"):
        registry.make("trainers", "gpt:steps=-1")
    with pytest.raises(BadSetting, match="choose one of"):
        registry.make("trainers", "gpt:preset=huge")
