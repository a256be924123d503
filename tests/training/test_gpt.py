from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from karat import registry
from karat.errors import BadSetting, InputError
from karat.records import from_rows, read
from karat.simulation.tasks.logic import Logic

pytest.importorskip("torch")
import torch

from karat.generation.base import Message, Request
from karat.generation.causal import score
from karat.generation.causal_training import rate_at, train_causal
from karat.training.base import Weighed
from karat.training.causal_codec import Codec, join_words, make_codec, widened, windows
from karat.training.trainers.gpt import PRESETS, Gpt, _grown

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


def test_without_labels_nothing_can_be_labelled(labelled, model) -> None:
    """The error says what is missing."""
    with pytest.raises(InputError, match="without labels"):
        model.predict(labelled)
    with pytest.raises(BadSetting, match="answers classification, text, annotation, dialogue"):
        model.predict(from_rows([{"source": "a", "target": "b"}], datatype="translation"))


def brute(model, text: str, label: str = "") -> float:
    """ln p(text | label) by the model's own logits, one token after the other."""
    row, prefix = model.codec.encode(text, label), model.codec.prefix
    with torch.no_grad():
        logs = torch.log_softmax(model.causal(torch.tensor([row[:-1]])), -1)[0]
    return sum(float(logs[i - 1, row[i]]) for i in range(prefix, len(row)))


def test_texts_are_weighed_with_their_end(expressions, model) -> None:
    """Surprise is the sum of -ln p of each token and the end; tokens and UTF-8 bytes are counted."""
    some = expressions.take(range(5))
    found = model.predict(some)
    assert isinstance(found, Weighed)
    np.testing.assert_allclose([-brute(model, text) for text in some.texts()], found.surprise, rtol=1e-4)
    assert [len(model.codec.encode(text, "")) - 1 for text in some.texts()] == found.tokens.tolist()
    assert [len(text.encode()) for text in some.texts()] == found.bytes.tolist()
    assert float(found.surprise.sum()) == pytest.approx(
        model.loss(some.texts()) * sum(map(len, some.texts()))
    )


def test_a_text_without_a_label_is_as_likely_as_all_labels_make_it(labelled) -> None:
    """p(text) = sum over labels of p(label) p(text | label)."""
    model = registry.make("trainers", "gpt:layers=1,heads=2,width=16,steps=20").fit(labelled, seed=0)
    plain = from_rows([{"text": "the saw is old"}, {"text": "the plum is new"}], datatype="text")
    expected = [
        -np.log(
            sum(
                share * np.exp(brute(model, text, label))
                for label, share in zip(model.codec.labels, model.label_shares)
            )
        )
        for text in plain.texts()
    ]
    np.testing.assert_allclose(expected, model.predict(plain).surprise, rtol=1e-4)


def test_a_word_that_was_never_seen_costs_its_spelling(model) -> None:
    """A longer unknown word is a larger surprise, by ln 257 a byte."""
    short, long = (
        model.predict(from_rows([{"text": f"( {word} )"}], datatype="text")).surprise[0]
        for word in ("perhaps", "perhapsè")
    )
    assert 2 * np.log(257) == pytest.approx(long - short, abs=1e-5)


def test_windows_hold_each_token_once() -> None:
    """Of a long row each token behind the prefix counts in one window, behind a quarter of a context."""
    for length, context, prefix in ((9, 8, 1), (50, 8, 2), (401, 32, 1), (32, 32, 1)):
        row = list(range(length))
        cut = windows(row, prefix, context)
        assert row[prefix:] == [token for part, scored in cut for token in part[scored:]]
        assert all(len(part) <= context and row[:prefix] == part[:prefix] for part, _ in cut)
        for part, scored in cut[1:]:
            assert part[prefix:] == row[part[prefix] : part[prefix] + len(part) - prefix]
            assert (context - prefix) // 4 == scored - prefix


def test_texts_beyond_the_context_are_learned_and_weighed_whole(expressions) -> None:
    """Nothing is cut: a long text costs what its windows cost, and each window teaches."""
    texts = [" ".join(expressions.texts()[i : i + 8]) for i in range(0, 240, 8)]
    long = from_rows([{"text": text} for text in texts], datatype="text")
    model = registry.make("trainers", "gpt:layers=1,heads=2,width=32,steps=60,context=32").fit(long, seed=0)
    assert 0 == model.history.cut_rows and model.history.validated
    assert min(len(model.codec.encode(text, "")) for text in texts) > 32
    found = model.predict(long)
    assert [len(model.codec.encode(text, "")) - 1 for text in texts] == found.tokens.tolist()
    by_hand = []
    for text in texts[:3]:
        parts = windows(model.codec.encode(text, ""), 1, 32)
        by_hand.append(-sum(m * (len(p) - s) for (p, s), m in zip(parts, _means(model, parts))))
    np.testing.assert_allclose(by_hand, found.surprise[:3], rtol=1e-4)
    shuffled = [" ".join(reversed(Logic().tokens(text))) for text in texts]
    assert model.loss(texts) < 0.9 * model.loss(shuffled)


def _means(model, parts):
    return score(model.causal, [p for p, _ in parts], prefix=[s for _, s in parts], batch_size=1)


def test_a_saved_model_is_the_same_model(labelled, model, expressions, tmp_path) -> None:
    """Equal name, equal texts and equal answers after loading, for words with and without labels."""
    told = registry.make("trainers", "gpt:layers=1,heads=2,width=16,steps=20,tokens=bpe").fit(
        labelled, seed=0
    )
    for number, (one, asked) in enumerate(((model, expressions), (told, labelled))):
        again = Gpt.load(one.save(tmp_path / str(number)))
        assert one.model == again.model
        assert one.generate(8, seed=1).fingerprint == again.generate(8, seed=1).fingerprint
        ours, theirs = one.predict(asked.take(range(9))), again.predict(asked.take(range(9)))
        name = "surprise" if number == 0 else "probabilities"
        assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()
        assert (one.history, one.saw, one.codec.labels) == (again.history, again.saw, again.codec.labels)
    (tmp_path / "0" / "gpt.json").write_text('{"format": 9}')
    with pytest.raises(InputError, match="train anew"):
        Gpt.load(tmp_path / "0")


def test_it_goes_on_from_a_model(expressions, model) -> None:
    """What was learned stays, new words are added, and the model that it started from is as it was."""
    before, texts = model.model, expressions.texts()
    trainer = registry.make("trainers", "gpt:layers=1,heads=2,width=32,steps=1")
    kept = trainer.fit(expressions, seed=2, start=model)
    assert before == model.model != kept.model
    assert kept.loss(texts) < 1.3 * model.loss(texts) < 0.5 * trainer.fit(expressions, seed=2).loss(texts)
    assert (expressions.fingerprint,) == kept.saw
    other = from_rows([{"text": text.replace("True", "Maybe")} for text in texts], datatype="text")
    wider = replace(trainer, steps=60).fit(other, seed=2, start=model)
    assert {*model.codec.words, "Maybe"} == set(wider.codec.words)
    assert wider.loss(other.texts()) < 0.5 * model.loss(other.texts())
    assert (expressions.fingerprint, other.fingerprint) == wider.saw
    assert any("Maybe" in text for text in wider.generate(30, seed=0).texts())


def test_growing_for_new_words_changes_no_known_text_but_for_the_new_place(model, expressions) -> None:
    """Before a step of training, odds between known tokens are those of the first model."""
    codec = widened(model.codec, from_rows([{"text": "Maybe ( Almost )"}], datatype="text"))
    grown = _grown(model.causal, model.codec, codec)
    row = model.codec.encode(expressions.texts()[0], "")
    at = [codec.names.index(name) for name in model.codec.names]
    with torch.no_grad():
        old, new = model.causal(torch.tensor([row])), grown(torch.tensor([[at[token] for token in row]]))
    torch.testing.assert_close(old, new[:, :, at])


def test_what_cannot_go_on_is_told(expressions, labelled, model) -> None:
    """Labels on one side only, other tokens, another shape: one line each."""
    with pytest.raises(InputError, match="labels, but the model to go on from"):
        registry.make("trainers", TINY).fit(labelled, start=model)
    with pytest.raises(BadSetting, match="tokens=bpe, but"):
        registry.make("trainers", "gpt:tokens=bpe").fit(expressions, start=model)
    with pytest.raises(BadSetting, match="width=64, but"):
        registry.make("trainers", "gpt:width=64").fit(expressions, start=model)


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
    """Shape, batch, and the training of nanoGPT's character model, which the paper took over."""
    paper = PRESETS["paper"]
    expected = {
        "layers": 6, "heads": 6, "width": 384, "context": 256, "steps": 5000, "batch_tokens": 64 * 256,
        "dropout": 0.2, "optimiser": "adamw", "adam_lr": 1e-3, "beta2": 0.99, "weight_decay": 0.1,
        "validation_share": 0.1,
    }  # fmt: skip
    assert expected == {name: getattr(paper, name) for name in expected}
    rates = [1e-3 * rate_at(step / paper.steps, paper.warmup, paper.floor) for step in range(paper.steps)]
    assert rates.index(max(rates)) == 100 and max(rates) == pytest.approx(1e-3)
    assert rates[50] == pytest.approx(0.5e-3) and rates[-1] == pytest.approx(1e-4, rel=1e-3)
    # Half of the way from the end of the warm-up, a cosine has half of its way behind it.
    assert rates[100 + 2450] == pytest.approx((1e-3 + 1e-4) / 2)
    with pytest.raises(BadSetting, match="steps=-1"):
        registry.make("trainers", "gpt:steps=-1")
    with pytest.raises(BadSetting, match="choose one of"):
        registry.make("trainers", "gpt:preset=huge")
    with pytest.raises(BadSetting, match="device='gpu' is not known; choose auto, cpu, cuda or cuda:N"):
        registry.make("trainers", "gpt:device=gpu")


def test_a_killed_fit_goes_on_from_its_file(expressions, tmp_path, monkeypatch) -> None:
    """The model is the one that an uninterrupted fit gives, and the rest of the steps alone are made."""
    kept = partial(train_causal, checkpoint_seconds=0.0)
    monkeypatch.setattr("karat.generation.causal_training.train_causal", kept)
    trainer, file, seen = Gpt(layers=1, heads=2, width=16, steps=12), tmp_path / "fit.pt", []

    def kill(what, done, total):
        if done == 7:
            raise KeyboardInterrupt

    whole = trainer.fit(expressions, seed=4)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(expressions, seed=4, cache=file, progress=kill)
    again = trainer.fit(expressions, seed=4, cache=file, progress=lambda what, done, total: seen.append(done))
    assert whole.model == again.model
    assert [8, 9, 10, 11, 12] == seen
