"""The encoder trainer on a tiny BERT made on the spot: labels, tags, annotators, presets, files, edges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from karat import records, registry
from karat.errors import BadSetting, InputError, NotEnoughData, ProviderError
from karat.records import Records
from karat.training.annotators import items, shares, slots
from karat.training.base import Predictions, Tagged
from karat.training.encoder_models import Task
from karat.training.encoder_training import _batches, _height, loss_of
from karat.training.trainers.encoder import PRESETS, Encoder, EncoderModel

WORDS = [f"w{i}" for i in range(40)] + [f"key{i}" for i in range(6)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a randomly initialised BERT of two layers and a tokenizer that knows our words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", "utf-8")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=40,
            initializer_range=0.1,  # vectors of words as far apart as pretraining puts them
        )
        BertModel(config).save_pretrained(folder)
    BertTokenizerFast(
        vocab={word: i for i, word in enumerate(vocabulary)}, model_max_length=40
    ).save_pretrained(folder)
    return str(folder)


def trainer(tiny: str, **settings: object) -> Encoder:
    return replace(Encoder(model=tiny, lr=2e-3, batch=16, epochs=6), **settings)  # type: ignore[arg-type]


def text(rng: np.random.Generator, *keys: str) -> str:
    """Filler of various length with the keywords somewhere in it."""
    filler = [f"w{i}" for i in rng.integers(0, 40, int(rng.integers(3, 9)))]
    return " ".join(rng.permutation([*filler, *keys]).tolist())


def keyed(n: int, *, seed: int, labels: int = 3) -> Records:
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, labels, n).tolist()
    return records.from_rows([{"text": text(rng, f"key{k}"), "label": f"l{k}"} for k in kinds])


def accuracy(found: Predictions) -> float:
    assert found.gold is not None
    return float(np.mean([a == b for a, b in zip(found.labels, found.gold)]))


@pytest.fixture(scope="module")
def learned(tiny: str) -> EncoderModel:
    return trainer(tiny).fit(keyed(200, seed=1))


def test_a_planted_keyword_is_learned(learned: EncoderModel) -> None:
    """Which keyword a text holds tells its label; held-out texts are labelled by it."""
    found = learned.predict(keyed(100, seed=2))
    assert isinstance(found, Predictions)
    assert ("l0", "l1", "l2") == found.classes
    np.testing.assert_allclose(np.ones(100), found.probabilities.sum(axis=1))
    assert accuracy(found) > 0.9
    assert learned.history is not None
    assert learned.history.losses[-1] < 0.5 * learned.history.losses[0]


def test_with_shuffled_labels_nothing_is_learned(tiny: str) -> None:
    """The control: labels that tell nothing give held-out texts no more than chance."""
    train = keyed(200, seed=1)
    mixed = train.with_column("label", np.random.default_rng(0).permutation(train.labels()).tolist())
    found = trainer(tiny, epochs=3).fit(mixed).predict(keyed(200, seed=2))
    assert accuracy(found) < 0.5


def test_the_average_of_token_vectors_learns_too(tiny: str) -> None:
    """The head on averaged token vectors, which sentence encoders get, learns the same keywords."""
    assert (
        accuracy(trainer(tiny, pooling="mean", epochs=4).fit(keyed(200, seed=1)).predict(keyed(100, seed=2)))
        > 0.9
    )


def test_the_same_seed_gives_the_same_model(tiny: str) -> None:
    """Weights depend on the seed alone, and torch's own random numbers are left as they were."""
    import torch

    train, test = keyed(40, seed=3), keyed(20, seed=4)
    before = torch.random.get_rng_state()
    one, same, other = (
        trainer(tiny, preset="paper", epochs=1).fit(train, seed=seed).predict(test).probabilities
        for seed in (0, 0, 1)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_predictions_do_not_depend_on_the_company_of_a_text(learned: EncoderModel) -> None:
    """Padding to the longest text of a batch changes no answer; neither does the order."""
    test = keyed(30, seed=5)
    together = learned.predict(test).probabilities
    alone = np.concatenate([learned.predict(test.take([i])).probabilities for i in range(8)])
    np.testing.assert_allclose(together[:8], alone, atol=1e-5)
    np.testing.assert_allclose(
        together[::-1], learned.predict(test.take(np.arange(30)[::-1])).probabilities, atol=1e-5
    )


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_saved_model_gives_equal_predictions(tiny: str, tmp_path: Path, pooling: str) -> None:
    """What `save` writes, `load` reads; the folder holds no pickle."""
    model = trainer(tiny, preset="paper", epochs=1, pooling=pooling).fit(keyed(40, seed=6))
    folder = model.save(tmp_path / "kept")
    test = keyed(20, seed=7)
    again = Encoder.load(folder)
    assert model.settings == again.settings
    assert np.array_equal(model.predict(test).probabilities, again.predict(test).probabilities)
    assert not {".bin", ".pt", ".pkl"} & {path.suffix for path in folder.iterdir()}


def test_other_programs_read_the_saved_model(learned: EncoderModel, tmp_path: Path) -> None:
    """The library alone opens the folder and names the same classes (reference: its own pipeline)."""
    from transformers import pipeline

    folder = str(learned.save(tmp_path / "kept"))
    test = keyed(6, seed=8)
    told = pipeline("text-classification", model=folder, tokenizer=folder, device="cpu", top_k=None)(
        test.texts()
    )
    found = learned.predict(test)
    expected = [[{one["label"]: one["score"] for one in row}[name] for name in found.classes] for row in told]
    np.testing.assert_allclose(expected, found.probabilities, atol=1e-5)


def test_planted_tags_are_recovered(tiny: str) -> None:
    """Texts with none, one or several keywords get as many tags (micro-F1 on held-out texts)."""
    rng = np.random.default_rng(9)

    def tagged(n: int) -> Records:
        rows = []
        for mask in rng.random((n, 3)) < 0.4:
            keys = np.flatnonzero(mask).tolist()
            rows.append({"text": text(rng, *(f"key{k}" for k in keys)), "topics": [f"t{k}" for k in keys]})
        return records.from_rows(rows, datatype="text")

    test = tagged(100)
    found = trainer(tiny, tags="topics", epochs=8).fit(tagged(300)).predict(test)
    assert isinstance(found, Tagged)
    assert ("t0", "t1", "t2") == found.classes
    assert found.gold == tuple(map(tuple, test.column("topics")))
    hits = sum(len({*a} & {*b}) for a, b in zip(found.labels, found.gold))
    assert 2 * hits / (sum(map(len, found.labels)) + sum(map(len, found.gold))) > 0.9
    assert found.labels[[len(g) for g in found.gold].index(0)] == ()


PLANTED = np.array([[0.6, 0.4, 0.0], [0.0, 0.3, 0.7], [0.2, 0.6, 0.2]])


def annotated(items_: int, *, seed: int, people: int = 5) -> Records:
    """Items whose keyword says how their annotators' labels are distributed."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(items_):
        kind = i % 3
        said = text(rng, f"key{kind}")
        for k, label in enumerate(rng.choice(3, people, p=PLANTED[kind]).tolist()):
            rows.append({"item_id": f"i{i}", "text": said, "label": str(label), "annotator": f"a{k}"})
    return records.from_rows(rows, datatype="annotation")


def far_from_planted(found: Predictions) -> float:
    """Mean total variation distance between what is predicted and what was planted."""
    kinds = np.arange(len(found.ids)) // 5 % 3
    return float(0.5 * np.abs(found.probabilities - PLANTED[kinds]).sum(axis=1).mean())


def test_soft_labels_reproduce_the_annotators_distribution(tiny: str) -> None:
    """On held-out items soft labels come near the planted distribution, majority labels do not."""
    train, test = annotated(150, seed=10), annotated(60, seed=11)
    soft, hard = (
        far_from_planted(trainer(tiny, annotators=how, epochs=8).fit(train).predict(test))
        for how in ("soft", "majority")
    )
    assert soft < 0.15
    assert hard > soft + 0.1


def test_slots_answer_in_their_order(tiny: str) -> None:
    """With sorted slots no slot answers less than the one before; the mean of slots is the prediction."""
    train, test = annotated(120, seed=12), annotated(30, seed=13)
    model = trainer(tiny, annotators="slots", epochs=6).fit(train)
    assert Task("slots", ("0", "1", "2"), 5) == model.task
    answers = model.answers(test.texts())
    assert {5} == set(map(len, answers))
    assert np.mean([list(row) == sorted(row) for row in answers]) > 0.9
    assert far_from_planted(model.predict(test)) < 0.2


def test_orders_of_slots() -> None:
    """The four orders on answers worked out by hand; an item with fewer answers leaves slots empty."""
    answers, classes = [("2", "0", "2"), ("1", "0")], ("0", "1", "2")
    assert [[0, 2, 2], [0, 1, -1]] == slots(answers, classes, "sorted").tolist()
    assert [[2, 2, 0], [0, 1, -1]] == slots(answers, classes, "frequency").tolist()
    more = [*answers, ("0", "1")]  # in all records: 0 thrice, 1 and 2 twice
    assert [[0, 2, 2], [0, 1, -1], [0, 1, -1]] == slots(more, classes, "data-frequency").tolist()
    drawn = slots(answers * 50, classes, "shuffle", seed=1)
    assert {(0, 2, 2), (2, 0, 2), (2, 2, 0), (0, 1, -1), (1, 0, -1)} == set(map(tuple, drawn.tolist()))


def test_the_losses_are_those_of_their_definition() -> None:
    """Against numpy: soft and binary cross-entropy, and 0.8 CE + 0.2 (y - argmax)^2 / 2 in each slot."""
    import torch

    rng = np.random.default_rng(14)
    logits = rng.normal(size=(4, 6))
    given = torch.from_numpy(logits)

    def log_softmax(x: np.ndarray) -> np.ndarray:
        return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))

    shared = rng.dirichlet(np.ones(6), 4)
    expected = -(shared * log_softmax(logits)).sum(axis=1).mean()
    assert expected == pytest.approx(
        float(loss_of(Task("labels", tuple("abcdef")), given, torch.from_numpy(shared)))
    )
    tags = (rng.random((4, 6)) < 0.5).astype(float)
    chance = 1 / (1 + np.exp(-logits))
    expected = -(tags * np.log(chance) + (1 - tags) * np.log(1 - chance)).mean()
    assert expected == pytest.approx(
        float(loss_of(Task("tags", tuple("abcdef")), given, torch.from_numpy(tags)))
    )
    wanted = np.array([[0, 2], [1, -1], [2, 0], [0, -1]])
    apart, expected = logits.reshape(4, 2, 3), 0.0
    for slot in range(2):
        rows = np.flatnonzero(wanted[:, slot] >= 0)
        logs = log_softmax(apart[rows, slot])
        away = wanted[rows, slot] - logs.argmax(axis=1)
        expected += (
            -0.8 * logs[np.arange(len(rows)), wanted[rows, slot]].mean() + 0.2 * 0.5 * (away**2).mean()
        )
    task = Task("slots", ("a", "b", "c"), 2)
    assert expected == pytest.approx(float(loss_of(task, given, torch.from_numpy(wanted))))


def test_presets_hold_the_published_numbers() -> None:
    """AttrPrompt as printed and as coded, and the artifact study: rates, sizes, epochs, warm-up, decay."""
    paper, code, study = (PRESETS[name] for name in ("paper", "repository", "annotators"))
    told = [
        (p.recipe.lr, p.recipe.batch, p.recipe.epochs, p.recipe.weight_decay, p.recipe.warmup)
        for p in (paper, code, study)
    ]
    assert [(5e-5, 32, 6, 1e-4, 0.06), (2e-5, 32, 8, 1e-3, 0.06), (1e-5, 1, 3, 0.01, 0.1)] == told
    assert [1e-4, 5e-5, 2e-5] == [Encoder(preset="paper").recipe(width).lr for width in (312, 768, 1024)]
    assert [2e-5] * 3 == [Encoder(preset="repository").recipe(width).lr for width in (312, 768, 1024)]
    assert (128, 88 + 2, 100, "last", 2) == (
        paper.length, code.length, code.recipe.least_steps, code.recipe.keep, study.recipe.patience
    )  # fmt: skip
    assert {(1e-6, 1.0)} == {(p.recipe.eps, p.recipe.clip) for p in (paper, code)}


def test_the_rate_rises_and_falls_in_lines() -> None:
    """6 % of 100 steps up, the rest down to 0 (reference: the library's own schedule, a step on)."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = get_linear_schedule_with_warmup(optimiser, 6, 100)
    expected = []
    for _ in range(100):
        optimiser.step()
        peer.step()
        expected.append(peer.get_last_lr()[0])
    # the library's first step has the rate 0 and moves nothing; ours begins with its second
    np.testing.assert_allclose(expected[:6], [_height(step, 100, 0.06) for step in range(6)])
    np.testing.assert_allclose(expected[6:], [_height(step, 100, 0.06) for step in range(7, 101)], atol=1e-12)


def test_batches_hold_each_text_once_a_pass_and_little_padding() -> None:
    """A pass over texts of very different lengths pads less than a tenth of what random batches would."""
    lengths = np.random.default_rng(15).integers(3, 120, 1000).tolist()
    batches = _batches(lengths, 16, seed=0)
    made = [next(batches) for _ in range(-(-1000 // 16) + 1)]  # the last batch of each 800 is a short one
    places = [place for batch in made for place in batch]
    assert set(range(1000)) <= set(places)
    padded = sum(max(lengths[i] for i in b) * len(b) - sum(lengths[i] for i in b) for b in made)
    assert padded < 0.1 * sum(120 * len(b) - sum(lengths[i] for i in b) for b in made)


def test_validation_stops_early_and_keeps_the_best_round(tiny: str) -> None:
    """Noise learned by heart gets worse on validation: it stops, with the weights of the best round."""
    rng = np.random.default_rng(16)
    rows = [{"text": text(rng), "label": str(rng.integers(2))} for _ in range(120)]
    train, held = records.from_rows(rows[:40]), records.from_rows(rows[40:])
    model = trainer(tiny, epochs=20).fit(train, validation=held)
    assert model.history is not None
    seen = model.history.validation
    assert len(seen) < 20
    assert int(np.argmin(seen)) == model.history.best
    found = model.predict(held)
    gold = [found.classes.index(label) for label in found.gold or ()]
    assert min(seen) == pytest.approx(-np.log(found.probabilities[np.arange(80), gold]).mean(), rel=1e-4)


def test_validation_labels_that_training_lacks_are_left_out(tiny: str) -> None:
    """A validation record of an unknown class can say nothing of this model; all of them: no validation."""
    strange = keyed(10, seed=17).with_column("label", ["other"] * 10)
    model = trainer(tiny, preset="paper", epochs=1).fit(keyed(20, seed=18), validation=strange)
    assert model.history is not None
    assert () == model.history.validation


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_it_goes_on_from_a_model_and_learns_new_classes(tiny: str, pooling: str) -> None:
    """Going on keeps what was learned, adds classes, and leaves the model that it started from as it was."""
    own = trainer(tiny, pooling=pooling, batch=8)
    first = own.fit(keyed(80, seed=19, labels=2))
    test = keyed(60, seed=20, labels=3)
    before = first.predict(test).probabilities
    further = own.fit(keyed(120, seed=21, labels=3), start=first)
    assert ("l0", "l1", "l2") == further.task.classes
    assert accuracy(further.predict(test)) > 0.9
    assert np.array_equal(before, first.predict(test).probabilities)
    brief = replace(own, preset="paper", epochs=1, lr=1e-9).fit(keyed(16, seed=22, labels=2), start=first)
    np.testing.assert_allclose(before, brief.predict(test).probabilities, atol=1e-4)
    with pytest.raises(InputError, match="go on from"):
        own.fit(annotated(6, seed=0), start=replace(first, task=Task("tags", first.task.classes)))


def test_one_label_gives_the_one_answer_there_is(tmp_path: Path) -> None:
    """Training on one label needs no weights, predicts it with certainty, and is saved and loaded."""
    train = records.from_rows([{"text": f"t {i}", "label": "only"} for i in range(5)])
    model = Encoder(model="/no/such/folder").fit(train)
    for one in (model, Encoder.load(model.save(tmp_path / "one"))):
        found = one.predict(keyed(4, seed=23))
        assert ("only",) == found.classes
        assert [1.0] * 4 == found.probabilities[:, 0].tolist()


def test_empty_and_endless_texts_are_read(learned: EncoderModel) -> None:
    """An empty text, signs alone and one longer than the model can read get a distribution each."""
    rows = [{"text": said} for said in ("", "  ", "!!", "key1 " * 500)]
    found = learned.predict(records.from_rows(rows, datatype="text"))
    assert found.gold is None
    assert np.isfinite(found.probabilities).all()
    np.testing.assert_allclose(np.ones(4), found.probabilities.sum(axis=1))
    assert "l1" == found.labels[3]


def test_unusable_answers_are_no_class() -> None:
    """An annotator's empty label is left out of the item's distribution."""
    rows = [
        {"item_id": "i", "text": "t", "label": label, "annotator": str(k)} for k, label in enumerate("xyx")
    ]
    found = items(records.from_rows(rows, datatype="annotation"))
    np.testing.assert_allclose([[2 / 3, 1 / 3]], shares(found.answers, found.classes))


def test_errors_name_the_cure(tiny: str) -> None:
    """No such model, a field without lists, no tags at all, impossible numbers: one line each."""
    few = keyed(4, seed=24)
    with pytest.raises(ProviderError, match="no folder"):
        Encoder(model="/no/such/folder").fit(few)
    with pytest.raises(BadSetting, match="list of labels"):
        trainer(tiny, tags="label").fit(few)
    with pytest.raises(InputError, match="no field 'topics'"):
        trainer(tiny, tags="topics").fit(few)
    with pytest.raises(NotEnoughData, match="no record has a label"):
        trainer(tiny, tags="topics").fit(few.with_column("topics", [[]] * 4))
    with pytest.raises(BadSetting, match="epochs is -1"):
        registry.make("trainers", "encoder:epochs=-1")
