"""Which script and which of some large languages a text is in, by signs and small words. Knows no model.

Meant to tell a German answer from an English one, not to name every language: where the signs are few, or
those of two languages are about as many, nothing is said.
"""

# ruff: noqa: E501 - lists of words

from __future__ import annotations

import re
from collections import Counter

# script -> its characters; a language that alone of the large ones uses it
_SCRIPTS: dict[str, tuple[str, str]] = {
    "latin": ("A-Za-z\u00c0-\u024f\u1e00-\u1eff", ""),
    "cyrillic": ("\u0400-\u052f", ""),
    "greek": ("\u0370-\u03ff", "el"),
    "hebrew": ("\u0590-\u05ff", "he"),
    "arabic": ("\u0600-\u06ff\u0750-\u077f", ""),
    "devanagari": ("\u0900-\u097f", ""),
    "thai": ("\u0e00-\u0e7f", "th"),
    "hangul": ("\u1100-\u11ff\uac00-\ud7af", "ko"),
    "kana": ("\u3040-\u30ff", "ja"),
    "han": ("\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff", "zh"),
}
_SIGNS = {name: re.compile(f"[{signs}]") for name, (signs, _) in _SCRIPTS.items()}
_WORD = re.compile(r"[^\W\d_]+(?:['’](?=[^\W\d_]))?")
# Letters of Polish, Czech, Turkish, Romanian ... that none of the languages below has, but for names.
_FOREIGN = re.compile("[\u0100-\u0151\u0154-\u0177\u0179-\u017f\u0218-\u021b\u1e00-\u1eff]")
_LOOKED = 2_000  # characters of a text that are looked at
_LEAST = 2  # small words that must be there
_SHARE = 0.2  # of all words; running text of these languages has twice as many
_CLEAR = 1.5  # times as many as of the next language

# The most frequent small words of each language, those of two languages in both.
_SMALL: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "en": "a the of and to in is was for that it with as his he her she be on at by not but are this have"
        " from had i you they an were which we all their there been has when who will would more no out so"
        " up said what its about than them can only other my your our me if do did how don't it's i'm",
        "de": "der die das und ist nicht ein eine einen einem einer zu den dem des mit auf für von sich im"
        " ich sie er es wir ihr du auch als an aus bei nach wie war hat haben sind wird werden kann noch nur"
        " aber oder wenn dass daß über vor zum zur sein mein meine mich dich mir dir uns keine was schon so",
        "fr": "le la les de des du et est un une en que qui dans pour pas sur au aux avec ce cette il elle"
        " nous vous ils elles je tu ne se sont plus par mais ou où son sa ses leur été être avoir fait comme"
        " tout très si on même aussi bien c' l' d' j' n' s' qu' mon ma mes",
        "es": "el la los las de del y es un una en que por para con no se su sus lo al como más pero este esta"
        " son fue ser ha muy también hay yo tú él ella nosotros mi me te le nos ya si sin sobre entre cuando"
        " todo porque está estoy qué",
        "it": "il lo la gli le di del della dei delle e è un una in che per con non si su al alla da dal come"
        " più ma questo questa sono ha ho anche mi ti ci io tu lui lei noi se nel nella era essere molto"
        " tutto perché quando c' l' d' un' dell' all' nell'",
        "pt": "o a os as de do da dos das e é um uma em no na nos nas que por para com não se seu sua ao à como"
        " mais mas este esta são foi ser tem muito também eu você ele ela nós meu minha me lhe já ou sem sobre"
        " quando isso está",
        "nl": "de het een en van is in op te dat die niet met voor zijn aan er om ook als maar bij uit naar nog"
        " ik je hij zij ze we wij jij u mijn heeft hebben wordt worden kan wat was door over deze dit geen zo"
        " dan al hun",
    }.items()
}


def script_of(text: str) -> str:
    """The script of most letters of a text; empty where it has none."""
    counts = {name: len(signs.findall(text[:_LOOKED])) for name, signs in _SIGNS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else ""


def language_of(text: str) -> str:
    """The code of the language of a text (en, de, fr, es, it, pt, nl, zh, ja, ko, el, he, th, ru), or empty.

    Cyrillic is taken for Russian only where none of the letters of its neighbours occur.
    """
    text = text[:_LOOKED]
    script = script_of(text)
    if script == "latin":
        return _latin(text)
    if script == "han":  # Japanese mixes in kana
        return "ja" if len(_SIGNS["kana"].findall(text)) * 10 > len(_SIGNS["han"].findall(text)) else "zh"
    if script == "cyrillic":
        return "" if re.search("[іїєґўјљњћђџѓќѕІЇЄҐЎЈЉЊЋЂЏ]", text) else "ru"
    return _SCRIPTS[script][1] if script else ""


def _latin(text: str) -> str:
    if 50 * len(_FOREIGN.findall(text)) > len(text):
        return ""
    found: Counter[str] = Counter()
    words = _WORD.findall(text.lower().replace("’", "'"))
    for word in words:
        for language, small in _SMALL.items():
            found[language] += word in small
    (best, most), (_, second) = found.most_common(2) if len(found) > 1 else (("", 0), ("", 0))
    enough = most >= max(_LEAST, _SHARE * len(words)) and most >= _CLEAR * second
    return best if enough else ""


_NAMES = {
    "en": "english englisch anglais inglés inglese inglês engels английский 英语 英語 영어",
    "de": "german deutsch allemand alemán tedesco alemão duits немецкий 德语 德語 ドイツ語 독일어",
    "fr": "french französisch français francés francese francês frans французский 法语 法語 フランス語 프랑스어",
    "es": "spanish spanisch espagnol español castellano spagnolo espanhol spaans испанский 西班牙语 スペイン語 스페인어",
    "it": "italian italienisch italien italiano italiaans итальянский 意大利语 イタリア語 이탈리아어",
    "pt": "portuguese portugiesisch portugais portugués portoghese português portugees португальский 葡萄牙语 ポルトガル語",
    "nl": "dutch niederländisch néerlandais neerlandés holandés olandese holandês nederlands нидерландский 荷兰语",
    "ru": "russian russisch russe ruso russo русский 俄语 俄語 ロシア語 러시아어",
    "zh": "chinese chinesisch chinois chino cinese chinês chinees китайский 中文 汉语 漢語 中国語 중국어",
    "ja": "japanese japanisch japonais japonés giapponese japonês japans японский 日语 日語 日本語 일본어",
    "ko": "korean koreanisch coréen coreano koreaans корейский 韩语 韓語 韓国語 한국어",
    "el": "greek griechisch grec griego greco grego grieks греческий ελληνικά",
    "he": "hebrew hebräisch hébreu hebreo ebraico hebraico hebreeuws иврит עברית",
    "th": "thai thailändisch thaï tailandés тайский ไทย",
}
_CODES = {name: code for code, names in _NAMES.items() for name in (code, *names.split())}


def code_of(name: str) -> str:
    """The code of a language that is told apart here, from its code or name (German, de-AT); else empty."""
    folded = name.strip().casefold()
    return _CODES.get(folded) or _CODES.get(re.split(r"[-_ ()]", folded)[0], "")
