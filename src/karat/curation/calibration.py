"""How well an order agrees with the truth where that is known. Knows the ordering `oracle` by name.

The truth is gold where the records have it (a reference translation, a gold label, a score by people).
Otherwise errors are planted: three in ten of some human records get a wrong label, another record's answer,
or their words in disorder, and a good order puts intact records before damaged ones. Planted errors are
coarser than those of a generator: they show whether an order sees anything at all, not what it is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat import registry
from karat.auditing import statistics
from karat.curation.base import WRITTEN, Ordered, offered
from karat.errors import BadSetting, BudgetSpent, KaratError
from karat.records import Records

Floats = NDArray[np.float64]

AUTO, PLANTED, NONE = "auto", "planted", "none"
MOST = 1_000
"""records of a calibration split"""
ASKED = 100
"""the same where each score is asked from a language model"""
FEWEST = 20
DAMAGED = 0.3
"""share of records that get an error; half of two labels turned round would leave nothing to learn"""


def decides(orderer: Any, held: Calibration) -> bool:
    """Tell whether a correlation says that an order carries no information.

    A part whose `about` is not quality (a detector of origins) has a test of its own, and is not expected to
    see planted errors.
    """
    return held.known and (held.kind == "oracle" or getattr(orderer, "about", "quality") == "quality")


@dataclass(frozen=True)
class Calibration:
    """Spearman's rank correlation of an order with an oracle, or why there is none."""

    kind: str = ""
    """oracle or planted; empty where there is none"""
    rho: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    p: float = float("nan")
    n: int = 0
    best: float = 1.0
    """the correlation of a perfect order, below 1 where the oracle has ties"""
    oracle: str = ""
    areas: Mapping[str, float] = field(default_factory=dict)
    """kind of planted error -> P(an intact record is scored above a damaged one)"""
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether there is a correlation."""
        return bool(np.isfinite(self.rho))

    @property
    def figures(self) -> dict[str, float]:
        """Plain figures; `oracle_kind` is 1 for gold and 2 for planted errors."""
        if not self.known:
            return {}
        found = {f"oracle_{name}": float(getattr(self, name)) for name in ("rho", "low", "high", "p", "n")}
        found |= {"oracle_best": self.best, "oracle_kind": 1.0 if self.kind == "oracle" else 2.0}
        return found | {f"planted_{name}_auc": area for name, area in self.areas.items()}

    def told(self, name: str, decides: bool = True) -> str:
        """Say it in a sentence; `decides` is False where the order is not about what the oracle measures."""
        if not self.known:
            return f"not calibrated: {self.reason}" if self.reason else ""
        figure = (
            f"rank correlation with {self.oracle} {self.rho:.3f} [{self.low:.3f}, {self.high:.3f}], "
            f"{_p(self.p)}, n = {self.n:,} (chance 0, best {self.best:.3f})"
        )
        if self.areas:
            told = ", ".join(f"{kind} {area:.3f}" for kind, area in self.areas.items())
            figure += f"; intact above damaged (chance 0.5): {told}"
        if self.low > 0 or not decides:
            return figure
        if self.high < 0:
            return f"the order by {name} is upside down, worse records come first: {figure}"
        return f"the order by {name} carries no information: {figure}"


def calibrated(
    orderer: Any,
    records: Records,
    found: Ordered,
    reference: Records | None,
    *,
    how: str = AUTO,
    seed: int = 0,
    given: Mapping[str, Any] | None = None,
) -> Calibration:
    """Hold an order against gold, or against planted errors; `given` is what verbs may name (ask, cache).

    Raises BadSetting where gold or planted errors were asked for by name and cannot be had.
    """
    given = given or {}
    if how == NONE:
        return Calibration()
    if how == PLANTED:
        return _planted(orderer, reference, seed, given)
    try:
        return _gold("oracle" if how == AUTO else how, records, found, reference, seed, given)
    except KaratError as error:
        if how != AUTO:
            raise
        lacking = str(error)
    if reference is None:
        return Calibration(reason=lacking)
    try:
        return _planted(orderer, reference, seed, given)
    except BudgetSpent:
        raise
    except KaratError as error:
        return Calibration(reason=f"{lacking}, and errors cannot be planted: {error}")


def spearman(scores: Floats, truth: Floats, *, seed: int = 0, trials: int = 500) -> Calibration:
    """Spearman's rho with its bootstrap interval and the p-value of its t approximation (Spearman 1904)."""
    n = len(scores)
    rho = _rho(scores, truth)
    if n < FEWEST:
        return Calibration(reason=f"{n} records have both a score and a truth, {FEWEST} are needed", n=n)
    if not np.isfinite(rho):
        return Calibration(reason="all scores, or all truths, are equal", n=n)
    draws = statistics.bootstrap(n, lambda rows: _rho(scores[rows], truth[rows]), trials=trials, seed=seed)
    low, high = statistics.percentile_interval(draws) or (float("nan"), float("nan"))
    slack = max(1e-12, 1 - rho * rho)
    p = statistics.t_p(rho * np.sqrt((n - 2) / slack), n - 2)
    ideal = np.empty(n)
    ideal[np.argsort(truth, kind="stable")] = np.arange(n)
    return Calibration("oracle", rho, low, high, float(p), n, abs(_rho(ideal, truth)))


def plant(human: Records, *, seed: int = 0, sees: Sequence[str] = ()) -> tuple[Records, NDArray[np.str_]]:
    """Return human records, some damaged, and how each was: `""`, labels, answers or words.

    sees: the kinds of damage wanted, where they are possible.
    Raises BadSetting for records in which nothing can be damaged.
    """
    rng = np.random.default_rng([seed, 0x91A7])
    labels, written = human.labels(), WRITTEN.get(human.datatype)
    kinds = []
    if labels is not None and len({one for one in labels if one is not None}) > 1:
        kinds.append("labels")
    if human.datatype in ("translation", "instruction"):
        kinds.append("answers")
    if written is not None and human.has(written):
        kinds.append("words")
    kinds = [kind for kind in kinds if kind in sees] or kinds
    if not kinds:
        raise BadSetting(f"no error can be planted in {human.datatype} records without labels")
    damage = np.full(len(human), "", dtype="<U8")
    chosen = rng.permutation(len(human))[: int(DAMAGED * len(human))]
    for place, kind in enumerate(kinds):
        damage[chosen[place :: len(kinds)]] = kind
    if "labels" in kinds:
        assert labels is not None and human.kind.label is not None
        human = human.with_column(human.kind.label, _other_labels(labels, damage == "labels", rng))
    if written is not None and human.has(written):
        texts = [str(text or "") for text in human.column(written)]
        rows = np.flatnonzero(damage == "answers").tolist()
        for row, other in zip(rows, [texts[i] for i in [*rows[1:], *rows[:1]]]):
            texts[row] = other
        for row in np.flatnonzero(damage == "words").tolist():
            texts[row] = _shuffled(texts[row], rng)
        human = human.with_column(written, texts)
    return human, damage


def _gold(
    spec: str,
    records: Records,
    found: Ordered,
    reference: Records | None,
    seed: int,
    given: Mapping[str, Any],
) -> Calibration:
    oracle = registry.make("orderings", spec)
    rows = np.flatnonzero(np.isfinite(found.scores))
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng([seed, 0xCA11]).choice(rows, MOST, replace=False))
    more = offered(oracle.order, **given)
    truth: Ordered = oracle.order(records.take(rows), reference, seed=seed, **more)
    both = np.isfinite(truth.scores)
    result = spearman(found.scores[rows][both], truth.scores[both], seed=seed)
    return _with(result, "oracle", f"{registry.name_of(oracle)} ({truth.note.split(';')[0]})")


def _planted(orderer: Any, reference: Records | None, seed: int, given: Mapping[str, Any]) -> Calibration:
    if reference is None:
        raise BadSetting("errors are planted in human records; give --reference HUMAN")
    if len(reference) < 2 * FEWEST:
        raise BadSetting(
            f"errors are planted in {2 * FEWEST} human records or more, {len(reference)} are given"
        )
    more = offered(orderer.order, **given)
    order = np.random.default_rng([seed, 0x5917]).permutation(len(reference))
    half = min(len(order) // 2, ASKED if "ask" in more else MOST)
    damaged, kinds = plant(
        reference.take(np.sort(order[:half])), seed=seed, sees=getattr(orderer, "sees", ())
    )
    rest = reference.take(np.sort(order[half:]))
    scores = orderer.order(damaged, rest, seed=seed, **more).scores
    known = np.isfinite(scores)
    intact = (kinds == "") & known
    result = spearman(scores[known], (kinds[known] == "").astype(np.float64), seed=seed)
    areas = {
        kind: statistics.auc(scores[intact], scores[known & (kinds == kind)]).auc
        for kind in sorted(set(kinds.tolist()) - {""})
    }
    return _with(result, "planted", "planted errors", areas)


def _with(
    found: Calibration, kind: str, oracle: str, areas: Mapping[str, float] | None = None
) -> Calibration:
    return replace(found, kind=kind if found.known else "", oracle=oracle, areas=areas or {})


def _rho(one: Floats, other: Floats) -> float:
    a, b = statistics.midranks(one), statistics.midranks(other)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


def _other_labels(labels: list[Any], wrong: NDArray[np.bool_], rng: np.random.Generator) -> list[Any]:
    """Each wrong label becomes another one, drawn as often as it occurs."""
    given = [one for one in labels if one is not None]
    found = list(labels)
    for row in np.flatnonzero(wrong).tolist():
        while found[row] == labels[row]:  # there are two classes at least
            found[row] = given[int(rng.integers(len(given)))]
    return found


def _shuffled(text: str, rng: np.random.Generator) -> str:
    """The words of a text in disorder; its characters, in a script that does not part words."""
    words = text.split()
    if len(words) >= 3:
        return " ".join(words[i] for i in rng.permutation(len(words)).tolist())
    return "".join(text[i] for i in rng.permutation(len(text)).tolist())


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
