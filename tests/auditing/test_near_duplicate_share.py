"""Records that are nearly copies: counted as all pairs count them, found where planted and where known."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from audit_corpora import corpus, write

from karat.auditing import statistics as stats
from karat.auditing.near_duplicates import alike
from karat.auditing.stage import audit
from karat.texts.neighbours import Sets, minhash_bands, sets_of, shingles, similar_pairs
from karat.texts.tokens import fold, mix, tokenise


def rows_of(data_dir: Path, name: str, file: str) -> list[dict[str, Any]]:
    """The records of a data set."""
    with gzip.open(data_dir / name / f"{file}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def sets(texts: list[str], n: int) -> Sets:
    """The shingles of texts."""
    tokens = tokenise(pa.array(texts, pa.large_string()))
    hashes, owner = shingles(tokens, n)
    return sets_of(hashes, owner, len(texts))


def by_hand(texts: list[str], n: int) -> list[set[tuple[str, ...]]]:
    """The same with words; a text of fewer words than a shingle is one as a whole."""
    found = []
    for text in texts:
        words = text.split()
        runs = {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
        found.append(runs if len(words) >= n else {("whole", *words)})
    return found


def edited(texts: list[str], rng: np.random.Generator, edits: int) -> list[str]:
    """The same texts with some words replaced."""
    out = []
    for text in texts:
        words = text.split()
        for at in rng.integers(0, len(words), edits):
            words[at] = f"new{rng.integers(1 << 30)}"
        out.append(" ".join(words))
    return out


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("threshold", [0.4, 0.8])
def test_shares_under_masks_are_those_of_all_pairs(n: int, threshold: float) -> None:
    """For any union of groups: the records that have an earlier near-duplicate among the chosen ones."""
    rng = np.random.default_rng(n)
    texts = [*write(40, seed=n, words=80, length=10), "", "", "a b", "a b", "a c"]
    texts += edited(texts[:30], rng, 1) + texts[5:10]
    keys = rng.permutation(len(texts)).astype(np.uint64)
    groups = rng.integers(0, 6, len(texts))
    names = pa.array([str(i) for i in range(len(texts))], pa.large_string())
    masks = rng.random((12, 6)) < 0.6
    masks[0], masks[1] = True, False
    held = by_hand(texts, n)
    expected = []
    for mask in masks:
        rows = sorted((i for i in range(len(texts)) if mask[groups[i]]), key=lambda i: keys[i])
        late = [
            any(len(held[i] & held[j]) >= threshold * len(held[i] | held[j]) - 1e-9 for j in rows[:place])
            for place, i in enumerate(rows)
        ]
        expected.append(np.mean(late) if rows else np.nan)
    found = alike(sets(texts, n), keys, groups, names, threshold)
    assert expected == pytest.approx(found.shares(masks).tolist(), nan_ok=True)
    window = found.window(2, 5)
    inside = (groups >= 2) & (groups < 5)
    part = alike(
        sets([t for t, one in zip(texts, inside, strict=True) if one], n),
        keys[inside],
        groups[inside] - 2,
        names.filter(pa.array(inside)),
        threshold,
    )
    halves = rng.random((8, 3)) < 0.6
    assert part.shares(halves).tolist() == pytest.approx(window.shares(halves).tolist(), nan_ok=True)


def test_planted_near_duplicates_are_found_with_their_share() -> None:
    """A fifth of the records are others with another first word: the interval covers a fifth."""
    texts = write(400, seed=1, words=2000, length=40)
    whole = texts + [f"new{i} {text.partition(' ')[2]}" for i, text in enumerate(texts[:100])]
    found = audit(
        corpus(whole), corpus(write(500, seed=2, words=2000, length=40)), metrics=["near_duplicate_share"]
    )
    score = found.scores[0]
    assert score.interval is not None and score.interval[0] < 0.2 < score.interval[1]
    assert score.p is not None and score.p < 0.001 and 0.0 == score.reference
    planted = set(texts[:100]) | set(whole[400:])
    assert {one.text for one in found.evidence} <= planted and len(found.evidence) == 8
    assert "near-duplicates, among them" in found.evidence[0].reason


def test_one_copy_and_no_copy() -> None:
    """Case, sentence marks and spaces do not matter; all copies but the first are counted."""
    texts = ["One two three.", "one, two three", "ONE  TWO THREE!", *write(7, seed=1)]
    assert 0.2 == pytest.approx(audit(corpus(texts), metrics=["near_duplicate_share"]).scores[0].value)
    kept = audit(corpus(texts), metrics=["near_duplicate_share:fold=false"]).scores[0]
    assert 0.0 == kept.value and kept.interval is not None and kept.interval[1] > 0.1


def test_more_records_than_the_limit_are_a_sample_that_says_so() -> None:
    """The signature names the records that were looked at."""
    found = audit(corpus(write(300, seed=1)), metrics=["near_duplicate_share:limit=100"]).scores[0]
    assert 100 == found.n and "sample:100-records" in found.signature


def test_minhash_finds_what_it_says_and_nothing_false() -> None:
    """Pairs at exactly the threshold are found as often as the recall says; what is found is exact."""
    rng = np.random.default_rng(1)
    hashes, owner = [], []
    for pair in range(300):  # 8 shared shingles of 10: a coefficient of exactly 0.8
        drawn = mix(rng.integers(0, 1 << 62, 10).astype(np.uint64))
        hashes += [drawn[:9], np.r_[drawn[:8], drawn[9]]]
        owner += [np.full(9, 2 * pair), np.full(9, 2 * pair + 1)]
    some = sets_of(np.concatenate(hashes), np.concatenate(owner), 600)
    found = similar_pairs(some, 0.8, method="minhash")
    assert minhash_bands(0.8)[2] == found.recall > 0.99
    assert len(found.one) >= 300 * found.recall - 6
    assert np.allclose(found.jaccard, 0.8) and (found.other == found.one + 1).all()
    for threshold in (0.3, 0.5, 0.9):
        assert minhash_bands(threshold)[2] >= 0.99


def test_a_join_of_nothing_ends() -> None:
    """No record, one record, empty records, and records that share nothing have no pairs."""
    for texts in ([], ["a"], ["", ""], ["a b c d e f", "g h i j k l"]):
        pairs = similar_pairs(
            sets(texts, 3) if texts else Sets(np.zeros(0, np.uint64), np.zeros(1, np.int64)), 0.8
        )
        assert (len(pairs.one) == 1) == (texts == ["", ""])


def test_shards_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same value and evidence with a corpus in one shard and in many."""
    texts = write(300, seed=3, words=60, length=8)
    metric = [
        "near_duplicate_share:n=2,threshold=0.5,limit=200",
        "mattr:window=50",
        "levenshtein:distinct=40",
    ]
    expected = audit(corpus(texts), corpus(write(250, seed=4, words=60, length=8)), metrics=metric)
    monkeypatch.setattr("karat.auditing.passes._SHARD_RECORDS", 37)
    found = audit(corpus(texts), corpus(write(250, seed=4, words=60, length=8)), metrics=metric)
    assert [(s.value, s.p, s.chance, s.n) for s in expected.scores] == [
        (s.value, s.p, s.chance, s.n) for s in found.scores
    ]
    assert expected.evidence == found.evidence


def test_known_repeats(data_dir: Path) -> None:
    """Generated reviews repeat 476 of 6,000 texts; their near-duplicates are those and twice as many more."""
    rows = rows_of(data_dir, "supergen_open", "sst2")
    texts = [row["text"] for row in rows if row["split"] == "synthetic_train"]
    names = ["duplicate_share:normalise=true", "near_duplicate_share:threshold=1.0", "near_duplicate_share"]
    exact, equal, near = (one.value for one in audit(corpus(texts), metrics=names).scores)
    assert 476 == round(exact * len(texts))
    assert exact <= equal <= near
    assert 0.2 < near < 0.27


def test_published_near_duplicate_filters_agree(data_dir: Path) -> None:
    """What a published filter at 0.8 dropped has a near-duplicate far more often, and is what is found."""
    rows = rows_of(data_dir, "gpteacher_toolformer", "toolformer")
    texts = ["\n".join((row["instruction"], row["input"], row["output"])) for row in rows]
    some = sets(fold(pa.array(texts, pa.large_string())).to_pylist(), 5)
    pairs = similar_pairs(some, 0.6)
    likeness = np.zeros(len(texts))
    np.maximum.at(likeness, pairs.one, pairs.jaccard)
    np.maximum.at(likeness, pairs.other, pairs.jaccard)
    dropped = {level: np.array([not row[f"kept_at_0_{level}"] for row in rows]) for level in (6, 7, 8, 9)}
    found = likeness >= 0.8
    assert (found & dropped[8]).sum() > 0.85 * found.sum()
    assert (found & dropped[6]).sum() > 0.95 * found.sum()
    for level, least in ((8, 0.7), (9, 0.75)):
        ranking = stats.auc(likeness[dropped[level]], likeness[~dropped[level]])
        assert ranking.auc > least, f"{level}: {ranking.auc}"
