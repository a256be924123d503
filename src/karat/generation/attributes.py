"""Attributes found in human texts: length, style, topic. Knows no language and no provider.

Length and style are read off the text by rule, so that what a generator was asked for can be measured. Topics
are clusters within each class, named by their most telling terms.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np

from karat.errors import InputError
from karat.generation.constraints import Joint
from karat.generation.tasks import Attribute, Task
from karat.records import Records

_Name = TypeVar("_Name")

LENGTH, STYLE, TOPIC = "length", "style", "topic"

_BOUNDS = re.compile(r"(?i)(\d+)\s*(?:to|-|–|and)\s*(\d+)\s*(words|characters)")
_MOST = re.compile(r"(?i)(?:at most|under|up to)\s*(\d+)\s*(words|characters)")
_LEAST = re.compile(r"(?i)(?:at least\s*)?(\d+)\s*(words|characters)(?:\s*or more)?")
_NAMES = re.compile(r"\d|\w_\w|\w\.\w|\w\(\)|[a-z][A-Z]")
_BRACKETS = re.compile(r"\([^()]{3,}\)|\[[^\[\]]{3,}\]|（[^（）]{2,}）")
_QUESTIONS = re.compile(r"[?？؟;]\s*$|[?？؟]")

# In the order in which they are tried: the first that fits is a text's style.
STYLES = (
    "a question",
    "with a remark in brackets",
    "with numbers or technical names",
    "in plain words",
)


@dataclass(frozen=True)
class Bounds:
    """How long a text is to be; `high` None: no upper end."""

    low: int
    high: int | None
    unit: str

    def hold(self, text: str) -> bool:
        """True when a text is as long as asked."""
        size = size_of(text, self.unit)
        return self.low <= size and (self.high is None or size <= self.high)


def bounds(value: str) -> Bounds | None:
    """Read a length value such as `10 to 15 words`; None when it is not one."""
    if found := _BOUNDS.search(value):
        return Bounds(int(found[1]), int(found[2]), found[3].lower())
    if found := _MOST.search(value):
        return Bounds(0, int(found[1]), found[2].lower())
    if found := _LEAST.search(value):
        return Bounds(int(found[1]), None, found[2].lower())
    return None


def size_of(text: str, unit: str) -> int:
    """Words (between blanks) or characters of a text."""
    return len(text.split()) if unit == "words" else len(text)


def unit_of(texts: Sequence[str]) -> str:
    """Words, or characters for a script that puts no blanks between words."""
    words = sum(len(text.split()) for text in texts)
    return "words" if sum(map(len, texts)) < 14 * max(words, 1) else "characters"


def style_of(text: str) -> str:
    """The style of a text, one of STYLES; marks only, so it works for any language."""
    if _QUESTIONS.search(text[-40:]):
        return STYLES[0]
    if _BRACKETS.search(text):
        return STYLES[1]
    return STYLES[2] if _NAMES.search(text) else STYLES[3]


def enrich(
    task: Task, human: Records, *, seed: int, buckets: int, topics: int, even: bool
) -> tuple[Task, Records]:
    """Add length, style and topic to a task, and to each human record its own values.

    An attribute that the task has under one of these names is kept as it is. even: sweep all values alike;
    otherwise their human shares are the target.
    """
    texts = human.texts()
    labels = [str(label) for label in human.labels() or []] or [""] * len(texts)
    given = {attribute.name for attribute in task.attributes}
    found: dict[str, list[str | None]] = {}
    added: list[Attribute] = []
    for name, values in ((LENGTH, length_values(texts, buckets)), (STYLE, style_values(texts))):
        if name not in given and len({v for v in values if v is not None}) > 1:
            found[name] = list(values)
            added.append(_plain(name, values, even))
    if TOPIC not in given and topics > 0:
        of_rows = topic_values(texts, labels, most=topics, seed=seed)
        if any(v is not None for v in of_rows):
            found[TOPIC] = of_rows
            added.append(_by_label(of_rows, labels, even))
    own = [
        {name: v for name, values in found.items() if (v := values[i]) is not None} for i in range(len(texts))
    ]
    kept = [json.dumps(values, ensure_ascii=False, sort_keys=True) if values else None for values in own]
    return replace(task, attributes=(*task.attributes, *added)), human.with_lineage(attributes=kept)


def _plain(name: str, values: Sequence[str | None], even: bool) -> Attribute:
    counts = Counter(v for v in values if v is not None)
    order = sorted(
        counts, key=lambda v: (bounds(v) or Bounds(0, 0, "")).low if name == LENGTH else STYLES.index(v)
    )
    return Attribute(name, tuple(order), weights={} if even else _shares(counts))


def _by_label(values: Sequence[str | None], labels: Sequence[str], even: bool) -> Attribute:
    counts = {
        label: Counter(v for v, own in zip(values, labels) if own == label and v is not None)
        for label in sorted(set(labels))
    }
    if set(counts) == {""}:
        return Attribute(TOPIC, tuple(sorted(counts[""])), weights={} if even else _shares(counts[""]))
    return Attribute(
        TOPIC,
        by_label={label: tuple(sorted(found)) for label, found in counts.items() if found},
        weights_by_label={} if even else {label: _shares(found) for label, found in counts.items() if found},
    )


def _shares(counts: Mapping[_Name, float]) -> dict[_Name, float]:
    total = sum(counts.values())
    return {value: count / total for value, count in counts.items()}


def targets(
    task: Task,
    human: Records,
    *,
    by_label: bool = False,
    joint: tuple[str, str] | None = None,
    smoothing: float = 0.0,
) -> Task:
    """The task with the shares of human records as its targets: of labels and of attribute values.

    The values are those in the records' lineage; one that humans never have is then never drawn, unless
    `smoothing` counts each value so many times more. by_label: shares within each class (few records make
    them coarse). joint: two attributes whose pairs of values are to come as often as in the human records.
    Raises InputError where the records carry none of the attribute's values.
    """
    rows = [json.loads(text) if text else {} for text in human.lineage("attributes")]
    labels = [str(label) for label in human.labels() or []] or [""] * len(rows)
    found = []
    for attribute in task.attributes:
        own = Counter(
            (label, row[attribute.name]) for label, row in zip(labels, rows) if attribute.name in row
        )
        every = {label: attribute.of(label) for label in task.label_names or ("",)}
        counts = {
            label: {v: own[label, v] + smoothing for v in values if own[label, v] + smoothing > 0}
            for label, values in every.items()
        }
        total: Counter[str] = Counter()
        for of_label in counts.values():
            total.update(of_label)
        if not total or not any(own[key] for key in own if key[1] in total):
            raise InputError(
                f"{human.path}: no record has a value of attribute {attribute.name!r} in its lineage; find "
                "the attributes of the records first"
            )
        if by_label or attribute.by_label:
            shares = {label: _shares(of_label) for label, of_label in counts.items() if of_label}
            found.append(replace(attribute, weights={}, weights_by_label=shares))
        else:
            weights = _shares({v: total[v] for v in attribute.values if total[v]})
            found.append(replace(attribute, weights=weights, weights_by_label={}))
    seen = Counter(label for label in labels if label in task.label_names)
    pairs: tuple[Joint, ...] = task.joint
    if joint is not None:
        both = Counter((row[joint[0]], row[joint[1]]) for row in rows if joint[0] in row and joint[1] in row)
        listed = tuple((a, b, share) for (a, b), share in sorted(_shares(both).items()))
        pairs = (*(one for one in pairs if one.attributes != joint), Joint(joint, listed))
    order = {name: seen[name] for name in task.label_names if seen[name]}
    return replace(
        task, attributes=tuple(found), shares=_shares(order) if order else task.shares, joint=pairs
    )


def length_values(texts: Sequence[str], buckets: int) -> list[str]:
    """A length value for each text; the buckets hold about equally many."""
    unit = unit_of(texts)
    sizes = np.array([size_of(text, unit) for text in texts])
    edges = np.unique(np.quantile(sizes, np.linspace(0, 1, buckets + 1)[1:-1], method="higher").astype(int))
    names = [f"at most {edges[0]} {unit}"]
    names += [f"{low + 1} to {high} {unit}" for low, high in pairwise(edges)]
    names.append(f"{edges[-1] + 1} {unit} or more")
    return [names[i] for i in np.searchsorted(edges, sizes, side="left")]


def style_values(texts: Sequence[str], *, least: float = 0.04) -> list[str]:
    """A style for each text; rare styles count as plain."""
    found = [style_of(text) for text in texts]
    counts = Counter(found)
    return [style if counts[style] >= least * len(texts) else STYLES[-1] for style in found]


def topic_values(texts: Sequence[str], labels: Sequence[str], *, most: int, seed: int) -> list[str | None]:
    """A topic for each text: the cluster within its class, named by three terms; None in small classes."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    result: list[str | None] = [None] * len(texts)
    with threadpool_limits(1):  # sums over threads would round differently from run to run
        for label in sorted(set(labels)):
            rows = [i for i, own in enumerate(labels) if own == label]
            count = min(most, len(rows) // 30)
            if count >= 2:
                for i, name in zip(rows, _clusters([texts[i] for i in rows], count, seed)):
                    result[i] = name
    return result


def _clusters(texts: list[str], count: int, seed: int) -> list[str]:
    """The name of the cluster of each text: TF-IDF, latent semantic analysis, k-means."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
    from sklearn.preprocessing import normalize

    words = unit_of(texts) == "words"
    vectorizer = TfidfVectorizer(
        sublinear_tf=True,
        stop_words=sorted(ENGLISH_STOP_WORDS) if words else None,
        token_pattern=r"(?u)\b[^\W\d_]{3,}\b",
        min_df=2,
        max_df=0.5,
        max_features=4000,
        **({} if words else {"analyzer": "char", "ngram_range": (2, 2)}),
    )
    try:
        weights = vectorizer.fit_transform(texts)
    except ValueError:  # no term stands in two texts
        return ["" for _ in texts]
    rank = min(24, weights.shape[0] - 1, weights.shape[1] - 1)
    if rank < 2:
        return ["" for _ in texts]
    space = normalize(TruncatedSVD(rank, random_state=seed).fit_transform(weights))
    count = min(count, len(np.unique(space.round(6), axis=0)))
    groups = KMeans(count, n_init=3, random_state=seed).fit_predict(space)
    terms = vectorizer.get_feature_names_out()
    overall = np.asarray(weights.mean(axis=0))[0]
    names: dict[int, str] = {}
    for group in range(count):
        inside = np.asarray(weights[groups == group].mean(axis=0))[0] if (groups == group).any() else overall
        telling = np.lexsort((np.arange(len(terms)), overall - inside))
        name = ", ".join(terms[i] for i in telling[:3])
        names[group] = name if name not in names.values() else ", ".join(terms[i] for i in telling[:5])
    return [names[int(group)] for group in groups]
