"""What curate promises: both sides returned, order that means something or says so, honest mixtures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import karat
from karat import records, registry
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.records import Records
from karat.runs import Run

WORDS = [f"w{i}" for i in range(60)]


def side(n: int, *, seed: int, tilt: float, name: str = "x", **more: str) -> Records:
    """Records over 60 words; `tilt` moves weight to the first half of them."""
    rng = np.random.default_rng(seed)
    weights = np.r_[np.full(30, 1 + tilt), np.full(30, 1 - tilt)]
    rows = []
    for i in range(n):
        words = rng.choice(WORDS, 12, p=weights / weights.sum())
        rows.append({"id": f"{name}{i}", "text": " ".join(words), "label": "ab"[i % 2], **more})
    return records.from_rows(rows)


def test_both_sides_come_back_and_nothing_is_lost() -> None:
    """Kept and dropped together are the candidates; each dropped record has its filter and reason."""
    candidate = side(50, seed=1, tilt=0).concat(side(5, seed=1, tilt=0, name="copy"))
    found = karat.curate(candidate, filters=["exact_duplicates", "length:min=12"], top=40)
    assert sorted(candidate.ids) == sorted([*found.kept.ids, *found.dropped.ids])
    assert {"exact_duplicates": 5, "top": 10} == found.counts
    assert all(found.dropped.column("reason")) and all(found.dropped.column("filter"))
    assert "copy0: dropped by exact_duplicates: copy of x0" == found.why("copy0")
    assert "x49: dropped by top: place 50 of 50, over top=40" == found.why("x49")
    assert "x0: kept; no filter had a reason to drop it" == found.why("x0")
    with pytest.raises(InputError, match="nothing"):
        found.why("nothing")


def test_without_settings_all_records_are_kept_as_they_are() -> None:
    """No filter, no order, no mixture: the same records, and an empty dropped side with its columns."""
    candidate = side(10, seed=1, tilt=0)
    found = karat.curate(candidate)
    assert candidate.ids == found.kept.ids
    assert 0 == len(found.dropped) and found.dropped.has("reason") and found.dropped.has("filter")
    assert {} == found.counts


def test_a_record_is_dropped_by_the_first_filter_that_objects() -> None:
    """Filters run one after the other, and a later one does not see what an earlier one dropped."""
    candidate = records.from_rows([{"text": "a"}, {"text": "a"}, {"text": "a b c"}], datatype="text")
    found = karat.curate(candidate, filters=["length:min=2", "exact_duplicates"])
    assert {"length": 2} == found.counts
    assert ["<memory>:3"] == found.kept.ids


def test_the_order_puts_human_like_records_first() -> None:
    """Candidates of the human source come before those of another source; the figures say how sure."""
    human = side(200, seed=1, tilt=0.0, name="h")
    candidate = side(100, seed=2, tilt=0.0, name="like").concat(side(100, seed=3, tilt=0.8, name="odd"))
    found = karat.curate(candidate, human, order="human_likeness")
    first = sum(name.startswith("like") for name in found.kept.ids[:100])
    assert first > 68  # by chance 50
    scores = found.kept.column("order_score")
    assert sorted(scores, reverse=True) == scores
    assert found.order is not None and found.order.informative
    assert 0.6 < found.order.figures["auc"] < 0.9
    assert found.worst(1)[0]["order_score"] == min(scores)


def test_an_order_without_information_says_so() -> None:
    """Same source on both sides: information is claimed in 2.5 % of cases, here in at most one of eight."""
    results = [
        karat.curate(
            side(100, seed=s, tilt=0), side(100, seed=s + 1, tilt=0, name="h"), order="human_likeness"
        )
        for s in range(100, 116, 2)
    ]
    blind = [found for found in results if found.order is not None and not found.order.informative]
    assert len(blind) >= 7
    assert blind[0].order is not None
    assert "carries no information" in blind[0].order.note and "AUC 0." in blind[0].order.note
    assert ["no_information_ordering"] == [w["code"] for w in blind[0].to_json()["warnings"]]


def test_an_order_of_separate_sides_says_so_too() -> None:
    """No common word: every synthetic record is recognised, so the order ranks artefacts."""
    human = side(100, seed=1, tilt=0, name="h")
    candidate = records.from_rows([{"text": f"z{i} z{i + 1} zz", "label": "a"} for i in range(100)])
    found = karat.curate(candidate, human, order="human_likeness")
    assert found.order is not None and not found.order.informative
    assert "little information" in found.order.note


def test_an_order_needs_its_reference() -> None:
    """The error names the flag that mends it."""
    with pytest.raises(BadSetting, match="--reference HUMAN"):
        karat.curate(side(10, seed=1, tilt=0), order="human_likeness")


def test_a_random_order_repeats_with_its_seed_and_never_claims_information() -> None:
    """Same seed, same order; another seed, another order; no warning, since nobody expects any."""
    candidate = side(50, seed=1, tilt=0)
    one, two, other = (karat.curate(candidate, order="random", seed=s) for s in (3, 3, 4))
    assert one.kept.ids == two.kept.ids
    assert one.kept.ids != other.kept.ids
    assert () == one.warnings


def test_a_uniform_mixture_takes_each_source_equally_often_at_a_fixed_total() -> None:
    """40 of two sources of 30 and 100 are 20 each; the rest is dropped with its reason."""
    candidate = side(30, seed=1, tilt=0, name="a", generator="A").concat(
        side(100, seed=2, tilt=0, name="b", generator="B")
    )
    found = karat.curate(candidate, mixture="uniform", top=40)
    names = found.kept.column("generator")
    assert (20, 20) == (names.count("A"), names.count("B"))
    assert 90 == len(found.dropped)
    assert all("not drawn" in reason for reason in found.dropped.column("reason"))
    whole = karat.curate(candidate, mixture="uniform")
    assert (30, 30) == tuple(whole.kept.column("generator").count(name) for name in "AB")


def test_a_uniform_mixture_over_items_takes_one_generator_each() -> None:
    """With item= each prompt is answered once, by a generator drawn at random."""
    rows = [
        {"id": f"{g}{i}", "text": f"{g} says {i}", "label": "x", "generator": g, "prompt": f"p{i}"}
        for g in "AB"
        for i in range(200)
    ]
    found = karat.curate(records.from_rows(rows), mixture="uniform:item=prompt")
    assert 200 == len(found.kept) == len(set(found.kept.column("prompt")))
    assert 70 < found.kept.column("generator").count("A") < 130


def test_a_mixture_of_one_source_is_refused() -> None:
    """uniform over one generator is no mixture; the error names the field and the cure."""
    with pytest.raises(NotEnoughData, match="uniform:field="):
        karat.curate(side(10, seed=1, tilt=0), mixture="uniform")


def test_human_records_make_up_the_share_asked_for() -> None:
    """share=0.2 of a total of 50 is 10 human records, never one twice; without a total all stay."""
    candidate, human = side(100, seed=1, tilt=0), side(40, seed=2, tilt=0, name="h")
    found = karat.curate(candidate, human, mixture="human_share:share=0.2", top=50)
    added = [i for i in found.kept.ids if i.startswith("h")]
    assert 10 == len(added) == len(set(added)) == found.added
    assert 50 == len(found.kept) and 60 == len(found.dropped)
    whole = karat.curate(candidate, human, mixture="human_share:share=0.2")
    assert (125, 0) == (len(whole.kept), len(whole.dropped))
    with pytest.raises(NotEnoughData, match=r"a share of 0\.286 can be had"):
        karat.curate(candidate, human, mixture="human_share:share=0.5")


def test_a_filter_that_drops_everything_is_an_error() -> None:
    """An empty training set helps nobody."""
    with pytest.raises(NotEnoughData, match="drops all 10 records"):
        karat.curate(side(10, seed=1, tilt=0), filters=["length:min=99"])


def test_a_curated_set_can_be_kept_and_read_back(tmp_path: Path) -> None:
    """Run.step gives the same result again without running; the report has plain blocks."""
    candidate, human = side(60, seed=1, tilt=0.3), side(60, seed=2, tilt=0, name="h")
    run = Run(tmp_path)
    first = run.step(karat.curate, candidate, human, filters=["length"], order="human_likeness", top=30)
    second = Run(tmp_path).step(
        karat.curate, candidate, human, filters=["length"], order="human_likeness", top=30
    )
    assert first.to_json() == second.to_json()
    assert first.kept.ids == second.kept.ids
    assert "What was kept" == second.__report__()[0].title
    assert "30 of 60 records kept" in str(second)


def test_duplicates_of_a_published_set_are_found(data_dir: Path) -> None:
    """A CTRL-made set repeats 476 of 6,872 texts by its data sheet; folding dashes finds a few more."""
    found = records.read(data_dir / "supergen_open/sst2.jsonl.gz")
    dropped = registry.make("filters", "exact_duplicates").judge(found).reasons
    assert 476 <= len(dropped) <= 490
