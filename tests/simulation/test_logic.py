from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karat import registry
from karat.errors import BadSetting, InputError
from karat.records import from_rows
from karat.simulation.measures import levenshtein_diversity
from karat.simulation.tasks.logic import BINARY, ERRORS, Logic

ALL = Logic(operators=("not", "and", "or", "xor", "implies"))
# A tree is a leaf, ("not", tree) or (operator, tree, tree).
trees = st.recursive(
    st.booleans(),
    lambda inner: st.tuples(st.just("not"), inner) | st.tuples(st.sampled_from(sorted(BINARY)), inner, inner),
    max_leaves=12,
)


def spelled(tree) -> str:
    if isinstance(tree, bool):
        return str(tree)
    if tree[0] == "not":
        return f"(not {spelled(tree[1])})"
    return f"({spelled(tree[1])} {tree[0]} {spelled(tree[2])})"


def evaluated(tree) -> bool:
    if isinstance(tree, bool):
        return tree
    if tree[0] == "not":
        return not evaluated(tree[1])
    a, b = evaluated(tree[1]), evaluated(tree[2])
    return {"and": a and b, "or": a or b, "xor": a != b, "implies": (not a) or b}[tree[0]]


def in_grammar(tokens: list[str]) -> bool:
    """Another decision procedure: reduce innermost expressions to one symbol until nothing moves."""
    row = ["E" if t in ("True", "False") else t for t in tokens]
    moved = True
    while moved:
        moved = False
        for i in range(len(row)):
            if row[i : i + 4] == ["(", "not", "E", ")"]:
                row[i : i + 4], moved = ["E"], True
            elif row[i : i + 2] == ["(", "E"] and row[i + 3 : i + 5] == ["E", ")"] and row[i + 2] in BINARY:
                row[i : i + 5], moved = ["E"], True
    return row == ["E"]


@given(trees)
def test_a_valid_text_gets_the_value_that_another_evaluator_gives(tree) -> None:
    """Every expression of the grammar is accepted, with its value."""
    assert ("true" if evaluated(tree) else "false") == ALL.parse(spelled(tree)).kind


@settings(max_examples=300)
@given(st.lists(st.sampled_from([*ALL.vocabulary]), max_size=12))
def test_the_parser_accepts_exactly_the_grammar(tokens) -> None:
    """On any row of tokens the parser agrees with a decision by reduction."""
    assert in_grammar(tokens) == ALL.parse(" ".join(tokens)).valid


@settings(max_examples=300)
@given(trees, st.data())
def test_every_invalid_mutation_is_rejected(tree, data) -> None:
    """Deleting, doubling, swapping or replacing tokens yields a valid text only where the grammar says so."""
    tokens = ALL.tokens(spelled(tree))
    i = data.draw(st.integers(0, len(tokens) - 1))
    j = data.draw(st.integers(0, len(tokens) - 1))
    kind = data.draw(st.sampled_from(["delete", "double", "swap", "replace", "insert"]))
    new = data.draw(st.sampled_from([*ALL.vocabulary, "maybe", "true", "1"]))
    if kind == "delete":
        del tokens[i]
    elif kind == "double":
        tokens.insert(i, tokens[i])
    elif kind == "swap":
        tokens[i], tokens[j] = tokens[j], tokens[i]
    elif kind == "replace":
        tokens[i] = new
    else:
        tokens.insert(i, new)
    verdict = ALL.parse(" ".join(tokens))
    assert in_grammar(tokens) == verdict.valid
    assert verdict.valid or verdict.kind in ERRORS


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text) -> None:
    """Any string gets a verdict: a value or one of the error classes."""
    kind = ALL.parse(text).kind
    assert kind in ERRORS or kind in ("true", "false")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("True", "true"),
        ("(not True)", "false"),
        ("(True and (not False))", "true"),
        ("(True and False", "unbalanced"),
        ("True)", "unbalanced"),
        (")", "unbalanced"),
        ("True False", "trailing"),
        ("True and False", "trailing"),  # Python would take it; the grammar does not
        ("(True)", "misplaced"),
        ("()", "misplaced"),
        ("(and True False)", "misplaced"),
        ("(True not False)", "misplaced"),
        ("(True and False or True)", "misplaced"),
        ("(not)", "misplaced"),
        ("TrueFalse", "unknown_token"),
        ("(True and true)", "unknown_token"),
        ("__import__('os').system('true')", "unknown_token"),
        ("(True xor False)", "unknown_token"),  # an operator that this task does not have
    ],
)
def test_each_error_has_its_class(text, kind) -> None:
    """Error classes are told apart."""
    assert kind == Logic().parse(text).kind


def test_depth_and_length_have_limits_and_python_s_stack_does_not_matter() -> None:
    """A hundred thousand parentheses are an error and no crash."""
    assert "too_long" == Logic().parse("(" * 100_000).kind
    assert "too_deep" == Logic().parse("(not " * 200 + "True" + ")" * 200).kind
    deep = Logic(depth_limit=3000, length_limit=10_000).parse("(not " * 2000 + "True" + ")" * 2000)
    assert ("true", 2000) == (deep.kind, deep.depth)


def test_samples_are_true_within_the_depth_bounds_and_repeat_with_the_seed() -> None:
    """Every sample is True for Python itself, too (these are our own strings), and the seed decides them."""
    task = Logic(depth_min=2, depth_max=4, leaf=0.4, true_share=0.5)
    texts = task.sample(300, seed=3)
    assert all(eval(text, {"__builtins__": {}}) is True for text in texts)
    assert {2, 3, 4} == {task.parse(text).depth for text in texts}
    assert texts == task.sample(300, seed=3)
    assert texts != task.sample(300, seed=4)


@pytest.mark.parametrize(
    ("leaf", "length", "distinct", "diversity"),
    [(0.25, 31.2, 7751, 0.641), (0.33, 24.4, 6762, 0.651), (0.5, 14.2, 4229, 0.626)],
)
def test_the_data_have_the_published_replica_s_properties(leaf, length, distinct, diversity) -> None:
    """Depth 1 to 5, 10,000 True expressions: lengths, distinct texts and diversity of a replica."""
    task = Logic(depth_max=5, leaf=leaf, true_share=0.5)
    rows = [task.tokens(text) for text in task.sample(10_000, seed=1)]
    assert length == pytest.approx(sum(map(len, rows)) / 10_000, rel=0.03)
    assert distinct == pytest.approx(len(set(map(tuple, rows))), rel=0.03)
    value, _ = levenshtein_diversity(rows[:4000], exact_pairs=100_000)
    assert diversity == pytest.approx(value.value, abs=0.01)


def test_settings_come_from_a_spec_and_bad_ones_are_named() -> None:
    """Operators are written with weights; an impossible setting is an error of one line."""
    task = registry.make("tasks", "logic:operators=and*2+or,depth_max=2")
    assert {"and": 2.0, "or": 1.0} == task.weights
    for spec in ("logic:operators=nand", "logic:leaf=1.5", "logic:depth_min=4", "logic:operators=and*0"):
        with pytest.raises(BadSetting, match="task 'logic'"):
            registry.make("tasks", spec)


def test_operators_are_drawn_by_their_weight() -> None:
    """`and*3+or` writes about three times as many `and` at the root, before False ones are dropped."""
    task = Logic(operators=("and*3", "or"), true_share=1.0, depth_max=1)
    counts = Counter(task.tokens(text)[2] for text in task.sample(2000, seed=0))
    assert 3.0 == pytest.approx(counts["and"] / counts["or"], rel=0.2)


def test_rules_written_anew_are_valid_and_counted_the_same() -> None:
    """Writing from rule counts and counting again gives the same shares up to chance."""
    task = Logic(depth_max=3)
    rules = task.rules(task.sample(500, seed=0))
    again = task.write(rules, 4000, seed=1)
    assert all(verdict.valid for verdict in task.verify(again))
    root, new = rules[(0, "", 0)], task.rules(again)[(0, "", 0)]
    for name, count in root.items():
        assert count / 500 == pytest.approx(new[name] / 4000, abs=0.05)


def test_a_file_of_wrong_expressions_is_refused_by_record() -> None:
    """The user's own file must hold True expressions; the first other one is named."""
    human = from_rows([{"text": "True"}] * 30 + [{"id": "odd", "text": "(not True)"}], datatype="text")
    with pytest.raises(InputError, match="odd"):
        Logic().source(human)


def test_hundreds_of_spoiled_strings_are_judged_as_a_reduction_says() -> None:
    """Letters dropped, doubled, swapped, replaced in our samples: valid only where the grammar says so."""
    chance, rejected = Random(3), 0
    for text in ALL.sample(900, seed=1):
        letters = list(text)
        for _ in range(chance.randint(1, 3)):
            at, kind = chance.randrange(len(letters)), chance.randrange(4)
            if kind == 0 and len(letters) > 1:
                del letters[at]
            elif kind == 1:
                letters.insert(at, letters[at])
            elif kind == 2:
                letters[at], letters[at - 1] = letters[at - 1], letters[at]
            else:
                letters[at] = chance.choice("() TFx_1٣²\x00\ud800;'")
        spoiled = "".join(letters)
        expected = in_grammar(re.findall(r"\w+|[^\w\s]", spoiled))
        assert expected == ALL.parse(spoiled).valid, spoiled
        rejected += not expected
    assert rejected > 500


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("(" * 10**6, "too_long"),
        (" " * 10**7, "too_long"),
        ("9**9**9**9", "unknown_token"),
        ("Ｔrue", "unknown_token"),
        ("True\x00", "unknown_token"),
        ("\ud800", "unknown_token"),
        ("True\u2028", "true"),  # white space of any kind parts tokens
    ],
)
def test_hostile_texts_are_refused_at_once(text, kind) -> None:
    """Long texts are not cut into tokens; odd characters are unknown tokens."""
    assert kind == Logic().parse(text).kind


def test_rules_are_of_valid_texts_alone_and_deep_ones_are_written_again() -> None:
    """Invalid texts have no rules; 2,000 levels are counted and written without Python's stack."""
    assert {} == Logic().rules(["(", "maybe", ""])
    assert Logic().rules(["True"]) == Logic().rules(["True", "(True"])
    deep = Logic(depth_limit=3000, length_limit=10_000)
    text = "(not " * 2000 + "True" + ")" * 2000
    rules = deep.rules([text])
    assert 2001 == len(rules)
    assert [text] == deep.write(rules, 1, seed=0)


def test_every_choice_of_a_text_is_counted_in_its_place() -> None:
    """The rules of one expression, by hand."""
    found = Logic().rules(["((not True) and (False or True))"] * 2)
    expected = {
        (0, "", 0): {"and": 2.0},
        (1, "and", 0): {"not": 2.0},
        (1, "and", 1): {"or": 2.0},
        (2, "not", 0): {"True": 2.0},
        (2, "or", 0): {"False": 2.0},
        (2, "or", 1): {"True": 2.0},
    }
    assert expected == found
