"""Mixes human and synthetic records at a ratio that published advice or the user names. Knows no score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from karat.curation.base import Mixed
from karat.curation.lexis import lexical_note
from karat.curation.repeats import repeated
from karat.errors import BadSetting
from karat.records import Records


def advice(human: int, synthetic: int) -> dict[str, float]:
    """The share of human records that each advisor recommends, for so many of both.

    optimal: w* = (sqrt(k^2 + 4k) - k) / 2 with k = human / synthetic (He, Xu and Cheng 2025), derived for
    iterated training of an estimator that weighs both. kang: 30 % synthetic (Kang et al. 2025, pretraining).
    pooling: all there is, k / (1 + k).
    """
    k = human / synthetic
    # The same as the formula, without taking two large numbers from each other when k is large.
    return {"optimal": 2 * k / (np.sqrt(k * k + 4 * k) + k), "kang": 0.7, "pooling": k / (1 + k)}


@dataclass(frozen=True)
class Ratio:
    """Mixes the human reference and the candidates at a share of human records.

    advisor: optimal (w* = (sqrt(k^2+4k)-k)/2, k = human : synthetic), kang (30 % synthetic) or pooling (all
    of both); the note states what each says. weight: the share of human records, instead of an advisor's.
    by: subsample (no record twice; the best candidates, human ones at random) or upsample (all of both, the
    scarcer side repeated). repeats: how often a record may come.
    """

    advisor: Literal["optimal", "kang", "pooling"] = "optimal"
    weight: float = 0.0
    by: Literal["subsample", "upsample"] = "subsample"
    repeats: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.weight < 1:
            raise ValueError(f"weight is {self.weight}, but lies between 0 and 1; 0 leaves it to the advisor")
        if self.repeats < 1:
            raise ValueError(f"repeats is {self.repeats}, but a record comes once at least")

    def mix(
        self,
        candidate: Records,
        reference: Records | None = None,
        *,
        size: int | None = None,
        seed: int = 0,
    ) -> Mixed:
        """Put human records among the candidates at random places; repeated ones have ids of their own."""
        if reference is None or not len(reference):
            raise BadSetting("mixture 'ratio' mixes human records in; give --reference HUMAN")
        advised = advice(len(reference), len(candidate))
        share = self.weight or advised[self.advisor]
        human, synthetic = self._sizes(share, len(reference), len(candidate), size)
        rng = np.random.default_rng([seed, 0x2A7])
        mine = _spread(len(candidate), synthetic, np.arange(len(candidate)))
        theirs = _spread(len(reference), human, rng.permutation(len(reference)))
        kept = repeated(candidate, mine)
        added = repeated(reference, theirs, taken=[*candidate.ids, *kept.ids])
        places = np.concatenate([np.arange(synthetic) + 0.5, rng.random(human) * max(1, synthetic)])
        order = np.argsort(places, kind="stable")
        mixed = kept.concat(added).take(order)
        reason = f"not among the best {synthetic:,}; with {human:,} human ones the share is {share:.3f}"
        left = dict.fromkeys(np.flatnonzero(mine == 0).tolist(), reason)
        names = np.array(["synthetic"] * synthetic + ["human"] * human)[order].tolist()
        chosen = f"weight={self.weight:g} given" if self.weight else f"by {self.advisor}"
        said = ", ".join(f"{name} {value:.3f}" for name, value in advised.items())
        note = (
            f"{human:,} human and {synthetic:,} synthetic records: share of human {human / len(mixed):.3f} "
            f"({chosen}; advisors: {said})"
        )
        most = max(int(mine.max(initial=0)), int(theirs.max(initial=0)))
        if most > 1:
            note += f"; records come up to {most} times"
        words = lexical_note(mixed.texts(), names, seed=seed)
        return Mixed(mixed, left, "; ".join(filter(None, (note, words))))

    def _sizes(self, share: float, human: int, synthetic: int, size: int | None) -> tuple[int, int]:
        """How many human and how many synthetic records, by the total, else by what there is of both."""
        most = self.repeats if self.by == "upsample" else 1
        if size is not None:
            total = float(size)
        elif self.by == "upsample":
            total = max(human / share, synthetic / (1 - share))
        else:
            total = min(human / share, synthetic / (1 - share))
        # Never more of a side than its records, each as often as allowed: the share is kept, not the total.
        total = min(total, most * human / share, most * synthetic / (1 - share))
        n = round(total)
        mine = min(most * human, max(1, round(share * n)))
        return mine, min(most * synthetic, max(1, n - mine))


def _spread(n: int, total: int, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 [n]: how often each comes, as evenly as can be; the first in `order` once more."""
    counts = np.full(n, total // n, np.int64)
    counts[order[: total % n]] += 1
    return counts
