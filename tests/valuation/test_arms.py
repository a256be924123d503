"""What arms promise: which records they hold, in which order, and that only the wanted thing differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from karat import records
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.records import Records
from karat.valuation.arms import Arm, Builder, Built, Pool, parse, pool, standard

GENERATORS = ("strong", "weak")


def labelled(n: int, name: str, generator: str | None = None) -> Records:
    rows = []
    for i in range(n):
        row: dict[str, Any] = {"id": f"{name}{i}", "text": f"{name} text {i}", "label": "ab"[i % 2]}
        row["quality"] = float((i * 37) % n)
        row["lineage"] = {"source": "synthetic" if generator else "human", "generator": generator}
        rows.append(row)
    return records.from_rows(rows, datatype="classification")


def translated(n: int, generator: str | None = None, skip: int = 0) -> Records:
    rows = [
        {
            "id": f"{generator}{i}",
            "source": f"Satz {i}",
            "target": f"sentence {i} by {generator or 'people'}",
            "lineage": {"source": "synthetic" if generator else "human", "generator": generator},
        }
        for i in range(skip, n)
    ]
    return records.from_rows(rows, datatype="translation")


def shared(item: str = "") -> Pool:
    """A pool in which two generators translated what people translated."""
    both = translated(60, "weak").concat(translated(64, "strong", skip=4))
    return pool(translated(50), both, translated(90, skip=80), item=item)


def plain() -> Pool:
    both = labelled(60, "w", "weak").concat(labelled(40, "s", "strong"))
    return pool(labelled(50, "h"), both, labelled(10, "t"))


def built(found: Pool, spec: str, seeds: int = 3, **more: Any) -> Built:
    return Builder(found, seeds, **more).build(parse(spec, tuple(found.sources)))


def ids(found: Pool, order: np.ndarray) -> list[str]:
    return found.records.take(order).ids


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("real", Arm("real", "real")),
        ("real@0.25", Arm("real@0.25", "real", fraction=0.25)),
        ("generated", Arm("generated", "generated")),
        ("generated:weak", Arm("generated:weak", "generated", source="weak")),
        ("mix:uniform", Arm("mix:uniform", "mix", "uniform")),
        ("ordered:oracle:field=a@b", Arm("ordered:oracle:field=a@b", "ordered", "oracle:field=a@b")),
        ("ordered:random@weak", Arm("ordered:random@weak", "ordered", "random", "weak")),
        ("filtered:random", Arm("filtered:random", "filtered", "random")),
        ("detector", Arm("detector", "ordered", "human_likeness")),
        ("detector@strong", Arm("detector@strong", "ordered", "human_likeness", "strong")),
        ("detector:folds=3", Arm("detector:folds=3", "ordered", "human_likeness:folds=3")),
    ],
)
def test_an_arm_is_written_as_a_text(spec: str, expected: Arm) -> None:
    """Each kind of arm has a text, and an @ inside of a setting is no generator."""
    assert expected == parse(spec, GENERATORS)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("orderd:random", "did you mean 'ordered'"),
        ("real@2", "between 0 and 1"),
        ("reel", "did you mean 'real'"),
        ("generated:weka", "did you mean 'weak'"),
        ("detector@weka", "did you mean 'weak'"),
        ("mix", "karat list mixtures"),
        ("ordered:", "karat list orderings"),
    ],
)
def test_a_wrong_arm_names_the_cure(spec: str, said: str) -> None:
    """A text that is no arm gives one line with what it may have meant."""
    with pytest.raises(BadSetting, match=r".") as error:
        parse(spec, GENERATORS)
    assert said in str(error.value)


def test_the_standard_arms_parse() -> None:
    """With several generators each is an arm of its own, and a mixture of them is one."""
    names = [parse(spec, GENERATORS).name for spec in standard(GENERATORS)]
    assert {"real", "generated:weak", "generated:strong", "mix:uniform", "detector"} <= set(names)
    assert "mix:uniform" not in standard(("only",))


def test_held_out_records_are_on_no_arm() -> None:
    """Human records, those held out, synthetic and test records share no position, and none is lost."""
    found = plain()
    spans = [found.human, found.held, found.synthetic, found.test]
    assert [40, 10, 100, 10] == [len(span) for span in spans]
    assert list(range(160)) == sorted(np.concatenate(spans).tolist())
    for spec in ("real", "generated", "mix:uniform", "ordered:random", "filtered:random"):
        for order in built(found, spec).orders:
            assert not set(order.tolist()) & {*found.held.tolist(), *found.test.tolist()}


def test_all_arms_share_one_base_order() -> None:
    """A generator's records come in the order in which they come among all; each seed has another one."""
    found = plain()
    every, own = built(found, "generated"), built(found, "generated:weak")
    for one, other in zip(every.orders, own.orders):
        mine = set(found.sources["weak"].tolist())
        assert [p for p in one.tolist() if p in mine] == other.tolist()
    assert every.orders[0].tolist() != every.orders[1].tolist()
    assert built(found, "real@0.25").orders[1].tolist() == built(found, "real").orders[1][:10].tolist()


def test_shared_items_come_in_the_same_order() -> None:
    """Every arm translates the same sentences in the same order; only who translated them differs."""
    found = shared()
    assert "source" == found.item_field and "46 items" in found.notes[0]
    real = built(found, "real")
    assert 36 == real.size
    for spec in ("generated:weak", "generated:strong", "mix:uniform"):
        for ours, theirs in zip(real.orders, built(found, spec).orders):
            sides = [found.records.take(order).column("source") for order in (ours, theirs)]
            assert sides[0] == sides[1], spec
    union = built(found, "generated")
    assert 72 == union.size
    first = found.records.take(union.orders[0][:36])  # each sentence once before any comes again
    assert found.records.take(real.orders[0]).column("source") == first.column("source")
    assert {"weak", "strong"} == set(first.lineage("generator"))


def test_generated_texts_know_what_people_wrote() -> None:
    """Synthetic translations of shared sentences carry the human one as reference; real ones carry none."""
    found = shared()
    rows = found.records.take(found.synthetic)
    assert [f"sentence {s.split()[1]} by people" for s in rows.column("source")] == rows.column("reference")


def test_sentences_that_are_not_shared_are_said() -> None:
    """Where the sides have different sentences, each arm draws its own; asked for by name it is an error."""
    ours, theirs = translated(40), translated(100, "weak", skip=35)
    found = pool(ours, theirs, translated(110, skip=105))
    assert found.items is None and "draw their own" in found.notes[0]
    with pytest.raises(InputError, match="no source is one of human records"):
        pool(ours, translated(100, "weak", skip=50), translated(110, skip=105), item="source")


def test_ordered_reversed_and_filtered() -> None:
    """Ordered arms go down by score, reversed ones up, and filtered ones lose the worst in base order."""
    found = plain()
    spec = "oracle:field=quality@weak"
    quality = np.array([np.nan if v is None else v for v in found.records.column("quality")])
    base = built(found, "generated:weak")
    for down, up, kept, start in zip(
        built(found, f"ordered:{spec}").orders,
        built(found, f"reversed:{spec}").orders,
        built(found, f"filtered:{spec}", drop=0.25).orders,
        base.orders,
    ):
        assert list(range(59, -1, -1)) == quality[down].tolist()
        assert list(range(60)) == quality[up].tolist()
        assert [p for p in start.tolist() if quality[p] >= 15] == kept.tolist()


def test_equal_scores_keep_the_base_order() -> None:
    """An ordering that scores all alike is the plain arm."""
    found = plain()
    flat = found.records.with_column("quality", [1.0] * len(found.records))
    object.__setattr__(found, "records", flat)
    for one, other in zip(
        built(found, "ordered:oracle:field=quality").orders, built(found, "generated").orders
    ):
        assert one.tolist() == other.tolist()


def test_records_without_a_score_come_last() -> None:
    """A record whose score is NaN is trained on last, in both directions, and filtered first."""
    found = plain()
    lost = {int(found.synthetic[3]), int(found.synthetic[70])}
    values = [None if i in lost else v for i, v in enumerate(found.records.column("quality"))]
    object.__setattr__(found, "records", found.records.with_column("quality", values))
    for spec in ("ordered:oracle:field=quality", "reversed:oracle:field=quality"):
        assert all(lost == set(order[-2:].tolist()) for order in built(found, spec).orders)
    filtered = built(found, "filtered:oracle:field=quality", drop=0.02)
    assert 98 == filtered.size and not any(lost & set(order.tolist()) for order in filtered.orders)


def test_a_random_order_is_another_one_for_each_seed() -> None:
    """The control draws anew for each seed, from the same records."""
    orders = built(plain(), "ordered:random").orders
    assert 3 == len({tuple(order.tolist()) for order in orders})
    assert 1 == len({tuple(sorted(order.tolist())) for order in orders})


def test_human_records_of_a_mixture_are_held_out_ones() -> None:
    """A mixture that adds human records draws them from those that no other arm trains on."""
    found = plain()
    for order in built(found, "mix:human_share:share=0.05").orders:
        added = set(order.tolist()) - set(found.synthetic.tolist())
        assert 5 == len(added) and added <= set(found.held.tolist())


def test_filters_by_name() -> None:
    """Any filter is an arm: what it keeps, in base order."""
    found = plain()
    arm = built(found, "filters:length:min=3+refusals")
    assert 100 == arm.size and "0 dropped" in arm.note
    assert [o.tolist() for o in built(found, "generated").orders] == [o.tolist() for o in arm.orders]


def test_nothing_left_is_an_error() -> None:
    """One human record is too few to hold any out."""
    with pytest.raises(NotEnoughData, match="2 of each are needed"):
        pool(labelled(1, "h"), labelled(9, "w", "weak"), labelled(5, "t"))
