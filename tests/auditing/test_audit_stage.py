"""The audit as a whole: what stands beside a number, what is warned of, and what odd input gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_corpora import corpus, write

from karat import records, registry
from karat.auditing.result import Audited
from karat.auditing.stage import audit
from karat.blocks import Section
from karat.errors import BadSetting, KaratError, NotEnoughData
from karat.runs import Run

TEXT = (
    "records tokens length vocabulary distinct_n ngram_frequency_mean ngram_frequency_simpson "
    "ngram_frequency_dqi compression_ratio self_bleu duplicate_share"
)
HUMAN = write(600, seed=1)
LABELS = ["good" if i % 3 else "bad" for i in range(600)]


@pytest.fixture(scope="module")
def repeated() -> Audited:
    """A corpus that repeats itself, against one that does not and is larger."""
    texts = write(200, seed=2, words=300) + write(50, seed=3, words=300) * 2
    return audit(corpus(texts, LABELS[:300]), corpus(HUMAN, LABELS), metrics=TEXT, by="label")


def test_every_score_stands_beside_its_baselines(repeated: Audited) -> None:
    """Interval, reference, chance, best and p are there; the value is inside its interval; JSON is plain."""
    plain = json.loads(json.dumps(repeated.to_json(), allow_nan=False))
    assert {"candidate", "reference", "scores", "warnings"} <= set(plain)
    assert {"path", "records", "fingerprint"} == set(plain["candidate"])
    promised = {"name", "settings", "signature", "value", "interval", "reference", "difference", "p"}
    for score in plain["scores"]:
        assert promised | {"chance", "best", "n", "by", "note"} <= set(score)
        if score["name"] in ("records", "tokens"):
            assert score["p"] is None
            continue
        low, high = score["interval"]
        assert low <= score["value"] <= high
        assert score["value"] - score["reference"] == pytest.approx(score["difference"])
        assert 0 <= score["p"] <= score["p_holm"] <= 1
        assert score["best"] is not None
        assert score["chance"] is not None
        assert {"good", "bad"} == set(score["by"])


def test_what_repeats_is_flagged(repeated: Audited) -> None:
    """Fewer words, more repeats and copies are all found to differ, each in the right direction."""
    for name, sign in (("vocabulary", -1), ("distinct_n", -1), ("self_bleu", 1), ("duplicate_share", 1)):
        score = repeated.score(name)
        assert score.flagged, name
        assert sign == np.sign(score.difference), name
        assert score.reference is not None and score.best is not None and score.chance is not None
        # a second human sample is near the first one, and the pool between the two sides
        assert abs(score.best - score.reference) < abs(score.difference or 0) / 3, name


def test_the_signature_says_how(repeated: Audited) -> None:
    """Settings, version, size, seed and reference stand in the signature."""
    score = repeated.score("distinct_n")
    pieces = score.signature.split("|")
    assert ["distinct_n", "n:2", "tokens:word"] == pieces[:3]
    tokens = repeated.score("tokens")
    smaller = int(min(tokens.value or 0, tokens.reference or 0))
    assert f"size:{smaller}-tokens" in pieces
    assert repeated.reference is not None
    assert f"ref:{repeated.reference.fingerprint[:8]}" in pieces
    assert any(piece.startswith("version:") for piece in pieces)


def test_worst_and_why_name_records(repeated: Audited) -> None:
    """The worst records are different ones, each with a reason that `why` gives again."""
    worst = repeated.worst(6)
    assert 6 == len({one.id for one in worst})
    for one in worst:
        assert any(one.reason in reason for reason in repeated.why(one.id))
    assert () == repeated.why("no such id")


def test_the_report_is_made_of_blocks(repeated: Audited) -> None:
    """The result shows itself as sections of plain blocks."""
    sections = repeated.__report__()
    assert all(isinstance(section, Section) for section in sections)
    kinds = {type(block).__name__ for section in sections for block in section.blocks}
    assert {"Headline", "Table", "Chart", "Examples"} <= kinds


def test_gates(repeated: Audited) -> None:
    """A gate reads values, differences, details and warnings by name."""
    assert repeated.fails("distinct_n.difference < 0 and duplicate_share > 10%")
    assert not repeated.fails("length.p50 > 1000")
    assert repeated.fails("duplicate_share.flagged")
    assert not repeated.fails("warnings.leakage > 0")
    with pytest.raises(BadSetting, match="did you mean 'distinct_n'"):
        repeated.fails("distint_n < 1")
    with pytest.raises(BadSetting, match="did you mean 'difference'"):
        repeated.fails("distinct_n.diference < 1")


def test_a_corpus_against_itself() -> None:
    """Every difference is 0, every p is 1, chance is the value, and a warning says what was compared."""
    order = np.random.default_rng(0).permutation(600)
    shuffled = [HUMAN[i] for i in order]
    found = audit(corpus(shuffled), corpus(HUMAN), metrics=TEXT)
    for score in found.scores:
        assert 0 == score.difference, score.name
        assert score.p in (None, 1.0), score.name
        if score.chance is not None:
            assert score.value == pytest.approx(score.chance), score.name
    assert ["leakage"] == [warned.code for warned in found.warnings]
    assert "compares a corpus with itself" in found.warnings[0].message


def test_copies_of_the_reference_are_named() -> None:
    """Copied texts are counted and named; a pool that would hold copies gives no chance value."""
    mine = write(60, seed=5) + HUMAN[:20]
    found = audit(corpus(mine), corpus(HUMAN), metrics="duplicate_share")
    leaks = [warned for warned in found.warnings if warned.code == "leakage"]
    assert "20 of 80" in leaks[0].message
    assert 20 == len(leaks[0].records)
    assert found.scores[0].chance is None
    assert "in the reference" in found.scores[0].note


def test_the_order_of_files_does_not_matter() -> None:
    """Shuffling both files gives the same scores to the last digit."""
    a, b = write(300, seed=6), HUMAN
    rng = np.random.default_rng(1)
    one = audit(corpus(a), corpus(b), metrics=TEXT)
    other = audit(
        corpus([a[i] for i in rng.permutation(300)]),
        corpus([b[i] for i in rng.permutation(600)]),
        metrics=TEXT,
    )
    for left, right in zip(one.scores, other.scores, strict=True):
        assert (left.value, left.interval, left.p) == (right.value, right.interval, right.p), left.name


def test_shards_and_workers_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small shards and two processes give what one shard in this process gives."""
    from karat.auditing import passes

    mine, human = corpus(write(300, seed=7), LABELS[:300]), corpus(HUMAN, LABELS)
    names = TEXT + " label_balance"
    whole = audit(mine, human, metrics=names)
    monkeypatch.setattr(passes, "_SHARD_RECORDS", 70)
    cut = audit(mine, human, metrics=names, executor=registry.make("executors", "local:workers=2"))
    assert whole.scores == cut.scores
    assert whole.evidence == cut.evidence


def test_equal_sizes() -> None:
    """A larger corpus of the same source has the same vocabulary at equal tokens, and more without."""
    few, many = write(200, seed=8), write(800, seed=9)
    proper = audit(corpus(many), corpus(few), metrics="vocabulary self_bleu")
    assert not any(score.flagged for score in proper.scores)
    assert "size_mismatch" in {warned.code for warned in proper.warnings}
    paper = audit(corpus(many), corpus(few), metrics="vocabulary", mode="paper").scores[0]
    assert paper.value is not None and paper.reference is not None
    assert paper.value > 1.3 * paper.reference
    assert paper.p is None, "a difference of sizes is no finding"
    assert "tokens:whitespace" in paper.signature and "mode:paper" in paper.signature


def test_paper_mode_keeps_settings_that_were_chosen() -> None:
    """A setting that the user named is not replaced by the published one."""
    found = audit(corpus(HUMAN), metrics="compression_ratio:level=5 distinct_n:n=3", mode="paper")
    assert {"codec": "gzip", "level": 5, "order": "file", "limit": 0} == found.scores[0].settings
    assert {"n": 3, "tokens": "whitespace"} == found.scores[1].settings


ODD: dict[str, tuple[list[str], list[str] | None]] = {
    "one record": (["hello world"], None),
    "one against many": (["hello world"], HUMAN[:100]),
    "many against one": (HUMAN[:100], ["hello world"]),
    "two against two": (["a b", "c"], ["d", "e f g"]),
    "all empty": ([""] * 5, [""] * 7),
    "empty against text": (["", ""], HUMAN[:100]),
    "some empty": (["", "a", "b c"] * 20, HUMAN[:100]),
    "a megabyte": (["word " * 200_000, *write(3, seed=4)], HUMAN[:100]),
    "control characters": (["\x00\x01\x02", "a\x00b"] * 30, HUMAN[:100]),
    "other scripts": (["漢字かな交じり文", "ไทยภาษา", "עברית", "😀😀"] * 20, HUMAN[:100]),
    "one text many times": (["same"] * 100, HUMAN[:100]),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_input_gives_an_answer(name: str) -> None:
    """Odd corpora give plain JSON without nan and a report, never a traceback."""
    mine, human = ODD[name]
    found = audit(corpus(mine), corpus(human) if human else None, metrics=TEXT)
    json.dumps(found.to_json(), allow_nan=False)
    assert found.__report__()
    assert len(mine) == found.score("records").value
    for score in found.scores:
        assert score.value is None or np.isfinite(score.value)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("one record", "too_few_records"),
        ("one against many", "size_mismatch"),
        ("all empty", "degenerate_source"),
        ("one text many times", "degenerate_source"),
        ("some empty", "length_confounded"),
    ],
)
def test_warnings_have_stable_codes(name: str, code: str) -> None:
    """What makes scores hard to read is said, under a code that programs can rely on."""
    mine, human = ODD[name]
    found = audit(corpus(mine), corpus(human) if human else None, metrics="length")
    assert code in {warned.code for warned in found.warnings}


def test_what_cannot_be_is_one_line() -> None:
    """No records, an unknown mode, metric or field, and a metric that lacks what it needs: one line each."""
    human = corpus(HUMAN[:50])
    trials: list[tuple[type[KaratError], dict[str, Any]]] = [
        (BadSetting, {"mode": "papre"}),
        (BadSetting, {"budget": "huge"}),
        (BadSetting, {"metrics": "label_balance"}),
        (BadSetting, {"metrics": "distinct_n:n=0"}),
        (BadSetting, {"metrics": "distinct_n:tokens=wrod"}),
        (KaratError, {"metrics": "distint_n"}),
        (KaratError, {"metrics": "length", "by": "topic"}),
    ]
    for kind, settings in trials:
        with pytest.raises(kind) as caught:
            audit(human, **settings)
        assert "\n" not in str(caught.value), settings
    with pytest.raises(NotEnoughData, match="no records"):
        audit(human.slice(0, 0))


def test_metrics_that_do_not_apply_are_skipped_with_a_reason() -> None:
    """Without labels and reference, metrics that need them are left out, and the result says why."""
    found = audit(corpus(HUMAN[:60]), metrics=())
    assert "needs a label on each record" == found.skipped["label_balance"]
    assert "needs a reference" == found.skipped["two_sample_auc"]
    assert {"distinct_n", "self_bleu", "aps"} <= {score.name for score in found.scores}


def test_a_kept_audit_is_the_same_audit(tmp_path: Path, repeated: Audited) -> None:
    """A result written and read by a run is equal to the one that was computed."""
    run = Run(tmp_path)
    mine = corpus(HUMAN[:80], LABELS[:80])
    first = run.step(audit, mine, corpus(HUMAN[80:], LABELS[80:]), metrics=TEXT, by="label")
    again = run.step(audit, mine, corpus(HUMAN[80:], LABELS[80:]), metrics=TEXT, by="label")
    assert first == again
    assert first.to_json() == again.to_json()


def test_none_of_n_has_an_interval_too() -> None:
    """No duplicate among n records does not mean that the share is 0: Wilson's interval reaches above it."""
    from karat.auditing.statistics import wilson

    rows = records.from_rows([{"text": f"text number {i} of many"} for i in range(200)])
    score = audit(rows, metrics="duplicate_share").score("duplicate_share")
    assert 0.0 == score.value
    assert wilson(0, 200) == score.interval
    assert score.interval is not None and 0.01 < score.interval[1] < 0.03
