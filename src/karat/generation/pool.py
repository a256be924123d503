"""Which records a recipe shows or builds on, and what is too like them. Knows no provider and no prompt.

Texts are compared by their words (characters where a script puts no blanks between words): TF-IDF vectors for
how near two texts are, ROUGE-L for novelty, edit distance for copies.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from karat import registry
from karat.generation.base import Sample
from karat.generation.gates import Rouge
from karat.generation.tasks import Task
from karat.records import Records

WHOLE = 1500
"""Records of a class that are compared pair by pair; of more, so many are drawn."""
_HELD = 4000  # records whose cosines are held all at once: 64 MB
_UNSPACED = "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")

Floats = NDArray[np.float64]


def words_of(text: str) -> list[str]:
    """The words of a text without case; single characters of scripts that put no blanks between words."""
    return _WORD.findall(text.casefold())


def text_of(task: Task, fields: Mapping[str, Any]) -> str:
    """The text of a record as its data type sees it; all its texts where a schema has other fields."""
    try:
        return str(registry.make("datatypes", task.type).text(fields))
    except KeyError:
        return "\n".join(value for value in fields.values() if isinstance(value, str))


def items_of(items: Records) -> list[Sample]:
    """Records as samples, with the text that their data type sees."""
    labels: Sequence[str | None] = items.labels() or [None] * len(items)
    rows = zip(items.ids, items.texts(), labels, items)
    return [Sample(name, text, label, fields=row) for name, text, label, row in rows]


def of_label(pool: Sequence[Sample], label: str | None, *, human: bool = False) -> list[Sample]:
    """The samples of a class, in their order; all of them where no class is asked for.

    human: leave out what was made in earlier rounds.
    """
    return [s for s in pool if (label is None or s.label == label) and (s.human or not human)]


def of_task(task: Task, pool: Sequence[Sample], *, human: bool = False) -> list[Sample]:
    """The samples of all classes that the task has; all samples where it has none."""
    names = set(task.label_names)
    return [s for s in pool if (not names or s.label in names) and (s.human or not human)]


def turns(samples: Sequence[Sample], seed: int, name: str = "") -> Iterator[Sample]:
    """Samples without end in a drawn order: each once before any comes twice. Nothing from nothing."""
    drawn = random.Random(f"{seed}/turns/{name}")
    while samples:
        yield from drawn.sample(list(samples), len(samples))


def several(drawn: Iterator[Sample], k: int, of: int) -> list[Sample]:
    """The next k different samples of `turns` through a number of them; all of them where they are fewer."""
    found: dict[str, Sample] = {}
    while len(found) < min(k, of):
        sample = next(drawn)
        found[sample.id] = sample
    return list(found.values())


def children(pool: Sequence[Sample]) -> Counter[str]:
    """How many samples of the pool were made from each; by id."""
    return Counter(parent for sample in pool for parent in getattr(sample, "parents", ()))


def longest_idle(pool: Sequence[Sample], samples: Sequence[Sample], seed: int, name: str) -> list[Sample]:
    """The samples, those first from which the least was made; made ones before human ones, then by chance."""
    made = children(pool)
    order = random.Random(f"{seed}/idle/{name}").sample(list(samples), len(samples))
    return sorted(order, key=lambda sample: (made[sample.id], sample.human))


class Nearness:
    """How near the texts of some samples are to each other: cosines of TF-IDF vectors of their words."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = list(samples)

    @cached_property
    def vectors(self) -> Any:
        """Sparse [n, words], rows of length 1 (or 0 where a text has no word)."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        maker = TfidfVectorizer(analyzer=words_of, sublinear_tf=True)
        try:
            return maker.fit_transform([sample.text for sample in self.samples])
        except ValueError:  # no text has a word
            from scipy.sparse import csr_matrix

            return csr_matrix((len(self.samples), 1))

    @cached_property
    def _cosines(self) -> NDArray[np.float32] | None:
        """float32 [n, n]: all cosines, where they fit in memory."""
        if len(self.samples) > _HELD:
            return None
        return np.asarray((self.vectors @ self.vectors.T).todense(), dtype=np.float32)

    @cached_property
    def _same(self) -> NDArray[np.int64]:
        """int64 [n]: the number of each sample's text; copies have the same one."""
        return np.unique([sample.text for sample in self.samples], return_inverse=True)[1].astype(np.int64)

    def to(self, row: int) -> Floats:
        """float64 [n]: the cosine of every sample with one of them."""
        held = self._cosines
        if held is not None:
            return np.asarray(held[row], dtype=np.float64)
        return np.asarray((self.vectors @ self.vectors[row].T).todense(), dtype=np.float64).ravel()

    def nearest(self, row: int, k: int) -> list[int]:
        """The k samples nearest to one of them, which is left out, and so is every further copy of a text."""
        return self._drawn(row, k, spread=False)

    def spread(self, row: int, k: int) -> list[int]:
        """k samples, each as far as can be from the first and from those already taken (farthest-first)."""
        return self._drawn(row, k, spread=True)

    def _drawn(self, row: int, k: int, *, spread: bool) -> list[int]:
        likeness = self.to(row)
        gone = self._same == self._same[row]
        found: list[int] = []
        for _ in range(k):
            if gone.all():
                break
            best = int(np.where(gone, np.inf, likeness if spread else -likeness).argmin())
            found.append(best)
            gone |= self._same == self._same[best]
            if spread:
                likeness = np.maximum(likeness, self.to(best))
        return found


def distant_pairs(samples: Sequence[Sample], seed: int) -> Iterator[tuple[Sample, Sample]]:
    """Pairs of samples, the most distant first, none of which was in a pair before; ties in drawn order.

    When fewer than two are left, all may be used again, but no pair comes twice while there are others.
    """
    drawn = random.Random(f"{seed}/pairs")
    some = drawn.sample(list(samples), min(len(samples), WHOLE))
    if len(some) < 2:
        return
    near = Nearness(some).vectors
    cosines = np.asarray((near @ near.T).todense(), dtype=np.float32)
    one, other = np.triu_indices(len(some), 1)
    # The samples stand in drawn order, so that a stable sort leaves ties to chance.
    pairs = np.argsort(cosines[one, other], kind="stable")
    while True:
        left = pairs
        while len(left):
            taken = np.zeros(len(left), bool)
            for at, a, b in _disjoint(one[left], other[left], len(some)):
                taken[at] = True
                yield some[a], some[b]
            left = left[~taken]


def _disjoint(one: Any, other: Any, n: int) -> Iterator[tuple[int, int, int]]:
    """Pairs (place, one, other) in their order, leaving out those of which a member was in an earlier one."""
    used = np.zeros(n, bool)
    start, step = 0, 1 << 10
    while start < len(one) and used.sum() < n - 1:
        free = np.flatnonzero(~(used[one[start : start + step]] | used[other[start : start + step]])) + start
        for at in free.tolist():
            a, b = int(one[at]), int(other[at])
            if not (used[a] or used[b]):
                used[a] = used[b] = True
                yield at, a, b
        start, step = start + step, min(2 * step, 1 << 18)


# ------------------------------------------------------------------------------ copies and novelty


def copied(text: str, samples: Sequence[tuple[str, str]], most: float) -> str:
    """Why a text is a copy of one of some texts (id, text): empty unless likeness is `most` or more.

    Likeness is 1 - edit distance (insertions and deletions) / both lengths, without case and blanks.
    """
    from rapidfuzz.fuzz import ratio

    own = _folded(text)
    alike, name = max(
        ((ratio(own, _folded(other)) / 100, name) for name, other in samples), default=(0.0, "")
    )
    if not own or most <= 0 or alike < most:
        return ""
    return f"copies {name}" if alike == 1 else f"nearly copies {name} (likeness {alike:.2f})"


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


class Novelty:
    """The ROUGE-L F of a text with the most like of those kept so far."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self.known = Rouge()
        for text in texts:
            self.keep(text)

    def likeness(self, text: str, least: float = 0.0) -> tuple[float, int]:
        """The likeness with the most like text, and which one that is; (0, -1) where none reaches `least`."""
        return self.known.closest(words_of(text), least) or (0.0, -1)

    def keep(self, text: str) -> None:
        """Count a text among those kept."""
        self.known.add(words_of(text))


def compared(sample: Sample) -> str:
    """What novelty is measured on: the instruction where a record has one, else its text."""
    return str(sample.fields.get("prompt") or sample.text)


class _Pool:
    """A pool by identity: looking up what was made of it must not depend on its size."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples, self.size = samples, len(samples)

    def __hash__(self) -> int:
        return hash((id(self.samples), self.size))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Pool) and self.samples is other.samples and self.size == other.size


def novelty(pool: Sequence[Sample]) -> Novelty:
    """The novelty against a pool; for the same pool again it is at hand. Not to be added to."""
    return _novelty(_Pool(pool))


@lru_cache(maxsize=2)
def _novelty(pool: _Pool) -> Novelty:
    return Novelty([compared(sample) for sample in pool.samples])
