"""What mitigate promises, with learners whose gap is known by construction."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from karat import records
from karat.blocks import Chart
from karat.errors import BadSetting, InputError, KaratError, LeakageError, NotEnoughData, UnknownPart
from karat.executors.local import Local
from karat.records import Records
from karat.training.base import Predictions, Written
from karat.valuation.mitigated import Mitigated
from karat.valuation.mitigation import mitigate, steps_to

LABELS = ("a", "b", "c")
TOPICS = 300


@dataclass(frozen=True)
class Votes:
    """Answers with the commonest label of a topic, or of all for a new topic; goes on from a model."""

    deterministic: ClassVar[bool] = True
    continues: ClassVar[bool] = True
    fits: ClassVar[list[int]] = []

    def fit(self, found: Records, *, seed: int = 0, start: Any = None, **_: Any) -> Any:
        """Count the labels of each topic, on top of what `start` has counted."""
        self.fits.append(len(found))
        seen = {} if start is None else {topic: Counter(votes) for topic, votes in start.seen.items()}
        for text, label in zip(found.texts(), found.labels() or []):
            seen.setdefault(text.split()[0], Counter())[label] += 1
        return VotesModel(seen)


@dataclass(frozen=True)
class VotesModel:
    """The labels of each topic."""

    seen: dict[str, Counter[str]]

    def predict(self, test: Records) -> Predictions:
        """Give 0.9 to the commonest label of the topic."""
        every = sum(self.seen.values(), Counter())
        given = np.full((len(test), 3), 0.1 / 3)
        for row, text in zip(given, test.texts()):
            votes = self.seen.get(text.split()[0], every)
            row[LABELS.index(min(votes, key=lambda name: (-votes[name], name)))] += 0.9
        return Predictions(tuple(test.ids), LABELS, given)


@dataclass(frozen=True)
class WordByWord:
    """Translates each word by the word that stood most often at its place; knows no other word."""

    types: ClassVar[tuple[str, ...]] = ("translation",)

    def fit(self, found: Records, *, seed: int = 0, **_: Any) -> Any:
        """Count which word stands at the place of which."""
        table: dict[str, Counter[str]] = {}
        for source, target in zip(found.column("source"), found.column("target")):
            for word, said in zip(source.split(), target.split()):
                table.setdefault(word, Counter())[said] += 1

        class Model:
            def predict(self, test: Records) -> Written:
                best = {w: min(c, key=lambda said: (-c[said], said)) for w, c in table.items()}
                texts = [" ".join(best.get(w, "?") for w in s.split()) for s in test.column("source")]
                sides = (test.column("target"), test.column("source"))
                return Written(tuple(test.ids), tuple(texts), *(tuple(side) for side in sides))

        return Model()


def about(
    n: int, *, seed: int, name: str, right: float = 1.0, generator: str | None = None, about_it: float = 1.0
) -> Records:
    """Records on random topics, with a share of right labels and the field `quality` that says which.

    `shuffled` is quality in a random order; a share of them is about topics of the test data.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        topic = int(rng.integers(TOPICS))
        good = bool(rng.random() < right)
        word = f"t{topic}" if rng.random() < about_it else f"junk{topic}"
        label = LABELS[topic % 3 if good else (topic + 1 + int(rng.integers(2))) % 3]
        origin = {"source": "synthetic" if generator else "human", "generator": generator}
        row = {"id": f"{name}{i}", "text": f"{word} {name} {i}", "label": label, "quality": float(good)}
        rows.append({**row, "lineage": origin})
    shuffled = rng.permutation([row["quality"] for row in rows]).tolist()
    return records.from_rows([{**row, "shuffled": s} for row, s in zip(rows, shuffled)])


HUMAN = about(1000, seed=1, name="h")
TEST = about(700, seed=2, name="test")
HALF = about(800, seed=3, name="s", right=0.5, generator="g")
ORACLE, SHUFFLED = "ordered:oracle:field=quality", "ordered:oracle:field=shuffled"


@pytest.fixture(scope="module")
def study() -> Mitigated:
    """Half of the synthetic labels are noise; a field says which, and a shuffled one says nothing."""
    arms = ("real", "generated", ORACLE, SHUFFLED, "reversed:oracle:field=quality", "ordered:random")
    more = ("filtered:oracle:field=quality", "real@0.1", "real@0.75")
    given: dict[str, Any] = {"metric": "accuracy", "drop": 0.5, "increments": [100], "budget": "small"}
    return mitigate(HALF, HUMAN, TEST, trainer=Votes(), arms=(*arms, *more), **given)


def test_the_oracle_order_gains(study: Mitigated) -> None:
    """With the known good records first, the area between the curves is clearly positive."""
    one = study.arm(ORACLE)
    assert one.area is not None and one.area.p_holm is not None
    assert one.area.difference > 0.05 and one.area.interval[0] > 0.03 and one.area.p_holm < 0.001
    assert "better" == one.area.verdict and "helps" in one.verdict
    assert one.closure.value is not None and one.closure.interval is not None
    low, high = one.closure.interval
    assert low is not None and high is not None and 0.2 < low < one.closure.value < high < 1.1


def test_a_shuffled_order_gains_nothing(study: Mitigated) -> None:
    """With shuffled scores, or a random order, the area is zero within its interval."""
    for name in (SHUFFLED, "ordered:random"):
        area = study.arm(name).area
        assert area is not None
        low, high = area.interval
        assert low < 0 < high and "not told apart" == area.verdict, name
        assert "no effect is shown" in study.arm(name).verdict


def test_the_worst_first_is_worse(study: Mitigated) -> None:
    """The reversed order is a control that loses what the order gains."""
    area = study.arm("reversed:oracle:field=quality").area
    assert area is not None and "worse" == area.verdict
    assert "makes it worse" in study.arm("reversed:oracle:field=quality").verdict


def test_with_all_records_the_order_does_not_matter(study: Mitigated) -> None:
    """At the end of the curve an ordered arm has the same set as the plain one, and the same score."""
    for name in (ORACLE, SHUFFLED, "ordered:random"):
        last = study.arm(name).versus_plain
        assert last is not None
        assert (0.0, 1.0) == (last.difference, last.p)
    assert 0.0 == study.arm(ORACLE).closure_all.value


def test_real_closes_the_gap_and_plain_does_not(study: Mitigated) -> None:
    """The closure of real data is 1, that of plain synthetic data 0."""
    assert 1.0 == study.arm("real").closure.value
    assert 0.0 == study.arm("generated").closure.value
    assert (1.0, 1.0) == study.arm("real").closure.interval


def test_filtering_the_noise_away_helps_with_all_records_too(study: Mitigated) -> None:
    """Without the wrong half of the labels the model gets better, unlike with a mere order."""
    one = study.arm("filtered:oracle:field=quality")
    assert 400 == one.records
    assert one.versus_plain is not None and "better" == one.versus_plain.verdict
    assert one.closure_all.value is not None and one.closure_all.value > 0.3


def test_each_step_is_compared_at_equal_numbers(study: Mitigated) -> None:
    """Real data is compared with plain synthetic data at each step, paired, and corrected together."""
    steps = [one for one in study.steps if one.arm == "real"]
    sizes = [{p[0] for p in study.arm(name).curve} for name in ("real", "generated")]
    assert len(steps) >= 8 and {one.at for one in steps} == sizes[0] & sizes[1]
    for one in steps:
        curves = [{p[0]: p[1] for p in study.arm(name).curve} for name in ("real", "generated")]
        assert one.at is not None and one.p is not None and one.p_holm is not None
        assert one.difference == pytest.approx(curves[0][one.at] - curves[1][one.at])
        assert one.p <= (one.p_both or 0) <= one.p_holm


def test_a_fraction_of_real_data_beats_all_synthetic(study: Mitigated) -> None:
    """Three quarters of the real data beat every synthetic arm, a tenth do not; the advice says so."""
    verdicts: dict[str, set[str]] = {}
    for one in study.fractions:
        verdicts.setdefault(one.arm, set()).add(one.verdict)
    assert {"better"} == verdicts["real@0.75"]
    assert {"worse"} == verdicts["real@0.1"]
    assert "600 real records (real@0.75) beat every synthetic arm" in study.advice


def test_the_worth_is_that_of_the_real_curve(study: Mitigated) -> None:
    """The worth of an arm lies between the sizes of the real curve that score less and more."""
    one = study.arm("generated").worth
    assert one is not None and one.worth_human_records is not None
    real = study.arm("real").curve
    score = study.arm("generated").score
    below = max(n for n, value, _, _ in real if value < score)
    above = min(n for n, value, _, _ in real if value >= score)
    assert below <= one.worth_human_records <= above
    assert [n for n, *_ in one.by_size] == [n for n, *_ in study.arm("generated").curve]
    filtered = study.arm("filtered:oracle:field=quality").worth
    assert filtered is not None and (filtered.worth_human_records or 0) > one.worth_human_records


def test_orders_come_with_their_rank_correlation(study: Mitigated) -> None:
    """An arm whose order says nothing is warned about, and a random one is not, since it is meant to."""
    assert study.arm(ORACLE).informative and not study.arm("ordered:random").informative
    assert study.arm("generated").informative is None
    warned = [w.message for w in study.warnings if w.code == "no_information_ordering"]
    assert not [message for message in warned if message.startswith("ordered:random")]


def test_labels_of_arms_are_held_against_a_verifier(study: Mitigated) -> None:
    """Each arm has its error rate beside that of real data, and its lexical diversity at equal words."""
    figures = {one.name: one for one in study.arm("generated").mechanisms}
    assert {"label_disagreement", "mattr", "distinct_n"} <= set(figures)
    wrong = figures["label_disagreement"]
    assert wrong.value is not None and wrong.real is not None and wrong.p is not None
    assert wrong.value > wrong.real and wrong.p < 0.05


def test_json_words_and_report(study: Mitigated) -> None:
    """The result is JSON without NaN, a text with every arm, and a section with chart and table."""
    found = json.loads(json.dumps(study.to_json(), allow_nan=False))
    assert {one["name"] for one in found["arms"]} == {one.name for one in study.arms}
    assert all(one.name in str(study) for one in study.arms)
    (section,) = study.__report__()
    kinds = [type(block).__name__ for block in section.blocks]
    (chart,) = [block for block in section.blocks if isinstance(block, Chart)]
    drawn = {row["series"] for row in chart.rows}
    assert 5 == len(drawn) and {"real", "generated"} <= drawn
    assert "Chart" in kinds and kinds.count("Table") >= 3
    assert "Real data beats plain synthetic data" in study.advice
    assert study.worst(1)[0].versus_real.difference <= study.worst(2)[1].versus_real.difference  # type: ignore[union-attr]
    assert "worth" in study.why("generated")
    with pytest.raises(BadSetting, match="did you mean"):
        study.why("generatd")


def test_controls_and_bounds_are_no_mitigations() -> None:
    """A random order, a reversed one and one that knows the truth are not counted among those tried."""
    arms = (ORACLE, "reversed:oracle:field=quality", "ordered:random", "detector", "real@0.75")
    found = mitigate(HALF, HUMAN, TEST, trainer=Votes(), metric="accuracy", arms=arms, budget="small")
    roles = {one.name: one.role for one in found.arms}
    assert {
        "real": "real",
        "generated": "plain",
        ORACLE: "bound",
        "detector": "mitigation",
    }.items() <= roles.items()
    assert "control" == roles["ordered:random"] == roles["reversed:oracle:field=quality"]
    assert "None of the 1 mitigations tried" in found.advice
    assert f"With the truth known, {ORACLE} gains +" in found.advice
    headline = found.__report__()[0].blocks[0]
    assert "0 of 1" == headline.value  # type: ignore[union-attr]


@dataclass(frozen=True)
class Fails(Votes):
    """Cannot train on synthetic records whose labels are all right, or on so many records."""

    on: int = 0

    def fit(self, found: Records, *, seed: int = 0, start: Any = None, **more: Any) -> Any:
        """Fail for some sets."""
        texts, labels = found.texts(), found.labels() or []
        right = [LABELS[int(re.sub("[^0-9]", "", text.split()[0])) % 3] for text in texts]
        if len(found) == self.on or (texts[0].split()[1] == "s" and right == labels):
            raise NotEnoughData("these records are not enough")
        return super().fit(found, seed=seed, start=start, **more)


def test_an_arm_that_fails_is_left_out_with_the_reason() -> None:
    """One failed training costs its arm and not the study; where others need the arm, the study ends."""
    given: dict[str, Any] = {"metric": "accuracy", "arms": (ORACLE, "ordered:random"), "budget": "small"}
    found = mitigate(HALF, HUMAN, TEST, trainer=Fails(), increments=[200], **given)
    assert {"real", "generated", "ordered:random"} == {one.name for one in found.arms}
    (warned,) = [one.message for one in found.warnings if one.code == "arm_failed"]
    assert f"{ORACLE} is left out: these records are not enough" == warned
    with pytest.raises(KaratError, match=r"arm 'real' failed.*these records are not enough"):
        mitigate(HALF, HUMAN, TEST, trainer=Fails(on=200), increments=[200], **given)


@dataclass(frozen=True)
class Shuffles(Votes):
    """Takes records in an order of its own, and a seed."""

    deterministic: ClassVar[bool] = False
    shuffles: ClassVar[bool] = True


def test_a_trainer_that_shuffles_trains_on_a_set_once_a_seed() -> None:
    """The set of a whole ordered arm is that of the plain one, so it is not trained on again."""
    given: dict[str, Any] = {"metric": "accuracy", "increments": [400], "budget": "small", "seeds": 2}
    Votes.fits.clear()
    found = mitigate(HALF, HUMAN, TEST, trainer=Shuffles(), arms=(ORACLE,), **given)
    # real and generated at 400 and 800, ordered at 400; two seeds each
    assert 2 * 5 == len(Votes.fits)
    last = found.arm(ORACLE).versus_plain
    assert last is not None and 0.0 == last.difference


def test_no_gap_is_not_closed() -> None:
    """Synthetic data that is as good as human data has no gap, and no share of it is given."""
    same = about(800, seed=9, name="s", generator="g")
    found = mitigate(
        same, HUMAN, TEST, trainer=Votes(), metric="accuracy", arms=("ordered:random",), budget="small"
    )
    closure = found.arm("ordered:random").closure
    assert closure.value is None and closure.note
    assert "not told apart" in found.advice


def test_continuing_is_restarting_for_a_learner_that_adds_up() -> None:
    """A learner whose counts add up has the same curve in both modes; each step trains on its own records."""
    given: dict[str, Any] = {"trainer": Votes(), "metric": "accuracy", "arms": (ORACLE,), "budget": "small"}
    restart = mitigate(HALF, HUMAN, TEST, increments=[200], **given)
    Votes.fits.clear()
    onward = mitigate(HALF, HUMAN, TEST, increments=[200], mode="continue", seeds=2, **given)
    assert set(Votes.fits) == {200}
    for one, other in zip(restart.arm(ORACLE).curve, onward.arm(ORACLE).curve):
        assert one[0] == other[0]
    assert restart.arm("real").curve[-1][1] == pytest.approx(onward.arm("real").curve[-1][1])


def test_a_study_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    """Finished trainings are on disk: the same call again trains nothing, one arm more only its own."""
    given: dict[str, Any] = {"trainer": Votes(), "metric": "accuracy", "budget": "small", "cache": tmp_path}
    first = mitigate(HALF, HUMAN, TEST, arms=(ORACLE,), **given)
    Votes.fits.clear()
    again = mitigate(HALF, HUMAN, TEST, arms=(ORACLE,), **given)
    assert [] == Votes.fits
    assert first.to_json() == again.to_json()
    mitigate(HALF, HUMAN, TEST, arms=(ORACLE, "ordered:random"), **given)
    assert 0 < len(Votes.fits) <= 5 * 4


def test_workers_change_nothing() -> None:
    """The same study over two processes gives the same result."""
    given: dict[str, Any] = {"metric": "accuracy", "arms": ("real",), "budget": "small", "seeds": 2}
    given["increments"] = [30, 60]
    human, test, some = HUMAN.slice(0, 100), TEST.slice(0, 60), HALF.slice(0, 60)
    alone = mitigate(some, human, test, **given)
    assert alone.to_json() == mitigate(some, human, test, executor=Local(workers=2), **given).to_json()


def translations(n: int, *, seed: int, name: str, right: float = 1.0, skip: int = 0) -> Records:
    """Sentences of ten words of a toy language; a share of the words is translated right."""
    rows = []
    for i in range(skip, n):
        words = np.random.default_rng(i).integers(0, 120, 10).tolist()
        draw = np.random.default_rng([seed, i])
        said = [w if draw.random() < right else int(draw.integers(0, 120)) for w in words]
        row = {"source": " ".join(f"q{w}" for w in words), "target": " ".join(f"z{w}" for w in said)}
        origin = {"source": "human" if right == 1 else "synthetic", "generator": None if right == 1 else name}
        rows.append({"id": f"{name}{i}", **row, "lineage": origin})
    return records.from_rows(rows, datatype="translation")


def share_below(records: Records, limit: float) -> float:
    """The share of translations whose chrF by sacreBLEU against the right one is below a limit."""
    sacrebleu = pytest.importorskip("sacrebleu")
    right = [text.replace("q", "z") for text in records.column("source")]
    scores = [sacrebleu.sentence_chrf(t, [r]).score for t, r in zip(records.column("target"), right)]
    return float(np.mean([score < limit for score in scores]))


def test_translations_are_scored_by_bleu() -> None:
    """With the same sentences in every arm real targets beat weak ones; the score is that of sacreBLEU."""
    sacrebleu = pytest.importorskip("sacrebleu")
    human, test = translations(120, seed=1, name="h"), translations(220, seed=1, name="t", skip=140)
    weak = translations(120, seed=2, name="weak", right=0.3)
    strong = translations(120, seed=3, name="strong", right=0.6)
    arms = ("generated:weak", "generated:strong", "mix:uniform", "ordered:oracle@weak")
    found = mitigate(
        weak.concat(strong), human, test, trainer=WordByWord(), arms=arms, budget="small", seeds=3
    )
    assert "bleu" == found.metric and "tok:13a|smooth:exp|version:" in found.signature
    assert "the same 120 items (source)" in found.notes[0]
    real = found.arm("real")
    said = WordByWord().fit(human).predict(test)
    whole = sacrebleu.corpus_bleu(list(said.texts), [list(said.references or ())]).score
    assert real.score <= whole + 1e-9 and real.score > 90
    assert found.chance is not None and found.chance < 5 < found.arm("generated:weak").score < real.score
    mixed = found.arm("mix:uniform")
    assert "generated:strong" == mixed.plain and mixed.area is not None and mixed.area.difference < 0
    ordered = found.arm("ordered:oracle@weak")
    assert "generated:weak" == ordered.plain and ordered.area is not None and ordered.area.difference > 0
    figures = {one.name: one for one in found.arm("generated:weak").mechanisms}
    assert {"copied", "length_outlier", "number_mismatch", "loop"} <= set(figures)
    json.dumps(found.to_json(), allow_nan=False)


def test_bleu_and_chrf_share_their_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study by the other score trains nothing again, and its scores are those of sacreBLEU."""
    sacrebleu = pytest.importorskip("sacrebleu")
    human, test = translations(60, seed=1, name="h"), translations(150, seed=1, name="t", skip=100)
    weak = translations(60, seed=2, name="weak", right=0.3)
    given: dict[str, Any] = {"trainer": WordByWord(), "arms": ("real",), "budget": "small", "seeds": 2}
    given |= {"holdout": 0, "cache": tmp_path}
    mitigate(weak, human, test, **given)
    said = WordByWord().fit(human).predict(test)

    def fails(*_: Any, **__: Any) -> None:
        raise AssertionError("a training that was kept is run again")

    monkeypatch.setattr(WordByWord, "fit", fails)
    found = mitigate(weak, human, test, metric="chrf", **given)
    expected = sacrebleu.corpus_chrf(list(said.texts), [list(said.references or ())]).score
    assert expected == pytest.approx(found.arm("real").score, abs=1e-9)


def test_the_score_of_one_arm_is_that_of_sacrebleu() -> None:
    """Without held-out records the last point of the real curve is sacreBLEU's score of the same model."""
    sacrebleu = pytest.importorskip("sacrebleu")
    human, test = translations(60, seed=1, name="h"), translations(150, seed=1, name="t", skip=100)
    weak = translations(60, seed=2, name="weak", right=0.3)
    found = mitigate(
        weak, human, test, trainer=WordByWord(), arms=("real",), budget="small", seeds=2, holdout=0
    )
    said = WordByWord().fit(human).predict(test)
    expected = sacrebleu.corpus_bleu(list(said.texts), [list(said.references or ())]).score
    assert expected == pytest.approx(found.arm("real").score, abs=1e-9)
    figures = {one.name: one.value for one in found.arm("generated").mechanisms}
    assert share_below(weak, 30.0) == pytest.approx(figures["low_chrf"])


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"mode": "continue", "trainer": "linear"}, BadSetting, "use --mode restart"),
        ({"mode": "onward"}, BadSetting, "restart, continue"),
        ({"metric": "bleu"}, BadSetting, "no score named 'bleu' for labels"),
        ({"seeds": 0}, BadSetting, "seeds is 0"),
        ({"drop": 1.0}, BadSetting, "drop is 1"),
        ({"holdout": 0.9}, BadSetting, "holdout is 0.9"),
        ({"increments": [100_000]}, BadSetting, "records at hand"),
        ({"arms": ("ordered:orcale",)}, UnknownPart, "oracle"),
        ({"arms": ("generated:x",)}, BadSetting, "no generator 'x'"),
        ({"plain": "real"}, BadSetting, "names the synthetic arm"),
        ({"budget": "huge"}, BadSetting, "small, medium, large"),
        ({"item": "nothing"}, InputError, "no field 'nothing'"),
    ],
)
def test_bad_settings_name_the_cure(given: dict[str, Any], error: type[Exception], said: str) -> None:
    """A setting that cannot be is refused in one line, before anything is trained."""
    Votes.fits.clear()
    with pytest.raises(error) as raised:
        mitigate(HALF, HUMAN, TEST, **{"trainer": Votes(), **given})
    assert said in str(raised.value) and "\n" not in str(raised.value)
    assert [] == Votes.fits


def test_test_records_in_training_are_refused_or_left_out() -> None:
    """Leaks are left out and said; without a choice they are an error."""
    leaky = HUMAN.slice(0, 300).concat(TEST.slice(0, 40))
    with pytest.raises(LeakageError):
        mitigate(HALF, leaky, TEST, trainer=Votes(), drop_leaks=False)
    found = mitigate(HALF, leaky, TEST, trainer=Votes(), arms=("real",), budget="small", seeds=1)
    assert 300 == found.human_records + found.held_out
    assert {"leakage", "too_few_records"} <= {w.code for w in found.warnings}


def test_steps_are_equal_and_then_double() -> None:
    """Eight equal steps to the smaller side, then doublings to the end of the larger one."""
    found = steps_to({"real": 800, "generated": 5000}, (), "medium", 800)
    assert (100, 200, 300, 400, 500, 600, 700, 800, 1600, 3200) == found
    assert (250, 500, 750, 1000) == steps_to({"real": 1000}, [250], "medium", 1000)
    assert (10, 500) == steps_to({"real": 1000}, [500, 10], "medium", 1000)


def test_arms_with_the_same_records_are_compared_with_fractions_once(study: Mitigated) -> None:
    """With all records an ordered arm is the plain one: it would only spend the correction for many tests."""
    assert {"generated", "filtered:oracle:field=quality"} == {one.against for one in study.fractions}
