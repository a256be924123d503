"""Which discourse motifs machine texts use more or less often than human ones, by domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from karat.auditing import attributes, shares, trees
from karat.auditing import statistics as stats
from karat.auditing.base import Comparison, Context, Facts, Found, Metric, Need, Summary, View

_DOMAINS = 40
_LISTED = 40


@dataclass(frozen=True)
class MotifDifference(Metric):
    """By how many motifs an edge the mean machine text differs from the mean human one, over all motifs.

    The sum over motifs of |machine - human|, the mean over domains; as many texts of one side as of the
    other in each. Chance and p deal texts out to the sides at random, whole sources at a time. `by` holds
    domains and the motifs that differ most, `q.NAME` their p (Benjamini and Hochberg). selected counts
    them; in paper mode it counts motifs with |difference| >= mean + spread * standard deviation in some
    domain, as published, and a motif with symmetries counts once for each.
    by: the field that names the domain of a text; empty: one domain
    nodes: the number of nodes of a motif
    triads: instead, so many triads (a whole, its parts, their relation); published 3, 6, 9 are 1, 2, 3
    labelled: whether motifs are told apart by the labels of nodes too
    norm: edges (counts for each edge) or motifs (shares of all motifs of the text)
    spread: of the published selection, 1 or 2
    least: texts that must have a motif before it is tested
    """

    by: str = ""
    nodes: int = 3
    triads: int = 0
    labelled: bool = False
    norm: str = "edges"
    spread: float = 1.0
    least: int = 10

    family: ClassVar[str] = "discourse"
    misleads: ClassVar[str] = (
        "Some motif always differs most: mean + one standard deviation selects motifs in noise too. A "
        "parser that knows human text best makes differences of its own."
    )
    cost: ClassVar[str] = "that of motif_frequency and texts x motifs x permutations"
    cure: ClassVar[Mapping[str, str]] = {
        "higher": "Vary the structure that is asked for (story, list, argument), not the topic alone."
    }
    size: ClassVar[View] = "all"
    bounds: ClassVar[tuple[float | None, float | None]] = (0.0, None)
    by_label: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = True
    higher: ClassVar[str] = "discourse farther from human"
    source: ClassVar[str] = (
        "Das et al. 2024, Under the Surface, section on discourse; Kim et al. 2024, Threads of Subtlety"
    )

    def __post_init__(self) -> None:
        attributes.checked(self.norm, trees.NORMS, "norm")
        if not 2 <= self.nodes <= 9 or not 0 <= self.triads <= 4:
            raise ValueError(
                f"nodes is {self.nodes} and triads {self.triads}; nodes are 2 to 9, triads 0 (none) to 4"
            )

    def lacks(self, candidate: Facts, reference: Facts | None) -> str:
        for side, facts in (("candidate", candidate), ("reference", reference)):
            if self.by and facts is not None and self.by not in facts.fields:
                return f"needs a field {self.by} in the {side}"
        return trees.lacking(candidate, reference)

    def needs(self) -> tuple[Need, ...]:
        return trees.needed(self.by)

    def compare(self, candidate: Summary, reference: Summary, context: Context) -> Comparison:
        sides = [trees.trees(one, self.needs(), self.by) for one in (candidate, reference)]
        published = context.mode == "paper"
        found = trees.rates(
            sides,
            nodes=self.nodes,
            triads=self.triads,
            labelled=self.labelled,
            norm=self.norm,
            published=published,
        )
        parts = self._parts(found)
        extra: dict[str, Any] = {"motifs": len(found.names), "domains": len(parts)}
        if not parts or not len(found.names):
            note = "no domain has two texts with discourse trees on both sides"
            return Comparison(float("nan"), n=0, note=note, extra=extra)
        gaps = {name: trees.gap(found, *rows) for name, rows in parts.items()}
        value = float(np.mean([one.distance for one in gaps.values()]))
        trials = max(20, context.trials)
        null = trees.shuffled_distances(found, parts, trials=trials, seed=context.seed)
        total = _over_domains(list(gaps.values()))
        q = self._tested(found, parts, total)
        chosen = (
            self._published(gaps)
            if published
            else np.array([i for i, p in q.items() if p < 0.05], dtype=np.int64)
        )
        n = sum(one.n for one in gaps.values())
        return Comparison(
            value=value,
            interval=self._interval(found, parts, value, trials, context.seed),
            p=stats.tail_p(value, null, two_sided=False),
            chance=float(null.mean()),
            best=float(null.mean()),
            n=n,
            note=_note(found.names, total, chosen, published),
            details=_details(found.names, gaps, total, q, chosen),
            by={**_domains(gaps), **_motifs(found, total, n)},
            extra=extra,
            warnings=_few(gaps),
        )

    def _parts(self, found: trees.Rates) -> dict[str, tuple[trees.Ints, trees.Ints]]:
        names, counts = np.unique(found.domains.astype(str), return_counts=True)
        names = names[np.argsort(-counts, kind="stable")[:_DOMAINS]]
        parts = {str(name): trees.balanced(found, str(name)) for name in sorted(names)}
        return {name: rows for name, rows in parts.items() if len(rows[0]) > 1}

    def _interval(
        self,
        found: trees.Rates,
        parts: Mapping[str, tuple[trees.Ints, trees.Ints]],
        value: float,
        trials: int,
        seed: int,
    ) -> tuple[float, float] | None:
        """The basic bootstrap interval, whole clusters drawn by Poisson weights."""
        total = np.zeros(max(200, trials))
        for i, (ours, theirs) in enumerate(parts.values()):
            rows = np.concatenate([ours, theirs])
            member = attributes.numbered(found.clusters[rows])
            weights = stats.poisson_weights(int(member.max()) + 1, trials=len(total), seed=seed + i)
            drawn = weights[:, member].astype(np.float64)
            means = []
            for chosen in (slice(0, len(ours)), slice(len(ours), None)):
                side = drawn[:, chosen]
                side /= np.maximum(side.sum(axis=1, keepdims=True), 1e-12)
                means.append(np.asarray((found.table[rows[chosen]].T @ side.T).T))
            total += np.abs(means[0] - means[1]).sum(axis=1)
        return shares.basic_interval(value, total / len(parts), high=float("inf"))

    def _tested(
        self, found: trees.Rates, parts: Mapping[str, tuple[trees.Ints, trees.Ints]], total: trees.Gap
    ) -> dict[int, float]:
        """Motif -> p of its mean difference over domains, adjusted for the number of motifs tested."""
        rows = np.concatenate([np.concatenate(one) for one in parts.values()])
        texts = np.asarray((found.table[rows] > 0).sum(axis=0)).ravel()
        tested = np.flatnonzero((texts >= self.least) & (total.error > 0))
        p = [stats.t_p(total.difference[i] / total.error[i], total.df) for i in tested]
        adjusted = stats.benjamini_hochberg(p)
        return {int(i): float(one) for i, one in zip(tested, adjusted, strict=True) if one is not None}

    def _published(self, gaps: Mapping[str, trees.Gap]) -> trees.Ints:
        """The motifs that stand out in some domain by the published rule."""
        found = [trees.selected(one.difference, self.spread) for one in gaps.values()]
        return np.unique(np.concatenate(found))


def _over_domains(gaps: list[trees.Gap]) -> trees.Gap:
    """The mean of several domains, which are independent."""
    k = len(gaps)
    return trees.Gap(
        np.mean([one.difference for one in gaps], axis=0),
        np.sqrt(np.sum([one.error**2 for one in gaps], axis=0)) / k,
        float(sum(one.df for one in gaps)),
        np.mean([one.ours for one in gaps], axis=0),
        np.mean([one.theirs for one in gaps], axis=0),
        sum(one.n for one in gaps),
    )


def _order(total: trees.Gap) -> trees.Ints:
    """Motifs by how surely they differ."""
    z = np.abs(total.difference) / np.where(total.error > 0, total.error, np.inf)
    return np.argsort(-z, kind="stable")[:_LISTED]


def _domains(gaps: Mapping[str, trees.Gap]) -> dict[str, tuple[float, tuple[float, float] | None, int]]:
    if len(gaps) < 2:
        return {}
    return {name: (one.distance, None, one.n) for name, one in gaps.items()}


def _motifs(
    found: trees.Rates, total: trees.Gap, n: int
) -> dict[str, tuple[float, tuple[float, float] | None, int]]:
    reach = stats.t_quantile(0.975, total.df) * total.error
    return {
        found.names[i]: (
            float(total.difference[i]),
            (float(total.difference[i] - reach[i]), float(total.difference[i] + reach[i])),
            n,
        )
        for i in _order(total)
    }


def _details(
    names: tuple[str, ...],
    gaps: Mapping[str, trees.Gap],
    total: trees.Gap,
    q: Mapping[int, float],
    chosen: trees.Ints,
) -> dict[str, float]:
    found = {"selected": float(len(chosen)), "tested": float(len(q))}
    spread = np.std([one.difference for one in gaps.values()], axis=0)
    for i in _order(total):
        found |= {f"machine.{names[i]}": float(total.ours[i]), f"human.{names[i]}": float(total.theirs[i])}
        if len(gaps) > 1:
            found[f"spread.{names[i]}"] = float(spread[i])
        if int(i) in q:
            found[f"q.{names[i]}"] = q[int(i)]
    found |= {f"selected.{names[i]}": 1.0 for i in chosen[:200]}
    return found


def _note(names: tuple[str, ...], total: trees.Gap, chosen: trees.Ints, published: bool) -> str:
    rule = "stand out by the published rule" if published else "differ (Benjamini and Hochberg, 5%)"
    said = f"{len(chosen)} of {len(names)} motifs {rule}"
    best = sorted(chosen, key=lambda i: -abs(total.difference[i]))[:3]
    shown = [f"{names[i]} {total.ours[i]:.3f} against {total.theirs[i]:.3f}" for i in best]
    return f"{said}: {'; '.join(shown)}" if shown else said


def _few(gaps: Mapping[str, trees.Gap]) -> tuple[Found, ...]:
    thin = [name for name, one in gaps.items() if one.n < 20]
    if not thin:
        return ()
    where = f" in {', '.join(thin[:5])}" if len(gaps) > 1 else ""
    n = min(one.n for one in gaps.values())
    message = (
        f"motif_difference compares {n} texts a side{where}: rare motifs say nothing there; bring 20 or more"
    )
    return (Found("too_few_records", message),)
