"""Copies are counted and measured exactly, found where they were planted, and not found where none are."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from audit_corpora import corpus, write
from folded_corpora import Summary, compared, draw, words

from karat.auditing.base import Context
from karat.auditing.folded import elsewhere, grams, holders, longest_run, quote
from karat.auditing.metrics.copied_share import CopiedShare
from karat.auditing.metrics.longest_copy import LongestCopy
from karat.auditing.stage import audit
from karat.auditing.suffixes import Suffixes


def random_texts(rng: np.random.Generator, n: int, vocabulary: int) -> list[str]:
    """n texts of 0 to 24 words that repeat each other's runs."""
    return [" ".join(f"w{i}" for i in rng.integers(0, vocabulary, rng.integers(0, 25))) for _ in range(n)]


def longest_common(one: list[str], other: list[str]) -> int:
    """The longest run of words of both, by the table of all pairs of places."""
    best, before = 0, [0] * (len(other) + 1)
    for word in one:
        row = [0] * (len(other) + 1)
        for j, second in enumerate(other):
            if word == second:
                row[j + 1] = before[j] + 1
                best = max(best, row[j + 1])
        before = row
    return best


@pytest.mark.parametrize("seed", range(25))
def test_the_longest_run_is_that_of_brute_force(seed: int) -> None:
    """Lengths against all records, and against those of other groups, are those of the plain table."""
    rng = np.random.default_rng(seed)
    vocabulary, groups = int(rng.integers(2, 30)), int(rng.integers(2, 5))
    mine, theirs = (random_texts(rng, int(rng.integers(1, 12)), vocabulary) for _ in range(2))
    own, their = rng.integers(0, groups, len(mine)), rng.integers(0, groups, len(theirs))
    suffixes = Suffixes(words(mine, own), words(theirs, their))
    for humans, other in ((False, False), (False, True), (True, True)):
        texts, of = (theirs, their) if humans else (mine, own)
        expected = [
            max(
                (
                    longest_common(text.split(), second.split())
                    for second, group in zip(theirs, their, strict=True)
                    if not other or group != mine_group
                ),
                default=0,
            )
            for text, mine_group in zip(texts, of, strict=True)
        ]
        found = suffixes.longest(humans=humans, other_groups=other)
        assert expected == found.length.tolist()
        for text, length, start, source in zip(texts, found.length, found.start, found.source, strict=True):
            run = " ".join(text.split()[start : start + length])
            assert length == 0 or f" {run} " in f" {theirs[source]} "


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_groups_that_hold_an_ngram_are_those_of_brute_force(n: int) -> None:
    """Every n-gram is found in exactly the groups of the records that hold it."""
    rng = np.random.default_rng(n)
    mine, theirs = random_texts(rng, 30, 12), random_texts(rng, 30, 12)
    ours, corpus_words = words(mine, rng.integers(0, 4, 30)), words(theirs, rng.integers(0, 4, 30))
    hashes, owner = grams(ours, n)
    sets = holders(hashes, corpus_words, n)
    runs = [tuple(t.split()[i : i + n]) for t in mine for i in range(len(t.split()) - n + 1)]
    held: dict[tuple[str, ...], int] = {}
    for text, group in zip(theirs, corpus_words.groups.tolist(), strict=True):
        for i in range(len(text.split()) - n + 1):
            run = tuple(text.split()[i : i + n])
            held[run] = held.get(run, 0) | 1 << group
    expected = [held.get(run, 0) for run in runs]
    assert expected == sets.tolist()
    own = [bool(bits & ~(1 << int(ours.groups[row]))) for bits, row in zip(expected, owner, strict=True)]
    assert own == elsewhere(sets, ours.groups[owner]).tolist()


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_planted_spans_are_found_with_their_share(share: float) -> None:
    """A known share of records that recite 20 words raises both metrics; the interval covers the truth."""
    rng = np.random.default_rng(3)
    human, fresh = write(400, seed=1), write(400, seed=2)
    recited = rng.random(400) < share
    texts = []
    for text, copies in zip(fresh, recited, strict=True):
        source = human[int(rng.integers(400))].split()[:20]
        texts.append(" ".join(text.split()[:5] + (source if copies else text.split()[5:])))
    found = compared(CopiedShare(n=6), texts, human)
    truth = _copied_by_hand(texts, human, 6)
    assert truth == pytest.approx(found.value, abs=1e-12)
    assert found.interval[0] < truth < found.interval[1]
    assert found.p < 0.001 and found.value > 5 * found.chance
    longest = compared(LongestCopy(), texts, human)
    assert longest.p < 0.001 and longest.details["max"] >= 20
    assert recited[[int(np.flatnonzero(words(texts).keys == one.key)[0]) for one in longest.telling]].all()


def _copied_by_hand(texts: list[str], human: list[str], n: int) -> float:
    known = {tuple(t.split()[i : i + n]) for t in human for i in range(len(t.split()) - n + 1)}
    runs = [tuple(t.split()[i : i + n]) for t in texts for i in range(len(t.split()) - n + 1)]
    return sum(run in known for run in runs) / len(runs)


def test_nothing_planted_nothing_found() -> None:
    """Of 100 pairs of corpora of one source at most 10 have p < .05, with runs shared often and rarely."""
    alarms = np.zeros(3, np.int64)
    for seed in range(100):
        vocabulary = (60, 400)[seed % 2]
        sides = [
            Summary(tuple(draw(40, seed=s, words=vocabulary, length=10))) for s in (seed, 700_000 + seed)
        ]
        for i, metric in enumerate((CopiedShare(n=2), CopiedShare(n=3), LongestCopy())):
            p = metric.compare(sides[0], sides[1], Context()).p
            alarms[i] += p is not None and p < 0.05
    assert (alarms <= 10).all(), alarms


def test_a_corpus_that_is_the_reference_is_copied_whole() -> None:
    """Every n-gram is found, every record stands there whole, and the record says what it recites."""
    texts = write(100, seed=5)
    found = compared(CopiedShare(), texts, texts)
    assert 1.0 == found.value
    assert 1.0 == compared(LongestCopy(), texts, texts).details["whole_records"]
    assert "stand in the reference: 'w" in found.telling[0].reason


def test_short_and_empty_records_do_not_matter() -> None:
    """Records without an n-gram are counted in the note; nothing at all gives no value and no error."""
    found = compared(CopiedShare(), ["one two", "", *write(40, seed=1)], write(40, seed=2))
    assert "records of fewer than 8 words" in found.note
    nothing = compared(CopiedShare(), ["one two", "three"], ["four"])
    assert np.isnan(nothing.value) and nothing.p is None
    assert 0.0 == compared(LongestCopy(), ["", ""], ["four"]).value


def test_runs_and_quotations() -> None:
    """The longest run of flags, and the first words of what it stands for."""
    assert (2, 3) == longest_run(np.array([1, 0, 1, 1, 1, 0, 1, 1], np.bool_))
    assert (0, 0) == longest_run(np.zeros(3, np.bool_))
    assert "'b can't'".replace("can't", "cant") == quote("A b, can't", "word", 1, 2)


def test_the_order_of_the_files_and_an_audit_do_not_change_the_values() -> None:
    """The audit gives the values of the arithmetic, in any order of the records."""
    mine, theirs = write(150, seed=1, words=80), write(200, seed=2, words=80)
    expected = compared(CopiedShare(n=3), mine, theirs).value
    for order in (1, -1):
        found = audit(
            corpus(mine[::order]), corpus(theirs[::order]), metrics=["copied_share:n=3", "longest_copy"]
        )
        assert expected == pytest.approx(found.scores[0].value, abs=1e-12)
        assert compared(LongestCopy(), mine, theirs).value == pytest.approx(found.scores[1].value, abs=1e-12)


def test_rephrased_questions_keep_no_long_runs(data_dir: Path) -> None:
    """GSM8K questions that a model rephrased recite almost nothing of the originals, in longer runs."""
    with gzip.open(data_dir / "contam_gsm8k" / "contam_gsm8k.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    mine, theirs = [row["rephrased"] for row in rows], [row["original"] for row in rows]
    assert compared(CopiedShare(), mine, theirs).value == pytest.approx(0.006, abs=0.006)
    longest = compared(LongestCopy(), mine, theirs)
    assert longest.p < 0.001 and 4.5 < longest.chance < longest.value < 8
