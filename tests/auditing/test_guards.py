"""What stands beside every difference: equal lengths, what could have been found, verdicts, names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from audit_corpora import corpus, write

import karat
from karat import records
from karat.auditing import statistics as stats
from karat.auditing.base import Masks, Metric, Need, Summary, Values, View, everything, need
from karat.auditing.result import Audited
from karat.auditing.selection import match_lengths, select, survey, unit_numbers
from karat.errors import BadSetting, InputError


@dataclass(frozen=True)
class Apart(Metric):
    """Total variation distance of the labels of two corpora, as simple as it can be written."""

    size: ClassVar[View] = "all"
    needs_labels: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    def needs(self) -> tuple[Need, ...]:
        return (need("labels"),)

    def between(self, pool: Summary, ours: Masks, theirs: Masks) -> Values:
        counts = pool[self.needs()[0]].counts
        shares = [masks.astype(float) @ counts for masks in (ours, theirs)]
        shares = [one / one.sum(axis=1, keepdims=True) for one in shares]
        return np.asarray(np.abs(shares[0] - shares[1]).sum(axis=1) / 2)


def surveyed(texts: list[str]) -> Any:
    return survey(corpus(texts).text_array(), tokenisers=("word",))


class TestEqualLengths:
    def test_both_sides_have_the_same_lengths(self) -> None:
        """From each band of lengths as many records are taken of one side as of the other."""
        long, short = surveyed(write(800, seed=1, length=24)), surveyed(write(600, seed=2, length=18))
        orders = [np.arange(800), np.arange(600)]
        found = match_lengths([long, short], orders)
        assert found is not None
        lengths = [
            one.tokens["word"][order[part.start : part.stop]]
            for one, (order, part, _) in zip((long, short), found, strict=True)
        ]
        assert len(lengths[0]) == len(lengths[1])
        assert abs(lengths[0].mean() - lengths[1].mean()) < 0.4
        assert abs(long.tokens["word"].mean() - short.tokens["word"].mean()) > 5

    def test_lengths_without_anything_in_common(self) -> None:
        """Where hardly a record has a partner, records are compared as they are, and the reader is told."""
        long, short = corpus(write(200, seed=1, length=80)), corpus(write(200, seed=2, length=5))
        audited = karat.audit(long, short, metrics="self_bleu", budget="small")
        assert 200 == audited.scores[0].n
        warned = next(one for one in audited.warnings if one.code == "length_confounded")
        assert "too few have equal lengths" in warned.message

    def test_length_alone_is_no_difference(self) -> None:
        """Two corpora of one source that differ in length only are told apart by length, not by AUC."""
        aucs, flagged = [], 0
        for seed in range(10):
            rng = np.random.default_rng(seed)
            pool = write(900, seed=100 + seed)
            lengths = np.array([len(text.split()) for text in pool])
            chance = 1 / (1 + np.exp(-(lengths - 20) / 4))
            long = rng.random(len(pool)) < chance
            one = corpus([t for t, flag in zip(pool, long, strict=True) if flag])
            other = corpus([t for t, flag in zip(pool, long, strict=True) if not flag])
            audited = karat.audit(one, other, metrics="two_sample_auc:trials=30 length", budget="small")
            aucs.append(audited.score("two_sample_auc").value)
            assert audited.score("length").flagged
            flagged += audited.score("two_sample_auc").flagged
        assert flagged <= 2
        assert abs(float(np.mean(aucs)) - 0.5) < 0.05  # type: ignore[arg-type]

    def test_identical_corpora_lose_nothing(self) -> None:
        """A corpus compared with itself is compared whole."""
        same = surveyed(write(300, seed=3))
        chosen = select(same, same, keys=[same.content, same.content], views=["lengths"])
        assert 300 == len(chosen[0].views["lengths"][0])


class TestUnits:
    def test_records_of_one_item_share_a_group(self) -> None:
        """All labels of an item are in one replicate group, the same on both sides."""
        names = [f"item {i % 50}" for i in range(300)]
        one, other = corpus(names), corpus(names[::-1][:250])
        sides = [survey(side.text_array(), tokenisers=("word",)) for side in (one, other)]
        units = [side.content for side in sides]
        keys = [np.arange(len(unit)).astype(np.uint64) for unit in units]
        found = select(sides[0], sides[1], keys=keys, views=["all"], units=units)
        group = [selection.members("all", 20) for selection in found]
        seen = {}
        for side, unit in enumerate(units):
            for key, member in zip(unit, group[side], strict=True):
                assert seen.setdefault(int(key), int(member)) == int(member)
        assert set(range(20)) == set(seen.values())

    def test_numbers_of_units(self) -> None:
        """Equal units have equal numbers on both sides, others different ones."""
        a, b = np.array([5, 6, 5, 7], np.uint64), np.array([7, 8], np.uint64)
        one, other = unit_numbers([a, b])
        assert one[0] == one[2] and one[3] == other[0]
        assert 4 == len({*one.tolist(), *other.tolist()})


class TestBetween:
    """A distance of two corpora gets its interval, its chance level and its p from the frame."""

    def audits(self, shift: float) -> list[float | None]:
        found = []
        for seed in range(100):
            rng = np.random.default_rng(seed)
            base = np.array([0.4, 0.3, 0.2, 0.1])
            moved = base + shift * np.array([-1, 1, 0, 0])
            labels = [rng.choice(list("abcd"), 300, p=p) for p in (moved, base)]
            sides = [
                records.from_rows(
                    [{"text": f"{seed} {side} {i}", "label": str(label)} for i, label in enumerate(drawn)]
                )
                for side, drawn in enumerate(labels)
            ]
            found.append(karat.audit(sides[0], sides[1], metrics=[Apart()], budget="small").scores[0].p)
        return found

    def test_silent_without_a_difference(self) -> None:
        """Of 100 pairs of samples of one source at most ten have p < 5%."""
        assert sum(p is not None and p < 0.05 for p in self.audits(0.0)) <= 10

    def test_finds_a_difference(self) -> None:
        """A shift of 20 points of label share is found nearly always."""
        assert sum(p is not None and p < 0.01 for p in self.audits(0.2)) >= 95


class TestVerdict:
    def test_same_differs_open(self) -> None:
        """Many records of one source are the same, few are open, another source differs."""
        many = [corpus(write(4000, seed=seed)) for seed in (1, 2)]
        few = [corpus(write(60, seed=seed)) for seed in (3, 4)]
        other = corpus(write(4000, seed=5, words=300))
        name = "distinct_n"
        assert "same" == karat.audit(*many, metrics=name, budget="small").score(name).verdict
        assert "open" == karat.audit(*few, metrics="length", margin=0.02).score("length").verdict
        assert "differs" == karat.audit(other, many[0], metrics=name, budget="small").score(name).verdict

    def test_the_margin_decides(self) -> None:
        """What is the same within 10% is open within 0.1%."""
        sides = [corpus(write(4000, seed=seed)) for seed in (1, 2)]
        verdicts = [
            karat.audit(*sides, metrics="distinct_n", margin=m, budget="small").scores[0].verdict
            for m in (0.1, 0.001)
        ]
        assert ["same", "open"] == verdicts

    def test_equivalence_is_two_one_sided_tests(self) -> None:
        """The smallest margin is the one at which the larger of both one-sided p-values is 5%."""
        one, other = stats.Estimate(0.52, 0.02, 19), stats.Estimate(0.50, 0.03, 19)
        gap = stats.difference(one, other)
        margin = stats.sizes(gap, one, other, share=False)["equivalence"]
        assert stats.equivalence_p(stats.Estimate(gap.value, gap.error, gap.df), margin) == pytest.approx(
            0.05, abs=1e-9
        )

    def test_what_could_have_been_found(self) -> None:
        """A true difference of the size named is found in about 80 of 100 samples."""
        rng = np.random.default_rng(0)
        error = stats.detectable(1.0, 38)
        found = 0
        for _ in range(2000):
            one, other = rng.normal(error, np.sqrt(10), 20), rng.normal(0, np.sqrt(10), 20)
            estimates = [stats.Estimate(x.mean(), x.std(ddof=1) / np.sqrt(20), 19) for x in (one, other)]
            p = stats.difference(*estimates).p
            found += p is not None and p < 0.05
        assert abs(found / 2000 - 0.8) < 0.04

    def test_the_tail_agrees_with_the_permutations(self) -> None:
        """Inside the null values p is the permutation p; far outside it is far smaller."""
        null = np.random.default_rng(0).normal(0, 1, 200)
        assert stats.permutation_p(1.0, null) == stats.tail_p(1.0, null)
        assert stats.tail_p(8.0, null) < 1e-9
        assert stats.tail_p(-8.0, null, two_sided=False) == 1.0

    def test_the_tail_of_a_skewed_null(self) -> None:
        """For a null like that of a distance the p-value follows the gamma tail, which is far heavier."""
        from scipy.stats import gamma

        rng = np.random.default_rng(1)
        found = [stats.tail_p(16.0, rng.gamma(2.0, 1.0, 400), two_sided=False) for _ in range(50)]
        truth = float(gamma(2.0).sf(16.0))
        assert truth / 30 < float(np.median(found)) < truth * 30
        assert float(np.median(found)) > 1e3 * stats.normal_p(14 / np.sqrt(2))


class TestBaseline:
    def test_drift(self, tmp_path: Path) -> None:
        """The same audit as before has no drift; another corpus has, and a gate can ask for it."""
        one, other, human = (
            corpus(write(400, seed=seed, words=w)) for seed, w in ((1, 2000), (2, 200), (3, 2000))
        )
        first = karat.audit(one, human, metrics="distinct_n", budget="small")
        path = tmp_path / "result.json"
        path.write_text(json.dumps(first.to_json()))
        again = karat.audit(one, human, metrics="distinct_n", budget="small", baseline=path)
        later = karat.audit(other, human, metrics="distinct_n", budget="small", baseline=path)
        assert not again.fails("distinct_n.drift < -0.01 or distinct_n.drift > 0.01")
        assert later.fails("distinct_n.drift < -0.05")

    def test_a_file_that_is_no_audit(self, tmp_path: Path) -> None:
        """A baseline that is something else is refused in one line."""
        path = tmp_path / "other.json"
        path.write_text("[1, 2]")
        with pytest.raises(InputError, match="no result of an audit"):
            karat.audit(corpus(write(50)), metrics="distinct_n", baseline=path)


class TestNames:
    def rows(self) -> Any:
        return records.from_rows(
            [
                {"item_id": f"i{i}", "text": f"t{i}", "label": "x", "annotator": f"WORKER{i % 3}"}
                for i in range(60)
            ]
        )

    def test_worker_ids_are_dropped_on_request(self) -> None:
        """With anonymous, no annotator's name is anywhere in the result."""
        from karat.auditing.origin import without_names

        one, _ = without_names(self.rows(), None)
        assert {"annotator 1", "annotator 2", "annotator 3"} == set(one.column("annotator"))
        wide = [
            {"item_id": f"i{i}", "text": f"t{i}", "labels": {"WORKER1": "x", "WORKER2": "y"}}
            for i in range(30)
        ]
        found = karat.audit(records.from_rows(wide), metrics="annotation", budget="small", anonymous=True)
        assert "WORKER" not in json.dumps(found.to_json())

    def test_provenance(self, tmp_path: Path) -> None:
        """The result names versions, the hash of the file and its licence."""
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps({"text": t, "license": "CC-BY-4.0"}) + "\n" for t in write(50)))
        found = karat.audit(records.read(path), metrics="distinct_n").provenance
        assert "CC-BY-4.0" == found["candidate.licence"]
        assert 64 == len(found["candidate.sha256"])
        assert {"karat", "python", "numpy", "polars"} <= set(found)


class TestChoosing:
    def test_a_family_by_name(self) -> None:
        """A family stands for all of its metrics that apply."""
        found = karat.audit(corpus(write(100)), metrics="repetition", budget="small")
        assert {"self_bleu", "compression_ratio", "duplicate_share"} <= {s.name for s in found.scores}
        assert {"repetition"} == {score.family for score in found.scores}

    def test_a_metric_of_another_data_type(self) -> None:
        """What cannot read the records is refused when it is named, and named as left out when not."""
        with pytest.raises(BadSetting, match="reads annotation"):
            karat.audit(corpus(write(50)), metrics="krippendorff_alpha")
        assert "krippendorff_alpha" in karat.audit(corpus(write(50)), metrics=(), budget="small").skipped

    def test_by_an_attribute_of_the_lineage(self) -> None:
        """--by finds attributes that a recipe recorded."""
        rows = [
            {"text": text, "lineage": {"attributes": json.dumps({"style": "dry" if i % 2 else "warm"})}}
            for i, text in enumerate(write(120))
        ]
        found = karat.audit(records.from_rows(rows), metrics="length", by="style", budget="small")
        assert {"dry", "warm"} == set(found.scores[0].by)


def flagged_audit() -> Audited:
    human = corpus(write(500, seed=1))
    stale = corpus([" ".join(["w1 w2 w3"] * 3 + text.split()[:10]) for text in write(500, seed=2)])
    return karat.audit(stale, human, metrics="distinct_n length two_sample_auc:trials=30", budget="small")


class TestExplanations:
    def test_each_flag_has_records_and_advice(self) -> None:
        """Each flagged difference says what to do and names records that show it."""
        audited = flagged_audit()
        flagged = [score for score in audited.scores if score.flagged]
        assert {"distinct_n", "two_sample_auc"} <= {score.name for score in flagged}
        for score in flagged:
            assert score.advice, score.name
            assert any(one.metric == score.name for one in audited.evidence), score.name

    def test_why(self) -> None:
        """why() explains a metric and a record, and says nothing of a record that is not named."""
        audited = flagged_audit()
        said = audited.why("distinct_n")
        assert "human data has" in said[0]
        assert any(line.startswith("what to do") for line in said)
        named = audited.worst(3)
        assert audited.why(named[0].id)
        assert () == audited.why("nobody")

    def test_the_report_has_the_findings(self) -> None:
        """The table of findings stands in the report."""
        titles = [getattr(block, "title", "") for block in flagged_audit().__report__()[0].blocks]
        assert "Findings" in titles


def test_no_pickle_is_ever_loaded(root: Path, tmp_path: Path) -> None:
    """No module loads pickles, and a file of pickles is refused by its name."""
    loads = (
        "pickle.load",
        "pickle.loads",
        "allow_pickle=True",
        "read_pickle",
        "joblib.load",
        "weights_only=False",
    )
    for path in (root / "src").rglob("*.py"):
        if path.parent.name == "executors":  # what our own workers send each other is no data of anybody
            continue
        text = path.read_text("utf-8")
        assert not [word for word in loads if word in text], path
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match="unknown format"):
        records.read(tmp_path / "x.pkl")


def test_everything_is_one_mask() -> None:
    """The point estimate merges all groups."""
    assert everything(3).tolist() == [[True, True, True]]
