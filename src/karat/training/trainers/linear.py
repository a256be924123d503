"""Logistic regression on TF-IDF of words and characters: seconds on one core. Knows no score.

The features and the model are those of scikit-learn's TfidfVectorizer (sublinear, one for words and one for
characters, each row of length one) and LogisticRegression. Two things make many fits on parts of one
pool cheap and change no prediction:

- texts are cut into n-grams once; a part of the pool takes its rows and its own document frequencies;
- n-grams that occur in one training record only are turned into one feature for that record. They are the
  bulk of all columns, and an L2 penalty does not change when features are rotated.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from karat.errors import InputError, NotEnoughData
from karat.records import Records
from karat.training.annotators import answered
from karat.training.base import Indices, Predictions, Probabilities, Progress, gold_labels

if TYPE_CHECKING:
    import scipy.sparse

Floats = NDArray[np.float64]

_VECTORS, _GIGABYTES = 24, 8.0
"""the optimiser holds about so many vectors of all weights, and may fill so much"""
_ABOUT, _ARRAYS, _FORMAT = "linear.json", "linear.npz", 1


@dataclass(frozen=True)
class Linear:
    """TF-IDF of words and characters with logistic regression.

    words, characters: the n-gram lengths, for example 1-2; 0 leaves them out.
    C: inverse strength of the L2 penalty. max_features: the most frequent n-grams of each kind (0 takes all).
    class_weight: balanced gives each label the same weight, which raises macro-F1 on skewed labels
    and lowers accuracy.
    """

    words: str = "1-2"
    characters: str = "3"
    C: float = 3.0
    max_features: int = 0
    class_weight: Literal["none", "balanced"] = "none"

    deterministic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not _lengths(self.words) and not _lengths(self.characters):
            raise ValueError("words and characters are both 0, so no feature is left; set one to 1-2")
        if not self.C > 0:
            raise ValueError(f"C is {self.C}, but must be above 0; 3 is the default")
        if self.max_features < 0:
            raise ValueError(f"max_features is {self.max_features}; 0 takes all n-grams")

    def fit(
        self,
        records: Records,
        *,
        seed: int = 0,
        validation: Records | None = None,
        progress: Progress | None = None,
    ) -> LinearModel:
        """Train on labelled records; neither seed nor validation records change the model."""
        records = answered(records)
        labels = np.array(gold_labels(records), dtype=object)
        counters, counts = _count(self, records.texts())
        return LinearModel(counters, _regress(self, counts, labels))

    def prepare(self, pool: Records) -> LinearPool:
        """Count the n-grams of a pool once, for many fits on parts of it."""
        labels = np.array(gold_labels(pool), dtype=object)
        usable = labels != "" if pool.datatype == "annotation" else np.ones(len(pool), dtype=bool)
        return LinearPool(self, pool.ids, labels, usable, _count(self, pool.texts())[1])

    @staticmethod
    def load(folder: str | Path) -> LinearModel:
        """Return the model that its `save` wrote; numbers and plain values only."""
        home = Path(folder)
        told = json.loads((home / _ABOUT).read_text("utf-8"))
        if told.get("format") != _FORMAT:
            raise InputError(
                f"{folder}: format {told.get('format')!r} of another version of karat; train anew"
            )
        counters = [
            _counter(named["analyzer"], named["lengths"], named["grams"]) for named in told["counters"]
        ]
        with np.load(home / _ARRAYS, allow_pickle=False) as arrays:
            idf = tuple(arrays[f"idf{number}"] for number in range(len(counters)))
            fitted = _Fitted(tuple(told["classes"]), idf, arrays["weights"], arrays["bias"])
        return LinearModel(tuple(counters), fitted)


@dataclass(frozen=True, eq=False)
class LinearPool:
    """The n-gram counts of a pool; one matrix [records, n-grams] each for words and characters."""

    settings: Linear
    ids: list[str]
    labels: NDArray[np.object_]
    usable: NDArray[np.bool_]
    counts: tuple[scipy.sparse.csr_matrix, ...]

    def fit_predict(self, train: Indices, test: Indices, *, seed: int = 0) -> Predictions:
        """Train on the records of the pool at `train` and predict those at `test`."""
        train = np.asarray(train)[self.usable[train]]
        fitted = _regress(self.settings, [block[train] for block in self.counts], self.labels[train])
        probabilities = fitted.probabilities([block[test] for block in self.counts])
        ids = tuple(self.ids[i] for i in test.tolist())
        return Predictions(ids, fitted.classes, probabilities, tuple(self.labels[test]))


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A fitted linear model and the n-grams it knows."""

    counters: tuple[Any, ...]
    fitted: _Fitted

    def predict(self, records: Records) -> Predictions:
        """Return a probability for each class and each record."""
        counts = [counter.transform(records.texts()) for counter in self.counters]
        labels = records.labels()
        gold = None if labels is None or None in labels else tuple(labels)
        return Predictions(tuple(records.ids), self.fitted.classes, self.fitted.probabilities(counts), gold)

    def save(self, folder: str | Path) -> Path:
        """Write the model to a folder: n-grams as JSON, numbers as npz."""
        home = Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        idf = {f"idf{number}": weights for number, weights in enumerate(self.fitted.idf)}
        arrays: dict[str, Any] = {"weights": self.fitted.weights, "bias": self.fitted.bias, **idf}
        np.savez(home / _ARRAYS, **arrays)
        told = {
            "format": _FORMAT,
            "classes": list(self.fitted.classes),
            "counters": [
                {
                    "analyzer": counter.analyzer,
                    "lengths": list(counter.ngram_range),
                    "grams": counter.get_feature_names_out().tolist(),
                }
                for counter in self.counters
            ],
        }
        (home / _ABOUT).write_text(json.dumps(told, ensure_ascii=False), "utf-8")
        return home

    def telling(self, text: str, label: str, *, most: int = 5) -> tuple[tuple[str, float], ...]:
        """Return the n-grams of a text that spoke most for a label, with their share of the log-odds."""
        if len(self.fitted.classes) < 2 or label not in self.fitted.classes:
            return ()
        matrix = _tfidf([c.transform([text]) for c in self.counters], self.fitted.idf)
        names = np.concatenate([counter.get_feature_names_out() for counter in self.counters])
        weights = self.fitted.weights[self.fitted.classes.index(label)]
        parts = [(str(names[i]), float(x * weights[i])) for i, x in zip(matrix.indices, matrix.data)]
        return tuple(sorted(parts, key=lambda part: -part[1])[:most])


@dataclass(frozen=True, eq=False)
class _Fitted:
    """idf holds one vector a kind of n-gram, 0 where unseen; weights [classes, n-grams], bias [classes]."""

    classes: tuple[str, ...]
    idf: tuple[Floats, ...]
    weights: Floats
    bias: Floats

    def probabilities(self, counts: Sequence[scipy.sparse.csr_matrix]) -> Probabilities:
        """Return [n, classes]."""
        n = counts[0].shape[0]
        if len(self.classes) == 1:
            return np.ones((n, 1))
        scores = np.asarray(_tfidf(counts, self.idf) @ self.weights.T) + self.bias
        scores -= scores.max(axis=1, keepdims=True)
        odds = np.exp(scores)
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _lengths(text: str) -> tuple[int, int] | None:
    """Return the shortest and longest n-gram of `1-2`, or None for 0. Raises ValueError."""
    low, _, high = text.strip().partition("-")
    if not low.isdigit() or (high and not high.isdigit()) or (high and int(high) < int(low)):
        raise ValueError(f"n-gram lengths are {text!r}; write 1-2, 3, or 0 for none")
    return None if int(low) == 0 else (int(low), int(high or low))


def _count(
    settings: Linear, texts: Sequence[str]
) -> tuple[tuple[Any, ...], tuple[scipy.sparse.csr_matrix, ...]]:
    """Return the counters (which know the names of columns) and the counts of n-grams."""
    counters, counts = [], []
    for analyzer, lengths in (("word", _lengths(settings.words)), ("char_wb", _lengths(settings.characters))):
        if lengths is None:
            continue
        counter = _counter(analyzer, lengths)
        try:
            found = counter.fit_transform(texts)
        except ValueError:  # no text has a single n-gram of this kind, for example texts of signs only
            continue
        found.sort_indices()  # sums in one order give the same model from a pool as from the records alone
        counts.append(found)
        counters.append(counter)
    if not counts:
        import scipy.sparse

        counts.append(scipy.sparse.csr_matrix((len(texts), 1)))
        counters.append(_Nothing())
    return tuple(counters), tuple(counts)


def _counter(analyzer: str, lengths: Sequence[int], grams: Sequence[str] | None = None) -> Any:
    """Return what counts n-grams: all that it finds, or those given."""
    from sklearn.feature_extraction.text import CountVectorizer

    if analyzer == _Nothing.analyzer:
        return _Nothing()
    return CountVectorizer(
        ngram_range=tuple(lengths),
        analyzer=analyzer,
        # One-letter words count too, unlike scikit-learn's default: in many languages they are words.
        token_pattern=r"\w+" if analyzer == "word" else None,
        dtype=np.float64,
        vocabulary=None if grams is None else list(grams),
    )


class _Nothing:
    """Stands for a counter where no training text has an n-gram."""

    analyzer, ngram_range = "nothing", (0, 0)

    def transform(self, texts: Sequence[str]) -> scipy.sparse.csr_matrix:
        """Return a column of zeros."""
        import scipy.sparse

        return scipy.sparse.csr_matrix((len(texts), 1))

    def get_feature_names_out(self) -> NDArray[np.str_]:
        """Return the name of the one empty column."""
        return np.array([""])


def _idf(counts: scipy.sparse.csr_matrix, most: int) -> Floats:
    """Return the smooth inverse document frequency of each column; 0 where unseen or too rare for `most`."""
    n, width = counts.shape
    documents = np.bincount(counts.indices, minlength=width)
    idf = np.where(documents > 0, np.log((1 + n) / (1 + documents)) + 1, 0.0)
    if most and (documents > 0).sum() > most:
        totals = np.bincount(counts.indices, weights=counts.data, minlength=width)
        idf[np.argsort(-totals, kind="stable")[most:]] = 0.0
    return np.asarray(idf, dtype=np.float64)


def _tfidf(counts: Sequence[scipy.sparse.csr_matrix], idf: Sequence[Floats]) -> scipy.sparse.csr_matrix:
    """Return sublinear TF-IDF [n, all columns], the rows of each kind of length one."""
    import scipy.sparse

    blocks = []
    for block, weight in zip(counts, idf):
        data = (1 + np.log(block.data)) * weight[block.indices]
        rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        norm = np.sqrt(np.bincount(rows, weights=data * data, minlength=block.shape[0]))
        data /= np.where(norm > 0, norm, 1.0)[rows]
        found = scipy.sparse.csr_matrix((data, block.indices, block.indptr), shape=block.shape)
        found.eliminate_zeros()
        blocks.append(found)
    return blocks[0] if len(blocks) == 1 else scipy.sparse.hstack(blocks, format="csr")


def _regress(
    settings: Linear, counts: Sequence[scipy.sparse.csr_matrix], labels: NDArray[np.object_]
) -> _Fitted:
    """Fit on the rows of `counts`."""
    classes = tuple(sorted(set(labels.tolist())))
    idf = tuple(_idf(block, settings.max_features) for block in counts)
    width = sum(block.shape[1] for block in counts)
    if len(classes) == 1:  # nothing to learn, and the answer is known
        return _Fitted(classes, idf, np.zeros((1, width)), np.zeros(1))
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    matrix, turn = _turned(_tfidf(counts, idf))
    gigabytes = len(classes) * matrix.shape[1] * 8 * _VECTORS / 1e9
    if gigabytes > _GIGABYTES and len(classes) > 2:
        raise NotEnoughData(
            f"trainer 'linear' would take about {gigabytes:,.0f} GB for {len(classes):,} labels and "
            f"{matrix.shape[1]:,} n-grams; merge rare labels, set max_features, or take trainer 'probe'"
        )
    weight = None if settings.class_weight == "none" else settings.class_weight
    model = LogisticRegression(C=settings.C, max_iter=1000, class_weight=weight)
    # One thread: the products are small, and threads that wait for each other cost up to ten times the work.
    with warnings.catch_warnings(), _threads().limit(limits=1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # 1,000 steps are within 1e-3 of the end
        warnings.simplefilter("ignore", UserWarning)  # that many labels may be numbers: they are names
        model.fit(matrix, labels.astype(str))
    weights, bias = turn(model.coef_), model.intercept_
    if len(classes) == 2:  # scikit-learn keeps one row for two classes
        weights, bias = np.vstack([np.zeros_like(weights), weights]), np.array([0.0, bias[0]])
    return _Fitted(classes, idf, weights, bias)


@cache
def _threads() -> Any:
    """Return what holds the numeric libraries of this process; finding them takes longer than a small fit."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


def _turned(matrix: scipy.sparse.csr_matrix) -> tuple[scipy.sparse.csr_matrix, Any]:
    """Return the matrix with all columns of one record's own rotated into one, and what turns weights back.

    Columns that only record i has form the row vector v_i. With the L2 penalty the best weights on them
    lie along v_i, so one feature of value |v_i| learns the same model; its weight u gives u v_i / |v_i|.
    """
    import scipy.sparse

    n, width = matrix.shape
    documents = np.bincount(matrix.indices, minlength=width)
    shared = np.flatnonzero(documents > 1)
    place = np.full(width, -1, dtype=np.int64)
    place[shared] = np.arange(len(shared))
    rows = np.repeat(np.arange(n), np.diff(matrix.indptr))
    own = documents[matrix.indices] == 1
    own_rows, own_columns, own_data = rows[own], matrix.indices[own], matrix.data[own]
    norms = np.sqrt(np.bincount(own_rows, weights=own_data * own_data, minlength=n))
    holders = np.flatnonzero(norms > 0)
    slot = np.full(n, -1, dtype=np.int64)
    slot[holders] = np.arange(len(holders)) + len(shared)
    small = scipy.sparse.csr_matrix(
        (
            np.concatenate([matrix.data[~own], norms[holders]]),
            (
                np.concatenate([rows[~own], holders]),
                np.concatenate([place[matrix.indices[~own]], slot[holders]]),
            ),
        ),
        shape=(n, max(1, len(shared) + len(holders))),
    )

    def turn(weights: Floats) -> Floats:
        full = np.zeros((weights.shape[0], width))
        full[:, shared] = weights[:, : len(shared)]
        full[:, own_columns] = weights[:, slot[own_rows]] * (own_data / norms[own_rows])
        return full

    return small, turn
