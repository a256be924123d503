"""What the filters promise, on planted cases and on human data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from karat import records, registry
from karat.curation.base import Verdicts, normalised
from karat.curation.filters.refusals import refusal
from karat.errors import BadSetting
from karat.records import Records

REFUSALS = {
    "en": [
        "I'm sorry, but I can't help you with that.",
        "I’m sorry, but I cannot assist with that request.",
        "As an AI language model, I don't have personal opinions.",
        "Unfortunately, I am unable to fulfill your request.",
        "I cannot engage in this type of conversation.",
        "I apologize, but I cannot generate content of that nature.",
        "I'm just a language model and cannot feel.",
    ],
    "de": [
        "Es tut mir leid, aber ich kann dir dabei nicht helfen.",
        "Als KI-Sprachmodell habe ich keine eigene Meinung.",
        "Leider kann ich diese Anfrage nicht beantworten.",
    ],
    "fr": [
        "Je suis désolé, mais je ne peux pas vous aider avec cette demande.",
        "En tant que modèle de langage, je n'ai pas d'opinion.",
    ],
    "es": ["Lo siento, pero no puedo ayudarte con eso.", "Como modelo de lenguaje, no tengo opiniones."],
    "it": [
        "Mi dispiace, ma non posso aiutarti con questa richiesta.",
        "Come modello linguistico, non ho gusti.",
    ],
    "pt": ["Desculpe, mas não posso ajudar com isso.", "Como modelo de linguagem, não tenho opiniões."],
    "nl": ["Het spijt me, maar ik kan je daar niet mee helpen.", "Als AI-taalmodel heb ik geen mening."],
    "ru": ["Извините, но я не могу помочь с этим.", "Как языковая модель, я не имею мнения."],
    "zh": [
        "很抱歉，我无法提供这样的内容。",
        "作为一个人工智能语言模型，我没有感情。",
        "對不起，我無法回答這個問題。",
    ],
    "ja": [
        "申し訳ありませんが、そのリクエストにはお答えできません。",
        "AI言語モデルとして、私は意見を持ちません。",
    ],
    "ko": ["죄송하지만 그 요청은 도와드릴 수 없습니다.", "저는 인공지능 언어 모델로서 의견이 없습니다."],
}
NO_REFUSALS = [
    "I'm sorry for your loss.",
    "Sorry, I can't make it tonight.",
    "I'm sorry, but I can't support your opinion in this matter.",
    "I can't help but love this film",
    "a sorry excuse for a movie that cannot answer its own question",
    "I am sorry but my card has not arrived, can you help?",
    "I'm unable to complete my top up",
    "She works as an AI researcher.",
    "Tut mir leid, ich kann heute nicht kommen.",
    "Leider kann ich nicht schlafen.",
    "Je suis désolé, je ne peux pas venir.",
    "Lo siento, no puedo ir.",
    "Scusa, non posso venire.",
    "Desculpe, não posso ir hoje.",
    "Sorry, ik kan morgen niet komen.",
    "К сожалению, я не могу прийти.",
    "对不起，我来晚了。",
    "すみません、駅はどこですか。",
    "죄송합니다, 늦었습니다.",
]


def of(*texts: str) -> Records:
    return records.from_rows([{"text": text} for text in texts], datatype="text", path="rows.jsonl")


# What a filter needs to be told before it can judge anything.
NEEDED = {
    "decontaminate": "decontaminate:{path}",
    "metric_threshold": "metric_threshold:by=score,low=0.3",
    "worst": "worst:by=random",
}


def test_every_filter_gives_a_reason_for_each_dropped_record_and_no_other(tmp_path: Path) -> None:
    """The contract of the shelf: a verdict for each record, a reason exactly where it is dropped."""
    texts = ["", "ok", "ok", "As an AI language model, I refuse.", "word " * 50]
    rows = [{"text": text, "label": f"c{k % 2}", "score": k / 4} for k, text in enumerate(texts)]
    found = records.from_rows(rows)
    human = records.from_rows([{"text": f"a human text of number {k}", "label": "c0"} for k in range(30)])
    path = human.write(tmp_path / "test.jsonl")
    for name in registry.names("filters"):
        part = registry.make("filters", NEEDED.get(name, name).format(path=path))
        verdicts = part.judge(found, human)
        assert len(found) == len(verdicts.kept), name
        assert set(np.flatnonzero(~verdicts.kept).tolist()) == set(verdicts.reasons), name
        assert all(verdicts.reasons.values()), name


def test_a_missing_label_is_no_class() -> None:
    """Records without a label are dropped and change no share; of all without one, the error says so."""
    labels = ["a", "a", "a", "b", "b", None, None, None, None]
    rows = [{"text": f"t {k}", "label": label} for k, label in enumerate(labels)]
    verdicts = registry.make("filters", "class_balance").judge(records.from_rows(rows, datatype="text"))
    assert [False] * 4 == verdicts.kept[5:].tolist()
    assert 4 == int(verdicts.kept.sum())
    assert "no label" in verdicts.reasons[5] and "class 'a' has 3" in str(list(verdicts.reasons.values()))
    none = records.from_rows(rows, datatype="text").where(np.arange(9) >= 5)
    with pytest.raises(BadSetting, match="--label-field"):
        registry.make("filters", "class_balance").judge(none)


def test_a_verdict_without_a_reason_cannot_be_made() -> None:
    """Dropping without a reason is our own mistake and is caught at once."""
    with pytest.raises(AssertionError, match="reason"):
        Verdicts(np.array([True, False]), {})


def test_a_copy_is_dropped_and_its_reason_names_the_first_one() -> None:
    """The first of equal texts stays; case, spaces, quotes and stops do not make a text another text."""
    found = of("Hello, world!", "other", "hello  world", "Hello, world!", "It’s fine", "its fine.")
    loose = registry.make("filters", "exact_duplicates").judge(found)
    assert {2: "copy of rows.jsonl:1", 3: "copy of rows.jsonl:1", 5: "copy of rows.jsonl:5"} == loose.reasons
    strict = registry.make("filters", "exact_duplicates:normalise=false").judge(found)
    assert {3: "copy of rows.jsonl:1"} == strict.reasons


def test_signs_that_carry_the_meaning_keep_texts_apart() -> None:
    """Sums, formulas and texts of signs only are not copies of each other."""
    texts = ["5 + 3", "5 * 3", "(a&b)|c", "a&(b|c)", "!!", "??", ":-)", ":-(", "की", "कि", "-3", "+3"]
    assert len(texts) == len({normalised(text) for text in texts})


def test_equal_texts_with_two_labels_may_both_stay() -> None:
    """With labels=true only the same text with the same label is a copy."""
    rows = [{"text": "fine", "label": "a"}, {"text": "fine", "label": "b"}, {"text": "Fine.", "label": "a"}]
    found = records.from_rows(rows)
    assert [True, False, False] == registry.make("filters", "exact_duplicates").judge(found).kept.tolist()
    by_label = registry.make("filters", "exact_duplicates:labels=true").judge(found)
    assert [True, True, False] == by_label.kept.tolist()


def test_copies_of_the_reference_go_only_on_request() -> None:
    """against_reference drops copies of human records and names them."""
    candidate, reference = of("seen before", "new"), of("Seen before.")
    plain = registry.make("filters", "exact_duplicates").judge(candidate, reference)
    assert {} == dict(plain.reasons)
    strict = registry.make("filters", "exact_duplicates:against_reference=true").judge(candidate, reference)
    assert {0: "copy of rows.jsonl:1 of the reference"} == strict.reasons


def test_the_reason_of_a_length_names_the_number_and_the_bound() -> None:
    """3 tokens under min=5; signs are tokens, characters of Chinese too."""
    found = of("one two three", "a b c d e f", "a b c d e f g h i", "一二三四五")
    verdicts = registry.make("filters", "length:min=5,max=8").judge(found)
    assert {0: "3 tokens, under min=5", 2: "9 tokens, over max=8"} == verdicts.reasons


def test_length_bounds_can_come_from_the_reference() -> None:
    """Quantiles of the reference's lengths bound the candidate."""
    reference = of(*("w " * n for n in range(1, 101)))
    verdicts = registry.make("filters", "length:low=0.1,high=0.9").judge(
        of("w " * 5, "w " * 50, "w " * 99), reference
    )
    assert [False, True, False] == verdicts.kept.tolist()
    assert "5 tokens, under 11, the 0.1 quantile of the reference" == verdicts.reasons[0]
    with pytest.raises(BadSetting, match="--reference"):
        registry.make("filters", "length:low=0.1").judge(reference, None)


def test_impossible_length_bounds_are_refused() -> None:
    """A bad setting is named with its value and the cure."""
    with pytest.raises(BadSetting, match="max=2 is below min=5"):
        registry.make("filters", "length:min=5,max=2")


@pytest.mark.parametrize("language", sorted(REFUSALS))
def test_refusals_are_found_in_each_language(language: str) -> None:
    """Planted refusals of eleven languages are all found, also by the patterns of that language alone."""
    for text in REFUSALS[language]:
        assert refusal(text), text
        assert f"({language})" in refusal(text, (language,)), text


@pytest.mark.parametrize("text", NO_REFUSALS)
def test_people_may_be_sorry(text: str) -> None:
    """An apology is no refusal."""
    assert "" == refusal(text)


@pytest.mark.parametrize(
    ("file", "where", "bound"),
    [
        ("nltk_sentence_polarity/sentence_polarity.jsonl.gz", [], 0),
        ("banking77/banking77.jsonl.gz", [], 0),
        ("wvg_tendim/wvg_tendim.jsonl.gz", ["origin=human"], 0),
    ],
)
def test_human_texts_are_not_taken_for_refusals(
    data_dir: Path, file: str, where: list[str], bound: int
) -> None:
    """The rate of false alarms on 31,000 human texts is zero; some of them say sorry."""
    found = records.read(data_dir / file, where=where)
    verdicts = registry.make("filters", "refusals").judge(found)
    assert bound == len(verdicts.reasons), list(verdicts.reasons.items())[:5]


def test_a_refusal_in_real_llm_data_is_found(data_dir: Path) -> None:
    """The published wvg sets hold a few refusals of GPT-3.5; each reason quotes what was found."""
    found = records.read(data_dir / "wvg_tendim/wvg_tendim.jsonl.gz", where=["split=synthetic_train"])
    verdicts = registry.make("filters", "refusals").judge(found)
    assert 1 <= len(verdicts.reasons) <= 15
    assert any("as an ai language model" in reason for reason in verdicts.reasons.values())
