"""What makes a text a refusal or boiler-plate of an assistant, in eleven languages. Knows no model.

A word like "sorry" is no evidence: people write it too. What counts is an apology or a bare "I" followed
by an inability to do what assistants are asked for ("I'm sorry, but I can't assist"), near the beginning
of the text, or a model speaking of itself ("As an AI language model") anywhere.
"""

# ruff: noqa: E501 - the parts of a pattern are easier to check where they are not broken up further

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

BEGINNING = 300
"""Characters in which a refusal must begin; further in, a text rather quotes or tells of one."""

# What assistants are asked for. What people say they cannot do too ("support your opinion") counts only
# with an object that names the request.
_DO = (
    r"(?:assist|help(?! (?:but|it|feeling|thinking))|fulfil+|comply|generate|create|provide|produce|write|engage"
    r"|answer|respond|accommodate)"
)
_MAY = r"(?:participate|engage|discuss|support|continue|offer|share|complete|process|condone)"
_REQUEST = (
    r"(?:(?:to|with|in|on|for) )?(?:that|this|these|those|your|such|the|any)(?: \w+){0,2}? "
    r"(?:requests?|types?|kinds?|sorts?|contents?|prompts?|tasks?|topics?|instructions?)"
)
_UNABLE = (
    r"(?:i|we)(?: \w+ly)? ?(?:can't|cannot|can not|won't|will not|'m unable to|am unable to|'m not able to"
    r"|am not able to|are unable to|'re unable to|must decline to|have to decline to|don't feel comfortable"
    r"|do not feel comfortable|'m not comfortable|am not comfortable)"
)

# language -> (a model speaks of itself, anywhere; a refusal, near the beginning); matched on folded text
_PATTERNS: dict[str, tuple[str, str]] = {
    "en": (
        r"\bas an? (?:ai|artificial intelligence)(?: language| chat| text-based)? ?"
        r"(?:model|assistant|system|program|chatbot)\b"
        r"|\bas a (?:large )?language model\b|\bas an (?:ai|artificial intelligence),? i\b"
        r"|\bas an (?:ai|artificial intelligence) (?:developed|created|trained|designed)\b"
        r"|\bi(?:'m| am) (?:just |only |merely )?an (?:ai|artificial intelligence)"
        r"(?=[,.!]| and | (?:developed|created|trained|designed|without)\b)"
        r"|\bas a helpful assistant, i (?:must|can't|cannot|am unable|'m unable|don't)\b"
        r"|\bi am a computer program\b"
        r"|\bi(?:'m| am) (?:just |only |merely )?an? (?:ai|artificial intelligence)(?: language)? "
        r"(?:model|assistant|program|chatbot)\b"
        r"|\bi(?:'m| am) (?:just |only |merely )?a (?:large )?language model\b"
        r"|\bas of my (?:last|latest|most recent) (?:knowledge )?update\b|\bmy (?:knowledge cut-?off|training data (?:only )?(?:goes|includes|ends|extends|was))\b"
        r"|\b(?:against|violates?|goes against) (?:my|openai's|our) (?:programming|content policy|use case policy"
        r"|usage policies|ethical guidelines)\b",
        rf"\b(?:sorry|apologi[sz]e|apologies|unfortunately|regret)\b[^.!?]{{0,70}}?\b{_UNABLE}(?: \w+ly)? "
        rf"(?:to )?{_DO}\b"
        rf"|\b{_UNABLE}(?: \w+ly)? (?:to )?(?:{_DO}|{_MAY}) {_REQUEST}\b"
        rf"|^\W*{_UNABLE} (?:assist|help)(?: you)? with (?:that|this)\b"
        rf"|^\W*{_UNABLE} (?:provide|generate|create|write|produce) (?:this|that|such an?) (?:text|content|answer|story|article"
        r"|review|message|example|request)(?=[.!,;]|$)"
        rf"|^\W*(?:(?:i'm |i am )?sorry,? (?:but )?|unfortunately,? )?{_UNABLE} (?:provide|suggest|offer|recommend|give)"
        r" (?:you )?(?:with )?(?:(?:a|an|any) )?(?:personal|medical|legal|financial|specific|list|methods?|advice|instructions"
        r"|information|assistance|guidance|real-time|verbatim|harmful|content)\b"
        rf"|^\W*(?:(?:i'm |i am )?sorry,? (?:but )?|unfortunately,? )?{_UNABLE} (?:(?:access|browse) (?:real-time|external|the internet"
        r"|the (?:full |specific )?(?:contents?|text) of)|predict the future)\b"
        r"|^\W*(?:i'm |i am )?sorry,? (?:but )?(?:it is|it's|that is|that's|this is) (?:not|against|un)(?: |-)?"
        r"(?:ethical|appropriate|within my|possible for me|something i can)\b"
        r"|^\W*(?:i'm |i am )?sorry,? (?:but )?i (?:do not|don't) have (?:access to|the ability to|the capability to"
        r"|(?:any )?(?:information|personal|real-time))\b"
        r"|\bi (?:must|have to) (?:respectfully )?(?:decline|refuse) to (?:assist|answer|comply|provide|generate)\b",
    ),
    "de": (
        r"\bals (?:ein(?:e)? )?(?:ki-?(?:sprach)?modell|ki-assistent(?:in)?|(?:großes )?sprachmodell)\b"
        r"|\bals (?:eine )?(?:ki|künstliche intelligenz) (?:kann|habe|bin|darf) ich\b"
        r"|\bich bin (?:nur |lediglich )?(?:ein |eine )?(?:ki-?(?:sprach)?modell|sprachmodell"
        r"|künstliche intelligenz|ki-assistent)",
        r"\b(?:tut mir(?: \w+)? leid|entschuldig\w+|leider|bedaure)\b[^.!?]{0,60}?"
        r"\b(?:kann ich|ich kann|darf ich|ich darf|werde ich)\b[^.!?]{0,60}?\b(?:nicht|keine?n?)\b[^.!?]{0,60}?"
        r"(?:helfen|erfüllen|beantworten|unterstützen|bereitstellen|erstellen|generieren|nachkommen|verfassen)\b",
    ),
    "fr": (
        r"\ben tant qu(?:e |'|')(?:modèle (?:de langage|linguistique|d'ia)|(?:une )?ia,|intelligence artificielle"
        r"|assistant (?:ia|virtuel))|\bje suis (?:juste |seulement )?un(?:e)? (?:modèle de langage|ia,"
        r"|intelligence artificielle)",
        r"\b(?:désolée?|excuse|excuses|malheureusement|regrette)\b[^.!?]{0,50}?\bje ne (?:peux|puis|pourrai|suis)\b"
        r"[^.!?]{0,40}?(?:aider|assister|fournir|répondre à (?:cette|votre)|générer|créer|écrire|accéder à (?:cette|votre)"
        r"|satisfaire|traiter|donner suite)",
    ),
    "es": (
        r"\bcomo (?:un )?(?:modelo (?:de )?(?:lenguaje|ia\b|inteligencia artificial)|asistente (?:de ia|virtual)\b)"
        r"|\bcomo (?:una )?(?:ia|inteligencia artificial), (?:no|yo|mi)\b"
        r"|\bsoy (?:solo |sólo )?(?:un modelo de lenguaje|una (?:ia|inteligencia artificial))",
        r"\b(?:lo siento|lamento|disculp\w+|perdón|lamentablemente)\b[^.!?]{0,50}?\bno (?:puedo|podré|me es posible"
        r"|soy capaz de)\b[^.!?]{0,30}?(?:ayudar|asistir|cumplir|proporcionar|generar|crear|escribir|responder|satisfacer)",
    ),
    "it": (
        r"\bcome (?:un )?(?:modello (?:di lingu|linguistic)|assistente (?:ia|ai|virtuale)\b)"
        r"|\b(?:come|in quanto) (?:un')?intelligenza artificiale, non\b"
        r"|\bsono (?:solo |soltanto )?(?:un modello linguistico|un'intelligenza artificiale)",
        r"\b(?:mi dispiace|spiacente|mi scuso|purtroppo)\b[^.!?]{0,50}?\bnon (?:posso|sono in grado di|mi è possibile)\b"
        r"[^.!?]{0,30}?(?:aiutar|assister|fornir|generar|crear|scriver|risponder|soddisfar|esaudir)",
    ),
    "pt": (
        r"\bcomo (?:um )?(?:modelo de (?:linguagem|língua|ia\b)|assistente (?:de ia|virtual)\b)"
        r"|\bcomo (?:uma )?(?:ia|inteligência artificial), (?:não|eu)\b"
        r"|\bsou (?:apenas |só )?(?:um modelo de linguagem|uma (?:ia|inteligência artificial))",
        r"\b(?:desculp\w+|sinto muito|lamento|infelizmente)\b[^.!?]{0,50}?\bnão (?:posso|consigo|poderei|sou capaz de)\b"
        r"[^.!?]{0,30}?(?:ajudar|ajudá|auxiliar|fornecer|gerar|criar|escrever|responder|atender|cumprir)",
    ),
    "nl": (
        r"\bals (?:een )?(?:ai-?(?: )?(?:taal)?model|(?:groot )?taalmodel|ai-assistent)\b"
        r"|\bals (?:kunstmatige intelligentie|ai) (?:kan|heb|ben) ik\b"
        r"|\bik ben (?:slechts |maar )?een (?:taalmodel|ai-(?:taal)?model|ai-assistent)",
        r"\b(?:spijt me|sorry|helaas|excuses)\b[^.!?]{0,50}?\b(?:kan ik|ik kan|mag ik)\b[^.!?]{0,50}?\b(?:niet|geen)\b"
        r"[^.!?]{0,50}?(?:helpen|voldoen|beantwoorden|verstrekken|genereren|assisteren|ingaan|schrijven)\b",
    ),
    "ru": (
        r"\bкак (?:большая )?(?:языковая модель|ии-?(?:модель|ассистент))|\bкак искусственный интеллект, я\b"
        r"|\bя\W+(?:всего лишь |просто )?(?:языковая модель|искусственный интеллект)",
        r"\b(?:извин\w+|прост\w+|к сожалению|прошу прощения|жаль)\b[^.!?]{0,50}?\bне (?:могу|смогу|в состоянии)\b"
        r"[^.!?]{0,40}?(?:помочь|помогать|выполнить|предоставить|создать|сгенерировать|написать|ответить на (?:этот|ваш))",
    ),
    "zh": (
        r"作[为為](?:一[个個名款种種])?(?:大型|大)?(?:人工智[能慧]|ai|[语語]言模型)(?:[语語]言)?(?:模型|助手)?[,、\s]*(?:我|[无無]法|不能)"
        r"|我(?:只)?是(?:一[个個款名])?(?:人工智[能慧]|ai|大?型?[语語]言模型)(?:模型|助手|[语語]言)?",
        r"(?:抱歉|[对對]不起|不好意思|[遗遺]憾)[^。!?]{0,15}?(?:[无無]法|不能|[没沒](?:有[办辦])?法|不便|不可以)"
        r"[^。!?]{0,12}?(?:提供|回答|[协協]助|[帮幫]助|[帮幫][您你]|[满滿]足|完成|生成|[处處]理|[讨討][论論]|[创創]作|撰[写寫])",
    ),
    "ja": (
        r"(?:ai|人工知能|言語モデル)(?:言語モデル|アシスタント|モデル)?(?:として(?:、|,|は|の私)|(?:である|な)ので|ですので|ですから|のため、)"
        r"|私は(?:ai|人工知能|大規模言語モデル|言語モデル)(?:アシスタント|言語モデル)?(?:です|であり|なので)",
        r"(?:申し訳|すみません|恐れ入ります|残念ながら|ごめんなさい)[^。]{0,60}?"
        r"(?:お手伝い|お答え|お応え|対応|提供|協力|生成|作成|支援|回答|従う|応じる)[^。]{0,12}?"
        r"(?:できません|出来ません|できかねます|いたしかねます|致しかねます|しかねます|できない)",
    ),
    "ko": (
        r"(?:\bai|인공지능|언어 ?모델)(?: ?언어 ?모델| ?모델| ?어시스턴트| ?비서)?(?:로서|이기 때문에|이므로|이라서|입니다)"
        r"|저는 (?:ai|인공지능|대규모 언어 ?모델|언어 ?모델)",
        r"(?:죄송|미안|유감)[^.!?]{0,50}?(?:도와 ?드릴|도움을 드릴|도울|제공|답변|대답|수행|생성|작성|처리|응)[^.!?]{0,12}?"
        r"(?:수(?:가|는)? ?없|어렵습니다|불가능)",
    ),
}

LANGUAGES = tuple(_PATTERNS)

# Whatever a pattern finds holds one of these, or signs from U+3040 on (Chinese, Japanese, Korean). Looking for
# them takes a fiftieth of the time of the patterns, and hardly any text has one.
_STEMS = (
    *(
        " ai",
        "artificial",
        "language model",
        "helpful assistant",
        "computer program",
        " update",
        "knowledge cut",
    ),
    *("training data", "programming", "policy", "policies", "guidelines"),
    *("can't", "cannot", "can not", "won't", "will not", "unable to", "able to", "decline to", "comfortable"),
    *("sorry", "refuse to"),
    *("modell", "ki-", "künstliche intelligenz", " ki ", "leid", "entschuldig", "bedaure"),
    *(
        "en tant qu",
        "modèle de langage",
        "intelligence artificielle",
        "ia,",
        "désolé",
        "excus",
        "malheureusement",
    ),
    *("regrette", "modelo", "asistente", "inteligencia", " ia", "lo siento", "lament", "disculp", "perdón"),
    *("modello", "assistente", "intelligenza", "dispiace", "spiacente", "scuso", "purtroppo"),
    *("inteligência", "desculp", "sinto muito", "infelizmente"),
    *("model", "ai-", "intelligentie", "spijt me", "helaas"),
    *("модель", "ассистент", "искусственный", "извин", "прост", "сожалению", "прощения", "жаль"),
)
_EAST = "\u3040"


def suspicious(folded: str) -> bool:
    """Whether a folded text may be a refusal at all."""
    return any(stem in folded for stem in _STEMS) or (not folded.isascii() and max(folded) >= _EAST)


def refusal(text: str, languages: tuple[str, ...] = LANGUAGES) -> str:
    """Return what makes a text a refusal, quoted; empty for any other text."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("‘", "'")
    if not suspicious(folded):
        return ""
    both, refusing = _compiled(languages)
    found = both.search(folded)
    kind = "speaks of itself as a model"
    if not found:
        found = refusing.search(folded, 0, BEGINNING + 200)
        kind = "refuses"
        if not found or found.start() > BEGINNING:
            return ""
    language = found.lastgroup
    quote = " ".join(found.group(0).split())
    return f'{kind} ({language}): "{quote if len(quote) <= 80 else quote[:79] + "…"}"'


@lru_cache(maxsize=16)
def _compiled(languages: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return one pattern for all languages each; the named group tells which language it was."""
    sides = []
    for side in (0, 1):
        parts = (f"(?P<{name}>{_folded(_PATTERNS[name][side])})" for name in languages)
        sides.append(re.compile("|".join(parts)))
    return sides[0], sides[1]


def _folded(pattern: str) -> str:
    # casefold turns ß into ss, and full-width punctuation is folded by NFKC: the patterns must match that
    return pattern.replace("ß", "ss")
