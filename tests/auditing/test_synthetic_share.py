"""The share of LLM text in a corpus of unknown origin: planted shares are covered, none stays silent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from audit_corpora import corpus, write

import karat
from karat import records
from karat.auditing import prevalence, unlabelled
from karat.auditing.prevalence import Mixture
from karat.auditing.result import Audited
from karat.errors import BadSetting, InputError

N = 60


@cache
def source(kind: str) -> tuple[str, ...]:
    """Texts of one source; those of the machine hold one of three words more often than the human ones."""
    texts = write(1_000, seed=1 if kind == "human" else 2, words=300)
    rng = np.random.default_rng(3)
    return tuple(
        text + (f" delve{rng.integers(3)}" if rng.random() < (0.05 if kind == "human" else 0.9) else "")
        for text in texts
    )


def planted(truth: float, seed: int) -> tuple[Mixture, unlabelled.Scored]:
    """The share that is found in 100 texts, of which `truth` are the machine's, with 60 known ones a side."""
    rng = np.random.default_rng(seed)
    human, machine = (rng.permutation(np.array(source(kind), dtype=object)) for kind in ("human", "machine"))
    many = round(100 * truth)
    unknown = [*human[N : N + 100 - many], *machine[N : N + many]]
    found = unlabelled.score(
        human[:N].tolist(), machine[:N].tolist(), unknown, clusters=range(2 * N + 100), seed=seed
    )
    groups = (found.groups[2], found.groups[0], found.groups[1])
    return prevalence.mixture_share(found.unknown, found.human, found.known, clusters=groups), found


class TestArithmetic:
    def test_none_stays_silent(self) -> None:
        """Of 100 corpora without a machine text at most 10 have p below 5%, and 93 intervals hold 0."""
        found = [planted(0.0, seed)[0] for seed in range(100)]
        assert sum(one.p < 0.05 for one in found) <= 10
        assert sum((one.share.interval or (1, 1))[0] == 0 for one in found) >= 93

    @pytest.mark.parametrize("truth", [0.1, 0.3, 0.6])
    def test_planted_shares_are_covered(self, truth: float) -> None:
        """At least 27 of 30 intervals hold the planted share, and their middle is not off it."""
        found = [planted(truth, seed)[0] for seed in range(30)]
        inside = [low <= truth <= high for low, high in (one.share.interval or (1, 0) for one in found)]
        assert sum(inside) >= 27
        assert truth == pytest.approx(np.nanmedian([one.raw for one in found]), abs=0.06)

    def test_copies_go_where_the_known_ones_are(self) -> None:
        """A text of unknown origin is scored by a model that saw neither its copy nor its sibling."""
        sides = np.arange(40) < 20
        groups = np.concatenate([np.arange(40), [0, 0, 25, 50, 50, 51]])
        fold = unlabelled.deal(sides, groups, folds=5, seed=1)
        assert fold[40] == fold[41] == fold[0]
        assert fold[42] == fold[25]
        assert fold[43] == fold[44]
        assert {0, 1, 2, 3, 4} == set(fold[:40].tolist())

    def test_unknown_texts_are_dealt_evenly(self) -> None:
        """Texts of no known group are spread over all folds."""
        fold = unlabelled.deal(np.arange(40) < 20, np.arange(140), folds=5, seed=0)
        assert [20] * 5 == np.bincount(fold[40:]).tolist()


def file_of(folder: Path, name: str, texts: Sequence[str]) -> str:
    """A file of texts."""
    path = folder / f"{name}.jsonl"
    corpus(list(texts)).write(path)
    return str(path)


def audited(unknown: Sequence[str], human: Sequence[str], known: str) -> Audited:
    """An audit of this metric alone."""
    spec = f"synthetic_share:synthetic={known}"
    return karat.audit(corpus(list(unknown)), corpus(list(human)), metrics=spec, budget="small")


class TestMetric:
    def test_an_audit_prints_it(self, tmp_path: Path) -> None:
        """30% planted: the interval holds it, records are named, the known file is in the signature."""
        human, machine = source("human"), source("machine")
        known = file_of(tmp_path, "known", machine[:300])
        found = audited([*human[300:580], *machine[300:420]], human[:300], known)
        (score,) = found.scores
        assert score.interval is not None and score.interval[0] <= 0.3 <= score.interval[1]
        assert score.flagged
        assert (0.0, 0.0) == (score.chance, score.best)
        assert 400 == score.n
        assert "known_ref:" in score.signature
        assert {"auc", "counted", "adjusted_count", "maximum_likelihood"} <= set(score.details)
        assert len(found.evidence) > 0
        assert "corrected for its errors" in score.note

    def test_a_weak_detector_leaves_it_open(self, tmp_path: Path) -> None:
        """Two samples of one source: the interval is wide, and a warning says why."""
        human = source("human")
        known = file_of(tmp_path, "known", human[200:400])
        found = audited(human[400:600], human[:200], known)
        assert "weak_detector" in {one.code for one in found.warnings}
        low, high = found.scores[0].interval or (0, 0)
        assert high - low > 0.5

    def test_another_kind_of_text_is_warned_of(self, tmp_path: Path) -> None:
        """A candidate whose scores lie between both known kinds is no mixture of them."""
        texts = [text.split() for text in write(900, seed=9, words=300)]
        human, machine = ([" ".join([*t, *[w] * 4]) for t in texts] for w in ("cats", "delve"))
        between = [" ".join([*t, "cats", "cats", "delve", "delve"]) for t in texts[600:]]
        known = file_of(tmp_path, "known", machine[:300])
        found = audited(between, human[300:600], known)
        assert "domain_shift" in {one.code for one in found.warnings}

    def test_what_is_missing_is_said(self, tmp_path: Path) -> None:
        """Without known LLM text it is left out with a reason, and asked for by name it is an error."""
        human = corpus(list(source("human")[:60]))
        skipped = karat.audit(human, human, metrics="difference", budget="small").skipped
        assert "synthetic_share:synthetic=FILE" in skipped["synthetic_share"]
        with pytest.raises(BadSetting, match="needs known LLM text of the same kind"):
            karat.audit(human, human, metrics="synthetic_share", budget="small")
        with pytest.raises(InputError, match="nowhere"):
            audited(source("human")[:60], source("human")[60:120], str(tmp_path / "nowhere.jsonl"))

    def test_too_few_texts(self, tmp_path: Path) -> None:
        """Seven known texts are too few for a detector: no value, and the note says so."""
        known = file_of(tmp_path, "known", source("machine")[:7])
        (score,) = audited(source("human")[:60], source("human")[60:120], known).scores
        assert score.value is None
        assert "needs 8 texts on each side" in score.note


CORPORA = {
    "wvg": ("wvg_tendim/wvg_tendim.jsonl.gz", ["origin=human"], ["generator=gpt-4"]),
    "evals": ("model_written_evals/model_written_evals.jsonl.gz", ["origin=human"], ["origin=llm"]),
}


@cache
def shuffled(path: Path, rows: tuple[str, ...], seed: int) -> tuple[str, ...]:
    """Texts of one origin in an order of their own."""
    if not path.is_file():
        pytest.skip(f"no {path}")
    texts = records.read(path, where=rows, datatype="text").texts()
    return tuple(texts[i] for i in np.random.default_rng(seed).permutation(len(texts)))


@pytest.mark.parametrize("truth", [0.0, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("name", list(CORPORA))
def test_planted_in_real_text(data_dir: Path, name: str, truth: float) -> None:
    """Real human and LLM text mixed: the interval holds the planted share, and none has no low p."""
    file, human_rows, model_rows = CORPORA[name]
    human = shuffled(data_dir / file, tuple(human_rows), 1)
    machine = shuffled(data_dir / file, tuple(model_rows), 2)
    many = round(400 * truth)
    unknown = [*human[400 : 800 - many], *machine[400 : 400 + many]]
    found = unlabelled.score(human[:400], machine[:400], unknown, clusters=range(1200))
    groups = (found.groups[2], found.groups[0], found.groups[1])
    mixed = prevalence.mixture_share(found.unknown, found.human, found.known, clusters=groups)
    low, high = mixed.share.interval or (1, 0)
    assert low <= truth <= high
    assert (truth > 0) == (mixed.p < 0.05)
