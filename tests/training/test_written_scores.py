from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest

from karat.errors import BadSetting, InputError, UnknownPart
from karat.training import translation_errors as checks
from karat.training.base import Weighed, Written
from karat.training.written import (
    MORE_IS_BETTER,
    finish,
    rouge_l,
    signature,
    statistics,
    tokeniser_for,
    words,
)

sacrebleu = pytest.importorskip("sacrebleu")

VOCABULARY = "the a cat dog sat ran on mat, 3.5 Tom's it's (not) big old: sah über straße .".split()


def random_texts(n: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts that share some words with their references; some are empty, some the reference itself."""
    draw = np.random.default_rng(seed)
    texts, references = [], []
    for i in range(n):
        reference = list(draw.choice(VOCABULARY, draw.integers(1, 12)))
        text = [str(word) if draw.random() < 0.7 else str(draw.choice(VOCABULARY)) for word in reference]
        texts.append(
            "" if i % 7 == 3 else " ".join(reference if i % 5 == 0 else text[: draw.integers(1, 13)])
        )
        references.append(" ".join(reference))
    return texts, references


def answers(texts, references, **more) -> Written:
    return Written(tuple(map(str, range(len(texts)))), tuple(texts), tuple(references), **more)


def score(name: str, found: dict[str, np.ndarray], weights: np.ndarray) -> np.ndarray:
    return finish(name, weights @ found[name])


PEERS = {"bleu": "corpus_bleu", "chrf": "corpus_chrf"}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("seed", range(4))
def test_all_ones_give_sacrebleu(name, seed) -> None:
    """Weights of one give the number of the library, with empty texts among them."""
    texts, references = random_texts(60, seed)
    peer = getattr(sacrebleu, PEERS[name])(texts, [references]).score
    found = statistics(answers(texts, references))
    assert peer == pytest.approx(score(name, found, np.ones((1, 60)))[0], abs=1e-9)


@pytest.mark.parametrize("name", PEERS)
def test_whole_weights_are_repeated_segments(name) -> None:
    """A weight of three counts a record three times, one of zero leaves it out: a bootstrap by products."""
    texts, references = random_texts(40, 9)
    found = statistics(answers(texts, references))
    weights = np.random.default_rng(0).poisson(1, (20, 40))
    expected = []
    for row in weights:
        again = [i for i, times in enumerate(row) for _ in range(times)]
        call = getattr(sacrebleu, PEERS[name])
        expected.append(call([texts[i] for i in again], [[references[i] for i in again]]).score)
    assert expected == pytest.approx(score(name, found, weights).tolist(), abs=1e-9)


@pytest.mark.parametrize(
    "texts", [["", ""], ["x y", "z"], ["the cat sat on", ""], ["the", "cat"], ["mat the x on sat", "cat"]]
)
def test_few_matches_are_smoothed_as_sacrebleu_does(texts) -> None:
    """No text at all, no match at all, too few words for four-grams, and several orders without a match."""
    references = ["the cat sat on the mat", "cat"]
    found = statistics(answers(texts, references))
    for name, call in PEERS.items():
        peer = getattr(sacrebleu, call)(texts, [references]).score
        assert peer == pytest.approx(score(name, found, np.ones((1, 2)))[0], abs=1e-9)


def test_signatures_are_those_of_sacrebleu() -> None:
    """They name the references, case, tokeniser, smoothing and version."""
    bleu, chrf = sacrebleu.BLEU(), sacrebleu.CHRF()
    for metric in (bleu, chrf):
        metric.corpus_score(["a"], [["a"]])
    assert str(bleu.get_signature()) == signature("bleu", ["a cat"])
    assert str(chrf.get_signature()) == signature("chrf")
    assert "tok:zh" in signature("bleu", ["一只猫坐在垫子上"])
    assert len(MORE_IS_BETTER) == len({signature(name) for name in MORE_IS_BETTER})


def test_scripts_without_spaces_get_a_tokeniser_of_their_own() -> None:
    """13a would take a Chinese sentence for one word, and BLEU would be 0."""
    assert ("13a", "zh", "char", "char") == tuple(
        tokeniser_for([text]) for text in ("Straße", "猫在垫子上", "猫はマットの上にいる", "แมวนั่งบนเสื่อ")
    )
    found = statistics(answers(["一只猫坐在垫子上面"], ["一只猫坐在垫子上"]))
    assert 60 < score("bleu", found, np.ones((1, 1)))[0] < 100
    assert "猫 ran 3 km".split() == words("猫 ran 3 km!")


def test_rouge_l_is_the_longest_common_subsequence() -> None:
    """Against all subsequences of short texts, tokenised as rouge_score does (a to z and digits)."""

    def brute(text: str, reference: str) -> float:
        said, wanted = (re.sub(r"[^a-z0-9]+", " ", t.lower()).split() for t in (text, reference))
        common = 0
        for mask in product((False, True), repeat=len(said)):
            part = [word for word, keep in zip(said, mask) if keep]
            rest = iter(wanted)
            if all(word in rest for word in part):
                common = max(common, len(part))
        if not common:
            return 0.0
        precision, recall = common / len(said), common / len(wanted)
        return 2 * precision * recall / (precision + recall)

    draw = np.random.default_rng(3)
    for _ in range(60):
        text, reference = (
            " ".join(draw.choice(["A", "b,", "c", "d-e", "5."], draw.integers(0, 8))) for _ in "ab"
        )
        assert brute(text, reference) == pytest.approx(rouge_l(text, reference), abs=1e-12)


def test_means_and_likelihoods() -> None:
    """Exact match and ROUGE-L are means; perplexity is exp of nats a token; bits a byte are by ln 2."""
    nats, tokens = np.array([2.0, 6.0]), np.array([2, 2])
    found = statistics(answers([" a b", "c"], ["a b ", "d"], surprise=nats, tokens=tokens))
    ones = np.ones((1, 2))
    assert (0.5, 0.5) == (score("exact_match", found, ones)[0], score("rouge_l", found, ones)[0])
    assert np.exp(2) == pytest.approx(score("perplexity", found, ones)[0])
    weighed = statistics(Weighed(("a", "b"), nats, tokens, np.array([4, 12])))
    assert {"perplexity", "bits_per_byte"} == set(weighed)
    assert 0.5 / np.log(2) == pytest.approx(score("bits_per_byte", weighed, ones)[0])
    assert np.isnan(score("perplexity", found, 0 * ones)[0])
    assert set(found) | set(weighed) == set(MORE_IS_BETTER)


def test_what_cannot_be_scored_is_said() -> None:
    """No references, unequal numbers, an unknown score."""
    with pytest.raises(InputError, match="no references"):
        statistics(Written(("a",), ("x",)))
    with pytest.raises(InputError, match="2 texts"):
        statistics(answers(["a", "b"], ["a"]))
    with pytest.raises(UnknownPart, match="did you mean 'bleu'"):
        finish("blue", np.ones((1, 2)))


# ----------------------------------------------------------------------------- what is plainly wrong


def test_copies_are_found_but_not_names() -> None:
    """A sentence that was left as it stood; a name alone is the same in both languages."""
    sources = ["Wo ist denn der Hund?", "Wo ist denn der Hund?", "Tom!", "Ich habe es dir schon gesagt"]
    texts = ["wo ist denn der Hund", "Where is the dog?", "Tom!", "I told you so already"]
    assert [True, False, False, False] == checks.copied(sources, texts).tolist()


def test_lengths_are_measured_against_what_is_usual() -> None:
    """An empty text, a cut one and one that runs on stand out from a hundred usual ones, and nothing else."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(20, 60, 100)
    sources = ["s" * n for n in lengths]
    texts = ["t" * int(n * draw.uniform(0.85, 1.15)) for n in lengths]
    usual = (list(sources), list(texts))
    sources += ["s" * 40] * 3
    texts += ["", "t" * 5, "t" * 200]
    expected = [False] * 100 + [True] * 3
    assert expected == checks.length_outliers(sources, texts).tolist()
    assert expected[-3:] == checks.length_outliers(sources[-3:], texts[-3:], usual=usual).tolist()


def test_numbers_must_be_those_of_the_source() -> None:
    """Decimal comma, thousands and other digits are no error; another number, or one more, is."""
    sources = ["3,5 Liter um 7:30", "10 000 Euro", "٣ قطط", "im Jahr 1990", "zwei 2"]
    texts = ["3.5 litres at 7.30", "10,000 euros", "3 cats", "in 1909", "2 2"]
    assert [False, False, False, True, True] == checks.number_mismatch(sources, texts).tolist()


def test_loops_are_found_unless_the_source_has_them() -> None:
    """A word or a phrase three times in a row; also in a script without spaces."""
    sources = ["ja", "nein", "nein nein nein", "ein Satz", "一个句子"]
    texts = ["I am not I am not I am not", "no, no", "no no no", "a b c d", "我知道我知道我知道我知道"]
    assert [True, False, False, False, True] == checks.loops(sources, texts).tolist()


def test_a_wrong_language_and_a_refusal_are_told() -> None:
    """German left standing is not English; an apology of an assistant is no translation."""
    texts = ["Ich habe es dir schon gesagt und das ist alles", "I told you that it is all there is", "Tom"]
    assert [True, False, False] == checks.wrong_language(texts, "English").tolist()
    with pytest.raises(BadSetting, match="Klingon"):
        checks.wrong_language(texts, "Klingon")
    assert [True, False] == checks.refused(
        ["I'm sorry, but I can't assist with that request.", "Sorry!"]
    ).tolist()


def test_all_checks_at_once() -> None:
    """Checks that need a language or references are left out without them."""
    assert {"copied", "length_outlier", "number_mismatch", "loop", "refused"} == set(
        checks.checked(["a"], ["b"])
    )
    found = checks.checked(["Hallo du"], ["xyz"], language="en", references=["hello you"])
    assert found["low_chrf"][0] and "wrong_language" in found
