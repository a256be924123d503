"""What value promises, with a learner whose worth is known by construction.

The learner remembers: a text is about one topic of many, the label belongs to the topic, and the model
knows the topics it has seen. So a useful record is worth one human record, and a useless one nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import karat
from karat import records
from karat.errors import BadSetting, InputError, LeakageError, NotEnoughData
from karat.executors.local import Local
from karat.records import Records
from karat.runs import Run
from karat.training.base import Predictions
from karat.valuation.curves import grid
from karat.valuation.saw import saw_human, seen

LABELS = ("a", "b", "c")


@dataclass(frozen=True)
class Memory:
    """Answers with the commonest label of the topic, or with the commonest of all for a new topic."""

    deterministic: ClassVar[bool] = True
    fits: ClassVar[list[int]] = []

    def fit(self, found: Records, **_: Any) -> Any:
        """Remember the labels of each topic."""
        self.fits.append(len(found))
        seen: dict[str, Counter[str]] = {}
        labels = found.labels() or []
        for text, label in zip(found.texts(), labels):
            seen.setdefault(text.split()[0], Counter())[label] += 1
        classes = tuple(sorted(set(labels)))
        common = Counter(labels).most_common(1)[0][0]

        class Model:
            def predict(self, test: Records) -> Predictions:
                given = np.full((len(test), len(classes)), 0.1 / len(classes))
                for row, text in zip(given, test.texts()):
                    known = seen.get(text.split()[0])
                    row[classes.index(known.most_common(1)[0][0] if known else common)] += 0.9
                return Predictions(tuple(test.ids), classes, given)

        return Model()


def about(
    n: int, *, seed: int, name: str, useful: float = 1.0, right: float = 1.0, topics: int = 900
) -> Records:
    """n records on random topics: shares of them on a topic of the test data, and with the right label."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        topic = int(rng.integers(topics))
        label = topic % 3 if rng.random() < right else int(rng.integers(3))
        word = f"t{topic}" if rng.random() < useful else f"junk{topic}"
        rows.append({"id": f"{name}{i}", "text": f"{word} {name} {i}", "label": LABELS[label]})
    return records.from_rows(rows)


HUMAN = about(1600, seed=1, name="h")
TEST = about(1500, seed=2, name="test")


def test_half_useful_records_are_worth_half() -> None:
    """800 synthetic records of which every second tells something are worth about 400 human ones."""
    found = karat.value(
        about(800, seed=3, name="s", useful=0.5), HUMAN, TEST, trainer=Memory(), metric="accuracy"
    )
    worth = found.equivalence
    assert worth.worth_human_records == pytest.approx(400, rel=0.2)
    assert worth.rate == pytest.approx(0.5, rel=0.2)
    low, high = worth.interval
    assert low is not None and high is not None and 200 < low < 400 < high < 800
    assert "800 synthetic records are worth about" in found.advice


def test_copies_of_human_records_are_worth_themselves() -> None:
    """Human records sold as synthetic have a rate of about 1, and are recognised as copies."""
    copies = HUMAN.sample(500, seed=9)
    copies = copies.with_column("id", [f"s{i}" for i in range(500)])
    found = karat.value(copies, HUMAN, TEST, trainer=Memory(), metric="accuracy")
    assert found.equivalence.rate == pytest.approx(1.0, rel=0.2)
    low, high = found.equivalence.interval
    assert low is not None and high is not None and low < 500 < high
    assert {"generator_saw_unknown": 0, "copied_human": 500} == {
        w.code: len(w.records) for w in found.warnings
    }
    # adding copies of what is there already gives nothing
    assert 0.0 == found.marginal[-1].difference and "unclear" == found.marginal[-1].verdict


def test_the_interval_of_the_worth_covers() -> None:
    """In twelve experiments with fresh data the interval holds the known worth at least ten times."""
    hits = 0
    for k in range(12):
        found = karat.value(
            about(300, seed=100 + k, name="s", useful=0.5, topics=300),
            about(500, seed=200 + k, name="h", topics=300),
            about(400, seed=300 + k, name="test", topics=300),
            trainer=Memory(),
            metric="accuracy",
            budget="small",
        )
        low, high = found.equivalence.interval
        hits += (low or 0) <= 150 <= (high or np.inf)
    assert hits >= 10


def test_a_set_better_than_all_human_data_gets_no_number() -> None:
    """2,000 useful records against 200 human ones: more than 200, null, a lower bound, and a warning."""
    found = karat.value(
        about(2000, seed=3, name="s"), HUMAN.sample(200), TEST, trainer=Memory(), metric="accuracy"
    )
    made = found.to_json()["equivalence"]
    assert (None, None, [200.0, None]) == (made["worth_human_records"], made["rate"], made["interval"])
    assert "worth more than 200 human records" in found.advice
    assert "extrapolation_refused" in [w.code for w in found.warnings]


def test_a_useless_set_gets_no_number_either() -> None:
    """Nothing learnt: fewer than the fewest human records tried, and no gain when added."""
    junk = about(500, seed=3, name="s", useful=0.0)
    found = karat.value(junk, HUMAN, TEST, trainer=Memory(), metric="accuracy", sizes=(100, 400, 1600))
    assert ("below", 100) == (found.equivalence.censored, found.equivalence.bound)
    assert "worth fewer than 100 human records" in found.advice
    assert all("helps" != row.verdict for row in found.marginal if row.human)


def test_where_nothing_is_learnt_nothing_is_said() -> None:
    """All labels are of the next class, so that every model is worse than the commonest label of TEST."""
    test = records.from_rows([*TEST, *({"text": f"t0 more {i}", "label": "a"} for i in range(600))])
    turned = {"a": "b", "b": "c", "c": "a"}

    def wrong(side: Records) -> Records:
        return side.with_column("label", [turned[label] for label in side.labels() or []])

    pool, synthetic = wrong(HUMAN), wrong(about(500, seed=3, name="s"))
    small: dict[str, Any] = {"trainer": Memory(), "metric": "accuracy", "seeds": 3, "budget": "small"}
    found = karat.value(synthetic, pool, test, **small)
    assert found.chance >= max(point[1] for point in (*found.curves.human, *found.curves.synthetic))
    said = "No set of records, human or synthetic, gave a model that is better than chance"
    assert found.advice.startswith(said)
    assert not karat.value(synthetic, HUMAN, TEST, **small).advice.startswith(said)


def test_wrong_labels_help_the_poor_and_hurt_the_rich() -> None:
    """Labels right in half of the cases: a gain for few human records, a loss for many, the turn between."""
    poor = about(3000, seed=3, name="s", right=0.2, topics=300)
    human, test = about(1500, seed=5, name="h", topics=300), about(1500, seed=2, name="test", topics=300)
    found = karat.value(poor, human, test, trainer=Memory(), metric="accuracy")
    verdicts = {row.human: row.verdict for row in found.marginal}
    assert "helps" == verdicts[0] == verdicts[100]
    assert "hurts" == verdicts[1500]
    assert found.turns_negative_at is not None and 100 < found.turns_negative_at < 1500
    assert "leave them out" in found.advice
    assert "hurts" == found.at(5000).verdict


def test_gains_are_paired() -> None:
    """On the same human records, seeds and test records the interval is narrower than the curves' bands."""
    found = karat.value(about(50, seed=3, name="s"), HUMAN, TEST, trainer=Memory(), metric="accuracy")
    last = found.marginal[-1]
    band = found.curves.human[-1]
    assert last.interval[1] - last.interval[0] < 0.5 * (band[3] - band[2])


def test_whole_sets_are_trained_on_once_and_parts_once_a_seed() -> None:
    """A trainer that does not depend on the seed spares all repeats of the same set."""
    Memory.fits.clear()
    synthetic, human = about(40, seed=3, name="s"), HUMAN.sample(200)
    karat.value(
        synthetic, human, TEST.sample(200), trainer=Memory(), seeds=3, sizes=(50, 200), budget="small"
    )
    expected = [50] * 3 + [200]  # human
    expected += [100] * 3  # human, for the gain
    expected += [10] * 3 + [20] * 3 + [30] * 3 + [40]  # synthetic
    expected += [140] * 3 + [240]  # both
    assert sorted(expected) == sorted(Memory.fits)


def test_sizes_grow_in_round_steps_to_the_whole() -> None:
    """10, 20, 30, 50, 100 ..., half and all; small sets have few sizes."""
    assert (10, 20, 30, 50, 100, 200, 300, 500, 550, 1100) == grid(1100, "medium")
    assert (2, 4) == grid(4, "medium")


def test_sides_are_spelt_alike_or_refused() -> None:
    """No common label is a mistake in the files, not a worth of zero."""
    other = records.from_rows([{"text": f"x {i}", "label": "A "} for i in range(20)])
    with pytest.raises(InputError, match="no synthetic label is a test label"):
        karat.value(other, HUMAN, TEST, trainer=Memory())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"metric": "macrof1"}, "did you mean 'macro_f1'"),
        ({"seeds": 0}, "at least 1"),
        ({"sizes": (5000,)}, "from 2 to 1,600"),
        ({"budget": "huge"}, "choose one of"),
    ],
)
def test_impossible_settings_are_refused(setting: dict[str, Any], message: str) -> None:
    """Before anything is trained."""
    Memory.fits.clear()
    with pytest.raises(BadSetting, match=message):
        karat.value(about(20, seed=3, name="s"), HUMAN, TEST, trainer=Memory(), **setting)
    assert [] == Memory.fits


def test_too_little_data_is_refused() -> None:
    """Three human records have no learning curve."""
    with pytest.raises(NotEnoughData, match="at least 4 human"):
        karat.value(about(20, seed=3, name="s"), HUMAN.slice(0, 3), TEST, trainer=Memory())


def test_leaks_are_left_out_on_both_sides_or_refused() -> None:
    """By default leaking records go, with a warning a side; they can be refused or kept."""
    human, synthetic = (
        HUMAN.sample(100).concat(TEST.slice(0, 5)),
        about(50, seed=3, name="s").concat(TEST.slice(5, 2)),
    )
    small = {"trainer": Memory(), "seeds": 2, "budget": "small"}
    found = karat.value(synthetic, human, TEST, **small)
    assert (100, 50) == (found.human_records, found.synthetic_records)
    assert ["leakage", "leakage"] == [w.code for w in found.warnings if w.code == "leakage"]
    with pytest.raises(LeakageError, match="5 of 105 human records stand in the test data"):
        karat.value(synthetic, human, TEST, drop_leaks=False, **small)
    kept = karat.value(synthetic, human, TEST, allow_leakage=True, **small)
    assert (105, 52) == (kept.human_records, kept.synthetic_records)
    assert all("memory" in w.message for w in kept.warnings if w.code == "leakage")


def test_what_the_generator_saw_is_read_from_the_lineage() -> None:
    """yes by fingerprint, part by some parents, no where other data is recorded, unknown without a record."""
    synthetic = about(10, seed=3, name="s")
    assert "unknown" == saw_human(synthetic, [HUMAN])
    assert "no" == saw_human(synthetic.with_lineage(generator_saw=["0123456789abcdef"]), [HUMAN])
    assert "no" == saw_human(synthetic.with_lineage(generator_saw=[[]] * 10), [HUMAN])
    assert "yes" == saw_human(synthetic.with_lineage(generator_saw=[HUMAN.fingerprint]), [HUMAN])
    shown = synthetic.with_lineage(generator_saw=[[]] * 10, parents=[[], ["h7"], *[[]] * 8])
    assert "part" == saw_human(shown, [HUMAN])
    all_of_them = synthetic.with_lineage(parents=[HUMAN.ids[k::10] for k in range(10)])
    assert "yes" == saw_human(all_of_them, [HUMAN])


def test_copied_texts_tell_of_a_part_that_no_fingerprint_names() -> None:
    """A generator that saw a part, or a superset, of the human data: another fingerprint, but its texts."""
    long = [
        {"id": f"h{i}", "text": f"t{i} " + "one two three four five six seven", "label": "a"}
        for i in range(50)
    ]
    human = records.from_rows(long)
    copied = records.from_rows([*long[:5], *({"text": f"own words {i}", "label": "a"} for i in range(20))])
    copied = copied.with_lineage(generator_saw=["0123456789abcdef"])
    found = seen(copied, [human])
    assert ("part", 0.1) == (found.verdict, found.share)
    assert "5 stand there word by word" in found.why
    short = records.from_rows([{"text": "one two", "label": "a"}]).with_lineage(
        generator_saw=["0123456789abcdef"]
    )
    assert "no" == seen(short, [records.from_rows([{"text": "one two", "label": "a"}] * 3)]).verdict


def test_a_generator_that_saw_the_data_gives_no_exchange_rate() -> None:
    """The JSON says yes, a warning has the stable code, and the advice takes the rate back."""
    synthetic = about(100, seed=3, name="s").with_lineage(generator_saw=[HUMAN.fingerprint])
    found = karat.value(synthetic, HUMAN, TEST, trainer=Memory(), seeds=2, budget="small")
    assert "yes" == found.to_json()["generator_saw_human"]
    assert "generator_saw_human" in [w.code for w in found.warnings]
    assert "no exchange rate" in found.advice


def test_a_set_with_other_label_shares_is_flagged() -> None:
    """Label balance alone can be worth a lot to macro-F1, so it is named; equal shares are not."""
    settings: dict[str, Any] = {"trainer": Memory(), "seeds": 2, "budget": "small", "sizes": (50, 100)}
    synthetic = about(300, seed=3, name="s")
    lopsided = synthetic.where([label != "a" for label in synthetic.labels() or []])
    for found, expected in ((synthetic, False), (lopsided, True)):
        warnings = karat.value(found, HUMAN.sample(200), TEST.sample(300), **settings).warnings
        assert expected == ("label_balance" in [w.code for w in warnings])


def test_less_loss_is_better() -> None:
    """With log loss the curves fall, the worth is the same kind of number, and chance is ln 3."""
    found = karat.value(
        about(800, seed=3, name="s", useful=0.5),
        HUMAN,
        TEST,
        trainer=Memory(),
        metric="log_loss",
        budget="small",
    )
    assert found.curves.human[0][1] > found.curves.human[-1][1] > 0
    assert found.equivalence.worth_human_records == pytest.approx(400, rel=0.25)
    assert np.log(3) == pytest.approx(found.chance)


def test_the_json_is_the_promised_one() -> None:
    """curves, equivalence, marginal, generator_saw_human and advice, as plain JSON."""
    found = karat.value(
        about(60, seed=3, name="s"), HUMAN.sample(120), TEST, trainer=Memory(), budget="small"
    )
    made = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert {"curves", "equivalence", "marginal", "generator_saw_human", "advice"} <= set(made)
    assert {"human", "synthetic", "mixed"} == set(made["curves"])
    for curve in made["curves"].values():
        for n, score, low, high in curve:
            assert isinstance(n, int) and low <= score <= high
    wanted = {"records", "worth_human_records", "interval", "rate"}
    assert wanted <= set(made["equivalence"])
    assert "unknown" == made["generator_saw_human"]


def test_processes_change_nothing() -> None:
    """Two processes give the numbers of one, with the linear trainer's shared pool."""
    synthetic, human, test = (r.sample(60) for r in (about(60, seed=3, name="s", topics=20), HUMAN, TEST))
    settings: dict[str, Any] = {"seeds": 2, "budget": "small", "sizes": (20, 60)}
    alone = karat.value(synthetic, human, test, **settings)
    assert alone == karat.value(synthetic, human, test, executor=Local(workers=2), **settings)


def test_a_value_can_be_kept_and_read_back(tmp_path: Path) -> None:
    """Run.step gives the same result again, whose report has a chart and a leading figure."""
    human, test = HUMAN.sample(150), TEST.sample(300)
    settings = {"trainer": "linear:characters=0", "seeds": 2, "budget": "small"}
    synthetic = about(80, seed=3, name="s")
    first = Run(tmp_path).step(karat.value, synthetic, human, test, **settings)
    second = Run(tmp_path).step(karat.value, synthetic, human, test, **settings)
    assert first == second
    section = second.__report__()[0]
    assert ["Headline", "Note", "Chart", "Table", "Table"] == [type(b).__name__ for b in section.blocks[:5]]
    assert section.blocks[0].rank == 1
    assert second.advice in str(second) and "has macro_f1" in second.why()
