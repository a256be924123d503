"""Orders records by how near an answer is to its question for an encoder. Knows no gold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from karat.curation import comet
from karat.curation.base import ASKED, Ordered, asked, need_reference, written
from karat.curation.embedding import embed
from karat.errors import BadSetting, InputError
from karat.records import Records

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class QualityEstimation:
    """The best fitting first: cosine of source and translation, prompt and completion, or text and label.

    A label is stood for by its description (a JSON file, label -> text) or by the mean of human texts of it;
    the score is the cosine with the own label less the best other one.
    backend: encoder or comet. encoder: lsa, minilm, sentence-transformers:NAME; with weights of its own it
    must know both languages (LaBSE does). lsa is fitted on pairs put together, human ones where a reference
    is given (Dumais et al. 1997), and so spans two languages without weights.
    model: of comet. descriptions: the file of labels' descriptions.
    """

    backend: Literal["encoder", "comet"] = "encoder"
    encoder: str = "lsa"
    model: str = comet.MODEL
    descriptions: str = ""

    sees: ClassVar[tuple[str, ...]] = ("labels", "answers")
    """the planted errors that it can notice"""

    def order(
        self,
        records: Records,
        reference: Records | None = None,
        *,
        seed: int = 0,
        cache: Path | None = None,
    ) -> Ordered:
        """Score each record from -1 to 1 (comet: mostly 0 to 1); one without a known word has no score."""
        if self.backend == "comet":
            if records.datatype != "translation":
                raise BadSetting("ordering 'quality_estimation': comet scores translations only; use encoder")
            found = comet.scores(comet.load(self.model), asked(records, ""), written(records))
            return Ordered(found, f"{self.model}, mean {found.mean():.3f}")
        encoder = self.encoder.replace(";", ",")
        if records.datatype in ASKED:
            return self._pairs(records, reference, encoder, seed, cache)
        return self._labels(records, reference, encoder, seed, cache)

    def _pairs(
        self, records: Records, reference: Records | None, encoder: str, seed: int, cache: Path | None
    ) -> Ordered:
        given, said = asked(records, "ordering 'quality_estimation'"), written(records)
        if encoder == "lsa" and records.datatype == "translation":
            # What the axes leave is kept by default, and two languages share no words in it.
            encoder = "lsa:dims=256,rest=0"
        taught = records if reference is None else reference
        joined = [
            f"{one}\n{other}"
            for one, other in zip(asked(taught, "ordering 'quality_estimation'"), written(taught))
        ]
        rows = embed([*given, *said], encoder, cache=cache, fit_on=joined, seed=seed).astype(np.float64)
        one, other = rows[: len(given)], rows[len(given) :]
        scores = np.einsum("nd,nd->n", one, other)
        scores[~(one.any(axis=1) & other.any(axis=1))] = np.nan
        # Pairs put together at random: what the cosine is when nothing fits.
        chance = (
            float(np.nanmean((one * np.roll(other, len(other) // 2, axis=0)).sum(axis=1)))
            if len(one) > 1
            else 0.0
        )
        mean = float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")
        note = f"cosine by {encoder}, mean {mean:.3f} (of pairs that do not belong together {chance:.3f})"
        return Ordered(scores, note, figures={"mean": mean, "chance": chance})

    def _labels(
        self, records: Records, reference: Records | None, encoder: str, seed: int, cache: Path | None
    ) -> Ordered:
        labels = records.labels()
        if labels is None:
            raise BadSetting(
                f"ordering 'quality_estimation' needs pairs or labels; {records.datatype} records have none"
            )
        texts = records.texts()
        if self.descriptions:
            told = _descriptions(Path(self.descriptions))
            names, taught = sorted(told), [told[name] for name in sorted(told)]
            owners = names
        else:
            human = need_reference(reference, "ordering 'quality_estimation' for labels")
            taught, owners = human.texts(), [str(one) for one in human.labels() or ()]
            names = sorted(set(owners))
        if len(names) < 2:
            raise BadSetting(
                "ordering 'quality_estimation' for labels needs two labels to tell apart, or more"
            )
        rows = embed([*texts, *taught], encoder, cache=cache, seed=seed).astype(np.float64)
        ours, theirs = rows[: len(texts)], rows[len(texts) :]
        at = {name: i for i, name in enumerate(names)}
        centres = np.zeros((len(names), rows.shape[1]))
        np.add.at(centres, [at[owner] for owner in owners], theirs)
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
        cosines = ours @ centres.T
        own = np.array([at.get(str(label), -1) for label in labels], dtype=np.int64)
        rest = cosines.copy()
        rest[np.arange(len(own)), own] = -np.inf
        scores = cosines[np.arange(len(own)), own] - rest.max(axis=1)
        scores[(own < 0) | ~ours.any(axis=1)] = np.nan
        nearest = float((cosines.argmax(axis=1) == own).mean())
        note = f"{nearest:.1%} lie nearest to their own label (chance {1 / len(names):.1%}), by {encoder}"
        return Ordered(scores, note, figures={"nearest": nearest, "chance": 1 / len(names)})


def _descriptions(path: Path) -> Mapping[str, str]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); give an object label -> text") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise InputError(f"{path}: holds no object label -> text; write {{'joy': 'a text that shows joy'}}")
    return found
