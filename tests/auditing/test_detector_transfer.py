"""A detector at home and abroad: areas and errors by hand, planted losses found, documents kept whole."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from audit_corpora import write

import karat
from karat import records
from karat.auditing import domains
from karat.auditing import statistics as stats
from karat.errors import BadSetting
from karat.records import Records

DOMAINS = ("art", "biology", "chess")
MARKS = (" oak", " gym", " buzz")  # no character n-gram in common


@cache
def plain(seed: int) -> tuple[str, ...]:
    """Texts without any trace of a machine."""
    return tuple(write(3_000, seed=seed, words=300))


def world(n: int, *, seed: int, shared: float, own: float) -> tuple[list[str], list[str], list[str]]:
    """Human and synthetic texts, n a side and domain, and their domains.

    `shared` of the synthetic texts hold a word that the machine uses everywhere, `own` of them one that it
    uses in their domain only.
    """
    rng = np.random.default_rng(seed)
    pool = [plain(7)[i] for i in rng.permutation(3_000)]
    sides: list[list[str]] = []
    for machine in (False, True):
        side = []
        for place in range(len(DOMAINS)):
            for _ in range(n):
                text = pool.pop()
                if machine and rng.random() < shared:
                    text += " delve"
                if machine and rng.random() < own:
                    text += MARKS[place]
                side.append(text)
        sides.append(side)
    return sides[0], sides[1], [name for name in DOMAINS for _ in range(n)] * 2


class TestInfluences:
    def test_one_stratum_is_delong(self) -> None:
        """Area and error are those of DeLong's formula, but for its n - 1."""
        rng = np.random.default_rng(1)
        sides = rng.random(200) < 0.4
        scores = (rng.normal(size=200) + 0.7 * sides).round(1)
        areas, effects = domains.influences(scores[:, None], sides[:, None], np.zeros(200, np.int64))
        known = stats.auc(scores[sides], scores[~sides])
        assert known.auc == pytest.approx(areas[0], abs=1e-12)
        assert known.error == pytest.approx(np.sqrt((effects**2).sum()), rel=0.01)

    def test_strata_are_weighted_by_pairs(self) -> None:
        """2 x 2 pairs all won and 4 x 1 all lost: 4 / 8; a stratum of one side counts nothing."""
        scores = np.array([9, 9, 1, 1, 0, 0, 0, 0, 5, 7.0])
        sides = np.array([1, 1, 0, 0, 1, 1, 1, 1, 0, 1], dtype=bool)
        strata = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 2])
        assert 0.5 == domains.influences(scores[:, None], sides[:, None], strata)[0][0]


class TestArithmetic:
    def test_a_trace_of_one_domain_does_not_transfer(self) -> None:
        """Words that betray the machine in one domain each: well told at home, not at all abroad."""
        human, synthetic, where = world(60, seed=1, shared=0.0, own=0.8)
        found = domains.transfer(human, synthetic, where, trials=20)
        assert found is not None
        assert found.seen.value > 0.7
        assert found.unseen.interval[0] < 0.5 < found.unseen.interval[1]
        assert found.loss.interval[1] < -0.1
        assert found.loss.value == pytest.approx(found.unseen.value - found.seen.value)
        assert list(DOMAINS) == [one.name for one in found.domains]

    def test_a_trace_of_all_domains_does(self) -> None:
        """A word that the machine uses everywhere is worth the same abroad: no loss beyond its interval."""
        human, synthetic, where = world(60, seed=2, shared=0.8, own=0.0)
        found = domains.transfer(human, synthetic, where, trials=20)
        assert found is not None
        assert found.unseen.value > 0.75
        assert found.unseen.p < 1e-4
        assert found.loss.interval[0] < 0.02
        assert found.loss.value > -0.1

    def test_false_alarms(self) -> None:
        """Of 100 worlds without a machine at most 10 have p < 5%, and 90 intervals hold .5."""
        low = inside = 0
        for seed in range(100):
            human, synthetic, where = world(20, seed=seed, shared=0.0, own=0.0)
            found = domains.transfer(human, synthetic, where, trials=20, folds=3, seed=seed)
            assert found is not None
            low += found.unseen.p < 0.05
            inside += found.unseen.interval[0] <= 0.5 <= found.unseen.interval[1]
        assert low <= 10
        assert inside >= 90

    def test_documents_stay_whole(self) -> None:
        """Documents that stand in both domains: without a split by document their copies would be known."""
        pool = plain(8)
        human, synthetic = (
            [*pool[:40], *pool[:20], *pool[40:60]],
            [*pool[60:100], *pool[60:80], *pool[100:120]],
        )
        where = (["one"] * 40 + ["two"] * 40) * 2
        found = domains.transfer(human, synthetic, where, trials=20)
        assert found is not None
        assert 0.5 == pytest.approx(found.unseen.value, abs=0.2)
        assert 0.5 == pytest.approx(found.seen.value, abs=0.2)
        copies = (human[:40] * 2, synthetic[:40] * 2)  # nothing is left to train on elsewhere
        assert domains.transfer(*copies, where, trials=20) is None

    def test_one_domain_is_none(self) -> None:
        """With one domain of 20 texts a side there is no abroad."""
        human, synthetic, _ = world(30, seed=1, shared=0.5, own=0.0)
        where = (["art"] * 80 + ["rest"] * 10) * 2
        assert domains.transfer(human, synthetic, where) is None


def rows(texts: list[str], where: list[str]) -> Records:
    """Records with a domain."""
    return records.from_rows(
        [{"text": text, "domain": name} for text, name in zip(texts, where, strict=True)], datatype="text"
    )


class TestMetric:
    def test_an_audit_prints_both_figures(self) -> None:
        """Value abroad, in-domain figure and loss stand together with intervals; a loss is warned of."""
        human, synthetic, where = world(60, seed=1, shared=0.3, own=0.8)
        found = karat.audit(
            rows(synthetic, where[:180]),
            rows(human, where[:180]),
            metrics="detector_transfer:by=domain",
            budget="small",
        )
        (score,) = found.scores
        assert score.value is not None and score.interval is not None and score.p is not None
        assert score.details["in_domain"] > score.value
        assert score.details["loss_low"] <= score.details["loss"] <= score.details["loss_high"]
        assert "on unseen domains" in score.note and "where their domain was trained on" in score.note
        assert {*DOMAINS, *(f"{name} (in domain)" for name in DOMAINS)} == set(score.by)
        assert "domain_shift" in {one.code for one in found.warnings}

    def test_the_label_is_the_domain_where_none_is_named(self) -> None:
        """Records with labels need no setting; without labels it is left out and says what it needs."""
        human, synthetic, where = world(30, seed=2, shared=0.8, own=0.0)
        labelled = [
            records.from_rows([{"text": t, "label": name} for t, name in zip(side, where, strict=False)])
            for side in (synthetic, human)
        ]
        found = karat.audit(*labelled, metrics="detector_transfer:trials=10", budget="small")
        assert found.scores[0].value is not None
        bare = rows(human, where[:90]), rows(synthetic, where[:90])
        with pytest.raises(BadSetting, match=r"needs a domain on both sides: detector_transfer:by=FIELD"):
            karat.audit(*bare, metrics="detector_transfer", budget="small")

    def test_a_wrong_field_is_said(self) -> None:
        """A name that no record has is an error in one line, not a missing value."""
        human, synthetic, where = world(10, seed=2, shared=0.8, own=0.0)
        sides = rows(synthetic, where[:30]), rows(human, where[:30])
        with pytest.raises(BadSetting, match="no record has a field or attribute 'domian'"):
            karat.audit(*sides, metrics="detector_transfer:by=domian", budget="small")


def real(path: Path, where: list[str], n: int) -> Records:
    """A random part of a real file."""
    if not path.is_file():
        pytest.skip(f"no {path}")
    data = records.read(path, where=where, datatype="text")
    return data.take(np.sort(np.random.default_rng(1).permutation(len(data))[:n]).tolist())


def test_evaluation_items_by_topic(data_dir: Path) -> None:
    """Human against LLM-written items: about .96 on topics it was trained on, some .04 less on others."""
    path = data_dir / "model_written_evals" / "model_written_evals.jsonl.gz"
    sides = [real(path, [f"origin={origin}"], 1_500) for origin in ("llm", "human")]
    (score,) = karat.audit(*sides, metrics="detector_transfer:by=topic", budget="small").scores
    assert score.value is not None
    assert 0.8 < score.value < score.details["in_domain"] < 0.99
    assert score.details["loss_high"] < 0


def test_continued_documents_by_source(data_dir: Path) -> None:
    """GPT continuations of human documents, whole documents held out: .855 and more at home, less abroad."""
    path = data_dir / "fastdetect_pairs" / "fastdetect_pairs.jsonl.gz"
    sides = []
    for origin in ("llm", "human"):
        data = real(path, [f"origin={origin}"], 100_000)
        gpt = np.array([pair.startswith("exp_gpt3to4") for pair in data.column("pair_id")])
        sides.append(data.where(gpt))
    spec = "detector_transfer:by=domain,group=pair_id,records=450"
    found = karat.audit(*sides, metrics=spec, budget="small")
    (score,) = found.scores
    assert score.value is not None
    assert score.details["in_domain"] > 0.855
    assert 0.7 < score.value < 0.9
    assert score.by["pubmed"].value < 0.75  # question and answer: little of what betrays stories is there
    assert "domain_shift" in {one.code for one in found.warnings}
