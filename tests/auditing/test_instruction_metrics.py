"""Instruction metrics: brute force, hand-worked constraints, planted faults, quiet where there is none."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest
from judge_corpora import Seen, context, p_of

import karat
from karat import records, registry
from karat.auditing.instruction_constraints import constraints, items_of, kept, size_of
from karat.auditing.instruction_types import task_kind
from karat.auditing.metrics.input_use import lacks_input
from karat.auditing.result import Score
from karat.records import Records
from karat.texts.overlap import content_words, longest_run, rouge_l, words


def scored(data: Records, metric: str, reference: Records | None = None, **more: object) -> Score:
    return karat.audit(data, reference, metrics=metric, budget="small", **more).scores[0]  # type: ignore[arg-type]


def asked(*rows: tuple[str, str, str]) -> Records:
    """Records of instruction, input and output."""
    return records.from_rows(
        [{"id": f"i{i}", "instruction": a, "input": b, "output": c} for i, (a, b, c) in enumerate(rows)]
    )


# --------------------------------------------------------------------------------------- ROUGE-L


def lcs(one: list[str], other: list[str]) -> int:
    rows = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            rows[i + 1][j + 1] = rows[i][j] + 1 if a == b else max(rows[i][j + 1], rows[i + 1][j])
    return rows[-1][-1]


def brute(one: list[str], other: list[str]) -> float:
    """ROUGE-L F with beta = 1, by its definition: recall and precision of the longest common subsequence."""
    common = lcs(one, other)
    if not common:
        return 0.0
    recall, precision = common / len(other), common / len(one)
    return 2 * recall * precision / (recall + precision)


def test_rouge_l_by_brute_force() -> None:
    """All pairs of random texts, empty ones and texts in other scripts, to twelve digits."""
    rng = random.Random(0)
    texts = [[rng.choice("abcdefgh") for _ in range(rng.randrange(12))] for _ in range(40)]
    texts += [["猫", "が", "寝る"], ["猫", "は", "寝る"], []]
    found = rouge_l(texts, texts)
    for i, one in enumerate(texts):
        for j, other in enumerate(texts):
            assert brute(one, other) == pytest.approx(found[i, j], abs=1e-12)


def test_rouge_l_of_more_words_than_a_plane() -> None:
    """Tens of thousands of different words are still told apart."""
    many = [[f"w{i}" for i in range(40_000)], [f"w{i}" for i in range(39_999, 80_000)]]
    assert 2 / (40_000 + 40_001) == pytest.approx(rouge_l(many[:1], many[1:])[0, 0])


def test_rouge_l_is_that_of_the_package() -> None:
    """With its tokens, F is that of Google's rouge_score."""
    package = pytest.importorskip("rouge_score.rouge_scorer")
    texts = ["Write a poem about the sea.", "Write two poems on the SEA!", "It's 3 o'clock", "List 3 ideas"]
    scorer = package.RougeScorer(["rougeL"], use_stemmer=False)
    split = [words(text, "rouge") for text in texts]
    found = rouge_l(split, split)
    for i, one in enumerate(texts):
        for j, other in enumerate(texts):
            assert scorer.score(one, other)["rougeL"].fmeasure == pytest.approx(found[i, j])


def test_novelty_by_brute_force() -> None:
    """The mean of 1 - the largest likeness with another instruction."""
    rng = random.Random(1)
    texts = [
        " ".join(rng.choice(["list", "name", "five", "ten", "birds", "cats", "of"]) for _ in range(6))
        for _ in range(40)
    ]
    data = asked(*((text, "", "o") for text in texts))
    split = [text.split() for text in texts]
    nearest = [
        max(brute(one, other) for j, other in enumerate(split) if j != i) for i, one in enumerate(split)
    ]
    found = scored(data, "rouge_novelty")
    assert 1 - sum(nearest) / 40 == pytest.approx(found.value)
    assert sum(one < 0.7 for one in nearest) / 40 == pytest.approx(found.details["under_0.7"])


def varied(n: int, seed: int, *, vocabulary: int = 400, again: float = 0.0) -> Records:
    """Instructions of random words, of which a share `again` says nearly the same as the one before."""
    rng = np.random.default_rng(seed)
    verbs, nouns = ["write", "list", "explain", "name"], ["story", "way", "idea", "reason", "plan"]
    texts: list[str] = []
    for _ in range(n):
        if texts and rng.random() < again:
            texts.append(texts[-1] + " now")
            continue
        rest = " ".join(f"w{w}" for w in rng.integers(0, vocabulary, 7))
        texts.append(f"{verbs[rng.integers(4)]} a {nouns[rng.integers(5)]} about {rest}")
    said = [" ".join(["word"] * int(rng.lognormal(3, 0.5) + 1)) for _ in range(n)]
    return asked(
        *((text, f"w{i} v{i} u{i}", f"{out} w{i}") for i, (text, out) in enumerate(zip(texts, said)))
    )


def test_planted_repetition_is_found() -> None:
    """A third of the instructions repeat the one before: novelty falls, and the records are named."""
    audited = karat.audit(
        varied(200, 1, again=1 / 3), varied(200, 2), metrics="rouge_novelty", budget="small"
    )
    found = audited.scores[0]
    assert found.flagged
    assert found.value is not None and found.reference is not None and found.value < found.reference - 0.1
    assert all("ROUGE-L" in one.reason for one in audited.evidence)
    beside = scored(varied(100, 1), "rouge_novelty:against=reference", varied(300, 2))
    assert beside.reference is not None and beside.value == pytest.approx(beside.reference, abs=0.05)
    copied = scored(varied(100, 2), "rouge_novelty:against=reference", varied(300, 2))
    assert copied.value is not None and copied.value < 0.7


# -------------------------------------------------------------------------------- verbs and nouns


def test_verb_noun_entropy() -> None:
    """The entropy of hand-counted pairs, in bits; questions are left out."""
    texts = (
        ["Write a story."] * 4
        + ["List five ways."] * 2
        + ["Name a bird.", "Name two birds.", "Why?", "Is it?"]
    )
    found = scored(asked(*((text, "", "o") for text in texts)), "verb_noun_diversity")
    counts = Counter({"write story": 4, "list way": 2, "name bird": 2})
    expected = -sum(n / 8 * math.log2(n / 8) for n in counts.values())
    assert expected == pytest.approx(found.value)
    assert found.details["with_pair"] == pytest.approx(0.8)
    assert found.details["share.write story"] == pytest.approx(0.5)
    distinct = scored(asked(*((text, "", "o") for text in texts)), "verb_noun_diversity:measure=distinct")
    assert distinct.value == pytest.approx(3 / 8)


# ------------------------------------------------------------------------------------ constraints

# prompt, kinds that are found, a completion that keeps them, one that does not
CONSTRAINTS = [
    ("Write a poem in 50 words.", ["words"], "word " * 54, "word " * 60),
    ("Answer in exactly three sentences.", ["sentences"], "One. Two! Three?", "One. Two."),
    ("Explain it in at most 10 words.", ["words"], "a b c", "a " * 11),
    ("Use at least 5 words.", ["words"], "a b c d e", "a b c d"),
    ("Write about 20 words.", ["words"], "a " * 17, "a " * 40),
    ("Between 3 and 5 words, please.", ["words"], "a b c d", "a b"),
    ("Compose a 2-paragraph essay.", ["paragraphs"], "One.\n\nTwo.", "One."),
    ("Give me five tips.", ["list"], "1. a\n2. b\n3. c\n4. d\n5. e", "- a\n- b"),
    ("Name three planets.", ["list"], "Mars, Venus and Earth", "Mars, Venus"),
    ('Start your answer with "Dear Ann".', ["start"], "Dear Ann, hello", "Hello Ann"),
    ("End the story with 'The end'.", ["end"], "Then all slept. The end.", "Then all slept."),
    ("Do not use any commas.", ["no_commas"], "a b", "a, b"),
    ("Write it in all lowercase.", ["case"], "abc 1!", "Abc"),
    ("Reply in JSON.", ["json"], '```json\n{"a": [1]}\n```', "a: 1"),
    ("Answer yes or no.", ["yes_no"], "Yes.", "Perhaps"),
    ("Do not use the word 'very'.", ["avoid"], "quite good", "Very good"),
    ('Include the word "moon".', ["include"], "The moon.", "The moonlight."),
]
# Descriptions of inputs and of items, not constraints of the whole answer.
NONE = [
    "Combine the two sentences below.",
    "List words that start with 'a'.",
    "Which of the three words is a verb?",
    "Convert the JSON file to CSV.",
    "Write a one-sentence description for each person.",
    "How many words are in this text?",
    "Find files containing the word 'project'.",
]


@pytest.mark.parametrize(("prompt", "kinds", "good", "bad"), CONSTRAINTS, ids=[p for p, *_ in CONSTRAINTS])
def test_constraints(prompt: str, kinds: list[str], good: str, bad: str) -> None:
    """Each is found, kept by one completion and broken by the other."""
    assert kinds == [one.kind for one in constraints(prompt)]
    assert (1, ()) == kept(prompt, good)
    assert 1 == len(kept(prompt, bad)[1])


@pytest.mark.parametrize("prompt", NONE)
def test_what_is_no_constraint(prompt: str) -> None:
    """What speaks of the input or of parts is left alone."""
    assert [] == constraints(prompt)


def test_sizes() -> None:
    """Sentences with abbreviations, lists as lines, bullets or commas; prose is no list."""
    assert 2 == size_of("Dr. Smith came at 3.5 km today. He left!", "sentence")
    assert 2 == size_of("He came. He left", "sentence")
    assert 3 == size_of("it's a cat", "word")
    assert 3 == items_of("a\nb\nc")
    assert 2 == items_of("• one\n• two")
    assert items_of("It is a long story. It never ends, so they say, and nobody knows.") is None


def test_constraint_respect() -> None:
    """Of three records with a constraint one breaks it; the fourth sets none."""
    data = asked(
        ("Answer yes or no.", "", "Yes"),
        ("Write no more than 3 words. No commas.", "", "a, b"),
        ("Answer in one sentence.", "", "Here it is."),
        ("Tell me more.", "", "..."),
    )
    found = scored(data, "constraint_respect")
    assert found.value == pytest.approx(2 / 3)
    assert 3 == found.n
    assert 1.0 == found.best
    assert 0.0 == found.details["kept.no_commas"]
    assert found.details["with_constraint"] == pytest.approx(0.75)


def test_all_kept_has_an_interval() -> None:
    """None of 10 broken is not "never": Wilson's interval of those with a constraint, not of all."""
    data = asked(
        *((f"Answer yes or no: {i}", "", "yes") for i in range(10)), *(("Hi", "", "x") for _ in range(90))
    )
    found = scored(data, "constraint_respect")
    assert found.interval is not None
    assert (1.0, 0.72) == (found.value, round(found.interval[0], 2))


# ------------------------------------------------------------------------------------- input use


def test_input_use() -> None:
    """Shares of content words taken up, by hand; a record without an input is left out."""
    data = asked(
        ("Summarise the text.", "The cat sleeps on a red sofa", "A cat sleeps."),
        ("Summarise the text.", "Dogs bark", "No idea."),
        ("Sing.", "", "La la la"),
        ("Translate the following sentence.", "", "Was?"),
    )
    found = scored(data, "input_use")
    assert ["cat", "sleeps", "red", "sofa"] == content_words("The cat sleeps on a red sofa")
    assert (0.5 + 0) / 2 == pytest.approx(found.value)
    assert 2 == found.n
    assert found.details["nothing_used"] == pytest.approx(0.5)
    assert found.details["input_missing"] == pytest.approx(0.25)
    assert found.details["longest_run"] == pytest.approx((2 + 0) / 2)
    assert 0.0 == found.chance


def test_longest_run() -> None:
    """The longest run of words, also where a word occurs often."""
    assert 3 == longest_run("a b c d".split(), "x b c d a b".split())
    assert 0 == longest_run([], ["a"])
    assert 300 == longest_run(["a"] * 300, ["a"] * 500)


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("Translate the following sentence.", True),
        ("Given a paragraph, find its topic.", True),
        ("Sort the numbers below.", True),
        ("Translate the following sentence: The cat sleeps.", False),
        ("Correct this sentence\nHe go home", False),
        ('Rewrite the following text "He go home".', False),
        ("Write a sentence about cats.", False),
        ("Name five trees.", False),
    ],
)
def test_missing_inputs(instruction: str, expected: bool) -> None:
    """An input that is spoken of and stands nowhere; one that stands in the instruction is there."""
    assert expected == lacks_input(instruction, "")
    assert not lacks_input(instruction, "He go home")


# ---------------------------------------------------------------------------- refusals and length


def test_refusals() -> None:
    """Refusals in several languages and boiler-plate; an apology alone is none."""
    data = asked(
        ("Do it", "", "I'm sorry, but I can't assist with that."),
        ("Do it", "", "Es tut mir leid, aber ich kann dabei nicht helfen."),
        ("Who are you?", "", "As an AI language model, I have no name."),
        ("Say sorry", "", "Sorry for being late!"),
        ("I'm sorry, but I can't assist with that.", "", "Why not?"),
    )
    found = scored(data, "refusal_share")
    assert found.value == pytest.approx(3 / 5)
    assert (2, 1) == (found.details["count.en"], found.details["count.de"])


def test_kinds_of_tasks() -> None:
    """Kinds by verb, by noun for code, and by first word for questions."""
    expected = {
        "Write a poem about rain.": "write",
        "Write a function that adds numbers.": "code",
        "List five colours.": "list",
        "Classify the review.": "choose",
        "Translate this into French.": "rewrite",
        "Explain why it rains.": "explain",
        "Give an explanation of gravity.": "explain",
        "What is the capital of Chad?": "question",
        "Is water wet?": "yes or no",
        "Answer the question below.": "question",
        "Compute the sum of 2 and 3.": "compute",
        "": "other",
    }
    assert expected == {text: task_kind(text) for text in expected}


def lengthy(n: int, seed: int, *, essays: float, factor: float = 1.0) -> Records:
    """Essays of about 60 words and answers of about 6, `essays` the share of the first."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        long = rng.random() < essays
        size = max(1, int(rng.lognormal(np.log(60 if long else 6) + np.log(factor), 0.3)))
        rows.append(("Write an essay." if long else "Is it so?", "", " ".join(["w"] * size) + f" {i}"))
    return asked(*rows)


def test_other_types_are_not_other_lengths() -> None:
    """Equal lengths within types, other types: the raw ratio is far from 1, the controlled one is not."""
    metric = registry.make("metrics", "length_given_type")
    alarms, raw, covered = 0, [], 0
    for seed in range(100):
        mine, human = lengthy(80, seed, essays=0.7), lengthy(80, seed + 5000, essays=0.3)
        found = metric.compare(Seen.of(mine), Seen.of(human), context())
        alarms += found.p < 0.05
        raw.append(found.details["raw"])
        covered += found.interval[0] <= 1 <= found.interval[1]
    assert np.mean(raw) > 2
    assert alarms <= 10 and covered >= 90
    assert ["length_confounded"] == [one.code for one in found.warnings]


def test_planted_lengths_are_found() -> None:
    """Half as long again within types: the interval holds 1.5 in 90 of 100."""
    metric = registry.make("metrics", "length_given_type")
    covered = 0
    for seed in range(100):
        mine, human = lengthy(80, seed, essays=0.3, factor=1.5), lengthy(80, seed + 5000, essays=0.3)
        found = metric.compare(Seen.of(mine), Seen.of(human), context())
        covered += found.interval[0] <= 1.45 <= found.interval[1]  # 1 + words, and the number at the end
    assert covered >= 88
    assert 2 == found.details["types"]


# ---------------------------------------------------------------------------------- false alarms


def test_no_false_alarms() -> None:
    """Two samples of one source: each metric has p < .05 in at most 10 of 100."""
    names = ["verb_noun_diversity", "input_use"]
    alarms = dict.fromkeys([*names, "rouge_novelty"], 0)
    novelty = registry.make("metrics", "rouge_novelty")
    for seed in range(100):
        one, other = (Seen.of(varied(60, seed + shift, vocabulary=60), seed) for shift in (0, 5000))
        for name in names:
            alarms[name] += p_of(registry.make("metrics", name), one, other) < 0.05
        found = novelty.compare(one, other, context(trials=20))
        alarms["rouge_novelty"] += found.p is not None and found.p < 0.05
    assert all(count <= 10 for count in alarms.values()), alarms


# --------------------------------------------------------------------------------------- real data


def test_tool_instructions_against_people(data_dir) -> None:  # type: ignore[no-untyped-def]
    """GPT-4's tool-use instructions share preambles and few tasks; people's user tasks do not."""
    tools = records.read(data_dir / "gpteacher_toolformer" / "toolformer.jsonl.gz")
    people = records.read(data_dir / "self_instruct" / "user_tasks.jsonl.gz")
    audited = karat.audit(
        tools, people, metrics="rouge_novelty verb_noun_diversity input_use refusal_share", budget="small"
    )
    found = {score.name: score for score in audited.scores}
    for name in ("rouge_novelty", "verb_noun_diversity", "input_use"):
        assert found[name].flagged, name
    assert found["rouge_novelty"].value < 0.2 < 0.5 < found["rouge_novelty"].reference  # type: ignore[operator]
    assert found["input_use"].value > 0.8  # type: ignore[operator]


def test_seed_tasks_against_user_tasks(data_dir) -> None:  # type: ignore[no-untyped-def]
    """Two sets of tasks by people: seeds and user tasks are as novel as each other to a few points."""
    seeds = records.read(data_dir / "self_instruct" / "seed_tasks.jsonl.gz")
    people = records.read(data_dir / "self_instruct" / "user_tasks.jsonl.gz")
    assert (175, 252) == (len(seeds), len(people))
    found = scored(seeds, "rouge_novelty", people)
    assert found.value == pytest.approx(found.reference, abs=0.1)
    kept_ = scored(seeds, "constraint_respect")
    assert kept_.value is not None and kept_.value >= 0.8
