"""What the metrics of attributes share: records brought to a scorer, means of clusters, flips of pairs.

Knows scorers only as parts that are asked for scores, and no metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from karat.auditing.base import Context, Facts, Found, Need, Summary, need
from karat.auditing.columns import Columns
from karat.auditing.scorers.base import Given, Scorer, Scores, known_values, make
from karat.auditing.statistics import Difference, Estimate, against_zero, difference
from karat.auditing.summaries import Sample
from karat.errors import BadSetting, InputError, NotEnoughData

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BUDGETS = {"small": 1_000, "medium": 4_000, "large": 20_000}
"""Texts of each side that a scorer reads, where the metric's setting `records` does not say."""
_OWN = "lineage.parents label"


@dataclass(frozen=True)
class Material:
    """The records of one side that are scored, in the order of their hashes (of the file without texts)."""

    keys: NDArray[np.uint64]
    clusters: Ints
    """int64 [n]: rows of one number share a source; numbers mean the same on both sides of one call."""
    names: NDArray[Any]
    """object [n]: the cluster of each record by name: its first parent, or its own id."""
    texts: tuple[str, ...]
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.keys)

    def given(self, rows: Ints | None = None) -> Given:
        """What a scorer is told of these records, or of some rows of them."""
        if rows is None:
            return Given(self.texts, self.columns, self.names)
        texts = tuple(self.texts[i] for i in rows) if self.texts else ()
        return Given(texts, {k: v[rows] for k, v in self.columns.items()}, self.names[rows])

    @property
    def labels(self) -> NDArray[Any]:
        """object [n]: the label of each record, None where there is none."""
        return self.columns["label"]


def scorer_of(scorer: str, **settings: Any) -> Scorer:
    """The scorer that a metric's settings name. Raises UnknownPart or BadSetting."""
    return make(scorer, **settings)


def lacking(scorer: Scorer, candidate: Facts, reference: Facts | None) -> str:
    """Why a scorer cannot score these corpora; empty where it can."""
    sides = [candidate] if reference is None else [candidate, reference]
    return next((reason for side in sides if (reason := scorer.lacks(side))), "")


def needed(scorer: Scorer, records: int, *further: str) -> tuple[Need, ...]:
    """The summaries that `material` reads: fields, and texts where the scorer reads them.

    records: the most texts of each side; 0: by budget; -1: all of them
    """
    names = dict.fromkeys(["id", *_OWN.split(), *scorer.fields(), *filter(None, further)])
    wanted = [need("columns", fields=" ".join(names))]
    if scorer.reads_text:
        most = 0 if records < 0 else records or max(BUDGETS.values())
        wanted.append(need("sample", limit=most))
    return tuple(wanted)


def material(
    sides: Sequence[Summary], needs: Sequence[Need], *, records: int, budget: str
) -> tuple[Material, ...]:
    """The records of each side that a scorer is given."""
    found: list[tuple[Columns, Sample | None]] = []
    for side in sides:
        sample = None
        if len(needs) > 1:
            sample = side[needs[1]]
            if records >= 0 and len(sample) > (most := records or BUDGETS[budget]):
                sample = sample.take(np.argsort(sample.keys, kind="stable")[:most])
        found.append((side[needs[0]], sample))
    fields = str(needs[0].get("fields")).split()
    made = [_one(columns, sample, fields) for columns, sample in found]
    every = np.concatenate([names for _, names, _, _ in made]) if made else np.zeros(0, object)
    _, codes = np.unique(every.astype(str), return_inverse=True)
    cuts = np.cumsum([len(names) for _, names, _, _ in made])[:-1]
    return tuple(
        Material(keys, clusters.astype(np.int64), names, texts, columns)
        for (keys, names, texts, columns), clusters in zip(made, np.split(codes, cuts), strict=True)
    )


def _one(
    columns: Columns, sample: Sample | None, fields: Sequence[str]
) -> tuple[NDArray[np.uint64], NDArray[Any], tuple[str, ...], dict[str, NDArray[Any]]]:
    """Keys, names of clusters, texts and fields of one side; rows of a sample where there is one."""
    rows = np.arange(len(columns))
    texts: tuple[str, ...] = ()
    if sample is not None:
        order = np.argsort(columns.keys, kind="stable")
        rows = order[np.searchsorted(columns.keys[order], sample.keys)]
        texts = sample.texts
    read = {name: columns[name][rows] for name in fields}
    names = np.empty(len(rows), dtype=object)
    for i, (parents, own) in enumerate(zip(read["lineage.parents"], read["id"], strict=True)):
        names[i] = parents[0] if parents is not None and len(parents) else own
    return columns.keys[rows], names, texts, read


def scored(scorer: Scorer, sides: Sequence[Material | Given], context: Context) -> Scores:
    """The scores of all sides. Raises what the scorer raises."""
    given = [one.given() if isinstance(one, Material) else one for one in sides]
    return scorer.score(given, seed=context.seed, cache=context.cache)


def read_given(path: str, scorer: Scorer, attribute: str) -> Given:
    """The records of a file as a scorer is given them, with the fields that tell the attribute."""
    from karat import records

    read = records.read(path)
    columns = {"lineage.attributes": np.array(read.lineage("attributes"), dtype=object)}
    for name in (*scorer.fields(), attribute):
        if name and name not in columns:
            values = np.full(len(read), None, dtype=object)
            if read.has(name):
                values[:] = read.column(name)
            columns[name] = values
    texts = tuple(read.texts()) if scorer.reads_text else ()
    return Given(texts, columns, np.array(read.ids, dtype=object))


def confusion_of(given: Given, codes: Ints, names: Sequence[str], attribute: str, path: str) -> Ints:
    """int64 [K, K]: true class (row) by class found (column) of labelled records. Raises NotEnoughData."""
    truth = known_values(given.columns, attribute)
    place = {name: i for i, name in enumerate(names)}
    rows = [i for i, value in enumerate(truth) if value in place and codes[i] >= 0]
    if not rows:
        shown = ", ".join(names[:5])
        raise NotEnoughData(
            f"{path}: no record has a known {attribute!r} that is one of {shown}; name the field so"
        )
    table = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(table, (np.array([place[truth[i]] for i in rows]), codes[rows]), 1)
    return table


def one_class(scores: Scores, name: str) -> list[Ints]:
    """For each corpus int64 [n]: the class of each record, -1 where none is known. Raises InputError."""
    if not scores.exclusive:
        raise InputError(
            f"{name} counts one class a record, but {scores.id} scores each of {', '.join(scores.names[:5])} "
            "on its own; use attribute_difference, or one attribute with several values"
        )
    found = []
    for rows in scores.rows:
        known = np.isfinite(rows).all(axis=1) if rows.size else np.zeros(len(rows), np.bool_)
        classes = np.full(len(rows), -1, np.int64)
        if known.any():
            classes[known] = rows[known].argmax(axis=1)
        found.append(classes)
    return found


def nobody_knows(attribute: str, columns: Mapping[str, NDArray[Any]]) -> InputError:
    """The error about an attribute that no record of the candidate has, with those that there are."""
    import orjson

    asked = {text for text in columns.get("lineage.attributes", ()) if text}
    known = sorted({name for text in sorted(asked)[:200] for name in orjson.loads(text)})
    found = f" (its lineage knows: {', '.join(known)})" if known else ""
    return InputError(
        f"no record of the candidate has a value of {attribute!r}{found}; name one that it has, "
        "or let a classifier say it: scorer=trained,on=FILE"
    )


def numbered(clusters: Ints) -> Ints:
    """The same clusters, numbered from 0 without gaps."""
    return np.unique(clusters, return_inverse=True)[1].astype(np.int64)


def unvalidated(scores: Scores) -> tuple[Found, ...]:
    """A warning where a classifier counted and nothing says how often it errs."""
    if scores.exact or scores.confusion is not None:
        return ()
    message = (
        f"{scores.id} has counted, and no labelled sample says how often it errs: shares are as counted; "
        "give records whose class people know with on=FILE"
    )
    return (Found("judge_unvalidated", message),)


# ------------------------------------------------------------------------------------------ means


def clustered_mean(values: ArrayLike, clusters: Ints) -> Estimate:
    """The mean of values [n] with an error for clusters of rows [n] that are not independent.

    Var = G / (G - 1) * sum over clusters of (sum of residuals)^2 / n^2, with G - 1 degrees of freedom (Liang
    and Zeger 1986 for a mean; Cameron and Miller 2015, section 2). With clusters of one: the usual error.
    """
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    if n == 0:
        return Estimate(float("nan"), float("nan"), 0)
    mean = float(x.mean())
    member = numbered(clusters)
    groups = int(member.max()) + 1
    if groups < 2:
        return Estimate(mean, float("nan"), 0)
    sums = np.bincount(member, weights=x - mean, minlength=groups)
    error = float(np.sqrt(groups / (groups - 1) * (sums**2).sum()) / n)
    return Estimate(mean, error, groups - 1)


def clustered_gap(
    one: ArrayLike, other: ArrayLike, first: Ints, second: Ints, mean: Estimate, human: Estimate
) -> Difference:
    """The difference of two means whose rows may share clusters: machine texts and the human ones behind.

    Without a shared cluster it is Welch's; else the residuals of both sides are summed by cluster, so that
    what both sides of a cluster have in common is no error (Cameron and Miller 2015, section 2).
    """
    if not np.isin(first, second).any():
        return difference(mean, human)
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    member = numbered(np.concatenate([first, second]))
    parts = np.concatenate([(a - a.mean()) / len(a), -(b - b.mean()) / len(b)])
    groups = int(member.max()) + 1
    if groups < 2:
        return Difference(mean.value - human.value, float("nan"), 0, None, None)
    sums = np.bincount(member, weights=parts, minlength=groups)
    error = float(np.sqrt(groups / (groups - 1) * (sums**2).sum()))
    return against_zero(Estimate(mean.value - human.value, error, groups - 1))


def cliffs_delta(one: ArrayLike, other: ArrayLike) -> float:
    """P(one > other) - P(one < other) (Cliff 1993), in O(n log n)."""
    from karat.auditing.statistics import midranks

    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if not len(a) or not len(b):
        return float("nan")
    ranks = midranks(np.concatenate([a, b]))[: len(a)]
    below = ranks.sum() - len(a) * (len(a) + 1) / 2
    return float(2 * below / (len(a) * len(b)) - 1)


# ------------------------------------------------------------------------------------------ flips


def sign_p(sums: ArrayLike) -> float:
    """The exact two-sided p of "up and down are equally likely" from whole sums, one a cluster.

    Every cluster's sum has its sign flipped at random; with clusters of one pair this is the exact McNemar
    test (1947), with more its clustered form (Durkalski et al. 2003 give the large-sample one). Nothing that
    moved gives 1. The null distribution is a product of binomials, one for each size of sum.
    """
    from scipy.signal import fftconvolve
    from scipy.special import gammaln

    moved = np.asarray(sums, dtype=np.int64)
    moved = moved[moved != 0]
    if not len(moved):
        return 1.0
    null = np.ones(1)
    for size, m in zip(*np.unique(np.abs(moved), return_counts=True), strict=True):
        k = np.arange(m + 1)
        logs = gammaln(m + 1) - gammaln(k + 1) - gammaln(m - k + 1) - m * np.log(2)
        part = np.zeros(2 * size * m + 1)  # sums -m size .. m size, two sizes apart
        part[:: 2 * size] = np.exp(logs)
        null = fftconvolve(null, part) if len(null) * len(part) > 10**7 else np.convolve(null, part)
    centre = len(null) // 2
    reach = abs(int(moved.sum()))
    tail = float(np.maximum(null[centre + reach :], 0).sum())
    return min(1.0, 2 * tail if reach else 1.0)


@dataclass(frozen=True)
class Linked:
    """Pairs of a candidate record (row `ours`) and the reference record that it was made from (`theirs`)."""

    ours: Ints
    theirs: Ints
    how: str

    def __len__(self) -> int:
        return len(self.ours)


def linked(ours: Mapping[str, NDArray[Any]], theirs: Mapping[str, NDArray[Any]], link: str) -> Linked:
    """Which reference record each candidate record was made from.

    Without `link`, by the parents in the lineage, which are ids. With it, the field of that name is looked up
    among the same field of the reference, else among its ids, else among its texts.
    """
    if not link:
        names = [
            parents[0] if parents is not None and len(parents) else None
            for parents in ours["lineage.parents"]
        ]
        place = _places(theirs["id"])
        return _paired(names, place, "lineage.parents")
    names = [None if value is None or value == "" else str(value) for value in ours[link]]
    for field in (link, "id", "text"):
        if field in theirs:
            found = _paired(names, _places(theirs[field]), link if field == link else f"{link} = {field}")
            if len(found):
                return found
    return Linked(np.zeros(0, np.int64), np.zeros(0, np.int64), link)


def _places(values: NDArray[Any]) -> dict[str, int]:
    """Value -> its first row."""
    place: dict[str, int] = {}
    for i, value in enumerate(values):
        if value is not None and value != "":
            place.setdefault(str(value), i)
    return place


def _paired(names: Sequence[str | None], place: Mapping[str, int], how: str) -> Linked:
    rows = [(i, place[name]) for i, name in enumerate(names) if name is not None and name in place]
    pairs = np.array(rows, dtype=np.int64).reshape(-1, 2)
    return Linked(pairs[:, 0], pairs[:, 1], how)


def need_attribute(attribute: str, name: str) -> str:
    """What a metric says that was given no attribute."""
    return "" if attribute else f"needs the name of an attribute: {name}:attribute=NAME"


def checked(value: str, choices: Sequence[str], name: str) -> None:
    """Raise ValueError where a setting is none of its choices."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of: {', '.join(choices)}")


def read_shares(path: str) -> dict[str, float]:
    """Value -> share from a file: a JSON object, or rows with `value` and `share`; scaled to 1 in all.

    Raises BadSetting.
    """
    import json
    from pathlib import Path

    from karat.formats import read_rows

    if not Path(path).is_file():
        raise BadSetting(
            f"target {path!r} is no file of shares; choose uniform, reference, or a file there is"
        )
    try:
        if path.endswith(".json"):
            given = dict(json.loads(Path(path).read_text("utf-8")))
        else:
            given = {row["value"]: row["share"] for _, row in read_rows(path)}
        found = {str(name): float(share) for name, share in given.items()}
    except (KeyError, TypeError, ValueError):
        raise BadSetting(
            f"{path}: shares are a JSON object of value: share, or rows with the fields value and share"
        ) from None
    total = sum(found.values())
    if not found or min(found.values()) < 0 or total <= 0:
        raise BadSetting(f"{path}: shares must be 0 or more, and one of them above 0")
    return {name: share / total for name, share in found.items()}
