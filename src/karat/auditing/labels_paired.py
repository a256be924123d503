"""Labels of two sides on the same items, and what any score of them is by chance, at best and for people.

Four things are done with a score of pairs of lists, whatever the score is:

interval  items are drawn with replacement (Poisson weights), so that all lists of an item stay together
chance    each list is given to another item of its annotator: what an annotator gets who never looked
best      two groups of the same people, as large as both sides are (labels_people); in paper mode as many
          labels as the list has, drawn from those that people gave the item
p         labels are swapped at random between both sides within each item: exact, at any number of labels
          an item, where the candidate's labels are as another person's would be. What is looked at is the
          score beside people's own agreement, since swaps with a bad source spoil the agreement of both
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Found, Summary, Telling
from karat.auditing.labels_people import People, multinomial
from karat.auditing.labels_sheet import SHEET, Book, Floats, Ints, Lists, Sheet, lists, read, repeats, summed

Part = tuple[float, tuple[float, float] | None, int]
_CELLS = 20_000_000  # weights held at a time
_NAMED = 60
_IDEAL = 20


@dataclass(frozen=True)
class Paired:
    """Lists of the candidate and of people on the items that both know, items numbered 0 .. items-1."""

    mine: Lists
    theirs: Lists
    items: int
    groups: Ints
    space: tuple[str, ...]
    points: Floats | None
    item: Ints
    """int64 [n]: the item of each label of either side that is in the label space, in order."""
    label: Ints
    place: Ints
    """int64 [n]: the list of each label; lists of people come after those of the candidate."""
    sheets: tuple[Sheet, Sheet]

    @cached_property
    def human(self) -> Ints:
        """int64 [items, K]: how many people gave each label."""
        return self.theirs.by_item(self.items)

    @cached_property
    def people(self) -> People:
        """What people say of each item, beyond the few who were asked."""
        return People.of(self.human)

    def swapped(self, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Labels dealt anew within each item: counts of the candidate's lists, and of the people's lists."""
        # items are in order, so that sorting by item plus a random fraction permutes within items
        order = np.argsort(self.item + rng.random(len(self.item)))
        kinds, n = len(self.space), len(self.mine) + len(self.theirs)
        counts = np.bincount(self.place * kinds + self.label[order], minlength=n * kinds)
        both = counts.reshape(n, kinds)
        return both[: len(self.mine)], both[len(self.mine) :]

    def shuffled(self, rng: np.random.Generator) -> Ints:
        """The lists of each annotator given to its items in random order, each list kept whole."""
        order = np.argsort(self.mine.owner + rng.random(len(self.mine)))
        found = np.empty_like(self.mine.counts)
        found[np.argsort(self.mine.owner, kind="stable")] = self.mine.counts[order]
        return found

    def ideal(self, rng: np.random.Generator) -> Ints:
        """As many labels as each list has, drawn from those that people gave its item."""
        total = self.human.sum(axis=1, keepdims=True)
        shares = self.human / np.maximum(total, 1)
        shares[total[:, 0] == 0] = 1 / max(len(self.space), 1)
        return multinomial(rng, self.mine.counts.sum(axis=1), shares[self.mine.item])

    def twice(self, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Two groups of the same people: lists as long as the candidate's, and people's labels by item."""
        shares = self.people.shares(rng)
        ours = multinomial(rng, self.mine.counts.sum(axis=1), shares[self.mine.item])
        return ours, multinomial(rng, self.human.sum(axis=1), shares)


def pair(book: Book, *, per: str = "auto") -> Paired:
    """Both sides on the items that both know.

    per: whose labels make one list of the candidate: "annotator", "crowd" (all of them), or "auto", which
    is the crowd where several annotators label each item once
    """
    assert book.theirs is not None
    known = np.intersect1d(book.mine.item, book.theirs.item)
    number = np.full(book.items, -1, np.int64)
    number[known] = np.arange(len(known))
    sheets = []
    for sheet in (book.mine, book.theirs):
        inside = sheet.take(number[sheet.item] >= 0)
        sheets.append(replace(inside, item=number[inside.item]))
    mine, theirs = sheets
    crowd = per == "crowd" or (per == "auto" and len(mine.annotators) > 1 and not repeats(mine))
    kinds = len(book.space)
    ours, people = lists(mine, kinds, crowd=crowd), lists(theirs, kinds)
    item = np.concatenate([mine.item, theirs.item])
    label = np.concatenate([mine.label, theirs.label])
    place = np.concatenate([ours.member, people.member + len(ours)])
    valid = label >= 0
    order = np.argsort(item[valid], kind="stable")
    return Paired(
        ours,
        people,
        len(known),
        book.groups[known],
        book.space,
        book.points,
        item[valid][order],
        label[valid][order],
        place[valid][order],
        (mine, theirs),
    )


@dataclass(frozen=True)
class Scored:
    """A score of lists: amount and weight of each, and the amount that people have; float64 [L]."""

    amount: Floats
    weight: Floats
    other: Floats | None = None


Score = Callable[[Ints, Ints], Scored]
"""Counts of the candidate's lists [L, K] and of the people on their items [L, K] -> the score of each."""
Finish = Callable[[Floats], Floats]


def share(values: Floats) -> Floats:
    """Values cut to 0 .. 1: the end of every score that is a share."""
    return np.clip(values, 0.0, 1.0)


@dataclass(frozen=True)
class Figures:
    """What a score is, and what it is beside: see the head of this module."""

    value: float
    interval: tuple[float, float] | None
    by: Mapping[str, Part]
    chance: float
    best: float | None
    reference: float | None
    difference: float | None
    difference_interval: tuple[float, float] | None
    p: float | None
    blind_p: float | None
    """The p-value of "the labels do not depend on the item"."""
    swapped: float
    """The mean over swaps: what the score is where both sides are one."""
    swapped_by: Mapping[str, float]
    chance_by: Mapping[str, float]
    n: int
    scored: Scored = field(repr=False)


def figures(
    paired: Paired,
    score: Score,
    context: Context,
    *,
    finish: Finish = lambda values: values,
    blind: bool = True,
    less: Floats | None = None,
    sign: int = 1,
) -> Figures:
    """A score with everything that stands beside it.

    finish: what makes the value of the weighted mean (a root, for instance)
    blind: whether an annotator who never looks is another than one who does
    less: float64 [L], what is taken off the amount of each list; swaps and shuffles stay as they are
    sign: 1 where the score grows with agreement, -1 where it falls
    """
    rng = np.random.default_rng(context.seed)
    human = paired.human
    at = paired.mine.item
    found = score(paired.mine.counts, human[at])
    value, other = _value(found, finish)
    gap = value - (other if other is not None else sign * agreement(human))
    null, null_by, gaps = np.full(context.trials, np.nan), [], np.full(context.trials, np.nan)
    for trial in range(context.trials):
        ours, people = paired.swapped(rng)
        counts = summed(paired.theirs.item, people, paired.items)
        again = score(ours, counts[at])
        null[trial], beside = _value(again, finish)
        gaps[trial] = null[trial] - (beside if beside is not None else sign * agreement(counts))
        null_by.append(_sums(again, paired))
    shuffled = [score(paired.shuffled(rng), human[at]) for _ in range(context.trials * blind)]
    blind_values = np.array([_value(one, finish)[0] for one in shuffled])
    ideal = None
    if other is None:
        ideal = _mean(
            np.array([_value(score(*_best(paired, context, rng)), finish)[0] for _ in range(_IDEAL)])
        )
    known = np.isfinite(value)
    p = stats.tail_p(gap, gaps) if known and np.isfinite(gaps).sum() > 1 else None
    blind_p = stats.tail_p(value, blind_values) if known and np.isfinite(blind_values).sum() > 1 else None
    if less is not None:
        found = replace(found, amount=found.amount - less)
        value, other = _value(found, finish)
    interval, gap_interval = _bootstrapped(paired, found, context, finish)
    best = other if other is not None else ideal
    return Figures(
        value=value,
        interval=interval,
        by=by_owner(paired.mine, found.amount, found.weight, finish),
        chance=_mean(blind_values) if blind else _mean(null),
        best=best,
        reference=best,
        difference=value - best if best is not None and known else None,
        difference_interval=gap_interval,
        p=p,
        blind_p=blind_p,
        swapped=_mean(null),
        swapped_by=_null_by(paired, null_by, finish),
        chance_by=_null_by(paired, [_sums(one, paired) for one in shuffled], finish),
        n=int((found.weight > 0).sum()),
        scored=found,
    )


def agreement(counts: Ints) -> float:
    """How often two people agree on an item, mean over items; 0 where no item has two."""
    n = counts.sum(axis=1)
    pairs = n * (n - 1)
    several = pairs > 0
    if not several.any():
        return 0.0
    return float(((counts * (counts - 1)).sum(axis=1)[several] / pairs[several]).mean())


def comparison(
    found: Figures,
    *,
    note: str = "",
    details: Mapping[str, float] | None = None,
    telling: tuple[Telling, ...] = (),
    warnings: tuple[Found, ...] = (),
) -> Comparison:
    """The figures as a metric gives them."""
    more = {"permutation_p": found.blind_p} if found.blind_p is not None else {}
    more |= {f"chance.{name}": found.chance_by[name] for name in found.by if name in found.chance_by}
    return Comparison(
        value=found.value,
        interval=found.interval,
        p=found.p,
        chance=_known(found.chance),
        best=found.best,
        reference=found.reference,
        difference=found.difference,
        difference_interval=found.difference_interval,
        n=found.n,
        note=note,
        details={**more, **(details or {})},
        by=found.by,
        telling=telling,
        warnings=warnings,
    )


def check_per(per: str) -> None:
    """Refuse a setting `per` that there is not."""
    if per not in ("auto", "annotator", "crowd"):
        raise ValueError(f"per is {per!r}; choose one of: auto, annotator, crowd")


def opened(
    candidate: Summary, reference: Summary, context: Context, *, labels: tuple[str, ...], per: str
) -> Paired | Comparison:
    """Both sides paired as the mode wants it; where that cannot be, the comparison that says why."""
    published = context.mode == "paper"
    book = read(candidate[SHEET], reference[SHEET], labels=labels, once=published)
    if book.lacks:
        return nothing(book.lacks)
    return pair(book, per="annotator" if published and per == "auto" else per)


def note(paired: Paired) -> str:
    """What the figures rest on, in a line for the reader."""
    people = paired.human.sum(axis=1)
    draws = paired.mine.counts.sum(axis=1)
    said = f"{paired.items:,} items, on each {people.mean():.3g} labels by people"
    said += f" and {draws.mean():.3g} by the candidate"
    if people.max(initial=0) < 2:
        said += "; one person an item: how far people agree with each other is not known"
    return said


def nothing(reason: str) -> Comparison:
    """No value, and why."""
    return Comparison(float("nan"), n=0, note=reason)


def telling(
    paired: Paired, score: Floats, reason: Callable[[int], str], limit: int = 8
) -> tuple[Telling, ...]:
    """The lists with the highest score above 0, the first by item where scores are equal."""
    order = np.argsort(-np.where(np.isfinite(score), score, -np.inf), kind="stable")[:limit]
    return tuple(
        Telling(int(paired.mine.key[i]), float(score[i]), reason(int(i))) for i in order if score[i] > 0
    )


def beside(paired: Paired) -> Callable[[int], str]:
    """Says of a list of the candidate what it holds and what people said of its item."""
    human = paired.human

    def reason(i: int) -> str:
        mine = paired.mine
        people, model = said(human[mine.item[i]], paired.space), said(mine.counts[i], paired.space)
        return f"people: {people}; {mine.owners[mine.owner[i]]}: {model}"

    return reason


def said(counts: Ints, space: tuple[str, ...]) -> str:
    """The labels of one list in words: "2 x hateful, 1 x neutral"."""
    order = np.argsort(-counts, kind="stable")
    parts = [f"{space[k]} x{counts[k]}" for k in order if counts[k] > 0]
    return ", ".join(parts[:4]) + (" ..." if len(parts) > 4 else "") if parts else "none"


def _best(paired: Paired, context: Context, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Counts of ideal lists and of the people on their items, as the mode wants them."""
    at = paired.mine.item
    if context.mode == "paper":
        return paired.ideal(rng), paired.human[at]
    ours, human = paired.twice(rng)
    return ours, human[at]


def _value(found: Scored, finish: Finish) -> tuple[float, float | None]:
    total = found.weight.sum()
    if not total > 0:
        return float("nan"), None if found.other is None else float("nan")
    sums = [(found.amount * found.weight).sum() / total]
    if found.other is not None:
        sums.append((found.other * found.weight).sum() / total)
    values = finish(np.array(sums))
    return float(values[0]), float(values[1]) if found.other is not None else None


def _sums(found: Scored, paired: Paired) -> Floats:
    """float64 [2, owners]: sums of amounts and of weights."""
    size = len(paired.mine.owners)
    return np.stack(
        [
            np.bincount(paired.mine.owner, found.amount * found.weight, size),
            np.bincount(paired.mine.owner, found.weight, size),
        ]
    )


def _null_by(paired: Paired, sums: list[Floats], finish: Finish) -> dict[str, float]:
    if not sums:
        return {}
    table = np.array(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = finish(table[:, 0] / table[:, 1])
    return {name: _mean(values[:, i]) for i, name in enumerate(paired.mine.owners)}


def _bootstrapped(
    paired: Paired, found: Scored, context: Context, finish: Finish
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Intervals of the value and of its distance to what people have; items are drawn."""
    columns = [found.amount * found.weight, found.weight]
    if found.other is not None:
        columns.append(found.other * found.weight)
    sums = np.stack(
        [np.bincount(paired.mine.item, column, paired.items).astype(np.float64) for column in columns], axis=1
    )
    drawn = weighted_sums(sums, context)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = finish(drawn[:, 0] / drawn[:, 1])
        gaps = values - finish(drawn[:, 2] / drawn[:, 1]) if found.other is not None else None
    total = found.weight.sum()
    mean = (found.amount * found.weight).sum() / total if total > 0 else float("nan")
    interval = stats.percentile_interval(values)
    if mean in (0.0, 1.0) and set(np.unique(found.amount[found.weight > 0])) <= {0.0, 1.0}:
        interval = stats.wilson(round(mean * total), int(total))
    return interval, None if gaps is None else stats.percentile_interval(gaps)


def weighted_sums(rows: Floats, context: Context) -> Floats:
    """float64 [trials, columns]: sums over items [N, columns], items drawn with Poisson weights."""
    trials = 200 if context.budget == "small" else 1000
    rng = np.random.default_rng(context.seed + 1)
    step = max(1, _CELLS // max(len(rows), 1))
    parts = [
        rng.poisson(1.0, (min(step, trials - start), len(rows))).astype(np.float32) @ rows
        for start in range(0, trials, step)
    ]
    return np.concatenate(parts).astype(np.float64)


def by_owner(mine: Lists, amount: Floats, weight: Floats, finish: Finish) -> dict[str, Part]:
    """Value, interval and number of items of each annotator (the 60 with most items)."""
    if mine.owners == ("all",):
        return {}
    sizes = np.bincount(mine.owner, weight > 0, len(mine.owners))
    parts: dict[str, Part] = {}
    for i in sorted(np.argsort(-sizes, kind="stable")[:_NAMED], key=lambda i: mine.owners[i]):
        chosen = (mine.owner == i) & (weight > 0)
        parts[mine.owners[i]] = ratio(amount[chosen], weight[chosen], finish)
    return parts


def ratio(amount: Floats, weight: Floats, finish: Finish = lambda values: values) -> Part:
    """A weighted mean with its interval (linearised, Cochran 1977, eq. 2.43) and the number of its parts."""
    n, total = len(amount), float(weight.sum())
    if not total > 0:
        return float("nan"), None, 0
    mean = float((amount * weight).sum() / total)
    if mean in (0.0, 1.0) and set(np.unique(amount)) <= {0.0, 1.0}:
        return mean, stats.wilson(round(mean * n), n), n
    if n < 2:
        return float(finish(np.array([mean]))[0]), None, n
    error = float(np.sqrt(n / (n - 1) * (((amount - mean) * weight) ** 2).sum()) / total)
    reach = stats.t_quantile(0.975, n - 1) * error
    low, value, high = finish(np.array([mean - reach, mean, mean + reach]))
    return float(value), (float(low), float(high)), n


def _mean(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None
