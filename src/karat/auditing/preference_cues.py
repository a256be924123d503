"""Cues: which of two responses a simple rule would choose, such as the longer one. Knows no metric.

A cue gives each response a score. The response with more of it is the cue's winner; where a choice goes with
the winner more often than not, the cue, or what goes with it, sways the rater.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat.auditing import statistics as stats
from karat.auditing.preferences import Choices, Floats, Ints, Signs
from karat.errors import BadSetting, InputError, missing_extra
from karat.formats import read_rows

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|\n+")
_BATCH = 32


@dataclass(frozen=True)
class Cue:
    """Who wins by a cue, one a record: winner int8 [n] (+1 a, -1 b, 0 none), gap float64 [n], nan unknown."""

    winner: Signs
    gap: Floats

    @staticmethod
    def of(a: Floats, b: Floats) -> Cue:
        """The cue of two scores."""
        gap = np.abs(a - b)
        winner = np.where(np.isfinite(gap), np.sign(np.nan_to_num(a) - np.nan_to_num(b)), 0)
        return Cue(winner.astype(np.int8), gap)

    @property
    def known(self) -> NDArray[np.bool_]:
        return np.isfinite(self.gap)


def by_length(choices: Choices, unit: str = "words") -> Cue:
    """The longer response wins, in words or characters."""
    if unit not in ("words", "characters"):
        raise BadSetting(f"the unit of length is {unit!r}; choose one of: words, characters")
    a, b = choices.lengths(unit)
    return Cue.of(a.astype(np.float64), b.astype(np.float64))


def by_lexicon(choices: Choices, files: str, *, published: bool = False) -> Cue:
    """Each lexicon has a vote for the response with the stronger top word; the gap is the sum over lexicons.

    files: lexicons separated by `+`, with columns word and score; `-` before a name takes negative scores,
    as politeness has for rude words. Words below 0 (or above) count as 0.
    published: where as many lexicons are for a as for b, a wins, as in the original; else nobody does
    Source: the lexical cues of Das et al. 2024, section 6, without lemmas.
    """
    a_texts, b_texts = choices.texts("a").to_pylist(), choices.texts("b").to_pylist()
    votes, gap = np.zeros((len(choices), 3)), np.zeros(len(choices))
    for name in files.split("+"):
        lexicon = read_lexicon(name.removeprefix("-"), sign=-1.0 if name.startswith("-") else 1.0)
        a, b = (np.array([top_word(text, lexicon) for text in texts]) for texts in (a_texts, b_texts))
        votes += np.stack([a > b, b > a, a == b], axis=1)
        gap += np.abs(a - b)
    won = np.argmax(votes, axis=1)  # of equal votes a's come first, then b's, then none
    if not published:
        won = np.where(votes[:, 0] == votes[:, 1], 2, won)
    return Cue(np.array([1, -1, 0], dtype=np.int8)[won], gap)


def read_lexicon(path: str, *, sign: float = 1.0) -> dict[str, float]:
    """Word -> how much of the attribute it has, never below 0. Raises InputError."""
    found: dict[str, float] = {}
    for line, row in read_rows(path):
        if row.get("word") is None or row.get("score") is None:
            raise InputError(
                f"{path}:{line}: a lexicon has the columns word and score (found: {', '.join(row)})"
            )
        try:
            score = max(0.0, sign * float(row["score"]))
        except (TypeError, ValueError):
            raise InputError(f"{path}:{line}: the score {row['score']!r} is no number") from None
        word = str(row["word"]).casefold()
        found[word] = max(score, found.get(word, 0.0))
    if not found:
        raise InputError(f"{path}: a lexicon without words; give rows of word and score")
    return found


def top_word(text: str, lexicon: dict[str, float]) -> float:
    """The score of the strongest word of a text; 0 where none is in the lexicon."""
    return max((lexicon.get(word, 0.0) for word in _WORD.findall(text.casefold())), default=0.0)


def by_fields(a: NDArray[Any], b: NDArray[Any]) -> Cue:
    """The response with the higher number wins; of a list (one number a sentence) the highest counts."""
    return Cue.of(np.array([_number(one) for one in a]), np.array([_number(one) for one in b]))


def by_entailment(choices: Choices, references: NDArray[Any], model: str) -> Cue:
    """The response with the sentence that entails the reference text most, by a model for NLI, wins."""
    sides = [choices.texts(side).to_pylist() for side in "ab"]
    wanted = list(
        dict.fromkeys((text, str(ref)) for side in sides for text, ref in zip(side, references) if ref)
    )
    found = dict(zip(wanted, entailments([pair[0] for pair in wanted], [pair[1] for pair in wanted], model)))
    scores = [
        np.array([found.get((text, str(ref)), float("nan")) for text, ref in zip(side, references)])
        for side in sides
    ]
    return Cue.of(scores[0], scores[1])


def entailments(texts: Sequence[str], references: Sequence[str], model: str) -> list[float]:
    """The highest probability with which a sentence of each text entails its reference.

    model: a name or folder of a sequence classifier with a label that contains "entail"; it runs on this CPU
    Raises MissingExtra or BadSetting.
    """
    try:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError:
        raise missing_extra("transformers", "hf", "cue_coupling:cue=entailment,model=...") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        network = AutoModelForSequenceClassification.from_pretrained(model).eval()
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise BadSetting(
            f"the model {model!r} cannot be loaded ({reason}); name a folder or a model"
        ) from None
    names = network.config.id2label
    column = next((int(i) for i, name in names.items() if "entail" in str(name).lower()), None)
    if column is None:
        labels = ", ".join(map(str, names.values()))
        raise BadSetting(
            f"the model {model!r} has no label for entailment (it has: {labels}); choose one for NLI"
        )
    pieces = [(i, one) for i, text in enumerate(texts) for one in sentences(text)]
    best = np.zeros(len(texts))
    for start in range(0, len(pieces), _BATCH):
        batch = pieces[start : start + _BATCH]
        premises, hypotheses = [one for _, one in batch], [references[i] for i, _ in batch]
        coded = tokenizer(premises, hypotheses, padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            shares = torch.softmax(network(**coded).logits.double(), dim=1)[:, column].tolist()
        for (i, _), probability in zip(batch, shares):
            best[i] = max(best[i], probability)
    return [float(one) for one in best]


def sentences(text: str) -> list[str]:
    """The sentences of a text: cut after final signs and at line breaks."""
    return [piece.strip() for piece in _SENTENCE.split(text) if piece.strip()] or [text]


# ------------------------------------------------------------------- the published statistic: nominal codes

A, B, NONE = 0, 1, 2
"""The codes of Das et al. 2024: response a, response b, neither."""


def codes(signs: Signs) -> Ints:
    """int64 [n]: the published codes of signs +1, -1 and 0."""
    return np.where(signs > 0, A, np.where(signs < 0, B, NONE)).astype(np.int64)


def pearson(one: Ints, other: Ints) -> tuple[float, float | None]:
    """Pearson's r of two columns of codes and its p by Student's t; nan where one of them is constant."""
    n = len(one)
    if n < 3 or one.std() == 0 or other.std() == 0:
        return float("nan"), None
    x, y = one - one.mean(), other - other.mean()
    r = float((x @ y) / np.sqrt((x @ x) * (y @ y)))
    if abs(r) >= 1:
        return float(np.clip(r, -1, 1)), 0.0
    return r, stats.t_p(r * np.sqrt((n - 2) / (1 - r * r)), n - 2)


def fisher(r: float, n: int) -> tuple[float, float] | None:
    """The interval of a correlation (Fisher 1921)."""
    if n < 4 or not abs(r) < 1:
        return None
    reach = stats.normal_quantile(0.975) / np.sqrt(n - 3)
    return float(np.tanh(np.arctanh(r) - reach)), float(np.tanh(np.arctanh(r) + reach))


def orientations(
    cue: Signs, choice: Signs, models: tuple[Ints, Ints] | None, *, trials: int = 5000, seed: int = 0
) -> Floats:
    """float64 [trials]: the published r with a and b named at random.

    models: numbers of the models of a and b; then models are put into a random order, and the earlier one
    is a. Without them each pair is turned or not by itself.
    """
    cells: Ints = 3 * codes(cue) + codes(choice)
    turned = np.array([4, 3, 5, 1, 0, 2, 7, 6, 8])  # the cell of a pair after a and b are exchanged
    rng = np.random.default_rng(seed)
    if models is None:
        counts = np.bincount(cells, minlength=9)
        stay = rng.binomial(counts, 0.5, (trials, 9))
        tables = stay + (counts - stay)[:, turned]
        return _correlations(tables)
    one, other = models
    size = int(max(one.max(), other.max())) + 1
    low, high = np.minimum(one, other), np.maximum(one, other)
    cells = np.where(one <= other, cells, turned[cells])
    pairs, where = np.unique(low * size + high, return_inverse=True)
    by_pair = np.zeros((len(pairs), 9))
    np.add.at(by_pair, (where, cells), 1)
    place = rng.random((trials, size))
    flipped = place[:, pairs // size] > place[:, pairs % size]
    return _correlations(~flipped @ by_pair + flipped @ by_pair[:, turned])


def _correlations(tables: NDArray[Any]) -> Floats:
    """float64 [T]: Pearson's r of each table [T, 9] of codes."""
    counts = tables.reshape(len(tables), 3, 3).astype(np.float64)
    values = np.array([A, B, NONE], dtype=np.float64)
    n = counts.sum(axis=(1, 2))
    x, y = counts.sum(axis=2), counts.sum(axis=1)
    mean_x, mean_y = x @ values / n, y @ values / n
    covariance = np.einsum("tij,i,j->t", counts, values, values) / n - mean_x * mean_y
    spread = (x @ values**2 / n - mean_x**2) * (y @ values**2 / n - mean_y**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(covariance / np.sqrt(spread))


def _number(value: Any) -> float:
    if isinstance(value, str) and value[:1] == "[":
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return float("nan")
    if isinstance(value, list):
        return max((_number(one) for one in value), default=float("nan"))
    try:
        return float("nan") if value is None else float(value)
    except (TypeError, ValueError):
        return float("nan")
