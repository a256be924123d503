"""Bad records: one clear line with the cure, or the right result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.metrics import f1_score

import karat
from karat import records
from karat.errors import BadSetting, InputError, KaratError, NotEnoughData
from karat.records import Records
from karat.training.base import Predictions

FAST: dict[str, Any] = {"trainer": "linear:characters=0", "seeds": 1, "budget": "small"}


def made(n: int, seed: int, labels: str = "ab") -> Records:
    """Records whose words tell their label."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        label = labels[int(rng.integers(len(labels)))]
        rows.append({"id": f"{seed}-{i}", "text": f"{label}{rng.integers(30)} n{seed}x{i}", "label": label})
    return records.from_rows(rows)


HUMAN, SYNTHETIC, TEST = made(80, 1), made(40, 2), made(100, 3)


def without_label(found: Records, at: int) -> Records:
    labels: list[Any] = list(found.labels() or ())
    labels[at] = None
    return found.with_column("label", labels)


@pytest.mark.parametrize("side", ["synthetic", "human", "test"])
def test_a_missing_label_is_named(side: str) -> None:
    """The record that has none, on whichever side."""
    sides = {"synthetic": SYNTHETIC, "human": HUMAN, "test": TEST}
    sides[side] = without_label(sides[side], 7)
    with pytest.raises(
        InputError, match=r"record '[123]-7' has no label; fill it in or leave the record out"
    ):
        karat.value(**sides, **FAST)
    bare = records.from_rows([{"text": text} for text in SYNTHETIC.texts()])
    sides = {"synthetic": SYNTHETIC, "human": HUMAN, "test": TEST, side: bare}
    with pytest.raises(KaratError, match=r"have no label|has no label|convert one of them"):
        karat.value(**sides, **FAST)


def test_one_label() -> None:
    """In the test data it measures nothing; among human records it is the constant answer, and runs."""
    with pytest.raises(NotEnoughData, match="all test records have the label 'a'"):
        karat.value(SYNTHETIC, HUMAN, TEST.where([label == "a" for label in TEST.labels() or ()]), **FAST)
    only = HUMAN.where([label == "a" for label in HUMAN.labels() or ()])
    found = karat.value(SYNTHETIC, only, TEST, **FAST)
    assert {score for _, score, _, _ in found.curves.human} == {found.curves.human[0][1]}
    assert "above" == found.equivalence.censored
    one = SYNTHETIC.where([label == "a" for label in SYNTHETIC.labels() or ()])
    assert "below" == karat.value(one, HUMAN, TEST, **FAST).equivalence.censored


def test_empty_texts() -> None:
    """An empty text is a record like any other; where the test data has one too, it is a leak."""
    rows = [{"text": "", "label": "a"}, {"text": " ", "label": "b"}]
    found = karat.value(SYNTHETIC.concat(records.from_rows(rows)), HUMAN, TEST, **FAST)
    assert 42 == found.synthetic_records
    leaked = karat.value(
        SYNTHETIC.concat(records.from_rows(rows)), HUMAN, TEST.concat(records.from_rows(rows[:1])), **FAST
    )
    assert 40 == leaked.synthetic_records


def test_training_data_that_is_the_test_data() -> None:
    """Nothing is left after leaks are dropped; kept on request, the scores are of memory, and it says so."""
    with pytest.raises(NotEnoughData, match="all 100 human records stand in the test data"):
        karat.value(SYNTHETIC, TEST, TEST, **FAST)
    found = karat.value(SYNTHETIC, TEST, TEST, allow_leakage=True, **FAST)
    assert any(w.code == "leakage" and "memory" in w.message for w in found.warnings)


def test_duplicates_with_other_labels() -> None:
    """One text with both labels, on every side: a result, and each copy counts."""
    turned = HUMAN.with_column("label", ["b" if label == "a" else "a" for label in HUMAN.labels() or ()])
    turned = turned.with_column("id", [f"t{name}" for name in HUMAN.ids])
    both = HUMAN.concat(turned)
    found = karat.value(SYNTHETIC, both, TEST, **FAST)
    assert 160 == found.human_records
    assert found.curves.human[-1][1] < karat.value(SYNTHETIC, HUMAN, TEST, **FAST).curves.human[-1][1]


def test_ten_thousand_labels() -> None:
    """Too many for the linear trainer's memory is one line; a trainer that can gets a right result."""
    rows = [{"id": str(i), "text": f"w{i % 10_000} u{i}", "label": f"l{i % 10_000}"} for i in range(21_000)]
    every = records.from_rows(rows)
    human, synthetic, test = (
        every.slice(0, 10_000),
        every.slice(10_000, 10_000).sample(500),
        every.slice(20_000, 1000),
    )
    settings: dict[str, Any] = {"seeds": 1, "budget": "small", "sizes": (400, 500, 600, 10_000)}
    found = karat.value(synthetic, human, test, trainer=Lookup(), metric="macro_f1", **settings)
    assert 1.0 == pytest.approx(found.curves.human[-1][1])
    known, gold = set(synthetic.labels() or ()), test.labels() or []
    said = [label if label in known else min(known) for label in gold]
    expected = f1_score(gold, said, average="macro", labels=sorted({*gold, *said}), zero_division=0)
    assert expected == pytest.approx(found.curves.synthetic[-1][1], rel=1e-6)
    settings["sizes"] = (50, 100, 10_000)
    small = karat.value(synthetic.sample(60), human, test, trainer="linear:characters=0", **settings)
    said = [w.message for w in small.warnings if w.code == "not_trained"]
    assert any("GB for 10,000 labels" in message for message in said)
    assert 10_000 not in [n for n, *_ in small.curves.human]


@dataclass(frozen=True)
class Lookup:
    """Knows the label of the first word; `broken` answers with NaN."""

    broken: bool = False
    deterministic: ClassVar[bool] = True

    def fit(self, found: Records, **_: Any) -> Any:
        """Remember."""
        labels = found.labels() or []
        classes = tuple(sorted(set(labels)))
        known = {text.split()[0]: classes.index(label) for text, label in zip(found.texts(), labels)}
        broken = self.broken

        class Model:
            def predict(self, test: Records) -> Predictions:
                given = np.zeros((len(test), len(classes)))
                for row, text in zip(given, test.texts()):
                    row[known.get(text.split()[0], 0)] = np.nan if broken else 1.0
                return Predictions(tuple(test.ids), classes, given)

        return Model()


def test_nan() -> None:
    """In settings it is refused, in costs it is not known, and a model that answers with it has no score."""
    with pytest.raises(BadSetting, match="human_price is nan"):
        karat.value(SYNTHETIC, HUMAN, TEST, human_price=float("nan"), **FAST)
    priced = SYNTHETIC.with_lineage(cost_usd=[float("nan")] * 20 + [0.01] * 20)
    found = karat.value(priced, HUMAN, TEST, human_price=0.3, wanted=0.6, **FAST)
    assert (0.01, 0.5) == (pytest.approx(found.cost.synthetic_price), found.cost.known_share)
    json.dumps(found.to_json(), allow_nan=False)
    with pytest.raises(NotEnoughData, match="answers with NaN"):
        karat.value(SYNTHETIC, HUMAN, TEST, trainer=Lookup(broken=True), seeds=1, budget="small")


def test_sizes_that_a_trainer_refuses_are_left_out() -> None:
    """The curve begins where it can learn, and a warning says so."""
    found = karat.value(SYNTHETIC, HUMAN, TEST, trainer=Choosy(), seeds=1, budget="small")
    assert min(n for n, *_ in found.curves.human) >= 20
    assert any(w.code == "not_trained" and "at least 20" in w.message for w in found.warnings)


@dataclass(frozen=True)
class Choosy:
    """Wants twenty records."""

    deterministic: ClassVar[bool] = True

    def fit(self, found: Records, **settings: Any) -> Any:
        """Learn, or refuse."""
        if len(found) < 20:
            raise NotEnoughData(f"{len(found)} records; at least 20 are needed")
        return karat.registry.make("trainers", "linear:characters=0").fit(found)
