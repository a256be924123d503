"""What a second-order test found, and how it is shown. Knows no trainer and no record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from karat.blocks import Block, Chart, Column, Headline, Level, Note, Section, Table
from karat.errors import BadSetting, did_you_mean
from karat.valuation.artifacts import MEANING

Interval = tuple[float, float]


@dataclass(frozen=True)
class CrossCell:
    """The score of models trained on one side, on the test of another; mean over seeds."""

    trained_on: str
    tested_on: str
    value: float
    interval: Interval
    spread: float
    """standard deviation over seeds"""
    chance: float | None
    lookup: float | None
    n: int


@dataclass(frozen=True)
class Gap:
    """What training on a kind of synthetic records costs on the human test."""

    kind: str
    value: float
    """the score of human-trained models minus that of synthetic-trained ones"""
    interval: Interval
    p: float
    optimism: float
    """the score on synthetic tests minus that on the human test, of the synthetic-trained models"""
    optimism_interval: Interval
    p_holm: float | None = None


@dataclass(frozen=True)
class Deficit:
    """What one label loses: F1 of human-trained minus F1 of synthetic-trained models, on human tests."""

    kind: str
    label: str
    human: float
    synthetic: float
    value: float
    interval: Interval
    p: float
    n: int
    p_holm: float | None = None


@dataclass(frozen=True)
class Slope:
    """The regression of deficits over labels on how far an attribute lies from human records."""

    kind: str
    attribute: str
    slope: float
    """F1 lost for each unit of the attribute"""
    interval: Interval
    correlation: float
    p: float
    labels: int
    p_holm: float | None = None


@dataclass(frozen=True)
class Distribution:
    """How often each label is gold, stands in training, is predicted, and is expected by probabilities."""

    side: str
    labels: tuple[str, ...]
    gold: tuple[float, ...]
    trained: tuple[float, ...]
    predicted: tuple[float, ...]
    expected: tuple[float, ...]
    tvd: float
    """total variation distance of predicted and gold labels"""
    tvd_interval: Interval
    tvd_chance: float
    """of as many labels drawn from the gold shares"""
    tvd_expected: float
    """of the mean probabilities: what is left where no label is chosen"""
    entropy_ratio: float | None
    """evenness of predicted over that of gold labels; below 1 the answers are less diverse"""


@dataclass(frozen=True)
class Calibration:
    """How well models know how right they are."""

    trained_on: str
    tested_on: str
    error: float
    """expected calibration error, 15 bins"""
    interval: Interval
    chance: float
    """the error that perfectly calibrated models show from so few records"""
    brier: float
    confidence: float
    accuracy: float
    bins: tuple[tuple[float, float, int], ...]
    """(mean confidence, share right, records) of each bin that has any"""


@dataclass(frozen=True)
class Ends:
    """An artifact in training data, in answers to the human test, in its gold; index = answers - training."""

    trained: float
    answered: float
    gold: float
    index: float


@dataclass(frozen=True)
class Amplified:
    """The amplification index of one artifact and side."""

    artifact: str
    answers: str
    """hard (labels), soft (probabilities) or written (texts)"""
    side: str
    ends: Ends
    interval: Interval
    excess: float | None
    """the index minus that of the human side; None on the human side"""
    excess_interval: Interval | None
    p: float | None
    p_holm: float | None = None


@dataclass(frozen=True)
class Labels:
    """The figures that only labels have."""

    deficits: tuple[Deficit, ...]
    slopes: tuple[Slope, ...]
    distributions: tuple[Distribution, ...]
    calibration: tuple[Calibration, ...]


@dataclass(frozen=True)
class CrossTrained:
    """What models make of human and of synthetic data."""

    trainer: str
    signature: str
    metric: str
    higher: bool
    """whether more of the metric is better"""
    kinds: tuple[str, ...]
    size: int
    seeds: int
    cells: tuple[CrossCell, ...]
    gaps: tuple[Gap, ...]
    labels: Labels | None
    amplified: tuple[Amplified, ...]
    warnings: tuple[tuple[str, str], ...] = ()
    """(code, message)"""

    def at(self, trained_on: str, tested_on: str) -> CrossCell:
        """Return one cell of the table."""
        for cell in self.cells:
            if (cell.trained_on, cell.tested_on) == (trained_on, tested_on):
                return cell
        known = ("human", *self.kinds)
        wrong = trained_on if trained_on not in known else tested_on
        raise BadSetting(f"no side {wrong!r}{did_you_mean(wrong, known)} (there are: {', '.join(known)})")

    def worst(self, n: int = 5) -> tuple[Deficit, ...]:
        """Return the labels that lose most."""
        found = self.labels.deficits if self.labels else ()
        return tuple(sorted(found, key=lambda row: -row.value)[:n])

    def why(self, kind: str = "") -> str:
        """Say in a few sentences what training on a kind of synthetic records does."""
        names = {gap.kind for gap in self.gaps}
        for gap in self.gaps:
            if kind in ("", gap.kind):
                return _sentence(self, gap)
        raise BadSetting(
            f"no kind {kind!r}{did_you_mean(kind, names)} (there are: {', '.join(sorted(names))})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `karat cross-train --json` prints."""
        return {
            "trainer": self.trainer,
            "signature": self.signature,
            "metric": self.metric,
            "size": self.size,
            "seeds": self.seeds,
            "sides": ["human", *self.kinds],
            "table": [asdict(cell) for cell in self.cells],
            "gaps": [asdict(gap) for gap in self.gaps],
            "labels": None if self.labels is None else asdict(self.labels),
            "amplification": [asdict(row) for row in self.amplified],
            "warnings": [
                {"code": code, "message": message, "records": []} for code, message in self.warnings
            ],
        }

    def __str__(self) -> str:
        lines = [self.why(gap.kind) for gap in self.gaps]
        lines += ["", f"{self.metric} by {self.trainer}, {self.size:,} records each, {self.seeds} seeds"]
        for cell in self.cells:
            low, high = cell.interval
            where = f"{cell.trained_on:>14} -> {cell.tested_on:<14}"
            beside = "" if cell.chance is None else f"  chance {cell.chance:.3f}"
            beside += "" if cell.lookup is None else f"  look-up {cell.lookup:.3f}"
            lines.append(f"  {where} {cell.value:.3f} [{low:.3f}, {high:.3f}]{beside}")
        shown = [row for row in self.amplified if row.excess is not None]
        if shown:
            lines.append("amplification, beside that of human data:")
        for row in shown:
            assert row.excess is not None and row.excess_interval is not None
            low, high = row.excess_interval
            lines.append(
                f"  {row.side:>14} {row.artifact} ({row.answers}): {row.ends.index:+.3f}, "
                f"excess {row.excess:+.3f} [{low:+.3f}, {high:+.3f}]"
            )
        return "\n".join([*lines, *(f"warning {code}: {message}" for code, message in self.warnings)])

    def __report__(self) -> tuple[Section, ...]:
        """Return the table, the gaps, labels, calibration and amplification as blocks."""
        blocks: list[Block] = []
        for gap in self.gaps:
            low, high = gap.interval
            level: Level = (
                "info" if low <= 0 <= high else "warning" if (gap.value > 0) is self.higher else "good"
            )
            detail = (
                f"{self.metric} of human-trained minus {gap.kind}-trained models, {low:+.3f} to {high:+.3f}"
            )
            blocks.append(
                Headline(f"{gap.value:+.3f}", f"gap of {gap.kind} data on human tests", detail, level)
            )
        blocks.append(_table(self))
        blocks += [Note(self.why(gap.kind)) for gap in self.gaps]
        if self.labels is not None:
            blocks += _label_blocks(self.labels)
        if self.amplified:
            blocks.append(_amplification(self.amplified))
        blocks += [Note(message, "warning") for _, message in self.warnings]
        return (Section("What models make of it", tuple(blocks), id="cross_train"),)


def _sentence(found: CrossTrained, gap: Gap) -> str:
    human, own = found.at("human", "human"), found.at(gap.kind, "human")
    low, high = gap.interval
    loses = gap.value if found.higher else -gap.value
    ends = (low, high) if found.higher else (-high, -low)
    unclear = ends[0] <= 0 <= ends[1]
    verdict = "is not clearly worse or better" if unclear else "is worse" if loses > 0 else "is better"
    said = (
        f"On human test records a model trained on {gap.kind} data {verdict}: {found.metric} {own.value:.3f} "
        f"against {human.value:.3f} with as many human records (difference {low:+.3f} to {high:+.3f})."
    )
    a, b = gap.optimism_interval
    if not a <= 0 <= b:
        kind = "better" if (gap.optimism > 0) is found.higher else "worse"
        said += f" On {gap.kind} test records it looks {kind} by {abs(gap.optimism):.3f}."
    hit = [
        row
        for row in found.amplified
        if row.side == gap.kind and row.p_holm is not None and row.p_holm < 0.05
    ]
    for row in hit[:3]:
        assert row.excess is not None
        said += f" Beyond what human data does, training changes {row.artifact} by {row.excess:+.3f}."
    return said


def _table(found: CrossTrained) -> Table:
    rows = tuple(
        {
            "trained_on": cell.trained_on,
            "tested_on": cell.tested_on,
            "value": cell.value,
            "interval": list(cell.interval),
            "chance": cell.chance,
            "lookup": cell.lookup,
            "n": cell.n,
            "_signature": found.signature,
        }
        for cell in found.cells
    )
    return Table(
        (
            Column("trained_on", "trained on"),
            Column("tested_on", "tested on"),
            Column("value", found.metric, "number"),
            Column("interval", "95 % interval", "interval"),
            Column("chance", "by chance", "number"),
            Column("lookup", "look-up table", "number", "what a table of the training texts gets"),
            Column("n", "test records", "number"),
        ),
        rows,
        title="Each model on each test",
        note=f"{found.size:,} training records each, {found.seeds} seeds; groups of records are never split.",
    )


def _label_blocks(found: Labels) -> list[Block]:
    blocks: list[Block] = []
    if found.deficits:
        rows = tuple({**asdict(row), "interval": list(row.interval)} for row in found.deficits)
        blocks.append(
            Table(
                (
                    Column("kind", "data"),
                    Column("label", "label"),
                    Column("human", "F1, human data", "number"),
                    Column("synthetic", "F1, this data", "number"),
                    Column("value", "deficit", "number"),
                    Column("interval", "95 % interval", "interval"),
                    Column("p_holm", "p (Holm)", "number"),
                    Column("n", "test records", "number"),
                ),
                rows,
                title="What each label loses",
            )
        )
    blocks += _distributions(found)
    blocks += _calibrations(found)
    if found.slopes:
        blocks.append(
            Table(
                (
                    Column("kind", "data"),
                    Column("attribute", "attribute"),
                    Column("slope", "F1 lost a unit", "number"),
                    Column("interval", "95 % interval", "interval"),
                    Column("correlation", "r", "number"),
                    Column("p_holm", "p (Holm)", "number"),
                    Column("labels", "labels", "number"),
                ),
                tuple({**asdict(row), "interval": list(row.interval)} for row in found.slopes),
                title="Does a label lose more where its records differ more?",
            )
        )
    return blocks


def _distributions(found: Labels) -> list[Block]:
    """Return how labels are spread in gold, training and answers."""
    blocks: list[Block] = []
    counts = tuple(
        {"label": label, "records": value, "series": f"{row.side} {name}"}
        for row in found.distributions
        for name, values in (("trained on", row.trained), ("predicted", row.predicted))
        for label, value in zip(row.labels, _shares(values))
    )
    gold = found.distributions[0]
    counts += tuple(
        {"label": label, "records": value, "series": "human gold"}
        for label, value in zip(gold.labels, _shares(gold.gold))
    )
    if len(gold.labels) <= 30:
        blocks.append(
            Chart(
                "bar",
                counts,
                "label",
                "records",
                "series",
                title="Labels: gold, in training, predicted",
                y_title="share",
            )
        )
    blocks.append(
        Table(
            (
                Column("side", "trained on"),
                Column("tvd", "distance to gold", "number", "total variation of predicted and gold labels"),
                Column("interval", "95 % interval", "interval"),
                Column("chance", "by chance", "number"),
                Column("expected", "by probabilities", "number", "the same where no label is chosen"),
                Column("evenness", "entropy ratio", "number", "below 1: answers are less diverse than gold"),
            ),
            tuple(
                {
                    "side": row.side,
                    "tvd": row.tvd,
                    "interval": list(row.tvd_interval),
                    "chance": row.tvd_chance,
                    "expected": row.tvd_expected,
                    "evenness": row.entropy_ratio,
                }
                for row in found.distributions
            ),
            title="Predicted labels beside gold ones",
        )
    )
    return blocks


def _calibrations(found: Labels) -> list[Block]:
    """Return how sure and how right models are."""
    blocks: list[Block] = []
    points = tuple(
        {"confidence": c, "right": r, "series": row.trained_on}
        for row in found.calibration
        if row.tested_on == "human"
        for c, r, _ in row.bins
    )
    blocks.append(
        Chart(
            "line",
            points,
            "confidence",
            "right",
            "series",
            title="Calibration on human tests",
            x_title="confidence",
            y_title="share right",
        )
    )
    blocks.append(
        Table(
            (
                Column("trained_on", "trained on"),
                Column("tested_on", "tested on"),
                Column("error", "calibration error", "number"),
                Column("interval", "95 % interval", "interval"),
                Column("chance", "by chance", "number", "what perfectly calibrated models show"),
                Column("brier", "Brier score", "number"),
                Column("confidence", "mean confidence", "number"),
                Column("accuracy", "share right", "number"),
            ),
            tuple({**asdict(row), "interval": list(row.interval)} for row in found.calibration),
            title="How sure, and how right",
        )
    )
    return blocks


def _amplification(found: tuple[Amplified, ...]) -> Table:
    return Table(
        (
            Column("artifact", "artifact"),
            Column("answers", "answers"),
            Column("side", "trained on"),
            Column("trained", "in training", "number"),
            Column("answered", "in answers", "number"),
            Column("gold", "in gold", "number"),
            Column("index", "index", "number", "answers minus training"),
            Column("interval", "95 % interval", "interval"),
            Column("excess", "beyond human data", "number"),
            Column("excess_interval", "95 % interval", "interval"),
            Column("p_holm", "p (Holm)", "number"),
        ),
        tuple(
            {
                "artifact": row.artifact,
                "answers": row.answers,
                "side": row.side,
                **asdict(row.ends),
                "interval": list(row.interval),
                "excess": row.excess,
                "excess_interval": None if row.excess_interval is None else list(row.excess_interval),
                "p_holm": row.p_holm,
                "_help": MEANING[row.artifact],
                "_flag": row.p_holm is not None and row.p_holm < 0.05,
            }
            for row in found
        ),
        title="Amplification",
        note="Taking the likeliest label collapses to the mode whoever gave the labels: read the excess.",
    )


def _shares(values: tuple[float, ...]) -> list[float]:
    total = sum(values) or 1.0
    return [value / total for value in values]
