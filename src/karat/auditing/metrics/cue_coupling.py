"""How far choices follow a simple cue: length, strong words, entailment, or any pair of scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Facts, Found, Metric, Need, Summary, Telling, View, need
from karat.auditing.preference_cues import (
    Cue,
    by_entailment,
    by_fields,
    by_length,
    by_lexicon,
    codes,
    fisher,
    orientations,
    pearson,
)
from karat.auditing.preference_statistics import Interval, Tally, comparison, nothing, share
from karat.auditing.preferences import CHOICES, Choices, Floats, Ints, Signs, matched, read_both

_DECILES = 10
_LEAST = 10  # choices of a decile that has a figure of its own
Deciles = dict[str, tuple[float, Interval | None, int]]


@dataclass(frozen=True)
class CueCoupling(Metric):
    """How often a decided choice goes with the winner of a cue; 0.5 is no coupling, whatever is called a.

    Deciles of the gap between both responses, the widest first, tell whether a stronger cue sways more. The
    published statistic, Pearson's r of the codes 0 (a), 1 (b) and 2 (neither), changes when a and b change
    names: paper mode gives it, and the details its range over random names.
    cue: length, length:characters, lexicon:FILE+FILE (columns word and score; -FILE for negative scores),
        entailment (fields entailment_a and entailment_b, or a model), or NAME of fields NAME_a and NAME_b
    model: a model for natural language inference, which reads each sentence beside the field reference
    """

    cue: str = "length"
    model: str = ""

    family: ClassVar[str] = "preference"
    datatypes: ClassVar[tuple[str, ...]] = ("preference",)
    misleads: ClassVar[str] = (
        "A cue goes with quality: only what goes beyond people's coupling on the same pairs is an artifact. "
        "The published r depends on which response is called a."
    )
    cost: ClassVar[str] = (
        "O(records), and 5,000 random orientations; entailment: one pass of the model a sentence"
    )
    cure: ClassVar[Mapping[str, str]] = {
        "higher": (
            "Judge pairs that are alike in the cue, or correct for it; tell the judge what not to reward."
        ),
        "lower": "Check that the judge does not punish the cue, and that a and b are coded the same way.",
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (-1.0, 1.0)
    default: ClassVar[bool] = False  # its default cue is what length_bias looks at
    higher: ClassVar[str] = "choices follow the cue more"
    source: ClassVar[str] = (
        "Das et al. 2024, Under the surface, section 6 (lexical and entailment cues, Pearson's r, deciles)"
    )

    def __post_init__(self) -> None:
        if not self.cue or self.cue == "lexicon":
            raise ValueError(f"cue is {self.cue!r}; write for example length, lexicon:FILE or entailment")

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        if self.cue.startswith(("length", "lexicon:")):
            return ""
        if self.cue == "entailment" and self.model:
            return (
                ""
                if "reference" in candidate.fields
                else "needs the field reference: the text to be entailed"
            )
        pairs = [
            {f"{self.cue}_{one}", f"{self.cue}_{other}"}
            for one, other in (("a", "b"), ("chosen", "rejected"))
        ]
        if any(pair <= candidate.fields for pair in pairs):
            return ""
        return f"needs the fields {self.cue}_a and {self.cue}_b"

    def _fields(self) -> Need:
        sides = " ".join(f"{self.cue}_{side}" for side in ("a", "b", "chosen", "rejected"))
        return need("columns", fields=f"reference {sides}")

    def needs(self) -> tuple[Need, ...]:
        return (CHOICES,) if self.cue.startswith(("length", "lexicon:")) else (CHOICES, self._fields())

    def compare(self, candidate: Summary, reference: Any, context: Context) -> Comparison:
        mine, theirs = read_both(candidate, reference, seed=context.seed)
        mine = mine.plain
        cue = self._cue(mine, candidate, published=context.mode == "paper")
        if not cue.known.any():
            return nothing("no pair with a known cue")
        mine, cue = mine.take(cue.known), Cue(cue.winner[cue.known], cue.gap[cue.known])
        given = _orientation(mine, cue, context)
        if context.mode == "paper":
            return _published(mine, theirs, cue, given)
        told = (mine.said != 0) & (cue.winner != 0)
        if not told.any():
            return nothing("no decided choice between responses that differ in the cue")
        decided, gap = mine.take(told), cue.gap[told]
        pairs = matched(decided, None if theirs is None else theirs.decided)
        winner = _lookup(decided, (cue.winner * mine.turn)[told])
        people = None
        if pairs.theirs is not None:
            people = Tally.of(
                pairs.theirs.prompt, (winner(pairs.theirs) == pairs.theirs.side) * pairs.weight, pairs.weight
            )
        tally = Tally.of(pairs.mine.prompt, winner(pairs.mine) == pairs.mine.side)
        found = share(tally, people, null=0.5, seed=context.seed)
        whole = Tally.of(decided.prompt, cue.winner[told] == decided.said)
        by, details = _deciles(whole, gap, context.seed)
        alone = "" if people is not None else "without people's choices this may be quality as well as a cue"
        return comparison(
            found,
            null=0.5,
            note="; ".join(filter(None, [pairs.note, alone])),
            details={**given[0], **details, "all_pairs": whole.value},
            by=by,
            warnings=given[1],
            telling=_telling(decided, cue.winner[told], gap),
        )

    def _cue(self, mine: Choices, candidate: Summary, *, published: bool) -> Cue:
        """Who wins each pair of the candidate by the cue that was asked for."""
        name, _, rest = self.cue.partition(":")
        if name == "length":
            return by_length(mine, rest or "words")
        if name == "lexicon":
            return by_lexicon(mine, rest, published=published)
        columns = candidate[self._fields()]
        if self.cue == "entailment" and self.model:
            return by_entailment(mine, columns["reference"][mine.row], self.model)
        sides = []
        for rated, chosen in (("a", "chosen"), ("b", "rejected")):
            one, other = columns[f"{self.cue}_{rated}"], columns[f"{self.cue}_{chosen}"]
            sides.append(np.where(np.array([x is None for x in one]), other, one)[mine.row])
        return by_fields(sides[0], sides[1])


def _lookup(choices: Choices, winner: Signs) -> Any:
    """A function that gives the cue's winner (+1 first of the pair, -1 second) for other choices."""
    order = np.argsort(choices.pair, kind="stable")
    pairs = choices.pair[order]

    def of(other: Choices) -> Signs:
        at = np.minimum(np.searchsorted(pairs, other.pair), len(pairs) - 1)
        return np.where(pairs[at] == other.pair, winner[order][at], 0).astype(np.int8)

    return of


def _orientation(mine: Choices, cue: Cue, context: Context) -> tuple[dict[str, float], list[Found]]:
    """The published r as coded, its range over random names of a and b, and a warning where it is far out."""
    r, p = pearson(codes(cue.winner), codes(mine.said))
    if not np.isfinite(r):
        return {}, []
    names = [mine.field(f"model_{side}") for side in "ab"]
    models = None
    if all(one is not None for side in names for one in side):
        _, numbers = np.unique(np.concatenate(names).astype(str), return_inverse=True)
        models = numbers[: len(mine)], numbers[len(mine) :]
    drawn = orientations(cue.winner, mine.said, models, seed=context.seed)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 2:
        return {"r": r}, []
    low, middle, high = (float(one) for one in np.quantile(drawn, [0.025, 0.5, 0.975]))
    at = float((drawn < r).mean() + (drawn == r).mean() / 2)
    details = {"r": r, "r.low": low, "r.median": middle, "r.high": high, "r.percentile": at}
    if p is not None:
        details["r.p"] = p
    if low - 1e-12 <= r <= high + 1e-12:
        return details, []
    message = (
        f"Pearson's r of the codes is {r:.4f} as the file names a and b, but {middle:.4f} "
        f"[{low:.4f}, {high:.4f}] when they are named at random: believe the agreement with the cue, which "
        "does not depend on names"
    )
    return details, [Found("orientation_dependent", message)]


def _published(
    mine: Choices, theirs: Choices | None, cue: Cue, given: tuple[dict[str, float], list[Found]]
) -> Comparison:
    """Pearson's r of the codes of the cue's winner and of the choice, and the same by decile of the gap."""
    one, other = codes(cue.winner), codes(mine.said)
    r, p = pearson(one, other)
    reference, people = None, None
    if theirs is not None:
        winner = _lookup(mine, (cue.winner * mine.turn).astype(np.int8))
        shared = theirs.plain.take(np.isin(theirs.plain.pair, mine.pair))
        value, people_p = pearson(codes(winner(shared) * shared.turn), codes(shared.said))
        reference = value if np.isfinite(value) else None
        people = {"reference.r": value} | ({} if people_p is None else {"reference.r.p": people_p})
    by: Deciles = {}
    p_values: dict[str, float | None] = {}
    for i, rows in enumerate(_cut(cue.gap), 1):
        value, decile_p = pearson(one[rows], other[rows])
        if np.isfinite(value):
            by[f"decile {i}"] = (value, fisher(value, len(rows)), len(rows))
            p_values[f"decile {i}"] = decile_p
    return Comparison(
        value=r,
        interval=fisher(r, len(one)),
        p=p,
        chance=0.0,
        best=reference,
        reference=reference,
        difference=None if reference is None else r - reference,
        n=len(one),
        note="p is of r = 0 over all pairs as if they were independent, as published",
        details={**given[0], **(people or {}), **_corrected(p_values)},
        by=by,
        warnings=tuple(given[1]),
    )


def _cut(gap: Floats) -> list[Ints]:
    """Ten parts of equal size, those with the widest gap first."""
    return [part for part in np.array_split(np.argsort(-gap, kind="stable"), _DECILES) if len(part)]


def _deciles(tally: Tally, gap: Floats, seed: int) -> tuple[Deciles, dict[str, float]]:
    """The share of each decile of the gap, and p of one half."""
    by: Deciles = {}
    p_values: dict[str, float | None] = {}
    for i, rows in enumerate(_cut(gap), 1):
        if len(rows) >= _LEAST:
            one = share(tally.take(rows), null=0.5, seed=seed)
            by[f"decile {i}"] = (one.value, one.interval, one.n)
            p_values[f"decile {i}"] = one.p_null
    return by, _corrected(p_values)


def _corrected(p_values: Mapping[str, float | None]) -> dict[str, float]:
    """The p of each decile as it is, and corrected for ten tests by Holm and by Benjamini and Hochberg."""
    found: dict[str, float] = {}
    plain = list(p_values.values())
    for name, p, holm, bh in zip(p_values, plain, stats.holm(plain), stats.benjamini_hochberg(plain)):
        if p is not None and holm is not None and bh is not None:
            found |= {f"{name} p": p, f"{name} p_holm": holm, f"{name} p_bh": bh}
    return found


def _telling(choices: Choices, winner: Signs, gap: Floats) -> tuple[Telling, ...]:
    """Choices with the cue where it speaks loudest."""
    followed = np.where(choices.said == winner, gap, -1.0)
    order = np.argsort(-followed, kind="stable")[:8]
    keys = choices.keys
    return tuple(
        Telling(int(keys[i]), float(gap[i]), f"chose the winner of the cue, ahead by {gap[i]:.3g}")
        for i in order
        if followed[i] >= 0
    )
