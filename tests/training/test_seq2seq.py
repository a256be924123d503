from __future__ import annotations

import asyncio
import json
import pickle
from itertools import product

import numpy as np
import pytest

from karat import registry
from karat.errors import InputError, NotEnoughData
from karat.generation.base import Message, Plot, Request
from karat.generation.tasks import Task
from karat.records import from_rows

pytest.importorskip("torch")
pytest.importorskip("sacrebleu")
import sacrebleu
import torch

from karat.training.trainers.seq2seq import PRESETS, Seq2seq, learn_codec
from karat.training.transformer import (
    END,
    START,
    Transformer,
    TransformerConfig,
    padded,
    smoothed_loss,
    surprise,
)
from karat.training.transformer_search import Decoding, penalty, translate
from karat.training.transformer_training import Pairs, Plan, batches, loss_of, loss_over, train

WORDS = dict(zip("ab cd ef gh ij kl mn op".split(), "zu yi xo we va ut so re".split()))
TINY = "seq2seq:preset=mini,layers=1,width=32,feed=64,heads=2,pieces=300,steps=12"


def planted(n: int, seed: int, longest: int = 6):
    """Sentences of a planted language: the words of the translation are others, in the opposite order."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        said = [str(word) for word in draw.choice(list(WORDS), draw.integers(2, longest + 1))]
        rows.append({"source": " ".join(said), "target": " ".join(WORDS[word] for word in reversed(said))})
    return from_rows(rows, datatype="translation")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Products this small are slower on two threads than on one, and much slower where others work too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(one_thread):
    return registry.make("trainers", "seq2seq:preset=mini").fit(planted(1500, 0), seed=1)


@pytest.fixture(scope="module")
def tiny(one_thread):
    """A model of pairs that are half noise: it doubts, so that what it writes depends on how it is sought."""
    draw = np.random.default_rng(0)
    sources = [draw.integers(3, 11, n).tolist() for n in draw.integers(1, 7, 300)]
    targets = [
        [t if draw.random() < 0.6 else int(draw.integers(3, 11)) for t in row[::-1]] for row in sources
    ]
    made = Transformer(TransformerConfig(vocab_size=11, layers=2, heads=2, width=16, feed=32), seed=3)
    return train(made, Pairs(sources, targets), Plan(60, 1000, lr=0.01, warmup=20), half=False)[0]


def weights(model) -> dict[str, list[float]]:
    return {name: value.tolist() for name, value in model.transformer.state_dict().items()}


def test_a_mini_model_learns_a_planted_language(model) -> None:
    """In seconds it puts unseen sentences into other words in the opposite order, which no copy does."""
    found = model.predict(planted(200, 99))
    score = sacrebleu.corpus_bleu(list(found.texts), [list(found.references)]).score
    copy = sacrebleu.corpus_bleu(list(found.sources), [list(found.references)]).score
    assert score > 80 > 5 > copy
    assert float(np.exp(found.surprise.sum() / found.tokens.sum())) < 1.5


def test_answers_stand_beside_sources_and_references(model) -> None:
    """Ids, sources, references; surprise is -ln P(reference), so a wrong reference is a surprise."""
    test = planted(30, 5)
    found = model.predict(test)
    assert (test.column("target"), test.column("source")) == (list(found.references), list(found.sources))
    assert tuple(test.ids) == found.ids
    turned = test.with_column("target", test.column("target")[::-1])
    assert found.surprise.sum() < 0.2 * model.predict(turned).surprise.sum()
    rows = model.codec.rows(test.column("target"))
    assert [len(row) + 1 for row in rows] == found.tokens.tolist()


def test_beam_search_finds_what_is_more_likely_than_the_greedy_way(tiny) -> None:
    """By the model's own score, on average over sources; each sum is what scoring the answer gives."""
    draw = np.random.default_rng(0)
    sources = [draw.integers(3, 11, n).tolist() for n in draw.integers(1, 7, 40)]
    greedy, beam = translate(tiny, sources, beam=1), translate(tiny, sources, beam=6)
    assert sum(one.score for one in greedy) < sum(one.score for one in beam)
    for found in (greedy, beam):
        ended = [i for i, one in enumerate(found) if one.finished]
        assert len(ended) > 5
        nats, _ = surprise(tiny, [sources[i] for i in ended], [found[i].tokens for i in ended])
        # Padding and start are never written, so that search renormalises over the rest: never less likely.
        assert all(found[i].logprob >= -value - 1e-4 for i, value in zip(ended, nats))


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_a_wide_beam_is_exhaustive_search(alpha) -> None:
    """With room for all answers of up to three tokens, the best by length-normalised score is found."""
    model = Transformer(TransformerConfig(vocab_size=7, layers=1, heads=2, width=8, feed=16), seed=5).eval()
    sources = [[3, 4], [5], [6, 3, 5, 4], [4, 4, 4]]
    with torch.inference_mode():
        found = translate(model, sources, beam=90, alpha=alpha, max_new_tokens=3)
    for source, one in zip(sources, found):
        best = None
        for length in range(4):
            for tokens in product(range(3, 7), repeat=length):
                logits = model(padded([[*source, END]]), padded([[START, *tokens]]))[0]
                logits[:, :2] = float("-inf")
                logs = torch.log_softmax(logits.double(), -1)
                logs = logs.detach()
                total = sum(float(logs[i, token]) for i, token in enumerate([*tokens, END]))
                best = max(best or (-1e9, ()), (total / penalty(length + 1, alpha), tokens))
        assert best[1] == one.tokens and one.finished
        assert best[0] == pytest.approx(one.score, abs=1e-5)


def test_the_greedy_way_takes_the_most_likely_token_each_time(tiny) -> None:
    """Against running the whole model anew for each token, one sentence at a time, without padding."""
    sources = [[3, 4, 5], [6], [7, 8, 9, 10, 3, 4]]
    for beam_of_one, source in zip(translate(tiny, sources, beam=1, max_new_tokens=8), sources):
        said: list[int] = []
        while len(said) <= 8:
            logits = tiny(padded([[*source, END]]), padded([[START, *said]]))[0, -1]
            logits[:2] = float("-inf")
            token = int(logits.argmax())
            if token == END or len(said) == 8:
                break
            said.append(token)
        assert tuple(said) == beam_of_one.tokens
        assert beam_of_one.finished == (token == END)


def test_step_by_step_is_the_same_as_all_at_once(tiny) -> None:
    """What is kept gives the log-probabilities of a full recompute; rows may leave and change places."""
    sources = padded([[3, 4, 5, END], [6, END], [7, 8, END]])
    targets = torch.tensor([[3, 5, 7, 9], [4, 6, 8, 10], [10, 9, 3, 3]])
    inputs = torch.cat((torch.full((3, 1), START), targets), dim=1)
    logits = tiny(sources, inputs)
    logits[..., :2] = float("-inf")
    expected = torch.log_softmax(logits, -1)
    with torch.inference_mode():
        decoding = Decoding(tiny, sources, 1)
        rows = torch.arange(3)
        for time in range(5):
            found = decoding.step(inputs[rows, time])
            torch.testing.assert_close(expected[rows, time], found, atol=1e-5, rtol=1e-5)
            if time == 1:
                rows = torch.tensor([2, 0])
                decoding.keep(rows, rows)


def test_neighbours_and_padding_change_nothing(tiny) -> None:
    """A pair's loss and its translation are the same alone and beside longer ones; buckets hold all rows."""
    draw = np.random.default_rng(1)
    pairs = Pairs(
        [draw.integers(3, 11, n).tolist() for n in draw.integers(1, 12, 50)],
        [draw.integers(3, 11, n).tolist() for n in draw.integers(0, 12, 50)],
    )
    alone = [float(loss_of(tiny, pairs, [i], 0.1, False).detach()) for i in range(50)]
    together = float(loss_of(tiny, pairs, list(range(50)), 0.1, False).detach())
    assert sum(alone) == pytest.approx(together, rel=1e-5)
    nats, tokens = surprise(tiny, pairs.sources, pairs.targets)
    assert nats.sum() / tokens.sum() == pytest.approx(loss_over(tiny, pairs, tokens=64), rel=1e-5)
    ones = [translate(tiny, [source], beam=3)[0].tokens for source in pairs.sources]
    assert ones == [one.tokens for one in translate(tiny, pairs.sources, beam=3)]
    order = batches(pairs.lengths, 60, np.random.default_rng(0))
    assert list(range(50)) == sorted(np.concatenate(order).tolist())
    assert all(pairs.lengths[rows].max(axis=0).sum() * len(rows) <= 60 for rows in order)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_smoothed_loss_is_its_formula(smoothing) -> None:
    """Value and both slopes against torch's own cross-entropy; more rows than are made at a time."""
    torch.manual_seed(0)
    hidden = torch.randn(300, 12, requires_grad=True)
    table = torch.randn(40, 12, requires_grad=True)
    targets = torch.randint(0, 40, (300,))
    expected = torch.nn.functional.cross_entropy(
        hidden @ table.T, targets, label_smoothing=smoothing, reduction="sum"
    )
    slopes = torch.autograd.grad(expected * 0.7, (hidden, table))
    found = smoothed_loss(hidden, table, targets, smoothing)
    torch.testing.assert_close(expected, found, rtol=1e-5, atol=1e-4)
    for one, other in zip(slopes, torch.autograd.grad(found * 0.7, (hidden, table))):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_model() -> None:
    """To the bit; another seed gives another model, and dropout does not touch the global generator."""
    pairs, trainer = planted(60, 0), registry.make("trainers", TINY + ",dropout=0.2")
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first = trainer.fit(pairs, seed=1)
    assert expected == torch.rand(1)
    assert first.model == trainer.fit(pairs, seed=1).model != trainer.fit(pairs, seed=2).model


def test_going_on_is_training_longer(tmp_path) -> None:
    """Twelve steps, saved, read, and twelve more are twenty-four at once: optimiser and order are carried."""
    pairs = planted(60, 0)
    make = f"{TINY},dropout=0.1,batch_tokens=300,steps="
    short, long = (registry.make("trainers", make + steps) for steps in ("12", "24"))
    half = short.fit(pairs, seed=1)
    once = long.fit(pairs, seed=1)
    read = Seq2seq.load(half.save(tmp_path / "model"))
    assert once.history.epochs > 2
    assert weights(once) == weights(short.fit(pairs, seed=1, start=half))
    assert weights(once) == weights(short.fit(pairs, seed=1, start=read))
    # More records: the BPE stays that of the first ones, whatever they hold.
    more = short.fit(planted(90, 4), seed=1, start=half)
    assert (half.codec, 24) == (more.codec, more.state.step)


def test_a_model_is_written_and_read_back(model, tmp_path) -> None:
    """The same name, answers and history from a folder of safetensors and JSON; pickling keeps it too."""
    read = Seq2seq.load(model.save(tmp_path / "m"))
    assert {"seq2seq.json", "model.safetensors", "tokenizer.json", "training.safetensors"} == {
        path.name for path in (tmp_path / "m").iterdir()
    }
    test = planted(20, 7)
    for other in (read, pickle.loads(pickle.dumps(model))):
        assert (model.model, model.history) == (other.model, other.history)
        assert model.predict(test).texts == other.predict(test).texts
    (tmp_path / "m" / "seq2seq.json").unlink()
    with pytest.raises(InputError, match=r"seq2seq\.json is missing"):
        Seq2seq.load(tmp_path / "m")


def test_validation_keeps_the_best_of_eight_checks() -> None:
    """Few pairs, known by heart soon: the returned model is the best on other pairs, and not the last."""
    trainer = registry.make("trainers", TINY.replace("steps=12", "steps=240,lr=0.01,warmup=10"))
    other = planted(60, 8)
    found = trainer.fit(planted(25, 0), validation=other)
    losses = [loss for _, loss in found.history.validation]
    assert 8 == len(losses) and min(losses) < losses[-1]
    kept = found.predict(other)
    assert min(losses) == pytest.approx(kept.surprise.sum() / kept.tokens.sum(), rel=0.02)
    assert found.state.step == found.history.best_step < 240


def request(text: str, **more) -> Request:
    return Request(id=more.pop("id", "r"), messages=(Message("user", text),), **more)


def test_a_model_is_a_provider(model) -> None:
    """At temperature 0 it says what `predict` says, above it draws by seed; logprob is the mean a token."""
    texts = planted(12, 3).column("source")
    cold = asyncio.run(model.complete([request(text, temperature=0.0, id=text) for text in texts]))
    assert model.translate(texts) == [answer.text for answer in cold]
    assert texts == [answer.request_id for answer in cold]
    rows = model.codec.rows([answer.text for answer in cold])
    nats, tokens = surprise(model.transformer, model.codec.rows(texts), rows)
    assert (-nats / tokens).tolist() == pytest.approx([answer.logprob for answer in cold], abs=0.01)
    warm = [
        asyncio.run(model.complete([request(text, temperature=1.5, seed=seed) for text in texts[:many]]))
        for seed, many in ((1, 12), (1, 6), (2, 12))
    ]
    said = [[answer.text for answer in answers] for answers in warm]
    assert said[0][:6] == said[1], "an answer depends on its seed, not on its neighbours"
    assert said[0] != said[2]
    short = asyncio.run(model.complete([request(texts[0], temperature=0.0, max_tokens=1)]))[0]
    assert ("length", 1) == (short.finish_reason, short.tokens_out)


def test_it_answers_the_recipe_translate(model) -> None:
    """Of the recipe's request only the sentence is translated, also where the task says more."""
    test = planted(6, 11)
    for told in ("", "Be exact.\n\nAnswer briefly."):
        task = Task("sentence", type="translation", target_language="Planted", instructions=told)
        slots = registry.make("recipes", "translate").compose(Plot(task, 6, items=test, seed=0))
        asked = [Request(id=str(i), messages=slot.messages, temperature=0.0) for i, slot in enumerate(slots)]
        assert 6 == len(asked)
        answers = asyncio.run(model.complete(asked))
        assert model.translate(test.column("source")) == [answer.text for answer in answers]


def test_any_script_survives_the_tokens() -> None:
    """Bytes are tokens, so that what was never seen in training comes back as it was."""
    codec = learn_codec(["a cat sat", "a cat ran"] * 5, 300)
    texts = ["Straße – «ça»", "猫は 座る", "🐈\n\ttab", "", "a cat"]
    assert texts == [codec.text(row) for row in codec.rows(texts)]
    assert len(codec.rows(["a cat"])[0]) == 2 < len(codec.rows(["zqx"])[0])


def test_instructions_are_learned_too() -> None:
    """A prompt and its completion are a pair."""
    rows = [{"prompt": f"say {word}", "completion": WORDS[word]} for word in WORDS] * 8
    found = registry.make("trainers", TINY).fit(from_rows(rows, datatype="instruction"))
    assert "say ab" == found.predict(from_rows(rows, datatype="instruction")).sources[0]


def test_what_cannot_be_trained_on_is_said() -> None:
    """Another type, no pair, a missing target, only long pairs; empty texts are pairs like others."""
    trainer = registry.make("trainers", TINY)
    with pytest.raises(InputError, match="not from text"):
        trainer.fit(from_rows([{"text": "a"}], datatype="text"))
    with pytest.raises(NotEnoughData, match="no records"):
        trainer.fit(planted(3, 0).take([]))
    lacking = from_rows([{"source": "a", "target": "b"}] * 2, datatype="translation")
    with pytest.raises(InputError, match="has no target"):
        trainer.fit(lacking.with_column("target", ["b", None]))
    with pytest.raises(NotEnoughData, match="longest=1"):
        registry.make("trainers", TINY + ",longest=1").fit(planted(20, 0))
    empty = from_rows([{"source": "", "target": "b"}, {"source": "a", "target": ""}], datatype="translation")
    assert 2 == len(trainer.fit(empty).predict(empty).texts)


def test_presets_have_their_shapes_and_settings_override_them() -> None:
    """`paper` is the base model of Vaswani et al.; a setting that is not 0 replaces the preset's."""
    paper = PRESETS["paper"]
    assert (6, 8, 512, 2048, 4000) == (paper.layers, paper.heads, paper.width, paper.feed, paper.warmup)
    config = TransformerConfig(37_000, 6, 8, 512, 2048, post_norm=True)
    with torch.device("meta"):
        count = sum(p.numel() for p in Transformer(config).parameters())
    assert 63e6 == pytest.approx(count, rel=0.02)  # table 3 says 65 million
    found = registry.make("trainers", TINY).fit(planted(30, 0))
    config = found.transformer.config
    assert (1, 2, 32, 64, 12) == (config.layers, config.heads, config.width, config.feed, found.history.steps)
    assert (
        3 > registry.make("trainers", TINY.replace("steps=12", "epochs=2")).fit(planted(30, 0)).history.epochs
    )
    with pytest.raises(ValueError, match="below 0"):
        Seq2seq(layers=-1)


def test_norms_may_stand_behind_the_blocks() -> None:
    """As in the paper; step by step it writes the same as all at once."""
    config = TransformerConfig(vocab_size=11, layers=2, heads=2, width=16, feed=32, post_norm=True)
    found, pairs = Transformer(config, seed=0), Pairs([[3, 4], [5]] * 20, [[6, 7], [8]] * 20)
    found, _, history = train(found, pairs, Plan(90, 200, lr=0.01, warmup=20, smoothing=0.0), half=False)
    assert history.losses[-1][1] < 0.5 < history.losses[0][1]
    assert [(6, 7), (8,)] == [one.tokens for one in translate(found, [[3, 4], [5]], beam=2)]


def test_settings_are_plain(model) -> None:
    """The folder's JSON holds plain values, and the spec of the trainer makes the trainer again."""
    trainer = registry.make("trainers", TINY)
    assert trainer == registry.make("trainers", registry.spec_of(trainer))
    assert json.loads(json.dumps({"left_out": model.left_out})) == {"left_out": 0}
