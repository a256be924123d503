"""What the filters of near, semantic and conflicting duplicates promise, against brute force."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from karat import records, registry
from karat.curation.base import Verdicts
from karat.curation.clusters import Links, cosine_links, keep_of
from karat.curation.embedding import embed
from karat.errors import BadSetting
from karat.records import Records

WORDS = [f"w{k}" for k in range(400)]


def made(n: int, *, seed: int = 0, copies: float = 0.5) -> Records:
    """Return texts of 30 words, a share of them earlier ones with one to eight words changed."""
    draw = np.random.default_rng(seed)
    texts: list[list[str]] = []
    for k in range(n):
        if k and draw.random() < copies:
            words = list(texts[int(draw.integers(0, k))])
            for _ in range(int(draw.integers(1, 9))):
                words[int(draw.integers(0, 30))] = WORDS[int(draw.integers(0, 400))]
        else:
            words = [WORDS[i] for i in draw.integers(0, 400, 30)]
        texts.append(words)
    return records.from_rows([{"text": " ".join(words), "score": float(draw.random())} for words in texts])


def judged(spec: str, given: Records, reference: Records | None = None) -> Verdicts:
    """Run one filter."""
    found: Verdicts = registry.make("filters", spec).judge(given, reference)
    return found


def jaccards(given: Records, n: int) -> dict[tuple[int, int], float]:
    """Return the Jaccard coefficient of all pairs, by Python sets."""
    sets = []
    for text in given.texts():
        words = text.split()
        sets.append({tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))})
    return {
        (i, j): len(sets[i] & sets[j]) / len(sets[i] | sets[j]) for i, j in combinations(range(len(sets)), 2)
    }


@pytest.mark.parametrize(("threshold", "n"), [(0.5, 2), (0.8, 3), (0.3, 5)])
def test_the_exact_join_drops_what_a_greedy_pass_over_all_pairs_drops(threshold: float, n: int) -> None:
    """With star clusters and keep=first, a record goes if an earlier kept one is alike."""
    given = made(250)
    alike = jaccards(given, n)
    kept: list[int] = []
    for row in range(len(given)):
        if not any(alike[one, row] >= threshold - 1e-9 for one in kept):
            kept.append(row)
    found = judged(f"near_duplicates:threshold={threshold},n={n},method=exact", given)
    assert kept == np.flatnonzero(found.kept).tolist()
    assert 20 < len(found.reasons)


def test_a_reason_names_the_coefficient_and_a_kept_record() -> None:
    """The number in a reason is the true coefficient with the record that stays."""
    given = made(150)
    alike = jaccards(given, 2)
    place = {name: row for row, name in enumerate(given.ids)}
    found = judged("near_duplicates:threshold=0.4,n=2", given)
    for row, reason in found.reasons.items():
        other = place[reason.split(" with ")[1].split(", at")[0]]
        assert found.kept[other]
        assert f"Jaccard {alike[min(row, other), max(row, other)]:.3f}" in reason


def test_component_clusters_follow_chains_and_star_clusters_do_not() -> None:
    """Of a chain a-b-c a star keeps a and c, a component keeps one; the reason says that it is a chain."""
    links = Links(np.array([0, 1]), np.array([1, 2]), np.array([0.9, 0.8]))
    star = keep_of(np.arange(3), links, "star")
    assert [True, False, True] == star.kept.tolist()
    chain = keep_of(np.arange(3), links, "component")
    assert [True, False, False] == chain.kept.tolist()
    assert [1.0, 0.9] == chain.likeness[:2].tolist()
    assert np.isnan(chain.likeness[2])


def test_which_one_stays_is_a_choice() -> None:
    """keep takes the first, the longest or the one with the highest field; no number comes last."""
    texts = ["one two three four", "one two three four five", "one two three four", "something else entirely"]
    given = records.from_rows([{"text": t, "q": q} for t, q in zip(texts, [0.1, None, 0.9, 0.5])])
    for keep, expected in (("first", [0, 3]), ("longest", [1, 3]), ("best,by=q", [2, 3])):
        found = judged(f"near_duplicates:threshold=0.6,n=2,keep={keep}", given)
        assert expected == np.flatnonzero(found.kept).tolist()
    with pytest.raises(BadSetting, match="must be a number"):
        judged("near_duplicates:keep=best,by=text", given)


def test_minhash_finds_nearly_all_that_the_exact_join_finds_and_nothing_else() -> None:
    """At a threshold of 0.5 its stated recall is 0.99; it makes no pair up."""
    given = made(1500, seed=3)
    exact = judged("near_duplicates:threshold=0.5,n=2,method=exact,clusters=component", given)
    quick = judged("near_duplicates:threshold=0.5,n=2,method=minhash,clusters=component", given)
    found, wanted = set(quick.reasons), set(exact.reasons)
    assert found <= wanted
    assert len(found) >= 0.98 * len(wanted) > 300
    assert "recall" in quick.note
    assert "all pairs" in exact.note


def test_empty_texts_and_texts_of_marks_are_copies_only_where_they_are_equal() -> None:
    """What folds to nothing is not a near-duplicate of everything else that does."""
    given = records.from_rows([{"text": t} for t in ["", "...", "", "?!", "a b", "..."]])
    found = judged("near_duplicates:n=3", given)
    assert [0, 1, 3, 4] == np.flatnonzero(found.kept).tolist()
    assert judged("semantic_duplicates", given).kept.sum() >= 5


LEVELS = {9: (0.78, 0.75), 7: (0.86, 0.79)}


def test_published_similarity_levels_are_found_again(data_dir: Path) -> None:
    """The dropped rows of GPTeacher Toolformer, whose measure is unpublished, are ours by words of outputs.

    Precision and recall of ours against the published ones at the same threshold: 0.9: 0.81, 0.79; 0.8: 0.85,
    0.79; 0.7: 0.90, 0.82; 0.6: 0.92, 0.86; dropping at random has the published share: 0.23 to 0.69.
    """
    given = records.read(data_dir / "gpteacher_toolformer" / "toolformer.jsonl.gz")
    for level, (precision, recall) in LEVELS.items():
        published = ~np.array(given.column(f"kept_at_0_{level}"))
        ours = ~judged(f"near_duplicates:threshold=0.{level},n=1,field=output", given).kept
        both = (ours & published).sum()
        assert both / ours.sum() > precision
        assert both / published.sum() > recall


def test_semantic_pairs_are_all_pairs_over_the_threshold() -> None:
    """Blocks hide no pair: the same pairs as from the whole matrix of cosines."""
    rows = embed(made(130).texts(), "lsa:dims=16,rest=16")
    cosines = rows @ rows.T
    expected = {(i, j) for i, j in combinations(range(130), 2) if cosines[i, j] >= 0.6}
    found = cosine_links(rows, 0.6, block=17)
    assert expected == set(zip(found.one.tolist(), found.other.tolist()))
    assert len(expected) > 20


def test_semantic_duplicates_find_the_same_words_in_another_order() -> None:
    """Word order does not count for the default encoder; the chance level is said."""
    given = made(60, copies=0)
    turned = [" ".join(reversed(text.split())) for text in given.texts()[:20]]
    both = records.from_rows([{"text": text} for text in [*given.texts(), *turned]])
    assert not judged("near_duplicates:threshold=0.5", both).reasons
    found = judged("semantic_duplicates:threshold=0.95", both)
    assert set(range(60, 80)) == set(found.reasons)
    assert "cosine 1.000" in found.reasons[60]
    assert "drawn at random" in found.note


def test_conflicting_labels_keep_the_majority_or_none() -> None:
    """A text with several labels keeps those of the majority; a tie keeps none."""
    rows = [
        ("Good film.", "a"),
        ("good film", "a"),
        ("GOOD film!", "b"),
        ("x y", "a"),
        ("x y", "b"),
        ("z", "b"),
    ]
    given = records.from_rows([{"text": t, "label": label} for t, label in rows])
    assert [True, True, False, False, False, True] == judged("conflicting_labels", given).kept.tolist()
    none = judged("conflicting_labels:keep=none", given)
    assert [5] == np.flatnonzero(none.kept).tolist()
    assert "'a' x 2, 'b' x 1" in none.reasons[0]
    with pytest.raises(BadSetting, match="needs labels"):
        judged("conflicting_labels", records.from_rows([{"text": "a"}]))


def test_bad_settings_are_refused() -> None:
    """A threshold that nothing or everything reaches is named."""
    for spec in ("near_duplicates:threshold=0", "near_duplicates:n=0", "semantic_duplicates:threshold=1.5"):
        with pytest.raises(BadSetting, match=r"threshold is|n is"):
            registry.make("filters", spec)
