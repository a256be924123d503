"""Amplification of an artifact by training, and what a look-up table knows of a test set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import karat
from karat import records, registry
from karat.auditing import statistics as stats
from karat.auditing.metrics.amplification import _Index, _Labels, _weights
from karat.errors import BadSetting, InputError
from karat.records import Records

LABELS = np.array(["neg", "neu", "pos"])


def labelled(n: int, part: tuple[float, ...], *, seed: int, tag: str = "t") -> Records:
    """Texts with labels drawn in given shares."""
    rng = np.random.default_rng(seed)
    names = rng.choice(LABELS, n, p=part)
    return records.from_rows([{"text": f"{tag}{i}", "label": str(name)} for i, name in enumerate(names)])


class TestAmplification:
    def audited(self, tmp_path: Path, collapse: float, human: float, artifact: str = "mode_share") -> Any:
        """A model that turns a share of its answers into the mode, beside one on human labels."""
        rng = np.random.default_rng(0)
        training = labelled(2000, (0.2, 0.2, 0.6), seed=1)
        human_training = labelled(2000, (0.3, 0.2, 0.5), seed=2)

        def predict(part: tuple[float, ...], share: float) -> Records:
            names = np.where(rng.random(1500) < share, "pos", rng.choice(LABELS, 1500, p=part))
            return records.from_rows([{"text": f"q{i}", "label": str(name)} for i, name in enumerate(names)])

        files = {
            "training": training.write(tmp_path / "train.jsonl"),
            "human_training": human_training.write(tmp_path / "human_train.jsonl"),
            "human_predictions": predict((0.3, 0.2, 0.5), human).write(tmp_path / "human_out.jsonl"),
        }
        settings = ",".join(f"{name}={path}" for name, path in files.items())
        candidate = predict((0.2, 0.2, 0.6), collapse)
        return karat.audit(candidate, metrics=f"amplification:artifact={artifact},{settings}").scores[0]

    def test_planted(self, tmp_path: Path) -> None:
        """Half of all answers turned into the mode: +.2 of its share, alone and beside a model without."""
        score = self.audited(tmp_path, 0.5, 0.0)
        assert score.interval is not None and score.interval[0] <= 0.2 <= score.interval[1]
        assert score.difference_interval is not None
        assert score.difference_interval[0] <= 0.2 <= score.difference_interval[1]
        assert score.flagged and 0.0 == score.best
        assert score.details["predicted.mode_share"] > 0.75

    def test_both_collapse(self, tmp_path: Path) -> None:
        """Where the model on human labels collapses as much, nothing is left of the claim."""
        score = self.audited(tmp_path, 0.4, 0.4)
        assert score.value is not None and score.value > 0.1
        assert score.reference is not None and score.reference > 0.1
        assert not score.flagged

    @pytest.mark.parametrize("artifact", ["entropy", "tvd"])
    def test_other_artifacts(self, tmp_path: Path, artifact: str) -> None:
        """Lost entropy and the distance to human labels grow with the collapse too."""
        score = self.audited(tmp_path, 0.6, 0.0, artifact)
        assert score.flagged and score.difference is not None and score.difference > 0.1

    def test_by_hand(self, tmp_path: Path) -> None:
        """Shares of small tables: 3 of 4 answers against 2 of 4 in training."""
        train = records.from_rows([{"text": f"t{i}", "label": "ab"[i % 2]} for i in range(4)])
        path = train.write(tmp_path / "train.jsonl")
        said = records.from_rows([{"text": f"q{i}", "label": "a" if i else "b"} for i in range(4)])
        score = karat.audit(said, metrics=f"amplification:training={path}").scores[0]
        assert 0.25 == score.value
        assert 0.25 == score.by["a"].value == -score.by["b"].value  # type: ignore[operator]
        assert "nobody knows what the task itself does" in score.note

    @pytest.mark.parametrize("artifact", ["mode_share", "entropy", "tvd"])
    def test_no_alarm_without_amplification(self, artifact: str) -> None:
        """Predictions with the shares of training on both sides: at most 10 alarms of 100."""
        alarms = 0
        for seed in range(100):
            rng = np.random.default_rng(seed)
            tables = []
            for part in ((0.2, 0.3, 0.5), (0.1, 0.3, 0.6)):
                for size in (80, 150):
                    table = np.zeros((size, 3))
                    table[np.arange(size), rng.choice(3, size, p=part)] = 3
                    tables.append(table)
            aim = np.array([0.2, 0.4, 0.4]) * 1000
            ours, theirs = (_Index.of(artifact, *pair, aim) for pair in (tables[:2], tables[2:]))
            names = np.array([str(i) for i in range(80)], dtype=object)
            weights = _weights([names, names], trials=200, seed=seed)
            drawn = ours.drawn(weights[0], seed + 1) - theirs.drawn(weights[1], seed + 3)
            alarms += stats.normal_p((ours.value - theirs.value) / float(np.std(drawn, ddof=1))) < 0.05
        assert alarms <= 10

    def test_rows_of_one_text_are_one_unit(self) -> None:
        """Labels of five annotators of one text are drawn together."""
        found = _Labels(("a", "b", "a"), np.array(["x", "x", "y"], dtype=object)).table(("a", "b"))
        assert [[1.0, 1.0], [1.0, 0.0]] == found.tolist()

    def test_refusals(self, tmp_path: Path) -> None:
        """Missing files are named with the setting that brings them."""
        rows = labelled(10, (0.2, 0.2, 0.6), seed=0)
        with pytest.raises(BadSetting, match="training=FILE"):
            karat.audit(rows, metrics="amplification")
        with pytest.raises(BadSetting, match="human_training is missing"):
            karat.audit(rows, metrics="amplification:training=a,human_predictions=b")
        path = rows.write(tmp_path / "train.jsonl")
        with pytest.raises(InputError, match="distance to human labels"):
            karat.audit(rows, metrics=f"amplification:training={path},artifact=tvd")


class TestLookup:
    def rows(self, items: int, copies: int, seed: int = 0) -> list[dict[str, str]]:
        """Items that stand several times in a corpus, each time with its label, one in ten with another."""
        rng = np.random.default_rng(seed)
        found = []
        for i in range(items):
            label = str(rng.choice(LABELS))
            for _ in range(copies):
                given = str(rng.choice(LABELS)) if rng.random() < 0.1 else label
                found.append({"text": f"Text number {seed}-{i}!", "label": given, "group": f"g{i // 4}"})
        return found

    def test_a_split_by_row_leaks(self) -> None:
        """Five copies of each text, split by row: nearly all of the test set is known by heart."""
        rows = self.rows(120, 5)
        order = np.random.default_rng(1).permutation(len(rows))
        train, test = ([rows[i] for i in part] for part in (order[:480], order[480:]))
        audited = karat.audit(records.from_rows(train), records.from_rows(test), metrics="lookup_baseline")
        score = audited.scores[0]
        # by hand: the most frequent answer of each text in training
        table: dict[str, Counter[str]] = {}
        for row in train:
            table.setdefault(row["text"], Counter())[row["label"]] += 1
        hits = [
            row["text"] in table
            and row["label"] == min(table[row["text"]], key=lambda a: (-table[row["text"]][a], a))
            for row in test
        ]
        assert np.mean(hits) == score.value
        assert score.details["leak_share"] > 0.99 and score.value > 0.8
        assert score.details["lookup_accuracy"] >= score.value > score.details["modal_accuracy"]
        warned = next(one for one in audited.warnings if one.code == "leakage" and "look-up" in one.message)
        assert warned.records
        assert score.interval is not None and score.interval[0] <= 0.93 <= score.interval[1]

    def test_a_split_by_group_is_silent(self) -> None:
        """Grouped by text nothing is known: 0, no warning; the group that both sides share is still told."""
        train, test = self.rows(100, 5), self.rows(30, 5, seed=9)
        audited = karat.audit(
            records.from_rows(train), records.from_rows(test), metrics="lookup_baseline:group=group"
        )
        score = audited.scores[0]
        assert 0.0 == score.value == score.best == score.details["leak_share"]
        assert "leakage" not in {one.code for one in audited.warnings}
        assert 1.0 == score.details["leak_share_by_group"]

    def test_case_and_marks_are_no_other_text(self) -> None:
        """A text in capitals without its full stop is the same text; empty ones are no copies."""
        train = records.from_rows([{"text": "One day.", "label": "a"}, {"text": "", "label": "b"}])
        test = records.from_rows([{"text": "ONE DAY", "label": "a"}, {"text": "", "label": "b"}])
        score = karat.audit(train, test, metrics="lookup_baseline").scores[0]
        assert 1.0 == score.value and 1 == score.n

    def test_annotators(self) -> None:
        """With annotators on both sides, each one's own label is looked up."""
        rows = [
            {"item_id": f"i{i}", "text": f"text {i}", "label": "ab"[k], "annotator": f"r{k}"}
            for i in range(20)
            for k in range(2)
        ]
        one = records.from_rows(rows)
        assert 1.0 == karat.audit(one, one, metrics="lookup_baseline").scores[0].value

    def test_pairs_in_any_order(self) -> None:
        """A pair with its answers swapped is the same pair, and chains of shared answers leak."""

        def pair(a: str, b: str, choice: str) -> dict[str, str]:
            return {"prompt": "p", "response_a": a, "response_b": b, "choice": choice, "rater": "r"}

        train = records.from_rows([pair("x", "y", "a"), pair("y", "z", "b")])
        test = records.from_rows([pair("y", "x", "b"), pair("z", "w", "a"), pair("u", "v", "a")])
        score = karat.audit(train, test, metrics="lookup_baseline").scores[0]
        assert 1 / 3 == score.value
        assert 2 / 3 == score.details["leak_share_by_answer"] == score.details["leak_share_by_component"]

    def test_not_by_itself(self) -> None:
        """It takes the reference for a test set, so it runs only where it is asked for."""
        rows = records.from_rows(self.rows(30, 1))
        assert not registry.find("metrics", "lookup_baseline").default
        with pytest.raises(BadSetting, match="needs labels in the candidate"):
            karat.audit(records.from_rows([{"text": "a"}]), rows, metrics="lookup_baseline")


def fold(text: str) -> str:
    """The text without case, marks and runs of spaces, as simply as it can be written."""
    return " ".join("".join(" " if c in ".,;:!?'\"’" else c for c in text.lower()).split())


class TestRealData:
    def test_banking_leaks_a_little(self, data_dir: Path) -> None:
        """The published split repeats a few texts of training in its test set: told, and counted."""
        every = records.read(data_dir / "banking77" / "banking77.jsonl.gz")
        split = np.array(every.column("split"))
        train, test = every.where(split == "train"), every.where(split == "test")
        audited = karat.audit(train, test, metrics="lookup_baseline", budget="small")
        score = audited.scores[0]
        known = {fold(row["text"]) for row in train}
        leaks = int(np.sum([fold(row["text"]) in known for row in test]))
        assert leaks == round(score.details["leak_share"] * len(test))
        assert 5 < leaks < 40
        assert score.details["lookup_accuracy"] < 0.05
        assert "leakage" in {one.code for one in audited.warnings}
