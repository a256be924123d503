"""Counts under any union of groups against counting anew."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

from karat.auditing.grams import GramKeys, Ranges, added, count_range, stack_grams
from karat.executors.base import tree_reduce


def _world(seed: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    types = rng.integers(0, 1 << 63, 300, dtype=np.uint64)
    drawn = types[np.minimum(rng.zipf(1.4, 4000) - 1, 299)]
    return drawn, rng.integers(0, groups, 4000).astype(np.uint8)


def test_any_mask_equals_counting_anew() -> None:
    """Types, counts and squares under random masks equal those of the merged groups."""
    hashes, groups = _world(0, 9)
    grams = stack_grams([GramKeys.of(hashes, groups)], [0], 9).window(0, 9)
    masks = np.random.default_rng(1).random((30, 9)) < 0.5
    masks[0], masks[1] = True, False
    for mask, types, count, squares in zip(
        masks, grams.types(masks), grams.count(masks), grams.squares(masks), strict=True
    ):
        anew = Counter(hashes[mask[groups]].tolist())
        assert (len(anew), sum(anew.values())) == (types, count)
        assert sum(c * c for c in anew.values()) == pytest.approx(squares)


def test_shards_merge_in_any_grouping() -> None:
    """Cutting into shards and merging them in any order changes nothing."""
    hashes, groups = _world(2, 5)
    whole = stack_grams([GramKeys.of(hashes, groups)], [0], 5).window(0, 5)
    cuts = np.array_split(np.arange(4000), 7)
    parts = [GramKeys.of(hashes[rows], groups[rows]) for rows in cuts]
    left = parts[0]
    for part in parts[1:]:
        left = left.merged(part)
    right = parts[-1].merged(parts[2]).merged(parts[0].merged(parts[1].merged(parts[5])))
    right = right.merged(parts[4].merged(parts[3]))
    for merged in (left, right):
        again = stack_grams([merged], [0], 5).window(0, 5)
        assert (whole.gram == again.gram).all()
        assert (whole.sets == again.sets).all() and (whole.sizes == again.sizes).all()


def test_corpora_side_by_side_share_types() -> None:
    """The pool of two corpora counts a type of both once, and a window sees its own corpus only."""
    one, g1 = _world(3, 4)
    other, g2 = _world(3, 4)
    other = np.concatenate([other[:1000], one[:3000]])
    stacked = stack_grams([GramKeys.of(one, g1), GramKeys.of(other, g2)], [0, 4], 12)
    every = np.ones((1, 4), bool)
    assert len(set(one.tolist())) == stacked.window(0, 4).types(every)[0]
    assert len(set(other.tolist())) == stacked.window(4, 8).types(every)[0]
    pool = stacked.window(0, 8)
    assert len(set(one.tolist()) | set(other.tolist())) == pool.types(np.ones((1, 8), bool))[0]
    assert 0 == stacked.window(8, 12).types(every)[0]


def test_sixty_four_groups_fit() -> None:
    """All 64 bits of a set of groups are usable."""
    hashes = np.arange(64, dtype=np.uint64) << np.uint64(10)
    grams = stack_grams([GramKeys.of(hashes, np.arange(64, dtype=np.uint8))], [0], 64).window(0, 64)
    assert 64 == grams.types(np.ones((1, 64), bool))[0]
    assert 1 == grams.types(np.eye(64, dtype=bool))[63]


def test_nothing_at_all() -> None:
    """A corpus without n-grams has none."""
    empty = GramKeys.of(np.zeros(0, np.uint64), np.zeros(0, np.uint8))
    grams = stack_grams([empty], [0], 3).window(0, 3)
    masks = np.ones((2, 3), bool)
    assert [0, 0] == list(grams.types(masks)) == list(grams.count(masks)) == list(grams.squares(masks))


@pytest.mark.parametrize("size", [1 << 21, 64])
@pytest.mark.parametrize("filed", [False, True])
def test_runs_in_files_and_ranges_change_nothing(size: int, filed: bool, tmp_path: Path) -> None:
    """Runs packed, in files and counted range by range give the tables of one sort, to the last digit."""
    one, g1 = _world(5, 6)
    other, g2 = _world(6, 6)
    other = np.concatenate([one[:2000], other[:2000]])
    expected = stack_grams([GramKeys.of(one, g1), GramKeys.of(other, g2)], [0, 6], 18).whole
    packed = []
    for hashes, groups in ((one, g1), (other, g2)):
        pieces = [GramKeys.of(hashes[at : at + 700], groups[at : at + 700]) for at in range(0, 4000, 700)]
        pieces[2] = pieces[2].packed(str(tmp_path) if filed else None)
        whole = reduce(GramKeys.merged, pieces).packed(str(tmp_path) if filed else None)
        assert (0 == whole.nbytes) is filed
        packed.append(whole)
    ranges = Ranges(tuple(packed), (0, 6), size)
    found = tree_reduce((count_range(ranges, i, groups=18) for i in range(len(ranges))), added)
    assert (size == 64) is (len(ranges) > 16)
    for name in ("totals", "sets", "sizes", "gram"):
        assert np.array_equal(getattr(expected, name), getattr(found, name)), name
