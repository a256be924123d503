"""What decontamination promises, on planted test items and on test items that an LLM has rephrased."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from karat import records, registry
from karat.curation.base import Verdicts
from karat.curation.overlap import bound, ngram_overlap, words_of
from karat.errors import BadSetting, InputError, NotEnoughData
from karat.records import Records


def judged(against: Path, given: Records, **settings: object) -> Verdicts:
    """Run the filter against a file."""
    pairs = "".join(f",{key}={value}" for key, value in settings.items())
    found: Verdicts = registry.make("filters", f"decontaminate:{against}{pairs}").judge(given)
    return found


def kept_as(path: Path, texts: list[str]) -> Path:
    """Write texts as records."""
    return records.from_rows([{"text": text} for text in texts]).write(path)


def test_ngram_shares_are_those_of_sets() -> None:
    """The largest share of an item's n-grams that a record holds, against Python sets."""
    draw = np.random.default_rng(1)
    texts = [" ".join(f"w{k}" for k in draw.integers(0, 6, size)) for size in draw.integers(1, 30, 120)]
    ours, items = texts[:60], texts[60:]

    def grams(text: str, n: int) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    found = ngram_overlap(words_of(ours), words_of(items), 4, 2)
    for row, text in enumerate(ours):
        shares = []
        for item in items:
            size = min(4, len(item.split()))
            mine = grams(item, size)
            shares.append(len(mine & grams(text, size)) / len(mine) if size >= 2 else 0.0)
        assert max(shares) == pytest.approx(found.value[row])
        if max(shares) > 0:
            assert int(np.argmax(shares)) == found.item[row]


def test_a_record_that_holds_an_item_goes_and_the_reason_names_it(tmp_path: Path) -> None:
    """An item inside a long text, one up to case and stops, and a short one, are found; others stay."""
    long = "How many of the seventeen green bottles that hung on the old wall fell before noon today?"
    path = kept_as(tmp_path / "test.jsonl", [long, "Where is my card now?", "yes"])
    given = records.from_rows(
        [
            {"text": f"Some talk before. {long} And some talk after, of nothing in particular."},
            {"text": long.upper().rstrip("?")},
            {"text": "I asked him where is my card now, and he said yes."},
            {"text": "yes"},
            {"text": "yes, of course it is so"},
            {"text": "Nothing of it at all."},
            {"text": ""},
        ]
    )
    found = judged(path, given, kinds="exact+ngram")
    assert [0, 1, 2, 3] == sorted(found.reasons)
    assert found.reasons[1].startswith("exact")
    assert "share of 13-grams 1.000 with test item" in found.reasons[0]


def test_the_bound_lets_the_stated_share_of_different_items_through() -> None:
    """Over many draws the share of new items over the bound is at most the rate, and near it."""
    draw = np.random.default_rng(0)
    rates = [(draw.random(2000) >= bound(draw.random(199), 0.05)).mean() for _ in range(300)]
    assert pytest.approx(0.05, abs=0.004) == float(np.mean(rates))
    assert bound(draw.random(20), 0.01) == 1.0


@pytest.fixture(scope="module")
def rephrased(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records, int]:
    """Half of the GSM8K items as a file; rephrased ones of that half, of the other, then originals."""
    pairs = records.read(data_dir / "contam_gsm8k" / "contam_gsm8k.jsonl.gz", fields={"text": "original"})
    order = np.random.default_rng(0).permutation(len(pairs))
    half = len(pairs) // 2
    first, second = pairs.take(order[:half]), pairs.take(order[half:])
    path = kept_as(tmp_path_factory.mktemp("gsm") / "test.jsonl", first.texts())
    texts = [*first.column("rephrased"), *second.column("rephrased"), *second.texts()]
    return path, records.from_rows([{"text": text} for text in texts]), half


@pytest.mark.parametrize(
    ("settings", "recall"),
    [
        ({"kinds": "near"}, 0.78),
        ({"kinds": "semantic"}, 0.73),
        ({}, 0.84),
        ({"kinds": "near+semantic", "rate": 0.02}, 0.93),
    ],
)
def test_items_that_a_model_has_rephrased_are_found(
    rephrased: tuple[Path, Records, int], settings: dict[str, object], recall: float
) -> None:
    """Of 659 rephrased items most are found; negatives are the same kind of text for items not in the file.

    Measured: near 0.81, semantic (lsa) 0.76, all kinds 0.87 at 0.8 % false alarms among rephrased and 1.8 %
    among original other items; near+semantic at rate=0.02 0.95 at 2.0 % and 5.8 %; 13-grams find none.
    """
    path, given, half = rephrased
    gone = ~judged(path, given, **settings).kept
    rate = float(settings.get("rate", 0.01))  # type: ignore[arg-type]
    assert gone[:half].mean() > recall
    negatives = gone[half : half + 660]
    kinds = 1 if settings.get("kinds") in ("near", "semantic") else 2
    assert negatives.mean() < kinds * rate + 0.01


def test_ngrams_alone_find_no_rephrased_item(rephrased: tuple[Path, Records, int]) -> None:
    """The usual rule of 13-grams, and of 8-grams, misses every one of them: why the other kinds are there."""
    path, given, half = rephrased
    for n in (8, 13):
        assert judged(path, given, kinds="exact+ngram", n=n).kept[:half].mean() > 0.99


def test_the_field_of_the_test_file_can_be_named(tmp_path: Path) -> None:
    """A test file with other fields is read by the field that holds the item."""
    path = tmp_path / "bench.jsonl"
    path.write_text('{"question": "how many green bottles are there", "answer": "ten"}\n', "utf-8")
    given = records.from_rows([{"text": "How many green bottles are there?"}, {"text": "ten"}])
    assert [0] == sorted(judged(path, given, kinds="exact", test_field="question").reasons)


def test_a_test_file_without_a_text_names_the_setting_that_tells_its_field(tmp_path: Path) -> None:
    """--text-field is about the candidate, so the cure for the test file is the filter's own setting."""
    path = tmp_path / "bench.jsonl"
    path.write_text('{"question": "how many green bottles are there"}\n', "utf-8")
    given = records.from_rows([{"text": "ten"}])
    with pytest.raises(InputError, match=r"no field 'text'.*name it with test_field=question$"):
        judged(path, given)


def test_bad_input_is_named(tmp_path: Path) -> None:
    """No file, no text, too few items to calibrate on, unknown kinds: one line that says which."""
    given = records.from_rows([{"text": "a b c"}])
    with pytest.raises(InputError, match=r"none\.jsonl"):
        judged(tmp_path / "none.jsonl", given)
    with pytest.raises(NotEnoughData, match="no test record"):
        judged(kept_as(tmp_path / "empty.jsonl", ["", " "]), given)
    few = kept_as(tmp_path / "few.jsonl", ["a b c", "d e f"])
    with pytest.raises(NotEnoughData, match="too few to tell"):
        judged(few, given, kinds="near")
    assert [0] == sorted(judged(few, given).reasons)
    for bad in ("kinds=other", "n=1", "rate=0"):
        with pytest.raises(BadSetting, match=r"kinds has|n is|rate is"):
            registry.make("filters", f"decontaminate:{few},{bad}")
