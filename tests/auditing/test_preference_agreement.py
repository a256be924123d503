"""Agreement with people, exchanged codes and ties: hand-worked tables, peers, and planted faults."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from preference_corpora import (
    Row,
    again,
    agreeing,
    asked,
    choices,
    corpus,
    flag,
    judged,
    lots,
    other,
    swapped,
)

import karat
from karat import records, registry
from karat.auditing.preference_agreement import agreed
from karat.auditing.preference_statistics import share
from karat.auditing.preferences import matched, modal


def pair(number: int, choice: str, rater: str, **more: Any) -> Row:
    return {
        "prompt": f"p{number}",
        "response_a": f"x{number}",
        "response_b": f"y{number}",
        "choice": choice,
        "rater": rater,
        **more,
    }


def table(said: dict[str, str]) -> list[Row]:
    """Rows of raters who say one letter a pair: a, b, t(ie), i(nvalid); a space was not asked."""
    names = {"t": "tie", "i": "invalid"}
    return [
        pair(i, names.get(letter, letter), rater)
        for rater, letters in said.items()
        for i, letter in enumerate(letters)
        if letter != " "
    ]


PEOPLE = table({"ann": "aabbtaab", "bob": "aabbtabb", "cy": "aabatbab"})
#    majority:                       a a b b t a a b
JUDGE = table({"judge": "abbatiab"})
#    agrees:             1 0 1 0 1 0 1 1


def test_majority_by_hand() -> None:
    """Five of eight agree; two of three people make a majority, and an invalid verdict is no agreement."""
    found = asked("pair_agreement", JUDGE, PEOPLE, mode="paper")
    assert 5 / 8 == found.value
    assert 5 / 8 == found.details["majority"]
    assert 5 / 7 == pytest.approx(found.details["valid"])
    # both decided on 0 1 2 3 6 7: 4 of 6
    assert 4 / 6 == pytest.approx(found.details["non_tie"])
    assert 3.0 == found.details["people_a_pair"]


def test_left_out_by_brute_force() -> None:
    """Each person left out in turn: the human value is theirs, the value the judge's, by a plain loop."""
    said = {"ann": "aabbtaab", "bob": "aabbtabb", "cy": "aabatbab"}
    human, judge, n = 0.0, 0.0, 0
    for i, out in product(range(8), said):
        rest = [letters[i] for name, letters in said.items() if name != out]
        most = {one for one in rest if rest.count(one) == max(map(rest.count, rest))}
        human += (said[out][i] in most) / len(most)
        judge += ("abbatiab"[i] in most) / len(most)
        n += 1
    found = agreed(choices(JUDGE), choices(PEOPLE)).left_out()
    assert found is not None
    assert judge / n == pytest.approx(found[0].value)
    assert human / n == pytest.approx(found[1].value)


def test_proper_mode_compares_with_a_person_left_out() -> None:
    """Value minus human value is the difference, the ceiling is the human value."""
    rng = np.random.default_rng(0)
    pairs = judged(rng, 250)
    people = [row for name in "uvw" for row in again(pairs, agreeing(rng, 0.9), name)]
    found = asked("pair_agreement", again(pairs, agreeing(rng, 0.7), "judge"), people)
    assert found.reference is not None and found.difference is not None
    assert found.best == found.reference
    assert found.value - found.reference == pytest.approx(found.difference)
    assert found.p is not None and found.p < 0.05


def test_a_judge_like_the_people_is_not_told_apart() -> None:
    """A judge drawn like the three people: p < 0.05 in about 5 of 100, at most 20 of 200."""
    false = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        pairs = judged(rng, 40, pairs=2)
        people = [row for name in "uvw" for row in again(pairs, agreeing(rng, 0.8), name)]
        mine = again(pairs, agreeing(rng, 0.8), "judge")
        found = agreed(choices(mine), choices(people)).left_out()
        assert found is not None
        p = share(*found, seed=seed, draws=20).p
        assert p is not None
        false += p < 0.05
    assert false <= 20


def test_chance_keeps_the_share_of_ties() -> None:
    """Chance is what permuted verdicts get on the average, sides drawn: by closed form and by permutation."""
    rng = np.random.default_rng(1)
    mine = judged(rng, 200, ties=0.3)
    theirs = again(mine, lambda row: "tie" if flag(rng, 0.2) else lots(rng)(row), "ann")
    found = asked("pair_agreement", mine, theirs, mode="paper")
    said, most = (np.array([row["choice"] for row in rows]) for rows in (mine, theirs))
    permuted = []
    for _ in range(400):
        drawn = rng.permutation(said)
        turned = np.where(rng.random(200) < 0.5, [other(one) for one in drawn], drawn)
        permuted.append((turned == most).mean())
    assert np.mean(permuted) == pytest.approx(found.chance, abs=0.008)


def test_kappa_as_coded_is_that_of_a_peer() -> None:
    """Cohen's kappa of the codes as the file has them, against scikit-learn."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(2)
    mine = judged(rng, 80, ties=0.2)
    theirs = again(mine, agreeing(rng, 0.7), "ann")
    found = asked("pair_agreement", mine, theirs)
    said, most = ([row["choice"] for row in rows] for rows in (mine, theirs))
    assert metrics.cohen_kappa_score(said, most) == pytest.approx(found.details["kappa_as_coded"])


def test_pairs_are_linked_in_either_order() -> None:
    """Exchanging a and b at random on one side changes no figure that does not speak of codes."""
    rng = np.random.default_rng(3)
    mine = judged(rng, 120, ties=0.1, longer=0.7)
    theirs = again(mine, agreeing(rng, 0.75), "ann")
    straight, turned = (
        asked("pair_agreement", mine, theirs),
        asked("pair_agreement", swapped(mine, rng), theirs),
    )
    assert straight.value == turned.value
    assert straight.interval == turned.interval
    assert straight.chance == pytest.approx(turned.chance)


@pytest.mark.parametrize(
    "name",
    ["pair_agreement", "length_bias", "coding_swap", "cue_coupling", "tie_share", "order_consistency"],
)
def test_names_of_a_and_b_do_not_matter(name: str) -> None:
    """Metrics that are not about places give the same value and p when a and b are exchanged at random."""
    rng = np.random.default_rng(4)
    mine = judged(rng, 100, pairs=2, ties=0.1, longer=0.7)
    theirs = again(mine, agreeing(rng, 0.75), "ann")
    metric = registry.make("metrics", name)
    if name == "tie_share":
        masks = np.ones((1, 20), np.bool_)
        straight, turned = (metric.values(corpus(rows), masks)[0] for rows in (mine, swapped(mine, rng)))
        assert straight == turned
        return
    straight, turned = (asked(name, rows, theirs) for rows in (mine, swapped(mine, rng)))
    assert straight.value == turned.value or np.isnan(straight.value)
    assert straight.p == turned.p
    assert straight.interval == turned.interval


def test_a_blind_judge_is_named() -> None:
    """A judge that draws lots agrees no more than chance: a warning; one that looks has none."""
    rng = np.random.default_rng(5)
    pairs = judged(rng, 150)
    people = again(pairs, agreeing(rng, 0.9), "ann")
    blind = asked("pair_agreement", again(pairs, lots(rng), "judge"), people)
    assert ["degenerate_source"] == [one.code for one in blind.warnings]
    assert () == asked("pair_agreement", again(pairs, agreeing(rng, 0.8), "judge"), people).warnings


def test_raters_and_evidence() -> None:
    """Each rater of the candidate has a value; evidence are verdicts against all people."""
    rows = JUDGE + table({"other": "aabbtaab"})
    found = asked("pair_agreement", rows, PEOPLE, mode="paper")
    assert {"judge": 5 / 8, "other": 1.0} == {name: value for name, (value, _, _) in found.by.items()}
    assert [(1, "all 3 people said otherwise")] == [(one.key, one.reason) for one in found.telling]


def test_equal_responses_say_nothing_of_agreement() -> None:
    """Which of two equal texts was chosen is no opinion: such pairs do not count, except for places."""
    same = [
        {"prompt": f"q{i}", "response_a": "z", "response_b": "z", "choice": "a", "rater": "r"}
        for i in range(9)
    ]
    found = asked("pair_agreement", JUDGE + same, PEOPLE + same, mode="paper")
    assert (5 / 8, 8) == (found.value, found.n)
    assert 1.0 == asked("order_bias", same).value


def test_nothing_in_common() -> None:
    """Corpora without a common pair give no value and say why."""
    found = asked("pair_agreement", JUDGE, [pair(99, "a", "ann")])
    assert np.isnan(found.value)
    assert "no pair of the candidate is in the reference" in found.note


def test_modal() -> None:
    """The most frequent answer, shared where two are as frequent, none without votes."""
    counts = np.array([[3.0, 1, 0], [1, 1, 0], [0, 0, 0]])
    assert [[1, 0, 0], [0.5, 0.5, 0], [0, 0, 0]] == modal(counts).tolist()


def test_matched_weights() -> None:
    """A pair that people judged three times and the candidate once counts once on both sides."""
    rng = np.random.default_rng(6)
    mine = judged(rng, 30)
    theirs = again(mine, lambda row: row["choice"], "ann")
    thrice = theirs + again(theirs[:1], lambda row: "a", "bob") + again(theirs[:1], lambda row: "a", "cy")
    found = matched(choices(mine).decided, choices(thrice).decided)
    assert found.theirs is not None
    assert 30 == pytest.approx(found.weight.sum())
    assert [1 / 3] * 3 == pytest.approx(found.weight[found.theirs.pair == found.theirs.pair[0]].tolist())


# ------------------------------------------------------------------------------------ exchanged codes


def test_exchanged_codes_are_found_and_named() -> None:
    """A candidate with a and b exchanged: agreement below chance, a warning with both figures and p."""
    rng = np.random.default_rng(7)
    pairs = judged(rng, 150, longer=0.8)
    people = again(pairs, agreeing(rng, 0.9), "ann")
    good = again(pairs, agreeing(rng, 0.9), "judge")
    bad = again(good, lambda row: other(row["choice"]), "judge")
    right, wrong = asked("coding_swap", good, people), asked("coding_swap", bad, people)
    assert () == right.warnings
    assert 1 - right.value == pytest.approx(wrong.value)
    assert wrong.p is not None and wrong.p < 1e-6
    assert ["coding_inverted"] == [one.code for one in wrong.warnings]
    assert f"{wrong.value:.1%}" in wrong.warnings[0].message
    assert f"{right.value:.1%}" in wrong.warnings[0].message
    # the planted rater prefers long responses, so the exchanged side seems to prefer short ones
    assert "the candidate goes with the longer response in" in wrong.warnings[0].message


def test_one_person_with_exchanged_buttons() -> None:
    """One of five people says the opposite of the rest: named on the reference side, nobody else."""
    rng = np.random.default_rng(8)
    pairs = judged(rng, 60)
    people = []
    for name in ("ann", "bob", "cy", "dan", "eve"):
        own = again(pairs, agreeing(rng, 0.85), name)
        people += again(own, lambda row: other(row["choice"]), name) if name == "dan" else own
    found = asked("coding_swap", again(pairs, agreeing(rng, 0.8), "judge"), people)
    assert 1 == len(found.warnings)
    assert "reference raters who say the opposite of the others: dan (" in found.warnings[0].message


def test_no_false_alarm_of_codes() -> None:
    """Judges that draw lots agree at 0.5: an alarm in at most 10 of 100, single raters included."""
    false = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        pairs = judged(rng, 40)
        people = [row for name in "uv" for row in again(pairs, lots(rng), name)]
        false += bool(asked("coding_swap", again(pairs, lots(rng), "j"), people, draws=20).warnings)
    assert false <= 10


# ----------------------------------------------------------------------------------------------- ties


def test_ties_by_hand() -> None:
    """Ties of valid choices; invalid ones do not count."""
    rows = records.from_rows(table({"judge": "attib"}), datatype="preference")
    scored = karat.audit(rows, metrics="tie_share", budget="small").score("tie_share")
    assert (2 / 4, 4) == (scored.value, scored.n)


def test_a_flood_of_ties_is_named() -> None:
    """A rater with 98% ties is named with the share, another one is not."""
    flood = table({"dolly": "t" * 98 + "ab", "ok": "abtab" * 20})
    rows = records.from_rows(flood, datatype="preference")
    found = karat.audit(rows, metrics="tie_share", budget="small")
    messages = [one.message for one in found.warnings if one.code == "degenerate_source"]
    assert 1 == len(messages)
    assert "dolly (98.0% of 100)" in messages[0]
    assert "ok (" not in messages[0]


def test_tie_share_of_two_sources() -> None:
    """A difference of ties is found with its interval around the truth; equal sources are not told apart."""
    rng = np.random.default_rng(9)
    pairs = judged(rng, 400)
    people = again(pairs, lambda row: "tie" if flag(rng, 0.1) else row["choice"], "ann")
    model = again(pairs, lambda row: "tie" if flag(rng, 0.3) else row["choice"], "judge")
    sides = [records.from_rows(rows, datatype="preference") for rows in (model, people)]
    scored = karat.audit(*sides, metrics="tie_share", budget="small").score("tie_share")
    assert scored.difference_interval is not None and scored.p is not None
    assert scored.difference_interval[0] <= 0.2 <= scored.difference_interval[1]
    assert scored.p < 1e-4
