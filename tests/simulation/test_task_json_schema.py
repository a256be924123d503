"""The promises of the task json_schema, against a check by hand and the library jsonschema."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karat import registry
from karat.errors import BadSetting, InputError
from karat.records import from_rows
from karat.simulation.tasks.json_schema import ERRORS, ITEMS, STATUS, JsonSchema

TASK = JsonSchema()
GOOD = {
    "id": 7,
    "status": "paid",
    "days": {"ordered": 2, "sent": 5},
    "gift": True,
    "items": ["pen", "cup"],
    "count": 2,
}


def whole(value: Any, least: int, most: int) -> bool:
    return type(value) in (int, float) and value == int(value) and least <= value <= most


def shaped(order: Any) -> bool:
    """The schema once more, by hand."""
    if type(order) is not dict or set(order) - {"gift"} != {"id", "status", "days", "items", "count"}:
        return False
    days, items = order["days"], order["items"]
    return (
        whole(order["id"], 1, 99)
        and order["status"] in STATUS
        and type(days) is dict
        and set(days) == {"ordered", "sent"}
        and all(whole(day, 1, 9) for day in days.values())
        and type(order.get("gift", True)) is bool
        and type(items) is list
        and 1 <= len(items) <= 3
        and all(type(item) is str and item in ITEMS for item in items)
        and len(set(items)) == len(items)
        and whole(order["count"], 1, 3)
    )


def agreeing(order: dict[str, Any]) -> bool:
    return order["count"] == len(order["items"]) and order["days"]["ordered"] <= order["days"]["sent"]


def changed(order: Any, chance: random.Random) -> Any:
    """One value, key or item of a document made anew; often wrong."""
    odd = [0, 1, 2, 3, 5, 10, 100, -1, 1.0, 2.5, True, None, "pen", "paid", "PEN", "", [], {}, ["pen"]]
    kind = chance.randrange(7)
    key = chance.choice(list(order))
    if kind == 0:
        order[key] = chance.choice(odd)
    elif kind == 1:
        del order[key]
    elif kind == 2:
        order[chance.choice(["gift", "colour", "ID", "items "])] = chance.choice(odd)
    elif kind == 3 and isinstance(order.get("days"), dict):
        order["days"][chance.choice(["ordered", "sent", "paid"])] = chance.choice(odd)
    elif kind == 4 and isinstance(order.get("items"), list):
        order["items"].append(chance.choice([*odd, *ITEMS[:3]]))
    elif kind == 5:
        order = dict(chance.sample(list(order.items()), len(order)))
    else:
        order["count"] = chance.randint(0, 4)
    return order


def test_hundreds_of_changed_documents_are_judged_as_by_hand_and_by_the_library() -> None:
    """Valid is what the schema takes, correct what its fields agree on; wrong documents have their class."""
    chance, kinds = random.Random(1), Counter[str]()
    for text in TASK.sample(800, seed=5):
        order = json.loads(text)
        for _ in range(chance.randint(1, 2)):
            order = changed(order, chance) if order else order
        verdict = TASK.parse(json.dumps(order))
        expected = shaped(order)
        assert expected == verdict.valid, order
        assert expected == jsonschema.Draft202012Validator(TASK.schema).is_valid(order)
        assert (expected and agreeing(order)) == verdict.correct, order
        assert verdict.valid or verdict.kind in ERRORS
        kinds[verdict.kind] += 1
    assert {"true", "false", "wrong_type", "unknown_key", "missing_key", "out_of_range", "repeated"} <= set(
        kinds
    )


def test_hundreds_of_spoiled_texts_are_taken_only_where_a_strict_reader_takes_them() -> None:
    """Characters dropped, doubled, swapped or replaced: accepted are documents that keep their shape."""
    chance, rejected = random.Random(2), 0
    for text in TASK.sample(800, seed=6):
        letters = list(text)
        for _ in range(chance.randint(1, 3)):
            at, kind = chance.randrange(len(letters)), chance.randrange(4)
            if kind == 0:
                del letters[at]
            elif kind == 1:
                letters.insert(at, letters[at])
            elif kind == 2:
                letters[at], letters[at - 1] = letters[at - 1], letters[at]
            else:
                letters[at] = chance.choice('{}[],:"0٣９-.eN\\\x00\ud800\ufeff \u00a0')
        spoiled = "".join(letters)
        try:
            expected = shaped(json.loads(spoiled))
        except ValueError:
            expected = False
        # No key can come twice, nor a number be long, by three changes that leave a document its shape.
        assert expected == TASK.parse(spoiled).valid, spoiled
        rejected += not expected
    assert rejected > 500


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text) -> None:
    """Any string gets a verdict: right, wrong or one of the error classes."""
    assert TASK.parse(text).kind in {*ERRORS, "true", "false"}


def written(**changes: Any) -> str:
    return json.dumps({**GOOD, **changes})


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (written(), "true"),
        (json.dumps(GOOD, indent=2), "true"),
        (written(count=3), "false"),
        (written(days={"ordered": 5, "sent": 2}), "false"),
        (written(id=100), "out_of_range"),
        (written(id="7"), "wrong_type"),
        (written(id=True), "wrong_type"),
        (written(id=7.5), "wrong_type"),
        (written(status="eaten"), "unknown_word"),
        (written(items=[]), "out_of_range"),
        (written(items=["pen", "pen"]), "repeated"),
        (written(note="x"), "unknown_key"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "id"}), "missing_key"),
        ("", "empty"),
        ("[]", "wrong_type"),
        ("7", "wrong_type"),
        ("null", "wrong_type"),
        ("{", "syntax"),
        (written() + "}", "syntax"),
        (written() + written(), "syntax"),
        (written()[:-1] + ",}", "syntax"),
        (written().replace('"', "'"), "syntax"),
        ("\ufeff" + written(), "syntax"),
        (written().replace("7", "٧"), "syntax"),
        (written().replace("7", "07"), "syntax"),
        (written().replace("7", "0x7"), "syntax"),
        (written() + "\x00", "syntax"),
        ('"\ud800"', "wrong_type"),
        (written(status="\ud800"), "unknown_word"),
        (written()[:-1] + ', "id": 8}', "twice"),
        ("NaN", "bad_number"),
        ("-Infinity", "bad_number"),
        (written().replace("7", "NaN"), "bad_number"),
        (written().replace("7", "1e999"), "bad_number"),
        (written().replace("7", "9" * 4500), "bad_number"),
        (written().replace("7", "0." + "9" * 4800), "bad_number"),
        ("9**9**9", "syntax"),
        ("[" * 3000, "too_deep"),
        ('{"a":' * 900, "too_deep"),
        ('"' + "[" * 3000 + '"', "wrong_type"),
        ("[" * 10**6, "too_long"),
        (" " * 10**7, "too_long"),
        ("__import__('os').system('true')", "syntax"),
    ],
)
def test_each_error_has_its_class(text, kind) -> None:
    """Error classes are told apart; hostile texts are refused before the JSON reader sees them."""
    assert kind == TASK.parse(text).kind


def test_samples_are_correct_and_repeat_with_the_seed() -> None:
    """Every sample obeys the schema by hand and its fields agree; all sizes occur; the seed decides them."""
    texts = TASK.sample(300, seed=3)
    orders = [json.loads(text) for text in texts]
    assert all(shaped(order) and agreeing(order) for order in orders)
    assert {1, 2, 3} == {order["count"] for order in orders}
    assert 0.5 == pytest.approx(sum("gift" in order for order in orders) / 300, abs=0.1)
    assert texts == TASK.sample(300, seed=3)
    assert texts != TASK.sample(300, seed=4)
    assert {2} == {TASK.parse(text).depth for text in texts}


def test_tokens_make_the_text_again() -> None:
    """What tokens are joined to has the same tokens; a document of ours comes back letter by letter."""
    for text in TASK.sample(50, seed=0):
        assert text == TASK.joined(TASK.tokens(text))
    assert ["{", '"a b"', ":", "-1.5", ",", '"c\\""', "}", '"open'] == TASK.tokens('{"a b":-1.5,"c\\""}"open')


def test_rules_written_anew_are_valid_in_any_order_of_keys() -> None:
    """Documents whose keys and days come in any order give rules that write valid ones, as right as they."""
    chance = random.Random(0)
    texts = []
    for number, text in enumerate(TASK.sample(600, seed=0)):
        order = json.loads(text)
        order["days"] = dict(chance.sample(list(order["days"].items()), 2))
        if number < 120:
            order["count"] = order["count"] % 3 + 1
        texts.append(json.dumps(dict(chance.sample(list(order.items()), len(order)))))
    rules = TASK.rules([*texts, "{"])
    again = TASK.write(rules, 1500, seed=1)
    orders = [json.loads(text) for text in again]
    assert all(shaped(order) for order in orders)
    agree = sum(order["count"] == len(order["items"]) for order in orders) / 1500
    assert 0.8 == pytest.approx(agree, abs=0.05)
    for status in STATUS:
        share = sum(json.loads(text)["status"] == status for text in texts) / 600
        assert share == pytest.approx(sum(order["status"] == status for order in orders) / 1500, abs=0.06)
    assert again == TASK.write(rules, 1500, seed=1)


def test_a_learner_of_correct_documents_writes_correct_ones() -> None:
    """Rules know what a value must fit, so that fields of new documents agree."""
    texts = TASK.sample(300, seed=0)
    again = TASK.write(TASK.rules(texts), 300, seed=1)
    assert all(verdict.correct for verdict in TASK.verify(again))
    assert len(set(again) - set(texts)) > 200


def test_settings_make_other_schemas_and_bad_ones_are_named() -> None:
    """Knobs move the schema's limits; an impossible setting is an error of one line."""
    task = registry.make("tasks", "json_schema:ids=5,items_max=6,days=30,gift=0")
    texts = task.sample(200, seed=0)
    assert all(verdict.correct for verdict in task.verify(texts))
    assert {1, 2, 3, 4, 5, 6} == {json.loads(text)["count"] for text in texts}
    assert any(not TASK.parse(text).valid for text in texts)
    assert "task" in task.describe()
    for spec in ("words=0", "words=99", "items_max=13", "gift=2", "ids=0", "depth_limit=1000"):
        with pytest.raises(BadSetting, match="task 'json_schema'"):
            registry.make("tasks", f"json_schema:{spec}")


def test_a_file_with_a_wrong_document_is_refused_by_record() -> None:
    """The user's own file must hold correct documents; the first other one is named."""
    good = [{"text": written()}] * 30
    assert 27 == TASK.source(from_rows(good, datatype="text")).size
    with pytest.raises(InputError, match="odd is twice"):
        TASK.source(from_rows([*good, {"id": "odd", "text": written()[:-1] + ', "id": 8}'}], datatype="text"))
