"""Second-order tests: splits by group, equal sizes, deficits, calibration and amplification."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from karat import records as karat_records
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.records import Records
from karat.training.base import Predictions, gold_labels
from karat.training.pairs import pairs
from karat.valuation import artifacts
from karat.valuation.crossing import cross_train
from karat.valuation.second_order import Cell, Plan, Study
from karat.valuation.sides import families, make_sides

WORDS = {
    "sea": "wave tide salt shore gull",
    "wood": "oak moss fern owl bark",
    "sky": "cloud star wind moon sun",
}
FILLER = [f"w{i}" for i in range(200)]


def written(n: int, seed: int, *, noise: dict[str, float] | None = None, name: str = "") -> Records:
    """Texts of three topics; `noise` is how often the label of a topic is another one."""
    rng = np.random.default_rng(seed)
    topics = list(WORDS)
    rows = []
    for i in range(n):
        topic = topics[int(rng.integers(3))]
        words = [*rng.choice(WORDS[topic].split(), 2), *rng.choice(FILLER, 5)]
        label = topic
        if rng.random() < (noise or {}).get(topic, 0.0):
            label = topics[(topics.index(topic) + 1) % 3]
        rows.append({"id": f"{name}{seed}-{i}", "text": " ".join(rng.permutation(words)), "label": label})
    made = karat_records.from_rows(rows, datatype="classification", path=name or f"<seed {seed}>")
    return made if not name else made.with_lineage(source="synthetic", generator=name)


def test_a_group_is_never_split_and_sides_train_on_equal_numbers() -> None:
    """Copies, items and children of a human record stay on one side of the split, over all sides."""
    human = karat_records.from_rows(
        [{"id": f"h{i}", "text": f"Text number {i}.", "label": "ab"[i % 2]} for i in range(60)]
    )
    copies = [{"id": f"s{i}", "text": f"text NUMBER {i}", "label": "a"} for i in range(0, 40)]
    children = [{"id": f"c{i}", "text": f"child {i}", "label": "b"} for i in range(20)]
    synthetic = karat_records.from_rows([*copies, *children]).with_lineage(
        parents=[None] * 40 + [[f"h{i + 40}"] for i in range(20)]
    )
    sides = make_sides(human, synthetic)
    assert sides.group[0] == sides.group[60], "a copy up to case and stops"
    assert sides.group[40] == sides.group[100], "a record and the one it was made from"
    plan = Plan(sides, 30, 3, 0.25, 0)
    for seed in range(3):
        tested = {int(g) for side in (0, 1) for g in sides.group[plan.test(side, seed)]}
        for side in (0, 1):
            rows = plan.train(Cell(side, seed))
            assert 30 == len(rows)
            assert not tested & set(sides.group[rows].tolist())


def test_given_test_records_are_never_trained_on() -> None:
    """What shares a group with a given test file is left out of training on every side."""
    human, test = written(80, 1), written(40, 2)
    leaking = human.concat(test.slice(0, 5))
    sides = make_sides(leaking, written(80, 3, name="g"), test)
    plan = Plan(sides, 20, 2, 0.2, 0)
    texts = set(test.texts())
    for seed in range(2):
        assert test.texts() == sides.pool.take(plan.test(0, seed)).texts()
        rows, _ = sides.rows(0, seed, test_share=0.2, base=0)
        assert not texts & set(sides.pool.take(rows).texts())


def test_with_a_given_test_no_side_trains_on_what_another_is_tested_on() -> None:
    """Parents of drawn synthetic test records are no training records, also where the human test is given."""
    human = written(60, 1)
    children = written(60, 2, name="g").with_lineage(parents=[[identity] for identity in human.ids])
    plan = Plan(make_sides(human, children, written(40, 3)), 20, 3, 0.3, 0)
    sides = plan.sides
    for seed in range(3):
        tested = {int(g) for side in (0, 1) for g in sides.group[plan.test(side, seed)]}
        for side in (0, 1):
            rows, _ = sides.rows(side, seed, test_share=0.3, base=0)
            assert len(rows) > 20
            assert not tested & set(sides.group[rows].tolist())


def test_luck_is_the_spread_between_whole_and_half_scaled_by_the_share_that_is_used() -> None:
    """Its deviation over draws is that of Student's t, with the deviation over seeds of half minus whole."""
    human, other, test = written(200, 1), written(100, 2, name="g"), written(80, 3)
    plan = Plan(make_sides(human, other, test), 80, 5, 0.2, 0)
    said = {cell: tuple(_answers(plan, side, cell.seed) for side in (0, 1)) for cell in plan.cells()}
    study = Study(plan, "labels", "macro_f1", said, 20_000)
    whole, half = np.full(5, 0.5), np.array([0.3, 0.4, 0.45, 0.35, 0.5])
    for side in (0, 1):
        drawn = study.luck(side, whole, half)
        expected = half.std(ddof=1) * np.sqrt(plan.share(side)) * 2.776  # t of 4 degrees at 97.5 %
        assert np.quantile(drawn, 0.975) == pytest.approx(expected, rel=0.05)
        assert np.quantile(drawn, 0.025) == pytest.approx(-expected, rel=0.05)
    assert plan.share(0) == pytest.approx(0.4) and plan.share(1) == pytest.approx(1.0, abs=0.05)


def _answers(plan: Plan, side: int, seed: int) -> Predictions:
    rows = plan.test(side, seed)
    ids = tuple(plan.sides.pool.take(rows).ids)
    return Predictions(ids, ("sea", "wood"), np.tile([0.6, 0.4], (len(ids), 1)))


def test_two_halves_of_one_source_show_no_gap() -> None:
    """Where both sides are the same, gap, optimism and excess amplification are 0 within their intervals."""
    found = cross_train(
        written(300, 1), written(300, 2, name="twin"), written(200, 3), seeds=5, budget="small"
    )
    gap = found.gaps[0]
    assert gap.interval[0] <= 0 <= gap.interval[1]
    assert gap.optimism_interval[0] <= 0 <= gap.optimism_interval[1]
    assert all(row.p_holm is None or row.p_holm > 0.05 for row in found.amplified)
    assert found.labels is not None
    assert all(row.p_holm is not None and row.p_holm > 0.05 for row in found.labels.deficits)
    cell = found.at("human", "human")
    assert cell.chance is not None and cell.lookup is not None
    assert cell.value > cell.chance + 0.2
    assert cell.lookup == pytest.approx(cell.chance, abs=0.05), "no text of the test stands in training"


def test_noise_in_one_label_is_found_there() -> None:
    """A label of which a part is given to another one loses most, and models say it less often."""
    found = cross_train(
        written(400, 1), written(400, 2, noise={"wood": 0.7}, name="noisy"), written(300, 3), seeds=5
    )
    assert "wood" == found.worst(1)[0].label
    assert found.worst(1)[0].p_holm is not None and found.worst(1)[0].p_holm < 0.01
    gap = found.gaps[0]
    assert gap.value > 0 and gap.interval[0] > 0
    assert "is worse" in found.why("noisy")
    assert found.labels is not None
    mine = next(row for row in found.labels.distributions if row.side == "noisy")
    human = next(row for row in found.labels.distributions if row.side == "human")
    at = mine.labels.index("wood")
    assert mine.predicted[at] < 0.7 * human.predicted[at]
    assert mine.tvd > human.tvd


@dataclass(frozen=True)
class Majority:
    """Says the most frequent training label of everything, with the label shares as probabilities."""

    deterministic: ClassVar[bool] = False

    def fit(
        self, records: Records, *, seed: int = 0, validation: object = None, progress: object = None
    ) -> object:
        """Count labels."""
        labels = gold_labels(records)
        names = tuple(sorted(set(labels)))
        return _Counted(names, np.array([labels.count(name) / len(labels) for name in names]))


@dataclass(frozen=True, eq=False)
class _Counted:
    classes: tuple[str, ...]
    shares: np.ndarray

    def predict(self, records: Records) -> Predictions:
        """Give each record the label shares."""
        return Predictions(tuple(records.ids), self.classes, np.tile(self.shares, (len(records), 1)))


def skewed(n: int, share: float, seed: int, name: str = "") -> Records:
    """Records of which a share has the label x."""
    rows = [
        {"id": f"{name}{seed}-{i}", "text": f"{name} text {seed} {i}", "label": "x" if i < share * n else "y"}
        for i in range(n)
    ]
    made = karat_records.from_rows(rows, datatype="classification")
    return made if not name else made.with_lineage(generator=name)


def test_amplification_is_answers_minus_training_beside_human_data() -> None:
    """A model of the majority makes a share of 0.6 to 1: index 0.4; probabilities make nothing larger."""
    found = cross_train(
        skewed(200, 0.9, 1),
        skewed(200, 0.6, 2, "even"),
        skewed(100, 0.9, 3),
        trainer=Majority(),
        seeds=3,
        size=150,
    )
    rows = {(row.artifact, row.answers, row.side): row for row in found.amplified}
    human, mine = rows["mode_share", "hard", "human"], rows["mode_share", "hard", "even"]
    assert 1.0 == mine.ends.answered
    assert mine.ends.trained == pytest.approx(0.6, abs=0.06)
    assert mine.ends.index == pytest.approx(1 - mine.ends.trained)
    assert mine.excess == pytest.approx(mine.ends.index - human.ends.index)
    assert mine.excess_interval is not None and mine.excess_interval[0] > 0
    assert abs(rows["mode_share", "soft", "even"].ends.index) < 1e-9
    assert 0.9 == pytest.approx(human.ends.gold)


def test_calibration_error_is_that_of_its_definition() -> None:
    """The error from sums equals a loop over bins; its chance level is what perfect calibration shows."""
    rng = np.random.default_rng(0)
    chances = rng.dirichlet([2, 1, 1], 3000)
    gold = np.array([rng.choice(3, p=row) for row in chances])
    sums = artifacts.confidences(chances, gold).sum(axis=0)
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == gold
    expected = 0.0
    for k in range(15):
        inside = (confidence >= k / 15) & (confidence < (k + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert expected == pytest.approx(float(artifacts.calibration_error(sums[None])[0]))
    by_chance = artifacts.calibrated_by_chance(chances)
    assert expected < 2 * by_chance
    sure = np.where(chances == chances.max(axis=1, keepdims=True), 0.98, 0.01)
    worse = artifacts.confidences(sure, gold).sum(axis=0)
    assert float(artifacts.calibration_error(worse[None])[0]) > 5 * artifacts.calibrated_by_chance(sure)


def test_artifacts_of_pairs_are_counted_by_hand() -> None:
    """Ties, longer responses and first places, with hard and with soft choices."""
    made = karat_records.from_rows(
        [
            {
                "id": "1",
                "prompt": "p",
                "response_a": "long one",
                "response_b": "s",
                "choice": "a",
                "rater": "r",
            },
            {
                "id": "2",
                "prompt": "q",
                "response_a": "t",
                "response_b": "longer",
                "choice": "a",
                "rater": "r",
            },
            {
                "id": "3",
                "prompt": "r",
                "response_a": "same",
                "response_b": "size",
                "choice": "b",
                "rater": "r",
            },
            {"id": "4", "prompt": "s", "response_a": "x", "response_b": "yy", "choice": "tie", "rater": "r"},
        ]
    )
    hard = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    found = artifacts.of_labels(hard, pairs(made))
    value = {
        name: float(artifacts.finish(name, sums.sum(axis=0)[None], target=np.ones(3) / 3, mode=0)[0])
        for name, sums in found.items()
    }
    assert {"tie_share": 0.25, "longer_share": 0.5, "first_share": pytest.approx(2 / 3)} == value


def test_finished_models_are_not_trained_again(tmp_path: Path) -> None:
    """A second call finds all cells on the disk; another size trains anew."""
    human, synthetic, test = written(120, 1), written(120, 2, name="g"), written(60, 3)
    first = cross_train(human, synthetic, test, seeds=2, cache=tmp_path, budget="small")
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert 8 == len(kept), "two sides, two seeds, and each on half of its records"
    assert (
        first.to_json()
        == cross_train(human, synthetic, test, seeds=2, cache=tmp_path, budget="small").to_json()
    )
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    cross_train(human, synthetic, test, seeds=2, cache=tmp_path, size=50, budget="small")
    assert 16 == len(list(tmp_path.iterdir()))


def test_json_and_report_hold_all_figures() -> None:
    """What is printed is plain JSON; the report has a table of each model on each test."""
    human, test = written(150, 1), written(80, 3)
    both = written(150, 2, name="g1").concat(written(150, 4, name="g2"))
    found = cross_train(human, both, test, seeds=2, budget="small")
    assert ("g1", "g2") == found.kinds
    assert 9 == len(json.loads(json.dumps(found.to_json()))["table"])
    titles = [getattr(block, "title", "") for block in found.__report__()[0].blocks]
    assert "Each model on each test" in titles and "Amplification" in titles
    assert "too_few_records" in [code for code, _ in found.warnings]
    assert "g1 ->" in str(found)


def test_what_cannot_be_split_or_named_is_said() -> None:
    """Too few groups, an unknown score, a size that nobody has, an attribute that is no number."""
    human, synthetic = written(40, 1), written(40, 2, name="g")
    with pytest.raises(NotEnoughData, match="groups of its own"):
        cross_train(written(4, 1), synthetic)
    with pytest.raises(BadSetting, match="no score named 'bleu'"):
        cross_train(human, synthetic, metric="bleu", seeds=1)
    with pytest.raises(BadSetting, match="smallest side can train on"):
        cross_train(human, synthetic, size=500)
    with pytest.raises(InputError, match="attributes are numbers"):
        cross_train(
            human.with_column("mood", ["?"] * 40),
            synthetic.with_column("mood", ["?"] * 40),
            attributes=["mood"],
            seeds=1,
        )


def test_groups_are_those_of_a_search_by_hand() -> None:
    """Connected records have one number, whatever the chain between them."""
    rows = [
        {"id": "1", "text": "A", "label": "x", "topic": "t"},
        {"id": "2", "text": "b", "label": "x", "topic": "t"},
        {"id": "3", "text": "B!", "label": "x", "topic": None},
        {"id": "4", "text": "c", "label": "x", "topic": None},
    ]
    made = karat_records.from_rows(rows)
    found = families(made, np.ones(4, np.bool_), "topic").group.tolist()
    assert found[0] == found[1] == found[2] != found[3]


def test_records_made_from_several_tie_nothing_together() -> None:
    """Few-shot records leave human groups as they are, and are not trained on where a parent is tested."""
    rng = np.random.default_rng(0)
    human = written(200, 1)
    shot = written(600, 2, name="g").with_lineage(
        parents=[[human.ids[i] for i in rng.choice(200, 3, replace=False)] for _ in range(600)]
    )
    sides = make_sides(human, shot)
    assert len(set(sides.group.tolist())) > 700
    tested: set[str] = set()
    train, _ = sides.rows(1, 0, test_share=0.1, base=0)
    for side in (0, 1):
        tested |= set(sides.pool.take(sides.rows(side, 0, test_share=0.1, base=0)[1]).ids)
    assert len(train) > 100
    assert not any(tested.intersection(entry) for entry in sides.pool.take(train).lineage("parents"))


def test_equal_ids_of_two_files_are_two_records() -> None:
    """Files that number their rows from 0 share ids, and nothing else; a parent is a human record first."""
    human = karat_records.from_rows(
        [{"id": str(i), "text": f"human {i}", "label": "ab"[i % 2]} for i in range(50)]
    )
    made = karat_records.from_rows(
        [{"id": str(i), "text": f"synthetic {i}", "label": "ab"[i % 2]} for i in range(50)]
    ).with_lineage(parents=[[str((i + 1) % 50)] for i in range(50)])
    sides = make_sides(human, made)
    assert 50 == len(set(sides.group.tolist()))
    for i in range(50):
        assert sides.group[50 + i] == sides.group[(i + 1) % 50]


def test_p_and_interval_agree() -> None:
    """A p lies below .05 exactly where the interval leaves out 0, also with few seeds."""
    human, test = written(300, 1), written(250, 3)
    made = written(300, 2, noise={"wood": 0.5}, name="noisy").concat(written(300, 4, name="clean"))
    found = cross_train(human, made, test, seeds=3, budget="small")
    assert found.labels is not None
    rows = [(row.p, row.interval) for row in (*found.gaps, *found.labels.deficits)]
    rows += [(row.p, row.excess_interval) for row in found.amplified if row.p is not None]
    for p, (low, high) in rows:
        centre = 0.02 * (high - low)  # intervals are not quite even around their value
        if low > centre or high < -centre:
            assert p < 0.06
        elif low < -centre and high > centre:
            assert p > 0.04
