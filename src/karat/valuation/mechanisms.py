"""Why an arm may do better or worse: how often its records are wrong, and how varied their words are.

Knows no trainer but the one that checks labels, which learns from human records that no arm trains on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat import registry
from karat.auditing import statistics
from karat.auditing.stage import audit
from karat.errors import KaratError
from karat.records import Records
from karat.training import translation_errors
from karat.training.base import gold_labels, kind_of

Flags = NDArray[np.bool_]
DIVERSITY = ("mattr", "distinct_n")
MOST = 2_000
"""records of an arm that are looked at"""


@dataclass(frozen=True)
class Figure:
    """One figure of an arm beside that of real data at equal size."""

    name: str
    value: float | None
    interval: tuple[float, float] | None
    real: float | None
    p: float | None
    signature: str
    note: str = ""

    @property
    def telling(self) -> str:
        """A sentence where the arm differs from real data (p < 0.05, one test); else empty."""
        if self.value is None or self.real is None or self.p is None or self.p >= 0.05:
            return ""
        return f"Its {self.name} is {self.value:.3f}, that of real data {self.real:.3f}."

    def to_json(self) -> dict[str, Any]:
        """Return the figure as JSON holds it."""
        ends = None if self.interval is None else list(self.interval)
        found: dict[str, Any] = {"name": self.name, "value": self.value, "interval": ends}
        return found | {"real": self.real, "p": self.p, "signature": self.signature, "note": self.note}


def figures(
    arms: Mapping[str, Records], real: Records, held: Records | None, *, seed: int = 0
) -> dict[str, tuple[Figure, ...]]:
    """Return the figures of each arm: error rates, and lexical diversity at equal numbers of words."""
    real = real.sample(MOST, seed=seed)
    check = _checker(real, held, seed)
    usual = None if check is None else check(real)
    found = {}
    for name, records in arms.items():
        some = records.sample(MOST, seed=seed)
        errors = () if check is None or usual is None else _rates(check(some), usual)
        found[name] = (*errors, *_diversity(some, real, seed))
    return found


def _diversity(records: Records, real: Records, seed: int) -> tuple[Figure, ...]:
    try:
        audited = audit(records, real, metrics=DIVERSITY, budget="small", seed=seed)
    except KaratError:
        return ()
    return tuple(
        Figure(one.name, one.value, one.interval, one.reference, one.p, one.signature, one.note)
        for one in audited.scores
    )


def _rates(flags: Mapping[str, Flags], usual: Mapping[str, Flags]) -> tuple[Figure, ...]:
    found = []
    for name, wrong in flags.items():
        hits, n = int(wrong.sum()), len(wrong)
        of_real = usual.get(name)
        p = None if of_real is None or of_real is wrong else _two_shares(wrong, of_real)
        real = None if of_real is None else float(of_real.mean())
        found.append(Figure(name, hits / n, statistics.wilson(hits, n), real, p, f"{name}|n:{n}"))
    return tuple(found)


def _two_shares(one: Flags, other: Flags) -> float:
    """Return Fisher's exact p of two shares."""
    from scipy.stats import fisher_exact

    table = np.array([[int(side.sum()), int((~side).sum())] for side in (one, other)])
    return float(fisher_exact(table)[1])


def _checker(real: Records, held: Records | None, seed: int) -> Any:
    """Return what flags wrong records by kind of error; None where nothing can tell."""
    if real.datatype == "translation":
        usual = _translations(real)
        return lambda records: _translation_errors(records, usual)
    if kind_of(real) != "labels" or real.datatype == "preference" or held is None or not len(held):
        return None
    labels = gold_labels(held)
    if len(set(labels)) < 2 or not all(isinstance(label, str) for label in labels):
        return None
    model = registry.make("trainers", "linear").fit(held, seed=seed)

    def disagrees(records: Records) -> dict[str, Flags]:
        said = model.predict(records).labels
        return {"label_disagreement": np.array([a != b for a, b in zip(said, gold_labels(records))])}

    return disagrees


def _translations(records: Records) -> tuple[list[str], list[str]]:
    """Return what was translated and what was written for it."""
    sources, targets = ([str(text) for text in records.column(name)] for name in ("source", "target"))
    return sources, targets


def _translation_errors(records: Records, usual: tuple[Sequence[str], Sequence[str]]) -> Mapping[str, Flags]:
    """Flag wrong translations; those unlike the human one are known where `reference` holds it."""
    references = None
    if records.has("reference") and None not in records.column("reference"):
        references = [str(text) for text in records.column("reference")]
    return translation_errors.checked(*_translations(records), references=references, usual=usual)
