"""Which of a model's texts may become training data: by verifier, likelihood or detector. Knows no loop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from karat.auditing.detector import Detector, fit_detector
from karat.errors import BadSetting, KaratError
from karat.records import Records
from karat.simulation.base import Batch, Policy, Selection, needed

ROUNDS = 10
"""A model writes at most this many times what is needed before a selection goes on with fewer rows."""


@dataclass(frozen=True)
class Chosen:
    """What one model wrote: the n texts that are measured, those that may be trained on, how many of all."""

    texts: tuple[str, ...]
    offered: tuple[str, ...]
    written: int
    accepted: int


def chosen(
    policy: Policy,
    write: Callable[[int, int], Records],
    *,
    n: int,
    judge: Callable[[Sequence[str]], list[bool]] | None,
    seed: int,
) -> Chosen:
    """Let a model write what a policy needs, and select from it.

    write: (how many, which time) -> records with their mean log-probability a token. judge: whether each text
    is correct. seed: of the verifier's errors.
    """
    selection, wanted = policy.selection, needed(policy, n)[0]
    made = write(n, 0)
    texts = tuple(made.texts())
    if selection.by == "verifier":
        assert judge is not None, "a verifier without a task that verifies"
        accept = partial(accepted, selection, judge, seed=seed)
        kept = accept(texts)
        written, again = len(texts), 1
        while len(kept) < wanted and again < ROUNDS:
            more = tuple(write(n, again).texts())
            kept += accept(more)
            written, again = written + len(more), again + 1
        return Chosen(texts, tuple(kept), written, len(kept))
    if selection.by in ("confidence", "surprise"):
        total = max(n, round(wanted / selection.keep))
        rows = [made] + ([write(total - n, 1)] if total > n else [])
        everything = [text for one in rows for text in one.texts()]
        chances = np.asarray([chance for one in rows for chance in one.lineage("logprob")], dtype=np.float64)
        if np.isnan(chances).any():
            raise BadSetting(
                f"cycle 'ordered' needs the log-probabilities of what a model writes, which "
                f"{int(np.isnan(chances).sum()):,} of {total:,} texts lack; take the trainer gpt or emulator"
            )
        order = np.argsort(chances if selection.by == "surprise" else -chances, kind="stable")
        best = sorted(order[: round(total * selection.keep)].tolist())
        return Chosen(texts, tuple(everything[i] for i in best), total, len(best))
    if selection.by == "detector":
        # Its detector learns from the first texts; these are others.
        offered = tuple(write(max(n, wanted), 1).texts())
        return Chosen(texts, offered, n + len(offered), len(offered))
    if wanted > n:
        texts_more = texts + tuple(write(wanted - n, 1).texts())
        return Chosen(texts, texts_more, wanted, wanted)
    return Chosen(texts, texts, n, n)


def accepted(
    selection: Selection, judge: Callable[[Sequence[str]], list[bool]], texts: Sequence[str], *, seed: int
) -> list[str]:
    """Return the texts that a verifier with these error rates takes for correct.

    Its errors belong to the text: a wrong text that passes once passes always, as where a rule has a hole.
    """
    found = []
    for text, right in zip(texts, judge(texts), strict=True):
        rate = selection.false_negatives if right else selection.false_positives
        if right != (rate > 0 and _chance(text, seed) < rate):
            found.append(text)
    return found


def _chance(text: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}|".encode() + text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def detecting(
    selection: Selection, human: Sequence[str], written: Sequence[str], *, seed: int
) -> Callable[[Batch], Sequence[float]]:
    """Return a function from rows to weights (1 - p_ai)^strength, p_ai by a detector fitted on these texts.

    Where no detector can be fitted (too few different texts), all rows weigh the same.
    """
    try:
        detector: Detector | None = fit_detector(list(human), list(written), seed=seed)
    except KaratError:
        detector = None

    def weigh(batch: Batch) -> Sequence[float]:
        if detector is None:
            return [1.0] * len(batch)
        weights: list[float] = (detector.score(batch.texts) ** selection.strength).tolist()
        return weights

    return weigh
