"""Ways to curate a set, and the search space of them. Knows no trainer and no score.

A policy is filters, then an order of which a share is kept, then a mixture, beside human records that may be
repeated. It is applied through `curate` with the human training records as reference, never with others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from karat.curation.result import Curated
from karat.curation.stage import curate
from karat.errors import KaratError, Stopped, UnknownPart
from karat.records import Records
from karat.training.base import Indices

ROW = "_row"
"""the field that says which record of the pool a curated one is, also where it was repeated"""
SHARES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Recipe:
    """What is run through `curate` once: filters, an order, a mixture."""

    filters: tuple[str, ...] = ()
    order: str = ""
    mixture: str = ""

    @property
    def flags(self) -> str:
        """What a user would type after `karat curate CANDIDATE --reference HUMAN`."""
        words = []
        if self.filters:
            words.append("--filters " + " ".join(self.filters))
        if self.order:
            words.append(f"--order {self.order}")
        if self.mixture:
            words.append(f"--mixture {self.mixture}")
        return " ".join(words)


@dataclass(frozen=True)
class Policy:
    """A recipe, the share of what it leaves that is kept (best first), and how often human records count."""

    recipe: Recipe = Recipe()
    share: float = 1.0
    human: int = 1
    """how often each human record stands in the training set"""
    synthetic: bool = True
    """False: human records alone"""

    @property
    def name(self) -> str:
        """The policy in words."""
        if not self.synthetic:
            return "human only"
        if self == UNION:
            return "plain union"
        words = [*self.recipe.filters, *filter(None, (self.recipe.order, self.recipe.mixture))]
        if self.share < 1:
            words.append(f"top {self.share:.0%}")
        if self.human > 1:
            words.append(f"human x{self.human}")
        return " + ".join(words)

    @property
    def size(self) -> int:
        """How many choices the policy makes: of two equally good ones the smaller is taken."""
        parts = [*self.recipe.filters, self.recipe.order, self.recipe.mixture]
        return sum(bool(part) for part in parts) + (self.share < 1) + (self.human > 1)


UNION = Policy()
HUMAN_ONLY = Policy(synthetic=False)


def space(
    datatype: str,
    budget: str,
    *,
    filters: Sequence[str] = (),
    orders: Sequence[str] = (),
    mixtures: Sequence[str] = (),
) -> tuple[Policy, ...]:
    """Return the policies to try; filters, orders and mixtures replace those of the budget where given.

    filters: sets of filters, those of one set joined by +, for example near_duplicates+outliers.
    """
    sets = tuple(tuple(one.split("+")) for one in filters) or _FILTERS[budget]
    ranked = (
        tuple(orders) or (_TEXT_ORDERS if datatype in ("translation", "instruction") else _ORDERS)[budget]
    )
    mixed = tuple(mixtures) or _MIXTURES[budget]
    found: dict[Policy, None] = {HUMAN_ONLY: None, UNION: None}
    weights = _WEIGHTS[budget]
    for weight in weights:
        found[replace(UNION, human=weight)] = None
    for chosen in ((), *sets):
        for weight in weights:
            found[Policy(Recipe(chosen), human=weight)] = None
        for order, share, weight in product(ranked, SHARES, weights):
            found[Policy(Recipe(chosen, order), share, weight)] = None
    for mixture in mixed:
        found[Policy(Recipe((), "", mixture))] = None
    return tuple(found)


def apply(
    recipe: Recipe, candidate: Records, human: Records, *, seed: int = 0, cache: Path | None = None
) -> Indices | KaratError:
    """Return the places (field `_row`) of what a recipe keeps, best first, or why it cannot be run.

    Raises UnknownPart for a name that no part has: that is a slip, and no policy that failed.
    """
    try:
        return places(curated(recipe, candidate, human, seed=seed, cache=cache))
    except (Stopped, UnknownPart):
        raise
    except KaratError as error:
        return error


def curated(
    recipe: Recipe, candidate: Records, human: Records, *, seed: int = 0, cache: Path | None = None
) -> Curated:
    """Return what `curate` makes of candidates by a recipe, uncalibrated; the best come first."""
    return curate(
        candidate,
        human,
        filters=recipe.filters,
        order=recipe.order or None,
        mixture=recipe.mixture or None,
        calibrate="none",
        seed=seed,
        cache=cache,
    )


def places(found: Curated) -> Indices:
    """Return the places (field `_row`) of what is kept, best first."""
    return np.array([row for row in found.kept.column(ROW) if row is not None], dtype=np.int64)


def rows(policy: Policy, kept: Indices, human: Indices) -> Indices:
    """Return the places of a training set: human ones, repeated, and the best share of the kept ones."""
    if not policy.synthetic:
        return human
    most = max(1, round(policy.share * len(kept))) if len(kept) else 0
    return np.concatenate([np.repeat(human, policy.human), kept[:most]]).astype(np.int64)


_CLEAN = ("exact_duplicates", "refusals")
_NEAR = (*_CLEAN, "near_duplicates")
_FILTERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "small": (_CLEAN,),
    "medium": (_NEAR,),
    "large": (_NEAR, (*_NEAR, "outliers")),
}
_ORDERS = {
    "small": ("agreement", "human_likeness"),
    "medium": ("agreement", "human_likeness", "influence"),
    "large": ("agreement", "human_likeness", "influence", "fluency"),
}
_TEXT_ORDERS = {
    "small": ("human_likeness",),
    "medium": ("human_likeness", "quality_estimation"),
    "large": ("human_likeness", "quality_estimation", "fluency"),
}
_MIXTURES: dict[str, tuple[str, ...]] = {
    "small": (),
    "medium": ("importance", "matching"),
    "large": ("importance", "matching"),
}
_WEIGHTS = {"small": (1,), "medium": (1, 3), "large": (1, 3, 10)}


def described(policy: Policy) -> dict[str, Any]:
    """Return a policy for JSON."""
    return {
        "name": policy.name,
        "filters": list(policy.recipe.filters),
        "order": policy.recipe.order or None,
        "mixture": policy.recipe.mixture or None,
        "share": policy.share,
        "human_repeats": policy.human,
        "synthetic": policy.synthetic,
    }
