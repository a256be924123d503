"""Scorers: records in, classes out; what was learnt from is never scored by what learnt it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import karat
from karat import records
from karat.auditing.scorers import text_classification
from karat.auditing.scorers.base import Given, make
from karat.errors import BadSetting, InputError, NotEnoughData

WORDS = {
    "north": "snow ice polar cold sled",
    "south": "sand palm heat sun beach",
    "west": "gold cowboy plain dust ox",
}


def given(texts: Sequence[str] = (), **columns: Any) -> Given:
    n = len(texts) or len(next(iter(columns.values())))
    arrays = {}
    for name, values in columns.items():
        arrays[name.replace("__", ".")] = np.array(values, dtype=object)
    return Given(tuple(texts), arrays, np.array([f"r{i}" for i in range(n)], dtype=object))


def say(rng: np.random.Generator, place: str, *, clear: float = 0.8) -> str:
    """A text about a place; one in five words (by default) is about another."""
    other = [word for name, words in WORDS.items() if name != place for word in words.split()]
    own = WORDS[place].split()
    return (
        " ".join(str(rng.choice(own if rng.random() < clear else other)) for _ in range(4))
        + f" {rng.integers(1000)}"
    )


class TestField:
    def test_numbers_are_scores(self) -> None:
        """Columns of numbers are classes of their own; a missing one is unknown."""
        found = make("field", attribute="joy+anger").score([given(joy=[0.5, None], anger=["0.25", 1])])
        assert ("joy", "anger") == found.names
        assert not found.exclusive and not found.exact
        whole = make("field", attribute="joy+anger").score([given(joy=[0.5, 0.9], anger=[0.5, 0.1])])
        assert whole.exclusive
        np.testing.assert_allclose([[0.5, 0.25], [np.nan, 1.0]], found.rows[0])

    def test_words_are_classes(self) -> None:
        """One column of words (or whole numbers beyond 0 and 1) names the class of each record."""
        found = make("field", attribute="place").score([given(place=["a", "b", None]), given(place=["c"])])
        assert ("a", "b", "c") == found.names
        np.testing.assert_allclose([[1, 0, 0], [0, 1, 0], [np.nan] * 3], found.rows[0])
        assert ("1", "2", "3") == make("field", attribute="stars").score([given(stars=[1, 3, 2])]).names

    def test_tagged_tokens(self) -> None:
        """A list of tagged tokens is the share that is marked, as taggers of metaphors are read."""
        tokens = [{"entity": "LABEL_1"}, {"entity": "LABEL_0"}, {"entity": "LABEL_0"}, {"entity": "LABEL_1"}]
        values = [tokens, json.dumps(tokens[:3]), str(tokens[:1]), []]
        found = make("field", attribute="metaphor").score([given(metaphor=values)])
        np.testing.assert_allclose([0.5, 1 / 3, 1.0, np.nan], found.rows[0][:, 0])

    def test_refused(self) -> None:
        """Scores outside 0 and 1, words among scores, and no name at all are refused in one line."""
        with pytest.raises(InputError, match=r"holds -0\.5 to 0\.5"):
            make("field", attribute="x").score([given(x=[-0.5, 0.5])])
        with pytest.raises(InputError, match="'y' holds no numbers"):
            make("field", attribute="x+y").score([given(x=[0.5], y=["high"])])
        with pytest.raises(BadSetting, match="needs the setting 'attribute'"):
            make("field").score([given(x=[1])])


class TestLineage:
    def test_asked_for_or_field(self) -> None:
        """The lineage says what was asked for; records without one are read from the field of that name."""
        asked = given(lineage__attributes=['{"place":"south","style":"dry"}', None], place=[None, "north"])
        found = make("lineage", attribute="place").score([asked])
        assert ("north", "south") == found.names
        assert [[0.0, 1.0], [1.0, 0.0]] == found.rows[0].tolist()


class TestTrained:
    def sides(self, seed: int = 0) -> tuple[Given, Given, Any]:
        rng = np.random.default_rng(seed)
        places = [str(rng.choice(list(WORDS))) for _ in range(240)]
        known = given([say(rng, place, clear=0.6) for place in places], place=places)
        truth = [str(rng.choice(list(WORDS), p=[0.7, 0.2, 0.1])) for _ in range(300)]
        new = given([say(rng, place, clear=0.6) for place in truth], place=[None] * 300)
        return known, new, np.array(truth)

    def test_held_out_errors(self) -> None:
        """The confusion table counts every training record once, and foretells the errors on new records."""
        known, new, truth = self.sides()
        found = make("trained", attribute="place").score([known, new])
        assert found.confusion is not None
        assert [240] == [int(found.confusion.sum())]
        names = np.array(found.names)
        right = float((names[found.rows[1].argmax(axis=1)] == truth).mean())
        assert abs(right - found.accuracy) < 0.12
        assert 0.5 < found.accuracy < 0.95
        np.testing.assert_allclose(1.0, found.rows[1].sum(axis=1))

    def test_no_record_is_scored_by_what_it_taught(self) -> None:
        """With labels that mean nothing, scores of the training records are no better than chance."""
        rng = np.random.default_rng(1)
        texts = [f"{rng.integers(10**9)} {rng.integers(10**9)} word{i % 7}" for i in range(200)]
        labels = [str(rng.choice(["a", "b"])) for _ in texts]
        found = make("trained", attribute="x").score(
            [given(texts, x=labels), given([t.upper() for t in texts], x=[None] * 200)]
        )
        for rows in found.rows:  # copies in capitals are copies
            right = (np.array(found.names)[rows.argmax(axis=1)] == np.array(labels)).mean()
            assert 0.35 < right < 0.65
        assert 0.35 < found.accuracy < 0.65

    def test_the_order_of_the_file_does_not_matter(self) -> None:
        """Shuffled training records give the same id."""
        known, new, _ = self.sides()
        order = np.random.default_rng(0).permutation(len(known))
        shuffled = Given(
            tuple(known.texts[i] for i in order),
            {"place": known.columns["place"][order]},
            known.clusters[order],
        )
        one = make("trained", attribute="place").score([known, new])
        other = make("trained", attribute="place").score([shuffled, new])
        assert one.id == other.id

    def test_a_file_of_known_records(self, tmp_path: Path) -> None:
        """Records of another file teach, by their lineage or a field; too few values are refused by name."""
        known, new, _ = self.sides()
        rows = [
            {"text": text, "lineage": {"source": "synthetic", "attributes": {"place": place}}}
            for text, place in zip(known.texts, known.columns["place"], strict=True)
        ]
        path = records.from_rows(rows).write(tmp_path / "known.jsonl")
        found = make("trained", attribute="place", on=str(path)).score([new])
        assert tuple(sorted(WORDS)) == found.names
        with pytest.raises(NotEnoughData, match="0 records know their 'smell'"):
            make("trained", attribute="smell", on=str(path)).score([new])

    def test_probabilities_mean_what_they_say(self) -> None:
        """The mean probability of the class found is about the share that is right."""
        known, new, truth = self.sides(4)
        found = make("trained", attribute="place").score([known, new])
        sure = float(found.rows[1].max(axis=1).mean())
        right = float((np.array(found.names)[found.rows[1].argmax(axis=1)] == truth).mean())
        assert abs(sure - right) < 0.12


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT classifier of two layers with weights of a fixed seed, saved in the published format."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tiny")
    words = sorted({word for words in WORDS.values() for word in words.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        num_labels=3,
        id2label={0: "anger", 1: "joy", 2: "sadness"},
        label2id={"anger": 0, "joy": 1, "sadness": 2},
        initializer_range=0.5,
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), model_max_length=64).save_pretrained(
        folder
    )
    return folder


class TestTextClassification:
    def test_the_published_format(self, tiny: Path) -> None:
        """A saved classifier gives the softmax that the library gives; texts of any length and none."""
        torch = pytest.importorskip("torch")
        transformers = pytest.importorskip("transformers")
        texts = ["snow ice sun", "gold dust", "", "beach " * 200]
        found = make("text_classification", model=str(tiny)).score([given(texts)])
        assert ("anger", "joy", "sadness") == found.names
        assert found.exclusive and not found.exact and found.confusion is None
        tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny).eval()
        for i in (0, 1, 3):
            with torch.no_grad():
                logits = model(
                    **tokenizer(texts[i], return_tensors="pt", truncation=True, max_length=64)
                ).logits
            np.testing.assert_allclose(torch.softmax(logits, -1)[0], found.rows[0][i], atol=1e-5)
        assert np.isnan(found.rows[0][2]).all()

    def test_heads_and_classes(self, tiny: Path) -> None:
        """Several classes may hold at once (multi); some may be picked; an unknown one is named."""
        texts = ["snow ice sun", "gold dust ox"]
        multi = make("text_classification", model=str(tiny), heads="multi").score([given(texts)])
        assert not multi.exclusive
        assert not np.allclose(1.0, multi.rows[0].sum(axis=1))
        some = make("text_classification", model=str(tiny), attribute="joy+Sadness").score([given(texts)])
        whole = make("text_classification", model=str(tiny)).score([given(texts)])
        assert ("joy", "sadness") == some.names
        np.testing.assert_allclose(whole.rows[0][:, 1:], some.rows[0])
        with pytest.raises(BadSetting, match="no class 'glee'"):
            make("text_classification", model=str(tiny), attribute="joy+glee").score([given(texts)])

    def test_kept_on_disk(self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A text is scored once: afterwards it comes from the folder, under the id of the model."""
        scorer = make("text_classification", model=str(tiny))
        texts = ["snow ice sun", "gold dust ox", "palm"]
        first = scorer.score([given(texts[:2])], cache=tmp_path)
        seen: list[list[str]] = []
        whole = text_classification.Classifier.encode

        def watched(self: Any, wanted: Sequence[str]) -> Any:
            seen.append(list(wanted))
            return whole(self, wanted)

        monkeypatch.setattr(text_classification.Classifier, "encode", watched)
        again = scorer.score([given(texts)], cache=tmp_path)
        assert [["palm"]] == [wanted for wanted in seen if wanted != ["A karat is a share of gold."]]
        np.testing.assert_array_equal(first.rows[0], again.rows[0][:2])
        assert first.id == again.id

    def test_errors_on_labelled_records(self, tiny: Path, tmp_path: Path) -> None:
        """With records whose class people gave, it is counted how often the classifier errs."""
        texts = ["snow", "gold", "palm", "beach", "ox"]
        rows = [
            {"text": text, "mood": mood}
            for text, mood in zip(texts, ["joy", "joy", "anger", "sadness", "none"])
        ]
        path = records.from_rows(rows).write(tmp_path / "gold.jsonl")
        scorer = make("text_classification", model=str(tiny), attribute="mood", on=str(path))
        found = scorer.score([given(texts)])
        assert found.confusion is not None
        assert [1, 2, 1] == found.confusion.sum(axis=1).tolist()
        best = found.rows[0].argmax(axis=1)
        assert int(best[0] == 1) + int(best[1] == 1) == found.confusion[1, 1]

    def test_an_audit(self, tiny: Path, tmp_path: Path) -> None:
        """The classifier serves the metrics of attributes through their own settings."""
        rng = np.random.default_rng(0)
        one = records.from_rows([{"text": say(rng, "north")} for _ in range(60)], datatype="text")
        other = records.from_rows([{"text": say(rng, "south")} for _ in range(60)], datatype="text")
        specs = f"attribute_difference:scorer=text_classification,model={tiny} "
        specs += f"attribute_bias:attribute=mood,scorer=text_classification,model={tiny}"
        audited = karat.audit(one, other, metrics=specs, cache=tmp_path)
        difference, bias = audited.scores
        assert {"anger", "joy", "sadness"} <= set(difference.by)
        assert bias.value is not None
        assert ["judge_unvalidated"] == [w.code for w in audited.warnings if w.code == "judge_unvalidated"]
        assert list(tmp_path.rglob("*.npz"))

    def test_no_such_model(self) -> None:
        """A folder that is not there, and no name at all, are refused in one line."""
        with pytest.raises(InputError, match="there is no such folder"):
            make("text_classification", model="/no/such/folder").score([given(["a"])])
        with pytest.raises(BadSetting, match="needs a model"):
            make("text_classification").score([given(["a"])])
