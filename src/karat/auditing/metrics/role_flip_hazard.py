"""How likely a role flips at each turn, among the dialogues that got that far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from karat.auditing import prevalence
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Metric, Need, Summary, Telling, View
from karat.auditing.columns import Columns
from karat.auditing.dialogues import DIALOGUES, Flags, Floats, Ints, Markers, Talk, marked, opened
from karat.auditing.judged_tables import difference_interval, stratified_p, weighted_rate_interval
from karat.auditing.ratios import told

_LENGTHS = 6
_TURNS = 60  # turns that are shown one by one
By = dict[str, tuple[float, tuple[float, float] | None, int]]


@dataclass(frozen=True)
class RoleFlipHazard(Metric):
    """The share of turns at which a role flips for the first time, of all turns that could be the first.

    Turn t of a dialogue is at risk where no turn before it was flipped, so long dialogues count for each of
    their turns. With human data both sides are weighted alike at each turn, and p is exact given the turn.
    By turn: the hazard h(t); by length and by reason of the end: the share of dialogues with a flip.
    user_marker, assistant_marker, done, users, assistants: as for role_flip
    """

    user_marker: str = "Instruction:"
    assistant_marker: str = "Solution:"
    done: str = "<CAMEL_TASK_DONE>"
    users: tuple[str, ...] = ("user", "human")
    assistants: tuple[str, ...] = ("assistant", "gpt")

    family: ClassVar[str] = "dialogue"
    datatypes: ClassVar[tuple[str, ...]] = ("dialogue",)
    misleads: ClassVar[str] = (
        "Dialogues that end early leave the risk; where they end because of what would have become a flip, "
        "the later hazards are too low. Shares by length mix up cause and effect: flips make dialogues long."
    )
    cost: ClassVar[str] = "O(characters)"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Cap dialogues before the turn at which the hazard rises, or repeat both roles there."
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    higher: ClassVar[str] = "roles flip sooner"
    source: ClassVar[str] = (
        "Das et al. 2024, Figure 17; Kaplan and Meier 1958; Fay and Feuer 1997; Mantel and Haenszel 1959"
    )

    def needs(self) -> tuple[Need, ...]:
        return (DIALOGUES,)

    def __post_init__(self) -> None:
        self.markers.check()

    @property
    def markers(self) -> Markers:
        """The settings as one thing."""
        return Markers(self.user_marker, self.assistant_marker, self.done, self.users, self.assistants)

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        columns: Columns = candidate[DIALOGUES]
        mine = self._risk(opened(columns))
        if mine is None:
            return Comparison(float("nan"), best=0.0, n=len(columns), note=self.markers.absent)
        theirs = None if reference is None else self._risk(opened(reference[DIALOGUES]))
        value, interval = mine.rate(theirs)
        survival = mine.survival()
        flips = int(mine.events.sum())
        found = Comparison(
            value,
            interval,
            best=0.0,
            n=len(columns),
            note=f"{flips} of {len(columns):,} dialogues flip; had all gone on for {len(survival)} turns, "
            f"{1 - survival[-1]:.1%} would (Kaplan and Meier)",
            details=mine.details(survival),
            by=mine.by_turn() | _by_length(mine) | _by_end(mine, columns),
            telling=_telling(opened(columns), mine),
        )
        if theirs is None:
            return found
        other, ends = theirs.rate(mine)
        tables = mine.tables(theirs)
        hits = sum(a + c for a, _, c, _ in tables)
        total = sum(n + m for _, n, _, m in tables)
        return replace(
            found,
            reference=other,
            reference_interval=ends,
            difference=value - other,
            difference_interval=difference_interval(
                lambda level: mine.rate(theirs, level), lambda level: theirs.rate(mine, level)
            ),
            p=stratified_p(tables),
            chance=hits / total if total else None,
        )

    def _risk(self, talk: Talk) -> Risk | None:
        flags = marked(talk, self.markers)
        return Risk.of(talk, flags.flipped, flags.counted) if flags.present else None


@dataclass(frozen=True)
class Risk:
    """By turn t (of those of either role, from 0): dialogues at risk and first flips, int64 [L] each."""

    at_risk: Ints
    events: Ints
    length: Ints
    """int64 [n]: turns of each dialogue."""
    first: Ints
    """int64 [n]: the turn of the first flip; -1 for none."""

    @staticmethod
    def of(talk: Talk, flipped: Flags, counted: Flags) -> Risk:
        """Count turns of either role only, and flips among them."""
        place = np.cumsum(counted) - 1
        before = np.concatenate([[0], np.cumsum(counted)])[talk.start[:-1]]
        length = talk.sums(counted).astype(np.int64)
        first = np.full(len(talk), -1, np.int64)
        turns = np.flatnonzero(flipped & counted)[::-1]
        first[talk.dialogue[turns]] = place[turns] - before[talk.dialogue[turns]]
        end = np.where(first >= 0, first + 1, length)  # a dialogue is at risk in turns 0 .. end - 1
        most = int(length.max(initial=0))
        leaving = np.bincount(end, minlength=most + 1)
        at_risk = len(end) - np.cumsum(leaving)[:most]
        events = np.bincount(first[first >= 0], minlength=most)[:most]
        return Risk(at_risk.astype(np.int64), events.astype(np.int64), length, first)

    def rate(self, other: Risk | None, level: float = 0.95) -> tuple[float, tuple[float, float] | None]:
        """First flips a turn at risk; with another corpus, weighted by the turns at risk of both."""
        n = self.at_risk.astype(np.float64)
        if other is None:
            weight = n
        else:
            size = min(len(n), len(other.at_risk))
            weight = np.zeros(len(n))
            weight[:size] = n[:size] + other.at_risk[:size]
            weight[:size][other.at_risk[:size] == 0] = 0
        known = (n > 0) & (weight > 0)
        if not known.any():
            return float("nan"), None
        weights = weight[known] / weight[known].sum() / n[known]
        events = self.events[known]
        low, high = weighted_rate_interval(events, weights, level=level)
        return float((weights * events).sum()), (low, min(1.0, high))

    def tables(self, other: Risk) -> list[tuple[int, int, int, int]]:
        """Flips and dialogues at risk of both corpora, turn by turn."""
        columns = (self.events, self.at_risk, other.events, other.at_risk)
        return [(int(a), int(n), int(c), int(m)) for a, n, c, m in zip(*columns)]

    def survival(self) -> Floats:
        """float64 [L]: the share without a flip after each turn (Kaplan and Meier), ends being censored."""
        hazard = self.events / np.maximum(self.at_risk, 1)
        return np.cumprod(1 - hazard).astype(np.float64)

    def details(self, survival: Floats) -> dict[str, float]:
        """Further figures: the share of dialogues that flip, and by some turns (Kaplan and Meier)."""
        found = {
            "dialogue_share": float((self.first >= 0).mean()) if len(self.first) else float("nan"),
            "turns_at_risk": float(self.at_risk.sum()),
            "flips": float(self.events.sum()),
        }
        for turn in (5, 10, 20, 40):
            if turn <= len(survival):
                found[f"flipped_by_turn_{turn}"] = float(1 - survival[turn - 1])
        return found

    def by_turn(self) -> By:
        """The hazard of each turn with Clopper and Pearson's interval, and the dialogues at risk."""
        return {
            f"turn {t + 1}": (float(d / n), prevalence.clopper_pearson(int(d), int(n)), int(n))
            for t, (d, n) in enumerate(zip(self.events[:_TURNS], self.at_risk[:_TURNS]))
            if n
        }


def _by_length(risk: Risk) -> By:
    """The share of dialogues with a flip in bands of length that hold about as many dialogues each."""
    edges = np.unique(np.quantile(risk.length, np.linspace(0, 1, _LENGTHS + 1)[1:], method="lower"))
    band = np.searchsorted(edges, risk.length)
    found: By = {}
    for i in range(len(edges)):
        inside = risk.length[band == i]
        if len(inside):
            low, high = int(inside.min()), int(inside.max())
            name = f"length {low}" if low == high else f"length {low}-{high}"
            found[name] = _share(risk.first[band == i] >= 0)
    return found


def _by_end(risk: Risk, columns: Columns) -> By:
    """The share of dialogues with a flip by the reason for which they ended, where the records say it."""
    names, codes = columns.numbered("termination_reason")
    order: Sequence[int] = np.argsort(-np.bincount(codes[codes >= 0], minlength=len(names)))[:10].tolist()
    return {f"ended by {names[i]}": _share(risk.first[codes == i] >= 0) for i in order}


def _share(flags: Flags) -> tuple[float, tuple[float, float] | None, int]:
    hits, n = int(flags.sum()), len(flags)
    return hits / n, stats.wilson(hits, n), n


def _telling(talk: Talk, risk: Risk) -> tuple[Telling, ...]:
    soon = np.where(risk.first >= 0, 1 / np.maximum(risk.first + 1.0, 1.0), 0.0)
    return told(talk.keys, soon, lambda i: f"flips first at turn {risk.first[i] + 1} of {risk.length[i]}", 8)
