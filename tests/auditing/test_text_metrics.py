"""Metrics of texts against published oracles, peers and brute force."""

from __future__ import annotations

import gzip
from collections import Counter

import numpy as np
import pytest
from audit_corpora import corpus, write
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from nltk.util import ngrams as nltk_ngrams

from karat.auditing.base import Metric, Summary, Values
from karat.auditing.result import Audited
from karat.auditing.stage import audit
from karat.records import Records

WHITE = "tokens=whitespace"


@pytest.fixture(scope="module")
def published(ag_news: Records) -> Audited:
    """Every published definition on AG News test."""
    names = "tokens vocabulary ngram_frequency_mean ngram_frequency_simpson compression_ratio"
    return audit(
        ag_news,
        metrics=f"{names} ngram_frequency_dqi ngram_frequency_dqi:n=2 ngram_frequency_dqi:n=3",
        mode="paper",
    )


@pytest.mark.parametrize(
    ("name", "expected", "digits"),
    [
        ("tokens", 286_690, 0),
        ("vocabulary", 40_819, 0),
        ("ngram_frequency_mean", 1.1249, 4),
        ("ngram_frequency_simpson", 5.6233e-4, 8),
        ("ngram_frequency_dqi:n=1", 421.5, 1),
        ("ngram_frequency_dqi:n=2", 25_988.1, 1),
        ("ngram_frequency_dqi:n=3", 157_947.1, 1),
        ("compression_ratio", 2.441, 3),
    ],
)
def test_ag_news_oracles(published: Audited, name: str, expected: float, digits: int) -> None:
    """The figures worked out for AG News test by other code, to every printed digit."""
    assert expected == round(published.score(name).value or 0, digits)


def test_ag_news_oracles_by_class(ag_news: Records) -> None:
    """Vocabulary, mean count and concentration of each class, to every printed digit."""
    names = "vocabulary ngram_frequency_mean ngram_frequency_simpson"
    found = audit(ag_news, metrics=names, mode="paper", by="label")
    expected = {
        "World": (14_425, 1.0999, 6.10),
        "Sports": (14_608, 1.0956, 6.76),
        "Business": (13_943, 1.1133, 5.51),
        "Sci/Tech": (16_364, 1.0695, 5.42),
    }
    for label, (types, mean, simpson) in expected.items():
        values = [found.score(name).by[label].value or 0 for name in names.split()]
        assert (types, mean, simpson) == (values[0], round(values[1], 4), round(values[2] * 1e4, 2))


PATHOLOGICAL = {
    "ordinary": write(60, seed=1, words=60, length=9),
    "no word in common": ["a b c d", "e f g h", "i j k l"],
    "copies": ["a b c d e", "a b c d e", "a b c d e f", "a b", "x y z a b c d e"],
    "one token": ["a", "b", "a", "c c c"],
    "repeats inside": ["a a a a b", "a a b b", "b b b a a a a", "c a a"],
    "some empty": ["", "a b c", "a b c d", ""],
}


@pytest.mark.parametrize("name", PATHOLOGICAL)
@pytest.mark.parametrize("n", [2, 4])
def test_self_bleu_equals_nltk(name: str, n: int) -> None:
    """Self-BLEU in linear time is the mean of nltk's sentence BLEU of each text against all others."""
    texts = [text.split() for text in PATHOLOGICAL[name]]
    smooth = SmoothingFunction().method1
    scores = [
        sentence_bleu(texts[:i] + texts[i + 1 :], text, weights=(1 / n,) * n, smoothing_function=smooth)
        if text
        else 0.0
        for i, text in enumerate(texts)
    ]
    found = audit(corpus(PATHOLOGICAL[name]), metrics=f"self_bleu:n={n},{WHITE}").score("self_bleu").value
    assert float(np.mean(scores)) == pytest.approx(found, abs=1e-12)


def test_self_bleu_equals_fast_bleu() -> None:
    """The same mean as fast-bleu, on a corpus larger than nltk can do."""
    fast_bleu = pytest.importorskip("fast_bleu", reason="fast-bleu is not installed")
    texts = write(400, seed=5, words=300)
    split = [text.split() for text in texts]
    expected = np.mean(fast_bleu.SelfBLEU(split, {"4": (0.25,) * 4}).get_score()["4"])
    found = audit(corpus(texts), metrics=f"self_bleu:{WHITE}").score("self_bleu").value
    assert expected == pytest.approx(found, abs=1e-9)


def test_self_bleu_above_its_limit_is_a_stated_sample() -> None:
    """Above the limit a hash sample is used; the signature says so, and n is its size."""
    texts = write(300, seed=6)
    score = audit(corpus(texts), metrics="self_bleu:limit=100").score("self_bleu")
    assert "|sample:100-records|" in score.signature + "|"
    assert 100 == score.n
    whole = audit(corpus(texts), metrics="self_bleu").score("self_bleu")
    assert "sample" not in whole.signature


def test_distinct_n_equals_nltk_ngrams() -> None:
    """Different bigrams over bigrams, none across records, as counted with nltk."""
    texts = write(200, seed=2)
    grams = [gram for text in texts for gram in nltk_ngrams(text.split(), 2)]
    found = audit(corpus(texts), metrics=f"distinct_n:n=2,{WHITE}").score("distinct_n").value
    assert len(set(grams)) / len(grams) == pytest.approx(found, abs=1e-12)


def test_dqi_of_equal_counts_has_no_value() -> None:
    """With every count equal there is no spread to divide by: no value and a note instead of infinity."""
    score = audit(corpus(["a b", "c d"]), metrics="ngram_frequency_dqi").score("ngram_frequency_dqi")
    assert score.value is None
    assert "equally often" in score.note


def test_compression_sees_far_copies_only_with_a_long_window() -> None:
    """A corpus written twice doubles the zstd ratio; gzip does not notice beyond 32 KB."""
    once = write(1500, seed=3)
    ratio = {
        codec: [
            audit(corpus(texts), metrics=f"compression_ratio:codec={codec},order=file").scores[0].value or 0
            for texts in (once, once * 2)
        ]
        for codec in ("zstd", "gzip")
    }
    assert 1.9 < ratio["zstd"][1] / ratio["zstd"][0] < 2.1
    assert 0.95 < ratio["gzip"][1] / ratio["gzip"][0] < 1.05


def test_gzip_is_gzip() -> None:
    """The published ratio is that of gzip -9 of the lines, also where replicates are added up."""
    for n in (50, 12_000):
        texts = write(n, seed=4)
        data = "\n".join(texts).encode()
        metric = "compression_ratio:codec=gzip,level=9,order=file,limit=0"
        found = audit(corpus(texts), metrics=metric).scores[0]
        assert len(data) / len(gzip.compress(data, 9)) == pytest.approx(found.value, abs=1e-9)
        assert found.interval is not None and found.interval[1] - found.interval[0] < 0.2


def test_compression_does_not_depend_on_the_order_of_the_file() -> None:
    """A shuffled file has the same ratio, because records are ordered by hash."""
    texts = write(300, seed=8)
    shuffled = list(np.random.default_rng(0).permutation(texts))
    values = [audit(corpus(one), metrics="compression_ratio").scores[0].value for one in (texts, shuffled)]
    assert values[0] == values[1]


def test_duplicate_share_counts_repeats() -> None:
    """Three copies of one text are two repeats; normalising also sees case and punctuation."""
    texts = ["A cat.", "A cat.", "A cat.", "a cat", "A dog."]
    assert 2 / 5 == pytest.approx(audit(corpus(texts), metrics="duplicate_share").scores[0].value)
    folded = audit(corpus(texts), metrics="duplicate_share:normalise=true").scores[0]
    assert 3 / 5 == pytest.approx(folded.value)


def test_length_quantiles() -> None:
    """Mean and quantiles of known lengths."""
    texts = [" ".join("x" * n) for n in range(1, 101)]
    score = audit(corpus(texts), metrics="length").scores[0]
    assert 50.5 == score.value
    assert {"min": 1, "p05": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "max": 100} == score.details


def test_simpson_is_pooled_over_orders() -> None:
    """The n-grams of all orders are one population."""
    counts: Counter[tuple[str, ...]] = Counter()
    texts = write(50, seed=9, words=40)
    for text in texts:
        for n in (1, 2, 3):
            counts.update(nltk_ngrams(text.split(), n))
    total = sum(counts.values())
    expected = sum(c * c for c in counts.values()) / total**2
    found = audit(corpus(texts), metrics=f"ngram_frequency_simpson:{WHITE}").scores[0].value
    assert expected == pytest.approx(found, rel=1e-12)


EVERY = (
    "length vocabulary distinct_n ngram_frequency_mean ngram_frequency_simpson ngram_frequency_dqi "
    "self_bleu duplicate_share compression_ratio"
).split()


@pytest.mark.parametrize("name", EVERY)
def test_a_mask_is_the_corpus_without_the_rest(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving a group out gives what a corpus without its records gives, for every metric."""
    from karat import registry
    from karat.auditing import passes, selection, summaries

    texts = write(90, seed=11, words=50, length=8) + ["same text here"] * 10
    metric: Metric = registry.make("metrics", name)
    settings_ = _settings()
    needs = tuple(summaries.resolve(need, metric.size, {}) for need in metric.needs())
    passed = passes.run([passes.Side.of(corpus(texts))], needs, settings_)
    group = passed.selections[0].members("all", 20)
    window = _window(passed, metric)
    masks = np.ones((2, 20), bool)
    masks[1, :5] = False
    values: Values = metric.values(window, masks)
    rest = corpus([text for text, g in zip(texts, group, strict=True) if g >= 5])
    alone = passes.run([passes.Side.of(rest)], needs, settings_)
    monkeypatch.setattr(selection, "GROUPS", 20)
    expected = metric.values(_window(alone, metric), np.ones((1, 20), bool))[0]
    if name == "compression_ratio":  # the order of copies of a text may differ
        assert expected == pytest.approx(values[1], rel=0.02)
    else:
        assert expected == pytest.approx(values[1], rel=1e-12)


def _settings() -> object:
    from karat import registry
    from karat.auditing.passes import Settings

    return Settings(
        "proper", 0, "small", 10, 100, "lsa", registry.make("executors", "local"), lambda *_: None
    )


def _window(passed: object, metric: Metric) -> Summary:
    from karat.auditing.summaries import Window

    return Window(passed.stacked, metric.size, 0, 20, 0, {})  # type: ignore[attr-defined]
