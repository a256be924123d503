"""Attributes: planted skews, differences and flips are found with intervals that cover them; noise is not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as reference

import karat
from karat import records
from karat.auditing import attributes, shares
from karat.auditing import statistics as stats
from karat.auditing.base import Context
from karat.auditing.metrics.attribute_bias import (
    AttributeBias,
    _against_human,
    _against_target,
    _Settled,
    _values,
)
from karat.auditing.metrics.attribute_deficit import fit_line
from karat.auditing.metrics.attribute_difference import apart
from karat.auditing.metrics.attribute_flip import Flips
from karat.auditing.shares import Counted
from karat.errors import BadSetting, InputError
from karat.records import Records

PLACES = ("europe", "asia", "africa", "america")
WORDS = {"europe": "rhine alps", "asia": "ganges fuji", "africa": "nile sahara", "america": "andes yukon"}


def say(rng: np.random.Generator, place: str, *, clear: float) -> str:
    """Six words; the share `clear` of them is about the place, the rest about any."""
    everything = " ".join(WORDS.values()).split()
    own = WORDS[place].split()
    words = [str(rng.choice(own if rng.random() < clear else everything)) for _ in range(6)]
    return " ".join([*words, str(rng.integers(10**6))])


def places(n: int, part: tuple[float, ...], *, seed: int, clear: float = 0.5, known: bool = False) -> Records:
    """Texts about places in given shares; the place stands in the lineage where it is known."""
    rng = np.random.default_rng(seed)
    rows = []
    for place in rng.choice(PLACES, n, p=part):
        row: dict[str, Any] = {"text": say(rng, str(place), clear=clear)}
        if known:
            row["lineage"] = {"source": "synthetic", "attributes": {"location": str(place)}}
        rows.append(row)
    return records.from_rows(rows, datatype="text")


EVEN = (0.25, 0.25, 0.25, 0.25)
SKEWED = (0.01, 0.21, 0.10, 0.68)


class TestBias:
    def test_a_planted_skew(self, tmp_path: Path) -> None:
        """68 per cent against 1 is found through a classifier that errs, and corrected to the truth."""
        known = places(800, EVEN, seed=1, known=True).write(tmp_path / "known.jsonl")
        skewed, human = places(900, SKEWED, seed=2), places(900, EVEN, seed=3)
        spec = f"attribute_bias:attribute=location,scorer=trained,on={known}"
        audited = karat.audit(skewed, human, metrics=f"{spec} {spec},target=uniform")
        score = audited.scores[0]
        assert 0.4 < score.details["held_out_accuracy"] < 0.9
        for place, share in zip(PLACES, SKEWED, strict=True):
            found = score.by[place]
            assert found.interval is not None
            assert found.interval[0] <= share <= found.interval[1]
        # as counted, the classifier's errors hide a third of the skew
        assert score.details["uncorrected.america"] < 0.6
        assert abs(score.by["america"].value - 0.68) < 0.08  # type: ignore[operator]
        assert score.flagged and score.p is not None and score.p < 1e-3
        truth = sum(abs(a - b) for a, b in zip(SKEWED, EVEN, strict=True)) / 2
        for one in audited.scores:
            assert one.interval is not None
            assert one.interval[0] <= truth <= one.interval[1]
        assert audited.scores[1].reference is not None and audited.scores[1].reference < 0.1
        assert all("america" in one.reason for one in audited.evidence)

    def test_coverage_and_false_alarms(self) -> None:
        """Over 100 draws of everything random, intervals cover and no difference is no alarm."""
        part = np.array([0.68, 0.01, 0.11, 0.2])
        even = np.full(4, 0.25)
        rates = np.full((4, 4), 0.08) + 0.68 * np.eye(4)
        covered = Counter[str]()
        for seed in range(100):
            rng = np.random.default_rng(seed)
            confusion = np.stack([rng.multinomial(120, row) for row in rates])

            def side(true: Any, rng: Any = rng, confusion: Any = confusion) -> Counted:
                return Counted(rng.multinomial(500, true @ rates).astype(float), 1.0, confusion)

            context = Context(seed=seed, trials=40)
            beside, alone = _Settled("tvd", PLACES, None, context), _Settled("tvd", PLACES, even, context)
            skewed = side(part)
            rows = _values(beside, skewed)
            for i in (0, 1):
                ends = rows[PLACES[i]][1]
                covered[f"share {i}"] += ends is not None and ends[0] <= part[i] <= ends[1]
            found = _against_target(alone, [skewed])
            covered["distance"] += found["interval"][0] <= 0.44 <= found["interval"][1]
            covered["alarm alone"] += _against_target(alone, [side(even)])["p"] < 0.05
            covered["alarm beside"] += _against_human(beside, [side(part), side(part)])["p"] < 0.05
        assert min(covered["share 0"], covered["share 1"], covered["distance"]) >= 88, covered
        assert max(covered["alarm alone"], covered["alarm beside"]) <= 10, covered

    def test_a_corpus_of_another_kind(self, tmp_path: Path) -> None:
        """Texts on which the classifier errs more need a labelled sample of their own; without, a warning."""
        known = places(800, EVEN, seed=1, clear=0.7, known=True).write(tmp_path / "known.jsonl")
        sample = places(400, EVEN, seed=4, clear=0.25, known=True).write(tmp_path / "sample.jsonl")
        skewed, human = places(1500, SKEWED, seed=2, clear=0.25), places(800, EVEN, seed=3, clear=0.7)
        spec = f"attribute_bias:attribute=location,scorer=trained,on={known}"
        audited = karat.audit(skewed, human, metrics=f"{spec} {spec},checked={sample}")
        blind, checked = (audited.score(f"attribute_bias:checked={name}") for name in ("", sample))
        for place, share in zip(PLACES, SKEWED, strict=True):
            ends = checked.by[place].interval
            assert ends is not None and ends[0] <= share <= ends[1]
        ends = blind.by["america"].interval
        assert ends is not None and ends[1] < 0.68
        assert ["judge_unvalidated"] == [one.code for one in audited.warnings if one.code != "size_mismatch"]
        assert "less sure of the candidate" in next(
            w.message for w in audited.warnings if w.code == "judge_unvalidated"
        )

    def test_known_values_are_counted_as_they_are(self) -> None:
        """With the lineage there is nothing to correct: shares, entropy and coverage by hand."""
        rows = [("a", 6), ("b", 3), ("c", 1)]
        given = [
            {
                "text": f"{value} {i}",
                "label": "x" if i % 2 else "y",
                "lineage": {"attributes": {"style": value}},
            }
            for value, n in rows
            for i in range(n)
        ]
        score = karat.audit(
            records.from_rows(given), metrics="attribute_bias:attribute=style,least=3"
        ).scores[0]
        assert abs(score.value - (0.6 - 1 / 3)) < 1e-12  # type: ignore[operator]
        entropy = -(0.6 * np.log(0.6) + 0.3 * np.log(0.3) + 0.1 * np.log(0.1)) / np.log(3)
        assert abs(score.details["entropy"] - entropy) < 1e-12
        assert 2 / 3 == score.details["coverage"]
        assert 0.6 == score.details["largest"]
        assert {"label x", "label y"} <= set(score.by)
        assert 6 == score.by["a"].n
        assert score.by["a"].interval == stats.wilson(6, 10)

    def test_within_labels(self) -> None:
        """A label with one value most often is found among labels that are even (chi-square, Holm)."""
        rng = np.random.default_rng(0)
        rows = []
        for label in ("sports", "trade", "war"):
            for i in range(150):
                value = "europe" if label == "war" and rng.random() < 0.7 else str(rng.choice(PLACES))
                rows.append(
                    {"text": f"{label} {i}", "label": label, "lineage": {"attributes": {"location": value}}}
                )
        score = karat.audit(records.from_rows(rows), metrics="attribute_bias:attribute=location").scores[0]
        assert score.details["p_holm.war"] < 1e-6
        assert min(score.details["p_holm.sports"], score.details["p_holm.trade"]) > 0.05
        assert score.by["label war"].value > 0.4  # type: ignore[operator]

    def test_shares_of_a_file(self, tmp_path: Path) -> None:
        """A census is a target: the distance to it by hand, values that nobody has included."""
        rows = [{"text": f"t{i}", "lineage": {"attributes": {"place": "ab"[i % 2]}}} for i in range(10)]
        target = tmp_path / "census.json"
        target.write_text(json.dumps({"a": 50, "b": 30, "c": 20}))
        score = karat.audit(
            records.from_rows(rows), metrics=f"attribute_bias:attribute=place,target={target}"
        ).scores[0]
        assert abs(score.value - 0.2) < 1e-12  # type: ignore[operator]
        with pytest.raises(BadSetting, match="is no file of shares"):
            karat.audit(records.from_rows(rows), metrics="attribute_bias:attribute=place,target=nowhere.json")

    def test_measures_by_hand(self) -> None:
        """TVD, Jensen-Shannon divergence in bits, evenness and largest share of small histograms."""
        p, q = np.array([0.5, 0.5, 0.0]), np.array([0.5, 0.0, 0.5])
        assert 0.5 == float(shares.measure(p, q, "tvd"))
        assert 0.5 == float(shares.measure(p, q, "jsd"))
        assert abs(float(shares.measure(p, q, "entropy")) - 1 / np.log2(3)) < 1e-12
        assert 0.5 == float(shares.measure(p, q, "largest"))

    def test_chi_square_is_the_usual_one(self) -> None:
        """Without clusters and errors both tests are Pearson's."""
        one, other = np.array([30.0, 50, 20]), np.array([45.0, 40, 15])
        chi, df, p = shares.goodness_p(Counted(one), np.array([0.3, 0.3, 0.4]))
        assert 2 == df
        np.testing.assert_allclose(reference.chisquare(one, [30, 30, 40]), [chi, p])
        chi, df, p = shares.homogeneity_p(Counted(one), Counted(other))
        expected = reference.chi2_contingency(np.stack([one, other]), correction=False)
        np.testing.assert_allclose([expected.statistic, expected.pvalue, expected.dof], [chi, p, df])

    def test_clusters_are_no_new_evidence(self) -> None:
        """Ten copies of each record know as much as one; independent records keep an effect near 1."""
        rng = np.random.default_rng(0)
        codes = rng.integers(0, 3, 300)
        assert 1.0 == shares.design_effect(codes, np.arange(300), 3)
        copied = shares.design_effect(np.repeat(codes, 10), np.repeat(np.arange(300), 10), 3)
        assert abs(copied - 10 * 300 / 299) < 1e-9
        assert shares.design_effect(codes, np.repeat(np.arange(30), 10), 3) < 2

    def test_refusals(self) -> None:
        """A missing attribute, scores of several classes at once and unknown measures are named."""
        asked = places(5, EVEN, seed=0, known=True)
        with pytest.raises(
            InputError, match=r"no record of the candidate has a value of 'genre' \(its lineage knows: l"
        ):
            karat.audit(asked, metrics="attribute_bias:attribute=genre")
        rows = records.from_rows([{"text": f"t{i}", "joy": 0.1, "anger": 0.3} for i in range(5)])
        with pytest.raises(BadSetting, match="needs the name of an attribute: attribute_bias:attribute=NAME"):
            karat.audit(rows, metrics="attribute_bias")
        with pytest.raises(InputError, match="use attribute_difference"):
            karat.audit(rows, metrics="attribute_bias:attribute=joy+anger,scorer=field")
        with pytest.raises(BadSetting, match="measure is 'chi2'; choose one of"):
            karat.audit(rows, metrics="attribute_bias:attribute=joy,measure=chi2")


class TestDifference:
    def test_planted(self) -> None:
        """A shift of .1 in one of two attributes is found in it alone; the interval covers the shift."""
        rng = np.random.default_rng(0)

        def side(shift: float, tag: str) -> Records:
            return records.from_rows(
                {
                    "text": f"{tag} {i}",
                    "label": "ab"[i % 2],
                    "joy": float(rng.beta(3, 3) * 0.8 + shift),
                    "fear": float(rng.beta(2, 5)),
                }
                for i in range(400)
            )

        audited = karat.audit(
            side(0.1, "m"),
            side(0.0, "h"),
            metrics="attribute_difference:attribute=joy+fear attribute_difference:attribute=joy",
        )
        both, joy = audited.scores
        ends = joy.difference_interval
        assert ends is not None and ends[0] <= 0.1 <= ends[1]
        assert both.details["p_holm.joy"] < 1e-6 < 0.05 < both.details["p_holm.fear"]
        assert both.flagged and joy.flagged
        assert {"joy", "fear", "joy in a", "fear in b"} <= set(both.by)
        assert joy.details["effect.joy"] == joy.effect

    def test_effects_and_errors_by_peers(self) -> None:
        """Cliff's delta is that of Mann and Whitney's U; the error without clusters is Welch's."""
        rng = np.random.default_rng(1)
        a, b = rng.beta(2, 3, 80).round(2), rng.beta(2, 4, 60).round(2)
        groups = [np.arange(80), 80 + np.arange(60)]
        found = apart(a, b, groups, "cliffs_delta")
        assert found is not None
        assert abs(found.effect - (2 * reference.mannwhitneyu(a, b).statistic / (80 * 60) - 1)) < 1e-12
        expected = reference.ttest_ind(a, b, equal_var=False)
        assert abs(found.gap.p - expected.pvalue) < 1e-9  # type: ignore[operator]
        np.testing.assert_allclose(expected.confidence_interval(), found.gap.interval)

    def test_no_alarm_without_a_difference(self) -> None:
        """100 draws of one source, ten rewrites of each text: at most 10 alarms at 5 per cent."""
        alarms = shared = 0
        for seed in range(100):
            rng = np.random.default_rng(seed)
            base = rng.random((2, 20, 3))
            scores = [
                np.clip(np.repeat(one, 5, axis=0) + rng.normal(0, 0.05, (100, 3)), 0, 1) for one in base
            ]
            groups = [np.repeat(np.arange(20), 5), 20 + np.repeat(np.arange(20), 5)]
            p = [apart(scores[0][:, i], scores[1][:, i], groups, "hedges_g").gap.p for i in range(3)]  # type: ignore[union-attr]
            alarms += min(q for q in stats.holm(p) if q is not None) < 0.05
            # both sides made from the same sources: what they have in common is no error
            other = np.clip(np.repeat(base[0], 5, axis=0) + rng.normal(0, 0.05, (100, 3)), 0, 1)
            linked = apart(scores[0][:, 0], other[:, 0], [groups[0], groups[0]], "hedges_g")
            shared += linked is not None and linked.gap.p is not None and linked.gap.p < 0.05
        assert alarms <= 10
        assert 1 <= shared <= 10


class TestFlips:
    def pairs(self, n: int = 200, seed: int = 0, gain: float = 0.3) -> tuple[Records, Records]:
        """Human texts and two machine texts of each, of which a share gains joy that was not there."""
        rng = np.random.default_rng(seed)
        human, machine = [], []
        for i in range(n):
            joy, sad = rng.random(2)
            label = ("respect", "trust")[i % 2]
            human.append({"id": f"h{i}", "text": f"h {i}", "label": label, "joy": joy, "sadness": sad})
            for k in range(2):
                gained = joy < 0.5 and rng.random() < gain
                machine.append(
                    {
                        "text": f"m {i} {k}",
                        "label": label,
                        "human_id": f"h{i}",
                        "joy": 0.9 if gained else joy,
                        "sadness": sad,
                        "lineage": {"parents": [f"h{i}"]},
                    }
                )
        return records.from_rows(machine), records.from_rows(human)

    def test_planted(self) -> None:
        """Joy gained in 3 of 10 texts without it is counted as 1m0h, and nothing else moves."""
        machine, human = self.pairs(seed=1)
        score = karat.audit(machine, human, metrics="attribute_flip:attribute=joy+sadness").scores[0]
        up = score.by["joy 1m0h"]
        assert up.interval is not None and up.interval[0] <= 0.15 <= up.interval[1]
        assert 0 == score.by["joy 0m1h"].value == score.by["sadness 1m0h"].value
        assert score.flagged and score.details["p_holm.joy"] < 1e-9 and 1.0 == score.details["p_holm.sadness"]
        assert abs(score.value - up.value / 2) < 1e-12  # type: ignore[operator]
        assert {"joy 1m0h in respect", "sadness 0m1h in trust"} <= set(score.by)
        by_field = karat.audit(
            machine, human, metrics="attribute_flip:attribute=joy+sadness,link=human_id"
        ).scores[0]
        assert score.value == by_field.value
        assert "linked_by:human_id = id" in by_field.signature

    def test_the_published_rates(self) -> None:
        """Binarised at .5, metaphor by a difference above .15, a mean a category: as in the paper's code."""
        rng = np.random.default_rng(5)
        human, machine = [], []
        for i in range(120):
            tokens = [{"entity": f"LABEL_{int(rng.random() < 0.3)}"} for _ in range(8)]
            row = {"joy": float(rng.choice([0.2, 0.5, 0.8])), "metaphor": tokens, "label": "xyz"[i % 3]}
            human.append({"id": f"h{i}", "text": f"h{i}", **row})
            other = [{"entity": f"LABEL_{int(rng.random() < 0.5)}"} for _ in range(8)]
            machine.append(
                {
                    "text": f"m{i}",
                    "human_id": f"h{i}",
                    "joy": float(rng.choice([0.2, 0.5, 0.8])),
                    "metaphor": other,
                    "label": "xyz"[i % 3],
                }
            )
        audited = karat.audit(
            records.from_rows(machine),
            records.from_rows(human),
            metrics="attribute_flip:attribute=joy+metaphor,link=human_id",
            mode="paper",
        )
        rate = {"LABEL_1": 1, "LABEL_0": 0}
        for category in "xyz":
            rows = [(m, h) for m, h in zip(machine, human, strict=True) if m["label"] == category]
            joy = np.mean([m["joy"] >= 0.5 and not h["joy"] >= 0.5 for m, h in rows])
            gap = [np.mean([rate[t["entity"]] for t in one["metaphor"]]) for m, h in rows for one in (m, h)]
            down = np.mean([b - a > 0.15 for a, b in zip(gap[::2], gap[1::2], strict=True)])
            assert joy == audited.scores[0].by[f"joy 1m0h in {category}"].value
            assert abs(down - audited.scores[0].by[f"metaphor 0m1h in {category}"].value) < 1e-12  # type: ignore[operator]

    def test_exact_tests_by_peers(self) -> None:
        """Pairs of their own give McNemar's exact test; clusters give the test by flipping whole clusters."""
        for up, down in ((9, 2), (5, 5), (30, 12), (1, 0)):
            sums = np.array([1] * up + [-1] * down + [0] * 7)
            assert abs(reference.binomtest(up, up + down).pvalue - attributes.sign_p(sums)) < 1e-12
        sums = np.array([3, -1, 2, 2, -2, 1])
        signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1)
        null = np.abs((np.abs(sums)[:, None] * signs).sum(axis=0))
        assert abs((null >= abs(sums.sum())).mean() - attributes.sign_p(sums)) < 1e-12
        assert 1.0 == attributes.sign_p([0, 0])

    def test_no_alarm_without_a_shift(self) -> None:
        """A noisy classifier flips both ways alike: rates are high, alarms at most 10 of 100."""
        alarms = 0
        for seed in range(100):
            rng = np.random.default_rng(seed)
            sources = np.repeat(np.arange(60), 3)
            drift = rng.normal(0, 0.3, 60)[sources]
            human, machine = rng.random(180) + 0.0, rng.random(180) + drift
            human = human + 0.0
            up, down = (machine >= 0.5) & (human < 0.5), (machine < 0.5) & (human >= 0.5)
            alarms += Flips(up, down, np.ones(180, bool), 0.5).p(sources) < 0.05
        assert alarms <= 10

    def test_chance_is_the_rate_of_strangers(self) -> None:
        """Machine texts dealt out among human texts at random flip as often as `chance` says."""
        rng = np.random.default_rng(0)
        machine, human = self.pairs(seed=2)
        score = karat.audit(machine, human, metrics="attribute_flip:attribute=joy").scores[0]
        has = np.array(machine.column("joy")) >= 0.5
        had = np.repeat(np.array(human.column("joy")) >= 0.5, 2)
        strangers = np.mean([(has != rng.permutation(had)).mean() for _ in range(300)])
        assert abs(strangers - score.chance) < 0.01  # type: ignore[operator]

    def test_nothing_to_link(self) -> None:
        """Without pairs the metric is left out with its reason, or says that none was found."""
        machine, human = self.pairs(10)
        alone = human.with_column("other", ["x"] * len(human))
        with pytest.raises(BadSetting, match="needs pairs: parents in the lineage"):
            karat.audit(human, alone, metrics="attribute_flip:attribute=joy")
        stranger = human.with_column("id", [f"z{i}" for i in range(10)])
        with pytest.raises(InputError, match="no candidate record names a reference record"):
            karat.audit(machine, stranger, metrics="attribute_flip:attribute=joy")


class TestDeficit:
    def test_line_by_peers(self) -> None:
        """Slope, error, interval, p and r are those of ordinary least squares."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=9)
        y = 0.3 * x + rng.normal(0, 0.4, 9) + 1
        found, expected = fit_line(x, y), reference.linregress(x, y)
        np.testing.assert_allclose(
            [expected.slope, expected.intercept, expected.stderr, expected.pvalue, expected.rvalue],
            [found.slope, found.intercept, found.error, found.p, found.r],
        )

    def audited(self, tmp_path: Path, classes: int, slope: float) -> Any:
        rng = np.random.default_rng(3)
        lost, human, machine = [], [], []
        for k in range(classes):
            label, shift = f"c{k}", 0.4 * k / classes
            lost.append(
                {
                    "label": label,
                    "human_f1": 0.6,
                    "synthetic_f1": 0.6 - slope * shift - float(rng.normal(0, 0.005)),
                }
            )
            for i in range(60):
                human.append({"text": f"h{k}{i}", "label": label, "joy": float(rng.random() * 0.5)})
                machine.append({"text": f"m{k}{i}", "label": label, "joy": float(rng.random() * 0.5 + shift)})
        path = tmp_path / f"f1-{classes}.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in lost))
        spec = f"attribute_deficit:attribute=joy,deficits={path}"
        return karat.audit(records.from_rows(machine), records.from_rows(human), metrics=spec)

    def test_planted(self, tmp_path: Path) -> None:
        """A loss that grows with the attribute is found with its slope, and few classes are warned of."""
        score = self.audited(tmp_path, 12, 0.5).scores[0]
        assert score.interval is not None and score.interval[0] <= 0.5 <= score.interval[1]
        assert score.flagged and 12 == score.n and 0.0 == score.chance
        few = self.audited(tmp_path, 8, 0.5)
        assert "too_few_records" in [one.code for one in few.warnings]
        assert "8 classes" in next(one.message for one in few.warnings if one.code == "too_few_records")

    def test_no_alarm_on_the_published_scale(self) -> None:
        """Eight points without any relation are an alarm in at most 10 of 100 draws."""
        alarms = 0
        for seed in range(100):
            rng = np.random.default_rng(seed)
            p = fit_line(rng.normal(size=8), rng.normal(size=8)).p
            alarms += p is not None and p < 0.05
        assert alarms <= 10

    def test_bad_files(self, tmp_path: Path) -> None:
        """A file that is not there, without the figures, or of other labels is named with the cure."""
        rows = records.from_rows([{"text": f"t{i}", "label": "a", "joy": 0.5} for i in range(4)])
        with pytest.raises(BadSetting, match="needs the F1 of each class: deficits=FILE"):
            karat.audit(rows, rows, metrics="attribute_deficit:attribute=joy")
        with pytest.raises(InputError, match="no such file"):
            karat.audit(rows, rows, metrics="attribute_deficit:attribute=joy,deficits=none.json")
        bad = tmp_path / "bad.json"
        bad.write_text('[{"label": "a"}]')
        with pytest.raises(InputError, match="each row needs label, human_f1 and synthetic_f1"):
            karat.audit(rows, rows, metrics=f"attribute_deficit:attribute=joy,deficits={bad}")
        bad.write_text('{"z": {"human_f1": 1, "synthetic_f1": 0.5}}')
        with pytest.raises(InputError, match="0 of its labels stand in both corpora"):
            karat.audit(rows, rows, metrics=f"attribute_deficit:attribute=joy,deficits={bad}")


@pytest.fixture(scope="module")
def tendim(data_dir: Path) -> dict[str, Records]:
    """Sentences of people on ten social dimensions, and rewrites by GPT-4 with the label asked for."""
    every = records.read(data_dir / "wvg_tendim" / "wvg_tendim.jsonl.gz")
    split, generator = np.array(every.column("split")), np.array(every.column("generator"), dtype=str)
    sampling = np.array(every.column("sampling"), dtype=str)
    found = {name: every.where(split == name) for name in ("human_seed", "human_train", "gold_test")}
    for name in ("balanced", "proportional"):
        rows = every.where((generator == "gpt-4") & (sampling == name))
        asked = [json.dumps({"dimension": label}) for label in rows.column("label")]
        found[name] = rows.with_lineage(source="synthetic", generator="gpt-4", attributes=asked)
    return found


class TestRealData:
    def test_what_was_asked_of_gpt_4(self, tendim: dict[str, Records]) -> None:
        """GPT-4 was asked for ten dimensions evenly in one corpus and in human shares in the other."""
        human = tendim["human_seed"]
        human = human.with_column("dimension", human.column("label"))
        spec = "attribute_bias:attribute=dimension"
        found = {
            name: karat.audit(tendim[name], human, metrics=spec).scores[0]
            for name in ("balanced", "proportional")
        }
        counts = {name: Counter(tendim[name].column("label")) for name in found}
        people = Counter(human.column("label"))
        for name, score in found.items():
            n, m = sum(counts[name].values()), sum(people.values())
            names = set(counts[name]) | set(people)
            expected = sum(abs(counts[name][one] / n - people[one] / m) for one in names) / 2
            assert abs(expected - score.value) < 1e-12  # type: ignore[operator]
        assert found["balanced"].flagged
        assert found["balanced"].value > 3 * found["proportional"].value  # type: ignore[operator]

    def test_a_trained_scorer_end_to_end(self, tendim: dict[str, Records], tmp_path: Path) -> None:
        """A classifier of human sentences reads GPT-4's: weak as it is, it says how weak."""
        known = tendim["human_train"].write(tmp_path / "known.jsonl")
        metric = AttributeBias(attribute="label", scorer="trained:records=1000", on=str(known))
        audited = karat.audit(tendim["balanced"], tendim["gold_test"], metrics=[metric], budget="small")
        score = audited.scores[0]
        assert 0.3 < score.details["held_out_accuracy"] < 0.6
        assert score.details["reference.agrees_with_known"] > score.details["agrees_with_known"]
        assert score.value is not None and score.interval is not None
        assert all(part.interval is not None for name, part in score.by.items())

    def test_a_known_skew_of_news(self, ag_news: Records, tmp_path: Path) -> None:
        """News of four topics in planted shares: the corrected shares cover them, the counted ones do not."""
        labels = np.array(ag_news.column("label"))
        order = np.random.default_rng(0).permutation(len(ag_news))
        known = ag_news.take(order[:1500]).write(tmp_path / "known.jsonl")
        rest = order[1500:]
        part = {"World": 0.68, "Business": 0.01, "Sports": 0.2, "Sci/Tech": 0.11}
        rows = [rest[labels[rest] == name][: round(800 * share)] for name, share in part.items()]
        skewed = ag_news.take(np.concatenate(rows))
        human = ag_news.take(rest[-800:])
        spec = f"attribute_bias:attribute=label,scorer=trained,on={known}"
        score = karat.audit(skewed, human, metrics=spec, budget="small").scores[0]
        for name, share in part.items():
            ends = score.by[name].interval
            assert ends is not None and ends[0] <= share <= ends[1], name
        assert abs(score.details["uncorrected.World"] - 0.68) > 0.04
        assert score.flagged
