"""Orders translations by what is left of the source after translating them back. Knows no reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from karat import records as karat_records
from karat import registry
from karat.curation.base import Ask, Ordered, asked, few, need_ask, written
from karat.curation.overlaps import chrfs
from karat.errors import BadSetting, InputError
from karat.generation.asking import question
from karat.records import Records


@dataclass(frozen=True)
class RoundTrip:
    """The best preserved first: chrF between the source and the translation translated back.

    What a model loses one way it may mend on the way back, and word-for-word translations come back best.
    model: the folder of a trained model that translates target to source; without one a provider is asked.
    trainer: which trainer made it. language: of the sources, by its name, where a provider is asked.
    limit: the most records translated, drawn by seed (0: all).
    """

    model: str = ""
    trainer: str = "seq2seq"
    language: str = ""
    limit: int = 0

    def order(
        self,
        records: Records,
        reference: Records | None = None,
        *,
        seed: int = 0,
        ask: Ask | None = None,
    ) -> Ordered:
        """Score each record from 0 to 1; one that is empty or gets no answer has no score."""
        if records.datatype != "translation":
            raise BadSetting(f"ordering 'round_trip' needs translation records, not {records.datatype} ones")
        sources, targets = asked(records, "ordering 'round_trip'"), written(records)
        given = np.flatnonzero([bool(target.strip()) for target in targets])
        rows = given[few(len(given), self.limit, seed=seed)]
        if self.model:
            back = self._model([(sources[i], targets[i]) for i in rows.tolist()])
        else:
            back = self._ask(records, rows.tolist(), targets, need_ask(ask, "ordering 'round_trip'"), seed)
        scores = np.full(len(records), np.nan)
        came = [(row, text) for row, text in zip(rows.tolist(), back) if text is not None]
        found = chrfs([text for _, text in came], [sources[row] for row, _ in came])
        scores[[row for row, _ in came]] = found / 100
        lost = sum(text is None for text in back)
        note = f"{len(rows) - lost:,} translations came back, {lost:,} did not"
        if len(given) < len(records):
            note += f"; {len(records) - len(given):,} are empty"
        return Ordered(scores, note, figures={"invalid": float(lost)})

    def _model(self, pairs: list[tuple[str, str]]) -> list[str | None]:
        folder = Path(self.model).expanduser()
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; train a model that translates target to source first"
            )
        load = getattr(registry.find("trainers", self.trainer), "load", None)
        if load is None:
            raise BadSetting(f"trainer {self.trainer!r} keeps no models; name the one that wrote {folder}")
        rows = [{"source": target, "target": source or " "} for source, target in pairs]
        answers: Any = load(folder).predict(karat_records.from_rows(rows, datatype="translation"))
        return [str(text) for text in answers.texts]

    def _ask(
        self, records: Records, rows: list[int], targets: list[str], ask: Ask, seed: int
    ) -> list[str | None]:
        if not self.language:
            raise BadSetting("ordering 'round_trip': name the language of the sources: language=English")
        told = f"Translate this into {self.language}. Give the translation and nothing else."
        names = [f"round_trip:{records.ids[row]}" for row in rows]
        answers = ask(
            [
                question(name, f"{told}\n\n{targets[row]}", seed=seed, temperature=0.0)
                for name, row in zip(names, rows)
            ]
        )
        found = (answers.get(name) for name in names)
        return [None if one is None or not one.text.strip() else one.text.strip() for one in found]
