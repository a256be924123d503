"""What is asked of a finished text before it is kept: that it is new, long enough, in the right language.

Knows no provider and no record: a gate is given ids and texts, one after the other, and may be run again on
kept answers at no cost. `admit(id, text)` returns the reason why a text stays out, naming the other one, or
an empty text. The order of the calls decides: of two that are alike the first one stays.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from karat.errors import BadSetting
from karat.texts.languages import language_of

_UNPARTED = "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_UNPARTED}]|[^\W_{_UNPARTED}]+(?:['’][^\W_]+)*")
_ALONE = re.compile(f"[{_UNPARTED}]")
_EPS = 1e-9
_FIRST = 0x10000  # code points of words begin here, beyond the surrogates
_LAST = 0x10FFFF
_REBUILT = 1_000  # texts from which on the order of rarity is found anew at every doubling
_WHOLE = 5  # test records of fewer words are looked for as whole texts only


class Gate(Protocol):
    """Lets texts in or keeps them out, one after the other."""

    def admit(self, id: str, text: str) -> str:
        """The reason why a text stays out; empty when it comes in, and then it counts for those after it."""


def words(text: str) -> list[str]:
    """The words of a text without case, marks and Unicode form; characters where a script has no blanks.

    can't is cant, and top-up is top up: what does not make another text of it is folded.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return [one.replace("'", "").replace("’", "") for one in _TOKEN.findall(folded)]


def shingles(tokens: Sequence[str], n: int) -> frozenset[int]:
    """The different n-grams of a text, as numbers; a shorter text is one as a whole.

    Characters of a script without blanks say less than words: there one more makes a shingle.
    """
    alone = sum(1 for one in tokens if len(one) == 1 and _ALONE.match(one))
    n = n + 1 if 2 * alone > len(tokens) else n
    if len(tokens) <= n:
        return frozenset([hash(" ".join(tokens))]) if tokens else frozenset()
    return frozenset(hash(" ".join(tokens[i : i + n])) for i in range(len(tokens) - n + 1))


# ----------------------------------------------------------------------------------------- novelty


@dataclass
class Novelty:
    """Keeps out what was written before: the same text, or one that is nearly the same.

    by: jaccard (shared n-grams of words over all of both) or rouge (ROUGE-L F, 2 LCS / (a + b) in words, with
    which Self-Instruct keeps what is under 0.7; Wang et al. 2023, section 2.2). threshold: from which
    likeness on a text stays out. n: words of an n-gram. Every pair at the threshold is found: jaccard by
    prefix filtering (Chaudhuri et al. 2006) on an index that grows, rouge by comparing all with all, in C.
    """

    threshold: float = 0.7
    by: str = "jaccard"
    n: int = 2
    _same: dict[str, str] = field(default_factory=dict, repr=False)
    _ids: list[str] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if self.by not in ("jaccard", "rouge"):
            raise BadSetting(f"by={self.by!r} is no likeness; choose jaccard or rouge")
        if not 0 < self.threshold <= 1:
            raise BadSetting(f"threshold={self.threshold} must lie above 0 and be at most 1, e.g. 0.7")
        if self.n < 1:
            raise BadSetting(f"n={self.n} must be at least 1; an n-gram has a word")
        self._near: _Jaccard | Rouge = (
            _Jaccard(self.threshold, self.n) if self.by == "jaccard" else Rouge(self.threshold)
        )

    def know(self, texts: Iterable[tuple[str, str]], whose: str = "human record ") -> None:
        """Count texts (id, text) as written before, whatever they are like among themselves."""
        for identity, text in texts:
            tokens = words(text)
            self._same.setdefault(" ".join(tokens), f"{whose}{identity}")
            self._ids.append(f"{whose}{identity}")
            self._near.add(tokens)

    def admit(self, id: str, text: str) -> str:
        """The reason why a text is not new; empty when it is, and from then on it is known."""
        tokens = words(text)
        joined = " ".join(tokens)
        if joined in self._same:
            return f"the same text as {self._same[joined]}"
        near = self._near.closest(tokens)
        if near is not None:
            likeness, place = near
            name = "Jaccard" if self.by == "jaccard" else "ROUGE-L"
            return f"nearly the same text as {self._ids[place]} ({name} {likeness:.2f})"
        self._same[joined] = id
        self._ids.append(id)
        self._near.add(tokens)
        return ""

    def __len__(self) -> int:
        return len(self._ids)


class _Jaccard:
    """Sets of shingles in an index of prefixes: sets that are alike share one of their rarest shingles."""

    def __init__(self, threshold: float, n: int) -> None:
        self.threshold, self.n = threshold, n
        self.sets: list[frozenset[int]] = []
        self.held: Counter[int] = Counter()
        self.rarity: Mapping[int, int] = {}  # shingles held more than once when the index was last built
        self.postings: dict[int, list[int]] = defaultdict(list)

    def add(self, tokens: Sequence[str]) -> None:
        found = shingles(tokens, self.n)
        self.sets.append(found)
        self.held.update(found)
        size = len(self.sets)
        if size >= _REBUILT and size & (size - 1) == 0:
            # Any order of shingles finds all pairs; only that of rarity finds them fast.
            self.rarity = {one: count for one, count in self.held.items() if count > 1}
            self.postings = defaultdict(list)
            for place, one in enumerate(self.sets):
                self._index(place, one)
        else:
            self._index(size - 1, found)

    def _index(self, place: int, found: frozenset[int]) -> None:
        for one in self._prefix(found):
            self.postings[one].append(place)

    def _prefix(self, found: frozenset[int]) -> list[int]:
        length = len(found) - math.ceil(self.threshold * len(found) - _EPS) + 1
        rarity = self.rarity
        return sorted(found, key=lambda one: (rarity.get(one, 1), one))[:length] if found else []

    def closest(self, tokens: Sequence[str]) -> tuple[float, int] | None:
        found = shingles(tokens, self.n)
        size, best = len(found), None
        seen: set[int] = set()
        for one in self._prefix(found):
            seen.update(self.postings.get(one, ()))
        for place in sorted(seen):
            other = self.sets[place]
            if min(size, len(other)) < self.threshold * max(size, len(other)) - _EPS:
                continue
            shared = len(found & other)
            likeness = shared / (size + len(other) - shared)
            if likeness >= self.threshold - _EPS and (best is None or likeness > best[0]):
                best = (likeness, place)
        return best


class Rouge:
    """ROUGE-L F (2 LCS / (a + b) in words; Lin 2004, beta = 1) against all texts known so far.

    Words become characters, so that it is computed in C.
    """

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = threshold
        self.code: dict[str, str] = {}
        self.texts: list[str] = []

    def _coded(self, tokens: Sequence[str]) -> str:
        # Beyond a million different words all further ones are one: the gate is then too strict, not too lax.
        code = self.code
        return "".join(code.setdefault(one, chr(min(_FIRST + len(code), _LAST))) for one in tokens)

    def add(self, tokens: Sequence[str]) -> None:
        """Count a text among the known ones."""
        self.texts.append(self._coded(tokens))

    def closest(self, tokens: Sequence[str], least: float | None = None) -> tuple[float, int] | None:
        """The likeness with the most like text, and its number; None where none reaches `least`."""
        from rapidfuzz.distance import Indel
        from rapidfuzz.process import extractOne

        own = self._coded(tokens)
        if not own or not self.texts:
            return None
        cutoff = max(0.0, (self.threshold if least is None else least) - _EPS)
        found = extractOne(own, self.texts, scorer=Indel.normalized_similarity, score_cutoff=cutoff)
        return None if found is None else (float(found[1]), int(found[2]))


# ----------------------------------------------------------------------------------- contamination


@dataclass
class Contamination:
    """Keeps out what stands in a test set: a text that holds a test record, or much of one.

    A test record counts as held when the text is the same up to case, marks and blanks, or when `share` of
    its n-grams (n words) stand in the text; one of fewer than n words is a single n-gram, and one of fewer
    than 5 is looked for as a whole text. n = 13: Brown et al. 2020, appendix C; share 0: any n-gram counts.
    near: from this likeness on a paraphrase counts too (words shared, weighted by rarity, over all of both);
    0: not looked for, since records of a narrow domain are alike anyway (0.25 finds 9 of 10 paraphrases).
    """

    test: Sequence[tuple[str, str]]
    n: int = 13
    share: float = 0.5
    near: float = 0.0

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 <= self.share <= 1 or not 0 <= self.near <= 1:
            raise BadSetting(
                f"n={self.n}, share={self.share}, near={self.near}: n must be at least 1, the others 0 to 1"
            )
        self._whole: dict[str, int] = {}
        self._grams: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        self._totals: list[int] = []
        self._words: list[frozenset[str]] = []
        for place, (_, text) in enumerate(self.test):
            tokens = words(text)
            self._words.append(frozenset(tokens))
            if tokens:
                self._whole.setdefault(" ".join(tokens), place)
            order = min(self.n, len(tokens))
            grams = _grams(tokens, order) if order >= min(_WHOLE, self.n) else set()
            self._totals.append(len(grams))
            for one in grams:
                self._grams[order][one].append(place)
        self._weighed()

    def _weighed(self) -> None:
        held = Counter(word for own in self._words for word in own)
        total = len(self._words)
        self._weight = {word: math.log((total + 1) / count) for word, count in held.items()}
        self._unknown = math.log(total + 1)  # the weight of a word that no test record has
        self._sums = [sum(self._weight[word] for word in own) for own in self._words]
        self._holders: dict[str, list[int]] = defaultdict(list)
        if self.near:
            for place, own in enumerate(self._words):
                for word in own:
                    if held[word] <= max(20, total // 5):  # alike by frequent words alone is not alike
                        self._holders[word].append(place)

    def admit(self, id: str, text: str) -> str:
        """The reason why a text is out: the test record that it holds."""
        tokens = words(text)
        whole = self._whole.get(" ".join(tokens))
        if whole is not None and tokens:
            return f"the same text as test record {self.test[whole][0]}"
        return self._copied(tokens) or (self._paraphrased(tokens) if self.near else "")

    def _copied(self, tokens: Sequence[str]) -> str:
        hits: Counter[int] = Counter()
        for order, known in self._grams.items():
            for one in _grams(tokens, order):
                hits.update(known.get(one, ()))
        shares = {place: count / self._totals[place] for place, count in hits.items()}
        over = [place for place, share in shares.items() if share >= self.share - _EPS]
        if not over:
            return ""
        place = min(over, key=lambda p: (-shares[p], p))
        name = f"test record {self.test[place][0]}"
        if self._totals[place] == 1:
            return f"holds the whole text of {name}"
        return f"holds {shares[place]:.0%} of the {self.n}-grams of {name}"

    def _paraphrased(self, tokens: Sequence[str]) -> str:
        own = frozenset(tokens)
        total = sum(self._weight.get(word, self._unknown) for word in own)
        best, found = self.near - _EPS, -1
        for place in sorted({p for word in own for p in self._holders.get(word, ())}):
            shared = sum(self._weight[word] for word in own & self._words[place])
            likeness = shared / max(total + self._sums[place] - shared, _EPS)
            if likeness > best:
                best, found = likeness, place
        if found < 0:
            return ""
        return f"shares {best:.0%} of its rare words with test record {self.test[found][0]}"


def _grams(tokens: Sequence[str], n: int) -> set[str]:
    return {" ".join(tokens[i : i + n]) for i in range(len(tokens) - n + 1)} if n else set()


# --------------------------------------------------------------------------------- length, language


@dataclass(frozen=True)
class Length:
    """Keeps out what is shorter or longer than bounds, in words or characters."""

    low: int = 1
    high: int | None = None
    unit: str = "words"

    def admit(self, id: str, text: str) -> str:
        """The reason, with the size."""
        size = len(words(text)) if self.unit == "words" else len(text)
        if size < self.low:
            return f"has {size} {self.unit}, fewer than {self.low}"
        if self.high is not None and size > self.high:
            return f"has {size} {self.unit}, more than {self.high}"
        return ""


@dataclass(frozen=True)
class Language:
    """Keeps out what is clearly written in another language (code such as de) than the one asked for.

    Short texts, and languages that are not told apart here, are let in.
    """

    language: str

    def admit(self, id: str, text: str) -> str:
        """The reason, with the language found."""
        found = language_of(text)
        if found and found != self.language:
            return f"is written in {found!r}, not in {self.language!r}"
        return ""
