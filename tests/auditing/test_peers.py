"""karat's numbers beside those of the field's reference programs, on the same input."""

from __future__ import annotations

import numpy as np
import pytest
from audit_corpora import corpus, write

import karat
from karat import records
from karat.auditing import statistics as stats
from karat.auditing.encoders.base import make
from karat.auditing.features import featurise
from karat.records import Records

nltk_bleu = pytest.importorskip("nltk.translate.bleu_score", reason="nltk is not installed (karat[dev])")


def scored(data: Records, spec: str) -> float:
    """The point estimate that an audit prints."""
    value = karat.audit(data, metrics=spec, budget="small").scores[0].value
    assert value is not None
    return value


@pytest.fixture(scope="module")
def news(ag_news: Records) -> Records:
    """Eighty news items: what nltk's quadratic loop can do in seconds."""
    return ag_news.take(range(80))


def test_self_bleu_of_an_audit_equals_nltk(news: Records) -> None:
    """The printed self-BLEU is the mean of nltk's sentence BLEU of each text against all others, to 1e-9."""
    split = [text.split() for text in news.texts()]
    smooth = nltk_bleu.SmoothingFunction().method1
    expected = np.mean(
        [
            nltk_bleu.sentence_bleu(split[:i] + split[i + 1 :], words, smoothing_function=smooth)
            for i, words in enumerate(split)
        ]
    )
    assert abs(expected - scored(news, "self_bleu:tokens=whitespace")) < 1e-9


@pytest.mark.parametrize("n", [1, 2, 3])
def test_distinct_n_of_an_audit_equals_nltk(news: Records, n: int) -> None:
    """The printed distinct-n is that of nltk's n-grams, to 1e-9."""
    from nltk.util import ngrams

    grams = [gram for text in news.texts() for gram in ngrams(text.split(), n)]
    assert abs(len(set(grams)) / len(grams) - scored(news, f"distinct_n:n={n},tokens=whitespace")) < 1e-9


def test_aps_equals_scikit_learn(news: Records) -> None:
    """APS of karat's vectors is the mean off-diagonal cosine of scikit-learn, to 1e-9."""
    from sklearn.metrics.pairwise import cosine_similarity

    texts = news.texts()
    rows = make("lsa").fit(texts).encode(texts).astype(np.float64)
    cosines = cosine_similarity(rows)
    expected = (cosines.sum() - np.trace(cosines)) / (80 * 79)
    # the vectors themselves are float32, so their lengths are 1 to 1e-7
    assert abs(expected - scored(news, "aps")) < 1e-6


def test_features_equal_scikit_learn() -> None:
    """TF-IDF of words and word pairs is that of scikit-learn: the same inner products to float32."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = write(60, seed=1, words=80)
    peer = TfidfVectorizer(
        ngram_range=(1, 2), token_pattern=r"\S+", sublinear_tf=True, min_df=2, norm=None
    ).fit(texts)
    rows = peer.transform(texts).toarray()
    rows /= np.sqrt((rows**2).sum(axis=1))[:, None]
    _, matrix = featurise(texts, words=(1, 2), min_documents=2)
    assert rows.shape == matrix.shape
    assert np.allclose(rows @ rows.T, (matrix @ matrix.T).toarray(), atol=1e-5)


def test_character_features_equal_scikit_learn() -> None:
    """Character n-grams within a padded text are scikit-learn's `char` n-grams of the padded text."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = ["Hello, World", "hello world", "WORLD hello!", "¡hola mundo!", "héllo wörld"]
    peer = TfidfVectorizer(analyzer="char", ngram_range=(2, 4), sublinear_tf=True, lowercase=False, min_df=1)
    rows = peer.fit_transform([f" {text} " for text in texts])
    space, matrix = featurise(texts, words=(), chars=(2, 3, 4), min_documents=1)
    assert rows.shape == matrix.shape
    assert np.allclose((rows @ rows.T).toarray(), (matrix @ matrix.T).toarray(), atol=1e-5)
    assert sorted(peer.vocabulary_) == sorted(space.spell(texts, range(len(space.keys))))


def test_new_texts_have_the_same_columns() -> None:
    """A text encoded later has the row that it had when the features were fitted."""
    texts = write(50, seed=2, words=60)
    space, matrix = featurise(texts, words=(1, 2), chars=(2, 3))
    assert np.allclose(matrix.toarray(), space.matrix(texts).toarray(), atol=1e-6)


def test_auc_equals_scikit_learn() -> None:
    """The area with ties is roc_auc_score's, to 1e-12."""
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    scores, sides = np.round(rng.standard_normal(500), 1), rng.random(500) < 0.4
    assert abs(roc_auc_score(sides, scores) - stats.auc(scores[sides], scores[~sides]).auc) < 1e-12


def test_records_of_one_text() -> None:
    """Copies of one text: every metric of similarity is at its end."""
    data = records.from_rows([{"text": "the cat sat on the mat"}] * 30, datatype="text")
    assert 1.0 == pytest.approx(scored(data, "aps"))
    assert 1.0 == pytest.approx(scored(data, "self_bleu"))


def test_a_corpus_of_strangers() -> None:
    """Texts without a common word have no similarity to speak of."""
    data = corpus([f"alpha{i} beta{i} gamma{i}" for i in range(40)])
    assert abs(scored(data, "aps")) < 1e-6
    assert 0.0 == scored(data, "self_bleu")
