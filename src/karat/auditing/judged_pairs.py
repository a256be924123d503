"""Two things compared by a judge, both orders asked: what it prefers, and how often the order decides.

Knows no metric. A judge that favours the place gives different winners when the places are swapped; such
pairs count for neither side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karat.auditing import statistics as stats
from karat.auditing.base import Found, Jury, Question
from karat.auditing.judged_questions import cut

FIRST, SECOND, TIE = "first", "second", "tie"
A, B, EVEN, SWAPPED, INVALID = 0, 1, 2, 3, 4
"""The outcome of a pair: a wins, b wins, a tie, the winner changes with the order, no valid answer."""
_INCONSISTENT = 0.2


@dataclass(frozen=True)
class Pair:
    """Two texts of which one may win; `record` names the pair."""

    record: str
    a: str
    b: str


@dataclass(frozen=True)
class Swapped:
    """Outcomes int64 [n] of pairs, and how many pairs had the first (the second) winning in both orders."""

    outcome: NDArray[np.int64]
    first: int
    second: int

    def count(self, outcome: int) -> int:
        """How many pairs ended so."""
        return int((self.outcome == outcome).sum())

    @property
    def answered(self) -> int:
        """Pairs with two valid answers."""
        return len(self.outcome) - self.count(INVALID)

    @property
    def consistency(self) -> float:
        """The share of answered pairs whose winner does not depend on the order; nan where there is none."""
        return 1 - self.count(SWAPPED) / self.answered if self.answered else float("nan")

    @property
    def order_p(self) -> float:
        """Binomial p of "where the order decides, the first place wins as often as the second"."""
        from scipy.stats import binomtest

        decided = self.first + self.second
        return float(binomtest(self.first, decided).pvalue) if decided else 1.0

    def wins(self) -> tuple[int, int]:
        """Pairs that a wins in both orders, of those that either wins in both."""
        return self.count(A), self.count(A) + self.count(B)

    def warning(self, kind: str) -> Found | None:
        """What to tell where the order decides too much."""
        decided = self.count(SWAPPED)
        ends = stats.wilson(decided, self.answered)
        if ends is None or (ends[0] < _INCONSISTENT and self.order_p >= 0.01):
            return None
        place = "first" if self.first >= self.second else "second"
        message = (
            f"{kind}: in {decided} of {self.answered} pairs the judge's winner changes when the two change "
            f"places (it favours the {place}); such pairs are left out, do not ask it in one order only"
        )
        return Found("orientation_dependent", message)


def both_orders(
    judge: Jury, question: str, pairs: Sequence[Pair], *, kind: str, ties: bool = False
) -> Swapped:
    """Ask which of two texts wins, once in each order.

    Source: Zheng et al. 2023, Judging LLM-as-a-judge, section 3.4 (swap and keep consistent wins).
    """
    answers = (FIRST, SECOND, TIE) if ties else (FIRST, SECOND)
    questions = []
    for one in pairs:
        for order, (first, second) in (("ab", (one.a, one.b)), ("ba", (one.b, one.a))):
            shown = f"### first\n{cut(first)}\n\n### second\n{cut(second)}"
            questions.append(Question(one.record, f"{question}\n\n{shown}", answers, f"{kind}/{order}"))
    verdicts = judge.ask(questions)
    given = [one.answer for one in verdicts]
    outcomes = []
    for forth, back in zip(given[::2], given[1::2], strict=True):
        if forth is None or back is None:
            outcomes.append(INVALID)
        elif (forth, back) == (FIRST, SECOND):
            outcomes.append(A)
        elif (forth, back) == (SECOND, FIRST):
            outcomes.append(B)
        elif forth == back == TIE:
            outcomes.append(EVEN)
        else:
            outcomes.append(SWAPPED)
    pairs_of = list(zip(given[::2], given[1::2], strict=True))
    return Swapped(
        np.array(outcomes, np.int64), pairs_of.count((FIRST, FIRST)), pairs_of.count((SECOND, SECOND))
    )
