"""The promises of the task arithmetic, against an evaluator, a reduction and Python's own arithmetic."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karat import registry
from karat.errors import BadSetting, InputError
from karat.records import from_rows
from karat.simulation.tasks.arithmetic import ANY_RESULT, ERRORS, Arithmetic

PLAIN = Arithmetic(modulus=0, digits=2, depth_max=3, leaf=0.4)
trees = st.recursive(
    st.integers(0, 99),
    lambda inner: st.tuples(st.sampled_from("+-*"), inner, inner),
    max_leaves=10,
)


def spelled(tree, outer: bool = True) -> str:
    if isinstance(tree, int):
        return str(tree)
    text = f"{spelled(tree[1], False)} {tree[0]} {spelled(tree[2], False)}"
    return text if outer else f"({text})"


def evaluated(tree) -> int:
    if isinstance(tree, int):
        return tree
    a, b = evaluated(tree[1]), evaluated(tree[2])
    return a + b if tree[0] == "+" else a - b if tree[0] == "-" else a * b


def in_grammar(tokens: list[str]) -> bool:
    """Another decision procedure: reduce innermost parentheses to a symbol until nothing moves."""
    row = ["N" if t.isdigit() else t for t in tokens]
    while True:
        for i in range(len(row)):
            inner = row[i : i + 5]
            shape = ["E" if t == "N" else "o" if t in "+-*" else t for t in inner]
            if shape == ["(", "E", "o", "E", ")"]:
                row[i : i + 5] = ["E"]
                break
        else:
            break
    left = "".join(row[: row.index("=")]) if "=" in row else ""
    right = "".join(row[row.index("=") + 1 :]) if "=" in row else ""
    sides = {"N"} | {a + op + b for a in "NE" for op in "+-*" for b in "NE"}
    return left in sides and (right == "N" or (right == "-N" and tokens[-1] != "0"))


@given(trees, st.integers(-3, 3))
def test_a_line_is_right_where_another_evaluator_agrees(tree, off) -> None:
    """Every calculation is accepted, and is right exactly where the stated result is the true one."""
    stated = evaluated(tree) + off
    assert ("true" if off == 0 else "false") == PLAIN.parse(f"{spelled(tree)} = {stated}").kind


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["3", "0", "12", "+", "-", "*", "(", ")", "="]), max_size=9))
def test_the_parser_accepts_exactly_the_grammar(tokens) -> None:
    """On any row of tokens the parser agrees with a decision by reduction."""
    assert in_grammar(tokens) == PLAIN.parse(" ".join(tokens)).valid


def test_hundreds_of_mutations_are_judged_as_the_grammar_says() -> None:
    """One to three tokens dropped, doubled, swapped, replaced: valid only where the reduction says so."""
    chance, odd = (
        random.Random(5),
        ["3", "07", "x", "=", "(", ")", "+", "/", "**", "1.5", "٣", "²", "\x00", "\ud800"],
    )
    rejected: Counter[str] = Counter()
    for text in PLAIN.sample(900, seed=2):
        tokens = PLAIN.tokens(text)
        for _ in range(chance.randint(1, 3)):
            at, other = chance.randrange(len(tokens)), chance.randrange(len(tokens))
            kind = chance.randrange(4)
            if kind == 0 and len(tokens) > 1:
                del tokens[at]
            elif kind == 1:
                tokens.insert(at, tokens[at])
            elif kind == 2:
                tokens[at], tokens[other] = tokens[other], tokens[at]
            else:
                tokens[at] = chance.choice(odd)
        verdict = PLAIN.parse(" ".join(tokens))
        known = all(t in "+-*()=" or (t.isascii() and t.isdigit() and str(int(t)) == t) for t in tokens)
        assert (known and in_grammar(tokens)) == verdict.valid, tokens
        assert verdict.valid or verdict.kind in ERRORS
        rejected[verdict.kind] += not verdict.valid
    assert sum(rejected.values()) > 500
    assert {"unknown_token", "bad_number", "no_result", "unbalanced", "trailing", "misplaced"} <= set(
        rejected
    )


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text) -> None:
    """Any string gets a verdict: right, wrong or one of the error classes."""
    assert PLAIN.parse(text).kind in {*ERRORS, "true", "false"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        ("1 + 2 = 3", "true"),
        ("1+2=3", "true"),
        ("1 + 2 = 4", "false"),
        ("4 = 4", "true"),
        ("2 - 5 = -3", "true"),
        ("2 - 2 = -0", "misplaced"),
        ("(1 + 2) * (3 - 4) = -3", "true"),
        ("1 + 2 * 3 = 7", "misplaced"),
        ("(1 + 2) = 3", "misplaced"),
        ("(1) + 2 = 3", "misplaced"),
        ("-1 + 2 = 1", "misplaced"),
        ("1 + 2", "no_result"),
        ("1 + 2 =", "no_result"),
        ("1 + 2 = 3 = 3", "trailing"),
        ("(1 + 2 = 3", "unbalanced"),
        ("1 + 2) = 3", "unbalanced"),
        ("01 + 2 = 3", "bad_number"),
        ("1 / 1 = 1", "unknown_token"),
        ("1_0 + 1 = 11", "unknown_token"),
        ("٣ + 1 = 4", "unknown_token"),
        ("９ + 1 = 10", "unknown_token"),
        ("0x1 + 1 = 2", "unknown_token"),
        ("1e9 = 1", "unknown_token"),
        ("9**9**9**9 = 1", "misplaced"),
        ("__import__('os').system('true') = 0", "unknown_token"),
        ("1 + 2 = 3\x00", "unknown_token"),
        ("\ud800", "unknown_token"),
        ("9" * 5000 + " = 1", "bad_number"),
        ("(" * 1500 + "1", "no_result"),
        ("(" * 1500 + "1 = 1", "too_deep"),
        ("(" * 10**6, "too_long"),
        (" " * 10**7, "too_long"),
        ("1 + " * 10**6 + "1 = 1", "too_long"),
    ],
)
def test_each_error_has_its_class(text, kind) -> None:
    """Error classes are told apart, and hostile texts are refused before anything is calculated."""
    assert kind == PLAIN.parse(text).kind


def test_samples_are_right_for_python_itself_and_repeat_with_the_seed() -> None:
    """Python's own value (these are our strings) is the stated one, also modulo a number; depths are kept."""
    for modulus in (0, 7):
        task = Arithmetic(
            modulus=modulus, digits=2 if modulus == 0 else 1, depth_min=1, depth_max=3, leaf=0.5
        )
        texts = task.sample(200, seed=3)
        for text in texts:
            left, stated = text.split(" = ")
            value = eval(left, {"__builtins__": {}})
            assert int(stated) == (value % modulus if modulus else value)
        assert {1, 2, 3} == {task.parse(text).depth for text in texts}
        assert texts == task.sample(200, seed=3)
        assert texts != task.sample(200, seed=4)


def test_numbers_beyond_the_modulus_are_no_numbers() -> None:
    """Modulo 5 the digits are 0 to 4, in operands and results."""
    task = Arithmetic()
    assert ["true", "false", "bad_number", "bad_number"] == [
        task.parse(text).kind for text in ("3 + 4 = 2", "3 + 4 = 3", "3 + 4 = 7", "5 + 1 = 1")
    ]


def test_rules_written_anew_are_valid_and_counted_the_same() -> None:
    """Writing from rule counts gives their shares up to chance; results are as right as those before."""
    task = Arithmetic()
    texts = task.sample(1500, seed=0)
    wrong = [text[:-1] + str((int(text[-1]) + 1) % 5) for text in texts[:300]]
    rules = task.rules(wrong + texts[300:] + ["no line at all"])
    again = task.write(rules, 6000, seed=1)
    verdicts = task.verify(again)
    assert all(verdict.valid for verdict in verdicts)
    assert 0.8 == pytest.approx(sum(verdict.correct for verdict in verdicts) / 6000, abs=0.04)
    found = task.rules(again)
    for place in [(0, "", 0), (1, "+", 0), (1, "*", 1), ("result", 3, 0)]:
        old, new = rules[place], found[place]
        for choice, count in old.items():
            share, n = count / sum(old.values()), sum(new.values())
            # five standard errors of a share
            assert abs(share - new.get(choice, 0) / n) <= 5 * (share * (1 - share) / n) ** 0.5, (
                place,
                choice,
            )
    assert set(again) == set(task.write(rules, 6000, seed=1))


def test_a_result_that_was_never_seen_is_guessed_like_the_others() -> None:
    """A value without a place takes a result that some training line had."""
    task = Arithmetic(modulus=0, digits=1)
    rules = task.rules(["1 + 2 = 3", "4 + 5 = 9"])
    assert ANY_RESULT not in rules
    written = set(task.write(rules, 200, seed=0))
    assert {"1 + 2 = 3", "4 + 5 = 9", "1 + 5 = 3", "1 + 5 = 9", "4 + 2 = 3", "4 + 2 = 9"} == written


def test_settings_come_from_a_spec_and_bad_ones_are_named() -> None:
    """Operators are named by words with weights; an impossible setting is an error of one line."""
    task = registry.make("tasks", "arithmetic:operators=plus*3+times,depth_max=1")
    counts = Counter(task.tokens(text)[1] for text in task.sample(4000, seed=0))
    assert 3.0 == pytest.approx(counts["+"] / counts["*"], rel=0.2)
    assert "task" in task.describe()
    for spec in (
        "arithmetic:operators=power",
        "arithmetic:operators=plus*0",
        "arithmetic:leaf=2",
        "arithmetic:modulus=1",
        "arithmetic:digits=0",
        "arithmetic:depth_min=3",
        "arithmetic:depth_max=200",
    ):
        with pytest.raises(BadSetting, match="task 'arithmetic'"):
            registry.make("tasks", spec)


def test_a_file_with_a_wrong_line_is_refused_by_record() -> None:
    """The user's own file must hold right lines; the first other one is named."""
    good = [{"text": "1 + 2 = 3"}] * 30
    assert 27 == Arithmetic().source(from_rows(good, datatype="text")).size
    human = from_rows([*good, {"id": "odd", "text": "1 + 2 = 4"}], datatype="text")
    with pytest.raises(InputError, match="odd is wrong"):
        Arithmetic().source(human)
