"""A linear classifier of an attribute, trained on records of which the attribute is known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from karat.auditing import detector
from karat.auditing.base import Facts
from karat.auditing.features import FeatureSpace, featurise
from karat.auditing.scorers.base import Floats, Given, Scores, known_values
from karat.errors import BadSetting, NotEnoughData
from karat.texts.tokens import hash_strings, normalise

Ints = NDArray[np.int64]
_BATCH = 5_000


@dataclass(frozen=True)
class Trained:
    """Ridge regression on TF-IDF of words and characters, cross-fitted, with its errors from held-out folds.

    The attribute is known where a recipe asked for it (lineage) or a field of that name holds it. One model
    learns from all such records; those records themselves, and copies of them, are scored by models that
    left them out. How often held-out records get which class corrects the shares of classes afterwards.
    Source: Yu et al. 2023, Large language model as attributed training data generator, section on attribute
    bias (the classifier); Guo et al. 2017, On calibration of modern neural networks (one temperature).
    attribute: its name, for example location
    on: a file of records whose attribute is known; empty: those of the audited records that know it
    folds: parts, each scored by a model fitted on the others
    records: the most records to learn from
    """

    attribute: str = ""
    on: str = ""
    folds: int = 5
    records: int = 4000

    reads_text: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("records", 20)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be {least} or more")

    def fields(self) -> tuple[str, ...]:
        """The attributes of the lineage, and a field of that name."""
        return ("lineage.attributes", *filter(None, [self.attribute]))

    def lacks(self, facts: Facts) -> str:
        """Why these records cannot be scored."""
        return "" if self.attribute else "needs the name of an attribute: attribute=location"

    def score(self, corpora: Sequence[Given], *, seed: int = 0, cache: Path | None = None) -> Scores:
        """Fit, and score all records of all corpora."""
        if not self.attribute:
            raise BadSetting("scorer 'trained' needs the setting 'attribute': write attribute=location")
        texts, values, clusters = self._known(corpora)
        texts, values, clusters = _drawn(texts, values, clusters, self.records, seed)
        names, dropped = _classes(values, self.folds, self.attribute, self.on)
        place = {name: i for i, name in enumerate(names)}
        rows = [i for i, value in enumerate(values) if value in place]
        texts = [texts[i] for i in rows]
        truth = np.array([place[values[i]] for i in rows], dtype=np.int64)
        groups = detector.group_ids(texts, [clusters[i] for i in rows])
        fold = _folds(groups, truth, self.folds, seed)
        model, held = _fit(texts, truth, fold, len(names))
        confusion = np.zeros((len(names), len(names)), dtype=np.int64)
        np.add.at(confusion, (truth, held.argmax(axis=1)), 1)
        known = _copies(texts)
        scored = tuple(_scored(model, one.texts, known, held) for one in corpora)
        facts = {
            "trained_on": float(len(texts)),
            "classes_left_out": float(dropped),
            "held_out_confidence": float(held.max(axis=1).mean()),
            "largest_class": float(np.bincount(truth).max() / len(truth)),
        }
        seen = "\0".join(f"{names[k]}\0{text}" for k, text in sorted(zip(truth, texts, strict=True)))
        digest = hashlib.blake2b(seen.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
        return Scores(
            f"trained:{self.attribute}:{len(texts)}:{digest}",
            names,
            scored,
            confusion=confusion,
            facts=facts,
        )

    def _known(self, corpora: Sequence[Given]) -> tuple[list[str], list[str], list[str]]:
        """Texts, values and clusters of all records whose attribute is known."""
        texts: list[str] = []
        values: list[str] = []
        clusters: list[str] = []
        sources = list(corpora)
        if self.on:
            sources = [_read(self.on, self.attribute)]
        for one in sources:
            found = known_values(one.columns, self.attribute)
            for i, value in enumerate(found):
                if value is not None and one.texts[i].strip():
                    texts.append(one.texts[i])
                    values.append(value)
                    clusters.append(str(one.clusters[i]))
        return texts, values, clusters


@dataclass(frozen=True)
class _Model:
    space: FeatureSpace
    weights: NDArray[np.float32]
    mean: Floats
    temperature: float

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """float64 [n, C]."""
        found = [np.empty((0, len(self.mean)))]
        for start in range(0, len(texts), _BATCH):
            margins = self.space.matrix(texts[start : start + _BATCH]) @ self.weights + self.mean
            found.append(_softmax(np.asarray(margins, dtype=np.float64) / self.temperature))
        return np.concatenate(found)


def _read(path: str, attribute: str) -> Given:
    """The records of a file as a scorer is given them."""
    from karat import records

    read = records.read(path)
    columns = {"lineage.attributes": np.array(read.lineage("attributes"), dtype=object)}
    if read.has(attribute):
        columns[attribute] = np.array(read.column(attribute), dtype=object)
    parents = read.lineage("parents")
    clusters = [parent[0] if parent else own for parent, own in zip(parents, read.ids, strict=True)]
    return Given(tuple(read.texts()), columns, np.array(clusters, dtype=object))


def _drawn(
    texts: list[str], values: list[str], clusters: list[str], most: int, seed: int
) -> tuple[list[str], list[str], list[str]]:
    """At most `most` of the records, drawn by seed from their texts in order, whatever the file's order."""
    if len(texts) <= most:
        return texts, values, clusters
    order = sorted(range(len(texts)), key=lambda i: (texts[i], values[i]))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(order))[:most])
    kept = [order[i] for i in chosen]
    return [texts[i] for i in kept], [values[i] for i in kept], [clusters[i] for i in kept]


def _classes(values: Sequence[str], folds: int, attribute: str, on: str) -> tuple[tuple[str, ...], int]:
    """The values with at least two records a fold, and how many others there are."""
    found, counts = np.unique(np.array(values, dtype=object), return_counts=True)
    kept = tuple(str(name) for name, n in zip(found, counts, strict=True) if n >= 2 * folds)
    if len(kept) < 2:
        where = on or "the audited records"
        raise NotEnoughData(
            f"{where}: {len(values):,} records know their {attribute!r}, and {len(kept)} of its values have "
            f"{2 * folds} records; a classifier needs two such values: name records that know it with on=FILE"
        )
    return kept, len(found) - len(kept)


def _folds(groups: Ints, truth: Ints, folds: int, seed: int) -> Ints:
    """A fold a record: groups stay whole, the classes are dealt out evenly."""
    rng = np.random.default_rng(seed)
    _, first = np.unique(groups, return_index=True)
    order = rng.permutation(len(first))
    order = order[np.argsort(truth[first[order]], kind="stable")]
    place = np.empty(len(first), np.int64)
    place[order] = np.arange(len(first)) % folds
    return place[np.unique(groups, return_inverse=True)[1]]


def _fit(texts: Sequence[str], truth: Ints, fold: Ints, classes: int) -> tuple[_Model, Floats]:
    """The model of all records, and for each record the probabilities from models that left it out [n, C]."""
    space, matrix = featurise(texts, words=(1, 2), chars=(2, 3, 4))
    targets = np.full((len(texts), classes), -1.0)
    targets[np.arange(len(texts)), truth] = 1.0
    kernel = detector.gram(matrix)
    held = detector.out_of_fold(matrix, targets, fold, kernel=kernel)
    weights, mean = detector.ridge(matrix, targets, kernel=kernel)
    temperature = _temperature(held, truth)
    return _Model(space, weights, mean, temperature), _softmax(held / temperature)


def _temperature(margins: Floats, truth: Ints) -> float:
    """What margins are divided by so that held-out probabilities are likeliest (Guo et al. 2017)."""
    tried = np.geomspace(0.02, 5.0, 60)
    rows = np.arange(len(truth))
    losses = [-float(np.log(np.maximum(_softmax(margins / t)[rows, truth], 1e-12)).mean()) for t in tried]
    return float(tried[int(np.argmin(losses))])


def _softmax(margins: Floats) -> Floats:
    odds = np.exp(margins - margins.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _folded(texts: Sequence[str]) -> NDArray[Any]:
    return hash_strings(normalise(pa.array(list(texts), pa.large_string())))


def _copies(texts: Sequence[str]) -> dict[int, int]:
    """The hash of each training text, up to case, spaces and marks, and its row."""
    return {int(key): row for row, key in enumerate(_folded(texts))}


def _scored(model: _Model, texts: Sequence[str], known: dict[int, int], held: Floats) -> Floats:
    """float64 [n, C]: by the model, or for texts that it learnt from by the one that left them out."""
    rows = model.probabilities(texts)
    for i, key in enumerate(_folded(texts)):
        at = known.get(int(key))
        if at is not None:
            rows[i] = held[at]
    rows[[i for i, text in enumerate(texts) if not text.strip()]] = np.nan
    return rows
