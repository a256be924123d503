"""Gates keep out what was written before and what stands in a test set, and say which record it is like."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from karat.errors import BadSetting
from karat.generation import gates
from karat.generation.gates import Contamination, Gate, Language, Length, Novelty, shingles, words


def rows_of(data_dir: Path, name: str) -> list[dict[str, Any]]:
    """The records of a data set."""
    with gzip.open(data_dir / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def admitted(gate: Gate, texts: list[str]) -> list[str]:
    """The reason for each text, in order."""
    return [gate.admit(f"r{i}", text) for i, text in enumerate(texts)]


# ----------------------------------------------------------------------------------------- novelty


def test_the_first_of_two_stays_and_the_other_names_it() -> None:
    """Case, marks, apostrophes and Unicode form make no new text; nor does a word that is exchanged."""
    gate = Novelty()
    texts = [
        "I can't top-up my card at the shop, and I do not know why.",
        "i cant top up my card at the shop and I do not know why",
        "I can’t top‑up my card at the shop, and I do not know how!",
        "Where is my parcel?",
    ]
    reasons = admitted(gate, texts)
    assert ["", "the same text as r0", "nearly the same text as r0 (Jaccard 0.87)", ""] == reasons
    assert 2 == len(gate)


def test_human_records_are_known() -> None:
    """A copy of a human record is named as such; what is like only a rejected text comes in."""
    gate = Novelty()
    gate.know([("h7", "Where is my parcel?"), ("h8", "Where is my parcel?")])
    assert "the same text as human record h7" == gate.admit("r0", "Where is my parcel")
    assert "" == gate.admit("r1", "My parcel has been lost, it seems")


@pytest.mark.parametrize(
    "text",
    ["这部电影很好看，我非常喜欢它的音乐和演员的表演", "とても良い映画でしたので、また見たいと思います"],
)
def test_scripts_without_blanks_have_shingles(text: str) -> None:
    """One character exchanged in a Chinese or Japanese text does not make it new; another text is."""
    gate = Novelty()
    reasons = admitted(gate, [text, text[:-1] + "吗", "".join(sorted(text))])
    assert reasons[0] == reasons[2] == ""
    assert reasons[1].startswith("nearly the same text as r0")


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.8, 1.0])
@pytest.mark.parametrize("n", [1, 2])
def test_every_pair_is_found(threshold: float, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes in is what comparing all with all lets in, with the same reasons; also beyond rebuilding."""
    monkeypatch.setattr(gates, "_REBUILT", 32)
    chance = random.Random(n)
    vocabulary = [f"w{int(chance.paretovariate(0.7)) % 900}" for _ in range(400)]
    texts = [" ".join(chance.choices(vocabulary, k=chance.randrange(1, 12))) for _ in range(600)]
    kept: list[tuple[str, str, frozenset[int]]] = []
    expected = []
    for i, text in enumerate(texts):
        own = shingles(words(text), n)
        same = next((name for name, other, _ in kept if other == text), "")
        found = [(len(own & one) / len(own | one), -j, kept[j][0]) for j, (_, _, one) in enumerate(kept)]
        best = max(found, default=(0.0, 0, ""))
        if same:
            expected.append(f"the same text as {same}")
        elif best[0] >= threshold - 1e-9:
            expected.append(f"nearly the same text as {best[2]} (Jaccard {best[0]:.2f})")
        else:
            kept.append((f"r{i}", text, own))
            expected.append("")
    assert len(kept) > 32
    assert expected == admitted(Novelty(threshold=threshold, n=n), texts)


def lcs(one: list[str], other: list[str]) -> int:
    """The length of the longest common subsequence, by the textbook's table."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for j, held in enumerate(other, 1):
            before, row[j] = row[j], before + 1 if word == held else max(row[j], row[j - 1])
    return row[-1]


def test_rouge_is_the_rule_of_self_instruct() -> None:
    """A text comes in when its ROUGE-L F with all before is under the threshold."""
    chance = random.Random(3)
    texts = [" ".join(chance.choices("abcdefg", k=chance.randrange(3, 9))) for _ in range(300)]
    kept: list[list[str]] = []
    expected = []
    for text in texts:
        own = text.split()
        new = all(2 * lcs(own, one) / (len(own) + len(one)) < 0.7 - 1e-9 for one in kept)
        expected.append(new)
        kept += [own] if new else []
    reasons = admitted(Novelty(by="rouge"), texts)
    assert expected == [not reason for reason in reasons]
    assert any("ROUGE-L 0.7" in reason for reason in reasons)


def test_human_queries_of_a_narrow_domain_mostly_come_in(data_dir: Path) -> None:
    """Of 13,083 queries that people asked a bank, one in twenty is like an earlier one."""
    rows = rows_of(data_dir, "banking77/banking77")
    reasons = admitted(Novelty(), [row["text"] for row in rows])
    assert 0.03 < sum(map(bool, reasons)) / len(reasons) < 0.06
    assert 45 <= sum(reason.startswith("the same") for reason in reasons) <= 60


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"threshold": 1.5}, {"n": 0}, {"by": "cosine"}])
def test_wrong_settings_are_named(wrong: dict[str, Any]) -> None:
    """One line with the setting and its value."""
    with pytest.raises(BadSetting, match=rf"{next(iter(wrong))}="):
        Novelty(**wrong)


# ----------------------------------------------------------------------------------- contamination

LONG = (
    "A train leaves the station at nine with forty people and ten of them get off "
    "at the next stop so how many stay"
)


def test_a_test_record_is_found_whole_or_in_part() -> None:
    """The text itself, most of its 13-grams, a short one inside a longer text; each names the record."""
    gate = Contamination([("t1", LONG), ("t2", "Yes!"), ("t3", "Why is the sky blue?")])
    assert "the same text as test record t1" == gate.admit("r", LONG.upper() + "?")
    assert "holds 100% of the 13-grams of test record t1" == gate.admit(
        "r", f"Please solve: {LONG}. Thank you"
    )
    assert "holds 50% of the 13-grams of test record t1" == gate.admit("r", " ".join(LONG.split()[:18]))
    assert "" == gate.admit("r", " ".join(LONG.split()[:17]))
    assert "holds the whole text of test record t3" == gate.admit("r", "Tell me why is the sky blue, teacher")
    assert "" == gate.admit("r", "Yes! I would go again.")
    assert "the same text as test record t2" == gate.admit("r", "yes")
    assert "holds 8%" in Contamination([("t1", LONG)], share=0.0).admit("r", " ".join(LONG.split()[2:15]))


def test_paraphrases_are_found_where_they_are_looked_for(data_dir: Path) -> None:
    """Of 660 rephrased questions six of seven are kept out, each for its own original; of 659 others, 1%."""
    rows = rows_of(data_dir, "contam_gsm8k/contam_gsm8k")
    gate = Contamination([(str(i), row["original"]) for i, row in enumerate(rows[:660])], near=0.25)
    reasons = [gate.admit("", row["rephrased"]) for row in rows]
    own = [reason.endswith(f"test record {i}") for i, reason in enumerate(reasons[:660])]
    assert 0.85 < sum(own) / 660
    assert sum(map(bool, reasons[660:])) / 659 < 0.02
    exact = Contamination([(str(i), row["original"]) for i, row in enumerate(rows)])
    assert all(exact.admit("", f"Question: {row['original']}") for row in rows)


# --------------------------------------------------------------------------------- length, language


def test_length_and_language_are_told() -> None:
    """Too short, too long, another language: the size and what was found stand in the reason."""
    assert "has 2 words, fewer than 3" == Length(3).admit("r", "too short")
    assert "has 9 characters, more than 5" == Length(1, 5, "characters").admit("r", "too short")
    assert "" == Length(2, 2).admit("r", "very good")
    german = Language("de")
    assert "is written in 'en', not in 'de'" == german.admit("r", "The film is good and I liked it.")
    assert "" == german.admit("r", "Der Film ist gut und ich mochte ihn.")
    assert "" == german.admit("r", "Gut!")
