"""Whether a model makes an artifact of its training labels larger, beside a model trained on human labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from karat.auditing import attributes, shares
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Facts, Metric, Need, Summary, Telling, View, need
from karat.auditing.columns import Columns
from karat.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_ARTIFACTS = ("mode_share", "entropy", "tvd")
_FIELDS = "id item_id text label"
_DRAWS = 400
_SHOWN = 8


@dataclass(frozen=True)
class Amplification(Metric):
    """The artifact in predicted labels minus the artifact in the labels that the model was trained on.

    The candidate holds predictions as records with a label. The reference column is the same index for a
    model trained on human labels, the difference is what training on machine labels adds; 0 is no
    amplification. Intervals draw items with replacement, the same items for both models.
    training: the file of records that the candidate's model was trained on
    human_predictions: the predictions of a model trained on human labels, for the same items
    human_training: the records that this model was trained on
    artifact: mode_share (the share of the label most frequent in training), entropy (1 - H / log K) or tvd
    (the distance to the labels of the audit's reference, or without one to human_training)
    """

    training: str = ""
    human_predictions: str = ""
    human_training: str = ""
    artifact: str = "mode_share"

    family: ClassVar[str] = "label"
    misleads: ClassVar[str] = (
        "A model that always takes the likeliest label collapses to the mode on any hard task, whoever gave "
        "the labels: read the difference to the human side, never the value alone."
    )
    cost: ClassVar[str] = "O(records) and 400 draws; the models are trained elsewhere"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Mix in human labels, train on label distributions, or give rare labels more weight."
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (-1.0, 1.0)
    by_label: ClassVar[bool] = False
    datatypes: ClassVar[tuple[str, ...]] = ("text", "classification", "annotation")
    higher: ClassVar[str] = "the artifact grows in training"
    source: ClassVar[str] = (
        "Das et al. 2024, Under the Surface, figure 12 (curves only); as an index: Zhao et al. 2017, Men "
        "also like shopping, section 3 (bias amplification)"
    )

    def __post_init__(self) -> None:
        attributes.checked(self.artifact, _ARTIFACTS, "artifact")
        if bool(self.human_predictions) != bool(self.human_training):
            missing = "human_training" if self.human_predictions else "human_predictions"
            raise ValueError(f"the human side needs both files; {missing} is missing")

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        if not self.training:
            return "needs the records that the model was trained on: training=FILE"
        return "" if "label" in candidate.fields else "needs predicted labels in the field label"

    def needs(self) -> tuple[Need, ...]:
        return (need("columns", fields=_FIELDS),)

    def compare(self, candidate: Summary, reference: Summary | None, context: Context) -> Comparison:
        wanted = self.needs()[0]
        columns: Columns = candidate[wanted]
        read = [_of(columns), _read(self.training)]
        read += [_read(self.human_predictions), _read(self.human_training)] if self.human_training else []
        gold = _of(reference[wanted]) if reference is not None else None
        aim = gold or (read[3] if self.human_training else None)
        if self.artifact == "tvd" and aim is None:
            raise InputError(
                "amplification:artifact=tvd is the distance to human labels; give them with --reference "
                "or human_training=FILE"
            )
        every = [*read, *([gold] if gold is not None else [])]
        names = tuple(sorted({name for one in every for name in one.labels}))
        tables = [one.table(names) for one in read]
        target = None if aim is None else aim.table(names).sum(axis=0)
        ours = _Index.of(self.artifact, tables[0], tables[1], target)
        seed = context.seed
        shared = [read[0].units, read[2].units] if len(read) > 2 else [read[0].units]
        weights = _weights(shared, trials=_DRAWS, seed=seed)
        drawn = ours.drawn(weights[0], seed + 1)
        value, noise = ours.value, ours.chance(seed + 2)
        extra = {"labels": len(names), "trained_on": len(read[1].units), "human": len(read) > 2}
        details = {**_figures("", tables[0], tables[1], target), "noise": noise}
        main: dict[str, Any] = {"chance": noise, "best": 0.0}
        if len(read) > 2:
            human = _Index.of(self.artifact, tables[2], tables[3], target)
            beside = human.drawn(weights[1], seed + 3)
            gap = value - human.value
            error = float(np.std(drawn - beside, ddof=1))
            main |= {
                "reference": human.value,
                "reference_interval": _interval(human.value, beside),
                "difference": gap,
                "difference_interval": _interval(gap, drawn - beside),
                "p": stats.normal_p(gap / error) if error > 0 else None,
                "best": 0.0,
            }
            details |= _figures("human.", tables[2], tables[3], target)
        else:
            error = float(np.std(drawn, ddof=1))
            main["p"] = stats.normal_p((value - noise) / error) if error > 0 else None
        return Comparison(
            value=value,
            interval=_interval(value, drawn),
            n=len(read[0].units),
            note=_note(names, tables, len(read) > 2),
            details=details,
            by=_by_label(names, tables[0], tables[1]),
            extra=extra,
            telling=_telling(names, tables, columns),
            **main,
        )


@dataclass(frozen=True)
class _Labels:
    """Labels and the unit (item, or the text) of each record."""

    labels: tuple[str, ...]
    units: NDArray[Any]

    def table(self, names: Sequence[str]) -> Floats:
        """float64 [units, K]: how often each unit has each label."""
        place = {name: i for i, name in enumerate(names)}
        known, rows = np.unique(self.units.astype(str), return_inverse=True)
        table = np.zeros((len(known), len(names)))
        np.add.at(table, (rows, np.array([place[one] for one in self.labels], dtype=np.int64)), 1.0)
        return table


def _of(columns: Mapping[str, NDArray[Any]] | Columns) -> _Labels:
    labels = [None if v is None or v == "" else str(v) for v in columns["label"]]
    item = [str(a if a is not None else b if b is not None else c) for a, b, c in _identities(columns)]
    kept = [i for i, label in enumerate(labels) if label is not None]
    return _Labels(tuple(str(labels[i]) for i in kept), np.array([item[i] for i in kept], dtype=object))


def _identities(columns: Mapping[str, NDArray[Any]] | Columns) -> Any:
    """Item, text and id of each record: the first that it has says which records belong together."""
    return zip(columns["item_id"], columns["text"], columns["id"], strict=True)


def _read(path: str) -> _Labels:
    """The labels of a file. Raises InputError."""
    from karat import records

    read = records.read(path)
    if not read.has("label"):
        raise InputError(
            f"{path}: no field 'label'; amplification compares labels (name it label in the file)"
        )
    n = len(read)
    columns = {
        name: np.array(read.column(name) if read.has(name) else [None] * n, dtype=object)
        for name in _FIELDS.split()
    }
    return _of(columns)


@dataclass(frozen=True)
class _Index:
    """The artifact in predictions minus that in training labels, from counts [units, K]."""

    artifact: str
    predicted: Floats
    trained: Floats
    target: Floats | None
    mode: int

    @staticmethod
    def of(artifact: str, predicted: Floats, trained: Floats, target: Floats | None) -> _Index:
        return _Index(artifact, predicted, trained, target, int(trained.sum(axis=0).argmax()))

    def artifacts(self, counts: Floats) -> Floats:
        """float64 [...]: how large the artifact is in counts [..., K]."""
        part = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1e-12)
        if self.artifact == "mode_share":
            return np.asarray(part[..., self.mode])
        if self.artifact == "entropy":
            return 1 - shares.measure(part, part, "entropy")
        assert self.target is not None
        return shares.measure(part, self.target / self.target.sum(), "tvd")

    @property
    def value(self) -> float:
        """The index."""
        return float(self.artifacts(self.predicted.sum(axis=0)) - self.artifacts(self.trained.sum(axis=0)))

    def drawn(self, weights: Floats, seed: int) -> Floats:
        """float64 [trials]: the index for drawn items and drawn training units."""
        again = stats.poisson_weights(len(self.trained), trials=len(weights), seed=seed).astype(np.float64)
        return self.artifacts(weights @ self.predicted) - self.artifacts(again @ self.trained)

    def chance(self, seed: int) -> float:
        """The index of predictions that are drawn from the training labels: what size alone does."""
        if self.artifact == "mode_share":
            return 0.0
        rng = np.random.default_rng(seed)
        part = self.trained.sum(axis=0) / self.trained.sum()
        drawn = rng.multinomial(int(self.predicted.sum()), part, size=200).astype(np.float64)
        return float(self.artifacts(drawn).mean() - self.artifacts(self.trained.sum(axis=0)))


def _weights(units: Sequence[NDArray[Any]], *, trials: int, seed: int) -> list[Floats]:
    """Poisson weights [trials, units] of each side; a unit of both sides has one weight."""
    names = [np.unique(one.astype(str)) for one in units]
    every = np.unique(np.concatenate(names))
    weights = stats.poisson_weights(len(every), trials=trials, seed=seed).astype(np.float64)
    return [weights[:, np.searchsorted(every, one)] for one in names]


def _interval(value: float, draws: Floats) -> tuple[float, float] | None:
    return shares.basic_interval(value, draws, low=-2.0, high=2.0)


def _figures(prefix: str, predicted: Floats, trained: Floats, target: Floats | None) -> dict[str, float]:
    """Largest share, evenness and distance to human labels of predictions and of training labels."""
    found: dict[str, float] = {}
    for name, table in (("predicted", predicted), ("trained", trained)):
        part = table.sum(axis=0) / table.sum()
        found[f"{prefix}{name}.mode_share"] = float(part.max())
        found[f"{prefix}{name}.entropy"] = float(shares.measure(part, part, "entropy"))
        if target is not None:
            goal = target / target.sum()
            found[f"{prefix}{name}.tvd"] = float(shares.measure(part, goal, "tvd"))
            even = float(shares.measure(goal, goal, "entropy"))
            if even > 0:
                found[f"{prefix}{name}.entropy_ratio"] = found[f"{prefix}{name}.entropy"] / even
    return found


def _by_label(
    names: Sequence[str], predicted: Floats, trained: Floats
) -> dict[str, tuple[float, tuple[float, float] | None, int]]:
    """The share of each label in the predictions minus that in training, the most frequent labels first."""
    ours, theirs = predicted.sum(axis=0), trained.sum(axis=0)
    order = np.argsort(-theirs, kind="stable")[:60]
    n, m = max(ours.sum(), 1), max(theirs.sum(), 1)
    return {names[i]: (float(ours[i] / n - theirs[i] / m), None, int(ours[i])) for i in order}


def _telling(names: Sequence[str], tables: Sequence[Floats], columns: Columns) -> tuple[Telling, ...]:
    """Predictions of the label whose share grew most."""
    ours, theirs = tables[0].sum(axis=0), tables[1].sum(axis=0)
    grown = ours / max(ours.sum(), 1) - theirs / max(theirs.sum(), 1)
    top = int(grown.argmax())
    if grown[top] <= 0:
        return ()
    reason = f"predicted {names[top]!r}, whose share is {grown[top]:+.0%} against training"
    rows = [i for i, label in enumerate(columns["label"]) if str(label) == names[top]][:_SHOWN]
    return tuple(Telling(int(columns.keys[i]), float(grown[top]), reason) for i in rows)


def _note(names: Sequence[str], tables: Sequence[Floats], human: bool) -> str:
    said = []
    for who, at in (("", 0), (" (human)", 2)) if human else (("", 0),):
        ours, theirs = tables[at].sum(axis=0), tables[at + 1].sum(axis=0)
        top = int(theirs.argmax())
        said.append(
            f"{names[top]!r} goes from {theirs[top] / theirs.sum():.0%} in training to "
            f"{ours[top] / max(ours.sum(), 1):.0%} in predictions{who}"
        )
    if not human:
        said.append("without a model trained on human labels nobody knows what the task itself does")
    return "; ".join(said)
