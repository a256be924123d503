"""Orders records by how sure the generator was of its own words. Knows log-probabilities, not texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karat.curation.base import Ordered
from karat.errors import BadSetting, InputError
from karat.records import Records


@dataclass(frozen=True)
class Confidence:
    """The most likely first, by the generator's mean log-probability of a token.

    Likely is not the same as good: models are sure of commonplaces, so hold the order against an oracle.
    field: where the log-probability is; without one, `lineage.logprob`, which is a mean over tokens.
    total: the field holds a sum over tokens, which is divided by their number.
    tokens: the field with that number; without one, `lineage.tokens_out`.
    """

    field: str = ""
    total: bool = False
    tokens: str = ""

    def order(self, records: Records, reference: Records | None = None, *, seed: int = 0) -> Ordered:
        """Score each record by log P of a token in nats; a record without one has no score."""
        name = self.field or "lineage.logprob"
        values = records.column(self.field) if self.field else records.lineage("logprob")
        try:
            scores = np.array([np.nan if v is None else float(v) for v in values], dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(
                f"{records.path}: field {name!r} does not hold numbers; name the log-probability with field="
            ) from None
        if np.isnan(scores).all():
            raise BadSetting(
                f"ordering 'confidence': {name} is empty in all records; generate with a provider that gives "
                "log-probabilities, or name a field: confidence:field=NAME"
            )
        note = f"mean of {name} {np.nanmean(scores):.3f}"
        if self.total:
            scores = scores / self._tokens(records)
            note = f"{name} by tokens, mean {np.nanmean(scores):.3f} nats"
        return Ordered(scores, note)

    def _tokens(self, records: Records) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        counts = records.column(self.tokens) if self.tokens else records.lineage("tokens_out")
        found = np.array([np.nan if not one else float(one) for one in counts], dtype=np.float64)
        if np.isnan(found).all():
            raise BadSetting(
                "ordering 'confidence': total=true divides by the number of tokens, which no record has; "
                "name its field with tokens=NAME"
            )
        return found
