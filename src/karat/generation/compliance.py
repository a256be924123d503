"""Whether texts are as they were asked to be: attribute by attribute, beside what chance would give.

Knows no provider: a judge's questions are given out and its answers read back. Three ways, the cheapest that
can tell: by rule (length, style, language), by a judge, or by a classifier that is to find the planned value
again from the text alone. What a classifier finds the model has expressed; what it misses may still be there.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from karat.blocks import Column, Table
from karat.generation.attributes import STYLES, bounds, style_of, unit_of
from karat.generation.base import Message, Request, Response
from karat.generation.gates import words
from karat.generation.parsing import read_json
from karat.generation.tasks import Task
from karat.texts.languages import code_of, language_of

_FOLDS = 5
_LEAST = 2 * _FOLDS  # texts of a value that a classifier learns
_YES = {"yes", "true", "y", "1", "ja", "oui", "sí", "si", "да", "是", "はい", "예"}
_NO = {"no", "false", "n", "0", "nein", "non", "não", "nee", "нет", "否", "不是", "いいえ", "아니요"}
Holds = Callable[[str, str], bool | None]


@dataclass(frozen=True)
class Written:
    """A record as it was planned and as it came."""

    id: str
    text: str
    attributes: Mapping[str, str]
    label: str | None = None


@dataclass(frozen=True)
class Complied:
    """How often one attribute is as planned, `n` records looked at.

    low, high: Wilson's 95% interval of the share. chance: the share that texts planned with other values
    reach (rule, judge), or that saying the most frequent value reaches (classifier).
    """

    attribute: str
    method: str
    share: float
    low: float
    high: float
    chance: float | None
    n: int
    note: str = ""


@dataclass(frozen=True)
class Compliance:
    """One line an attribute, and which attributes each record misses (by rule or judge)."""

    lines: tuple[Complied, ...] = ()
    missed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def joined(self, other: Compliance) -> Compliance:
        """Both; what was looked at both ways stands twice."""
        ids = dict.fromkeys([*self.missed, *other.missed])
        return Compliance(
            self.lines + other.lines,
            {i: tuple(dict.fromkeys([*self.missed.get(i, ()), *other.missed.get(i, ())])) for i in ids},
        )

    def table(self) -> Table:
        """The lines as a block."""
        columns = (
            Column("attribute", "attribute"),
            Column("share", "as asked", "percent"),
            Column("interval", "95% interval", "interval"),
            Column("chance", "by chance", "percent", help="what texts planned otherwise reach"),
            Column("n", "records", "number"),
            Column("method", "by"),
            Column("note", "note"),
        )
        rows = tuple(
            {
                "attribute": one.attribute,
                "share": one.share,
                "interval": [one.low, one.high],
                "chance": one.chance,
                "n": one.n,
                "method": one.method,
                "note": one.note,
                "_flag": one.chance is not None and one.low <= one.chance,
            }
            for one in self.lines
        )
        return Table(columns, rows, title="Attributes as asked")


def _line(attribute: str, method: str, hits: int, n: int, chance: float | None, note: str = "") -> Complied:
    from scipy.stats import binomtest

    ends = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return Complied(attribute, method, hits / n, float(ends.low), float(ends.high), chance, n, note)


# ------------------------------------------------------------------------------------------ by rule


def rule_of(attribute: str, values: Iterable[str]) -> Holds | None:
    """The rule that tells whether a text has a value of an attribute; None where none can.

    A rule says None where it cannot tell (a language from three words).
    """
    values = list(values)
    if not values:
        return None
    if all(bounds(value) for value in values):
        return _as_long
    if all(value in STYLES for value in values):
        return lambda value, text: style_of(text) == value
    if "language" in attribute.casefold() and all(code_of(value) for value in values):
        return _in_language
    return None


def _as_long(value: str, text: str) -> bool | None:
    asked = bounds(value)
    return None if asked is None else asked.hold(text)


def _in_language(value: str, text: str) -> bool | None:
    found = language_of(text)
    return None if not found else found == code_of(value)


def by_rule(written: Sequence[Written]) -> Compliance:
    """What rules can tell. Chance: how often the planned values hold for the texts of all records."""
    lines, missed = [], defaultdict(list)
    for attribute, rows in _planned(written).items():
        holds = rule_of(attribute, {one.attributes[attribute] for one in rows})
        if holds is None:
            continue
        told = [(one, holds(one.attributes[attribute], one.text)) for one in rows]
        known = [(one, kept) for one, kept in told if kept is not None]
        if not known:
            continue
        for one, kept in known:
            if not kept:
                missed[one.id].append(attribute)
        wanted = Counter(one.attributes[attribute] for one, _ in known)
        chance = 0.0
        for value, count in sorted(wanted.items()):
            others = [held for one, _ in known if (held := holds(value, one.text)) is not None]
            chance += count / len(known) * sum(others) / len(others)
        hits = sum(kept for _, kept in known)
        note = "" if len(known) == len(rows) else f"{len(rows) - len(known)} too short to tell"
        lines.append(_line(attribute, "rule", hits, len(known), chance, note))
    return Compliance(tuple(lines), {i: tuple(names) for i, names in missed.items()})


def _planned(written: Sequence[Written]) -> dict[str, list[Written]]:
    """The records of each attribute, in the order in which attributes first occur."""
    found: dict[str, list[Written]] = {}
    for one in written:
        for name in one.attributes:
            found.setdefault(name, []).append(one)
    return found


# ------------------------------------------------------------------------------------ by classifier


def by_classifier(
    written: Sequence[Written], *, seed: int = 0, most: int = 3_000, rules: bool = False
) -> Compliance:
    """How often a text classifier that never saw a record finds its planned value again.

    TF-IDF and logistic regression, five folds; equal texts are in one fold. Values of fewer than 10 records
    are left out. Where each value belongs to one label alone, values are told apart within their label.
    After the attribute classifiers of AttrPrompt (Yu et al. 2023, appendix F). most: records looked at, drawn
    by the seed. rules: also of the attributes that rules can tell.
    """
    lines = []
    for attribute, rows in _planned(written).items():
        if not rules and rule_of(attribute, {one.attributes[attribute] for one in rows}):
            continue
        if len(rows) > most:
            rows = [rows[i] for i in sorted(random.Random(seed).sample(range(len(rows)), most))]
        hits = n = majority = 0
        for group in _groups(attribute, rows):
            found = _recovered(attribute, group, seed)
            hits, n, majority = hits + found[0], n + found[1], majority + found[2]
        if n:
            left = len(rows) - n
            note = f"{left} of values too rare to learn" if left else ""
            lines.append(_line(attribute, "classifier", hits, n, majority / n, note))
    return Compliance(tuple(lines))


def _groups(attribute: str, rows: Sequence[Written]) -> list[list[Written]]:
    """The records of each label where the values of an attribute belong to one label each, else all."""
    labels = defaultdict(set)
    for one in rows:
        labels[one.attributes[attribute]].add(one.label)
    nested = len({one.label for one in rows}) > 1 and all(len(held) == 1 for held in labels.values())
    if not nested:
        return [list(rows)]
    by_label: dict[str | None, list[Written]] = {}
    for one in rows:
        by_label.setdefault(one.label, []).append(one)
    return list(by_label.values())


def _recovered(attribute: str, rows: Sequence[Written], seed: int) -> tuple[int, int, int]:
    """Values found again out of fold, records, and records of the most frequent value."""
    counts = Counter(one.attributes[attribute] for one in rows)
    kept = [one for one in rows if counts[one.attributes[attribute]] >= _LEAST]
    values = [one.attributes[attribute] for one in kept]
    if len(set(values)) < 2:
        return 0, 0, 0
    folded = [" ".join(words(one.text)) for one in kept]
    place = {text: i for i, text in enumerate(dict.fromkeys(folded))}
    if len(place) < _LEAST:
        return 0, 0, 0
    found = _out_of_fold([one.text for one in kept], values, [place[text] for text in folded], seed)
    hits = sum(one == value for one, value in zip(found, values, strict=True))
    return hits, len(values), max(Counter(values).values())


def _out_of_fold(texts: Sequence[str], values: Sequence[str], groups: Sequence[int], seed: int) -> list[str]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    parted = unit_of(texts) == "words"
    terms: dict[str, Any] = (
        {"token_pattern": r"(?u)\b\w+\b", "ngram_range": (1, 2)}
        if parted
        else {"analyzer": "char", "ngram_range": (1, 3)}
    )
    model = make_pipeline(
        TfidfVectorizer(sublinear_tf=True, max_features=50_000, **terms),
        OneVsRestClassifier(LogisticRegression(C=3, solver="liblinear", random_state=seed)),
    )
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    with threadpool_limits(1):  # sums over threads would round differently from run to run
        found = cross_val_predict(model, list(texts), list(values), groups=list(groups), cv=folds)
    return [str(one) for one in found]


# ----------------------------------------------------------------------------------------- by judge

_SYSTEM = "You check whether texts are as they were asked to be. Judge only what is shown."


def judge_requests(
    written: Sequence[Written], task: Task, *, seed: int = 0, most: int = 200, rules: bool = False
) -> list[Request]:
    """Two questions on each of `most` records drawn by the seed: about its own values, and about a foil's.

    A foil has the values of another record (where there is one, of the same label) that are not the record's
    own; how often a judge says yes to those is what its yes is worth. Named ID/asked and ID/foil.
    """
    found: list[Request] = []
    ruled = _ruled(written, rules)
    for one, foil in _foils(written, seed, most, ruled):
        for name, values in (("asked", _judged(one, ruled)), ("foil", foil)):
            if values:
                found.append(
                    Request(
                        id=f"{one.id}/{name}",
                        messages=(
                            Message("system", _SYSTEM),
                            Message("user", _question(one, values, task)),
                        ),
                        temperature=0.0,
                        max_tokens=40 + 20 * len(values),
                        seed=seed,
                        index=len(found),
                    )
                )
    return found


def by_judge(
    written: Sequence[Written],
    responses: Mapping[str, Response],
    *,
    seed: int = 0,
    most: int = 200,
    rules: bool = False,
) -> Compliance:
    """What the answers come to; records and foils are those that were asked about with the same settings."""
    own: dict[str, list[bool]] = defaultdict(list)
    other: dict[str, list[bool]] = defaultdict(list)
    missed: dict[str, list[str]] = defaultdict(list)
    asked: Counter[str] = Counter()
    ruled = _ruled(written, rules)
    for one, foil in _foils(written, seed, most, ruled):
        values = _judged(one, ruled)
        said = read_judged(responses.get(f"{one.id}/asked"), values)
        asked.update(list(values))
        for name, kept in said.items():
            own[name].append(kept)
            if not kept:
                missed[one.id].append(name)
        for name, kept in read_judged(responses.get(f"{one.id}/foil"), foil).items():
            other[name].append(kept)
    lines = []
    for name in asked:
        if n := len(own[name]):
            chance = sum(other[name]) / len(other[name]) if other[name] else None
            note = f"{asked[name] - n} without an answer" if n < asked[name] else ""
            lines.append(_line(name, "judge", sum(own[name]), n, chance, note))
    return Compliance(tuple(lines), {i: tuple(names) for i, names in missed.items()})


def read_judged(response: Response | None, values: Mapping[str, str]) -> dict[str, bool]:
    """Attribute -> yes, from an object 1 -> yes or no; what is not answered is left out."""
    said = read_json(response.text, dict) if response is not None else None
    found: dict[str, bool] = {}
    for place, name in enumerate(values, 1):
        answer = (said or {}).get(str(place), (said or {}).get(name))
        folded = str(answer).strip(" .\"'").casefold()
        if folded in _YES or folded in _NO:
            found[name] = folded in _YES
    return found


def _judged(one: Written, ruled: Set[str]) -> dict[str, str]:
    return {name: value for name, value in one.attributes.items() if name not in ruled}


def _ruled(written: Sequence[Written], rules: bool) -> set[str]:
    """The attributes that need no judge."""
    planned = {} if rules else _planned(written)
    return {name for name, rows in planned.items() if rule_of(name, {one.attributes[name] for one in rows})}


def _foils(
    written: Sequence[Written], seed: int, most: int, ruled: Set[str]
) -> list[tuple[Written, dict[str, str]]]:
    """The records that are judged, each with values of other records that are not its own."""
    chance = random.Random(seed)
    rows = [one for one in written if _judged(one, ruled)]
    if len(rows) > most:
        rows = [rows[i] for i in sorted(chance.sample(range(len(rows)), most))]
    pools: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for one in written:
        for name, value in one.attributes.items():
            pools[name, one.label].append(value)
            pools[name, None].append(value)
    found = []
    for one in rows:
        foil = {}
        for name, value in _judged(one, ruled).items():
            near = sorted({v for v in pools[name, one.label] if v != value})
            far = near or sorted({v for v in pools[name, None] if v != value})
            if far:
                foil[name] = chance.choice(far)
        found.append((one, foil))
    return found


def _question(one: Written, values: Mapping[str, str], task: Task) -> str:
    lines = [f"{place}. {name}: {value}" for place, (name, value) in enumerate(values.items(), 1)]
    form = ", ".join(f'"{place}": "yes"' for place in range(1, len(lines) + 1))
    return (
        f'Text ({task.domain}):\n"""\n{one.text}\n"""\n\nIs the text as described in each of these lines?\n'
        + "\n".join(lines)
        + f"\n\nAnswer with one JSON object of this form and nothing else, with yes or no: {{{form}}}"
    )
