"""What the mixtures promise: exact formulas, planted shifts, repeats that can be told apart."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from karat import records, registry
from karat.curation import weighting
from karat.curation.base import Mixed
from karat.curation.lexis import diversity, lexical_note
from karat.curation.mixtures.ratio import advice
from karat.curation.repeats import drawn, repeated
from karat.curation.stage import curate
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.records import Records


def mixed(spec: str, given: Records, reference: Records | None = None, **more: object) -> Mixed:
    """Run one mixture; what is in and what is left out are all candidates, and ids are unique."""
    found: Mixed = registry.make("mixtures", spec).mix(given, reference, **more)
    ids = found.records.ids
    assert len(ids) == len(set(ids))
    present = {name.split("#")[0] for name in ids}
    left = {given.ids[row] for row in found.left_out}
    assert set(given.ids) <= present | left
    assert not present & left
    return found


def items(n: int = 12, generators: tuple[str, ...] = ("g", "h", "k")) -> Records:
    """Return one record of each item by each generator, with a score; item 0 lacks the first generator."""
    draw = np.random.default_rng(0)
    rows = [
        {
            "id": f"{g}{i}",
            "text": f"item {i} by {g} " + " ".join(f"w{k}" for k in draw.integers(0, 50, 12)),
            "item": f"i{i}",
            "generator": g,
            "order_score": float(draw.random()),
        }
        for i in range(n)
        for g in generators
        if not (i == 0 and g == generators[0])
    ]
    return records.from_rows(rows)


# ---------------------------------------------------------------------------------- drawing and repeating


def test_draws_follow_the_weights_up_to_the_most() -> None:
    """Counts sum to the size, none is over the most or without weight; their means follow the weights."""
    weights = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    counts = np.array([drawn(weights, 10, 10, seed) for seed in range(3000)])
    assert {10} == set(counts.sum(axis=1).tolist())
    assert pytest.approx(weights, abs=0.1) == counts.mean(axis=0)
    tight = drawn(np.array([1e-300, 1.0, 0.0]), 6, 3, 0)
    assert [3, 3, 0] == tight.tolist()
    with pytest.raises(NotEnoughData, match="7 records are wanted, but 2"):
        drawn(np.array([1.0, 1.0, 0.0]), 7, 3, 0)


def test_copies_have_ids_and_parents_of_their_own() -> None:
    """The first copy is the record; the next ones are named after it, beside ids that look the same."""
    given = records.from_rows([{"id": name, "text": name} for name in ("a", "a#2", "b")])
    given = given.with_lineage(parents=[["p"], None, None])
    found = repeated(given, np.array([3, 1, 2]))
    assert ["a", "a#3", "a#4", "a#2", "b", "b#2"] == found.ids
    assert [["p"], ["p", "a"], ["p", "a"], None, None, ["b"]] == found.lineage("parents")
    assert ["a", "a", "a", "a#2", "b", "b"] == found.texts()
    clash = repeated(given, np.array([1, 0, 1]), taken=["b"])
    assert ["a", "b#2"] == clash.ids


# ------------------------------------------------------------------------------------------ weights


def test_formulas_are_exact() -> None:
    """w*(1) is the golden ratio less 1; k = 0.1 and 0.25 as published; Kish's size; odds; importance."""
    assert pytest.approx((np.sqrt(5) - 1) / 2, abs=1e-12) == advice(5, 5)["optimal"]
    for k, optimal, pooling in ((0.1, 0.27, 0.09), (0.25, 0.39, 0.20), (1.0, 0.62, 0.50)):
        found = advice(round(1000 * k), 1000)
        assert (np.sqrt(k * k + 4 * k) - k) / 2 == pytest.approx(found["optimal"], abs=1e-12)
        assert optimal == round(found["optimal"], 2)
        assert pooling == pytest.approx(found["pooling"], abs=0.005)
    assert 1 > advice(10**9, 1)["optimal"] > 0.999
    assert 4.0 == weighting.effective_size(np.ones(4))
    assert 1.6 == pytest.approx(weighting.effective_size(np.array([1.0, 3.0])))
    assert [0.4, 1.6] == pytest.approx(weighting.human_odds(np.array([0.5, 0.8]), 10).tolist())
    assert 1.5 == pytest.approx(weighting.human_odds(np.array([0.01, 0.01, 0.99, 0.9]), 1.5).max())


def test_the_discrepancy_is_the_unbiased_one() -> None:
    """With equal weights it is Gretton's U-statistic, and a weight of 2 counts as no pair with itself."""
    draw = np.random.default_rng(0)
    x, y = draw.standard_normal((7, 3)).astype(np.float32), draw.standard_normal((6, 3)).astype(np.float32)

    def kernel(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        return float(np.exp(-(np.linalg.norm(a - b) ** 2) / (2 * 1.3**2)))

    own = np.mean([kernel(x[i], x[j]) for i in range(7) for j in range(7) if i != j])
    human = np.mean([kernel(y[i], y[j]) for i in range(6) for j in range(6) if i != j])
    cross = np.mean([kernel(a, b) for a in x for b in y])
    assert own + human - 2 * cross == pytest.approx(weighting.discrepancy(x, np.ones(7), y, 1.3), abs=1e-6)


def test_mean_matching_is_the_best_of_its_constraints() -> None:
    """Against a general solver on the same quadratic form: the same value, within box and mean."""
    from scipy import optimize

    minimize: Any = optimize.minimize
    draw = np.random.default_rng(2)
    ours, theirs = draw.standard_normal((25, 2)), draw.standard_normal((30, 2)) * 0.6 + 0.8
    asked = weighting.problem(ours.astype(np.float32), theirs.astype(np.float32), 1.0)
    found = weighting.mean_matching(asked, 4.0, rounds=5000, tolerance=1e-14)
    other = minimize(
        lambda w: asked.value(w) * 1e3,
        np.ones(25),
        jac=lambda w: (asked.times(w) - asked.kappa) * 1e3,
        bounds=[(0, 4.0)] * 25,
        constraints={"type": "eq", "fun": lambda w: w.mean() - 1},
        method="SLSQP",
        options={"maxiter": 1000, "ftol": 1e-14},
    )
    assert 1.0 == pytest.approx(found.mean(), abs=1e-9)
    assert found.min() >= 0
    assert found.max() <= 4.0
    assert asked.value(found) <= asked.value(other.x) + 1e-8


@pytest.mark.parametrize("exact", [3_000, 0])
def test_a_planted_shift_is_undone(exact: int) -> None:
    """Of two clumps one is four times too large: matching gives back equal parts, without discrepancy."""
    draw = np.random.default_rng(3)
    centres = np.array([[3.0, 0, 0], [0, 3.0, 0]])
    member, theirs = np.repeat([0, 1], [400, 100]), np.repeat([0, 1], [250, 250])
    ours = (centres[member] + draw.standard_normal((500, 3))).astype(np.float32)
    human = (centres[theirs] + draw.standard_normal((500, 3))).astype(np.float32)
    bandwidth = weighting.bandwidth_of(human)
    weights = weighting.mean_matching(weighting.problem(ours, human, bandwidth, exact=exact), 10.0)
    assert 0.5 == pytest.approx(weights[member == 1].sum() / weights.sum(), abs=0.08)  # 0.2 without weights
    fresh = (centres[theirs] + draw.standard_normal((500, 3))).astype(np.float32)  # no weight has seen it
    before = weighting.discrepancy(ours, np.ones(500), fresh, bandwidth)
    assert weighting.discrepancy(ours, weights, fresh, bandwidth) < 0.1 * before


# ----------------------------------------------------------------------------------------- mixtures


def planted(share: float, n: int, seed: int, side: str = "s") -> Records:
    """Return texts of two kinds of words, a share of them of the first, with p_ai; ids begin with `side`."""
    draw = np.random.default_rng(seed)
    rows = []
    for k in range(n):
        first = draw.random() < share
        words = [f"{'h' if first else 's'}{i}" for i in draw.integers(0, 40, 14)]
        rows.append(
            {"id": f"{side}{k}", "text": " ".join(words), "kind": int(first), "p": 0.1 if first else 0.9}
        )
    return records.from_rows(rows)


@pytest.mark.parametrize("method", ["kmm", "odds"])
def test_matching_draws_what_the_human_side_has(method: str) -> None:
    """Candidates of which a fifth is of the human kind are drawn toward it; on unseen text too."""
    given, human = planted(0.2, 300, 1), planted(0.9, 200, 2)
    found = mixed(f"matching:method={method},repeats=6", given, human)
    assert np.mean(found.records.column("kind")) > 0.55
    before, after = (
        float(part.rsplit(" ", 1)[1])
        for part in (found.note.split(" before")[0], found.note.split(" as drawn")[0])
    )
    assert after < 0.5 * before
    assert "effective sample size" in found.note


def test_importance_draws_by_its_formula() -> None:
    """(1 - p)^b with b = 1 draws 9 of 10 from records with p = 0.1 against 0.9; none over the repeats."""
    given = planted(0.5, 2000, 4)
    found = mixed("importance:p=p,b=1,repeats=50,upsample=1", given)
    kinds = Counter(found.records.column("kind"))
    share = given.column("kind").count(1) / 2000
    assert 0.9 * share / (0.9 * share + 0.1 * (1 - share)) == pytest.approx(kinds[1] / 2000, abs=0.02)
    usual = mixed("importance:p=p", given)
    assert 1.5 * 2000 == len(usual.records)
    copies = Counter(name.split("#")[0] for name in usual.records.ids)
    assert max(copies.values()) == 3
    assert pytest.approx(0.1, abs=0.01) == np.mean(usual.records.column("p"))
    parents = dict(zip(usual.records.ids, usual.records.lineage("parents")))
    assert all((name.split("#")[0] in (parents[name] or [])) == ("#" in name) for name in parents)


def test_copies_are_told_from_human_records_that_are_added() -> None:
    """`repeated` counts further copies of candidates and `added` human records, each alone and not both."""
    given, human = planted(0.5, 400, 4), planted(1.0, 150, 8, "h")
    found = curate(given, mixture="importance:p=p")
    originals = {name.split("#")[0] for name in found.kept.ids}
    assert 600 == len(found.kept)
    assert (0, 600 - len(originals)) == (found.added, found.repeated)
    assert "copies, drawn more than once" in str(found)
    both = curate(given, human, mixture="human_share:share=0.2")
    assert (100, 0) == (both.added, both.repeated)


def test_importance_learns_from_human_records_without_a_field() -> None:
    """The cross-fitted detector draws toward the human kind of text; without a reference it says so."""
    given, human = planted(0.3, 200, 5), planted(1.0, 150, 6)
    found = mixed("importance:b=2", given, human, size=150)
    assert np.mean(found.records.column("kind")) > np.mean(given.column("kind")) + 0.3
    with pytest.raises(BadSetting, match="give --reference"):
        mixed("importance", given)
    with pytest.raises(BadSetting, match="must be a probability"):
        mixed("importance:p=q", given.with_column("q", [float("nan")] * 200))
    with pytest.raises(NotEnoughData, match="surely synthetic"):
        mixed("importance:p=q", given.with_column("q", [1.0] * 200))


@pytest.mark.parametrize(
    ("spec", "share"), [("ratio", None), ("ratio:advisor=kang", 0.7), ("ratio:weight=0.2", 0.2)]
)
@pytest.mark.parametrize("by", ["subsample", "upsample"])
def test_a_ratio_is_kept_by_either_way(spec: str, share: float | None, by: str) -> None:
    """The share of human records is the advised one; subsampling repeats nothing, upsampling keeps all."""
    given, human = planted(0.0, 400, 7), planted(1.0, 150, 8, "h")
    found = mixed(f"{spec}{',' if ':' in spec else ':'}by={by}", given, human)
    wanted = share or advice(150, 400)["optimal"]
    assert wanted == pytest.approx(np.mean(found.records.column("kind")), abs=0.003)
    ids = set(found.records.ids)
    if by == "upsample":
        assert set(given.ids) <= ids or set(human.ids) <= ids
        assert any("#2" in name for name in ids)
    else:
        assert ids <= {*given.ids, *human.ids}
    for advisor in ("optimal", "kang 0.700", "pooling 0.273"):
        assert advisor in found.note
    sized = mixed(spec, given, human, size=100)
    assert 100 == len(sized.records)
    same = planted(1.0, 150, 8)  # ids that the candidates have too
    both = registry.make("mixtures", "ratio:by=upsample,weight=0.5").mix(given, same).records.ids
    assert len(both) == len(set(both))


def test_a_block_is_of_one_source() -> None:
    """With an item field each item comes once, three in a row of one generator, lacking ones of another."""
    given = items()
    found = mixed("block:length=3,item=item", given)
    assert 12 == len(found.records)
    assert [f"i{k}" for k in range(12)] == found.records.column("item")
    by = found.records.column("generator")
    for start in range(3, 12, 3):
        assert 1 == len(set(by[start : start + 3]))
    assert 3 == len(set(by))
    plain = mixed("block:length=2", given, size=12)
    runs = [set(plain.records.column("generator")[k : k + 2]) for k in range(0, 12, 2)]
    assert {1} == {len(run) for run in runs}
    assert {4} == set(Counter(plain.records.column("generator")).values())


def test_best_of_takes_the_highest_score_of_each_item() -> None:
    """Whatever the source; a nan never wins over a number, and the reason names both scores."""
    given = items()
    scores = given.column("order_score")
    scores[1] = float("nan")
    given = given.with_column("order_score", scores)
    found = mixed("best_of:item=item", given)
    for name, kept in zip(found.records.column("item"), found.records.column("order_score")):
        rivals = [s for s, other in zip(scores, given.column("item")) if other == name and not np.isnan(s)]
        assert max(rivals) == kept
    assert 23 == len(found.left_out)
    assert "order_score nan, not over" in found.left_out[1]
    with pytest.raises(NotEnoughData, match="no record has a number"):
        mixed("best_of:item=item", given.with_column("order_score", [float("nan")] * len(given)))
    with pytest.raises(InputError, match="no field"):
        mixed("best_of:item=nothing", given)
    with pytest.raises(BadSetting, match="write best_of:item="):
        mixed("best_of", given)


@pytest.mark.parametrize("spec", ["block", "best_of:item=item", "uniform"])
def test_one_generator_cannot_be_mixed(spec: str) -> None:
    """A generator column with one value is named, with the cure."""
    with pytest.raises(NotEnoughData, match=r"two sources at least"):
        mixed(spec, items(generators=("g",)).slice(0, 5))


def test_words_are_counted_at_equal_tokens() -> None:
    """A part of 10 words has 10 of them; a mixture of two disjoint ones has more; sizes do not matter."""
    draw = np.random.default_rng(0)
    texts = [" ".join(f"a{k}" for k in draw.integers(0, 10, 20)) for _ in range(300)]
    texts += [" ".join(f"b{k}" for k in draw.integers(0, 10, 20)) for _ in range(30)]
    parts = {"mix": range(330), "a": range(300), "b": range(300, 330)}
    size, found = diversity(texts, parts)
    assert 600 == size
    assert 10 / 600 == pytest.approx(found["a"][0]) == pytest.approx(found["b"][0])
    assert 20 / 600 == pytest.approx(found["mix"][0], abs=0.005)
    names = ["a"] * 300 + ["b"] * 30
    assert lexical_note(texts, names).startswith("different words in 600 tokens: mixture 0.03")
    assert "too few tokens" in lexical_note(["x", "y"], ["a", "b"])
    assert "" == lexical_note(["x", "y"], ["a", "a"])
