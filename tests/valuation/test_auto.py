"""The search for a curation: nested, never at the test records, and honest about what it proves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from karat import records as karat_records
from karat.errors import BadSetting, NotEnoughData
from karat.records import Records
from karat.valuation.auto import RANDOM, Search, auto_curate, choose, still_racing
from karat.valuation.auto_curated import Tried
from karat.valuation.policies import HUMAN_ONLY, UNION, Policy, Recipe, apply, rows, space

TOPICS = {
    "sea": "wave tide salt shore gull reef foam kelp",
    "wood": "oak moss fern owl bark leaf root acorn",
    "sky": "cloud star wind moon sun mist hail dawn",
}
FILLER = [f"w{i}" for i in range(150)]


def written(n: int, seed: int, *, noise: float = 0.0, name: str = "") -> Records:
    """Texts of three topics, some of which have a label drawn at random."""
    rng = np.random.default_rng(seed)
    topics = list(TOPICS)
    made = []
    for i in range(n):
        topic = topics[int(rng.integers(3))]
        words = [*rng.choice(TOPICS[topic].split(), 1), *rng.choice(FILLER, 5)]
        label = topics[int(rng.integers(3))] if rng.random() < noise else topic
        made.append({"id": f"{name}{seed}-{i}", "text": " ".join(rng.permutation(words)), "label": label})
    found = karat_records.from_rows(made, datatype="classification", path=f"{name or 'human'}.jsonl")
    return found.with_lineage(source="synthetic", generator=name) if name else found


@pytest.fixture(scope="module")
def noisy() -> tuple[Records, Records, Records]:
    """Clean human records, candidates of which 70 % have a random label, and a test."""
    return written(800, 2, noise=0.7, name="g"), written(250, 1), written(600, 3)


def test_noise_is_filtered_and_the_gain_is_proved(noisy: tuple[Records, Records, Records]) -> None:
    """With noisy candidates the choice beats the plain union and a random selection on the test."""
    found = auto_curate(*noisy, orders=["agreement"], filters=["exact_duplicates"], budget="small", seeds=3)
    assert "agreement" == found.chosen.recipe.order or not found.chosen.synthetic
    by = {row.name: row for row in found.proofs}
    union = by["plain union"]
    assert union.gain is not None and union.gain_interval is not None
    assert union.gain_interval[0] > 0
    assert by["chosen"].value == pytest.approx(union.value + union.gain)
    assert "better than plain union" in found.verdict
    assert len(found.kept) + len(found.dropped) == 800
    assert found.fits <= 60
    assert 1 == sum(one.policy == found.chosen for one in found.tried)


def test_the_choice_does_not_depend_on_the_test_records(noisy: tuple[Records, Records, Records]) -> None:
    """With the test labels shuffled the same policy is chosen from the same scores; the proof differs."""
    candidate, human, test = noisy
    labels = np.random.default_rng(0).permutation(np.array(test.labels()))
    wrong = test.with_column("label", labels.tolist())
    settings = {"orders": ["agreement"], "filters": ["exact_duplicates"], "budget": "small", "seeds": 1}
    one = auto_curate(candidate, human, test, **settings)
    other = auto_curate(candidate, human, wrong, **settings)
    assert one.tried == other.tried
    assert one.chosen == other.chosen
    assert one.kept.ids == other.kept.ids
    assert one.proofs != other.proofs


def test_a_fold_sees_nothing_of_its_own_records() -> None:
    """Copies of a fold's human records, and records made from them, are no candidates there."""
    human = written(60, 1)
    copies = karat_records.from_rows(
        [{"id": f"c{i}", "text": text.upper() + "!", "label": "sea"} for i, text in enumerate(human.texts())]
    )
    children = karat_records.from_rows(
        [{"id": f"k{i}", "text": f"child {i}", "label": "sea"} for i in range(60)]
    ).with_lineage(parents=[[identity] for identity in human.ids])
    search = Search(human, copies.concat(children), _linear(), "macro_f1", 4, 0, None, None, None)
    tested = []
    for fold in search.folds:
        out = {human.ids[i] for i in fold.test.tolist()}
        assert not set(fold.train.tolist()) & set(fold.test.tolist())
        for identity in fold.candidate.ids:
            assert human.ids[int(identity[1:])] not in out
        tested += fold.test.tolist()
    assert list(range(60)) == sorted(tested)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(("exact_duplicates", "length:min=6")),
        Recipe(("exact_duplicates", "length:min=6"), "agreement"),
        Recipe((), "influence", "matching"),
    ],
)
def test_parts_that_recipes_share_keep_what_each_recipe_would_keep_alone(recipe: Recipe) -> None:
    """Running filters one by one, and each part once, changes neither what is kept nor its order."""
    human = written(80, 1)
    candidate = written(120, 2, noise=0.3, name="g").concat(written(40, 2, noise=0.3, name="h"))
    search = Search(human, candidate, _linear(), "macro_f1", 4, 0, None, None, None)
    for fold, at in enumerate(search.folds):
        expected = apply(recipe, at.candidate, human.take(at.train))
        np.testing.assert_array_equal(expected, search._kept(recipe, fold))


def test_an_ordering_is_run_once_where_filters_drop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes whose filters leave the same records share what is ordered."""
    from karat.valuation import auto

    seen = []

    def counted(recipe: Recipe, *sides: Records, **how: object) -> object:
        seen.append(recipe)
        return apply(recipe, *sides, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(auto, "apply", counted)
    search = Search(written(60, 1), written(60, 2, name="g"), _linear(), "macro_f1", 3, 0, None, None, None)
    for filters in ((), ("exact_duplicates",), ("exact_duplicates", "refusals")):
        search._kept(Recipe(filters, "agreement"), 0)
    assert [("exact_duplicates",), ("refusals",)] == [one.filters for one in seen if one.filters]
    assert 1 == sum(bool(one.order) for one in seen)


def test_who_is_far_behind_leaves_the_race() -> None:
    """Noise of 0.01 on every fold: 0.2 behind is out, 0.01 behind stays, human only and union always do."""
    rng = np.random.default_rng(0)
    near, far = Policy(share=0.75), Policy(share=0.25)
    others = [Policy(share=0.5, human=k) for k in range(1, 6)]
    level = {HUMAN_ONLY: 0.1, UNION: 0.5, near: 0.49, far: 0.3, **dict.fromkeys(others, 0.5)}
    fold = np.array([0.0, 0.3])  # hard and easy folds are no noise
    scored = {one: (value + fold + rng.normal(0, 0.01, 2)).tolist() for one, value in level.items()}
    stay = still_racing(list(level), scored)
    assert far not in stay
    assert {HUMAN_ONLY, UNION, near, *others} == set(stay)


def _linear() -> object:
    from karat import registry

    return registry.make("trainers", "linear")


def test_worthless_candidates_are_left_out() -> None:
    """Where all labels are random, human records alone are chosen or next to nothing is kept."""
    found = auto_curate(
        written(900, 5, noise=1.0, name="g"),
        written(300, 1),
        written(500, 3),
        orders=["agreement"],
        filters=["exact_duplicates"],
        budget="small",
        seeds=2,
    )
    assert UNION != found.chosen
    union = next(row for row in found.proofs if row.name == "plain union")
    assert union.gain_interval is not None and union.gain_interval[0] > 0
    if not found.chosen.synthetic:
        assert 0 == len(found.kept) and "human records alone" in found.dropped.column("reason")[0]
        assert "" == found.command


def tried(policy: Policy, *scores: float) -> Tried:
    return Tried(policy, scores, True)


def test_of_equally_good_policies_the_simplest_is_chosen() -> None:
    """Within one standard error of the paired difference fewer choices win; beyond it the better score."""
    complex_one = Policy(Recipe(("exact_duplicates",), "agreement"), 0.5)
    near = [
        tried(complex_one, 0.50, 0.52, 0.55),
        tried(UNION, 0.51, 0.50, 0.54),
        tried(HUMAN_ONLY, 0.3, 0.3, 0.3),
    ]
    assert UNION == choose(near)
    clear = [tried(complex_one, 0.60, 0.62, 0.61), tried(UNION, 0.50, 0.52, 0.51)]
    assert complex_one == choose(clear)


def test_rows_of_a_policy_are_the_best_share_beside_repeated_human_ones() -> None:
    """The kept share is a prefix; human records stand as often as the policy says."""
    kept, human = np.array([9, 7, 8, 6]), np.array([0, 1])
    assert [0, 0, 1, 1, 9, 7] == rows(Policy(share=0.5, human=2), kept, human).tolist()
    assert [0, 1] == rows(HUMAN_ONLY, kept, human).tolist()


def test_what_cannot_be_run_is_told_and_does_not_end_the_search() -> None:
    """A part that does not suit the records is reported with its reason."""
    found = auto_curate(
        written(200, 2, name="g"),
        written(100, 1),
        written(150, 3),
        orders=["confidence"],
        filters=["exact_duplicates"],
        mixtures=["uniform"],
        budget="small",
        seeds=1,
    )
    assert {"--order confidence", "--mixture uniform"} <= {flags for flags, _ in found.failed}
    assert RANDOM in [row.name for row in found.proofs]


def test_json_and_report_say_what_was_tried() -> None:
    """The JSON holds the choice as a command, the scores of all that was tried, and the proof."""
    found = auto_curate(
        written(200, 2, name="g"),
        written(100, 1),
        written(150, 3),
        orders=["agreement"],
        filters=["exact_duplicates"],
        budget="small",
        seeds=2,
        fits=12,
    )
    printed = json.loads(json.dumps(found.to_json()))
    assert {"chosen", "human only", "plain union", RANDOM} == {row["name"] for row in printed["test"]}
    assert printed["validation"]["fits"] <= 12
    assert found.verdict == printed["verdict"]
    assert ["The choice on the test records", "What was tried"] == [
        getattr(block, "title", "") for block in found.__report__()[0].blocks
    ][2:4]
    some = found.kept.ids[0] if len(found.kept) else found.dropped.ids[0]
    assert found.why(some).startswith(f"{some}: ")


def test_settings_that_make_no_sense_are_refused() -> None:
    """Too few folds or records, an unknown score."""
    candidate, human, test = written(50, 2, name="g"), written(50, 1), written(50, 3)
    with pytest.raises(BadSetting, match="folds is 1"):
        auto_curate(candidate, human, test, folds=1)
    with pytest.raises(NotEnoughData, match="cannot be cut into 5 folds"):
        auto_curate(candidate, human.slice(0, 12), test)
    with pytest.raises(BadSetting, match="no score named 'bleu'"):
        auto_curate(candidate, human, test, metric="bleu")


def test_a_larger_budget_tries_more() -> None:
    """Each budget holds human-only and the plain union first, and more policies than the one below."""
    sizes = [len(space("classification", budget)) for budget in ("small", "medium", "large")]
    assert sizes == sorted(set(sizes))
    assert (HUMAN_ONLY, UNION) == space("translation", "small")[:2]
