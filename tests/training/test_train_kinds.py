"""What train promises for each kind of answers: scores beside chance, reasons, predictions, a kept model."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sacrebleu")
import sacrebleu
import torch
from sklearn import metrics as reference

import karat
from karat import records, registry
from karat.blocks import Examples, Headline, Table
from karat.cli import main
from karat.errors import InputError, MissingExtra, NotEnoughData
from karat.generation.saved_models import load_model
from karat.records import Records
from karat.training import similarity
from karat.training.base import Tagged, Weighed, Written, kind_of
from karat.training.rating import rate
from karat.training.stage import Trained

WORDS = dict(zip("ab cd ef gh ij kl mn op".split(), "zu yi xo we va ut so re".split()))
LABELS = ("calm", "glad", "sad")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small are slower on two threads than on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def said(rng: np.random.Generator, label: int, n: int = 6) -> str:
    words = [f"w{label}{k}" for k in rng.integers(0, 6, 2)] + [f"n{k}" for k in rng.integers(0, 40, n)]
    return " ".join(rng.permutation(words).tolist())


def labelled(n: int, seed: int) -> Records:
    rng = np.random.default_rng(seed)
    rows = []
    for i, kind in enumerate(rng.integers(0, 3, n).tolist()):
        label = kind if rng.random() < 0.9 else (kind + 1) % 3  # some labels are wrong
        rows.append({"id": f"l{seed}-{i}", "text": said(rng, kind), "label": LABELS[label]})
    return records.from_rows(rows)


def preferred(n: int, seed: int) -> Records:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        liked = 1 if rng.random() < 0.9 else 2
        rows.append({"id": f"p{seed}-{i}", "prompt": f"q{i}"})
        rows[-1] |= {"chosen": said(rng, liked), "rejected": said(rng, 3 - liked)}
    return records.from_rows(rows)


def plain(n: int, seed: int) -> Records:
    rng = np.random.default_rng(seed)
    rows = [{"id": f"t{seed}-{i}", "text": f"the {said(rng, i % 3, 2)} is here."} for i in range(n)]
    return records.from_rows(rows, datatype="text")


def translated(n: int, seed: int) -> Records:
    """A planted language: other words, in the opposite order."""
    rng = np.random.default_rng(seed)
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < n:
        words = [str(word) for word in rng.choice(list(WORDS), int(rng.integers(2, 7)))]
        source = " ".join(words)
        rows[source] = {"id": f"s{seed}-{len(rows)}", "source": source}
        rows[source]["target"] = " ".join(WORDS[word] for word in reversed(words))
    return records.from_rows(list(rows.values()), datatype="translation")


def annotated(n: int, seed: int) -> Records:
    """Items of one of two kinds with four annotators each, who do not agree; some do not answer."""
    rng = np.random.default_rng(seed)
    rows = []
    for item in range(n):
        kind, text = item % 2, said(rng, item % 2)
        for person in range(4):
            label = LABELS[kind] if rng.random() < 0.8 else LABELS[1 - kind]
            answer = "" if item % 10 == 9 and person == 3 else label
            row = {"id": f"a{seed}-{item}-{person}", "item_id": f"{seed}.{item}", "text": text}
            rows.append({**row, "label": answer, "annotator": f"r{person}"})
    return records.from_rows(rows, datatype="annotation")


def checked(found: Trained, test: Records, kind: str, first: str) -> dict[str, Any]:
    """What holds for every kind: JSON, blocks, worst and why; returns the scores by name."""
    told = json.loads(json.dumps(found.to_json()))
    assert (kind, len(test)) == (found.kind, found.tested_on)
    main_scores = {score["name"]: score for score in told["scores"] if not score["by"]}
    assert first in main_scores
    for name, score in main_scores.items():
        assert score["interval"][0] <= score["value"] <= score["interval"][1], name
        assert f"test:{test.fingerprint[:8]}" in score["signature"] and score["signature"].startswith(name)
        assert len(test) == score["n"]
    (section,) = found.__report__()
    headline = next(block for block in section.blocks if isinstance(block, Headline))
    assert f"{main_scores[first]['value']:.3f}" == headline.value
    table = next(block for block in section.blocks if isinstance(block, Table))
    assert list(main_scores) == [row["name"] for row in table.rows]
    assert any(isinstance(block, Examples) for block in section.blocks)
    likely = sorted(p.gold_probability for p in found.predictions)
    assert likely[:3] == [p.gold_probability for p in found.worst(3)]
    assert [*test.ids] == [p.id for p in found.predictions]
    for p in found.worst(len(test)):
        assert found.why(p.id).startswith(f"{p.id}: ")
    return main_scores


def kept(found: Trained, folder: Path, test: Records, name: str) -> Any:
    """The saved model, whose answers are those that were scored."""
    answers: Any = load_model(folder).predict(test)
    again = {
        score.name: score.value
        for score in rate(answers, test, test, maker="", trials=10, seed=0)
        if not score.by
    }
    assert found.score(name).value == pytest.approx(again[name], rel=1e-9)
    return answers


@pytest.mark.parametrize("trainer", ["linear", "probe:encoder=lsa"])
def test_labels(trainer: str, tmp_path: Path) -> None:
    """A classifier of three labels beats the commonest one; saved, it gives the same probabilities."""
    train, test = labelled(150, 1), labelled(60, 2)
    found = karat.train(train, test, trainer=trainer, trials=100, save=tmp_path / "m")
    scores = checked(found, test, "labels", "macro_f1")
    assert scores["accuracy"]["interval"][0] > scores["accuracy"]["chance"]
    assert scores["accuracy"]["lookup"] == scores["accuracy"]["chance"]
    answers = kept(found, tmp_path / "m", test, "log_loss")
    assert [p.probability for p in found.predictions] == answers.probabilities.max(axis=1).tolist()
    with pytest.raises(InputError, match="labels records and writes none"):
        registry.make("providers", f"trained:path={tmp_path / 'm'}").model  # noqa: B018


def test_a_classifier_without_an_n_gram_is_kept_too(tmp_path: Path) -> None:
    """Texts of signs only have no words; the model of their labels comes back."""
    train = records.from_rows([{"text": "!" * (i + 1), "label": "ab"[i % 2]} for i in range(6)])
    maker = registry.make("trainers", "linear:characters=0")
    model = maker.fit(train)
    again = maker.load(model.save(tmp_path))
    assert model.predict(train).probabilities.tolist() == again.predict(train).probabilities.tolist()
    assert () == again.telling("!", "a")


def test_preference(tmp_path: Path) -> None:
    """A reward that learned which words are liked beats the commonest choice."""
    train, test = preferred(100, 1), preferred(60, 2)
    found = karat.train(train, test, trainer="reward", trials=100, save=tmp_path / "m")
    scores = checked(found, test, "labels", "macro_f1")
    choices = [p.gold for p in found.predictions]
    assert {"a", "b"} == set(choices)  # which side is the chosen one is no constant
    assert scores["accuracy"]["chance"] in (choices.count("a") / 60, choices.count("b") / 60)
    assert scores["accuracy"]["interval"][0] > max(0.5, scores["accuracy"]["chance"])
    kept(found, tmp_path / "m", test, "accuracy")


def test_likelihoods(tmp_path: Path) -> None:
    """A causal model needs fewer bits a byte than the frequencies of bytes; the worst are the rarest."""
    train, test = plain(200, 1), plain(50, 2)
    found = karat.train(
        train, test, trainer="gpt:layers=1,width=32,steps=60", trials=100, save=tmp_path / "m"
    )
    scores = checked(found, test, "likelihoods", "bits_per_byte")
    assert scores["bits_per_byte"]["interval"][1] < scores["bits_per_byte"]["chance"]
    counts = Counter(byte for text in train.texts() for byte in [*text.encode(), 256])
    total = sum(counts.values()) + 257
    cost = sum(-np.log2((counts[b] + 1) / total) for t in test.texts() for b in [*t.encode(), 256])
    expected = cost / sum(len(t.encode()) for t in test.texts())
    assert expected == pytest.approx(scores["bits_per_byte"]["chance"])
    answers = kept(found, tmp_path / "m", test, "perplexity")
    assert isinstance(answers, Weighed)
    rarest = int((answers.surprise / answers.tokens).argmax())
    assert test.ids[rarest] == found.worst(1)[0].id
    assert "geometric mean" in found.why(test.ids[0])
    assert "gpt-1x32-" in registry.make("providers", f"trained:path={tmp_path / 'm'}").model


def test_texts(tmp_path: Path) -> None:
    """A translator of a planted language beats a copy of the source; a look-up table knows nothing."""
    everything = translated(1300, 1)
    train, test = everything.take(range(1200)), everything.take(range(1200, 1260))
    found = karat.train(train, test, trainer="seq2seq:preset=mini,steps=220", trials=50, save=tmp_path / "m")
    scores = checked(found, test, "texts", "bleu")
    assert {"bleu", "chrf", "rouge_l", "exact_match", "perplexity"} == set(scores)
    assert scores["bleu"]["interval"][0] > 10 > scores["bleu"]["chance"]
    assert 0 == scores["bleu"]["lookup"] == scores["exact_match"]["lookup"]
    hypotheses, references = ([p.predicted for p in found.predictions], test.column("target"))
    assert sacrebleu.corpus_bleu(hypotheses, [references]).score == pytest.approx(scores["bleu"]["value"])
    assert "tok:13a" in scores["bleu"]["signature"]
    shown = next(block for block in found.__report__()[0].blocks if isinstance(block, Examples)).rows[0]
    missed = found.worst(1)[0]
    told = f"the model says {missed.predicted!r}; the reference says {missed.gold!r}"
    assert ("", told) == (shown.label, shown.reason)  # a translation has no label
    kept(found, tmp_path / "m", test, "chrf")


def test_annotation() -> None:
    """The log loss of annotators' labels is the cross-entropy with their shares; no answer is no label."""
    train, test = annotated(60, 1), annotated(20, 2)
    found = karat.train(train, test, trainer="linear", trials=100)
    answered = test.where(np.array([label != "" for label in test.labels() or ()]))
    assert len(answered) == len(test) - 2
    scores = checked(found, answered, "labels", "macro_f1")
    assert {"unanswered"} <= {warning.code for warning in found.warnings}
    assert set(LABELS[:2]) == {score.by["label"] for score in found.scores if score.by}
    model = registry.make("trainers", "linear").fit(train)
    by_hand, answers = 0.0, 0
    for item in dict.fromkeys(answered.column("item_id")):
        mine = answered.where(np.array([name == item for name in answered.column("item_id")]))
        given = model.predict(mine.take([0])).probabilities[0]
        shares = np.array([(mine.labels() or []).count(name) for name in LABELS[:2]]) / len(mine)
        by_hand += len(mine) * float(-(shares * np.log(given)).sum())
        answers += len(mine)
    assert by_hand / answers == pytest.approx(scores["log_loss"]["value"])
    pool = registry.make("trainers", "linear").prepare(train)
    expected = model.predict(train.take([0, 1])).probabilities
    given = pool.fit_predict(np.arange(len(train)), np.array([0, 1])).probabilities
    np.testing.assert_allclose(expected, given, atol=1e-9)


@dataclass(frozen=True)
class Tagger:
    """Tags a text with each of its keywords; the field `tags` holds the right ones."""

    tags: str = "tags"
    types = ("text",)

    def fit(self, found: Records, **_: Any) -> Any:
        names = tuple(sorted({tag for tags in found.column("tags") for tag in tags}))

        class Model:
            def predict(self, test: Records) -> Tagged:
                chances = np.array(
                    [[0.9 if name in t.split() else 0.2 for name in names] for t in test.texts()]
                )
                gold = tuple(map(tuple, test.column("tags"))) if test.has("tags") else None
                return Tagged(tuple(test.ids), names, chances, gold)

        return Model()


def tagged(n: int, seed: int) -> Records:
    """Texts of keywords, whose tags are these in seven cases of eight; some have none."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        own = [name for name, share in zip("abc", (0.7, 0.4, 0.1)) if rng.random() < share]
        tags = own if rng.random() < 0.875 else [*{*own} ^ {"b"}]
        rows.append({"id": f"g{seed}-{i}", "text": " ".join([*own, f"t{seed}.{i}"]), "tags": sorted(tags)})
    return records.from_rows(rows, datatype="text")


def test_tags() -> None:
    """Scores are scikit-learn's; chance is the best constant answer, found by trying all of them."""
    train, test = tagged(60, 1), tagged(120, 2)
    found = karat.train(train, test, trainer=Tagger(), trials=100)
    scores = checked(found, test, "tags", "micro_f1")
    gold = np.array([[name in tags for name in "abc"] for tags in test.column("tags")])
    words = np.array([[name in text.split() for name in "abc"] for text in test.texts()])
    for average in ("micro", "macro"):
        ours = reference.f1_score(gold, words, average=average)
        assert ours == pytest.approx(scores[f"{average}_f1"]["value"])
        always = [np.tile([bool(n & 1 << k) for k in range(3)], (120, 1)) for n in range(8)]
        constants = [reference.f1_score(gold, row, average=average, zero_division=0) for row in always]
        assert max(constants) == pytest.approx(scores[f"{average}_f1"]["chance"])
    assert reference.accuracy_score(gold, words) == pytest.approx(scores["subset_accuracy"]["value"])
    most = max(Counter(map(tuple, gold.tolist())).values())
    assert most / 120 == pytest.approx(scores["subset_accuracy"]["chance"])
    shares = gold.mean(axis=0)
    prior = -(shares * np.log(shares) + (1 - shares) * np.log(1 - shares)).sum()
    assert prior == pytest.approx(scores["log_loss"]["chance"])
    without = next(p for p in found.predictions if not p.gold and not p.predicted)
    assert "which is right" in found.why(without.id)
    untold = records.from_rows([{"text": "a x"}, {"text": "b y"}], datatype="text")
    with pytest.raises(InputError, match="no field 'tags'"):
        karat.train(train, untold, trainer=Tagger(), trials=10)
    with pytest.raises(InputError, match="no field of right labels"):
        rate(Tagger().fit(train).predict(untold), train, untold, maker="m", trials=10, seed=0)
    known = karat.train(train, train, trainer=Tagger(), trials=10, allow_leakage=True)
    assert 1.0 == known.score("micro_f1").lookup == known.score("subset_accuracy").lookup
    assert 0.0 == scores["micro_f1"]["lookup"]


def test_tags_of_an_encoder(tmp_path: Path) -> None:
    """A fine-tuned encoder learns two tags that may stand together; saved, it tags alike."""
    pytest.importorskip("transformers")
    sys.path.insert(0, str(Path(__file__).parent))
    from tiny_encoder import tiny_encoder

    rng = np.random.default_rng(4)
    rows = []
    for i in range(160):
        own = [key for key in ("w0", "w1") if rng.random() < 0.5]
        words = rng.permutation([*own, *(f"w{k}" for k in rng.integers(2, 20, 5))]).tolist()
        rows.append({"id": f"e{i}", "text": " ".join(words) + f" {i}", "tags": own})
    some = records.from_rows(rows, datatype="text")
    train, test = some.take(range(110)), some.take(range(110, 160))
    spec = f"encoder:model={tiny_encoder(tmp_path / 'bert', [f'w{k}' for k in range(20)])}"
    spec += ",tags=tags,lr=2e-3,batch=16,epochs=6"
    found = karat.train(train, test, trainer=spec, trials=100, save=tmp_path / "m")
    scores = checked(found, test, "tags", "micro_f1")
    assert scores["micro_f1"]["interval"][0] > scores["micro_f1"]["chance"]
    kept(found, tmp_path / "m", test, "log_loss")


def written(texts: list[str], references: list[str], sources: list[str] | None = None) -> Written:
    return Written(
        tuple(map(str, range(len(texts)))), tuple(texts), tuple(references), tuple(sources or references)
    )


def instructions(n: int, start: int = 0) -> Records:
    rows = [{"prompt": f"say {i}", "completion": f"it is {i}"} for i in range(start, start + n)]
    return records.from_rows(rows, datatype="instruction")


@dataclass(frozen=True)
class Parrot:
    """Writes one text whatever it is asked."""

    text: str = "it is 7"
    types = ("instruction", "translation")

    def fit(self, found: Records, **_: Any) -> Any:
        text = self.text

        class Model:
            def predict(self, test: Records) -> Written:
                side = "completion" if test.datatype == "instruction" else "target"
                wanted, asked = test.column(side), test.column("prompt" if side == "completion" else "source")
                return written([text] * len(test), wanted, asked)

        return Model()


def test_without_a_sentence_encoder_the_other_scores_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """embedding_cosine is left out where its encoder is not installed, and a warning says so."""

    def missing(*_: Any, **__: Any) -> Any:
        raise MissingExtra("not here")

    monkeypatch.setattr(similarity, "cosines", missing)
    found = karat.train(instructions(5), instructions(4, 9), trainer=Parrot(), trials=20)
    assert "no_encoder" in {warning.code for warning in found.warnings}
    assert "rouge_l" == found.scores[0].name
    assert "embedding_cosine" not in {score.name for score in found.scores}
    monkeypatch.setattr(similarity, "cosines", lambda texts, references, **_: np.ones(len(texts)))
    whole = karat.train(instructions(5), instructions(4, 9), trainer=Parrot(), trials=20)
    assert 1.0 == whole.score("embedding_cosine").value == whole.score("embedding_cosine").chance
    assert "encoder:minilm" in whole.score("embedding_cosine").signature


def test_signatures_name_the_tokeniser_of_the_references() -> None:
    """BLEU of Chinese is counted with sacreBLEU's Chinese tokeniser, and says so."""
    rows = [{"source": f"number {i}", "target": f"这是第{i}个句子，很好"} for i in range(6)]
    some = records.from_rows(rows, datatype="translation")
    found = karat.train(some.take(range(3)), some.take(range(3, 6)), trainer=Parrot("这是句子"), trials=20)
    assert "tok:zh" in found.score("bleu").signature
    expected = sacrebleu.corpus_bleu(["这是句子"] * 3, [[r["target"] for r in rows[3:]]], tokenize="zh").score
    assert expected == pytest.approx(found.score("bleu").value)


def test_one_record_and_empty_texts_are_scored_or_told() -> None:
    """One test record has an interval of one point; empty references count; empty texts weigh nothing."""
    one = karat.train(labelled(20, 1), labelled(1, 5), trials=20)
    assert len({*one.score("accuracy").interval, one.score("accuracy").value}) == 1
    rows = [{"prompt": f"p{i}", "completion": ""} for i in range(3)]
    empty = records.from_rows(rows, datatype="instruction")
    answers = written(["", "x", ""], ["", "", ""], ["p0", "p1", "p2"])
    found = {s.name: s.value for s in rate(answers, instructions(2), empty, maker="m", trials=10, seed=0)}
    assert (2 / 3, 0.0) == (found["exact_match"], found["bleu"])
    nothing = records.from_rows([{"text": "x"}, {"text": "y"}], datatype="text")
    silent = Weighed(("0", "1"), np.array([1.0, 2.0]), np.array([1, 1]), np.array([0, 0]))
    names = {s.name for s in rate(silent, nothing, nothing, maker="m", trials=10, seed=0)}
    assert {"perplexity"} == names
    with pytest.raises(NotEnoughData, match="nothing can be scored"):
        rate(replace(silent, tokens=np.array([0, 0])), nothing, nothing, maker="m", trials=10, seed=0)


def test_a_test_of_labels_needs_labels_in_training() -> None:
    """Said before a model is trained; the other way round, texts are weighed."""
    with pytest.raises(InputError, match="no label, which training needs"):
        karat.train(plain(20, 1), labelled(20, 2), trainer="gpt:steps=100000", trials=20)
    assert "likelihoods" == kind_of(plain(3, 1))
    found = karat.train(labelled(40, 1), plain(10, 2), trainer="gpt:layers=1,width=16,steps=3", trials=20)
    assert "likelihoods" == found.kind


def test_the_command_leaves_predictions_and_the_model(tmp_path: Path) -> None:
    """`karat train --save --predictions`, then `karat generate --provider trained:` writes records."""
    files = {}
    for name, some in (("a", plain(120, 1)), ("b", plain(30, 2))):
        files[name] = str(tmp_path / f"{name}.jsonl")
        some.write(files[name])
    home, left = str(tmp_path / "model"), str(tmp_path / "said.jsonl")
    where = ["--run", str(tmp_path / "run")]
    spec = ["--trainer", "gpt:layers=1,width=32,steps=40", "--trials", "20"]
    command = [
        "train",
        files["a"],
        "--test",
        files["b"],
        *spec,
        "--save",
        home,
        "--predictions",
        left,
        *where,
    ]
    assert 0 == main(command)
    assert 30 == len(Path(left).read_text("utf-8").splitlines())
    assert 2 == main(command)  # the folder holds a model now
    out = str(tmp_path / "made.jsonl")
    asked = ["--human", files["a"], "--provider", f"trained:path={home}", "-n", "5", "--out", out]
    assert 0 == main(["generate", *asked, *where])
    made = records.read(out)
    assert {load_model(home).model} == set(made.lineage("generator"))
