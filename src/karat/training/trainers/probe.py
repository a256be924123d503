"""Frozen sentence vectors with logistic regression: minutes once, then seconds a fit. Knows no score."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from karat.auditing.encoders.base import Cached, Vectors, cached, fixed, make
from karat.errors import InputError
from karat.records import Records
from karat.training.annotators import answered
from karat.training.base import Indices, Predictions, Progress, codes, gold_labels
from karat.training.logistic import Logistic, regress

if TYPE_CHECKING:
    from karat.auditing.base import Fitted

_ABOUT, _ARRAYS, _LEARNED, _FORMAT = "probe.json", "probe.npz", "encoder", 1


@dataclass(frozen=True)
class Probe:
    """Logistic regression on the vectors of a frozen sentence encoder, which knows words it was never shown.

    Source: the linear probe of Yu et al. 2023 (AttrPrompt); no encoder is changed by training.
    encoder: a part of the encoders shelf: minilm (packaged weights), lsa (nothing to download),
    sentence-transformers:NAME or a folder.
    C: inverse strength of the L2 penalty; vectors have length one, so that it is larger than for TF-IDF.
    class_weight: balanced gives each label the same weight, which raises macro-F1 on skewed labels
    and lowers accuracy.
    """

    encoder: str = "minilm"
    C: float = 10.0
    class_weight: Literal["none", "balanced"] = "none"

    deterministic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.C > 0:
            raise ValueError(f"C is {self.C}, but must be above 0; 10 is the default")

    def fit(
        self,
        records: Records,
        *,
        seed: int = 0,
        validation: Records | None = None,
        progress: Progress | None = None,
        cache: Path | None = None,
    ) -> ProbeModel:
        """Train on labelled records; neither seed nor validation records change the model.

        cache: folder in which vectors are kept, so that a text is encoded once for all runs.
        """
        records = answered(records)
        texts = records.texts()
        if progress:
            progress("embed", 0, len(texts))
        fitted = fixed(self.encoder)
        encoder = make(self.encoder).fit(texts) if fitted is None else cached(fitted, cache)
        vectors = encoder.encode(texts)
        if progress:
            progress("embed", len(texts), len(texts))
        found = _regress(self, vectors, np.array(gold_labels(records), dtype=object))
        return ProbeModel(encoder, *found, self.encoder)

    def prepare(self, pool: Records, *, cache: Path | None = None) -> ProbePool:
        """Encode a pool once, for many fits on parts of it.

        An encoder that learns from texts (lsa) is fitted anew on each training part: learned from the whole
        pool it would have seen the test records.
        """
        labels = np.array(gold_labels(pool), dtype=object)
        fitted, texts = fixed(self.encoder), pool.texts()
        usable = np.ones(len(pool), dtype=bool)
        if pool.datatype == "annotation":
            usable = labels != ""
        if fitted is None:
            return ProbePool(self, tuple(pool.ids), labels, usable, None, tuple(texts))
        return ProbePool(self, tuple(pool.ids), labels, usable, cached(fitted, cache).encode(texts), ())

    @staticmethod
    def load(folder: str | Path) -> ProbeModel:
        """Return the model that its `save` wrote. Raises InputError where its encoder is another one here."""
        home = Path(folder)
        told = json.loads((home / _ABOUT).read_text("utf-8"))
        if told.get("format") != _FORMAT:
            raise InputError(
                f"{folder}: format {told.get('format')!r} of another version of karat; train anew"
            )
        part: Any = make(told["encoder"])
        learned = (home / _LEARNED).is_dir()
        encoder = part.load(home / _LEARNED) if learned else fixed(told["encoder"])
        if encoder is None or encoder.id != told["id"]:
            here = "one that learns" if encoder is None else encoder.id
            raise InputError(f"{folder}: trained on the encoder {told['id']}, but {here} is here; train anew")
        with np.load(home / _ARRAYS, allow_pickle=False) as arrays:
            logistic = Logistic(arrays["weights"], arrays["bias"])
        return ProbeModel(encoder, tuple(told["classes"]), logistic, told["encoder"])


@dataclass(frozen=True, eq=False)
class ProbePool:
    """A pool as vectors [records, d], or as texts where the encoder is fitted on each training part."""

    settings: Probe
    ids: tuple[str, ...]
    labels: NDArray[np.object_]
    usable: NDArray[np.bool_]
    vectors: Vectors | None
    texts: tuple[str, ...]

    def fit_predict(self, train: Indices, test: Indices, *, seed: int = 0) -> Predictions:
        """Train on the records of the pool at `train` and predict those at `test`."""
        train = np.asarray(train)[self.usable[train]]
        if self.vectors is None:
            own = [self.texts[i] for i in train.tolist()]
            encoder = make(self.settings.encoder).fit(own)
            known, asked = encoder.encode(own), encoder.encode([self.texts[i] for i in test.tolist()])
        else:
            known, asked = self.vectors[train], self.vectors[test]
        classes, model = _regress(self.settings, known, self.labels[train])
        ids = tuple(self.ids[i] for i in test.tolist())
        return Predictions(ids, classes, model.probabilities(asked), tuple(self.labels[test]))


@dataclass(frozen=True, eq=False)
class ProbeModel:
    """An encoder and a logistic regression on its vectors."""

    encoder: Fitted
    classes: tuple[str, ...]
    logistic: Logistic
    spec: str
    """how the encoder is named"""

    def save(self, folder: str | Path) -> Path:
        """Write the model to a folder, with its encoder where that was learned from the training texts.

        Raises InputError where a learned encoder cannot be kept.
        """
        encoder: Any = self.encoder.inner if isinstance(self.encoder, Cached) else self.encoder
        home = Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        if fixed(self.spec) is None:
            if not callable(getattr(encoder, "save", None)):
                raise InputError(
                    f"the encoder {self.spec!r} is learned from the training texts and cannot be kept; "
                    "use encoder=minilm or encoder=lsa"
                )
            encoder.save(home / _LEARNED)
        np.savez(home / _ARRAYS, weights=self.logistic.weights, bias=self.logistic.bias)
        told = {
            "format": _FORMAT,
            "encoder": self.spec,
            "id": encoder.id,
            "classes": list(self.classes),
        }
        (home / _ABOUT).write_text(json.dumps(told, ensure_ascii=False), "utf-8")
        return home

    def predict(self, records: Records) -> Predictions:
        """Return a probability for each class and each record."""
        labels = records.labels()
        gold = None if labels is None or None in labels else tuple(labels)
        found = self.logistic.probabilities(self.encoder.encode(records.texts()))
        return Predictions(tuple(records.ids), self.classes, found, gold)


def _regress(
    settings: Probe, vectors: Vectors, labels: NDArray[np.object_]
) -> tuple[tuple[str, ...], Logistic]:
    classes = tuple(sorted(set(labels.tolist())))
    number = codes(labels.tolist(), classes)
    balanced = settings.class_weight == "balanced"
    return classes, regress(vectors, number, len(classes), C=settings.C, balanced=balanced)
