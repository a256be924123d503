"""Tables of counts by group, token streams and near-duplicates: any union of groups equals counting anew."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from karat.auditing.grams import GramKeys
from karat.auditing.lexical import rarefied
from karat.auditing.sequences import Sequences, SequencesPart, first_records, whole_hashes
from karat.auditing.spectra import Spectrum, joined, stack_spectrum
from karat.texts.tokens import mix


def drawn(seed: int, groups: int, size: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of n-grams with a long tail, and the group of each."""
    rng = np.random.default_rng(seed)
    types = mix(np.arange(3000, dtype=np.uint64))
    return types[np.minimum(rng.zipf(1.3, size) - 1, 2999)], rng.integers(0, groups, size).astype(np.uint8)


def counted(hashes: np.ndarray) -> list[tuple[int, int]]:
    """The frequency spectrum, by hand."""
    return sorted(Counter(Counter(hashes.tolist()).values()).items())


def spectra(spectrum: Spectrum, masks: np.ndarray) -> list[list[tuple[int, int]]]:
    return [list(zip(c.tolist(), t.tolist(), strict=True)) for c, t in spectrum.frequencies(masks)]


def test_the_spectrum_under_any_mask_is_that_of_counting_anew() -> None:
    """How many n-grams occur once, twice ... in any union of groups, and how many there are in all."""
    hashes, groups = drawn(0, 9)
    masks = np.random.default_rng(1).random((20, 9)) < 0.5
    masks[0], masks[1] = True, False
    found = stack_spectrum([GramKeys.of(hashes, groups)], [0], 9)
    assert [counted(hashes[mask[groups]]) for mask in masks] == spectra(found, masks)
    assert [int(mask[groups].sum()) for mask in masks] == found.totals(masks).tolist()


def test_a_window_sees_its_own_groups_only() -> None:
    """Two corpora side by side: each window has the spectrum of its corpus, the pool that of both."""
    one, of_one = drawn(2, 5)
    other, of_other = drawn(3, 5, 2500)
    whole = stack_spectrum([GramKeys.of(one, of_one), GramKeys.of(other, of_other)], [0, 5], 15)
    every = np.ones((1, 5), bool)
    assert [counted(one)] == spectra(whole.window(0, 5), every)
    assert [counted(other)] == spectra(whole.window(5, 10), every)
    pool = whole.window(0, 10)
    assert [counted(np.concatenate([one, other]))] == spectra(pool, np.ones((1, 10), bool))
    half = np.array([[True] * 2 + [False] * 3 + [False] * 4 + [True]])
    assert [counted(np.concatenate([one[of_one < 2], other[of_other == 4]]))] == spectra(pool, half)


def test_shards_and_ranges_add_up_in_any_grouping() -> None:
    """Shards in any order, and ranges of hashes, give the same tables."""
    hashes, groups = drawn(4, 6)
    masks = np.random.default_rng(5).random((6, 6)) < 0.5
    whole = stack_spectrum([GramKeys.of(hashes, groups)], [0], 6)
    parts = [GramKeys.of(hashes[rows], groups[rows]) for rows in np.array_split(np.arange(4000), 7)]
    merged = parts[3]
    for i in (6, 0, 2, 5, 1, 4):
        merged = merged.merged(parts[i])
    assert spectra(whole, masks) == spectra(stack_spectrum([merged], [0], 6), masks)
    low = hashes < np.uint64(1 << 63)
    halves = [stack_spectrum([GramKeys.of(hashes[some], groups[some])], [0], 6) for some in (low, ~low)]
    assert spectra(whole, masks) == spectra(joined(halves), masks)


def test_nothing_has_an_empty_spectrum() -> None:
    """A corpus without n-grams."""
    none = GramKeys.of(np.zeros(0, np.uint64), np.zeros(0, np.uint8))
    found = stack_spectrum([none, none], [0, 3], 9)
    assert [[], []] == spectra(found.window(0, 6), np.ones((2, 6), bool))
    assert [0] == found.totals(np.ones((1, 9), bool)).tolist()


def test_expected_types_of_some_groups_are_means_over_all_choices() -> None:
    """Types of j of 6 groups, over all choices of j, against taking them one by one."""
    from itertools import combinations

    hashes, groups = drawn(6, 6, 600)
    shared = np.bincount([len(set(groups[hashes == one].tolist())) for one in np.unique(hashes)])
    expected = [
        np.mean([len(np.unique(hashes[np.isin(groups, some)])) for some in combinations(range(6), j)])
        for j in range(1, 7)
    ]
    sizes = np.zeros(6)
    sizes[: len(shared) - 1] = shared[1:]
    assert expected == pytest.approx(rarefied(np.arange(1, 7), sizes, 6).tolist())


def sequences(rng: np.random.Generator, n: int, groups: int) -> Sequences:
    lengths = rng.integers(0, 9, n)
    hashes = mix(rng.integers(0, 5, int(lengths.sum())).astype(np.uint64))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Sequences(
        hashes, offsets, rng.integers(0, 1 << 62, n).astype(np.uint64), rng.integers(0, groups, n)
    )


@pytest.mark.parametrize(("limit", "most"), [(0, 0), (12, 0), (0, 40), (9, 25)])
def test_a_hash_sample_does_not_feel_shards(limit: int, most: int) -> None:
    """The first records by hash are the same however the corpus is cut, for each side by itself."""
    whole = sequences(np.random.default_rng(limit + most), 60, 8)
    expected = SequencesPart(whole, limit, most, 4).first().some
    merged = None
    for rows in np.array_split(np.random.default_rng(1).permutation(60), 5):
        part = SequencesPart(whole.take(rows), limit, most, 4).first()
        if merged is None:
            merged = part
        else:
            merged = SequencesPart(merged.some.joined(part.some), limit, most, 4).first()
    assert merged is not None
    assert expected.by_key().keys.tolist() == merged.some.by_key().keys.tolist()
    assert expected.by_key().hashes.tolist() == merged.some.by_key().hashes.tolist()
    for side in (0, 1):
        lengths = expected.lengths[expected.groups // 4 == side]
        assert limit == 0 or len(lengths) <= limit
        assert most == 0 or lengths[:-1].sum() < most  # all but the last record are needed


def test_the_record_that_reaches_the_limit_is_kept() -> None:
    """By hand: keys 1 to 4 with 3 tokens each, 7 tokens wanted: three records."""
    keys = np.array([40, 10, 30, 20], np.uint64)
    found = first_records(keys, np.zeros(4, np.int64), np.full(4, 3), 0, 7)
    assert [10, 20, 30] == keys[found].tolist()


def test_whole_records_are_equal_where_their_tokens_are() -> None:
    """Equal runs of tokens have equal hashes; another order or length has another."""
    some = sequences(np.random.default_rng(3), 400, 2)
    texts = [tuple(some.hashes[a:b].tolist()) for a, b in zip(some.offsets, some.offsets[1:], strict=False)]
    hashes = whole_hashes(some).tolist()
    assert len(set(texts)) == len(set(hashes)) == len(set(zip(texts, hashes, strict=True)))
