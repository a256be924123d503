"""What an assistant says around a text that it was asked for, in eleven languages. Knows no task.

A frame is taken off only where it is clearly one: an opening that announces a text and ends with a colon, a
bare "Certainly!" on a line of its own, a closing remark on the text itself ("Note: this is a fictional ...").
What people write at the end too ("I hope this helps") counts only where there was an opening as well.
"""

# ruff: noqa: E501 - the parts of a pattern are easier to check where they are not broken up further

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_LONGEST = 240  # characters of an announcement; a longer first line is the text
_REMARK = 600  # characters of a closing remark

# Yes: what an assistant says to being asked. Here: what announces a text. Noun: what is announced.
_YES: dict[str, str] = {
    "en": r"sure(?: thing)?|certainly|of course|absolutely|definitely|okay|ok|great|gladly|no problem|understood"
    r"|got it|alright|happy to help|i'd be (?:happy|glad) to(?: help)?(?: you)?(?: with (?:that|this))?|i can (?:certainly )?help with that",
    "de": r"natürlich|klar|gern(?:e)?|sicher|selbstverständlich|aber gern(?:e)?|verstanden|okay",
    "fr": r"bien sûr|certainement|d'accord|avec plaisir|volontiers|absolument|voilà|très bien",
    "es": r"claro(?: que sí)?|por supuesto|desde luego|con gusto|entendido|de acuerdo|¡?claro",
    "it": r"certo|certamente|ecco(?:ti)?|con piacere|d'accordo|va bene|naturalmente",
    "pt": r"claro|certamente|com certeza|com prazer|entendido|claro que sim",
    "nl": r"natuurlijk|zeker|uiteraard|graag(?: gedaan)?|oké|prima",
    "ru": r"конечно|разумеется|хорошо|с удовольствием|безусловно|понял",
    "zh": r"当然(?:可以)?|當然(?:可以)?|好的|没问题|沒問題|可以的",
    "ja": r"もちろん(?:です)?|承知(?:しました|いたしました)|かしこまりました|はい|わかりました",
    "ko": r"물론(?:입니다|이죠|이에요)?|네|알겠습니다|좋습니다",
}
_HERE: dict[str, str] = {
    "en": r"here(?:'s| is| are| goes| you go)|below (?:is|are)|the following (?:is|are)"
    r"|(?:i've|i have|i'll|i will|let me) (?:\w+ )?(?:written|write|created?|generated?|provided?|come up with)",
    "de": r"hier (?:ist|sind|kommt|ein)|nachfolgend|im folgenden|folgende[rs]?",
    "fr": r"voici|voilà|ci-dessous",
    "es": r"aquí (?:está|están|tienes?|hay|va|te dejo)|a continuación|he aquí",
    "it": r"ecco(?:ti|vi)?|di seguito|qui (?:c'è|trovi)",
    "pt": r"aqui (?:está|estão|vai|tem)|segue(?:m)?|abaixo (?:está|estão)",
    "nl": r"hier (?:is|zijn|volgt|komt|heb je)|hieronder|dit is een",
    "ru": r"вот|ниже (?:приведен\w*|представлен\w*)|привожу",
    "zh": r"以下(?:是|为|為)?|下面(?:是|为|為)|这是一[个個段篇则則条條]|這是一[個段篇則條]",
    "ja": r"以下(?:は|が|に|の)|こちら(?:は|が|に)|次の(?:よう|通り)",
    "ko": r"다음은|아래는|여기(?: 있습니다|에)?|아래와 같",
}
_NOUN: dict[str, str] = {
    "en": r"text|example|sample|sentence|paragraph|review|article|story|passage|snippet|version|draft|response"
    r"|answer|message|email|e-mail|letter|tweet|post|comment|headline|title|question|query|quer(?:y|ies)"
    r"|utterance|dialogue|conversation|poem|essay|abstract|description|summary|statement|instruction|prompt"
    r"|translation|rewrite|rewritten|paraphrase|report|json|output|record|item|list|entry|request|complaint",
    "de": r"text|beispiel\w*|satz|sätze|absatz|rezension|bewertung|artikel|geschichte|nachricht|antwort|version"
    r"|frage|anfrage|kommentar|übersetzung|entwurf|e-mail|vorschlag|titel|schlagzeile|dialog",
    "fr": r"texte|exemple|phrase|paragraphe|avis|critique|article|histoire|message|réponse|version|question"
    r"|commentaire|traduction|résumé|proposition|titre|dialogue|passage",
    "es": r"texto|ejemplo|frase|oración|párrafo|reseña|crítica|artículo|historia|mensaje|respuesta|versión"
    r"|pregunta|consulta|comentario|traducción|resumen|propuesta|título|diálogo",
    "it": r"testo|esempio|frase|paragrafo|recensione|articolo|storia|messaggio|risposta|versione|domanda"
    r"|commento|traduzione|riassunto|proposta|titolo|dialogo",
    "pt": r"texto|exemplo|frase|parágrafo|resenha|avaliação|artigo|história|mensagem|resposta|versão|pergunta"
    r"|consulta|comentário|tradução|resumo|proposta|título|diálogo",
    "nl": r"tekst|voorbeeld\w*|zin|alinea|recensie|artikel|verhaal|bericht|antwoord|versie|vraag|reactie"
    r"|vertaling|samenvatting|voorstel|titel|dialoog",
    "ru": r"текст\w*|пример\w*|предложени\w*|абзац\w*|отзыв\w*|стать\w*|истори\w*|сообщени\w*|ответ\w*|верси\w*"
    r"|вопрос\w*|комментари\w*|перевод\w*|вариант\w*|заголов\w*|диалог\w*",
    "zh": r"文本|例子|示例|样本|句子|段落|评论|評論|文章|故事|消息|回答|版本|问题|問題|翻译|翻譯|内容|內容|对话|對話|标题|標題",
    "ja": r"文章|例|例文|サンプル|レビュー|記事|物語|メッセージ|回答|質問|翻訳|テキスト|会話|タイトル|文",
    "ko": r"텍스트|예시|예|문장|단락|리뷰|기사|이야기|메시지|답변|질문|번역|글|대화|제목",
}
# A remark on the text that was written, in a last paragraph of its own.
_NOTE = (
    r"[\(\[\*_\s]*(?:please )?(?:note|disclaimer|hinweis|anmerkung|remarque|nota(?: bene)?|opmerking|let op|noot"
    r"|примечание|注意?|注記|说明|說明|참고)[\*_\s]*[:：,]?"
)
_MADE = (
    r"fictional|fictitious|made[- ]up|hypothetical|(?:an?|just an?|only an?) (?:\w+ )?example|sample (?:text|review)"
    r"|(?:ai|computer|machine)[- ]generated|generated by|this (?:text|review|response|sentence|message|article|story)"
    r"|word count|fiktiv|erfunden|ein beispiel|fictif|fictive|inventé|un exemple|fictici[oa]|inventad[oa]"
    r"|un ejemplo|inventat[oa]|fittizi[oa]|un esempio|um exemplo|verzonnen|fictief|een voorbeeld|вымышлен\w+|пример"
    r"|虚构|虛構|示例|架空|フィクション|サンプル|가상|예시"
)
_OFFER = (
    r"(?:please )?(?:let me know|feel free to (?:let me know|ask|modify|adjust|change|edit|use|customi[sz]e))"
    r"[^\n]*?\b(?:revis\w+|adjust\w*|modif\w+|chang\w+|edits?|tweak\w*|another (?:one|example|version)"
    r"|more examples|different|variations?|regenerate)\b"
    r"|would you like (?:me to (?:revise|adjust|change|modify|rewrite|write another|make (?:it|any))|another|any (?:changes|revisions))"
    r"|(?:soll|möchten sie|möchtest du)[^\n]*\b(?:anpass\w+|änder\w+|weitere beispiele)"
    r"|(?:n'hésitez pas|souhaitez-vous|voulez-vous)[^\n]*\b(?:modifi\w+|ajust\w+|d'autres exemples)"
    r"|(?:avísame|¿?te gustaría|¿?quieres)[^\n]*\b(?:cambi\w+|ajust\w+|modifi\w+|otro ejemplo|más ejemplos)"
)
_WISH = (
    r"i hope (?:this|that|it|these) (?:helps?|is (?:helpful|useful)|meets?|works)|hope (?:this|that) helps"
    r"|(?:please )?(?:let me know|feel free to)\b|is there anything else|if you (?:need|want|would like|'d like|have)"
    r"|ich hoffe,? (?:das|dies)|(?:bei|wenn sie) (?:weitere\w* )?fragen|j'espère que|n'hésitez pas|espero que"
    r"|si necesita|spero che|se hai bisogno|se precisar|ik hoop dat|laat het me weten|надеюсь|если (?:вам|у вас)"
    r"|希望(?:这|這|对|對|能)|如果(?:您|你)(?:需要|有)|お役に立て|ご(?:希望|不明|質問)|도움이 되"
)
# Alone on a line, with an exclamation mark and a blank line behind it: nobody begins a text like that.
_BARE = re.compile(
    r"(?:sure(?: thing)?|certainly|of course|absolutely|natürlich|gerne?|selbstverständlich|bien sûr|avec plaisir"
    r"|¡?por supuesto|¡?claro(?: que sí)?|certo|certamente|com certeza|natuurlijk|uiteraard|конечно|разумеется|当然(?:可以)?"
    r"|當然(?:可以)?|もちろん(?:です)?|承知(?:しました|いたしました)|かしこまりました|물론(?:입니다|이죠)?|알겠습니다)\s*[!.。]?\W*\Z"
)
_THOUGHT = re.compile(r"\A\s*<(think|thinking|reasoning)>.*?</\1>\s*", re.DOTALL | re.IGNORECASE)
_RULE = re.compile(r"\A\s*(?:-{3,}|\*{3,}|_{3,}|={3,})\s*(?=\n|\Z)|\n\s*(?:-{3,}|\*{3,}|_{3,}|={3,})\s*\Z")


def unframed(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without what an assistant says before and after it, and what was taken off.

    Nothing is taken where no text would be left.
    """
    taken: list[str] = []
    thought = _THOUGHT.match(text)
    if thought:
        taken.append(thought[0].strip())
        text = text[thought.end() :]
    text, opening = _opened(text.strip())
    taken += opening
    text, closing = _closed(text, bool(opening))
    return text, (*taken, *closing)


def _opened(text: str) -> tuple[str, list[str]]:
    taken: list[str] = []
    for _ in range(2):  # "Certainly!" and then "Here is a review:"
        line, _, behind = text.partition("\n")
        rest = behind.strip()
        if rest and len(line) <= _LONGEST and _announces(line, rest, behind[:1].isspace()):
            taken.append(line.strip())
            text = rest
            continue
        break
    if not taken and (inline := _patterns()[1].match(_folded(text[:_LONGEST]))):
        rest = text[inline.end() :].strip()
        if rest and len(_folded(text[:_LONGEST])) == len(text[:_LONGEST]):
            taken.append(text[: inline.end()].strip())
            text = rest
    if taken:
        text = _RULE.sub("", text).strip() or text
    return text, taken


def _announces(line: str, rest: str, apart: bool) -> bool:
    folded = _folded(line).strip(" *_#>")
    if _patterns()[0].match(folded):
        return True
    alone = bool(_BARE.match(folded))
    return alone and (
        apart or bool(_patterns()[0].match(_folded(rest.partition("\n")[0][:_LONGEST]).strip(" *_#>")))
    )


def _closed(text: str, opened: bool) -> tuple[str, list[str]]:
    taken: list[str] = []
    for _ in range(3):
        begin = text.rfind("\n")
        remark = text[begin + 1 :]
        if begin <= 0 or len(remark) > _REMARK or not text[:begin].strip():
            break
        strong, weak = _patterns()[2:]
        folded = _folded(remark).strip(" *_#>-")
        if not (strong.match(folded) or (opened and weak.match(folded))):
            break
        taken.append(remark.strip())
        text = _RULE.sub("", text[:begin].rstrip()).strip()
    return text, taken


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower().replace("’", "'").replace("‘", "'")


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """An opening line; an opening within a line; a closing remark; one that counts after an opening only."""
    lines, within = [], []
    for language, yes in _YES.items():
        here, noun = _HERE[language], _NOUN[language]
        edge = "" if language in ("zh", "ja", "ko") else r"\b"
        said = rf"(?:[¡\s]*(?:{yes}){edge}[\s,.!:;。,、!—–-]*){{1,3}}"
        shown = rf"(?:{here}){edge}[^\n]*?(?:{noun})"
        # an announcement ends with a colon (in Japanese and Korean often with a full stop)
        end = r"[^\n]*[:：]\W*" if edge else r"[^\n]*[:：。.]\W*"
        lines += [rf"(?:{said})?{shown}{end}\Z", rf"{said}(?:{here})[^\n]*[:：]\W*\Z"]
        within.append(rf"[¡\s]*(?:{yes}){edge}[\s,.!。,、!—–-]+(?:{here}){edge}[^\n:：.!?]*[:：]\s*")
    strong = rf"{_NOTE}[^\n]{{0,60}}?(?:{_MADE})|\(?(?:{_OFFER})|[\(\[]\s*word count\b"
    return (
        re.compile("|".join(lines)),
        re.compile("|".join(within)),
        re.compile(strong),
        re.compile(rf"\(?(?:{_WISH})"),
    )
