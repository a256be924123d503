"""Dialogues of two agents: each sees its own side, each rule ends them, every call is accounted for."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from answering import Answering
from fault_server import serving

import karat
from karat import records
from karat.errors import BadSetting
from karat.generation import talking
from karat.generation.base import Message, Refused, Request, Response
from karat.generation.generated import Generated
from karat.generation.stage import generate
from karat.generation.talking import Rules
from karat.generation.tasks import Attribute, Label, Task

TASK = Task("support chat", type="dialogue")
ASKS = "The printer on floor {} is jammed, what should I do?"
SAYS = "Open flap number {} and pull the paper out slowly."


def place(request: Request) -> int:
    """The number of the turn that is asked for, from 1; the first call bears the name of its row."""
    return int(request.id.rpartition("/turn")[2]) if "/turn" in request.id else 1


def play(script: Sequence[str | Response | BaseException], recipe: str = "converse", n: int = 1) -> Generated:
    """Two agents that say what a script has for their turns, and from its end on something new each time."""

    def answer(request: Request) -> str | Response:
        turn = place(request)
        said = (
            script[turn - 1]
            if turn <= len(script)
            else (ASKS if turn % 2 else SAYS).format(chr(64 + turn) * 9)
        )
        if isinstance(said, BaseException):
            raise said
        return said

    return generate(TASK, provider=Answering(answer), recipe=recipe, n=n, redraw=0)


def turns(made: Generated) -> list[str]:
    assert 1 == len(made.records), [one.reason for one in made.rejected]
    return [message["content"] for message in made.records.column("messages")[0]]


def ended(made: Generated) -> str:
    return str(made.records.column("termination_reason")[0])


def cut(text: str) -> Response:
    return Response("", text, 11, 256, finish_reason="length")


U, A = ASKS.format(3), SAYS.format(2)
CASES: dict[str, tuple[str, list[str | Response | BaseException], str, int, str | None]] = {
    # name: settings, script, reason, turns that are kept, outcome
    "most turns": ("turns=6", [], "turns", 6, None),
    "done": ("turns=8", [U, A, "That worked. <CAMEL_TASK_DONE>"], "done", 3, "success"),
    "done alone": ("turns=8", [U, A, "<CAMEL_TASK_DONE>"], "done", 2, "success"),
    "own end token": ("done=[END]", [U, A, "That worked. [END]"], "done", 3, "success"),
    "farewell": (
        "turns=8",
        [U, A, "Great, thank you!", "You're welcome, have a nice day!"],
        "farewell",
        4,
        None,
    ),
    "farewell in German": (
        "turns=8",
        [U, A, "Vielen Dank!", "Gern geschehen, auf Wiedersehen!"],
        "farewell",
        4,
        None,
    ),
    "longer farewell": ("farewells=3", [U, A, "Thanks!", "You're welcome!", "Bye!"], "farewell", 5, None),
    "thanks without end": (
        "turns=9",
        [U, A, "Thanks!", "You're welcome!", "Thanks a lot!", "No problem."],
        "farewell",
        6,
        None,
    ),
    "user serves": ("turns=8", [U, A, "How can I help you today?"], "role_flip", 2, "failure"),
    "assistant as user": (
        "turns=8",
        [U, A, ASKS.format(77), "As the user, I would rather buy one."],
        "role_flip",
        3,
        "failure",
    ),
    "assistant asks back the question": ("turns=8", [ASKS.format("B"), A, U, U], "role_flip", 3, "failure"),
    "other's name first": ("turns=8", [U, A, "Assistant: Open it."], "role_flip", 2, "failure"),
    "repetition": ("turns=8", [U, A, ASKS.format(77), A], "repetition", 3, "failure"),
    "near repetition": (
        "turns=8",
        [U, A, ASKS.format(77), A.replace("slowly", "slowly,")],
        "repetition",
        3,
        "failure",
    ),
    "empty": ("turns=8", [U, A, "  \n"], "empty", 2, "failure"),
    "short repetition": (
        "turns=8",
        [U, A, "Go on.", "Yes.", "Go on.", "No.", "go on"],
        "repetition",
        6,
        "failure",
    ),
    "repetition in Chinese": (
        "turns=8",
        [U, A, "那我应该先打开哪一个盖子？", "后面的。", "那我应该先打开哪一个盖子"],
        "repetition",
        4,
        "failure",
    ),
    "refused": (
        "turns=8",
        [U, A, ASKS.format(77), "I'm sorry, but I can't assist with that."],
        "refused",
        3,
        "failure",
    ),
    "refused in Spanish": (
        "turns=8",
        [U, A, ASKS.format(77), "Lo siento, no puedo ayudar con eso."],
        "refused",
        3,
        "failure",
    ),
    "filtered": (
        "turns=8",
        [U, A, Response("", "x", finish_reason="content_filter")],
        "filtered",
        2,
        "failure",
    ),
    "cut": ("turns=8", [U, A, cut("And then the whole thing went")], "cut", 2, "failure"),
    "cut before": ("cut=stop", [U, A, cut("It is jammed. And then the")], "cut", 2, "failure"),
    "no answer": ("turns=8", [U, A, Refused("too long")], "no_answer", 2, "failure"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_rule_ends_a_dialogue(name: str) -> None:
    """The reason is in the record, what broke the rule is not, and what was said before it is kept whole."""
    settings, script, reason, kept, outcome = CASES[name]
    made = play(script, f"converse:{settings}")
    said = turns(made)
    assert (reason, kept, outcome) == (ended(made), len(said), made.records.column("outcome")[0])
    assert [U, A] == said[:2] or name in ("most turns", "assistant asks back the question")
    assert ["user", "assistant"] * 4 >= [one["role"] for one in made.records.column("messages")[0]]
    assert not any("<CAMEL" in one or "[END]" in one for one in said)


@pytest.mark.parametrize(
    ("settings", "script"),
    [
        ("", [U, "As the user clicks on print, the job is queued."]),
        ("", [U, A, "Thanks! But which flap do you mean?", "The flap at the back, thank you for asking."]),
        ("", [U, A, "Yes.", "No.", "Yes.", "No."]),
        (
            "",
            [
                U,
                A,
                "Sum the rows from 1 to 9 of the table",
                SAYS.format(7),
                "Sum the rows from 10 to 19 of the table",
            ],
        ),
        ("farewells=0", [U, A, "Thank you!", "Good-bye!"]),
        ("", [U, A, "Thank you!", "You're welcome!"]),
        ("", ["Hello, how are you?", "Hello! How are you?"]),
        ("alike=1.1", [U, A, U, A]),
        ("flips=keep", [U, A, "How can I help you today?", "As the user, I ask you."]),
        ("cut=keep", [U, cut("And then the whole thing went")]),
    ],
)
def test_what_only_looks_like_an_end_is_none(
    settings: str, script: list[str | Response | BaseException]
) -> None:
    """Users may be spoken of, thanks may come with a question, and a rule may be switched off."""
    made = play(script, f"converse:turns=6{',' * bool(settings)}{settings}")
    assert ("turns", 6) == (ended(made), len(turns(made)))


def test_turns_are_cleaned_and_trimmed() -> None:
    """The speaker's own name, turns written for the other, and half a sentence at a cut are taken away."""
    script: list[str | Response | BaseException] = [
        f"User: {U}",
        f"**Assistant:** {A}\n\nUser: And then?\nAssistant: Then close it.",
        cut("It is open. There is paper in it! And it is"),
        cut("Pull."),
        "你好，然后呢？",
        cut("先打开。再"),
    ]
    assert [U, A, "It is open. There is paper in it!", "Pull.", "你好，然后呢？", "先打开。"] == turns(
        play(script, "converse:turns=6")
    )


def test_each_side_sees_the_dialogue_as_its_own() -> None:
    """Own turns are the assistant's and the other's the user's; the roles are never mixed up."""
    provider = Answering(lambda r: (ASKS if place(r) % 2 else SAYS).format(chr(64 + place(r)) * 9))
    made = generate(
        Task("lesson", type="dialogue", instructions="Be brief.", language="French"),
        provider=provider,
        recipe="converse:turns=5,user=pupil,assistant=teacher",
        n=1,
    )
    said = turns(made)
    assert 5 == len(said) == len(provider.asked)
    for request in provider.asked:
        number = place(request) - 1
        roles = [message.role for message in request.messages]
        system, *rest = request.messages
        if number % 2 == 0:
            assert ["system", "user", *(["assistant", "user"] * 3)[:number]] == roles
            assert "You are the pupil" in system.content and "<CAMEL_TASK_DONE>" in system.content
            rest = rest[1:]
        else:
            assert ["system", *(["user", "assistant"] * 3)[:number]] == roles
            assert "You are the teacher" in system.content and "<CAMEL" not in system.content
        assert said[:number] == [message.content for message in rest]
        assert "Be brief." in system.content and "Write in French." in system.content
        assert "user" == request.messages[-1].role  # chat servers want it so
    assert ("pupil", "teacher") == tuple(
        made.records.column(name)[0] for name in ("user_role", "assistant_role")
    )


def test_cast_and_matter_come_from_classes_and_attributes() -> None:
    """Class, roles, persona and circumstances of the row are told to the user's agent and to no other."""
    task = Task(
        "sales talk",
        (Label("complaint", "the customer is unhappy"),),
        type="dialogue",
        attributes=(
            Attribute("user_role", ("angry buyer",)),
            Attribute("persona", ("a retired pilot",)),
            Attribute("product", ("kettle",)),
        ),
    )
    provider = Answering(lambda r: (ASKS if place(r) % 2 else SAYS).format(chr(64 + place(r)) * 9))
    made = generate(task, provider=provider, recipe="converse:turns=2", n=1)
    told, other = (request.messages[0].content for request in provider.asked)
    for words in ("angry buyer", "a retired pilot", "complaint (the customer is unhappy)", "product: kettle"):
        assert words in told
    assert "kettle" not in other
    row = next(iter(made.records))
    assert "complaint (the customer is unhappy); product: kettle" == row["task"]
    assert ("complaint", "angry buyer") == (row["label"], row["user_role"])
    assert {"user_role": "angry buyer", "persona": "a retired pilot", "product": "kettle"} == json.loads(
        row["lineage"]["attributes"]
    )


def test_a_matter_may_be_made_first() -> None:
    """`specify` makes it in a call of its own, whose cost is the row's too."""

    def answer(request: Request) -> str:
        if "/" not in request.id:
            return "Return a kettle bought on 3 May."
        return (ASKS if place(request) % 2 else SAYS).format(chr(64 + place(request)) * 9)

    provider = Answering(answer)
    made = generate(TASK, provider=provider, recipe="converse:turns=4,specify=true", n=2)
    assert 10 == len(provider.asked)
    assert {"Return a kettle bought on 3 May."} == set(made.records.column("task"))
    assert all("Return a kettle" in r.messages[0].content for r in provider.asked if r.id.endswith("turn1"))
    assert [(55, 25, 1.25)] * 2 == [
        (one["tokens_in"], one["tokens_out"], one["cost_usd"]) for one in made.records.column("lineage")
    ]


def test_a_dialogue_that_ends_too_soon_is_a_reasoned_failure() -> None:
    """Nothing is kept of it but its reason and its cost; an unanswered first turn says why."""
    made = play([U, ""])
    assert ["the dialogue ended after 1 turn: empty"] == [one.reason for one in made.rejected]
    assert (22, 0) == (made.usage.tokens_in, len(made.records))
    made = play([U, A, ASKS.format(9), ""], "converse:least=4")
    assert ["the dialogue ended after 3 turns: empty"] == [one.reason for one in made.rejected]
    made = play([Refused("the prompt is too long")])
    assert "the prompt is too long" in made.rejected[0].reason


def test_the_form_of_camel_is_audited_by_its_markers() -> None:
    """In the form `instruct` a flip ends the dialogue; kept on, the audit's rule finds what was planted."""
    script: list[str | Response | BaseException] = [
        "Instruction: list three rivers",
        "Solution: Po, Ebro, Tagus",
        "Instruction: sort them by length",
        "Instruction: now you sort them",
        "Solution: I sorted them myself: Tagus, Ebro, Po",
        "Solution: fine",
        "Good. <CAMEL_TASK_DONE>",
    ]
    stopped = play(script, "converse:form=instruct")
    assert ("role_flip", 3) == (ended(stopped), len(turns(stopped)))
    kept = play(script, "converse:form=instruct,flips=keep")
    assert ("done", 7) == (ended(kept), len(turns(kept)))
    both = records.from_rows(
        [{"messages": one.records.column("messages")[0]} for one in (stopped, kept)], datatype="dialogue"
    )
    scored = karat.audit(both, metrics="role_flip interruption")
    assert (0.5, 0.0) == tuple(scored.score(name).value for name in ("role_flip", "interruption"))
    assert 2 == scored.score("role_flip").details["turns"]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Files of dialogues are dialogues, with all fields."""
    made = play([U, A, "Thanks!", "Bye!"], n=3)
    for name in ("d.jsonl", "d.parquet"):
        found = karat.read(made.records.write(tmp_path / name))
        assert "dialogue" == found.datatype
        assert made.records.column("messages") == found.column("messages")
        assert ["farewell"] * 3 == found.column("termination_reason")


def test_turns_are_replayed_and_kept(tmp_path: Path) -> None:
    """Recorded answers by the ids of turns give the same dialogue; a second run asks nothing."""
    path = tmp_path / "said.jsonl"
    rows = [
        {"id": f"s0-{row:04d}" + f"/turn{turn}" * (turn > 1), "text": text, "tokens_in": 3, "tokens_out": 2}
        for row in range(2)
        for turn, text in enumerate([U, A, "Thanks!", "Bye!"], 1)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    spec = {"provider": f"replay:path={path}", "recipe": "converse", "n": 2, "journal": tmp_path / "kept"}
    first = generate(TASK, **spec)
    assert [[U, A, "Thanks!", "Bye!"]] * 2 == [
        [message["content"] for message in one] for one in first.records.column("messages")
    ]
    assert [(12, 8)] * 2 == [(one["tokens_in"], one["tokens_out"]) for one in first.records.column("lineage")]
    again = generate(TASK, **spec)
    assert 8 == again.usage.reused == again.usage.answers
    assert first.records.column("messages") == again.records.column("messages")


def test_two_agents_talk_through_a_server() -> None:
    """Words drawn by a server are dialogues all the same: valid, complete, and paid for turn by turn."""
    with serving(answer_words=12) as server:
        provider = f"openai_compatible:model=m,url={server.url}"
        made = generate(TASK, provider=provider, recipe="converse:turns=4,cut=keep", n=6)
        asked = server.stats()
    assert 6 == len(made.records) and 24 == asked["answered"]
    assert {"turns"} == set(made.records.column("termination_reason"))
    lineage = made.records.column("lineage")
    assert (asked["tokens_in"], asked["tokens_out"]) == tuple(
        sum(one[name] for one in lineage) for name in ("tokens_in", "tokens_out")
    )


def test_the_price_of_a_plan_bounds_what_a_dialogue_costs() -> None:
    """Each turn stands in all later prompts: the most of an estimate covers turns of the greatest length."""

    def answer(request: Request) -> Response:
        asked = sum(len(m.content) // 4 for m in request.messages)
        words = " ".join(f"{place(request)}{i:03d}" for i in range(200))  # each turn is another text
        return Response("", words + ".", asked, 256)

    provider = Answering(answer)
    planned = generate(TASK, provider=provider, recipe="converse:turns=6", n=3, dry_run=True)
    made = generate(TASK, provider=provider, recipe="converse:turns=6", n=3)
    assert 18 == len(provider.asked)
    assert made.usage.tokens_in + made.usage.tokens_out <= planned.estimate.most_tokens


def test_roles_and_turns_of_the_task_are_heeded() -> None:
    """Each side is told who it is, and the other is not; the task's turns hold unless the recipe says so."""
    roles = {"user": "a tenant in a hurry.", "assistant": "a caretaker who knows the house"}
    task = replace(TASK, roles=roles, turns=6)

    def last(recipe: str) -> tuple[int, list[str]]:
        provider = Answering(lambda r: (ASKS if place(r) % 2 else SAYS).format(chr(64 + place(r)) * 9))
        made = generate(task, provider=provider, recipe=recipe, n=1)
        return len(turns(made)), [request.messages[0].content for request in provider.asked[:2]]

    for recipe, expected in (("converse", 6), ("converse:turns=4", 4)):
        count, (user, assistant) = last(recipe)
        assert expected == count
        assert "Who you are: a tenant in a hurry.\n" in user and "caretaker who" not in user
        assert "Who you are: a caretaker who knows the house." in assistant and "tenant" not in assistant
    planned = generate(task, provider=Answering(lambda _: ""), recipe="converse", n=1, dry_run=True)
    other = generate(TASK, provider=Answering(lambda _: ""), recipe="converse:turns=6", n=1, dry_run=True)
    assert planned.estimate.most_tokens > other.estimate.most_tokens  # the roles, and as many turns
    assert 6 == planned.plan[0].material["turns"]


def test_settings_that_contradict_each_other_are_refused() -> None:
    """More turns at least than at most is said in one line."""
    with pytest.raises(BadSetting, match="least is 9, but turns is 4; raise turns"):
        generate(TASK, provider=Answering(lambda _: ""), recipe="converse:turns=4,least=9", n=1)


def ends(dialogues: Sequence[Sequence[str]]) -> Counter[str]:
    """Why each dialogue would have ended before its last two turns, if it were one of ours."""
    rules, found = Rules("", "chat", ("user", "assistant")), Counter[str]()
    for texts in dialogues:
        said: list[str] = []
        for text in texts[:-2]:
            turn = talking.heard(text, "stop", said, rules)
            if turn.ends:
                found[turn.ends] += 1
                break
            said.append(turn.text)
    return found


def test_real_dialogues_of_people_are_let_go_on(data_dir: Path) -> None:
    """Of people's task dialogues at most one in a hundred is ended early by a rule, none for its roles."""
    human = read(data_dir / "sgd_dialogues" / "sgd_dialogues.jsonl.gz")
    found = ends(human)
    assert 1500 == len(human) and 0 == found["role_flip"] == found["refused"]
    assert max(found.values()) <= 15
    talks = ends(read(data_dir / "topical_chat" / "topical_chat.jsonl.gz"))
    assert 0 == talks["role_flip"] == talks["refused"] and talks["repetition"] <= 5


def test_real_dialogues_with_exchanged_roles_are_seen(data_dir: Path) -> None:
    """Two agents of which the one that serves is said to be the user: a flip, seen in 99 of 100 dialogues."""
    served = read(data_dir / "botbots_open" / "botbots_open.jsonl.gz")  # the serving agent begins
    assert ends(served)["role_flip"] >= 0.99 * len(served)
    assert ends([texts[1:] for texts in served])["role_flip"] <= 0.01 * len(served)


def read(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [[turn["text"] for turn in json.loads(line)["turns"]] for line in file]


def test_roles_with_the_name_of_the_other_do_not_confuse_the_reader() -> None:
    """A user who is called assistant keeps its own name and is not cut at it."""
    rules = Rules("", "chat", ("assistant", "user"))
    assert "Yes." == talking.heard("Yes.", "stop", [], rules).text
    assert (Message("user", "x").role, "") == ("user", talking.heard("Assistant", "stop", [U], rules).ends)
