"""Planted poverty of words is found, intervals cover the truth, and one source gives no alarms."""

from __future__ import annotations

import numpy as np
import pytest
from audit_corpora import corpus, write

from karat.auditing.stage import audit
from karat.records import Records

METRICS = (
    "type_token_ratio",
    "mattr:window=100",
    "mtld",
    "hdd",
    "hapax_share",
    "heaps_exponent",
    "zipf_exponent:least=10",
    "token_entropy",
    "self_repetition:n=2",
    "levenshtein:distinct=60",
    "near_duplicate_share:threshold=0.2,n=2",
    "js_tokens",
    "js_ngrams",
    "js_labels",
)


def zipf(s: float, seed: int, n: int = 800, length: int = 20, words: int = 20_000) -> Records:
    """n texts of independent words whose frequency falls with rank^-s."""
    p = 1 / np.arange(1, words + 1.0) ** s
    drawn = np.random.default_rng(seed).choice(words, (n, length), p=p / p.sum())
    return corpus([" ".join(f"w{i}" for i in row) for row in drawn])


def labelled(seed: int, n: int = 100) -> Records:
    """n texts of the same source, with three labels."""
    labels = np.random.default_rng(10_000 + seed).choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])
    return corpus(write(n, seed=seed, words=300, length=12), labels.tolist())


def test_one_source_gives_no_alarms() -> None:
    """Of 100 pairs of corpora of one source at most 10 have p < .05, metric by metric."""
    alarms = dict.fromkeys(METRICS, 0)
    apart = {"js_tokens": [], "js_ngrams": [], "js_labels": []}
    for seed in range(100):
        found = audit(labelled(2 * seed), labelled(2 * seed + 1), metrics=METRICS, budget="small").scores
        for name, score in zip(METRICS, found, strict=True):
            alarms[name] += score.p is not None and score.p < 0.05
            if name in apart:
                apart[name].append(score.value)
    assert all(many <= 10 for many in alarms.values()), alarms
    for name, values in apart.items():
        assert abs(np.mean(values)) < 0.005, f"{name} is {np.mean(values)} for one source"


@pytest.mark.parametrize("s", [0.9, 1.1, 1.3])
def test_intervals_cover_the_exponents(s: float) -> None:
    """Zipf's exponent as planted, and Heaps' as the slope of expected types: covered 9 times of 10."""
    p = 1 / np.arange(1, 20_001.0) ** s
    p /= p.sum()
    sizes = 16_000 * np.arange(1, 21) / 20
    types = [(-np.expm1(n * np.log1p(-p))).sum() for n in sizes]
    heaps = np.polyfit(np.log(sizes), np.log(types), 1)[0]
    covered = np.zeros(2, np.int64)
    for seed in range(10):
        found = audit(zipf(s, seed), metrics=["zipf_exponent", "heaps_exponent"]).scores
        for i, (score, truth) in enumerate(zip(found, (s, heaps), strict=True)):
            assert score.interval is not None
            covered[i] += score.interval[0] <= truth <= score.interval[1]
            assert truth == pytest.approx(score.value, abs=0.03)
    assert (covered >= 8).all(), covered


def test_the_corrected_entropy_is_nearest_to_the_truth() -> None:
    """At 16,000 tokens of 20,000 words the plug-in value lacks half a bit, Chao and Shen's a tenth."""
    p = 1 / np.arange(1, 20_001.0)
    p /= p.sum()
    truth = -(p * np.log2(p)).sum()
    names = [f"token_entropy:correction={one}" for one in ("chao_shen", "miller_madow", "none")]
    audits = [audit(zipf(1.0, seed), metrics=names).scores for seed in range(5)]
    found = np.mean([[score.value for score in scores] for scores in audits], axis=0)
    assert abs(found[0] - truth) < 0.12 < 0.3 < truth - found[1] < truth - found[2]


def test_poorer_text_is_found_by_every_metric() -> None:
    """A candidate of 150 words that clings to templates is poorer in all that these metrics see."""
    rng = np.random.default_rng(0)
    poor = [f"here is a {t}" for t in write(300, seed=1, words=150, length=16)]
    poor = [poor[i] if rng.random() < 0.8 else poor[0] + f" w{i % 50}" for i in range(300)]
    found = audit(
        corpus(poor),
        corpus(write(300, seed=2, words=2000)),
        metrics=[m for m in METRICS[:-1] if "zipf" not in m],
    )
    more = {"self_repetition", "near_duplicate_share", "js_tokens", "js_ngrams"}
    for score in found.scores:
        assert score.p is not None and score.p < 0.01, score.name
        assert score.value is not None
        beside = score.reference if score.reference is not None else 0.0
        assert (score.value > beside) == (score.name in more), score.name


def test_values_do_not_feel_the_order_of_the_file() -> None:
    """The same records in another order have the same values to the last digit."""
    texts, human = write(200, seed=3, words=200), write(150, seed=4, words=220)
    names = [name for name in METRICS if name != "js_labels"]
    one = audit(corpus(texts), corpus(human), metrics=names).scores
    other = audit(corpus(texts[::-1]), corpus(human[::-1]), metrics=names).scores
    for first, second in zip(one, other, strict=True):
        assert first.value == pytest.approx(second.value, rel=1e-12), first.name
        assert first.p == pytest.approx(second.p, rel=1e-9), first.name


def test_a_corpus_compared_with_itself_is_the_same() -> None:
    """No difference and p = 1 for every metric of one corpus at a time; no distance."""
    texts = write(200, seed=5, words=200)
    for score in audit(corpus(texts), corpus(texts), metrics=METRICS[:-1]).scores:
        if score.difference is not None:
            assert 0.0 == score.difference and 1.0 == score.p, score.name
        else:
            assert score.value is not None and score.value <= 0.0, score.name
