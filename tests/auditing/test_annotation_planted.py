"""Artifacts planted in labels are found with their strength; where none is, nothing is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from annotation_corpora import Given, Told, context, corpus, drawn, people

import karat
from karat import registry
from karat.auditing.base import Comparison

SHAPE = np.array([0.9, 0.5, 0.4])


def compared(spec: str, model: Given, human: Given | None, trials: int = 60, **fields: Any) -> Comparison:
    """A metric of labels by hand."""
    other = None if human is None else Told(human)
    found: Comparison = registry.make("metrics", spec).compare(Told(model, **fields), other, context(trials))
    return found


def codes(found: Comparison) -> list[str]:
    """The codes of the warnings, in order."""
    return [one.code for one in found.warnings]


def noisy(rng: np.random.Generator, truth: Any, right: float, kinds: int) -> list[list[str]]:
    """One label an item, right so often and else any label."""
    guess = rng.integers(0, kinds, len(truth))
    return [[str(one)] for one in np.where(rng.random(len(truth)) < right, truth, guess)]


def test_a_constant_annotator() -> None:
    """It is named as a source without judgement; its match is the base rate, which is its chance."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(SHAPE, 400)
    human = people(drawn(rng, shares, 3))
    model = {"good": drawn(rng, shares, 3), "constant": [["0"] * 3] * 400}
    found = compared("item_information", model, human)
    assert ["degenerate_source"] == codes(found)
    assert "constant: draws 1, 2, 3 of 3: one label on at least 100%" in found.warnings[0].message
    assert 0.0 == found.by["constant"][0]
    matched = compared("majority_match", {"constant": model["constant"]}, human)
    assert matched.value == matched.chance
    large = np.array(drawn(rng, rng.dirichlet(SHAPE, 20000), 3)).astype(int)
    counts = np.stack([(large == k).sum(axis=1) for k in range(3)], axis=1)
    decided = counts[counts.max(axis=1) > 1]
    assert matched.interval is not None
    assert matched.interval[0] < (decided.argmax(axis=1) == 0).mean() < matched.interval[1]


def test_draws_that_are_constant_one_by_one() -> None:
    """Two constant draws of five, varied labels in all, no dependence on the item: named with the draws."""
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(SHAPE, 300)
    model = {"m": [[str(rng.integers(3)), "2", "0", str(rng.integers(3)), "1"] for _ in range(300)]}
    found = compared("item_information", model, people(drawn(rng, shares, 3)))
    assert ["degenerate_source"] == codes(found)
    assert "draws 2, 3, 5 of 5" in found.warnings[0].message
    assert "hardly depend on the item" in found.warnings[0].message
    assert found.interval is not None
    assert found.interval[0] < 0 < found.interval[1]
    assert found.details["permutation_p"] > 0.01


@pytest.mark.parametrize("repeated", [0.0, 0.5, 1.0])
def test_an_annotator_without_variance(repeated: float) -> None:
    """A model that repeats its first answer on a share of items: repetition of that strength is found."""
    rng = np.random.default_rng(2)
    shares = rng.dirichlet(SHAPE, 800)
    answers = drawn(rng, shares, 5)
    stuck = rng.random(800) < repeated
    model = {"m": [one[:1] * 5 if again else one for one, again in zip(answers, stuck, strict=True)]}
    human = people(drawn(rng, shares, 3))
    found = compared("response_repetition", model, human)
    truth = repeated + (1 - repeated) * float((rng.dirichlet(SHAPE, 100_000) ** 3).sum(axis=1).mean())
    assert found.interval is not None
    assert found.p is not None
    assert found.interval[0] <= truth <= found.interval[1]
    assert (found.p < 0.01) == (repeated > 0)
    varied = compared("label_variation", model, human)
    assert varied.p is not None
    assert (varied.p < 0.01) == (repeated > 0)
    if repeated == 1.0:
        assert 0.0 == varied.value


def test_how_much_labels_depend_on_the_item() -> None:
    """A model that guesses on half of the items has r as it must have, and tells which items."""
    rng = np.random.default_rng(3)

    def model(shares: Any) -> list[list[str]]:
        guess = rng.random(len(shares)) < 0.5
        mixed = np.where(guess[:, None], np.full(3, 1 / 3), shares)
        return drawn(rng, mixed, 3)

    shares = rng.dirichlet(SHAPE, 500)
    found = compared("item_information", {"m": model(shares)}, people(drawn(rng, shares, 3)))
    many = rng.dirichlet(SHAPE, 20000)
    mine, theirs = (np.array(one).astype(int).mean(axis=1) for one in (model(many), drawn(rng, many, 3)))
    assert found.interval is not None
    assert found.interval[0] < np.corrcoef(mine, theirs)[0, 1] < found.interval[1]
    assert found.p is not None
    assert found.p < 0.001
    assert () == found.warnings


@pytest.mark.parametrize(
    ("kinds", "exchange", "labels"),
    [(2, [1, 0], ""), (4, [2, 0, 3, 1], "k0+k1+k2+k3"), (5, [4, 3, 2, 1, 0], "")],
    ids=["swap", "any exchange", "reversal"],
)
def test_exchanged_codes(kinds: int, exchange: list[int], labels: str) -> None:
    """A model that is right on 70%, its codes exchanged: both figures and the exchange are found."""
    rng = np.random.default_rng(kinds)
    truth = rng.integers(0, kinds, 400)
    right = [[exchange[int(one[0])]] for one in noisy(rng, truth, 0.7, kinds)]
    name = "k{}" if labels else "{}"
    model = {"m": [[name.format(one[0])] for one in right]}
    human = {f"p{i}": [[name.format(one[0])] for one in noisy(rng, truth, 0.9, kinds)] for i in range(3)}
    spec = "annotator_agreement:measure=accuracy" + (f",labels={labels}" if labels else "")
    found = compared(spec, model, human)
    assert ["coding_inverted"] == codes(found)
    said = found.warnings[0].message
    back = {exchange[k]: k for k in range(kinds)}
    for a, b in back.items():
        assert (f"{name.format(a)} -> {name.format(b)}" in said) == (a != b)
    after = float(said.split("on ")[2].split("%")[0]) / 100
    assert 0.7 + 0.3 / kinds == pytest.approx(after, abs=0.08)
    assert found.interval is not None
    kept = sum(a == b for a, b in enumerate(exchange)) / kinds
    assert found.interval[0] - 0.03 < 0.3 / kinds + 0.7 * kept < found.interval[1] + 0.05


def test_answers_in_a_row() -> None:
    """An annotator who gives one label on 80 items without looking is named, with the run."""
    rng = np.random.default_rng(6)
    truth = rng.integers(0, 3, 300)
    given = {f"a{i}": noisy(rng, truth, 0.8, 3) for i in range(5)}
    given["lazy"] = given["a0"][:100] + [["1"]] * 80 + given["a1"][180:]
    found = compared("straight_lining", given, None)
    assert ["default_order"] == codes(found)
    assert "1 of 6 annotators" in found.warnings[0].message
    assert "lazy (8" in found.warnings[0].message
    assert found.by["lazy"][0] >= 80
    assert found.p is not None
    assert found.p < 0.05
    # the same people as the reference of a model are looked at too
    model = {"m": noisy(rng, truth, 0.8, 3)}
    beside = compared("straight_lining", model, given)
    assert "in the reference 1 of 6" in beside.warnings[0].message


def test_errors_against_gold() -> None:
    """Planted error rates lie in their intervals and in their order, from a field and an annotator."""
    rng = np.random.default_rng(7)
    gold = rng.integers(0, 2, 1500)
    rates = {"a": 0.02, "b": 0.3, "c": 0.1}
    given = {
        name: [[str(x)] for x in np.where(rng.random(1500) < rate, 1 - gold, gold)]
        for name, rate in rates.items()
    }
    of_each = [str(gold[i]) for i in range(1500) for _ in rates]
    by_field = compared("annotator_error", given, None, gold=of_each)
    by_name = compared("annotator_error", given, {"gold": [[str(x)] for x in gold]})
    for found in (by_field, by_name):
        for name, rate in rates.items():
            interval = found.by[name][1]
            assert interval is not None
            assert interval[0] < rate < interval[1]
        assert [1, 2, 3] == [found.details[f"rank.{name}"] for name in ("b", "c", "a")]
        assert found.value == pytest.approx(0.14, abs=0.02)
        assert found.chance == pytest.approx(0.5, abs=0.05)
        assert found.details["majority"] < 0.05
    assert np.isnan(compared("annotator_error", given, given).value)


def test_unusable_answers() -> None:
    """A source with 60% unusable answers is named, and its share lies in the interval."""
    rng = np.random.default_rng(8)
    bad = rng.random(500) < 0.6
    model = {"m": [["sorry" if one else "0"] for one in bad], "n": [["1"]] * 500}
    found = compared("invalid_share", model, {"p": [["0"], ["1"]] * 250})
    assert ["degenerate_source"] == codes(found)
    assert found.interval is not None
    assert found.interval[0] < 0.3 < found.interval[1]
    assert found.by["m"][1] is not None
    assert found.by["m"][1][0] < 0.6 < found.by["m"][1][1]


def test_silence_where_nothing_is_planted() -> None:
    """Over 100 seeds no warning of any kind: common labels, sorted files, lenient and careful people."""
    said: list[str] = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        kinds = 2 + seed % 3
        common = np.r_[0.85, np.full(kinds - 1, 0.15 / (kinds - 1))]
        truth = rng.choice(kinds, 80, p=common if seed % 2 else None)
        truth = np.sort(truth) if seed % 5 < 2 else truth  # like items stand together
        human = {f"p{i}": noisy(rng, truth, 0.5 + 0.1 * i, kinds) for i in range(5)}
        draws = [noisy(rng, truth, 0.7, kinds) for _ in range(3)]
        model = {"m": [[label for draw in one for label in draw] for one in zip(*draws)]}
        sides = {"item_information": (model, human), "annotator_agreement": (model, human)}
        sides["straight_lining"] = (model, human) if seed % 2 else (human, None)
        for spec, both in sides.items():
            said += [one.message for one in compared(spec, *both, 30).warnings]
    assert [] == said


def test_an_audit_says_it_all() -> None:
    """Through `audit`, one file of both kinds: warnings, slices and evidence are there."""
    rng = np.random.default_rng(9)
    shares = rng.dirichlet(SHAPE, 200)
    model = {"good": drawn(rng, shares, 3), "bad": [["2"] * 3] * 200}
    both = corpus(model).concat(corpus(people(drawn(rng, shares, 3)), "human"))
    both = both.with_column("id", [f"r{i}" for i in range(len(both))])
    both = both.with_column("side", [int(one[1:]) % 2 for one in both.column("item_id")])
    found = karat.audit(both, metrics="annotation", by="side")
    assert {"degenerate_source", "split_by_kind"} <= {one.code for one in found.warnings}
    match = found.score("majority_match")
    assert {"good", "bad", "0", "1"} == set(match.by)
    assert match.flagged
    assert match.by["bad"].value < match.by["good"].value  # type: ignore[operator]
    assert any(one.metric == "majority_match" and "people: " in one.reason for one in found.evidence)
    assert all(score.chance is not None for score in found.scores if score.value is not None)
    assert all(score.best is not None for score in found.scores if score.value is not None)
