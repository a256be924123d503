"""What makes a turn a closing: thanks, a wish or a good-bye, in seven languages. Knows no dialogue."""

from __future__ import annotations

import re

_WORDS = 40  # a longer turn says more than good-bye
_CLOSINGS = {
    "en": (
        r"thank(?:s| you)|thx|cheers|(?:you(?:'re| are)|your) (?:very |most |so )?welcome|my pleasure"
        r"|(?:it was|it's been) (?:a |my )?pleasure|no problem|don't mention it|any ?time|good-? ?bye"
        r"|bye(?:-? ?bye)?|farewell|see (?:you|ya)|take care|have (?:a|an) (?:\w+ ){0,2}(?:day|evening|night"
        r"|weekend|one|time|trip|stay|week)|good night|(?:nice|great|good|lovely) (?:talk|chatt|meet)ing"
        r"|talk to you (?:later|soon)|same to you|you too|glad (?:i|to) (?:could|help|be)"
    ),
    "de": (
        r"danke(?:schön)?|vielen dank|bitte ?(?:schön|sehr)|gern(?:e)? geschehen|kein problem"
        r"|auf wiedersehen"
        r"|tschüss|tschau|bis (?:bald|dann|später|morgen)|(?:schönen|guten) (?:tag|abend)"
        r"|mach(?:t|en sie)?'?s gut|ebenso|gleichfalls"
    ),
    "fr": (
        r"merci|de rien|je vous en prie|je t'en prie|avec plaisir|au revoir|bonne (?:journée|soirée|nuit)"
        r"|à (?:bientôt|plus|demain)|vous aussi|toi aussi"
    ),
    "es": (
        r"gracias|de nada|con (?:mucho )?gusto|adiós|hasta (?:luego|pronto|mañana)|buen(?:as|os)? "
        r"(?:día|tardes|noches)|igualmente|cuídate|que (?:tengas|tenga) (?:un )?buen"
    ),
    "it": (
        r"grazie|prego|di niente|arrivederci|ciao|a presto|buona (?:giornata|serata|notte)|altrettanto"
        r"|piacere mio"
    ),
    "pt": (r"obrigad[oa]|de nada|por nada|tchau|adeus|até (?:logo|mais|breve)|bo[am] (?:dia|tarde|noite)"),
    "nl": (
        r"dank (?:u|je)(?: wel)?|bedankt|graag gedaan|geen probleem|tot ziens|doei|dag|fijne (?:dag|avond)"
        r"|insgelijks"
    ),
}
_CLOSING = re.compile(rf"\b(?:{'|'.join(_CLOSINGS.values())})\b")


def closes(text: str) -> bool:
    """Whether a turn does nothing but close."""
    plain = text.casefold().replace("’", "'")
    return "?" not in plain and len(plain.split()) <= _WORDS and bool(_CLOSING.search(plain))
