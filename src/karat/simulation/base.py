"""What a loop is made of: tasks, real data, verdicts, batches, the policy of a cycle. Knows no stage.

A cycle is one parametric policy: which old rows are kept, how large the new batch is, how much of it is
generated, what of that is selected, how the sources are weighted, whether the pool is subsampled, and how
many models feed each other. Every named cycle is a preset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from karat.errors import BadSetting, NotEnoughData

if TYPE_CHECKING:
    from karat.records import Records


@dataclass(frozen=True)
class Verdict:
    """What a verifier says of one text: `true`, `false`, or the class of its error."""

    kind: str
    depth: int = 0

    @property
    def valid(self) -> bool:
        """Whether the text belongs to the task's language."""
        return self.kind in ("true", "false")

    @property
    def correct(self) -> bool:
        """Whether the text is valid and right."""
        return self.kind == "true"


class Source(Protocol):
    """Real data, turn by turn."""

    @property
    def size(self) -> int | None:
        """How many different rows there are; None where they never run out."""
        ...

    def draw(self, n: int, *, turn: int, first: int = 0) -> list[str]:
        """Return n real texts; the same turn gives the same texts.

        first: how many rows turn 0 takes, where the other turns take another number; only so do those of a
            finite source not come again.
        """
        ...

    def held_out(self, n: int) -> list[str]:
        """Return at most n real texts that no turn ever gives."""
        ...


class Task(Protocol):
    """What is to be learned: where real texts come from and what their tokens are.

    A task whose `verifies` is true also has `verify(texts) -> list[Verdict]`. One that can be emulated has
    `rules(texts)` and `write(rules, n, seed=)` (see `grammars`).
    """

    verifies: ClassVar[bool]

    def source(self, human: Records | None = None, *, seed: int = 0) -> Source:
        """Return the source of real data."""
        ...

    def tokens(self, text: str) -> list[str]:
        """Return the tokens on which diversity is measured."""
        ...

    def describe(self) -> dict[str, str]:
        """Return what the task is, in words."""
        ...


@dataclass(frozen=True)
class Pool:
    """Real data that somebody gave: a tenth is held out, the rest is dealt like cards."""

    texts: tuple[str, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.texts) < 20:
            raise NotEnoughData(
                f"a loop needs at least 20 human records, but got {len(self.texts)}; give more"
            )

    @property
    def size(self) -> int | None:
        """How many different rows can be dealt before rows come again."""
        return len(self.texts) - len(self.texts) // 10

    def _shuffled(self) -> list[str]:
        texts = list(self.texts)
        Random(f"pool:{self.seed}").shuffle(texts)
        return texts

    def draw(self, n: int, *, turn: int, first: int = 0) -> list[str]:
        """Deal the turn's n rows; when the pack is through, it is dealt again from the top."""
        pack = self._shuffled()[len(self.texts) // 10 :]
        start = (first or n) + (turn - 1) * n if turn else 0
        return [pack[(start + i) % len(pack)] for i in range(n)]

    def held_out(self, n: int) -> list[str]:
        """Return rows that are never dealt."""
        return self._shuffled()[: min(n, len(self.texts) // 10)]


@dataclass(frozen=True)
class Batch:
    """Training data: texts, and for each the iteration and the model that made it.

    What people made is below 0: -1 for the first data, -1 - t for fresh rows that came in iteration t.
    """

    texts: tuple[str, ...]
    made: tuple[int, ...]
    models: tuple[int, ...] = ()  # which of several models; empty: always the first

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def human(self) -> int:
        """How many rows people (or the task's grammar) made."""
        return sum(made < 0 for made in self.made)

    def model(self, position: int) -> int:
        """Return which model made a row."""
        return self.models[position] if self.models else 0

    def take(self, indices: Sequence[int]) -> Batch:
        """Return the rows at these positions."""
        return Batch(
            tuple(self.texts[i] for i in indices),
            tuple(self.made[i] for i in indices),
            tuple(self.models[i] for i in indices) if self.models else (),
        )

    def plus(self, other: Batch) -> Batch:
        """Return these rows and then the other ones."""
        models: tuple[int, ...] = ()
        if self.models or other.models:
            models = (self.models or (0,) * len(self)) + (other.models or (0,) * len(other))
        return Batch(self.texts + other.texts, self.made + other.made, models)


HUMAN = -1
MOST = 1000.0
"""Rows that a cycle may add an iteration, as a share of n: more is a slip of the keyboard."""


def human_batch(texts: Sequence[str], came: int = 0) -> Batch:
    """Return real texts as a batch; `came`: in which iteration they came."""
    return Batch(tuple(texts), (HUMAN - came,) * len(texts))


def _came(made: int) -> int:
    """Return the iteration for whose training a row came: a model's texts are for the one after it."""
    return HUMAN - made if made < 0 else made + 1


@dataclass(frozen=True)
class Selection:
    """Which texts of a model may become training data.

    by: `none` takes all; `verifier` takes what it holds for correct; `confidence` and `surprise` take the
        share `keep` that the model itself finds likeliest or unlikeliest a token; `detector` draws rows of
        the whole pool with weight (1 - p_ai)^strength, each at most `repeats` times (Drayson et al. 2025).
    false_positives, false_negatives: share of wrong texts that the verifier lets through, and of correct
        ones that it refuses; a text is judged alike each time it comes. So the shares are met among different
        texts; in a loop, where what has passed comes again, fewer texts are refused.
    """

    by: Literal["none", "verifier", "confidence", "surprise", "detector"] = "none"
    keep: float = 1.0
    false_positives: float = 0.0
    false_negatives: float = 0.0
    strength: float = 10.0
    repeats: int = 3


@dataclass(frozen=True)
class Policy:
    """How the next training data are made; sizes are shares of the loop's n.

    keep: `none` starts anew, `all` removes nothing, `human` removes what models wrote, `sample` keeps
        `keep_share * n` random rows of the last training data.
    batch: rows added each iteration. generated_share: how much of the batch the model writes; the rest is
        fresh real data.
    weights: `pool` treats all rows alike, `source` gives the first data and every batch since the same share
        (needs subsample).
    subsample: rows drawn from everything kept for the training; 0 trains on all of it.
    selection: which of the written texts may become training data.
    models: how many models there are. feed: whose texts a model trains on: its `own`, those of the model
        before it in a `ring`, or an equal share of a `pool` of all.
    """

    keep: Literal["none", "all", "human", "sample"] = "none"
    keep_share: float = 0.0
    batch: float = 1.0
    generated_share: float = 1.0
    weights: Literal["pool", "source"] = "pool"
    subsample: float = 0.0
    selection: Selection = Selection()
    models: int = 1
    feed: Literal["own", "ring", "pool"] = "own"

    def with_fresh(self, share: float) -> Policy:
        """Return the policy with a share of fresh real data inside each new batch."""
        return replace(self, generated_share=1.0 - share)


class Cycle(Protocol):
    """A named preset of the policy."""

    def policy(self) -> Policy:
        """Return the policy that these settings stand for."""
        ...


def check_share(name: str, value: float) -> None:
    """Raise ValueError unless a setting is a share."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}={value} is not a share; give a number from 0 to 1")


def check_whole(**settings: Any) -> None:
    """Raise BadSetting unless each setting is a whole number, or a sequence of such."""
    for name, given in settings.items():
        for number in given if isinstance(given, Sequence) else (given,):
            if not isinstance(number, Integral):
                raise BadSetting(f"{name} is {number!r}, but must be a whole number")


def check_amount(name: str, value: float) -> None:
    """Raise ValueError unless a setting is an amount of rows, as a share of n, of which there are some."""
    if not 0.0 < value <= MOST:
        raise ValueError(f"{name}={value} is no amount of rows; give a number above 0, of at most {MOST:g}")


def needed(policy: Policy, n: int) -> tuple[int, int]:
    """Return how many (generated, fresh) rows the next batch takes."""
    rows = round(policy.batch * n)
    generated = round(rows * policy.generated_share)
    return generated, rows - generated


def stays(policy: Policy, n: int) -> int:
    """Return how many old rows the policy `sample` keeps; with the new ones they fill what n asks for."""
    return round((policy.keep_share + policy.batch) * n) - round(policy.batch * n)


def advance(
    policy: Policy,
    pool: Batch,
    generated: Batch,
    fresh: Sequence[str],
    *,
    n: int,
    seed: int,
    weigh: Callable[[Batch], Sequence[float]] | None = None,
) -> tuple[Batch, Batch]:
    """Return (everything kept, the rows to train on) for the next iteration.

    `generated` holds what this iteration's models wrote and a selection let through, of which as many are
    taken as the policy needs, or all where they are fewer. `weigh` gives the rows of the pool weights, by
    which as many are drawn (selection by detector).
    """
    random = Random(f"advance:{seed}")
    wanted, wanted_fresh = needed(policy, n)
    assert len(fresh) >= wanted_fresh, "fewer fresh rows than the policy needs"
    # The samples are independent, so that the first ones are as random as any.
    came = generated.made[0] + 1 if len(generated) else 1 + max(map(_came, pool.made), default=0)
    new = generated.take(range(min(wanted, len(generated)))).plus(human_batch(fresh[:wanted_fresh], came))
    if policy.keep == "none":
        kept = new
    elif policy.keep == "sample":
        rows = min(len(pool), stays(policy, n))
        kept = pool.take(sorted(random.sample(range(len(pool)), rows))).plus(new)
    else:
        kept = pool.plus(new)
    # The pool of `human` stays as it began: the first real data, to which only the newest rows are added.
    held = pool if policy.keep == "human" else kept
    if weigh is not None and len(kept):
        rows = round(policy.subsample * n) or len(kept)
        return held, _weighted(policy, kept, weigh(kept), rows, seed)
    return held, _subsample(policy, kept, n, random)


def _weighted(policy: Policy, kept: Batch, weights: Sequence[float], rows: int, seed: int) -> Batch:
    """Draw rows by weight, each at most `repeats` times; what has no weight left is drawn evenly."""
    from karat.curation.repeats import drawn

    floor = 1e-9 * max(weights) or 1.0
    counts = drawn(
        np.maximum(np.asarray(weights, dtype=np.float64), floor), rows, policy.selection.repeats, seed
    )
    return kept.take(np.repeat(np.arange(len(kept)), counts).tolist())


def _subsample(policy: Policy, kept: Batch, n: int, random: Random) -> Batch:
    rows = round(policy.subsample * n)
    if rows == 0 or (rows >= len(kept) and policy.weights == "pool"):
        return kept
    if policy.weights == "pool":
        return kept.take(sorted(random.sample(range(len(kept)), rows)))
    sources: dict[int, list[int]] = {}
    for position, made in enumerate(kept.made):
        sources.setdefault(_came(made), []).append(position)
    chosen: list[int] = []
    # Shares that do not divide evenly: some sources take one row more, and no source is always among them.
    more = set(random.sample(range(len(sources)), rows % len(sources)))
    for rank, positions in enumerate(sources.values()):
        share = rows // len(sources) + (rank in more)
        chosen += (
            random.sample(positions, share) if share <= len(positions) else random.choices(positions, k=share)
        )
    return kept.take(sorted(chosen))


def as_rows(
    batch: Batch, *, cycle: str, seed: int, iteration: int, model: int | None = None, first: str = ""
) -> list[dict[str, Any]]:
    """Return a batch as record rows whose lineage says who made each: iteration, source and parent model.

    `model`: for which of several models the rows are. `first`: the name of the cycle that iteration 0 has,
    where it is not the same.
    """
    rows = []
    mine = "" if model is None else f":{model}"
    for position, (text, made) in enumerate(zip(batch.texts, batch.made)):
        human = made < 0
        writer = (
            None
            if human
            else model_name(
                (first or cycle) if made == 0 else cycle,
                seed,
                made,
                batch.model(position) if batch.models else None,
            )
        )
        lineage = {
            "source": "human" if human else "synthetic",
            "generator": writer,
            "iteration": None if human else made,
            "seed": seed,
            "parents": [] if writer is None else [writer],
        }
        rows.append({"id": f"{cycle}:{seed}:{iteration}{mine}:{position}", "text": text, "lineage": lineage})
    return rows


def model_name(cycle: str, seed: int, iteration: int, model: int | None = None) -> str:
    """Return the name of the model that an iteration trained; `model`: which of several."""
    return f"model:{cycle}:{seed}:{iteration}" + ("" if model is None else f":{model}")
