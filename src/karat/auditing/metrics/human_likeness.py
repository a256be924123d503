"""How often a judge takes dialogues for conversations between people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from karat.auditing import judged_dialogues, judged_pairs, judged_rates
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Metric, Need, Summary, Telling, View
from karat.auditing.dialogues import DIALOGUES
from karat.auditing.judged_questions import QUESTIONS, YES_NO, asked
from karat.auditing.judging import VERSION

_ASKS = (*QUESTIONS, "pair")
_WHICH = "Of the two dialogues below, one may be by people and one by machines. Which is rather by people?"


@dataclass(frozen=True)
class HumanLikeness(Metric):
    """The share of dialogues that a judge takes for conversations between people, corrected by people.

    ask=pair shows a candidate and a reference dialogue side by side, in both orders: the value is then the
    share of pairs in which the candidate looks more human, of those decided alike in both orders; 0.5 is no
    difference. A field `human_like` (yes, no) makes a judge needless for ask=human_like.
    ask: human_like, collaborative (do the speakers work together), or pair
    records: the most dialogues (or pairs) that are judged; 0: by budget (50, 200, 1000)
    sampled: how the dialogues that people judged were drawn: random, chosen, or auto (as they look)
    """

    ask: str = "human_like"
    records: int = 0
    sampled: str = "auto"

    family: ClassVar[str] = "dialogue"
    datatypes: ClassVar[tuple[str, ...]] = ("dialogue",)
    judged: ClassVar[bool] = True
    judged_fields: ClassVar[tuple[str, ...]] = ("human_like",)
    misleads: ClassVar[str] = (
        "A language model that judges text of language models may like its own kind. Without people's "
        "answers it says what the judge believes, and no more."
    )
    cost: ClassVar[str] = "one call of the judge a dialogue (two a pair), 50 to 1,000 of them a side"
    cure: ClassVar[Mapping[str, str]] = {
        "lower": "Seed generation with human dialogues, vary lengths of turns, stop politeness loops.",
    }
    size: ClassVar[View] = "records"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)
    higher: ClassVar[str] = "more like people"
    source: ClassVar[str] = "Das et al. 2024, section 8.1; Zheng et al. 2023, Judging LLM-as-a-judge (pairs)"

    def __post_init__(self) -> None:
        judged_rates.check(self.records, self.sampled)
        if self.ask not in _ASKS:
            raise ValueError(f"ask is {self.ask!r}; choose one of: {', '.join(_ASKS)}")

    def needs(self) -> tuple[Need, ...]:
        return (DIALOGUES,)

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        field = "human_like" if self.ask == "human_like" else ""
        mine = judged_dialogues.side(candidate[DIALOGUES], field, YES_NO)
        theirs = None if reference is None else judged_dialogues.side(reference[DIALOGUES], field, YES_NO)
        if self.ask == "pair":
            return self._pairs(mine, theirs, context)
        query = judged_rates.Query(
            self.ask,
            YES_NO,
            frozenset({"yes"}),
            asked(self.ask, QUESTIONS[self.ask], YES_NO),
            sampled=self.sampled,
            records=self.records,
            tells=False,
        )
        found = judged_rates.judged_rate(mine, theirs, query, context, best=1.0)
        return replace(found, best=1.0 if found.reference is None else found.reference)

    def _pairs(
        self, mine: judged_rates.Side, theirs: judged_rates.Side | None, context: Context
    ) -> Comparison:
        if theirs is None or context.judge is None:
            lacking = "a judge" if context.judge is None else "a reference"
            return Comparison(float("nan"), chance=0.5, best=0.5, n=0, note=f"ask=pair needs {lacking}")
        rows = judged_rates.sampled_rows(mine, self.records, context)
        others = judged_rates.sampled_rows(theirs, self.records, context)
        both = list(zip(rows, others))  # both in the order of a hash, so that they meet at random
        pairs = [judged_pairs.Pair(mine.ids[i], mine.shown(i), theirs.shown(j)) for i, j in both]
        found = judged_pairs.both_orders(context.judge, _WHICH, pairs, kind="human_like_pair")
        hits, n = found.wins()
        from scipy.stats import binomtest

        lost = [mine.keys[i] for (i, _), how in zip(both, found.outcome) if how == judged_pairs.B]
        warned = found.warning("human_likeness, ask=pair")
        return Comparison(
            hits / n if n else float("nan"),
            stats.wilson(hits, n),
            p=float(binomtest(hits, n).pvalue) if n else None,
            chance=0.5,
            best=0.5,
            n=n,
            note=f"uncorrected; {found.consistency:.0%} of {found.answered} pairs are decided alike"
            if found.answered
            else "no pair got two valid answers",
            details={
                "pairs": float(len(pairs)),
                "consistency": found.consistency,
                "first_wins": float(found.first),
                "second_wins": float(found.second),
                "order_p": found.order_p,
                "invalid_share": float(np.mean(found.outcome == judged_pairs.INVALID)) if pairs else 0.0,
            },
            extra={"judge": context.judge.id, "prompts": VERSION, "sample": len(pairs)},
            warnings=() if warned is None else (warned,),
            telling=tuple(
                Telling(int(key), 1.0, "in both orders the other one looked human") for key in lost
            ),
        )
