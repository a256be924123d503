"""Lexical metrics against published code, other packages and counting by hand."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from audit_corpora import corpus, write

from karat.auditing import lexical
from karat.auditing.stage import audit
from karat.records import Records


def value(name: str, texts: list[str], **settings: str) -> float:
    """What one metric says of one corpus."""
    found = audit(corpus(texts), metrics=[name], **settings).scores[0].value
    return math.nan if found is None else found


@pytest.fixture(scope="module")
def long_text() -> list[str]:
    """1,500 words of lower case without marks, as one text: what other packages tokenise alike."""
    words = " ".join(write(75, seed=3, words=300)).split()[:1500]
    letters = {word: "".join(chr(97 + int(d)) for d in word[1:]) + "x" for word in set(words)}
    return [letters[word] for word in words]


@pytest.fixture(scope="module")
def peer(long_text: list[str]) -> Any:
    """The same text as another package sees it."""
    return pytest.importorskip("lexicalrichness").LexicalRichness(" ".join(long_text))


class TestPeers:
    """Equal to lexicalrichness on one text, to nine digits."""

    def test_type_token_ratio(self, peer: Any, long_text: list[str]) -> None:
        """Different words by all words."""
        assert peer.ttr == pytest.approx(value("type_token_ratio", [" ".join(long_text)]), rel=1e-9)

    @pytest.mark.parametrize("unit", ["corpus", "record"])
    @pytest.mark.parametrize("window", [50, 500, 1500])
    def test_mattr(self, peer: Any, long_text: list[str], unit: str, window: int) -> None:
        """Every window of the text, up to one as long as it."""
        found = value(f"mattr:window={window},unit={unit}", [" ".join(long_text)])
        assert peer.mattr(window_size=window) == pytest.approx(found, rel=1e-9)

    @pytest.mark.parametrize("unit", ["corpus", "record"])
    @pytest.mark.parametrize("threshold", [0.3, 0.6, 0.72, 0.9])
    def test_mtld(self, peer: Any, long_text: list[str], unit: str, threshold: float) -> None:
        """Forwards and backwards, with many factors and with none."""
        found = value(f"mtld:threshold={threshold},unit={unit}", [" ".join(long_text)])
        assert peer.mtld(threshold=threshold) == pytest.approx(found, rel=1e-9)

    @pytest.mark.parametrize("unit", ["corpus", "record"])
    def test_hdd(self, peer: Any, long_text: list[str], unit: str) -> None:
        """42 draws of the hypergeometric distribution."""
        assert peer.hdd(draws=42) == pytest.approx(value(f"hdd:unit={unit}", [" ".join(long_text)]), rel=1e-9)


def by_hand_mtld(words: list[str], threshold: float) -> float:
    """One direction, word by word."""
    factors, seen, length = 0.0, set(), 0
    for word in words:
        seen.add(word)
        length += 1
        if len(seen) / length <= threshold:
            factors, seen, length = factors + 1, set(), 0
    if length:
        factors += (1 - len(seen) / length) / (1 - threshold)
    return len(words) / factors if factors else float(len(words))


@pytest.mark.parametrize("seed", range(12))
def test_running_text_word_by_word(seed: int) -> None:
    """MATTR and MTLD of short texts, of one word and of no repeats, against loops over the words."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, int(rng.integers(1, 60)), int(rng.integers(1, 700)))
    words = [str(code) for code in codes]
    for window in (1, 2, 17):
        windows = [len(set(words[i : i + window])) / window for i in range(len(words) - window + 1)]
        expected = np.mean(windows) if windows else math.nan
        assert expected == pytest.approx(lexical.moving_ttr(lexical.previous(codes), window), nan_ok=True)
    for threshold in (0.2, 0.72):
        expected = (by_hand_mtld(words, threshold) + by_hand_mtld(words[::-1], threshold)) / 2
        assert expected == pytest.approx(lexical.both_ways(codes, threshold))


def test_a_value_per_record_is_the_mean_over_long_enough_records() -> None:
    """unit=record leaves records aside that are too short, and says so."""
    texts = [*write(30, seed=1, length=60), "too short", ""]
    for name, least, formula in (
        ("mattr:window=30,unit=record", 30, lambda c: lexical.moving_ttr(lexical.previous(c), 30)),
        ("mtld:unit=record,least=50", 50, lambda c: lexical.both_ways(c, 0.72)),
        ("hdd:unit=record", 42, lambda c: lexical.hdd_of(c, 42)),
    ):
        rows = [text.split() for text in texts if len(text.split()) >= least]
        expected = [formula(np.unique(row, return_inverse=True)[1]) for row in rows]
        score = audit(corpus(texts), metrics=[name]).scores[0]
        assert np.mean(expected) == pytest.approx(score.value)
        assert len(rows) == score.n


def test_words_seen_once_and_their_entropy() -> None:
    """Hapaxes of all types and tokens, and entropies, against counting by hand."""
    texts = write(200, seed=4)
    counts = Counter(" ".join(texts).split())
    n, once = sum(counts.values()), sum(c == 1 for c in counts.values())
    assert once / len(counts) == pytest.approx(value("hapax_share", texts))
    assert once / n == pytest.approx(value("hapax_share:of=tokens", texts))
    plain = -sum(c / n * math.log2(c / n) for c in counts.values())
    assert plain == pytest.approx(value("token_entropy:correction=none", texts))
    miller = plain + (len(counts) - 1) / (2 * n * math.log(2))
    assert miller == pytest.approx(value("token_entropy:correction=miller_madow", texts))
    shares = [(1 - once / n) * c / n for c in counts.values()]
    chao = -sum(p * math.log2(p) / (1 - (1 - p) ** n) for p in shares)
    assert chao == pytest.approx(value("token_entropy", texts))


def test_the_zipf_exponent_has_the_highest_likelihood() -> None:
    """No other exponent of a fine grid has a higher likelihood of the ranks of frequent words."""
    texts = write(600, seed=5)
    counts = sorted((c for c in Counter(" ".join(texts).split()).values() if c >= 20), reverse=True)
    ranks = np.arange(1, len(counts) + 1.0)
    grid = np.arange(0.2, 2, 0.001)
    fit = [-s * (counts @ np.log(ranks)) - sum(counts) * np.log((ranks**-s).sum()) for s in grid]
    assert grid[int(np.argmax(fit))] == pytest.approx(value("zipf_exponent", texts), abs=0.001)


def test_heaps_exponent_of_words_that_are_all_new_or_all_old() -> None:
    """Every word new: 1; the same ten words in every record: 0."""
    assert 1.0 == pytest.approx(value("heaps_exponent", [f"a{i} b{i} c{i}" for i in range(100)]))
    assert value("heaps_exponent", ["a b c d e f g h i j"] * 100) == pytest.approx(0.0, abs=1e-12)


class TestSelfRepetition:
    """The score of Salkar et al., as the package `diversity` works it out."""

    @staticmethod
    def by_hand(texts: list[str], n: int) -> float:
        """log(1 + how often the different n-grams of a text stand in others), the mean over texts."""
        grams = [{tuple(t.split()[i : i + n]) for i in range(len(t.split()) - n + 1)} for t in texts]
        held = Counter(one for some in grams for one in some)
        return float(np.mean([math.log(sum(held[g] for g in some) - len(some) + 1) for some in grams]))

    @pytest.mark.parametrize("n", [1, 2, 4])
    def test_equals_the_formula(self, n: int) -> None:
        """On texts with copies, repeats inside and empty ones."""
        texts = [*write(80, seed=6, words=60), "a a a a a", "", "a b c d e", "a b c d e", "x a b c d"]
        found = value(f"self_repetition:n={n}", texts, mode="paper")
        assert self.by_hand(texts, n) == pytest.approx(found, rel=1e-12)

    def test_names_the_records_that_repeat_most(self) -> None:
        """The record that is told of is one of the ten that say the same."""
        texts = write(100, seed=7) + ["the same words again and again and again"] * 10
        found = audit(corpus(texts), metrics=["self_repetition"]).evidence
        assert {"the same words again and again and again"} == {one.text for one in found[:8]}


class TestLevenshtein:
    """Mean pairwise edit distance in tokens, by the length of the longer text."""

    @staticmethod
    def distance(one: list[str], other: list[str]) -> float:
        """The plain table."""
        row = list(range(len(other) + 1))
        for i, word in enumerate(one, 1):
            before, row[0] = row[0], i
            for j, second in enumerate(other, 1):
                before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != second))
        return row[-1] / max(len(one), len(other), 1)

    def test_equals_all_pairs(self) -> None:
        """With copies and an empty text, against the table of every pair."""
        texts = [*write(25, seed=8, words=30, length=8), "a b c", "a b c", "a b", ""]
        pairs = [self.distance(a.split(), b.split()) for a, b in combinations(texts, 2)]
        assert np.mean(pairs) == pytest.approx(value("levenshtein", texts))

    def test_many_copies_of_few_texts_are_exact(self) -> None:
        """4,000 records of 6 texts are 15 pairs with weights, and no sample."""
        texts = [f"a b c{i % 6} d" for i in range(4000)]
        score = audit(corpus(texts), metrics=["levenshtein"]).scores[0]
        counts = Counter(texts)
        apart = sum(counts[a] * counts[b] * 0.25 for a, b in combinations(counts, 2))
        assert apart / math.comb(4000, 2) == pytest.approx(score.value, rel=1e-12)
        assert "sample" not in score.signature and 4000 == score.n

    def test_a_sample_says_so_and_covers_the_whole(self) -> None:
        """60 of 800 texts: the interval covers the mean over all, and the signature names the sample."""
        texts = write(800, seed=9, words=50, length=8)
        whole = value("levenshtein:distinct=1000", texts)
        score = audit(corpus(texts), metrics=["levenshtein:distinct=60"]).scores[0]
        assert score.interval is not None and score.interval[0] < whole < score.interval[1]
        assert "sample:60-records" in score.signature


def test_one_text_and_no_text() -> None:
    """One record, and records without words, have values where these are defined, and no error."""
    names = "type_token_ratio mattr mtld hdd hapax_share heaps_exponent zipf_exponent token_entropy"
    names += " self_repetition levenshtein near_duplicate_share"
    for texts in (["a b a c"], ["", " "], ["a"] * 30):
        found = {score.name: score.value for score in audit(corpus(texts), metrics=names).scores}
        assert texts != ["a b a c"] or 0.75 == found["type_token_ratio"]
        assert texts != ["", " "] or (None, None) == (found["type_token_ratio"], found["token_entropy"])
        assert texts != ["a"] * 30 or 0.0 == found["levenshtein"]


def test_ag_news_values(ag_news: Records) -> None:
    """Figures of AG News test worked out by other code, to every printed digit."""
    names = "type_token_ratio hapax_share token_entropy"
    found = audit(ag_news, metrics=names, mode="paper")
    texts = ag_news.texts()
    counts = Counter(word for text in texts for word in text.split())
    n = sum(counts.values())
    assert len(counts) / n == pytest.approx(found.score("type_token_ratio").value)
    assert sum(c == 1 for c in counts.values()) / len(counts) == found.score("hapax_share").value
    entropy = -sum(c / n * math.log2(c / n) for c in counts.values())
    assert entropy == pytest.approx(found.score("token_entropy").value)
