"""Places and lists: hand-worked tables, brute force, and raters with planted habits of known strength."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
from preference_corpora import Row, asked, choices, flag, judged, other, swapped

from karat.auditing.preference_orders import circles, default_order, one_order_only, places, rankings
from karat.auditing.preference_orders import swapped as judged_twice


def both_orders(
    rng: np.random.Generator, prompts: int, first: float, last: float, rater: str = "j"
) -> list[Row]:
    """Each pair in both orders: with these probabilities one place wins both, else the same response does."""
    rows = []
    for i in range(prompts):
        base = {"prompt": f"p{i}", "response_a": f"x {i}", "response_b": f"y {i}", "rater": "j"}
        habit = rng.random()
        good = "ab"[rng.integers(2)]
        for shown in "ab":
            chosen = shown if habit < first else other(shown) if habit < first + last else good
            rows.append({**base, "shown_first": shown, "choice": chosen})
    return rows


# ------------------------------------------------------------------------------------------ order_bias


def test_first_shown_by_hand() -> None:
    """shown_first decides what is first, else response a is; ties and invalid verdicts do not count."""
    base = {"prompt": "p", "response_a": "x", "response_b": "y", "rater": "j"}
    said = [("a", "a"), ("b", "a"), ("a", "b"), ("tie", "a"), ("invalid", "b"), ("a", None)]
    rows = [{**base, "prompt": f"p{i}", "choice": c, "shown_first": s} for i, (c, s) in enumerate(said)]
    found = asked("order_bias", rows)
    assert (2 / 4, 4) == (found.value, found.n)


@pytest.mark.parametrize("strength", [0.65, 0.3])
def test_an_order_biased_judge_is_found(strength: float) -> None:
    """A judge that takes what is shown first with a known probability: p small, the interval covers it."""
    covered = 0
    for seed in range(20):
        rows = judged(np.random.default_rng(seed), 300, first=strength)
        found = asked("order_bias", rows, seed=seed)
        assert found.interval is not None and found.p is not None
        assert found.p < 0.01
        covered += found.interval[0] <= strength <= found.interval[1]
    assert covered >= 17


def test_a_judge_without_habits_is_not_flagged() -> None:
    """Verdicts that do not look at places: p < 0.05 in at most 10 of 100, alone and beside people."""
    alone = beside = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        mine = judged(rng, 60, pairs=2, longer=0.6)
        people = [
            {**row, "choice": row["choice"] if flag(rng, 0.7) else other(row["choice"])} for row in mine
        ]
        alone += (asked("order_bias", mine, seed=seed, draws=20).p or 1) < 0.05
        beside += (asked("order_bias", mine, people, seed=seed, draws=20).p or 1) < 0.05
    assert alone <= 10
    assert beside <= 10


def test_both_orders_as_published() -> None:
    """CoBBLEr's order-first and order-last are shares of all pairs; an invalid second verdict is neither."""
    rows = [
        ("p0", "a", "a"), ("p0", "b", "b"),  # what is shown first wins twice
        ("p1", "a", "b"), ("p1", "b", "a"),  # what is shown last wins twice
        ("p2", "a", "a"), ("p2", "b", "a"),  # the same response wins twice
        ("p3", "a", "a"), ("p3", "b", "invalid"),
    ]  # fmt: skip
    found = [
        {
            "prompt": p,
            "response_a": f"x{p}",
            "response_b": f"y{p}",
            "rater": "j",
            "shown_first": s,
            "choice": c,
        }
        for p, s, c in rows
    ]
    told = asked("order_bias", found, mode="paper")
    assert (1 / 4, 1 / 4) == (told.value, told.details["order_last"])
    # in proper mode the share of what is shown first, of 7 valid verdicts: p0 2, p1 0, p2 1, p3 1
    assert 4 / 7 == pytest.approx(asked("order_bias", found).value)


def test_rates_of_both_orders_are_found() -> None:
    """Planted rates of 0.3 and 0.1: both within sampling error, and evidence shows such pairs."""
    rows = both_orders(np.random.default_rng(0), 2000, 0.3, 0.1)
    found = asked("order_bias", rows)
    assert 0.3 == pytest.approx(found.details["order_first"], abs=0.03)
    assert 0.1 == pytest.approx(found.details["order_last"], abs=0.02)
    assert found.telling[0].reason in (
        "what was shown first won in both orders",
        "what was shown last won in both orders",
    )


def test_places_that_stand_for_models_are_no_test() -> None:
    """Where one model always stands first there is no p and a note why; beside people there is one."""
    rng = np.random.default_rng(1)
    rows = [
        {
            "prompt": f"p{i}",
            "response_a": f"x{i}",
            "response_b": f"y{i}",
            "model_a": "weak",
            "model_b": "strong",
            "choice": "b" if flag(rng, 0.8) else "a",
            "rater": "j",
        }
        for i in range(100)
    ]
    found = asked("order_bias", rows)
    assert found.p is None
    assert "one order only" in found.note
    assert one_order_only(choices(rows))
    assert not one_order_only(choices(swapped(rows, rng)))
    assert asked("order_bias", rows, rows).p == 1.0


# ------------------------------------------------------------------------------ position_consistency


def test_consistency_by_hand() -> None:
    """The same response in both orders, or a tie in both; one tie is a contradiction."""
    verdicts = {"p0": "aa", "p1": "ab", "p2": "tt", "p3": "at", "p4": "bb"}
    rows = [
        {
            "prompt": prompt,
            "response_a": f"x{prompt}",
            "response_b": f"y{prompt}",
            "rater": "j",
            "shown_first": shown,
            "choice": {"t": "tie"}.get(letter, letter),
        }
        for prompt, letters in verdicts.items()
        for shown, letter in zip("ab", letters)
    ]
    found = asked("position_consistency", rows)
    assert (3 / 5, 5) == (found.value, found.n)
    assert 1 / 5 == found.details["tie_in_one_order"]
    # by place: first 5, second 2, tie 3 of 10
    assert 2 * 0.5 * 0.2 + 0.3**2 == pytest.approx(found.chance)
    # the same pairs with a and b exchanged instead of shown_first
    assert found.value == asked("position_consistency", exchanged(rows)).value


def exchanged(rows: list[Row]) -> list[Row]:
    """The same verdicts from a file that puts what is shown first at a."""
    found = []
    for row in rows:
        if row["shown_first"] == "b":
            turned = {"response_a": row["response_b"], "response_b": row["response_a"]}
            row = {**row, **turned, "choice": other(row["choice"])}
        found.append({name: value for name, value in row.items() if name != "shown_first"})
    return found


def test_a_planted_share_of_contradictions_is_covered() -> None:
    """40% of verdicts turn with the places: the interval of consistency covers 0.6 in at least 17 of 20."""
    covered = 0
    for seed in range(20):
        found = asked(
            "position_consistency", both_orders(np.random.default_rng(seed), 150, 0.3, 0.1), seed=seed
        )
        assert found.interval is not None
        covered += found.interval[0] <= 0.6 <= found.interval[1]
    assert covered >= 17


def test_rows_that_tell_consistency_themselves() -> None:
    """tie (inconsistent) says that a rater judged in both orders: its other rows are consistent ones."""
    base = {"response_a": "x", "response_b": "y"}
    said = ["a", "b", "tie (inconsistent)", "tie"]
    rows = [{**base, "prompt": f"p{i}", "rater": "gpt", "choice": c} for i, c in enumerate(said)]
    rows += [{**base, "prompt": f"p{i}", "rater": "ann", "choice": "a"} for i in range(4)]
    found = asked("position_consistency", rows)
    assert (3 / 4, 4) == (found.value, found.n)


def test_one_order_only_gives_no_consistency() -> None:
    """Without a pair in both orders there is no value."""
    found = asked("position_consistency", judged(np.random.default_rng(2), 10))
    assert np.isnan(found.value)
    assert "both orders" in found.note
    assert 0 == len(judged_twice(choices(judged(np.random.default_rng(2), 10))))


# ----------------------------------------------------------------------------------- default_order


MODELS = tuple(f"m{i:02}" for i in range(8))


def ranked(
    rng: np.random.Generator,
    prompts: int,
    *,
    lazy: float = 0.0,
    quality: float = 1.0,
    rater: str = "ann",
    shuffle: bool = False,
) -> list[Row]:
    """Rankings of models with qualities of their own; a lazy rater leaves some lists as they are."""
    worth = np.random.default_rng(99).permutation(len(MODELS)) * quality / len(MODELS)
    rows = []
    for i in range(prompts):
        order = rng.permutation(len(MODELS)) if shuffle else np.arange(len(MODELS))
        score = worth[order] + rng.normal(0, 0.3, len(MODELS))
        points: list[Any] = list(-np.arange(len(MODELS))) if flag(rng, lazy) else list(score)
        rows.append(
            {
                "prompt": f"p{i}",
                "responses": {MODELS[m]: f"{MODELS[m]} on {i}" for m in order},
                "points": {MODELS[m]: float(points[place]) for place, m in enumerate(order)},
                "rater": rater,
            }
        )
    return rows


def test_succession_by_hand() -> None:
    """Of a, b, c, d ranked a b d c one of three neighbours follows the list, and five of six pairs do."""
    row = {
        "prompt": "p",
        "responses": {m: f"text {m}" for m in "abcd"},
        "rankings": [1, 2, 4, 3],
        "rater": "r",
    }
    numbers = choices([row])
    found = default_order(numbers, places(numbers))  # type: ignore[arg-type]
    assert (5 / 6, 6) == (found.earlier, found.decided)
    assert (1 / 3, 3) == (found.succession, found.neighbours)
    assert found.fixed


def test_chance_of_succession_is_known() -> None:
    """Over all orders of five, successions have the mean and the variance of the formula."""
    counts = [int((np.diff(one) == 1).sum()) for one in permutations(range(5))]
    assert 4 / 5 == pytest.approx(np.mean(counts))
    mean = 4 / 5
    assert 3 / 5 + mean - mean**2 == pytest.approx(np.var(counts))


def test_permutation_p_by_brute_force() -> None:
    """With five models all 120 orders can be tried: the p of random orders is near the exact one."""
    rng = np.random.default_rng(3)
    names = MODELS[:5]
    rows = [
        {
            "prompt": f"p{i}",
            "responses": {m: f"{m} on {i}" for m in names},
            "points": {m: 5 - j + 3 * rng.normal() for j, m in enumerate(names)},
            "rater": "r",
        }
        for i in range(12)
    ]
    numbers = choices(rows)
    found = default_order(numbers, places(numbers))  # type: ignore[arg-type]
    wins = dict.fromkeys(permutations(names, 2), 0)
    for row in rows:
        for a, b in combinations(names, 2):
            points: dict[str, float] = row["points"]  # type: ignore[assignment]
            wins[(a, b) if points[a] > points[b] else (b, a)] += 1
    values = [sum(wins[pair] for pair in combinations(order, 2)) / 120 for order in permutations(names)]
    exact = np.mean([value >= found.earlier - 1e-9 for value in values])
    assert exact == pytest.approx(found.p, abs=0.02)
    assert values[0] == pytest.approx(found.earlier)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_rater_who_leaves_the_list_as_it_is(shuffle: bool) -> None:
    """One of three raters leaves half of the lists as they are: named, with the share; the others are not."""
    rng = np.random.default_rng(4)
    rows = ranked(rng, 40, rater="ann", shuffle=shuffle) + ranked(rng, 40, rater="bob", shuffle=shuffle)
    rows += ranked(rng, 40, lazy=0.5, rater="lazy", shuffle=shuffle)
    found = asked("default_order", rows)
    assert ["default_order"] == [one.code for one in found.warnings]
    assert "lazy (" in found.warnings[0].message
    assert "ann (" not in found.warnings[0].message
    value, interval, _ = found.by["lazy"]
    assert value > 0.7
    assert interval is not None and interval[0] > 0.6


def test_the_reference_is_looked_at_too() -> None:
    """People who leave lists as they are spoil the reference: the warning says so."""
    rng = np.random.default_rng(5)
    found = asked("default_order", ranked(rng, 40, rater="judge"), ranked(rng, 40, lazy=0.8, rater="ann"))
    assert any(one.message.startswith("reference choices follow") for one in found.warnings)
    assert found.reference is not None and found.reference > 0.8


@pytest.mark.parametrize("shuffle", [False, True])
def test_good_models_are_no_default_order(shuffle: bool) -> None:
    """Raters who look at models of different quality: alarms in at most 10 of 100 lists."""
    false = 0
    world = np.random.default_rng(6)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        rows = ranked(rng, 6, shuffle=shuffle)
        names = [str(one) for one in world.permutation(MODELS)]  # which model stands where is drawn
        for row in rows:
            called = dict(zip(MODELS, names))
            for name in ("responses", "points"):
                row[name] = {called[m]: value for m, value in row[name].items()}
            if not shuffle:
                row.update({n: {m: row[n][m] for m in MODELS} for n in ("responses", "points")})
        false += bool(asked("default_order", rows, seed=seed, draws=20).warnings)
    assert false <= 10


def test_two_models_tell_nothing() -> None:
    """With two models there are two orders: p is never small, however often the first one wins."""
    rows = [
        {"prompt": f"p{i}", "responses": {"good": f"x{i}", "bad": f"y{i}"}, "points": [1, 0], "rater": "r"}
        for i in range(50)
    ]
    found = asked("default_order", rows)
    assert (1.0, ()) == (found.value, found.warnings)
    assert found.p is not None and found.p > 0.3


def test_rank_order_names_the_list() -> None:
    """A field with the list itself is believed before the order of the file."""
    base = {"prompt": "p", "rater": "r", "choice": "a", "response_a": "x", "response_b": "y"}
    row = {**base, "model_a": "m1", "model_b": "m2", "rank_order": ["m2", "m1"]}
    assert 0.0 == asked("default_order", [row]).value
    assert 1.0 == asked("default_order", [{**row, "rank_order": None}]).value


# -------------------------------------------------------------------------------- order_consistency


def test_circles_by_brute_force() -> None:
    """Circular triads of random tournaments of seven, counted one by one."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        wins = np.triu(rng.random((7, 7)) < 0.5, 1).astype(float)
        wins += np.tril(1 - wins.T, -1)
        wins[rng.random((7, 7)) < 0.1] = 0  # some pairs were not judged
        beats = (wins > wins.T).astype(int)
        triples = circled = 0
        for i, j, k in combinations(range(7), 3):
            if all(beats[x, y] + beats[y, x] for x, y in ((i, j), (j, k), (i, k))):
                triples += 1
                circled += len({beats[[i, j, k]][:, [i, j, k]].sum(axis=1)[x] for x in range(3)}) == 1
        assert (triples, circled) == circles(wins)


def test_order_consistency_by_hand() -> None:
    """A circle of three is none of one; with a fourth response that loses to all it is three of four."""
    rows = [
        {"prompt": "p", "response_a": a, "response_b": b, "choice": "a", "rater": "r"}
        for a, b in ("xy", "yz", "zx", "xw", "yw", "zw")
    ]
    assert 0.0 == asked("order_consistency", rows[:3]).value
    found = asked("order_consistency", rows)
    assert (3 / 4, 0.75) == (found.value, found.chance)
    assert {"triples": 4.0, "circles": 1.0}.items() <= found.details.items()


def test_lots_are_consistent_three_times_in_four() -> None:
    """Drawn choices among five responses: the interval covers 0.75."""
    rng = np.random.default_rng(8)
    rows = [
        {
            "prompt": f"p{i}",
            "response_a": f"{a}{i}",
            "response_b": f"{b}{i}",
            "choice": "ab"[rng.integers(2)],
            "rater": "r",
        }
        for i in range(80)
        for a, b in combinations("vwxyz", 2)
    ]
    found = asked("order_consistency", rows)
    assert found.interval is not None
    assert found.interval[0] <= 0.75 <= found.interval[1]
    assert 80 * 10 == found.details["triples"]
    assert 80 == len(list(rankings(choices(rows))))
