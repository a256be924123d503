"""Scores of written texts as sums over records: any resample is a product of matrices. Knows no model.

`statistics` gives for each score a row of numbers a record; a weighted sum of these rows gives the score
(`finish`). BLEU and chrF are sacreBLEU's own, from its statistics of segments and its formulas (Post 2018).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from karat import errors
from karat.texts.languages import script_of
from karat.training.base import Floats, Weighed, Written

Tokeniser = Literal["13a", "zh", "char"]

MORE_IS_BETTER = {
    "bleu": True,
    "chrf": True,
    "rouge_l": True,
    "exact_match": True,
    "perplexity": False,
    "bits_per_byte": False,
}
"""The scores, and whether more is better; BLEU and chrF are of 100, ROUGE-L and exact match of 1."""

_OWN = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_OWN}]|[^\W_{_OWN}]+")
_LOOKED = 200  # references that are asked for their script


def statistics(answers: Written | Weighed) -> dict[str, Floats]:
    """Return for each score that the answers allow what it needs of each record, float64 [n, k].

    Texts need references. Raises MissingExtra without sacrebleu, InputError where references are missing.
    """
    found: dict[str, Floats] = {}
    if isinstance(answers, Weighed):
        nats = np.asarray(answers.surprise, dtype=np.float64)
        found["perplexity"] = np.column_stack([nats, answers.tokens]).astype(np.float64)
        found["bits_per_byte"] = np.column_stack([nats, answers.bytes]).astype(np.float64)
        return found
    if answers.references is None:
        raise errors.InputError("written texts have no references to be scored against; give their targets")
    found |= compared(answers.texts, answers.references)
    if answers.surprise is not None and answers.tokens is not None:
        found["perplexity"] = np.column_stack([answers.surprise, answers.tokens]).astype(np.float64)
    return found


def compared(texts: Sequence[str], references: Sequence[str]) -> dict[str, Floats]:
    """Return the statistics of the scores that compare each text with one reference."""
    if len(texts) != len(references):
        raise errors.InputError(f"{len(texts)} texts cannot be scored against {len(references)} references")
    return {
        "bleu": _segments(_bleu(tokeniser_for(references)), texts, references, 10),
        "chrf": _segments(_chrf(), texts, references, 18),
        "rouge_l": _with_ones([rouge_l(text, reference) for text, reference in zip(texts, references)]),
        "exact_match": _with_ones(
            [float(text.strip() == reference.strip()) for text, reference in zip(texts, references)]
        ),
    }


def finish(name: str, totals: Floats) -> Floats:
    """Return the score [t] of each row of summed statistics [t, k]; a mean of nothing is nan."""
    totals = np.asarray(totals, dtype=np.float64)
    if name == "bleu":
        return _bleu_of(totals)
    if name == "chrf":
        chrf = _chrf()
        scores = [chrf._compute_f_score(row.tolist()) for row in totals]
        return np.asarray(scores, dtype=np.float64).reshape(-1)
    if name not in MORE_IS_BETTER:
        raise errors.UnknownPart(
            f"no score of written texts is named {name!r}{errors.did_you_mean(name, MORE_IS_BETTER)}"
        )
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean: Floats = np.where(totals[:, 1] > 0, totals[:, 0] / totals[:, 1], np.nan)
        if name == "perplexity":
            return np.exp(mean)
        return mean / np.log(2) if name == "bits_per_byte" else mean


def signature(name: str, references: Sequence[str] = ()) -> str:
    """Return how a score is made, for BLEU and chrF in sacreBLEU's own words."""
    if name in ("bleu", "chrf"):
        metric = _bleu(tokeniser_for(references)) if name == "bleu" else _chrf()
        metric.num_refs = 1
        return str(metric.get_signature())
    told = {
        "rouge_l": "rouge_l|f:1|tokens:letters_and_digits|case:lc|stem:no|mean:segments",
        "exact_match": "exact_match|strip:yes|case:mixed",
        "perplexity": "perplexity|per:token|end:yes",
        "bits_per_byte": "bits_per_byte|bytes:utf-8|end:yes",
    }
    if name not in told:
        raise errors.UnknownPart(
            f"no score of written texts is named {name!r}{errors.did_you_mean(name, MORE_IS_BETTER)}"
        )
    return told[name]


def tokeniser_for(references: Sequence[str]) -> Tokeniser:
    """Return sacreBLEU's tokeniser for the script of most references: 13a needs spaces between words."""
    scripts = Counter(script_of(text) for text in references[:_LOOKED])
    scripts.pop("", None)
    most = scripts.most_common(1)[0][0] if scripts else ""
    # Japanese has many Han characters; any kana in numbers tell it from Chinese.
    if most == "han" and scripts["kana"] * 10 > scripts["han"]:
        most = "kana"
    return "zh" if most == "han" else "char" if most in ("kana", "thai") else "13a"


def words(text: str) -> list[str]:
    """Runs of letters and digits in lower case: those of rouge_score on ASCII, and of other scripts too.

    Where a script has no spaces, each character is a word.
    """
    return _WORD.findall(text.lower())


def rouge_l(text: str, reference: str) -> float:
    """ROUGE-L F: 2 LCS / (a + b), LCS the longest common subsequence of words (Lin 2004); 0 for no words."""
    from rapidfuzz.distance import LCSseq

    said, wanted = words(text), words(reference)
    if not said or not wanted:
        return 0.0
    return 2 * float(LCSseq.similarity(said, wanted)) / (len(said) + len(wanted))


def _bleu_of(totals: Floats) -> Floats:
    """BLEU [t] of sums [t, 10]: lengths of texts and references, four numbers of matches, four of n-grams.

    Here and not sacreBLEU's `compute_bleu`, which takes whole numbers only: weights need not be whole. As
    there, an order without a match counts as half (a quarter, ...) of one match, and one without n-grams
    ends the list (Chen and Cherry 2014, method 3).
    """
    said, wanted, matches, grams = totals[:, 0], totals[:, 1], totals[:, 2:6], totals[:, 6:]
    with np.errstate(divide="ignore", invalid="ignore"):
        brevity = np.where(said < wanted, np.where(said > 0, np.exp(1 - wanted / said), 0.0), 1.0)
        halved = 0.5 ** np.cumsum(matches == 0, axis=1)
        precision = np.where(matches == 0, halved, matches) / grams
        ended = np.logical_or.accumulate(grams == 0, axis=1).any(axis=1)
        score: Floats = 100 * brevity * np.exp(np.log(precision).mean(axis=1))
    return np.where(ended | ~matches.any(axis=1), 0.0, score)


def _with_ones(values: Sequence[float]) -> Floats:
    """Values [n] beside a column of ones, of which the mean is made."""
    return np.column_stack([np.asarray(values, dtype=np.float64), np.ones(len(values))])


def _segments(metric: Any, texts: Sequence[str], references: Sequence[str], width: int) -> Floats:
    if not len(texts):
        return np.zeros((0, width))
    return np.asarray(
        metric._extract_corpus_statistics(list(texts), [list(references)]), dtype=np.float64
    ).reshape(len(texts), width)


def _bleu(tokeniser: Tokeniser) -> Any:
    # `force` only keeps it from warning about texts that end in a detached full stop.
    return _sacrebleu().BLEU(tokenize=tokeniser, force=True)


def _chrf() -> Any:
    return _sacrebleu().CHRF()


def _sacrebleu() -> Any:
    try:
        import sacrebleu.metrics
    except ImportError:
        raise errors.missing_extra("sacrebleu", "mt", "scoring written texts") from None
    return sacrebleu.metrics
