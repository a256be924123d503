"""Bandwagon, distraction and a judge's own responses: published rates by hand, planted ones covered."""

from __future__ import annotations

import numpy as np
import pytest
from preference_corpora import Row, again, agreeing, asked, choices, flag, judged, lots, other

import karat
from karat import records
from karat.errors import BadSetting


def under_push(rng: np.random.Generator, prompts: int, follow: float, *, plain: bool = True) -> list[Row]:
    """Each pair once plain and once with one side pushed, which a share of choices follows."""
    rows = []
    for row in judged(rng, prompts, longer=0.6):
        side = "ab"[rng.integers(2)]
        said = side if flag(rng, follow) else row["choice"]
        rows += [row] if plain else []
        rows.append({**row, "condition": "bandwagon", "pushed": side, "choice": said})
    return rows


def test_a_push_is_found_beside_plain_choices() -> None:
    """30% follow where they would not: 0.5 becomes 0.65, the gain is covered in 17 of 20 and p is small."""
    covered = 0
    for seed in range(20):
        found = asked("bandwagon", under_push(np.random.default_rng(seed), 300, 0.3), seed=seed)
        assert found.p is not None and found.p < 0.01
        assert found.chance is not None
        assert found.value - found.chance == pytest.approx(found.details["push"])
        covered += found.details["push.low"] <= 0.15 <= found.details["push.high"]
    assert covered >= 17


def test_no_push_no_flag() -> None:
    """Choices that do not listen, drawn anew under the push: p < 0.05 in at most 10 of 100."""
    false = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        rows = under_push(rng, 60, 0.0)
        rows = [row if row.get("pushed") is None else {**row, "choice": lots(rng)(row)} for row in rows]
        false += (asked("bandwagon", rows, seed=seed, draws=20).p or 1) < 0.05
    assert false <= 10


def test_without_plain_choices_chance_is_one_half() -> None:
    """Nothing to compare with: 0.5, said in the note."""
    found = asked("bandwagon", under_push(np.random.default_rng(0), 300, 0.3, plain=False))
    assert 0.5 == found.chance
    assert "no plain choices" in found.note
    assert found.p is not None and found.p < 0.01


def test_pushed_rows_spoil_no_other_metric() -> None:
    """Length bias, ties and places are those of the plain rows alone."""
    rng = np.random.default_rng(1)
    rows = under_push(rng, 100, 0.9)
    plain = [row for row in rows if row.get("pushed") is None]
    for name in ("length_bias", "order_bias", "cue_coupling"):
        assert asked(name, plain).value == asked(name, rows).value


def test_published_bandwagon_and_distraction_by_hand() -> None:
    """CoBBLEr: followers of all verdicts, valid or not; for distractions, pairs that follow both remarks."""
    pair = {"response_a": "x", "response_b": "y", "rater": "j"}
    said = [("p0", "a", "a"), ("p1", "b", "a"), ("p2", "b", "b"), ("p3", "a", "invalid")]
    rows = [{**pair, "prompt": p, "condition": "bandwagon", "pushed": s, "choice": c} for p, s, c in said]
    assert 2 / 4 == asked("bandwagon", rows, mode="paper").value
    said = [("p0", "a", "a"), ("p0", "b", "b"), ("p1", "a", "a"), ("p1", "b", "a"), ("p2", "a", "invalid")]
    rows = [{**pair, "prompt": p, "condition": "distraction", "pushed": s, "choice": c} for p, s, c in said]
    assert 1 / 3 == asked("distraction", rows, mode="paper").value


def test_conditions_are_told_apart() -> None:
    """Each metric reads its own condition; another name can be given; without the fields it is refused."""
    rows = under_push(np.random.default_rng(2), 40, 0.5)
    assert np.isnan(asked("distraction", rows).value)
    assert asked("distraction:condition=bandwagon", rows).value == asked("bandwagon", rows).value
    plain = records.from_rows(judged(np.random.default_rng(3), 20), datatype="preference")
    with pytest.raises(BadSetting, match="needs the field condition"):
        karat.audit(plain, metrics="bandwagon")


# ------------------------------------------------------------------------------------ own responses


def own_pairs(
    rng: np.random.Generator, prompts: int, vain: float, quality: float = 0.5
) -> tuple[list[Row], list[Row]]:
    """A judge between its own responses and others', and people who choose its own with `quality`.

    The judge thinks like people, but in a share `vain` of cases takes its own.
    """
    mine, theirs = [], []
    for row in judged(rng, prompts):
        side = "ab"[rng.integers(2)]
        row = {**row, "model_a": "other", "model_b": "other", f"model_{side}": "me", "rater_model": "me"}
        taste = side if flag(rng, quality) else other(side)
        theirs.append({**row, "choice": taste, "rater": "ann", "rater_model": None})
        mine.append({**row, "choice": side if flag(rng, vain) else taste})
    return mine, theirs


def test_a_vain_judge_is_found() -> None:
    """20% vanity over a quality of 0.6: 0.68 beside 0.6; the difference is covered and p is small."""
    covered = 0
    for seed in range(20):
        found = asked("self_preference", *own_pairs(np.random.default_rng(seed), 400, 0.2, 0.6), seed=seed)
        assert found.p is not None and found.p < 0.01
        assert found.difference_interval is not None
        covered += found.difference_interval[0] <= 0.08 <= found.difference_interval[1]
    assert covered >= 17


def test_a_good_model_is_not_vain() -> None:
    """A judge whose responses people like as well: p < 0.05 in at most 10 of 100."""
    false = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        mine, theirs = own_pairs(rng, 80, 0.0, 0.8)
        mine = again(mine, agreeing(rng, 0.9), "judge")
        theirs = again(theirs, agreeing(rng, 0.9), "ann")
        false += (asked("self_preference", mine, theirs, seed=seed, draws=20).p or 1) < 0.05
    assert false <= 10


def test_others_are_judges_where_there_are_no_people() -> None:
    """Without a reference other models that judged the same pairs stand beside it; else nobody does."""
    rng = np.random.default_rng(4)
    mine, theirs = own_pairs(rng, 300, 0.5, 0.5)
    judges = [{**row, "rater": "third", "rater_model": "third"} for row in theirs]
    found = asked("self_preference", mine + judges)
    assert "others are judges of other models" in found.note
    assert found.reference == pytest.approx(0.5, abs=0.1)
    alone = asked("self_preference", mine)
    assert alone.reference is None and alone.p is None
    assert "nobody else" in alone.note


def test_published_egocentric_rate_by_hand() -> None:
    """CoBBLEr: own response wins the first verdict, and not only by its place, of all pairs it is in."""
    base = {"response_a": "x", "response_b": "y", "rater": "me", "rater_model": "me"}
    both = {"model_a": "me", "model_b": "other"}
    said = [
        ("p0", "a", "a"), ("p0", "b", "a"),  # its own twice
        ("p1", "a", "a"), ("p1", "b", "b"),  # its own by place
        ("p2", "a", "b"), ("p2", "b", "b"),  # the other's
        ("p3", "a", "a"), ("p3", "b", "invalid"),  # its own, the second verdict is not valid
    ]  # fmt: skip
    rows = [{**base, **both, "prompt": p, "shown_first": s, "choice": c} for p, s, c in said]
    rows.append({**base, "prompt": "p4", "model_a": "u", "model_b": "v", "choice": "a", "shown_first": "a"})
    assert 2 / 4 == asked("self_preference", rows, mode="paper").value


def test_published_salience_by_hand() -> None:
    """CoBBLEr: the longer response in characters, of first verdicts without those that follow the place."""
    base = {"response_a": "long one", "response_b": "short", "rater": "j"}
    said = [
        ("p0", "a", "a"), ("p0", "b", "a"),  # longer
        ("p1", "a", "a"), ("p1", "b", "b"),  # by place: left out
        ("p2", "a", "b"), ("p2", "b", "b"),  # shorter
        ("p3", "a", "a"), ("p3", "b", "invalid"),  # longer
    ]  # fmt: skip
    rows = [{**base, "prompt": p, "shown_first": s, "choice": c} for p, s, c in said]
    found = asked("length_bias", rows, mode="paper")
    assert (2 / 3, 3) == (found.value, found.n)


def test_fields_are_asked_for() -> None:
    """Without rater_model or model_a the metric is refused and says which field it lacks."""
    rows = judged(np.random.default_rng(5), 20)
    with pytest.raises(BadSetting, match="needs the field rater_model"):
        karat.audit(records.from_rows(rows, datatype="preference"), metrics="self_preference")
    rows = [{**row, "rater_model": "m"} for row in rows]
    with pytest.raises(BadSetting, match="needs the field model_a"):
        karat.audit(records.from_rows(rows, datatype="preference"), metrics="self_preference")


def test_pairs_without_a_prompt_stand_alone() -> None:
    """An empty prompt binds no pairs together: each is a cluster of its own."""
    rows = [{**row, "prompt": ""} for row in judged(np.random.default_rng(6), 50)]
    assert 50 == len(np.unique(choices(rows).prompt))
    assert 50.0 == asked("order_bias", rows).details["prompts"]
