"""The task `code`: our evaluator agrees with Python, and what it does not know is refused before it costs."""

from __future__ import annotations

import pickle
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from karat import registry
from karat.errors import BadSetting, InputError
from karat.records import from_rows
from karat.simulation.evaluator import KEYWORDS, Evaluator, Limits, Rejected, parsed
from karat.simulation.tasks.code import ERRORS, OPERATORS, Code
from karat.training.causal_codec import FEW_WORDS, WORD, join_words

TASK = Code()
WIDE = Code(operators=OPERATORS, depth_max=3, equal=0.5)
LIMITS = Limits(200, 30, 64, 200)
NAMES = {"abs": abs, "len": len, "max": max, "min": min, "sorted": sorted, "sum": sum}


def python(text: str):
    """What Python itself says of a text that this file wrote: its value, or the kind of its error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # for instance of `1(2)`
            return eval(text, {"__builtins__": {}, **NAMES})
    except Exception as error:
        return error


def ours(text: str):
    try:
        return Evaluator(LIMITS).value(parsed(text, LIMITS)[1])
    except Rejected as error:
        return error


def is_value(found) -> bool:
    """Whether a value is one of the language: whole numbers, truth values and lists of values."""
    if type(found) is list:
        return all(map(is_value, found))
    return type(found) in (int, bool)


def same(a, b) -> bool:
    return type(a) is type(b) and a == b and repr(a) == repr(b)


@pytest.fixture(scope="module")
def drawn() -> list[str]:
    """Texts of the whole grammar, True or not; a few divide by zero."""
    return WIDE.write(WIDE.rules(WIDE.sample(500, seed=3)), 800, seed=4)


def test_the_verdict_is_what_python_says(drawn) -> None:
    """On texts of the grammar, True, False and division by zero are Python's own."""
    expected = []
    for text in drawn:
        value = python(text)
        expected.append(
            "zero" if isinstance(value, ZeroDivisionError) else "true" if value is True else "false"
        )
    assert expected == [verdict.kind for verdict in WIDE.verify(drawn)]
    assert {"true", "false", "zero"} == set(expected), "all kinds are there"


WRITTEN = (
    "1 + 2 * 3 - - 4",
    "- 7 // 2",
    "- 7 % 3",
    "2 ** 3 ** 2 % 100",
    "( - 2 ) ** 3",
    "0 ** 0",
    "True + True",
    "not [ ]",
    "not 3 == 4",
    "0 or [ 1 ]",
    "1 and 0 and 1 // 0",
    "1 < 2 < 3",
    "1 < 3 < 2 < 1 // 0",
    "[ 1 , 2 ] < [ 1 , 3 ]",
    "[ 1 ] * 3 + [ 2 ]",
    "- 1 * [ 1 ]",
    "3 in [ 1 , 3 ]",
    "3 not in [ 1 , 3 ]",
    "[ 1 ] in [ [ 1 ] ]",
    "sorted ( [ 3 , 1 , 2 ] ) [ - 1 ]",
    "[ 1 , 2 ] [ True ]",
    "max ( [ 1 , 5 ] , [ 2 ] )",
    "max ( True , 1 )",
    "min ( [ 4 , 2 ] )",
    "sum ( [ ] )",
    "sum ( [ True , 2 ] )",
    "len ( [ [ ] , [ ] ] )",
    "abs ( - 3 )",
    "+ True",
    "1 if [ ] else 2",
    "[ 1 , 2 , ]",
    "max ( 1 , 2 , )",
    "[ 1 ] == 1",
    "True == 1",
    "1 != 2",
    "9223372036854775807 + 1",
)


@pytest.mark.parametrize("text", WRITTEN)
def test_values_are_pythons(text) -> None:
    """Every operator and function means what it means in Python, with the same type."""
    assert same(python(text), ours(text)), f"{python(text)!r} {ours(text)!r}"


def test_the_evaluator_agrees_with_python_on_mutated_texts(drawn) -> None:
    """Whatever gets a value gets Python's; what Python refuses is refused, with a fitting class."""
    random = Random(6)
    words = [*NAMES, *sorted(KEYWORDS), *"()[],+-*%<>", "==", "//", "!=", *map(str, range(10))]
    valid = wrong = 0
    for text in [*drawn, *WRITTEN * 20]:
        tokens = TASK.tokens(text)
        for _ in range(random.randint(1, 3)):
            at = random.randrange(len(tokens))
            tokens[at : at + random.randint(0, 1)] = random.choices(words, k=random.randint(0, 1))
        # Two stars side by side are a power, which may be too long for Python to write out.
        mutated = re.sub(r"\*(\s*\*)+", "*", " ".join(tokens))
        there, here = python(mutated), ours(mutated)
        if not isinstance(here, Rejected):
            assert same(there, here), mutated
            valid += 1
        elif is_value(there):
            # A tuple inside, or a function as a value that is never used: more Python than the language has.
            assert str(here) == "forbidden_node", f"{mutated} is {there!r}, but {here}"
        else:
            wrong += 1
            if isinstance(there, SyntaxError):
                assert str(here) in ("syntax", "unbalanced", "empty", "forbidden_node"), mutated
            elif isinstance(there, ZeroDivisionError):
                assert str(here) in ("zero", "forbidden_node"), mutated
            elif isinstance(there, IndexError):
                assert str(here) in ("index", "forbidden_node"), mutated
    assert valid > 200 and wrong > 200, "mutations of all kinds were tried"


def test_real_texts_are_true_seeded_and_of_the_grammar() -> None:
    """The same seed and the same turn give the same texts; Python says True of each."""
    texts = TASK.sample(400, seed=1)
    assert texts == TASK.sample(400, seed=1)
    assert texts != TASK.sample(400, seed=2)
    assert all(python(text) is True for text in texts)
    assert all(verdict.correct for verdict in TASK.verify(texts))
    assert all(TASK.derivation(text) for text in texts)
    source = TASK.source(seed=7)
    assert source.draw(50, turn=3) == source.draw(50, turn=3)
    assert source.draw(50, turn=3) != source.draw(50, turn=4)
    assert source.held_out(50) != source.draw(50, turn=0)
    assert source.size is None


def test_a_model_of_words_can_write_every_text() -> None:
    """Few words, short texts, and spacing that a word model makes changes neither tokens nor verdict."""
    texts = TASK.sample(1000, seed=2)
    rows = [WORD.findall(text) for text in texts]
    assert len({word for row in rows for word in row}) <= FEW_WORDS
    assert 10 <= sum(map(len, rows)) / len(rows) <= 25
    for text, row in zip(texts, rows, strict=True):
        again = join_words(row)
        assert TASK.tokens(text) == TASK.tokens(again)
        assert TASK.parse(text) == TASK.parse(again) == TASK.parse("  ".join(row))


def test_rules_count_each_choice_in_its_place() -> None:
    """One text by hand; texts that are not valid or not of the grammar add nothing."""
    text = "max(sum([1, 2]), (4 - 3)) == 3"
    outside = [
        "max(3) == 3",
        "((4 - 3)) == 1",
        "4 - 3 == 1 == 1",
        "4 - 3 == - 1",
        "7 - 99 < 3",
        "len([]) == 0",
    ]
    rules = TASK.rules([text, text, "1 == ", *outside])
    assert rules == {
        "sign": {"==": 2},
        ("number", 0, "==", 0): {"max": 2},
        ("number", 1, "max", 0): {"sum": 2},
        ("items", 1, "sum"): {"2": 2},
        ("number", 2, "sum", 0): {"digit": 2},
        ("digit", 2, "sum", 0): {"1": 2},
        ("number", 2, "sum", 1): {"digit": 2},
        ("digit", 2, "sum", 1): {"2": 2},
        ("number", 1, "max", 1): {"-": 2},
        ("number", 2, "-", 0): {"digit": 2},
        ("digit", 2, "-", 0): {"4": 2},
        ("number", 2, "-", 1): {"digit": 2},
        ("digit", 2, "-", 1): {"3": 2},
        ("value", "==", "max"): {"3": 2},
    }
    assert [text] * 3 == TASK.write(rules, 3, seed=0)


def test_what_rules_write_has_their_shares(drawn) -> None:
    """Written texts are of the grammar, seeded, and counted again give the rules back."""
    rules = TASK.rules(TASK.sample(1000, seed=5))
    texts = TASK.write(rules, 2000, seed=1)
    assert texts == TASK.write(rules, 2000, seed=1)
    assert all(verdict.valid for verdict in TASK.verify(texts))
    again = TASK.rules(texts)
    for place in ("sign", ("number", 0, "==", 0), ("number", 1, "max", 1), ("value", "==", "+")):
        there, here = sum(rules[place].values()), sum(again[place].values())
        for choice, times in rules[place].items():
            share = times / there
            assert share == pytest.approx(
                again[place].get(choice, 0) / here, abs=5 * (share * (1 - share) / here) ** 0.5 + 1e-9
            )


def test_depth_counts_operations_inside_each_other() -> None:
    """The comparison is one level, each operation one more."""
    for depth, text in enumerate(["3", "1 == 1", "1 + 0 == 1", "1 + (2 - 2) == 1", "abs(len([1])) == 1"]):
        assert depth == TASK.parse(text).depth, text


@pytest.mark.parametrize(
    ("knobs", "word", "low", "high"),
    [
        ({"equal": 1.0}, "==", 1, 1),
        ({"equal": 0.0}, "[<>] [0-9]+$", 1, 1),
        ({"equal": 0.5}, "==", 0.4, 0.6),
        ({"operators": ("max",)}, r"^max\(", 1, 1),
        ({"operators": ("max", "plus*9")}, r"^max\(", 0.05, 0.25),
        ({"operators": ("if",)}, "if", 1, 1),
        ({"operators": ("divided", "modulo")}, "//|%", 1, 1),
        ({"depth_max": 1}, r"\(\(|\[\(", 0, 0),
        ({"leaf": 1.0, "depth_max": 3, "operators": ("plus",)}, r"^\d \+ \d [=<>]", 1, 1),
        ({"leaf": 0.0, "depth_max": 2, "operators": ("plus",)}, r"^\(\d \+ \d\) \+ \(\d \+ \d\) [=<>]", 1, 1),
        ({"operators": ("len",), "items_max": 1, "leaf": 1.0}, r"^len\(\[\d\]\)", 1, 1),
        ({"number_max": 2, "value_max": 2}, "[3-9]", 0, 0),
    ],
)
def test_knobs_change_the_texts(knobs, word, low, high) -> None:
    """Each knob is the share or the range that it names."""
    texts = Code(**knobs).sample(300, seed=1)
    assert low <= sum(bool(re.search(word, text)) for text in texts) / len(texts) <= high


HOSTILE = {
    "__import__('os').system('touch stolen')": "forbidden_name",
    "__import__(1)": "forbidden_name",
    "open(3)": "forbidden_name",
    "eval(1)": "forbidden_name",
    "print(1)": "forbidden_name",
    "range(999999999)": "forbidden_name",
    "max.__class__": "unknown_token",
    "import os": "forbidden_node",
    "lambda: 1": "forbidden_node",
    "lambda max: 1": "forbidden_node",
    "[1 for max in [1]]": "forbidden_node",
    "(max := 1)": "unknown_token",
    "max = 1": "syntax",
    "max": "forbidden_node",
    "max == max": "forbidden_node",
    "[len][0]([1])": "forbidden_node",
    "(max)(1, 2)": "false",  # the same tree as max(1, 2), whose value is 2
    "1(2)": "forbidden_node",
    "max(1, max=2)": "forbidden_node",
    "max(*[1, 2])": "forbidden_node",
    "(1, 2)": "forbidden_node",
    "()": "forbidden_node",
    "[1, 2][0:1]": "unknown_token",
    "1 / 2": "forbidden_node",
    "1.5": "unknown_token",
    "1e9": "unknown_token",
    "0x10": "unknown_token",
    "1_000": "unknown_token",
    "1j": "unknown_token",
    "007": "syntax",
    "'a' * 3": "unknown_token",
    "1 is 1": "forbidden_node",
    "None": "forbidden_node",
    "1 @ 2": "unknown_token",
    "1 << 9999": "syntax",
    "~ 1": "unknown_token",
    "1; 2": "unknown_token",
    "1\n2": "unknown_token",
    "1 # 2": "unknown_token",
    "1 \\": "unknown_token",
    "1\0": "unknown_token",
    "1 == 1\ud800": "unknown_token",
    "１ == 1": "unknown_token",
    "mаx(1, 2) == 2": "unknown_token",  # a Cyrillic letter
    "9 ** 9 ** 9": "too_large",
    "9 ** 9 ** 9 ** 9 ** 9": "too_large",
    "2 ** 64": "too_large",
    "9 ** 999999999999": "too_large",
    "0 ** - 1": "zero",
    "2 ** - 1": "type",
    "9" * 4000: "too_large",
    "9" * 30: "too_large",
    "9" * 5000: "too_long",
    "[1] * 999999999": "too_large",
    "[[1] * 100] * 100": "too_large",
    "[[[[1] * 9] * 9] * 9] * 9": "too_large",
    "[1] * 99 + [1] * 99 + [1] * 99": "too_large",
    "sum([9223372036854775807] * 99) * 9": "too_large",
    "(" * 29 + "1" + ")" * 29: "false",
    "(" * 60 + "1" + ")" * 60: "too_deep",
    "(" * 1500 + "1" + ")" * 1500: "too_long",
    "[" * 90 + "]" * 90: "too_deep",
    "(" * 90: "unbalanced",
    "max(" * 20 + "1 1" + ")" * 20: "syntax",
    "not " * 150 + "1": "too_deep",
    "- " * 150 + "1": "too_deep",
    "1" + " + 1" * 90: "too_deep",
    "1 if 1 else " * 45 + "1": "false",
    "1 ** " * 90 + "1": "too_deep",
    "1 < " * 90 + "2": "false",
    "1 and " * 90 + "1": "false",
    "1 + " * 2000 + "1": "too_long",
    "": "empty",
    "   ": "empty",
    "1 ==": "syntax",
    "(1]": "unbalanced",
    "1)": "unbalanced",
    "len(3)": "type",
    "[1] + 1": "type",
    "[1] < 1": "type",
    "- [1]": "type",
    "3 in 3": "type",
    "sorted([1, [2]])": "type",
    "sum([[1], [2]])": "type",
    "[1][[0]]": "type",
    "abs()": "arguments",
    "abs(1, 2)": "arguments",
    "max([])": "arguments",
    "max(1)": "type",
    "1 // 0": "zero",
    "1 % 0": "zero",
    "[1][1]": "index",
    "3": "false",
    "1 == 2": "false",
    "1 == 1": "true",
}


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:40]))
def test_what_the_language_does_not_have_is_refused(text, tmp_path, monkeypatch) -> None:
    """Each hostile text gets its class, within limits, and nothing of it runs."""
    monkeypatch.chdir(tmp_path)
    verdict = TASK.parse(text)
    assert HOSTILE[text] == verdict.kind
    assert verdict.valid or verdict.kind in ERRORS
    assert [] == list(tmp_path.iterdir())


def test_random_strings_never_raise(drawn) -> None:
    """Any row of signs gets a verdict whose kind is known."""
    random = Random(9)
    signs = [chr(i) for i in range(0, 256)] + ["\ud800", "\u2028", "🌍", "lambda ", "(", ")", "**"]
    for text in drawn[:500]:
        at = random.randrange(len(text))
        broken = text[:at] + "".join(random.choices(signs, k=random.randint(1, 4))) + text[at:]
        verdict = TASK.parse(broken)
        assert verdict.valid or verdict.kind in ERRORS, ascii(broken)


def test_pickled_tasks_and_threads_judge_alike(drawn) -> None:
    """A task has no state that a copy would lack."""
    copy = pickle.loads(pickle.dumps(WIDE))
    assert copy == WIDE
    expected = WIDE.verify(drawn)
    with ThreadPoolExecutor(4) as pool:
        assert [expected] * 4 == list(pool.map(copy.verify, [drawn] * 4))


def test_a_users_own_file_must_be_true() -> None:
    """True texts are dealt; another one is named."""
    good = TASK.sample(40, seed=1)
    pool = TASK.source(from_rows([{"text": text} for text in good], datatype="text"))
    assert {*good} >= {*pool.draw(20, turn=0)}
    with pytest.raises(InputError, match="forbidden_name"):
        TASK.source(from_rows([{"text": text} for text in [*good, "exit(1)"]], datatype="text"))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("code:leaf=2", "leaf=2"),
        ("code:depth_max=0", "depth_max=0"),
        ("code:operators=plus+power", "power"),
        ("code:operators=plus*x", "plus\\*x"),
        ("code:operators=plus*-1", "plus\\*-1"),
        ("code:operators=", "operators"),
    ],
)
def test_settings_that_cannot_be_are_refused(spec, said) -> None:
    """One line names the setting and the value."""
    with pytest.raises(BadSetting, match=said):
        registry.make("tasks", spec)


def test_a_grammar_that_has_no_value_in_range_says_so() -> None:
    """Instead of drawing for ever."""
    with pytest.raises(BadSetting, match="value_max=0"):
        Code(operators=("len",), value_max=0, equal=1.0).sample(10)


def test_the_shelf_knows_it_and_it_says_what_it_is() -> None:
    """Settings of a spec arrive, and the description tells them."""
    task = registry.make("tasks", "code:depth_max=3,operators=plus+max*2")
    assert Code(depth_max=3, operators=("plus", "max*2")) == task
    assert task == registry.make("tasks", registry.spec_of(task))
    assert "+ (1), max (2)" == task.describe()["operators"]
