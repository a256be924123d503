"""Root verb and object of instructions: measured on hand-labelled instructions that made no rule."""

from __future__ import annotations

import pytest

from karat.auditing import statistics as stats
from karat.auditing.instruction_verbs import root, singular, verb_noun

# Labelled by hand from the grammar of the sentence before the rules were run on them: the verb of the main
# clause that asks, and the head noun of its direct object ("" for none, None for a question or a statement).
LABELLED = [
    ("Draft a cover letter for a nursing job.", "draft", "letter"),
    ("List the ingredients you need for pancakes.", "list", "ingredient"),
    ("Please correct the spelling mistakes in this note.", "correct", "mistake"),
    ("Given the following dialogue, predict the next utterance.", "predict", "utterance"),
    ("You will be shown two sentences. Determine whether they mean the same.", "determine", ""),
    ("Could you recommend some podcasts on history?", "recommend", "podcast"),
    ("How many moons does Mars have?", None, None),
    ("Summarize the plot of your favourite film in fifty words.", "summarize", "plot"),
    ("Invent a board game that families can play in winter.", "invent", "game"),
    ("Rewrite the email in a friendlier tone.", "rewrite", "email"),
    ("Remove all duplicate rows from the table.", "remove", "row"),
    ("Why do cats purr?", None, None),
    ("For each noun, write its plural form.", "write", "form"),
    ("Brainstorm slogans for a bicycle shop.", "brainstorm", "slogan"),
    ("Turn the following statement into a question.", "turn", "statement"),
    ("Act as an interviewer and ask me questions.", "act", ""),
    ("Estimate the cost of painting a small bedroom.", "estimate", "cost"),
    ("Help me plan a birthday party for twenty guests.", "plan", "party"),
    ("Solve the equation 3x + 4 = 10.", "solve", "equation"),
    ("Assign a topic to the headline.", "assign", "topic"),
    ("I need you to proofread my essay.", "proofread", "essay"),
    ("Write an SQL query that returns the ten oldest customers.", "write", "query"),
    ("Explain photosynthesis to a six-year-old.", "explain", "photosynthesis"),
    ("Outline the main arguments of the article.", "outline", "argument"),
    ("Read the passage and answer the question.", "read", "passage"),
    ("Select the word that does not belong.", "select", "word"),
    ("Imagine you are a pirate.", "imagine", ""),
    ("Rank these cities by population.", "rank", "city"),
    ("In one paragraph, describe the causes of inflation.", "describe", "cause"),
    ("Extract every date mentioned in the letter.", "extract", "date"),
    ("Compute the area of a circle with radius five.", "compute", "area"),
    ("What would you say to a friend who lost her job?", None, None),
    ("Offer two reasons for and two reasons against the plan.", "offer", "reason"),
    ("Edit the paragraph for clarity.", "edit", "paragraph"),
    ("Choose the correct answer.", "choose", "answer"),
    ("The task is to label each tweet as angry or calm.", "label", "tweet"),
    ("Show me how to tie a bow tie.", "show", ""),
    ("Develop a weekly workout plan for beginners.", "develop", "plan"),
    ("Using simple words, define the term 'entropy'.", "define", "term"),
    ("Shorten the text to one sentence.", "shorten", "text"),
    ("Analyze the tone of the speech.", "analyze", "tone"),
    ("Replace the underlined words with synonyms.", "replace", "word"),
    ("Craft a thank-you message to a retired teacher.", "craft", "message"),
    ("Do penguins have knees?", None, None),
    ("Think of three questions for the speaker, then write them down.", "write", ""),
    ("Tell the reader why sleep matters.", "tell", "reader"),
    ("Debug the script below.", "debug", "script"),
    ("Propose a solution to the traffic problem in our town.", "propose", "solution"),
    ("Count the vowels in the word banana.", "count", "vowel"),
    ("Organize the notes into a table.", "organize", "note"),
    ("Discuss the benefits and risks of fasting.", "discuss", "benefit"),
    ("Given a recipe, list its allergens.", "list", "allergen"),
    ("Produce a rhyming couplet about rain.", "produce", "couplet"),
    ("Infer the speaker's mood from the text.", "infer", "mood"),
    ("Arrange the events in chronological order.", "arrange", "event"),
    ("Where is the Gobi desert?", None, None),
    ("Paraphrase the quote without losing its meaning.", "paraphrase", "quote"),
    ("Verify the claim with the help of the document.", "verify", "claim"),
    ("Add punctuation to the following sentence.", "add", "punctuation"),
    ("Make the sentence below sound more formal.", "make", "sentence"),
]


def right(text: str, verb: str | None, noun: str | None) -> bool:
    found = root(text)
    return found is None if verb is None else found == (verb, noun)


def test_accuracy_on_labelled_instructions() -> None:
    """Verb and object are right on 57 of 60, as the module says; the three are kept wrong, not tuned away."""
    wrong = [text for text, verb, noun in LABELLED if not right(text, verb, noun)]
    expected = [
        "Solve the equation 3x + 4 = 10.",
        "What would you say to a friend who lost her job?",
        "Think of three questions for the speaker, then write them down.",
    ]
    assert 60 == len(LABELLED)
    assert expected == wrong
    low, high = stats.wilson(57, 60) or (0.0, 0.0)
    assert (0.86, 0.98) == (round(low, 2), round(high, 2))


# The sentences that the rules were made with.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write a short story about a dog.", ("write", "story")),
        (
            "You are given a sentence. Your task is to classify its sentiment as good or bad.",
            ("classify", "sentiment"),
        ),
        ("Can you give me five tips for better sleep?", ("give", "tip")),
        (
            "In this task, you need to rewrite the paragraph so that a child understands it.",
            ("rewrite", "paragraph"),
        ),
        ("Come up with a catchy name for a bakery.", ("come", "name")),
        ("Compose a short, funny poem describing the sea.", ("compose", "poem")),
        ("Create a Python function that reverses a string.", ("create", "function")),
        ("Reply to the message politely.", ("reply", "")),
        ("You are given a citation, convert it to another style.", ("convert", "")),
        ("What is the capital of Peru?", None),
        ("", None),
        ("Les chats dorment.", None),
    ],
)
def test_rules(text: str, expected: tuple[str, str] | None) -> None:
    """Imperatives, lead-ins, phrasal verbs, relative clauses and questions."""
    assert expected == root(text)


def test_a_pair_needs_a_noun() -> None:
    """An instruction without an object has a root and no pair."""
    assert ("explain", "") == root("Explain why the sky is blue.")
    assert verb_noun("Explain why the sky is blue.") is None


def test_singular() -> None:
    """Plural endings go, words that end in s stay."""
    given = ["stories", "boxes", "people", "glass", "analysis", "lists", "person's"]
    assert ["story", "box", "person", "glass", "analysis", "list", "person"] == [
        singular(one) for one in given
    ]
