"""A worth for every kind of records: pairs, translations, answers, several labels, and plain text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import karat
from karat import records
from karat.errors import BadSetting
from karat.records import Records
from karat.training.base import Tagged, Written

SMALL: dict[str, Any] = {"seeds": 2, "budget": "small"}


def pairs(n: int, seed: int) -> Records:
    """Pairs of which the polite response was chosen."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        word = f"thing{rng.integers(40)}"
        rows.append(
            {
                "id": f"{seed}-{i}",
                "prompt": f"what of {word} {seed} {i}",
                "chosen": f"please thank you {word} {rng.integers(1000)}",
                "rejected": f"no go away {word} {rng.integers(1000)}",
            }
        )
    return records.from_rows(rows)


@dataclass(frozen=True)
class Dictionary:
    """Translates word by word what it has seen; what it has not it leaves as it is."""

    types: ClassVar[tuple[str, ...]] = ("translation",)
    deterministic: ClassVar[bool] = True

    def fit(self, found: Records, **_: Any) -> Any:
        """Learn a word for each word."""
        known: dict[str, str] = {}
        for one, other in zip(found.column("source"), found.column("target")):
            known.update(zip(one.split(), other.split()))

        class Model:
            def predict(self, test: Records) -> Written:
                sources, right = test.column("source"), test.column("target")
                said = [" ".join(known.get(word, word) for word in text.split()) for text in sources]
                return Written(tuple(test.ids), tuple(said), tuple(right), tuple(sources))

        return Model()


def sentences(n: int, seed: int, share: float = 1.0, words: int = 400) -> Records:
    """Sentences of eight words; only a share of them have the right word on the other side."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        chosen = rng.integers(words, size=8)
        good = rng.random(8) < share
        target = [f"z{w}" if fine else f"junk{w}" for w, fine in zip(chosen, good)]
        rows.append({"source": " ".join(f"w{w}" for w in chosen), "target": " ".join(target)})
    return records.from_rows(rows)


@dataclass(frozen=True)
class Tagger:
    """Knows which words stand with which labels."""

    deterministic: ClassVar[bool] = True

    def fit(self, found: Records, **_: Any) -> Any:
        """Remember the labels of each word."""
        known = {word for text in found.texts() for word in text.split()}
        classes = ("a", "b", "c")

        class Model:
            def predict(self, test: Records) -> Tagged:
                gold = tuple(tuple(row) for row in test.column("labels"))
                said = [
                    [float(any(w[0] == c and w in known for w in t.split())) for c in classes]
                    for t in test.texts()
                ]
                return Tagged(tuple(test.ids), classes, np.array(said), gold)

        return Model()


def tagged(n: int, seed: int) -> Records:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        labels = sorted(rng.choice(list("abc"), size=int(rng.integers(1, 3)), replace=False).tolist())
        text = " ".join(f"{name}{rng.integers(60)}" for name in labels)
        rows.append(
            {"id": f"{seed}-{i}", "text": f"{text} r{seed}n{i}", "label": labels[0], "labels": labels}
        )
    return records.from_rows(rows)


def test_preference_pairs_with_reward() -> None:
    """Pairs of the same source: accuracy far above chance, and a worth by macro-F1."""
    human, synthetic, test = pairs(60, 1), pairs(40, 2), pairs(80, 3)
    found = karat.value(synthetic, human, test, trainer="reward", **SMALL)
    assert "macro_f1" == found.metric
    assert found.curves.human[-1][1] > 0.9 > 0.6 > found.chance
    json.dumps(found.to_json(), allow_nan=False)


def test_translations_by_bleu() -> None:
    """A word-by-word learner: good synthetic sentences are worth themselves, half right ones less."""
    human, test = sentences(300, 1), sentences(200, 2)
    settings: dict[str, Any] = {"trainer": Dictionary(), "seeds": 4, "budget": "small"}
    whole = karat.value(sentences(60, 3), human, test, **settings)
    half = karat.value(sentences(60, 4, share=0.5), human, test, **settings)
    assert "bleu" == whole.metric
    low, high = whole.equivalence.rate_interval
    assert low is not None and high is not None and low <= 1 <= high
    assert half.equivalence.rate is None or half.equivalence.rate < 0.7
    assert 0 == pytest.approx(whole.chance, abs=0.5)  # the source itself shares no word with its target
    assert (
        "chrf"
        == karat.value(sentences(50, 3), human, test, trainer=Dictionary(), metric="chrf", **SMALL).metric
    )


def test_several_labels_by_micro_f1() -> None:
    """The score of kinds of answers that are known only when a model answers."""
    found = karat.value(tagged(60, 1), tagged(150, 2), tagged(150, 3), trainer=Tagger(), **SMALL)
    assert "micro_f1" == found.metric
    first, last = found.curves.human[0], found.curves.human[-1]
    assert first[1] < last[1] and found.chance < last[1]
    with pytest.raises(BadSetting, match="no score named 'accuracy' for tags"):
        karat.value(
            tagged(60, 1), tagged(150, 2), tagged(150, 3), trainer=Tagger(), metric="accuracy", **SMALL
        )


def test_translations_with_a_transformer(tmp_path: Path) -> None:
    """`seq2seq`, a few steps: it runs, its cells are kept, and a second call trains nothing."""
    pytest.importorskip("torch", reason="torch is not installed (karat[torch])")
    pytest.importorskip("tokenizers")
    trainer = "seq2seq:preset=mini,steps=4"
    data = sentences(12, 1), sentences(16, 2), sentences(12, 3)
    settings: dict[str, Any] = {"trainer": trainer, "seeds": 1, "budget": "small", "sizes": (8, 16)}
    found = karat.value(*data, cache=tmp_path, **settings)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    assert "bleu" == found.metric and len(kept) >= 5
    assert found == karat.value(*data, cache=tmp_path, **settings)
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}


def test_texts_with_a_language_model() -> None:
    """`gpt`, a few steps: bits a byte, less is better, and eight bits without any record."""
    pytest.importorskip("torch", reason="torch is not installed (karat[torch])")
    pytest.importorskip("tokenizers")
    rng = np.random.default_rng(0)

    def texts(n: int) -> Records:
        return records.from_rows(
            [{"text": " ".join(f"w{x}" for x in rng.integers(30, size=6))} for _ in range(n)]
        )

    trainer = "gpt:steps=12,layers=1,width=16,heads=2"
    found = karat.value(
        texts(20), texts(30), texts(30), trainer=trainer, seeds=1, budget="small", sizes=(10, 30)
    )
    assert "bits_per_byte" == found.metric
    assert 8.0 == pytest.approx(found.chance)
    assert found.curves.human[-1][1] < 8.0
    with pytest.raises(BadSetting, match="models of different records do not compare"):
        karat.value(texts(20), texts(30), texts(30), trainer=trainer, metric="perplexity")
