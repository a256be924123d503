"""What makes a turn a closing: thanks, a wish or a good-bye, in seven languages. Knows no dialogue."""

from __future__ import annotations

import re

_WORDS = 40  # a longer turn says more than good-bye
# language -> (thanks and what is said to them; wishes and good-byes)
_CLOSINGS = {
    "en": (
        r"thank(?:s| you)|thx|cheers|(?:you(?:'re| are)|your) (?:very |most |so )?welcome|my pleasure"
        r"|no problem|don't mention it|any ?time|same to you|you too|glad (?:i|to) (?:could|help|be)",
        r"(?:it was|it's been) (?:a |my )?pleasure|good-? ?bye|bye(?:-? ?bye)?|farewell|see (?:you|ya)"
        r"|take care|have (?:a|an) (?:\w+ ){0,2}(?:day|evening|night|weekend|one|time|trip|stay|week)"
        r"|good night|(?:nice|great|good|lovely) (?:talk|chatt|meet)ing|talk to you (?:later|soon)",
    ),
    "de": (
        r"danke(?:schön)?|vielen dank|bitte ?(?:schön|sehr)|gern(?:e)? geschehen|kein problem"
        r"|ebenso|gleichfalls",
        r"auf wiedersehen|tschüss|tschau|bis (?:bald|dann|später|morgen)|(?:schönen|guten) (?:tag|abend)"
        r"|mach(?:t|en sie)?'?s gut",
    ),
    "fr": (
        r"merci|de rien|je vous en prie|je t'en prie|avec plaisir|vous aussi|toi aussi",
        r"au revoir|bonne (?:journée|soirée|nuit)|à (?:bientôt|plus|demain)",
    ),
    "es": (
        r"gracias|de nada|con (?:mucho )?gusto|igualmente",
        r"adiós|hasta (?:luego|pronto|mañana)|buen(?:as|os)? (?:día|tardes|noches)|cuídate"
        r"|que (?:tengas|tenga) (?:un )?buen",
    ),
    "it": (
        r"grazie|prego|di niente|altrettanto|piacere mio",
        r"arrivederci|ciao|a presto|buona (?:giornata|serata|notte)",
    ),
    "pt": (
        r"obrigad[oa]|de nada|por nada",
        r"tchau|adeus|até (?:logo|mais|breve)|bo[am] (?:dia|tarde|noite)",
    ),
    "nl": (
        r"dank (?:u|je)(?: wel)?|bedankt|graag gedaan|geen probleem|insgelijks",
        r"tot ziens|doei|dag|fijne (?:dag|avond)",
    ),
}
_THANKS, _PARTINGS = (re.compile(rf"\b(?:{'|'.join(side)})\b") for side in zip(*_CLOSINGS.values()))


def closes(text: str) -> bool:
    """Whether a turn does nothing but close: thanks, welcomes, wishes or takes leave, and asks nothing."""
    plain = _plain(text)
    short = "?" not in plain and len(plain.split()) <= _WORDS
    return short and bool(_THANKS.search(plain) or _PARTINGS.search(plain))


def parts(text: str) -> bool:
    """Whether a turn takes leave: a good-bye or the wishes that go with one."""
    return bool(_PARTINGS.search(_plain(text)))


def _plain(text: str) -> str:
    return text.casefold().replace("’", "'")
