"""What kind of task an instruction is, by its verb or first word: a rough control for lengths; English."""

from __future__ import annotations

import re

from karat.auditing.instruction_verbs import root

_CLASSES = {
    "choose": "classify choose decide determine detect judge select label pick categorize categorise match "
    "assign tag verify validate rate rank score grade check differentiate distinguish sort",
    "rewrite": "translate paraphrase rephrase reword rewrite correct edit convert fix proofread transform "
    "replace reorder rearrange turn change format reformat revise shorten expand remove add insert modify "
    "improve punctuate capitalize combine merge split convert unscramble restate simplify",
    "extract": "extract identify find locate highlight parse pick retrieve search spot underline",
    "summarise": "summarize summarise condense abbreviate recap outline compress",
    "explain": "explain describe discuss define compare contrast analyze analyse evaluate elaborate "
    "illustrate clarify interpret justify argue assess review critique tell discover explore",
    "list": "list name enumerate brainstorm recommend suggest give provide come offer propose share",
    "compute": "calculate compute solve count estimate multiply subtract round derive prove measure",
    "write": "write compose create generate draft make design develop craft produce invent imagine narrate "
    "plan construct build prepare act pretend",
}
_OF = {verb: kind for kind, verbs in reversed(_CLASSES.items()) for verb in verbs.split()}
_CODE = {"code", "function", "program", "script", "query", "algorithm", "regex", "class", "sql", "command"}
_WH = re.compile(r"^\W*(?:so |and |but )?(?:what|who|whom|whose|when|where|which|why|how)\b", re.IGNORECASE)
_YES_NO = re.compile(
    r"^\W*(?:is|are|was|were|do|does|did|has|have|had|can|could|should|would|will|may|might|am)\b",
    re.IGNORECASE,
)
OTHER = "other"
KINDS = (*_CLASSES, "code", "question", "yes or no", OTHER)


def task_kind(instruction: str) -> str:
    """The kind of task: one of KINDS."""
    found = root(instruction)
    if found is not None:
        verb, noun = found
        kind = _OF.get(verb, OTHER)
        if kind in ("write", "list", OTHER) and noun in _CODE:
            return "code"
        if verb == "answer":
            return "question"
        if kind == "list" and noun in ("explanation", "description", "definition", "overview", "summary"):
            return "summarise" if noun == "summary" else "explain"
        return kind
    if "?" in instruction or _WH.match(instruction):
        last = next(
            (one for one in re.split(r"(?<=[.!?])\s+", instruction.strip()) if "?" in one), instruction
        )
        return "yes or no" if _YES_NO.match(last) else "question"
    return OTHER
