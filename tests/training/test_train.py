"""What train promises: scores equal to scikit-learn's, honest baselines, intervals that cover, no leaks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

import karat
from karat import records
from karat.errors import InputError, LeakageError, NotEnoughData
from karat.records import Records
from karat.runs import Run
from karat.training import scores
from karat.training.base import Predictions
from karat.training.leakage import overlap
from karat.training.stage import lookup_table

LABELS = ("a", "b", "c", "d")


def drawn(n: int, *, seed: int, right: float = 0.6) -> tuple[list[str], Predictions]:
    """Gold labels and predictions that give them the most probability in a share of cases."""
    rng = np.random.default_rng(seed)
    gold = rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])
    given = rng.dirichlet(np.ones(4), n)
    hit = rng.random(n) < right
    best = given.argmax(axis=1)
    rows = np.flatnonzero(hit)
    given[rows, best[rows]], given[rows, gold[rows]] = given[rows, gold[rows]], given[rows, best[rows]]
    names = [LABELS[g] for g in gold]
    return names, Predictions(tuple(map(str, range(n))), LABELS, given, tuple(names))


def small(n: int, *, seed: int) -> Records:
    """Records whose label can be read off their words in most cases."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        label = int(rng.integers(3))
        words = [f"w{label}{k}" for k in rng.integers(0, 9, 2)] + [f"n{k}" for k in rng.integers(0, 90, 4)]
        rows.append({"id": f"s{seed}-{i}", "text": " ".join(words) + f" u{seed}x{i}", "label": LABELS[label]})
    return records.from_rows(rows)


@dataclass(frozen=True)
class Fixed:
    """A trainer whose model gives one label to all."""

    answer: str = "a"

    def fit(self, found: Records, **_: Any) -> Any:
        classes = tuple(sorted(set(found.labels() or ())))
        answer = self.answer

        class Model:
            def predict(self, test: Records) -> Predictions:
                given = np.full((len(test), len(classes)), 0.1 / max(1, len(classes) - 1))
                given[:, classes.index(answer)] = 0.9
                return Predictions(tuple(test.ids), classes, given)

        return Model()


def test_scores_equal_those_of_scikit_learn() -> None:
    """accuracy, macro-F1, F1 a label and log loss, to 1e-12."""
    for seed in range(5):
        gold, said = drawn(83, seed=seed)
        found = scores.outcome(said, gold)
        expected = {
            "accuracy": reference.accuracy_score(gold, said.labels),
            "macro_f1": reference.f1_score(gold, said.labels, average="macro"),
            "log_loss": reference.log_loss(gold, said.probabilities, labels=LABELS),
        }
        for name, value in expected.items():
            assert value == pytest.approx(float(scores.measure(name, found)[0]), abs=1e-12), name
        each = reference.f1_score(gold, said.labels, average=None, labels=LABELS)
        np.testing.assert_allclose(each, scores.f1_by_label(found)[0][0], atol=1e-12)


def test_a_score_of_a_resample_is_that_of_the_drawn_records() -> None:
    """Weights are counts: scoring under them equals scikit-learn on the repeated records."""
    gold, said = drawn(30, seed=9)
    found = scores.outcome(said, gold)
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = rng.integers(0, 30, 8)  # few, so that whole labels are missing
        weights = np.bincount(rows, minlength=30).astype(np.float32)[None, :]
        ours, labels = [gold[i] for i in rows], [said.labels[i] for i in rows]
        expected = reference.f1_score(ours, labels, average="macro")
        assert expected == pytest.approx(float(scores.measure("macro_f1", found, weights)[0]), abs=1e-9)


def test_a_label_that_training_never_saw_costs_what_scikit_learn_says() -> None:
    """Probability 0 for the right label is clipped, not infinite."""
    said = Predictions(("1", "2"), ("a", "b"), np.array([[0.7, 0.3], [0.5, 0.5]]))
    found = scores.outcome(said, ["a", "z"])
    expected = -(np.log(0.7) + np.log(np.finfo(float).eps)) / 2
    assert expected == pytest.approx(float(scores.measure("log_loss", found)[0]))
    assert 0.5 == float(scores.measure("accuracy", found)[0])


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Accuracy 0.6 on 120 records: 95 % intervals hold it in 90 to 99 % of 200 experiments."""
    hits = 0
    for seed in range(200):
        gold, said = drawn(120, seed=seed, right=0.6)
        found = scores.outcome(said, gold)
        texts = [f"{seed} {i}" for i in range(120)]
        draws = scores.resampled(lambda w, f=found: scores.measure("accuracy", f, w), texts, 300, seed=seed)
        low, high = scores.interval(draws)
        truth = 0.6 + 0.4 * 0.25  # a miss of the coin is right by chance in one of four cases
        hits += low <= truth <= high
    assert 180 <= hits <= 198


def test_copies_in_the_test_data_widen_the_interval() -> None:
    """Fifty texts four times each are fifty texts, not two hundred."""
    gold, said = drawn(50, seed=1)
    four = Predictions(said.ids * 4, LABELS, np.tile(said.probabilities, (4, 1)))
    found = scores.outcome(four, gold * 4)

    def width(texts: list[str]) -> float:
        low, high = scores.interval(
            scores.resampled(lambda w: scores.measure("accuracy", found, w), texts, 2000)
        )
        return high - low

    copies = width([f"t{i}" for i in range(50)] * 4)
    assert 2.0 == pytest.approx(copies / width([f"t{i}" for i in range(200)]), rel=0.15)


def test_blocks_of_resamples_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large test sets are resampled in blocks; the draws are the same."""
    gold, said = drawn(40, seed=2)
    found, texts = scores.outcome(said, gold), [str(i) for i in range(40)]
    whole = scores.resampled(lambda w: scores.measure("macro_f1", found, w), texts, 25)
    monkeypatch.setattr(scores, "_BLOCK", 100)
    assert np.array_equal(whole, scores.resampled(lambda w: scores.measure("macro_f1", found, w), texts, 25))


def test_each_score_stands_beside_chance_and_a_look_up_table() -> None:
    """A trainer that always says the commonest label scores exactly chance and is told so."""
    train, test = small(90, seed=1), small(120, seed=2)
    commonest = max(LABELS[:3], key=(train.labels() or []).count)
    found = karat.train(train, test, trainer=Fixed(commonest))
    accuracy = found.score("accuracy")
    share = (test.labels() or []).count(commonest) / len(test)
    assert share == accuracy.value == accuracy.chance == accuracy.lookup
    assert "not told apart from chance" == accuracy.note
    assert accuracy.best is None  # no text occurs twice: the ceiling is unknown
    assert accuracy.signature.startswith("accuracy|chance:constant|trials:1000|trainer:fixed|answer:")
    assert f"test:{test.fingerprint[:8]}" in accuracy.signature


def test_random_guessing_scores_the_chance_of_macro_f1() -> None:
    """2pq/(p+q) is what drawing labels by their shares scores, checked by drawing 200,000 times."""
    rng = np.random.default_rng(0)
    gold = rng.choice(LABELS, 200_000, p=[0.6, 0.2, 0.15, 0.05])
    said = rng.choice(LABELS, 200_000, p=[0.3, 0.3, 0.3, 0.1])
    expected = reference.f1_score(gold, said, average=None, labels=LABELS)
    made = scores.random_f1(gold.tolist(), dict(zip(LABELS, [0.3, 0.3, 0.3, 0.1])), LABELS)
    np.testing.assert_allclose(expected, made, atol=5e-3)


def test_a_look_up_table_scores_full_marks_on_leaked_texts() -> None:
    """The baseline that exposes leakage: identical and re-punctuated texts are answered from memory."""
    train = records.from_rows([{"text": f"Text no {i}", "label": LABELS[i % 3]} for i in range(30)])
    test = records.from_rows([{"text": f"text no {i}!", "label": LABELS[i % 3]} for i in range(20)])
    assert tuple(test.labels() or ()) == lookup_table(train, test)
    found = karat.train(train, test, allow_leakage=True)
    assert 1.0 == found.score("accuracy").lookup


def test_equal_texts_with_two_labels_bound_the_accuracy() -> None:
    """No model of the text can be right on both."""
    assert 0.75 == scores.ceiling(["t", "t", "u", "v"], ["a", "b", "a", "a"])
    assert scores.ceiling(["t", "t", "u"], ["a", "a", "b"]) is None


def test_leaking_records_are_refused_in_one_line() -> None:
    """The message says how many, names an example on both sides, and both cures."""
    test = small(40, seed=3)
    train = small(100, seed=4).concat(test.slice(0, 3))
    with pytest.raises(LeakageError) as error:
        karat.train(train, test)
    message = str(error.value)
    assert message.startswith("3 of 103 training records stand in the test data too")
    assert "'s3-0'" in message and "--drop-leaks" in message and "--allow-leakage" in message
    assert "\n" not in message


def test_leaks_are_found_under_other_case_spaces_and_stops() -> None:
    """Unicode form, case, spaces and punctuation do not hide a leak; another text is no leak."""
    test = records.from_rows(
        [{"text": "The café is open, isn’t it?", "label": "a"}, {"text": "x", "label": "b"}]
    )
    rows = ["the  CAFÉ is open isn't it", "The café is open, isn’t it?", "The cafe is closed", "ｘ."]
    train = records.from_rows([{"id": str(i), "text": t, "label": "a"} for i, t in enumerate(rows)])
    found, leaking = overlap(train, test)
    assert (1, 3) == (found.exact, found.normalised)
    assert [True, True, False, True] == leaking.tolist()
    assert ("0", "1", "3") == found.train
    assert 1.0 == found.test_share


def test_dropping_leaks_leaves_only_the_other_records() -> None:
    """drop_leaks trains on the rest and says what it left out; allow_leakage keeps all and warns."""
    test = small(40, seed=3)
    train = small(100, seed=4).concat(test.slice(0, 3))
    dropped, allowed = karat.train(train, test, drop_leaks=True), karat.train(train, test, allow_leakage=True)
    assert (100, 103) == (dropped.trained_on, allowed.trained_on)
    assert karat.train(small(100, seed=4), test).score("macro_f1").value == dropped.score("macro_f1").value
    assert (3, False) == (dropped.leakage.dropped, dropped.leakage.allowed)
    for found in (dropped, allowed):
        assert ["leakage"] == [w.code for w in found.warnings if w.code == "leakage"]
        assert ["s3-0", "s3-1", "s3-2"] == found.to_json()["leakage"]["test"]
    with pytest.raises(NotEnoughData, match="all 40"):
        karat.train(test, test, drop_leaks=True)


def test_no_leak_no_word_of_it() -> None:
    """Disjoint data train without a warning about leaks."""
    found = karat.train(small(100, seed=4), small(120, seed=3))
    assert 0 == found.leakage.normalised and not found.warnings


def test_the_json_is_the_promised_one() -> None:
    """scores with name, value, interval, chance, best, n, by, note; trained_on; leakage."""
    found = karat.train(small(60, seed=4), small(120, seed=3)).to_json()
    assert {"scores", "trained_on", "leakage"} <= set(found)
    assert 60 == found["trained_on"]
    first = found["scores"][0]
    wanted = {"name", "settings", "signature", "value", "interval", "chance", "best", "n", "by", "note"}
    assert wanted <= set(first)
    assert ["accuracy", "macro_f1", "log_loss", "f1", "f1", "f1"] == [s["name"] for s in found["scores"]]
    assert first["interval"][0] <= first["value"] <= first["interval"][1]


def test_a_result_answers_why() -> None:
    """worst gives the least expected gold labels, why says what the model said instead."""
    found = karat.train(small(12, seed=4), small(120, seed=3))
    worst = found.worst(3)
    assert sorted(p.gold_probability for p in found.predictions)[:3] == [p.gold_probability for p in worst]
    wrong = next(p for p in found.worst(120) if p.gold != p.predicted)
    sentence = found.why(wrong.id)
    assert repr(wrong.gold) in sentence and repr(wrong.predicted) in sentence
    assert "what spoke most for it" in sentence
    with pytest.raises(InputError, match="no test record"):
        found.why("nobody")


def test_labels_that_training_lacks_are_named() -> None:
    """A test label without a training record is a warning, not a crash."""
    test = small(120, seed=3).concat(records.from_rows([{"id": "odd", "text": "odd one", "label": "zzz"}]))
    found = karat.train(small(60, seed=4), test)
    assert {"unseen_labels": ("odd",)} == {w.code: w.records for w in found.warnings}
    assert 0.0 == found.score("f1", label="zzz").value


def test_a_trained_result_can_be_kept_and_read_back(tmp_path: Path) -> None:
    """Run.step runs once; the second result equals the first and reports the same."""
    train, test = small(60, seed=4), small(120, seed=3)
    first = Run(tmp_path).step(karat.train, train, test)
    second = Run(tmp_path).step(karat.train, train, test)
    assert first == second
    assert [s.title for s in first.__report__()] == [s.title for s in second.__report__()]
    assert "trained on 60 records" in str(second)


def test_records_made_from_test_records_are_told() -> None:
    """A training record made from a test record is warned of; an id that both files have names nobody."""
    test = records.from_rows(
        [{"id": f"t{i}", "text": f"tested {i}", "label": "ab"[i % 2]} for i in range(20)]
    )
    made = records.from_rows(
        [{"id": f"s{i}", "text": f"made {i}", "label": "ab"[i % 2]} for i in range(20)]
    ).with_lineage(parents=[[f"t{i}"] if i < 5 else None for i in range(20)])
    found = karat.train(made, test, trials=20)
    told = [warning for warning in found.warnings if warning.code == "leakage"]
    assert ["s0", "s1", "s2", "s3", "s4"] == list(told[0].records)
    assert "made from a test record" in told[0].message
    same = test.with_column("text", [f"other {i}" for i in range(20)]).with_lineage(
        parents=[[f"t{i}"] for i in range(20)]
    )
    assert not [
        warning for warning in karat.train(same, test, trials=20).warnings if warning.code == "leakage"
    ]


def test_empty_training_texts_are_told() -> None:
    """A set of which all texts are empty is said to teach nothing."""
    rows = [{"id": str(i), "text": " ", "label": "ab"[i % 2]} for i in range(20)]
    test = records.from_rows([{"id": f"t{i}", "text": f"word {i}", "label": "ab"[i % 2]} for i in range(20)])
    found = karat.train(records.from_rows(rows), test, trials=20)
    assert [w.message for w in found.warnings if w.code == "degenerate_source"] == [
        "all training texts are empty; nothing can be learnt"
    ]
