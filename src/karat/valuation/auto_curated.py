"""What the search for a curation found, and how it is shown. Knows no trainer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from karat.blocks import Block, Chart, Column, Headline, Level, Note, Section, Table
from karat.errors import InputError, did_you_mean
from karat.records import Records
from karat.valuation.policies import Policy, described

Interval = tuple[float, float]


@dataclass(frozen=True)
class Tried:
    """A policy and its validation score on each fold that it was tried on."""

    policy: Policy
    scores: tuple[float, ...]
    complete: bool
    """whether it was tried on all folds"""

    @property
    def mean(self) -> float:
        """The mean over folds."""
        return sum(self.scores) / len(self.scores)

    @property
    def error(self) -> float | None:
        """The standard error of the mean; None for a single fold."""
        n = len(self.scores)
        if n < 2:
            return None
        return float((sum((s - self.mean) ** 2 for s in self.scores) / (n - 1) / n) ** 0.5)


@dataclass(frozen=True)
class Proof:
    """A training set on the test records; gain is what the choice has more than it."""

    name: str
    value: float
    interval: Interval
    gain: float | None
    gain_interval: Interval | None
    p: float | None
    p_holm: float | None = None


@dataclass(frozen=True)
class AutoCurated:
    """The chosen curation, all that were tried, and the proof on the test records."""

    candidate: str
    records: int
    human_records: int
    test_records: int
    trainer: str
    metric: str
    higher: bool
    chosen: Policy
    tried: tuple[Tried, ...]
    failed: tuple[tuple[str, str], ...]
    """(flags, reason) of what could not be run"""
    proofs: tuple[Proof, ...]
    fits: int
    folds: int
    seconds: float
    kept: Records
    dropped: Records
    warnings: tuple[tuple[str, str], ...] = ()

    @property
    def command(self) -> str:
        """What to type for the same curation, without the share that is cut off afterwards."""
        if not self.chosen.synthetic:
            return ""
        top = "" if self.chosen.share == 1 else f" --top {len(self.kept)}"
        return f"karat curate {self.candidate} --reference HUMAN {self.chosen.recipe.flags}{top}".strip()

    @property
    def verdict(self) -> str:
        """What was chosen and whether it holds, in plain words."""
        said = f"Chosen by validation: {self.chosen.name}."
        if self.chosen.synthetic:
            times = "" if self.chosen.human == 1 else f", each human record {self.chosen.human} times"
            said += f" {len(self.kept):,} of {self.records:,} candidates are kept beside human ones{times}."
        for row in self.proofs[1:]:
            if row.gain is None or row.gain_interval is None:
                continue
            low, high = row.gain_interval
            if row.name == self.chosen.name:
                continue
            if low == high == 0:
                said += f" It scores the same as {row.name} on the test."
                continue
            word = "better than" if low > 0 else "worse than" if high < 0 else "not told apart from"
            said += f" On the test it is {word} {row.name} ({row.gain:+.3f}, {low:+.3f} to {high:+.3f})."
        return said

    def why(self, id: str) -> str:
        """Say why a candidate was dropped, or that it was kept."""
        gone = {identity: k for k, identity in enumerate(self.dropped.ids)}
        if id in gone:
            return f"{id}: dropped by {self.dropped.column('filter')[gone[id]]}: " + str(
                self.dropped.column("reason")[gone[id]]
            )
        if id in set(self.kept.ids):
            return f"{id}: kept by {self.chosen.name}"
        raise InputError(f"no record {id!r}{did_you_mean(id, [*gone, *self.kept.ids])}")

    def to_json(self) -> dict[str, Any]:
        """Return what `karat curate --auto --json` prints."""
        return {
            "candidate": {"path": self.candidate, "records": self.records},
            "kept": len(self.kept),
            "dropped": len(self.dropped),
            "trainer": self.trainer,
            "metric": self.metric,
            "chosen": {**described(self.chosen), "command": self.command},
            "validation": {
                "folds": self.folds,
                "fits": self.fits,
                "tried": [
                    {
                        **described(one.policy),
                        "scores": list(one.scores),
                        "mean": one.mean,
                        "error": one.error,
                    }
                    for one in self.tried
                ],
                "failed": [{"flags": flags, "reason": reason} for flags, reason in self.failed],
            },
            "test": [asdict(row) for row in self.proofs],
            "verdict": self.verdict,
            "seconds": self.seconds,
            "warnings": [
                {"code": code, "message": message, "records": []} for code, message in self.warnings
            ],
        }

    def __str__(self) -> str:
        lines = [self.verdict, "", f"{self.metric} by {self.trainer}, {self.fits} models, {self.folds} folds"]
        for one in self.tried[:10]:
            beside = "" if one.error is None else f" +- {one.error:.3f}"
            lines.append(f"  {one.mean:.3f}{beside}  {one.policy.name}")
        lines.append("on the test records:")
        for row in self.proofs:
            low, high = row.interval
            lines.append(f"  {row.name:<18} {row.value:.3f} [{low:.3f}, {high:.3f}]")
        if self.command:
            lines.append(self.command)
        lines += [f"could not be run: {flags}: {reason}" for flags, reason in self.failed]
        return "\n".join([*lines, *(f"warning {code}: {message}" for code, message in self.warnings)])

    def __report__(self) -> tuple[Section, ...]:
        """Return the choice, the proof and the search as blocks."""
        beside = next((row for row in self.proofs if row.name == "plain union"), self.proofs[0])
        detail, level = "", "info"
        if beside.gain is not None and beside.gain_interval is not None:
            low, high = beside.gain_interval
            detail = f"{self.metric} against the plain union, {low:+.3f} to {high:+.3f}"
            level = "good" if low > 0 else "warning" if high < 0 else "info"
        shown: Level = "good" if level == "good" else "warning" if level == "warning" else "info"
        blocks: list[Block] = [
            Headline(f"{beside.gain or 0.0:+.3f}", f"gained by: {self.chosen.name}", detail, shown),
            Note(self.verdict),
            _proof_table(self),
            _search_table(self),
        ]
        rows = tuple(
            {
                "policy": one.policy.name,
                "score": one.mean,
                "low": one.mean - (one.error or 0),
                "high": one.mean + (one.error or 0),
            }
            for one in self.tried[:15]
        )
        blocks.append(
            Chart(
                "bar",
                rows,
                "policy",
                "score",
                low="low",
                high="high",
                title="Validation scores",
                y_title=self.metric,
                note="Bars: one standard error over folds.",
            )
        )
        blocks += [Note(f"Could not be run: {flags}: {reason}", "warning") for flags, reason in self.failed]
        blocks += [Note(message, "warning") for _, message in self.warnings]
        return (Section("The curation that helps most", tuple(blocks), id="auto"),)


def _proof_table(found: AutoCurated) -> Table:
    rows = tuple(
        {
            "name": row.name,
            "value": row.value,
            "interval": list(row.interval),
            "gain": row.gain,
            "gain_interval": None if row.gain_interval is None else list(row.gain_interval),
            "p_holm": row.p_holm,
        }
        for row in found.proofs
    )
    return Table(
        (
            Column("name", "training set"),
            Column("value", found.metric, "number"),
            Column("interval", "95 % interval", "interval"),
            Column("gain", "the choice gains", "number"),
            Column("gain_interval", "95 % interval", "interval"),
            Column("p_holm", "p (Holm)", "number"),
        ),
        rows,
        title="The choice on the test records",
        note="The test records were read once, after the choice.",
    )


def _search_table(found: AutoCurated) -> Table:
    rows = tuple(
        {
            "policy": one.policy.name,
            "mean": one.mean,
            "error": one.error,
            "folds": len(one.scores),
            "_flag": one.policy == found.chosen,
        }
        for one in found.tried
    )
    return Table(
        (
            Column("policy", "policy"),
            Column("mean", "validation score", "number"),
            Column("error", "standard error", "number"),
            Column(
                "folds", "folds", "number", "policies that fall behind on the first fold are not tried on"
            ),
        ),
        rows,
        title="What was tried",
        note="Of those within one standard error of the best, the one with the fewest choices is taken.",
    )
