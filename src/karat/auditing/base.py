"""What a metric is: what it needs of a corpus and how its value is asked for. Knows no metric, no statistics.

A corpus is cut into G replicate groups (simple random samples of equal size). A metric sees a
`Summary` and a table of masks: row k of `masks` says which groups are merged. The row of all True
is the point estimate, the rows that leave one group out give the interval, and random halves of
candidate and reference together give what would be seen by chance. So a metric is written once,
as arithmetic, and every number it prints gets its interval and its baseline for free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.bool_]
"""bool [K, G]: row k merges the groups that are True."""
Values = NDArray[np.float64]
Setting = str | int | float | bool
View = Literal["all", "records", "lengths", "tokens", "bytes"]
Progress = Callable[[str, int, int], None]

VIEWS: tuple[View, ...] = ("all", "records", "lengths", "tokens", "bytes")
PROSE = ("text", "classification", "preference", "instruction", "dialogue", "translation")
"""The data types whose records each hold a text of their own; an annotation repeats the text of its item."""


@dataclass(frozen=True)
class Need:
    """One summary of a corpus, named by its kind and settings, for example ngrams of two words."""

    kind: str
    settings: tuple[tuple[str, Setting], ...] = ()
    view: View = "all"

    def get(self, name: str, default: Any = None) -> Any:
        """The value of one setting of this need."""
        return dict(self.settings).get(name, default)

    def under(self, view: View) -> Need:
        """The same need, for the part of the corpus that `view` selects."""
        return replace(self, view=view)


def need(kind: str, **settings: Setting) -> Need:
    """Ask for a summary: need("ngrams", n=2, tokens="word").

    Kinds: lengths(tokens), ngrams(n, tokens), duplicates(normalise), postings(n, tokens, limit),
    sample(limit, bytes), labels(), embeddings(encoder), vectors(encoder, limit), moments(encoder),
    columns(fields), spectrum(n, tokens), sequences(tokens, limit, most), neighbours(n, tokens, threshold),
    words(tokens, limit); karat.auditing.summaries says what each gives.
    encoder="" stands for the encoder that the audit was called with.
    """
    return Need(kind, tuple(sorted(settings.items())))


class Summary(Protocol):
    """What is known of one corpus (or of two pooled): `summary[need]` gives what was collected."""

    @property
    def groups(self) -> int:
        """The number of replicate groups G (twice that where candidate and reference are pooled)."""
        ...

    @property
    def records(self) -> int:
        """The number of records seen in the metric's view."""
        ...

    def __getitem__(self, wanted: Need) -> Any: ...


class Fitted(Protocol):
    """An encoder that is ready: texts in, unit rows out. Must survive pickling."""

    @property
    def id(self) -> str:
        """The id of the model, which stands in the signature of every metric made with it."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [n, d], each row of length one (or all zeros where there is nothing to encode)."""
        ...


@dataclass(frozen=True)
class Telling:
    """One record that shows best what a metric sees: its key, how much, and why in a few words."""

    key: int
    score: float
    reason: str


@dataclass(frozen=True)
class Found:
    """A warning of a metric: a stable code, a sentence, and the keys or ids of the records it is about."""

    code: str
    message: str
    records: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """One thing that a judge is asked about one record: what it is told, and the answers there are."""

    record: str
    """the id of the record; the human-labelled sample that validates the judge names it by this id"""
    text: str
    answers: tuple[str, ...] = ("yes", "no")
    kind: str = ""
    """what is asked, in a word: a judge that is a person's file or a replay may go by it"""
    rationale: bool = False
    """whether reasons come before the answer, which is then the last word; else one word is wanted"""


@dataclass(frozen=True)
class Verdict:
    """What a judge answered, one of the question's answers; None where it gave none of them."""

    record: str
    answer: str | None
    text: str = ""


class Jury(Protocol):
    """Answers questions: a provider behind a journal, or a file of given answers."""

    @property
    def id(self) -> str:
        """The id of the judge, which stands in the signature."""
        ...

    @property
    def truth(self) -> Mapping[str, str]:
        """Record id -> the answer of a person, for the sample that validates the judge; may be empty."""
        ...

    def ask(self, questions: Sequence[Question]) -> list[Verdict]:
        """One verdict a question, in order."""
        ...


@dataclass(frozen=True)
class Context:
    """What a comparison may know besides the two summaries."""

    seed: int = 0
    budget: str = "medium"
    mode: str = "proper"
    groups: int = 20
    trials: int = 100
    """Permutations or bootstrap draws that the budget allows (at least 20)."""
    spare: Summary | None = None
    """Reference records not used in the comparison, as many again; None where too few are left."""
    judge: Jury | None = None
    """Who answers questions about records; None where the audit was given no judge."""
    cache: Path | None = None
    """Folder in which what costs much for each text (vectors, scores) is kept; None where nothing is."""


@dataclass(frozen=True)
class Comparison:
    """What a metric of two corpora says. `p` tests "both come from one source"; nan where undefined."""

    value: float
    interval: tuple[float, float] | None = None
    p: float | None = None
    chance: float | None = None
    best: float | None = None
    reference: float | None = None
    difference: float | None = None
    n: int | None = None
    note: str = ""
    details: Mapping[str, float] = field(default_factory=dict)
    """Further figures by name, for example the most telling features and their weights."""
    extra: Mapping[str, Setting] = field(default_factory=dict)
    """What else belongs into the signature, for example sample=2000."""
    reference_interval: tuple[float, float] | None = None
    difference_interval: tuple[float, float] | None = None
    effect: float | None = None
    """The effect without a scale; `effect_name` says which (odds_ratio, cliffs_delta)."""
    effect_name: str = ""
    warnings: tuple[Found, ...] = ()
    """What a reader must know before believing the value."""
    by: Mapping[str, tuple[float, tuple[float, float] | None, int]] = field(default_factory=dict)
    """Parts of the value by name (annotator, decile, class): value, interval and number of records."""
    telling: tuple[Telling, ...] = ()
    """Candidate records that show the difference best, the most telling first."""


@dataclass(frozen=True)
class Facts:
    """What is known of a corpus before it is read: its data type and the fields that hold anything."""

    datatype: str
    fields: frozenset[str]
    generators: bool = False
    """Whether the lineage of any record names its generator."""
    linked: bool = False
    """Whether the lineage of any record names parents."""


@dataclass(frozen=True)
class Metric:
    """The base of every metric: a frozen dataclass whose fields are its settings.

    Give `needs` and one of three forms of arithmetic; the rest has defaults.

    values    one corpus at a time: candidate and reference get a value each
    between   a distance of two corpora, asked of any two halves: interval and chance follow
    compare   everything by the metric's own hand: linked items, judges, files; `needs_reference=False`
              lets it be called with reference=None
    """

    family: ClassVar[str] = "lexical"
    """The table in which it stands: size, lexical, repetition, embedding, difference, contamination, label,
    annotation, preference, instruction, dialogue, attribute, discourse."""
    datatypes: ClassVar[tuple[str, ...]] = PROSE
    """The data types whose records it can read."""
    misleads: ClassVar[str] = ""
    """When its value misleads, for the page about it: one or two sentences."""
    cost: ClassVar[str] = ""
    """What it costs in time and memory: O(tokens), O(n d), a hash sample of 2,000 records."""
    cure: ClassVar[Mapping[str, str]] = {}
    """What to do where the candidate's value is "higher" or "lower" than human data's."""
    two_sided: ClassVar[bool] = False
    """Of a `between` metric: whether corpora can also be closer than two halves of one."""
    judged: ClassVar[bool] = False
    """Whether it asks a judge; without one it is left out."""
    judged_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that hold the answers already: where the candidate has one of them, no judge is needed."""

    size: ClassVar[View] = "records"
    """Which part of each corpus is compared: all of it, equal records, equal tokens or equal bytes."""
    bounds: ClassVar[tuple[float | None, float | None]] = (None, None)
    """The range of the value; intervals are cut to it."""
    share: ClassVar[bool] = False
    """Whether the value is a share of records: then none of n has an interval too (Wilson's)."""
    tested: ClassVar[bool] = True
    """False for plain counts, whose difference is a fact and not a finding."""
    needs_labels: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False
    by_label: ClassVar[bool] = True
    """Whether the value makes sense on the records of one label alone."""
    default: ClassVar[bool] = True
    """Whether `karat audit` runs it when no metrics are named."""
    permutations: ClassVar[int] = 100
    """The most random halves drawn for `chance`; fewer where a value is dear."""
    paper: ClassVar[Mapping[str, Setting]] = {}
    """The settings of the published definition, used by mode="paper"."""
    higher: ClassVar[str] = ""
    """What a higher value means, in a few words for the reader: "more varied", "more repeated"."""
    source: ClassVar[str] = ""
    """Paper and equation."""

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        """Why it cannot be asked of these corpora ("needs a field gold"); empty where it can."""
        return ""

    def needs(self) -> tuple[Need, ...]:
        """The summaries this metric is computed from; at least one, which says what view it looks at."""
        return ()

    def values(self, summary: Summary, masks: Masks) -> Values:
        """float64 [K]: the value on the groups that each row of masks [K, G] merges; nan if undefined."""
        raise NotImplementedError

    def between(self, pool: Summary, ours: Masks, theirs: Masks) -> Values:
        """float64 [K]: the distance of the groups that row k of `ours` [K, G] merges to those of `theirs`."""
        raise NotImplementedError

    def compare(self, candidate: Summary, reference: Any, context: Context) -> Comparison:
        """Value, interval, p and baselines by the metric's own hand; reference may be None where allowed."""
        raise NotImplementedError

    def warnings(self, candidate: Summary, reference: Summary | None) -> tuple[Found, ...]:
        """What a reader must know before believing the value of a `values` or `between` metric."""
        return ()

    def note(self, summary: Summary) -> str:
        """One line for the reader about the point estimate; may be empty."""
        return ""

    def details(self, summary: Summary) -> dict[str, float]:
        """Further figures about the point estimate, by name (quantiles, parts of the value)."""
        return {}

    def extra(self, summary: Summary) -> dict[str, Setting]:
        """What else belongs into the signature: the sample size, the id of the encoder."""
        return {}

    def used(self, summary: Summary) -> int:
        """The number of records behind the value: all of the view, unless the metric takes a sample."""
        return summary.records

    def telling(self, summary: Summary, limit: int) -> tuple[Telling, ...]:
        """At most `limit` records that show best what the metric sees, the most telling first."""
        return ()

    def best(self, summary: Summary) -> float | None:
        """What an ideal corpus gets, where that is known without data; None asks the human data."""
        return None

    def chance(self, summary: Summary) -> float | None:
        """What no difference looks like, where known without data; None asks a permutation."""
        return None


def form_of(metric: type[Metric]) -> Literal["values", "between", "compare"]:
    """Which of the three forms of arithmetic a class of metrics gives."""
    if metric.compare is not Metric.compare:
        return "compare"
    return "between" if metric.between is not Metric.between else "values"


def form(metric: Metric) -> Literal["values", "between", "compare"]:
    """Which of the three forms of arithmetic a metric gives."""
    return form_of(type(metric))


def everything(groups: int) -> Masks:
    """bool [1, G], all True: the mask of the point estimate."""
    return np.ones((1, groups), dtype=np.bool_)


def point(metric: Metric, summary: Summary) -> float:
    """The value of a metric on all groups of a summary."""
    return float(metric.values(summary, everything(summary.groups))[0])
