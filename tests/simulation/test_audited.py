"""The audit's metrics of a loop's texts: one encoder, a fair ceiling, and what collapse does to them."""

from __future__ import annotations

import json
import random
from dataclasses import asdict

import pytest

from karat.auditing.stage import audit
from karat.errors import BadSetting, UnknownPart
from karat.records import from_rows
from karat.simulation.audited import METRICS, apart, audited, check

WORDS = [
    a + b for a in ("ba", "ce", "di", "fo", "gu", "ha", "ki", "lo") for b in ("n", "r", "st", "m", "x", "p")
]


def texts(n: int, seed: int) -> list[str]:
    """Texts of 20 to 40 words, some words far more common than others, in themes."""
    chance = random.Random(seed)
    found = []
    for _ in range(n):
        theme = chance.sample(WORDS, 12)
        pool = theme + WORDS[:10]
        found.append(" ".join(chance.choices(pool, k=chance.randint(20, 40))))
    return found


@pytest.fixture(scope="module")
def real() -> list[str]:
    return texts(400, seed=1)


@pytest.fixture(scope="module")
def held() -> list[str]:
    return texts(200, seed=2)


def test_another_real_sample_is_at_the_ceiling(real, held) -> None:
    """Both sides are new to the encoder, so that they spread alike and their distance is about zero."""
    seen, other = apart(real)
    found = audited(other, held, learned_from=seen)
    assert set(METRICS) == set(found)
    assert found["vendi"].real == pytest.approx(found["vendi"].value, rel=0.05)
    assert found["mmd"].low <= 0.0 <= found["mmd"].high
    assert found["mauve"].value > 0.8
    assert found["distinct_n"].real is not None
    assert found["mmd"].real is None
    assert all(one.low <= one.value <= one.high for one in found.values() if one.low is not None)


def test_texts_that_the_encoder_has_seen_spread_further(real, held) -> None:
    """The reason for `apart`: what the encoder was learned from looks more diverse."""
    seen, other = apart(real)
    inside = audited(seen, held, metrics=("vendi",), learned_from=seen)["vendi"].value
    outside = audited(other, held, metrics=("vendi",), learned_from=seen)["vendi"].value
    assert outside * 1.02 < inside


def test_collapse_shows_in_spread_distance_and_repetition(real, held) -> None:
    """A few texts written again and again: fewer effective texts, far from real ones, more compressible."""
    seen, other = apart(real)
    whole = audited(other, held, learned_from=seen)
    collapsed = audited([other[i % 8] for i in range(200)], held, learned_from=seen)
    assert collapsed["vendi"].value < 0.3 * whole["vendi"].value
    assert collapsed["mmd"].value > whole["mmd"].high
    assert collapsed["recall"].value < whole["recall"].value
    assert collapsed["js_ngrams"].value > whole["js_ngrams"].high
    assert collapsed["compression_ratio"].value > whole["compression_ratio"].high


def test_values_are_those_of_the_audit(real, held) -> None:
    """What needs no encoder is the same to the digit as `karat.audit` on the same two corpora."""
    names = ("js_tokens", "mattr", "distinct_n", "zipf_exponent", "compression_ratio")
    ours, theirs = (
        from_rows([{"id": str(i), "text": text} for i, text in enumerate(some)], datatype="text")
        for some in (real[:150], held)
    )
    scores = {
        score.name: score for score in audit(ours, theirs, metrics=names, budget="small", seed=3).scores
    }
    found = audited(real[:150], held, metrics=names, seed=3, learned_from=real[200:])
    for name in names:
        assert scores[name].value == pytest.approx(found[name].value, rel=1e-12)
        assert scores[name].interval == pytest.approx((found[name].low, found[name].high), rel=1e-12)


def test_without_texts_to_learn_from_the_reference_is_halved(real, held) -> None:
    """Every second real text teaches the encoder, the others are compared with."""
    found = audited(real[:100], held, metrics=("vendi",))["vendi"]
    asked = audited(real[:100], held[::2], metrics=("vendi",), learned_from=held[1::2])["vendi"]
    assert asked == found


@pytest.mark.parametrize("written", [[""] * 60, ["same words here"] * 60, ["one text"], ["zz yy xx"] * 3])
def test_any_collapse_can_be_measured(written, held) -> None:
    """Empty, equal, unknown or very few texts give numbers or nothing, never an error or a NaN."""
    found = audited(written, held, seed=1)
    json.dumps({name: asdict(one) for name, one in found.items()}, allow_nan=False)
    assert "recall" in found
    assert {} == audited([], held)


def test_metrics_that_cannot_be_computed_are_named() -> None:
    """Before any model is trained."""
    check(METRICS)
    check(())
    with pytest.raises(BadSetting, match="annotator_agreement"):
        check(("annotator_agreement",))
    with pytest.raises(UnknownPart, match="vendy"):
        check(("vendy",))
