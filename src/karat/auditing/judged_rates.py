"""How common something is by the word of a judge, set right by what people said about some of the records.

A judge is asked about a hash sample of each side. Where people answered for some records (`--judged FILE`),
its rate is corrected: by prediction-powered inference where their records are a random part of those that are
audited, by Rogan and Gladen's formula where they were chosen. Knows neither question nor metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from karat.auditing import prevalence
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Found, Jury, Setting, Telling
from karat.auditing.judged_tables import Estimate, Interval, difference_interval, difference_p, fisher_p
from karat.auditing.judging import VERSION, known_answer

SAMPLES = {"small": 50, "medium": 200, "large": 1000}
"""Records of each side that a judge is asked about, by budget."""
FEW = 20
"""Records judged by people below which a correction is not believed to be one."""
_DISAGREEMENT = 0.02
_SAMPLED = ("auto", "random", "chosen")
_TOLD = 8


@dataclass(frozen=True)
class Opinion:
    """What a judge ended up with on one record; `first` is what it said before it was asked again."""

    answer: str | None
    reason: str = ""
    first: str | None = None
    parsers_differ: bool = False


Ask = Callable[[Jury, Sequence[tuple[str, str]]], list[Opinion]]
"""Asks a judge about records, each given as (id, what is shown of it)."""


@dataclass(frozen=True)
class Side:
    """The records of one corpus: ids, keys uint64 [n], what is shown of record i, and answers given before.

    given: the answer that a field of the record holds (None: none); empty where there is no such field
    """

    ids: Sequence[str]
    keys: NDArray[np.uint64]
    shown: Callable[[int], str]
    given: Sequence[str | None] = ()


@dataclass(frozen=True)
class Query:
    """One yes-or-no question to a judge: its kind, the allowed answers, and which of them count as yes."""

    kind: str
    answers: tuple[str, ...]
    positive: frozenset[str]
    ask: Ask
    sampled: str = "auto"
    """How the records that people judged were drawn: random, chosen, or auto (see `Panel`)."""
    records: int = 0
    """The most records of each side that are asked about; 0: by budget."""
    tells: bool = True
    """Whether positive answers are those to look at (a defect), or negative ones (a virtue)."""


def check(records: int, sampled: str) -> None:
    """Raise ValueError for settings that make no sense; for `__post_init__` of judged metrics."""
    if records < 0:
        raise ValueError(f"records is {records}, but must be 0 (by budget) or more")
    if sampled not in _SAMPLED:
        raise ValueError(f"sampled is {sampled!r}; choose one of: {', '.join(_SAMPLED)}")


@dataclass(frozen=True)
class Panel:
    """What a judge, and people, said about one side.

    rows are the records of the random sample with a valid answer, flags bool [n] its answers; labelled and
    truth bool [m] the answers of judge and people on the records that people judged.
    """

    rows: NDArray[np.int64]
    flags: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    opinions: Mapping[int, Opinion]
    asked: int = 0
    invalid: int = 0
    random: bool = True
    inside: NDArray[np.bool_] | None = None
    """bool [m]: which of the records that people judged are among the sample."""
    field: bool = False
    """Whether a field of the records held the answers, so that nobody was asked."""

    @property
    def sensitivity(self) -> tuple[int, int]:
        """Records that both call positive, of those that people do."""
        return int((self.labelled & self.truth).sum()), int(self.truth.sum())

    @property
    def specificity(self) -> tuple[int, int]:
        """Records that both call negative, of those that people do."""
        return int((~self.labelled & ~self.truth).sum()), int((~self.truth).sum())

    @property
    def table(self) -> NDArray[np.int64]:
        """int64 [2, 2]: people no, yes (rows) by judge no, yes (columns)."""
        found = np.zeros((2, 2), np.int64)
        np.add.at(found, (self.truth.astype(int), self.labelled.astype(int)), 1)
        return found


def panel(side: Side, query: Query, context: Context, taken: frozenset[str] = frozenset()) -> Panel:
    """Ask about a hash sample of a side, and about all its records that people judged (but not `taken`).

    With sampled=auto people's records count as a random part where the judge finds as much among them as
    elsewhere (Fisher's p >= 0.01); a sheet that was filled by class does not look like that.
    """
    judge = context.judge
    if judge is None or any(one is not None for one in side.given):
        return _given(side, query)
    people = {}
    for row, name in enumerate(side.ids):
        said = None if name in taken else known_answer(judge.truth, query.kind, name, query.answers)
        if said is not None:
            people[row] = said in query.positive
    sample = sampled_rows(side, query.records, context)
    extra = [row for row in people if row not in set(sample)]
    asked = sample + extra
    said_by = dict(
        zip(asked, query.ask(judge, [(side.ids[row], side.shown(row)) for row in asked]), strict=True)
    )
    valid = {row: one.answer in query.positive for row, one in said_by.items() if one.answer is not None}
    rows = [row for row in sample if row in valid]
    checked = [row for row in people if row in valid]
    found = Panel(
        np.array(rows, np.int64),
        np.array([valid[row] for row in rows], np.bool_),
        np.array([valid[row] for row in checked], np.bool_),
        np.array([people[row] for row in checked], np.bool_),
        said_by,
        len(asked),
        sum(one.answer is None for one in said_by.values()),
        inside=np.isin(checked, rows),
    )
    random = query.sampled == "random" or (query.sampled == "auto" and _looks_random(found))
    if random and extra:  # both are random parts of the corpus, so together they are one
        more = [row for row in extra if row in valid]
        found = replace(
            found,
            rows=np.concatenate([found.rows, np.array(more, np.int64)]),
            flags=np.concatenate([found.flags, np.array([valid[row] for row in more], np.bool_)]),
        )
    return replace(found, random=random)


def sampled_rows(side: Side, records: int, context: Context) -> list[int]:
    """The first records by hash: `records` of them, or as many as the budget allows (0)."""
    order = np.argsort(side.keys, kind="stable")
    return [int(row) for row in order[: records or SAMPLES[context.budget]]]


def _given(side: Side, query: Query) -> Panel:
    """The answers that stand in a field already: all of them, and nobody to ask about the others."""
    rows = np.array([i for i, one in enumerate(side.given) if one in query.answers], np.int64)
    flags = np.array([side.given[i] in query.positive for i in rows], np.bool_)
    none = np.zeros(0, np.bool_)
    known = sum(one is not None for one in side.given)
    return Panel(rows, flags, none, none, {}, asked=known, invalid=known - len(rows), field=True)


def _looks_random(found: Panel) -> bool:
    inside = found.inside if found.inside is not None else np.zeros(len(found.truth), np.bool_)
    hits, n = int(found.labelled.sum()), len(found.labelled)
    others = int(found.flags.sum()) - int(found.labelled[inside].sum())
    return fisher_p((hits, n, others, len(found.flags) - int(inside.sum()))) >= 0.01


# --------------------------------------------------------------------------------------- estimates


@dataclass(frozen=True)
class Rate:
    """A rate as an estimate at any level, and how it was made: counted, powered or corrected."""

    at: Estimate
    how: str

    @property
    def value(self) -> float:
        return self.at(0.95)[0]

    @property
    def interval(self) -> Interval | None:
        return self.at(0.95)[1]


def rate(found: Panel, errors: Panel | None = None) -> Rate:
    """The rate of one side, corrected where people's answers allow it.

    errors: whose answers tell how often the judge errs; the side's own when not given
    """
    known = errors if errors is not None else found
    hits, n = int(found.flags.sum()), len(found.flags)

    def counted(level: float) -> tuple[float, Interval | None]:
        return (hits / n if n else float("nan")), stats.wilson(hits, n, level=level)

    def powered(level: float) -> tuple[float, Interval | None]:
        share = prevalence.prediction_powered(
            found.flags, found.labelled, found.truth, subset=True, level=level
        )
        return share.value, share.interval

    def corrected(level: float) -> tuple[float, Interval | None]:
        share = prevalence.rogan_gladen(
            hits, n, sensitivity=known.sensitivity, specificity=known.specificity, level=level
        )
        return share.value, share.interval

    if not n or not len(known.truth):
        return Rate(counted, "counted")
    if errors is None and found.random:
        return Rate(powered, "powered")
    if not np.isfinite(corrected(0.95)[0]):
        return Rate(counted, "counted")
    return Rate(corrected, "corrected")


# ------------------------------------------------------------------------------------- comparison


By = Mapping[str, tuple[float, Interval | None, int]]


def judged_rate(
    mine: Side,
    theirs: Side | None,
    query: Query,
    context: Context,
    *,
    best: float | None = 0.0,
    parts: Callable[[Panel], By] | None = None,
) -> Comparison:
    """The rate of a judge's positive answers on both sides, with its errors, intervals and warnings.

    p: Fisher's exact test of the answers as counted, valid where the judge errs alike on both sides; where
    people judged records of both sides it is that of the corrected difference.
    parts: makes the parts of the value by name from the candidate's answers
    """
    ours = panel(mine, query, context)
    taken = frozenset(mine.ids)
    human = None if theirs is None else panel(theirs, query, context, taken)
    own = rate(ours)
    other: Rate | None = None
    if human is not None and len(human.flags):
        borrowed = len(human.truth) < FEW and len(ours.truth) > len(human.truth)
        other = rate(human, ours if borrowed else None)
    extra: dict[str, Setting] = {"sample": len(ours.rows), "prompts": VERSION}
    extra["judge"] = "field" if ours.field or context.judge is None else context.judge.id
    found = Comparison(
        own.value,
        own.interval,
        best=best,
        n=len(ours.flags),
        note=_note(ours, own),
        details=_details(ours, human),
        extra=extra,
        by={} if parts is None else parts(ours),
        warnings=_warnings(query, ours, human),
        telling=_telling(mine, ours, query.tells),
    )
    if human is None or other is None:
        return found
    hits, n = int(ours.flags.sum()), len(ours.flags)
    others, m = int(human.flags.sum()), len(human.flags)
    both = own.how != "counted" and other.how != "counted" and min(len(ours.truth), len(human.truth)) >= FEW
    odds = None
    if 0 < own.value < 1 and 0 < other.value < 1:
        odds = own.value / (1 - own.value) / (other.value / (1 - other.value))
    return replace(
        found,
        reference=other.value,
        reference_interval=other.interval,
        difference=own.value - other.value,
        difference_interval=difference_interval(own.at, other.at),
        p=difference_p(own.at, other.at) if both else fisher_p((hits, n, others, m)) if n and m else None,
        chance=(n * own.value + m * other.value) / (n + m) if n + m else None,
        effect=odds,
        effect_name="odds_ratio" if odds is not None else "",
    )


def _details(ours: Panel, human: Panel | None) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, one in (("", ours), ("reference.", human)):
        if one is None:
            continue
        found[f"{name}asked"] = float(one.asked)
        found[f"{name}invalid_share"] = one.invalid / one.asked if one.asked else float("nan")
        found[f"{name}counted"] = float(one.flags.mean()) if len(one.flags) else float("nan")
        again = [o for o in one.opinions.values() if o.first is not None and o.answer is not None]
        if again:
            found[f"{name}changed_share"] = float(np.mean([o.first != o.answer for o in again]))
        if one.opinions:
            found[f"{name}parsers_differ"] = float(np.mean([o.parsers_differ for o in one.opinions.values()]))
        if not len(one.truth):
            continue
        found[f"{name}judged_by_people"] = float(len(one.truth))
        for fact, (hits, n) in (("sensitivity", one.sensitivity), ("specificity", one.specificity)):
            ends = prevalence.clopper_pearson(hits, n)
            if ends is not None:
                found |= {f"{name}{fact}": hits / n, f"{name}{fact}_low": ends[0]}
                found[f"{name}{fact}_high"] = ends[1]
        value, interval = prevalence.kappa_interval(one.table)
        if np.isfinite(value):
            found[f"{name}kappa"] = value
        if interval is not None:
            found |= {f"{name}kappa_low": interval[0], f"{name}kappa_high": interval[1]}
    return found


def _note(ours: Panel, own: Rate) -> str:
    parts = []
    if ours.field:
        parts.append(f"the answers of a field, {len(ours.flags):,} records")
    elif own.how == "counted":
        parts.append("uncorrected: nobody has said how often this judge errs (--judged FILE)")
    else:
        method = {
            "powered": "prediction-powered, people's records being a random part",
            "corrected": "Rogan and Gladen, people's records being chosen",
        }[own.how]
        (a, b), (c, d) = ours.sensitivity, ours.specificity
        parts.append(
            f"corrected ({method}): of {len(ours.truth)} records judged by people the judge found "
            f"{a} of {b} positive and {c} of {d} negative ones; as counted {ours.flags.mean():.3g}"
        )
    if ours.invalid:
        parts.append(f"{ours.invalid} of {ours.asked} answers were none of those allowed and are left out")
    if ours.rows.size < 2:
        parts.append("too few answers for an interval")
    return "; ".join(parts)


def _warnings(query: Query, ours: Panel, human: Panel | None) -> tuple[Found, ...]:
    """What to know before believing a judge; nothing where the answers are those of a field."""
    if ours.field:
        return ()
    found = []
    m = len(ours.truth)
    cure = f"let people answer {query.kind!r} for 50 to 100 records and give them with --judged FILE"
    if m < FEW:
        held = "no record" if m == 0 else f"only {m} records"
        found.append(Found("judge_unvalidated", f"{query.kind}: people judged {held} of the sample; {cure}"))
    else:
        value, interval = prevalence.kappa_interval(ours.table)
        if not np.isfinite(value) or interval is None or interval[0] <= 0:
            message = (
                f"{query.kind}: on {m} records judge and people agree no better than by chance "
                f"(kappa {value:.2f}); do not use its rate, change the judge"
            )
            found.append(Found("judge_unvalidated", message))
    panels = [ours] if human is None else [ours, human]
    opinions = [one for side in panels for one in side.opinions.values()]
    differ = float(np.mean([one.parsers_differ for one in opinions])) if opinions else 0.0
    if differ > _DISAGREEMENT:
        message = (
            f"{query.kind}: reading the first or the last allowed word of an answer gives different results "
            f"for {differ:.0%} of the answers; the judge does not keep to the form, change it or its prompt"
        )
        found.append(Found("extraction_disagreement", message))
    return tuple(found)


def _telling(side: Side, found: Panel, tells: bool) -> tuple[Telling, ...]:
    """The first records, by hash, with an answer worth a look."""
    rows = [int(row) for row, flag in zip(found.rows, found.flags) if flag == tells][:_TOLD]
    told = []
    for row in rows:
        opinion = found.opinions.get(row)
        reason = " ".join((opinion.reason if opinion else "").split())
        said = f"the judge says {opinion.answer}" if opinion else "so the field says"
        short = reason[:200] + ("…" if len(reason) > 200 else "")
        told.append(Telling(int(side.keys[row]), 1.0, f"{said}: {short}" if short else said))
    return tuple(told)
